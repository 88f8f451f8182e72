/**
 * Winograd's minimal filtering for 3×3 convolutions of stride 1, in all three passes (Lavin & Gray
 * 2015, https://arxiv.org/abs/1509.09308): F(m×m, 3×3) computes a tile of m×m results with
 * (m + 2)² multiplications instead of 9 m². Transforms of tiles and kernels surround a batch of
 * (m + 2)² plain matrix products.
 *
 * Dimension letters as in `conv.ts`; T tiles, E = (m + 2)² elements of a transformed tile.
 *
 * @module
 */

import { arrays, type KernelSpec, perThread, type Target } from "../kernel.ts";
import { apply, type Attrs, type Op, type Tensor } from "../tensor.ts";
import { matmul } from "./matmul.ts";

/** Taps of the kernel along each axis. */
const R = 3;

type Matrix = readonly (readonly number[])[];
type Two = readonly [number, number];
type Four = readonly [number, number, number, number];

/** Tile transforms of F(m, 3): input, kernel and output, `y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A`. */
export interface WinogradMatrices {
  /** Input, `[m + 2, m + 2]`. */
  readonly bt: Matrix;
  /** Kernel, `[m + 2, 3]`. */
  readonly g: Matrix;
  /** Output, `[m, m + 2]`. */
  readonly at: Matrix;
}

/** Points at which the polynomials are evaluated, with infinity as the last one. */
const POINTS = [0, 1, -1, 2, -2, 0.5, -0.5];

/** The transforms of F(m, 3) by the Toom–Cook construction, for m from 2 to 6. */
export function winogradMatrices(m: number): WinogradMatrices {
  const points = POINTS.slice(0, m + R - 2);
  /** Coefficients, lowest first, of the product of (x - p) over `roots`. */
  const polynomial = (roots: readonly number[]) =>
    roots.reduce<number[]>(
      (c, p) => [...c, 0].map((_, i) => (c[i - 1] ?? 0) - p * (c[i] ?? 0)),
      [1],
    );
  const pad = (row: readonly number[], length: number) =>
    Array.from({ length }, (_, i) => row[i] ?? 0);
  const others = (p: number) => points.filter((q) => q !== p);
  const powers = (p: number, length: number) => Array.from({ length }, (_, i) => p ** i);
  const last = (length: number) => Array.from({ length }, (_, i) => i === length - 1 ? 1 : 0);
  const n = m + R - 1;
  const columns = [...points.map((p) => powers(p, m)), last(m)];
  return {
    bt: [...points.map((p) => pad(polynomial(others(p)), n)), polynomial(points)],
    g: [
      ...points.map((p) => {
        const scale = others(p).reduce((product, q) => product * (p - q), 1);
        return powers(p, R).map((value) => value / scale);
      }),
      last(R),
    ],
    at: Array.from({ length: m }, (_, i) => columns.map((column) => column[i]!)),
  };
}

const transposed = (x: Matrix): Matrix => x[0]!.map((_, j) => x.map((row) => row[j]!));

/** WGSL expression of `Σ row[k] · term(k)`, without the zeros. */
function combination(row: readonly number[], term: (k: number) => string): string {
  const terms = row.flatMap((value, k) => {
    if (value === 0) return [];
    const factor = Math.abs(value) === 1 ? term(k) : `${Math.abs(value)} * ${term(k)}`;
    return [`${value < 0 ? "-" : "+"} ${factor}`];
  });
  const [first = "+ vec4f(0.0)", ...rest] = terms;
  return [first.startsWith("+") ? first.slice(2) : first.replace("- ", "-"), ...rest].join(" ");
}

/** WGSL lines for `out = L · in · Lᵀ`, on vec4f; `store` gets the value's place and its name. */
function sandwich(
  l: Matrix,
  load: (i: number, j: number) => string,
  store: (i: number, j: number, value: string) => string,
): string {
  const size = l[0]!.length;
  const lines: string[] = [];
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) lines.push(`  let x${i}_${j} = ${load(i, j)};`);
  }
  // Columns first, then rows.
  l.forEach((row, i) => {
    for (let j = 0; j < size; j++) {
      lines.push(`  let t${i}_${j} = ${combination(row, (k) => `x${k}_${j}`)};`);
    }
  });
  l.forEach((_, i) =>
    l.forEach((row, j) => lines.push(store(i, j, combination(row, (k) => `t${i}_${k}`))))
  );
  return lines.join("\n");
}

