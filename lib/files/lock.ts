/**
 * Files that one process at a time holds. The lock is the operating system's, so that it ends with
 * the process, however that ends.
 *
 * @module
 */

import { dirname } from "./paths.ts";

/**
 * Takes a lock, whose file and folder are made where there are none. It is let go of by closing the
 * file, which may be removed before that.
 *
 * @param path the file
 * @param options `wait`: until nobody else has it
 * @returns the file, open; undefined where another one has it, and that is not waited for
 */
export async function takeLock(
  path: string,
  { wait = false }: { readonly wait?: boolean } = {},
): Promise<Deno.FsFile | undefined> {
  for (;;) {
    await Deno.mkdir(dirname(path), { recursive: true });
    const file = await Deno.open(path, { read: true, write: true, create: true });
    let isTaken = false;
    try {
      if (wait) await file.lock(true);
      else if (!await file.tryLock(true)) return undefined;
      isTaken = await isAt(file, path);
      if (isTaken) return file;
    } finally {
      if (!isTaken) file.close();
    }
  }
}

/** Whether a file is the one at a path: another process may have removed it since it was opened. */
export async function isAt(file: Deno.FsFile, path: string): Promise<boolean> {
  const own = await file.stat();
  try {
    const { ino, dev } = await Deno.stat(path);
    // Some systems do not number files.
    return ino === null || own.ino === null || ino === own.ino && dev === own.dev;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
