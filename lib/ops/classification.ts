/**
 * Classification: softmax, labels, predictions.
 *
 * @module
 */

import { checkNumber, checkOptions } from "../check/arguments.ts";
import { arrays, isNaNOf, perThread, summing } from "../kernels/kernel.ts";
import { formatShape, normalizeAxes, ShapeError } from "../graph/shape.ts";
import {
  apply,
  type Attrs,
  checkBelow,
  checkIndices,
  checkTensor,
  constantData,
  inverseOrder,
  type Op,
  type Tensor,
} from "../graph/tensor.ts";
import { exp, mul, neg, sub } from "./elementwise.ts";
import { sum } from "./reduce.ts";
import { permute } from "./view.ts";

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

/** Settings of {@link softmax}, {@link logSoftmax}, {@link argmax} and {@link argmin}. */
export interface AxisOptions {
  /** The axis to go along; negative ones count from the end. The last by default. */
  readonly axis?: number;
}

/** `f` of x, a function of the last axis, along the axis that the options of `op` say. */
function alongAxis(
  op: string,
  x: Tensor,
  options: AxisOptions,
  f: (x: Tensor) => Tensor,
): Tensor {
  checkTensor(op, "x", x, "f32");
  checkOptions(op, options, ["axis"]);
  if (x.rank < 1) throw new ShapeError(`${op}: needs at least one dimension, got a scalar`);
  const { axis = -1 } = options;
  const [at] = normalizeAxes(op, x.rank, [axis]) as [number];
  if (at === x.rank - 1) return f(x);
  const order = [...x.shape.keys()].filter((i) => i !== at).concat(at);
  const y = f(permute(x, order));
  return y.rank === x.rank ? permute(y, inverseOrder(order)) : y;
}

/** {@link logSoftmax}, for the function `op`. */
const logSoftmaxOf = (op: string, x: Tensor, options: AxisOptions) =>
  alongAxis(op, x, options, (x) => apply(LogSoftmax, [x], {}));

/**
 * `log(softmax(x))` over an axis, the last by default, without overflow; the shape of x
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.log_softmax.html | PyTorch}).
 *
 * @throws {ShapeError} for a scalar, or an axis that x does not have.
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
export function logSoftmax(x: Tensor, options: AxisOptions = {}): Tensor {
  return logSoftmaxOf("logSoftmax", x, options);
}

/**
 * Probabilities `e^x / Σ e^x` over an axis, the last by default, without overflow; the shape of x
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html | PyTorch}).
 *
 * @throws {ShapeError} for a scalar, or an axis that x does not have.
 *
 * @example
 * ```ts
 * import { evaluate, softmax, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [y] = await evaluate(softmax(tensor([0, 0, 0, 0])));
 * assertAlmostEquals(y!, 0.25, 1e-6);
 * const columns = await evaluate(softmax(tensor([[0, 9], [0, 9]]), { axis: 0 }));
 * assertAlmostEquals(columns[1]!, 0.5, 1e-6);
 * ```
 */
export function softmax(x: Tensor, options: AxisOptions = {}): Tensor {
  return exp(logSoftmaxOf("softmax", x, options));
}

interface OneHotAttrs extends Attrs {
  readonly classes: number;
  /** A label all of whose row is 0; none by default. */
  readonly ignored?: number;
}

const OneHot: Op<OneHotAttrs> = {
  name: "oneHot",
  accepts: ["u32"],
  shape: ([labels], { classes }) => [...labels!.shape, classes],
  // What is no class but ignored may be there.
  below: ({ attrs: { classes, ignored } }) => [
    (ignored as number | undefined ?? 0) < (classes as number) ? classes as number : undefined,
  ],
  kernels: (node, target, { classes: k, ignored }) => {
    const hit = ignored === undefined ? "" : ` & (label != ${ignored}u)`;
    const known = ignored === undefined ? "" : ` | (label == ${ignored}u)`;
    return [perThread(
      arrays({ labels: "u32", y: "f32" }),
      node.size,
      target,
      `  let label = labels[i / ${k}u];
  var nan = 0x7fc00000u;
  y[i] = select(bitcast<f32>(nan), select(0.0, 1.0, (label == i % ${k}u)${hit}), (label < ${k}u)${known});`,
    )];
  },
};

/**
 * u32 labels `[…]` → f32 `[…, classes]`, 1 at the label and 0 elsewhere
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.one_hot.html | PyTorch}).
 *
 * @throws {ArgumentError} for a label that is not below `classes`; a wrong one that is computed on
 * the device gives a row of NaN.
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

/** {@link oneHot} for the function `op`, with zeros for a label that is `ignored`. */
export function labelHits(
  op: string,
  labels: Tensor,
  classes: number,
  ignored: number | undefined,
): Tensor {
  const data = ignored === undefined ? undefined : constantData(labels);
  if (data) {
    const counted = (data as Uint32Array).map((label) => label === ignored ? 0 : label);
    checkBelow(op, "labels", counted, classes);
  } else if (ignored === undefined) checkIndices(op, "labels", labels, classes);
  return apply(OneHot, [labels], ignored === undefined ? { classes } : { classes, ignored });
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
 * Index of the largest value along an axis, the last by default, as u32; the first of equal ones.
 * The result lacks that axis. NaN is larger than any number
 * ({@link https://pytorch.org/docs/stable/generated/torch.argmax.html | PyTorch}, whose default is
 * an index over all elements).
 *
 * @throws {ShapeError} for a scalar, or an axis that x does not have.
 *
 * @example
 * ```ts
 * import { argmax, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([[1, 5, 2], [7, 7, 0]]);
 * assertEquals(await evaluate(argmax(x)), new Uint32Array([1, 0]));
 * assertEquals(await evaluate(argmax(x, { axis: 0 })), new Uint32Array([1, 1, 0]));
 * ```
 */
export function argmax(x: Tensor, options: AxisOptions = {}): Tensor {
  return alongAxis("argmax", x, options, (x) => apply(Argmax, [x], {}));
}

/**
 * Index of the smallest value along an axis, otherwise like {@link argmax}. NaN is smaller than any
 * number ({@link https://pytorch.org/docs/stable/generated/torch.argmin.html | PyTorch}).
 *
 * @throws {ShapeError} for a scalar, or an axis that x does not have.
 *
 * @example
 * ```ts
 * import { argmin, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(argmin(tensor([3, 1, 2]))), new Uint32Array([1]));
 * ```
 */
export function argmin(x: Tensor, options: AxisOptions = {}): Tensor {
  return alongAxis("argmin", x, options, (x) => apply(Argmax, [neg(x)], {}));
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
 * How many rows of the logits, `[N, classes]`, have their largest value at the label, u32 `[N]`: an
 * f32 scalar. {@link argmax} says what counts as the largest.
 *
 * @throws {ArgumentError} for a label that is not below `classes`.
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
