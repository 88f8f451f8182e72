/**
 * Tests of the safetensors reader and writer: what is written is read back, a file made by Python
 * is read, and every way a file can lie is an error.
 */

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { ArgumentError } from "../../lib/check/arguments.ts";
import { decodeStateDict } from "../../lib/formats/state_dict.ts";
import {
  asFloat32Array,
  parseSafetensors,
  SafetensorsError,
  type SafetensorsInput,
  serializeSafetensors,
} from "../../lib/formats/safetensors.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A file of this header and `dataBytes` zeros; `headerBytes` is what its length field says. */
function file(header: string | Bytes, dataBytes = 0, headerBytes?: bigint): Bytes {
  const text = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  const length = headerBytes ?? BigInt(text.length);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  bytes.set(text, 8);
  return bytes;
}

/** The header entry of a one-dimensional U8 tensor in these bytes of the data. */
function entry(name: string, begin: number, end: number): string {
  return `"${name}":{"dtype":"U8","shape":[${end - begin}],"data_offsets":[${begin},${end}]}`;
}

function f32(shape: number[], ...values: number[]): SafetensorsInput {
  return { dtype: "F32", shape, data: new Float32Array(values) };
}

/** The message of the SafetensorsError that parsing throws. */
function refusal(bytes: Bytes): string {
  return assertThrows(() => parseSafetensors(bytes, "x.safetensors"), SafetensorsError).message;
}

Deno.test("tensors, names, order and metadata come back as they were written", () => {
  const input: [string, SafetensorsInput][] = [
    ["labels", { dtype: "U8", shape: [3], data: new Uint8Array([0, 9, 255]) }],
    ["0.weight", f32([1, 2, 3], 1, -2, 0.5, NaN, -0, Infinity)],
    ["10", f32([], 7)],
    ["2", f32([0, 4])],
    ['größe "\\\n\u{1f600}', { dtype: "I32", shape: [1], data: new Int32Array([-5]) }],
    ["steps", { dtype: "I64", shape: [], data: new BigInt64Array([469n]) }],
    ["constructor", { dtype: "U32", shape: [2], data: new DataView(new ArrayBuffer(8)) }],
  ];
  const metadata = { format: "pt", name: 'a "name"', toString: "" };
  const bytes = serializeSafetensors(input, metadata);
  const read = parseSafetensors(bytes);
  assertEquals([...read.tensors.keys()], input.map(([name]) => name));
  for (const [name, { dtype, shape, data }] of input) {
    const tensor = read.tensors.get(name)!;
    assertEquals(tensor.dtype, dtype);
    assertEquals(tensor.shape, shape);
    assertEquals([...tensor.data], [...new Uint8Array(data.buffer, data.byteOffset)]);
    const itemBytes = dtype === "U8" ? 1 : dtype === "I64" ? 8 : 4;
    assertEquals(tensor.data.byteOffset % itemBytes, 0, `${name} is not aligned`);
  }
  assertEquals(Object.entries(read.metadata), Object.entries(metadata));
  assertEquals(({} as Record<string, unknown>)["format"], undefined);
  const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  assertEquals(headerBytes % 8, 0);
});

Deno.test("no tensors, no metadata is a file too", () => {
  const read = parseSafetensors(serializeSafetensors([]));
  assertEquals(read.tensors.size, 0);
  assertEquals(Object.keys(read.metadata), []);
});

Deno.test("only the viewed part of a larger buffer is written", () => {
  const values = new Float32Array([1, 2, 3, 4]).subarray(1, 3);
  const bytes = serializeSafetensors([["a", { dtype: "F32", shape: [2], data: values }]]);
  assertEquals([...asFloat32Array(parseSafetensors(bytes).tensors.get("a")!)], [2, 3]);
});

Deno.test("a file at an odd place of a buffer is read, by copying what is misaligned", () => {
  const bytes = serializeSafetensors([["a", f32([2], 1.5, -3)]]);
  const shifted = new Uint8Array(bytes.length + 1).subarray(1);
  shifted.set(bytes);
  const inPlace = asFloat32Array(parseSafetensors(bytes).tensors.get("a")!);
  const copied = asFloat32Array(parseSafetensors(shifted).tensors.get("a")!);
  assert(inPlace.buffer === bytes.buffer);
  assert(copied.buffer !== shifted.buffer);
  assertEquals([...inPlace], [1.5, -3]);
  assertEquals([...copied], [1.5, -3]);
});

