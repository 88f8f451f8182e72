/**
 * A folder of images, looked at: which classes there are, which images are to train on and which to
 * test with. It opens no file; `loadDataset` does.
 *
 *     PATH/train/CLASS/…  PATH/test/CLASS/…    or val, valid, validation
 *     PATH/CLASS/…                             split by a share
 *
 * Images may lie in folders within a class's. They are taken in the order of torchvision's
 * `ImageFolder`: by class, then by folder, then by name.
 *
 * @module
 */

import { DataError } from "../data/error.ts";
import { brief, quote } from "../check/text.ts";
import { Random } from "../graph/random.ts";
import { join, separator } from "./paths.ts";

/** Folders of the images to test with, of which the first that has folders of classes is taken. */
const TEST_FOLDERS = ["test", "val", "valid", "validation"];
/** Names of images. */
const IMAGE = /\.(?:jpe?g|png|webp)$/i;
/** The most classes. */
const MAX_CLASSES = 2 ** 16;
/** Names that are kept of what is skipped for a reason. */
const NAMES = 5;
/** Entries of folders that are looked at before others get a turn. */
const TURN = 500;
/** Streams of random numbers: of the split of the first class, and of what a limit leaves. */
const SPLIT_STREAM = 2 ** 30, LIMIT_STREAM = 2 ** 30 + 2 ** 29;

/** Files or folders that are not used, for one reason. */
export interface Skipped {
  /** Why. */
  readonly reason: string;
  /** How many. */
  readonly count: number;
  /** The first of them, by their paths in the data set's folder; with what is wrong with each. */
  readonly names: readonly string[];
}

/** What is skipped, as it is found. */
export class SkipList {
  readonly #reasons = new Map<string, { count: number; names: string[] }>();

  /** Notes one, with what more there is to say of it. */
  add(reason: string, name: string, detail?: string): void {
    const found = this.#reasons.get(reason) ?? { count: 0, names: [] };
    this.#reasons.set(reason, found);
    found.count++;
    if (found.names.length < NAMES) found.names.push(detail ? `${name}: ${detail}` : name);
  }

  /** All of them, by reason. */
  list(): Skipped[] {
    return [...this.#reasons].map(([reason, found]) => ({ reason, ...found }));
  }
}

/** An image that was found. */
export interface FoundImage {
  /** Its path in the data set's folder, with `/`. */
  readonly name: string;
  /** Where it is read. */
  readonly file: string;
  /** Its class. */
  readonly label: number;
  /** Whether it is one to test with. */
  test: boolean;
  /** Bytes. */
  readonly size: number;
  /** When it was changed, in milliseconds. */
  readonly time: number;
}

/** What lies in a folder. */
export interface FoundImages {
  /** The folder, without links. */
  readonly root: string;
  /** The classes, by label. */
  readonly classes: readonly string[];
  /** The images: all of the training folder before the test folder's, or mixed where they are split. */
  readonly images: readonly FoundImage[];
  /** What is not used. */
  readonly skipped: SkipList;
  /** What else there is to say. */
  readonly notes: readonly string[];
}

/** A file in a folder. */
interface Entry {
  readonly name: string;
  readonly file: string;
  readonly size: number;
  readonly time: number;
}

/** What is in a folder. */
interface Listing {
  /** Folders in it: their names, and where they really are. */
  readonly folders: { readonly name: string; readonly real: string }[];
  /** Images in it. */
  readonly images: Entry[];
}

/** In the order of UTF-16 code units. */
const byName = (a: { readonly name: string }, b: { readonly name: string }) =>
  a.name < b.name ? -1 : a.name > b.name ? 1 : 0;

/** Looks into folders below a root, and leaves what is not within it. */
class Walk {
  readonly skipped = new SkipList();
  #seen = 0;

  constructor(readonly root: string, readonly signal: AbortSignal | undefined) {}

