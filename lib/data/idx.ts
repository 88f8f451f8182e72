/**
 * A streaming reader of IDX files (the format of MNIST and its kin), gzipped or not.
 *
 * An IDX file is two zero bytes, a type byte, a byte that counts the dimensions, each dimension as
 * a big-endian u32 (the first counts the records), then the elements, row-major. Only files of
 * unsigned bytes are read. The reader pulls: beyond the records that are taken, it reads only the
 * slice or two in the platform's pipes. It opens no files (see `files/open.ts`) and works in a
 * browser.
 *
 * All data are **provisional until the end has been reached**: a wrong checksum or a payload that
 * is too short or too long is found only there. {@linkcode IdxStream.bytes} resolves only after a
 * clean end. With {@linkcode IdxStream.batches}, drop the batches so far if the stream fails.
 *
 * @module
 */

import {
  checkBoolean,
  checkNumber,
  checkNumbers,
  checkOptions,
  shown,
} from "../check/arguments.ts";
import { brief } from "../check/text.ts";
import { DataError, type DataErrorCode, FETCH_AGAIN } from "./error.ts";
import { type ByteStream, checkSource, unpacked } from "./gzip.ts";

/** IDX type codes; only the first is read, the others are named in the refusal. */
const TYPES: Record<number, string> = {
  0x08: "u8",
  0x09: "i8",
  0x0b: "i16",
  0x0c: "i32",
  0x0d: "f32",
  0x0e: "f64",
};

/** Held at once at first, in bytes. A header that claims more must prove it by payload, step by step. */
const FIRST_ALLOCATION = 64 * 2 ** 20;

/** What {@linkcode readIdx} is to expect. */
export interface IdxOptions {
  /** The sizes, outermost first, `undefined` for any: `[undefined, 28, 28]`. Any by default. */
  shape?: readonly (number | undefined)[];
  /** The most records that the file may claim; any number by default. */
  most?: number;
}

/**
 * An IDX file whose header has been read and checked. Read the records once, by `bytes`, `batches`
 * or `chunks`, or give the file up by `cancel`; the source stays open until then.
 *
 * @example
 * ```ts
 * import { readIdx } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9);
 * const idx = await readIdx(new Blob([bytes]).stream(), "three");
 * assertEquals([idx.shape, await idx.bytes(2)], [[3], Uint8Array.of(7, 8)]);
 * ```
 */
export class IdxStream {
  /** The file's name, for errors. */
  readonly name: string;
  /** The sizes in the header: `[count, ...record]`. */
  readonly shape: readonly number[];
  /** The number of records that the header claims. */
  readonly count: number;
  /** Bytes of one record: the product of the sizes after the first. */
  readonly recordBytes: number;

  #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  #head: Uint8Array<ArrayBuffer> | undefined; // payload that came along with the header
  #seen = 0; // payload bytes seen, those beyond the claim included
  #taken = false;

  /**
   * For {@linkcode readIdx} only.
   *
   * @param name the file's name
   * @param shape the header's dimensions, checked
   * @param reader decompressed bytes, at some point after the header
   * @param head the payload bytes before that point
   */
  constructor(
    name: string,
    shape: readonly number[],
    reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
    head: Uint8Array<ArrayBuffer>,
  ) {
    this.name = name;
    this.shape = shape;
    this.count = shape[0] ?? 0;
    this.recordBytes = product(shape.slice(1));
    this.#reader = reader;
    this.#head = head;
  }

  /**
   * The bytes of the records, in chunks as they come. Do not trust them before the stream has ended
   * without an error.
   *
   * @returns a stream; it fails with a {@linkcode DataError}, see {@linkcode readIdx}
   * @throws {TypeError} if the file was read already
   */
  chunks(): ByteStream {
    this.#take();
    return new ReadableStream({
      pull: async (controller) => {
        const chunk = await this.#next();
        if (chunk === undefined) controller.close();
        else controller.enqueue(chunk);
      },
      cancel: (reason) => this.cancel(reason),
    }, { highWaterMark: 0 });
  }

  /**
   * The records, `size` at a time; the last batch may have fewer. Do not trust them before the
   * stream has ended without an error.
   *
   * @param size records of a batch: hundreds are fast, one is slow
   * @returns a stream of `size * recordBytes` bytes each, row-major; it fails with a
   * {@linkcode DataError}, see {@linkcode readIdx}
   * @throws {RangeError} if `size` is not a positive integer
   * @throws {TypeError} if the file was read already
   */
  batches(size: number): ByteStream {
    if (!Number.isInteger(size) || size < 1) {
      throw new RangeError(
        `${this.name}: batches of ${shown(size)} records; give a positive integer`,
      );
    }
    const bytes = Math.min(size, this.count) * this.recordBytes;
    let batch = new Uint8Array(bytes), filled = 0;
    return this.chunks().pipeThrough(
      new TransformStream({
        transform(chunk, controller) {
          for (let at = 0; at < chunk.length;) {
            const part = chunk.subarray(at, at + bytes - filled);
            batch.set(part, filled);
            filled += part.length;
            at += part.length;
            if (filled < bytes) return;
            controller.enqueue(batch);
            batch = new Uint8Array(bytes);
            filled = 0;
          }
        },
        flush(controller) {
          if (filled > 0) controller.enqueue(batch.slice(0, filled));
        },
      }),
    );
  }

