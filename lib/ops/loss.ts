/**
 * Classification: softmax, cross-entropy, predictions.
 *
 * @module
 */

import { checkNumber, checkOptions } from "../check/arguments.ts";
import { arrays, isNaNOf, perThread, summing } from "../kernels/kernel.ts";
import { formatShape, ShapeError } from "../graph/shape.ts";
import { apply, checkIndices, checkTensor, type Op, type Tensor } from "../graph/tensor.ts";
import { exp, mul, neg, sub, where } from "./elementwise.ts";
import { orNaN } from "./expression.ts";
import { mean, sum } from "./reduce.ts";

const LogSoftmax: Op = {
  name: "logSoftmax",
  shape: ([x]) => x!.shape,
  kernels: (node, target) => {
    const k = node.shape.at(-1)!;
    return [perThread(
      arrays({ x: "f32", y: "f32" }),
      node.size / k,
      target,
      `  let row = i * ${k}u;
  var top = x[row];
  for (var k = 1u; k < ${k}u; k++) { top = max(top, x[row + k]); }
  var s = 0.0;
${
        summing(
          ["s"],
          "f32",
          { index: "k", from: "0u", end: `${k}u`, most: k },
          "        s += exp(x[row + k] - top);",
        )
      }
  for (var k = 0u; k < ${k}u; k++) { y[row + k] = x[row + k] - top - log(s); }`,
    )];
  },
  vjp: (g, y) => [sub(g, mul(exp(y), sum(g, [-1], { keepDims: true })))],
};

/** {@link logSoftmax}, for the function `op`. */
function logSoftmaxOf(op: string, x: Tensor): Tensor {
  checkTensor(op, "x", x, "f32");
  if (x.rank < 1) throw new ShapeError(`${op}: needs at least one dimension, got a scalar`);
  return apply(LogSoftmax, [x], {});
}

/**
 * `log(softmax(x))` over the last axis; does not overflow
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.log_softmax.html | PyTorch}).
 *
 * @throws {ShapeError} for a scalar.
 *
 * @example
 * ```ts
 * import { evaluate, logSoftmax, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [y] = await evaluate(logSoftmax(tensor([1000, 1000])));
 * assertAlmostEquals(y!, -Math.LN2, 1e-5);
 * ```
 */
export function logSoftmax(x: Tensor): Tensor {
  return logSoftmaxOf("logSoftmax", x);
}

/**
 * Probabilities over the last axis ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html | PyTorch}).
 *
 * @throws {ShapeError} for a scalar.
 *
 * @example
 * ```ts
 * import { evaluate, softmax, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [y] = await evaluate(softmax(tensor([0, 0, 0, 0])));
 * assertAlmostEquals(y!, 0.25, 1e-6);
 * ```
 */
export function softmax(x: Tensor): Tensor {
  return exp(logSoftmaxOf("softmax", x));
}

const OneHot: Op<{ classes: number }> = {
  name: "oneHot",
  accepts: ["u32"],
  shape: ([labels], { classes }) => [...labels!.shape, classes],
  below: ({ attrs }) => [attrs["classes"] as number],
  kernels: (node, target, { classes: k }) => {
    return [perThread(
      arrays({ labels: "u32", y: "f32" }),
      node.size,
      target,
      `  let label = labels[i / ${k}u];
  var nan = 0x7fc00000u;
  y[i] = select(bitcast<f32>(nan), select(0.0, 1.0, label == i % ${k}u), label < ${k}u);`,
    )];
  },
};

/**
 * u32 labels `[…]` → f32 `[…, classes]`, 1 at the label and 0 elsewhere
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.one_hot.html | PyTorch}).
 *
 * @throws {ArgumentError} for a label that is not below `classes`; one that only the device knows
 * gives NaN.
 *
 * @example
 * ```ts
 * import { evaluate, oneHot, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = oneHot(tensor(new Uint32Array([2])), 3);
 * assertEquals(await evaluate(y), new Float32Array([0, 0, 1]));
 * ```
 */
export function oneHot(labels: Tensor, classes: number): Tensor {
  checkTensor("oneHot", "labels", labels, "u32");
  checkNumber("oneHot", "classes", classes, { integer: true, min: 1 });
  checkIndices("oneHot", "labels", labels, classes);
  return apply(OneHot, [labels], { classes });
}

