/**
 * Views: the same elements under another shape. They cost nothing if the reader can follow
 * strides (elementwise ops, reductions) and one copy if it cannot.
 *
 * @module
 */

import { arrays, perThread } from "../kernels/kernel.ts";
import { shown } from "../check/arguments.ts";
import {
  checkList,
  checkShape,
  formatShape,
  normalizeAxes,
  sameShape,
  type Shape,
  ShapeError,
  sizeOf,
  stridesOf,
} from "../graph/shape.ts";
import {
  apply,
  checkTensor,
  type DType,
  inverseOrder,
  isOrder,
  type Op,
  type StridedView,
  type Tensor,
} from "../graph/tensor.ts";
import { sumTo } from "./reduce.ts";

/** Whether `view` reads the elements of `shape` in row-major order. */
export function isContiguous(shape: Shape, view: StridedView): boolean {
  const strides = stridesOf(shape);
  return shape.every((dim, i) => dim === 1 || view.strides[i] === strides[i]);
}

/** The element type of `x`, whose elements must be words: bytes cannot be addressed one by one. */
export function wordType(op: string, x: Tensor): DType {
  if (x.dtype === "u8") throw new ShapeError(`${op}: works on f32 and u32 tensors, got ${x}`);
  return x.dtype;
}

/** {@link reshape}. */
export const Reshape: Op<{ shape: Shape }> = {
  name: "reshape",
  shape: (_, { shape }) => shape,
  dtype: ([x]) => x!.dtype,
  view: (x, { shape }) => {
    if (isContiguous(x.shape, x)) return { offset: x.offset, strides: stridesOf(shape) };
    // Only axes of size 1 come or go: the others keep their strides.
    const strides = x.strides.filter((_, i) => x.shape[i] !== 1);
    if (!sameShape(x.shape.filter((d) => d !== 1), shape.filter((d) => d !== 1))) return null;
    let next = 0;
    return { offset: x.offset, strides: shape.map((dim) => dim === 1 ? 0 : strides[next++]!) };
  },
  vjp: (g, _, [x]) => [reshape(g, x!.shape)],
};

/**
 * The same elements, in row-major order, as a tensor of `shape`; one dimension may be -1 and is
 * then inferred ({@link https://pytorch.org/docs/stable/generated/torch.reshape.html | PyTorch}).
 *
 * @throws {ShapeError} if the elements do not fill the shape.
 *
 * @example
 * ```ts
 * import { reshape, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(reshape(tensor([1, 2, 3, 4, 5, 6]), [2, -1]).shape, [2, 3]);
 * ```
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  checkTensor("reshape", "x", x);
  checkList("reshape", "shape", shape);
  const known = shape.filter((dim) => dim !== -1);
  checkShape("reshape", known);
  const full = shape.map((dim) => dim === -1 ? x.size / sizeOf(known) : dim);
  const fits = full.every(Number.isInteger) && sizeOf(full) === x.size;
  if (shape.length > known.length + 1 || !fits) {
    throw new ShapeError(
      `reshape: ${formatShape(x.shape)} does not fit into ${formatShape(shape)}`,
    );
  }
  return sameShape(full, x.shape) ? x : apply(Reshape, [x], { shape: full });
}

/**
 * `[N, …]` as `[N, rest]` ({@link https://pytorch.org/docs/stable/generated/torch.flatten.html | PyTorch} from axis 1 on).
 *
 * @throws {ShapeError} for a scalar.
 *
 * @example
 * ```ts
 * import { flatten, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(flatten(input("x", [2, 3, 4, 4])).shape, [2, 48]);
 * ```
 */
export function flatten(x: Tensor): Tensor {
  checkTensor("flatten", "x", x);
  if (x.rank < 1) throw new ShapeError("flatten: needs at least one dimension, got a scalar");
  return reshape(x, [x.shape[0]!, x.size / x.shape[0]!]);
}

const Permute: Op<{ order: readonly number[] }> = {
  name: "permute",
  dtype: ([x]) => wordType("permute", x!),
  shape: ([x], { order }) => order.map((axis) => x!.shape[axis]!),
  view: (x, { order }) => ({
    offset: x.offset,
    strides: order.map((axis) => x.strides[axis]!),
  }),
  vjp: (g, _, _x, { order }) => [permute(g, inverseOrder(order))],
};

/**
 * Dimensions reordered: axis `i` of the result is axis `order[i]` of `x`, f32 or u32
 * ({@link https://pytorch.org/docs/stable/generated/torch.permute.html | PyTorch}).
 *
 * @throws {ShapeError} if `order` does not have each axis once; a negative one counts from the end.
 *
 * @example
 * ```ts
 * import { evaluate, permute, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = permute(tensor([[1, 2], [3, 4]]), [1, 0]);
 * assertEquals(await evaluate(y), new Float32Array([1, 3, 2, 4]));
 * ```
 */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  checkTensor("permute", "x", x);
  checkList("permute", "order", order);
  const fromStart = order.map((axis) => axis < 0 ? axis + x.rank : axis);
  if (!isOrder(fromStart, x.rank)) {
    throw new ShapeError(
      `permute: order ${formatShape(order)} must have each axis of ${formatShape(x.shape)} once`,
    );
  }
  return apply(Permute, [x], { order: fromStart });
}

/** The order of a {@link permute} node, or undefined for any other node. */
export function permuteOrder(node: Tensor): readonly number[] | undefined {
  return node.op === Permute ? node.attrs["order"] as readonly number[] : undefined;
}

