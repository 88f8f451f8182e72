/**
 * Winograd's minimal filtering for 3×3 convolutions of stride 1, in all three passes (Lavin & Gray
 * 2015, https://arxiv.org/abs/1509.09308): F(m×m, 3×3) computes a tile of m×m results with
 * (m + 2)² multiplications instead of 9 m². Transforms of tiles and kernels surround a batch of
 * (m + 2)² plain matrix products. The gradients are the adjoints of these: both multiply the same
 * transform of the results' gradient, one with the transformed kernel and one with the tiles of x.
 *
 * Dimension letters as in `conv.ts`; T tiles, E = (m + 2)² elements of a transformed tile.
 *
 * @module
 */

import {
  arrays,
  type Finish,
  type KernelSpec,
  perThread,
  READ,
  type Start,
  type Target,
  type Two,
} from "../kernels/kernel.ts";
import { type Four, four, sameShape } from "../graph/shape.ts";
import { apply, type Attrs, type Op, type Tensor } from "../graph/tensor.ts";
import { matmul } from "./matmul.ts";
import { permute, permuteOrder } from "./view.ts";

/** Taps of the kernel along each axis. */
const R = 3;

type Matrix = readonly (readonly number[])[];

/** Tile transforms of F(m, 3): input, kernel and output, `y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A`. */
export interface WinogradMatrices {
  /** Input, `[m + 2, m + 2]`. */
  readonly bt: Matrix;
  /** Kernel, `[m + 2, 3]`. */
  readonly g: Matrix;
  /** Output, `[m, m + 2]`. */
  readonly at: Matrix;
}

/**
 * Points at which the polynomials are evaluated, besides infinity, for each m: those whose rounding
 * errors are smallest among fractions that f32 holds exactly (compare Barabasz et al. 2020,
 * https://arxiv.org/abs/1803.10986). Pairs ±p share half of the arithmetic. Zero is always one of them:
 * then only one element of a tile, along each axis, reaches the first pixel.
 */
const POINTS: Readonly<Record<number, readonly number[]>> = {
  2: [0, 1, -1],
  3: [0, 0.75, -0.75, 1.5],
  4: [0, 0.75, -0.75, 1.5, -1.5],
  6: [0, 1, -1, 2, -2, 0.5, -0.5],
};

const matrices = new Map<number, WinogradMatrices>();

/** The transforms of F(m, 3), made once for each m of {@link POINTS}. */
export function winogradMatrices(m: number): WinogradMatrices {
  const known = matrices.get(m) ?? toomCook(m);
  matrices.set(m, known);
  return known;
}

