/**
 * gunzip for streams, with errors that say what is wrong with which file.
 *
 * It is the platform's `DecompressionStream`, fed in small slices, with its vague errors sorted. It
 * refuses to be a decoder, and to read files of several gzip members (the platform does not).
 * Works in a browser.
 *
 * @module
 */

import { DataError, FETCH_AGAIN } from "./error.ts";

/** A stream of bytes as files, `fetch` and `Blob` hand it out. */
export type ByteStream = ReadableStream<Uint8Array<ArrayBuffer>>;

/** gzip's two magic bytes, and its only compression method (deflate). */
const MAGIC = [0x1f, 0x8b, 8];

/**
 * Compressed bytes handed to the decompressor at a time. It turns each piece into one chunk, however
 * large, and deflate packs up to 1032 : 1. So a gzip bomb costs 8 MB at most before a reader sees it.
 * Smaller slices are no slower down to this size.
 */
const SLICE = 8192;

/** How Deno, Chrome, Firefox and Node word "bytes after the end of the stream". */
const TRAILING = /whole buffer|junk|trailing|after the end/i;

/**
 * Decompresses a gzip stream, as it is read.
 *
 * The data are **provisional until the stream has ended cleanly**: the platform hands data out before
 * it has seen the checksum, so a damaged file may give wrong bytes first and an error at its end.
 * Cancelling the result cancels the source.
 *
 * @param source compressed bytes, in chunks of any size
 * @param name the file's name, for errors
 * @param size asked after a failure: how many bytes there should have been, where that is known by
 * then. It helps to tell a truncated file from a corrupt one.
 * @returns decompressed bytes. The stream fails with a {@linkcode DataError}: `not-gzip`,
 * `gzip-corrupt`, `gzip-truncated`, `gzip-trailing`, or `read-failed` where the source itself failed.
 *
 * @example
 * ```ts
 * import { gunzip } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const packed = new Blob(["hello"]).stream().pipeThrough(new CompressionStream("gzip"));
 * const text = await new Response(gunzip(packed, "hello.gz")).text();
 * assertEquals(text, "hello");
 * ```
 */
export function gunzip(
  source: ByteStream,
  name: string,
  size: () => number | undefined = () => undefined,
): ByteStream {
  const reader = source.getReader();
  let chunk = new Uint8Array(0); // what is left of the source's last chunk
  let consumed = 0; // compressed bytes taken, over all chunks
  let produced = 0; // decompressed bytes handed out
  let tail = 0; // the last four compressed bytes: gzip's length field, if the file is whole
  let ended = false; // the source has ended

  const slices: ByteStream = new ReadableStream({
    async pull(controller) {
      while (chunk.length === 0) {
        const { done, value } = await reader.read().catch((cause) => {
          if (cause instanceof DataError) throw cause;
          throw new DataError("read-failed", name, `cannot be read: ${messageOf(cause)}`, {
            cause,
          });
        });
        if (done) {
          ended = true;
          controller.close();
          return;
        }
        chunk = value;
      }
      const slice = chunk.subarray(0, SLICE);
      chunk = chunk.subarray(SLICE);
      for (let i = consumed; i < MAGIC.length && i - consumed < slice.length; i++) {
        if (slice[i - consumed] === MAGIC[i]) continue;
        await reader.cancel().catch(() => {});
        throw new DataError("not-gzip", name, notGzip(slice, consumed));
      }
      consumed += slice.length;
      for (const byte of slice.subarray(-4)) tail = ((tail >>> 8) | (byte << 24)) >>> 0;
      controller.enqueue(slice);
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });

  const output = slices.pipeThrough(new DecompressionStream("gzip")).getReader();
  const sorted = (cause: unknown): DataError => {
    if (cause instanceof DataError) return cause;
    const fault = (code: "gzip-corrupt" | "gzip-truncated" | "gzip-trailing", what: string) =>
      new DataError(code, name, `${what}; ${FETCH_AGAIN}`, { cause });
    if (consumed === 0) return fault("gzip-truncated", "is empty");
    if (TRAILING.test(messageOf(cause))) {
      return fault("gzip-trailing", "has bytes after its gzip stream");
    }
    if (!ended) return fault("gzip-corrupt", "holds a corrupt gzip stream");
    // The platform words a missing end and a wrong checksum alike. Where the file's last bytes are the
    // right length, the end is there, and what came before it is wrong.
    const whole = tail === produced % 2 ** 32 || tail === (size() ?? NaN) % 2 ** 32;
    return produced > 0 && whole
      ? fault("gzip-corrupt", "decompresses to data that do not match its gzip checksum")
      : fault("gzip-truncated", `ends inside its gzip stream, after ${consumed} bytes`);
  };
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await output.read().catch((cause) => {
        throw sorted(cause);
      });
      if (done) return controller.close();
      produced += value.length;
      controller.enqueue(value);
    },
    cancel: (reason) => output.cancel(reason),
  }, { highWaterMark: 0 });
}

/** What the message says of a file that is not gzip: the usual mistakes by name. */
function notGzip(slice: Uint8Array, offset: number): string {
  const [a, b] = slice;
  if (offset === 0 && a === 0 && b === 0) {
    return "is not gzip but looks like a decompressed IDX file; give the .gz, or pack it with gzip";
  }
  if (offset === 0 && a === 0x3c) {
    return "is not gzip but looks like a web page; download the file itself";
  }
  return `is not a gzip file; ${FETCH_AGAIN}`;
}

/** The text of anything thrown. */
function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
