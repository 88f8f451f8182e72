/**
 * Batch normalisation (Ioffe & Szegedy 2015): moments of a channel in one read, then a normalisation
 * made of elementwise ops, which the planner fuses with what follows.
 *
 * @module
 */

import { checkNumber } from "../check/arguments.ts";
import { isNegativeOf } from "../kernels/kernel.ts";
import { formatShape, ShapeError } from "../graph/shape.ts";
import { apply, checkTensor, type Op, type Tensor } from "../graph/tensor.ts";
import { add, div, mul, sqrt, sub } from "./elementwise.ts";
import { noteSum, reductionChunks } from "./reduce.ts";
import { permute, reshape, select } from "./view.ts";

/** `[C]` as `[1, …, C, …, 1]`, to meet `x` along `axis`. */
function along(x: Tensor, axis: number, vector: Tensor): Tensor {
  return reshape(vector, x.shape.map((dim, i) => i === axis ? dim : 1));
}

/** One over the standard deviation. */
const rateOf = (variance: Tensor, eps: number) => div(1, sqrt(add(variance, eps)));

const count = (x: Tensor, axis: number) => x.size / x.shape[axis]!;

/** Axes of `x` other than its last. */
const leading = (x: Tensor) => Array.from({ length: x.rank - 1 }, (_, i) => i);

const ChannelMoments: Op<{ axis: number }> = {
  name: "channelMoments",
  shape: ([x], { axis }) => [2, x!.shape[axis]!],
  sink: (x, order, { axis }) =>
    order[axis] === x.rank - 1 ? apply(ChannelMoments, [x], { axis: x.rank - 1 }) : null,
  lower: (node, _, { axis }) => {
    const x = node.inputs[0]!;
    if (axis !== x.rank - 1) {
      const order = [...x.shape.map((_, i) => i).filter((i) => i !== axis), axis];
      return apply(ChannelMoments, [permute(x, order)], { axis: x.rank - 1 });
    }
    const n = count(x, axis);
    const partial = apply(PartialMoments, [x], { chunks: reductionChunks(x.shape[axis]!, n) });
    return mergedMoments(partial, Math.ceil(n / partial.shape[1]!), n);
  },
  vjp: (g, y, [x], { axis }) => {
    const n = count(x!, axis);
    const centred = sub(x!, along(x!, axis, select(y, 0)));
    return [add(
      along(x!, axis, mul(select(g, 0), 1 / n)),
      mul(centred, along(x!, axis, mul(select(g, 1), 2 / n))),
    )];
  },
};

/** WGSL: the sum of squared deviations, which rounding may make negative. */
const DEVIATIONS = "(q - s * s / n)";

/**
 * `[2, chunks, C]`: mean and sum of squared deviations over chunks of rows, by sums shifted
 * by the first value, which keeps them small where the mean is not.
 */
const PartialMoments: Op<{ chunks: number }> = {
  name: "partialMoments",
  shape: ([x], { chunks }) => [2, chunks, x!.shape.at(-1)!],
  reduction: (node, { chunks }) => ({
    axes: leading(node.inputs[0]!),
    chunks,
    sums: ["s", "q"],
    init: "var shift = T(0.0); var n = 0.0;",
    step: `if (n == 0.0) { shift = v; }
      let d = v - shift; s += d; q += d * d; n += 1.0;`,
    results: [
      "shift + s / n",
      `select(${DEVIATIONS}, T(0.0), ${isNegativeOf(DEVIATIONS, "T")})`,
    ],
  }),
};

/**
 * From moments over `block` rows each, the last ones maybe over fewer of all `rows`, to those over
 * `chunks` times as many, by Chan's formula; in the end, `[2, C]`, to mean and biased variance.
 */
const MergeMoments: Op<{ chunks: number; block: number; rows: number }> = {
  name: "mergeMoments",
  shape: ([means], { chunks }) => [2, ...chunks > 1 ? [chunks] : [], means!.shape[1]!],
  reduction: (_, { chunks, block, rows }) => ({
    axes: [0],
    chunks,
    sizes: { block, rows },
    sums: [],
    init: "var mean = T(0.0); var m2 = T(0.0); var seen = 0.0;",
    step: `let rows = f32(min(z.block, z.rows - r * z.block)); let total = seen + rows;
      let d = v - mean; mean += d * (rows / total); m2 += w + d * d * (seen * rows / total);
      seen = total;`,
    results: ["mean", chunks > 1 ? "m2" : "m2 / f32(z.rows)"],
  }),
};

