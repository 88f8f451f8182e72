/**
 * Which kernel computes a product or a convolution, and with which tile: the one place for choices
 * that depend on the adapter. A choice that was measured on it (`measure/tune.ts`) counts first, if
 * it is one of the {@link candidates}; else a rule decides. The naive kernel is the reference and
 * serves the shapes that no tile fits.
 *
 * @module
 */

import type { KernelChoice, Target, Two } from "./kernel.ts";

/** How a product's result is cut among threads. */
export interface Tile {
  /** Rows of the result that a group of lanes works on. */
  readonly rows: number;
  /** Lanes that share those rows by subgroup broadcast; 1 means each thread works alone. */
  readonly lanes: number;
  /** Four-column vectors of the result that each lane keeps, for every row. */
  readonly vectors: number;
  /** Whether a workgroup shares the tile through its memory; rows and vectors are then all of it. */
  readonly workgroup?: boolean;
}

/** A batch of matrix products, `[rows, inner] @ [inner, columns]`. */
export interface Product {
  /** `productT` if the first matrix is transposed in memory. */
  readonly kind: "product" | "productT";
  /** Number of products. */
  readonly layers: number;
  /** Rows of the result. */
  readonly rows: number;
  /** Length of the sums: columns of the first matrix, rows of the second. */
  readonly inner: number;
  /** Columns of the result. */
  readonly columns: number;
}

/** A pass of a convolution, or of a group of one, from x `[N, H, W, C]` to y `[N, P, Q, O]`. */
export interface Convolution {
  /** The pass: from x to y, or from y's gradient to that of x or of the kernel. */
  readonly kind: "forward" | "inputGrad" | "weightGrad";
  /** Number of images. */
  readonly n: number;
  /** Height and width of x, in pixels. */
  readonly pixels: readonly [number, number];
  /** Channels of x. */
  readonly c: number;
  /** Channels of y. */
  readonly o: number;
  /** Height and width of the kernel, R × S. */
  readonly kernel: readonly [number, number];
  /** Step between windows, down and across. */
  readonly stride: readonly [number, number];
  /** Zeros above and below, left and right of x. */
  readonly padding: readonly [number, number];
  /** Distance between taps of the kernel, down and across. */
  readonly dilation: readonly [number, number];
}

/** What `tune` chooses a kernel for: a matrix product, or a pass of a convolution. */
export type Problem = Product | Convolution;

/** Whether it is a product. */
export function isProduct(x: Problem): x is Product {
  return x.kind === "product" || x.kind === "productT";
}

/**
 * Its name in a table of choices, `forward 32x24x24x64 3x3x64x64 stride 1x1 padding 1x1`; and
 * ` dilation 2x2`, if taps are apart.
 */
export function problemKey(x: Problem): string {
  if (isProduct(x)) return `${x.kind} ${x.layers} ${x.rows}x${x.inner}x${x.columns}`;
  const { kind, n, pixels, c, o, kernel, stride, padding, dilation } = x;
  return `${kind} ${[n, ...pixels, c].join("x")} ${[...kernel, c, o].join("x")} ` +
    `stride ${stride.join("x")} padding ${padding.join("x")}` +
    (area(dilation) > 1 ? ` dilation ${dilation.join("x")}` : "");
}

/** The problem that a key names. */
export function parseProblem(key: string): Problem {
  const kind = key.split(" ", 1)[0] as Problem["kind"];
  const sizes = key.match(/\d+/g)!.map(Number);
  if (kind === "product" || kind === "productT") {
    const [layers, rows, inner, columns] = sizes as [number, number, number, number];
    return { kind, layers, rows, inner, columns };
  }
  const [n, h, w, c, r, s, _, o, ...rest] = sizes as [
    ...[number, number, number, number, number, number, number, number],
    ...[number, number, number, number],
    ...number[],
  ];
  const [sh, sw, ph, pw, dh = 1, dw = 1] = rest;
  return {
    ...{ kind, n, pixels: [h, w], c, o, kernel: [r, s] },
    ...{ stride: [sh, sw], padding: [ph, pw], dilation: [dh, dw] },
  };
}

/** Pixels P×Q of a convolution's result. */
export function resultPixels(x: Convolution): Two {
  const { pixels, kernel, stride, padding, dilation } = x;
  const count = (axis: 0 | 1) => {
    const window = dilation[axis] * (kernel[axis] - 1) + 1;
    return Math.floor((pixels[axis] + 2 * padding[axis] - window) / stride[axis]) + 1;
  };
  return [count(0), count(1)];
}

