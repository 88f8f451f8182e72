/**
 * Images of another size: each pixel of the result is a weighted sum of a block of pixels, whose
 * weights are a product of one for its row and one for its column. Public functions take
 * `[N, C, H, W]`; the op behind them works on `[N, H, W, C]`, and its gradient is the same op with the
 * weights transposed.
 *
 * @module
 */

import {
  ArgumentError,
  checkBoolean,
  checkChoice,
  checkNumber,
  checkOptions,
  refuse,
} from "../check/arguments.ts";
import { arrays, perThread, vectorOf } from "../kernels/kernel.ts";
import { formatShape, four, type Pair, pair, ShapeError } from "../graph/shape.ts";
import { apply, type Attrs, type Op, type Tensor, tensor } from "../graph/tensor.ts";
import { avgPool2d, checkImages, globalAvgPool2d } from "./pool.ts";
import { permute } from "./view.ts";

/** How the pixels along an axis are weighted. */
interface Axis extends Attrs {
  /** A mean of whole pixels, the nearest pixel, or the two nearest; with or without equal corners. */
  readonly rule: "area" | "nearest" | "linear" | "corners";
  /** Pixels before. */
  readonly from: number;
  /** Pixels after. */
  readonly to: number;
  /** Pixels before for each one after. */
  readonly scale: number;
  /** Whether it goes from the pixels after to those before: the gradient's way. */
  readonly transposed: boolean;
}

/** The first pixel that counts for a result, and the weights from there on. */
type Weights = readonly [first: number, weights: readonly number[]];

/** The nearest of `from` pixels for result `i`. PyTorch finds it in single precision. */
export const nearestPixel = (scale: number, from: number, i: number): number =>
  Math.min(Math.floor(Math.fround(Math.fround(scale) * i)), from - 1);

/** The weights of result `i`, not transposed. */
function weightsOf({ rule, from, to, scale }: Axis, i: number): Weights {
  if (rule === "area") {
    const first = Math.floor(i * from / to), count = Math.ceil((i + 1) * from / to) - first;
    return [first, new Array<number>(count).fill(1 / count)];
  }
  if (rule === "nearest") return [nearestPixel(scale, from, i), [1]];
  const at = rule === "corners" ? scale * i : Math.max(0, scale * (i + 0.5) - 0.5);
  const first = Math.min(Math.floor(at), from - 1), rest = at - first;
  return [first, first === from - 1 || rest === 0 ? [1] : [1 - rest, rest]];
}

/** The weights of each result. */
function tableOf(axis: Axis): Weights[] {
  const table = Array.from({ length: axis.to }, (_, i) => weightsOf(axis, i));
  if (!axis.transposed) return table;
  // The results that a pixel counts for are neighbours.
  const rows = Array.from({ length: axis.from }, (): [number, number[]] => [0, []]);
  table.forEach(([first, weights], i) =>
    weights.forEach((weight, k) => {
      const row = rows[first + k]!;
      if (row[1].length === 0) row[0] = i;
      row[1].push(weight);
    })
  );
  return rows;
}

/** `[to, 2 + most]`: for each result the first pixel, how many count, and their weights. */
function packed(axis: Axis): Tensor {
  const table = tableOf(axis);
  const most = table.reduce((length, [, weights]) => Math.max(length, weights.length), 0);
  const data = new Float32Array(table.length * (2 + most));
  table.forEach(([first, weights], i) =>
    data.set([first, weights.length, ...weights], i * (2 + most))
  );
  return tensor(data, [table.length, 2 + most]);
}

interface ResampleAttrs extends Attrs {
  readonly rows: Axis;
  readonly columns: Axis;
}

const sizeAfter = ({ from, to, transposed }: Axis) => transposed ? from : to;

const resampled = (x: Tensor, { rows, columns }: ResampleAttrs) => {
  const [n, , , c] = four(x);
  return [n, sizeAfter(rows), sizeAfter(columns), c];
};

