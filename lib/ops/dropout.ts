/**
 * Dropout, its random numbers made on the device: the same seed and step give the same ones in every
 * pass and on every adapter, and after a run is resumed.
 *
 * @module
 */

import { checkNumber, checkOptions } from "../check/arguments.ts";
import { arrays, perThread } from "../kernels/kernel.ts";
import { ShapeError } from "../graph/shape.ts";
import { apply, checkTensor, type Op, type Tensor, tensor } from "../graph/tensor.ts";

/**
 * WGSL: Philox4x32-10 (`graph/random.ts` says more) of a block's number and a step, under a seed; the
 * four words of {@link Random} with the step as its stream.
 */
const PHILOX = `fn high(a: u32, b: u32) -> u32 {
  let al = a & 0xffffu; let ah = a >> 16u; let bl = b & 0xffffu; let bh = b >> 16u;
  let middle = ah * bl + ((al * bl) >> 16u);
  let carry = al * bh + (middle & 0xffffu);
  return ah * bh + (middle >> 16u) + (carry >> 16u);
}
fn philox(block: u32, stream: u32, seed: vec2u) -> vec4u {
  var x = vec4u(block, 0u, stream, 0u); var k = seed;
  for (var round = 0; round < 10; round++) {
    x = vec4u(
      high(x.z, 0xcd9e8d57u) ^ x.y ^ k.x, x.z * 0xcd9e8d57u,
      high(x.x, 0xd2511f53u) ^ x.w ^ k.y, x.x * 0xd2511f53u,
    );
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return x;
}`;

const Dropout: Op<{ p: number; seed: number }> = {
  name: "dropout",
  shape: ([x]) => x!.shape,
  kernels: (node, target, { p, seed }) => {
    return [perThread(
      arrays({ x: "f32", steps: "f32", y: "f32" }),
      Math.ceil(node.size / 4),
      target,
      `  let words = philox(i, u32(steps[0]), vec2u(z.low, z.high));
  for (var k = 0u; k < 4u; k++) {
    let j = 4u * i + k;
    // Words below the threshold are dropped. What stays is scaled, so that its mean does.
    if (j < z.size) { y[j] = select(x[j] * z.scale, 0.0, words[k] < z.threshold); }
  }`,
      {
        declarations: PHILOX,
        sizes: {
          size: node.size,
          threshold: Math.min(2 ** 32 - 1, Math.round(p * 2 ** 32)),
          low: seed % 2 ** 32,
          high: Math.floor(seed / 2 ** 32),
        },
        numbers: { scale: 1 / (1 - p) },
      },
    )];
  },
  vjp: (g, _, [_x, step], attrs) => [apply(Dropout, [g, step!], attrs), null],
};

/** Settings of {@link dropout}. */
export interface DropoutOptions {
  /** The share of elements that become 0, from 0 to less than 1; 0.5 by default. */
  readonly p?: number;
  /** Integer from 0 to 2^53 - 1: each seed drops others; 0 by default. */
  readonly seed?: number;
  /**
   * Integer from 0 to 2^24, or a scalar f32 tensor of one: each step drops others; 0 by default.
   */
  readonly step?: Tensor | number;
}

/**
 * Zeros for a share `p` of the elements, drawn by `seed` and `step`, and the others divided by
 * `1 - p`; any shape
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html | PyTorch},
 * whose random numbers are others). The same seed and step drop the same elements, in every call
 * and run; the layer {@link Dropout} has a seed of its own, counts the steps, and does nothing in
 * evaluation.
 *
 * @throws {ArgumentError} for an option that cannot be.
 * @throws {ShapeError} if `step` is a tensor and no f32 scalar.
 *
 * @example
 * ```ts
 * import { dropout, evaluate, mean, tensor } from "@resnette/resnette";
 * import { assert } from "@std/assert";
 *
 * const ones = tensor(new Float32Array(10_000).fill(1));
 * const [share] = await evaluate(mean(dropout(ones, { p: 0.2, seed: 1 })));
 * assert(Math.abs(share! - 1) < 0.02);
 * ```
 */
export function dropout(x: Tensor, options: DropoutOptions = {}): Tensor {
  checkTensor("dropout", "x", x, "f32");
  checkOptions("dropout", options, ["p", "seed", "step"]);
  const { p = 0.5, seed = 0, step = 0 } = options;
  checkNumber("dropout", "p", p, { min: 0, below: 1 });
  checkNumber("dropout", "seed", seed, { integer: true, min: 0 });
  if (typeof step === "number") {
    checkNumber("dropout", "step", step, { integer: true, min: 0, max: 2 ** 24 });
  } else {
    checkTensor("dropout", "step", step, "f32");
    if (step.size !== 1) throw new ShapeError(`dropout: step must be a scalar, got ${step}`);
  }
  if (p === 0) return x;
  return apply(Dropout, [x, typeof step === "number" ? tensor(step) : step], { p, seed });
}
