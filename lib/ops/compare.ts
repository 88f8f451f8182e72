/**
 * Comparisons, elementwise with NumPy broadcasting: 1 where they hold, else 0, and no gradient; the
 * smaller and the larger; bounds. NaN compares as in PyTorch: it is equal to nothing, and stays NaN in
 * {@link minimum}, {@link maximum} and {@link clamp}. Everything here is public.
 *
 * @module
 */

import { checkNumber, checkOptions, refuse } from "../check/arguments.ts";
import { isNaNOf } from "../kernels/kernel.ts";
import { apply, checkTensor, type Op, type Tensor, tensor } from "../graph/tensor.ts";
import { mul, type Operand, where } from "./elementwise.ts";
import { binary, elementwise, unary } from "./expression.ts";

/** WGSL: whether `a` or `b` is NaN, which drivers get wrong when they compare floats. */
const NAN = `(${isNaNOf("a", "T")} | ${isNaNOf("b", "T")})`;

/** The op of a comparison in WGSL; of NaN it is `ofNaN`. */
const comparison = (name: string, test: string, ofNaN = 0): Op =>
  elementwise(
    name,
    `select(select(T(0.0), T(1.0), ${test}), T(${ofNaN}.0), ${NAN})`,
    () => [null, null],
  );

const Equal = comparison("equal", "a == b");

/**
 * 1 where `a` equals `b`, else 0, elementwise with broadcasting; f32. NaN equals nothing, and is
 * neither less nor greater. The gradient is 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.eq.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { equal, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(equal(tensor([1, 2, 3]), 2)), new Float32Array([0, 1, 0]));
 * ```
 */
export function equal(a: Operand, b: Operand): Tensor {
  return binary(Equal, a, b);
}

const NotEqual = comparison("notEqual", "a != b", 1);

/**
 * 1 where `a` does not equal `b`, else 0; otherwise like {@link equal}, so 1 for NaN
 * ({@link https://pytorch.org/docs/stable/generated/torch.ne.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, notEqual, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(notEqual(tensor([1, 2, 3]), 2)), new Float32Array([1, 0, 1]));
 * ```
 */
export function notEqual(a: Operand, b: Operand): Tensor {
  return binary(NotEqual, a, b);
}

const Less = comparison("less", "a < b");

/**
 * 1 where `a` is less than `b`, else 0; otherwise like {@link equal}
 * ({@link https://pytorch.org/docs/stable/generated/torch.lt.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, less, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(less(tensor([1, 2, 3]), 2)), new Float32Array([1, 0, 0]));
 * ```
 */
export function less(a: Operand, b: Operand): Tensor {
  return binary(Less, a, b);
}

const LessEqual = comparison("lessEqual", "a <= b");

/**
 * 1 where `a` is at most `b`, else 0; otherwise like {@link equal}
 * ({@link https://pytorch.org/docs/stable/generated/torch.le.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, lessEqual, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(lessEqual(tensor([1, 2, 3]), 2)), new Float32Array([1, 1, 0]));
 * ```
 */
export function lessEqual(a: Operand, b: Operand): Tensor {
  return binary(LessEqual, a, b);
}

const Greater = comparison("greater", "a > b");

/**
 * 1 where `a` is greater than `b`, else 0; otherwise like {@link equal}
 * ({@link https://pytorch.org/docs/stable/generated/torch.gt.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, greater, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(greater(tensor([1, 2, 3]), 2)), new Float32Array([0, 0, 1]));
 * ```
 */
export function greater(a: Operand, b: Operand): Tensor {
  return binary(Greater, a, b);
}

const GreaterEqual = comparison("greaterEqual", "a >= b");

/**
 * 1 where `a` is at least `b`, else 0; otherwise like {@link equal}
 * ({@link https://pytorch.org/docs/stable/generated/torch.ge.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, greaterEqual, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(greaterEqual(tensor([1, 2, 3]), 2)), new Float32Array([0, 1, 1]));
 * ```
 */
export function greaterEqual(a: Operand, b: Operand): Tensor {
  return binary(GreaterEqual, a, b);
}