/** {@link MergeMoments} in as many steps as it takes. */
function mergedMoments(partial: Tensor, block: number, rows: number): Tensor {
  const [, length, c] = partial.shape as [number, number, number];
  const chunks = reductionChunks(c, length), attrs = { chunks, block, rows };
  const merged = apply(MergeMoments, [select(partial, 0), select(partial, 1)], attrs);
  return chunks === 1 ? merged : mergedMoments(merged, block * Math.ceil(length / chunks), rows);
}

/** `[2, C]`: of each channel the sums of g and of g · x, in one read of both. */
const ChannelDots: Op<{ axis: number }> = {
  name: "channelDots",
  shape: ([x], { axis }) => [2, x!.shape[axis]!],
  lower: (node, _, { axis }) => {
    const [g] = node.inputs as [Tensor];
    if (axis !== g.rank - 1) {
      const order = [...g.shape.map((_, i) => i).filter((i) => i !== axis), axis];
      return apply(ChannelDots, node.inputs.map((x) => permute(x, order)), { axis: g.rank - 1 });
    }
    const chunks = reductionChunks(g.shape[axis]!, count(g, axis));
    return mergedDots(apply(PartialDots, node.inputs, { chunks }));
  },
  vjp: (u, _, [g, x], { axis }) => {
    const [direct, scaled] = [along(g!, axis, select(u, 0)), along(g!, axis, select(u, 1))];
    return [add(mul(x!, scaled), direct), mul(g!, scaled)];
  },
};

/** `[2, chunks, C]`: those sums over chunks of rows. */
const PartialDots: Op<{ chunks: number }> = {
  name: "partialDots",
  shape: ([g], { chunks }) => [2, chunks, g!.shape.at(-1)!],
  reduction: (node, { chunks }) => ({
    axes: leading(node.inputs[0]!),
    chunks,
    sums: ["s", "t"],
    step: "s += v; t += v * w;",
    results: ["s", "t"],
  }),
};

/** The sums of two tensors `[length, C]` over their rows: `[2, C]`, or `[2, chunks, C]` in chunks. */
const MergeDots: Op<{ chunks: number }> = {
  name: "mergeDots",
  shape: ([s], { chunks }) => [2, ...chunks > 1 ? [chunks] : [], s!.shape[1]!],
  reduction: (_, { chunks }) => ({
    axes: [0],
    chunks,
    sums: ["s", "t"],
    step: "s += v; t += w;",
    results: ["s", "t"],
  }),
};

/** {@link MergeDots} in as many steps as it takes. */
function mergedDots(partial: Tensor): Tensor {
  const [, length, c] = partial.shape as [number, number, number];
  const chunks = reductionChunks(c, length);
  const merged = apply(MergeDots, [select(partial, 0), select(partial, 1)], { chunks });
  return chunks === 1 ? merged : mergedDots(merged);
}

/**
 * The whole of batch normalisation over axis 1, for a gradient simpler than those of its parts
 * (Ioffe & Szegedy 2015, section 3).
 */
const BatchNorm: Op<{ eps: number }> = {
  name: "batchNorm",
  shape: ([x]) => x!.shape,
  lower: (node, _, { eps }) => {
    const [x, gamma, beta] = node.inputs as [Tensor, Tensor, Tensor];
    const moments = channelMoments(x);
    return normalize(x, select(moments, 0), select(moments, 1), gamma, beta, eps);
  },
  vjp: (g, _, [x, gamma], { eps }) => {
    const moments = channelMoments(x!), n = count(x!, 1);
    const centred = sub(x!, along(x!, 1, select(moments, 0)));
    const rate = rateOf(select(moments, 1), eps);
    const dots = apply(ChannelDots, [g, centred], { axis: 1 });
    const [sums, scaled] = [select(dots, 0), mul(select(dots, 1), rate)];
    // g without its mean and without its part along x.
    const scale = mul(gamma!, rate);
    const slope = mul(mul(scale, rate), mul(scaled, -1 / n)), shift = mul(scale, mul(sums, -1 / n));
    const [a, b, c] = [scale, slope, shift].map((vector) => along(x!, 1, vector));
    const dx = add(mul(g, a!), add(mul(centred, b!), c!));
    // Over the rows that is zero, whatever g is: the gradient of a bias before the batch norm, which
    // so takes no read of dx. NaN stays NaN.
    noteSum(dx, x!.shape.flatMap((dim, i) => i !== 1 && dim !== 1 ? [i] : []), mul(sums, 0));
    return [dx, scaled, sums];
  },
};

