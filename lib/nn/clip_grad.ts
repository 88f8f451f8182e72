/**
 * Clips gradients, between `grad` and an optimizer's `updates`.
 *
 * @module
 */

import { checkNumber } from "../check/arguments.ts";
import { clamp, minimum } from "../ops/compare.ts";
import { add, div, mul, sqrt, square } from "../ops/elementwise.ts";
import { sum } from "../ops/reduce.ts";
import { stack } from "../ops/slice.ts";
import { checkList } from "../graph/shape.ts";
import { checkTensor, inScope, type Tensor, tensor } from "../graph/tensor.ts";

/** Throws unless `grads` are f32 tensors. */
function checkGrads(op: string, grads: readonly Tensor[]): void {
  checkList(op, "grads", grads);
  grads.forEach((g, i) => checkTensor(op, `grads[${i}]`, g, "f32"));
}

/** Runs `body`; what it builds is part of the backward pass. */
const backward = <T>(body: () => T) => inScope({ layer: "", pass: "backward" }, body);

/**
 * Scales gradients of any shapes down, so that the Euclidean norm of them all as one vector is at
 * most `maxNorm`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html | PyTorch}).
 * Returns the new `grads`, for `Optimizer.updates`, and the `norm` before, a scalar.
 *
 * @throws {ArgumentError} if `grads` are no tensors, or `maxNorm` is negative or not finite.
 *
 * @example
 * ```ts
 * import { clipGradNorm, evaluate, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 *
 * const { grads, norm } = clipGradNorm([tensor([3]), tensor([4])], 1);
 * assertEquals(await evaluate(norm), new Float32Array([5]));
 * assertAlmostEquals((await evaluate(grads[1]!))[0]!, 0.8, 1e-6);
 * ```
 */
export function clipGradNorm(
  grads: readonly Tensor[],
  maxNorm: number,
): { grads: Tensor[]; norm: Tensor } {
  checkGrads("clipGradNorm", grads);
  checkNumber("clipGradNorm", "maxNorm", maxNorm, { min: 0 });
  return backward(() => {
    if (grads.length === 0) return { grads: [], norm: tensor(0) };
    const norm = sqrt(sum(stack(grads.map((g) => sum(square(g))))));
    const factor = minimum(div(maxNorm, add(norm, 1e-6)), 1);
    return { grads: grads.map((g) => mul(g, factor)), norm };
  });
}

/**
 * Gradients of any shapes with every element brought between `-clipValue` and `clipValue`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html | PyTorch}).
 *
 * @throws {ArgumentError} if `grads` are no tensors, or `clipValue` is negative or not finite.
 *
 * @example
 * ```ts
 * import { clipGradValue, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const [g] = clipGradValue([tensor([-3, 0.5])], 1);
 * assertEquals(await evaluate(g!), new Float32Array([-1, 0.5]));
 * ```
 */
export function clipGradValue(grads: readonly Tensor[], clipValue: number): Tensor[] {
  checkGrads("clipGradValue", grads);
  checkNumber("clipGradValue", "clipValue", clipValue, { min: 0 });
  return backward(() => grads.map((g) => clamp(g, { min: -clipValue, max: clipValue })));
}
