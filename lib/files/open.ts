/**
 * Opens data files as streams, which `data/` reads.
 *
 * @module
 */

import { DataError } from "../data/error.ts";
import type { ByteStream } from "../data/gzip.ts";

/**
 * Throws where no file can be opened: in a page.
 *
 * @param op what opens files
 * @param instead what a page may do
 * @throws {DataError} `read-failed`
 */
export function checkDeno(op: string, instead: string): void {
  if ("Deno" in globalThis) return;
  throw new DataError("read-failed", op, `needs Deno, which is not here; ${instead}`);
}

/** Whether a file can be seen there; one that may not be looked at is as good as absent. */
export async function isThere(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
}

/** What is at a path: nothing, a folder, or a file. */
export async function kindOf(path: string): Promise<"file" | "folder" | undefined> {
  try {
    return (await Deno.stat(path)).isDirectory ? "folder" : "file";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw error;
  }
}

/**
 * Where a file that is published as `NAME.gz` lies: as such, or else, where that is there, unpacked as
 * `NAME` (torchvision keeps them so).
 *
 * @param dir the folder
 * @param name the published name, with `.gz`
 * @returns the path of the one, or else of the other; the former where neither is there
 */
export async function findFile(dir: string, name: string): Promise<string> {
  const packed = `${dir}/${name}`, bare = packed.replace(/\.gz$/, "");
  return !await isThere(packed) && await isThere(bare) ? bare : packed;
}

/**
 * Opens a file for streaming. The file is closed when the stream ends, fails or is cancelled.
 *
 * @param path the file
 * @returns its bytes
 * @throws DataError `missing-file`, or `read-failed` for anything else (permissions, a directory)
 *
 * @example
 * ```ts
 * import { openFile } from "./open.ts";
 * import { assertStringIncludes } from "@std/assert";
 *
 * const text = await new Response(await openFile("deno.json")).text();
 * assertStringIncludes(text, "@resnette/resnette");
 * ```
 */
export async function openFile(path: string): Promise<ByteStream> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path, { read: true });
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) {
      throw new DataError("missing-file", path, "there is no such file", { cause });
    }
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new DataError("read-failed", path, `cannot be opened: ${detail}`, { cause });
  }
  return file.readable;
}
