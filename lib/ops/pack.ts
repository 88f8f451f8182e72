/**
 * One flat tensor made of many, laid out like a packed variable: the form in which an optimizer
 * takes all gradients. The planner computes the parts in their places.
 *
 * @module
 */

import { ShapeError } from "../graph/shape.ts";
import { apply, inScope, type Op, type Tensor, Variable } from "../graph/tensor.ts";
import { permute } from "./view.ts";

const Pack: Op<{ size: number; offsets: readonly number[] }> = {
  name: "pack",
  shape: (_, { size }) => [size],
};

/** `value`, of the shape of `variable`, with its axes as that one's values are stored. */
export function asStored({ stored }: Variable, value: Tensor): Tensor {
  if (!stored) return value;
  const own = value instanceof Variable ? value.stored : undefined;
  if (own && `${own.order}` === `${stored.order}`) return own.variable;
  return inScope(value.scope, () => permute(value, stored.order));
}

/**
 * `tensors`, one for each part of `whole` and of its size, at the offsets of those parts. If they lie
 * like that in a variable already, it is that.
 */
export function pack(tensors: readonly Tensor[], whole: Variable): Tensor {
  whole.parts.forEach((part, i) => {
    if (tensors[i]?.size !== part.size) {
      throw new ShapeError(`pack: ${tensors[i]} does not fit part ${i}, ${part}`);
    }
  });
  const offsets = whole.parts.map((part) => part.home!.offset);
  const [first] = tensors, home = first instanceof Variable ? first.home?.whole : undefined;
  const lies = home?.size === whole.size && home.parts.length === tensors.length &&
    home.parts.every((part, i) => part === tensors[i] && part.home!.offset === offsets[i]);
  if (home && lies) return home;
  return apply(Pack, tensors, { size: whole.size, offsets });
}

/** The offsets of a {@link pack} node's inputs, or undefined for any other node. */
export function packOffsets(node: Tensor): readonly number[] | undefined {
  return node.op === Pack ? node.attrs["offsets"] as readonly number[] : undefined;
}
