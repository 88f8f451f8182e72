/**
 * What a run is made of by its settings: the optimizer, the learning rate of each step, and the
 * random changes of the training images.
 *
 * @module
 */

import { checkNumber, checkObject, refuse } from "../check/arguments.ts";
import { cropFlip, rotate } from "../ops/data.ts";
import { clamp } from "../ops/compare.ts";
import { add, mul, round, sub } from "../ops/elementwise.ts";
import { mean, sum } from "../ops/reduce.ts";
import { select } from "../ops/view.ts";
import type { ImageDataset } from "../data/dataset.ts";
import { Adam, AdamW, type Optimizer, SGD } from "../nn/optim.ts";
import { cosineAnnealingLR, linearLR, sequentialLR, stepLR } from "../nn/schedules.ts";
import type { Feeds } from "../plan/plan.ts";
import { Random } from "../graph/random.ts";
import { input, type Tensor, tensor, type TensorData, type Variable } from "../graph/tensor.ts";
import { CONFIG_FIELDS, type TrainConfig } from "./config.ts";

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
 * The learning rate of a step of a run, counted from 0 over all epochs. It is that of PyTorch's
 * {@link https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.SequentialLR.html | SequentialLR},
 * stepped after each batch: `LinearLR(startFactor = 1 / (warmup + 1), totalIters = warmup)` for the
 * warm-up, then `CosineAnnealingLR(TMax = all steps - warmup)`,
 * `StepLR(stepSize · stepsPerEpoch, gamma)` or a constant.
 *
 * @throws {ArgumentError} if a setting, the step or the number of steps is invalid.
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

/** Sizes of the images that are augmented. */
type Sides = Pick<ImageDataset, "height" | "width">;

/** How far a crop moves an image, either way: an eighth of its shorter side. */
const paddingOf = ({ height, width }: Sides) => Math.round(Math.min(height, width) / 8);

/** The most degrees that an image is turned by, and the most that a jitter changes a factor by. */
const MOST_DEGREES = 15, MOST_JITTER = 0.2;

/** What the three channels count in a grey one: ITU-R 601, as in torchvision. */
const LUMA = [0.299, 0.587, 0.114];

/** What a step with `size` images does to their pixels, if anything; its feeds are {@link drawAugmentation}'s. */
export function augmentation(
  { augment }: TrainConfig,
  size: number,
  sides: Sides,
): ((pixels: Tensor) => Tensor) | undefined {
  const has = new Set(augment.split(","));
  if (has.has("none")) return undefined;
  return (pixels) => {
    let x = pixels;
    if (has.has("flip") || has.has("crop")) {
      x = cropFlip(x, input("augment", [size, 3], "u32"), paddingOf(sides));
    }
    if (has.has("rotate")) x = rotate(x, input("turns", [size, 2]));
    return has.has("jitter") ? jittered(x, input("jitter", [3, size, 1, 1, 1])) : x;
  };
}

/**
 * Images of values 0 to 255 with another brightness, contrast and saturation: `factors`
 * `[3, N, 1, 1, 1]` has those of torchvision's
 * {@link https://pytorch.org/vision/stable/generated/torchvision.transforms.ColorJitter.html | ColorJitter},
 * which go in this order. Integers again in the end.
 */
export function jittered(x: Tensor, factors: Tensor): Tensor {
  const [brightness, contrast, saturation] = [0, 1, 2].map((k) => select(factors, k));
  const within = (x: Tensor) => clamp(x, { min: 0, max: 255 });
  const isRgb = x.shape[1] === 3;
  const grey = (x: Tensor) =>
    isRgb ? sum(mul(x, tensor(LUMA, [3, 1, 1])), [1], { keepDims: true }) : x;
  const blend = (x: Tensor, other: Tensor, factor: Tensor) =>
    within(add(other, mul(sub(x, other), factor)));
  let y = within(mul(x, brightness!));
  y = blend(y, mean(grey(y), [1, 2, 3], { keepDims: true }), contrast!);
  if (isRgb) y = blend(y, grey(y), saturation!);
  return round(y);
}

/**
 * What happens to the images `first`, `first + stride`, … in the order of an epoch, for `count` of them.
 *
 * For crops and flips, image k has the words 3k, 3k + 1 and 3k + 2 of stream 2³¹ + epoch:
 * ⌊word · (2 · padding + 1) / 2³²⌋ is the top of its crop, likewise the left, and the highest bit of the
 * last word flips it. The others are drawn from the words 4k to 4k + 3 of stream 3·2³⁰ + epoch, each
 * as u = word / 2³¹ - 1: 15° · u, and the factors 1 + u / 5 of brightness, contrast and saturation.
 */
export function drawAugmentation(
  { seed, augment }: TrainConfig,
  epoch: number,
  first: number,
  count: number,
  sides: Sides,
  stride = 1,
): Feeds {
  const has = new Set(augment.split(",")), padding = paddingOf(sides);
  const feeds: Record<string, TensorData> = {};
  if (has.has("flip") || has.has("crop")) {
    const random = new Random(seed, 2 ** 31 + epoch);
    const below = (bound: number) => Math.floor(random.nextUint32() * bound / 2 ** 32);
    feeds["augment"] = Uint32Array.from({ length: 3 * count }, (_, i) => {
      if (i % 3 === 0) random.position = 3 * first + i * stride;
      const drawn = below(i % 3 === 2 ? 2 : 2 * padding + 1);
      return i % 3 === 2 ? Number(has.has("flip") && drawn) : has.has("crop") ? drawn : padding;
    });
  }
  if (has.has("rotate") || has.has("jitter")) {
    const random = new Random(seed, 3 * 2 ** 30 + epoch);
    const draws = Array.from({ length: 4 * count }, (_, i) => {
      if (i % 4 === 0) random.position = 4 * first + i * stride;
      return random.nextUint32() / 2 ** 31 - 1;
    });
    const drawsOf = (k: number) => draws.filter((_, i) => i % 4 === k);
    if (has.has("rotate")) {
      const angles = drawsOf(0).map((u) => u * MOST_DEGREES * Math.PI / 180);
      feeds["turns"] = Float32Array.from(angles.flatMap((a) => [Math.cos(a), Math.sin(a)]));
    }
    if (has.has("jitter")) {
      const factors = [1, 2, 3].flatMap(drawsOf).map((u) => 1 + u * MOST_JITTER);
      feeds["jitter"] = Float32Array.from(factors);
    }
  }
  return feeds;
}
