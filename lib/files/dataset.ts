/**
 * {@link loadDataset}: finds out what lies at a path, and loads folders of classes. `idx_folder.ts`
 * loads IDX files.
 *
 * @module
 */

import {
  checkFunction,
  checkInstance,
  checkNumber,
  checkOptions,
  checkString,
  refuse,
} from "../check/arguments.ts";
import { displayed } from "../check/display.ts";
import { quote } from "../check/text.ts";
import { type ImageDataset, labelsOf, type ReadImages, showDataset } from "../data/dataset.ts";
import { DataError } from "../data/error.ts";
import { type FoundImage, type FoundImages, limited } from "../data/image_folder.ts";
import { Decoders, inOrder } from "./decoders.ts";
import { findIdx, loadIdx } from "./idx_folder.ts";
import { ImageError, type ImageForm, isGrey, MAX_IMAGE_BYTES } from "./image.ts";
import {
  ImageCache,
  ImageCacheWriter,
  type ImageIndex,
  sha256,
  type Unreadable,
} from "./image_cache.ts";
import { findImages } from "./image_folder.ts";
import { checkSize, type LoadedDataset, type LoadOptions } from "./loaded.ts";
import { checkDeno, kindOf } from "./open.ts";
import { basename, join } from "./paths.ts";

/** Bytes of a file that mostly say whether it is grey. */
const HEAD_BYTES = 2 ** 16;
/** Images that are looked at before others get a turn. */
const TURN = 64;
/** Bytes of images that are held in memory. */
const MEMORY = 2 ** 30;

/** A file that could not be read, which need not be so for good. */
class UnreadError extends ImageError {}

/**
 * Loads the data set at a path. There are two kinds:
 *
 * - IDX files as MNIST, KMNIST, Fashion-MNIST and EMNIST are published, gzipped or not. Where a folder
 *   has several sets, the path names one by its beginning: `DIR/emnist-letters`. Classes are named by
 *   `…-mapping.txt` (EMNIST's) or `classes.txt` (a name a line), if there is one. EMNIST is turned
 *   upright.
 * - Folders of classes: `PATH/train/CLASS/…` with `PATH/test/CLASS/…` (or `val`, `valid`,
 *   `validation`); or `PATH/CLASS/…`, and a share of each class becomes the test images. Images are
 *   JPEG, PNG and WebP files of any size, also in folders within a class's. They become grey if all
 *   of them are, or else RGB, and are resized as torchvision's `Resize` does PIL images.
 *
 * Files that cannot be read are left out, and listed in the summary.
 *
 * **Deno only.** It needs permission to read the path, and to read and write `cache`. To decode in
 * several threads it also reads `image_worker.ts` of this library; without that permission, one
 * thread decodes.
 *
 * @param path the folder, or the beginning of the names of IDX files
 * @param options `resize` must be given for folders of classes
 * @returns the training images, the test images, and what was found
 * @throws {DataError} if there is no such set, or it is damaged
 * @throws {WriteError} if the cache cannot be written
 * @throws {ArgumentError} if an argument or option is of another kind
 *
 * @example
 * ```ts
 * import { loadDataset } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * using data = await loadDataset("data/fashion-mnist", { limit: 100, testLimit: 50 });
 * assertEquals([data.train.count, data.test.count], [100, 50]);
 * assertEquals(data.summary.classes[data.test.labels[0]!], "Ankle boot");
 * ```
 *
 * @example A folder of photographs, half of them for testing
 * ```ts
 * import { loadDataset } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const folder = await Deno.makeTempDir();
 * for (const name of ["cat", "dog"]) {
 *   await Deno.mkdir(`${folder}/${name}`);
 *   await Deno.copyFile("tests/fixtures/images/boot_tint.webp", `${folder}/${name}/1.webp`);
 *   await Deno.copyFile("tests/fixtures/images/boot_turned.jpg", `${folder}/${name}/2.jpg`);
 * }
 * using data = await loadDataset(folder, { resize: [24, 32], testShare: 0.5 });
 * assertEquals([data.train.count, data.test.count, data.train.channels], [2, 2, 3]);
 * assertEquals(data.summary.largest, [100, 130]);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function loadDataset(path: string, options: LoadOptions = {}): Promise<LoadedDataset> {
  checkLoad(path, options);
  checkDeno(
    "loadDataset",
    "fetchFile and readImageDataset, or collectImages, make data sets there",
  );
  const { signal } = options;
  signal?.throwIfAborted();
  const kind = await lookAt(path);
  const idx = await findIdx(path, kind === "folder");
  if (idx) return await loadIdx(idx, { memory: MEMORY, ...options });
  if (kind === undefined) {
    const what = "there is no such file or folder, and no IDX files whose names begin so";
    throw new DataError("missing-file", path, what);
  }
  if (kind === "file") {
    const what = "is a file; give the folder of a data set, or the beginning of the names of its " +
      "IDX files";
    throw new DataError("not-a-folder", path, what);
  }
  if (options.resize === undefined) {
    refuse(
      "loadDataset",
      "resize",
      "given for a folder of images: a side, or [height, width]",
      options.resize,
    );
  }
  return await loadFolder(path, options);
}

async function lookAt(path: string): Promise<"file" | "folder" | undefined> {
  try {
    return await kindOf(path);
  } catch (cause) {
    const what = `cannot be looked at: ${(cause as Error).message}`;
    throw new DataError("read-failed", path, what, { cause });
  }
}

function checkLoad(path: string, options: LoadOptions): void {
  const op = "loadDataset";
  checkString(op, "path", path);
  if (path === "") refuse(op, "path", "the path of a data set", path);
  checkOptions(op, options, [
    ...["resize", "channels", "testShare", "seed", "limit", "testLimit", "cache", "memory"],
    ...["onProgress", "signal", "workers"],
  ]);
  const { resize, channels, testShare, cache, onProgress, signal } = options;
  if (resize !== undefined) checkSize(op, "resize", resize);
  if (channels !== undefined && channels !== 1 && channels !== 3) {
    refuse(op, "channels", "1 for grey or 3 for RGB", channels);
  }
  if (testShare !== undefined) {
    checkNumber(op, "testShare", testShare, { min: 0, below: 1 });
    if (testShare === 0) refuse(op, "testShare", "above 0", testShare);
  }
  if (options.seed !== undefined) checkNumber(op, "seed", options.seed, { integer: true, min: 0 });
  for (const name of ["limit", "testLimit", "workers"] as const) {
    if (options[name] !== undefined) {
      checkNumber(op, name, options[name], { integer: true, min: 1 });
    }
  }
  if (options.memory !== undefined) checkNumber(op, "memory", options.memory, { min: 0 });
  if (cache !== undefined) {
    checkString(op, "cache", cache);
    if (cache === "") refuse(op, "cache", "a folder's path", cache);
  }
  if (onProgress !== undefined) checkFunction(op, "onProgress", onProgress);
  if (signal !== undefined) checkInstance(op, "signal", signal, AbortSignal);
}

/** What became of files: images of one form, but for those that cannot be used. */
type Decoded = Pick<
  ImageIndex,
  "count" | "channels" | "height" | "width" | "smallest" | "largest" | "unreadable"
