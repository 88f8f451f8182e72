/**
 * Matrix products, single or batched.
 *
 * @module
 */

import { checkBoolean, checkOptions } from "../check/arguments.ts";
import {
  arrays,
  type Finish,
  type KernelSpec,
  perThread,
  PLAIN,
  summing,
  type Target,
} from "../kernels/kernel.ts";
import { chooseSplits, chooseTile, type Product } from "../kernels/choice.ts";
import {
  broadcastShapes,
  ceil4,
  formatShape,
  sameShape,
  type Shape,
  ShapeError,
  sizeOf,
} from "../graph/shape.ts";
import { apply, checkTensor, type Op, type Tensor } from "../graph/tensor.ts";
import { columnTile, rowTile, type Windows } from "../kernels/gemm.ts";
import { add, mul } from "./elementwise.ts";
import { unpad, zeroPad } from "./patches.ts";
import { sum } from "./reduce.ts";
import { broadcastTo, permute, permuteOrder, reshape } from "./view.ts";

function productShape([a, b]: readonly Tensor[], transposeA: boolean): Shape {
  const lead = a!.shape.slice(0, -2), [y, x] = a!.shape.slice(-2), [k, n] = b!.shape.slice(-2);
  const [m, inner] = transposeA ? [x, y] : [y, x];
  if (a!.rank < 2 || inner !== k || !sameShape(lead, b!.shape.slice(0, -2))) {
    throw new ShapeError(
      `matmul: shapes ${formatShape(a!.shape)}${transposeA ? "ᵀ" : ""} and ${
        formatShape(b!.shape)
      } do not multiply`,
    );
  }
  return [...lead, m!, n!];
}

/** The shape of a product with a transposed matrix. */
const turnedShape = ([a, b]: readonly Tensor[]): Shape => [
  ...a!.shape.slice(0, -1),
  b!.shape.at(-2)!,
];

/** The order of axes that swaps the last two. */
const swappedOrder = (rank: number): number[] => [
  ...Array.from({ length: rank - 2 }, (_, i) => i),
  rank - 1,
  rank - 2,
];

/** Layers, rows, inner length and columns of a product node. */
function sizes(
  node: Tensor,
  turned = false,
): { layers: number; m: number; k: number; n: number } {
  const [m, n] = node.shape.slice(-2) as [number, number];
  const k = node.inputs[1]!.shape.at(turned ? -1 : -2)!;
  return { layers: node.size / (m * n), m, k, n };
}

/** A product node as tiles are chosen for it. */
function productOf(node: Tensor, kind: Product["kind"], turned = false): Product {
  const { layers, m, k, n } = sizes(node, turned);
  return { kind, layers, rows: m, inner: k, columns: n };
}

/** `length` pixels of `channels`, each a row of a matrix. */
const matrix = (length: number, channels: number): Windows => ({
  n: 1,
  h: 1,
  w: length,
  c: channels,
  p: 1,
  q: length,
  stride: [1, 1],
  origin: [0, 0],
  taps: [1, 1],
  steps: [1, 1],
});

function naive(
  node: Tensor,
  target: Target,
  { transposeA = false, transposeB = false }: { transposeA?: boolean; transposeB?: boolean },
  finish: Finish = PLAIN,
): KernelSpec {
  const { layers, m, n } = sizes(node), k = node.inputs[1]!.size / layers / n;
  const a = transposeA ? `k * ${m}u + row` : `row * ${k}u + k`;
  const b = transposeB ? `column * ${k}u + k` : `k * ${n}u + column`;
  return {
    ...perThread(
      arrays({ a: "f32", b: "f32", y: "f32" }),
      node.size,
      target,
      `  let column = i % ${n}u; let row = i / ${n}u % ${m}u; let layer = i / ${m * n}u;
  var s = 0.0;
${
        summing(
          ["s"],
          "f32",
          { index: "k", from: "0u", end: `${k}u`, most: k },
          `        s += a[layer * ${m * k}u + ${a}] * b[layer * ${k * n}u + ${b}];`,
        )
      }
  ${finish.load("column")}
  ${finish.store("i", "s")}`,
    ),
    flops: 2 * node.size * k,
  };
}

/**
 * Whether a product with a vector is better taken as sums, which many threads share, and which are
 * pairwise: one thread for each result would add up for long, and lose digits.
 */
const isLongSum = (m: number, k: number, n: number) => (m === 1 || n === 1) && k >= 1024;

