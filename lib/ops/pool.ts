/**
 * Max and average pooling. Public functions take `[N, C, H, W]`; the ops behind them work on
 * `[N, H, W, C]`, as the convolutions do.
 *
 * @module
 */

import { type Binding, type KernelSpec, perThread, type Target } from "../kernel.ts";
import { formatShape, type Pair, pair, ShapeError, windowCount } from "../shape.ts";
import { apply, type Attrs, type Op, type Tensor } from "../tensor.ts";
import { mean } from "./reduce.ts";
import { permute } from "./view.ts";

type Two = readonly [number, number];
type Four = readonly [number, number, number, number];
interface PoolAttrs extends Attrs {
  readonly kernel: Two;
  readonly stride: Two;
  readonly padding: Two;
}

const four = (x: Tensor) => x.shape as Four;

function poolShape(name: string, x: Tensor, { kernel, stride, padding }: PoolAttrs): Four {
  const [n, h, w, c] = four(x);
  return [
    n,
    windowCount(name, h, kernel[0], stride[0], padding[0]),
    windowCount(name, w, kernel[1], stride[1], padding[1]),
    c,
  ];
}

/** Element type of kernels over C channels, and how many of them one element holds. */
const vector = (c: number) => c % 4 === 0 ? ["vec4f", 4] as const : ["f32", 1] as const;

/** A kernel with a thread for each `[N, P, Q, C]` result and WGSL `n p q c` for its place. */
function poolKernel(
  node: Tensor,
  target: Target,
  inputs: readonly string[],
  statements: (type: "f32" | "vec4f", channels: number) => string,
): KernelSpec {
  const [, p, q, c] = four(node);
  const [type, width] = vector(c);
  const channels = c / width;
  const bindings: Binding[] = inputs.map((name) => ({ name, type }));
  return perThread(
    [...bindings, { name: "y", type, write: true }],
    node.size / width,
    target,
    `  let c = i % ${channels}u; let q = i32(i / ${channels}u % ${q}u);
  let p = i32(i / ${channels * q}u % ${p}u); let n = i32(i / ${channels * q * p}u);
${statements(type, channels)}`,
  );
}

/** WGSL loop over the taps of the window at (p, q) that lie inside `x`; `at` is the element. */
function overWindow(x: Four, attrs: PoolAttrs, channels: number, body: string): string {
  const { kernel, stride, padding } = attrs;
  return `  for (var r = 0; r < ${kernel[0]}; r++) {
    let h = p * ${stride[0]} + r - ${padding[0]};
    if (h < 0 || h >= ${x[1]}) { continue; }
    for (var s = 0; s < ${kernel[1]}; s++) {
      let w = q * ${stride[1]} + s - ${padding[1]};
      if (w < 0 || w >= ${x[2]}) { continue; }
      let at = u32((n * ${x[1]} + h) * ${x[2]} + w) * ${channels}u + c;
${body}
    }
  }`;
}

/** WGSL loop over the windows that hold source pixel (p, q); `at` is the window's element. */
function overHolders(y: Four, attrs: PoolAttrs, channels: number, body: string): string {
  const { kernel, stride, padding } = attrs;
  const [h, w] = [`p + ${padding[0]}`, `q + ${padding[1]}`];
  // Window u covers the pixels from u · stride on: the first that reaches this one, and the last.
  const first = (at: string, axis: 0 | 1) =>
    `max(${at} - ${kernel[axis] - stride[axis]}, 0) / ${stride[axis]}`;
  const last = (at: string, axis: 0 | 1) => `min((${at}) / ${stride[axis]}, ${y[axis + 1]! - 1})`;
  return `  for (var u = ${first(h, 0)}; u <= ${last(h, 0)}; u++) {
    let r = ${h} - u * ${stride[0]};
    for (var v = ${first(w, 1)}; v <= ${last(w, 1)}; v++) {
      let s = ${w} - v * ${stride[1]};
      let at = u32((n * ${y[1]} + u) * ${y[2]} + v) * ${channels}u + c;
${body}
    }
  }`;
}

// PyTorch takes the first of equal values, and NaN over any number. NaN is told by its bits, since
// drivers fold `v != v` away; minus infinity comes from a variable, since WGSL has no such constant.
const MINUS_INFINITY = (type: string) =>
  `  var bits = 0xff800000u;
  var best = ${type}(bitcast<f32>(bits));`;
const IS_NAN = (type: string) => {
  const bits = type === "f32" ? "u32" : "vec4u";
  return `((bitcast<${bits}>(v) & ${bits}(0x7fffffffu)) > ${bits}(0x7f800000u))`;
};
const TAKE_LARGER = (type: string) =>
  `      let v = x[at];
      let larger = (v > best) | ${IS_NAN(type)};
      best = select(best, v, larger);`;
const TAKE_TAP = (type: string, width: number) =>
  `      let v = x[at];
      let larger = (v > best) | ${IS_NAN(type)} | (tap < ${type}(0.0));
      best = select(best, v, larger);
      tap = select(tap, ${type}(f32(r * ${width} + s)), larger);`;

const MaxPool: Op<PoolAttrs> = {
  name: "maxPool2d",
  shape: ([x], attrs) => poolShape("maxPool2d", x!, attrs),
  kernels: (node, target) => {
    const x = four(node.inputs[0]!), attrs = node.attrs as PoolAttrs;
    return [poolKernel(node, target, ["x"], (type, channels) =>
      `${MINUS_INFINITY(type)}
${overWindow(x, attrs, channels, TAKE_LARGER(type))}
  y[i] = best;`)];
  },
  vjp: (g, _, [x], attrs) => {
    const taps = apply(MaxPoolTaps, [x!], attrs);
    return [apply(MaxPoolGrad, [g, taps], { ...attrs, size: [four(x!)[1], four(x!)[2]] })];
  },
};

