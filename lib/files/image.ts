/**
 * PNG, JPEG and WebP files as pixels, grey or RGB. **Deno only:** its `createImageBitmap` decodes,
 * and its `OffscreenCanvas` hands the pixels out as a BMP, which browsers' do not.
 *
 * Files come from anywhere. So their length, the size that their headers claim, and whether their
 * end is there are checked before anything is decoded. Other formats are not read. Of an animation,
 * only the first picture is. Colour profiles are ignored.
 *
 * @module
 */

import { type DecodedImage, inChannels, luma, onWhite } from "../data/pixels.ts";
import { recode } from "../data/png.ts";
import { alphaOf } from "./png_alpha.ts";
import { resizeBytes } from "../ops/resize.ts";

/** A file that is no image that can be used; the message names it and says why. */
export class ImageError extends Error {
  /** `ImageError`. */
  override name = "ImageError";
}

/** The longest file that is read: 64 MiB. */
export const MAX_IMAGE_BYTES: number = 2 ** 26;
/** The most pixels that are decoded: 8192×8192, which takes up to 1 GiB meanwhile. */
export const MAX_IMAGE_PIXELS: number = 2 ** 26;
/** The most of 16 bits a channel: they take more memory, and are decoded twice. */
const MAX_DEEP_PIXELS = 2 ** 24;
/** The longest colour profile of a PNG: it is packed, and may be a thousand times as long. */
const MAX_PROFILE_BYTES = 2 ** 16;

/** What a file's header claims. */
interface Header {
  readonly type: "image/png" | "image/jpeg" | "image/webp";
  readonly width: number;
  readonly height: number;
  /** Whether it has no colours: by its kind of pixels, or all of its palette. */
  readonly grey: boolean;
  /** Whether channels have 16 bits. */
  readonly deep?: boolean;
  /** Whether the platform leaves its transparency out. */
  readonly veiled?: boolean;
  /** What else is wrong, that a decoder would not survive or not notice. */
  readonly fault?: string | undefined;
  /** Where a PNG's note of how it is turned begins and ends: no decoder here heeds it. */
  readonly exif?: readonly [start: number, end: number] | undefined;
}

/** Types of a PNG's chunks: `PLTE`, `iCCP`, `eXIf` and `IEND`. */
const PALETTE = 0x504c5445, PROFILE = 0x69434350, EXIF = 0x65584966, END = 0x49454e44;

/** Decoders fill what is missing, or some of it, with grey. */
const CUT_OFF = "is damaged: the file ends before its picture does";

const ascii = (bytes: Uint8Array, from: number, to: number) =>
  String.fromCharCode(...bytes.subarray(from, to));

/** The header of a PNG, JPEG or WebP file; undefined for any other. */
function readHeader(bytes: Uint8Array<ArrayBuffer>): Header | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (ascii(bytes, 0, 8) === "\x89PNG\r\n\x1a\n" && ascii(bytes, 12, 16) === "IHDR") {
    return readPngHeader(view);
  }
  if (ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 12) === "WEBP") {
    const type = "image/webp", chunk = ascii(bytes, 12, 16);
    const fault = view.getUint32(4, true) + 8 > bytes.length ? CUT_OFF : undefined;
    if (chunk === "VP8X") {
      const [w, h] = [24, 27].map((at) => view.getUint32(at - 1, true) >>> 8);
      return { type, width: w! + 1, height: h! + 1, grey: false, fault };
    }
    if (chunk === "VP8L") {
      const bits = view.getUint32(21, true);
      const width = (bits & 0x3fff) + 1, height = (bits >>> 14 & 0x3fff) + 1;
      return { type, width, height, grey: false, fault };
    }
    const [width, height] = [26, 28].map((at) => view.getUint16(at, true) & 0x3fff);
    if (chunk !== "VP8 ") return undefined;
    return { type, width: width!, height: height!, grey: false, fault };
  }
  return ascii(bytes, 0, 3) === "\xff\xd8\xff" ? readJpegHeader(view) : undefined;
}

