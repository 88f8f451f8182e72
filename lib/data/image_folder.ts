/**
 * A folder of images: which classes it has, which images are trained on and which tested with. It
 * works on listings and opens no file, so it serves a folder on a disk and one that is dropped on a
 * page.
 *
 *     PATH/train/CLASS/…  PATH/test/CLASS/…    or val, valid, validation
 *     PATH/CLASS/…                             split by a share
 *
 * Images may lie in folders within a class's. They are taken in the order of torchvision's
 * `ImageFolder`: by class, then by folder, then by name.
 *
 * @module
 */

import { DataError } from "./error.ts";
import { brief, quote } from "../check/text.ts";
import { Random } from "../graph/random.ts";

/** Folders of the images to test with, of which the first that has folders of classes is taken. */
const TEST_FOLDERS = ["test", "val", "valid", "validation"];
/** Names of images. */
const IMAGE = /\.(?:jpe?g|png|webp)$/i;
/** The most classes. */
const MAX_CLASSES = 2 ** 16;
/** Names that are kept of what is skipped for a reason. */
const NAMES = 5;
/** Streams of random numbers: of the split of the first class, and of what a limit leaves. */
const SPLIT_STREAM = 2 ** 30, LIMIT_STREAM = 2 ** 30 + 2 ** 29;

/** Files and folders that are not used, all for the same reason. */
export interface Skipped {
  /** Why. */
  readonly reason: string;
  /** How many there are. */
  readonly count: number;
  /** Paths of the first of them, in the data set's folder, with what is wrong with each. */
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
export interface FoundImage<F = string> {
  /** Its path in the data set's folder, with `/`. */
  readonly name: string;
  /** Where it is read: its path on a disk. */
  readonly file: F;
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
export interface FoundImages<F = string> {
  /** The classes, by label. */
  readonly classes: readonly string[];
  /** The images: all of the training folder before the test folder's, or mixed where they are split. */
  readonly images: readonly FoundImage<F>[];
  /** What is not used. */
  readonly skipped: SkipList;
  /** What else there is to say. */
  readonly notes: readonly string[];
}

/** An image in a folder. */
export interface ImageEntry<F> {
  /** Its name there. */
  readonly name: string;
  /** Where it is read. */
  readonly file: F;
  /** Bytes. */
  readonly size: number;
  /** When it was changed, in milliseconds. */
  readonly time: number;
}

/** What is in a folder, by name. */
export interface Listing<F> {
  /** Folders in it: their names, and where they really are. */
  readonly folders: { readonly name: string; readonly real: string }[];
  /** Images in it. */
  readonly images: ImageEntry<F>[];
}

/** Whether a file's name is that of an image; if not, it is noted as skipped. */
export function isImage(name: string, skipped: SkipList): boolean {
  const is = IMAGE.test(name);
  if (!is) skipped.add("not .jpg, .jpeg, .png or .webp", name);
  return is;
}

/** In the order of UTF-16 code units. */
export const byName = (a: { readonly name: string }, b: { readonly name: string }): number =>
  a.name < b.name ? -1 : a.name > b.name ? 1 : 0;

/** A folder whose parts can be listed, wherever it is. */
export abstract class ImageFolder<F> {
  /** What is not used. */
  readonly skipped: SkipList = new SkipList();

  /** The folder is called so in messages. */
  constructor(readonly path: string) {}

  /** What is in a folder, which really is at `real`, and is called `name` in this one. */
  abstract list(name: string, real: string): Promise<Listing<F>>;

  /** The images of a class, in its folder and in those within it. */
  async below(
    path: string,
    real: string,
    label: number,
    test: boolean,
  ): Promise<FoundImage<F>[]> {
    const folders: { name: string; images: ImageEntry<F>[] }[] = [];
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
    const found: FoundImage<F>[] = [];
    for (const { name, images } of folders.sort(byName)) {
      for (const image of images) {
        found.push({ ...image, name: `${name}/${image.name}`, label, test });
      }
    }
    if (found.length === 0) this.skipped.add("a folder without images", path);
    return found;
  }

