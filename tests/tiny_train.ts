/**
 * `deno task train` with one more model, `tiny`, whose few kernels compile in no time; or another command
 * that the first word names. Not a test.
 */

import {
  BatchNorm2d,
  Conv2d,
  Flatten,
  GlobalAvgPool2d,
  Linear,
  ReLU,
  Sequential,
} from "@resnette/resnette";
import { MODELS } from "@resnette/resnette/train";
import { main } from "../scripts/train.ts";

/**
 * Logits `[N, numClasses]` of `[N, inChannels, H, W]`, with everything that a checkpoint has to keep.
 */
export function tinyNet({ inChannels = 1, numClasses = 10 } = {}): Sequential {
  return new Sequential(
    new Conv2d(inChannels, 16, { kernelSize: 5, stride: 4, padding: 2 }),
    new BatchNorm2d(16),
    new ReLU(),
  ).add(new GlobalAvgPool2d(), "pool")
    .add(new Sequential(new Flatten(), new Linear(16, numClasses)), "fc");
}

/** Logits `[N, 10]` of `[N, 1, 28, 28]`, without a batch norm: images do not see each other. */
export const plainNet = (): Sequential =>
  new Sequential(
    new Conv2d(1, 8, { kernelSize: 5, stride: 2 }),
    new ReLU(),
    new Conv2d(8, 12, { kernelSize: 3, stride: 2 }),
    new ReLU(),
    new Flatten(),
    new Linear(12 * 25, 10),
  );

MODELS.set("tiny", tinyNet);
/** The commands that are no training. */
const OTHERS: Readonly<Record<string, () => Promise<{ main: typeof main }>>> = {
  eval: () => import("../scripts/eval.ts"),
  export: () => import("../scripts/export.ts"),
  predict: () => import("../scripts/predict.ts"),
  report: () => import("../scripts/report.ts"),
};

if (import.meta.main) {
  const [name, ...args] = Deno.args;
  const other = await OTHERS[name!]?.();
  Deno.exit(await (other ? other.main(args) : main(Deno.args)));
}
