/**
 * Classification: softmax, cross-entropy, predictions.
 *
 * @module
 */

import { arrays, perThread } from "../kernel.ts";
import { formatShape, ShapeError } from "../shape.ts";
import { apply, type Op, type Tensor } from "../tensor.ts";
import { exp, mul, neg, sub, where } from "./elementwise.ts";
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
  for (var k = 0u; k < ${k}u; k++) { s += exp(x[row + k] - top); }
  for (var k = 0u; k < ${k}u; k++) { y[row + k] = x[row + k] - top - log(s); }`,
    )];
  },
  vjp: (g, y) => [sub(g, mul(exp(y), sum(g, [-1], { keepDims: true })))],
};

/** `log(softmax(x))` over the last axis; does not overflow. */
export function logSoftmax(x: Tensor): Tensor {
  if (x.rank < 1) throw new ShapeError("logSoftmax: needs at least one dimension, got a scalar");
  return apply(LogSoftmax, [x], {});
}

/** Probabilities over the last axis. */
export function softmax(x: Tensor): Tensor {
  return exp(logSoftmax(x));
}

const OneHot: Op<{ classes: number }> = {
  name: "oneHot",
  accepts: ["u32"],
  shape: ([labels], { classes }) => [...labels!.shape, classes],
  kernels: (node, target) => {
    const k = node.attrs["classes"] as number;
    return [perThread(
      arrays({ labels: "u32", y: "f32" }),
      node.size,
      target,
      `  y[i] = select(0.0, 1.0, labels[i / ${k}u] == i % ${k}u);`,
    )];
  },
};

/** u32 labels `[…]` → f32 `[…, classes]`, 1 at the label; all 0 for a label out of range. */
export function oneHot(labels: Tensor, classes: number): Tensor {
  return apply(OneHot, [labels], { classes });
}

function checkLogits(op: string, logits: Tensor, labels: Tensor): void {
  if (logits.rank !== 2 || labels.rank !== 1 || logits.shape[0] !== labels.shape[0]) {
    throw new ShapeError(
      `${op}: wants logits [N, classes] and labels [N], got ${formatShape(logits.shape)} and ${
        formatShape(labels.shape)
      }`,
    );
  }
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
 * @example
 * ```ts
 * import { crossEntropy, evaluate, tensor } from "@resnette/resnette";
 *
 * const loss = crossEntropy(tensor([0, 0], [1, 2]), tensor(new Uint32Array([1])));
 * console.log(await evaluate(loss)); // Float32Array [ 0.6931472 ]
 * ```
 */
export function crossEntropy(
  logits: Tensor,
  labels: Tensor,
  { labelSmoothing = 0 }: CrossEntropyOptions = {},
): Tensor {
  checkLogits("crossEntropy", logits, labels);
  if (!(labelSmoothing >= 0 && labelSmoothing <= 1)) {
    throw new RangeError(
      `crossEntropy: labelSmoothing must be from 0 to 1, got ${labelSmoothing}`,
    );
  }
  const classes = logits.shape[1]!, other = labelSmoothing / classes;
  const hit = oneHot(labels, classes), logs = logSoftmax(logits);
  // Without smoothing a class that is impossible, -∞, counts only where it is the label.
  const weighted = labelSmoothing === 0
    ? where(hit, logs, 0)
    : mul(where(hit, 1 - labelSmoothing + other, other), logs);
  return neg(mean(sum(weighted, [1])));
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
  var best = 0u;
  for (var k = 1u; k < ${k}u; k++) {
    if (x[row + k] > x[row + best]) { best = k; }
  }
  y[i] = best;`,
    )];
  },
};

/** Index of the largest value along the last axis, as u32; the first of equal ones. */
export function argmax(x: Tensor): Tensor {
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

/** How many of the logits `[N, classes]` have their largest value at the label `[N]`: a scalar. */
export function correctCount(logits: Tensor, labels: Tensor): Tensor {
  checkLogits("correctCount", logits, labels);
  return sum(apply(Equal, [argmax(logits), labels], {}));
}
