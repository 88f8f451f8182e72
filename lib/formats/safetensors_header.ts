/**
 * The JSON header of a safetensors file, read from text into entries.
 *
 * `JSON.parse` will not do: a hostile header may have a name twice (it would silently keep the last),
 * be nested without end, or use `__proto__` as a name. This reader takes only the one shape of object
 * that the format has, reads the text once, and has no recursion.
 *
 * `safetensors.ts` checks dtypes, sizes and the data section.
 */

import { quote } from "../check/brief.ts";

/** A key that no object may have: set carelessly, it changes what all objects are. */
export const FORBIDDEN = "__proto__";

/** A file that is not safetensors, or tensors that cannot be made one; the message says why. */
export class SafetensorsError extends Error {
  /** `"SafetensorsError"`. */
  override readonly name = "SafetensorsError";
}

const SAVE = 'in Python: `safetensors.torch.save_file(state_dict, "model.safetensors")`, with ';
const TORCH = SAVE + '`state_dict = torch.load(FILE, map_location="cpu")`';
const NUMPY =
  'in Python: `safetensors.numpy.save_file(dict(numpy.load(FILE)), "model.safetensors")`';

const ZIP = "PK\x03\x04";
const byte = String.fromCharCode;

/** Formats that people take for safetensors: how they begin, what to say, and a text that they hold. */
const FOREIGN: readonly [begins: string | string[], what: string, holds?: string][] = [
  [ZIP, `this is a PyTorch pickle (a zip); ${TORCH}`, ".pkl"],
  [ZIP, `this is NumPy's npz (a zip); ${NUMPY}`, ".npy"],
  [ZIP, `this is a zip; unpack it, or, if it is PyTorch's, ${TORCH}`],
  [
    [2, 3, 4, 5].map((protocol) => `\x80${byte(protocol)}`),
    `this is a pickle, as old versions of PyTorch wrote them; ${TORCH}`,
  ],
  ["\x93NUMPY", "this is NumPy's npy, one array without a name; save a dict of arrays instead"],
  [
    "\x89HDF\r\n\x1a\n",
    "this is HDF5, as Keras and h5py write it; in Python, read it with `h5py.File(FILE)` and write a " +
    'dict of its arrays with `safetensors.numpy.save_file(arrays, "model.safetensors")`',
  ],
  [
    // The format's version, and then the producer's name.
    Array.from({ length: 31 }, (_, i) => `\x08${byte(i + 1)}\x12`),
    "this looks like ONNX, which is written here and not read; give the checkpoint that it was made of",
  ],
  ["GGUF", "this is GGUF; give the model's safetensors"],
  ["\x1f\x8b", "this is gzip; unpack it"],
  ["version https://git-lfs", "this is a pointer of Git LFS; get the file with `git lfs pull`"],
  [["<!", "<html", "<HTML"], "this is a web page; download the file itself"],
];

/** If the first bytes are those of another format: which one, and what to do. */
export function foreignFormat(bytes: Uint8Array): string | undefined {
  // If a header begins here, it is safetensors, even if its length looks like another format.
  if (bytes[8] === 0x7b) return undefined;
  const head = String.fromCharCode(...bytes.subarray(0, 128));
  return FOREIGN.find(([begins, , holds = ""]) =>
    [begins].flat().some((start) => head.startsWith(start)) && head.includes(holds)
  )?.[1];
}

/** A tensor as the header describes it. */
export interface HeaderEntry {
  /** The tensor's name. */
  name: string;
  /** As written; any string. */
  dtype: string;
  /** Integers in 0..2^53-1, any number of them. */
  shape: number[];
  /** First byte in the data section: an integer in 0..2^53-1, not yet compared with `end`. */
  begin: number;
  /** One past the last byte: an integer in 0..2^53-1. */
  end: number;
}

/**
 * Reads the header's text, left to right, once. `file` is what error messages call the file.
 *
 * ```ts
 * import { HeaderReader } from "./safetensors_header.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const header = '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}';
 * const { entries } = new HeaderReader(header, "a.safetensors").read();
 * assertEquals(entries[0]!.end, 4);
 * ```
 */
export class HeaderReader {
  #at = 0;
  /** What the next error is about. */
  #where = "header";

  /**
   * A reader at the start of `text`.
   *
   * @param text The whole header, decoded.
   * @param file What error messages call the file.
   */
  constructor(readonly text: string, readonly file: string) {}

  /** @throws {SafetensorsError} Always: what is wrong, with the file and the tensor being read. */
  fail(what: string): never {
    throw new SafetensorsError(`${this.file}: ${this.#where}: ${what}`);
  }

