/**
 * gunzip for streams, with errors that say what is wrong with which file. Works in a browser.
 *
 * The platform's `DecompressionStream` decompresses; this sorts its vague errors. As gzip(1), it
 * reads files of several members, and zeros after the last one. The platform does neither, nor does
 * it say where a member ends. So it is fed small slices, which end wherever the next three bytes
 * could begin another member, or where nothing but zeros is left.
 *
 * @module
 */

import { checkFunction, checkInstance, checkString, refuse } from "../check/arguments.ts";
import { DataError, FETCH_AGAIN } from "./error.ts";

/** A stream of bytes, as files, `fetch` and `Blob` hand it out. */
export type ByteStream = ReadableStream<Uint8Array<ArrayBuffer>>;

type Bytes = Uint8Array<ArrayBuffer>;

/** gzip's two magic bytes, and its only compression method (deflate). */
const MAGIC = [0x1f, 0x8b, 8] as const;

/** Bytes of the shortest member: header, checksum and length, around at least two of data. */
const SHORTEST = 20;

/**
 * Compressed bytes handed to the decompressor at a time. It turns each piece into one chunk, however
 * large, and deflate packs up to 1032 : 1. So a gzip bomb costs 8 MB at most before a reader sees it.
 * Smaller slices are no slower down to this size.
 */
const SLICE = 8192;

/** Zeros at a file's end that are looked at one by one: a member's length may be among them. */
const CLOSE_LOOK = 64;

/** How Deno, Chrome, Firefox and Node word "bytes after the end of the stream". */
const TRAILING = /whole buffer|junk|trailing|after the end/i;

/** Throws unless `source` is a stream of bytes that nobody reads, and `name` a name. */
export function checkSource(
  op: string,
  source: unknown,
  name: unknown,
  size: unknown = () => undefined,
): void {
  checkInstance(op, "source", source, ReadableStream);
  if (source.locked) refuse(op, "source", "a stream that nobody reads yet", source);
  checkString(op, "name", name);
  checkFunction(op, "size", size);
}

/**
 * Decompresses a gzip stream as it is read. As gzip(1), it takes several members one after the
 * other, and zeros after the last one.
 *
 * Do not trust the data before the stream has ended without an error: the checksum is at its end,
 * so a damaged file may give wrong bytes first. Cancelling the result cancels the source.
 *
 * @param source compressed bytes, in chunks of any size
 * @param name the file's name, for errors
 * @param size called after a failure: the number of decompressed bytes that there should have been,
 * if that is known. It helps to tell a truncated file from a corrupt one.
 * @returns decompressed bytes. The stream fails with a {@linkcode DataError}: `not-gzip`,
 * `gzip-corrupt`, `gzip-truncated`, `gzip-trailing`, or `read-failed` if the source itself failed.
 * @throws {ArgumentError} if the source is no stream, or one that somebody reads already
 *
 * @example
 * ```ts
 * import { gunzip } from "@resnette/resnette/data";
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
  checkSource("gunzip", source, name, size);
  const input = new Input(source, name);
  return streamOf(input, new Gunzip(input, name, size).members());
}

/**
 * The bytes of a file that may be gzipped or not: one that begins with a zero, as IDX files do, is
 * handed out as it is, and any other goes through {@linkcode gunzip}.
 *
 * @param source the file's bytes, in chunks of any size
 * @param name the file's name, for errors
 * @param size as {@linkcode gunzip} has it
 * @returns the bytes; the stream fails as that of {@linkcode gunzip}
 *
 * @example
 * ```ts
 * import { unpacked } from "./gzip.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const bare = new Blob([new Uint8Array([0, 0, 8, 1])]).stream();
 * const bytes = await new Response(unpacked(bare, "labels")).bytes();
 * assertEquals(bytes, new Uint8Array([0, 0, 8, 1]));
 * ```
 */