const area = ([a, b]: Two) => a * b;

/** Floating-point operations of a problem; of a convolution, those of its direct computation. */
export function problemFlops(x: Problem): number {
  if (isProduct(x)) return 2 * x.layers * x.rows * x.inner * x.columns;
  return 2 * x.n * area(resultPixels(x)) * x.o * area(x.kernel) * x.c;
}

/** What a device can be bound to, for tests and tuning. */
export const CHOICES: readonly KernelChoice[] = [
  "auto",
  "naive",
  "register",
  "subgroup",
  "workgroup",
  "winograd",
];

/** Tiles worth trying, `[rows, vectors]`: those of single threads, and those of subgroups. */
const REGISTER_TILES: readonly Two[] = [[8, 2], [8, 1], [4, 2], [4, 1]];
const SUBGROUP_TILES: readonly Two[] = [[64, 2], [64, 1], [16, 1], [8, 1]];

/** Columns of the result, and whether what a tile loads comes in whole vectors of four. */
function tiling(x: Problem): { columns: number; whole: boolean } {
  switch (x.kind) {
    case "product":
      return { columns: x.columns, whole: x.inner % 4 === 0 };
    case "productT":
      return { columns: x.columns, whole: x.rows % 4 === 0 };
    case "inputGrad":
      return { columns: x.c, whole: x.o % 4 === 0 };
    default:
      return { columns: x.o, whole: x.c % 4 === 0 };
  }
}

/** Phases of an input gradient that tiles are made for, at most: a stride of 32 has as many. */
const MOST_PHASES = 1024;

/** Whether tiles have a problem's columns in whole vectors, and not too many phases (`ops/conv.ts`). */
function isTiled(x: Problem): boolean {
  const phases = !isProduct(x) && x.kind === "inputGrad"
    ? Math.min(x.stride[0], x.pixels[0]) * Math.min(x.stride[1], x.pixels[1])
    : 1;
  return tiling(x).columns % 4 === 0 && phases <= MOST_PHASES;
}

/** The tile that a whole workgroup shares (`gemm_workgroup.ts`). */
const WORKGROUP_TILE: Tile = { rows: 64, lanes: 1, vectors: 16, workgroup: true };

/** A tile's name: `subgroup 16x1` has 16 rows and 1 vector. */
const tileName = ({ rows, lanes, vectors, workgroup }: Tile) =>
  `${workgroup ? "workgroup" : lanes > 1 ? "subgroup" : "register"} ${rows}x${vectors}`;

/** The tiles that fit a problem, by name. */
function tilesOf(target: Target, problem: Problem): Map<string, Tile> {
  const { subgroupSize } = target, { columns, whole } = tiling(problem);
  const tiles = new Map<string, Tile>();
  if (!isTiled(problem)) return tiles;
  const addWorkgroup = () => tiles.set(tileName(WORKGROUP_TILE), WORKGROUP_TILE);
  if (!whole) return isProduct(problem) || problem.kind === "inputGrad" ? tiles : addWorkgroup();
  const add = (lanes: number) => ([rows, vectors]: Two) => {
    const tile = { rows, lanes, vectors }, even = rows <= lanes || rows % lanes === 0;
    if (even && 4 * vectors <= columns) tiles.set(tileName(tile), tile);
  };
  if (subgroupSize > 1) SUBGROUP_TILES.forEach(add(subgroupSize));
  REGISTER_TILES.forEach(add(1));
  return addWorkgroup();
}

/**
 * What can compute a problem on a target, by name: a tile (`subgroup 16x1`), and for a
 * convolution `winograd 4`, `patches` (its windows written out) or `padded` (channels up to a
 * multiple of 4, if they must be). Empty if there is no choice.
 */
export function candidates(target: Target, problem: Problem): string[] {
  const tiles = [...tilesOf(target, problem).keys()];
  if (isProduct(problem)) return problem.layers > target.maxWorkgroups ? [] : tiles;
  const patches = patchesFit(target, problem) ? ["patches"] : [];
  const padded = patches.length > 0 && !tiling(problem).whole ? ["padded"] : [];
  return [...winogradSizes(problem).map((m) => `winograd ${m}`), ...patches, ...padded, ...tiles];
}

