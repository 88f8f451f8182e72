/**
 * From a data set to a batch: gather records by index, crop, flip and turn images, resize as PIL does.
 *
 * @module
 */

import { resampleTable } from "./resize.ts";
import { checkNumber, refuse } from "../check/arguments.ts";
import { arrays, perThread } from "../kernels/kernel.ts";
import { formatShape, type Pair, pair, sameShape, ShapeError } from "../graph/shape.ts";
import {
  apply,
  checkIndices,
  checkTensor,
  constant,
  constantData,
  type DType,
  type Op,
  type Tensor,
} from "../graph/tensor.ts";

const Gather: Op<{ dtype: "f32" | "u32" }> = {
  name: "gather",
  accepts: "any", // u8 or u32, and u32: {@link gather} checks it
  shape: ([records, indices]) => {
    if (records!.rank < 1) throw new ShapeError("gather: records need a first axis, got a scalar");
    return [...indices!.shape, ...records!.shape.slice(1)];
  },
  dtype: (_, { dtype }): DType => dtype,
  below: ({ inputs: [records] }) => [undefined, records!.shape[0]],
  kernels: (node, target, { dtype: type }) => {
    const [records, indices] = node.inputs as [Tensor, Tensor];
    const each = records.size / records.shape[0]!;
    // A wrong index gives a value that no byte has.
    const none = type === "f32" ? "bitcast<f32>(none)" : "none";
    const bindings = arrays({ records: "u32", indices: "u32", y: type });
    // Bytes lie four to a word, the first in the lowest bits.
    const value = records.dtype === "u8"
      ? "(records[at / 4u] >> (at % 4u * 8u)) & 255u"
      : "records[at]";
    return [perThread(
      bindings,
      indices.size * each,
      target,
      `  let index = indices[i / ${each}u];
  let at = min(index, ${records.shape[0]! - 1}u) * ${each}u + i % ${each}u;
  var none = ${type === "f32" ? "0x7fc00000u" : "0xffffffffu"};
  y[i] = select(${none}, ${type}(${value}), index < ${records.shape[0]}u);`,
    )];
  },
};

/**
 * Records of a data set, u8 or u32 `[count, …]`, by u32 indices `[N]` → `[N, …]`, as f32 by
 * default, or as u32 for labels. No gradient. {@link embedding} does it for f32, and
 * {@link takeAlong} is PyTorch's `gather`.
 *
 * @throws {ArgumentError} for records that are f32, or an index that is not below `count`; a wrong
 * one that is computed on the device gives NaN, or 2³² - 1.
 * @throws {ShapeError} if the records are a scalar, or the indices are not u32.
 *
 * @example
 * ```ts
 * import { evaluate, gather, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const records = tensor(new Uint8Array([10, 11, 20, 21]), [2, 2]);
 * const y = gather(records, tensor(new Uint32Array([1])));
 * assertEquals(await evaluate(y), new Float32Array([20, 21]));
 * ```
 */
export function gather(records: Tensor, indices: Tensor, dtype: "f32" | "u32" = "f32"): Tensor {
  checkTensor("gather", "records", records);
  if (records.dtype === "f32") {
    refuse("gather", "records", "a u8 or u32 tensor (embedding takes f32)", records);
  }
  checkTensor("gather", "indices", indices, "u32");
  if (dtype !== "f32" && dtype !== "u32") refuse("gather", "dtype", "f32 or u32", dtype);
  if (records.rank > 0) checkIndices("gather", "indices", indices, records.shape[0]!);
  return apply(Gather, [records, indices], { dtype });
}

const CropFlip: Op<{ padding: number }> = {
  name: "cropFlip",
  accepts: ["f32", "u32"],
  shape: ([x]) => x!.shape,
  kernels: (node, target, { padding }) => {
    const [c, h, w] = node.shape.slice(1) as [number, number, number];
    return [perThread(
      arrays({ x: "f32", draws: "u32", y: "f32" }),
      node.size,
      target,
      `  let draw = i / ${c * h * w}u * 3u;
  var column = i % ${w}u;
  if (draws[draw + 2u] != 0u) { column = ${w - 1}u - column; }
  // Places left of or above the image wrap around to a large number.
  let row = i / ${w}u % ${h}u + draws[draw] - ${padding}u;
  column += draws[draw + 1u] - ${padding}u;
  y[i] = select(0.0, x[i / ${h * w}u * ${h * w}u + min(row, ${h - 1}u) * ${w}u
    + min(column, ${w - 1}u)], (row < ${h}u) & (column < ${w}u));`,
    )];
  },
};

