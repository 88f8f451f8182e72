/**
 * Activations as layers, elementwise on any shape; what they compute is in `ops/activation.ts`.
 *
 * @module
 */

import { elu, gelu, type GeluOptions, leakyRelu, sigmoid, silu, tanh } from "../ops/activation.ts";
import { softplus } from "../ops/elementwise.ts";
import { input, type Tensor } from "../graph/tensor.ts";
import { Module } from "./module.ts";

/** Throws what a call with such options would throw. */
const tried = (call: (x: Tensor) => Tensor) => void call(input("x", []));

/**
 * `1 / (1 + e^-x)` ({@link https://pytorch.org/docs/stable/generated/torch.nn.Sigmoid.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, Sigmoid, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(new Sigmoid().call(tensor([0]))), new Float32Array([0.5]));
 * ```
 */
export class Sigmoid extends Module {
  /** Elementwise; any shape. */
  override forward(x: Tensor): Tensor {
    return sigmoid(x);
  }
}

/**
 * Hyperbolic tangent ({@link https://pytorch.org/docs/stable/generated/torch.nn.Tanh.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, Tanh, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(new Tanh().call(tensor([0]))), new Float32Array([0]));
 * ```
 */
export class Tanh extends Module {
  /** Elementwise; any shape. */
  override forward(x: Tensor): Tensor {
    return tanh(x);
  }
}

/**
 * `x · sigmoid(x)` ({@link https://pytorch.org/docs/stable/generated/torch.nn.SiLU.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, SiLU, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(new SiLU().call(tensor([0]))), new Float32Array([0]));
 * ```
 */
export class SiLU extends Module {
  /** Elementwise; any shape. */
  override forward(x: Tensor): Tensor {
    return silu(x);
  }
}

/**
 * `log(1 + e^x)`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Softplus.html | PyTorch}, with its
 * default `beta` of 1).
 *
 * @example
 * ```ts
 * import { evaluate, Softplus, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [y] = await evaluate(new Softplus().call(tensor([0])));
 * assertAlmostEquals(y!, Math.LN2, 1e-6);
 * ```
 */
export class Softplus extends Module {
  /** Elementwise; any shape. */
  override forward(x: Tensor): Tensor {
    return softplus(x);
  }
}

/**
 * `x · Φ(x)`, where Φ is the distribution function of the normal distribution
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.GELU.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, GELU, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(new GELU().call(tensor([0]))), new Float32Array([0]));
 * ```
 */
export class GELU extends Module {
  /**
   * Exact by default; with `approximate: "tanh"`, PyTorch's approximation.
   *
   * @throws {ArgumentError} for an invalid option.
   */
  constructor(readonly options: GeluOptions = {}) {
    super();
    tried((x) => gelu(x, options));
  }

  /** Elementwise; any shape. */
  override forward(x: Tensor): Tensor {
    return gelu(x, this.options);
  }
}

/**
 * `x`, or `alpha · (e^x - 1)` where x is negative ({@link https://pytorch.org/docs/stable/generated/torch.nn.ELU.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { ELU, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(new ELU().call(tensor([0]))), new Float32Array([0]));
 * ```
 */
export class ELU extends Module {
  /**
   * `alpha` is 1 by default.
   *
   * @throws {ArgumentError} if `alpha` is negative, which PyTorch allows, or not finite.
   */
  constructor(readonly options: { readonly alpha?: number } = {}) {
    super();
    tried((x) => elu(x, options));
  }

  /** Elementwise; any shape. */
  override forward(x: Tensor): Tensor {
    return elu(x, this.options);
  }
}

/**
 * `x`, or `negativeSlope · x` where x is negative ({@link https://pytorch.org/docs/stable/generated/torch.nn.LeakyReLU.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, LeakyReLU, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(new LeakyReLU().call(tensor([0]))), new Float32Array([0]));
 * ```
 */
export class LeakyReLU extends Module {
  /**
   * `negativeSlope` is 0.01 by default.
   *
   * @throws {ArgumentError} if it is not finite.
   */
  constructor(readonly options: { readonly negativeSlope?: number } = {}) {
    super();
    tried((x) => leakyRelu(x, options));
  }

  /** Elementwise; any shape. */
  override forward(x: Tensor): Tensor {
    return leakyRelu(x, this.options);
  }
}
