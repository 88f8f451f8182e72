/**
 * Parts of tensors, and tensors made of parts: slices and flips are views; joining and padding copy.
 * All throw an ArgumentError for what is no tensor, and a ShapeError for shapes that do not fit.
 * Everything here is public.
 *
 * @module
 */

import { checkNumber, checkOptions, refuse } from "../check/arguments.ts";
import { arrays, type Binding, perThread } from "../kernels/kernel.ts";
import {
  checkList,
  formatShape,
  normalizeAxes,
  sameShape,
  type Shape,
  ShapeError,
  sizeOf,
} from "../graph/shape.ts";
import {
  apply,
  type Attrs,
  checkTensor,
  inverseOrder,
  type Op,
  type Tensor,
} from "../graph/tensor.ts";
import { permute, permuteOrder, reshape, wordType } from "./view.ts";

/** Which elements along each axis: a first one, and the step to the next. */
interface Lattice extends Attrs {
  readonly starts: readonly number[];
  readonly steps: readonly number[];
  /** Of the result. */
  readonly shape: Shape;
}

/** A lattice of `permute(x, order)` as one of x. */
function stored({ starts, steps, shape }: Lattice, order: readonly number[]): Lattice {
  const inverse = inverseOrder(order), of = <T>(list: readonly T[]) => inverse.map((i) => list[i]!);
  return { starts: of(starts), steps: of(steps), shape: of(shape) };
}

const Slice: Op<Lattice> = {
  name: "slice",
  dtype: ([x]) => wordType("slice", x!),
  shape: (_, { shape }) => shape,
  view: ({ offset, strides }, { starts, steps }) => ({
    offset: starts.reduce((sum, start, axis) => sum + start * strides[axis]!, offset),
    strides: strides.map((stride, axis) => stride * steps[axis]!),
  }),
  sink: (x, order, lattice) => permute(apply(Slice, [x], stored(lattice, order)), order),
  vjp: (g, _, [x], { starts, steps }) => {
    if (steps.every((step) => step > 0)) return [place(g, { starts, steps, shape: x!.shape }, 0)];
    return [flip(g, steps.flatMap((step, axis) => step < 0 ? [axis] : []))];
  },
};

/**
 * The first element, the end and the step along an axis, as in Python. Without an end, or with
 * null, it goes to the end of the axis. The step is 1 by default, and at least 1: {@link flip}
 * reverses.
 */
export type Range = readonly [start: number, end?: number | null, step?: number];

/**
 * Every `step`-th element from `start` to before `end`, for as many leading axes as there are
 * ranges; null takes all of an axis. As in Python, negative numbers count from the end, and an end
 * beyond the axis is its end. f32 or u32
 * ({@link https://pytorch.org/docs/stable/generated/torch.narrow.html | PyTorch} writes
 * `x[a:b:c]`).
 *
 * @throws {ArgumentError} for a range that is none.
 * @throws {ShapeError} if there are more ranges than axes, or nothing is in one.
 *
 * @example The second row, and every other column
 * ```ts
 * import { evaluate, slice, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([[1, 2, 3, 4], [5, 6, 7, 8]]);
 * const y = slice(x, [[1, 2], [0, null, 2]]);
 * assertEquals(y.shape, [1, 2]);
 * assertEquals(await evaluate(y), new Float32Array([5, 7]));
 * ```
 */
export function slice(x: Tensor, ranges: readonly (Range | null)[]): Tensor {
  checkTensor("slice", "x", x);
  checkList("slice", "ranges", ranges);
  if (ranges.length > x.rank) {
    throw new ShapeError(
      `slice: there are ${ranges.length} ranges for the ${x.rank} axes of ${formatShape(x.shape)}`,
    );
  }
  const starts: number[] = [], steps: number[] = [], shape: number[] = [];
  x.shape.forEach((size, axis) => {
    const range = ranges[axis] ?? [0];
    checkList("slice", `ranges[${axis}]`, range);
    if (range.length < 1 || range.length > 3) {
      refuse("slice", `ranges[${axis}]`, "[start], [start, end] or [start, end, step]", range);
    }
    const [start, last, step = 1] = range as Range, end = last ?? size;
    checkNumber("slice", `ranges[${axis}], start,`, start, { integer: true, min: -(2 ** 31) });
    checkNumber("slice", `ranges[${axis}], end,`, end, { integer: true, min: -(2 ** 31) });
    checkNumber("slice", `ranges[${axis}], step,`, step, { integer: true, min: 1 });
    const inside = (at: number) => Math.max(0, Math.min(size, at < 0 ? at + size : at));
    const count = Math.ceil((inside(end) - inside(start)) / step);
    if (count <= 0) {
      throw new ShapeError(
        `slice: there is nothing from ${start} to before ${end} on axis ${axis} of ${
          formatShape(x.shape)
        }`,
      );
    }
    starts.push(inside(start));
    steps.push(step);
    shape.push(count);
  });
  return sameShape(shape, x.shape) ? x : apply(Slice, [x], { starts, steps, shape });
}

