/**
 * Grey images as PNG files, by Deno's canvas.
 *
 * @module
 */

import { recode } from "../../lib/files/image.ts";

/** A PNG of `pixels` `[height, width]`, 0 black to 255 white. */
export async function encodePng(
  pixels: Uint8Array,
  height: number,
  width: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const rgba = new Uint8ClampedArray(4 * pixels.length).fill(255);
  pixels.forEach((value, i) => rgba.fill(value, 4 * i, 4 * i + 3));
  return await (await recode(new ImageData(rgba, width, height), "image/png")).bytes();
}
