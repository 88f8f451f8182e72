/**
 * Max and average pooling. Public functions take `[N, C, H, W]`; the ops behind them work on
 * `[N, H, W, C]`, as the convolutions do.
 *
 * @module
 */

import { checkBoolean, checkOptions } from "../check/arguments.ts";
import {
  type Binding,
  type Finish,
  isNaNOf,
  type KernelSpec,
  perThread,
  READ,
  type Start,
  type Target,
  type Two,
  vectorOf,
} from "../kernels/kernel.ts";
import {
  formatShape,
  type Four,
  four,
  type Pair,
  pair,
  ShapeError,
  windowCounts,
} from "../graph/shape.ts";
import { apply, type Attrs, checkTensor, type Op, type Tensor, tensor } from "../graph/tensor.ts";
import { mul } from "./elementwise.ts";
import { mean } from "./reduce.ts";
import { permute } from "./view.ts";

/** A window, down and across. */
export interface PoolAttrs extends Attrs {
  /** Its size. */
  readonly kernel: Two;
  /** Step from one to the next. */
  readonly stride: Two;
  /** Cells added on every side. */
  readonly padding: Two;
  /** Whether windows may end outside. */
  readonly ceilMode: boolean;
}

function poolShape(name: string, x: Tensor, attrs: PoolAttrs): Four {
  const [n, h, w, c] = four(x);
  return [n, ...windowCounts(name, [h, w], attrs.kernel, attrs), c];
}

/** A kernel with a thread for each `[N, P, Q, C]` result and WGSL `n p q c` for its place. */
function poolKernel(
  node: Tensor,
  target: Target,
  inputs: readonly string[],
  statements: (type: "f32" | "vec4f", channels: number) => string,
  outputs: readonly string[] = ["y"],
): KernelSpec {
  const [, p, q, c] = four(node);
  const [type, width] = vectorOf(c);
  const channels = c / width;
  const bindings: Binding[] = inputs.map((name) => ({ name, type }));
  return perThread(
    [...bindings, ...outputs.map((name) => ({ name, type, write: true }))],
    node.size / width,
    target,
    `  let c = i % ${channels}u; let q = i32(i / ${channels}u % ${q}u);
  let p = i32(i / ${channels * q}u % ${p}u); let n = i32(i / ${channels * q * p}u);
${statements(type, channels)}`,
  );
}

/**
 * WGSL loop over the taps of the window at (p, q) that lie inside `x`; `at` is the element. `before`
 * and `after` are done for each row of the window.
 */
function overWindow(
  x: Four,
  attrs: PoolAttrs,
  channels: number,
  body: string,
  { before = "", after = "" } = {},
): string {
  const { kernel, stride, padding } = attrs;
  return `  for (var r = 0; r < ${kernel[0]}; r++) {
    let h = p * ${stride[0]} + r - ${padding[0]};
    if (h < 0 || h >= ${x[1]}) { continue; }
    ${before}
    for (var s = 0; s < ${kernel[1]}; s++) {
      let w = q * ${stride[1]} + s - ${padding[1]};
      if (w < 0 || w >= ${x[2]}) { continue; }
      let at = u32((n * ${x[1]} + h) * ${x[2]} + w) * ${channels}u + c;
${body}
    }
    ${after}
  }`;
}

/** Terms that the gradient's kernel may write out one by one. */
const UNROLLED = 256;

/**
 * A kernel for the gradient `[N, H, W, C]` of windows `[N, P, Q, C]`. `share` is the WGSL of what the
 * window at index `at`, read by `read`, gives to a tap, `r × width + s` as an f32.
 */