interface TileAttrs extends Attrs {
  /** Results per tile along each axis. */
  readonly m: number;
  /** Zeros around the source. */
  readonly padding: Two;
}

/** Tiles along each axis of `P × Q` results. */
const tilesOf = (p: number, q: number, m: number) => [Math.ceil(p / m), Math.ceil(q / m)] as const;

/** WGSL of the tile's place: image `n`, first result `(p, q)`, channel vector `c`. */
const PLACE = `  let c = i % z.channels; let tile = i / z.channels;
  let n = tile / (z.rows * z.columns);
  let p = i32(tile / z.columns % z.rows * z.m); let q = i32(tile % z.columns * z.m);`;

/** The sizes that {@link PLACE} reads, and the image's. */
const placeSizes = (h: number, w: number, channels: number, m: number, tiles: Two) => ({
  ...{ h, w, channels: channels / 4, m },
  ...{ rows: tiles[0], columns: tiles[1] },
});

/** A transform of pixels `[N, H, W, C]` into `[E, T, C]`, from squares whose first pixel is at
 * `origin` relative to the tile's. */
function gatherTiles(
  node: Tensor,
  target: Target,
  matrix: Matrix,
  tiles: Two,
  origin: Two,
): KernelSpec {
  const [, h, w, c] = node.inputs[0]!.shape as Four;
  const size = matrix[0]!.length, n = matrix.length;
  const { m } = node.attrs as TileAttrs;
  const count = node.shape[1]! * c / 4;
  const axis = (name: string, first: string, start: string, limit: string) =>
    Array.from({ length: size }, (_, k) =>
      `  let ${name}${k} = ${first} + ${k} + i32(${start});
  let ${name}in${k} = ${name}${k} >= 0 && ${name}${k} < i32(${limit});`).join("\n");
  return perThread(
    arrays({ x: "vec4f", y: "vec4f" }),
    count,
    target,
    `${PLACE}
${axis("h", "p", "z.top", "z.h")}
${axis("w", "q", "z.left", "z.w")}
  let first = i32(n * z.h * z.w);
${
      sandwich(
        matrix,
        (i, j) =>
          `select(vec4f(0.0), x[select(0u, u32(first + h${i} * i32(z.w) + w${j}) * z.channels + c, hin${i} && win${j})], hin${i} && win${j})`,
        (i, j, value) => `  y[${i * n + j}u * z.count + i] = ${value};`,
      )
    }`,
    { sizes: { ...placeSizes(h, w, c, m, tiles), top: origin[0], left: origin[1] } },
  );
}

/** Bᵀ x B: x `[N, H, W, C]` → `[E, T, C]`. */
const WinogradInput: Op<TileAttrs> = {
  name: "winogradInput",
  shape: ([x], { m, padding }) => {
    const [n, h, w, c] = x!.shape as Four;
    const [rows, columns] = tilesOf(h + 2 * padding[0] - 2, w + 2 * padding[1] - 2, m);
    return [(m + 2) ** 2, n * rows * columns, c];
  },
  kernels: (node, target) => {
    const { m, padding } = node.attrs as TileAttrs;
    const [, h, w] = node.inputs[0]!.shape as Four;
    const tiles = tilesOf(h + 2 * padding[0] - 2, w + 2 * padding[1] - 2, m);
    const { bt } = winogradMatrices(m);
    return [gatherTiles(node, target, bt, tiles, [-padding[0], -padding[1]])];
  },
};

/** A g Aᵀ: the output transform's adjoint, g `[N, P, Q, O]` → `[E, T, O]`. */
const WinogradOutputGrad: Op<{ m: number }> = {
  name: "winogradOutputGrad",
  shape: ([g], { m }) => {
    const [n, p, q, o] = g!.shape as Four;
    const [rows, columns] = tilesOf(p, q, m);
    return [(m + 2) ** 2, n * rows * columns, o];
  },
  kernels: (node, target) => {
    const { m } = node.attrs as TileAttrs;
    const [, p, q] = node.inputs[0]!.shape as Four;
    const a = transposed(winogradMatrices(m).at);
    return [gatherTiles(node, target, a, tilesOf(p, q, m), [0, 0])];
  },
};

