/**
 * Data sets from a server, by `fetch`, in a browser or in Deno.
 *
 * @module
 */

import {
  checkChoice,
  checkFunction,
  checkInstance,
  checkOptions,
  checkString,
  refuse,
} from "../check/arguments.ts";
import type { ImagesInMemory, NamedStream } from "./dataset.ts";
import { DataError } from "./error.ts";
import {
  type DataFile,
  FASHION_MNIST_FILES,
  readFashionMnist,
  type Split,
} from "./fashion_mnist.ts";

/** How much of a file has come from a server. */
export interface FetchProgress {
  /** The file's URL. */
  readonly url: string;
  /** Bytes that have come, as `fetch` hands them out. */
  readonly received: number;
  /** Bytes of the whole file; undefined if the server does not say. */
  readonly total: number | undefined;
}

/** Settings of {@linkcode fetchFile}. */
export interface FetchOptions {
  /** Called after each piece of a file that comes. */
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Aborts the request; reading the file then fails with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Settings of {@linkcode fetchFashionMnist}. */
export interface FetchImagesOptions extends FetchOptions {
  /** Keep only the first `limit` images. */
  readonly limit?: number;
  /** End the request when `limit` images have come; gzip's checksum is then not checked. */
  readonly stopEarly?: boolean;
}

/** Throws unless these are options of a request, or `more`. */
function checkFetch(op: string, options: FetchOptions, more: readonly string[] = []): void {
  checkOptions(op, options, ["onProgress", "signal", ...more]);
  const { onProgress, signal } = options;
  if (onProgress !== undefined) checkFunction(op, "onProgress", onProgress);
  if (signal !== undefined) checkInstance(op, "signal", signal, AbortSignal);
}

/** The URL in words, made whole where there is a page that it is relative to. */
function checkUrl(op: string, name: string, url: unknown): URL {
  if (!(url instanceof URL)) {
    checkString(op, name, url);
    const { location } = globalThis as { location?: { href: string } };
    const whole = URL.parse(url, location?.href);
    if (url !== "" && whole) return whole;
    refuse(op, name, location ? "a URL" : "a whole URL, with https:// and its host", url);
  }
  return url;
}

/**
 * Requests a file from a server and hands out its bytes as they come, for {@linkcode readIdx} and
 * {@linkcode readImageDataset}.
 *
 * @param url of the file; in a page it may be relative to the page
 * @param options `onProgress`, `signal`
 * @returns the bytes, and the URL as their name
 * @throws {DataError} `missing-file` if the server has no such file; `bad-response` if it answers
 * with an error or a web page; `unreachable` if it does not answer
 * @throws {ArgumentError} if an argument or option is of another kind
 *
 * @example
 * ```ts
 * import { fetchFile, readIdx } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const url = URL.createObjectURL(new Blob([Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9)]));
 * let received = 0;
 * const { stream, name } = await fetchFile(url, { onProgress: (now) => received = now.received });
 * const idx = await readIdx(stream, name);
 * assertEquals(await idx.bytes(), Uint8Array.of(7, 8, 9));
 * assertEquals(received, 11);
 * ```
 */
export async function fetchFile(
  url: string | URL,
  options: FetchOptions = {},
): Promise<NamedStream> {
  const { href: name } = checkUrl("fetchFile", "url", url);
  checkFetch("fetchFile", options);
  return await request(name, options);
}

async function request(
  url: string,
  { onProgress, signal }: FetchOptions,
): Promise<NamedStream> {
  let response: Response;
  try {
    response = await fetch(url, signal ? { signal } : {});
  } catch (cause) {
    signal?.throwIfAborted();
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new DataError("unreachable", url, `cannot be reached: ${detail}`, { cause });
  }
  const { status, statusText, headers, body } = response;
  const type = headers.get("content-type") ?? "";
  const why = status === 404 || status === 410
    ? "the server has no such file; is the URL that of the folder with the files?"
    : !response.ok
    ? `the server answers ${[status, statusText].filter(Boolean).join(" ")}`
    : /^text\/html\b/i.test(type)
    ? "the server answers with a web page; give the URL of the file itself"
    : undefined;
  if (why !== undefined || !body) {
    await body?.cancel();
    const code = status === 404 || status === 410 ? "missing-file" : "bad-response";
    throw new DataError(code, url, why ?? "the server sends nothing");
  }
  // The length is that of what was packed for the journey; what comes here is not.
  const length = headers.has("content-encoding") ? undefined : headers.get("content-length");
  const total = length ? Number(length) : undefined;
  let received = 0;
  const counted = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      received += chunk.length;
      onProgress?.({ url, received, total });
      controller.enqueue(chunk);
    },
  });
  return { stream: onProgress ? body.pipeThrough(counted) : body, name: url };
}

/**
 * Gets one split of Fashion-MNIST from a server that has its files, gzipped as they are published.
 * With `limit` and `stopEarly`, it gets no more than it needs: the first 1,000 training images are
 * half a megabyte of 26. (MNIST and KMNIST have files of the same names and sizes; they would get
 * the classes of Fashion-MNIST.)
 *
 * @param folder the URL of the folder with the files; in a page it may be relative to the page
 * @param split `"train"` or `"test"`
 * @param options `limit`, `stopEarly`, `onProgress`, `signal`
 * @returns images `[count, 28, 28]`, labels `[count]`
 * @throws {DataError} see {@linkcode fetchFile} and {@linkcode readFashionMnist}
 * @throws {ArgumentError} if an argument or option is of another kind
 * @throws {RangeError} if `limit` is not a positive integer
 *
 * @example
 * ```ts
 * import { fetchFashionMnist } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const folder = new URL("data/fashion-mnist", `file://${Deno.cwd()}/`); // or https://…
 * const { count, labels, classes } = await fetchFashionMnist(folder, "test", {
 *   limit: 100,
 *   stopEarly: true,
 * });
 * assertEquals(count, 100);
 * assertEquals(classes[labels[0]!], "Ankle boot");
 * ```
 */
export async function fetchFashionMnist(
  folder: string | URL,
  split: Split,
  options: FetchImagesOptions = {},
): Promise<ImagesInMemory> {
  const op = "fetchFashionMnist", { limit, stopEarly = false, ...rest } = options ?? {};
  const base = new URL(checkUrl(op, "folder", folder));
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  checkChoice(op, "split", split, Object.keys(FASHION_MNIST_FILES));
  checkFetch(op, options, ["limit", "stopEarly"]);
  const files = FASHION_MNIST_FILES[split];
  const ask = ({ name }: DataFile) => request(new URL(name, base).href, rest);
  try {
    const labels = await ask(files.labels);
    const images = await ask(files.images).catch(async (error) => {
      await labels.stream.cancel();
      throw error;
    });
    return await readFashionMnist(split, images, labels, {
      ...limit !== undefined && { limit },
      stopEarly,
    });
  } catch (error) {
    rest.signal?.throwIfAborted();
    throw error;
  }
}
