/**
 * A data set in memory, and what it must be: looked at once, where it enters, for what does not fit
 * trains as well as what does.
 *
 * @module
 */

import { shown } from "../check.ts";
import { formatShape, sizeOf } from "../shape.ts";
import { brief } from "./brief.ts";
import { DataError, type DataErrorCode } from "./error.ts";

/** Grey images and their labels, in memory. */
export interface ImageDataset {
  /** `[count, height, width]`, row-major, 0 black to 255 white. */
  images: Uint8Array<ArrayBuffer>;
  /** `[count]`, each an index into `classes`. */
  labels: Uint8Array<ArrayBuffer>;
  /** How many images. */
  count: number;
  /** Rows of an image. */
  height: number;
  /** Columns of an image. */
  width: number;
  /** The classes' names, by label. */
  classes: readonly string[];
}

/**
 * Refuses images that are not what their sizes say.
 *
 * @throws {DataError} whose message begins with `NAME.FIELD`.
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
  const { images, count, height, width } = data;
  checkBytes(`${name}.images`, images, [count, height, width], "wrong-shape");
}

/**
 * Refuses a data set whose labels are not one for each image, each the index of a class.
 *
 * @throws {DataError} whose message begins with `NAME.FIELD`.
 */
export function checkDataset(name: string, data: ImageDataset): void {
  checkImages(name, data);
  const { labels, classes, count } = data;
  const areNames = Array.isArray(classes) && classes.every((x) => typeof x === "string");
  if (!areNames || classes.length === 0) {
    const what = `is ${areNames ? "empty" : shown(classes)}; give the classes' names, by label`;
    throw new DataError("unsupported-type", `${name}.classes`, what);
  }
  checkBytes(`${name}.labels`, labels, [count], "count-mismatch");
  checkLabels(`${name}.labels`, labels, classes);
}

/**
 * Refuses a label that is no index of a class.
 *
 * @param name the file or the array
 * @throws {DataError} `label-range`
 */
export function checkLabels(name: string, labels: Uint8Array, classes: readonly string[]): void {
  const bad = labels.findIndex((label) => label >= classes.length);
  if (bad < 0) return;
  const what = `label ${bad} is ${labels[bad]}, but there are ${classes.length} classes ` +
    `(0 to ${classes.length - 1}: ${listed(classes)}); are these the labels of another data set?`;
  throw new DataError("label-range", name, what);
}

/** Classes in a message. */
export const listed = (classes: readonly string[]): string => brief(classes.join(", "), 100);

/** Refuses what is no Uint8Array with an element for each of `shape`. */
function checkBytes(name: string, bytes: unknown, shape: readonly number[], code: DataErrorCode) {
  const size = sizeOf(shape), wanted = formatShape(shape);
  if (!(bytes instanceof Uint8Array)) {
    const what = `is ${shown(bytes)}; give a Uint8Array of ${wanted}`;
    throw new DataError("unsupported-type", name, what);
  }
  if (bytes.length !== size) {
    throw new DataError(code, name, `has ${bytes.length} values; ${wanted} needs ${size}`);
  }
}
