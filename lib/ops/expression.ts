/**
 * How an elementwise op is made: each is one WGSL expression, so that the planner can fuse a chain
 * of them by substitution. `a`, `b` and `c` are its operands, `T` stands for `f32` or `vec4f`, `U`
 * for the type of its bits. The ops that other files of the library name, such as {@link Add}, are
 * here too.
 *
 * @module
 */

import { refuse } from "../check/arguments.ts";
import { isNaNOf, isNegativeOf } from "../kernels/kernel.ts";
import { broadcastShapes } from "../graph/shape.ts";
import { apply, checkTensor, type Op, Tensor, tensor } from "../graph/tensor.ts";
import { mul, neg } from "./elementwise.ts";
import { sumTo } from "./reduce.ts";

/** An f32 tensor, or a number, which is taken as a scalar tensor. */
export type Operand = Tensor | number;

/** Argument `name` of `op` as a tensor. */
export function lift(op: string, name: string, x: Operand): Tensor {
  if (typeof x === "number") return tensor(x);
  if (!(x instanceof Tensor)) refuse(op, name, "a tensor or a number", x);
  checkTensor(op, name, x, "f32");
  return x;
}

/** A node of an op of one operand. */
export function unary(op: Op, x: Tensor): Tensor {
  checkTensor(op.name, "x", x, "f32");
  return apply(op, [x], {});
}

/** A node of an op of two operands. */
export function binary(op: Op, a: Operand, b: Operand): Tensor {
  return apply(op, [lift(op.name, "a", a), lift(op.name, "b", b)], {});
}

type Vjp = NonNullable<Op["vjp"]>;

/**
 * An elementwise op; gradients are summed over the axes an input was broadcast along. `functions` are
 * what the expression calls.
 */
export function elementwise(
  name: string,
  expression: string,
  vjp?: Vjp,
  functions: readonly string[] = [],
): Op {
  return {
    name,
    ...functions.length > 0 && { functions },
    shape: (inputs) => inputs.map((x) => x.shape).reduce((a, b) => broadcastShapes(name, a, b)),
    expression: () => expression,
    ...vjp && {
      vjp: (g, y, inputs, attrs) =>
        vjp(g, y, inputs, attrs).map((gx, i) => gx && sumTo(gx, inputs[i]!.shape)),
    },
  };
}

/** {@link add}. */
export const Add: Op = elementwise("add", "a + b", (g) => [g, g]);
/** {@link mul}. */
export const Mul: Op = elementwise("mul", "a * b", (g, _, [a, b]) => [mul(g, b!), mul(g, a!)]);
/** {@link neg}. */
export const Neg: Op = elementwise("neg", "-a", (g) => [neg(g)]);
/** {@link relu}. NaN stays NaN, as in PyTorch. */
export const Relu: Op = elementwise(
  "relu",
  `select(a, T(0.0), ${isNegativeOf("a", "T")})`,
  (g, y) => [apply(ReluGrad, [g, y], {})],
);
/** From the gradient of y = relu(x), and y, which is 0, positive or NaN. */
const ReluGrad = elementwise(
  "reluGrad",
  "select(a, T(0.0), bitcast<U>(b) == U(0u))",
  (g, _, [_g, y]) => [apply(ReluGrad, [g, y!], {}), null],
);
/** `b`, or `a` where that is NaN. */
const OrNaN = elementwise(
  "orNaN",
  `select(b, a, ${isNaNOf("a", "T")})`,
  (g, _, [a]) => [null, apply(OrNaN, [a!, g], {})],
);

/** `x`, or NaN where `marker` is NaN; broadcasts. No gradient for the marker. */
export function orNaN(marker: Tensor, x: Tensor): Tensor {
  return apply(OrNaN, [marker, x], {});
}
