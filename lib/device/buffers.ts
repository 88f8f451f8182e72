/**
 * Memory on the device: uploading constants, storing variables, sharing a workspace, reading back.
 *
 * In Deno, a `writeBuffer` of nothing or past the end ends the process with an uncaught error. So
 * every write of the library goes through `write`.
 *
 * @module
 */

import {
  checkInstance,
  checkIterable,
  checkNumber,
  checkString,
  toFloats,
} from "../check/arguments.ts";
import { Device, type Made } from "./device.ts";
import { BufferUsage, MapMode } from "./flags.ts";
import {
  checkVariables,
  constantData,
  type DType,
  initialValues,
  inverseOrder,
  reorder,
  type Tensor,
  type TensorData,
  Variable,
  type VariableStorage,
} from "../graph/tensor.ts";

/** Bytes of `size` elements, rounded up to whole words. */
export function bytesOf(dtype: DType, size: number): number {
  return dtype === "u8" ? Math.ceil(size / 4) * 4 : size * 4;
}

/**
 * A storage buffer that can be copied from and to; zeros. `more` is what to do when the device keeps
 * it, or does not.
 *
 * @throws {ArgumentError} if `device` is no device, or has no buffers of that size.
 */
export function createBuffer(
  device: Device,
  bytes: number,
  label: string,
  more: Omit<Made, "memory"> = {},
): GPUBuffer {
  checkInstance("createBuffer", "device", device, Device);
  const max = device.gpu.limits.maxBufferSize;
  checkNumber("createBuffer", "bytes", bytes, { integer: true, min: 0, max });
  checkString("createBuffer", "label", label);
  const { STORAGE, COPY_SRC, COPY_DST } = BufferUsage;
  return device.createBuffer({ size: bytes, usage: STORAGE | COPY_SRC | COPY_DST, label }, more);
}

/** How often the values in a buffer changed; NaN where nobody can tell. */
const changes = new WeakMap<GPUBuffer, number>();

/** How often the values in a buffer changed; NaN, which equals nothing, if that is unknown. */
export function changesOf(buffer: GPUBuffer): number {
  return changes.get(buffer) ?? 0;
}

/** Notes that a kernel changes values in a buffer now; or, unless `submitted`, at any time. */
export function noteChange(buffer: GPUBuffer, submitted = true): void {
  changes.set(buffer, submitted ? changesOf(buffer) + 1 : NaN);
}

/** Writes `data` at byte `offset` of `buffer`, and notes that; a last word of bytes is padded with zeros. */
export function write(device: Device, buffer: GPUBuffer, offset: number, data: TensorData): void {
  if (data.byteLength === 0) return;
  if (offset % 4 !== 0 || offset + Math.ceil(data.byteLength / 4) * 4 > buffer.size) {
    throw new RangeError(
      `write: ${data.byteLength} bytes at ${offset} do not fit ${buffer.label}, ${buffer.size} bytes`,
    );
  }
  const whole = data.byteLength - data.byteLength % 4;
  if (whole > 0) device.gpu.queue.writeBuffer(buffer, offset, data.buffer, data.byteOffset, whole);
  if (whole < data.byteLength) {
    const last = new Uint8Array(4);
    last.set(new Uint8Array(data.buffer, data.byteOffset + whole, data.byteLength - whole));
    device.gpu.queue.writeBuffer(buffer, offset + whole, last);
  }
  noteChange(buffer);
}

/** A constant's buffer and how many plans hold it. */
interface Constant {
  readonly buffer: GPUBuffer;
  holders: number;
}

const constants = new WeakMap<Device, Map<Tensor, Constant>>();

/** The buffer of a constant tensor, for one plan more: the first one uploads it. */
export function holdConstant(device: Device, node: Tensor): GPUBuffer {
  const uploaded = constants.get(device) ?? new Map<Tensor, Constant>();
  constants.set(device, uploaded);
  let constant = uploaded.get(node);
  if (!constant) {
    const buffer = createBuffer(device, bytesOf(node.dtype, node.size), `${node}`);
    write(device, buffer, 0, constantData(node)!);
    uploaded.set(node, constant = { buffer, holders: 0 });
  }
  constant.holders++;
  device.made({ refused: () => releaseConstant(device, node) });
  return constant.buffer;
}

/** Releases a plan's hold on a constant; the last release frees it. */
export function releaseConstant(device: Device, node: Tensor): void {
  const uploaded = constants.get(device), constant = uploaded?.get(node);
  if (!constant || --constant.holders > 0) return;
  constant.buffer.destroy();
  uploaded!.delete(node);
}