function readPngHeader(view: DataView<ArrayBuffer>): Header {
  const [width, height, deep] = [view.getUint32(16), view.getUint32(20), view.getUint8(24) > 8];
  let fault: string | undefined, exif: Header["exif"], ended = false;
  let grey = [0, 4].includes(view.getUint8(25));
  for (let at = 8; at + 8 <= view.byteLength;) {
    const length = view.getUint32(at), type = view.getUint32(at + 4), end = at + 12 + length;
    const fits = end <= view.byteLength;
    if (type === PALETTE && (length === 0 || length > 768 || length % 3 !== 0)) {
      // Such a one ends the whole process (Deno 2.9).
      fault ??= `its palette has ${length} bytes, not 3 for each of 1 to 256 colours`;
    } else if (type === PALETTE && fits && view.getUint8(25) === 3) {
      grey = isGreyPalette(new Uint8Array(view.buffer, view.byteOffset + at + 8, length));
    } else if (type === PROFILE && length > MAX_PROFILE_BYTES) {
      fault ??=
        `its colour profile has ${length} bytes, more than ${MAX_PROFILE_BYTES}; save it without`;
    } else if (type === EXIF && fits && !ended) {
      const chunk = new Uint8Array(view.buffer, view.byteOffset + at + 4, length + 4);
      if (crc32(chunk) !== view.getUint32(end - 4)) fault ??= "is damaged: its EXIF note is";
      exif = [at, end];
    } else if (type === END) ended ||= fits;
    at = end;
  }
  return {
    type: "image/png",
    width,
    height,
    grey,
    deep,
    veiled: view.getUint8(25) === 4 || view.getUint8(25) === 6 && deep,
    exif,
    fault: fault ?? (ended ? undefined : CUT_OFF),
  };
}

/** Whether red, green and blue of each colour are the same. */
function isGreyPalette(colours: Uint8Array): boolean {
  return colours.every((value, i) => value === colours[i - i % 3]);
}

/** The checksum of a PNG's chunk. */
function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >>> 1 ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

/** What a TIFF header's first directory says of how the picture is turned; 1 where it says nothing. */
function orientationOf(exif: DataView): number {
  // Some write before it what only a JPEG needs.
  const start = exif.byteLength > 6 && exif.getUint32(0) === 0x45786966 ? 6 : 0;
  const little = exif.byteLength >= start + 8 && exif.getUint16(start) === 0x4949;
  const within = (at: number, size: number) => at >= start && at + size <= exif.byteLength;
  if (!within(start, 8) || exif.getUint16(start + 2, little) !== 42) return 1;
  const directory = start + exif.getUint32(start + 4, little);
  const entries = within(directory, 2) ? exif.getUint16(directory, little) : 0;
  for (let i = 0, at = directory + 2; i < entries && within(at, 12); i++, at += 12) {
    if (exif.getUint16(at, little) !== 0x0112) continue;
    const isShort = exif.getUint16(at + 2, little) === 3;
    const value = isShort ? exif.getUint16(at + 8, little) : exif.getUint32(at + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/** A picture turned and mirrored as EXIF numbers it, from 1 (as it is) to 8. */
function turned({ pixels, width, height }: DecodedImage, orientation: number): DecodedImage {
  const lies = orientation > 4; // rows become columns
  const fromRight = [2, 3, 7, 8].includes(orientation);
  const fromBelow = [3, 4, 6, 7].includes(orientation);
  const [columns, rows] = lies ? [height, width] : [width, height];
  const result = new Uint8Array(pixels.length);
  for (let plane = 0, at = 0; plane < pixels.length; plane += width * height) {
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++, at++) {
        const [u, v] = lies ? [y, x] : [x, y];
        const column = fromRight ? width - 1 - u : u, row = fromBelow ? height - 1 - v : v;
        result[at] = pixels[plane + row * width + column]!;
      }
    }
  }
  return { pixels: result, width: columns, height: rows };
}

/** The largest frame that a JPEG file announces; there should be one, but who knows. */
function readJpegHeader(view: DataView<ArrayBuffer>): Header {
  let width = 0, height = 0, components = 0, at = 2;
  while (at + 9 <= view.byteLength) {
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== 0xff) break;
    if (marker === 0xff) {
      at++;
      continue;
    }
    // Where the scan begins, or what belongs into a scan: a decoder may go on in another place.
    if (marker <= 1 || marker >= 0xd0 && marker <= 0xda || view.getUint16(at + 2) < 2) break;
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) {
      height = Math.max(height, view.getUint16(at + 5));
      width = Math.max(width, view.getUint16(at + 7));
      if (at + 9 < view.byteLength) components = Math.max(components, view.getUint8(at + 9));
    }
    at += 2 + view.getUint16(at + 2);
  }
  const fault = hasEnd(view, at) ? undefined : CUT_OFF;
  return { type: "image/jpeg", width, height, grey: components === 1, fault };
}

