/** `deno task train` with one more model, `tiny`, whose few kernels compile in no time. Not a test. */

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

/** Logits `[N, 10]` of `[N, 1, H, W]`, with everything that a checkpoint has to keep. */
export function tinyNet(): Sequential {
  return new Sequential(
    new Conv2d(1, 16, { kernelSize: 5, stride: 4, padding: 2 }),
    new BatchNorm2d(16),
    new ReLU(),
  ).add(new GlobalAvgPool2d(), "pool").add(new Sequential(new Flatten(), new Linear(16, 10)), "fc");
}

MODELS.set("tiny", tinyNet);
if (import.meta.main) Deno.exit(await main(Deno.args));
