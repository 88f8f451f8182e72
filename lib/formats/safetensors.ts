/**
 * The safetensors format: named tensors in one file, the form in which checkpoints are exchanged
 * with PyTorch. Layout: u64 little-endian header length, a JSON header, then the tensors' bytes.
 *
 * Source: https://github.com/huggingface/safetensors ("Format" in its README, and the checks of
 * `safetensors/src/tensor.rs`).
 *
 * A file may come from anywhere, so it is read as hostile: everything the format promises is
 * checked, and time and memory stay proportional to the size of the input.
 *
 * It opens no files, converts no dtypes but floats to f32, and does not read those of less than a byte
 * (F4, F6_*). Bytes are taken as they are, so a big-endian machine is not supported.
 */

import {
  checkInstance,
  checkIterable,
  checkNumbers,
  checkObject,
  checkString,
  refuse,
} from "../check/arguments.ts";
import { quote } from "../check/text.ts";
import {
  count,
  entries,
  type Kind,
  list,
  type Of,
  parseJson,
  record,
  string,
} from "../check/json.ts";
import { foreignFormat } from "./foreign.ts";

/** A file is not safetensors, or tensors cannot be written as one; the message says why. */
export class SafetensorsError extends Error {
  /** `"SafetensorsError"`. */
  override readonly name = "SafetensorsError";
}

/** A key that no object may have: set carelessly, it changes what all objects are. */
const FORBIDDEN = "__proto__";

/** Bytes per element of each dtype the format names and this file reads. */
const ITEM_BYTES: ReadonlyMap<string, number> = new Map([
  ["BOOL", 1],
  ["U8", 1],
  ["I8", 1],
  ["F8_E5M2", 1],
  ["F8_E4M3", 1],
  ["F8_E8M0", 1],
  ["U16", 2],
  ["I16", 2],
  ["F16", 2],
  ["BF16", 2],
  ["U32", 4],
  ["I32", 4],
  ["F32", 4],
  ["U64", 8],
  ["I64", 8],
  ["F64", 8],
  ["C64", 8],
]);

/** The reference implementation's bound, so that what is written here can be read there. */
const MAX_HEADER_BYTES = 100_000_000;

/** One tensor of a file. */
export interface SafetensorsTensor {
  /** The element type as the file names it: `"F32"`, `"I64"`, … */
  dtype: string;
  /** Sizes, outermost first; `[]` is a scalar. */
  shape: number[];
  /** The elements' bytes, little-endian, row-major: a view of the parsed bytes, at any alignment. */
  data: Uint8Array<ArrayBuffer>;
}

/** What a safetensors file holds. */
export interface SafetensorsFile {
  /** The tensors by name, in the header's order. */
  tensors: Map<string, SafetensorsTensor>;
  /** The header's `__metadata__`; empty if it has none. The object has no prototype. */
  metadata: Record<string, string>;
}

/** A tensor to write: `data` must have exactly the bytes that `dtype` and `shape` need. */
export interface SafetensorsInput {
  /** The element type. */
  dtype: "F32" | "U8" | "I64" | "I32" | "U32";
  /** Sizes, outermost first; `[]` is a scalar. */
  shape: readonly number[];
  /** The elements, row-major, of `dtype`. */
  data: ArrayBufferView;
}

/** A tensor as the header describes it. */
const TENSOR = record({
  dtype: string(Infinity),
  shape: list(count()),
  data_offsets: list(count(), { min: 2, max: 2 }) as Kind<[begin: number, end: number]>,
}, { closed: true });
const METADATA = entries(string(Infinity));
const HEADER = entries<Of<typeof TENSOR> | [string, string][]>(
  (key) => key === "__metadata__" ? METADATA : TENSOR,
  { name: (key) => key === "__metadata__" ? key : `tensor ${quote(key)}` },
);