/** `a @ b` over the last two axes. */
const MatMul: Op = {
  name: "matmul",
  shape: (inputs) => productShape(inputs, false),
  lower: (node, target) => {
    const { m, k, n } = sizes(node), [a, b] = node.inputs as [Tensor, Tensor];
    if (isLongSum(m, k, n)) {
      return n === 1
        ? sum(mul(a, transpose(b)), [-1], { keepDims: true })
        : sum(mul(transpose(a), b), [-2], { keepDims: true });
    }
    const order = permuteOrder(b);
    const turned = order !== undefined && sameShape(order, swappedOrder(b.rank));
    if (turned) return apply(MatMulBT, [a, b.inputs[0]!], {});
    return lowered(node, target, MatMul, false);
  },
  finishes: true,
  kernels: (node, target, _, finish) => {
    const { layers, m, k, n } = sizes(node);
    const tile = chooseTile(target, productOf(node, "product"), layers);
    return [
      tile
        ? rowTile(matrix(m, k), { o: n, layers }, tile, target, finish)
        : naive(node, target, {}, finish),
    ];
  },
  macs: (node) => node.size * node.inputs[1]!.shape.at(-2)!,
  vjp: (g, _, [a, b]) => [apply(MatMul, [g, transpose(b!)], {}), apply(MatMulT, [a!, g], {})],
};

/** A product whose sums are padded to whole vectors or taken in parts, where it must or should be. */
function lowered(node: Tensor, target: Target, op: Op, turned: boolean): Tensor {
  const [a, b] = node.inputs as [Tensor, Tensor];
  const { layers, m, k, n } = sizes(node, turned);
  const tile = chooseTile(target, productOf(node, "product", turned), layers);
  if (!tile) return node;
  if (k % 4 !== 0) {
    const axis = b.rank - (turned ? 1 : 2);
    return apply(op, [zeroPad(a, a.rank - 1, ceil4(k)), zeroPad(b, axis, ceil4(k))], {});
  }
  // Another tile has no parts of a row.
  const splits = tile.workgroup ? chooseSplits(tile, m, n, k, layers) : 1;
  if (splits === 1 || layers * splits > target.maxWorkgroups) return node;
  return reshape(sum(apply(PartialMatMul, [a, b], { splits, turned }), [1]), node.shape);
}

/** `a @ bᵀ`, which takes no copy of b: what lowered graphs have for a product with a transposed matrix. */
const MatMulBT: Op = {
  name: "matmulBT",
  shape: (inputs) => turnedShape(inputs),
  lower: (node, target) => lowered(node, target, MatMulBT, true),
  finishes: true,
  kernels: (node, target, _, finish) => {
    const { layers, m, k, n } = sizes(node, true);
    const tile = chooseTile(target, productOf(node, "product", true), layers);
    return [
      tile
        ? rowTile(matrix(m, k), { o: n, layers, turned: true }, tile, target, finish)
        : naive(node, target, { transposeB: true }, finish),
    ];
  },
};

/** `aᵀ @ b` over the last two axes. */
const MatMulT: Op = {
  name: "matmulT",
  shape: (inputs) => productShape(inputs, true),
  lower: (node, target) => {
    const { layers, m, k, n } = sizes(node), [a, b] = node.inputs as [Tensor, Tensor];
    const product = productOf(node, "productT");
    if (isLongSum(m, k, n)) {
      const y = sum(mul(a, b), [-2], { keepDims: true });
      return n === 1 ? transpose(y) : y;
    }
    if (m % 4 !== 0 && chooseTile(target, product, layers)) {
      return unpad(apply(MatMulT, [zeroPad(a, a.rank - 1, ceil4(m)), b], {}), node.rank - 2, m);
    }
    const tile = chooseTile(target, product, layers);
    const splits = tile ? chooseSplits(tile, m, n, k, layers) : 1;
    if (splits === 1 || layers * splits > target.maxWorkgroups) return node;
    return reshape(sum(apply(PartialMatMulT, node.inputs, { splits }), [1]), node.shape);
  },
  kernels: (node, target) => {
    const { layers, m, k, n } = sizes(node);
    const tile = chooseTile(target, productOf(node, "productT"), layers);
    return [
      tile
        ? columnTile(matrix(k, m), { o: n, splits: 1, layers }, tile, target)
        : naive(node, target, { transposeA: true }),
    ];
  },
  macs: (node) => node.size * node.inputs[1]!.shape.at(-2)!,
  vjp: (g, _, [a, b]) => [apply(MatMul, [b!, transpose(g)], {}), apply(MatMul, [a!, g], {})],
};

/** The shape `[layers, splits, M, N]`: products over parts of the inner axis. */
function partialShape(shape: Shape, splits: number): Shape {
  const [m, n] = shape.slice(-2) as [number, number];
  return [sizeOf(shape.slice(0, -2)), splits, m, n];
}

/** Parts of {@link MatMul}, by tiles in workgroup memory. */
const PartialMatMul: Op<{ splits: number; turned: boolean }> = {
  name: "partialMatmul",
  shape: (inputs, { splits, turned }) =>
    partialShape(turned ? turnedShape(inputs) : productShape(inputs, false), splits),
  kernels: (node, target, { turned }) => {
    const [layers, splits, m, n] = node.shape as [number, number, number, number];
    const k = node.inputs[0]!.shape.at(-1)!;
    const product: Product = { kind: "product", layers, rows: m, inner: k, columns: n };
    const tile = chooseTile(target, product, layers)!;
    return [rowTile(matrix(m, k), { o: n, splits, layers, turned }, tile, target)];
  },
};