/** {@link broadcastTo}. */
export const BroadcastTo: Op<{ shape: Shape }> = {
  name: "broadcastTo",
  dtype: ([x]) => wordType("broadcastTo", x!),
  shape: ([x], { shape }) => {
    const lead = shape.length - x!.rank;
    if (lead < 0 || !x!.shape.every((dim, i) => dim === 1 || dim === shape[i + lead])) {
      throw new ShapeError(
        `broadcastTo: ${formatShape(x!.shape)} does not broadcast to ${formatShape(shape)}`,
      );
    }
    return shape;
  },
  view: (x, { shape }) => {
    const lead = shape.length - x.shape.length;
    return {
      offset: x.offset,
      strides: shape.map((_, i) => i < lead || x.shape[i - lead] === 1 ? 0 : x.strides[i - lead]!),
    };
  },
  vjp: (g, _, [x]) => [sumTo(g, x!.shape)],
};

/**
 * `x`, f32 or u32, repeated along axes of size 1, and along new leading ones, to fill `shape`
 * ({@link https://pytorch.org/docs/stable/generated/torch.broadcast_to.html | PyTorch}).
 *
 * @throws {ShapeError} if `x` does not broadcast to it.
 *
 * @example
 * ```ts
 * import { broadcastTo, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = broadcastTo(tensor([1, 2]), [2, 2]);
 * assertEquals(await evaluate(y), new Float32Array([1, 2, 1, 2]));
 * ```
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  checkTensor("broadcastTo", "x", x);
  checkShape("broadcastTo", shape);
  wordType("broadcastTo", x);
  return sameShape(x.shape, shape) ? x : apply(BroadcastTo, [x], { shape });
}

const Select: Op<{ index: number }> = {
  name: "select",
  dtype: ([x]) => wordType("select", x!),
  shape: ([x]) => x!.shape.slice(1),
  view: (x, { index }) => ({
    offset: x.offset + index * x.strides[0]!,
    strides: x.strides.slice(1),
  }),
  vjp: (g, _, [x], { index }) => [apply(Unselect, [g], { index, count: x!.shape[0]! })],
};

/**
 * The `index`-th slice along the first axis, `[K, …]` → `[…]`, f32 or u32; the first is 0, the last -1
 * ({@link https://pytorch.org/docs/stable/generated/torch.select.html | PyTorch} of axis 0).
 *
 * @throws {ShapeError} if there is no such index.
 *
 * @example
 * ```ts
 * import { evaluate, select, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = select(tensor([[1, 2], [3, 4]]), 1);
 * assertEquals(await evaluate(y), new Float32Array([3, 4]));
 * ```
 */
export function select(x: Tensor, index: number): Tensor {
  checkTensor("select", "x", x);
  const count = x.shape[0] ?? 0;
  if (!(Number.isInteger(index) && index >= -count && index < count)) {
    throw new ShapeError(
      `select: there is no index ${shown(index)} on the first axis of ${formatShape(x.shape)}`,
    );
  }
  return apply(Select, [x], { index: index < 0 ? index + count : index });
}

/** `count` slices of zeros, of which the `index`-th is the input: the gradient of select. */
const Unselect: Op<{ index: number; count: number }> = {
  name: "unselect",
  shape: ([x], { count }) => [count, ...x!.shape],
  kernels: (node, target, { index }) => {
    const n = node.inputs[0]!.size, start = n * index;
    return [perThread(
      arrays({ x: "f32", y: "f32" }),
      node.size,
      target,
      `  y[i] = select(0.0, x[i - ${start}u], i >= ${start}u && i < ${start + n}u);`,
    )];
  },
  vjp: (g, _, _x, { index }) => [select(g, index)],
};

/**
 * `x` without axes of size 1: without all of them, or without those that are in `axes`; other axes
 * stay. Negative axes count from the end
 * ({@link https://pytorch.org/docs/stable/generated/torch.squeeze.html | PyTorch}).
 *
 * @throws {ShapeError} for an axis that x does not have, or one twice.
 *
 * @example
 * ```ts
 * import { input, squeeze } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(squeeze(input("x", [1, 3, 1])).shape, [3]);
 * assertEquals(squeeze(input("x", [1, 3, 1]), [0, 1]).shape, [3, 1]);
 * ```
 */
export function squeeze(x: Tensor, axes?: readonly number[]): Tensor {
  checkTensor("squeeze", "x", x);
  if (axes !== undefined) checkList("squeeze", "axes", axes);
  const over = normalizeAxes("squeeze", x.rank, axes);
  return reshape(x, x.shape.filter((size, axis) => size !== 1 || !over.includes(axis)));
}

/**
 * `x` with a new axis of size 1, which is axis `axis` of the result; -1 puts it last
 * ({@link https://pytorch.org/docs/stable/generated/torch.unsqueeze.html | PyTorch}).
 *
 * @throws {ShapeError} for an axis that the result does not have.
 *
 * @example
 * ```ts
 * import { input, unsqueeze } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(unsqueeze(input("x", [2, 3]), -1).shape, [2, 3, 1]);
 * ```
 */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  checkTensor("unsqueeze", "x", x);
  const [at] = normalizeAxes("unsqueeze", x.rank + 1, [axis]) as [number];
  return reshape(x, x.shape.toSpliced(at, 0, 1));
}
