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
 * Zeros for a share `p` of the elements in training, drawn anew in each step, the others divided by
 * 1 - p; nothing in evaluation; any shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Dropout.html | PyTorch}).
 *
 * The draws follow from {@link manualSeed} and from how many there were, which a `Trainer` keeps in its
 * checkpoints.
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
  /** How often was drawn: a scalar. */
  readonly draws: UnsavedBuffer = new UnsavedBuffer([]);

  /**
   * Drops a share `p`.
   *
   * @throws {ArgumentError} if `p` is not from 0 to less than 1.
   */
  constructor(readonly p: number = 0.5) {
    super();
    checkNumber(new.target.name, "p", p, { min: 0, below: 1 });
  }

  /** Drops in training, and notes that it drew. */
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
 * The same for whole channels of `[N, C, …]`: all pixels of one are dropped, or none
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
  /** Drops in training, and notes that it drew. */
  override forward(x: Tensor): Tensor {
    checkTensor("Dropout2d", "x", x, "f32");
    if (x.rank < 3) throw new ShapeError(`Dropout2d: wants [N, C, …], got ${formatShape(x.shape)}`);
    if (!this.training || this.p === 0) return x;
    const channels = x.shape.map((size, axis) => axis < 2 ? size : 1);
    return mul(x, super.forward(broadcastTo(tensor(1), channels)));
  }
}
