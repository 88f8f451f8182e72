/**
 * IDX files in a folder, by the names that they are published under: MNIST's, which KMNIST and
 * Fashion-MNIST use as well, and EMNIST's.
 *
 *     train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz
 *     t10k-images-idx3-ubyte.gz   t10k-labels-idx1-ubyte.gz
 *     emnist-letters-train-images-idx3-ubyte.gz  emnist-letters-test-images-idx3-ubyte.gz  …
 *
 * @module
 */

import { displayed } from "../check/display.ts";
import { quote } from "../check/text.ts";
import { checkLabels, type ImageDataset, readImageDataset, showDataset } from "../data/dataset.ts";
import { DataError } from "../data/error.ts";
import { FASHION_MNIST_CLASSES, FASHION_MNIST_FILES } from "../data/fashion_mnist.ts";
import type { ByteStream } from "../data/gzip.ts";
import { readIdx } from "../data/idx.ts";
import type { LoadedDataset, LoadOptions } from "./loaded.ts";
import { sha256 } from "./image_cache.ts";
import { openFile } from "./open.ts";
import { basename, dirname, join } from "./paths.ts";

/** The files of a set: where it begins, which part it is, and what is in it. */
const NAME = /^(.*?)(train|t10k|test)-(?:images[-.]idx3|labels[-.]idx1)-ubyte(?:\.gz)?$/s;
/** The longest list of classes that is read, in bytes. */
const MAX_LIST = 2 ** 16;
/** The most classes that labels of a byte tell apart. */
const MOST = 256;
/** The longest name of a class, as a checkpoint has it. */
const LONGEST = 1000;

/** The files of a data set. */
export interface IdxSet {
  /** Where they lie. */
  readonly dir: string;
  /** What their names begin with. */
  readonly prefix: string;
  /** All names in the folder. */
  readonly names: ReadonlySet<string>;
}

/**
 * The data set of IDX files at a path; undefined where there is none.
 *
 * @param path the folder, or the beginning of the files' names
 * @throws {DataError} `several-sets`
 */
export async function findIdx(path: string, isFolder: boolean): Promise<IdxSet | undefined> {
  const dir = isFolder ? path : dirname(path), start = isFolder ? "" : basename(path);
  const names = new Set<string>(), prefixes = new Set<string>();
  try {
    for await (const { name, isDirectory } of Deno.readDir(dir)) {
      if (isDirectory) continue;
      names.add(name);
      const prefix = NAME.exec(name)?.[1];
      if (prefix?.startsWith(start)) prefixes.add(prefix);
    }
  } catch {
    return undefined; // Whoever looks for something else there says why.
  }
  const all = [...prefixes].sort(), bare = (prefix: string) => prefix.replace(/[-_.]$/, "");
  const exact = all.filter((prefix) => bare(prefix) === bare(start));
  const [prefix, ...others] = exact.length > 0 ? exact : all;
  if (prefix === undefined) return undefined;
  if (others.length > 0) {
    const sets = [prefix, ...others].map(bare);
    const what =
      `has the files of ${sets.length} data sets: ${sets.join(", ")}; give one of them, ` +
      `such as ${join(dir, sets[0]!)}`;
    throw new DataError("several-sets", path, what);
  }
  return { dir, prefix, names };
}

/** Where a file of the set lies, which may have one of these names, gzipped or not. */
function fileOf({ dir, prefix, names }: IdxSet, parts: string[], what: string): string {
  const candidates = parts.flatMap((part) =>
    ["-", "."].flatMap((mark) =>
      [".gz", ""].map((end) => `${prefix}${part}-${what.replace(" ", mark)}-ubyte${end}`)
    )
  );
  return join(dir, candidates.find((name) => names.has(name)) ?? candidates[0]!);
}

