/**
 * Layers with PyTorch's names, arguments, initial values and state-dict keys.
 *
 * @module
 */

import {
  ArgumentError,
  checkBoolean,
  checkInstance,
  checkNumber,
  checkOptions,
  checkString,
  refuse,
} from "../check/arguments.ts";
import {
  checkConv,
  checkConvTranspose,
  conv2d,
  CONV_TRANSPOSE_WEIGHT_ORDER,
  CONV_WEIGHT_ORDER,
  type ConvOptions,
  convTranspose2d,
  type ConvTransposeOptions,
} from "../ops/conv.ts";
import { relu } from "../ops/elementwise.ts";
import { linear } from "../ops/matmul.ts";
import {
  avgPool2d,
  type AvgPoolOptions,
  checkAvgPool,
  checkPool,
  globalAvgPool2d,
  maxPool2d,
  type PoolOptions,
} from "../ops/pool.ts";
import {
  adaptiveAvgPool2d,
  checkOutputSize,
  checkUpsample,
  type OutputSize,
  upsample,
  type UpsampleOptions,
} from "../ops/resample.ts";
import { flatten } from "../ops/view.ts";
import { type Pair, pair } from "../graph/shape.ts";
import { checkTensor, checkVariable, storeIn, type Tensor } from "../graph/tensor.ts";
import { uniformParameter } from "./init.ts";
import { Module, type Parameter } from "./module.ts";

/** What a number of channels or features must be. */
const COUNT = { integer: true, min: 1 } as const;

/** Settings of a {@link Conv2d}. */
export interface Conv2dOptions extends ConvOptions {
  /** Height and width of the kernel. */
  readonly kernelSize: Pair;
  /** Whether a bias is added; true by default. */
  readonly bias?: boolean;
}

/** The channels of a convolution, checked; its kernel, its weight of `shape`, and its bias. */
function convParameters(
  name: string,
  channels: readonly [number, number],
  { kernelSize, bias = true }: { kernelSize: Pair; bias?: boolean },
  groups: number,
  order: readonly number[],
): { kernelSize: [number, number]; weight: Parameter; bias: Parameter | undefined } {
  checkBoolean(name, "bias", bias);
  const kernel = pair(name, "kernelSize", kernelSize, 1);
  const transposed = order === CONV_TRANSPOSE_WEIGHT_ORDER, [c, o] = channels;
  channels.forEach((count, i) => {
    if (count % groups === 0) return;
    const of = i === 0 ? "inChannels" : "outChannels";
    throw new ArgumentError(`${name}: ${groups} groups do not divide ${of}, ${count}`);
  });
  const shape = transposed ? [c, o / groups, ...kernel] : [o, c / groups, ...kernel];
  checkVariable(name, shape);
  const fanIn = shape[1]! * kernel[0] * kernel[1];
  return {
    kernelSize: kernel,
    weight: storeIn(order, uniformParameter(shape, fanIn)),
    bias: bias ? uniformParameter([o], fanIn) : undefined,
  };
}

/**
 * Convolution, `[N, inChannels, H, W]` → `[N, outChannels, P, Q]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Conv2d.html | PyTorch}), with
 * `P = ⌊(H + 2 padding - dilation (R - 1) - 1) / stride⌋ + 1` and Q likewise. Padding is with zeros
 * only.
 *
 * @example A depthwise convolution
 * ```ts
 * import { Conv2d, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const conv = new Conv2d(8, 8, { kernelSize: 3, padding: "same", groups: 8 });
 * assertEquals(conv.weight.shape, [8, 1, 3, 3]);
 * assertEquals(conv.call(input("x", [2, 8, 6, 5])).shape, [2, 8, 6, 5]);
 * ```
 */
export class Conv2d extends Module {
  /** `[outChannels, inChannels / groups, R, S]`. */
  readonly weight: Parameter;
  /** `[outChannels]`; undefined if `bias` is false. */
  readonly bias: Parameter | undefined;
  /** Height and width of the kernel, R × S. */
  readonly kernelSize: readonly [number, number];
  /** Step between windows, down and across. */
  readonly stride: readonly [number, number];
  /** Zeros added above and below, left and right; or `"same"`, as many as keep the size. */
  readonly padding: readonly [number, number] | "same";
  /** Distance between taps of the kernel, down and across. */
  readonly dilation: readonly [number, number];
  /** Groups of channels, each with a convolution of its own. */
  readonly groups: number;

