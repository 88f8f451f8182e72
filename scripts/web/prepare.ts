/**
 * Pictures that people give the page, made ready for the net: the browser decodes them, and then
 * the steps are those of `deno task predict`.
 *
 * @module
 */

import type { ImagesInMemory } from "../../lib/data/dataset.ts";
import { type DecodedImage, planesOf } from "../../lib/data/pixels.ts";
import type { DataSource } from "../../lib/train/checkpoint.ts";
import { preparing } from "../predict/prepare.ts";
import type { Pixels } from "./protocol.ts";

/** The most pixels that are decoded: 8192×8192. */
const MOST_PIXELS = 2 ** 26;

/**
 * A file's first picture, turned as its EXIF says, its colour profile ignored as Deno does.
 *
 * @throws {Error} if the browser cannot decode it, or it is too large.
 */
export async function decode(file: Blob, name: string, channels: number): Promise<DecodedImage> {
  let bitmap: ImageBitmap;
  try {
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" } as const;
    bitmap = await createImageBitmap(file, options);
  } catch (cause) {
    throw new Error(`${name}: is no picture that this browser can decode`, { cause });
  }
  try {
    const { width, height } = bitmap;
    if (width * height > MOST_PIXELS) {
      throw new Error(
        `${name}: ${width}×${height} pixels are more than the ${MOST_PIXELS} decoded`,
      );
    }
    const canvas = new OffscreenCanvas(width, height).getContext("2d", {
      willReadFrequently: true,
    })!;
    canvas.drawImage(bitmap, 0, 0);
    return planesOf(canvas.getImageData(0, 0, width, height), channels);
  } finally {
    bitmap.close();
  }
}

/** A picture as the net wants it, which was trained on images like those of `data`. */
export async function prepare(
  picture: File | ImageData,
  { channels = 1, height, width }: ImagesInMemory,
  source: DataSource,
): Promise<Pixels> {
  const made = preparing({ ...source, channels, height, width }, [height, width], "auto");
  const decoded = picture instanceof File
    ? await decode(picture, picture.name, made.channels)
    : planesOf(picture, made.channels);
  const [rows, columns] = made.size;
  const { pixels } = made.prepare(decoded);
  return { pixels, channels: made.channels, height: rows, width: columns };
}
