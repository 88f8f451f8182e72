/** Inputs of the op table: shapes, and seeded values that suit the op. */

import type { DType, Random, TensorData } from "@resnette/resnette";

/** How to make one input. */
export interface Input {
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Values for one run, row-major. */
  readonly values: (random: Random, size: number) => TensorData;
}

type Fill = (random: Random, size: number) => Float32Array<ArrayBuffer>;

const float = (shape: readonly number[], values: Fill): Input => ({ shape, dtype: "f32", values });

/** Uniform numbers between `low` and `high`. */
export const between = (low: number, high: number, ...shape: number[]) =>
  float(shape, (random, size) => random.uniform(new Float32Array(size), low, high));

/** Uniform numbers between -1 and 1. */
export const f = (...shape: number[]) => between(-1, 1, ...shape);

/** Numbers of both signs, none between -0.2 and 0.2. */
export const apart = (...shape: number[]) =>
  float(
    shape,
    (random, size) =>
      random.uniform(new Float32Array(size), -1, 1).map((v) => v + Math.sign(v) * 0.2),
  );

/** Numbers that differ by at least 2/size: no ties, however the last digits fall. */
export const distinct = (...shape: number[]) =>
  float(
    shape,
    (random, size) => Float32Array.from(random.permutation(size), (i) => 2 * i / size - 1),
  );

/** Whole numbers from `low` to below `high`. */
export const integers = (low: number, high: number, ...shape: number[]) =>
  float(
    shape,
    (random, size) => Float32Array.from({ length: size }, () => low + random.below(high - low)),
  );

/** Halves from `low` to below `high`. */
export const halves = (low: number, high: number, ...shape: number[]) =>
  float(
    shape,
    (random, size) =>
      Float32Array.from({ length: size }, () => low + random.below(2 * (high - low)) / 2),
  );

/** Powers of e, with exponents between `low` and `high`. */
export const powers = (low: number, high: number, ...shape: number[]) =>
  float(
    shape,
    (random, size) => random.uniform(new Float32Array(size), low, high).map((x) => Math.exp(x)),
  );

/** Zeros and ones. */
export const bits = (...shape: number[]) =>
  float(shape, (random, size) => Float32Array.from({ length: size }, () => random.below(2)));

/** Few different numbers, and NaN and infinities among them. */
export const special = (...shape: number[]) =>
  float(
    shape,
    (random, size) =>
      Float32Array.from({ length: size }, () =>
        [NaN, Infinity, -Infinity, -1, 0, 2][random.below(6)]!),
  );

/** Class numbers. */
export const labels = (classes: number, ...shape: number[]): Input => ({
  shape,
  dtype: "u32",
  values: (random, size) => Uint32Array.from({ length: size }, () => random.below(classes)),
});

/** Numbers of more than a byte. */
export const words = (...shape: number[]): Input => ({
  shape,
  dtype: "u32",
  values: (random, size) => Uint32Array.from({ length: size }, () => random.below(2 ** 24)),
});

/** Cosines and sines of angles, `[count, 2]`. */
export const turns = (count: number) =>
  float([count, 2], (random) => {
    const angles = random.uniform(new Float32Array(count), -3, 3);
    return Float32Array.from([...angles].flatMap((angle) => [Math.cos(angle), Math.sin(angle)]));
  });

/** Any bytes. */
export const bytes = (...shape: number[]): Input => ({
  shape,
  dtype: "u8",
  values: (random, size) => Uint8Array.from({ length: size }, () => random.below(256)),
});

/** Whole numbers 0 to 255, as images come from a data set. */
export const pixels = (...shape: number[]) =>
  float(shape, (random, size) => Float32Array.from({ length: size }, () => random.below(256)));