  /**
   * Draws weight and bias from U(-1/√fanIn, 1/√fanIn) with fanIn = inChannels / groups · R · S.
   *
   * @throws {ArgumentError} for invalid channels, groups or options.
   * @throws {ShapeError} for an invalid kernel, stride, padding or dilation.
   */
  constructor(
    readonly inChannels: number,
    readonly outChannels: number,
    options: Conv2dOptions,
  ) {
    super();
    checkNumber("Conv2d", "inChannels", inChannels, COUNT);
    checkNumber("Conv2d", "outChannels", outChannels, COUNT);
    const windows = ["stride", "padding", "dilation", "groups"];
    checkOptions("Conv2d", options, ["kernelSize", ...windows, "bias"]);
    const { same, ...window } = checkConv("Conv2d", options);
    const { kernelSize, weight, bias } = convParameters(
      "Conv2d",
      [inChannels, outChannels],
      options,
      window.groups,
      CONV_WEIGHT_ORDER,
    );
    this.weight = weight;
    this.bias = bias;
    this.kernelSize = kernelSize;
    this.stride = window.stride;
    this.padding = same ? "same" : window.padding;
    this.dilation = window.dilation;
    this.groups = window.groups;
  }

  /** `conv2d` with this layer's weights. */
  override forward(x: Tensor): Tensor {
    const { stride, padding, dilation, groups } = this;
    return conv2d(x, this.weight, this.bias, { stride, padding, dilation, groups });
  }
}

/** Settings of a {@link ConvTranspose2d}. */
export interface ConvTranspose2dOptions extends ConvTransposeOptions {
  /** Height and width of the kernel. */
  readonly kernelSize: Pair;
  /** Whether a bias is added; true by default. */
  readonly bias?: boolean;
}

/**
 * Transposed convolution, `[N, inChannels, H, W]` → `[N, outChannels, P, Q]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html | PyTorch}), with
 * `P = (H - 1) stride - 2 padding + dilation (R - 1) + outputPadding + 1` and Q likewise.
 *
 * @example Images twice as large
 * ```ts
 * import { ConvTranspose2d, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const up = new ConvTranspose2d(8, 4, { kernelSize: 2, stride: 2 });
 * assertEquals(up.call(input("x", [2, 8, 6, 5])).shape, [2, 4, 12, 10]);
 * ```
 */
export class ConvTranspose2d extends Module {
  /** `[inChannels, outChannels / groups, R, S]`. */
  readonly weight: Parameter;
  /** `[outChannels]`; undefined if `bias` is false. */
  readonly bias: Parameter | undefined;
  /** Height and width of the kernel, R × S. */
  readonly kernelSize: readonly [number, number];
  /** Step between windows, down and across. */
  readonly stride: readonly [number, number];
  /** Pixels cut off the result above and below, left and right. */
  readonly padding: readonly [number, number];
  /** Pixels added to the result below and on the right. */
  readonly outputPadding: readonly [number, number];
  /** Distance between taps of the kernel, down and across. */
  readonly dilation: readonly [number, number];
  /** Groups of channels, each with a convolution of its own. */
  readonly groups: number;

  /**
   * Draws weight and bias from U(-1/√fanIn, 1/√fanIn) with fanIn = outChannels / groups · R · S, as
   * PyTorch does.
   *
   * @throws {ArgumentError} for invalid channels, groups or options.
   * @throws {ShapeError} for an invalid kernel, stride, padding or dilation.
   */
  constructor(
    readonly inChannels: number,
    readonly outChannels: number,
    options: ConvTranspose2dOptions,
  ) {
    super();
    const name = "ConvTranspose2d";
    checkNumber(name, "inChannels", inChannels, COUNT);
    checkNumber(name, "outChannels", outChannels, COUNT);
    const windows = ["stride", "padding", "outputPadding", "dilation", "groups"];
    checkOptions(name, options, ["kernelSize", ...windows, "bias"]);
    const window = checkConvTranspose(name, options);
    const { kernelSize, weight, bias } = convParameters(
      name,
      [inChannels, outChannels],
      options,
      window.groups,
      CONV_TRANSPOSE_WEIGHT_ORDER,
    );
    this.weight = weight;
    this.bias = bias;
    this.kernelSize = kernelSize;
    this.stride = window.stride;
    this.padding = window.padding;
    this.outputPadding = window.outputPadding;
    this.dilation = window.dilation;
    this.groups = window.groups;
  }

