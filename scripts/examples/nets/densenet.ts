/**
 * DenseNet-121 (Huang et al. 2016): each layer gets the outputs of all layers before it in its
 * block. Names are torchvision's.
 *
 *     deno run scripts/examples/nets/densenet.ts
 */

import * as r from "@resnette/resnette";

const GROWTH = 32;
const conv = (c: number, o: number, kernelSize: number, stride = 1, padding = 0) =>
  new r.Conv2d(c, o, { kernelSize, stride, padding, bias: false });

/** `[N, C, H, W]` → `[N, C + 32, H, W]`. */
class DenseLayer extends r.Module {
  readonly norm1: r.BatchNorm2d;
  readonly conv1: r.Conv2d;
  readonly norm2 = new r.BatchNorm2d(4 * GROWTH);
  readonly conv2 = conv(4 * GROWTH, GROWTH, 3, 1, 1);

  constructor(channels: number) {
    super();
    this.norm1 = new r.BatchNorm2d(channels);
    this.conv1 = conv(channels, 4 * GROWTH, 1);
  }

  override forward(x: r.Tensor): r.Tensor {
    const y = this.conv1.call(r.relu(this.norm1.call(x)));
    return r.concat([x, this.conv2.call(r.relu(this.norm2.call(y)))], 1);
  }
}

/** `[N, 3, H, W]` → `[N, classes]`. */
export class DenseNet121 extends r.Module {
  readonly features = new r.Sequential()
    .add(conv(3, 64, 7, 2, 3), "conv0")
    .add(new r.BatchNorm2d(64), "norm0")
    .add(new r.ReLU(), "relu0")
    .add(new r.MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 }), "pool0");
  readonly classifier: r.Linear;

  constructor(classes = 1000) {
    super();
    let channels = 64;
    [6, 12, 24, 16].forEach((layers, i) => {
      const block = new r.Sequential();
      for (let k = 1; k <= layers; k++, channels += GROWTH) {
        block.add(new DenseLayer(channels), `denselayer${k}`);
      }
      this.features.add(block, `denseblock${i + 1}`);
      if (i === 3) return;
      const transition = new r.Sequential()
        .add(new r.BatchNorm2d(channels), "norm")
        .add(new r.ReLU(), "relu")
        .add(conv(channels, channels /= 2, 1), "conv")
        .add(new r.AvgPool2d({ kernelSize: 2 }), "pool");
      this.features.add(transition, `transition${i + 1}`);
    });
    this.features.add(new r.BatchNorm2d(channels), "norm5");
    this.classifier = new r.Linear(channels, classes);
  }

  override forward(x: r.Tensor): r.Tensor {
    const y = r.globalAvgPool2d(r.relu(this.features.call(x)));
    return this.classifier.call(r.flatten(y));
  }
}

if (import.meta.main) {
  console.log(r.formatSummary(r.summarize(new DenseNet121(), [1, 3, 224, 224])));
}
