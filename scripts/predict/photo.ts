/**
 * A picture of a garment as Fashion-MNIST would have it: 28×28, the garment bright on black and as
 * large as fits. MNIST and its kin show their letters in the same way. These are the steps by
 * which the data set was made (Xiao et al. 2017, https://arxiv.org/abs/1708.07747, figure 1), without
 * its sharpening; on the CPU, for one image.
 *
 * The garment must be alone and upright.
 *
 * @module
 */

import {
  checkChoice,
  checkInstance,
  checkNumber,
  checkObject,
  checkOptions,
  refuse,
} from "../../lib/check/arguments.ts";
import { pair } from "../../lib/graph/shape.ts";
import { resizeBytes } from "../../lib/ops/resize.ts";

/** Rows and columns of Fashion-MNIST's images. */
const SIZE = [28, 28] as const;
/** How far a pixel may be from the background and still belong to it: 5% of 255, as in the paper. */
const TOLERANCE = 13;

/** Whether a picture is inverted: where its background is light, always, or never. */
export type Invert = "auto" | "yes" | "no";

/** A picture made ready. */
export interface Garment {
  /** Of the size that was asked for, bright on black. */
  readonly pixels: Uint8Array<ArrayBuffer>;
  /** Whether it was inverted. */
  readonly inverted: boolean;
  /** The part of the picture that was taken. */
  readonly box: Box;
}

/** A part of a picture, in pixels. */
export interface Box {
  /** Its first column. */
  readonly x: number;
  /** Its first row. */
  readonly y: number;
  /** Columns. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
}

/**
 * Makes a picture ready for a network that was trained on Fashion-MNIST:
 *
 * 1. The background is the median of the picture's outermost pixels. If it is light (128 or more),
 *    the picture is inverted, unless `invert` says otherwise.
 * 2. What is within 5% of the background is cut off on all sides.
 * 3. The rest is resized so that it just fits 28×28, or another `size`, or a share of its sides
 *    (`fill`: 20/28 for MNIST), and put in the middle of a background.
 * 4. A dark background becomes black.
 *
 * A picture of that size is taken to be one of the data set, and at most inverted.
 *
 * @param image grey pixels `[height, width]`
 * @param options `invert`: whether it is inverted (`auto`); `size`: rows and columns of the result
 * (28×28); `fill`: the share of them that the garment takes (1)
 * @returns the picture
 * @throws {ArgumentError} if the image is not as large as its sizes say, or an option is not allowed
 *
 * @example
 * ```ts
 * import { prepareGarment } from "./photo.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const pixels = new Uint8Array(100 * 60).fill(255); // white, with a black square
 * for (let y = 40; y < 60; y++) pixels.fill(0, y * 60 + 20, y * 60 + 40);
 * const { inverted, box } = prepareGarment({ pixels, width: 60, height: 100 });
 * assertEquals(inverted, true);
 * assertEquals(box, { x: 20, y: 40, width: 20, height: 20 });
 * ```
 */
export function prepareGarment(
  image: {
    readonly pixels: Uint8Array;
    readonly width: number;
    readonly height: number;
  },
  options: {
    invert?: Invert;
    size?: readonly [rows: number, columns: number];
    fill?: number;
  } = {},
): Garment {
  checkObject("prepareGarment", "image", image);
  const { pixels, width, height } = image;
  checkNumber("prepareGarment", "image.width", width, { integer: true, min: 1 });
  checkNumber("prepareGarment", "image.height", height, { integer: true, min: 1 });
  checkInstance("prepareGarment", "image.pixels", pixels, Uint8Array);
  if (pixels.length !== width * height) {
    refuse("prepareGarment", "image.pixels", `${height} × ${width} bytes`, pixels);
  }
  checkOptions("prepareGarment", options, ["invert", "size", "fill"]);
  const { invert = "auto", size = SIZE, fill = 1 } = options;
  checkNumber("prepareGarment", "fill", fill, { min: 0, max: 1 });
  const [rows, columns] = pair("prepareGarment", "size", size, 1);
  checkChoice("prepareGarment", "invert", invert, ["auto", "yes", "no"]);
  const border = backgroundOf(pixels, width, height);
  const inverted = invert === "auto" ? border >= 128 : invert === "yes";
  const level = inverted ? 255 - border : border;
  const out = new Uint8Array(rows * columns);
  const ready = width === columns && height === rows;
  const box = ready ? { x: 0, y: 0, width, height } : boxOf(pixels, width, height, border);
  // In this order, a side that fits is exact.
  const share = ready ? 1 : fill;
  const fitted = (side: number) =>
    Math.max(1, Math.round(share * Math.min(columns * side / box.width, rows * side / box.height)));
  const [w, h] = [fitted(box.width), fitted(box.height)];
  const part = new Uint8Array(box.width * box.height);
  for (let row = 0; row < box.height; row++) {
    const from = (box.y + row) * width + box.x;
    part.set(pixels.subarray(from, from + box.width), row * box.width);
  }
  const resized = resizeBytes(part, 1, box.height, box.width, h, w);
  // On a light background that is to stay, the levels stay too.
  const black = ready || level >= 128 ? 0 : level;
  const levelled = (value: number) =>
    Math.max(0, Math.round(255 * ((inverted ? 255 - value : value) - black) / (255 - black)));
  out.fill(levelled(border));
  // As in the data set, the larger half of an odd margin comes first.
  const top = Math.ceil((rows - h) / 2), left = Math.ceil((columns - w) / 2);
  for (let row = 0; row < h; row++) {
    for (let column = 0; column < w; column++) {
      out[(top + row) * columns + left + column] = levelled(resized[row * w + column]!);
    }
  }
  return { pixels: out, inverted, box };
}

/** The median of the outermost pixels. */
function backgroundOf(pixels: Uint8Array, width: number, height: number): number {
  const counts = new Uint32Array(256);
  let total = 0;
  for (let y = 0; y < height; y++) {
    const step = y === 0 || y === height - 1 ? 1 : Math.max(1, width - 1);
    for (let x = 0; x < width; x += step, total++) counts[pixels[y * width + x]!]!++;
  }
  let value = 0;
  for (let seen = counts[0]!; 2 * seen < total; seen += counts[value]!) value++;
  return value;
}

/** The box around everything that is not background; the whole image if there is only background. */
export function boxOf(pixels: Uint8Array, width: number, height: number, background: number): Box {
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (Math.abs(pixels[at]! - background) < TOLERANCE) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  if (right < 0) return { x: 0, y: 0, width, height };
  return { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}