function checkChannels(op: string, x: Tensor, vectors: Readonly<Record<string, Tensor>>): void {
  checkTensor(op, "x", x, "f32");
  Object.entries(vectors).forEach(([name, vector]) => checkTensor(op, name, vector, "f32"));
  if (x.rank < 2) throw new ShapeError(`${op}: input needs a channel axis, got ${x}`);
  for (const [name, vector] of Object.entries(vectors)) {
    if (vector.rank !== 1 || vector.size !== x.shape[1]) {
      throw new ShapeError(
        `${op}: ${name} ${formatShape(vector.shape)} does not fit ${x.shape[1]} channels: ${
          formatShape(x.shape)
        }`,
      );
    }
  }
}

/**
 * Mean and biased variance of each channel, `[N, C, …]` → `[2, C]`.
 *
 * @throws {ShapeError} if `x` has fewer than 2 dimensions.
 *
 * @example
 * ```ts
 * import { channelMoments, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = channelMoments(tensor([[1], [3]]));
 * assertEquals(await evaluate(y), new Float32Array([2, 1]));
 * ```
 */
export function channelMoments(x: Tensor): Tensor {
  checkChannels("channelMoments", x, {});
  return apply(ChannelMoments, [x], { axis: 1 });
}

/**
 * `(x - mean) / √(variance + eps) · γ + β` for each channel: batch normalisation in evaluation. x
 * is `[N, C, …]`, the other tensors `[C]`; `eps` is 1e-5 by default
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html | PyTorch's batch_norm},
 * without `training`).
 *
 * @throws {ArgumentError} if `eps` is negative.
 * @throws {ShapeError} if one of them does not fit the channels.
 *
 * @example
 * ```ts
 * import { evaluate, normalize, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const [mean, variance, gamma, beta] = [tensor([1]), tensor([4]), tensor([10]), tensor([0])];
 * const y = normalize(tensor([[3], [1]]), mean, variance, gamma, beta, 0);
 * assertEquals(await evaluate(y), new Float32Array([10, 0]));
 * ```
 */
export function normalize(
  x: Tensor,
  mean: Tensor,
  variance: Tensor,
  gamma: Tensor,
  beta: Tensor,
  eps = 1e-5,
): Tensor {
  checkChannels("normalize", x, { mean, variance, gamma, beta });
  checkNumber("normalize", "eps", eps, { min: 0 });
  const scale = mul(gamma, rateOf(variance, eps));
  return add(mul(sub(x, along(x, 1, mean)), along(x, 1, scale)), along(x, 1, beta));
}

/**
 * Batch normalisation in training, by the statistics of the batch itself; x `[N, C, …]`, γ and β
 * `[C]`, `eps` 1e-5 by default. It returns `y`, of the shape of x, and the {@link channelMoments}
 * for running statistics, whose variance is biased. One value per channel is an error, as in
 * PyTorch: it is its own mean, so the result would always be β
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html | PyTorch}).
 *
 * @throws {ArgumentError} if `eps` is negative.
 * @throws {ShapeError} if γ or β do not fit the channels, or there is one value for each.
 *
 * @example
 * ```ts
 * import { batchNorm, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const { y, moments } = batchNorm(tensor([[1], [3]]), tensor([1]), tensor([0]), 0);
 * assertEquals(await evaluate(y), new Float32Array([-1, 1]));
 * assertEquals(moments.shape, [2, 1]);
 * ```
 */
export function batchNorm(
  x: Tensor,
  gamma: Tensor,
  beta: Tensor,
  eps = 1e-5,
): { y: Tensor; moments: Tensor } {
  checkChannels("batchNorm", x, { gamma, beta });
  checkNumber("batchNorm", "eps", eps, { min: 0 });
  if (count(x, 1) < 2) {
    throw new ShapeError(
      `batchNorm: training needs more than 1 value per channel, got ${formatShape(x.shape)}; ` +
        "take a larger batch or larger images",
    );
  }
  return { y: apply(BatchNorm, [x, gamma, beta], { eps }), moments: channelMoments(x) };
}
