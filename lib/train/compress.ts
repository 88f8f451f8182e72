/**
 * Sums over ranks in half as many bytes: values travel as 16-bit floats, and are summed as 32-bit
 * ones.
 *
 * Each rank sums one part of the values, a chunk. It gets that chunk from all ranks, sums it in
 * their order, and sends the sums to all. In a chunk, values are multiplied by the power of two
 * that brings the largest below 2¹⁴, because gradients are small, and 16-bit floats below 6e-5 lose
 * digits. So a value is off by 2⁻¹¹ of itself at most, or by 2⁻³⁸ of the chunk's largest; and so is
 * the sum.
 *
 * @module
 */

import type { Collective } from "./collective.ts";

/** Bytes before a chunk's values: the exponent of their factor. */
const HEAD = 4;
/** Values are made smaller than two to this power, which is a fourth of the largest 16-bit float. */
const TOP = 14;

/** Arrays of one length and number of ranks, used again and again. */
export class HalfSums {
  /** Values of a chunk; an even number, so that chunks begin at whole words. */
  readonly #chunk: number;
  readonly #send: Uint8Array<ArrayBuffer>;
  readonly #receive: Uint8Array<ArrayBuffer>;
  /** The chunk of this rank. */
  readonly #sums: Float32Array<ArrayBuffer>;
  readonly #own: Uint8Array<ArrayBuffer>;

  constructor(readonly collective: Collective, readonly length: number) {
    const { size } = collective;
    this.#chunk = 2 * Math.ceil(length / size / 2);
    const bytes = HEAD + 2 * this.#chunk;
    this.#send = new Uint8Array(size * bytes);
    this.#receive = new Uint8Array(size * bytes);
    this.#sums = new Float32Array(this.#chunk);
    this.#own = new Uint8Array(bytes);
  }

  /** Sums values over the ranks, in place; all get the same bits. */
  async allReduce(values: Float32Array<ArrayBuffer>): Promise<void> {
    const { collective, collective: { size } } = this, chunk = this.#chunk, sums = this.#sums;
    const bytes = HEAD + 2 * chunk;
    const part = (rank: number) => values.subarray(rank * chunk, (rank + 1) * chunk);
    for (let rank = 0; rank < size; rank++) encode(part(rank), this.#send, rank * bytes);
    await collective.allToAll(this.#send, this.#receive);
    sums.fill(0);
    // In the order of the ranks.
    for (let rank = 0; rank < size; rank++) decode(this.#receive, rank * bytes, sums, true);
    encode(sums, this.#own, 0);
    await collective.allGather(this.#own, this.#receive);
    for (let rank = 0; rank < size; rank++) decode(this.#receive, rank * bytes, part(rank), false);
  }
}

/** Writes a chunk: the exponent of the factor, then the values times that. */
function encode(
  values: Float32Array<ArrayBuffer>,
  bytes: Uint8Array<ArrayBuffer>,
  at: number,
): void {
  const { buffer, byteOffset, length } = values;
  const bits = new Uint32Array(buffer, byteOffset, length);
  // Absolute values are in the order of their bits. (An iterator would take ten times as long.)
  let largest = 0;
  for (let i = 0; i < length; i++) {
    const size = bits[i]! & 0x7fff_ffff;
    if (size > largest) largest = size;
  }
  // Of numbers below 2¹²⁸; what is not finite stays so.
  const exponent = largest > 0 && largest < 0x7f80_0000 ? TOP + 126 - (largest >> 23) : 0;
  new Int32Array(bytes.buffer, at, 1)[0] = exponent;
  const half = new Float16Array(bytes.buffer, at + HEAD, length), factor = 2 ** exponent;
  for (let i = 0; i < length; i++) half[i] = values[i]! * factor;
}

/** Reads a chunk, as far as there are `values` for it, which it becomes or is added to. */
function decode(
  bytes: Uint8Array<ArrayBuffer>,
  at: number,
  values: Float32Array,
  adds: boolean,
): void {
  const factor = 2 ** -new Int32Array(bytes.buffer, at, 1)[0]!;
  const half = new Float16Array(bytes.buffer, at + HEAD, values.length);
  if (adds) {
    for (let i = 0; i < values.length; i++) values[i] = values[i]! + half[i]! * factor;
  } else {
    for (let i = 0; i < values.length; i++) values[i] = half[i]! * factor;
  }
}
