/**
 * ResNets (after He et al. 2015, https://arxiv.org/abs/1512.03385) in two definitions: the
 * notebook's, with its deeper siblings, and torchvision's, whose published weights fit. In the
 * notebook's, every convolution has a bias and the 1×1 shortcut no batch norm; in torchvision's it
 * is the other way round.
 *
 * @module
 */

import { Conv2d, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, ReLU, Sequential } from "./layers.ts";
import { normalParameter } from "./init.ts";
import { BatchNorm2d } from "./normalization.ts";
import {
  ArgumentError,
  checkBoolean,
  checkNumber,
  checkOptions,
  refuse,
} from "../check/arguments.ts";
import { Module } from "./module.ts";
import { CONV_WEIGHT_ORDER } from "../ops/conv.ts";
import { add, relu } from "../ops/elementwise.ts";
import { storeIn, type Tensor } from "../graph/tensor.ts";

/** Settings of a {@link Residual} or {@link Bottleneck}. */
export interface BlockOptions {
  /** Whether there is a 1×1 convolution on the shortcut; false by default. */
  readonly use1x1conv?: boolean;
  /** Stride of the block: it divides height and width by this; 1 by default. */
  readonly stride?: number;
}

/** The most channels, classes and blocks: more than any network has. */
const MOST_CHANNELS = 2 ** 16, MOST_CLASSES = 2 ** 20, MOST_BLOCKS = 1024;

function checkChannels(op: string, inChannels: number, outChannels: number): void {
  const wanted = { integer: true, min: 1, max: MOST_CHANNELS };
  checkNumber(op, "inChannels", inChannels, wanted);
  checkNumber(op, "outChannels", outChannels, wanted);
}

function blockOptions(name: string, options: BlockOptions): Required<BlockOptions> {
  checkOptions(name, options, ["use1x1conv", "stride"]);
  const { use1x1conv = false, stride = 1 } = options;
  checkBoolean(name, "use1x1conv", use1x1conv);
  checkNumber(name, "stride", stride, { integer: true, min: 1, max: MOST_CHANNELS });
  return { use1x1conv, stride };
}

/**
 * The residual block of ResNet-18 and 34, `[N, inChannels, H, W]` → `[N, outChannels, ⌈H/stride⌉,
 * ⌈W/stride⌉]`: `relu(b2(conv2(relu(b1(conv1(x))))) + x)`. If the number of channels or the size
 * changes, the shortcut needs a 1×1 convolution: `relu(… + conv3(x))`.
 *
 * @example
 * ```ts
 * import { input, Residual } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const block = new Residual(3, 6, { use1x1conv: true, stride: 2 });
 * assertEquals(block.forward(input("x", [4, 3, 6, 6])).shape, [4, 6, 3, 3]);
 * ```
 */
export class Residual extends Module {
  /** The block's output channels divided by those of its 3×3 convolutions. */
  static readonly expansion: number = 1;
  /** 3×3, with the stride. */
  readonly conv1: Conv2d;
  /** 3×3. */
  readonly conv2: Conv2d;
  /** 1×1 on the shortcut, with the stride too; undefined without `use1x1conv`. */
  readonly conv3: Conv2d | undefined;
  /** After `conv1`. */
  readonly b1: BatchNorm2d;
  /** After `conv2`. */
  readonly b2: BatchNorm2d;

  /**
   * `use1x1conv` puts a 1×1 convolution on the shortcut.
   *
   * @throws {ArgumentError} for invalid channels or options.
   */
  constructor(
    inChannels: number,
    outChannels: number,
    options: BlockOptions = {},
  ) {
    super();
    checkChannels("Residual", inChannels, outChannels);
    const { use1x1conv, stride } = blockOptions("Residual", options);
    this.conv1 = new Conv2d(inChannels, outChannels, { kernelSize: 3, padding: 1, stride });
    this.conv2 = new Conv2d(outChannels, outChannels, { kernelSize: 3, padding: 1 });
    if (use1x1conv) this.conv3 = new Conv2d(inChannels, outChannels, { kernelSize: 1, stride });
    this.b1 = new BatchNorm2d(outChannels);
    this.b2 = new BatchNorm2d(outChannels);
  }