  /** `convTranspose2d` with this layer's weights. */
  override forward(x: Tensor): Tensor {
    const { stride, padding, outputPadding, dilation, groups } = this;
    const options = { stride, padding, outputPadding, dilation, groups };
    return convTranspose2d(x, this.weight, this.bias, options);
  }
}

/** Settings of a {@link Linear}. */
export interface LinearOptions {
  /** Whether a bias is added; true by default. */
  readonly bias?: boolean;
}

/**
 * Fully connected layer, `[…, inFeatures]` → `[…, outFeatures]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Linear.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { input, Linear } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(new Linear(512, 10).call(input("x", [4, 512])).shape, [4, 10]);
 * ```
 */
export class Linear extends Module {
  /** `[outFeatures, inFeatures]`. */
  readonly weight: Parameter;
  /** `[outFeatures]`; undefined if `bias` is false. */
  readonly bias: Parameter | undefined;

  /**
   * Draws weight and bias from U(-1/√inFeatures, 1/√inFeatures).
   *
   * @throws {ArgumentError} for invalid features or options.
   */
  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options: LinearOptions = {},
  ) {
    super();
    checkNumber("Linear", "inFeatures", inFeatures, COUNT);
    checkNumber("Linear", "outFeatures", outFeatures, COUNT);
    checkVariable("Linear", [outFeatures, inFeatures]);
    checkOptions("Linear", options, ["bias"]);
    const { bias = true } = options;
    checkBoolean("Linear", "bias", bias);
    this.weight = uniformParameter([outFeatures, inFeatures], inFeatures);
    this.bias = bias ? uniformParameter([outFeatures], inFeatures) : undefined;
  }

  /** `x Wᵀ + b`. */
  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}

/**
 * `max(x, 0)` ({@link https://pytorch.org/docs/stable/generated/torch.nn.ReLU.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, ReLU, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(new ReLU().call(tensor([-1, 2]))), new Float32Array([0, 2]));
 * ```
 */
export class ReLU extends Module {
  /** Elementwise; any shape. */
  override forward(x: Tensor): Tensor {
    return relu(x);
  }
}

/**
 * Largest value of each window, `[N, C, H, W]` → `[N, C, P, Q]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html | PyTorch}). There is
 * no dilation.
 *
 * @example
 * ```ts
 * import { input, MaxPool2d } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const layer = new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 });
 * assertEquals(layer.call(input("x", [4, 8, 32, 32])).shape, [4, 8, 16, 16]);
 * ```
 */
export class MaxPool2d extends Module {
  /**
   * A window of `kernelSize`, moved by `stride` over the padded input.
   *
   * @throws {ArgumentError} for invalid options.
   * @throws {ShapeError} for an invalid size, stride or padding.
   */
  constructor(readonly options: PoolOptions) {
    super();
    checkPool("MaxPool2d", options);
  }

  /** `[N, C, H, W]` → `[N, C, P, Q]`. */
  override forward(x: Tensor): Tensor {
    return maxPool2d(x, this.options);
  }
}

/**
 * Mean of each window, `[N, C, H, W]` → `[N, C, P, Q]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { AvgPool2d, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const pool = new AvgPool2d({ kernelSize: 3, stride: 2, ceilMode: true });
 * assertEquals(pool.call(input("x", [1, 4, 6, 7])).shape, [1, 4, 3, 3]);
 * ```
 */
export class AvgPool2d extends Module {
  /**
   * A window of `kernelSize`, moved by `stride` over the padded input.
   *
   * @throws {ArgumentError} for invalid options.
   * @throws {ShapeError} for an invalid size, stride or padding.
   */
  constructor(readonly options: AvgPoolOptions) {
    super();
    checkAvgPool("AvgPool2d", options);
  }

  /** `[N, C, H, W]` → `[N, C, P, Q]`. */
  override forward(x: Tensor): Tensor {
    return avgPool2d(x, this.options);
  }
}

/**
 * Average pooling to a given size, `[N, C, H, W]` → `[N, C, …outputSize]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { AdaptiveAvgPool2d, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = new AdaptiveAvgPool2d([3, null]).call(input("x", [1, 4, 7, 5]));
 * assertEquals(y.shape, [1, 4, 3, 5]);
 * ```
 */
export class AdaptiveAvgPool2d extends Module {
  /**
   * The size of the result: one number, or `[height, width]`; null keeps that side as it is.
   *
   * @throws {ArgumentError} if a size is missing.
   * @throws {ShapeError} for an invalid size.
   */
  constructor(readonly outputSize: OutputSize) {
    super();
    checkOutputSize("AdaptiveAvgPool2d", outputSize);
  }

