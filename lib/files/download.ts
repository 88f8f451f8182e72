/**
 * Downloads Fashion-MNIST into a folder.
 *
 * A file grows as `NAME.part` beside its place. It is renamed only after its decompressed bytes
 * have been checked against the published sha256. Mirrors, copies and leftovers go through the same
 * check. One process at a time does that in a folder; another one waits, and finds the files.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { DataError, FETCH_AGAIN } from "../data/error.ts";
import { type DataFile, FASHION_MNIST_FILES } from "../data/fashion_mnist.ts";
import { takeLock } from "./lock.ts";
import { findFile, isThere, openFile } from "./open.ts";
import { unpacked } from "../data/gzip.ts";
import { WriteError } from "./write.ts";

/** Where the files are published; a file's name is appended. */
export const FASHION_MNIST_URLS: readonly string[] = [
  "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
  "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
];

/** Where Debian's package `dataset-fashion-mnist` puts the files. */
export const FASHION_MNIST_DEBIAN_DIR = "/usr/share/datasets/fashion-mnist";

/** All four files: what {@linkcode ensureFashionMnist} gets. */
const ALL_FILES: readonly DataFile[] = Object.values(FASHION_MNIST_FILES)
  .flatMap(({ images, labels }) => [images, labels]);

/** How far a download has come. */
export interface DownloadProgress {
  /** The file's name. */
  name: string;
  /** Compressed bytes that are here, those of an earlier attempt included. */
  received: number;
  /** Compressed bytes of the whole file, where the server says. */
  total: number | undefined;
}

/** How {@linkcode ensureFashionMnist} is to go about it. */
export interface EnsureOptions {
  /** Copy from this folder instead of downloading. */
  from?: string;
  /** Check the files that are there, and replace those that fail; otherwise being there is enough. */
  verify?: boolean;
  /** The files to get; all four where it is left out. */
  files?: readonly DataFile[];
  /** Where to download from; {@linkcode FASHION_MNIST_URLS} where it is left out. */
  urls?: readonly string[];
  /** Copied from where nothing can be downloaded; {@linkcode FASHION_MNIST_DEBIAN_DIR} by default. */
  fallback?: string;
  /** Give a server up after so many milliseconds without a byte; 20,000 by default. */
  stallMs?: number;
  /** Told each thing that is done, in one plain line; awaited. */
  log?: (line: string) => void | Promise<void>;
  /** Told how far a download has come, after each piece; awaited. */
  onProgress?: (progress: DownloadProgress) => void | Promise<void>;
}

/** What {@linkcode ensureFashionMnist} did, by file names. */
export interface EnsureResult {
  /** Files that were there (and, with `verify`, were right). */
  kept: string[];
  /** Files that were downloaded or copied, and are right. */
  fetched: string[];
}

/**
 * Sees to it that Fashion-MNIST's files are in a folder: keeps what is there, downloads what is not
 * (resuming what an earlier call began), and copies from Debian's package where the network fails.
 * Two processes may do so at once.
 *
 * @param dir the folder; made where it does not exist
 * @param options where from, how thoroughly, and whom to tell
 * @returns which files were kept and which were fetched
 * @throws DataError where a file cannot be had; the message says from where it was tried, why that
 * failed, and what to type. Files that were there remain.
 *
 * @example
 * ```ts
 * import { ensureFashionMnist } from "./download.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const { kept, fetched } = await ensureFashionMnist("data/fashion-mnist", { log: console.log });
 * assertEquals(kept.length + fetched.length, 4);
 * ```
 */
export async function ensureFashionMnist(
  dir: string,
  options: EnsureOptions = {},
): Promise<EnsureResult> {
  const { from, verify = false, files = ALL_FILES, log = () => {} } = options;
  const fallback = options.fallback ?? FASHION_MNIST_DEBIAN_DIR;
  const result: EnsureResult = { kept: [], fetched: [] };
  const isKept = async (file: DataFile) => {
    const found = await findFile(dir, file.name);
    if (!await isThere(found)) return false;
    const fault = verify ? await faultOf(found, file) : undefined;
    if (fault === undefined) {
      if (verify) await log(`${found}: sha256 is right`);
      result.kept.push(file.name);
      return true;
    }
    await log(`${fault.message}: replacing it`);
    return false;
  };
  using lock = new FolderLock(dir);
  let offline = false; // one file found no network: spare the others the wait
  for (const file of files) {
    if (await isKept(file)) continue;
    // Another process may have got it meanwhile.
    if (await lock.take(log) && await isKept(file)) continue;
    const path = `${dir}/${file.name}`;
    let source = from;
    const spare = () => findFile(fallback, file.name).then(isThere);
    if (source === undefined && offline && await spare()) {
      source = fallback;
    }
    if (source === undefined) {
      try {
        const url = await downloadFile(file, dir, options);
        await log(`${path}: downloaded from ${url}, sha256 is right`);
      } catch (error) {
        if (!(error instanceof DataError && await spare())) throw error;
        await log(`${path}: cannot be downloaded (${error.code}); taking the copy in ${fallback}`);
        offline = error.code === "unreachable";
        source = fallback;
      }
    }
    if (source !== undefined) {
      await log(`${await copyFile(file, source, dir)}: copied from ${source}, sha256 is right`);
    }
    result.fetched.push(file.name);
  }
  return result;
}