  /** The block's output. */
  override forward(x: Tensor): Tensor {
    let y = relu(this.b1.call(this.conv1.call(x)));
    y = this.b2.call(this.conv2.call(y));
    return relu(add(y, this.conv3 ? this.conv3.call(x) : x));
  }
}

/**
 * The residual block of ResNet-50 and deeper, `[N, inChannels, H, W]` → `[N, outChannels,
 * ⌈H/stride⌉, ⌈W/stride⌉]`: a 1×1 convolution to `outChannels / 4` channels, a 3×3 and a 1×1 back,
 * each with a batch norm; then the shortcut is added as in {@link Residual}. The 3×3 convolution
 * has the stride, as in torchvision; in the paper the first 1×1 has it.
 *
 * @example
 * ```ts
 * import { Bottleneck, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const block = new Bottleneck(64, 128, { use1x1conv: true, stride: 2 });
 * assertEquals(block.conv2.inChannels, 32);
 * assertEquals(block.forward(input("x", [4, 64, 6, 6])).shape, [4, 128, 3, 3]);
 * ```
 */
export class Bottleneck extends Module {
  /** The block's output channels divided by those of its 3×3 convolution. */
  static readonly expansion: number = 4;

  /** 1×1, to a quarter of the output's channels. */
  readonly conv1: Conv2d;
  /** 3×3, with the stride. */
  readonly conv2: Conv2d;
  /** 1×1, to all of the output's channels. */
  readonly conv3: Conv2d;
  /** 1×1 on the shortcut, with the stride too; undefined without `use1x1conv`. */
  readonly conv4: Conv2d | undefined;
  /** After `conv1`. */
  readonly b1: BatchNorm2d;
  /** After `conv2`. */
  readonly b2: BatchNorm2d;
  /** After `conv3`. */
  readonly b3: BatchNorm2d;

  /**
   * `use1x1conv` puts a 1×1 convolution on the shortcut.
   *
   * @throws {ArgumentError} for invalid channels or options; `outChannels` is a multiple of 4.
   */
  constructor(
    inChannels: number,
    outChannels: number,
    options: BlockOptions = {},
  ) {
    super();
    checkChannels("Bottleneck", inChannels, outChannels);
    const { use1x1conv, stride } = blockOptions("Bottleneck", options);
    const channels = outChannels / Bottleneck.expansion;
    if (!Number.isInteger(channels)) {
      refuse("Bottleneck", "outChannels", "a multiple of 4", outChannels);
    }
    this.conv1 = new Conv2d(inChannels, channels, { kernelSize: 1 });
    this.conv2 = new Conv2d(channels, channels, { kernelSize: 3, padding: 1, stride });
    this.conv3 = new Conv2d(channels, outChannels, { kernelSize: 1 });
    if (use1x1conv) this.conv4 = new Conv2d(inChannels, outChannels, { kernelSize: 1, stride });
    this.b1 = new BatchNorm2d(channels);
    this.b2 = new BatchNorm2d(channels);
    this.b3 = new BatchNorm2d(outChannels);
  }

  /** The block's output. */
  override forward(x: Tensor): Tensor {
    let y = relu(this.b1.call(this.conv1.call(x)));
    y = relu(this.b2.call(this.conv2.call(y)));
    y = this.b3.call(this.conv3.call(y));
    return relu(add(y, this.conv4 ? this.conv4.call(x) : x));
  }
}

/** A convolution of torchvision's: without a bias, and drawn by `kaiming_normal_(mode="fan_out")`. */
function convolution(inChannels: number, outChannels: number, size: number, stride = 1): Conv2d {
  const layer = new Conv2d(inChannels, outChannels, {
    kernelSize: size,
    stride,
    padding: (size - 1) / 2,
    bias: false,
  });
  const weight = normalParameter(layer.weight.shape, Math.sqrt(2 / (outChannels * size ** 2)));
  return Object.assign(layer, { weight: storeIn(CONV_WEIGHT_ORDER, weight) });
}