/**
 * The op that takes the one of `a` and `b` for which `test` holds, and so not `fails`; the gradient of a
 * tie is halved, and of NaN, for which nothing holds, both get it.
 */
const extremum = (name: string, test: string, fails: (a: Operand, b: Operand) => Tensor): Op =>
  elementwise(
    name,
    `select(select(b, a, ${test}), a + b, ${NAN})`,
    (g, _, [a, b]) => {
      const half = where(equal(a!, b!), mul(g, 0.5), 0);
      return [where(fails(a!, b!), half, g), where(fails(b!, a!), half, g)];
    },
  );
const Minimum = extremum("minimum", "a < b", greaterEqual);
const Maximum = extremum("maximum", "a > b", lessEqual);

/**
 * The smaller of two, elementwise with broadcasting; NaN if one of them is. Equal ones get half of
 * the gradient each, and beside NaN each gets all of it
 * ({@link https://pytorch.org/docs/stable/generated/torch.minimum.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, minimum, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(minimum(tensor([1, 5]), 3)), new Float32Array([1, 3]));
 * ```
 */
export function minimum(a: Operand, b: Operand): Tensor {
  return binary(Minimum, a, b);
}

/**
 * The larger of two, elementwise with broadcasting; NaN if one of them is. Equal ones get half of
 * the gradient each, and beside NaN each gets all of it
 * ({@link https://pytorch.org/docs/stable/generated/torch.maximum.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, maximum, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(maximum(tensor([1, 5]), 3)), new Float32Array([3, 5]));
 * ```
 */
export function maximum(a: Operand, b: Operand): Tensor {
  return binary(Maximum, a, b);
}

/** WGSL: `a`, or the lower bound. */
const ABOVE = "select(a, b, a < b)";
const Clamp = elementwise(
  "clamp",
  `select(select(${ABOVE}, c, ${ABOVE} > c), a, ${isNaNOf("a", "T")})`,
  (g, _, [a, low, high]) => [
    where(greaterEqual(a!, low!), where(lessEqual(a!, high!), g, 0), 0),
    null,
    null,
  ],
);

/** Bounds of {@link clamp}, at least one of them. */
export interface ClampOptions {
  /** What is less becomes this; no bound by default. */
  readonly min?: number;
  /** What is more becomes this; no bound by default. */
  readonly max?: number;
}

/**
 * `x` within bounds, elementwise; any shape. NaN stays NaN. Everything becomes `max` if that is
 * less than `min`. The gradient is 0 for what is out of bounds
 * ({@link https://pytorch.org/docs/stable/generated/torch.clamp.html | PyTorch}).
 *
 * @throws {ArgumentError} if neither bound is given, or one is not finite.
 *
 * @example
 * ```ts
 * import { clamp, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = clamp(tensor([-3, 0.5, 9]), { min: 0, max: 1 });
 * assertEquals(await evaluate(y), new Float32Array([0, 0.5, 1]));
 * ```
 */
export function clamp(x: Tensor, options: ClampOptions): Tensor {
  checkTensor("clamp", "x", x, "f32");
  checkOptions("clamp", options, ["min", "max"]);
  const { min, max } = options;
  if (min === undefined && max === undefined) {
    refuse("clamp", "options", "min, max or both", options);
  }
  if (min !== undefined) checkNumber("clamp", "min", min);
  if (max !== undefined) checkNumber("clamp", "max", max);
  return apply(Clamp, [x, tensor(min ?? -Infinity), tensor(max ?? Infinity)], {});
}

const StopGradient = elementwise("stopGradient", "a", () => [null]);

/**
 * `x`, through which no gradient flows; any shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.Tensor.detach.html | PyTorch's detach}).
 *
 * @example
 * ```ts
 * import { evaluate, grad, mul, stopGradient, sum, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([2, 3]);
 * const [g] = grad(sum(mul(x, stopGradient(x))), [x]);
 * assertEquals(await evaluate(g!), new Float32Array([2, 3]));
 * ```
 */
export function stopGradient(x: Tensor): Tensor {
  return unary(StopGradient, x);
}