const owners = new WeakMap<GPUBuffer, Device>();

/** The device that has a variable's values. */
function ownerOf(variable: Variable): Device {
  const device = owners.get(variable.storage!.buffer);
  if (!device) throw new Error(`${variable} was freed; make a new one`);
  device.check();
  return device;
}

/** Throws if another device has a variable's values. */
function checkOwner(device: Device, variable: Variable): void {
  if (ownerOf(variable) !== device) {
    throw new Error(`${variable} lives on another device; make a new one from its values`);
  }
}

/** Where a variable's values are on `device`; they move there if they are not yet. */
export function variableStorage(device: Device, variable: Variable): VariableStorage {
  const whole = variable.home?.whole ?? variable;
  const isOwn = (part: Variable) => part.home!.whole === whole;
  // Parts that no other optimizer has taken are still where they were.
  if (!variable.parts.every(isOwn)) {
    throw new Error(
      "these parameters were taken over by another optimizer; use that one's updates",
    );
  }
  if (!whole.storage) {
    const parts = whole.parts.filter(isOwn), moved = [whole, ...parts];
    parts.forEach((part) => part.storage && checkOwner(device, part));
    const before = moved.map(({ initial, storage }) => ({ initial, storage }));
    let written = -1;
    const buffer = createBuffer(device, whole.size * 4, `${whole}`, {
      kept: () =>
        before.forEach(({ storage }, i) =>
          storage?.exclusive && moved[i]!.storage !== storage && storage.buffer.destroy()
        ),
      refused: () => moved.forEach((x, i) => Object.assign(x, before[i])),
      used: () => written >= 0 && changesOf(buffer) !== written,
    });
    owners.set(buffer, device);
    if (whole.initial) write(device, buffer, 0, initialValues(whole));
    parts.forEach((part) => adopt(device, part, buffer));
    whole.initial = undefined;
    whole.storage = { buffer, offset: 0, exclusive: true };
    written = changesOf(buffer);
  }
  checkOwner(device, variable);
  return variable.storage!;
}

/** Moves a part's values, wherever they are, to its place in the packed variable's buffer. */
function adopt(device: Device, part: Variable, buffer: GPUBuffer): void {
  const offset = part.home!.offset * 4;
  const { storage, initial } = part;
  if (storage) {
    const encoder = device.gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(storage.buffer, storage.offset, buffer, offset, part.size * 4);
    device.gpu.queue.submit([encoder.finish()]);
  } else if (initial) {
    write(device, buffer, offset, initialValues(part));
  }
  part.initial = undefined;
  part.storage = { buffer, offset, exclusive: false };
}

/**
 * Sets a variable's values, row-major, on the device if they are there already; they are copied.
 *
 * @throws {ArgumentError} if `variable` is no variable, or `values` has other values than numbers.
 * @throws {RangeError} if there are more or fewer values than the variable has elements.
 * @throws {DeviceError} if the device that has the variable was lost.
 * @throws {Error} if the variable was freed.
 *
 * @example
 * ```ts
 * import { readVariables, setVariable, Variable } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const variable = new Variable([2]);
 * setVariable(variable, [1, 2]);
 * assertEquals(await readVariables([variable]), [new Float32Array([1, 2])]);
 * ```
 */
export function setVariable(
  variable: Variable,
  values: Float32Array<ArrayBuffer> | readonly number[],
): void {
  checkInstance("setVariable", "variable", variable, Variable);
  if (!(values instanceof Float32Array)) values = toFloats("setVariable", "values", values);
  if (values.length !== variable.size) {
    throw new RangeError(`setVariable: ${values.length} values do not fill ${variable}`);
  }
  const { storage, stored, shape } = variable;
  if (stored) setVariable(stored.variable, reorder(values, shape, stored.order));
  else if (!storage) variable.initial = values.slice();
  else write(ownerOf(variable), storage.buffer, storage.offset, values);
}

/**
 * Frees the memory of variables on a device. If one is a part of a packed variable, all of that is
 * freed. The values are lost, and plans that use the variables cannot run any more.
 *
 * @throws {ArgumentError} if one of them is no variable; then nothing is freed.
 *
 * @example
 * ```ts
 * import { evaluate, freeVariables, Variable } from "@resnette/resnette";
 * import { assertRejects } from "@std/assert";
 *
 * const variable = new Variable([2]);
 * await evaluate(variable);
 * freeVariables([variable]);
 * await assertRejects(() => evaluate(variable), Error, "was freed");
 * ```
 */