/** The tensor's size in bytes, or what is wrong with its dtype or shape. */
function byteLength(dtype: string, shape: readonly number[]): number | string {
  const itemBytes = ITEM_BYTES.get(dtype);
  if (itemBytes === undefined) return `unknown dtype ${quote(dtype)}`;
  let size = itemBytes;
  for (const length of shape) {
    if (!Number.isSafeInteger(length) || length < 0) {
      return `shape has ${length}, which is not a size`;
    }
    size *= length;
    if (!Number.isSafeInteger(size)) return `shape is too large to count`;
  }
  return size;
}

/**
 * Reads a safetensors file. Nothing is copied: the tensors are views of `bytes`.
 *
 * @param bytes The whole file.
 * @param name What error messages call it, such as its path.
 * @throws {ArgumentError} If `bytes` is no Uint8Array.
 * @throws {SafetensorsError} If the bytes are not a valid file. The message names the file, the
 * tensor and what is wrong. If the file has another format, such as PyTorch's pickle, it says which
 * one and how to convert it.
 *
 * @example
 * ```ts
 * import { parseSafetensors, serializeSafetensors } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = serializeSafetensors([
 *   ["fc.bias", { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) }],
 * ]);
 * const file = parseSafetensors(bytes, "checkpoint.safetensors");
 * assertEquals(file.tensors.get("fc.bias")?.shape, [2]);
 * ```
 */
export function parseSafetensors(
  bytes: Uint8Array<ArrayBuffer>,
  name = "safetensors",
): SafetensorsFile {
  checkInstance("parseSafetensors", "bytes", bytes, Uint8Array);
  checkString("parseSafetensors", "name", name);
  const fail = (what: string): never => {
    throw new SafetensorsError(`${name}: ${what}`);
  };
  const foreign = foreignFormat(bytes);
  if (foreign !== undefined) fail(foreign);
  if (bytes.length < 8) fail(`${bytes.length} bytes are too few for a header length`);
  const lengthField = new DataView(bytes.buffer, bytes.byteOffset, 8);
  const headerBytes = Number(lengthField.getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES) {
    fail(`header length ${headerBytes} exceeds the format's ${MAX_HEADER_BYTES}`);
  }
  if (headerBytes > bytes.length - 8) {
    fail(`header length ${headerBytes} exceeds the file's ${bytes.length} bytes`);
  }
  // The format wants `{` as the very first byte.
  if (headerBytes === 0 || bytes[8] !== 0x7b) fail("header does not begin with {");
  const metadata: Record<string, string> = Object.create(null);
  const described: [tensor: string, entry: Of<typeof TENSOR>][] = [];
  const header = bytes.subarray(8, 8 + headerBytes);
  for (const [key, value] of parseJson(header, HEADER, { name, error: SafetensorsError })) {
    if (Array.isArray(value)) value.forEach(([key, value]) => metadata[key] = value);
    else described.push([key, value]);
  }
  const section = bytes.subarray(8 + headerBytes);

  const tensors = new Map<string, SafetensorsTensor>();
  for (const [tensor, { dtype, shape, data_offsets: [begin, end] }] of described) {
    const failTensor = (what: string) => fail(`tensor ${quote(tensor)}: ${what}`);
    if (begin > end) failTensor(`data_offsets ${begin} > ${end}`);
    if (end > section.length) {
      failTensor(`data_offsets end at ${end}, beyond the data's ${section.length} bytes`);
    }
    const size = byteLength(dtype, shape);
    if (typeof size === "string") failTensor(size);
    if (size !== end - begin) {
      failTensor(`data_offsets span ${end - begin} bytes, its shape and ${dtype} need ${size}`);
    }
    tensors.set(tensor, { dtype, shape, data: section.subarray(begin, end) });
  }
  // Laid end to end, tensors have neither overlaps nor holes, and no byte is unaccounted for.
  let covered = 0;
  const inOrder = described.toSorted(([, { data_offsets: a }], [, { data_offsets: b }]) =>
    a[0] - b[0] || a[1] - b[1]
  );
  for (const [tensor, { data_offsets: [begin, end] }] of inOrder) {
    if (begin !== covered) {
      const what = begin < covered ? "overlaps the one before it" : "follows a hole";
      fail(`tensor ${quote(tensor)}: ${what} (begins at ${begin}, not ${covered})`);
    }
    covered = end;
  }
  if (covered !== section.length) {
    fail(`data has ${section.length} bytes, tensors cover only ${covered}`);
  }
  return { tensors, metadata };
}

