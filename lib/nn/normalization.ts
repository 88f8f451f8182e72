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
  /** Whether there are a learned scale and shift; true by default. */
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
  /** Weight of a batch: `running = (1 - momentum) · running + momentum · batch`; 0.1 by default. */
  readonly momentum?: number;
  /** Whether to keep running statistics; if not, evaluation takes the batch's. True by default. */
  readonly trackRunningStats?: boolean;
}

/**
 * What {@link BatchNorm1d} and {@link BatchNorm2d} have in common. In training it takes the mean
 * and variance of the batch, and moves the running statistics towards them, by updates that
 * {@link collectUpdates} gathers. In evaluation it takes the running statistics.
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
  /** Scale γ, `[numFeatures]`; undefined if `affine` is false. */
  readonly weight: Parameter | undefined;
  /** Shift β, `[numFeatures]`; undefined if `affine` is false. */
  readonly bias: Parameter | undefined;
  /** Running mean, `[numFeatures]`; undefined if `trackRunningStats` is false. */
  readonly runningMean: Variable | undefined;
  /** Running unbiased variance, `[numFeatures]`; undefined if `trackRunningStats` is false. */
  readonly runningVar: Variable | undefined;
  /** Number of training batches, a scalar; undefined if `trackRunningStats` is false. */
  readonly numBatchesTracked: Variable | undefined;
  /** Added to the variance. */
  readonly eps: number;
  /** Weight of a batch in the running statistics. */
  readonly momentum: number;

  /**
   * Begins with γ = 1, β = 0, running mean 0 and running variance 1.
   *
   * @throws {ArgumentError} for an invalid number of features or option.
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

  /**
   * `[N, numFeatures, …]` → the same.
   *
   * @throws {ShapeError} if `x` has other channels or, where it takes the batch's statistics, only
   * one value for each.
   */
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
 * Batch normalisation over N, H and W, `[N, C, H, W]` → the same
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html | PyTorch}).
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
 * Batch normalisation over N, or N and L; `[N, C]` or `[N, C, L]` → the same
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
  /**
   * As {@link BatchNorm.forward}.
   *
   * @throws {ShapeError} if `x` has not 2 or 3 dimensions, or does not fit.
   */
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
  /** Scale, of `normalizedShape`; undefined if `affine` is false. */
  readonly weight: Parameter | undefined;
  /** Shift, of `normalizedShape`; undefined if `affine` is false. */
  readonly bias: Parameter | undefined;
  /** Added to the variance. */
  readonly eps: number;

  /**
   * Begins with scale 1 and shift 0. `normalizedShape` is a list, also for one dimension.
   *
   * @throws {ArgumentError} for an invalid option.
   * @throws {ShapeError} for an invalid shape.
   */
  constructor(readonly normalizedShape: Shape, options: NormOptions = {}) {
    super();
    checkVariable("LayerNorm", normalizedShape);
    const { eps, affine } = settings("LayerNorm", options);
    this.eps = eps;
    this.weight = affine ? constantParameter(normalizedShape, 1) : undefined;
    this.bias = affine ? constantParameter(normalizedShape, 0) : undefined;
  }

  /** `[…, …normalizedShape]` → the same, in training and evaluation alike. */
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
  /** Scale, `[numChannels]`; undefined if `affine` is false. */
  readonly weight: Parameter | undefined;
  /** Shift, `[numChannels]`; undefined if `affine` is false. */
  readonly bias: Parameter | undefined;
  /** Added to the variance. */
  readonly eps: number;

  /**
   * Begins with scale 1 and shift 0.
   *
   * @throws {ArgumentError} for invalid numbers or options, or if the groups do not divide the
   * channels.
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

  /** `[N, numChannels, …]` → the same, in training and evaluation alike. */
  override forward(x: Tensor): Tensor {
    checkTensor("GroupNorm", "x", x, "f32");
    const { numGroups, numChannels, weight, bias, eps } = this;
    if (x.shape[1] !== numChannels) {
      throw new ShapeError(`GroupNorm: wants [N, ${numChannels}, …], got ${formatShape(x.shape)}`);
    }
    return groupNorm(x, numGroups, { weight, bias, eps });
  }
}
