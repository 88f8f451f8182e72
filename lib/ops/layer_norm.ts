/**
 * Normalisation within an image or a sequence, by its own mean and variance. Everything here is public.
 *
 * @module
 */

import { ArgumentError, checkNumber, checkOptions } from "../check/arguments.ts";
import { checkShape, formatShape, sameShape, type Shape, ShapeError } from "../graph/shape.ts";
import { checkTensor, type Tensor } from "../graph/tensor.ts";
import { add, div, mul, sqrt, square, sub } from "./elementwise.ts";
import { mean } from "./reduce.ts";
import { reshape } from "./view.ts";

/** Settings of {@link layerNorm} and {@link groupNorm}. */
export interface LayerNormOptions {
  /** Scale γ, which the result is multiplied by; none by default. */
  readonly weight?: Tensor | undefined;
  /** Shift β, which is then added; none by default. */
  readonly bias?: Tensor | undefined;
  /** Added to the variance, which is the biased one; 1e-5 by default. */
  readonly eps?: number;
}

/** `(x - mean) / √(variance + eps)` over `axes`, the variance that of all there is. */
function standardized(x: Tensor, axes: readonly number[], eps: number): Tensor {
  const centred = sub(x, mean(x, axes, { keepDims: true }));
  return div(centred, sqrt(add(mean(square(centred), axes, { keepDims: true }), eps)));
}

/** Checks settings, of which scale and shift have `shape`; eps, and y scaled and shifted. */
function checkNorm(op: string, x: Tensor, shape: Shape, options: LayerNormOptions): number {
  checkTensor(op, "x", x, "f32");
  checkOptions(op, options, ["weight", "bias", "eps"]);
  for (const name of ["weight", "bias"] as const) {
    const vector = options[name];
    if (vector === undefined) continue;
    checkTensor(op, name, vector, "f32");
    if (sameShape(vector.shape, shape)) continue;
    throw new ShapeError(
      `${op}: ${name} must be ${formatShape(shape)}, got ${formatShape(vector.shape)}`,
    );
  }
  const { eps = 1e-5 } = options;
  checkNumber(op, "eps", eps, { min: 0 });
  return eps;
}

/** `y · weight + bias`, where there are such. */
function scaled(y: Tensor, weight: Tensor | undefined, bias: Tensor | undefined): Tensor {
  const product = weight ? mul(y, weight) : y;
  return bias ? add(product, bias) : product;
}

/**
 * `(x - mean) / √(variance + eps)` over the last dimensions, of sizes `normalizedShape`, which is
 * also the shape of weight and bias; `[…, …normalizedShape]` → the same
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html | PyTorch}).
 *
 * @throws {ArgumentError} for an option that cannot be.
 * @throws {ShapeError} if x does not end in `normalizedShape`, or weight or bias has another shape.
 *
 * @example
 * ```ts
 * import { evaluate, layerNorm, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const y = await evaluate(layerNorm(tensor([[1, 3], [5, 9]]), [2]));
 * assertAlmostEquals(y[0]!, -1, 1e-4);
 * assertAlmostEquals(y[3]!, 1, 1e-4);
 * ```
 */
export function layerNorm(
  x: Tensor,
  normalizedShape: Shape,
  options: LayerNormOptions = {},
): Tensor {
  checkShape("layerNorm", normalizedShape);
  const eps = checkNorm("layerNorm", x, normalizedShape, options), { length } = normalizedShape;
  if (length === 0) throw new ShapeError("layerNorm: normalizedShape has no size; it needs one");
  if (!sameShape(x.shape.slice(-length), normalizedShape)) {
    throw new ShapeError(
      `layerNorm: wants […, ${normalizedShape.join(", ")}], got ${formatShape(x.shape)}`,
    );
  }
  const y = standardized(x, normalizedShape.map((_, i) => i - length), eps);
  return scaled(y, options.weight, options.bias);
}

/**
 * `(x - mean) / √(variance + eps)` over each of `numGroups` groups of channels and all pixels of an
 * image, `[N, C, …]` → the same; weight and bias `[C]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.group_norm.html | PyTorch}).
 *
 * @throws {ArgumentError} if `numGroups` does not divide the channels, or for an option that cannot
 * be.
 * @throws {ShapeError} if x has fewer than 2 dimensions, or weight or bias does not fit the
 * channels.
 *
 * @example
 * ```ts
 * import { evaluate, groupNorm, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const y = await evaluate(groupNorm(tensor([[1, 3, 5, 9]]), 2));
 * assertAlmostEquals(y[2]!, -1, 1e-4);
 * ```
 */
export function groupNorm(x: Tensor, numGroups: number, options: LayerNormOptions = {}): Tensor {
  checkTensor("groupNorm", "x", x, "f32");
  checkNumber("groupNorm", "numGroups", numGroups, { integer: true, min: 1 });
  const { shape } = x, [images, channels] = shape;
  if (images === undefined || channels === undefined) {
    throw new ShapeError(`groupNorm: wants [N, C, …], got ${formatShape(shape)}`);
  }
  if (channels % numGroups !== 0) {
    throw new ArgumentError(
      `groupNorm: ${channels} channels are no multiple of numGroups, ${numGroups}`,
    );
  }
  const eps = checkNorm("groupNorm", x, [channels], options);
  const groups = reshape(x, [images, numGroups, x.size / images / numGroups]);
  const y = reshape(standardized(groups, [2], eps), shape);
  const along = (vector: Tensor | undefined) =>
    vector && reshape(vector, [channels, ...new Array(x.rank - 2).fill(1)]);
  return scaled(y, along(options.weight), along(options.bias));
}
