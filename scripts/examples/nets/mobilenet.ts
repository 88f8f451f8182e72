/**
 * MobileNetV2 (Sandler et al. 2018): depthwise convolutions between narrow layers. Names are
 * torchvision's.
 *
 *     deno run scripts/examples/nets/mobilenet.ts
 */

import * as r from "@resnette/resnette";

const relu6 = (x: r.Tensor) => r.clamp(x, { min: 0, max: 6 });

/** A convolution, its batch norm, and `relu6`. */
function convNorm(c: number, o: number, kernelSize: number, stride = 1, groups = 1) {
  const padding = (kernelSize - 1) / 2;
  const conv = new r.Conv2d(c, o, { kernelSize, stride, padding, groups, bias: false });
  return new r.Sequential(conv, new r.BatchNorm2d(o), relu6);
}

/** A block that is wide inside and narrow outside, with a shortcut if its shape stays the same. */
class InvertedResidual extends r.Module {
  readonly conv = new r.Sequential();

  constructor(readonly c: number, readonly o: number, readonly stride: number, expand: number) {
    super();
    const wide = c * expand;
    if (expand > 1) this.conv.add(convNorm(c, wide, 1));
    this.conv.add(convNorm(wide, wide, 3, stride, wide));
    this.conv.add(new r.Conv2d(wide, o, { kernelSize: 1, bias: false }));
    this.conv.add(new r.BatchNorm2d(o));
  }

  override forward(x: r.Tensor): r.Tensor {
    const y = this.conv.call(x);
    return this.stride === 1 && this.c === this.o ? r.add(x, y) : y;
  }
}

/** Of each group of blocks: expansion inside, output channels, how many, stride of the first. */
const GROUPS = [
  ...[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2]],
  ...[[6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]],
] as [number, number, number, number][];

/** `[N, 3, H, W]` → `[N, classes]`. */
export class MobileNetV2 extends r.Module {
  readonly features = new r.Sequential(convNorm(3, 32, 3, 2));
  readonly classifier: r.Sequential;

  constructor(classes = 1000) {
    super();
    let channels = 32;
    for (const [expand, o, count, stride] of GROUPS) {
      for (let i = 0; i < count; i++, channels = o) {
        this.features.add(new InvertedResidual(channels, o, i === 0 ? stride : 1, expand));
      }
    }
    this.features.add(convNorm(channels, 1280, 1));
    this.classifier = new r.Sequential(new r.Dropout(0.2), new r.Linear(1280, classes));
  }

  override forward(x: r.Tensor): r.Tensor {
    return this.classifier.call(r.flatten(r.globalAvgPool2d(this.features.call(x))));
  }
}

if (import.meta.main) {
  console.log(r.formatSummary(r.summarize(new MobileNetV2(), [1, 3, 224, 224])));
}