>;

async function loadFolder(path: string, options: LoadOptions): Promise<LoadedDataset> {
  const { testShare = 0.2, seed = 0, limit, testLimit, signal, memory = MEMORY } = options;
  const [height, width] = checkSize("loadDataset", "resize", options.resize);
  const found = await findImages(path, { testShare, seed, signal });
  const limits = { train: limit ?? Infinity, test: testLimit ?? Infinity };
  const images = limited(found.images, limits, seed);
  const settings = [height, width, options.channels ?? 0];
  const lines = images.map(({ name, size, time }) => JSON.stringify([name, size, time]));
  const wanted = {
    ...{ height, width, files: images.length },
    digest: await sha256([settings, ...lines].join("\n")),
  };
  const result = (sets: ImageDataset["images"][], decoded: Decoded, cache?: ImageCache) =>
    datasetOf(path, found, images, sets, decoded, { cached, cache });
  let cached = false;

  if (options.cache === undefined) {
    const form = { height, width, channels: await channelsOf(images, options) };
    const each = form.channels * height * width, bytes = images.length * each;
    if (bytes > memory) {
      const what =
        `its ${images.length} images need ${bytes} bytes, and memory allows ${memory}; ` +
        "give a folder as cache, from which they are then read, a smaller resize, or a limit";
      throw new DataError("too-large", path, what);
    }
    const sets = [false, true].map((part) =>
      new Uint8Array(images.filter(({ test }) => test === part).length * each)
    );
    const filled = [0, 0];
    const decoded = await decode(path, images, form, options, (pixels, { test }) => {
      const part = Number(test);
      sets[part]!.set(pixels, filled[part]!);
      filled[part]! += each;
    });
    return result(sets.map((set, i) => set.subarray(0, filled[i])), decoded);
  }

  const chosen = limit ?? testLimit ? [limit ?? 0, testLimit ?? 0, seed, testShare] : [];
  const hash = (await sha256(JSON.stringify([found.root, settings, chosen]))).slice(0, 12);
  const name = basename(found.root).replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(0, 60);
  const folder = join(options.cache, `${name}-${hash}`);
  const open = async () => {
    const cache = await ImageCache.open(folder, wanted);
    if (!cache) return undefined;
    try {
      if (cached && cache.index.unreadable.some((one) => isReadNow(one, images))) {
        cache[Symbol.dispose]();
        return undefined;
      }
      return result(setsOf(cache, images, memory), cache.index, cache);
    } catch (error) {
      cache[Symbol.dispose]();
      throw error;
    }
  };
  cached = true;
  try {
    const loaded = await open();
    if (loaded) return loaded;
  } catch (error) {
    if (!(error instanceof DataError && error.code === "checksum")) throw error;
  }
  cached = false;
  const form = { height, width, channels: await channelsOf(images, options) };
  {
    await using writer = await ImageCacheWriter.create(options.cache, folder, form);
    const decoded = await decode(path, images, form, options, (pixels) => writer.add(pixels));
    await writer.finish({ ...wanted, ...decoded });
  }
  const loaded = await open();
  if (loaded) return loaded;
  throw new DataError("read-failed", folder, "was changed while it was made, by another process");
}

