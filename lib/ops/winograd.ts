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

import { type Binding, type KernelSpec, perThread, type Target } from "../kernel.ts";
import { apply, type Attrs, type Op, type Tensor } from "../tensor.ts";
import { matmul } from "./matmul.ts";

/** Taps of the kernel along each axis. */
const R = 3;

type Matrix = readonly (readonly number[])[];
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
  readonly padding: readonly [number, number];
}

const vectors = (...names: string[]): Binding[] =>
  names.map((name, i) => ({ name, type: "vec4f", write: i === names.length - 1 }));

/** Tiles along each axis of `P × Q` results. */
const tilesOf = (p: number, q: number, m: number) => [Math.ceil(p / m), Math.ceil(q / m)] as const;

/** WGSL of the tile's place: image `n`, first result `(p, q)`, channel vector `c`. */
function tilePlace(channels: number, rows: number, columns: number, m: number): string {
  return `  let c = i % ${channels}u; let tile = i / ${channels}u;
  let n = i32(tile / ${rows * columns}u);
  let p = i32(tile / ${columns}u % ${rows}u) * ${m}; let q = i32(tile % ${columns}u) * ${m};`;
}

/** A transform of pixels `[N, H, W, C]` into `[E, T, C]`, `size` pixels square with `origin`. */
function gatherTiles(
  node: Tensor,
  target: Target,
  matrix: Matrix,
  tiles: readonly [number, number],
  origin: readonly [number, number],
): KernelSpec {
  const [, h, w, c] = node.inputs[0]!.shape as Four;
  const size = matrix[0]!.length, n = matrix.length, c4 = c / 4;
  const { m } = node.attrs as TileAttrs;
  const count = node.shape[1]!;
  const axis = (name: string, first: string, start: number, limit: number) =>
    Array.from({ length: size }, (_, k) =>
      `  let ${name}${k} = ${first} + ${k + start};
  let ${name}in${k} = ${name}${k} >= 0 && ${name}${k} < ${limit};`).join("\n");
  return perThread(
    vectors("x", "y"),
    count * c4,
    target,
    `${tilePlace(c4, ...tiles, m)}
${axis("h", "p", origin[0], h)}
${axis("w", "q", origin[1], w)}
${
      sandwich(
        matrix,
        (i, j) =>
          `select(vec4f(0.0), x[u32(select(0, (n * ${h} + h${i}) * ${w} + w${j}, hin${i} && win${j})) * ${c4}u + c], hin${i} && win${j})`,
        (i, j, value) => `  y[${(i * n + j) * count * c4}u + i] = ${value};`,
      )
    }`,
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
    const [rows, columns] = tilesOf(p, q, m);
    const n = m + 2, o4 = o / 4, count = products.shape[1]!;
    return [perThread(
      bias ? vectors("x", "bias", "y") : vectors("x", "y"),
      count * o4,
      target,
      `${tilePlace(o4, rows, columns, m)}
  let shift = ${bias ? "bias[c]" : "vec4f(0.0)"};
  let first = u32((n * ${p} + p) * ${q} + q);
${
        sandwich(
          at,
          (i, j) => `x[${(i * n + j) * count * o4}u + i]`,
          (i, j, value) =>
            `  if (p + ${i} < ${p} && q + ${j} < ${q}) {
    y[(first + ${i * q + j}u) * ${o4}u + c] = shift + ${value};
  }`,
        )
      }`,
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
    const tap = (k: number) => flip ? R - 1 - k : k;
    return [perThread(
      vectors("x", "y"),
      each,
      target,
      sandwich(
        winogradMatrices(m).g,
        (i, j) => `x[${(tap(i) * R + tap(j)) * each}u + i]`,
        (i, j, value) => `  y[${(i * (m + 2) + j) * each}u + i] = ${value};`,
      ),
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
      vectors("x", "y"),
      each,
      target,
      sandwich(
        transposed(winogradMatrices(m).g),
        (i, j) => `x[${(i * (m + 2) + j) * each}u + i]`,
        (i, j, value) => `  y[${(i * R + j) * each}u + i] = ${value};`,
      ),
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
