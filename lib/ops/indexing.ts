/**
 * Elements at indices that other tensors hold, and tensors cast to another element type. Everything
 * here is public.
 *
 * @module
 */

import { checkChoice } from "../check/arguments.ts";
import { arrays, perThread, summing, vectorOf } from "../kernels/kernel.ts";
import {
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
  checkIndices,
  checkTensor,
  type DType,
  type Op,
  type Tensor,
} from "../graph/tensor.ts";
import { oneHot } from "./classification.ts";
import { matmul } from "./matmul.ts";
import { reshape } from "./view.ts";

const Embedding: Op = {
  name: "embedding",
  accepts: ["f32", "u32"],
  shape: ([table, indices]) => [...indices!.shape, ...table!.shape.slice(1)],
  below: ({ inputs: [table] }) => [undefined, table!.shape[0]],
  kernels: (node, target) => {
    const [table] = node.inputs as [Tensor];
    const each = table.size / table.shape[0]!, [type, width] = vectorOf(each);
    return [perThread(
      arrays({ table: type, indices: "u32", y: type }),
      node.size / width,
      target,
      `  let row = indices[i / z.each]; var nan = 0x7fc00000u;
  let there = row < z.rows;
  y[i] = select(${type}(bitcast<f32>(nan)), table[select(0u, row, there) * z.each + i % z.each], there);`,
      { sizes: { each: each / width, rows: table.shape[0]! } },
    )];
  },
  vjp: (g, _, [table, indices]) => [
    apply(EmbeddingGrad, [g, indices!], { shape: table!.shape }),
    null,
  ],
};

/** Of each row of the table, the sum of the gradients of where it was taken. */
const EmbeddingGrad: Op<{ shape: Shape }> = {
  name: "embeddingGrad",
  accepts: ["f32", "u32"],
  shape: (_, { shape }) => shape,
  // The rows that were taken are one-hot rows times the table, if a device holds those.
  lower: (node, target) => {
    const [g, indices] = node.inputs as [Tensor, Tensor], rows = node.shape[0]!;
    const taken = indices.size, each = node.size / rows;
    if (4 * taken * rows > target.maxBindingBytes) return node;
    const hits = oneHot(reshape(indices, [taken]), rows);
    const sums = matmul(hits, reshape(g, [taken, each]), { transposeA: true });
    return reshape(sums, node.shape);
  },
  kernels: (node, target) => {
    const taken = node.inputs[1]!.size, rows = node.shape[0]!;
    const each = node.size / rows, [type, width] = vectorOf(each);
    return [perThread(
      arrays({ g: type, indices: "u32", y: type }),
      node.size / width,
      target,
      `  let row = i / z.each; let column = i % z.each;
  var s = ${type}(0.0);
${
        summing(
          ["s"],
          type,
          { index: "k", from: "0u", end: "z.taken", most: taken },
          "        if (indices[k] == row) { s += g[k * z.each + column]; }",
        )
      }
  y[i] = s;`,
      { sizes: { each: each / width, taken } },
    )];
  },
  vjp: (u, _, [_g, indices]) => [apply(Embedding, [u, indices!], {}), null],
};

/**
 * Rows of `table`, f32 `[rows, …]`, by u32 `indices` of any shape → `[…indices, …]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.embedding.html | PyTorch}).
 * Its gradient is a product with one-hot rows, so NaN or infinity in what comes back for one row
 * gives NaN for all of them, not for that row alone.
 *
 * @throws {ArgumentError} for an index that is not below `rows`; a wrong one that is computed on
 * the device gives NaN.
 * @throws {ShapeError} if the table is a scalar, or an element type does not fit.
 *
 * @example
 * ```ts
 * import { embedding, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = embedding(tensor([[1, 2], [3, 4]]), tensor(Uint32Array.of(1, 0, 1)));
 * assertEquals(await evaluate(y), new Float32Array([3, 4, 1, 2, 3, 4]));
 * ```
 */
export function embedding(table: Tensor, indices: Tensor): Tensor {
  checkTensor("embedding", "table", table, "f32");
  checkTensor("embedding", "indices", indices, "u32");
  if (table.rank < 1) throw new ShapeError("embedding: table needs a first axis, got a scalar");
  checkIndices("embedding", "indices", indices, table.shape[0]!);
  return apply(Embedding, [table, indices], {});
}

interface Along extends Attrs {
  readonly axis: number;
}

/** Sizes before, along and behind an axis. */
const around = ({ shape }: Tensor, axis: number) => ({
  length: shape[axis]!,
  inner: sizeOf(shape.slice(axis + 1)),
});

const TakeAlong: Op<Along> = {
  name: "takeAlong",
  accepts: ["f32", "u32"],
  shape: ([_, indices]) => indices!.shape,
  below: ({ inputs: [x], attrs: { axis } }) => [undefined, x!.shape[axis as number]],
  kernels: (node, target, { axis }) => {
    const [x] = node.inputs as [Tensor];
    const { length, inner } = around(x, axis);
    return [perThread(
      arrays({ x: "f32", indices: "u32", y: "f32" }),
      node.size,
      target,
      `  let at = indices[i]; var nan = 0x7fc00000u; let there = at < z.length;
  let outer = i / z.inner / z.taken;
  let source = (outer * z.length + select(0u, at, there)) * z.inner + i % z.inner;
  y[i] = select(bitcast<f32>(nan), x[source], there);`,
      { sizes: { length, inner, taken: node.shape[axis]! } },
    )];
  },
  vjp: (g, _, [x, indices], { axis }) => [
    apply(TakeAlongGrad, [g, indices!], { axis, length: x!.shape[axis]! }),
    null,
  ],
};

