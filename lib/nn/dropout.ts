/**
 * Dropout as a layer: on in training, off in evaluation, another draw in each step.
 *
 * @module
 */

import { checkNumber } from "../check/arguments.ts";
import { dropout } from "../ops/dropout.ts";
import { add } from "../ops/elementwise.ts";
import { checkTensor, type Tensor, Variable } from "../graph/tensor.ts";
import { layerSeed } from "./init.ts";
import { Module, noteRunning } from "./module.ts";

/**
 * Zeros for a share `p` of the elements in training, drawn anew in each step, the others divided by
 * 1 - p; nothing in evaluation; any shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Dropout.html | PyTorch}).
 *
 * The draws follow from {@link manualSeed} and from how many there were.
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
  /** How often was drawn. No part of the state dict, as in PyTorch. */
  readonly #draws = new Variable([]);

  /**
   * Drops a share `p`.
   *
   * @throws {ArgumentError} if `p` is not from 0 to less than 1.
   */
  constructor(readonly p: number = 0.5) {
    super();
    checkNumber("Dropout", "p", p, { min: 0, below: 1 });
  }

  /** Drops in training, and notes that it drew. */
  override forward(x: Tensor): Tensor {
    checkTensor("Dropout", "x", x, "f32");
    if (!this.training || this.p === 0) return x;
    let step: Tensor = this.#draws;
    noteRunning(this.#draws, (before) => {
      step = before;
      return add(before, 1);
    });
    return dropout(x, { p: this.p, seed: this.#seed, step });
  }
}
