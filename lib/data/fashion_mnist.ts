/**
 * Fashion-MNIST: names, sizes and checksums of its files, its classes, and how it is read from
 * streams. `files/fashion_mnist.ts` opens the files, and `files/download.ts` downloads them.
 *
 * @module
 */

import { checkChoice, checkOptions } from "../check/arguments.ts";
import { type ImagesInMemory, type NamedStream, readImageDataset } from "./dataset.ts";

/** A part of the data set: 60,000 training images, or 10,000 test images. */
export type Split = "train" | "test";

/** One published file. */
export interface DataFile {
  /** Its name, `….gz`. */
  readonly name: string;
  /** The sha256 of the decompressed bytes, in hex. (Copies differ in their gzip headers.) */
  readonly sha256: string;
  /** Number of decompressed bytes. */
  readonly bytes: number;
}

/** Bytes before the labels of a file. */
const LABELS_HEADER = 8;

/** The names of the ten classes, by label. */
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

/** The four files as they are published. */
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

/**
 * Reads one split of Fashion-MNIST from streams, gzipped or not. Images must be 28×28 and labels 0
 * to 9. There may be fewer of them than in the published files, for tests.
 *
 * @param split `"train"` or `"test"`
 * @param images the file of images
 * @param labels the file of labels
 * @param options `limit` and `stopEarly`, see {@linkcode ReadOptions}
 * @returns images `[count, 28, 28]`, labels `[count]`
 * @throws {DataError} see {@linkcode readImageDataset}
 * @throws {ArgumentError} if an argument or option is of another kind
 * @throws {RangeError} if `limit` is not a positive integer
 *
 * @example One black image of an ankle boot
 * ```ts
 * import { readFashionMnist } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const images = new Uint8Array(16 + 28 * 28), labels = Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 1, 9);
 * images.set([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28]);
 * const data = await readFashionMnist(
 *   "test",
 *   { stream: new Blob([images]).stream(), name: "images" },
 *   { stream: new Blob([labels]).stream(), name: "labels" },
 * );
 * assertEquals(data.classes[data.labels[0]!], "Ankle boot");
 * ```
 */
export async function readFashionMnist(
  split: Split,
  images: NamedStream,
  labels: NamedStream,
  options: { limit?: number; stopEarly?: boolean } = {},
): Promise<ImagesInMemory> {
  checkChoice("readFashionMnist", "split", split, Object.keys(FASHION_MNIST_FILES));
  checkOptions("readFashionMnist", options, ["limit", "stopEarly"]);
  return await readImageDataset(images, labels, {
    ...options,
    classes: FASHION_MNIST_CLASSES,
    size: [28, 28],
    most: FASHION_MNIST_FILES[split].labels.bytes - LABELS_HEADER,
  });
}