function windowsGrad(
  node: Tensor,
  target: Target,
  inputs: readonly string[],
  read: string,
  share: (tap: string) => string,
  finish: Finish,
): KernelSpec {
  const { kernel, stride, padding } = node.attrs as PoolAttrs;
  const [n, h, w, c] = four(node), [, p, q] = four(node.inputs[0]!);
  const [type, width] = vectorOf(c);
  const channels = c / width;
  const bindings = [...inputs, "y"].map((name) => ({ name, type, write: name === "y" }));
  /** Windows, back from the one that begins last, that still reach a pixel. */
  const back = [0, 1].map((axis) => Math.ceil(kernel[axis]! / stride[axis]!)) as [number, number];
  /** One thread for each channel vector of `rows` × `columns` places `(a, b)`. */
  const threads = (rows: number, columns: number, statements: string) =>
    perThread(
      bindings,
      n * rows * columns * channels,
      target,
      `  let c = i % ${channels}u; let b = i32(i / ${channels}u % ${columns}u);
  let a = i32(i / ${channels * columns}u % ${rows}u); let n = i32(i / ${
        channels * columns * rows
      }u);
${statements}`,
    );
  /** WGSL: reads the window `(a, b)`, if there is one, and does `then`. */
  const window = (a: string, b: string, then: string) =>
    `if ((u32(${a}) < ${p}u) & (u32(${b}) < ${q}u)) {
    let at = u32((n * ${p} + ${a}) * ${q} + ${b}) * ${channels}u + c;
    ${read}
${then}
  }`;
  if (back[0] * back[1] * stride[0] * stride[1] > UNROLLED) {
    return threads(
      h,
      w,
      `  let h = a + ${padding[0]}; let w = b + ${padding[1]};
  var sum = ${type}(0.0);
  for (var u = 0; u < ${back[0]}; u++) { var row = ${type}(0.0); for (var v = 0; v < ${
        back[1]
      }; v++) {
    let p = h / ${stride[0]} - u; let r = h - p * ${stride[0]};
    let q = w / ${stride[1]} - v; let s = w - q * ${stride[1]};
    if (r >= ${kernel[0]} || s >= ${kernel[1]}) { continue; }
    ${window("p", "q", `row += ${share(`f32(r * ${kernel[1]} + s)`)};`)}
  } sum += row; }
  ${finish.load("c")}
  ${finish.store("i", "sum")}`,
    );
  }
  // A thread makes a block of stride × stride pixels, which the same few windows cover: each of those
  // is read once.
  const range = (count: number) => Array.from({ length: count }, (_, i) => i);
  const grid = (rows: number, columns: number) =>
    range(rows).flatMap((i) => range(columns).map((j) => [i, j] as const));
  const pixels = grid(...stride);
  return threads(
    Math.ceil((h + padding[0]) / stride[0]),
    Math.ceil((w + padding[1]) / stride[1]),
    [
      ...pixels.map(([i, j]) => `  var sum${i}_${j} = ${type}(0.0);`),
      ...grid(...back).map(([u, v]) => {
        const shares = pixels.flatMap(([i, j]) => {
          const [r, s] = [i + u * stride[0], j + v * stride[1]];
          if (r >= kernel[0] || s >= kernel[1]) return [];
          return [`    sum${i}_${j} += ${share(`${r * kernel[1] + s}.0`)};`];
        });
        return `  ${window(`(a - ${u})`, `(b - ${v})`, shares.join("\n"))}`;
      }),
      `  let h0 = a * ${stride[0]} - ${padding[0]}; let w0 = b * ${stride[1]} - ${padding[1]};`,
      `  ${finish.load("c")}`,
      ...pixels.map(([i, j]) =>
        `  { let h = h0 + ${i}; let w = w0 + ${j};
    if ((u32(h) < ${h}u) & (u32(w) < ${w}u)) {
      ${finish.store(`u32((n * ${h} + h) * ${w} + w) * ${channels}u + c`, `sum${i}_${j}`)}
    } }`
      ),
    ].join("\n"),
  );
}

// PyTorch takes the first of equal values, and NaN over any number. Minus infinity comes from a
// variable, since WGSL has no such constant.
const MINUS_INFINITY = (type: string) =>
  `  var bits = 0xff800000u;
  var best = ${type}(bitcast<f32>(bits));`;
const TAKE_LARGER = (type: "f32" | "vec4f", start: Start) =>
  `      let v = ${start.value("at")};
      let larger = (v > best) | ${isNaNOf("v", type)};
      best = select(best, v, larger);`;
const TAKE_TAP = (type: "f32" | "vec4f", width: number, start: Start) =>
  `      let v = ${start.value("at")};
      let larger = (v > best) | ${isNaNOf("v", type)} | (tap < ${type}(0.0));
      best = select(best, v, larger);
      tap = select(tap, ${type}(f32(r * ${width} + s)), larger);`;

