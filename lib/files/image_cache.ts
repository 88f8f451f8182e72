/**
 * Images of one size in a file, so that they need not be decoded again:
 *
 *     CACHE/NAME-HASH/images.bin    records: an image, zeros to the next multiple of 4, a checksum
 *     CACHE/NAME-HASH/index.json    what they were made from, and which files are not among them
 *
 * A cache is written under another name, and renamed when it is whole. It is used only if its index
 * and lengths are right and it was made from just these files; each record is checked when it is
 * read.
 *
 * @module
 */

import { count, list, parseJson, record, string, value } from "../check/json.ts";
import { brief } from "../check/text.ts";
import { DataError } from "../data/error.ts";
import type { ImageForm } from "./image.ts";
import { takeLock } from "./lock.ts";
import { join } from "./paths.ts";
import { WriteError, writeFileWhole } from "./write.ts";

/** Another number is not read. */
const FORMAT = 2;
/** The longest index that is read. */
const MAX_INDEX_BYTES = 2 ** 28;
/** Bytes of a checksum. */
const SUM = 4;
/** Bytes that are read or written at once. */
const CHUNK = 2 ** 22;
/** The longest reason for a file that cannot be used. */
const MAX_REASON = 300;

/** Sizes of images: `[height, width]`. */
const SIZE = list(count(1), { min: 2, max: 2 });

const INDEX = record({
  /** Of the files, as they were found, and of the settings. */
  digest: string(64),
  /** How many files there were, and how many of them are images. */
  files: count(1),
  count: count(0),
  channels: count(1, 3),
  height: count(1),
  width: count(1),
  smallest: SIZE,
  largest: SIZE,
  /** Files that are not among the images: which in their order, why, and if they were not even read. */
  unreadable: list(
    record({
      ...{ file: count(), why: string(MAX_REASON + 1) },
      unread: value<boolean>("true or false", (x) => typeof x === "boolean"),
    }),
  ),
});

const WHOLE = record({
  format: count(FORMAT, FORMAT),
  /** Of the rest. */
  sha256: string(64),
  index: INDEX,
}, { closed: true });

/** What a cache has. */
export type ImageIndex = ReturnType<typeof INDEX.read>;

/** sha256 of a text or of bytes, in hex. */
export async function sha256(data: string | Uint8Array<ArrayBuffer>): Promise<string> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Bytes of a record of an image of so many. */
const recordBytes = (image: number) => 4 * Math.ceil(image / 4) + SUM;

/**
 * A checksum of some whole words: each step can be undone, so that no change of one word is lost. A
 * CRC-32 of this platform is in a module of Node's, which no page can load, or slow.
 */
function checksum(bytes: Uint8Array<ArrayBuffer>): number {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const { length } = words,
    step = (sum: number, word: number) => {
      sum = Math.imul(sum ^ word, 0x9e3779b1);
      return sum ^ sum >>> 15;
    };
  // Four sums side by side: one would wait for itself.
  let a = 1, b = 2, c = 3, d = 4, i = 0;
  for (; i + 3 < length; i += 4) {
    a = step(a, words[i]!);
    b = step(b, words[i + 1]!);
    c = step(c, words[i + 2]!);
    d = step(d, words[i + 3]!);
  }
  for (; i < length; i++) a = step(a, words[i]!);
  return [b, c, d].reduce(step, a) >>> 0;
}

/** A cache, to be read. It holds its file open. */
export class ImageCache implements Disposable {
  readonly #file: Deno.FsFile;
  /** Bytes of an image. */
  readonly bytes: number;
  #closed = false;
  #buffer = new Uint8Array(0);

  private constructor(
    readonly path: string,
    readonly index: ImageIndex,
    file: Deno.FsFile,
  ) {
    this.#file = file;
    this.bytes = index.channels * index.height * index.width;
  }