/** Which tap of its window (r × width + s) each result of a max pool came from. */
const MaxPoolTaps: Op<PoolAttrs> = {
  name: "maxPool2dTaps",
  shape: ([x], attrs) => poolShape("maxPool2d", x!, attrs),
  kernels: (node, target) => {
    const x = four(node.inputs[0]!), attrs = node.attrs as PoolAttrs;
    return [poolKernel(node, target, ["x"], (type, channels) =>
      `${MINUS_INFINITY(type)}
  var tap = ${type}(-1.0);
${overWindow(x, attrs, channels, TAKE_TAP(type, attrs.kernel[1]))}
  y[i] = tap;`)];
  },
};

/** From g `[N, P, Q, C]` and the taps of the same shape to `[N, H, W, C]`. */
const MaxPoolGrad: Op<PoolAttrs & { size: Two }> = {
  name: "maxPool2dGrad",
  shape: ([g], { size }) => [four(g!)[0], ...size, four(g!)[3]],
  kernels: (node, target) => {
    const y = four(node.inputs[0]!), attrs = node.attrs as PoolAttrs;
    return [poolKernel(node, target, ["g", "taps"], (type, channels) =>
      `  var sum = ${type}(0.0);
${
        overHolders(
          y,
          attrs,
          channels,
          `      sum += select(${type}(0.0), g[at], taps[at] == ${type}(f32(r * ${
            attrs.kernel[1]
          } + s)));`,
        )
      }
  y[i] = sum;`)];
  },
};

const AvgPool: Op<PoolAttrs> = {
  name: "avgPool2d",
  shape: ([x], attrs) => poolShape("avgPool2d", x!, attrs),
  kernels: (node, target) => {
    const x = four(node.inputs[0]!), attrs = node.attrs as PoolAttrs;
    return [poolKernel(node, target, ["x"], (type, channels) =>
      `  var sum = ${type}(0.0);
${overWindow(x, attrs, channels, "      sum += x[at];")}
  y[i] = sum / ${attrs.kernel[0] * attrs.kernel[1]}.0;`)];
  },
  vjp: (g, _, [x], attrs) => [
    apply(AvgPoolGrad, [g], { ...attrs, size: [four(x!)[1], four(x!)[2]] }),
  ],
};

/** From g `[N, P, Q, C]` to `[N, H, W, C]`. */
const AvgPoolGrad: Op<PoolAttrs & { size: Two }> = {
  name: "avgPool2dGrad",
  shape: ([g], { size }) => [four(g!)[0], ...size, four(g!)[3]],
  kernels: (node, target) => {
    const y = four(node.inputs[0]!), attrs = node.attrs as PoolAttrs;
    return [poolKernel(node, target, ["g"], (type, channels) =>
      `  var sum = ${type}(0.0);
${overHolders(y, attrs, channels, "      sum += g[at];")}
  y[i] = sum / ${attrs.kernel[0] * attrs.kernel[1]}.0;`)];
  },
  vjp: (u, _, _g, { kernel, stride, padding }) => [
    apply(AvgPool, [u], { kernel, stride, padding }),
  ],
};

/** Window of a pooling op: PyTorch's defaults are a stride of the kernel size and no padding. */
export interface PoolOptions {
  /** Height and width of the window. */
  readonly kernelSize: Pair;
  /** Step between windows; the kernel size by default. */
  readonly stride?: Pair;
  /** Cells added on every side; at most half the kernel size. */
  readonly padding?: Pair;
}

function pool(name: string, op: Op<PoolAttrs>, x: Tensor, options: PoolOptions): Tensor {
  if (x.rank !== 4) {
    throw new ShapeError(`${name}: input must have 4 dimensions, got ${formatShape(x.shape)}`);
  }
  const kernel = pair(name, "kernelSize", options.kernelSize, 1);
  const padding = pair(name, "padding", options.padding ?? 0, 0);
  if (padding.some((p, i) => 2 * p > kernel[i]!)) {
    throw new ShapeError(`${name}: padding ${padding} is more than half the kernel size ${kernel}`);
  }
  const stride = pair(name, "stride", options.stride ?? options.kernelSize, 1);
  return permute(apply(op, [permute(x, [0, 2, 3, 1])], { kernel, stride, padding }), [0, 3, 1, 2]);
}

/**
 * Largest value of each window, `[N, C, H, W]` → `[N, C, P, Q]`; padding never wins, the first of
 * equal values gets the gradient
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html | PyTorch}).
 */
export function maxPool2d(x: Tensor, options: PoolOptions): Tensor {
  return pool("maxPool2d", MaxPool, x, options);
}

/**
 * Mean of each window, padding counted as zeros, `[N, C, H, W]` → `[N, C, P, Q]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html | PyTorch}).
 */
export function avgPool2d(x: Tensor, options: PoolOptions): Tensor {
  return pool("avgPool2d", AvgPool, x, options);
}

/** Mean over all pixels, `[N, C, H, W]` → `[N, C, 1, 1]`. */
export function globalAvgPool2d(x: Tensor): Tensor {
  if (x.rank !== 4) {
    throw new ShapeError(
      `globalAvgPool2d: input must have 4 dimensions, got ${formatShape(x.shape)}`,
    );
  }
  return mean(x, [2, 3], { keepDims: true });
}