/** What adds the shortcut to torchvision's blocks: `x`, or a 1×1 convolution of it with a batch norm. */
function shortcut(
  inChannels: number,
  outChannels: number,
  { use1x1conv, stride }: BlockOptions,
): Sequential | undefined {
  if (!use1x1conv) return undefined;
  const layer = convolution(inChannels, outChannels, 1, stride);
  return new Sequential(layer, new BatchNorm2d(outChannels));
}

/** {@link Residual} as torchvision has it. */
class BasicBlock extends Module {
  static readonly expansion: number = 1;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu: ReLU = new ReLU();
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly downsample: Sequential | undefined;

  constructor(inChannels: number, outChannels: number, options: BlockOptions = {}) {
    super();
    this.conv1 = convolution(inChannels, outChannels, 3, options.stride);
    this.bn1 = new BatchNorm2d(outChannels);
    this.conv2 = convolution(outChannels, outChannels, 3);
    this.bn2 = new BatchNorm2d(outChannels);
    this.downsample = shortcut(inChannels, outChannels, options);
  }

  override forward(x: Tensor): Tensor {
    let y = this.relu.call(this.bn1.call(this.conv1.call(x)));
    y = this.bn2.call(this.conv2.call(y));
    return this.relu.call(add(y, this.downsample?.call(x) ?? x));
  }
}

/** {@link Bottleneck} as torchvision has it, where it has this name too. */
const TorchvisionBottleneck = class Bottleneck extends Module {
  static readonly expansion: number = 4;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly conv3: Conv2d;
  readonly bn3: BatchNorm2d;
  readonly relu: ReLU = new ReLU();
  readonly downsample: Sequential | undefined;

  constructor(inChannels: number, outChannels: number, options: BlockOptions = {}) {
    super();
    const channels = outChannels / Bottleneck.expansion;
    this.conv1 = convolution(inChannels, channels, 1);
    this.bn1 = new BatchNorm2d(channels);
    this.conv2 = convolution(channels, channels, 3, options.stride);
    this.bn2 = new BatchNorm2d(channels);
    this.conv3 = convolution(channels, outChannels, 1);
    this.bn3 = new BatchNorm2d(outChannels);
    this.downsample = shortcut(inChannels, outChannels, options);
  }

  override forward(x: Tensor): Tensor {
    let y = this.relu.call(this.bn1.call(this.conv1.call(x)));
    y = this.relu.call(this.bn2.call(this.conv2.call(y)));
    y = this.bn3.call(this.conv3.call(y));
    return this.relu.call(add(y, this.downsample?.call(x) ?? x));
  }
};

/**
 * `numResiduals` residual blocks, one after the other; their `kind` is {@link Residual} by default.
 * The first of them halves the size and changes the number of channels. With `firstBlock`, as at
 * the beginning of a ResNet, it keeps the size; then {@link Residual}s also keep the number of
 * channels.
 *
 * @throws {ArgumentError} for invalid numbers or options, or channels that the kind cannot have.
 *
 * @example
 * ```ts
 * import { input, resnetBlock } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(resnetBlock(64, 128, 2).call(input("x", [4, 64, 56, 56])).shape, [4, 128, 28, 28]);
 * ```
 */
export function resnetBlock(
  inChannels: number,
  outChannels: number,
  numResiduals: number,
  options: { firstBlock?: boolean; kind?: typeof Residual | typeof Bottleneck } = {},
): Sequential {
  checkChannels("resnetBlock", inChannels, outChannels);
  checkNumber("resnetBlock", "numResiduals", numResiduals, {
    integer: true,
    min: 1,
    max: MOST_BLOCKS,
  });
  checkOptions("resnetBlock", options, ["firstBlock", "kind"]);
  const { firstBlock = false, kind = Residual } = options;
  checkBoolean("resnetBlock", "firstBlock", firstBlock);
  if (kind !== Residual && kind !== Bottleneck) {
    refuse("resnetBlock", "kind", "Residual or Bottleneck", kind);
  }
  if (kind === Bottleneck && outChannels % Bottleneck.expansion !== 0) {
    refuse("resnetBlock", "outChannels", `a multiple of ${Bottleneck.expansion}`, outChannels);
  }
  if (firstBlock && inChannels !== outChannels && kind === Residual) {
    throw new ArgumentError(
      `resnetBlock: the first block keeps its channels, got ${inChannels} in and ${outChannels} ` +
        "out; inChannels and outChannels must be equal",
    );
  }
  return blocks(kind, inChannels, outChannels, numResiduals, firstBlock);
}

