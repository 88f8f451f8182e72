/**
 * Images as PNG files, and pictures as files of other formats, by the platform's canvas.
 *
 * @module
 */

/** A picture as a file of another format, and of a width, if one is given. */
export async function recode(
  picture: Blob | ImageData,
  type: string,
  resizeWidth?: number,
): Promise<Blob> {
  const bitmap = await createImageBitmap(picture, resizeWidth === undefined ? {} : { resizeWidth });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("bitmaprenderer")!.transferFromImageBitmap(bitmap);
  try {
    return await canvas.convertToBlob({ type, quality: 1 });
  } finally {
    canvas.width = canvas.height = 1; // Deno 2.9 keeps every canvas until the process ends.
  }
}

/**
 * A PNG of `pixels` `[channels, height, width]`, 0 black to 255 white; 1 channel is grey, 3 are RGB. It
 * is made smaller if it is wider than `most`.
 */
export async function encodePng(
  pixels: Uint8Array,
  height: number,
  width: number,
  channels = 1,
  most = Infinity,
): Promise<Uint8Array<ArrayBuffer>> {
  const size = height * width, rgba = new Uint8ClampedArray(4 * size).fill(255);
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < 3; k++) rgba[4 * i + k] = pixels[(channels === 1 ? 0 : k * size) + i]!;
  }
  const picture = new ImageData(rgba, width, height);
  return await (await recode(picture, "image/png", width > most ? most : undefined)).bytes();
}
