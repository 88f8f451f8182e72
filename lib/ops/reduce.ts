/**
 * Sums and means over axes, and how a reduction is made. A long one is computed in steps, partial
 * results and then the reduction of these, always in the same order: it does not depend on timing.
 *
 * @module
 */

import { checkBoolean, checkOptions } from "../check/arguments.ts";
import { LAST_RUN } from "../kernels/kernel.ts";
import {
  checkShape,
  formatShape,
  normalizeAxes,
  reduceShape,
  sameShape,
  type Shape,
  ShapeError,
} from "../graph/shape.ts";
import { apply, checkTensor, type Op, type ReductionSpec, type Tensor } from "../graph/tensor.ts";
import { mul, neg } from "./elementwise.ts";
import { Mul, Neg } from "./expression.ts";
import { broadcastTo, permute, reshape } from "./view.ts";

/** Threads that are worth having, each with four results if it can, when a reduction has fewer. */
const WANTED_THREADS = 16384;
/** Elements that each of them should at least take up. */
const LEAST_ELEMENTS = 16;
/** Chunks of a long sum, at most: longer ones lose fewer digits. */
const MOST_CHUNKS = 1024;
/** Elements that one thread takes up sooner than waiting for another dispatch. */
const MOST_ELEMENTS = 64;

/**
 * How many partial results to take for each of `results` sums of `length` elements: chunks of
 * ⌈length / chunks⌉ neighbours, none of them empty. Of a length that is not too great, so few that the
 * next step is the last.
 */
export function reductionChunks(results: number, length: number): number {
  if (length <= MOST_ELEMENTS) return 1;
  const threads = Math.ceil(WANTED_THREADS / (results % 4 === 0 ? results / 4 : results));
  // Chunks of this length need no loops in each other: they have the same WGSL as shorter ones.
  const short = Math.ceil(length / LAST_RUN), steps = MOST_ELEMENTS ** 2;
  const wanted = threads > 1 && short <= steps ? Math.max(threads, short) : threads;
  const most = length <= 2 * steps
    ? Math.min(MOST_ELEMENTS, Math.ceil(Math.sqrt(length)))
    : short <= steps
    ? steps
    : MOST_CHUNKS;
  const chunks = Math.max(1, Math.min(wanted, most, Math.floor(length / LEAST_ELEMENTS)));
  return Math.ceil(length / Math.ceil(length / chunks));
}

/** `[start, end)` of the first run of neighbouring axes in `axes`, seen past axes of size 1. */
function lastRun(shape: Shape, axes: readonly number[]): number[] {
  const run: number[] = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (axes.includes(axis)) run.unshift(axis);
    else if (shape[axis] !== 1 && run.some((a) => shape[a] !== 1)) break;
  }
  return run;
}

/** WGSL of how elements are taken up. */
type Taking = Omit<ReductionSpec, "axes" | "chunks">;

/**
 * An op `[…]` → the same rank, reduced axes being 1. Elements are taken up in neighbouring chunks, and
 * then the chunks' results in the same way. `simpler` is the same value in terms of other ops, if any.
 */
export function reducing(
  name: string,
  taking: Taking,
  vjp: NonNullable<Op["vjp"]>,
  simpler: (x: Tensor, axes: readonly number[]) => Tensor | null = () => null,
): Op {
  const partial: Op<{ axes: readonly number[]; chunks: number }> = {
    name: `partial${name[0]!.toUpperCase()}${name.slice(1)}`,
    shape: ([x], { axes, chunks }) => [chunks, ...reduceShape(x!.shape, axes, true)],
    reduction: (_, attrs) => ({ ...taking, ...attrs }),
  };
  const whole: Op<{ axes: readonly number[] }> = {
    name,
    shape: ([x], { axes }) => reduceShape(x!.shape, axes, true),
    reduction: (_, { axes }) => ({ ...taking, axes, chunks: 1 }),
    sink: (x, order, { axes }) => {
      const stored = axes.map((axis) => order[axis]!).sort((a, b) => a - b);
      return permute(apply(whole, [x], { axes: stored }), order);
    },
    lower: (node, _, { axes }) => {
      const x = node.inputs[0]!;
      const real = axes.filter((axis) => x.shape[axis] !== 1);
      if (real.length < axes.length) return real.length > 0 ? apply(whole, [x], { axes: real }) : x;
      const run = lastRun(x.shape, axes);
      if (run.length < axes.length) {
        const rest = axes.filter((axis) => !run.includes(axis));
        return apply(whole, [apply(whole, [x], { axes: run })], { axes: rest });
      }
      const other = simpler(x, axes);
      if (other) return other;
      const chunks = reductionChunks(node.size, x.size / node.size);
      if (chunks === 1) return node;
      const parts = apply(partial, [x], { axes, chunks });
      return reshape(apply(whole, [parts], { axes: [0] }), node.shape);
    },
    vjp,
  };
  return whole;
}