/**
 * The elements along `axes` in reverse; negative axes count from the end. f32 or u32
 * ({@link https://pytorch.org/docs/stable/generated/torch.flip.html | PyTorch}).
 *
 * @throws {ShapeError} for an axis that x does not have, or one twice.
 *
 * @example
 * ```ts
 * import { evaluate, flip, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = flip(tensor([[1, 2, 3], [4, 5, 6]]), [-1]);
 * assertEquals(await evaluate(y), new Float32Array([3, 2, 1, 6, 5, 4]));
 * ```
 */
export function flip(x: Tensor, axes: readonly number[]): Tensor {
  checkTensor("flip", "x", x);
  wordType("flip", x);
  checkList("flip", "axes", axes);
  const over = normalizeAxes("flip", x.rank, axes);
  const { shape } = x, turned = (axis: number) => over.includes(axis);
  if (over.length === 0) return x;
  return apply(Slice, [x], {
    starts: shape.map((size, axis) => turned(axis) ? size - 1 : 0),
    steps: shape.map((_, axis) => turned(axis) ? -1 : 1),
    shape,
  });
}

/**
 * Consecutive parts along `axis`, the first by default: of `sizes` elements each, the last one
 * maybe smaller; or of as many as a list says. f32 or u32
 * ({@link https://pytorch.org/docs/stable/generated/torch.split.html | PyTorch}).
 *
 * @throws {ArgumentError} for a size that is no positive integer.
 * @throws {ShapeError} for an axis that x does not have, or a list that does not add up to its
 * size.
 *
 * @example
 * ```ts
 * import { split, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const parts = split(tensor([[1, 2, 3], [4, 5, 6]]), 2, 1);
 * assertEquals(parts.map(({ shape }) => shape), [[2, 2], [2, 1]]);
 * ```
 */
export function split(x: Tensor, sizes: number | readonly number[], axis = 0): Tensor[] {
  checkTensor("split", "x", x);
  const [at] = normalizeAxes("split", x.rank, [axis]) as [number];
  const length = x.shape[at]!;
  if (typeof sizes === "number") {
    checkNumber("split", "sizes", sizes, { integer: true, min: 1 });
    const count = Math.ceil(length / sizes), each = sizes;
    sizes = Array.from({ length: count }, (_, i) => Math.min(each, length - i * each));
  }
  checkList("split", "sizes", sizes);
  sizes.forEach((size, i) => checkNumber("split", `sizes[${i}]`, size, { integer: true, min: 1 }));
  const total = sizes.reduce((a, b) => a + b, 0);
  if (total !== length) {
    throw new ShapeError(
      `split: sizes ${formatShape(sizes)} are ${total} together, and axis ${at} of ${
        formatShape(x.shape)
      } has ${length}`,
    );
  }
  let start = 0;
  return sizes.map((size) => {
    const range: Range = [start, start += size];
    return slice(x, x.shape.map((_, i) => i === at ? range : null));
  });
}