const MaxPool: Op<PoolAttrs> = {
  name: "maxPool2d",
  shape: ([x], attrs) => poolShape("maxPool2d", x!, attrs),
  finishes: true,
  starts: true,
  kernels: (node, target, _, finish, start = READ) => {
    const x = four(node.inputs[0]!), attrs = node.attrs as PoolAttrs;
    return [poolKernel(node, target, ["x"], (type, channels) =>
      `${MINUS_INFINITY(type)}
  ${start.load("c")}
${overWindow(x, attrs, channels, TAKE_LARGER(type, start))}
  ${finish.load("c")}
  ${finish.store("i", "best")}`)];
  },
  vjp: (g, _, [x], attrs) => {
    const taps = apply(MaxPoolTaps, [x!], attrs);
    return [apply(MaxPoolGrad, [g, taps], { ...attrs, size: [four(x!)[1], four(x!)[2]] })];
  },
};

/** Taps of a window that f32 tells apart. */
const MOST_TAPS = 2 ** 24;

/** Which tap of its window (r × width + s) each result of a max pool came from. */
const MaxPoolTaps: Op<PoolAttrs> = {
  name: "maxPool2dTaps",
  shape: ([x], attrs) => {
    const [r, s] = attrs.kernel;
    if (r * s <= MOST_TAPS) return poolShape("maxPool2d", x!, attrs);
    throw new ShapeError(
      `maxPool2d: a window of ${r} × ${s}, more than ${MOST_TAPS} taps, has no gradient; take max over axes`,
    );
  },
  starts: true,
  kernels: (node, target, _, _finish, start = READ) => [tapsKernel(node, target, start)],
  beside: {
    op: MaxPool,
    kernels: (node, target, _, start = READ) => [tapsKernel(node, target, start, true)],
  },
};

/** The kernel of {@link MaxPoolTaps}, and of {@link MaxPool} too if `both`. */
function tapsKernel(node: Tensor, target: Target, start: Start, both = false): KernelSpec {
  const x = four(node.inputs[0]!), attrs = node.attrs as PoolAttrs;
  const body = (type: "f32" | "vec4f", channels: number) =>
    `${MINUS_INFINITY(type)}
  var tap = ${type}(-1.0);
  ${start.load("c")}
${overWindow(x, attrs, channels, TAKE_TAP(type, attrs.kernel[1], start))}
  ${both ? "y[i] = best; " : ""}taps[i] = tap;`;
  return poolKernel(node, target, ["x"], body, [...both ? ["y"] : [], "taps"]);
}

/** What lies at the taps: x `[N, H, W, C]` and taps `[N, P, Q, C]` → the shape of the taps. */
const MaxPoolTapped: Op<PoolAttrs & { size: Two }> = {
  name: "maxPool2dTapped",
  shape: ([, taps]) => taps!.shape,
  kernels: (node, target, attrs) => {
    const x = four(node.inputs[0]!), columns = attrs.kernel[1];
    const statements = (type: "f32" | "vec4f", channels: number) => {
      const take = `value = select(value, x[at], tap == ${type}(f32(r * ${columns} + s)));`;
      return `  let tap = taps[i]; var value = ${type}(0.0);
${overWindow(x, attrs, channels, take)}
  y[i] = value;`;
    };
    return [poolKernel(node, target, ["x", "taps"], statements)];
  },
  vjp: (g, _, [, taps], attrs) => [apply(MaxPoolGrad, [g, taps!], attrs), null],
};

/** From g `[N, P, Q, C]` and the taps of the same shape to `[N, H, W, C]`. */
const MaxPoolGrad: Op<PoolAttrs & { size: Two }> = {
  name: "maxPool2dGrad",
  shape: ([g], { size }) => [four(g!)[0], ...size, four(g!)[3]],
  finishes: true,
  kernels: (node, target, _, finish) => {
    const [type] = vectorOf(four(node)[3]);
    return [
      windowsGrad(
        node,
        target,
        ["g", "taps"],
        "let v = g[at]; let tap = taps[at];",
        (tap) => `select(${type}(0.0), v, tap == ${type}(${tap}))`,
        finish,
      ),
    ];
  },
  vjp: (u, _, [, taps], attrs) => [apply(MaxPoolTapped, [u, taps!], attrs), null],
};

