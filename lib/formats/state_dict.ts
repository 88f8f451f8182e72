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
 * A state dict as a safetensors file that PyTorch's `load_state_dict` takes as it is: f32, but
 * `num_batches_tracked`, which is an i64 there. What a net has under two names is written under both.
 *
 * @throws {ArgumentError} where it is no state dict, or a count no integer.
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
 * The state dict in a safetensors file, ours or PyTorch's.
 *
 * @throws {ArgumentError} where an argument is of another kind.
 * @throws {SafetensorsError} when it is none; the message names `name` and the tensor.
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

function counts(
  { dtype, shape, data }: SafetensorsTensor,
  where: string,
): Float32Array<ArrayBuffer> {
  if (dtype !== "I64") {
    throw new SafetensorsError(`${where}: dtype is ${quote(dtype)}, expected "I64"`);
  }
  if (shape.length > 0) {
    throw new SafetensorsError(
      `${where}: shape is [${brief(`${shape}`, 40)}], expected []: a count`,
    );
  }
  return Float32Array.from(new BigInt64Array(data.slice().buffer), (count) => {
    if (count < 0n || count > MAX_COUNT) {
      throw new SafetensorsError(`${where}: ${count} is not a count from 0 to ${MAX_COUNT}`);
    }
    return Number(count);
  });
}
