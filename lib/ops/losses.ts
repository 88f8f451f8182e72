/**
 * Losses between predictions and targets of one shape. All throw an ArgumentError for what is no
 * tensor or no setting, and a ShapeError where the shapes differ. Everything here is public.
 *
 * @module
 */

import { checkChoice, checkNumber, checkOptions } from "../check/arguments.ts";
import { formatShape, sameShape, ShapeError } from "../graph/shape.ts";
import { apply, checkTensor, type Op, type Tensor } from "../graph/tensor.ts";
import { clamp, lessEqual, maximum } from "./compare.ts";
import { abs, add, div, log, mul, neg, softplus, square, sub, where } from "./elementwise.ts";
import { mean, sum } from "./reduce.ts";

/** What becomes of losses: their mean or their sum, a scalar, or with `"none"` all of them. */
export type Reduction = "mean" | "sum" | "none";

/** Settings of losses. */
export interface LossOptions {
  /** What becomes of the losses of the elements; `"mean"` by default. */
  readonly reduction?: Reduction;
}

/** The losses of elements, as `reduction` says. */
function reduce(losses: Tensor, reduction: Reduction): Tensor {
  return reduction === "mean" ? mean(losses) : reduction === "sum" ? sum(losses) : losses;
}

/** Checks what all losses take; the reduction. */
function checkLoss<Options extends LossOptions>(
  op: string,
  x: Tensor,
  target: Tensor,
  options: Options,
  names: readonly (keyof Options & string)[] = [],
): Reduction {
  checkTensor(op, "x", x, "f32");
  checkTensor(op, "target", target, "f32");
  if (!sameShape(x.shape, target.shape)) {
    throw new ShapeError(
      `${op}: x ${formatShape(x.shape)} and target ${formatShape(target.shape)} differ in shape`,
    );
  }
  checkOptions(op, options, ["reduction", ...names]);
  const { reduction = "mean" } = options;
  checkChoice(op, "reduction", reduction, ["mean", "sum", "none"]);
  return reduction;
}

/**
 * Squared errors `(x - target)²`, by default their mean; x and target have the same shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, mseLoss, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(mseLoss(tensor([1, 5]), tensor([2, 2]))), new Float32Array([5]));
 * ```
 */
export function mseLoss(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  const reduction = checkLoss("mseLoss", x, target, options);
  return reduce(square(sub(x, target)), reduction);
}

/**
 * Absolute errors `|x - target|`, by default their mean; x and target have the same shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.l1_loss.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, l1Loss, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const loss = l1Loss(tensor([1, 5]), tensor([2, 2]), { reduction: "sum" });
 * assertEquals(await evaluate(loss), new Float32Array([4]));
 * ```
 */
export function l1Loss(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  const reduction = checkLoss("l1Loss", x, target, options);
  return reduce(abs(sub(x, target)), reduction);
}

/** Settings of {@link huberLoss}. */
export interface HuberLossOptions extends LossOptions {
  /** Distance from which on the loss is a line, more than 0; 1 by default. */
  readonly delta?: number;
}

/**
 * `½ d²` for distances d = |x - target| up to delta, and `delta · (d - ½ delta)` beyond, by default
 * their mean; x and target have the same shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.huber_loss.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, huberLoss, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const loss = huberLoss(tensor([1, 4]), tensor([0, 0]), { reduction: "none" });
 * assertEquals(await evaluate(loss), new Float32Array([0.5, 3.5]));
 * ```
 */
export function huberLoss(x: Tensor, target: Tensor, options: HuberLossOptions = {}): Tensor {
  const reduction = checkLoss("huberLoss", x, target, options, ["delta"]);
  const { delta = 1 } = options;
  checkNumber("huberLoss", "delta", delta, { min: 2 ** -126 });
  const d = abs(sub(x, target)), isNear = lessEqual(d, delta);
  // A far d is not squared: 0 times the gradient of an infinite square would be NaN.
  const near = mul(square(where(isNear, d, 0)), 0.5), far = mul(sub(d, 0.5 * delta), delta);
  return reduce(where(isNear, near, far), reduction);
}

/** log p, but at least -100. */
const logOf = (p: Tensor) => clamp(log(p), { min: -100 });

/** The loss of each element, for a gradient that is finite where x is 0 or 1, which sigmoids reach. */
const BinaryCrossEntropy: Op = {
  name: "binaryCrossEntropy",
  shape: ([x]) => x!.shape,
  lower: ({ inputs }) => {
    const [x, target] = inputs as [Tensor, Tensor];
    return neg(add(mul(target, logOf(x)), mul(sub(1, target), logOf(sub(1, x)))));
  },
  vjp: (g, _, inputs) => {
    const [x, target] = inputs as [Tensor, Tensor];
    const variance = maximum(mul(x, sub(1, x)), 1e-12);
    return [
      div(mul(g, sub(x, target)), variance),
      mul(g, sub(logOf(sub(1, x)), logOf(x))),
    ];
  },
};

/**
 * `-(target · log x + (1 - target) · log(1 - x))`, by default the mean, for probabilities x and
 * targets from 0 to 1 of the same shape. As in PyTorch, no logarithm is less than -100, and
 * where x is 0 or 1, its gradient is finite. An x that is no probability gives NaN
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { binaryCrossEntropy, evaluate, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [loss] = await evaluate(binaryCrossEntropy(tensor([0.5, 1]), tensor([1, 1])));
 * assertAlmostEquals(loss!, Math.LN2 / 2, 1e-6);
 * ```
 */
export function binaryCrossEntropy(x: Tensor, target: Tensor, options: LossOptions = {}): Tensor {
  const reduction = checkLoss("binaryCrossEntropy", x, target, options);
  return reduce(apply(BinaryCrossEntropy, [x, target], {}), reduction);
}

/** Settings of {@link binaryCrossEntropyWithLogits}. */
export interface LogitsLossOptions extends LossOptions {
  /** What the losses of positive targets are multiplied by, one number for all; 1 by default. */
  readonly posWeight?: number;
}

/**
 * {@link binaryCrossEntropy} of `sigmoid(x)`, without overflow and with exact gradients far from 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { binaryCrossEntropyWithLogits, evaluate, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [loss] = await evaluate(binaryCrossEntropyWithLogits(tensor([0, -200]), tensor([1, 1])));
 * assertAlmostEquals(loss!, (Math.LN2 + 200) / 2, 1e-4);
 * ```
 */
export function binaryCrossEntropyWithLogits(
  x: Tensor,
  target: Tensor,
  options: LogitsLossOptions = {},
): Tensor {
  const op = "binaryCrossEntropyWithLogits";
  const reduction = checkLoss(op, x, target, options, ["posWeight"]);
  const { posWeight = 1 } = options;
  checkNumber(op, "posWeight", posWeight, { min: 0 });
  // log(1 + e^-x) weighs (1 + (posWeight - 1) target), and x the share of negatives.
  const weight = posWeight === 1 ? 1 : add(1, mul(target, posWeight - 1));
  return reduce(add(mul(sub(1, target), x), mul(softplus(neg(x)), weight)), reduction);
}