/** Loads a data set of IDX files, as `loadDataset` says. */
export async function loadIdx(
  set: IdxSet,
  { channels = 1, limit, testLimit, signal, memory }: LoadOptions & { readonly memory: number },
): Promise<LoadedDataset> {
  const open = async (path: string): Promise<ByteStream> => {
    const stream = await openFile(path);
    return signal ? stream.pipeThrough(new TransformStream(), { signal }) : stream;
  };
  const files = [["train"], ["t10k", "test"]].map((parts, i) => ({
    images: fileOf(set, parts, "images idx3"),
    labels: fileOf(set, parts, "labels idx1"),
    limit: i === 0 ? limit : testLimit,
  }));
  try {
    const shapes: (readonly number[])[] = [], labels: Uint8Array<ArrayBuffer>[] = [];
    for (const file of files) {
      const idx = await readIdx(await open(file.images), file.images, {
        shape: Array(3).fill(undefined),
      });
      await idx.cancel();
      shapes.push(idx.shape);
      const marks = await readIdx(await open(file.labels), file.labels, { shape: [undefined] });
      labels.push(await marks.bytes());
    }
    checkFiles(files, shapes, channels, memory);
    const { classes, table, notes } = await classesOf(set, files, labels);
    const sets: ImageDataset[] = [];
    for (const { images: image, labels: label, limit } of files) {
      const read = await readImageDataset(
        { stream: await open(image), name: image },
        { stream: await open(label), name: label },
        { classes: new Array(MOST).fill(""), ...limit !== undefined && { limit } },
      );
      sets.push(finished(read, { set, channels, classes, table }));
    }
    const [train, test] = sets as [ImageDataset, ImageDataset];
    const { height, width } = train;
    if (isTransposed(set)) {
      notes.push("EMNIST's images lie on their side: they were turned upright");
    }
    const size = [height, width] as const;
    return {
      ...{ train, test },
      summary: {
        ...{ kind: "idx", classes, channels, size, smallest: size, largest: size, notes },
        ...{ train: train.count, test: test.count, skipped: [], cached: false, file: undefined },
      },
      [Symbol.dispose]: () => {},
    };
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** EMNIST's images are transposed as they are published. */
const isTransposed = ({ prefix }: IdxSet) => /^emnist-/i.test(prefix);

/** Throws unless the images of both parts are of one size and fit into memory. */
function checkFiles(
  files: readonly { readonly images: string; readonly limit: number | undefined }[],
  shapes: readonly (readonly number[])[],
  channels: number,
  memory: number,
): void {
  const [[, height, width], [, testHeight, testWidth]] = shapes as [number[], number[]];
  if (height !== testHeight || width !== testWidth) {
    const what = `has images of ${testHeight}×${testWidth}, but those to train on are of ` +
      `${height}×${width}; take both files from the same set`;
    throw new DataError("wrong-shape", files[1]!.images, what);
  }
  const count = shapes.reduce((sum, [count], i) => {
    return sum + Math.min(count!, files[i]!.limit ?? Infinity);
  }, 0);
  const bytes = count * channels * height! * width!;
  if (bytes <= memory) return;
  const what = `the ${count} images of the set need ${bytes} bytes, and memory allows ${memory}; ` +
    "give a larger memory, or a limit";
  throw new DataError("too-large", files[0]!.images, what);
}

/** Classes, and where they are not the labels' numbers, which class each label is. */
interface Classes {
  readonly classes: string[];
  readonly table: Uint8Array | undefined;
  readonly notes: string[];
}

async function classesOf(
  { dir, prefix, names }: IdxSet,
  files: readonly { readonly labels: string }[],
  labels: readonly Uint8Array<ArrayBuffer>[],
): Promise<Classes> {
  const notes: string[] = [];
  const [mapping] = [`${prefix}mapping.txt`].filter((name) => names.has(name));
  const [list] = [`${prefix}classes.txt`, "classes.txt"].filter((name) => names.has(name));
  if (mapping !== undefined) {
    const path = join(dir, mapping), known = await readMapping(path);
    const table = new Uint8Array(MOST);
    known.forEach(([label], i) => table[label] = i);
    labels.forEach((all, part) => {
      const bad = all.findIndex((label) => !known.some(([other]) => other === label));
      if (bad < 0) return;
      const what = `label ${bad} is ${all[bad]}, which ${path} does not name`;
      throw new DataError("label-range", files[part]!.labels, what);
    });
    const first = known[0]![0], last = known.at(-1)![0];
    const moved = known.some(([label], i) => label !== i);
    if (moved) notes.push(`labels ${first} to ${last} became 0 to ${known.length - 1}`);
    return { classes: known.map(([, name]) => name), table: moved ? table : undefined, notes };
  }
  if (list !== undefined) {
    const path = join(dir, list), classes = await readClasses(path);
    labels.forEach((all, part) => checkLabels(files[part]!.labels, all, classes));
    return { classes, table: undefined, notes };
  }
  const largest = labels.flatMap((all) => all.reduce((a, b) => Math.max(a, b), 0));
  const count = Math.max(...largest) + 1;
  if (count < 2) {
    const what = "all labels are 0: there is one class, and nothing to tell apart";
    throw new DataError("one-class", files[0]!.labels, what);
  }
  const isFashion = await sha256(idxOf(labels[0]!)) === FASHION_MNIST_FILES.train.labels.sha256;
  const classes = isFashion
    ? [...FASHION_MNIST_CLASSES]
    : Array.from({ length: count }, (_, i) => `${i}`);
  return { classes, table: undefined, notes };
}

/** Labels as the bytes of an IDX file. */
function idxOf(labels: Uint8Array): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(8 + labels.length);
  const view = new DataView(file.buffer);
  view.setUint32(0, 0x0801);
  view.setUint32(4, labels.length);
  file.set(labels, 8);
  return file;
}

/** The lines of a text file, without those that are empty at its end. */
async function linesOf(path: string): Promise<string[]> {
  let text: string;
  try {
    const { size } = await Deno.stat(path);
    if (size > MAX_LIST) throw new Error(`its ${size} bytes are more than ${MAX_LIST}`);
    text = new TextDecoder("utf-8", { fatal: true }).decode(await Deno.readFile(path));
  } catch (cause) {
    const what = `cannot be read: ${(cause as Error).message}`;
    throw new DataError("bad-classes", path, what, { cause });
  }
  return text.trimEnd().split(/\r?\n/);
}

/** Throws unless names are two or more, at most 256, and no two are the same. */
function checkNames(path: string, names: readonly string[]): void {
  const twice = names.findIndex((name, i) => names.indexOf(name) !== i);
  const empty = names.indexOf("");
  const odd = names.findIndex((name) => name.length > LONGEST || !name.isWellFormed());
  const what = names.length < 2 || names.length > MOST
    ? `names ${names.length} classes; there must be 2 to ${MOST}`
    : empty >= 0
    ? `line ${empty + 1} is empty; give a name on each line`
    : odd >= 0
    ? `line ${odd + 1} has more than ${LONGEST} characters, or half of one`
    : twice >= 0
    ? `line ${twice + 1} names ${quote(names[twice]!)} again; each class needs its own name`
    : undefined;
  if (what !== undefined) throw new DataError("bad-classes", path, what);
}

/** Names, one a line, by label. */
async function readClasses(path: string): Promise<string[]> {
  const names = (await linesOf(path)).map((line) => line.trim());
  checkNames(path, names);
  return names;
}

/** Labels and names, from lines of a label and codes of characters; in the order of the labels. */
async function readMapping(path: string): Promise<[label: number, name: string][]> {
  const known = (await linesOf(path)).map((line, i): [number, string] => {
    const [label, ...codes] = line.trim().split(/\s+/).map((word) =>
      /^\d{1,7}$/.test(word) ? Number(word) : NaN
    );
    const fits = label! < MOST && codes.length > 0 && codes.every((code) => code <= 0x10ffff);
    if (fits) return [label!, String.fromCodePoint(...codes)];
    const what = `line ${i + 1} is ${quote(line)}; it must be a label, and the codes of characters`;
    throw new DataError("bad-classes", path, what);
  });
  known.sort(([a], [b]) => a - b);
  checkNames(path, known.map(([, name]) => name));
  const twice = known.findIndex(([label], i) => label === known[i - 1]?.[0]);
  if (twice < 0) return known;
  throw new DataError("bad-classes", path, `names label ${known[twice]![0]} twice`);
}

/** A part with its images upright and in as many channels as are wanted, and its labels as classes. */
function finished(
  read: ImageDataset,
  { set, channels, classes, table }: {
    readonly set: IdxSet;
    readonly channels: number;
    readonly classes: readonly string[];
    readonly table: Uint8Array | undefined;
  },
): ImageDataset {
  const { count, labels } = read, plane = read.height * read.width;
  let images = read.images as Uint8Array<ArrayBuffer>, { height, width } = read;
  if (isTransposed(set)) {
    transpose(images, height, width);
    [height, width] = [width, height];
  }
  if (channels > 1) {
    const grey = images;
    images = new Uint8Array(channels * grey.length);
    for (let i = 0; i < channels * count; i++) {
      const from = Math.floor(i / channels) * plane;
      images.set(grey.subarray(from, from + plane), i * plane);
    }
  }
  if (table) labels.forEach((label, i) => labels[i] = table[label]!);
  return displayed({ images, labels, count, height, width, channels, classes }, showDataset);
}

/** Makes the rows of each image its columns. */
function transpose(images: Uint8Array, height: number, width: number): void {
  const image = new Uint8Array(height * width);
  for (let start = 0; start < images.length; start += image.length) {
    image.set(images.subarray(start, start + image.length));
    for (let column = 0, at = start; column < width; column++) {
      for (let row = 0; row < height; row++) images[at++] = image[row * width + column]!;
    }
  }
}
