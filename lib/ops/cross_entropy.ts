/**
 * Cross-entropy, of logits and of logarithms of probabilities. Everything here is public.
 *
 * @module
 */

import { ArgumentError, checkChoice, checkNumber, checkOptions } from "../check/arguments.ts";
import { formatShape, sameShape, ShapeError } from "../graph/shape.ts";
import { checkTensor, type Tensor } from "../graph/tensor.ts";
import { add, div, mul, neg, where } from "./elementwise.ts";
import { orNaN } from "./expression.ts";
import { labelHits, logSoftmax } from "./classification.ts";
import type { Reduction } from "./losses.ts";
import { mean, sum } from "./reduce.ts";
import { permute } from "./view.ts";

/** Settings of {@link nllLoss}. */
export interface NllLossOptions {
  /** What the losses of each class are multiplied by, `[classes]`; 1 by default. */
  readonly weight?: Tensor | undefined;
  /** A label whose losses are left out, such as 255, which need not be a class; none by default. */
  readonly ignoreIndex?: number | undefined;
  /**
   * What becomes of the losses. `"mean"`, the default, divides their sum by the sum of their
   * labels' weights, so it is NaN if all labels are ignored; for shares of classes, by the number
   * of losses.
   */
  readonly reduction?: Reduction;
}

/** Settings of {@link crossEntropy}. */
export interface CrossEntropyOptions extends NllLossOptions {
  /** Share of each label that is spread evenly over all classes, from 0 to 1; 0 by default. */
  readonly labelSmoothing?: number;
}

/** The loss of `logs`, made of x, the classes of both behind all else, for the function `op`. */
function entropy(
  op: string,
  name: string,
  x: Tensor,
  labels: Tensor,
  options: CrossEntropyOptions,
  logsOf: (x: Tensor) => Tensor,
): Tensor {
  const { weight, ignoreIndex, reduction = "mean", labelSmoothing = 0 } = options;
  checkNumber(op, "labelSmoothing", labelSmoothing, { min: 0, max: 1 });
  checkChoice(op, "reduction", reduction, ["mean", "sum", "none"]);
  if (ignoreIndex !== undefined) {
    checkNumber(op, "ignoreIndex", ignoreIndex, { integer: true, min: 0, max: 2 ** 32 - 1 });
  }
  checkTensor(op, name, x, "f32");
  checkTensor(op, "labels", labels);
  const soft = labels.dtype === "f32" && op === "crossEntropy";
  if (!soft) checkTensor(op, "labels", labels, "u32");
  const axis = Math.min(1, x.rank - 1), classes = x.shape[axis];
  const fits = soft ? x.shape : x.shape.toSpliced(axis, 1);
  if (classes === undefined || !sameShape(labels.shape, fits)) {
    throw new ShapeError(
      `${op}: wants ${name} [N, classes, …] and u32 labels [N, …]${
        op === "crossEntropy" ? ", or f32 ones of the logits' shape" : ""
      }, got ${formatShape(x.shape)} and ${labels.dtype} ${formatShape(labels.shape)}`,
    );
  }
  if (weight !== undefined) {
    checkTensor(op, "weight", weight, "f32");
    if (!sameShape(weight.shape, [classes])) {
      throw new ShapeError(`${op}: weight must be [${classes}], got ${formatShape(weight.shape)}`);
    }
  }
  const last = (y: Tensor) =>
    y.rank > 2 ? permute(y, [...y.shape.keys()].filter((i) => i !== 1).concat(1)) : y;
  const logs = logsOf(last(x)), other = labelSmoothing / classes;
  const weighted = (y: Tensor) => weight ? mul(y, weight) : y;
  const each = (terms: Tensor) => sum(terms, [-1]);
  const reduced = (losses: Tensor) => neg(reduction === "none" ? losses : sum(losses));
  if (soft) {
    if (ignoreIndex !== undefined) {
      throw new ArgumentError(
        `${op}: ignoreIndex is for u32 labels; f32 ones are shares of classes`,
      );
    }
    const shares = last(labels);
    const smooth = labelSmoothing === 0 ? shares : add(mul(shares, 1 - labelSmoothing), other);
    const loss = reduced(each(mul(weighted(smooth), logs)));
    return reduction === "mean" ? mul(loss, classes / x.size) : loss;
  }
  const hit = labelHits(op, labels, classes, ignoreIndex);
  const plain = weight === undefined && ignoreIndex === undefined;
  // Without smoothing, an impossible class (-∞) counts only if it is the label.
  let terms = labelSmoothing === 0
    ? where(hit, logs, 0)
    : mul(where(hit, 1 - labelSmoothing + other, other), logs);
  if (ignoreIndex !== undefined && labelSmoothing > 0) {
    terms = where(sum(hit, [-1], { keepDims: true }), terms, 0);
  }
  const losses = each(orNaN(hit, weighted(terms)));
  if (reduction !== "mean") return reduced(losses);
  return plain ? neg(mean(losses)) : div(reduced(losses), sum(weighted(hit)));
}