/** Throws unless logits are `[N, classes]` and labels `[N]`; labels of a constant must be classes. */
function checkLogits(op: string, logits: Tensor, labels: Tensor): void {
  checkTensor(op, "logits", logits, "f32");
  checkTensor(op, "labels", labels, "u32");
  if (logits.rank !== 2 || labels.rank !== 1 || logits.shape[0] !== labels.shape[0]) {
    throw new ShapeError(
      `${op}: wants logits [N, classes] and labels [N], got ${formatShape(logits.shape)} and ${
        formatShape(labels.shape)
      }`,
    );
  }
  checkIndices(op, "labels", labels, logits.shape[1]!);
}

/** Settings of {@link crossEntropy}. */
export interface CrossEntropyOptions {
  /** Share of each label that is spread evenly over all classes, from 0 to 1; 0 by default. */
  readonly labelSmoothing?: number;
}

/**
 * Mean cross-entropy of logits `[N, classes]` against u32 labels `[N]`, a scalar
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html | PyTorch}).
 *
 * @throws {ArgumentError} for a label that is not below `classes`; one that only the device knows
 * makes the loss NaN.
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
 */
export function crossEntropy(
  logits: Tensor,
  labels: Tensor,
  options: CrossEntropyOptions = {},
): Tensor {
  checkLogits("crossEntropy", logits, labels);
  checkOptions("crossEntropy", options, ["labelSmoothing"]);
  const { labelSmoothing = 0 } = options;
  checkNumber("crossEntropy", "labelSmoothing", labelSmoothing, { min: 0, max: 1 });
  const classes = logits.shape[1]!, other = labelSmoothing / classes;
  const hit = oneHot(labels, classes), logs = logSoftmax(logits);
  // Without smoothing, an impossible class (-∞) counts only if it is the label.
  const weighted = labelSmoothing === 0
    ? where(hit, logs, 0)
    : mul(where(hit, 1 - labelSmoothing + other, other), logs);
  return neg(mean(sum(orNaN(hit, weighted), [1])));
}

const Argmax: Op = {
  name: "argmax",
  shape: ([x]) => x!.shape.slice(0, -1),
  dtype: () => "u32",
  kernels: (node, target) => {
    const k = node.inputs[0]!.shape.at(-1)!;
    return [perThread(
      arrays({ x: "f32", y: "u32" }),
      node.size,
      target,
      `  let row = i * ${k}u;
${argmaxOf("row", k)}
  y[i] = best;`,
    )];
  },
};

/**
 * WGSL that finds `best`, the index of the largest of the `count` values of `x` from `row` on: the
 * first of equal ones, and NaN over any number.
 */
export const argmaxOf = (row: string, count: number) =>
  `  var best = 0u;
  for (var k = 1u; k < ${count}u; k++) {
    let v = x[${row} + k]; let top = x[${row} + best];
    if (!${isNaNOf("top")} & ((v > top) | ${isNaNOf("v")})) { best = k; }
  }`;

/**
 * Index of the largest value along the last axis, as u32; the first of equal ones. NaN is larger than
 * any number ({@link https://pytorch.org/docs/stable/generated/torch.argmax.html | PyTorch}).
 *
 * @throws {ShapeError} for a scalar.
 *
 * @example
 * ```ts
 * import { argmax, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = argmax(tensor([[1, 5, 2], [7, 7, 0]]));
 * assertEquals(await evaluate(y), new Uint32Array([1, 0]));
 * ```
 */
export function argmax(x: Tensor): Tensor {
  checkTensor("argmax", "x", x, "f32");
  if (x.rank < 1) throw new ShapeError("argmax: needs at least one dimension, got a scalar");
  return apply(Argmax, [x], {});
}

const Equal: Op = {
  name: "equal",
  accepts: ["u32", "u32"],
  shape: ([a]) => a!.shape,
  kernels: (node, target) => [perThread(
    arrays({ a: "u32", b: "u32", y: "f32" }),
    node.size,
    target,
    "  y[i] = select(0.0, 1.0, a[i] == b[i]);",
  )],
};

/**
 * How many of the logits `[N, classes]` have their largest value at the label `[N]`: a scalar.
 *
 * @throws {ShapeError} if the shapes do not fit together.
 *
 * @example
 * ```ts
 * import { correctCount, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = correctCount(tensor([[1, 5], [7, 0]]), tensor(new Uint32Array([1, 1])));
 * assertEquals(await evaluate(y), new Float32Array([1]));
 * ```
 */
export function correctCount(logits: Tensor, labels: Tensor): Tensor {
  checkLogits("correctCount", logits, labels);
  return sum(apply(Equal, [argmax(logits), labels], {}));
}