  /**
   * The first records in one array. It resolves when the whole file has been read without an error.
   *
   * @param limit the most records to keep; all by default
   * @param options `stopEarly`: close the source as soon as these records have come; the rest of
   * the file, with its checksum, is then not checked
   * @returns `[min(limit, count), ...record]` bytes, row-major
   * @throws {DataError} see {@linkcode readIdx}
   * @throws {ArgumentError} if an option is of another kind
   * @throws {RangeError} if `limit` is not a positive integer
   * @throws {TypeError} if the file was read already
   */
  async bytes(
    limit: number = this.count,
    options: { stopEarly?: boolean } = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    if (!Number.isInteger(limit) || limit < 1) {
      throw new RangeError(`${this.name}: limit is ${shown(limit)}; give a positive integer`);
    }
    checkOptions("IdxStream.bytes", options, ["stopEarly"]);
    const { stopEarly = false } = options;
    checkBoolean("IdxStream.bytes", "stopEarly", stopEarly);
    this.#take();
    const wanted = Math.min(limit, this.count) * this.recordBytes;
    let data = new Uint8Array(Math.min(wanted, FIRST_ALLOCATION));
    let filled = 0;
    for (;;) {
      const chunk = await this.#next();
      if (chunk === undefined) return data;
      const part = chunk.subarray(0, wanted - filled);
      if (filled + part.length > data.length) {
        // Doubling keeps what is held within twice of what was really there.
        data = await this.#grown(data, Math.min(wanted, 2 * (filled + part.length)));
      }
      data.set(part, filled);
      filled += part.length;
      if (stopEarly && filled === wanted && limit < this.count) {
        await this.cancel();
        return data;
      }
    }
  }

  /**
   * Gives the file up and closes the source. It does nothing if the file has been read.
   *
   * @param reason what the source is told
   */
  async cancel(reason?: unknown): Promise<void> {
    this.#taken = true;
    // The source's own failure is what reads report; giving up must not add a second one.
    await this.#reader.cancel(reason).catch(() => {});
  }

  #take(): void {
    if (this.#taken) throw new TypeError(`${this.name}: was already read; open it again`);
    this.#taken = true;
  }

  async #grown(data: Uint8Array<ArrayBuffer>, size: number): Promise<Uint8Array<ArrayBuffer>> {
    try {
      return new Uint8Array(data.buffer.transfer(size));
    } catch (cause) {
      await this.cancel();
      const what = `holds more than fits in one array (${size} bytes); read it in batches`;
      throw new DataError("too-large", this.name, what, { cause });
    }
  }

  /** The next payload bytes, never empty and never beyond the claim; undefined at a clean end. */
  async #next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const total = this.count * this.recordBytes;
    for (;;) {
      const chunk = this.#head ?? (await this.#reader.read()).value;
      this.#head = undefined;
      if (chunk === undefined) break;
      const missing = Math.max(0, total - this.#seen);
      this.#seen += chunk.length;
      if (this.#seen >= total + this.recordBytes) {
        // One whole record too many settles it: a bomb is not unpacked any further.
        await this.cancel();
        throw this.#fault("payload-long", `holds more than the ${this.#claim()} its header claims`);
      }
      if (Math.min(missing, chunk.length) > 0) return chunk.subarray(0, missing);
    }
    if (this.#seen < total) {
      const what = `ends after ${this.#seen} of ${total} bytes; its header claims ${this.#claim()}`;
      throw this.#fault("payload-short", what);
    }
    if (this.#seen > total) {
      const what = `has ${this.#seen - total} bytes after the ${this.#claim()} its header claims`;
      throw this.#fault("payload-trailing", what);
    }
    return undefined;
  }

  #claim(): string {
    const record = brief(this.shape.slice(1).join("×"), 100);
    return `${this.count} records${record && ` of ${record}`}`;
  }

  #fault(code: DataErrorCode, what: string): DataError {
    return new DataError(code, this.name, `${what}; ${FETCH_AGAIN}`);
  }
}

