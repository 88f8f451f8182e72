/**
 * Pixels of decoded pictures: planes of grey or of red, green and blue, as Pillow makes them.
 *
 * @module
 */

/** The pixels of an image, 0 black to 255 white, row by row. */
export interface DecodedImage {
  /** `[channels, height, width]`. */
  readonly pixels: Uint8Array<ArrayBuffer>;
  /** Columns. */
  readonly width: number;
  /** Rows. */
  readonly height: number;
}

/** What Pillow makes of a colour in grey. */
export const luma = (r: number, g: number, b: number): number =>
  (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;

/** A value that lies on white. */
export const onWhite = (value: number, alpha: number): number =>
  Math.round((value * alpha + 255 * (255 - alpha)) / 255);

/** Planes of 1 or 3 channels as 1 or 3. */
export function inChannels<T extends Uint8Array>(
  pixels: T,
  own: number,
  wanted: number,
): T | Uint8Array<ArrayBuffer> {
  if (own === wanted) return pixels;
  const plane = pixels.length / own, result = new Uint8Array(wanted * plane);
  if (own < wanted) {
    for (let channel = 0; channel < wanted; channel++) result.set(pixels, channel * plane);
    return result;
  }
  for (let i = 0; i < plane; i++) {
    result[i] = luma(pixels[i]!, pixels[i + plane]!, pixels[i + 2 * plane]!);
  }
  return result;
}

/** What a canvas hands out, RGBA, as planes; on white, as viewers show what is transparent. */
export function planesOf(
  { data, width, height }: Pick<ImageData, "data" | "width" | "height">,
  channels: number,
): DecodedImage {
  const plane = width * height, pixels = new Uint8Array(channels * plane);
  for (let i = 0, at = 0; i < plane; i++, at += 4) {
    const r = data[at]!, g = data[at + 1]!, b = data[at + 2]!, alpha = data[at + 3]!;
    pixels[i] = onWhite(channels === 1 ? luma(r, g, b) : r, alpha);
    if (channels === 1) continue;
    pixels[i + plane] = onWhite(g, alpha);
    pixels[i + 2 * plane] = onWhite(b, alpha);
  }
  return { pixels, width, height };
}