/**
 * Cross-entropy of logits `[N, classes, …]` against u32 labels `[N, …]`, or against f32 shares of
 * classes, of the logits' shape; a scalar, or with `reduction: "none"` the losses, `[N, …]`. Logits
 * `[classes]` and a scalar label are fine too
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html | PyTorch}).
 *
 * @throws {ArgumentError} for a label that is neither below `classes` nor ignored, or an option
 * that cannot be; a wrong label that is computed on the device makes the loss NaN.
 * @throws {ShapeError} if the shapes do not fit together.
 *
 * @example
 * ```ts
 * import { crossEntropy, evaluate, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const loss = crossEntropy(tensor([0, 0], [1, 2]), tensor(new Uint32Array([1])));
 * const [value] = await evaluate(loss);
 * assertAlmostEquals(value!, Math.log(2), 1e-6);
 * ```
 *
 * @example Pixels, some of them of no class
 * ```ts
 * import { crossEntropy, evaluate, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const logits = tensor(new Float32Array(2 * 3 * 4), [2, 3, 2, 2]);
 * const labels = tensor(Uint32Array.of(0, 1, 255, 2, 255, 255, 1, 0), [2, 2, 2]);
 * const [value] = await evaluate(crossEntropy(logits, labels, { ignoreIndex: 255 }));
 * assertAlmostEquals(value!, Math.log(3), 1e-6);
 * ```
 */
export function crossEntropy(
  logits: Tensor,
  labels: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  const op = "crossEntropy";
  checkOptions(op, options, ["weight", "ignoreIndex", "reduction", "labelSmoothing"]);
  return entropy(op, "logits", logits, labels, options, (x) => logSoftmax(x));
}

/**
 * {@link crossEntropy} of what has gone through {@link logSoftmax}: logarithms of probabilities,
 * `[N, classes, …]`, against u32 labels `[N, …]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html | PyTorch}).
 *
 * @throws {ArgumentError} for a label that is neither below `classes` nor ignored, or an option
 * that cannot be; a wrong label that is computed on the device makes the loss NaN.
 * @throws {ShapeError} if the shapes do not fit together.
 *
 * @example
 * ```ts
 * import { evaluate, nllLoss, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const loss = nllLoss(tensor([[-1, -3], [-2, -5]]), tensor(Uint32Array.of(0, 1)));
 * assertEquals(await evaluate(loss), new Float32Array([3]));
 * ```
 */
export function nllLoss(
  logProbabilities: Tensor,
  labels: Tensor,
  options: NllLossOptions = {},
): Tensor {
  checkOptions("nllLoss", options, ["weight", "ignoreIndex", "reduction"]);
  return entropy("nllLoss", "logProbabilities", logProbabilities, labels, options, (x) => x);
}
