/**
 * Data sets of images: what one is made of, its checks, and how it is read from files of images and
 * labels. A data set is checked once, where it enters the library. Images that a function reads are
 * checked when they are read.
 *
 * @module
 */

import {
  checkBoolean,
  checkInstance,
  checkNumber,
  checkObject,
  checkOptions,
  checkString,
  refuse,
  shown,
} from "../check/arguments.ts";
import { displayed, pictureGrid, shownAs } from "../check/display.ts";
import { brief, xml } from "../check/text.ts";
import { formatShape, sizeOf } from "../graph/shape.ts";
import { DataError, type DataErrorCode } from "./error.ts";
import { type ByteStream, checkSource } from "./gzip.ts";
import { type IdxStream, readIdx } from "./idx.ts";
import { encodePng } from "./png.ts";

/** Images and their labels; the images are in memory, or read when they are needed. */
export interface ImageDataset {
  /**
   * Bytes `[count, channels, height, width]`, row-major, from 0 for black to 255 for white; or a
   * function that reads those of some images, from a file for example.
   */
  images: Uint8Array<ArrayBuffer> | ReadImages;
  /** `[count]`, each an index into `classes`. */
  labels: Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;
  /** Number of images. */
  count: number;
  /** Rows of an image. */
  height: number;
  /** Columns of an image. */
  width: number;
  /** 1 for grey, 3 for red, green and blue; 1 by default. */
  channels?: number;
  /** The classes' names, by label. */
  classes: readonly string[];
}

/** A data set whose images are in memory and whose labels are bytes, as IDX files have them. */
export interface ImagesInMemory extends ImageDataset {
  /** Bytes `[count, channels, height, width]`, row-major, from 0 for black to 255 for white. */
  images: Uint8Array<ArrayBuffer>;
  /** `[count]`, each an index into `classes`. */
  labels: Uint8Array<ArrayBuffer>;
}

/** Reads the images at `indices`: bytes `[indices.length, channels, height, width]`. */
export type ReadImages = (indices: Uint32Array) => Promise<Uint8Array<ArrayBuffer>>;

/** Channels that images may have: grey, or red, green and blue. */
const CHANNELS: readonly number[] = [1, 3];

/**
 * Checks that there are as many pixels as the sizes say, or a function that reads them.
 *
 * @throws {DataError} if not; its message begins with `NAME.FIELD`.
 */
export function checkImages(name: string, data: Omit<ImageDataset, "labels" | "classes">): void {
  if (typeof data !== "object" || data === null) {
    const what = `is ${
      shown(data)
    }; give { images, count, height, width }, and labels where there are`;
    throw new DataError("unsupported-type", name, what);
  }
  for (const field of ["count", "height", "width"] as const) {
    if (Number.isSafeInteger(data[field]) && data[field] > 0) continue;
    const what = `is ${shown(data[field])}; give a positive integer`;
    throw new DataError("wrong-shape", `${name}.${field}`, what);
  }
  const { images, count, channels = 1, height, width } = data;
  if (!CHANNELS.includes(channels)) {
    const what = `is ${shown(channels)}; give 1 for grey, or 3 for red, green and blue`;
    throw new DataError("wrong-shape", `${name}.channels`, what);
  }
  if (typeof images === "function") return;
  const shape = [count, ...channels === 1 ? [] : [channels], height, width];
  checkNumbersOf(`${name}.images`, images, shape, [Uint8Array], "wrong-shape");
}

/**
 * Checks the images, and that each has a label, which is the index of a class.
 *
 * @throws {DataError} if not; its message begins with `NAME.FIELD`.
 */
export function checkDataset(name: string, data: ImageDataset): void {
  checkImages(name, data);
  const { labels, classes, count } = data;
  const areNames = Array.isArray(classes) && classes.every((x) => typeof x === "string");
  if (!areNames || classes.length === 0) {
    const what = `is ${areNames ? "empty" : shown(classes)}; give the classes' names, by label`;
    throw new DataError("unsupported-type", `${name}.classes`, what);
  }
  checkNumbersOf(`${name}.labels`, labels, [count], LABELS, "count-mismatch");
  checkLabels(`${name}.labels`, labels, classes);
}

/**
 * Throws for a label that is no index of a class.
 *
 * @param name the file or the array
 * @throws {DataError} `label-range`
 */
export function checkLabels(
  name: string,
  labels: ImageDataset["labels"],
  classes: readonly string[],
): void {
  // The kinds of arrays have no common type of their methods.
  const bad = (labels as Uint32Array).findIndex((label) => label >= classes.length);
  if (bad < 0) return;
  const what = `label ${bad} is ${labels[bad]}, but there are ${classes.length} classes ` +
    `(0 to ${classes.length - 1}: ${listed(classes)}); are these the labels of another data set?`;
  throw new DataError("label-range", name, what);
}