const AvgPool: Op<PoolAttrs> = {
  name: "avgPool2d",
  shape: ([x], attrs) => poolShape("avgPool2d", x!, attrs),
  finishes: true,
  kernels: (node, target, _, finish) => {
    const x = four(node.inputs[0]!), attrs = node.attrs as PoolAttrs;
    return [poolKernel(node, target, ["x"], (type, channels) =>
      `  var sum = ${type}(0.0);
${
        overWindow(x, attrs, channels, "      row += x[at];", {
          before: `var row = ${type}(0.0);`,
          after: "sum += row;",
        })
      }
  ${finish.load("c")}
  ${finish.store("i", `sum / ${attrs.kernel[0] * attrs.kernel[1]}.0`)}`)];
  },
  vjp: (g, _, [x], attrs) => [
    apply(AvgPoolGrad, [g], { ...attrs, size: [four(x!)[1], four(x!)[2]] }),
  ],
};

/** From g `[N, P, Q, C]` to `[N, H, W, C]`. */
const AvgPoolGrad: Op<PoolAttrs & { size: Two }> = {
  name: "avgPool2dGrad",
  shape: ([g], { size }) => [four(g!)[0], ...size, four(g!)[3]],
  finishes: true,
  kernels: (node, target, _, finish) => {
    const { kernel } = node.attrs as PoolAttrs;
    const scale = `let v = g[at] / ${kernel[0] * kernel[1]}.0;`;
    return [windowsGrad(node, target, ["g"], scale, () => "v", finish)];
  },
  vjp: (u, _, _g, { size: _size, ...attrs }) => [apply(AvgPool, [u], attrs)],
};

/** Window of a pooling op, with PyTorch's defaults. */
export interface PoolOptions {
  /** Height and width of the window. */
  readonly kernelSize: Pair;
  /** Step between windows; the kernel size by default. */
  readonly stride?: Pair;
  /** Pixels added on every side, at most half the kernel size; 0 by default. */
  readonly padding?: Pair;
  /**
   * Whether the last windows may end beyond the padding, if they begin in the image or in the
   * padding before it; false by default.
   */
  readonly ceilMode?: boolean;
}

/** Settings of {@link avgPool2d}. */
export interface AvgPoolOptions extends PoolOptions {
  /** Whether a mean counts the padding, as zeros; true by default. */
  readonly countIncludePad?: boolean;
}

/** The window of a pooling op, checked, as `[height, width]` each; the op may have `more` options. */
export function checkPool(
  name: string,
  options: PoolOptions,
  more: readonly string[] = [],
): PoolAttrs {
  checkOptions(name, options, ["kernelSize", "stride", "padding", "ceilMode", ...more]);
  const { kernelSize, stride = kernelSize, padding: around = 0, ceilMode = false } = options;
  checkBoolean(name, "ceilMode", ceilMode);
  const kernel = pair(name, "kernelSize", kernelSize, 1);
  const padding = pair(name, "padding", around, 0);
  if (padding.some((p, i) => 2 * p > kernel[i]!)) {
    throw new ShapeError(`${name}: padding ${padding} is more than half the kernel size ${kernel}`);
  }
  return { kernel, padding, stride: pair(name, "stride", stride, 1), ceilMode };
}

/** {@link checkPool} for {@link avgPool2d}. */
export function checkAvgPool(
  name: string,
  options: AvgPoolOptions,
): PoolAttrs & { countIncludePad: boolean } {
  const attrs = checkPool(name, options, ["countIncludePad"]);
  const { countIncludePad = true } = options;
  checkBoolean(name, "countIncludePad", countIncludePad);
  return { ...attrs, countIncludePad };
}

/** Throws unless `x` is an f32 tensor `[N, C, H, W]`. */
export function checkImages(name: string, x: Tensor): void {
  checkTensor(name, "x", x, "f32");
  if (x.rank !== 4) {
    throw new ShapeError(`${name}: input must have 4 dimensions, got ${formatShape(x.shape)}`);
  }
}

