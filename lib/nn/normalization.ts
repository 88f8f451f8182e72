/**
 * Normalisation layers: batch norms, with running statistics for evaluation; and group and layer
 * norms, which compute the same in training and evaluation.
 *
 * @module
 */

import { ArgumentError, checkBoolean, checkNumber, checkOptions } from "../check/arguments.ts";
import { add, mul } from "../ops/elementwise.ts";
import { groupNorm, layerNorm } from "../ops/layer_norm.ts";
import { batchNorm, normalize } from "../ops/norm.ts";
import { select } from "../ops/view.ts";
import { formatShape, type Shape, ShapeError } from "../graph/shape.ts";
import { checkTensor, checkVariable, type Tensor, tensor, Variable } from "../graph/tensor.ts";
import { constantParameter } from "./init.ts";
import { Module, noteRunning, type Parameter } from "./module.ts";

/** Settings of {@link LayerNorm} and {@link GroupNorm}. */
export interface NormOptions {
  /** Added to the variance; 1e-5 by default. */
  readonly eps?: number;
  /** Whether a scale and a shift are learned; true by default. */
  readonly affine?: boolean;
}

/** Checks settings, of which there may be `more`, and gives those that all have. */
function settings(
  op: string,
  options: BatchNormOptions,
  more: readonly (keyof BatchNormOptions)[] = [],
): Required<NormOptions> {
  checkOptions(op, options, ["eps", "affine", ...more]);
  const { eps = 1e-5, affine = true } = options;
  checkNumber(op, "eps", eps, { min: 0 });
  checkBoolean(op, "affine", affine);
  return { eps, affine };
}

/** Settings of {@link BatchNorm1d} and {@link BatchNorm2d}. */
export interface BatchNormOptions extends NormOptions {
  /** Share of a batch in the running statistics; 0.1 by default. */
  readonly momentum?: number;
  /** Whether there are running statistics; without, evaluation takes the batch's too. True by default. */
  readonly trackRunningStats?: boolean;
}

/**
 * What {@link BatchNorm1d} and {@link BatchNorm2d} have in common; its forward pass takes any `[N, C, …]`.
 *
 * @example Freeze every batch norm of a net
 * ```ts
 * import { BatchNorm, resnet18 } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const norms = resnet18().modules().filter((module) => module instanceof BatchNorm);
 * norms.forEach((norm) => norm.eval());
 * assertEquals(norms.length, 17);
 * ```
 */
export abstract class BatchNorm extends Module {
  /** Scale γ, `[numFeatures]`; unless switched off. */
  readonly weight: Parameter | undefined;
  /** Shift β, `[numFeatures]`; unless switched off. */
  readonly bias: Parameter | undefined;
  /** Running mean, `[numFeatures]`; unless switched off. */
  readonly runningMean: Variable | undefined;
  /** Running unbiased variance, `[numFeatures]`; unless switched off. */
  readonly runningVar: Variable | undefined;
  /** Training batches seen: a scalar; unless switched off. */
  readonly numBatchesTracked: Variable | undefined;
  /** Added to the variance. */
  readonly eps: number;
  /** Share of a batch in the running statistics. */
  readonly momentum: number;

  /**
   * γ = 1, β = 0, running mean 0 and variance 1.
   *
   * @throws {ArgumentError} for a number of features or an option that cannot be.
   */
  constructor(readonly numFeatures: number, options: BatchNormOptions = {}) {
    super();
    const op = new.target.name;
    checkNumber(op, "numFeatures", numFeatures, { integer: true, min: 1 });
    checkVariable(op, [numFeatures]);
    const { eps, affine } = settings(op, options, ["momentum", "trackRunningStats"]);
    const { momentum = 0.1, trackRunningStats = true } = options;
    checkNumber(op, "momentum", momentum, { min: 0, max: 1 });
    checkBoolean(op, "trackRunningStats", trackRunningStats);
    this.weight = affine ? constantParameter([numFeatures], 1) : undefined;
    this.bias = affine ? constantParameter([numFeatures], 0) : undefined;
    const ones = () => new Float32Array(numFeatures).fill(1);
    this.runningMean = trackRunningStats ? new Variable([numFeatures]) : undefined;
    this.runningVar = trackRunningStats ? new Variable([numFeatures], ones) : undefined;
    this.numBatchesTracked = trackRunningStats ? new Variable([]) : undefined;
    this.eps = eps;
    this.momentum = momentum;
  }

  /** Normalises by the batch's statistics in training, and notes the running ones' update. */
  override forward(x: Tensor): Tensor {
    const { runningMean, runningVar, numBatchesTracked, numFeatures, eps } = this;
    const weight = this.weight ?? tensor(new Float32Array(numFeatures).fill(1));
    const bias = this.bias ?? tensor(new Float32Array(numFeatures));
    if (!this.training && runningMean && runningVar) {
      return normalize(x, runningMean, runningVar, weight, bias, eps);
    }
    const { y, moments } = batchNorm(x, weight, bias, eps);
    if (!this.training || !runningMean || !runningVar || !numBatchesTracked) return y;
    const n = x.size / x.shape[1]!;
    this.#follow(runningMean, select(moments, 0), 1);
    this.#follow(runningVar, select(moments, 1), n / (n - 1));
    noteRunning(numBatchesTracked, (before) => add(before, 1));
    return y;
  }

  #follow(running: Variable, value: Tensor, correction: number): void {
    const { momentum } = this;
    noteRunning(
      running,
      (before) => add(mul(before, 1 - momentum), mul(value, momentum * correction)),
    );
  }
}

/**
 * Batch normalisation over N, H, W ({@link https://pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { BatchNorm2d, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const layer = new BatchNorm2d(1, { eps: 0 });
 * const x = tensor([1, 3], [2, 1, 1, 1]);
 * assertEquals(await evaluate(layer.call(x)), new Float32Array([-1, 1]));
 * assertEquals(await evaluate(layer.eval().call(x)), new Float32Array([1, 3]));
 * ```
 */
export class BatchNorm2d extends BatchNorm {}

/**
 * Batch normalisation over N, or N and L, of `[N, C]` or `[N, C, L]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { BatchNorm1d, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const layer = new BatchNorm1d(1, { eps: 0, affine: false, trackRunningStats: false });
 * assertEquals(await evaluate(layer.call(tensor([[1], [3]]))), new Float32Array([-1, 1]));
 * assertEquals((await layer.stateDict()).size, 0);
 * ```
 */
export class BatchNorm1d extends BatchNorm {
  /** As batch norm of images, which have no rows here. */
  override forward(x: Tensor): Tensor {
    checkTensor("BatchNorm1d", "x", x, "f32");
    if (x.rank !== 2 && x.rank !== 3) {
      const { numFeatures: c } = this;
      throw new ShapeError(
        `BatchNorm1d: wants [N, ${c}] or [N, ${c}, L], got ${formatShape(x.shape)}`,
      );
    }
    return super.forward(x);
  }
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
