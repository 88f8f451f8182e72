/**
 * The options and the result of `loadDataset`.
 *
 * @module
 */

import { checkNumber, refuse } from "../check/arguments.ts";
import type { ImageDataset } from "../data/dataset.ts";
import type { Skipped } from "../data/image_folder.ts";

/** Settings of `loadDataset`. */
export interface LoadOptions {
  /**
   * Images of class folders are resized to this: a side, or `[height, width]`. Class folders need
   * it; images of IDX files keep their size.
   */
  resize?: number | readonly [height: number, width: number];
  /** 1 makes images grey, 3 RGB. By default they are RGB if one of them has colours. */
  channels?: 1 | 3;
  /** The share of each class to test with, if there is no folder of test images; 0.2 by default. */
  testShare?: number;
  /** Seeds the choice of test images, and of the images that a limit keeps; 0 by default. */
  seed?: number;
  /** The most training images: of IDX files the first ones, of class folders a random choice. */
  limit?: number;
  /** The most test images, chosen in the same way. */
  testLimit?: number;
  /** A folder that keeps decoded images for the next time; none by default. */
  cache?: string;
  /**
   * The most bytes of images to hold in memory; 1 GiB by default. A larger set of class folders is
   * read from the cache when it is needed; without a cache, and of IDX files, it is an error.
   */
  memory?: number;
  /** Called after each image that is decoded. */
  onProgress?: (progress: { readonly done: number; readonly of: number }) => void;
  /** Stops the loading; no half-made cache is left. */
  signal?: AbortSignal;
  /** The most threads that decode; one for each core by default. */
  workers?: number;
}

/** What `loadDataset` found. */
export interface DatasetSummary {
  /** IDX files, or folders of images. */
  readonly kind: "idx" | "folder";
  /** The classes' names, by label. */
  readonly classes: readonly string[];
  /** Number of training images. */
  readonly train: number;
  /** Number of test images. */
  readonly test: number;
  /** 1 for grey, 3 for RGB. */
  readonly channels: number;
  /** `[height, width]` of the images of the data set. */
  readonly size: readonly [height: number, width: number];
  /** `[height, width]` of the image with the fewest pixels, before it is resized. */
  readonly smallest: readonly [height: number, width: number];
  /** `[height, width]` of the image with the most pixels, before it is resized. */
  readonly largest: readonly [height: number, width: number];
  /** Files and folders that are not used, by reason. */
  readonly skipped: readonly Skipped[];
  /** Whether all images came from the cache, so that none was decoded. */
  readonly cached: boolean;
  /** The file that images are read from when they are needed; undefined if they are in memory. */
  readonly file: string | undefined;
  /** Other remarks on the data set. */
  readonly notes: readonly string[];
}

/** A data set, and what was found. Dispose of it (`using`) to close its file, if it has one. */
export interface LoadedDataset extends Disposable {
  /** The training images. */
  readonly train: ImageDataset;
  /** The test images. */
  readonly test: ImageDataset;
  /** What was found. */
  readonly summary: DatasetSummary;
}

/** The longest side that images are resized to. */
const MAX_SIDE = 2 ** 13;

/** A size as height and width; throws unless it is a side, or both. */
export function checkSize(
  op: string,
  name: string,
  size: unknown,
): [height: number, width: number] {
  const wanted = { integer: true, min: 1, max: MAX_SIDE };
  if (!Array.isArray(size)) {
    checkNumber(op, name, size, wanted);
    return [size, size];
  }
  if (size.length !== 2) refuse(op, name, "a side, or [height, width]", size);
  const [height, width] = size as unknown[];
  checkNumber(op, `${name}[0]`, height, wanted);
  checkNumber(op, `${name}[1]`, width, wanted);
  return [height, width];
}