function pool(op: Op<PoolAttrs>, x: Tensor, attrs: PoolAttrs): Tensor {
  return permute(apply(op, [permute(x, [0, 2, 3, 1])], attrs), [0, 3, 1, 2]);
}

/**
 * Largest value of each window, `[N, C, H, W]` → `[N, C, P, Q]`, where
 * `P = ⌊(H + 2 padding - kernelSize) / stride⌋ + 1`, or rounded up with `ceilMode`. Padding counts
 * as -∞, and NaN is larger than any number. The first of equal values gets the gradient
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html | PyTorch}).
 *
 * @throws {ArgumentError} if `x` is no tensor, or for an option that cannot be.
 * @throws {ShapeError} if `x` has other than 4 dimensions, or no window fits.
 *
 * @example
 * ```ts
 * import { evaluate, maxPool2d, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([[[[1, 2, 3], [4, 5, 6]]]]);
 * assertEquals(await evaluate(maxPool2d(x, { kernelSize: 2 })), new Float32Array([5]));
 * const y = maxPool2d(x, { kernelSize: 2, ceilMode: true });
 * assertEquals(await evaluate(y), new Float32Array([5, 6]));
 * ```
 */
export function maxPool2d(x: Tensor, options: PoolOptions): Tensor {
  const attrs = checkPool("maxPool2d", options);
  checkImages("maxPool2d", x);
  return pool(MaxPool, x, attrs);
}

/**
 * Mean of each window, `[N, C, H, W]` → `[N, C, P, Q]`, sizes as in {@link maxPool2d}. Padding
 * counts as zeros, unless `countIncludePad` is false; what is beyond it, with `ceilMode`, never
 * counts ({@link https://pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html | PyTorch}).
 *
 * @throws {ArgumentError} if `x` is no tensor, or for an option that cannot be.
 * @throws {ShapeError} if `x` has other than 4 dimensions, or no window fits.
 *
 * @example
 * ```ts
 * import { avgPool2d, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([[[[1, 2, 3], [4, 5, 6]]]]);
 * const y = avgPool2d(x, { kernelSize: 2, ceilMode: true });
 * assertEquals(await evaluate(y), new Float32Array([3, 4.5]));
 * ```
 */
export function avgPool2d(x: Tensor, options: AvgPoolOptions): Tensor {
  const { countIncludePad, ...attrs } = checkAvgPool("avgPool2d", options);
  checkImages("avgPool2d", x);
  const [, , h, w] = four(x), sizes = [h, w] as const;
  const y = pool(AvgPool, x, attrs);
  if (!attrs.ceilMode && (countIncludePad || attrs.padding.every((size) => size === 0))) return y;
  // The op divides by the whole window.
  const { kernel, stride, padding } = attrs;
  const [rows, columns] = [0, 1].map((axis) => {
    const size = sizes[axis]!, around = padding[axis]!, margin = countIncludePad ? around : 0;
    return Array.from({ length: y.shape[2 + axis]! }, (_, i) => {
      const first = i * stride[axis]! - around, end = first + kernel[axis]!;
      return kernel[axis]! / (Math.min(end, size + margin) - Math.max(first, -margin));
    });
  }) as [number[], number[]];
  if ([...rows, ...columns].every((factor) => factor === 1)) return y;
  return mul(y, tensor(rows.map((row) => columns.map((column) => row * column))));
}

/**
 * Mean over all pixels, `[N, C, H, W]` → `[N, C, 1, 1]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html | PyTorch} to one pixel).
 *
 * @throws {ArgumentError} if `x` is no tensor.
 * @throws {ShapeError} if `x` has other than 4 dimensions.
 *
 * @example
 * ```ts
 * import { evaluate, globalAvgPool2d, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = globalAvgPool2d(tensor([[[[1, 2], [3, 6]]]]));
 * assertEquals(await evaluate(y), new Float32Array([3]));
 * ```
 */
export function globalAvgPool2d(x: Tensor): Tensor {
  checkImages("globalAvgPool2d", x);
  return mean(x, [2, 3], { keepDims: true });
}