/**
 * Pads images `[N, C, H, W]` with `padding` zeros on every side, crops each to its old size, and
 * then mirrors some. `draws`, u32 `[N, 3]`, has for each image the top and the left of its crop,
 * from 0 to 2·padding, and 1 if left and right are swapped, else 0. No gradient. It is what
 * torchvision's
 * {@link https://pytorch.org/vision/stable/generated/torchvision.transforms.RandomCrop.html | RandomCrop}`(H, padding)`
 * and `RandomHorizontalFlip` do once they have drawn.
 *
 * @throws {ArgumentError} if `padding` is no integer from 0 to 2³⁰.
 * @throws {ShapeError} if the shapes do not fit together.
 *
 * @example
 * ```ts
 * import { cropFlip, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([1, 2, 3, 4], [1, 1, 2, 2]);
 * const y = cropFlip(x, tensor(new Uint32Array([1, 1, 1]), [1, 3]), 1);
 * assertEquals(await evaluate(y), new Float32Array([2, 1, 4, 3]));
 * ```
 */
export function cropFlip(x: Tensor, draws: Tensor, padding: number): Tensor {
  checkTensor("cropFlip", "x", x, "f32");
  checkTensor("cropFlip", "draws", draws, "u32");
  if (x.rank !== 4 || !sameShape(draws.shape, [x.shape[0]!, 3])) {
    throw new ShapeError(
      `cropFlip: wants [N, C, H, W] and draws [N, 3], got ${formatShape(x.shape)} and ${
        formatShape(draws.shape)
      }`,
    );
  }
  checkNumber("cropFlip", "padding", padding, { integer: true, min: 0, max: 2 ** 30 });
  return apply(CropFlip, [x, draws], { padding });
}

const Rotate: Op = {
  name: "rotate",
  accepts: ["f32", "f32"],
  shape: ([x]) => x!.shape,
  kernels: (node, target) => {
    const [c, h, w] = node.shape.slice(1) as [number, number, number];
    return [perThread(
      arrays({ x: "f32", turns: "f32", y: "f32" }),
      node.size,
      target,
      `  let turn = i / ${c * h * w}u * 2u;
  let cosine = turns[turn]; let sine = turns[turn + 1u];
  // Where the pixel's middle comes from, seen from the middle of the image.
  let right = f32(i % ${w}u) + ${0.5 - w / 2}; let down = f32(i / ${w}u % ${h}u) + ${0.5 - h / 2};
  let from_x = cosine * right - sine * down + ${w / 2};
  let from_y = sine * right + cosine * down + ${h / 2};
  let inside = (from_x >= 0.0) & (from_x < ${w}.0) & (from_y >= 0.0) & (from_y < ${h}.0);
  let left = floor(from_x - 0.5); let top = floor(from_y - 0.5);
  let columns = vec2u(u32(max(left, 0.0)), u32(clamp(left + 1.0, 0.0, ${w - 1}.0)));
  let rows = vec2u(u32(max(top, 0.0)), u32(clamp(top + 1.0, 0.0, ${h - 1}.0)));
  let image = i / ${h * w}u * ${h * w}u;
  let lines = image + min(rows, vec2u(${h - 1}u)) * ${w}u;
  let at = min(columns, vec2u(${w - 1}u));
  let across = from_x - 0.5 - left;
  let upper = x[lines.x + at.x] + (x[lines.x + at.y] - x[lines.x + at.x]) * across;
  let lower = x[lines.y + at.x] + (x[lines.y + at.y] - x[lines.y + at.x]) * across;
  y[i] = select(0.0, floor(upper + (lower - upper) * (from_y - 0.5 - top)), inside);`,
    )];
  },
};

/**
 * Rotates images `[N, C, H, W]` of values 0 to 255 about their centres, interpolated bilinearly and
 * rounded down, with zeros where nothing was. `turns`, f32 `[N, 2]`, has the cosine and the sine of
 * each image's angle, counter-clockwise. No gradient. It is what torchvision's
 * {@link https://pytorch.org/vision/stable/generated/torchvision.transforms.functional.rotate.html | rotate}
 * does by PIL with `InterpolationMode.BILINEAR`, but for roundings: here and there a pixel differs
 * by 1.
 *
 * @throws {ShapeError} if the shapes do not fit together.
 *
 * @example A quarter turn
 * ```ts
 * import { evaluate, rotate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = rotate(tensor([1, 2, 3, 4], [1, 1, 2, 2]), tensor([0, 1], [1, 2]));
 * assertEquals(await evaluate(y), new Float32Array([2, 4, 1, 3]));
 * ```
 */
export function rotate(x: Tensor, turns: Tensor): Tensor {
  checkTensor("rotate", "x", x, "f32");
  checkTensor("rotate", "turns", turns, "f32");
  if (x.rank !== 4 || !sameShape(turns.shape, [x.shape[0]!, 2])) {
    throw new ShapeError(
      `rotate: wants [N, C, H, W] and turns [N, 2], got ${formatShape(x.shape)} and ${
        formatShape(turns.shape)
      }`,
    );
  }
  return apply(Rotate, [x, turns], {});
}

