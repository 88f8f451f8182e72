/**
 * Lists a folder of images on a disk, for `data/image_folder.ts`. Links that leave the folder are
 * not followed, and no file is opened.
 *
 * @module
 */

import { DataError } from "../data/error.ts";
import {
  byName,
  findClasses,
  type FoundImages,
  ImageFolder,
  isImage,
  type Listing,
  type SplitOptions,
} from "../data/image_folder.ts";
import { join, separator } from "./paths.ts";

/** Entries of folders that are looked at before others get a turn. */
const TURN = 500;

/** Looks into folders below a root, and leaves what is not within it. */
class Walk extends ImageFolder<string> {
  #seen = 0;

  constructor(path: string, readonly root: string, readonly signal: AbortSignal | undefined) {
    super(path);
  }

  /** What is in a folder, which really is at `real`, and is called `path` in the root. */
  override async list(path: string, real: string): Promise<Listing<string>> {
    const listing: Listing<string> = { folders: [], images: [] };
    let entries: Deno.DirEntry[];
    try {
      entries = [...Deno.readDirSync(real)];
    } catch (error) {
      if (path === "") throw error;
      this.skipped.add("cannot be looked into", path, (error as Error).message);
      return listing;
    }
    for (const entry of entries.sort(byName)) {
      if (++this.#seen % TURN === 0) await new Promise((resolve) => setTimeout(resolve));
      this.signal?.throwIfAborted();
      if (!entry.name.startsWith(".")) this.#look(entry, path, real, listing);
    }
    return listing;
  }

  #look(
    entry: Deno.DirEntry,
    path: string,
    real: string,
    { folders, images }: Listing<string>,
  ): void {
    const name = path === "" ? entry.name : `${path}/${entry.name}`;
    let file = join(real, entry.name), info: Pick<Deno.FileInfo, "isFile" | "isDirectory"> = entry;
    if (entry.isSymlink) {
      try {
        file = Deno.realPathSync(file);
        const within = file === this.root || file.startsWith(withEnd(this.root));
        if (!within) return this.skipped.add("a link that leaves the folder", name);
        info = Deno.lstatSync(file);
      } catch (error) {
        const reason = error instanceof Deno.errors.NotFound
          ? "a link to nothing"
          : error instanceof Deno.errors.NotCapable
          ? "a link that leaves the folder"
          : "a link that cannot be followed";
        return this.skipped.add(reason, name);
      }
    }
    if (info.isDirectory) folders.push({ name: entry.name, real: file });
    else if (!info.isFile) this.skipped.add("neither a file nor a folder", name);
    else if (isImage(name, this.skipped)) {
      try {
        const { size, mtime } = Deno.lstatSync(file);
        images.push({ name: entry.name, file, size, time: mtime?.getTime() ?? 0 });
      } catch (error) {
        this.skipped.add("cannot be looked at", name, (error as Error).message);
      }
    }
  }
}

const withEnd = (folder: string) => folder.endsWith(separator()) ? folder : folder + separator();

/** How {@linkcode findImages} looks. */
export interface FindOptions extends SplitOptions {
  /** Stops it. */
  readonly signal?: AbortSignal | undefined;
}

/** What lies in a folder of the disk. */
export interface FoundFiles extends FoundImages {
  /** The folder, without links. */
  readonly root: string;
}

/**
 * Looks for images in a folder.
 *
 * @throws {DataError} `no-images`, `one-class`, `no-test-images`, `unknown-class`, `too-large`,
 * `read-failed`
 */
export async function findImages(path: string, options: FindOptions): Promise<FoundFiles> {
  const { signal } = options;
  let walk: Walk, top: Listing<string>;
  try {
    walk = new Walk(path, Deno.realPathSync(path), signal);
    top = await walk.list("", walk.root);
  } catch (cause) {
    if (signal?.aborted) throw cause;
    const what = `cannot be looked into: ${(cause as Error).message}`;
    throw new DataError("read-failed", path, what, { cause });
  }
  return { root: walk.root, ...await findClasses(walk, top, options) };
}
