/**
 * GoogLeNet (Szegedy et al. 2014) as Dive into Deep Learning has it, for grey images.
 *
 *     deno run scripts/examples/nets/googlenet.ts
 */

import * as r from "@resnette/resnette";

const conv = (c: number, o: number, kernelSize: number, padding = 0) =>
  new r.Conv2d(c, o, { kernelSize, padding });
const halved = () => new r.MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 });

/** Four branches on the same input, whose outputs are joined along the channels. */
export class Inception extends r.Module {
  readonly p1_1: r.Conv2d;
  readonly p2_1: r.Conv2d;
  readonly p2_2: r.Conv2d;
  readonly p3_1: r.Conv2d;
  readonly p3_2: r.Conv2d;
  readonly p4_1 = new r.MaxPool2d({ kernelSize: 3, stride: 1, padding: 1 });
  readonly p4_2: r.Conv2d;

  constructor(c: number, c1: number, c2: [number, number], c3: [number, number], c4: number) {
    super();
    this.p1_1 = conv(c, c1, 1);
    this.p2_1 = conv(c, c2[0], 1);
    this.p2_2 = conv(c2[0], c2[1], 3, 1);
    this.p3_1 = conv(c, c3[0], 1);
    this.p3_2 = conv(c3[0], c3[1], 5, 2);
    this.p4_2 = conv(c, c4, 1);
  }

  override forward(x: r.Tensor): r.Tensor {
    const p1 = r.relu(this.p1_1.call(x));
    const p2 = r.relu(this.p2_2.call(r.relu(this.p2_1.call(x))));
    const p3 = r.relu(this.p3_2.call(r.relu(this.p3_1.call(x))));
    const p4 = r.relu(this.p4_2.call(this.p4_1.call(x)));
    return r.concat([p1, p2, p3, p4], 1);
  }
}

/** `[N, 1, H, W]` → `[N, 10]`. */
export const googlenet = (): r.Sequential =>
  new r.Sequential(
    new r.Sequential(
      new r.Conv2d(1, 64, { kernelSize: 7, stride: 2, padding: 3 }),
      new r.ReLU(),
      halved(),
    ),
    new r.Sequential(conv(64, 64, 1), conv(64, 192, 3, 1), halved()),
    new r.Sequential(
      new Inception(192, 64, [96, 128], [16, 32], 32),
      new Inception(256, 128, [128, 192], [32, 96], 64),
      halved(),
    ),
    new r.Sequential(
      new Inception(480, 192, [96, 208], [16, 48], 64),
      new Inception(512, 160, [112, 224], [24, 64], 64),
      new Inception(512, 128, [128, 256], [24, 64], 64),
      new Inception(512, 112, [144, 288], [32, 64], 64),
      new Inception(528, 256, [160, 320], [32, 128], 128),
      halved(),
    ),
    new r.Sequential(
      new Inception(832, 256, [160, 320], [32, 128], 128),
      new Inception(832, 384, [192, 384], [48, 128], 128),
      new r.GlobalAvgPool2d(),
    ),
    new r.Flatten(),
    new r.Linear(1024, 10),
  );

if (import.meta.main) console.log(r.formatSummary(r.summarize(googlenet(), [1, 1, 96, 96])));