/** Whether a JPEG's marker of the end follows its scans, the first of which begins at `at`. */
function hasEnd(view: DataView<ArrayBuffer>, at: number): boolean {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  while ((at = bytes.indexOf(0xff, at)) >= 0 && at + 1 < bytes.length) {
    const marker = bytes[at + 1]!;
    if (marker === 0xd9) return true;
    // A scan's bytes of 255 have a zero after them; tables between two scans are as long as they say.
    const isBare = marker <= 1 || marker >= 0xd0 && marker <= 0xd8 || at + 4 > bytes.length;
    if (marker === 0xff) at++;
    else at += isBare ? 2 : 2 + view.getUint16(at + 2);
  }
  return false;
}

/**
 * Whether an image file has no colours, by its header; undefined where the bytes, which may be only the
 * file's first, do not say so.
 */
export function isGrey(bytes: Uint8Array<ArrayBuffer>): boolean | undefined {
  try {
    const header = readHeader(bytes);
    return header && header.width > 0 ? header.grey : undefined;
  } catch {
    return undefined; // It ends within its header.
  }
}

/**
 * A PNG, JPEG or WebP file's first picture in grey, turned as its EXIF says. Transparent pixels lie on
 * white, as viewers show them; colours become ITU-R 601 luma, as Pillow's `convert("L")` makes it.
 *
 * @param bytes the file
 * @param name what error messages call it
 * @throws {ImageError} if it is none of these, too large or damaged
 *
 * @example
 * ```ts
 * import { decodeGrey } from "./image.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const png = Uint8Array.fromBase64(
 *   "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGMIAAAAUgBR9yHZtwAAAABJRU5ErkJggg==",
 * );
 * const { pixels, width, height } = await decodeGrey(png, "a pixel");
 * assertEquals([...pixels], [80]);
 * assertEquals([width, height], [1, 1]);
 * ```
 */
export async function decodeGrey(
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
): Promise<DecodedImage> {
  return await decodeImage(bytes, name, { channels: 1 });
}

/**
 * As {@linkcode decodeGrey}, grey or RGB: red, green and blue one after the other, as Pillow's
 * `convert("RGB")` has them.
 *
 * @param bytes the file
 * @param name what error messages call it
 * @param options `channels`: 1 for grey, 3 for RGB
 * @returns pixels `[channels, height, width]`
 * @throws {ImageError} if it is none of these, too large or damaged
 *
 * @example
 * ```ts
 * import { decodeImage } from "./image.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const png = Uint8Array.fromBase64(
 *   "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGMIAAAAUgBR9yHZtwAAAABJRU5ErkJggg==",
 * );
 * const { pixels } = await decodeImage(png, "a pixel", { channels: 3 });
 * assertEquals([...pixels], [80, 80, 80]);
 * ```
 */