/** The choice that was measured to be best, if it is one of the candidates. */
function tuned(target: Target, problem: Problem): string | undefined {
  if (target.choice !== "auto") return undefined;
  const choice = target.tuned?.get(problemKey(problem));
  return choice !== undefined && candidates(target, problem).includes(choice) ? choice : undefined;
}

/** Rows of the product that a problem is. */
function rowsOf(x: Problem): number {
  if (isProduct(x)) return x.rows;
  if (x.kind === "weightGrad") return area(x.kernel) * x.c;
  return x.n * area(x.kind === "forward" ? resultPixels(x) : x.pixels);
}

/** Whether a problem is just a product: no windows must be found. */
function isPlain(x: Problem): boolean {
  return isProduct(x) || area(x.kernel) * area(x.stride) === 1 && x.padding[0] + x.padding[1] === 0;
}

/** Whether a tile in workgroup memory is full, or nearly, so that few of its products are for nothing. */
function fillsWorkgroup(x: Problem): boolean {
  const { rows, vectors } = WORKGROUP_TILE;
  return tiling(x).columns >= 4 * vectors && rowsOf(x) >= 3 / 4 * rows;
}

/**
 * The tile for a problem, or null for the naive kernel; `layers` counts its products, parts of a
 * split sum included.
 *
 * Broadcasting pays where a load costs more than the arithmetic it feeds, as on a software adapter
 * (a load there is a loop over the lanes), and needs enough columns to occupy the lanes.
 */
export function chooseTile(target: Target, problem: Problem, layers = 1): Tile | null {
  const { choice: forced, subgroupSize: lanes } = target, { columns } = tiling(problem);
  if (forced === "naive" || !isTiled(problem) || layers > target.maxWorkgroups) return null;
  const choice = tuned(target, problem);
  const tile = choice && tilesOf(target, problem).get(choice);
  if (tile) return tile;
  // More rows, for products: fewer loads for each multiplication. A second vector would save more of
  // them, but a driver compiles it for two seconds, three times as long, and it is no faster. Of 49
  // rows small tiles have as many past the end.
  const large = isPlain(problem) && rowsOf(problem) > 48 && lanes >= 8;
  const subgroup: Tile = { rows: large ? 64 : 16, lanes, vectors: 1 };
  if (forced === "subgroup" && lanes > 1) return subgroup;
  const free = forced === "auto" || forced === "winograd";
  if (free && lanes > 1 && lanes <= 16 && columns >= 2 * lanes) return subgroup;
  if (forced === "workgroup" || free && fillsWorkgroup(problem)) return WORKGROUP_TILE;
  return { rows: 8, lanes: 1, vectors: columns >= 8 ? 2 : 1 };
}

/** Tiles of 16 × 32 results that are worth having before a sum is split among more of them. */
const WANTED_TILES = 1024;
/**
 * The same for tiles in workgroup memory: a GPU has places for some hundred. If a sum is split at all, it
 * is so among twice as many, so that few places are idle while the last ones are computed; but not where
 * reading takes longer than that, as of products with few results, which use nothing often.
 */
const LEAST_GROUPS = 256, MOST_READING = 64;
/** Length of a part of a sum, at least. */
const LEAST_PART = 256;

/**
 * Parts to split sums over `length` into, for products of `rows × columns`; tiles in workgroup memory
 * count those of all `layers`.
 */
export function chooseSplits(
  tile: Tile,
  rows: number,
  columns: number,
  length: number,
  layers = 1,
): number {
  const tiles = (down: number, across: number) =>
    Math.ceil(rows / down) * Math.ceil(columns / across);
  const groups = layers * tiles(WORKGROUP_TILE.rows, 4 * WORKGROUP_TILE.vectors);
  // Multiplications for each number that is read.
  const reads = rows * columns / (rows + columns) <= MOST_READING;
  const wanted = !tile.workgroup
    ? WANTED_TILES / tiles(16, 32)
    : groups < LEAST_GROUPS
    ? LEAST_GROUPS * (reads ? 1 : 2) / groups
    : 1;
  return Math.max(1, Math.min(Math.ceil(wanted), Math.floor(length / LEAST_PART)));
}

/** Results per tile that Winograd's transforms are used with. */
const WINOGRAD_SIZES = [2, 3, 4, 6] as const;