  /** Notes images that are in no class. */
  loose(path: string, { images }: Listing<F>): void {
    for (const { name } of images) {
      this.skipped.add("in no class's folder", path === "" ? name : `${path}/${name}`);
    }
  }
}

/** How a folder is split. */
export interface SplitOptions {
  /** The share of each class to test with, where one folder is split. */
  readonly testShare: number;
  /** Which images these are. */
  readonly seed: number;
}

/**
 * The classes and images of a folder, whose own listing is `top`.
 *
 * @throws {DataError} `no-images`, `one-class`, `no-test-images`, `unknown-class`, `too-large`
 */
export async function findClasses<F>(
  folder: ImageFolder<F>,
  top: Listing<F>,
  options: SplitOptions,
): Promise<FoundImages<F>> {
  const trainFolder = top.folders.find(({ name }) => name === "train");
  const train = trainFolder && await folder.list("train", trainFolder.real);
  const parts = train !== undefined && train.folders.length > 0;
  // One that has images in it is a class that is called so.
  const found = parts ? await inParts(folder, top, train) : await inClasses(folder, "", top, false);
  if (!parts) split(folder.path, found.classes, found.images, options);
  return { skipped: folder.skipped, notes: [], ...found };
}

/** What a part of a folder is called in messages. */
const within = ({ path }: ImageFolder<unknown>, part: string) =>
  `${path.replace(/\/+$/, "")}/${part}`;

type Classes<F> =
  & Pick<FoundImages<F>, "classes" | "images">
  & Partial<Pick<FoundImages<F>, "notes">>;

/** The classes of one folder, and their images. */
async function inClasses<F>(
  folder: ImageFolder<F>,
  part: string,
  listing: Listing<F>,
  test: boolean,
): Promise<Classes<F>> {
  const { folders } = listing, where = part === "" ? folder.path : within(folder, part);
  if (folders.length > MAX_CLASSES) {
    const what =
      `has ${folders.length} folders, one for each class; at most ${MAX_CLASSES} are read`;
    throw new DataError("too-large", where, what);
  }
  folder.loose(part, listing);
  const classes: string[] = [], images: FoundImage<F>[] = [];
  for (const { name, real } of folders) {
    const inPart = part === "" ? name : `${part}/${name}`;
    const found = await folder.below(inPart, real, classes.length, test);
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
async function inParts<F>(
  folder: ImageFolder<F>,
  top: Listing<F>,
  listing: Listing<F>,
): Promise<Classes<F>> {
  const { path } = folder;
  folder.loose("", top);
  const train = await inClasses(folder, "train", listing, false);
  const there = TEST_FOLDERS.filter((part) => top.folders.some(({ name }) => name === part));
  if (there.length === 0) {
    const what = `has train/, but no images to test with: neither ${
      TEST_FOLDERS.join("/, ")
    }/; make one of them, or give ${within(folder, "train")}, which is split then`;
    throw new DataError("no-test-images", path, what);
  }
  let part = there[0]!, tests: Listing<F> | undefined;
  // Some have images without classes in one of them.
  for (const name of there) {
    const found = await folder.list(name, top.folders.find((other) => other.name === name)!.real);
    if (found.folders.length > 0) {
      [part, tests] = [name, found];
      break;
    }
  }
  const test = tests && await inClasses(folder, part, tests, true);
  if (test === undefined || test.images.length === 0) {
    const what = "has no images in a folder for each class, so that there is nothing to test with";
    throw new DataError("no-test-images", within(folder, part), what);
  }
  const labels = new Map(train.classes.map((name, label) => [name, label]));
  const unknown = test.classes.filter((name) => !labels.has(name));
  if (unknown.length > 0) {
    const some = brief(unknown.map(quote).join(", "), 200);
    const what = `has ${unknown.length} classes that ${
      within(folder, "train")
    } has no images of: ${some}`;
    throw new DataError("unknown-class", within(folder, part), what);
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
  images: readonly FoundImage<unknown>[],
  { testShare, seed }: SplitOptions,
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
export function limited<F>(
  images: readonly FoundImage<F>[],
  limits: { readonly train: number; readonly test: number },
  seed: number,
): readonly FoundImage<F>[] {
  const left = new Set<FoundImage<F>>();
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
