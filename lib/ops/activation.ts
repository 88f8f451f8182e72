/**
 * Activations, elementwise on any shape; all throw an ArgumentError for what is no tensor and a
 * ShapeError for one that is not f32. Everything here is public.
 *
 * @module
 */

import { checkChoice, checkNumber, checkOptions } from "../check/arguments.ts";
import { apply, checkTensor, type Tensor, tensor } from "../graph/tensor.ts";
import { greater } from "./compare.ts";
import { add, erf, mul, square, sub, where } from "./elementwise.ts";
import { elementwise, unary } from "./expression.ts";
import { EXPM1, TANH } from "./functions.ts";

const Sigmoid = elementwise(
  "sigmoid",
  "T(1.0) / (T(1.0) + exp(-a))",
  (g, y) => [mul(g, mul(y, sub(1, y)))],
);

/**
 * The logistic function `1 / (1 + e^-x)`, elementwise; any shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.sigmoid.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, sigmoid, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(sigmoid(tensor([-200, 0, 200]))), new Float32Array([0, 0.5, 1]));
 * ```
 */
export function sigmoid(x: Tensor): Tensor {
  return unary(Sigmoid, x);
}

const Tanh = elementwise("tanh", "tanhOf(a)", (g, y) => [mul(g, sub(1, square(y)))], [TANH]);

/**
 * Hyperbolic tangent, elementwise; any shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.tanh.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, tanh, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(tanh(tensor([-50, 0, 50]))), new Float32Array([-1, 0, 1]));
 * ```
 */
export function tanh(x: Tensor): Tensor {
  return unary(Tanh, x);
}

/**
 * `x · sigmoid(x)`, elementwise; any shape. Also called swish
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.silu.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, silu, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(silu(tensor([0, 200]))), new Float32Array([0, 200]));
 * ```
 */
export function silu(x: Tensor): Tensor {
  checkTensor("silu", "x", x, "f32");
  return mul(x, sigmoid(x));
}

/** Settings of {@link gelu}. */
export interface GeluOptions {
  /**
   * `"none"`, the default, is exact; `"tanh"` is the cheaper formula of Hendrycks & Gimpel 2016.
   */
  readonly approximate?: "none" | "tanh";
}

/**
 * `x · Φ(x)`, elementwise; any shape. Φ is the distribution function of standard normal numbers
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.gelu.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, gelu, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [exact] = await evaluate(gelu(tensor([1])));
 * const [cheap] = await evaluate(gelu(tensor([1]), { approximate: "tanh" }));
 * assertAlmostEquals(exact!, 0.841345, 1e-6);
 * assertAlmostEquals(cheap!, 0.841192, 1e-6);
 * ```
 */
export function gelu(x: Tensor, options: GeluOptions = {}): Tensor {
  checkTensor("gelu", "x", x, "f32");
  checkOptions("gelu", options, ["approximate"]);
  const { approximate = "none" } = options;
  checkChoice("gelu", "approximate", approximate, ["none", "tanh"]);
  const phi = approximate === "none"
    ? erf(mul(x, Math.SQRT1_2))
    : tanh(mul(Math.sqrt(2 / Math.PI), mul(x, add(1, mul(0.044715, square(x))))));
  return mul(mul(x, 0.5), add(1, phi));
}

const Elu = elementwise(
  "elu",
  "select(b * expm1Of(a), a, a > T(0.0))",
  (g, y, [_, alpha]) => [apply(EluGrad, [g, y, alpha!], {}), null],
  [EXPM1],
);
/** From the gradient of y = elu(x, alpha), y and alpha: y + alpha is alpha eˣ where x is negative. */
const EluGrad = elementwise(
  "eluGrad",
  "select(a * (b + c), a, b > T(0.0))",
  (u, _, [g, y, alpha]) => [
    apply(EluGrad, [u, y!, alpha!], {}),
    where(greater(y!, 0), 0, mul(u, g!)),
    null,
  ],
);

/**
 * `x`, or `alpha · (e^x - 1)` where x is negative, elementwise; any shape. `alpha` is 1 by default,
 * and at least 0
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.elu.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { elu, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(elu(tensor([-200, 0, 3]), { alpha: 2 })), new Float32Array([-2, 0, 3]));
 * ```
 */
export function elu(x: Tensor, options: { readonly alpha?: number } = {}): Tensor {
  checkTensor("elu", "x", x, "f32");
  checkOptions("elu", options, ["alpha"]);
  const { alpha = 1 } = options;
  checkNumber("elu", "alpha", alpha, { min: 0 });
  return apply(Elu, [x, tensor(alpha)], {});
}

const LeakyRelu = elementwise(
  "leakyRelu",
  "select(a * b, a, a > T(0.0))",
  (g, _, [x, slope]) => [apply(LeakyReluGrad, [g, x!, slope!], {}), null],
);
const LeakyReluGrad = elementwise(
  "leakyReluGrad",
  "select(a * c, a, b > T(0.0))",
  (u, _, [_g, x, slope]) => [apply(LeakyReluGrad, [u, x!, slope!], {}), null, null],
);

/**
 * `x`, or `negativeSlope · x` where x is negative, elementwise; any shape. `negativeSlope` is 0.01
 * by default
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.leaky_relu.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, leakyRelu, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = leakyRelu(tensor([-4, 0, 3]), { negativeSlope: 0.5 });
 * assertEquals(await evaluate(y), new Float32Array([-2, 0, 3]));
 * ```
 */
export function leakyRelu(x: Tensor, options: { readonly negativeSlope?: number } = {}): Tensor {
  checkTensor("leakyRelu", "x", x, "f32");
  checkOptions("leakyRelu", options, ["negativeSlope"]);
  const { negativeSlope = 0.01 } = options;
  checkNumber("leakyRelu", "negativeSlope", negativeSlope);
  return apply(LeakyRelu, [x, tensor(negativeSlope)], {});
}
