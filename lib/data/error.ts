/**
 * The error of all data readers: a code for programs, a message for people.
 *
 * @module
 */

/** What went wrong, for programs. The message says it for people, with the file and what to do. */
export type DataErrorCode =
  /** There is no such file. */
  | "missing-file"
  /** Reading failed: a permission, a directory, the disk, no Deno; or a file that is no image. */
  | "read-failed"
  /** The first bytes are not gzip's. */
  | "not-gzip"
  /** The gzip stream is damaged: bad codes, or a checksum that does not match. */
  | "gzip-corrupt"
  /** The file ends before its gzip stream does. */
  | "gzip-truncated"
  /** There are bytes after the gzip stream. */
  | "gzip-trailing"
  /** The decompressed data do not begin as IDX data do. */
  | "wrong-magic"
  /** IDX data, but its elements are not unsigned bytes; or a value in memory of another kind. */
  | "unsupported-type"
  /** Data of other sizes than were asked for, or than other data; or an array of another length. */
  | "wrong-shape"
  /** More than can be held in memory, counted or read, or than the header may claim. */
  | "too-large"
  /** The decompressed data end inside the header. */
  | "header-truncated"
  /** Fewer records follow than the header claims. */
  | "payload-short"
  /** At least one whole record more follows than the header claims. */
  | "payload-long"
  /** Some bytes, less than a record, follow the last record. */
  | "payload-trailing"
  /** Images and labels differ in number. */
  | "count-mismatch"
  /** A label is not one of the classes. */
  | "label-range"
  /** A file that lists the classes cannot be used. */
  | "bad-classes"
  /** A path that should be a folder is a file. */
  | "not-a-folder"
  /** A folder holds several data sets. */
  | "several-sets"
  /** There are no images that can be read, or none of a class. */
  | "no-images"
  /** All images are of one class. */
  | "one-class"
  /** There are no images to test with. */
  | "no-test-images"
  /** There are test images of a class that has no training images. */
  | "unknown-class"
  /** The bytes are not the published ones, or those that a cache was written with. */
  | "checksum"
  /** A server answered with something else than the file. */
  | "bad-response"
  /** No server could be reached. */
  | "unreachable";

/** The end of the message about a damaged file. */
export const FETCH_AGAIN = "the file is damaged: get it again";

/**
 * Data that could not be read, or are not what they should be.
 *
 * @example
 * ```ts
 * import { DataError } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new DataError("not-gzip", "a.gz", "does not begin as gzip does");
 * assertEquals(error.message, "a.gz: does not begin as gzip does");
 * assertEquals([error.code, error.file], ["not-gzip", "a.gz"]);
 * ```
 */
export class DataError extends Error {
  /** Always `"DataError"`. */
  override readonly name = "DataError";
  /** What went wrong. */
  readonly code: DataErrorCode;
  /** The file, as the caller named it; or the function and its argument. */
  readonly file: string;

  /**
   * Makes an error whose message is `FILE: WHAT`.
   *
   * @param code what went wrong
   * @param file the file's name; the message begins with it
   * @param what what is wrong with it, and what to do
   * @param options `cause`: the error underneath, where there is one
   */
  constructor(code: DataErrorCode, file: string, what: string, options?: ErrorOptions) {
    super(`${file}: ${what}`, options);
    this.code = code;
    this.file = file;
  }
}