export function unpacked(
  source: ByteStream,
  name: string,
  size: () => number | undefined = () => undefined,
): ByteStream {
  const input = new Input(source, name);
  const bytes = async function* () {
    if ((await input.peek(1))[0] === 0) yield* input.rest();
    else yield* new Gunzip(input, name, size).members();
  };
  return streamOf(input, bytes());
}

/** What a generator makes of an input, as a stream that reads nothing ahead. */
function streamOf(input: Input, bytes: AsyncGenerator<Bytes>): ByteStream {
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await bytes.next();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        await input.cancel(error).catch(() => {});
        throw error;
      }
    },
    async cancel(reason) {
      await input.cancel(reason);
      await bytes.return(undefined).catch(() => {});
    },
  }, { highWaterMark: 0 });
}

/** A slice of the compressed bytes, and whether a member may end with it. */
interface Slice {
  readonly bytes: Bytes;
  readonly mayEnd: boolean;
}

/** Compressed bytes, with a look at those that follow. */
class Input {
  readonly #reader: ReadableStreamDefaultReader<Bytes>;
  /** What has been read and not handed out. */
  #buffer: Bytes = new Uint8Array(0);
  /** Zeros before that; they are counted, as there may be any number. */
  #zeros = 0;
  /** Of zeros that are the rest of the file, those handed out. */
  #looked = 0;
  /** Whether the source has ended. */
  ended = false;

  constructor(source: ByteStream, readonly name: string) {
    this.#reader = source.getReader();
  }