  /** The cache in a folder; undefined where there is none that fits, or it is damaged. */
  static async open(
    folder: string,
    wanted: Pick<ImageIndex, "digest" | "files" | "height" | "width">,
  ): Promise<ImageCache | undefined> {
    let file: Deno.FsFile | undefined;
    try {
      const path = join(folder, "index.json"), { size, isFile } = await Deno.stat(path);
      if (!isFile || size > MAX_INDEX_BYTES) return undefined;
      const { sha256: sum, index } = parseJson(await Deno.readFile(path), WHOLE);
      const { digest, files, height, width } = index;
      const fits = sum === await sha256(JSON.stringify(index)) &&
        digest === wanted.digest && files === wanted.files &&
        height === wanted.height && width === wanted.width &&
        index.count + index.unreadable.length === files &&
        index.unreadable.every(({ file }, i) =>
          file < files && (i === 0 || file > index.unreadable[i - 1]!.file)
        );
      if (!fits) return undefined;
      const name = join(folder, "images.bin");
      if (!(await Deno.stat(name)).isFile) return undefined;
      file = await Deno.open(name);
      const cache = new ImageCache(name, index, file);
      if ((await file.stat()).size === index.count * recordBytes(cache.bytes)) return cache;
    } catch (error) {
      const isAbsent = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.NotADirectory || error instanceof SyntaxError;
      file?.close();
      if (isAbsent) return undefined;
      throw new DataError("read-failed", folder, `cannot be read: ${(error as Error).message}`, {
        cause: error,
      });
    }
    file.close();
    return undefined;
  }

  /**
   * Images, by their numbers.
   *
   * @throws {DataError} `read-failed` or `checksum`
   */
  read(numbers: ArrayLike<number>): Uint8Array<ArrayBuffer> {
    const images = new Uint8Array(numbers.length * this.bytes);
    for (let at = 0; at < numbers.length;) {
      const first = numbers[at]!, most = this.#atOnce(numbers.length - at);
      let run = 1;
      while (run < most && numbers[at + run] === first + run) run++;
      this.#records(first, run, (bytes, i) => images.set(bytes, (at + i - first) * this.bytes));
      at += run;
    }
    return images;
  }

  /** All images, one after the other; the bytes are valid during the call. */
  each(use: (bytes: Uint8Array, number: number) => void): void {
    const { count } = this.index;
    for (let at = 0, run: number; at < count; at += run) {
      run = this.#atOnce(count - at);
      this.#records(at, run, use);
    }
  }

  #atOnce(count: number): number {
    return Math.min(count, Math.max(1, Math.floor(CHUNK / recordBytes(this.bytes))));
  }

  // Without waiting in between: the file has one position, and two may read from it.
  #records(first: number, count: number, use: (bytes: Uint8Array, number: number) => void): void {
    const each = recordBytes(this.bytes);
    if (this.#closed) {
      throw new DataError("read-failed", this.path, "was closed: the data set was disposed of");
    }
    if (this.#buffer.length < count * each) this.#buffer = new Uint8Array(count * each);
    const buffer = this.#buffer.subarray(0, count * each);
    try {
      this.#file.seekSync(first * each, Deno.SeekMode.Start);
      for (let filled = 0; filled < buffer.length;) {
        const read = this.#file.readSync(buffer.subarray(filled));
        if (read === null) throw new Error("it is shorter than it was");
        filled += read;
      }
    } catch (cause) {
      const what = `cannot be read: ${(cause as Error).message}`;
      throw new DataError("read-failed", this.path, what, { cause });
    }
    const view = new DataView(buffer.buffer);
    for (let i = 0; i < count; i++) {
      const end = (i + 1) * each - SUM;
      if (checksum(buffer.subarray(i * each, end)) !== view.getUint32(end)) {
        const what = `image ${first + i} is damaged; remove its folder, and it is made again`;
        throw new DataError("checksum", this.path, what);
      }
      use(buffer.subarray(i * each, i * each + this.bytes), first + i);
    }
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    if (!this.#closed) this.#file.close();
    this.#closed = true;
  }
}

/** A cache that is being written; disposed of before it is finished, nothing of it is left. */
export class ImageCacheWriter implements AsyncDisposable {
  readonly #file: Deno.FsFile;
  readonly #buffer: Uint8Array<ArrayBuffer>;
  #filled = 0;
  #finished = false;

