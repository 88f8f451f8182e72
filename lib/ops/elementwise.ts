/**
 * Elementwise operations with NumPy broadcasting. All throw an ArgumentError for what is no operand,
 * and a ShapeError for one that is not f32 or does not broadcast. Each is one WGSL expression, so that
 * the planner can fuse a chain of them by substitution; `T` stands for `f32` or `vec4f`, `U` for the
 * type of its bits.
 *
 * @module
 */

import { refuse } from "../check/arguments.ts";
import { isNaNOf } from "../kernels/kernel.ts";
import { broadcastShapes } from "../graph/shape.ts";
import { apply, checkTensor, type Op, Tensor, tensor } from "../graph/tensor.ts";
import { sumTo } from "./reduce.ts";

/** A tensor, or a number standing for a scalar tensor. */
export type Operand = Tensor | number;

/** Argument `name` of `op` as a tensor. */
function lift(op: string, name: string, x: Operand): Tensor {
  if (typeof x === "number") return tensor(x);
  if (!(x instanceof Tensor)) refuse(op, name, "a tensor or a number", x);
  checkTensor(op, name, x, "f32");
  return x;
}

/** A node of an op of one operand. */
function unary(op: Op, x: Tensor): Tensor {
  checkTensor(op.name, "x", x, "f32");
  return apply(op, [x], {});
}

/** A node of an op of two operands. */
function binary(op: Op, a: Operand, b: Operand): Tensor {
  return apply(op, [lift(op.name, "a", a), lift(op.name, "b", b)], {});
}

type Vjp = NonNullable<Op["vjp"]>;

/** An elementwise op; gradients are summed over the axes an input was broadcast along. */
function elementwise(name: string, expression: string, vjp?: Vjp): Op {
  return {
    name,
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
const Sub = elementwise("sub", "a - b", (g) => [g, neg(g)]);
/** {@link mul}. */
export const Mul: Op = elementwise("mul", "a * b", (g, _, [a, b]) => [mul(g, b!), mul(g, a!)]);
const Div = elementwise("div", "a / b", (g, y, [_, b]) => [div(g, b!), neg(mul(g, div(y, b!)))]);
/** {@link neg}. */
export const Neg: Op = elementwise("neg", "-a", (g) => [neg(g)]);
const Exp = elementwise("exp", "exp(a)", (g, y) => [mul(g, y)]);
const Log = elementwise("log", "log(a)", (g, _, [a]) => [div(g, a!)]);
const Sqrt = elementwise("sqrt", "sqrt(a)", (g, y) => [div(mul(g, 0.5), y)]);
const Square = elementwise("square", "a * a", (g, _, [a]) => [mul(g, mul(a!, 2))]);
/** {@link relu}. Written with <= and not max, so that NaN passes through as in PyTorch. */
export const Relu: Op = elementwise(
  "relu",
  "select(a, T(0.0), a <= T(0.0))",
  (g, y) => [apply(ReluGrad, [g, y], {})],
);
const ReluGrad = elementwise(
  "reluGrad",
  "select(a, T(0.0), b <= T(0.0))",
  (g, _, [_g, y]) => [apply(ReluGrad, [g, y!], {}), null],
);
/** The first finite-or-not marker: 1 where `a` is neither infinite nor NaN, else 0. */
const IsFinite = elementwise("isFinite", "select(T(0.0), T(1.0), abs(a) <= T(3.4028234e38))");
/** WGSL: whether `a` is not 0. NaN is not 0, which drivers get wrong when they compare floats. */
const NOT_ZERO = "(bitcast<U>(a) & U(0x7fffffffu)) != U(0u)";
const Where = elementwise(
  "where",
  `select(c, b, ${NOT_ZERO})`,
  // Chosen and not multiplied: 0 times a gradient that is infinite would be NaN.
  (g, _, [a]) => [null, where(a!, g, 0), where(a!, 0, g)],
);
/** `b`, or `a` where that is NaN. */
const OrNaN = elementwise(
  "orNaN",
  `select(b, a, ${isNaNOf("a", "T")})`,
  (g, _, [a]) => [null, apply(OrNaN, [a!, g], {})],
);

/** `a + b`, elementwise with broadcasting. */
export function add(a: Operand, b: Operand): Tensor {
  return binary(Add, a, b);
}

/** `a - b`, elementwise with broadcasting. */
export function sub(a: Operand, b: Operand): Tensor {
  return binary(Sub, a, b);
}

/** `a * b`, elementwise with broadcasting. */
export function mul(a: Operand, b: Operand): Tensor {
  return binary(Mul, a, b);
}

/** `a / b`, elementwise with broadcasting. */
export function div(a: Operand, b: Operand): Tensor {
  return binary(Div, a, b);
}

/** `-x`, elementwise; any shape. */
export function neg(x: Tensor): Tensor {
  return unary(Neg, x);
}

/** `e^x`, elementwise; any shape. */
export function exp(x: Tensor): Tensor {
  return unary(Exp, x);
}

/** Natural logarithm, elementwise; any shape. */
export function log(x: Tensor): Tensor {
  return unary(Log, x);
}

/** Square root, elementwise; any shape. */
export function sqrt(x: Tensor): Tensor {
  return unary(Sqrt, x);
}

/** `x²`, elementwise; any shape. */
export function square(x: Tensor): Tensor {
  return unary(Square, x);
}

/**
 * `max(x, 0)`, elementwise; any shape. NaN stays NaN and the gradient at 0 is 0, as in
 * {@link https://pytorch.org/docs/stable/generated/torch.nn.functional.relu.html | PyTorch}.
 *
 * @example
 * ```ts
 * import { evaluate, relu, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = relu(tensor([-1, 0, 2]));
 * assertEquals(await evaluate(y), new Float32Array([0, 0, 2]));
 * ```
 */
export function relu(x: Tensor): Tensor {
  return unary(Relu, x);
}

/** 1 where `x` is finite, 0 where it is infinite or NaN; no gradient. */
export function isFinite(x: Tensor): Tensor {
  return unary(IsFinite, x);
}

/** `yes` where `condition` is not 0, else `no`; broadcasts. No gradient for the condition. */
export function where(condition: Tensor, yes: Operand, no: Operand): Tensor {
  checkTensor("where", "condition", condition, "f32");
  return apply(Where, [condition, lift("where", "yes", yes), lift("where", "no", no)], {});
}

/** `x`, or NaN where `marker` is NaN; broadcasts. No gradient for the marker. */
export function orNaN(marker: Tensor, x: Tensor): Tensor {
  return apply(OrNaN, [marker, x], {});
}