/** A kind of block. */
interface BlockKind {
  readonly expansion: number;
  new (inChannels: number, outChannels: number, options?: BlockOptions): Module;
}

function blocks(
  kind: BlockKind,
  inChannels: number,
  outChannels: number,
  count: number,
  firstBlock: boolean,
): Sequential {
  const first = !firstBlock || inChannels !== outChannels
    ? new kind(inChannels, outChannels, { use1x1conv: true, stride: firstBlock ? 1 : 2 })
    : new kind(outChannels, outChannels);
  const rest = Array.from({ length: count - 1 }, () => new kind(outChannels, outChannels));
  return new Sequential(first, ...rest);
}

/** The kinds of blocks of a definition, and the names of the children before and of the blocks. */
const VARIANTS = {
  notebook: {
    basic: Residual,
    bottleneck: Bottleneck,
    stem: ["0", "1", "2", "3"],
    block: "resnet_block",
  },
  torchvision: {
    basic: BasicBlock,
    bottleneck: TorchvisionBottleneck,
    stem: ["conv1", "bn1", "relu", "maxpool"],
    block: "layer",
  },
} as const;

/** The blocks of each depth: their kind, and how many there are of each size. He et al. 2015, table 1. */
const TABLE_1 = {
  18: { kind: "basic", counts: [2, 2, 2, 2] },
  34: { kind: "basic", counts: [3, 4, 6, 3] },
  50: { kind: "bottleneck", counts: [3, 4, 6, 3] },
  101: { kind: "bottleneck", counts: [3, 4, 23, 3] },
  152: { kind: "bottleneck", counts: [3, 8, 36, 3] },
} as const;

/** Settings of a ResNet. */
export interface ResNetOptions {
  /** Whose definition: `"notebook"`, by default, or `"torchvision"`, for its published weights. */
  readonly variant?: "notebook" | "torchvision";
  /** Channels of an image; 1 by default, 3 for torchvision's. */
  readonly inChannels?: number;
  /** Number of classes, so of logits; 10 by default, 1000 for torchvision's. */
  readonly numClasses?: number;
}

function resnet(depth: keyof typeof TABLE_1, options: ResNetOptions = {}): Sequential {
  checkOptions(`resnet${depth}`, options, ["variant", "inChannels", "numClasses"]);
  const { variant = "notebook" } = options;
  if (!Object.hasOwn(VARIANTS, variant)) {
    refuse(`resnet${depth}`, "variant", '"notebook" or "torchvision"', variant);
  }
  const own = variant === "notebook";
  const { inChannels = own ? 1 : 3, numClasses = own ? 10 : 1000 } = options;
  checkChannels(`resnet${depth}`, inChannels, 64);
  checkNumber(`resnet${depth}`, "numClasses", numClasses, {
    integer: true,
    min: 1,
    max: MOST_CLASSES,
  });
  const { kind, counts } = TABLE_1[depth], { stem, block, [kind]: Block } = VARIANTS[variant];
  const net = new Sequential()
    .add(
      own
        ? new Conv2d(inChannels, 64, { kernelSize: 7, stride: 2, padding: 3 })
        : convolution(inChannels, 64, 7, 2),
      stem[0],
    )
    .add(new BatchNorm2d(64), stem[1])
    .add(new ReLU(), stem[2])
    .add(new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 }), stem[3]);
  let channels = 64;
  counts.forEach((count, i) => {
    const outChannels = Block.expansion * 64 * 2 ** i;
    net.add(blocks(Block, channels, outChannels, count, i === 0), `${block}${i + 1}`);
    channels = outChannels;
  });
  const pool = new GlobalAvgPool2d(), linear = new Linear(channels, numClasses);
  // The classifier is the notebook's with its flatten; torchvision's, `fc.weight`, is without.
  return own
    ? net.add(pool, "global_avg_pool").add(new Sequential(new Flatten(), linear), "fc")
    : net.add(new Sequential(pool, new Flatten()), "avgpool").add(linear, "fc");
}