/** Aᵀ M A plus bias: `[E, T, O]` → `[N, P, Q, O]`. */
const WinogradOutput: Op<{ m: number; shape: Four }> = {
  name: "winogradOutput",
  shape: (_, { shape }) => shape,
  kernels: (node, target) => {
    const [products, bias] = node.inputs as [Tensor, Tensor | undefined];
    const [, p, q, o] = node.shape as Four;
    const { m } = node.attrs as TileAttrs;
    const { at } = winogradMatrices(m);
    const n = m + 2, count = products.shape[1]! * o / 4;
    // Where every tile is whole, no store needs a condition.
    const whole = p % m === 0 && q % m === 0;
    return [perThread(
      arrays({ x: "vec4f", ...bias && { bias: "vec4f" }, y: "vec4f" }),
      count,
      target,
      `${PLACE}
  let shift = ${bias ? "bias[c]" : "vec4f(0.0)"};
  let first = (n * z.h + u32(p)) * z.w + u32(q);
${
        sandwich(
          at,
          (i, j) => `x[${i * n + j}u * z.count + i]`,
          (i, j, value) => {
            const store = `y[(first + ${i}u * z.w + ${j}u) * z.channels + c] = shift + ${value};`;
            const condition = `u32(p) + ${i}u < z.h && u32(q) + ${j}u < z.w`;
            return whole ? `  ${store}` : `  if (${condition}) { ${store} }`;
          },
        )
      }`,
      { sizes: placeSizes(p, q, o, m, tilesOf(p, q, m)) },
    )];
  },
};

/** G w Gᵀ: w `[3, 3, C, O]` → `[E, C, O]`; `flip` turns the kernel by 180°. */
const WinogradKernel: Op<{ m: number; flip: boolean }> = {
  name: "winogradKernel",
  shape: ([w], { m }) => [(m + 2) ** 2, ...w!.shape.slice(2)],
  kernels: (node, target) => {
    const { m, flip } = node.attrs as { m: number; flip: boolean };
    const each = node.size / (m + 2) ** 2 / 4;
    // A flipped kernel is read from its last tap backwards.
    const sizes = { last: flip ? R * R - 1 : 0, step: flip ? -1 : 1 };
    return [perThread(
      arrays({ x: "vec4f", y: "vec4f" }),
      each,
      target,
      sandwich(
        winogradMatrices(m).g,
        (i, j) => `x[(z.last + ${i * R + j}u * z.step) * z.count + i]`,
        (i, j, value) => `  y[${i * (m + 2) + j}u * z.count + i] = ${value};`,
      ),
      { sizes },
    )];
  },
};

/** Gᵀ u G: `[E, C, O]` → `[3, 3, C, O]`, the kernel transform's adjoint. */
const WinogradKernelGrad: Op<{ m: number }> = {
  name: "winogradKernelGrad",
  shape: ([u]) => [R, R, ...u!.shape.slice(1)],
  kernels: (node, target) => {
    const { m } = node.attrs as { m: number };
    const each = node.size / R ** 2 / 4;
    return [perThread(
      arrays({ x: "vec4f", y: "vec4f" }),
      each,
      target,
      sandwich(
        transposed(winogradMatrices(m).g),
        (i, j) => `x[${i * (m + 2) + j}u * z.count + i]`,
        (i, j, value) => `  y[${i * R + j}u * z.count + i] = ${value};`,
      ),
      { sizes: {} },
    )];
  },
};

/**
 * The convolution of x `[N, H, W, C]` with w `[3, 3, C, O]` in tiles of m×m, → `[N, P, Q, O]`;
 * `flip` turns the kernel, as the input gradient wants it.
 */
export function winogradConv(
  x: Tensor,
  w: Tensor,
  bias: Tensor | undefined,
  { m, padding, flip = false }: TileAttrs & { flip?: boolean },
): Tensor {
  const [n, h, width] = x.shape as Four;
  const tiles = apply(WinogradInput, [x], { m, padding });
  const products = matmul(tiles, apply(WinogradKernel, [w], { m, flip }));
  const shape: Four = [
    n,
    h + 2 * padding[0] - 2,
    width + 2 * padding[1] - 2,
    w.shape[3]!,
  ];
  return apply(WinogradOutput, [products, ...bias ? [bias] : []], { m, shape });
}

/** The weight gradient `[3, 3, C, O]` from x `[N, H, W, C]` and g `[N, P, Q, O]`. */
export function winogradWeightGrad(x: Tensor, g: Tensor, { m, padding }: TileAttrs): Tensor {
  const tiles = apply(WinogradInput, [x], { m, padding });
  const products = matmul(tiles, apply(WinogradOutputGrad, [g], { m }), { transposeA: true });
  return apply(WinogradKernelGrad, [products], { m });
}
