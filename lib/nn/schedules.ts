/**
 * Learning-rate schedules: functions from a step, counted from 0, to its rate. They give the rates
 * of PyTorch's schedulers, if those are stepped after each step of the optimizer.
 *
 * @module
 */

import {
  ArgumentError,
  checkBoolean,
  checkChoice,
  checkFunction,
  checkNumber,
  checkNumbers,
  checkOptions,
  refuse,
  type Wanted,
} from "../check/arguments.ts";
import { checkList } from "../graph/shape.ts";

/**
 * The learning rate of a step of the optimizer, counted from 0. Set
 * `optimizer.lr = rate(optimizer.steps)` before each step. For a schedule by epochs, multiply its
 * numbers of steps by the steps of an epoch. The schedules of this library throw an ArgumentError
 * for a step that is no integer of at least 0.
 */
export type Schedule = (step: number) => number;

/** `rate`, called with steps only. */
function schedule(op: string, rate: Schedule): Schedule {
  return (step) => {
    checkNumber(op, "step", step, { integer: true, min: 0 });
    return rate(step);
  };
}

/** Checks a learning rate, the names of options, and options that are numbers. */
function checkSettings(
  op: string,
  lr: number,
  options: object,
  numbers: Readonly<Record<string, readonly [value: unknown, wanted?: Wanted]>>,
  others: readonly string[] = [],
): void {
  checkNumber(op, op === "oneCycleLR" ? "maxLr" : "lr", lr, { min: 0 });
  checkOptions(op, options, [...Object.keys(numbers), ...others]);
  for (const [name, [value, wanted]] of Object.entries(numbers)) {
    checkNumber(op, name, value, wanted);
  }
}

/** What a number of steps must be. */
const COUNT: Wanted = { integer: true, min: 1 };

/** What a rate may be divided by. */
const DIVISOR: Wanted = { min: 1e-12 };

/** Throws unless `milestones` are steps in order. */
function checkMilestones(op: string, milestones: readonly number[]): void {
  checkList(op, "milestones", milestones);
  checkNumbers(op, "milestones", milestones, { integer: true, min: 0 });
  const at = milestones.findIndex((step, i) => i > 0 && step < milestones[i - 1]!);
  if (at >= 0) refuse(op, `milestones[${at}]`, `at least ${milestones[at - 1]}`, milestones[at]);
}

/**
 * `lr`, multiplied by `gamma` (0.1 by default) after every `stepSize` steps
 * ({@link https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html | PyTorch}).
 *
 * @throws {ArgumentError} for an invalid rate or option.
 *
 * @example
 * ```ts
 * import { stepLR } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const rate = stepLR(1, { stepSize: 2, gamma: 0.5 });
 * assertEquals([0, 1, 2, 3, 4].map(rate), [1, 1, 0.5, 0.5, 0.25]);
 * ```
 */
export function stepLR(
  lr: number,
  options: { readonly stepSize: number; readonly gamma?: number },
): Schedule {
  const { stepSize, gamma = 0.1 } = options ?? {};
  checkSettings("stepLR", lr, options, { stepSize: [stepSize, COUNT], gamma: [gamma, { min: 0 }] });
  return schedule("stepLR", (step) => lr * gamma ** Math.floor(step / stepSize));
}

/**
 * `lr`, multiplied by `gamma` (0.1 by default) at each step of `milestones`, which are in order
 * ({@link https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.MultiStepLR.html | PyTorch}).
 *
 * @throws {ArgumentError} for an invalid rate or option.
 *
 * @example
 * ```ts
 * import { multiStepLR } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const rate = multiStepLR(1, { milestones: [1, 4], gamma: 0.5 });
 * assertEquals([0, 1, 2, 3, 4].map(rate), [1, 0.5, 0.5, 0.5, 0.25]);
 * ```
 */
export function multiStepLR(
  lr: number,
  options: { readonly milestones: readonly number[]; readonly gamma?: number },
): Schedule {
  const { milestones, gamma = 0.1 } = options ?? {};
  checkSettings("multiStepLR", lr, options, { gamma: [gamma, { min: 0 }] }, ["milestones"]);
  checkMilestones("multiStepLR", milestones);
  const passed = [...milestones];
  return schedule("multiStepLR", (step) => lr * gamma ** passed.filter((at) => at <= step).length);
}