Deno.test("integers are not taken for floats, nor parts of a float for one", () => {
  const data = new Uint8Array(4);
  assertThrows(
    () => asFloat32Array({ dtype: "I32", shape: [1], data }, "steps"),
    SafetensorsError,
    'steps: dtype is "I32", expected one of "F32", "F16", "BF16", "F64"',
  );
  for (const dtype of ["F8_E4M3", "toString", "BOOL"]) {
    assertThrows(() => asFloat32Array({ dtype, shape: [4], data }), SafetensorsError, dtype);
  }
  for (const [dtype, bytes] of [["F64", 4], ["F16", 3], ["BF16", 1]] as const) {
    assertThrows(
      () => asFloat32Array({ dtype, shape: [1], data: new Uint8Array(bytes) }),
      ArgumentError,
      `tensor.data must be ${dtype === "F64" ? 8 : 2} bytes for each element`,
    );
  }
});

/** A number's bits as f32; one for all NaNs. */
const bitsOf = (value: number) =>
  Number.isNaN(value) ? "NaN" : new Uint32Array(Float32Array.of(value).buffer)[0]!;

Deno.test("every F16 and BF16 is the f32 of the same value", () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const read = (dtype: string) => {
    // At an odd place, so that it must be copied.
    const data = new Uint8Array(all.byteLength + 1).subarray(1);
    data.set(new Uint8Array(all.buffer));
    return asFloat32Array({ dtype, shape: [65536], data });
  };
  /** By the definition: sign, exponent, fraction. */
  const value = (bits: number, exponentBits: number, fractionBits: number): number => {
    const sign = bits >> 15 ? -1 : 1, bias = 2 ** (exponentBits - 1) - 1;
    const exponent = bits >> fractionBits & 2 ** exponentBits - 1;
    const fraction = (bits & 2 ** fractionBits - 1) / 2 ** fractionBits;
    if (exponent === 2 ** exponentBits - 1) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? (1 + fraction) * 2 ** (exponent - bias) : fraction * 2 ** (1 - bias));
  };
  for (const [dtype, exponentBits, fractionBits] of [["F16", 5, 10], ["BF16", 8, 7]] as const) {
    const found = read(dtype);
    assertEquals(found.length, 65536);
    for (const bits of all) {
      const expected = value(bits, exponentBits, fractionBits);
      assert(
        bitsOf(found[bits]!) === bitsOf(expected),
        `${dtype} ${bits.toString(16)}: ${found[bits]}, not ${expected}`,
      );
    }
  }
});

Deno.test("a file written by Python's safetensors is read", async () => {
  const url = new URL("../fixtures/python_written.safetensors", import.meta.url);
  const { tensors, metadata } = parseSafetensors(await Deno.readFile(url), "python_written");
  assertEquals({ ...metadata }, { format: "pt", note: 'a "quoted"\nline' });
  assertEquals(tensors.size, 5);
  const weight = tensors.get("0.weight")!;
  assertEquals(weight.shape, [1, 2, 3]);
  assertEquals([...asFloat32Array(weight)], [-0.5, -0.25, 0, 0.25, 0.5, 0.75]);
  const steps = tensors.get("1.num_batches_tracked")!;
  assertEquals([steps.dtype, steps.shape], ["I64", []]);
  assertEquals([...new BigInt64Array(steps.data.slice().buffer)], [469n]);
  assertEquals([...tensors.get("labels")!.data], [0, 9, 255]);
  assertEquals([...new Int32Array(tensors.get("größe")!.data.slice().buffer)], [-1, 2 ** 31 - 1]);
  assertEquals(tensors.get("empty")!.shape, [0, 4]);
});

Deno.test("F64, F16 and BF16 become the f32s that PyTorch makes of them", async () => {
  const bytes = await Deno.readFile(
    new URL("../fixtures/python_floats.safetensors", import.meta.url),
  );
  const { tensors } = parseSafetensors(bytes);
  for (const [dtype, least] of [["F64", 2000], ["F16", 2000], ["BF16", 2000]] as const) {
    const given = tensors.get(dtype)!;
    assertEquals(given.dtype, dtype);
    const found = asFloat32Array(given), expected = asFloat32Array(tensors.get(`${dtype}.f32`)!);
    assert(found.length > least, `only ${found.length} of ${dtype}`);
    assertEquals([...found].map(bitsOf), [...expected].map(bitsOf));
    for (const special of [NaN, Infinity, -Infinity, 0, -0]) {
      assert(found.some((x) => Object.is(x, special)), `${dtype} has no ${special}`);
    }
    assert(found.some((x) => x !== 0 && Math.abs(x) < 2 ** -15), `${dtype} has nothing small`);
  }
});