  /**
   * The entries in the order of the text, and the metadata (without a prototype: a key is only a key).
   *
   * @throws {SafetensorsError} If the text is not such a header.
   */
  read(): { entries: HeaderEntry[]; metadata: Record<string, string> } {
    const entries: HeaderEntry[] = [];
    let metadata: Record<string, string> | undefined;
    const names = new Set<string>();
    // The format wants `{` as the very first byte.
    if (this.text[0] !== "{") this.fail("does not begin with {");
    this.#members((name) => {
      this.#where = "header";
      if (names.has(name)) this.fail(`duplicate name ${quote(name)}`);
      names.add(name);
      if (name === "__metadata__") {
        this.#where = "__metadata__";
        metadata = this.#metadata();
      } else {
        this.#where = `tensor ${quote(name)}`;
        entries.push(this.#entry(name));
      }
      this.#where = "header";
    });
    this.#skipSpace();
    if (this.#at !== this.text.length) this.fail(`text after the closing } ${this.#position()}`);
    return { entries, metadata: metadata ?? Object.create(null) };
  }

  #metadata(): Record<string, string> {
    const metadata: Record<string, string> = Object.create(null);
    this.#members((key) => {
      if (Object.hasOwn(metadata, key)) this.fail(`duplicate key ${quote(key)}`);
      this.#skipSpace();
      if (this.text[this.#at] !== '"') this.fail(`the value of ${quote(key)} is not a string`);
      metadata[key] = this.#string();
    });
    return metadata;
  }

  #entry(name: string): HeaderEntry {
    let dtype: string | undefined;
    let shape: number[] | undefined;
    let offsets: number[] | undefined;
    this.#members((key) => {
      if (key === "dtype") {
        if (dtype !== undefined) this.fail("duplicate dtype");
        dtype = this.#string();
      } else if (key === "shape") {
        if (shape !== undefined) this.fail("duplicate shape");
        shape = this.#integers("shape", Infinity);
      } else if (key === "data_offsets") {
        if (offsets !== undefined) this.fail("duplicate data_offsets");
        offsets = this.#integers("data_offsets", 2);
      } else this.fail(`unknown field ${quote(key)}`);
    });
    if (dtype === undefined) return this.fail("no dtype");
    if (shape === undefined) return this.fail("no shape");
    const [begin, end] = offsets ?? this.fail("no data_offsets");
    if (begin === undefined || end === undefined) return this.fail("data_offsets is not a pair");
    return { name, dtype, shape, begin, end };
  }

  /** An object: calls `member` with each key, standing before its value. */
  #members(member: (key: string) => void): void {
    this.#expect("{");
    if (this.#accept("}")) return;
    do {
      const key = this.#string();
      if (key === FORBIDDEN) this.fail(`has the key ${quote(key)}`);
      this.#expect(":");
      member(key);
    } while (this.#accept(","));
    this.#expect("}");
  }

  #string(): string {
    this.#skipSpace();
    const start = this.#at;
    if (this.text[start] !== '"') this.fail(`expected a string ${this.#position()}`);
    let at = start + 1;
    // To the closing quote by hand (a regular expression may run out of stack on a long string);
    // what stands between, JSON.parse judges.
    while (at < this.text.length && this.text[at] !== '"') at += this.text[at] === "\\" ? 2 : 1;
    if (at >= this.text.length) this.fail("unfinished string");
    this.#at = at + 1;
    let value = "";
    try {
      value = JSON.parse(this.text.slice(start, at + 1));
    } catch {
      this.fail(`malformed string at character ${start}`);
    }
    if (!value.isWellFormed()) this.fail(`lone surrogate in the string at character ${start}`);
    return value;
  }

  #integers(what: string, max: number): number[] {
    const values: number[] = [];
    this.#expect("[");
    if (this.#accept("]")) return values;
    do {
      if (values.length === max) this.fail(`${what} has more than ${max} numbers`);
      values.push(this.#integer(what));
    } while (this.#accept(","));
    this.#expect("]");
    return values;
  }

  #integer(what: string): number {
    this.#skipSpace();
    const start = this.#at;
    let value = 0;
    for (; this.#at < this.text.length; this.#at++) {
      const digit = this.text.charCodeAt(this.#at) - 48;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      if (!Number.isSafeInteger(value)) this.fail(`${what} has a number beyond 2^53-1`);
    }
    const digits = this.#at - start;
    // Also refuses what JSON calls a number and the format does not: -1, 1.0, 1e3.
    if (digits === 0 || "eE.".includes(this.text[this.#at] ?? " ")) {
      this.fail(`${what} must hold non-negative integers, at character ${start}`);
    }
    if (digits > 1 && this.text[start] === "0") this.fail(`${what} has a number with leading 0`);
    return value;
  }

  #skipSpace(): void {
    while (this.#at < this.text.length && " \n\r\t".includes(this.text[this.#at]!)) this.#at++;
  }

  #accept(mark: string): boolean {
    this.#skipSpace();
    if (this.text[this.#at] !== mark) return false;
    this.#at++;
    return true;
  }

  #expect(mark: string): void {
    if (!this.#accept(mark)) this.fail(`expected ${mark} ${this.#position()}`);
  }

  #position(): string {
    return this.#at < this.text.length ? `at character ${this.#at}` : "but the header ends";
  }
}
