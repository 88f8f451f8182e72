/**
 * A data set of images that come one by one: from memory, an archive, a camera, a server.
 *
 * @module
 */

import { checkNumber, checkObject, checkOptions, checkString, refuse } from "../check/arguments.ts";
import { displayed } from "../check/display.ts";
import { quote } from "../check/text.ts";
import { type ImageDataset, labelsOf, showDataset } from "../data/dataset.ts";
import { DataError } from "../data/error.ts";
import { inChannels } from "../data/pixels.ts";
import { resizeBytes } from "../ops/resize.ts";
import { decodeImage, ImageError, isGrey, MAX_IMAGE_BYTES } from "./image.ts";
import { checkDeno } from "./open.ts";
import { checkSize } from "./loaded.ts";

/** Pixels of an image. */
export interface PixelImage {
  /** `[channels, height, width]`, row-major, from 0 for black to 255 for white. */
  readonly pixels: Uint8Array;
  /** Rows. */
  readonly height: number;
  /** Columns. */
  readonly width: number;
  /** 1 for grey, 3 for red, green and blue; 1 by default. */
  readonly channels?: number;
}

/** An image and its label. */
export interface ImageItem {
  /** A JPEG, PNG or WebP file, its bytes, or pixels. */
  readonly image: Blob | Uint8Array<ArrayBuffer> | PixelImage;
  /** A class's name, or its number. */
  readonly label: string | number;
}

/** Settings of {@linkcode collectImages}. */
export interface CollectOptions {
  /** The classes' names, by label. By default the labels' own names, sorted, or numbers. */
  classes?: readonly string[];
  /** What images are resized to: a side, or `[height, width]`. Without it all must be alike. */
  size?: number | readonly [height: number, width: number];
  /** 1 for grey, 3 for RGB; by default what the first image is. */
  channels?: 1 | 3;
}

const OP = "collectImages";

/**
 * Makes a data set in memory of images that come one by one. Image files need Deno, which decodes
 * them; in a browser, give pixels. Resizing is bilinear, as torchvision's `Resize` of PIL images.
 *
 * @param items images and labels: a list, a generator, a stream
 * @param options classes, size and channels
 * @returns the data set, in the order of the items
 * @throws {DataError} `no-images` if there are none; `read-failed` for a file that is no image;
 * `too-large`; `wrong-shape`; `label-range`; `one-class`
 * @throws {ArgumentError} if an argument, option or item is of another kind
 *
 * @example
 * ```ts
 * import { collectImages } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * async function* items() {
 *   const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGMIAAAAUgBR9yHZtwAAAABJRU5ErkJggg==";
 *   yield { image: Uint8Array.fromBase64(png), label: "fog" };
 *   yield { image: { pixels: Uint8Array.of(0, 8, 0, 8), height: 2, width: 2 }, label: "night" };
 * }
 * const data = await collectImages(items(), { size: 1 });
 * assertEquals([data.images, data.labels], [Uint8Array.of(80, 4), Uint8Array.of(0, 1)]);
 * assertEquals(data.classes, ["fog", "night"]);
 * ```
 */
export async function collectImages(
  items: Iterable<ImageItem> | AsyncIterable<ImageItem>,
  options: CollectOptions = {},
): Promise<ImageDataset> {
  if (!isIterable(items)) refuse(OP, "items", "images and labels to go through", items);
  checkOptions(OP, options, ["classes", "size", "channels"]);
  checkClasses(options.classes);
  if (options.channels !== undefined && ![1, 3].includes(options.channels)) {
    refuse(OP, "channels", "1 for grey or 3 for RGB", options.channels);
  }
  let size = options.size === undefined ? undefined : checkSize(OP, "size", options.size);
  let channels: number | undefined = options.channels;
  const labels: (string | number)[] = [];
  let data = new Uint8Array(0), filled = 0;
  for await (const item of items) {
    const name = `items[${labels.length}]`;
    checkObject(OP, name, item);
    labels.push(checkLabel(`${name}.label`, item.label, labels[0]));
    const image = await read(`${name}.image`, item.image, channels);
    if (channels === 1 && options.channels === undefined && image.own === 3) {
      const what = "is in RGB, but the first image is grey; give channels";
      throw new DataError("wrong-shape", `${OP}: ${name}.image`, what);
    }
    channels ??= image.own;
    size ??= [image.height, image.width];
    const [height, width] = size;
    if (options.size === undefined && (image.height !== height || image.width !== width)) {
      const what = `has ${image.height}×${image.width} pixels, but the first image has ` +
        `${height}×${width}; give a size, and all are resized to it`;
      throw new DataError("wrong-shape", `${OP}: ${name}.image`, what);
    }
    const bytes = resizeBytes(
      ...[image.pixels, channels, image.height, image.width, height, width] as const,
    );
    // Doubling keeps what is held within twice of what is there.
    if (filled + bytes.length > data.length) {
      data = new Uint8Array(data.buffer.transfer(2 * (filled + bytes.length)));
    }
    data.set(bytes, filled);
    filled += bytes.length;
  }
  if (labels.length === 0) throw new DataError("no-images", `${OP}: items`, "there are none");
  const { classes, numbers } = named(labels, options.classes);
  const [height, width] = size!;
  const set: ImageDataset = {
    images: new Uint8Array(data.buffer.transfer(filled)),
    labels: labelsOf(numbers, classes.length),
    ...{ count: labels.length, height, width, channels: channels!, classes },
  };
  return displayed(set, showDataset);
}

