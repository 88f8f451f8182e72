/**
 * Fashion-MNIST: what its files are, and how they become images and labels in memory.
 *
 * `readImageDataset` takes streams and works in a browser; `loadFashionMnist` opens files (Deno
 * only). Nothing here shuffles, scales or resizes, and nothing downloads (see `download.ts`).
 *
 * @module
 */

import {
  checkChoice,
  checkInstance,
  checkNumber,
  checkObject,
  checkOptions,
  checkString,
  refuse,
  shown,
} from "../check.ts";
import { checkLabels, type ImageDataset } from "./dataset.ts";
import { DataError } from "./error.ts";
import { findFile, openFile } from "./files.ts";
import { type ByteStream, checkSource } from "./gzip.ts";
import { type IdxStream, readIdx } from "./idx.ts";

export type { ImageDataset };

/** Which part of the data set: 60,000 images to train on, or 10,000 to test with. */
export type Split = "train" | "test";

/** One published file. */
export interface DataFile {
  /** Its name, `….gz`. */
  readonly name: string;
  /** sha256 of the *decompressed* bytes, in hex: packers write different gzip headers. */
  readonly sha256: string;
  /** How many bytes it decompresses to. */
  readonly bytes: number;
}

/** Bytes before the labels of a file. */
const LABELS_HEADER = 8;

/** The classes, by label. */
export const FASHION_MNIST_CLASSES: readonly string[] = [
  "T-shirt/top",
  "Trouser",
  "Pullover",
  "Dress",
  "Coat",
  "Sandal",
  "Shirt",
  "Sneaker",
  "Bag",
  "Ankle boot",
];

/** The four files. */
export const FASHION_MNIST_FILES: Readonly<
  Record<Split, { readonly images: DataFile; readonly labels: DataFile }>
> = {
  train: {
    images: {
      name: "train-images-idx3-ubyte.gz",
      sha256: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
      bytes: 16 + 60_000 * 28 * 28,
    },
    labels: {
      name: "train-labels-idx1-ubyte.gz",
      sha256: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
      bytes: 8 + 60_000,
    },
  },
  test: {
    images: {
      name: "t10k-images-idx3-ubyte.gz",
      sha256: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
      bytes: 16 + 10_000 * 28 * 28,
    },
    labels: {
      name: "t10k-labels-idx1-ubyte.gz",
      sha256: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
      bytes: 8 + 10_000,
    },
  },
};

/** One of the two files of a data set: its bytes, and its name for errors. */
export interface NamedStream {
  /** The IDX file, gzipped or not. */
  stream: ByteStream;
  /** The file's name. */
  name: string;
}

/** How {@linkcode readImageDataset} is to read. */
export interface ReadOptions {
  /** The classes' names; a label must be less than their number. */
  classes: readonly string[];
  /** `[height, width]` the images must have; any where it is left out. */
  size?: readonly [number, number];
  /** The most images there can be; any number where it is left out. */
  most?: number;
  /** Keep only the first `limit` images (the files are read to their ends, and checked, all the same). */
  limit?: number;
}

/** Throws unless `classes`, an option of `op`, is a list of names. */
function checkClasses(op: string, classes: unknown): asserts classes is readonly string[] {
  if (!Array.isArray(classes)) refuse(op, "classes", "a list of names", classes);
  classes.forEach((name, i) => checkString(op, `classes[${i}]`, name));
}

/**
 * Reads images and labels concurrently, and resolves when both files have ended cleanly and agree.
 * How many there are is the files' own claim.
 *
 * @param images IDX of `[count, height, width]` unsigned bytes, gzipped or not
 * @param labels IDX of `[count]` unsigned bytes, gzipped or not
 * @param options classes, size and limit
 * @returns the data set
 * @throws DataError any that `readIdx` gives; `count-mismatch`; `label-range`. Both sources have
 * been closed then.
 * @throws {ArgumentError} where an argument or option is of another kind
 * @throws RangeError where `limit` is not a positive integer
 *
 * @example Two images of one pixel
 * ```ts
 * import { readImageDataset } from "@resnette/resnette";
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
): Promise<ImageDataset> {
  const op = "readImageDataset";
  for (const [what, given] of Object.entries({ images, labels })) {
    checkObject(op, what, given);
    checkInstance(op, `${what}.stream`, given.stream, ReadableStream);
  }
  const { classes, limit, most = Infinity, size = [undefined, undefined] } = options ?? {};
  try {
    checkSource(op, images.stream, images.name);
    checkSource(op, labels.stream, labels.name);
    checkOptions(op, options, ["classes", "size", "most", "limit"]);
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
  const [pixelBytes, markBytes] = await both(pixels.bytes(limit), marks.bytes(limit));
  checkLabels(labels.name, markBytes, classes);
  const [, height = 0, width = 0] = pixels.shape;
  return { images: pixelBytes, labels: markBytes, count: markBytes.length, height, width, classes };
}

/**
 * Loads one split of Fashion-MNIST from its files, gzipped as they are published or unpacked (without
 * the `.gz` in their names) as torchvision leaves them. Deno only (it opens files). Resolves only after
 * both files have ended cleanly; the 60,000 training images take about a quarter of a second.
 *
 * The images must be 28×28 and the labels 0 to 9; their number is the files' own, up to the published
 * one, so that a small set of the same form can be used in tests. `ensureFashionMnist` with `verify`
 * proves the published bytes.
 *
 * @param dir the folder with the files
 * @param split `"train"` or `"test"`
 * @param options `limit`: keep only the first so many images
 * @returns images `[count, 28, 28]`, labels `[count]`
 * @throws DataError `missing-file`, `read-failed`, and see {@linkcode readImageDataset}
 * @throws RangeError where `limit` is not a positive integer
 *
 * @example
 * ```ts
 * import { loadFashionMnist } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const test = await loadFashionMnist("data/fashion-mnist", "test", { limit: 100 });
 * assertEquals(test.count, 100);
 * assertEquals(test.classes[test.labels[0]!], "Ankle boot");
 * ```
 */
export async function loadFashionMnist(
  dir: string,
  split: Split,
  options: { limit?: number } = {},
): Promise<ImageDataset> {
  checkString("loadFashionMnist", "dir", dir);
  if (dir === "") refuse("loadFashionMnist", "dir", "a folder's path", dir);
  checkChoice("loadFashionMnist", "split", split, Object.keys(FASHION_MNIST_FILES));
  checkOptions("loadFashionMnist", options, ["limit"]);
  const files = FASHION_MNIST_FILES[split];
  const open = async ({ name }: DataFile): Promise<NamedStream> => {
    const path = await findFile(dir, name);
    return { stream: await openFile(path), name: path };
  };
  const [images, labels] = await both(
    open(files.images),
    open(files.labels),
    ({ stream }) => stream.cancel(),
  );
  return await readImageDataset(images, labels, {
    ...options,
    classes: FASHION_MNIST_CLASSES,
    size: [28, 28],
    most: files.labels.bytes - LABELS_HEADER,
  });
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
