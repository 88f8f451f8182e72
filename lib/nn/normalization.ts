/**
 * Normalisation within an image or a sequence, not over the batch: the same in training and testing.
 *
 * @module
 */

import { ArgumentError, checkBoolean, checkNumber, checkOptions } from "../check/arguments.ts";
import { groupNorm, layerNorm } from "../ops/layer_norm.ts";
import { formatShape, type Shape, ShapeError } from "../graph/shape.ts";
import { checkTensor, checkVariable, type Tensor } from "../graph/tensor.ts";
import { constantParameter } from "./init.ts";
import { Module, type Parameter } from "./module.ts";

/** Settings of {@link LayerNorm} and {@link GroupNorm}. */
export interface NormOptions {
  /** Added to the variance; 1e-5 by default. */
  readonly eps?: number;
  /** Whether a scale and a shift are learned; true by default. */
  readonly affine?: boolean;
}

/** Checks settings, and gives all. */
function settings(op: string, options: NormOptions): Required<NormOptions> {
  checkOptions(op, options, ["eps", "affine"]);
  const { eps = 1e-5, affine = true } = options;
  checkNumber(op, "eps", eps, { min: 0 });
  checkBoolean(op, "affine", affine);
  return { eps, affine };
}

/**
 * Normalisation over the last dimensions, which are `normalizedShape`; `[…, …normalizedShape]` → the
 * same ({@link https://pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html | PyTorch}, where
 * `affine` is `elementwise_affine`).
 *
 * @example
 * ```ts
 * import { evaluate, LayerNorm, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const y = await evaluate(new LayerNorm([2]).call(tensor([[1, 3], [5, 9]])));
 * assertAlmostEquals(y[0]!, -1, 1e-4);
 * assertAlmostEquals(y[3]!, 1, 1e-4);
 * ```
 */
export class LayerNorm extends Module {
  /** Scale, of `normalizedShape`; unless switched off. */
  readonly weight: Parameter | undefined;
  /** Shift, of `normalizedShape`; unless switched off. */
  readonly bias: Parameter | undefined;
  /** Added to the variance. */
  readonly eps: number;

  /**
   * Scale 1, shift 0.
   *
   * @throws {ArgumentError} for an option that cannot be.
   * @throws {ShapeError} for a shape that is none.
   */
  constructor(readonly normalizedShape: Shape, options: NormOptions = {}) {
    super();
    checkVariable("LayerNorm", normalizedShape);
    const { eps, affine } = settings("LayerNorm", options);
    this.eps = eps;
    this.weight = affine ? constantParameter(normalizedShape, 1) : undefined;
    this.bias = affine ? constantParameter(normalizedShape, 0) : undefined;
  }

  /** Normalises, scales and shifts. */
  override forward(x: Tensor): Tensor {
    const { normalizedShape, weight, bias, eps } = this;
    return layerNorm(x, normalizedShape, { weight, bias, eps });
  }
}

/**
 * Normalisation over groups of channels and all pixels of each image, `[N, C, …]` → the same
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, GroupNorm, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const y = await evaluate(new GroupNorm(2, 4).call(tensor([[1, 3, 5, 9]])));
 * assertAlmostEquals(y[2]!, -1, 1e-4);
 * ```
 */
export class GroupNorm extends Module {
  /** Scale, `[numChannels]`; unless switched off. */
  readonly weight: Parameter | undefined;
  /** Shift, `[numChannels]`; unless switched off. */
  readonly bias: Parameter | undefined;
  /** Added to the variance. */
  readonly eps: number;

  /**
   * Scale 1, shift 0.
   *
   * @throws {ArgumentError} for numbers that cannot be, or channels that are not whole groups.
   */
  constructor(
    readonly numGroups: number,
    readonly numChannels: number,
    options: NormOptions = {},
  ) {
    super();
    checkNumber("GroupNorm", "numGroups", numGroups, { integer: true, min: 1 });
    checkNumber("GroupNorm", "numChannels", numChannels, { integer: true, min: 1 });
    checkVariable("GroupNorm", [numChannels]);
    if (numChannels % numGroups !== 0) {
      throw new ArgumentError(
        `GroupNorm: numChannels, ${numChannels}, is no multiple of numGroups, ${numGroups}`,
      );
    }
    const { eps, affine } = settings("GroupNorm", options);
    this.eps = eps;
    this.weight = affine ? constantParameter([numChannels], 1) : undefined;
    this.bias = affine ? constantParameter([numChannels], 0) : undefined;
  }

  /** Normalises, scales and shifts. */
  override forward(x: Tensor): Tensor {
    checkTensor("GroupNorm", "x", x, "f32");
    const { numGroups, numChannels, weight, bias, eps } = this;
    if (x.shape[1] !== numChannels) {
      throw new ShapeError(`GroupNorm: wants [N, ${numChannels}, …], got ${formatShape(x.shape)}`);
    }
    return groupNorm(x, numGroups, { weight, bias, eps });
  }
}