const Place: Op<Lattice & { fill: number }> = {
  name: "place",
  shape: (_, { shape }) => shape,
  kernels: (node, target, { starts, steps, shape, fill }) => {
    const x = node.inputs[0]!;
    // Neighbouring axes that are taken whole are one.
    const axes: { size: number; count: number; start: number; step: number; whole: boolean }[] = [];
    shape.forEach((size, axis) => {
      const count = x.shape[axis]!, whole = count === size, last = axes.at(-1);
      if (whole && last?.whole) {
        last.size *= size;
        last.count *= size;
      } else {
        // A step along an axis of size 1 leads nowhere; it is not that of the axes that join it.
        axes.push({ size, count, start: starts[axis]!, step: whole ? 1 : steps[axis]!, whole });
      }
    });
    const end = axes.at(-1);
    const width =
      end && end.step === 1 && [end.size, end.count, end.start].every((n) => n % 4 === 0) ? 4 : 1;
    if (end && width === 4) {
      for (const field of ["size", "count", "start"] as const) end[field] /= 4;
    }
    const sizes: Record<string, number> = {};
    const lines = axes.map(({ size, count, start, step }, k) => {
      Object.assign(sizes, {
        [`inner${k}`]: sizeOf(axes.slice(k + 1).map((axis) => axis.size)),
        [`size${k}`]: size,
        [`count${k}`]: count,
        [`start${k}`]: start,
        [`step${k}`]: step,
        [`below${k}`]: sizeOf(axes.slice(k + 1).map((axis) => axis.count)),
      });
      // What lies before the start wraps around to a large number.
      return `  let d${k} = i / z.inner${k} % z.size${k} - z.start${k}; let n${k} = d${k} / z.step${k};
  inside &= (n${k} < z.count${k}) & (d${k} % z.step${k} == 0u); at += n${k} * z.below${k};`;
    });
    const type = width === 4 ? "vec4f" : "f32";
    return [perThread(
      arrays({ x: type, y: type }),
      node.size / width,
      target,
      `  var inside = true; var at = 0u;
${lines.join("\n")}
  y[i] = select(${type}(z.fill), x[select(0u, at, inside)], inside);`,
      { sizes, numbers: { fill } },
    )];
  },
  sink: (x, order, { fill, ...lattice }) =>
    permute(apply(Place, [x], { ...stored(lattice, order), fill }), order),
  vjp: (g, _, [x], { starts, steps }) => [apply(Slice, [g], { starts, steps, shape: x!.shape })],
};

/** `x` at its places in a tensor of `shape` that is `fill` elsewhere. */
function place(x: Tensor, { starts, steps, shape }: Lattice, fill: number): Tensor {
  return apply(Place, [x], { starts, steps, shape, fill });
}

/** Settings of {@link pad}. */
export interface PadOptions {
  /** What the new elements are; 0 by default. */
  readonly value?: number;
}

/**
 * Elements of one value added around `x`, f32: `pads` has how many before and behind the last axis,
 * then before and behind the one before it, and so on
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.pad.html | PyTorch}).
 *
 * @throws {ArgumentError} for a number of elements that is negative: {@link slice} removes.
 * @throws {ShapeError} if there are not two numbers for each of the last axes.
 *
 * @example
 * ```ts
 * import { evaluate, pad, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(pad(tensor([1, 2]), [1, 2])), new Float32Array([0, 1, 2, 0, 0]));
 * ```
 */
export function pad(x: Tensor, pads: readonly number[], options: PadOptions = {}): Tensor {
  checkTensor("pad", "x", x, "f32");
  checkList("pad", "pads", pads);
  checkOptions("pad", options, ["value"]);
  const { value = 0 } = options;
  if (typeof value !== "number") refuse("pad", "value", "a number", value);
  if (pads.length % 2 !== 0 || pads.length > 2 * x.rank) {
    throw new ShapeError(
      `pad: pads must be two for each of up to ${x.rank} axes of ${formatShape(x.shape)}, got ${
        formatShape(pads)
      }`,
    );
  }
  pads.forEach((n, i) =>
    checkNumber("pad", `pads[${i}]`, n, { integer: true, min: 0, max: 2 ** 24 })
  );
  const around = (axis: number, side: 0 | 1) => pads[2 * (x.rank - 1 - axis) + side] ?? 0;
  const shape = x.shape.map((size, axis) => around(axis, 0) + size + around(axis, 1));
  if (sameShape(shape, x.shape)) return x;
  const starts = shape.map((_, axis) => around(axis, 0));
  return place(x, { starts, steps: shape.map(() => 1), shape }, value);
}