const Resample: Op<ResampleAttrs> = {
  name: "resample2d",
  shape: ([x], attrs) => resampled(x!, attrs),
  lower: (node) => {
    const attrs = node.attrs as ResampleAttrs, [x] = node.inputs as [Tensor];
    return apply(WeightedBlocks, [x, packed(attrs.rows), packed(attrs.columns)], attrs);
  },
  vjp: (g, _, _x, { rows, columns }) => {
    const back = (axis: Axis) => ({ ...axis, transposed: !axis.transposed });
    return [apply(Resample, [g], { rows: back(rows), columns: back(columns) })];
  },
};

/** {@link Resample} by the weights that {@link packed} makes, which are its other inputs. */
const WeightedBlocks: Op<ResampleAttrs> = {
  name: "resample2d",
  shape: ([x], attrs) => resampled(x!, attrs),
  kernels: (node, target) => {
    const [x, rows, columns] = node.inputs as [Tensor, Tensor, Tensor];
    const [, h, w, c] = four(x), [, p, q] = four(node);
    const [type, width] = vectorOf(c);
    return [perThread(
      arrays({ x: type, rows: "f32", columns: "f32", y: type }),
      node.size / width,
      target,
      `  let c = i % z.channels; let column = i / z.channels % z.q * z.column_words;
  let row = i / (z.channels * z.q) % z.p * z.row_words; let n = i / (z.channels * z.q * z.p);
  var at = ((n * z.h + u32(rows[row])) * z.w + u32(columns[column])) * z.channels + c;
  let taps_down = u32(rows[row + 1u]); let taps_across = u32(columns[column + 1u]);
  var sum = ${type}(0.0);
  for (var r = 0u; r < taps_down; r++) {
    var line = ${type}(0.0);
    for (var s = 0u; s < taps_across; s++) {
      line += columns[column + 2u + s] * x[at + s * z.channels];
    }
    sum += rows[row + 2u + r] * line;
    at += z.w * z.channels;
  }
  y[i] = sum;`,
      {
        sizes: {
          ...{ h, w, p, q, channels: c / width },
          ...{ row_words: rows.shape[1]!, column_words: columns.shape[1]! },
        },
      },
    )];
  },
};

/** `x` `[N, C, H, W]` with its pixels along both axes weighted by a rule. */
function resample(
  x: Tensor,
  size: readonly [number, number],
  rule: Axis["rule"],
  scaleOf: (from: number, to: number, axis: 0 | 1) => number,
): Tensor {
  const axis = (i: 0 | 1): Axis => {
    const from = x.shape[2 + i]!, to = size[i];
    return { rule, from, to, scale: scaleOf(from, to, i), transposed: false };
  };
  const attrs = { rows: axis(0), columns: axis(1) };
  return permute(apply(Resample, [permute(x, [0, 2, 3, 1])], attrs), [0, 3, 1, 2]);
}

/**
 * Size of the result of {@link adaptiveAvgPool2d}: one for both axes or two; null keeps the
 * input's.
 */
export type OutputSize = number | null | readonly [height: number | null, width: number | null];

/** Throws unless `size` is an {@link OutputSize}; the sizes that it means for images of `pixels`. */
export function checkOutputSize(
  name: string,
  size: OutputSize,
  pixels: readonly [number, number] = [1, 1],
): [number, number] {
  const given = Array.isArray(size) ? [...size] : [size, size];
  if (given.includes(undefined)) refuse(name, "outputSize", "a size or null, or two of them", size);
  return pair(name, "outputSize", given.map((n, i) => n === null ? pixels[i] : n) as never, 1);
}

/**
 * Means of blocks that cover the image evenly, `[N, C, H, W]` → `[N, C, ...outputSize]`, whatever its
 * size: block `i` of `P` has the pixels from `⌊i H / P⌋` to before `⌈(i + 1) H / P⌉`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html | PyTorch}).
 *
 * @throws {ArgumentError} if `x` is no tensor.
 * @throws {ShapeError} if `x` has other than 4 dimensions, or a size is no positive integer.
 *
 * @example
 * ```ts
 * import { adaptiveAvgPool2d, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = adaptiveAvgPool2d(tensor([[[[1, 2, 6], [3, 4, 8]]]]), [1, 2]);
 * assertEquals(await evaluate(y), new Float32Array([2.5, 5]));
 * ```
 */
