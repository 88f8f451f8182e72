/** Reading the fixtures that PyTorch made (see `tests/reference/`). */

import { asFloat32Array, parseSafetensors, type Tensor, tensor } from "@resnette/resnette";

/** A tensor of a fixture. */
export interface Entry {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;
  /** The same as a constant of the library. */
  tensor(): Tensor;
}

/** The tensors and the metadata of `tests/fixtures/NAME`. */
export async function readFixture(
  name: string,
): Promise<{ tensors: Map<string, Entry>; metadata: Record<string, string> }> {
  const url = new URL(`fixtures/${name}`, import.meta.url);
  const { tensors, metadata } = parseSafetensors(await Deno.readFile(url), name);
  const entries = new Map<string, Entry>();
  for (const [key, entry] of tensors) {
    const data = entry.dtype === "F32"
      ? asFloat32Array(entry, key)
      : new Uint32Array(entry.data.slice().buffer);
    const { shape } = entry;
    entries.set(key, { shape, data, tensor: () => tensor(data, shape) });
  }
  return { tensors: entries, metadata };
}
