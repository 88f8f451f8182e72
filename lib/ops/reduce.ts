/**
 * Sums over axes. A long sum is taken in two steps, many partial sums and then their sum, always in
 * the same order: the result does not depend on timing.
 *
 * @module
 */

import { checkBoolean, checkOptions } from "../check/arguments.ts";
import {
  checkShape,
  formatShape,
  normalizeAxes,
  reduceShape,
  sameShape,
  type Shape,
  ShapeError,
} from "../graph/shape.ts";
import { apply, checkTensor, type Op, type Tensor } from "../graph/tensor.ts";
import { mul, neg } from "./elementwise.ts";
import { Mul, Neg } from "./expression.ts";
import { broadcastTo, permute, reshape } from "./view.ts";

/** Threads that are worth having, when a reduction has fewer results than that. */
const WANTED_THREADS = 16384;
/** Elements that each of them should at least take up. */
const LEAST_ELEMENTS = 16;

/**
 * How many partial results to take for each of `results` sums of `length` elements: chunks of
 * ⌈length / chunks⌉ neighbours, none of them empty.
 */
export function reductionChunks(results: number, length: number): number {
  const wanted = Math.ceil(WANTED_THREADS / results);
  const chunks = Math.max(1, Math.min(wanted, 1024, Math.floor(length / LEAST_ELEMENTS)));
  return Math.ceil(length / Math.ceil(length / chunks));
}

/** `[start, end)` of the first run of neighbouring axes in `axes`, seen past axes of size 1. */
export function lastRun(shape: Shape, axes: readonly number[]): number[] {
  const run: number[] = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (axes.includes(axis)) run.unshift(axis);
    else if (shape[axis] !== 1 && run.some((a) => shape[a] !== 1)) break;
  }
  return run;
}

const SUM = { sums: ["s"], step: "s += v;", results: ["s"] };

const Sum: Op<{ axes: readonly number[] }> = {
  name: "sum",
  shape: ([x], { axes }) => reduceShape(x!.shape, axes, true),
  reduction: (_, { axes }) => ({ ...SUM, axes, chunks: 1 }),
  sink: (x, order, { axes }) => {
    const stored = axes.map((axis) => order[axis]!).sort((a, b) => a - b);
    return permute(apply(Sum, [x], { axes: stored }), order);
  },
  lower: (node, _, { axes }) => {
    const x = node.inputs[0]!;
    const real = axes.filter((axis) => x.shape[axis] !== 1);
    if (real.length < axes.length) return real.length > 0 ? apply(Sum, [x], { axes: real }) : x;
    const run = lastRun(x.shape, axes);
    if (run.length < axes.length) {
      const rest = axes.filter((axis) => !run.includes(axis));
      return apply(Sum, [apply(Sum, [x], { axes: run })], { axes: rest });
    }
    const factored = factorOut(x, axes);
    if (factored) return factored;
    const chunks = reductionChunks(node.size, x.size / node.size);
    if (chunks === 1) return node;
    const partial = apply(PartialSum, [x], { axes, chunks });
    return reshape(apply(Sum, [partial], { axes: [0] }), node.shape);
  },
  vjp: (g, _, [x]) => [broadcastTo(g, x!.shape)],
};

/**
 * `Σ -a` as `-Σ a`, and `Σ a b` as `(Σ a) b` where b does not vary along the axes: a smaller product,
 * and often a sum that is taken anyway. Null where neither fits.
 */
function factorOut(x: Tensor, axes: readonly number[]): Tensor | null {
  const over = (a: Tensor) => apply(Sum, [a], { axes });
  if (x.op === Neg) return neg(over(x.inputs[0]!));
  if (x.op !== Mul) return null;
  const constant = (b: Tensor) =>
    axes.every((axis) => (b.shape[axis - x.rank + b.rank] ?? 1) === 1);
  const [a, b] = x.inputs as [Tensor, Tensor];
  if (sameShape(a.shape, x.shape) && constant(b)) return mul(over(a), b);
  if (sameShape(b.shape, x.shape) && constant(a)) return mul(over(b), a);
  return null;
}

/** `[chunks, …]` sums over chunks of neighbours. */
const PartialSum: Op<{ axes: readonly number[]; chunks: number }> = {
  name: "partialSum",
  shape: ([x], { axes, chunks }) => [chunks, ...reduceShape(x!.shape, axes, true)],
  reduction: (_, attrs) => ({ ...SUM, ...attrs }),
};

/**
 * Sum over `axes`, all of them by default; negative axes count from the end. `keepDims` keeps them,
 * of size 1 ({@link https://pytorch.org/docs/stable/generated/torch.sum.html | PyTorch}).
 *
 * @throws {ShapeError} for an axis that there is not, or one twice.
 *
 * @example
 * ```ts
 * import { evaluate, sum, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = sum(tensor([[1, 2], [3, 4]]), [-1]);
 * assertEquals(await evaluate(y), new Float32Array([3, 7]));
 * ```
 */
export function sum(
  x: Tensor,
  axes?: readonly number[],
  options: { keepDims?: boolean } = {},
): Tensor {
  return total("sum", x, axes, options);
}

/** {@link sum}, for the function `op`. */
function total(
  op: string,
  x: Tensor,
  axes: readonly number[] | undefined,
  options: { keepDims?: boolean },
): Tensor {
  checkTensor(op, "x", x, "f32");
  checkOptions(op, options, ["keepDims"]);
  const { keepDims = false } = options;
  checkBoolean(op, "keepDims", keepDims);
  const reduced = normalizeAxes(op, x.rank, axes);
  const kept = reduced.length === 0 ? x : apply(Sum, [x], { axes: reduced });
  return keepDims ? kept : reshape(kept, reduceShape(x.shape, reduced, false));
}

/**
 * Mean over `axes`, all of them by default; axes and options are those of {@link sum}
 * ({@link https://pytorch.org/docs/stable/generated/torch.mean.html | PyTorch}).
 *
 * @throws {ShapeError} for an axis that there is not, or one twice.
 *
 * @example
 * ```ts
 * import { evaluate, mean, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = mean(tensor([[1, 2], [3, 4]]), [0]);
 * assertEquals(await evaluate(y), new Float32Array([2, 3]));
 * ```
 */
export function mean(
  x: Tensor,
  axes?: readonly number[],
  options: { keepDims?: boolean } = {},
): Tensor {
  const sums = total("mean", x, axes, options);
  return mul(sums, sums.size / x.size);
}

/** `x` summed over the axes along which `shape` was broadcast to it. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  checkTensor("sumTo", "x", x, "f32");
  checkShape("sumTo", shape);
  if (sameShape(x.shape, shape)) return x;
  const lead = x.rank - shape.length;
  if (lead < 0 || !shape.every((dim, i) => dim === 1 || dim === x.shape[i + lead])) {
    throw new ShapeError(
      `sumTo: ${formatShape(shape)} does not broadcast to ${formatShape(x.shape)}`,
    );
  }
  const axes = x.shape.flatMap((dim, i) =>
    i < lead || (shape[i - lead] === 1 && dim !== 1) ? [i] : []
  );
  return reshape(sum(x, axes, { keepDims: true }), shape);
}