/** How floats are read. BF16 is the upper half of F32, so its bits are. Older browsers have no F16. */
const FLOATS = {
  F32: () => Float32Array,
  F16: () => Float16Array,
  BF16: () => Uint16Array,
  F64: () => Float64Array,
};

/**
 * The elements of a tensor of floats as f32. For F32 the result may be a view of the file's bytes,
 * so do not write to it. F16 and BF16 are converted exactly. F64 is rounded to the nearest f32, as
 * in PyTorch: ties to even, and to infinity beyond f32's range.
 *
 * @param tensor A tensor of {@linkcode parseSafetensors}.
 * @param name What the error message calls it.
 * @throws {ArgumentError} If it is no tensor, or its bytes are no whole number of elements.
 * @throws {SafetensorsError} If its dtype is not F32, F16, BF16 or F64.
 *
 * @example
 * ```ts
 * import { asFloat32Array } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const data = new Uint8Array(new Float32Array([1.5]).buffer);
 * const values = asFloat32Array({ dtype: "F32", shape: [1], data });
 * assertEquals(values, new Float32Array([1.5]));
 * const half = new Uint8Array([0x00, 0x3e]);
 * assertEquals(asFloat32Array({ dtype: "F16", shape: [1], data: half }), values);
 * ```
 */
export function asFloat32Array(
  tensor: SafetensorsTensor,
  name = "tensor",
): Float32Array<ArrayBuffer> {
  checkString("asFloat32Array", "name", name);
  checkObject("asFloat32Array", "tensor", tensor);
  const { dtype, data } = tensor;
  checkString("asFloat32Array", "tensor.dtype", dtype);
  checkInstance("asFloat32Array", "tensor.data", data, Uint8Array);
  if (!Object.hasOwn(FLOATS, dtype)) {
    const expected = Object.keys(FLOATS).map(quote).join(", ");
    throw new SafetensorsError(`${name}: dtype is ${quote(dtype)}, expected one of ${expected}`);
  }
  const Floats = FLOATS[dtype as keyof typeof FLOATS](), { BYTES_PER_ELEMENT: itemBytes } = Floats;
  if (data.length % itemBytes !== 0) {
    refuse("asFloat32Array", "tensor.data", `${itemBytes} bytes for each element`, data);
  }
  const { buffer, byteOffset } = data.byteOffset % itemBytes === 0 ? data : data.slice();
  const floats = new Floats(buffer, byteOffset, data.length / itemBytes);
  if (floats instanceof Float32Array) return floats;
  if (floats instanceof Uint16Array) {
    return new Float32Array(Uint32Array.from(floats, (bits) => bits << 16).buffer);
  }
  return new Float32Array(floats);
}

/**
 * Writes tensors as a safetensors file, which Python's `safetensors` reads too.
 *
 * The header keeps the order given. In the data, tensors with larger elements come first, so that
 * each is aligned to its element size, as PyTorch needs it.
 *
 * @param tensors Pairs of name and tensor. Names must be distinct, and not `__metadata__`.
 * @param metadata Strings for the header's `__metadata__`; none by default.
 * @throws {ArgumentError} If an argument or a part of one is of another kind.
 * @throws {SafetensorsError} If a name, shape or size is not writable, or if the header would exceed
 * the format's 100 MB.
 *
 * @example
 * ```ts
 * import { serializeSafetensors } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = serializeSafetensors(
 *   [["step", { dtype: "U32", shape: [], data: new Uint32Array([7]) }]],
 *   { format: "pt" },
 * );
 * assertEquals(bytes.length % 4, 0);
 * ```
 */