/**
 * Reads and checks the header of an IDX file, the format of MNIST, gzipped or not. The records can
 * then be read.
 *
 * @param source the file's bytes: of a file, a `fetch` body, a `Blob`'s stream
 * @param name the file's name, for errors
 * @param options the sizes to expect
 * @returns the header, and the records to be read
 * @throws {ArgumentError} if an argument or option is of another kind; the source stays open
 * @throws {DataError} `not-gzip`, `gzip-corrupt`, `gzip-truncated`, `gzip-trailing`, `read-failed`,
 * `wrong-magic`, `unsupported-type`, `wrong-shape`, `too-large`, `header-truncated`; and when the
 * records are read, the first five, `payload-short`, `payload-long`, `payload-trailing`. The source
 * is closed then.
 *
 * @example Two records of three bytes
 * ```ts
 * import { readIdx } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const file = new Uint8Array([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]);
 * const packed = new Blob([file]).stream().pipeThrough(new CompressionStream("gzip"));
 * const idx = await readIdx(packed, "six.gz", { shape: [undefined, 3] });
 * assertEquals(idx.shape, [2, 3]);
 * const records = await Array.fromAsync(idx.batches(1));
 * assertEquals(records, [new Uint8Array([1, 2, 3]), new Uint8Array([4, 5, 6])]);
 * ```
 */
export async function readIdx(
  source: ByteStream,
  name: string,
  options: IdxOptions = {},
): Promise<IdxStream> {
  checkSource("readIdx", source, name);
  checkOptions("readIdx", options, ["shape", "most"]);
  if (options.shape !== undefined) {
    checkNumbers(
      "readIdx",
      "shape",
      Array.isArray(options.shape) ? options.shape.map((size) => size ?? 1) : options.shape,
      { integer: true, min: 0 },
    );
  }
  if (options.most !== undefined && options.most !== Infinity) {
    checkNumber("readIdx", "most", options.most, { integer: true, min: 0 });
  }
  let size: number | undefined; // of the whole file, as the header claims
  const reader = unpacked(source, name, () => size).getReader();
  try {
    let head = new Uint8Array(0);
    const need = async (size: number) => {
      while (head.length < size) {
        const { done, value } = await reader.read();
        if (done) {
          const what = `ends inside its IDX header, after ${head.length} bytes; ${FETCH_AGAIN}`;
          throw new DataError("header-truncated", name, what);
        }
        const joined = new Uint8Array(head.length + value.length);
        joined.set(head);
        joined.set(value, head.length);
        head = joined;
      }
      return new DataView(head.buffer, head.byteOffset, size);
    };

    const magic = (await need(4)).getUint32(0);
    const [type, rank] = [(magic >>> 8) & 0xff, magic & 0xff];
    if (magic >>> 16 !== 0 || rank === 0) {
      const hex = magic.toString(16).padStart(8, "0");
      const what =
        `is not an IDX file (it begins with ${hex}); give an …-idx…-ubyte file, or its .gz`;
      throw new DataError("wrong-magic", name, what);
    }
    if (type !== 0x08) {
      const what = `holds elements of type ${TYPES[type] ?? `0x${type.toString(16)}`}; ` +
        "only unsigned bytes (u8) are read: convert it";
      throw new DataError("unsupported-type", name, what);
    }
    const header = await need(4 + 4 * rank);
    const shape = Array.from({ length: rank }, (_, i) => header.getUint32(4 + 4 * i));
    checkShape(name, shape, options);
    size = header.byteLength + product(shape);
    return new IdxStream(name, shape, reader, head.subarray(4 + 4 * rank));
  } catch (error) {
    await reader.cancel().catch(() => {});
    throw error;
  }
}

/** Refuses a shape that is empty, uncountable, or not the expected one. */
function checkShape(
  name: string,
  shape: readonly number[],
  { shape: expected, most = Infinity }: IdxOptions,
): void {
  const claimed = `[${brief(shape.join(", "), 100)}]`;
  if (expected !== undefined) {
    const fits = shape.length === expected.length &&
      expected.every((size, i) => size === undefined || size === shape[i]);
    if (!fits) {
      const wanted = `[${expected.map((size) => size ?? "any").join(", ")}]`;
      const what = `has dimensions ${claimed}, expected ${wanted}; is it another data set's file?`;
      throw new DataError("wrong-shape", name, what);
    }
  }
  if (shape.includes(0)) {
    throw new DataError("wrong-shape", name, `has dimensions ${claimed}: no data; ${FETCH_AGAIN}`);
  }
  if (!Number.isSafeInteger(product(shape))) {
    const what = `claims dimensions ${claimed}, more than can be counted; ${FETCH_AGAIN}`;
    throw new DataError("too-large", name, what);
  }
  if (shape[0]! > most) {
    const what = `claims ${shape[0]} records, more than the ${most} there can be; ${FETCH_AGAIN}`;
    throw new DataError("too-large", name, what);
  }
}

function product(sizes: readonly number[]): number {
  return sizes.reduce((a, b) => a * b, 1);
}