/** The transforms of F(m, 3) by the Toom–Cook construction. */
function toomCook(m: number): WinogradMatrices {
  const points = POINTS[m]!;
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

/** WGSL expression of `Σ row[k] · x[k]`, without the zeros. */
function combination(row: readonly number[], x: readonly string[]): string {
  const terms = row.flatMap((value, k) => {
    if (value === 0) return [];
    const factor = Math.abs(value) === 1 ? x[k]! : `${Math.abs(value)} * ${x[k]!}`;
    return [`${value < 0 ? "-" : "+"} ${factor}`];
  });
  const [first = "+ 0.0", ...rest] = terms;
  return [first.startsWith("+") ? first.slice(2) : first.replace("- ", "-"), ...rest].join(" ");
}

/** Pairs of rows that agree but for signs, as two opposite points of a transform do. */
function signedPairs(l: Matrix): Map<number, number> {
  const pairs = new Map<number, number>();
  l.forEach((row, i) => {
    const j = l.findIndex((other, k) =>
      k > i && ![...pairs.values()].includes(k) &&
      row.every((value, n) => Math.abs(value) === Math.abs(other[n]!))
    );
    if (j > 0 && ![...pairs.values()].includes(i)) pairs.set(i, j);
  });
  return pairs;
}

/**
 * WGSL lines that compute `l · x`, and the names of the results, made from `name`. Where two columns
 * of l, or two rows, differ only in signs, their sums and differences are taken once.
 */
function product(l: Matrix, x: readonly string[], name: string): { lines: string[]; y: string[] } {
  const lines: string[] = [];
  const define = (id: string, value: string) => {
    lines.push(`  let ${name}${id} = ${value};`);
    return name + id;
  };
  const columns = signedPairs(transposed(l));
  const halves = x.map((_, k) => {
    const j = columns.get(k);
    return j && [define(`p${k}`, `${x[k]} + ${x[j]}`), define(`m${k}`, `${x[k]} - ${x[j]}`)];
  });
  const seconds = new Set(columns.values());
  const y: string[] = [];
  const rows = columns.size > 0 ? new Map<number, number>() : signedPairs(l);
  l.forEach((row, i) => {
    if (y[i]) return;
    const j = rows.get(i);
    if (j === undefined) {
      const terms = x.map((term, k) => {
        const pair = halves[k];
        return pair ? pair[row[k] === row[columns.get(k)!] ? 0 : 1]! : term;
      });
      y[i] = define(`${i}`, combination(row.map((v, k) => seconds.has(k) ? 0 : v), terms));
      return;
    }
    const same = row.map((value, k) => value === l[j]![k] ? value : 0);
    const opposite = row.map((value, k) => value === l[j]![k] ? 0 : value);
    const [a, b] = [
      define(`a${i}`, combination(same, x)),
      define(`b${i}`, combination(opposite, x)),
    ];
    y[i] = define(`${i}`, `${a} + ${b}`);
    y[j] = define(`${j}`, `${a} - ${b}`);
  });
  return { lines, y };
}

/** WGSL of {@link sandwich} by kernel: layers have few different ones, and a plan asks for many. */
const sandwiches = new Map<string, string>();

/**
 * WGSL lines for `out = L · in · Rᵀ`; `store` gets the value's place and its name. All are those of the
 * kernel that is called `key`.
 */
function sandwich(
  key: string,
  [l, r]: readonly [Matrix, Matrix],
  load: (i: number, j: number) => string,
  store: (i: number, j: number, value: string) => string,
): string {
  const known = sandwiches.get(key) ?? makeSandwich(l, r, load, store);
  sandwiches.set(key, known);
  return known;
}

function makeSandwich(
  l: Matrix,
  r: Matrix,
  load: (i: number, j: number) => string,
  store: (i: number, j: number, value: string) => string,
): string {
  const lines: string[] = [];
  const half = r[0]!.map((_, j) => {
    const x = l[0]!.map((_, i) => `x${i}_${j}`);
    lines.push(...x.map((name, i) => `  let ${name} = ${load(i, j)};`));
    const { lines: own, y } = product(l, x, `t${j}_`);
    lines.push(...own);
    return y;
  });
  l.forEach((_, i) => {
    const { lines: own, y } = product(r, half.map((column) => column[i]!), `y${i}_`);
    lines.push(...own, ...y.map((value, j) => store(i, j, value)));
  });
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

/** WGSL of the tile's place: image `n`, first result `(p, q)`, channel `c`. */
const PLACE = `  let c = i % z.channels; let tile = i / z.channels;
  let n = tile / (z.rows * z.columns);
  let p = i32(tile / z.columns % z.rows * z.m); let q = i32(tile % z.columns * z.m);`;

/** The sizes that {@link PLACE} reads, and the image's. */
const placeSizes = (h: number, w: number, channels: number, m: number, tiles: Two) => ({
  ...{ h, w, channels, m },
  ...{ rows: tiles[0], columns: tiles[1] },
});

/** A transform of pixels `[N, H, W, C]` into `[E, T, C]`, from squares whose first pixel is at
 * `origin` relative to the tile's. */
function gatherTiles(
  node: Tensor,
  target: Target,
  m: number,
  matrix: Matrix,
  tiles: Two,
  origin: Two,
  start: Start,
): KernelSpec {
  const [, h, w, c] = four(node.inputs[0]!);
  const size = matrix[0]!.length, n = matrix.length;
  const count = node.shape[1]! * c;
  const axis = (name: string, first: string, start: string, limit: string, step: string) =>
    Array.from({ length: size }, (_, k) =>
      `  let ${name}${k} = ${first} + ${k} + i32(${start});
  let ${name}in${k} = u32(${name}${k}) < ${limit};
  let ${name}at${k} = select(0u, u32(${name}${k}) * ${step}, ${name}in${k});`).join("\n");
  // Pixels outside are read at the image's edge and count as zero.
  return perThread(
    arrays({ x: "f32", y: "f32" }),
    count,
    target,
    `${PLACE}
${axis("h", "p", "z.top", "z.h", "z.w * z.channels")}
${axis("w", "q", "z.left", "z.w", "z.channels")}
  let first = n * z.h * z.w * z.channels + c;
  ${start.load("c")}
${
      sandwich(
        `${node.op.name} ${m} ${start.value("")}`,
        [matrix, matrix],
        (i, j) => `select(0.0, ${start.value(`first + hat${i} + wat${j}`)}, hin${i} & win${j})`,
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
    const [n, h, w, c] = four(x!);
    const [rows, columns] = tilesOf(h + 2 * padding[0] - 2, w + 2 * padding[1] - 2, m);
    return [(m + 2) ** 2, n * rows * columns, c];
  },
  starts: true,
  kernels: (node, target, { m, padding }, _finish, start = READ) => {
    const [, h, w] = four(node.inputs[0]!);
    const tiles = tilesOf(h + 2 * padding[0] - 2, w + 2 * padding[1] - 2, m);
    const { bt } = winogradMatrices(m);
    return [gatherTiles(node, target, m, bt, tiles, [-padding[0], -padding[1]], start)];
  },
};

/** A g Aᵀ: the output transform's adjoint, g `[N, P, Q, O]` → `[E, T, O]`. */
const WinogradOutputGrad: Op<{ m: number }> = {
  name: "winogradOutputGrad",
  shape: ([g], { m }) => {
    const [n, p, q, o] = four(g!);
    const [rows, columns] = tilesOf(p, q, m);
    return [(m + 2) ** 2, n * rows * columns, o];
  },
  starts: true,
  kernels: (node, target, { m }, _finish, start = READ) => {
    const [, p, q] = four(node.inputs[0]!);
    const a = transposed(winogradMatrices(m).at);
    return [gatherTiles(node, target, m, a, tilesOf(p, q, m), [0, 0], start)];
  },
};

/** Along an axis: how the pixels of a block are made of the elements of tiles. */
interface Reach {
  /** From the elements to the block's pixels. */
  readonly l: Matrix;
  /** Of each element the tile, counted from the block's own, and its number there. */
  readonly from: readonly { readonly tile: number; readonly element: number }[];
  /** Whether each block has a tile of its own. */
  readonly own: boolean;
}

/**
 * Pixels `[N, H, W, C]` in blocks of m×m from tiles `[E, T, C]`, of which an image has `tiles`; the
 * block's own and those next to it, as far as they reach it.
 */
function blocksOf(
  node: Tensor,
  target: Target,
  m: number,
  tiles: Two,
  [down, across]: readonly [Reach, Reach],
  finish: Finish,
): KernelSpec {
  const [n, h, w, c] = four(node), blocks = tilesOf(h, w, m);
  // Where every block is whole, no store needs a condition.
  const whole = h % m === 0 && w % m === 0;
  const near = ({ from }: Reach) => [...new Set(from.map(({ tile }) => tile))];
  const sure = (tile: number, { own }: Reach) => own && tile === 0;
  const axis = (name: string, reach: Reach, first: string) =>
    near(reach).map((tile) =>
      `  let ${name}${tile + 1} = ${first} + ${tile};
  let ${name}in${tile + 1} = ${
        sure(tile, reach) ? "true" : `u32(${name}${tile + 1}) < z.tile_${name}`
      };`
    ).join("\n");
  // A tile that is not there is read where the first one is, and counts as zero.
  const places = near(down).flatMap((a) =>
    near(across).map((b) => {
      const [i, j] = [a + 1, b + 1];
      return `  let in${i}${j} = rowsin${i} & columnsin${j};
  let at${i}${j} = select(0u, (u32(rows${i}) * z.tile_columns + u32(columns${j})) * z.channels,
    in${i}${j}) + image;`;
    })
  ).join("\n");
  const load = (i: number, j: number) => {
    const [a, b] = [down.from[i]!, across.from[j]!], near = `${a.tile + 1}${b.tile + 1}`;
    const value = `x[${a.element * (m + 2) + b.element}u * z.each + at${near}]`;
    return sure(a.tile, down) && sure(b.tile, across) ? value : `select(0.0, ${value}, in${near})`;
  };
  const reach = ({ from, own, l }: Reach) =>
    `${own} ${from.map(({ tile, element }) => `${tile}:${element}`)} ${l}`;
  return perThread(
    arrays({ x: "f32", y: "f32" }),
    n * blocks[0] * blocks[1] * c,
    target,
    `${PLACE}
${axis("rows", down, "i32(tile / z.columns % z.rows)")}
${axis("columns", across, "i32(tile % z.columns)")}
  let image = n * z.tile_rows * z.tile_columns * z.channels + c;
${places}
  let first = (n * z.h + u32(p)) * z.w + u32(q);
  ${finish.load("c")}
${
      sandwich(
        `${m} ${reach(down)} ${reach(across)} ${whole} ${finish.store("", "")}`,
        [down.l, across.l],
        load,
        (i, j, value) => {
          const at = `(first + ${i}u * z.w + ${j}u) * z.channels + c`;
          const store = finish.store(at, value);
          const condition = `(u32(p) + ${i}u < z.h) & (u32(q) + ${j}u < z.w)`;
          return whole ? `  ${store}` : `  if (${condition}) { ${store} }`;
        },
      )
    }`,
    {
      sizes: {
        ...placeSizes(h, w, c, m, blocks),
        ...{ tile_rows: tiles[0], tile_columns: tiles[1], each: n * tiles[0] * tiles[1] * c },
      },
    },
  );
}

/** Aᵀ M A: `[E, T, O]` → `[N, P, Q, O]`. */
const WinogradOutput: Op<{ m: number; shape: Four }> = {
  name: "winogradOutput",
  shape: (_, { shape }) => shape,
  finishes: true,
  kernels: (node, target, { m }, finish) => {
    const [, p, q] = four(node), { at: l } = winogradMatrices(m);
    const reach = { l, from: l[0]!.map((_, element) => ({ tile: 0, element })), own: true };
    return [blocksOf(node, target, m, tilesOf(p, q, m), [reach, reach], finish)];
  },
};

/**
 * How the pixels of x under `padding` are made of the elements of tiles that overlap by two pixels: by
 * the input transform's adjoint.
 */
function inputReach(m: number, padding: number, blocks: number, tiles: number): Reach {
  const { bt } = winogradMatrices(m);
  const near = blocks === 1 && tiles === 1 ? [0] : [-1, 0, 1];
  const columns = near.flatMap((tile) =>
    bt.flatMap((row, element) => {
      const column = Array.from({ length: m }, (_, i) => row[i + padding - m * tile] ?? 0);
      return column.every((value) => value === 0) ? [] : [{ tile, element, column }];
    })
  );
  const l = Array.from({ length: m }, (_, i) => columns.map(({ column }) => column[i]!));
  return { l, from: columns, own: blocks <= tiles };
}

/** B M Bᵀ, added where tiles overlap: `[E, T, C]` → `[N, H, W, C]`, the input transform's adjoint. */
const WinogradInputGrad: Op<TileAttrs & { shape: Four }> = {
  name: "winogradInputGrad",
  shape: (_, { shape }) => shape,
  finishes: true,
  kernels: (node, target, { m, padding }, finish) => {
    const [, h, w] = four(node), blocks = tilesOf(h, w, m);
    const tiles = tilesOf(h + 2 * padding[0] - 2, w + 2 * padding[1] - 2, m);
    const reach = (axis: 0 | 1) => inputReach(m, padding[axis], blocks[axis], tiles[axis]);
    return [blocksOf(node, target, m, tiles, [reach(0), reach(1)], finish)];
  },
};

/** G w Gᵀ: w `[3, 3, C, O]` → `[E, C, O]`. */
const WinogradKernel: Op<{ m: number }> = {
  name: "winogradKernel",
  shape: ([w], { m }) => [(m + 2) ** 2, ...four(w!).slice(2)],
  lower: (node, _, attrs) => {
    // A kernel with channels swapped, as the input gradient wants it, is swapped afterwards: then it is
    // transformed once, and products take it as it lies.
    const w = node.inputs[0]!, order = permuteOrder(w);
    const swapped = order !== undefined && sameShape(order, [0, 1, 3, 2]);
    return swapped ? permute(apply(WinogradKernel, [w.inputs[0]!], attrs), [0, 2, 1]) : node;
  },
  kernels: (node, target, { m }) => {
    const each = node.size / (m + 2) ** 2;
    return [perThread(
      arrays({ x: "f32", y: "f32" }),
      each,
      target,
      sandwich(
        `winogradKernel ${m}`,
        [winogradMatrices(m).g, winogradMatrices(m).g],
        (i, j) => `x[${i * R + j}u * z.count + i]`,
        (i, j, value) => `  y[${i * (m + 2) + j}u * z.count + i] = ${value};`,
      ),
      { sizes: {} },
    )];
  },
};

/** Gᵀ u G: `[E, C, O]` → `[3, 3, C, O]`, the kernel transform's adjoint. */
const WinogradKernelGrad: Op<{ m: number }> = {
  name: "winogradKernelGrad",
  shape: ([u]) => [R, R, ...u!.shape.slice(1)],
  kernels: (node, target, { m }) => {
    const each = node.size / R ** 2, gt = transposed(winogradMatrices(m).g);
    return [perThread(
      arrays({ x: "f32", y: "f32" }),
      each,
      target,
      sandwich(
        `winogradKernelGrad ${m}`,
        [gt, gt],
        (i, j) => `x[${i * (m + 2) + j}u * z.count + i]`,
        (i, j, value) => `  y[${i * R + j}u * z.count + i] = ${value};`,
      ),
      { sizes: {} },
    )];
  },
};

/** The convolution of x `[N, H, W, C]` with w `[3, 3, C, O]` in tiles of m×m, → `[N, P, Q, O]`. */
export function winogradConv(x: Tensor, w: Tensor, { m, padding }: TileAttrs): Tensor {
  const [n, h, width] = four(x);
  const tiles = apply(WinogradInput, [x], { m, padding });
  const products = matmul(tiles, apply(WinogradKernel, [w], { m }));
  const shape: Four = [
    n,
    h + 2 * padding[0] - 2,
    width + 2 * padding[1] - 2,
    w.shape[3]!,
  ];
  return apply(WinogradOutput, [products], { m, shape });
}

/** The input gradient `[N, H, W, C]` from g `[N, P, Q, O]` and w `[3, 3, O, C]`. */
export function winogradInputGrad(
  g: Tensor,
  w: Tensor,
  { m, padding, size }: TileAttrs & { size: Two },
): Tensor {
  const tiles = apply(WinogradOutputGrad, [g], { m });
  const products = matmul(tiles, apply(WinogradKernel, [w], { m }));
  const shape: Four = [four(g)[0], ...size, w.shape[3]!];
  return apply(WinogradInputGrad, [products], { m, padding, shape });
}

/** The weight gradient `[3, 3, C, O]` from x `[N, H, W, C]` and g `[N, P, Q, O]`. */
export function winogradWeightGrad(x: Tensor, g: Tensor, { m, padding }: TileAttrs): Tensor {
  const tiles = apply(WinogradInput, [x], { m, padding });
  const products = matmul(tiles, apply(WinogradOutputGrad, [g], { m }), { transposeA: true });
  return apply(WinogradKernelGrad, [products], { m });
}