/** 1 where all images are grey, by their headers, or else 3. */
async function channelsOf(
  images: readonly FoundImage[],
  { channels, signal }: LoadOptions,
): Promise<number> {
  if (channels !== undefined) return channels;
  const head = new Uint8Array(HEAD_BYTES);
  for (const [i, { file: path, size }] of images.entries()) {
    if (i % TURN === TURN - 1) await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
    try {
      using file = Deno.openSync(path);
      const bytes = head.subarray(0, file.readSync(head) ?? 0);
      let grey = isGrey(bytes);
      if (grey === undefined && size > bytes.length && size <= MAX_IMAGE_BYTES) {
        grey = isGrey(Deno.readFileSync(path));
      }
      if (grey === false) return 3;
    } catch {
      // What is wrong with it is told when it is to be decoded.
    }
  }
  return 1;
}

/** The bytes of an image's file. */
async function readImage({ file, name, size }: FoundImage): Promise<Uint8Array<ArrayBuffer>> {
  const tooLong = `${name}: is longer than the ${MAX_IMAGE_BYTES / 2 ** 20} MiB that are read`;
  if (size > MAX_IMAGE_BYTES) throw new ImageError(tooLong);
  try {
    return await Deno.readFile(file);
  } catch (cause) {
    throw new UnreadError(`${name}: cannot be read: ${(cause as Error).message}`, { cause });
  }
}

/** Whether a file can be read that could not be when a cache was made: a disk may have been away. */
function isReadNow({ file, unread }: Unreadable, images: readonly FoundImage[]): boolean {
  if (!unread) return false;
  try {
    Deno.readFileSync(images[file]!.file);
    return true;
  } catch {
    return false;
  }
}

/** Decodes images, and hands them out in their order. */
async function decode(
  path: string,
  images: readonly FoundImage[],
  form: ImageForm,
  { workers = navigator.hardwareConcurrency, signal, onProgress }: LoadOptions,
  use: (pixels: Uint8Array<ArrayBuffer>, image: FoundImage) => void | Promise<void>,
): Promise<Decoded> {
  const unreadable: Unreadable[] = [];
  let smallest: readonly number[] = [], largest: readonly number[] = [], done = 0;
  {
    using decoders = new Decoders(form, { images: images.length, workers, signal });
    const all = inOrder(images, decoders.ahead, async (image) => {
      try {
        return await decoders.decode(await readImage(image), image.name);
      } catch (error) {
        if (error instanceof ImageError) return error;
        throw error;
      }
    });
    for await (const result of all) {
      signal?.throwIfAborted();
      const file = done++, image = images[file]!;
      if (result instanceof ImageError) {
        const why = result.message.replace(`${image.name}: `, "");
        unreadable.push({ file, why, unread: result instanceof UnreadError });
      } else {
        await use(result.pixels, image);
        if (file === unreadable.length || isLess(result.size, smallest)) smallest = result.size;
        if (file === unreadable.length || isLess(largest, result.size)) largest = result.size;
      }
      onProgress?.({ done, of: images.length });
    }
  }
  const count = images.length - unreadable.length;
  if (count === 0) {
    const what = `none of its ${images.length} images can be read; ${images[0]!.name} ` +
      unreadable[0]!.why;
    throw new DataError("no-images", path, what);
  }
  return { ...form, count, unreadable, smallest: [...smallest], largest: [...largest] };
}