  /** What is in a folder, which really is at `real`, and is called `path` in the root. */
  async list(path: string, real: string): Promise<Listing> {
    const listing: Listing = { folders: [], images: [] };
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

  #look(entry: Deno.DirEntry, path: string, real: string, { folders, images }: Listing): void {
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
    else if (!IMAGE.test(entry.name)) this.skipped.add("not .jpg, .jpeg, .png or .webp", name);
    else {
      try {
        const { size, mtime } = Deno.lstatSync(file);
        images.push({ name: entry.name, file, size, time: mtime?.getTime() ?? 0 });
      } catch (error) {
        this.skipped.add("cannot be looked at", name, (error as Error).message);
      }
    }
  }

  /** The images of a class, in its folder and in those within it. */
  async below(path: string, real: string, label: number, test: boolean): Promise<FoundImage[]> {
    const folders: { name: string; images: Entry[] }[] = [];
    const pending = [{ name: path, real }], seen = new Set([real]);
    for (let next; (next = pending.pop());) {
      const { name } = next, listing = await this.list(name, next.real);
      folders.push({ name, images: listing.images });
      for (const inner of listing.folders) {
        const innerName = `${name}/${inner.name}`;
        // By way of links a folder may be within itself, or in very many others.
        if (seen.has(inner.real)) this.skipped.add("a folder seen before, by a link", innerName);
        else pending.push({ name: innerName, real: inner.real });
        seen.add(inner.real);
      }
    }
    const found: FoundImage[] = [];
    for (const { name, images } of folders.sort(byName)) {
      for (const image of images) {
        found.push({ ...image, name: `${name}/${image.name}`, label, test });
      }
    }
    if (found.length === 0) this.skipped.add("a folder without images", path);
    return found;
  }

