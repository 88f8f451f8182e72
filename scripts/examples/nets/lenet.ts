/**
 * LeNet (LeCun et al. 1998) as Dive into Deep Learning has it, for grey images of 28×28 pixels.
 *
 *     deno run scripts/examples/nets/lenet.ts
 */

import * as r from "@resnette/resnette";

/** `[N, 1, 28, 28]` → `[N, 10]`. */
export class LeNet extends r.Module {
  readonly conv = new r.Sequential(
    new r.Conv2d(1, 6, { kernelSize: 5 }),
    new r.Sigmoid(),
    new r.MaxPool2d({ kernelSize: 2 }),
    new r.Conv2d(6, 16, { kernelSize: 5 }),
    new r.Sigmoid(),
    new r.MaxPool2d({ kernelSize: 2 }),
  );
  readonly fc = new r.Sequential(
    new r.Linear(16 * 4 * 4, 120),
    new r.Sigmoid(),
    new r.Linear(120, 84),
    new r.Sigmoid(),
    new r.Linear(84, 10),
  );

  override forward(x: r.Tensor): r.Tensor {
    return this.fc.call(r.flatten(this.conv.call(x)));
  }
}

if (import.meta.main) console.log(r.formatSummary(r.summarize(new LeNet(), [1, 1, 28, 28])));