const Sum = reducing(
  "sum",
  { sums: ["s"], step: "s += v;", results: ["s"] },
  (g, _, [x]) => [broadcastTo(g, x!.shape)],
  factorOut,
);

/**
 * `Σ -a` as `-Σ a`, and `Σ a b` as `(Σ a) b` where b does not vary along the axes: a smaller product,
 * and often a sum that is taken anyway. A single number stays where it is: a small one may be there lest
 * the sum overflow, as in the gradient of a mean. Null where neither fits.
 */
function factorOut(x: Tensor, axes: readonly number[]): Tensor | null {
  const over = (a: Tensor) => apply(Sum, [a], { axes });
  if (x.op === Neg) return neg(over(x.inputs[0]!));
  if (x.op !== Mul) return null;
  const constant = (b: Tensor) =>
    b.size > 1 && axes.every((axis) => (b.shape[axis - x.rank + b.rank] ?? 1) === 1);
  const [a, b] = x.inputs as [Tensor, Tensor];
  if (sameShape(a.shape, x.shape) && constant(b)) return mul(over(a), b);
  if (sameShape(b.shape, x.shape) && constant(a)) return mul(over(b), a);
  return null;
}

/** Sums that are known without adding up, and over which axes. */
const knownSums = new WeakMap<Tensor, { axes: readonly number[]; value: Tensor }>();

/** Notes that the sum of `x` over `axes`, in rising order, is `value`: whoever asks gets that. */
export function noteSum(x: Tensor, axes: readonly number[], value: Tensor): void {
  knownSums.set(x, { axes, value });
}

/** Settings of reductions, such as {@link sum} and {@link max}. */
export interface ReduceOptions {
  /** Whether reduced axes stay, with size 1; false by default. */
  readonly keepDims?: boolean;
}

/** The axes that reduction `op` takes, and whether they stay; it may have `more` options. */
export function checkReduction(
  op: string,
  x: Tensor,
  axes: readonly number[] | undefined,
  options: ReduceOptions,
  more: readonly string[] = [],
): { axes: number[]; keepDims: boolean } {
  checkTensor(op, "x", x, "f32");
  checkOptions(op, options, ["keepDims", ...more]);
  const { keepDims = false } = options;
  checkBoolean(op, "keepDims", keepDims);
  return { axes: normalizeAxes(op, x.rank, axes), keepDims };
}

/** The result of a {@link reducing} op over `axes`, for the function `name`. */
export function reduced(
  op: Op,
  x: Tensor,
  given: readonly number[] | undefined,
  options: ReduceOptions,
  name: string = op.name,
): Tensor {
  const { axes, keepDims } = checkReduction(name, x, given, options);
  const kept = axes.length === 0 ? x : apply(op, [x], { axes });
  return keepDims ? kept : reshape(kept, reduceShape(x.shape, axes, false));
}

/**
 * Sum over `axes`, all of them by default; negative ones count from the end, and an empty list is
 * none, where for PyTorch it is all. The result lacks these axes, or has them with size 1 if
 * `keepDims` is true ({@link https://pytorch.org/docs/stable/generated/torch.sum.html | PyTorch}).
 *
 * @throws {ShapeError} for an axis that x does not have, or one twice.
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
  options: ReduceOptions = {},
): Tensor {
  return reduced(Sum, x, axes, options);
}

/**
 * Mean over `axes`, all of them by default; axes and options are those of {@link sum}
 * ({@link https://pytorch.org/docs/stable/generated/torch.mean.html | PyTorch}).
 *
 * @throws {ShapeError} for an axis that x does not have, or one twice.
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
  options: ReduceOptions = {},
): Tensor {
  const sums = reduced(Sum, x, axes, options, "mean");
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
  const known = knownSums.get(x);
  if (known && sameShape(known.axes, axes)) return reshape(known.value, shape);
  return reshape(sum(x, axes, { keepDims: true }), shape);
}
