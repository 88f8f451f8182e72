/**
 * State dicts as files of safetensors, which PyTorch's `load_state_dict` takes as they are.
 *
 * @module
 */

import {
  checkInstance,
  checkNumbers,
  checkObject,
  checkString,
  refuse,
} from "../check/arguments.ts";
import { brief, quote } from "../check/text.ts";
import { checkList, formatShape, type Shape, sizeOf } from "../graph/shape.ts";
import type { StateDict } from "../nn/module.ts";
import {
  asFloat32Array,
  parseSafetensors,
  SafetensorsError,
  type SafetensorsInput,
  type SafetensorsTensor,
  serializeSafetensors,
} from "./safetensors.ts";

/** PyTorch counts batches in 64-bit integers, this library in f32: exact up to here. */
const MAX_COUNT = 2 ** 24;

/** What others write counts as. */
const INTEGERS = {
  U8: Uint8Array,
  I8: Int8Array,
  U16: Uint16Array,
  I16: Int16Array,
  U32: Uint32Array,
  I32: Int32Array,
  U64: BigUint64Array,
  I64: BigInt64Array,
};

const isCounter = (key: string) => /(^|\.)num_batches_tracked$/.test(key);

/** Throws unless argument `name` of `op` is a state dict. */
export function checkState(op: string, name: string, state: unknown): asserts state is StateDict {
  checkInstance(op, name, state, Map);
  for (const [key, value] of state) {
    checkString(op, `a key of ${name}`, key);
    const at = `${name} ${quote(key)}`;
    checkObject(op, at, value);
    const { shape, data } = value as { shape?: Shape; data?: unknown };
    checkList(op, `${at}.shape`, shape);
    checkInstance(op, `${at}.data`, data, Float32Array);
    if (sizeOf(shape as Shape) !== data.length) {
      refuse(op, `${at}.data`, `as long as ${formatShape(shape as Shape)} says`, data);
    }
    if (isCounter(key)) checkNumbers(op, `${at}.data`, data, { integer: true, min: 0 });
  }
}

/**
 * Writes a state dict as a safetensors file. In PyTorch, `load_state_dict(load_file(path))` takes
 * it as it is. Values are F32, but for `num_batches_tracked`, which is I64. A variable that has two
 * names is written under both.
 *
 * @throws {ArgumentError} if it is no state dict, or a `num_batches_tracked` no count.
 *
 * @example
 * ```ts
 * import { BatchNorm2d, decodeStateDict, encodeStateDict } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = encodeStateDict(await new BatchNorm2d(3).stateDict());
 * const names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
 * assertEquals([...decodeStateDict(bytes, "bn.safetensors").keys()], names);
 * ```
 */
export function encodeStateDict(state: StateDict): Uint8Array<ArrayBuffer> {
  checkState("encodeStateDict", "state", state);
  return bytesOfState(state);
}

/** {@link encodeStateDict} of what is one. */
export function bytesOfState(state: StateDict): Uint8Array<ArrayBuffer> {
  return serializeSafetensors(
    [...state].map(([key, { shape, data }]): [string, SafetensorsInput] => [
      key,
      isCounter(key)
        ? { dtype: "I64", shape, data: BigInt64Array.from(data, BigInt) }
        : { dtype: "F32", shape, data },
    ]),
    { format: "pt" },
  );
}

/**
 * Reads the state dict in a safetensors file, ours or PyTorch's, for `Module.loadStateDict`.
 * Tensors may be F32, F16, BF16 or F64 and become f32, as
 * {@linkcode asFloat32Array} says; `num_batches_tracked` may be of any type of numbers. `name` is
 * what error messages call the file.
 *
 * @throws {ArgumentError} if an argument is of another kind.
 * @throws {SafetensorsError} if it is no such file; the message begins with `name` and says which
 * tensor is wrong.
 *
 * @example
 * ```ts
 * import { decodeStateDict, encodeStateDict, Linear } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const state = await new Linear(3, 2).stateDict();
 * assertEquals(decodeStateDict(encodeStateDict(state), "linear.safetensors"), state);
 * ```
 */
export function decodeStateDict(bytes: Uint8Array<ArrayBuffer>, name: string): StateDict {
  checkInstance("decodeStateDict", "bytes", bytes, Uint8Array);
  checkString("decodeStateDict", "name", name);
  const { tensors } = parseSafetensors(bytes, name);
  return new Map(
    [...tensors].map(([key, tensor]) => {
      const where = `${name}: tensor ${quote(key)}`;
      const data = isCounter(key) ? counts(tensor, where) : asFloat32Array(tensor, where);
      return [key, { shape: tensor.shape, data }];
    }),
  );
}

function counts(tensor: SafetensorsTensor, where: string): Float32Array<ArrayBuffer> {
  const { dtype, shape, data } = tensor;
  if (shape.length > 0) {
    throw new SafetensorsError(
      `${where}: shape is [${brief(`${shape}`, 40)}], expected []: a count`,
    );
  }
  const Integers = Object.hasOwn(INTEGERS, dtype) && INTEGERS[dtype as keyof typeof INTEGERS];
  const values: ArrayLike<number | bigint> = Integers
    ? new Integers(data.slice().buffer)
    : asFloat32Array(tensor, where);
  return Float32Array.from(values, (value) => {
    const count = Number(value);
    if (Number.isInteger(count) && count >= 0 && count <= MAX_COUNT) return count;
    throw new SafetensorsError(`${where}: ${value} is not a count from 0 to ${MAX_COUNT}`);
  });
}