/**
 * `lr`, multiplied by `gamma` after every step
 * ({@link https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ExponentialLR.html | PyTorch}).
 *
 * @throws {ArgumentError} for an invalid rate or option.
 *
 * @example
 * ```ts
 * import { exponentialLR } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals([0, 1, 2].map(exponentialLR(1, { gamma: 0.5 })), [1, 0.5, 0.25]);
 * ```
 */
export function exponentialLR(lr: number, options: { readonly gamma: number }): Schedule {
  const { gamma } = options ?? {};
  checkSettings("exponentialLR", lr, options, { gamma: [gamma, { min: 0 }] });
  return schedule("exponentialLR", (step) => lr * gamma ** step);
}

/**
 * Half a cosine from `lr` to `etaMin` (0 by default) in `TMax` steps, then back up in as many, and
 * so on
 * ({@link https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingLR.html | PyTorch}).
 *
 * @throws {ArgumentError} for an invalid rate or option.
 *
 * @example
 * ```ts
 * import { cosineAnnealingLR } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const rates = [0, 1, 2, 3, 4].map(cosineAnnealingLR(1, { TMax: 4 }));
 * assertEquals(rates.map((lr) => lr.toFixed(3)), ["1.000", "0.854", "0.500", "0.146", "0.000"]);
 * ```
 */
export function cosineAnnealingLR(
  lr: number,
  options: { readonly TMax: number; readonly etaMin?: number },
): Schedule {
  const { TMax, etaMin = 0 } = options ?? {};
  checkSettings("cosineAnnealingLR", lr, options, {
    TMax: [TMax, COUNT],
    etaMin: [etaMin, { min: 0 }],
  });
  return schedule(
    "cosineAnnealingLR",
    (step) => etaMin + (lr - etaMin) * Math.cos(Math.PI / 2 * step / TMax) ** 2,
  );
}

/** Settings of {@link linearLR}. */
export interface LinearLROptions {
  /** Factor of the first step; 1/3 by default. Unlike in PyTorch it may be 0. */
  readonly startFactor?: number;
  /** Factor from step `totalIters` on; 1 by default. */
  readonly endFactor?: number;
  /** Number of steps in which the factor changes; 5 by default. */
  readonly totalIters?: number;
}

/**
 * `lr` times a factor that goes from `startFactor` to `endFactor` in equal steps, for a warm-up
 * ({@link https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LinearLR.html | PyTorch}).
 *
 * @throws {ArgumentError} for an invalid rate or option.
 *
 * @example
 * ```ts
 * import { linearLR } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const rate = linearLR(1, { startFactor: 0.5, totalIters: 2 });
 * assertEquals([0, 1, 2, 3].map(rate), [0.5, 0.75, 1, 1]);
 * ```
 */
export function linearLR(lr: number, options: LinearLROptions = {}): Schedule {
  const { startFactor = 1 / 3, endFactor = 1, totalIters = 5 } = options ?? {};
  const factor = { min: 0, max: 1 };
  checkSettings("linearLR", lr, options, {
    startFactor: [startFactor, factor],
    endFactor: [endFactor, factor],
    totalIters: [totalIters, COUNT],
  });
  return schedule("linearLR", (step) => {
    if (step >= totalIters) return lr * endFactor;
    return lr * (startFactor * (totalIters - step) + endFactor * step) / totalIters;
  });
}

/** Settings of {@link oneCycleLR}. */
export interface OneCycleLROptions {
  /** Number of steps of the cycle. */
  readonly totalSteps: number;
  /** Share of the steps in which the rate rises; 0.3 by default. */
  readonly pctStart?: number;
  /** How the rate rises and falls: `"cos"`, the default, or `"linear"`. */
  readonly annealStrategy?: "cos" | "linear";
  /** The first rate is `maxLr / divFactor`; 25 by default. */
  readonly divFactor?: number;
  /** The last rate is the first divided by `finalDivFactor`; 1e4 by default. */
  readonly finalDivFactor?: number;
  /** Whether the rate first falls back to the first rate, as fast as it rose; false by default. */
  readonly threePhase?: boolean;
}

