/**
 * Which kernel computes a matrix product, and with what tile: one place for every choice that
 * depends on the adapter. The naive kernel is the reference and serves the shapes no tile fits.
 *
 * @module
 */

import type { Schedule, Target } from "./kernel.ts";

/** How a product's result is cut among threads. */
export interface Tile {
  /** Rows of the result that a group of lanes works on. */
  readonly rows: number;
  /** Lanes that share those rows by subgroup broadcast; 1 means each thread works alone. */
  readonly lanes: number;
  /** Four-column vectors of the result that each lane keeps, for every row. */
  readonly vectors: number;
}

/** Every schedule a kernel can be forced to, for tests and tuning. */
export const SCHEDULES: readonly Schedule[] = [
  "auto",
  "naive",
  "register",
  "subgroup",
  "winograd",
];

const REGISTER: Tile = { rows: 8, lanes: 1, vectors: 2 };

/**
 * The tile for a product with `columns` result columns, of which there are `layers`, or null for the
 * naive kernel.
 *
 * Broadcasting pays where a load costs more than the arithmetic it feeds, as on a software adapter
 * (a load there is a loop over the lanes), and needs enough columns to occupy the lanes.
 */
export function chooseTile(target: Target, columns: number, layers = 1): Tile | null {
  const { schedule, subgroupSize: lanes } = target;
  if (schedule === "naive" || columns % 4 !== 0 || layers > target.maxWorkgroups) return null;
  const subgroup: Tile = { rows: 16, lanes, vectors: 1 };
  if (schedule === "subgroup" && lanes > 1) return subgroup;
  const free = schedule === "auto" || schedule === "winograd";
  if (free && lanes > 1 && lanes <= 16 && columns >= 2 * lanes) return subgroup;
  return { ...REGISTER, vectors: columns >= 8 ? 2 : 1 };
}

/** A 3×3 convolution of stride 1, as far as the choice of an algorithm is concerned. */
export interface Convolution {
  readonly kernel: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly inChannels: number;
  readonly outChannels: number;
  /** Pixels of the side that is tiled. */
  readonly pixels: readonly [number, number];
}

/** Results per tile that Winograd's transforms are used with. */
const TILES = [2, 3, 4, 6] as const;

/**
 * Tile size m of Winograd's F(m×m, 3×3) for a convolution, or null where it does not apply or pay.
 * Of the sizes, the one with the fewest multiplications, partial tiles at the edges included.
 */
export function chooseWinograd(target: Target, conv: Convolution): number | null {
  const { kernel, stride, inChannels, outChannels, pixels } = conv;
  const applies = [...kernel].every((k) => k === 3) && [...stride].every((s) => s === 1) &&
    inChannels % 4 === 0 && outChannels % 4 === 0;
  if (!applies) return null;
  if (target.schedule !== "winograd") {
    // Few channels make the transforms dear; of a tile, small images use a corner.
    const pays = Math.min(inChannels, outChannels) >= 32 && Math.min(...pixels) >= 3;
    if (target.schedule !== "auto" || !pays) return null;
  }
  // Rounding errors of m = 6 are five times those of the others: it must save a third of the work.
  const cost = (m: number) =>
    Math.ceil(pixels[0] / m) * Math.ceil(pixels[1] / m) * (m + 2) ** 2 * (m === 6 ? 1.5 : 1);
  return TILES.reduce((best, m) => cost(m) <= cost(best) ? m : best);
}