  /** Notes images that are in no class. */
  loose(path: string, { images }: Listing): void {
    for (const { name } of images) {
      this.skipped.add("in no class's folder", path === "" ? name : `${path}/${name}`);
    }
  }
}

const withEnd = (folder: string) => folder.endsWith(separator()) ? folder : folder + separator();

/** How {@linkcode findImages} looks. */
export interface FindOptions {
  /** The share of each class to test with, where one folder is split. */
  readonly testShare: number;
  /** Which images these are. */
  readonly seed: number;
  /** Stops it. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Looks for images in a folder.
 *
 * @throws {DataError} `no-images`, `one-class`, `no-test-images`, `unknown-class`, `too-large`,
 * `read-failed`
 */
export async function findImages(path: string, options: FindOptions): Promise<FoundImages> {
  const { signal } = options;
  let walk: Walk, top: Listing;
  try {
    walk = new Walk(Deno.realPathSync(path), signal);
    top = await walk.list("", walk.root);
  } catch (cause) {
    if (signal?.aborted) throw cause;
    const what = `cannot be looked into: ${(cause as Error).message}`;
    throw new DataError("read-failed", path, what, { cause });
  }
  const trainFolder = top.folders.find(({ name }) => name === "train");
  const train = trainFolder && await walk.list("train", trainFolder.real);
  const parts = train !== undefined && train.folders.length > 0;
  // One that has images in it is a class that is called so.
  const found = parts
    ? await inParts(path, walk, top, train)
    : await inClasses(path, walk, "", top, false);
  if (!parts) split(path, found.classes, found.images, options);
  return { root: walk.root, skipped: walk.skipped, notes: [], ...found };
}

type Classes = Pick<FoundImages, "classes" | "images"> & Partial<Pick<FoundImages, "notes">>;

/** The classes of one folder, and their images. */
async function inClasses(
  path: string,
  walk: Walk,
  part: string,
  listing: Listing,
  test: boolean,
): Promise<Classes> {
  const { folders } = listing, where = join(path, part);
  if (folders.length > MAX_CLASSES) {
    const what =
      `has ${folders.length} folders, one for each class; at most ${MAX_CLASSES} are read`;
    throw new DataError("too-large", where, what);
  }
  walk.loose(part, listing);
  const classes: string[] = [], images: FoundImage[] = [];
  for (const { name, real } of folders) {
    const inPart = part === "" ? name : `${part}/${name}`;
    const found = await walk.below(inPart, real, classes.length, test);
    if (found.length === 0) continue;
    classes.push(name);
    for (const image of found) images.push(image);
  }
  if (test || classes.length > 1) return { classes, images };
  if (classes.length === 1) {
    const what = `has images of one class only, ${quote(classes[0]!)}: there is nothing to tell ` +
      "apart; give a folder with a folder for each of two classes or more";
    throw new DataError("one-class", where, what);
  }
  const has = listing.images.length > 0
    ? `has ${listing.images.length} images, but none in a folder that is a class`
    : "has no images";
  const what = `${has}; put .jpg, .jpeg, .png or .webp files into a folder for each class`;
  throw new DataError("no-images", where, what);
}

/** The classes of `train/`, and images of that and of the test part. */
async function inParts(
  path: string,
  walk: Walk,
  top: Listing,
  listing: Listing,
): Promise<Classes> {
  walk.loose("", top);
  const train = await inClasses(path, walk, "train", listing, false);
  const there = TEST_FOLDERS.filter((part) => top.folders.some(({ name }) => name === part));
  if (there.length === 0) {
    const what = `has train/, but no images to test with: neither ${
      TEST_FOLDERS.join("/, ")
    }/; make one of them, or give ${join(path, "train")}, which is split then`;
    throw new DataError("no-test-images", path, what);
  }
  let part = there[0]!, tests: Listing | undefined;
  // Some have images without classes in one of them.
  for (const name of there) {
    const found = await walk.list(name, top.folders.find((folder) => folder.name === name)!.real);
    if (found.folders.length > 0) {
      [part, tests] = [name, found];
      break;
    }
  }
  const test = tests && await inClasses(path, walk, part, tests, true);
  if (test === undefined || test.images.length === 0) {
    const what = "has no images in a folder for each class, so that there is nothing to test with";
    throw new DataError("no-test-images", join(path, part), what);
  }
  const labels = new Map(train.classes.map((name, label) => [name, label]));
  const unknown = test.classes.filter((name) => !labels.has(name));
  if (unknown.length > 0) {
    const some = brief(unknown.map(quote).join(", "), 200);
    const what = `has ${unknown.length} classes that ${
      join(path, "train")
    } has no images of: ${some}`;
    throw new DataError("unknown-class", join(path, part), what);
  }
  const images = train.images.concat(
    test.images.map((image) => ({ ...image, label: labels.get(test.classes[image.label]!)! })),
  );
  const others = there.filter((name) => name !== part);
  const notes = others.length > 0
    ? [`${others.join(", ")} not used: ${part} is the test part`]
    : [];
  return { classes: train.classes, images, notes };
}

/** Chooses the images to test with, of each class by itself, so that others do not change it. */
function split(
  path: string,
  classes: readonly string[],
  images: readonly FoundImage[],
  { testShare, seed }: FindOptions,
): void {
  let start = 0, tests = 0;
  for (let label = 0; label < classes.length; label++) {
    let end = start;
    while (end < images.length && images[end]!.label === label) end++;
    const count = end - start;
    const share = Math.min(count - 1, Math.max(1, Math.round(count * testShare)));
    const order = new Random(seed, SPLIT_STREAM + label).permutation(count);
    for (const i of order.subarray(0, share)) images[start + i]!.test = true;
    tests += share;
    start = end;
  }
  if (tests > 0) return;
  const what = "has one image of each class, so that there is none to test with; give more, or " +
    "train/ and test/";
  throw new DataError("no-test-images", path, what);
}

/** Some of the images, chosen by the seed; in their order. */
export function limited(
  images: readonly FoundImage[],
  limits: { readonly train: number; readonly test: number },
  seed: number,
): readonly FoundImage[] {
  const left = new Set<FoundImage>();
  for (const [k, most] of [limits.train, limits.test].entries()) {
    const part = images.filter(({ test }) => test === (k === 1));
    if (part.length <= most) part.forEach((image) => left.add(image));
    else {
      const order = new Random(seed, LIMIT_STREAM + k).permutation(part.length);
      for (const i of order.subarray(0, most)) left.add(part[i]!);
    }
  }
  return left.size === images.length ? images : images.filter((image) => left.has(image));
}