export function serializeSafetensors(
  tensors: Iterable<readonly [string, SafetensorsInput]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  checkIterable("serializeSafetensors", "tensors", tensors, "pairs of name and tensor");
  checkObject("serializeSafetensors", "metadata", metadata);
  const list = Array.from(tensors, (pair, i) => {
    if (!Array.isArray(pair)) {
      refuse("serializeSafetensors", `tensors[${i}]`, "a pair of name and tensor", pair);
    }
    const [name, tensor] = pair as [string, SafetensorsInput];
    checkString("serializeSafetensors", `tensors[${i}][0]`, name);
    checkObject("serializeSafetensors", `tensors[${i}][1]`, tensor);
    const { dtype, shape, data } = tensor;
    checkString("serializeSafetensors", `tensors[${i}][1].dtype`, dtype);
    checkNumbers("serializeSafetensors", `tensors[${i}][1].shape`, shape);
    if (!ArrayBuffer.isView(data)) {
      refuse("serializeSafetensors", `tensors[${i}][1].data`, "a typed array", data);
    }
    const fail = (what: string): never => {
      throw new SafetensorsError(`serializeSafetensors: tensor ${quote(name)}: ${what}`);
    };
    if (name === "__metadata__" || name === FORBIDDEN) fail("the name is reserved");
    if (!name.isWellFormed()) fail("the name has a lone surrogate");
    const size = byteLength(dtype, shape);
    if (typeof size === "string") return fail(size);
    if (size !== data.byteLength) {
      fail(`data has ${data.byteLength} bytes, shape [${shape}] of ${dtype} needs ${size}`);
    }
    return { name, dtype, shape: [...shape], data, begin: 0, itemBytes: ITEM_BYTES.get(dtype)! };
  });

  let dataBytes = 0;
  for (const tensor of [...list].sort((a, b) => b.itemBytes - a.itemBytes)) {
    tensor.begin = dataBytes;
    dataBytes += tensor.data.byteLength;
  }

  // Written member by member, as a JavaScript object would reorder keys like "0".
  const members: string[] = [];
  const pairs = Object.entries(metadata);
  for (const [key, value] of pairs) {
    if (key === FORBIDDEN) {
      throw new SafetensorsError(`serializeSafetensors: metadata may have no key ${quote(key)}`);
    }
    if (typeof value !== "string" || !key.isWellFormed() || !value.isWellFormed()) {
      throw new SafetensorsError(
        `serializeSafetensors: metadata ${quote(key)}: not a well-formed string`,
      );
    }
  }
  if (pairs.length > 0) {
    const strings = pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    members.push(`"__metadata__":{${strings}}`);
  }
  const names = new Set<string>();
  for (const { name, dtype, shape, data, begin } of list) {
    if (names.has(name)) {
      throw new SafetensorsError(`serializeSafetensors: duplicate name ${quote(name)}`);
    }
    names.add(name);
    const entry = { dtype, shape, data_offsets: [begin, begin + data.byteLength] };
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  }
  const header = new TextEncoder().encode(`{${members}}`);
  const headerBytes = Math.ceil(header.length / 8) * 8;
  if (headerBytes > MAX_HEADER_BYTES) {
    throw new SafetensorsError(
      `serializeSafetensors: header of ${headerBytes} bytes exceeds ${MAX_HEADER_BYTES}`,
    );
  }

  const bytes = new Uint8Array(8 + headerBytes + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.fill(0x20, 8, 8 + headerBytes);
  bytes.set(header, 8);
  for (const { data, begin } of list) {
    bytes.set(
      new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      8 + headerBytes + begin,
    );
  }
  return bytes;
}