/** Parts of {@link MatMulT}. */
const PartialMatMulT: Op<{ splits: number }> = {
  name: "partialMatmulT",
  shape: (inputs, { splits }) => partialShape(productShape(inputs, true), splits),
  kernels: (node, target) => {
    const [layers, splits, m, n] = node.shape as [number, number, number, number];
    const k = node.inputs[1]!.shape.at(-2)!;
    const product: Product = { kind: "productT", layers, rows: m, inner: k, columns: n };
    const tile = chooseTile(target, product)!;
    return [columnTile(matrix(k, m), { o: n, splits, layers }, tile, target)];
  },
};

/** The last two axes swapped. */
const transpose = (x: Tensor): Tensor => permute(x, swappedOrder(x.rank));

/**
 * Matrix product over the last two axes, `[…, M, K] @ […, K, N]` → `[…, M, N]`; leading axes
 * broadcast. `transposeA` and `transposeB` swap the last two axes of an operand first; both are
 * false by default. A vector `[K]` is a row on the left and a column on the right, and the result
 * lacks that axis: two vectors give a scalar
 * ({@link https://pytorch.org/docs/stable/generated/torch.matmul.html | PyTorch}).
 *
 * @throws {ShapeError} if the shapes do not multiply, or a scalar is given.
 *
 * @example
 * ```ts
 * import { evaluate, matmul, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = matmul(tensor([[1, 2], [3, 4]]), tensor([10, 1]));
 * assertEquals(await evaluate(y), new Float32Array([12, 34]));
 * ```
 */
export function matmul(
  a: Tensor,
  b: Tensor,
  options: { transposeA?: boolean; transposeB?: boolean } = {},
): Tensor {
  checkTensor("matmul", "a", a, "f32");
  checkTensor("matmul", "b", b, "f32");
  checkOptions("matmul", options, ["transposeA", "transposeB"]);
  const { transposeA = false, transposeB = false } = options;
  checkBoolean("matmul", "transposeA", transposeA);
  checkBoolean("matmul", "transposeB", transposeB);
  const misfit = () => {
    const [p, q] = [formatShape(a.shape), formatShape(b.shape)];
    return new ShapeError(
      `matmul: shapes ${p}${transposeA ? "ᵀ" : ""} and ${q}${
        transposeB ? "ᵀ" : ""
      } do not multiply`,
    );
  };
  const swapped = [transposeA && a, transposeB && b];
  if (a.rank === 0 || b.rank === 0 || swapped.some((x) => x && x.rank < 2)) throw misfit();
  const rows = a.rank === 1 ? reshape(a, [1, a.size]) : a;
  const columns = b.rank === 1 ? reshape(b, [b.size, 1]) : b;
  const [left, right] = [rows.shape.slice(0, -2), columns.shape.slice(0, -2)];
  const inner = [rows.shape.at(transposeA ? -2 : -1), columns.shape.at(transposeB ? -1 : -2)];
  if (inner[0] !== inner[1]) throw misfit();
  const both = `matmul: ${formatShape(a.shape)} and ${formatShape(b.shape)}, leading axes`;
  const lead = broadcastShapes(both, left, right);
  const spread = (x: Tensor) => broadcastTo(x, [...lead, ...x.shape.slice(-2)]);
  const [p, q] = [spread(rows), spread(columns)];
  const y = apply(transposeA ? MatMulT : MatMul, [p, transposeB ? transpose(q) : q], {});
  if (a.rank > 1 && b.rank > 1) return y;
  const kept = [...a.rank > 1 ? y.shape.slice(-2, -1) : [], ...b.rank > 1 ? y.shape.slice(-1) : []];
  return reshape(y, [...lead, ...kept]);
}

/**
 * `x Wᵀ + b`: x `[…, in]`, weight `[out, in]`, bias `[out]` or none → `[…, out]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.linear.html | PyTorch}).
 *
 * @throws {ShapeError} if the shapes do not fit together.
 *
 * @example
 * ```ts
 * import { evaluate, linear, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = linear(tensor([[1, 2]]), tensor([[3, 4]]), tensor([5]));
 * assertEquals(await evaluate(y), new Float32Array([16]));
 * ```
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  checkTensor("linear", "x", x, "f32");
  checkTensor("linear", "weight", weight, "f32");
  if (x.rank < 1 || weight.rank !== 2 || x.shape.at(-1) !== weight.shape[1]) {
    throw new ShapeError(
      `linear: input ${formatShape(x.shape)} does not fit weight ${formatShape(weight.shape)}`,
    );
  }
  if (x.rank !== 2) {
    const rows = reshape(x, [-1, weight.shape[1]!]);
    return reshape(linear(rows, weight, bias), [...x.shape.slice(0, -1), weight.shape[0]!]);
  }
  const y = matmul(x, weight, { transposeB: true });
  if (bias === undefined) return y;
  checkTensor("linear", "bias", bias, "f32");
  if (bias.rank !== 1 || bias.size !== weight.shape[0]) {
    throw new ShapeError(
      `linear: bias ${formatShape(bias.shape)} does not fit weight ${formatShape(weight.shape)}`,
    );
  }
  return add(y, bias);
}
