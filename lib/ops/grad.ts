/**
 * Reverse-mode gradients: a walk over the graph that asks each op for its vector-Jacobian product.
 * The result is more graph, planned and fused like any other.
 *
 * @module
 */

import { ArgumentError } from "../check/arguments.ts";
import { checkList, sameShape, ShapeError } from "../graph/shape.ts";
import { checkTensor, inScope, type Tensor, tensor } from "../graph/tensor.ts";
import { add } from "./elementwise.ts";
import { broadcastTo } from "./view.ts";

/** Nodes that `roots` depend on, inputs before users. */
export function topological(roots: readonly Tensor[]): Tensor[] {
  const seen = new Set<Tensor>();
  const stack = [...roots];
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    stack.push(...node.inputs);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

/**
 * Gradients of `y`, which has one element, with respect to each of `wrt`, in their order and
 * shapes; zeros where `y` does not depend on one. They are tensors like any others, with gradients
 * of their own. `seed`, f32 of the shape of `y`, weights the elements of a `y` that has more, as
 * `grad_outputs` does in
 * {@link https://pytorch.org/docs/stable/generated/torch.autograd.grad.html | PyTorch}.
 *
 * @throws {ArgumentError} if `y` depends on one of `wrt` through an op without a gradient, such as
 * {@link isFinite}.
 * @throws {ShapeError} if `y` has more elements than one and there is no seed of its shape.
 *
 * @example
 * ```ts
 * import { evaluate, grad, square, sum, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([1, 2, 3]);
 * const [dx] = grad(sum(square(x)), [x]);
 * assertEquals(await evaluate(dx!), new Float32Array([2, 4, 6]));
 * ```
 */
export function grad(y: Tensor, wrt: readonly Tensor[], seed?: Tensor): Tensor[] {
  checkTensor("grad", "y", y);
  checkList("grad", "wrt", wrt);
  wrt.forEach((x, i) => checkTensor("grad", `wrt[${i}]`, x));
  if (seed !== undefined) {
    checkTensor("grad", "seed", seed);
    if (!sameShape(seed.shape, y.shape) || seed.dtype !== "f32") {
      throw new ShapeError(`grad: the seed must be f32 of the shape of ${y}, got ${seed}`);
    }
  }
  if (!seed && y.size !== 1) {
    throw new ShapeError(`grad: y must have one element, or there must be a seed; got ${y}`);
  }
  const nodes = topological([y]);
  const needed = new Set(wrt);
  for (const node of nodes) {
    if (node.inputs.some((x) => needed.has(x))) needed.add(node);
  }
  const grads = new Map<Tensor, Tensor>([[y, seed ?? broadcastTo(tensor(1), y.shape)]]);
  for (const node of nodes.reverse()) {
    const g = grads.get(node);
    if (!g || !node.inputs.some((x) => needed.has(x))) continue;
    if (!node.op.vjp) throw new ArgumentError(`grad: ${node.op.name} has no gradient`);
    inScope(
      { layer: node.scope.layer, pass: "backward" },
      () =>
        node.op.vjp!(g, node, node.inputs, node.attrs).forEach((gx, i) => {
          const x = node.inputs[i]!;
          if (!gx || !needed.has(x)) return;
          const sum = grads.get(x);
          grads.set(x, sum ? add(sum, gx) : gx);
        }),
    );
  }
  return wrt.map((x) => grads.get(x) ?? broadcastTo(tensor(0), x.shape));
}
