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
  /** The size of the images of class folders: a side, or `[height, width]`. IDX files have their own. */
  resize?: number | readonly [height: number, width: number];
  /** 1 for grey, 3 for RGB; what the files are if it is left out: grey where all of them are. */
  channels?: 1 | 3;
  /** The share of each class to test with, where there is no folder of these. */
  testShare?: number;
  /** Which images are tested with, and which are left by a limit. */
  seed?: number;
  /** At most so many images to train on: of IDX files the first, of others any. */
  limit?: number;
  /** At most so many images to test with. */
  testLimit?: number;
  /** A folder where decoded images are kept for the next time. */
  cache?: string;
  /** The most bytes that are held in memory: what is larger is read from the cache when it is needed. */
  memory?: number;
  /** Called as images are decoded. */
  onProgress?: (progress: { readonly done: number; readonly of: number }) => void;
  /** Stops it; nothing half made is left. */
  signal?: AbortSignal;
  /** The threads that decode. */
  workers?: number;
}

/** What `loadDataset` found. */
export interface DatasetSummary {
  /** IDX files, or folders of images. */
  readonly kind: "idx" | "folder";
  /** The classes' names, by label. */
  readonly classes: readonly string[];
  /** Images to train on. */
  readonly train: number;
  /** Images to test with. */
  readonly test: number;
  /** 1 for grey, 3 for RGB. */
  readonly channels: number;
  /** `[height, width]` of the images of the data set. */
  readonly size: readonly [height: number, width: number];
  /** `[height, width]` of the smallest image as it lies on the disk, by its pixels. */
  readonly smallest: readonly [height: number, width: number];
  /** `[height, width]` of the largest. */
  readonly largest: readonly [height: number, width: number];
  /** What is not used, by reason. */
  readonly skipped: readonly Skipped[];
  /** Whether the images come from the cache, so that none was decoded. */
  readonly cached: boolean;
  /** Where the images are read from when they are needed; undefined where they are in memory. */
  readonly file: string | undefined;
  /** What else there is to say, a sentence each. */
  readonly notes: readonly string[];
}

/** A data set, and what was found. Dispose of it to close its file, where it has one. */
export interface LoadedDataset extends Disposable {
  /** To train on. */
  readonly train: ImageDataset;
  /** To test with. */
  readonly test: ImageDataset;
  /** What to show first. */
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