// deno-lint-ignore no-explicit-any -- anything may come here
const isIterable = (items: any): boolean =>
  typeof items === "object" && items !== null &&
  [Symbol.iterator, Symbol.asyncIterator].some((key) => typeof items[key] === "function");

function checkClasses(classes: unknown): void {
  if (classes === undefined) return;
  if (!Array.isArray(classes)) refuse(OP, "classes", "a list of names", classes);
  classes.forEach((name, i) => {
    checkString(OP, `classes[${i}]`, name);
    if (classes.indexOf(name) !== i) refuse(OP, `classes[${i}]`, "another name", name);
  });
}

function checkLabel(name: string, label: unknown, first: unknown): string | number {
  if (typeof label === "number") {
    checkNumber(OP, name, label, { integer: true, min: 0, max: 65_535 });
  } else checkString(OP, name, label);
  if (first !== undefined && typeof first !== typeof label) {
    refuse(OP, name, `a ${typeof first}, as the first label is`, label);
  }
  return label;
}

/** The classes, and the number of each label's. */
function named(labels: readonly (string | number)[], given: readonly string[] | undefined) {
  const isNumber = typeof labels[0] === "number";
  const classes = given
    ? [...given]
    : isNumber
    ? Array.from({ length: (labels as number[]).reduce((a, b) => Math.max(a, b), 0) + 1 }, String)
    : [...new Set(labels as string[])].sort();
  const numberOf = new Map(classes.map((name, i) => [name, i]));
  const numbers = labels.map((label, i) => {
    const number = typeof label === "number" ? label : numberOf.get(label) ?? classes.length;
    if (number < classes.length) return number;
    const shown = typeof label === "number" ? label : quote(label);
    const what = `is ${shown}, which is none of the ${classes.length} classes`;
    throw new DataError("label-range", `${OP}: items[${i}].label`, what);
  });
  if (classes.length > 1) return { classes, numbers };
  const what = "are of one class only: there is nothing to tell apart";
  throw new DataError("one-class", `${OP}: items`, what);
}

/** An image, and the channels that it has itself. */
type Read = Omit<PixelImage, "channels"> & { readonly own: number };

/** The pixels of an image, in as many channels as are wanted, or as it has. */
async function read(name: string, image: unknown, channels: number | undefined): Promise<Read> {
  if (image instanceof Blob || image instanceof Uint8Array) {
    const size = image instanceof Blob ? image.size : image.length;
    const where = `${OP}: ${name}`;
    if (size > MAX_IMAGE_BYTES) {
      const what = `is longer than the ${MAX_IMAGE_BYTES / 2 ** 20} MiB that are read`;
      throw new DataError("too-large", where, what);
    }
    const bytes = image instanceof Blob
      ? new Uint8Array(await image.arrayBuffer())
      : image as Uint8Array<ArrayBuffer>;
    checkDeno(where, "give { pixels, height, width }, such as those of a canvas");
    const own = isGrey(bytes) ? 1 : 3;
    try {
      return { ...await decodeImage(bytes, where, { channels: channels ?? own }), own };
    } catch (cause) {
      if (!(cause instanceof ImageError)) throw cause;
      throw new DataError("read-failed", where, cause.message.replace(`${where}: `, ""), { cause });
    }
  }
  const wanted = "a Blob or Uint8Array of a file, or { pixels, height, width }";
  if (Object.prototype.toString.call(image) !== "[object Object]") refuse(OP, name, wanted, image);
  const { pixels, height, width, channels: own = 1 } = image as PixelImage;
  for (const [key, value] of Object.entries({ height, width })) {
    checkNumber(OP, `${name}.${key}`, value, { integer: true, min: 1 });
  }
  if (own !== 1 && own !== 3) refuse(OP, `${name}.channels`, "1 for grey or 3 for RGB", own);
  if (!(pixels instanceof Uint8Array)) refuse(OP, `${name}.pixels`, "a Uint8Array", pixels);
  if (pixels.length !== own * height * width) {
    const what = `has ${pixels.length} values; [${own}, ${height}, ${width}] needs ` +
      `${own * height * width}`;
    throw new DataError("wrong-shape", `${OP}: ${name}.pixels`, what);
  }
  return { pixels: inChannels(pixels, own, channels ?? own), height, width, own };
}