/** The sizes of Winograd's tiles that a convolution can be computed with. */
function winogradSizes(x: Convolution): readonly number[] {
  const { kind, kernel, stride, padding, dilation, c, o } = x;
  const applies = kernel.every((k) => k === 3) && area(stride) * area(dilation) === 1 &&
    c % 4 === 0 && o % 4 === 0 && (kind !== "inputGrad" || padding.every((p) => p <= 2));
  return applies ? WINOGRAD_SIZES : [];
}

/** Multiplications of F(m×m, 3×3) in each layer, partial tiles at the edges included. */
export function winogradCost(conv: Convolution, m: number): number {
  const [h, w] = resultPixels(conv);
  return Math.ceil(h / m) * Math.ceil(w / m) * (m + 2) ** 2;
}

/** As many tiles as take the time of a kernel's transform, and of reading what it makes. */
const KERNEL_TILES = 3;

/**
 * Tile size m of Winograd's F(m×m, 3×3) for a convolution, or null if it does not apply or pay.
 * Of the sizes, the one with the fewest multiplications; a kernel's transform counts too, so that of
 * few tiles each is small.
 */
export function chooseWinograd(target: Target, conv: Convolution): number | null {
  const sizes = winogradSizes(conv);
  if (sizes.length === 0) return null;
  const choice = tuned(target, conv);
  if (choice) return sizes.find((m) => choice === `winograd ${m}`) ?? null;
  if (target.choice !== "winograd") {
    // With few channels the transforms cost too much, and small images use only a corner of a tile.
    const pays = Math.min(conv.c, conv.o) >= 32 && Math.min(...resultPixels(conv)) >= 3;
    if (target.choice !== "auto" || !pays) return null;
  }
  // Rounding errors of m = 6 are five times those of the others: it must save a third of the work.
  const cost = (m: number) =>
    (conv.n * winogradCost(conv, m) + KERNEL_TILES * (m + 2) ** 2) * (m === 6 ? 1.5 : 1);
  return sizes.reduce((best, m) => cost(m) <= cost(best) ? m : best);
}

/**
 * Whether a convolution's windows can be written out: if there is a stride, or if the channels are no
 * whole vectors, and the windows take little more memory than x and y.
 */
function patchesFit(target: Target, conv: Convolution): boolean {
  const { kind, n, pixels, c, o, kernel, stride } = conv;
  if (kind === "inputGrad" || o % 4 !== 0 || (c % 4 === 0 && area(stride) === 1)) return false;
  const size = resultPixels(conv);
  const elements = n * area(size) * area(kernel) * c;
  return elements <= 2.5 * n * Math.max(area(pixels) * c, area(size) * o) &&
    4 * elements <= 0.9 * target.maxBindingBytes;
}

/** Whether a convolution is best taken as a product with its windows written out. */
export function choosePatches(target: Target, conv: Convolution): boolean {
  if (target.choice === "naive" || !patchesFit(target, conv)) return false;
  const choice = tuned(target, conv);
  if (choice !== undefined) return choice === "patches";
  // Where a workgroup shares its tile, finding the windows costs next to nothing, and writing them bytes.
  return !chooseTile(target, conv)?.workgroup;
}

/** Whether channels that are no whole vectors are filled up with zeros. */
export function choosePadded(target: Target, conv: Convolution): boolean {
  return conv.c % 4 !== 0 &&
    (tuned(target, conv) === "padded" || !chooseTile(target, conv)?.workgroup);
}

/** What computes a problem on a target: one of {@link candidates}, or `naive`. */
export function choiceFor(target: Target, problem: Problem): string {
  if (!isProduct(problem)) {
    const m = chooseWinograd(target, problem);
    if (m) return `winograd ${m}`;
    if (choosePatches(target, problem)) return "patches";
  }
  const tile = chooseTile(target, problem, isProduct(problem) ? problem.layers : 1);
  if (!tile) return "naive";
  if (tiling(problem).whole) return tileName(tile);
  if (!isProduct(problem) && problem.kind === "inputGrad") return "naive";
  return isProduct(problem) || choosePadded(target, problem) ? "padded" : tileName(tile);
}

/** A digest of measured choices, by which a run's checkpoints tell tables apart; undefined if empty. */
export async function tunedDigest(
  choices: ReadonlyMap<string, string>,
): Promise<string | undefined> {
  if (choices.size === 0) return undefined;
  const text = [...choices].map(([key, choice]) => `${key}: ${choice}\n`).sort().join("");
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(digest, 0, 8).toHex();
}
