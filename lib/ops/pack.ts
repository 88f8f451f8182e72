/**
 * One flat tensor made of many, laid out like a packed variable: the form in which an optimizer
 * takes all gradients. The planner computes the parts in their places.
 *
 * @module
 */

import { ShapeError } from "../graph/shape.ts";
import { apply, inScope, type Op, type Tensor, type Variable } from "../graph/tensor.ts";
import { permute } from "./view.ts";

const Pack: Op<{ size: number; offsets: readonly number[] }> = {
  name: "pack",
  shape: (_, { size }) => [size],
};

/** `value`, of the shape of `variable`, with its axes as that one's values are stored. */
export function asStored({ stored }: Variable, value: Tensor): Tensor {
  return stored ? inScope(value.scope, () => permute(value, stored.order)) : value;
}

/** `tensors`, one for each part of `whole` and of its size, at the offsets of those parts. */
export function pack(tensors: readonly Tensor[], whole: Variable): Tensor {
  whole.parts.forEach((part, i) => {
    if (tensors[i]?.size !== part.size) {
      throw new ShapeError(`pack: ${tensors[i]} does not fit part ${i}, ${part}`);
    }
  });
  const offsets = whole.parts.map((part) => part.home!.offset);
  return apply(Pack, tensors, { size: whole.size, offsets });
}

/** The offsets of a {@link pack} node's inputs, or undefined for any other node. */
export function packOffsets(node: Tensor): readonly number[] | undefined {
  return node.op === Pack ? node.attrs["offsets"] as readonly number[] : undefined;
}