export async function decodeImage(
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
  { channels }: { readonly channels: number },
): Promise<DecodedImage> {
  const fail = (what: string, cause?: unknown): never => {
    throw new ImageError(`${name}: ${what}`, { cause });
  };
  let header: Header | undefined;
  try {
    header = readHeader(bytes);
  } catch (cause) {
    return fail("the file ends within its header", cause);
  }
  if (!header) return fail("is not a PNG, JPEG or WebP file");
  const { width, height, type, deep = false, veiled = false, fault, exif } = header;
  if (width === 0 || height === 0) fail("its header has no size");
  const most = deep ? MAX_DEEP_PIXELS : MAX_IMAGE_PIXELS, of = deep ? " of 16 bits" : "";
  if (width * height > most) {
    fail(`${width}×${height} pixels${of} are more than the ${most} that are decoded`);
  }
  if (fault !== undefined) fail(fault);
  try {
    const [start, end] = exif ?? [0, 0];
    // With the note taken out, no decoder to come turns the picture once more.
    const blob = new Blob([bytes.subarray(0, start), bytes.subarray(end)], { type });
    // Samples of 16 bits have no BMP; they lose what 8 bits do not hold in a JPEG instead.
    const shallow = deep ? await recode(blob, "image/jpeg") : blob;
    const bmp = await (await recode(shallow, "image/bmp")).arrayBuffer();
    let image = channels === 1 || header.grey ? greyOf(bmp) : coloursOf(bmp);
    if (veiled) layOnWhite(image.pixels, await alphaOf(bytes));
    if (exif) {
      const note = new DataView(bytes.buffer, bytes.byteOffset + start + 8, end - start - 12);
      image = turned(image, orientationOf(note));
    }
    const { pixels, ...size } = image, own = pixels.length / (size.width * size.height);
    return { pixels: inChannels(pixels, own, channels), ...size };
  } catch (cause) {
    return fail(`cannot be decoded: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
}

/** A BMP as Deno writes it: grey, BGR or BGRA, the last row first. */
function readBmp(bmp: ArrayBuffer) {
  const view = new DataView(bmp);
  const width = view.getInt32(18, true), height = view.getInt32(22, true);
  const channels = view.getUint16(28, true) / 8, stride = Math.ceil(channels * width / 4) * 4;
  const data = new Uint8Array(bmp, view.getUint32(10, true), stride * height);
  return { width, height, channels, stride, data };
}

/** Lays planes of pixels on white. */
function layOnWhite(pixels: Uint8Array, alpha: Uint8Array): void {
  for (let start = 0; start < pixels.length; start += alpha.length) {
    for (let i = 0; i < alpha.length; i++) {
      if (alpha[i]! < 255) pixels[start + i] = onWhite(pixels[start + i]!, alpha[i]!);
    }
  }
}

/** The pixels of a BMP in grey. */
function greyOf(bmp: ArrayBuffer): DecodedImage {
  const { width, height, channels, stride, data } = readBmp(bmp);
  const pixels = new Uint8Array(width * height);
  for (let row = 0, at = 0; row < height; row++) {
    let from = (height - 1 - row) * stride;
    for (let column = 0; column < width; column++, from += channels, at++) {
      if (channels === 1) {
        pixels[at] = data[from]!;
        continue;
      }
      const b = data[from]!, g = data[from + 1]!, r = data[from + 2]!;
      const grey = luma(r, g, b);
      pixels[at] = channels === 4 ? onWhite(grey, data[from + 3]!) : grey;
    }
  }
  return { pixels, width, height };
}

/** The pixels of a BMP as planes of red, green and blue. */
function coloursOf(bmp: ArrayBuffer): DecodedImage {
  const { width, height, channels, stride, data } = readBmp(bmp), plane = width * height;
  const pixels = new Uint8Array(3 * plane);
  for (let row = 0, at = 0; row < height; row++) {
    let from = (height - 1 - row) * stride;
    for (let column = 0; column < width; column++, from += channels, at++) {
      const b = data[from]!, alpha = channels === 4 ? data[from + 3]! : 255;
      const g = channels === 1 ? b : data[from + 1]!, r = channels === 1 ? b : data[from + 2]!;
      pixels[at] = alpha === 255 ? r : onWhite(r, alpha);
      pixels[at + plane] = alpha === 255 ? g : onWhite(g, alpha);
      pixels[at + 2 * plane] = alpha === 255 ? b : onWhite(b, alpha);
    }
  }
  return { pixels, width, height };
}

/** What images become. */
export interface ImageForm {
  /** 1 for grey, 3 for RGB. */
  readonly channels: number;
  /** Rows. */
  readonly height: number;
  /** Columns. */
  readonly width: number;
}

/** An image of the wanted size, and the size that its file has. */
export interface FormedImage {
  /** `[channels, height, width]`, as wanted. */
  readonly pixels: Uint8Array<ArrayBuffer>;
  /** `[height, width]` of the file. */
  readonly size: readonly [height: number, width: number];
}

/**
 * Decodes a file and resizes it, bilinear as Pillow, so that it has the size that is wanted.
 *
 * @throws {ImageError} as {@linkcode decodeImage}
 */
export async function decodeInto(
  form: ImageForm,
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
): Promise<FormedImage> {
  const { channels } = form;
  const { pixels, height, width } = await decodeImage(bytes, name, { channels });
  const fits = height === form.height && width === form.width;
  return {
    pixels: fits ? pixels : resizeBytes(pixels, channels, height, width, form.height, form.width),
    size: [height, width],
  };
}
