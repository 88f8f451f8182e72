/**
 * Elementwise operations with NumPy broadcasting. All throw an ArgumentError if an operand is neither
 * a tensor nor a number, and a ShapeError if it is not f32 or does not broadcast. Everything here is
 * public.
 *
 * @module
 */

import { isNaNOf, isNegativeOf } from "../kernels/kernel.ts";
import { apply, checkTensor, type Tensor } from "../graph/tensor.ts";
import {
  Add,
  binary,
  elementwise,
  lift,
  Mul,
  Neg,
  type Operand,
  Relu,
  unary,
} from "./expression.ts";
import { ERF, LOG, LOG1P, POW, SIN } from "./functions.ts";

export type { Operand };

const Sub = elementwise("sub", "a - b", (g) => [g, neg(g)]);
const Div = elementwise("div", "a / b", (g, y, [_, b]) => [div(g, b!), neg(mul(g, div(y, b!)))]);
const Exp = elementwise("exp", "exp(a)", (g, y) => [mul(g, y)]);
const Log = elementwise("log", "logOf(a)", (g, _, [a]) => [div(g, a!)], [LOG]);
const Sqrt = elementwise("sqrt", "sqrt(a)", (g, y) => [div(mul(g, 0.5), y)]);
const Square = elementwise("square", "a * a", (g, _, [a]) => [mul(g, mul(a!, 2))]);
/** 1 where `a` is neither infinite nor NaN, else 0. */
const IsFinite = elementwise("isFinite", "select(T(0.0), T(1.0), abs(a) <= T(3.4028234e38))");
/** WGSL: whether `a` is not 0. NaN is not 0, which drivers get wrong when they compare floats. */
const NOT_ZERO = "(bitcast<U>(a) & U(0x7fffffffu)) != U(0u)";
const Where = elementwise(
  "where",
  `select(c, b, ${NOT_ZERO})`,
  // Chosen and not multiplied: 0 times a gradient that is infinite would be NaN.
  (g, _, [a]) => [null, where(a!, g, 0), where(a!, 0, g)],
);

/**
 * `a + b`, elementwise with broadcasting
 * ({@link https://pytorch.org/docs/stable/generated/torch.add.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { add, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = add(tensor([[1, 2], [3, 4]]), tensor([10, 20]));
 * assertEquals(await evaluate(y), new Float32Array([11, 22, 13, 24]));
 * ```
 */
export function add(a: Operand, b: Operand): Tensor {
  return binary(Add, a, b);
}

/**
 * `a - b`, elementwise with broadcasting
 * ({@link https://pytorch.org/docs/stable/generated/torch.sub.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, sub, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(sub(10, tensor([1, 2]))), new Float32Array([9, 8]));
 * ```
 */
export function sub(a: Operand, b: Operand): Tensor {
  return binary(Sub, a, b);
}

/**
 * `a * b`, elementwise with broadcasting
 * ({@link https://pytorch.org/docs/stable/generated/torch.mul.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, mul, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(mul(tensor([1, 2]), 3)), new Float32Array([3, 6]));
 * ```
 */
export function mul(a: Operand, b: Operand): Tensor {
  return binary(Mul, a, b);
}

/**
 * `a / b`, elementwise with broadcasting
 * ({@link https://pytorch.org/docs/stable/generated/torch.div.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { div, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(div(tensor([1, 2]), 4)), new Float32Array([0.25, 0.5]));
 * ```
 */
export function div(a: Operand, b: Operand): Tensor {
  return binary(Div, a, b);
}

/**
 * `-x`, elementwise; any shape ({@link https://pytorch.org/docs/stable/generated/torch.neg.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, neg, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(neg(tensor([1, -2]))), new Float32Array([-1, 2]));
 * ```
 */
export function neg(x: Tensor): Tensor {
  return unary(Neg, x);
}

/**
 * `e^x`, elementwise; any shape ({@link https://pytorch.org/docs/stable/generated/torch.exp.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, exp, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [y] = await evaluate(exp(tensor([1])));
 * assertAlmostEquals(y!, Math.E, 1e-5);
 * ```
 */