  private constructor(
    /** The folder that is to be. */
    readonly path: string,
    readonly partial: string,
    file: Deno.FsFile,
    bytes: number,
  ) {
    this.#file = file;
    this.#buffer = new Uint8Array(Math.max(CHUNK, recordBytes(bytes)));
  }

  /**
   * Begins a cache of a form, in the folder `path`, of the folder of caches `cache`.
   *
   * @throws {WriteError}
   */
  static async create(cache: string, path: string, form: ImageForm): Promise<ImageCacheWriter> {
    const partial = join(cache, `.partial-${crypto.randomUUID()}`);
    try {
      await Deno.mkdir(cache, { recursive: true });
      await removePartials(cache);
      // As long as it is written: see removePartials. Until it has the lock, it may be removed.
      const file = (await takeLock(join(partial, "images.bin"), { wait: true }))!;
      return new this(path, partial, file, form.channels * form.height * form.width);
    } catch (cause) {
      await Deno.remove(partial, { recursive: true }).catch(() => {});
      throw new WriteError(path, cause);
    }
  }

  /** Adds an image. */
  async add(image: Uint8Array): Promise<void> {
    const each = recordBytes(image.length);
    if (this.#filled + each > this.#buffer.length) await this.#flush();
    const record = this.#buffer.subarray(this.#filled, this.#filled += each);
    record.fill(0, image.length);
    record.set(image);
    const sum = checksum(record.subarray(0, each - SUM));
    new DataView(this.#buffer.buffer).setUint32(this.#filled - SUM, sum);
  }

  async #flush(): Promise<void> {
    try {
      for (let at = 0; at < this.#filled;) {
        at += await this.#file.write(this.#buffer.subarray(at, this.#filled));
      }
    } catch (cause) {
      throw new WriteError(this.path, cause);
    }
    this.#filled = 0;
  }

  /** Puts the cache in its place, instead of one that may be there. */
  async finish(index: Omit<ImageIndex, "unreadable"> & { unreadable: Unreadable[] }) {
    const { digest, files, count, channels, height, width, smallest, largest } = index;
    const unreadable = index.unreadable.map(({ file, why, unread }) => ({
      ...{ file, why: brief(why, MAX_REASON), unread },
    }));
    const whole = {
      ...{ digest, files, count, channels, height, width, smallest, largest, unreadable },
    };
    const text = JSON.stringify({
      format: FORMAT,
      sha256: await sha256(JSON.stringify(whole)),
      index: whole,
    });
    await this.#flush();
    try {
      await this.#file.sync();
      await writeFileWhole(join(this.partial, "index.json"), new TextEncoder().encode(text));
      this.#file.close();
      this.#finished = true;
      await replace(this.partial, this.path);
    } catch (cause) {
      await Deno.remove(this.partial, { recursive: true }).catch(() => {});
      throw new WriteError(this.path, cause);
    }
  }

  /** Removes what was written, where it was not finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#finished) return;
    this.#file.close();
    await Deno.remove(this.partial, { recursive: true }).catch(() => {});
  }
}

/** A file that is no image, by its place in their order. */
export interface Unreadable {
  readonly file: number;
  readonly why: string;
  /** Whether the file could not be read, so that nothing is known of what it is. */
  readonly unread: boolean;
}

/** Renames a folder onto another one, which goes. */
async function replace(folder: string, path: string): Promise<void> {
  const old = `${folder}-old`;
  try {
    await Deno.rename(path, old);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  await Deno.rename(folder, path);
  await Deno.remove(old, { recursive: true }).catch(() => {});
}

/** Removes what killed processes left: what no process has locked. */
async function removePartials(cache: string): Promise<void> {
  for (const { name } of await Array.fromAsync(Deno.readDir(cache))) {
    if (!name.startsWith(".partial-")) continue;
    try {
      using file = await Deno.open(join(cache, name, "images.bin"), { write: true });
      if (!await file.tryLock(true)) continue;
      await Deno.remove(join(cache, name), { recursive: true });
    } catch {
      // It is just being made or removed, by another process.
    }
  }
}