/** Classes in a message. */
export const listed = (classes: readonly string[]): string => brief(classes.join(", "), 100);

/** What labels may lie in. */
const LABELS = [Uint8Array, Uint16Array, Uint32Array];

/** Throws unless `values` is an array of one of these kinds, with as many elements as `shape` has. */
function checkNumbersOf(
  name: string,
  values: unknown,
  shape: readonly number[],
  kinds: readonly (typeof Uint8Array | typeof Uint16Array | typeof Uint32Array)[],
  code: DataErrorCode,
) {
  const size = sizeOf(shape), wanted = formatShape(shape);
  if (!kinds.some((kind) => values instanceof kind)) {
    const names = kinds.map(({ name }) => name).join(", ").replace(/, (\w+)$/, " or $1");
    const what = `is ${shown(values)}; give a ${names} of ${wanted}`;
    throw new DataError("unsupported-type", name, what);
  }
  const { length } = values as Uint8Array;
  if (length !== size) {
    throw new DataError(code, name, `has ${length} values; ${wanted} needs ${size}`);
  }
}

/**
 * Labels in the smallest array that holds the numbers of so many classes.
 */
export function labelsOf(
  labels: ArrayLike<number>,
  classes: number,
): ImageDataset["labels"] {
  const Kind = classes <= 2 ** 8 ? Uint8Array : classes <= 2 ** 16 ? Uint16Array : Uint32Array;
  return Kind.from(labels);
}

/**
 * The bytes `[indices.length, channels, height, width]` of some images, which `name` is what errors call.
 *
 * @throws {DataError} if a function that reads them gives something else.
 */
export async function readImages(
  name: string,
  { images, height, width, channels = 1 }: Omit<ImageDataset, "labels" | "classes">,
  indices: Uint32Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const each = channels * height * width, size = indices.length * each;
  if (typeof images !== "function") {
    const bytes = new Uint8Array(size);
    indices.forEach((i, k) => bytes.set(images.subarray(i * each, (i + 1) * each), k * each));
    return bytes;
  }
  const bytes = await images(indices);
  if (bytes instanceof Uint8Array && bytes.length === size) return bytes;
  const what = `gave ${shown(bytes)}; it must give ${size} bytes for ${indices.length} images`;
  throw new DataError("wrong-shape", `${name}.images`, what);
}

/** The most images of a data set that a notebook shows. */
const MOST_SHOWN = 24;
/** Pixels across such an image; a wider one is made smaller. */
const WIDEST = 96;

/** `1 image`, `2 images`. */
const counted = (count: number, what: string) =>
  `${count} ${what}${count === 1 ? "" : what.endsWith("s") ? "es" : "s"}`;

/** What notebooks show of a data set: some of its images, evenly spread, with their classes. */
export async function showDataset(data: ImageDataset): Promise<Record<string, string>> {
  const { labels, count, height, width, classes, channels = 1 } = data;
  const kind = channels === 1 ? "grey" : "RGB";
  const text = `${counted(count, "image")} of ${height}×${width}, ${kind}; ` +
    `${counted(classes.length, "class")}: ${listed(classes)}`;
  const shown = Math.min(count, MOST_SHOWN), size = channels * height * width;
  const indices = Uint32Array.from({ length: shown }, (_, i) => Math.floor(i * count / shown));
  try {
    const bytes = await readImages("showDataset", data, indices);
    const pictures = await Promise.all([...indices].map(async (index, i) => {
      const pixels = bytes.subarray(i * size, (i + 1) * size);
      const words = brief(classes[labels[index]!]!, 40);
      return { png: await encodePng(pixels, height, width, channels, WIDEST), words };
    }));
    return shownAs(text, `<div>${xml(text)}</div>${pictureGrid(pictures)}`);
  } catch {
    return shownAs(text, `<div>${xml(text)}</div>`); // Images that cannot be had hide no other output.
  }
}

/** The bytes of a file, and its name for error messages. */
export interface NamedStream {
  /** The IDX file, gzipped or not. */
  stream: ByteStream;
  /** The file's name. */
  name: string;
}

/** Settings of {@linkcode readImageDataset}. */
export interface ReadOptions {
  /** The classes' names, by label. */
  classes: readonly string[];
  /** The `[height, width]` that the images must have; any size by default. */
  size?: readonly [number, number];
  /** The most images that the files may claim; any number by default. */
  most?: number;
  /** Keep only the first `limit` images; the files are still read and checked to their ends. */
  limit?: number;
  /** Stop reading the images after `limit` of them; what comes behind is not checked. */
  stopEarly?: boolean;
}