export function freeVariables(variables: Iterable<Variable>): void {
  checkIterable("freeVariables", "variables", variables, "a list of variables");
  const all = [...variables];
  checkVariables("freeVariables", "variables", all);
  for (const variable of all) {
    const own = variable.stored?.variable ?? variable;
    for (const { storage } of [own, own.home?.whole ?? own]) {
      if (!storage) continue;
      storage.buffer.destroy();
      owners.delete(storage.buffer);
    }
  }
}

/**
 * Values of variables, in order, each row-major; one wait for all that are on the device.
 *
 * @throws {ArgumentError} if one of them is no variable.
 * @throws {DeviceError} if the device that has them was lost.
 * @throws {Error} if one of them was freed.
 *
 * @example
 * ```ts
 * import { Linear, readVariables } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const [weight, bias] = await readVariables(new Linear(3, 2).parameters());
 * assertEquals([weight!.length, bias!.length], [6, 2]);
 * ```
 */
export async function readVariables(
  variables: readonly Variable[],
): Promise<Float32Array<ArrayBuffer>[]> {
  checkVariables("readVariables", "variables", variables);
  const sources = variables.map((v) => v.stored?.variable ?? v);
  const stored = sources.filter((v) => v.storage);
  const read = new Map<Variable, Float32Array<ArrayBuffer>>();
  // A device may take others over while this waits.
  for (const v of sources) if (!v.storage) read.set(v, initialValues(v).slice());
  for (const [device, own] of Map.groupBy(stored, ownerOf)) {
    const ranges = own.map((v) => ({ ...v.storage!, bytes: v.size * 4 }));
    const found = await readBuffers(device, ranges);
    found.forEach((values, i) => read.set(own[i]!, new Float32Array(values)));
  }
  return sources.map((v, i) => {
    const order = variables[i]!.stored?.order, values = read.get(v)!;
    return order ? reorder(values, v.shape, inverseOrder(order)) : values;
  });
}

/** A range of a buffer. */
export interface BufferRange {
  /** The buffer. */
  readonly buffer: GPUBuffer;
  /** Offset of the first element, in bytes. */
  readonly offset: number;
  /** Length in bytes. */
  readonly bytes: number;
}

/** Contents of buffer ranges, in order: one copy, one wait. */
export async function readBuffers(
  device: Device,
  ranges: readonly BufferRange[],
): Promise<ArrayBuffer[]> {
  // Each range has a place in one of as few staging buffers as hold them all.
  const sizes: number[] = [];
  const places = ranges.map(({ bytes }) => {
    if (sizes.length === 0 || sizes.at(-1)! + bytes > device.gpu.limits.maxBufferSize) {
      sizes.push(0);
    }
    const stage = sizes.length - 1, start = sizes[stage]!;
    sizes[stage] = start + bytes;
    return { stage, start };
  });
  const usage = BufferUsage.COPY_DST | BufferUsage.MAP_READ;
  const staging = await device.checked("read back", () => {
    const staging = sizes.map((size) =>
      device.createBuffer({ size, usage, label: "what is read" })
    );
    const encoder = device.gpu.createCommandEncoder();
    ranges.forEach(({ buffer, offset, bytes }, i) =>
      encoder.copyBufferToBuffer(
        buffer,
        offset,
        staging[places[i]!.stage]!,
        places[i]!.start,
        bytes,
      )
    );
    device.gpu.queue.submit([encoder.finish()]);
    return staging;
  });
  try {
    const wait = () => Promise.all(staging.map((buffer) => buffer.mapAsync(MapMode.READ)));
    await device.settled("read back", wait);
    const mapped = staging.map((buffer) => buffer.getMappedRange());
    return ranges.map(({ bytes }, i) => {
      const { stage, start } = places[i]!;
      return mapped[stage]!.slice(start, start + bytes);
    });
  } finally {
    staging.forEach((buffer) => buffer.destroy());
  }
}

/**
 * Makes a workspace hold buffers of at least these sizes. Plans run one after the other and keep nothing
 * in it between runs, so all of them use the same, the device's; but for those that run in parts.
 */
export function growWorkspace(
  device: Device,
  sizes: readonly number[],
  workspace: Device["workspace"] = device.workspace,
): void {
  sizes.forEach((size, i) => {
    const old = workspace[i];
    if (old && old.size >= size) return;
    old?.buffer.destroy();
    const refused = () => workspace[i]?.buffer === buffer && delete workspace[i];
    const buffer = createBuffer(device, size, `workspace ${i}`, { refused });
    workspace[i] = { buffer, size };
  });
}
