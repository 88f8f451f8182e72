/**
 * Vectors for words, or for anything that has a number.
 *
 * @module
 */

import { checkNumber } from "../check/arguments.ts";
import { embedding } from "../ops/indexing.ts";
import { checkVariable, type Tensor } from "../graph/tensor.ts";
import { normalParameter } from "./init.ts";
import { Module, type Parameter } from "./module.ts";

/**
 * Rows of a learned table by u32 indices, `[…]` → `[…, embeddingDim]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Embedding.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { Embedding, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const words = new Embedding(1000, 64).call(tensor(Uint32Array.of(7, 999)));
 * assertEquals(words.shape, [2, 64]);
 * ```
 */
export class Embedding extends Module {
  /** `[numEmbeddings, embeddingDim]`. */
  readonly weight: Parameter;

  /**
   * Draws the table from N(0, 1).
   *
   * @throws {ArgumentError} for invalid numbers.
   */
  constructor(readonly numEmbeddings: number, readonly embeddingDim: number) {
    super();
    checkNumber("Embedding", "numEmbeddings", numEmbeddings, { integer: true, min: 1 });
    checkNumber("Embedding", "embeddingDim", embeddingDim, { integer: true, min: 1 });
    checkVariable("Embedding", [numEmbeddings, embeddingDim]);
    this.weight = normalParameter([numEmbeddings, embeddingDim], 1);
  }

  /**
   * The rows at `indices`.
   *
   * @throws {ArgumentError} for an index that is not below `numEmbeddings`. If only the device
   * knows the index, the row is NaN.
   */
  override forward(indices: Tensor): Tensor {
    return embedding(this.weight, indices);
  }
}