/** Throws unless `classes`, an option of `op`, is a list of names. */
function checkClasses(op: string, classes: unknown): asserts classes is readonly string[] {
  if (!Array.isArray(classes)) refuse(op, "classes", "a list of names", classes);
  classes.forEach((name, i) => checkString(op, `classes[${i}]`, name));
}

/**
 * Reads a data set from two IDX files, of images and of labels. It resolves when both files have
 * ended without an error and have the same number of records. If it fails, both sources are closed.
 *
 * @param images IDX of `[count, height, width]` unsigned bytes, gzipped or not
 * @param labels IDX of `[count]` unsigned bytes, gzipped or not
 * @param options the classes, and what to expect and keep
 * @returns the data set
 * @throws {DataError} those of {@linkcode readIdx}; `count-mismatch`; `label-range`
 * @throws {ArgumentError} if an argument or option is of another kind
 * @throws {RangeError} if `limit` is not a positive integer
 *
 * @example Two images of one pixel
 * ```ts
 * import { readImageDataset } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const gzip = (...bytes: number[]) =>
 *   new Blob([new Uint8Array(bytes)]).stream().pipeThrough(new CompressionStream("gzip"));
 * const images = gzip(0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 10, 20);
 * const labels = gzip(0, 0, 8, 1, 0, 0, 0, 2, 1, 0);
 * const data = await readImageDataset(
 *   { stream: images, name: "images.gz" },
 *   { stream: labels, name: "labels.gz" },
 *   { classes: ["shirt", "bag"] },
 * );
 * assertEquals(data.images, new Uint8Array([10, 20]));
 * assertEquals(data.classes[data.labels[0]!], "bag");
 * ```
 */
export async function readImageDataset(
  images: NamedStream,
  labels: NamedStream,
  options: ReadOptions,
): Promise<ImagesInMemory> {
  const op = "readImageDataset";
  for (const [what, given] of Object.entries({ images, labels })) {
    checkObject(op, what, given);
    checkInstance(op, `${what}.stream`, given.stream, ReadableStream);
  }
  const { classes, limit, stopEarly = false, most = Infinity, size = [undefined, undefined] } =
    options ?? {};
  try {
    checkSource(op, images.stream, images.name);
    checkSource(op, labels.stream, labels.name);
    checkOptions(op, options, ["classes", "size", "most", "limit", "stopEarly"]);
    checkBoolean(op, "stopEarly", stopEarly);
    checkClasses(op, classes);
    if (!Array.isArray(size) || size.length !== 2) refuse(op, "size", "[height, width]", size);
    size.forEach((side) => {
      if (side !== undefined) checkNumber(op, "size", side, { integer: true, min: 1 });
    });
    if (most !== Infinity) checkNumber(op, "most", most, { integer: true, min: 0 });
    if (limit !== undefined && !(Number.isInteger(limit) && limit >= 1)) {
      throw new RangeError(`${images.name}: limit is ${shown(limit)}; give a positive integer`);
    }
  } catch (error) {
    await Promise.allSettled([images.stream.cancel(), labels.stream.cancel()]);
    throw error;
  }
  const [pixels, marks] = await both(
    readIdx(images.stream, images.name, { most, shape: [undefined, ...size] }),
    readIdx(labels.stream, labels.name, { most, shape: [undefined] }),
    (idx: IdxStream) => idx.cancel(),
  );
  if (pixels.count !== marks.count) {
    await Promise.all([pixels.cancel(), marks.cancel()]);
    const what = `holds ${marks.count} labels for the ${pixels.count} images of ${images.name}; ` +
      "take both files from the same set";
    throw new DataError("count-mismatch", labels.name, what);
  }
  const [pixelBytes, markBytes] = await both(
    pixels.bytes(limit, { stopEarly }),
    marks.bytes(limit),
  );
  checkLabels(labels.name, markBytes, classes);
  const [, height = 0, width = 0] = pixels.shape;
  const sizes = { count: markBytes.length, height, width };
  return displayed({ images: pixelBytes, labels: markBytes, ...sizes, classes }, showDataset);
}

/**
 * Awaits two at once. Where one fails, the other is awaited as well and given up, so that no file
 * stays open behind an error; the first one's error is the one reported.
 */
async function both<A, B>(
  a: Promise<A>,
  b: Promise<B>,
  giveUp?: (value: A | B) => Promise<void>,
): Promise<[A, B]> {
  const [first, second] = await Promise.allSettled([a, b]);
  if (first.status === "fulfilled" && second.status === "fulfilled") {
    return [first.value, second.value];
  }
  for (const result of [first, second]) {
    if (result.status === "fulfilled") await giveUp?.(result.value);
  }
  throw first.status === "rejected" ? first.reason : (second as PromiseRejectedResult).reason;
}