  /** `[N, C, H, W]` → `[N, C, ...outputSize]`. */
  override forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.outputSize);
  }
}

/**
 * Resizes images, `[N, C, H, W]` → `[N, C, P, Q]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Upsample.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { input, Upsample } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const larger = new Upsample({ scaleFactor: 2, mode: "bilinear", alignCorners: true });
 * assertEquals(larger.call(input("x", [1, 4, 7, 5])).shape, [1, 4, 14, 10]);
 * ```
 */
export class Upsample extends Module {
  /**
   * Takes either `size` or `scaleFactor`.
   *
   * @throws {ArgumentError} for invalid options.
   * @throws {ShapeError} for an invalid size.
   */
  constructor(readonly options: UpsampleOptions) {
    super();
    checkUpsample("Upsample", options);
  }

  /** `[N, C, H, W]` → `[N, C, P, Q]`. */
  override forward(x: Tensor): Tensor {
    return upsample(x, this.options);
  }
}

/**
 * Mean over all pixels, `[N, C, H, W]` → `[N, C, 1, 1]`: the notebook's layer of that name.
 *
 * @example
 * ```ts
 * import { GlobalAvgPool2d, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(new GlobalAvgPool2d().call(input("x", [4, 8, 7, 7])).shape, [4, 8, 1, 1]);
 * ```
 */
export class GlobalAvgPool2d extends Module {
  /** `[N, C, H, W]` → `[N, C, 1, 1]`. */
  override forward(x: Tensor): Tensor {
    return globalAvgPool2d(x);
  }
}

/**
 * Joins all dimensions but the first
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Flatten.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { Flatten, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(new Flatten().call(input("x", [4, 8, 1, 1])).shape, [4, 8]);
 * ```
 */
export class Flatten extends Module {
  /** `[N, …]` → `[N, rest]`. */
  override forward(x: Tensor): Tensor {
    return flatten(x);
  }
}

/** What a {@link Sequential} runs: a layer, or a function of a tensor. */
export type Layer = Module | ((x: Tensor) => Tensor);

/** A function as a layer. */
class Lambda extends Module {
  constructor(readonly of: (x: Tensor) => Tensor) {
    super();
  }

  override forward(x: Tensor): Tensor {
    const y = this.of(x);
    checkTensor("Sequential", `what ${this.of.name || "a function"} returns`, y);
    return y;
  }
}

/**
 * Layers one after the other
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Sequential.html | PyTorch}). Children
 * are named `0`, `1`, … or as {@link Sequential.add} says. A function may stand for a layer: it
 * counts in these names, and has no parameters.
 *
 * @example
 * ```ts
 * import { flatten, input, Linear, relu, Sequential } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const net = new Sequential(flatten, new Linear(784, 10), relu);
 * assertEquals(net.call(input("x", [4, 1, 28, 28])).shape, [4, 10]);
 * assertEquals([...(await net.stateDict()).keys()], ["1.weight", "1.bias"]);
 * ```
 */
export class Sequential extends Module {
  readonly #children = new Map<string, Module>();

  /** Takes the layers in order. */
  constructor(...layers: readonly Layer[]) {
    super();
    layers.forEach((layer) => this.add(layer));
  }

  /**
   * Appends a layer (PyTorch's `add_module`); its name is its position by default.
   *
   * @throws {ArgumentError} if it is neither a module nor a function, or if the name is empty,
   * taken or has a dot.
   */
  add(layer: Layer, name: string = String(this.#children.size)): this {
    checkString("Sequential", "a layer's name", name);
    // A class is a function too: one that was not made an object of.
    const isModule = layer instanceof Module || layer?.prototype instanceof Module;
    const child = typeof layer === "function" && !isModule ? new Lambda(layer) : layer;
    checkInstance("Sequential", `layer ${name}`, child, Module);
    if (name === "" || name.includes(".")) {
      refuse("Sequential", "a layer's name", "a word without dots", name);
    }
    if (this.#children.has(name)) {
      throw new ArgumentError(`Sequential: there is a layer "${name}" already`);
    }
    this.#children.set(name, child);
    return this;
  }

  /** The layers with their names, in order. */
  override namedChildren(): [string, Module][] {
    return [...this.#children];
  }

  /** Each layer on the output of the one before. */
  override forward(x: Tensor): Tensor {
    return [...this.#children.values()].reduce((value, layer) => layer.call(value), x);
  }
}