/** Of each element of x, the sum of the gradients of where it was taken; in their order. */
const TakeAlongGrad: Op<Along & { length: number }> = {
  name: "takeAlongGrad",
  accepts: ["f32", "u32"],
  shape: ([g], { axis, length }) => g!.shape.with(axis, length),
  kernels: (node, target, { axis }) => {
    const [g] = node.inputs as [Tensor];
    const { length, inner } = around(node, axis);
    return [perThread(
      arrays({ g: "f32", indices: "u32", y: "f32" }),
      node.size,
      target,
      `  let at = i / z.inner % z.length; var sum = 0.0;
  var source = i / z.inner / z.length * z.taken * z.inner + i % z.inner;
  for (var k = 0u; k < z.taken; k++) {
    if (indices[source] == at) { sum += g[source]; }
    source += z.inner;
  }
  y[i] = sum;`,
      { sizes: { length, inner, taken: g.shape[axis]! } },
    )];
  },
  vjp: (u, _, [_g, indices], { axis }) => [apply(TakeAlong, [u, indices!], { axis }), null],
};

/**
 * Elements of `x`, f32, along `axis` by u32 `indices`. Indices and result have the shape of x but
 * for this axis; a negative axis counts from the end
 * ({@link https://pytorch.org/docs/stable/generated/torch.gather.html | PyTorch's gather}, whose
 * indices may be fewer on other axes, too).
 *
 * @throws {ArgumentError} for an index that is not below the size of the axis; a wrong one that is
 * computed on the device gives NaN.
 * @throws {ShapeError} if a shape, the axis or an element type does not fit.
 *
 * @example
 * ```ts
 * import { evaluate, takeAlong, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = takeAlong(tensor([[1, 2], [3, 4]]), tensor(Uint32Array.of(1, 0), [2, 1]), 1);
 * assertEquals(await evaluate(y), new Float32Array([2, 3]));
 * ```
 */
export function takeAlong(x: Tensor, indices: Tensor, axis: number): Tensor {
  checkTensor("takeAlong", "x", x, "f32");
  checkTensor("takeAlong", "indices", indices, "u32");
  const [at] = normalizeAxes("takeAlong", x.rank, [axis]) as [number];
  if (indices.rank !== x.rank || !sameShape(indices.shape.with(at, 1), x.shape.with(at, 1))) {
    throw new ShapeError(
      `takeAlong: indices ${formatShape(indices.shape)} must have the shape of x, ${
        formatShape(x.shape)
      }, but for axis ${at}`,
    );
  }
  checkIndices("takeAlong", "indices", indices, x.shape[at]!);
  return apply(TakeAlong, [x, indices], { axis: at });
}

/** WGSL of element `i` of `x`, and of what it becomes. */
const READ = { f32: "x[i]", u32: "x[i]", u8: "((x[i / 4u] >> (i % 4u * 8u)) & 255u)" } as const;

const Cast: Op<{ dtype: DType }> = {
  name: "cast",
  accepts: "any",
  shape: ([x]) => x!.shape,
  dtype: (_, { dtype }) => dtype,
  kernels: (node, target, { dtype: to }) => {
    const from = node.inputs[0]!.dtype;
    const value = (i: string) => READ[from].replaceAll(/\bi\b/g, i);
    const bindings = arrays({
      x: from === "f32" ? "f32" : "u32",
      y: to === "f32" ? "f32" : "u32",
    });
    if (to !== "u8") {
      const type = to === "f32" ? "f32" : "u32";
      return [perThread(bindings, node.size, target, `  y[i] = ${type}(${value("i")});`)];
    }
    return [perThread(
      bindings,
      Math.ceil(node.size / 4),
      target,
      `  var word = 0u;
  for (var k = 0u; k < 4u; k++) {
    let j = 4u * i + k;
    if (j < z.size) { word |= (u32(${value("j")}) & 255u) << (8u * k); }
  }
  y[i] = word;`,
      { sizes: { size: node.size } },
    )];
  },
  vjp: () => [null],
};

/**
 * `x` with another element type; any shape. From f32, what is behind the point is dropped; what is
 * negative or more than u32 holds gives anything, as in PyTorch. u8 keeps the lowest 8 bits. The
 * gradient is 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.Tensor.to.html | PyTorch's to}).
 *
 * @example
 * ```ts
 * import { cast, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(cast(tensor([1.7, 200]), "u8")), new Uint8Array([1, 200]));
 * ```
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  checkTensor("cast", "x", x);
  checkChoice("cast", "dtype", dtype, ["f32", "u32", "u8"]);
  return x.dtype === dtype ? x : apply(Cast, [x], { dtype });
}
