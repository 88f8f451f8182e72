/**
 * Shapes: arithmetic on lists of dimension sizes, with no GPU and no tensors.
 * Every shape error of the library is raised through {@link ShapeError}.
 *
 * @module
 */

import { refuse, shown } from "../check/arguments.ts";

/** Dimension sizes, outermost first; `[]` is a scalar. Each is at least 1: no tensor is empty. */
export type Shape = readonly number[];

/**
 * A shape, axis, size or element type that does not fit the operation; the message names the op and
 * the shapes.
 */
export class ShapeError extends Error {
  /** `"ShapeError"`. */
  override name = "ShapeError";
}

/** Number of elements of `shape` (1 for a scalar). */
export function sizeOf(shape: Shape): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** `[4, 3, 6, 6]`, as PyTorch prints it; an entry that is no size is shown as it is. */
export function formatShape(shape: Shape): string {
  return `[${Array.from(shape, shown).join(", ")}]`;
}

/** Whether two shapes are equal, dimension by dimension. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** The number of elements. Throws unless `shape` is a list of positive integers. */
export function checkShape(op: string, shape: Shape): number {
  checkList(op, "shape", shape);
  let size = 1;
  for (const dim of shape as Shape) {
    if (!Number.isSafeInteger(dim) || dim <= 0) {
      throw new ShapeError(
        `${op}: every dimension must be a positive integer, got ${formatShape(shape)}`,
      );
    }
    size *= dim;
  }
  if (!Number.isSafeInteger(size)) {
    throw new ShapeError(`${op}: ${formatShape(shape)} has more elements than can be counted`);
  }
  return size;
}

/** Throws unless argument `name` of `op` is a list, without holes. */
export function checkList(op: string, name: string, list: unknown): asserts list is unknown[] {
  if (!Array.isArray(list)) refuse(op, name, "a list", list);
  for (let i = 0; i < list.length; i++) {
    if (list[i] === undefined) refuse(op, `${name}[${i}]`, "given", undefined);
  }
}

/** The shape that `a` and `b` broadcast to by NumPy's rule. */
export function broadcastShapes(op: string, a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  const out: number[] = [];
  for (let i = 0; i < rank; i++) {
    const m = a[i - rank + a.length] ?? 1;
    const n = b[i - rank + b.length] ?? 1;
    if (m !== n && m !== 1 && n !== 1) {
      throw new ShapeError(
        `${op}: shapes ${formatShape(a)} and ${formatShape(b)} do not broadcast`,
      );
    }
    out.push(m === 1 ? n : m);
  }
  return out;
}

/** Row-major strides, in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i]!;
  }
  return strides;
}

/** Sorted, non-negative, distinct axes; all axes when `axes` is undefined. */
export function normalizeAxes(op: string, rank: number, axes?: readonly number[]): number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i);
  checkList(op, "axes", axes);
  const fit = axes.every((axis) => Number.isInteger(axis) && axis >= -rank && axis < rank);
  const out = fit ? axes.map((axis) => axis < 0 ? axis + rank : axis).sort((a, b) => a - b) : [];
  if (!fit || out.some((axis, i) => axis === out[i - 1])) {
    throw new ShapeError(
      `${op}: axes ${formatShape(axes)} do not fit a tensor of rank ${rank}`,
    );
  }
  return out;
}

/** `shape` with `axes` (sorted) dropped, or kept as 1. */
export function reduceShape(shape: Shape, axes: readonly number[], keepDims: boolean): Shape {
  return keepDims
    ? shape.map((dim, i) => axes.includes(i) ? 1 : dim)
    : shape.filter((_, i) => !axes.includes(i));
}

/** A size for height and width: one number for both, or `[height, width]`. */
export type Pair = number | readonly [number, number];

/** The most of a {@link Pair}: windows and their taps are counted in i32, and in f32. */
const MOST = 2 ** 24;

/** Both members of a {@link Pair}, checked to be integers of at least `least`, and that fit a kernel. */
export function pair(op: string, what: string, value: Pair, least: number): [number, number] {
  const [h, w, ...more] = Array.isArray(value) ? value as unknown[] : [value, value];
  const fits = [h, w].every((x) =>
    Number.isInteger(x) && x as number >= least && x as number <= MOST
  );
  if (!fits || more.length > 0) {
    const got = Array.isArray(value) ? formatShape(value) : shown(value);
    throw new ShapeError(
      `${op}: ${what} must be an integer from ${least} to ${MOST}, or two of them, got ${got}`,
    );
  }
  return [h, w] as [number, number];
}

/** How a window goes over an image, down and across. */
export interface Sliding {
  /** Step from a window to the next. */
  readonly stride: readonly [number, number];
  /** Cells added on every side. */
  readonly padding: readonly [number, number];
  /** Cells from a tap of the window to the next; 1 if absent. */
  readonly dilation?: readonly [number, number];
  /** Whether the last windows may begin inside and end outside (PyTorch's `ceil_mode`). */
  readonly ceilMode?: boolean;
}

/** How many windows of `kernel` taps there are, down and across, over `pixels`. */
export function windowCounts(
  op: string,
  pixels: readonly [number, number],
  kernel: readonly [number, number],
  { stride, padding, dilation = [1, 1], ceilMode = false }: Sliding,
): [number, number] {
  const count = (axis: 0 | 1) => {
    const step = stride[axis], around = padding[axis], size = pixels[axis];
    const window = dilation[axis] * (kernel[axis] - 1) + 1, room = size + 2 * around - window;
    const fits = Math.floor((ceilMode ? room + step - 1 : room) / step) + 1;
    const windows = ceilMode ? Math.min(fits, Math.ceil((size + around) / step)) : fits;
    if (windows >= 1) return windows;
    throw new ShapeError(
      `${op}: a window of ${window} is larger than the padded input, ${size} + 2 × ${around}`,
    );
  };
  return [count(0), count(1)];
}

/** The next multiple of 4: what vectors of four cover n elements with. */
export const ceil4 = (n: number): number => Math.ceil(n / 4) * 4;

/** The shape of what has four dimensions. */
export type Four = readonly [number, number, number, number];

/** The sizes of a tensor of four dimensions. */
export const four = ({ shape }: { readonly shape: Shape }): Four => shape as Four;