/** The lock of a folder that files are put into. */
class FolderLock implements Disposable {
  readonly #path: string;
  #file: Deno.FsFile | undefined;

  constructor(readonly dir: string) {
    this.#path = `${dir}/lock`;
  }

  /** Takes it, unless it is taken already; whether another process had to be waited for. */
  async take(log: (line: string) => void | Promise<void>): Promise<boolean> {
    if (this.#file) return false;
    try {
      this.#file = await takeLock(this.#path);
      if (this.#file) return false;
      await log(`${this.dir}: another process is getting files there; waiting for it`);
      this.#file = await takeLock(this.#path, { wait: true });
      return true;
    } catch (cause) {
      throw new WriteError(this.dir, cause);
    }
  }

  /** Lets it go, and leaves no file. */
  [Symbol.dispose](): void {
    if (!this.#file) return;
    try {
      Deno.removeSync(this.#path);
    } catch {
      // Some systems remove no file that another process waits for.
    }
    this.#file.close();
  }
}

/**
 * Checks that a file is the published bytes, or decompresses to them. At most those many bytes are
 * decompressed.
 *
 * @param path the file
 * @param file what it should be
 * @throws DataError `checksum`, or what opening or decompressing gives
 *
 * @example
 * ```ts
 * import { verifyFile } from "./download.ts";
 * import { DataError, FASHION_MNIST_FILES } from "@resnette/resnette/data";
 * import { assertRejects } from "@std/assert";
 *
 * const { images, labels } = FASHION_MNIST_FILES.test;
 * const path = `data/fashion-mnist/${labels.name}`;
 * await verifyFile(path, labels);
 * await assertRejects(() => verifyFile(path, images), DataError, "holds other data");
 * ```
 */
export async function verifyFile(path: string, file: DataFile): Promise<void> {
  const hash = createHash("sha256");
  let seen = 0;
  for await (const chunk of unpacked(await openFile(path), path, () => file.bytes)) {
    hash.update(chunk);
    seen += chunk.length;
    if (seen > file.bytes) {
      const what = `holds more than ${file.bytes} bytes of data; ${FETCH_AGAIN}`;
      throw new DataError("checksum", path, what);
    }
  }
  const sha256 = hash.digest("hex");
  if (sha256 !== file.sha256) {
    const what = `holds other data than the published ones ` +
      `(${seen} bytes, sha256 ${sha256}, expected ${file.sha256}); ${FETCH_AGAIN}`;
    throw new DataError("checksum", path, what);
  }
}

/**
 * Copies a file from one folder to another, checked before it takes its place.
 *
 * @param file which file
 * @param from the folder that has it, gzipped or not
 * @param dir the folder to put it into
 * @returns where it is now
 * @throws DataError `missing-file`, or what {@linkcode verifyFile} gives, naming the file in `from`
 *
 * @example
 * ```ts
 * import { copyFile } from "./download.ts";
 * import { FASHION_MNIST_FILES } from "@resnette/resnette/data";
 * import { assert } from "@std/assert";
 *
 * const { labels } = FASHION_MNIST_FILES.test;
 * const folder = await Deno.makeTempDir();
 * await copyFile(labels, "data/fashion-mnist", folder);
 * assert((await Deno.stat(`${folder}/${labels.name}`)).isFile);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function copyFile(file: DataFile, from: string, dir: string): Promise<string> {
  const found = await findFile(from, file.name);
  const path = `${dir}/${found.slice(from.length + 1)}`, part = `${path}.part`;
  await verifyFile(found, file);
  await Deno.copyFile(found, part);
  // Once more: what was checked and what was copied were two reads.
  await verifyFile(part, file);
  await Deno.rename(part, path);
  return path;
}

/**
 * Downloads one file, resuming what is there of it, from the first URL that gives the right bytes.
 *
 * @param file which file
 * @param dir the folder to put it into, which exists
 * @param options `urls`, `stallMs` and `onProgress`
 * @returns the URL it came from
 * @throws DataError `unreachable` where no server answered in full (what came is kept, to be
 * resumed), otherwise the last fault: `bad-response`, `checksum`, `gzip-…`, `not-gzip`
 * @throws WriteError where what comes cannot be written, such as to a full disk
 *
 * @example
 * ```ts
 * import { downloadFile } from "./download.ts";
 * import { FASHION_MNIST_FILES } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const { labels } = FASHION_MNIST_FILES.test;
 * const folder = await Deno.makeTempDir();
 * const mirror = `file://${Deno.cwd()}/data/fashion-mnist/`;
 * assertEquals(await downloadFile(labels, folder, { urls: [mirror] }), mirror + labels.name);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function downloadFile(
  file: DataFile,
  dir: string,
  options: Pick<EnsureOptions, "urls" | "stallMs" | "onProgress"> = {},
): Promise<string> {
  const { urls = FASHION_MNIST_URLS } = options;
  const path = `${dir}/${file.name}`;
  const part = `${path}.part`;
  const reasons: string[] = [];
  let last: DataError | undefined;
  for (const base of urls) {
    const url = base + file.name;
    // A second turn only where the first built on leftovers, which may be what was wrong.
    for (let turn = 0, resumed = true; turn < 2 && resumed; turn++) {
      resumed = await sizeOf(part) > 0;
      try {
        await downloadPart(url, part, file, options);
        await verifyFile(part, file);
        await Deno.rename(part, path);
        return url;
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        reasons.push(error.message);
        if (error.code === "unreachable") break; // what came is good so far: keep it
        last = error;
        if (await isThere(part)) await Deno.remove(part);
      }
    }
  }
  const what = `cannot be downloaded: ${reasons.join("; ")}. Either type ` +
    "`apt-get install dataset-fashion-mnist` and run this again, or get the file from " +
    `${urls.map((base) => base + file.name).join(" or ")} and copy it from the folder where it ` +
    "lies (`from`)";
  throw new DataError(last?.code ?? "unreachable", path, what, { cause: last });
}

/** Requests what `part` lacks and appends it. `unreachable` means: it may be resumed. */
async function downloadPart(
  url: string,
  part: string,
  file: DataFile,
  { stallMs = 20_000, onProgress }: Pick<EnsureOptions, "stallMs" | "onProgress">,
): Promise<void> {
  // gzip never makes more than this of so many bytes; more than that is not our file.
  const most = file.bytes + Math.ceil(file.bytes / 1000) + 1024;
  let received = await sizeOf(part);
  const abort = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const rewind = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(new Error(`no answer in ${stallMs} ms`)), stallMs);
  };
  rewind();
  try {
    // Identity: a server that also packed the answer would make `fetch` unpack it.
    const headers = new Headers({ "accept-encoding": "identity" });
    if (received > 0) headers.set("range", `bytes=${received}-`);
    const response = await fetch(url, { headers, signal: abort.signal });
    const refuse = async (what: string) => {
      await response.body?.cancel();
      return new DataError("bad-response", url, what);
    };
    if (response.status === 416 && received > 0) {
      await response.body?.cancel();
      return; // Nothing is lacking: the check decides.
    }
    const resumes = response.status === 206 &&
      response.headers.get("content-range")?.startsWith(`bytes ${received}-`) === true;
    if (!resumes && response.status !== 200) {
      throw await refuse(`the server answered ${response.status} ${response.statusText}`);
    }
    if (response.body === null) throw await refuse("the server sent nothing");
    if (!resumes) received = 0;
    const length = Number(response.headers.get("content-length") ?? NaN);
    const total = Number.isFinite(length) ? received + length : undefined;
    const writing = async <T>(work: Promise<T>): Promise<T> => {
      try {
        return await work;
      } catch (cause) {
        throw new WriteError(part, cause);
      }
    };
    using target = await writing(Deno.open(part, {
      write: true,
      create: true,
      append: resumes,
      truncate: !resumes,
    }));
    for await (const chunk of response.body) {
      rewind();
      if (received + chunk.length > most) {
        const what = `the server sends more than the file can be (${most} bytes)`;
        throw new DataError("bad-response", url, what);
      }
      // Not `target.writable`: it gathers chunks and loses them when the connection breaks.
      for (let done = 0; done < chunk.length;) {
        done += await writing(target.write(chunk.subarray(done)));
      }
      received += chunk.length;
      await onProgress?.({ name: file.name, received, total });
    }
  } catch (cause) {
    // Another server would not help against the disk.
    if (cause instanceof DataError || cause instanceof WriteError) throw cause;
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new DataError("unreachable", url, detail, { cause });
  } finally {
    clearTimeout(timer);
    abort.abort(); // closes a connection that an error left open
  }
}

/** What is wrong with a file, or undefined. */
async function faultOf(path: string, file: DataFile): Promise<DataError | undefined> {
  try {
    await verifyFile(path, file);
    return undefined;
  } catch (error) {
    if (error instanceof DataError) return error;
    throw error;
  }
}

/** A file's size in bytes; 0 where there is none. */
async function sizeOf(path: string): Promise<number> {
  return await isThere(path) ? (await Deno.stat(path)).size : 0;
}