/**
 * ResNet-18 (He et al. 2015, table 1), `[N, inChannels, H, W]` → logits `[N, numClasses]`. Its
 * children and state-dict keys are the notebook's, or torchvision's with that `variant`. In the
 * notebook's definition every convolution has a bias and the 1×1 shortcut no batch norm; in
 * torchvision's it is the other way round.
 *
 * @throws {ArgumentError} for invalid options.
 *
 * @example
 * ```ts
 * import { resnet18, summarize } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const { shape, parameters } = summarize(resnet18(), [1, 1, 96, 96]);
 * assertEquals([shape, parameters], [[1, 10], 11_178_378]);
 * ```
 *
 * @example torchvision's, which takes the weights of `resnet18-f37072fd.pth`, saved as safetensors
 * ```ts
 * import { resnet18, summarize } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const net = resnet18({ variant: "torchvision" });
 * const { shape, parameters } = summarize(net, [1, 3, 224, 224]);
 * assertEquals([shape, parameters], [[1, 1000], 11_689_512]);
 * assertEquals([...(await net.stateDict()).keys()].slice(-2), ["fc.weight", "fc.bias"]);
 * ```
 */
export function resnet18(options?: ResNetOptions): Sequential {
  return resnet(18, options);
}

/**
 * ResNet-34, `[N, inChannels, H, W]` → logits `[N, numClasses]`: {@link resnet18} with 3, 4, 6 and 3
 * {@link Residual}s in its four blocks (He et al. 2015, table 1).
 *
 * @example
 * ```ts
 * import { resnet34, summarize } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const { parameters, shape } = summarize(resnet34({ inChannels: 3 }), [2, 3, 96, 96]);
 * assertEquals(parameters, 21_296_522);
 * assertEquals(shape, [2, 10]);
 * ```
 */
export function resnet34(options?: ResNetOptions): Sequential {
  return resnet(34, options);
}

/**
 * ResNet-50, `[N, inChannels, H, W]` → logits `[N, numClasses]`: {@link resnet34} with
 * {@link Bottleneck}s in place of its {@link Residual}s, up to 2,048 channels (He et al. 2015,
 * table 1).
 *
 * @example
 * ```ts
 * import { resnet50, summarize } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const { layers } = summarize(resnet50(), [1, 1, 224, 224]);
 * assertEquals(layers[7]!.name, "resnet_block4");
 * assertEquals(layers[7]!.shape, [1, 2048, 7, 7]);
 * ```
 */
export function resnet50(options?: ResNetOptions): Sequential {
  return resnet(50, options);
}

/**
 * ResNet-101, `[N, inChannels, H, W]` → logits `[N, numClasses]`: {@link resnet50} with 23
 * {@link Bottleneck}s in the third block (He et al. 2015, table 1).
 *
 * @example
 * ```ts
 * import { resnet101, summarize } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const { layers } = summarize(resnet101(), [1, 1, 224, 224]);
 * assertEquals(layers[6]!.layers.length, 23);
 * ```
 */
export function resnet101(options?: ResNetOptions): Sequential {
  return resnet(101, options);
}

/**
 * ResNet-152, `[N, inChannels, H, W]` → logits `[N, numClasses]`: {@link resnet50} with 8
 * {@link Bottleneck}s in the second block and 36 in the third (He et al. 2015, table 1).
 *
 * @example
 * ```ts
 * import { resnet152, summarize } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const { layers } = summarize(resnet152(), [1, 1, 224, 224]);
 * assertEquals(layers[6]!.layers.length, 36);
 * ```
 */
export function resnet152(options?: ResNetOptions): Sequential {
  return resnet(152, options);
}
