/**
 * Dropout as a layer: on in training, off in evaluation, another draw in each step.
 *
 * @module
 */

import { checkNumber } from "../check/arguments.ts";
import { dropout } from "../ops/dropout.ts";
import { add, mul } from "../ops/elementwise.ts";
import { broadcastTo } from "../ops/view.ts";
import { formatShape, ShapeError } from "../graph/shape.ts";
import { checkTensor, type Tensor, tensor } from "../graph/tensor.ts";
import { layerSeed } from "./init.ts";
import { Module, noteRunning, UnsavedBuffer } from "./module.ts";

/**
 * In training, sets a random share `p` of the elements to zero and divides the others by 1 - p; in
 * evaluation, does nothing; any shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Dropout.html | PyTorch}).
 *
 * Which elements are dropped follows from {@link manualSeed} and a count of the draws. The count
 * goes up by an update: without {@link collectUpdates}, each run of a plan drops the same elements.
 * The checkpoints of a `Trainer` have the count.
 *
 * @example
 * ```ts
 * import { Dropout, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const layer = new Dropout(0.9);
 * layer.eval();
 * assertEquals(await evaluate(layer.call(tensor([1, 2]))), new Float32Array([1, 2]));
 * ```
 */
export class Dropout extends Module {
  readonly #seed = layerSeed();
  /** The number of draws so far, a scalar. */
  readonly draws: UnsavedBuffer = new UnsavedBuffer([]);

  /**
   * Drops a share `p`, from 0 to below 1; 0.5 by default.
   *
   * @throws {ArgumentError} for another `p`; PyTorch also takes 1.
   */
  constructor(readonly p: number = 0.5) {
    super();
    checkNumber(new.target.name, "p", p, { min: 0, below: 1 });
  }

  /** A tensor of the shape of `x`; `x` itself in evaluation. */
  override forward(x: Tensor): Tensor {
    checkTensor("Dropout", "x", x, "f32");
    if (!this.training || this.p === 0) return x;
    let step: Tensor = this.draws;
    noteRunning(this.draws, (before) => {
      step = before;
      return add(before, 1);
    });
    return dropout(x, { p: this.p, seed: this.#seed, step });
  }
}

/**
 * {@link Dropout} of whole channels of `[N, C, …]`: it drops all pixels of a channel, or none
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Dropout2d.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { Dropout2d, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const [a, b] = await evaluate(new Dropout2d(0.5).call(tensor([[[[3, 3]]]])));
 * assertEquals(a, b);
 * ```
 */
export class Dropout2d extends Dropout {
  /**
   * A tensor of the shape of `x`; `x` itself in evaluation.
   *
   * @throws {ShapeError} if `x` has fewer than 3 dimensions.
   */
  override forward(x: Tensor): Tensor {
    checkTensor("Dropout2d", "x", x, "f32");
    if (x.rank < 3) throw new ShapeError(`Dropout2d: wants [N, C, …], got ${formatShape(x.shape)}`);
    if (!this.training || this.p === 0) return x;
    const channels = x.shape.map((size, axis) => axis < 2 ? size : 1);
    return mul(x, super.forward(broadcastTo(tensor(1), channels)));
  }
}