  /** The next `count` bytes, or as many as there are; they stay. */
  async peek(count: number): Promise<Bytes> {
    while (this.#buffer.length < count && await this.#more());
    return this.#buffer.subarray(0, count);
  }

  /** All that is left, in the source's chunks. */
  async *rest(): AsyncGenerator<Bytes> {
    do {
      const bytes = this.#buffer;
      this.#buffer = new Uint8Array(0);
      if (bytes.length > 0) yield bytes;
    } while (await this.#more());
  }

  /** The next slice; undefined where there is none. */
  async slice(): Promise<Slice | undefined> {
    if (this.#zeros === 0) {
      await this.peek(MAGIC.length + 1);
      const { length } = this.#buffer;
      if (length === 0) return undefined;
      let zeros = 0;
      while (zeros < length && this.#buffer[length - 1 - zeros] === 0) zeros++;
      // What may be the beginning of a member, or zeros to the file's end, is left.
      const end = length - Math.max(zeros, this.ended ? 0 : MAGIC.length);
      const cut = Math.min(SLICE, end);
      for (let at = 1; (at = this.#buffer.indexOf(MAGIC[0], at)) >= 0 && at <= cut; at++) {
        if (this.#isMagic(at)) return { bytes: this.#take(at), mayEnd: true };
      }
      if (cut > 0 && (cut < end || zeros === 0)) return { bytes: this.#take(cut), mayEnd: false };
      const bytes = this.#take(Math.max(cut, 0));
      await this.#count();
      if (bytes.length > 0) return { bytes, mayEnd: this.padded };
    }
    const padded = this.padded;
    const close = padded && this.#looked++ < CLOSE_LOOK;
    const bytes = new Uint8Array(close ? 1 : Math.min(this.#zeros, SLICE));
    this.#zeros -= bytes.length;
    return { bytes, mayEnd: padded || this.#zeros === 0 && this.#isMagic(0) };
  }

  /** Whether there is nothing left but zeros, or nothing at all. */
  get padded(): boolean {
    return this.ended && this.#buffer.length === 0;
  }

  /** Gives the source up. */
  async cancel(reason?: unknown): Promise<void> {
    await this.#reader.cancel(reason);
  }

  #isMagic(at: number): boolean {
    return MAGIC.every((byte, i) => this.#buffer[at + i] === byte);
  }

  #take(count: number): Bytes {
    const bytes = this.#buffer.subarray(0, count);
    this.#buffer = this.#buffer.subarray(count);
    return bytes;
  }

  /** Counts the zeros that are next, until something else or the end is seen. */
  async #count(): Promise<void> {
    for (;;) {
      const at = this.#buffer.findIndex((byte) => byte !== 0);
      this.#zeros += this.#take(at < 0 ? this.#buffer.length : at).length;
      if (at >= 0 || !await this.#more()) break;
    }
    await this.peek(MAGIC.length);
  }

  /** Reads a chunk more; whether there was one. */
  async #more(): Promise<boolean> {
    if (this.ended) return false;
    const { done, value } = await this.#reader.read().catch((cause) => {
      if (cause instanceof DataError) throw cause;
      const what = `cannot be read: ${messageOf(cause)}`;
      throw new DataError("read-failed", this.name, what, { cause });
    });
    if (done) return !(this.ended = true);
    if (this.#buffer.length === 0) {
      this.#buffer = value;
    } else {
      const joined = new Uint8Array(this.#buffer.length + value.length);
      joined.set(this.#buffer);
      joined.set(value, this.#buffer.length);
      this.#buffer = joined;
    }
    return true;
  }
}

/** The members of a gzip file, one after the other. */
class Gunzip {
  /** Compressed bytes taken: of the file, and of this member. */
  #consumed = 0;
  #taken = 0;
  /** Decompressed bytes handed out: of this member, and of those before. */
  #produced = 0;
  #before = 0;
  /** Whether a member might have ended with the latest slice, but for its length. */
  #mightEnd = false;
  /** Whether all of this member has gone in. */
  #complete = false;
  /** The last eight compressed bytes: checksum and length, if the member is whole. */
  readonly #tail = new DataView(new ArrayBuffer(8));

  constructor(
    readonly input: Input,
    readonly name: string,
    readonly size: () => number | undefined,
  ) {}

  async *members(): AsyncGenerator<Bytes> {
    const head = await this.input.peek(MAGIC.length);
    if (head.length === 0) {
      throw new DataError("gzip-truncated", this.name, `is empty; ${FETCH_AGAIN}`);
    }
    const bad = head.findIndex((byte, i) => byte !== MAGIC[i]);
    if (bad >= 0) throw new DataError("not-gzip", this.name, notGzip(head));
    do {
      this.#before += this.#produced;
      this.#taken = this.#produced = 0;
      this.#complete = this.#mightEnd = false;
      try {
        yield* this.#member();
      } catch (cause) {
        throw this.#sorted(cause);
      }
    } while (!this.input.padded);
  }

  /** Unpacks from where a member begins to where it ends. */
  async *#member(): AsyncGenerator<Bytes> {
    const inflater = new Inflater();
    try {
      for (let slice; (slice = await this.input.slice());) {
        const { bytes, mayEnd } = slice;
        const empty = this.input.padded && this.#produced === 0 && this.#isWhole() &&
          bytes.every((byte) => byte === 0);
        try {
          yield* this.#count(inflater.write(bytes));
        } catch (error) {
          // Among zeros, the length of nothing could be anywhere; this says that it was before.
          if (empty && TRAILING.test(messageOf(error)) && this.#tail.getUint32(0) === 0) return;
          throw error;
        }
        this.#note(bytes);
        this.#mightEnd = mayEnd;
        if (!mayEnd || !this.#isWhole()) continue;
        if (this.#produced > 0 || !this.input.padded) break;
      }
      this.#complete = true;
      yield* this.#count(inflater.close());
    } finally {
      inflater.dispose();
    }
  }

  /** Whether a member may be complete by its length. */
  #isWhole(): boolean {
    return this.#taken >= SHORTEST && this.#tail.getUint32(4, true) === this.#produced % 2 ** 32;
  }

  #note(bytes: Bytes): void {
    this.#consumed += bytes.length;
    this.#taken += bytes.length;
    const all = [...new Uint8Array(this.#tail.buffer), ...bytes.subarray(-8)];
    new Uint8Array(this.#tail.buffer).set(all.slice(-8));
  }

  async *#count(chunks: AsyncGenerator<Bytes>): AsyncGenerator<Bytes> {
    for await (const chunk of chunks) {
      this.#produced += chunk.length;
      yield chunk;
    }
  }

  /** The platform's error as one that says what is wrong. */
  #sorted(cause: unknown): DataError {
    if (cause instanceof DataError) return cause;
    const fault = (code: "gzip-corrupt" | "gzip-truncated" | "gzip-trailing", what: string) =>
      new DataError(code, this.name, `${what}; ${FETCH_AGAIN}`, { cause });
    if (TRAILING.test(messageOf(cause)) && !this.#mightEnd) {
      return fault("gzip-trailing", "has bytes after its gzip stream");
    }
    if (!this.#complete) return fault("gzip-corrupt", "holds a corrupt gzip stream");
    // The platform words a missing end and a wrong checksum alike. Where the file's last bytes are the
    // right length, the end is there, and what came before it is wrong.
    const length = this.#tail.getUint32(4, true), size = this.size() ?? NaN;
    const whole = length === this.#produced % 2 ** 32 || length === (size - this.#before) % 2 ** 32;
    return this.#produced > 0 && whole
      ? fault("gzip-corrupt", "decompresses to data that do not match its gzip checksum")
      : fault("gzip-truncated", `ends inside its gzip stream, after ${this.#consumed} bytes`);
  }
}

/** The platform's decompressor, of which one member comes out piece by piece. */
class Inflater {
  readonly #writer: WritableStreamDefaultWriter<Bytes>;
  readonly #reader: ReadableStreamDefaultReader<Bytes>;
  /** The read that waits: without one, the platform leaves what is written for later. */
  #reading: Promise<ReadableStreamReadResult<Bytes>> | undefined;

  constructor() {
    const { writable, readable } = new DecompressionStream("gzip");
    this.#writer = writable.getWriter();
    this.#reader = readable.getReader();
    // What they reject with is what reads and writes reject with.
    this.#writer.closed.catch(() => {});
    this.#reader.closed.catch(() => {});
  }

  /** All that comes out when `bytes` go in. */
  write(bytes: Bytes): AsyncGenerator<Bytes> {
    return this.#during(this.#writer.write(bytes));
  }

  /** What is left; it fails where the member is not complete or not right. */
  close(): AsyncGenerator<Bytes> {
    return this.#during(this.#writer.close(), { toEnd: true });
  }

  async *#during(work: Promise<void>, { toEnd = false } = {}): AsyncGenerator<Bytes> {
    let done = false;
    const working = work.then(() => void (done = true));
    working.catch(() => {});
    for (;;) {
      let result: ReadableStreamReadResult<Bytes> | undefined;
      const reading = this.#reading ??= this.#reader.read();
      const read = reading.then((value) => void (result = value));
      await Promise.race([read, working]);
      // Once the work is done, what came of it is there: a read has it at once, or waits.
      for (let turn = 0; turn < 4 && done && !result; turn++) await undefined;
      if (toEnd) await read;
      if (!result) {
        read.catch(() => {});
        return await working;
      }
      this.#reading = undefined;
      if (result.done) return await working;
      yield result.value;
    }
  }

  /** Gives up what is not done. */
  dispose(): void {
    this.#reading?.catch(() => {});
    this.#reader.cancel().catch(() => {});
    this.#writer.abort().catch(() => {});
  }
}

/** What the message says of a file that is not gzip: the usual mistakes by name. */
function notGzip([a]: Uint8Array): string {
  if (a === 0) {
    return "is not gzip but looks like a decompressed IDX file; give the .gz, or pack it with gzip";
  }
  if (a === 0x3c) return "is not gzip but looks like a web page; download the file itself";
  return `is not a gzip file; ${FETCH_AGAIN}`;
}

/** The text of anything thrown. */
function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