const Resize: Op<{ size: readonly [number, number]; taps: readonly [number, number] }> = {
  name: "resizeBilinear",
  accepts: ["f32", "u32", "u32"],
  shape: ([x], { size }) => [...x!.shape.slice(0, 2), ...size],
  kernels: (node, target, { size, taps }) => {
    const [x] = node.inputs as [Tensor];
    const [h, w] = x.shape.slice(2) as [number, number];
    const bindings = arrays({ x: "f32", rows: "u32", columns: "u32", y: "f32" });
    // A table row is the first source index, then its integer weights. Each pass rounds to 8 bits.
    return [perThread(
      bindings,
      node.size,
      target,
      `  let column = i % ${size[1]}u * ${taps[1] + 1}u; let row = i / ${size[1]}u % ${
        size[0]
      }u * ${taps[0] + 1}u;
  let image = i / ${size[0] * size[1]}u * ${h * w}u;
  var sum = 0;
  for (var r = 0u; r < ${taps[0]}u; r++) {
    let line = image + min(rows[row] + r, ${h - 1}u) * ${w}u;
    var across = 0;
    for (var s = 0u; s < ${taps[1]}u; s++) {
      across += i32(x[line + min(columns[column] + s, ${w - 1}u)]) * i32(columns[column + 1u + s]);
    }
    sum += round8(across) * i32(rows[row + 1u + r]);
  }
  y[i] = f32(round8(sum));`,
      { declarations: "fn round8(x: i32) -> i32 { return clamp((x + 2097152) >> 22, 0, 255); }" },
    )];
  },
};

/** The longest side of an image that is resized: where the table of a pass is still a small one. */
export const MOST_PIXELS = 2 ** 15;

/** One pass as a u32 tensor `[out, 1 + taps]`. An unchanged size has weight 1 on each pixel. */
function table(inSize: number, outSize: number): { taps: number; rows: Tensor } {
  const { starts, taps, coefficients } = resampleTable(inSize, outSize);
  const rows = new Uint32Array(outSize * (taps + 1));
  for (let i = 0; i < outSize; i++) {
    rows[i * (taps + 1)] = starts[i]!;
    for (let k = 0; k < taps; k++) rows[i * (taps + 1) + 1 + k] = coefficients[i * taps + k]!;
  }
  return { taps, rows: constant(rows, [outSize, taps + 1]) };
}

/**
 * Bilinear resize of f32 images of whole values 0 to 255, `[N, C, H, W]` → `[N, C, …size]`, bit for
 * bit what PIL, and so torchvision's `Resize`, makes of 8-bit images. One number as `size` makes
 * squares, where torchvision keeps the aspect. No gradient
 * ({@link https://pytorch.org/vision/stable/generated/torchvision.transforms.Resize.html | torchvision}).
 *
 * @throws {ArgumentError} for a constant with other values.
 * @throws {ShapeError} if `x` does not have 4 dimensions, `size` is no size, or a side is over
 * 32768.
 *
 * @example
 * ```ts
 * import { evaluate, resizeBilinear, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = resizeBilinear(tensor([0, 100, 0, 100], [1, 1, 2, 2]), [1, 2]);
 * assertEquals(await evaluate(y), new Float32Array([0, 100]));
 * ```
 */
export function resizeBilinear(x: Tensor, size: Pair): Tensor {
  checkTensor("resizeBilinear", "x", x, "f32");
  if (x.rank !== 4) {
    throw new ShapeError(`resizeBilinear: wants [N, C, H, W], got ${formatShape(x.shape)}`);
  }
  const pixels = constantData(x) ?? new Float32Array();
  const at = pixels.findIndex((v) => !Number.isInteger(v) || v < 0 || v > 255);
  if (at >= 0) refuse("resizeBilinear", `x, value ${at},`, "a pixel, 0 to 255", pixels[at]);
  const out = pair("resizeBilinear", "size", size, 1);
  const sides = [...x.shape.slice(2), ...out];
  if (sides.some((side) => side > MOST_PIXELS)) {
    throw new ShapeError(
      `resizeBilinear: from ${formatShape(x.shape)} to size ${formatShape(out)}: a side can have ` +
        `${MOST_PIXELS} pixels at most`,
    );
  }
  const rows = table(x.shape[2]!, out[0]), columns = table(x.shape[3]!, out[1]);
  return apply(Resize, [x, rows.rows, columns.rows], {
    size: out,
    taps: [rows.taps, columns.taps],
  });
}
