/**
 * Memory on the device: uploading leaves, storing variables, sharing a workspace, reading back.
 *
 * WebGPU in Deno dies, uncaught, of a `writeBuffer` of nothing or past the end; so every write of
 * the library goes through here.
 *
 * @module
 */

import type { Device } from "./device.ts";
import {
  type DType,
  initialValues,
  inverseOrder,
  reorder,
  type Tensor,
  type TensorData,
  type Variable,
  type VariableStorage,
} from "./tensor.ts";

/** Bytes of `size` elements, rounded up to whole words. */
export function bytesOf(dtype: DType, size: number): number {
  return dtype === "u8" ? Math.ceil(size / 4) * 4 : size * 4;
}

/** A storage buffer that can be copied from and to; zeros. */
export function createBuffer(device: Device, bytes: number, label: string): GPUBuffer {
  const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
  return device.gpu.createBuffer({ size: bytes, usage: STORAGE | COPY_SRC | COPY_DST, label });
}

/** Writes `data` at byte `offset` of `buffer`; a last word of bytes is padded with zeros. */
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
    last.set(new Uint8Array(data.buffer, data.byteOffset + whole));
    device.gpu.queue.writeBuffer(buffer, offset + whole, last);
  }
}

const constants = new WeakMap<Device, WeakMap<Tensor, GPUBuffer>>();

/** The buffer of a constant tensor, uploaded once per device. */
export function constantBuffer(device: Device, node: Tensor, data: TensorData): GPUBuffer {
  let uploaded = constants.get(device);
  if (!uploaded) constants.set(device, uploaded = new WeakMap());
  let buffer = uploaded.get(node);
  if (!buffer) {
    buffer = createBuffer(device, bytesOf(node.dtype, node.size), `${node}`);
    write(device, buffer, 0, data);
    uploaded.set(node, buffer);
  }
  return buffer;
}

const owners = new WeakMap<GPUBuffer, Device>();

/** Where a variable's values are on `device`; they move there if they are not yet. */
export function variableStorage(device: Device, variable: Variable): VariableStorage {
  if (variable.home) {
    variableStorage(device, variable.home.whole);
  } else if (!variable.storage) {
    const buffer = createBuffer(device, variable.size * 4, `${variable}`);
    owners.set(buffer, device);
    if (variable.initial) write(device, buffer, 0, initialValues(variable));
    variable.parts.forEach((part) => adopt(device, part, buffer));
    variable.initial = undefined;
    variable.storage = { buffer, offset: 0, exclusive: true };
  }
  const { storage } = variable;
  if (!storage || variable.parts.some((part) => part.home!.whole !== variable)) {
    throw new Error(
      "these parameters were taken over by another optimizer; use that one's updates",
    );
  }
  if (owners.get(storage.buffer) !== device) {
    throw new Error(`${variable} lives on another device; make a new one from its values`);
  }
  return storage;
}

/** Moves a part's values, wherever they are, to its place in the packed variable's buffer. */
function adopt(device: Device, part: Variable, buffer: GPUBuffer): void {
  const offset = part.home!.offset * 4;
  if (part.storage) {
    const encoder = device.gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(
      part.storage.buffer,
      part.storage.offset,
      buffer,
      offset,
      part.size * 4,
    );
    device.gpu.queue.submit([encoder.finish()]);
    if (part.storage.exclusive) part.storage.buffer.destroy();
  } else if (part.initial) {
    write(device, buffer, offset, initialValues(part));
  }
  part.initial = undefined;
  part.storage = { buffer, offset, exclusive: false };
}

/** Sets a variable's values, on the device if they are there already. */
export function setVariable(variable: Variable, values: Float32Array<ArrayBuffer>): void {
  if (values.length !== variable.size) {
    throw new RangeError(`setVariable: ${values.length} values do not fill ${variable}`);
  }
  const { storage, stored, shape } = variable;
  if (stored) setVariable(stored, reorder(values, shape, stored.order!));
  else if (!storage) variable.initial = values.slice();
  else write(owners.get(storage.buffer)!, storage.buffer, storage.offset, values);
}

/** Values of variables, in order; one wait for all that are on the device. */
export async function readVariables(
  variables: readonly Variable[],
): Promise<Float32Array<ArrayBuffer>[]> {
  const sources = variables.map((v) => v.stored ?? v);
  const stored = sources.filter((v) => v.storage);
  const device = stored[0] && owners.get(stored[0].storage!.buffer)!;
  const read = device
    ? await readBuffers(device, stored.map((v) => ({ ...v.storage!, bytes: v.size * 4 })))
    : [];
  return sources.map((v) => {
    const values = v.storage
      ? new Float32Array(read[stored.indexOf(v)]!)
      : initialValues(v).slice();
    return v.order ? reorder(values, v.shape, inverseOrder(v.order)) : values;
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
  device.check();
  const starts: number[] = [];
  let total = 0;
  for (const { bytes } of ranges) {
    starts.push(total);
    total += bytes;
  }
  if (total === 0) return [];
  const { COPY_DST, MAP_READ } = GPUBufferUsage;
  return await device.checked("read back", () => {
    const staging = device.gpu.createBuffer({ size: total, usage: COPY_DST | MAP_READ });
    const encoder = device.gpu.createCommandEncoder();
    ranges.forEach(({ buffer, offset, bytes }, i) =>
      encoder.copyBufferToBuffer(buffer, offset, staging, starts[i]!, bytes)
    );
    device.gpu.queue.submit([encoder.finish()]);
    return staging;
  }).then(async (staging) => {
    try {
      await staging.mapAsync(GPUMapMode.READ);
      device.check();
      const mapped = staging.getMappedRange();
      return ranges.map(({ bytes }, i) => mapped.slice(starts[i]!, starts[i]! + bytes));
    } finally {
      staging.destroy();
    }
  });
}

/**
 * Makes the device's shared workspace hold buffers of at least these sizes. Plans run one after the
 * other and keep nothing in it between runs, so all of them use the same.
 */
export function growWorkspace(device: Device, sizes: readonly number[]): void {
  sizes.forEach((size, i) => {
    const old = device.workspace[i];
    if (old && old.size >= size) return;
    old?.buffer.destroy();
    device.workspace[i] = { buffer: createBuffer(device, size, `workspace ${i}`), size };
  });
}