export function exp(x: Tensor): Tensor {
  return unary(Exp, x);
}

/**
 * Natural logarithm, elementwise; any shape. -∞ of 0, NaN of negative numbers
 * ({@link https://pytorch.org/docs/stable/generated/torch.log.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, log, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [y] = await evaluate(log(tensor([2])));
 * assertAlmostEquals(y!, Math.LN2, 1e-5);
 * ```
 */
export function log(x: Tensor): Tensor {
  return unary(Log, x);
}

/**
 * Square root, elementwise; any shape ({@link https://pytorch.org/docs/stable/generated/torch.sqrt.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, sqrt, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [y] = await evaluate(sqrt(tensor([2])));
 * assertAlmostEquals(y!, Math.SQRT2, 1e-5);
 * ```
 */
export function sqrt(x: Tensor): Tensor {
  return unary(Sqrt, x);
}

/**
 * `x²`, elementwise; any shape ({@link https://pytorch.org/docs/stable/generated/torch.square.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, square, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(square(tensor([1, -3]))), new Float32Array([1, 9]));
 * ```
 */
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

/**
 * 1 where `x` is finite, 0 where it is infinite or NaN, elementwise; any shape. No gradient:
 * {@link grad} refuses it
 * ({@link https://pytorch.org/docs/stable/generated/torch.isfinite.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, isFinite, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = isFinite(tensor([1, Infinity, NaN]));
 * assertEquals(await evaluate(y), new Float32Array([1, 0, 0]));
 * ```
 */
export function isFinite(x: Tensor): Tensor {
  return unary(IsFinite, x);
}

/**
 * `yes` where `condition`, f32, is not 0, else `no`, elementwise with broadcasting. NaN is not 0.
 * Each gets the gradient where it was taken, and the condition gets 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.where.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, tensor, where } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = where(tensor([1, 0]), tensor([5, 6]), -1);
 * assertEquals(await evaluate(y), new Float32Array([5, -1]));
 * ```
 */
export function where(condition: Tensor, yes: Operand, no: Operand): Tensor {
  checkTensor("where", "condition", condition, "f32");
  return apply(Where, [condition, lift("where", "yes", yes), lift("where", "no", no)], {});
}

const Softplus = elementwise(
  "softplus",
  `select(a, T(0.0), ${isNegativeOf("a", "T")}) + log1pOf(exp(-abs(a)))`,
  (g, _, [a]) => [apply(SoftplusGrad, [g, a!], {})],
  [LOG1P],
);
/** `g` times the logistic function of x: an op, for its own gradient would have e^-x, which overflows. */
const SoftplusGrad = elementwise(
  "softplusGrad",
  "a / (T(1.0) + exp(-b))",
  (u, y, [_g, x]) => [
    apply(SoftplusGrad, [u, x!], {}),
    apply(SoftplusGrad, [mul(u, y), neg(x!)], {}),
  ],
);

/**
 * `log(1 + e^x)`, elementwise; any shape. A smooth `relu`: its gradient is the logistic function
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.softplus.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, softplus, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [low, middle, high] = await evaluate(softplus(tensor([-100, 0, 100])));
 * assertAlmostEquals(low!, 0);
 * assertAlmostEquals(middle!, Math.LN2, 1e-6);
 * assertAlmostEquals(high!, 100);
 * ```
 */
export function softplus(x: Tensor): Tensor {
  return unary(Softplus, x);
}

const Abs = elementwise("abs", "abs(a)", (g, _, [a]) => [mul(g, sign(a!))]);

/**
 * `|x|`, elementwise; any shape. Its gradient at 0 is 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.abs.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { abs, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(abs(tensor([-2, 0, 3]))), new Float32Array([2, 0, 3]));
 * ```
 */
export function abs(x: Tensor): Tensor {
  return unary(Abs, x);
}

const Sign = elementwise("sign", `select(sign(a), a, ${isNaNOf("a", "T")})`, () => [null]);

/**
 * -1, 0 or 1, the sign of x, elementwise; any shape. NaN stays NaN. The gradient is 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.sign.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, sign, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(sign(tensor([-2, 0, 3]))), new Float32Array([-1, 0, 1]));
 * ```
 */
