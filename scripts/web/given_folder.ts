/**
 * A folder that was dropped on the page, or chosen: its files, as folders.
 *
 * @module
 */

import { byName, ImageFolder, isImage, type Listing } from "../../lib/data/image_folder.ts";
import type { FolderFile } from "./protocol.ts";

/** A folder of files that a page was given. */
export class GivenFolder extends ImageFolder<File> {
  readonly #listings = new Map<string, Listing<File>>();

  /** The folder's name, and its files. */
  constructor(name: string, files: readonly FolderFile[]) {
    super(name);
    this.#listing("");
    for (const { path, file } of files) {
      if (path.split("/").some((name) => name.startsWith("."))) continue;
      const [folder, name] = split(path), { images } = this.#listing(folder);
      const { size, lastModified: time } = file;
      if (isImage(path, this.skipped)) images.push({ name, file, size, time });
    }
    for (const { folders, images } of this.#listings.values()) {
      folders.sort(byName);
      images.sort(byName);
    }
  }

  override list(name: string): Promise<Listing<File>> {
    return Promise.resolve(this.#listings.get(name)!);
  }

  /** What is in a folder; it and those that it is in are made if they are not there. */
  #listing(path: string): Listing<File> {
    const known = this.#listings.get(path);
    if (known) return known;
    const listing: Listing<File> = { folders: [], images: [] };
    this.#listings.set(path, listing);
    if (path === "") return listing;
    const [folder, name] = split(path);
    this.#listing(folder).folders.push({ name, real: path });
    return listing;
  }
}

/** A path's folder and name. */
function split(path: string): [folder: string, name: string] {
  const end = path.lastIndexOf("/");
  return [path.slice(0, Math.max(0, end)), path.slice(end + 1)];
}