export function adaptiveAvgPool2d(x: Tensor, outputSize: OutputSize): Tensor {
  checkImages("adaptiveAvgPool2d", x);
  const [, , h, w] = four(x);
  const size = checkOutputSize("adaptiveAvgPool2d", outputSize, [h, w]), [p, q] = size;
  if (p === h && q === w) return x;
  if (p === 1 && q === 1) return globalAvgPool2d(x);
  if (h % p === 0 && w % q === 0) return avgPool2d(x, { kernelSize: [h / p, w / q] });
  return resample(x, size, "area", (from, to) => from / to);
}

/** Settings of {@link upsample}, either with `size` or with `scaleFactor`. */
export interface UpsampleOptions {
  /** Height and width of the result. */
  readonly size?: Pair;
  /** What height and width are multiplied by, and rounded down; numbers from 2⁻²⁴ to 2²⁴. */
  readonly scaleFactor?: Pair;
  /** `"nearest"`, the default, takes the nearest pixel; `"bilinear"` the four nearest, weighted. */
  readonly mode?: "nearest" | "bilinear";
  /**
   * Whether the centres of the corner pixels stay where they are, and not the image's corners; only
   * for `"bilinear"`. False by default.
   */
  readonly alignCorners?: boolean;
}

/** Throws unless the options of `name` are those of {@link upsample}. */
export function checkUpsample(name: string, options: UpsampleOptions): void {
  checkOptions(name, options, ["size", "scaleFactor", "mode", "alignCorners"]);
  const { size, scaleFactor, mode = "nearest", alignCorners = false } = options;
  checkChoice(name, "mode", mode, ["nearest", "bilinear"]);
  checkBoolean(name, "alignCorners", alignCorners);
  if (mode === "nearest" && alignCorners) {
    throw new ArgumentError(`${name}: alignCorners is for mode "bilinear", and this is "nearest"`);
  }
  if ((size === undefined) === (scaleFactor === undefined)) {
    throw new ArgumentError(`${name}: give either size or scaleFactor`);
  }
  if (size !== undefined) pair(name, "size", size, 1);
  else factorsOf(name, scaleFactor!);
}

/** A scale factor for each axis. */
function factorsOf(name: string, factor: Pair): readonly [number, number] {
  const both: unknown[] = Array.isArray(factor) ? [...factor] : [factor, factor];
  if (both.length !== 2) refuse(name, "scaleFactor", "a number or two of them", factor);
  both.forEach((n) => checkNumber(name, "scaleFactor", n, { min: 2 ** -24, max: 2 ** 24 }));
  return both as [number, number];
}

/**
 * Images made larger, or smaller without antialiasing, `[N, C, H, W]` → `[N, C, P, Q]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html | PyTorch's interpolate}).
 *
 * @throws {ArgumentError} if `x` is no tensor, or for options that cannot be.
 * @throws {ShapeError} if `x` has other than 4 dimensions, or a size is no positive integer.
 *
 * @example
 * ```ts
 * import { evaluate, tensor, upsample } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([[[[0, 8]]]]);
 * const y = upsample(x, { scaleFactor: [1, 2] });
 * assertEquals(await evaluate(y), new Float32Array([0, 0, 8, 8]));
 * const z = upsample(x, { size: [1, 4], mode: "bilinear" });
 * assertEquals(await evaluate(z), new Float32Array([0, 2, 6, 8]));
 * ```
 */
export function upsample(x: Tensor, options: UpsampleOptions): Tensor {
  checkUpsample("upsample", options);
  checkImages("upsample", x);
  const { size, scaleFactor, mode = "nearest", alignCorners = false } = options;
  const rule = mode === "nearest" ? mode : alignCorners ? "corners" : "linear";
  const factors = size === undefined ? factorsOf("upsample", scaleFactor!) : undefined;
  const scaled = factors?.map((factor, i) => Math.floor(x.shape[2 + i]! * factor));
  if (scaled?.includes(0)) {
    throw new ShapeError(
      `upsample: nothing is left of ${formatShape(x.shape)} with scaleFactor ${factors}`,
    );
  }
  return resample(
    x,
    pair("upsample", "size", scaled as never ?? size, 1),
    rule,
    (from, to, axis) => {
      if (rule === "corners") return to > 1 ? (from - 1) / (to - 1) : 0;
      return factors ? 1 / factors[axis] : from / to;
    },
  );
}
