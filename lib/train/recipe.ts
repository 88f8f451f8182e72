/**
 * What the settings of a run come to: its optimizer, the learning rate of each step, and what happens
 * to its training images at random.
 *
 * @module
 */

import { checkNumber, checkObject, refuse } from "../check/arguments.ts";
import { cropFlip } from "../ops/data.ts";
import { Adam, AdamW, type Optimizer, SGD } from "../nn/optim.ts";
import { cosineAnnealingLR, linearLR, sequentialLR, stepLR } from "../nn/schedules.ts";
import type { Feeds } from "../plan/plan.ts";
import { Random } from "../graph/random.ts";
import { input, type Tensor, type Variable } from "../graph/tensor.ts";
import { CONFIG_FIELDS, type TrainConfig } from "./config.ts";

/** Pixels of black around an image that is cropped. */
const PADDING = 4;

/** The optimizer that a configuration names, for `parameters`. */
export function makeOptimizer(
  { optimizer, lr, momentum, weightDecay }: TrainConfig,
  parameters: readonly Variable[],
): Optimizer {
  switch (optimizer) {
    case "adam":
      return new Adam(parameters, { lr, weightDecay });
    case "adamw":
      return new AdamW(parameters, { lr, weightDecay });
    case "sgd":
      return new SGD(parameters, { lr, momentum, weightDecay });
  }
}

/** What the learning rate depends on. */
const RATE_FIELDS = ["lr", "schedule", "warmup", "epochs", "stepSize", "gamma"] as const;

/**
 * Learning rate of a step of a run, counted from 0 over all epochs. It is what PyTorch's
 * {@link https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.SequentialLR.html | SequentialLR}
 * makes, stepped after each batch, of `LinearLR(startFactor = 1 / (warmup + 1), totalIters = warmup)`
 * and, from step `warmup` on, of `CosineAnnealingLR(TMax = all steps - warmup)` or of
 * `StepLR(stepSize · stepsPerEpoch, gamma)`.
 *
 * @throws {ArgumentError} where a setting, the step or the number of steps cannot be.
 *
 * @example
 * ```ts
 * import { learningRate, trainConfig } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const config = trainConfig({ lr: 0.1, schedule: "cosine", epochs: 2, warmup: 1 });
 * const rates = [0, 1, 2].map((step) => learningRate(config, step, 2).toFixed(3));
 * assertEquals(rates, ["0.050", "0.100", "0.075"]);
 * ```
 */
export function learningRate(config: TrainConfig, step: number, stepsPerEpoch: number): number {
  checkObject("learningRate", "config", config);
  for (const name of RATE_FIELDS) {
    const { wanted, allows } = CONFIG_FIELDS[name];
    if (!allows(config[name])) refuse("learningRate", `config.${name}`, wanted, config[name]);
  }
  checkNumber("learningRate", "step", step, { integer: true, min: 0 });
  checkNumber("learningRate", "stepsPerEpoch", stepsPerEpoch, {
    integer: true,
    min: 1,
    max: 2 ** 31,
  });
  const { lr, schedule, warmup, epochs, stepSize, gamma } = config;
  const rise = linearLR(lr, { startFactor: 0, totalIters: warmup + 1 });
  const after = {
    constant: () => () => lr,
    cosine: () => cosineAnnealingLR(lr, { TMax: Math.max(1, epochs * stepsPerEpoch - warmup) }),
    step: () => stepLR(lr, { stepSize: stepSize * stepsPerEpoch, gamma }),
  }[schedule]();
  return sequentialLR([(step) => rise(step + 1), after], [warmup])(step);
}

/** What a step with `size` images does to their pixels, if anything; its feed is {@link drawAugmentation}'s. */
export function augmentation(
  { augment }: TrainConfig,
  size: number,
): ((pixels: Tensor) => Tensor) | undefined {
  if (augment === "none") return undefined;
  return (pixels) => cropFlip(pixels, input("augment", [size, 3], "u32"), PADDING);
}

/**
 * Crops and flips of the images `first`, `first + 1`, … in the order of an epoch, for `count` of them.
 * Image k has the words 3k, 3k + 1 and 3k + 2 of stream 2³¹ + epoch: ⌊word · 9 / 2³²⌋ is the top of its
 * crop, likewise the left, and the highest bit of the last word flips it.
 */
export function drawAugmentation(
  { seed, augment }: TrainConfig,
  epoch: number,
  first: number,
  count: number,
): Feeds {
  if (augment === "none") return {};
  const random = new Random(seed, 2 ** 31 + epoch);
  random.position = 3 * first;
  const crops = augment.includes("crop"), flips = augment.includes("flip");
  const below = (bound: number) => Math.floor(random.nextUint32() * bound / 2 ** 32);
  const draws = Uint32Array.from({ length: 3 * count }, (_, i) => {
    const drawn = below(i % 3 === 2 ? 2 : 2 * PADDING + 1);
    return i % 3 === 2 ? Number(flips && drawn) : crops ? drawn : PADDING;
  });
  return { augment: draws };
}
