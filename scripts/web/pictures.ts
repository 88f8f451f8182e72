/**
 * Pixels of the worker on canvases.
 *
 * @module
 */

import type { Pixels } from "./protocol.ts";

/** Draws pixels on a canvas, which takes their size. */
export function draw(
  canvas: HTMLCanvasElement,
  { pixels, channels, height, width }: Pixels,
): HTMLCanvasElement {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const plane = height * width, image = new ImageData(width, height);
  for (let i = 0; i < plane; i++) {
    for (let k = 0; k < 3; k++) {
      image.data[4 * i + k] = pixels[(channels === 1 ? 0 : k * plane) + i]!;
    }
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d")!.putImageData(image, 0, 0);
  return canvas;
}