Deno.test("a state dict of halves, doubles and other counts is read as f32", () => {
  const parts: Record<string, [dtype: string, array: { buffer: ArrayBuffer }]> = {
    "a.weight": ["F16", new Float16Array([0.5, -2])],
    "a.bias": ["F64", new Float64Array([1 / 3, -0])],
    "bn.weight": ["BF16", new Uint16Array([0x3f80, 0xbfc0])],
    "i64.num_batches_tracked": ["I64", new BigInt64Array([7n])],
    "u64.num_batches_tracked": ["U64", new BigUint64Array([7n])],
    "i32.num_batches_tracked": ["I32", new Int32Array([7])],
    "u8.num_batches_tracked": ["U8", new Uint8Array([7])],
    "f32.num_batches_tracked": ["F32", new Float32Array([7])],
    "bf16.num_batches_tracked": ["BF16", new Uint16Array([0x40e0])],
  };
  const write = (all: typeof parts) => {
    let end = 0;
    const header = Object.fromEntries(
      Object.entries(all).map(([key, [dtype, { buffer }]]) => {
        const shape = key.endsWith("num_batches_tracked") ? [] : [2];
        return [key, { dtype, shape, data_offsets: [end, end += buffer.byteLength] }];
      }),
    );
    const bytes = file(JSON.stringify(header), end);
    let at = bytes.length - end;
    for (const [, { buffer }] of Object.values(all)) {
      bytes.set(new Uint8Array(buffer), at);
      at += buffer.byteLength;
    }
    return decodeStateDict(bytes, "half.safetensors");
  };
  const state = write(parts);
  assertEquals([...state.keys()], Object.keys(parts));
  assertEquals([...state.get("a.weight")!.data], [0.5, -2]);
  assertEquals([...state.get("a.bias")!.data], [Math.fround(1 / 3), -0]);
  assertEquals([...state.get("bn.weight")!.data], [1, -1.5]);
  for (const [key, { shape, data }] of state) {
    if (shape.length === 0) assertEquals([...data], [7], key);
  }
  const count = (dtype: string, array: { buffer: ArrayBuffer }) => () =>
    write({ num_batches_tracked: [dtype, array] });
  const where = 'half.safetensors: tensor "num_batches_tracked": ';
  for (
    const [call, message] of [
      [count("F32", new Float32Array([0.5])), "0.5 is not a count from 0 to 16777216"],
      [count("F64", new Float64Array([NaN])), "NaN is not a count"],
      [count("I32", new Int32Array([-1])), "-1 is not a count"],
      [count("U64", new BigUint64Array([2n ** 64n - 1n])), "18446744073709551615 is not a count"],
      [count("BOOL", new Uint8Array([1])), 'dtype is "BOOL"'],
    ] as const
  ) assertThrows(call, SafetensorsError, where + message);
});

Deno.test("white space in the header and dtypes that are only carried are read", () => {
  const header =
    `{ \n\t"a" : { "shape" : [ 2 , 3 ] , "dtype" : "BF16" , "data_offsets" : [ 0 , 12 ] } }\r`;
  const tensor = parseSafetensors(file(header, 12)).tensors.get("a")!;
  assertEquals([tensor.dtype, tensor.shape, tensor.data.length], ["BF16", [2, 3], 12]);
});

const U8 = '"dtype":"U8"';
const tensor = (members: string) => `{"t":{${members}}}`;
const shaped = (shape: string) => tensor(`${U8},"shape":${shape},"data_offsets":[0,4]`);
const offset = (offsets: string) => tensor(`${U8},"shape":[4],"data_offsets":${offsets}`);

