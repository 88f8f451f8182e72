/**
 * A small U-Net (Ronneberger et al. 2015), which classifies each pixel. Names are those of
 * https://github.com/milesial/Pytorch-UNet.
 *
 *     deno run scripts/examples/nets/unet.ts
 */

import * as r from "@resnette/resnette";

/** Two convolutions of 3×3, each with batch norm and ReLU. */
class DoubleConv extends r.Module {
  readonly double_conv: r.Sequential;

  constructor(c: number, o: number) {
    super();
    const settings = { kernelSize: 3, padding: 1, bias: false };
    this.double_conv = new r.Sequential(
      new r.Conv2d(c, o, settings),
      new r.BatchNorm2d(o),
      new r.ReLU(),
      new r.Conv2d(o, o, settings),
      new r.BatchNorm2d(o),
      new r.ReLU(),
    );
  }

  override forward(x: r.Tensor): r.Tensor {
    return this.double_conv.call(x);
  }
}

/** `[N, c, H, W]` → `[N, o, H/2, W/2]`. */
class Down extends r.Module {
  readonly maxpool_conv: r.Sequential;

  constructor(c: number, o: number) {
    super();
    this.maxpool_conv = new r.Sequential(
      new r.MaxPool2d({ kernelSize: 2 }),
      new DoubleConv(c, o),
    );
  }

  override forward(x: r.Tensor): r.Tensor {
    return this.maxpool_conv.call(x);
  }
}

/** Doubles the size of `x`, joins it with `before`, the output of that size on the way down. */
class Up extends r.Module {
  readonly up: r.ConvTranspose2d;
  readonly conv: DoubleConv;

  constructor(c: number, o: number) {
    super();
    this.up = new r.ConvTranspose2d(c, c / 2, { kernelSize: 2, stride: 2 });
    this.conv = new DoubleConv(c, o);
  }

  override forward(x: r.Tensor, before: r.Tensor): r.Tensor {
    return this.conv.call(r.concat([before, this.up.call(x)], 1));
  }
}

/** A 1×1 convolution to the logits. */
class OutConv extends r.Module {
  readonly conv: r.Conv2d;

  constructor(c: number, o: number) {
    super();
    this.conv = new r.Conv2d(c, o, { kernelSize: 1 });
  }

  override forward(x: r.Tensor): r.Tensor {
    return this.conv.call(x);
  }
}

/** `[N, channels, H, W]` → `[N, classes, H, W]`; H and W are multiples of 4. */
export class UNet extends r.Module {
  readonly inc: DoubleConv;
  readonly down1: Down;
  readonly down2: Down;
  readonly up1: Up;
  readonly up2: Up;
  readonly outc: OutConv;

  constructor(channels = 1, classes = 2, width = 16) {
    super();
    this.inc = new DoubleConv(channels, width);
    this.down1 = new Down(width, 2 * width);
    this.down2 = new Down(2 * width, 4 * width);
    this.up1 = new Up(4 * width, 2 * width);
    this.up2 = new Up(2 * width, width);
    this.outc = new OutConv(width, classes);
  }

  override forward(x: r.Tensor): r.Tensor {
    const x1 = this.inc.call(x), x2 = this.down1.call(x1), x3 = this.down2.call(x2);
    return this.outc.call(this.up2.call(this.up1.call(x3, x2), x1));
  }
}

if (import.meta.main) console.log(r.formatSummary(r.summarize(new UNet(), [1, 1, 96, 96])));