/**
 * A rise to `maxLr` and then a fall far below the first rate, in `totalSteps` steps (Smith & Topin
 * 2017;
 * {@link https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html | PyTorch}).
 * PyTorch also cycles the momentum by default; this does not. The schedule throws for a step that
 * is not below `totalSteps`.
 *
 * @throws {ArgumentError} for an invalid rate or option.
 *
 * @example
 * ```ts
 * import { oneCycleLR } from "@resnette/resnette";
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 *
 * const rate = oneCycleLR(1, { totalSteps: 10 });
 * assertAlmostEquals(rate(0), 1 / 25, 1e-12);
 * assertEquals(rate(2), 1);
 * assertAlmostEquals(rate(9), 1 / 25 / 1e4, 1e-12);
 * ```
 */
export function oneCycleLR(maxLr: number, options: OneCycleLROptions): Schedule {
  const op = "oneCycleLR";
  const {
    totalSteps,
    pctStart = 0.3,
    annealStrategy = "cos",
    divFactor = 25,
    finalDivFactor = 1e4,
    threePhase = false,
  } = options ?? {};
  checkSettings(op, maxLr, options, {
    totalSteps: [totalSteps, COUNT],
    pctStart: [pctStart, { min: 0, max: 1 }],
    divFactor: [divFactor, DIVISOR],
    finalDivFactor: [finalDivFactor, DIVISOR],
  }, ["annealStrategy", "threePhase"]);
  checkChoice(op, "annealStrategy", annealStrategy, ["cos", "linear"]);
  checkBoolean(op, "threePhase", threePhase);
  const start = maxLr / divFactor, end = start / finalDivFactor, last = totalSteps - 1;
  const top = pctStart * totalSteps - 1;
  /** Rates, and the steps that have them; between two of them, the rate goes from one to the other. */
  const corners = threePhase
    ? [[0, start], [top, maxLr], [2 * pctStart * totalSteps - 2, start], [last, end]] as const
    : [[0, start], [top, maxLr], [last, end]] as const;
  return schedule(op, (step) => {
    if (step > last) refuse(op, "step", `less than totalSteps, which is ${totalSteps}`, step);
    const next = corners.findIndex(([at], i) => i > 0 && (step <= at || i === corners.length - 1));
    const [to, high] = corners[next]!, [from, low] = corners[next - 1]!;
    const done = to === from ? 1 : (step - from) / (to - from);
    if (annealStrategy === "linear") return low + (high - low) * done;
    return high + (low - high) / 2 * (1 + Math.cos(Math.PI * done));
  });
}

/**
 * Schedules one after the other: at each of `milestones` the next schedule begins, with its step 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.SequentialLR.html | PyTorch}).
 *
 * @throws {ArgumentError} if `milestones` are not in order, or not one fewer than `schedules`.
 *
 * @example A warm-up, then a cosine
 * ```ts
 * import { cosineAnnealingLR, linearLR, sequentialLR } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const warmup = linearLR(1, { startFactor: 0.5, totalIters: 2 });
 * const rate = sequentialLR([warmup, cosineAnnealingLR(1, { TMax: 8 })], [2]);
 * assertEquals([0, 1, 2, 6].map((step) => rate(step).toFixed(2)), ["0.50", "0.75", "1.00", "0.50"]);
 * ```
 */
export function sequentialLR(
  schedules: readonly Schedule[],
  milestones: readonly number[],
): Schedule {
  checkList("sequentialLR", "schedules", schedules);
  schedules.forEach((rate, i) => checkFunction("sequentialLR", `schedules[${i}]`, rate));
  checkMilestones("sequentialLR", milestones);
  if (schedules.length !== milestones.length + 1) {
    throw new ArgumentError(
      "sequentialLR: there must be one fewer milestones than schedules, got " +
        `${milestones.length} and ${schedules.length}`,
    );
  }
  const begins = [0, ...milestones], rates = [...schedules];
  return schedule("sequentialLR", (step) => {
    const at = begins.findLastIndex((begin) => begin <= step);
    return rates[at]!(step - begins[at]!);
  });
}
