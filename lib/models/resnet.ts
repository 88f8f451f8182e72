/**
 * The notebook's ResNet (after He et al. 2015, https://arxiv.org/abs/1512.03385): the architecture and
 * nothing else. Unlike torchvision's, every convolution has a bias and the 1×1 shortcut no batch norm.
 *
 * @module
 */

import {
  BatchNorm2d,
  Conv2d,
  Flatten,
  GlobalAvgPool2d,
  Linear,
  MaxPool2d,
  ReLU,
  Sequential,
} from "../nn/layers.ts";
import { Module } from "../nn/module.ts";
import { add, relu } from "../ops/elementwise.ts";
import type { Tensor } from "../tensor.ts";

/**
 * The residual block, `[N, inChannels, H, W]` → `[N, outChannels, H/stride, W/stride]`:
 * `relu(b2(conv2(relu(b1(conv1(x))))) + x)`, with a 1×1 convolution on the shortcut where the
 * number of channels or the size changes.
 *
 * @example
 * ```ts
 * import { input, Residual } from "@resnette/resnette";
 *
 * const block = new Residual(3, 6, { use1x1conv: true, stride: 2 });
 * console.log(block.forward(input("x", [4, 3, 6, 6])).shape); // [ 4, 6, 3, 3 ]
 * ```
 */
export class Residual extends Module {
  /** 3×3, takes the stride. */
  readonly conv1: Conv2d;
  /** 3×3. */
  readonly conv2: Conv2d;
  /** 1×1 on the shortcut, takes the stride too; where asked for. */
  readonly conv3: Conv2d | undefined;
  /** After `conv1`. */
  readonly b1: BatchNorm2d;
  /** After `conv2`. */
  readonly b2: BatchNorm2d;

  /** `use1x1conv` puts a convolution on the shortcut; `stride` is that of the first convolution. */
  constructor(
    inChannels: number,
    outChannels: number,
    { use1x1conv = false, stride = 1 }: { use1x1conv?: boolean; stride?: number } = {},
  ) {
    super();
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
 * `numResiduals` residual blocks; the first halves the size and changes the number of channels,
 * except in the network's first block, which keeps both.
 */
export function resnetBlock(
  inChannels: number,
  outChannels: number,
  numResiduals: number,
  { firstBlock = false }: { firstBlock?: boolean } = {},
): Sequential {
  if (firstBlock && inChannels !== outChannels) {
    throw new Error(
      `resnetBlock: the first block keeps its channels, got ${inChannels} in and ${outChannels} out`,
    );
  }
  const block = new Sequential();
  for (let i = 0; i < numResiduals; i++) {
    block.add(
      i === 0 && !firstBlock
        ? new Residual(inChannels, outChannels, { use1x1conv: true, stride: 2 })
        : new Residual(outChannels, outChannels),
    );
  }
  return block;
}

/**
 * ResNet-18, `[N, inChannels, H, W]` → logits `[N, numClasses]`; children and state-dict keys are the
 * notebook's. With one channel and ten classes: 11,178,378 parameters.
 */
export function resnet18(
  { inChannels = 1, numClasses = 10 }: { inChannels?: number; numClasses?: number } = {},
): Sequential {
  return new Sequential(
    new Conv2d(inChannels, 64, { kernelSize: 7, stride: 2, padding: 3 }),
    new BatchNorm2d(64),
    new ReLU(),
    new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 }),
  )
    .add(resnetBlock(64, 64, 2, { firstBlock: true }), "resnet_block1")
    .add(resnetBlock(64, 128, 2), "resnet_block2")
    .add(resnetBlock(128, 256, 2), "resnet_block3")
    .add(resnetBlock(256, 512, 2), "resnet_block4")
    .add(new GlobalAvgPool2d(), "global_avg_pool")
    .add(new Sequential(new Flatten(), new Linear(512, numClasses)), "fc");
}