/** What is wrong, the file, and what the message must say. */
const REFUSALS: [string, Bytes, RegExp][] = [
  ["an empty file", new Uint8Array(0), /0 bytes are too few/],
  ["a file of 7 bytes", new Uint8Array(7), /7 bytes are too few/],
  ["a header longer than the file", file("{}", 0, 3n), /header length 3 exceeds the file's 10/],
  ["a header beyond 100 MB", file("{}", 0, 100_000_001n), /exceeds the format's 100000000/],
  ["a header length of 2^64-1", file("{}", 0, 2n ** 64n - 1n), /exceeds the format's/],
  ["an empty header", file(""), /does not begin with/],
  ["a header that is not UTF-8", file(new Uint8Array([0x7b, 0xff, 0x7d])), /not UTF-8/],
  ["a byte-order mark", file("\ufeff{}"), /does not begin with/],
  ["leading white space", file(" {}"), /does not begin with/],
  ["an array", file("[]"), /does not begin with/],
  ["text after the object", file("{} {}"), /no more at character 3/],
  ["an unclosed object", file("{"), /a key in quotes where it ends/],
  ["a trailing comma", file('{"__metadata__":{},}'), /a key in quotes at character 19/],
  ["a name without quotes", file("{t:1}"), /a key in quotes at character 1/],
  ["an unfinished string", file('{"t'), /is not JSON: .* where it ends/],
  ["a string cut in an escape", file('{"t\\"'), /is not JSON: .* where it ends/],
  ["a bad escape", file('{"\\x41":1}'), /is not JSON: it should have a value at character 1/],
  [
    "a raw newline in a string",
    file('{"a\nb":1}'),
    /is not JSON: it should have a value at character 1/,
  ],
  ["a lone surrogate", file('{"\\ud800":1}'), /lone surrogate/],
  ["deep nesting", file("{" + '"a":{'.repeat(100_000)), /tensor "a": has the unknown key "a"/],
  [
    "a deep array",
    file(shaped("[".repeat(100_000))),
    /shape\[0\] must be an integer .*, is a list/,
  ],
  ["a tensor that is null", file('{"t":null}'), /tensor "t" must be an object, is null/],
  [
    "a duplicate tensor",
    file(`{${entry("t", 0, 1)},${entry("t", 1, 2)}}`, 2),
    /has the key "t" twice/,
  ],
  [
    "a duplicate by escape",
    file(`{${entry("t", 0, 1)},${entry("\\u0074", 1, 2)}}`, 2),
    /has the key "t" twice/,
  ],
  [
    "a tensor named __proto__",
    file(`{${entry("a", 0, 0)},${entry("\\u005f_proto__", 0, 0)}}`),
    /has the key "__proto__"/,
  ],
  ["__proto__ in the metadata", file('{"__metadata__":{"__proto__":"a"}}'), /has the key/],
  [
    "duplicate metadata",
    file('{"__metadata__":{},"__metadata__":{}}'),
    /has the key "__metadata__" twice/,
  ],
  [
    "a duplicate metadata key",
    file('{"__metadata__":{"a":"","a":""}}'),
    /__metadata__: has the key "a" twice/,
  ],
  [
    "metadata that is a string",
    file('{"__metadata__":"a"}'),
    /__metadata__ must be an object, is "a"/,
  ],
  [
    "a metadata number",
    file('{"__metadata__":{"a":1}}'),
    /__metadata__: "a" must be a string, is 1/,
  ],
  [
    "no dtype",
    file(tensor('"shape":[],"data_offsets":[0,1]'), 1),
    /tensor "t": dtype must be a string, is missing/,
  ],
  [
    "no shape",
    file(tensor(`${U8},"data_offsets":[0,1]`), 1),
    /tensor "t": shape must be a list, is missing/,
  ],
  [
    "no offsets",
    file(tensor(`${U8},"shape":[]`), 1),
    /tensor "t": data_offsets must be a list of 2, is missing/,
  ],
  ["a dtype twice", file(tensor(`${U8},${U8}`)), /tensor "t": has the key "dtype" twice/],
  ["a shape twice", file(tensor('"shape":[],"shape":[]')), /tensor "t": has the key "shape" twice/],
  [
    "offsets twice",
    file(tensor('"data_offsets":[0,1],"data_offsets":[0,1]')),
    /tensor "t": has the key "data_offsets" twice/,
  ],
  ["an unknown field", file(tensor('"strides":[]')), /tensor "t": has the unknown key "strides"/],
  [
    "an unknown dtype",
    file(shaped("[4]").replace("U8", "F4"), 4),
    /tensor "t": unknown dtype "F4"/,
  ],
  ["an inherited dtype", file(shaped("[4]").replace("U8", "toString"), 4), /unknown dtype/],
  ["a dtype that is a number", file(tensor('"dtype":8')), /dtype must be a string, is 8/],
  ["a negative size", file(shaped("[-4]"), 4), /shape\[0\] must be an integer from 0 .*, is -4/],
  ["a fraction", file(shaped("[4.0]"), 4), /shape\[0\] must be an integer from 0 .*, is 4\.0/],
  ["an exponent", file(shaped("[4e0]"), 4), /shape\[0\] must be an integer from 0 .*, is 4e0/],
  ["a leading zero", file(shaped("[04]"), 4), /is not JSON: it should have a value at character/],
  ["minus zero", file(shaped("[-0]"), 4), /shape\[0\] must be an integer from 0 .*, is -0/],
  [
    "a size in a string",
    file(shaped('["4"]'), 4),
    /shape\[0\] must be an integer from 0 .*, is "4"/,
  ],
  [
    "a size beyond 2^53",
    file(shaped("[9007199254740992]"), 4),
    /to 9007199254740991, is 9007199254740992/,
  ],
  ["a huge integer", file(shaped(`[${"9".repeat(100_000)}]`), 4), /to 9007199254740991, is 9{60}…/],
  ["a product beyond 2^53", file(shaped("[4294967296,4294967296]"), 4), /too large to count/],
  ["a product of 2^64", file(shaped("[65536,65536,65536,65536,4]"), 4), /too large to count/],
  ["one offset", file(offset("[4]"), 4), /data_offsets must be a list of 2, is a list of 1/],
  ["three offsets", file(offset("[0,4,4]"), 4), /data_offsets must be a list of 2, is longer/],
  [
    "a negative offset",
    file(offset("[-1,3]"), 4),
    /data_offsets\[0\] must be an integer from 0 .*, is -1/,
  ],
  ["offsets in reverse", file(offset("[4,0]"), 4), /tensor "t": data_offsets 4 > 0/],
  ["offsets beyond the data", file(offset("[0,5]"), 4), /end at 5, beyond the data's 4 bytes/],
  ["too few bytes for the shape", file(offset("[0,3]"), 3), /span 3 bytes, .* U8 need 4/],
  ["too many bytes for the shape", file(offset("[0,5]"), 5), /span 5 bytes, .* U8 need 4/],
  ["an overlap", file(`{${entry("a", 0, 4)},${entry("b", 3, 6)}}`, 6), /"b": overlaps/],
  ["the same bytes twice", file(`{${entry("a", 0, 4)},${entry("b", 0, 4)}}`, 4), /"b": overlaps/],
  ["a hole", file(`{${entry("a", 0, 4)},${entry("b", 5, 6)}}`, 6), /"b": follows a hole/],
  ["a hole at the start", file(`{${entry("a", 1, 4)}}`, 4), /"a": follows a hole/],
  [
    "an empty tensor inside another",
    file(`{${entry("a", 0, 4)},${entry("b", 2, 2)}}`, 4),
    /overlaps/,
  ],
  [
    "bytes after the last tensor",
    file(`{${entry("a", 0, 4)}}`, 5),
    /5 bytes, tensors cover only 4/,
  ],
  ["data without tensors", file("{}", 1), /1 bytes, tensors cover only 0/],
];

Deno.test("a file that lies is refused, saying where", async (t) => {
  for (const [what, bytes, message] of REFUSALS) {
    await t.step(what, () => {
      const text = refusal(bytes);
      assertMatch(text, message);
      assertMatch(text, /^x\.safetensors: /);
      assert(text.length < 300, "the message is not longer for a longer file");
    });
  }
});

/** The beginning of a zip whose first file has this name. */
function zip(name: string): number[] {
  const head = [0x50, 0x4b, 3, 4, 0, 0, 8, 8, ...new Array(18).fill(0), name.length, 0, 0, 0];
  return [...head, ...new TextEncoder().encode(name), ...new Array(64).fill(0)];
}
const latin = (text: string) => [...text].map((letter) => letter.charCodeAt(0));

/** How files of other formats begin, and what is said of them. */
const FOREIGN: Record<string, [bytes: number[], message: string]> = {
  "net.pt": [
    zip("archive/data.pkl"),
    "this is a PyTorch pickle (a zip); in Python: `safetensors.torch.save_file(state_dict, " +
    '"model.safetensors")`, with `state_dict = torch.load(FILE, map_location="cpu")`; if that is a ' +
    'checkpoint, take its entry `["state_dict"]`, `["model"]` or the like; if it is a whole module, ' +
    'take `torch.load(FILE, map_location="cpu", weights_only=False).state_dict()`, which runs code ' +
    "of the file",
  ],
  "old.pt": [
    [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e],
    "this is a pickle, as old versions of PyTorch wrote them; in Python: `safetensors.torch.save_file(",
  ],
  "pickle": [[0x80, 4, 0x95, 0, 1, 0, 0, 0, 0, 0, 0, 0], "this is a pickle"],
  "net.npz": [
    zip("arr_0.npy"),
    "this is NumPy's npz (a zip); in Python: `safetensors.numpy.save_file(",
  ],
  "net.zip": [zip("README.md"), "this is a zip; unpack it"],
  "a.npy": [latin("\x93NUMPY\x01\0v\0{'descr': '<f4'"), "this is NumPy's npy"],
  "net.h5": [
    latin("\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0"),
    "this is HDF5, as Keras and h5py write it",
  ],
  "net.onnx": [latin("\x08\x08\x12\x08resnette"), "this looks like ONNX"],
  "pytorch.onnx": [latin("\x08\x07\x12\x07pytorch\x1a\x05"), "this looks like ONNX"],
  "net.gguf": [latin("GGUF\x03\0\0\0\x01\0\0\0"), "this is GGUF"],
  "net.jpg": [[0xff, 0xd8, 0xff, 0xe0, 0, 16, 0x4a, 0x46, 0x49, 0x46], "this is an image"],
  "net.gz": [[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], "this is gzip; unpack it"],
  "pointer": [latin("version https://git-lfs.github.com/spec/v1\n"), "`git lfs pull`"],
  "page": [latin("<!DOCTYPE html><html>"), "this is a web page"],
};

Deno.test("a file of another format is called by its name, with what to do", () => {
  for (const [name, [bytes, message]] of Object.entries(FOREIGN)) {
    const error = assertThrows(
      () => parseSafetensors(new Uint8Array(bytes), name),
      SafetensorsError,
      `${name}: ${message.startsWith("this") ? message : "this is a"}`,
    );
    assert(error.message.includes(message), error.message);
  }
  // A header as long as gzip begins.
  const header = `{${entry("a", 0, 4)}}`.padEnd(0x8b1f, " ");
  assertEquals(parseSafetensors(file(header, 4)).tensors.size, 1);
});

Deno.test("a message stays short where the name is a megabyte", () => {
  assert(refusal(file(`{"${"n".repeat(1_000_000)}":1}`)).length < 200);
});

Deno.test("a header of many megabytes takes time in proportion to its size", () => {
  const many = Array.from({ length: 100_000 }, (_, i) => entry(`t${i}`, i, i + 1));
  const start = performance.now();
  assertEquals(parseSafetensors(file(`{${many}}`, many.length)).tensors.size, many.length);
  refusal(file('{"' + "\\\\".repeat(2_000_000)));
  refusal(file("{" + " ".repeat(4_000_000)));
  assert(performance.now() - start < 5000);
});

Deno.test("what no file can hold is not written", () => {
  const write = (...tensors: [string, SafetensorsInput][]) => () => serializeSafetensors(tensors);
  const refuse = (call: () => unknown, message: string): SafetensorsError =>
    assertThrows(call, SafetensorsError, message);
  refuse(write(["a", f32([2], 1)]), 'tensor "a": data has 4 bytes, shape [2] of F32 needs 8');
  refuse(write(["a", f32([-1], 1)]), 'tensor "a": shape has -1');
  refuse(write(["a", f32([0.25], 1)]), 'tensor "a": shape has 0.25');
  refuse(write(["a", f32([2 ** 52], 1)]), 'tensor "a": shape is too large');
  refuse(write(["a", f32([], 1)], ["a", f32([], 1)]), 'duplicate name "a"');
  refuse(write(["__metadata__", f32([], 1)]), "reserved");
  refuse(write(["__proto__", f32([], 1)]), "reserved");
  refuse(() => serializeSafetensors([], JSON.parse('{"__proto__":"a"}')), 'no key "__proto__"');
  refuse(write(["\ud800", f32([], 1)]), "lone surrogate");
  const odd = { ...f32([], 1), dtype: "F4" as "F32" };
  refuse(write(["a", odd]), 'unknown dtype "F4"');
  refuse(() => serializeSafetensors([], { a: 1 as unknown as string }), 'metadata "a"');
  refuse(() => serializeSafetensors([], { a: "\udc00" }), 'metadata "a"');
});
