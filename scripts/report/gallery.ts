/**
 * Images with words below them, as one SVG that holds the images as PNG.
 *
 * @module
 */

import { encodePng } from "../../lib/data/png.ts";
import type { ImageDataset } from "../../lib/data/dataset.ts";
import { xml } from "./text.ts";

/** An image and what is said about it. */
export interface Picture {
  /** Pixels `[channels, height, width]`, 0 black to 255 white. */
  readonly pixels: Uint8Array;
  /** Lines of text. */
  readonly lines: readonly string[];
}

const COLUMNS = 6;
const CELL = 125;
const IMAGE = 84;
const LINE = 16;

/** The pictures in rows, all of the same sizes. */
export async function gallery(
  pictures: readonly Picture[],
  { height, width, channels = 1 }: Pick<ImageDataset, "height" | "width" | "channels">,
): Promise<string> {
  const lines = Math.max(0, ...pictures.map((picture) => picture.lines.length));
  const row = IMAGE + lines * LINE + 20;
  const cells = await Promise.all(pictures.map(async ({ pixels, lines }, i) => {
    const x = (i % COLUMNS) * CELL, y = Math.floor(i / COLUMNS) * row;
    const middle = x + CELL / 2;
    const texts = lines.map((line, k) =>
      `<text x="${middle}" y="${y + IMAGE + (k + 1) * LINE}">${xml(line)}</text>`
    );
    const png = (await encodePng(pixels, height, width, channels, 2 * IMAGE)).toBase64();
    return `<image x="${middle - IMAGE / 2}" y="${y}" width="${IMAGE}" height="${IMAGE}" ` +
      `href="data:image/png;base64,${png}" style="image-rendering:pixelated"/>${texts.join("")}`;
  }));
  const size = [
    Math.min(COLUMNS, pictures.length) * CELL,
    Math.ceil(pictures.length / COLUMNS) * row,
  ];
  return `<svg class="plot" role="img" aria-label="images" xmlns="http://www.w3.org/2000/svg" ` +
    `width="${size[0]}" height="${size[1]}" viewBox="0 0 ${size.join(" ")}">\n` +
    `<g font-family="sans-serif" font-size="12" text-anchor="middle" fill="currentColor">\n` +
    `${cells.join("\n")}\n</g>\n</svg>`;
}