export function sign(x: Tensor): Tensor {
  return unary(Sign, x);
}

const Floor = elementwise("floor", "floor(a)", () => [null]);

/**
 * The largest whole number that is not above x, elementwise; any shape. The gradient is 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.floor.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, floor, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(floor(tensor([-1.5, 2.7]))), new Float32Array([-2, 2]));
 * ```
 */
export function floor(x: Tensor): Tensor {
  return unary(Floor, x);
}

const Round = elementwise("round", "round(a)", () => [null]);

/**
 * The nearest whole number, of two the even one, elementwise; any shape. The gradient is 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.round.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, round, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(round(tensor([0.5, 1.5, 2.6]))), new Float32Array([0, 2, 3]));
 * ```
 */
export function round(x: Tensor): Tensor {
  return unary(Round, x);
}

const Sin = elementwise("sin", "sinOf(a, T(0.0))", (g, _, [a]) => [mul(g, cos(a!))], [SIN]);

/**
 * Sine of radians, elementwise; any shape. Within 2e-7 of the exact value for |x| up to about 10⁴
 * ({@link https://pytorch.org/docs/stable/generated/torch.sin.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, sin, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [y] = await evaluate(sin(tensor([100])));
 * assertAlmostEquals(y!, Math.sin(100), 1e-6);
 * ```
 */
export function sin(x: Tensor): Tensor {
  return unary(Sin, x);
}

const Cos = elementwise("cos", "sinOf(a, T(1.0))", (g, _, [a]) => [neg(mul(g, sin(a!)))], [SIN]);

/**
 * Cosine of radians, elementwise; any shape; see {@link sin}
 * ({@link https://pytorch.org/docs/stable/generated/torch.cos.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { cos, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(cos(tensor([0]))), new Float32Array([1]));
 * ```
 */
export function cos(x: Tensor): Tensor {
  return unary(Cos, x);
}

const Erf = elementwise(
  "erf",
  "erfOf(a)",
  (g, _, [a]) => [mul(g, mul(2 / Math.sqrt(Math.PI), exp(neg(square(a!)))))],
  [ERF],
);

/**
 * The error function, elementwise; any shape
 * ({@link https://pytorch.org/docs/stable/special.html#torch.special.erf | PyTorch}).
 *
 * @example
 * ```ts
 * import { erf, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(erf(tensor([-9, 0, 9]))), new Float32Array([-1, 0, 1]));
 * ```
 */
export function erf(x: Tensor): Tensor {
  return unary(Erf, x);
}

const Pow = elementwise(
  "pow",
  "powOf(a, b)",
  (g, y, [a, b]) => [
    // b a^(b - 1), which is 0 where both are 0, and not 0 times infinity.
    mul(g, mul(b!, binary(Pow, where(b!, a!, where(a!, a!, 1)), sub(b!, 1)))),
    // y log a, whose limit for a towards 0 is 0; also where b is 0, and so y is 1.
    mul(g, mul(y, log(where(a!, a!, where(isFinite(y), 1, 0))))),
  ],
  [LOG, POW],
);

/** Powers that are products. */
const PRODUCTS: ReadonlyMap<number, (x: Tensor) => Tensor> = new Map([
  [-1, (x: Tensor) => div(1, x)],
  [0.5, (x: Tensor) => sqrt(x)],
  [1, (x: Tensor) => x],
  [2, (x: Tensor) => square(x)],
  [3, (x: Tensor) => mul(square(x), x)],
  [4, (x: Tensor) => square(square(x))],
]);

/**
 * `a` to the power of `b`, elementwise with broadcasting: 1 where b is 0, NaN where a is negative
 * and b not whole ({@link https://pytorch.org/docs/stable/generated/torch.pow.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, pow, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(pow(tensor([-2, 3]), 3)), new Float32Array([-8, 27]));
 * ```
 */
export function pow(a: Operand, b: Operand): Tensor {
  const base = lift("pow", "a", a);
  const product = typeof b === "number" ? PRODUCTS.get(b) : undefined;
  return product ? product(base) : binary(Pow, base, b);
}
