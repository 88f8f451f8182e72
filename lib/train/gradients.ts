/**
 * Gradients of a batch that is trained on in several micro-batches, or by several ranks: they are summed
 * up on the device, and the optimizer steps once.
 *
 * @module
 */

import { freeVariables } from "../device/buffers.ts";
import { arrays, perThread } from "../kernels/kernel.ts";
import {
  inScope,
  packVariables,
  type Scope,
  type Tensor,
  type Update,
  type Variable,
  zerosLike,
} from "../graph/tensor.ts";
import { asStored, pack } from "../ops/pack.ts";

/** Sums of the gradients of some parameters, packed as an optimizer packs these. */
export class GradientSums implements Disposable {
  /** A sum for each parameter, of its shape. */
  readonly sums: readonly Variable[];
  /** What they are packed into. */
  readonly packs: readonly Variable[];

  constructor(parameters: readonly Variable[]) {
    this.sums = parameters.map(zerosLike);
    this.packs = packVariables(this.sums);
  }

  /**
   * Adds the gradients of the mean loss of a micro-batch, times `share`: which share of the batch it is.
   * Where `first` is not 0, what there was counts for nothing. It is done `early` where the sums are sent
   * away before the rest of the step is done.
   */
  updates(
    grads: readonly Tensor[],
    { share, first }: Record<"share" | "first", Tensor>,
    { early = false } = {},
  ): Update[] {
    const stored = grads.map((x, i) => asStored(this.sums[i]!, x));
    const scope: Scope = { layer: "", pass: "optimizer" };
    const bindings = arrays({ grads: "vec4f", share: "f32", first: "f32", sums: "vec4f" });
    let taken = 0;
    return this.packs.map((whole) => {
      const parts = stored.slice(taken, taken += whole.parts.length);
      return {
        name: "addGradients",
        targets: [whole],
        early,
        reads: [inScope(scope, () => pack(parts, whole)), share, first],
        kernels: (target) => [perThread(
          bindings,
          whole.size / 4,
          target,
          `  let before = select(sums[i], vec4f(), first[0] != 0.0);
  sums[i] = before + share[0] * grads[i];`,
          { sizes: {} },
        )],
      };
    });
  }

  [Symbol.dispose](): void {
    freeVariables(this.sums);
  }
}