const Concat: Op<{ axis: number }> = {
  name: "concat",
  accepts: "any",
  dtype: ([x]) => wordType("concat", x!),
  shape: (inputs, { axis }) =>
    inputs[0]!.shape.with(axis, inputs.reduce((sum, x) => sum + x.shape[axis]!, 0)),
  lower: (node, target, { axis }) => {
    const { inputs } = node, order = permuteOrder(inputs[0]!);
    if (order && inputs.every((x) => sameShape(permuteOrder(x) ?? [], order))) {
      const inner = inputs.map((x) => x.inputs[0]!);
      return permute(apply(Concat, inner, { axis: order[axis]! }), order);
    }
    const most = target.maxStorageBuffers - 1;
    if (inputs.length <= most) return node;
    const parts = Array.from({ length: Math.ceil(inputs.length / most) }, (_, i) => {
      const some = inputs.slice(i * most, (i + 1) * most);
      return some.length === 1 ? some[0]! : apply(Concat, some, { axis });
    });
    return apply(Concat, parts, { axis });
  },
  kernels: (node, target, { axis }) => {
    const columns = node.inputs.map((x) => sizeOf(x.shape.slice(axis)));
    const width = columns.every((n) => n % 4 === 0) ? 4 : 1;
    const type = `${width === 4 ? "vec4" : ""}${
      width === 4 ? node.dtype[0] : node.dtype
    }` as Binding["type"];
    const sizes: Record<string, number> = { columns: sizeOf(node.shape.slice(axis)) / width };
    let end = 0;
    const branches = columns.map((n, k) => {
      const start = end;
      end += n / width;
      Object.assign(sizes, { [`n${k}`]: n / width, [`start${k}`]: start, [`end${k}`]: end });
      return `if (column < z.end${k}) { y[i] = x${k}[row * z.n${k} + column - z.start${k}]; }`;
    });
    return [perThread(
      arrays({
        ...Object.fromEntries(columns.map((_, k) => [`x${k}`, type])),
        y: type,
      }),
      node.size / width,
      target,
      `  let row = i / z.columns; let column = i % z.columns;
  ${branches.join("\n  else ")}`,
      { sizes },
    )];
  },
  vjp: (g, _, inputs, { axis }) => split(g, inputs.map((x) => x.shape[axis]!), axis),
};

/**
 * Tensors one after the other along `axis`, the first by default; their other sizes are equal, and
 * all are f32 or all u32
 * ({@link https://pytorch.org/docs/stable/generated/torch.cat.html | PyTorch's cat}).
 *
 * @throws {ArgumentError} for an empty list.
 * @throws {ShapeError} if they do not fit each other, or are scalars: {@link stack} takes those.
 *
 * @example
 * ```ts
 * import { concat, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = concat([tensor([[1], [2]]), tensor([[3, 4], [5, 6]])], 1);
 * assertEquals(y.shape, [2, 3]);
 * assertEquals(await evaluate(y), new Float32Array([1, 3, 4, 2, 5, 6]));
 * ```
 */
export function concat(xs: readonly Tensor[], axis = 0): Tensor {
  return joined("concat", xs, axis);
}

/** {@link concat}, for the function `op`. */
function joined(op: string, xs: readonly Tensor[], axis: number): Tensor {
  checkList(op, "xs", xs);
  const [first] = xs;
  if (!first) refuse(op, "xs", "one tensor or more", xs);
  xs.forEach((x, i) => checkTensor(op, `xs[${i}]`, x));
  if (first.rank === 0) throw new ShapeError(`${op}: needs at least one dimension, got a scalar`);
  const [at] = normalizeAxes(op, first.rank, [axis]) as [number];
  for (const x of xs) {
    const fits = x.rank === first.rank && sameShape(x.shape.with(at, 1), first.shape.with(at, 1)) &&
      x.dtype === first.dtype;
    if (fits) continue;
    throw new ShapeError(
      `${op}: ${x} and ${first} must have the same type and sizes, but for axis ${at}`,
    );
  }
  if (xs.length === 1) return first;
  wordType(op, first);
  return apply(Concat, xs, { axis: at });
}

/**
 * Tensors of one shape, side by side along a new `axis`, the first by default; all are f32 or all
 * u32 ({@link https://pytorch.org/docs/stable/generated/torch.stack.html | PyTorch}).
 *
 * @throws {ArgumentError} for an empty list.
 * @throws {ShapeError} if they do not fit each other, or there is no such axis.
 *
 * @example
 * ```ts
 * import { evaluate, stack, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = stack([tensor([1, 2]), tensor([3, 4])], 1);
 * assertEquals(await evaluate(y), new Float32Array([1, 3, 2, 4]));
 * ```
 */
export function stack(xs: readonly Tensor[], axis = 0): Tensor {
  checkList("stack", "xs", xs);
  xs.forEach((x, i) => {
    checkTensor("stack", `xs[${i}]`, x);
    if (sameShape(x.shape, xs[0]!.shape)) return;
    throw new ShapeError(`stack: ${x} has another shape than ${xs[0]}`);
  });
  const rank = (xs[0]?.rank ?? 0) + 1;
  const [at] = normalizeAxes("stack", rank, [axis]) as [number];
  return joined("stack", xs.map((x) => reshape(x, x.shape.toSpliced(at, 0, 1))), at);
}