/** Whether a size has fewer pixels than another; or as many, and fewer rows. */
function isLess(a: readonly number[], b: readonly number[]): boolean {
  const difference = a[0]! * a[1]! - b[0]! * b[1]!;
  return difference < 0 || difference === 0 && a[0]! < b[0]!;
}

/** The images of a cache that are in a part, by their numbers. */
function numbersOf(
  images: readonly FoundImage[],
  unreadable: readonly Unreadable[],
  part: boolean,
): { readonly numbers: Uint32Array; readonly labels: number[] } {
  const missing = new Set(unreadable.map(({ file }) => file));
  const numbers: number[] = [], labels: number[] = [];
  let number = 0;
  images.forEach(({ test, label }, file) => {
    if (missing.has(file)) return;
    if (test === part) {
      numbers.push(number);
      labels.push(label);
    }
    number++;
  });
  return { numbers: Uint32Array.from(numbers), labels };
}

/** The images of both parts, in memory or to be read. */
function setsOf(
  cache: ImageCache,
  images: readonly FoundImage[],
  memory: number,
): ImageDataset["images"][] {
  const { count, unreadable } = cache.index;
  const parts = [false, true].map((part) => numbersOf(images, unreadable, part).numbers);
  if (count * cache.bytes > memory) return parts.map((numbers) => reader(cache, numbers));
  const sets = parts.map(({ length }) => new Uint8Array(length * cache.bytes)), next = [0, 0];
  cache.each((bytes, number) => {
    const part = parts[0]![next[0]!] === number ? 0 : 1;
    sets[part]!.set(bytes, next[part]!++ * cache.bytes);
  });
  cache[Symbol.dispose]();
  return sets;
}

/** Reads the images with these numbers from a cache. */
function reader(cache: ImageCache, numbers: Uint32Array): ReadImages {
  return (indices) =>
    Promise.try(() => {
      const bad = indices.find((i) => i >= numbers.length);
      if (bad !== undefined) {
        throw new RangeError(`${cache.path}: there is no image ${bad} of ${numbers.length}`);
      }
      return cache.read(indices.map((i) => numbers[i]!));
    });
}

/** The data set, where there is enough of it. */
function datasetOf(
  path: string,
  { classes, images: all, skipped, notes }: FoundImages,
  images: readonly FoundImage[],
  sets: readonly ImageDataset["images"][],
  { channels, height, width, smallest, largest, unreadable }: Decoded,
  { cached, cache }: { readonly cached: boolean; readonly cache: ImageCache | undefined },
): LoadedDataset {
  for (const { file, why } of unreadable) {
    skipped.add("cannot be used", images[file]!.name, why);
  }
  const [train, test] = [false, true].map((part, i) => {
    const labels = labelsOf(numbersOf(images, unreadable, part).labels, classes.length);
    const count = labels.length, set = sets[i]!;
    if (count === 0) {
      const what = `none of the images to ${part ? "test with" : "train on"} can be read`;
      throw new DataError(part ? "no-test-images" : "no-images", path, what);
    }
    return displayed({ images: set, labels, count, channels, height, width, classes }, showDataset);
  }) as [ImageDataset, ImageDataset];
  checkClassesLeft(path, classes, all, images, unreadable);
  const isFile = typeof train.images === "function";
  const pair = (size: number[]) => size as [number, number];
  return {
    ...{ train, test },
    summary: {
      ...{ kind: "folder", classes, channels, cached, notes, size: [height, width] },
      ...{ train: train.count, test: test.count, skipped: skipped.list() },
      ...{ smallest: pair(smallest), largest: pair(largest) },
      file: isFile ? cache?.path : undefined,
    },
    [Symbol.dispose]: () => cache?.[Symbol.dispose](),
  };
}

/** Throws where all images of a class were tried, and none can be used. */
function checkClassesLeft(
  path: string,
  classes: readonly string[],
  all: readonly FoundImage[],
  images: readonly FoundImage[],
  unreadable: readonly Unreadable[],
): void {
  const left = new Uint32Array(classes.length);
  for (const { label } of all) left[label]!++;
  for (const { file } of unreadable) left[images[file]!.label]!--;
  const lost = left.indexOf(0);
  if (lost < 0) return;
  const { file, why } = unreadable.find(({ file }) => images[file]!.label === lost)!;
  const what = `no image of the class ${quote(classes[lost]!)} can be read; ` +
    `${images[file]!.name} ${why}`;
  throw new DataError("no-images", path, what);
}
