/**
 * Writes files whole or not at all. It makes no folders, and keeps no older versions.
 */

import { dirname, join } from "./paths.ts";

/**
 * A file or folder that could not be written; the message names it and says why.
 *
 * @example
 * ```ts
 * import { WriteError } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const error = new WriteError("runs/a", new Error("No space left on device"));
 * assertEquals(error.message, "could not write runs/a: No space left on device");
 * ```
 */
export class WriteError extends Error {
  /** `WriteError`. */
  override name = "WriteError";

  /** Of `path`, for a reason that is an error of Deno's, or another one of these. */
  constructor(path: string, reason: unknown) {
    const cause = reason instanceof WriteError ? reason.cause : reason;
    const why = cause instanceof Error ? cause.message : String(cause);
    // What follows the number is the name of the file that was written first.
    super(`could not write ${path}: ${why.replace(/(\(os error \d+\)).*/, "$1")}`, { cause });
  }
}

/** Names of files that are not whole yet. */
const UNFINISHED = /^\.resnette-[0-9a-f-]+\.tmp$/;

/** Removes what killed processes left in a folder, if there is such a folder. */
export async function removeUnfinished(folder: string): Promise<void> {
  try {
    for (const { name } of await Array.fromAsync(Deno.readDir(folder))) {
      if (UNFINISHED.test(name)) await Deno.remove(join(folder, name));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/**
 * Writes a file so that whoever reads `path`, even after a crash in the middle, finds either the
 * old content or the new, whole. The bytes go to a new file in the same folder, are flushed to the
 * disk, and that file is then renamed onto `path`. A failure leaves `path` as it was and removes the
 * new file; only a killed process can leave one behind (`.resnette-….tmp`), which
 * {@linkcode removeUnfinished} clears away.
 *
 * A symbolic link at `path` is replaced, not followed. The folder entry itself is not flushed: after
 * a power cut the old content may be back, but whole.
 *
 * ```ts
 * import { writeFileWhole } from "./write.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const folder = await Deno.makeTempDir();
 * await writeFileWhole(`${folder}/run.bin`, new Uint8Array([1, 2, 3]));
 * assertEquals(await Deno.readFile(`${folder}/run.bin`), new Uint8Array([1, 2, 3]));
 * await Deno.remove(folder, { recursive: true });
 * ```
 *
 * @param path Where; its folder must exist and be writable (and readable, for the rename).
 * @param bytes The content; do not change it before the promise settles.
 * @throws {WriteError} If any step fails. The message names `path`; `cause` is Deno's own error.
 */
export async function writeFileWhole(path: string, bytes: Uint8Array): Promise<void> {
  // A random name, so that two writers cannot meet; not made of `path`'s, which may be long already.
  const beside = join(dirname(path), `.resnette-${crypto.randomUUID()}.tmp`);
  let created = false;
  try {
    {
      using file = await Deno.open(beside, { write: true, createNew: true });
      created = true;
      for (let written = 0; written < bytes.length;) {
        written += await file.write(bytes.subarray(written));
      }
      await file.sync();
    }
    await Deno.rename(beside, path);
  } catch (cause) {
    // The first error is the one to report, even if the new file cannot be removed either.
    if (created) await Deno.remove(beside).catch(() => {});
    throw new WriteError(path, cause);
  }
}
