/**
 * Convolution and its two gradients, as implicit matrix products.
 *
 * {@link conv2d} has PyTorch's layout, `[N, C, H, W]` and `[O, C, R, S]`. The ops behind it work on
 * `[N, H, W, C]` and `[R, S, C, O]`, where four neighbouring channels are one load; the
 * permutations between them meet and vanish when a plan is made (`plan/rewrite.ts`).
 *
 * With groups, their channels lie side by side, and the kernel is `[R, S, C / groups, O]`.
 *
 * Dimension letters: N images, C channels, H×W pixels, O output channels, P×Q output pixels, R×S
 * kernel.
 *
 * @module
 */

import { ArgumentError, checkNumber, checkOptions, refuse } from "../check/arguments.ts";
import {
  arrays,
  type Finish,
  type KernelSpec,
  perThread,
  type Target,
  together,
  type Two,
} from "../kernels/kernel.ts";
import {
  choosePadded,
  choosePatches,
  chooseSplits,
  chooseTile,
  chooseWinograd,
  type Convolution,
} from "../kernels/choice.ts";
import {
  ceil4,
  formatShape,
  type Four,
  four,
  type Pair,
  pair,
  ShapeError,
  windowCounts,
} from "../graph/shape.ts";
import { apply, type Attrs, checkTensor, type Op, type Tensor } from "../graph/tensor.ts";
import { add } from "./elementwise.ts";
import { apart, columnTile, rowTile, type Windows } from "../kernels/gemm.ts";
import { depthwise, depthwiseInputGrad } from "./depthwise.ts";
import { pad } from "./slice.ts";
import { patches, unpad, zeroPad } from "./patches.ts";
import { sum } from "./reduce.ts";
import { broadcastTo, permute, reshape } from "./view.ts";
import { winogradConv, winogradInputGrad, winogradWeightGrad } from "./winograd.ts";

interface ConvAttrs extends Attrs {
  readonly stride: Two;
  readonly padding: Two;
  readonly dilation: Two;
  readonly groups: number;
}
interface SizedAttrs extends ConvAttrs {
  /** The two sizes that a gradient's other input does not tell: pixels H×W or kernel R×S. */
  readonly size: Two;
}

/** A weight with its input and output channels swapped, those of each group. */
function swapped(w: Tensor, groups: number): Tensor {
  if (groups === 1) return permute(w, [0, 1, 3, 2]);
  const [r, s, c, o] = four(w);
  const each = permute(reshape(w, [r, s, c, groups, o / groups]), [0, 1, 4, 3, 2]);
  return reshape(each, [r, s, o / groups, groups * c]);
}

/** x `[N, H, W, C]` with the channels of each group filled up with zeros to a multiple of four. */
function padChannels(x: Tensor, groups: number): Tensor {
  const [n, h, w, c] = four(x), each = c / groups;
  if (groups === 1) return zeroPad(x, 3, ceil4(c));
  const padded = zeroPad(reshape(x, [n, h, w, groups, each]), 4, ceil4(each));
  return reshape(padded, [n, h, w, groups * ceil4(each)]);
}

/** How the forward windows of `x [N,H,W,C]` line up with `y [N,P,Q,O]`. */
function windows(x: Four, y: Four, taps: Two, attrs: ConvAttrs): Windows {
  const { stride, padding, dilation, groups } = attrs, [n, h, w] = x, c = x[3] / groups;
  const origin = [-padding[0], -padding[1]] as const;
  return { n, h, w, c, p: y[1], q: y[2], stride, origin, taps, steps: dilation };
}

/** A pass of a group's convolution of x `[N, H, W, C]`, as a kernel is chosen for it. */
function passOf(
  kind: Convolution["kind"],
  x: Tensor,
  o: number,
  kernel: Two,
  { stride, padding, dilation, groups }: ConvAttrs,
): Convolution {
  const [n, h, w, c] = four(x);
  return {
    ...{ kind, n, pixels: [h, w], c: c / groups, o: o / groups },
    ...{ kernel, stride, padding, dilation },
  };
}

/** {@link passOf} a node of {@link Conv}. */
function forwardOf(node: Tensor): Convolution {
  const [x, w] = node.inputs as [Tensor, Tensor], [r, s, , o] = four(w);
  return passOf("forward", x, o, [r, s], node.attrs as ConvAttrs);
}

/** {@link passOf} a node of {@link ConvInputGrad}. */
function inputGradOf(node: Tensor): Convolution {
  const [g, w] = node.inputs as [Tensor, Tensor], [r, s] = four(w);
  return passOf("inputGrad", node, four(g)[3], [r, s], node.attrs as ConvAttrs);
}

/** {@link passOf} a node of {@link ConvWeightGrad} or {@link PartialWeightGrad}. */
function weightGradOf(node: Tensor): Convolution {
  const [x, g] = node.inputs as [Tensor, Tensor], attrs = node.attrs as SizedAttrs;
  return passOf("weightGrad", x, four(g)[3], attrs.size, attrs);
}

const POINTWISE: ConvAttrs = { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 };

/** The size of Winograd's tiles, if it is used: without groups. */
const winogradOf = (target: Target, { groups }: ConvAttrs, pass: Convolution) =>
  groups === 1 ? chooseWinograd(target, pass) : null;

/** Whether channels are filled up with zeros to whole vectors: those of groups must be. */
const isPadded = (target: Target, { groups }: ConvAttrs, pass: Convolution) =>
  groups > 1 ? pass.c % 4 !== 0 : choosePadded(target, pass);

/**
 * The windows of x `[N, H, W, C]` as rows, where a pass to or from y `[N, P, Q, O]` is best taken as
 * a product with them: with a stride they are few, and few channels leave most of a vector empty.
 */
function unrolled(
  target: Target,
  { groups }: ConvAttrs,
  pass: Convolution,
  x: Tensor,
  y: Tensor,
): Tensor | null {
  if (groups > 1 || !choosePatches(target, pass)) return null;
  const { kernel, stride, padding, dilation } = pass, [, p, q] = four(y);
  return patches(x, { kernel, stride, padding, dilation, size: [p, q] });
}

const Conv: Op<ConvAttrs> = {
  name: "conv2d",
  shape: ([x, w], attrs) => {
    const [n, h, width] = four(x!), [r, s, _, o] = four(w!);
    return [n, ...windowCounts("conv2d", [h, width], [r, s], attrs), o];
  },
  lower: (node, target) => {
    const [x, w] = node.inputs as [Tensor, Tensor];
    const attrs = node.attrs as ConvAttrs, { padding, groups } = attrs;
    const [r, s, c, o] = four(w), pass = forwardOf(node);
    const m = winogradOf(target, attrs, pass);
    if (m) return winogradConv(x, w, { m, padding });
    const rows = unrolled(target, attrs, pass, x, node);
    if (rows) {
      const k = four(rows)[3];
      const matrix = zeroPad(reshape(w, [1, 1, r * s * c, o]), 2, k);
      return apply(Conv, [rows, matrix], POINTWISE);
    }
    const tile = chooseTile(target, pass, groups);
    if (!tile) return node;
    if (!isPadded(target, attrs, pass)) {
      // Another tile has no parts of a pixel's channels.
      const splits = tile.workgroup ? chooseSplits(tile, node.size / o, o, r * s * c) : 1;
      if (splits === 1 || splits * groups > target.maxWorkgroups) return node;
      return reshape(sum(apply(PartialConv, [x, w], { ...attrs, splits }), [0]), node.shape);
    }
    return apply(Conv, [padChannels(x, groups), zeroPad(w, 2, ceil4(c))], attrs);
  },
  finishes: true,
  kernels: (node, target, _attrs, finish) => {
    const [x, w] = node.inputs as [Tensor, Tensor];
    const attrs = node.attrs as ConvAttrs;
    const [r, s, _, o] = four(w);
    const grid = windows(four(x), four(node), [r, s], attrs);
    const { h, w: width, c, p, q } = grid, { groups, dilation: [down, across] } = attrs;
    const tile = chooseTile(target, forwardOf(node), groups), each = o / groups;
    if (tile && !isPadded(target, attrs, forwardOf(node))) {
      return [rowTile(grid, { o: each, groups }, tile, target, finish)];
    }
    return [
      {
        ...perThread(
          arrays({ x: "f32", w: "f32", y: "f32" }),
          node.size,
          target,
          `  let o = i % ${o}u; let q = i / ${o}u % ${q}u; let p = i / ${o * q}u % ${p}u;
  let n = i / ${o * p * q}u;
  var sum = 0.0;
  for (var r = 0u; r < ${r}u; r++) {
    let h = i32(p * ${attrs.stride[0]}u + ${apart("r", down, "u")}) - ${attrs.padding[0]};
    if (h < 0 || h >= ${h}) { continue; }
    for (var s = 0u; s < ${s}u; s++) {
      let t = i32(q * ${attrs.stride[1]}u + ${apart("s", across, "u")}) - ${attrs.padding[1]};
      if (t < 0 || t >= ${width}) { continue; }
      var pixel = 0.0;
      for (var c = 0u; c < ${c}u; c++) {
        pixel += x[((n * ${h}u + u32(h)) * ${width}u + u32(t)) * ${
            channel(c, groups, `o / ${each}u`)
          } + c] *
          w[((r * ${s}u + s) * ${c}u + c) * ${o}u + o];
      }
      sum += pixel;
    }
  }
  ${finish.load("o")}
  ${finish.store("i", "sum")}`,
        ),
        flops: 2 * node.size * r * s * c,
      },
    ];
  },
  // The last axis of both is the output channels: each needs one product per remaining weight.
  macs: (node) => node.size * node.inputs[1]!.size / node.shape.at(-1)!,
  vjp: (g, _, [x, w], attrs) => [
    inputGrad(g, swapped(w!, attrs.groups), { ...attrs, size: [four(x!)[1], four(x!)[2]] }),
    apply(ConvWeightGrad, [x!, g], { ...attrs, size: [four(w!)[0], four(w!)[1]] }),
  ],
};

/** `[splits, N, P, Q, O]`: convolutions over parts of the channels, by tiles in workgroup memory. */
const PartialConv: Op<ConvAttrs & { splits: number }> = {
  name: "partialConv2d",
  shape: (inputs, { splits, ...attrs }) => [splits, ...Conv.shape(inputs, attrs as ConvAttrs)],
  kernels: (node, target) => {
    const [x, w] = node.inputs as [Tensor, Tensor], [r, s, _, o] = four(w);
    const { splits, ...rest } = node.attrs as ConvAttrs & { splits: number };
    const attrs = rest as ConvAttrs, { groups } = attrs;
    const [, ...y] = node.shape as [number, number, number, number, number];
    const tile = chooseTile(target, passOf("forward", x, o, [r, s], attrs), groups)!;
    const grid = windows(four(x), y, [r, s], attrs);
    return [rowTile(grid, { o: o / groups, groups, splits }, tile, target)];
  },
};

/** WGSL: the channels of a pixel times what it is at, and where those of `group` begin. */
const channel = (c: number, groups: number, group: string) =>
  groups === 1 ? `${c}u` : `${c * groups}u + ${group} * ${c}u`;

/** The sizes in which phases of an input gradient differ, as a rule. */
const PHASE = ["oh", "ow", "taps", "across_taps", "r0", "s0", "out_y", "out_x"];

/** From `g [N,P,Q,O]` and `w [R,S,O,C]` to `[N,H,W,C]`; of groups, w is `[R, S, O / groups, C]`. */
const ConvInputGrad: Op<SizedAttrs> = {
  name: "conv2dInputGrad",
  shape: ([g, w], { size }) => [four(g!)[0], ...size, four(w!)[3]],
  lower: (node, target) => {
    const [g, w] = node.inputs as [Tensor, Tensor];
    const attrs = node.attrs as SizedAttrs, { padding, size } = attrs;
    const m = winogradOf(target, attrs, inputGradOf(node));
    return m ? winogradInputGrad(g, w, { m, padding, size }) : node;
  },
  finishes: true,
  kernels: (node, target, _attrs, finish) => {
    const [g, w] = node.inputs as [Tensor, Tensor];
    const { stride, padding, dilation, groups } = node.attrs as SizedAttrs;
    const [n, p, q] = four(g), [r, s, o, c] = four(w), [, h, width] = four(node);
    const tile = chooseTile(target, inputGradOf(node), groups);
    if (!tile || o % 4 !== 0) return [naiveInputGrad(node, target, finish)];
    // Pixels of one phase (h mod stride, w mod stride) meet the same taps, every stride-th one, or more
    // if taps are apart: for each phase this is a convolution of stride 1 with those taps.
    const phases = Array.from(
      { length: Math.min(stride[0], h) * Math.min(stride[1], width) },
      (_, i) =>
        [Math.floor(i / Math.min(stride[1], width)), i % Math.min(stride[1], width)] as const,
    );
    const all = phases.map(([y, x]) => {
      const down = tapsOf(y + padding[0], r, stride[0], dilation[0]);
      const across = tapsOf(x + padding[1], s, stride[1], dilation[1]);
      const rows = Math.ceil((h - y) / stride[0]), columns = Math.ceil((width - x) / stride[1]);
      const grid: Windows = {
        n,
        h: p,
        w: q,
        c: o,
        p: rows,
        q: columns,
        stride: [1, 1],
        origin: [down.origin, across.origin],
        taps: [down.count, across.count],
        steps: [-down.apart, -across.apart],
      };
      return rowTile(
        grid,
        {
          ...{ o: c / groups, groups },
          kernel: {
            width: s,
            first: [down.first, across.first],
            step: [down.step, across.step],
          },
          ...stride[0] * stride[1] > 1 &&
            { scatter: { size: [h, width], first: [y, x], step: stride } },
        },
        tile,
        target,
        finish,
      );
    });
    return together(all, target, PHASE);
  },
  macs: ({ inputs: [g, w] }) => g!.size * w!.size / four(g!)[3],
  vjp: (u, _, [g, w], { size: _size, ...attrs }) => [
    apply(Conv, [u, swapped(w!, attrs.groups)], attrs),
    swapped(
      apply(ConvWeightGrad, [u, g!], { ...attrs, size: [four(w!)[0], four(w!)[1]] }),
      attrs.groups,
    ),
  ],
};

/**
 * Along an axis, the taps that meet pixel `at` and those a stride apart, counted with the padding: the
 * first, the step to the next and how many; then the pixel of the gradient under the first of them,
 * and how many it is back to the next one's.
 */
function tapsOf(at: number, taps: number, stride: number, dilation: number) {
  let common = stride;
  for (let rest = dilation; rest > 0;) [common, rest] = [rest, common % rest];
  const step = stride / common;
  let first = dilation === 1 ? at % stride : 0;
  while (first < taps && (at - first * dilation) % stride !== 0) first++;
  return {
    ...{ first, step, apart: dilation / common },
    count: Math.max(0, Math.ceil((taps - first) / step)),
    origin: Math.trunc((at - first * dilation) / stride),
  };
}

const inputGrad = (g: Tensor, w: Tensor, attrs: SizedAttrs) => apply(ConvInputGrad, [g, w], attrs);

function naiveInputGrad(node: Tensor, target: Target, finish: Finish): KernelSpec {
  const [g, w] = node.inputs as [Tensor, Tensor];
  const { stride, padding, dilation, groups } = node.attrs as SizedAttrs;
  const [, p, q] = four(g), [r, s, o, c] = four(w), [, h, width] = four(node);
  return {
    ...perThread(
      arrays({ g: "f32", w: "f32", y: "f32" }),
      node.size,
      target,
      `  let c = i % ${c}u; let w0 = i / ${c}u % ${width}u; let h0 = i / ${c * width}u % ${h}u;
  let n = i / ${c * width * h}u;
  var sum = 0.0;
  for (var r = 0u; r < ${r}u; r++) {
    let p = i32(h0 + ${padding[0]}u) - ${apart("i32(r)", dilation[0])};
    if (p < 0 || p % ${stride[0]} != 0 || p / ${stride[0]} >= ${p}) { continue; }
    for (var s = 0u; s < ${s}u; s++) {
      let q = i32(w0 + ${padding[1]}u) - ${apart("i32(s)", dilation[1])};
      if (q < 0 || q % ${stride[1]} != 0 || q / ${stride[1]} >= ${q}) { continue; }
      var pixel = 0.0;
      for (var o = 0u; o < ${o}u; o++) {
        pixel += g[((n * ${p}u + u32(p / ${stride[0]})) * ${q}u + u32(q / ${stride[1]})) * ${
        channel(o, groups, `c / ${c / groups}u`)
      } + o] *
          w[((r * ${s}u + s) * ${o}u + o) * ${c}u + c];
      }
      sum += pixel;
    }
  }
  ${finish.load("c")}
  ${finish.store("i", "sum")}`,
    ),
    flops: 2 * g.size * r * s * c / groups,
  };
}

/** From `x [N,H,W,C]` and `g [N,P,Q,O]` to `[R,S,C,O]`. */
const ConvWeightGrad: Op<SizedAttrs> = {
  name: "conv2dWeightGrad",
  shape: ([x, g], { size, groups }) => [...size, four(x!)[3] / groups, four(g!)[3]],
  lower: (node, target) => {
    const [r, s, c, o] = four(node), [x, g] = node.inputs as [Tensor, Tensor];
    const attrs = node.attrs as SizedAttrs, { padding, groups } = attrs, pass = weightGradOf(node);
    const m = winogradOf(target, attrs, pass);
    if (m) return winogradWeightGrad(x, g, { m, padding });
    const rows = unrolled(target, attrs, pass, x, g);
    if (rows) {
      const whole = apply(ConvWeightGrad, [rows, g], { ...POINTWISE, size: [1, 1] });
      return reshape(unpad(whole, 2, r * s * c), node.shape);
    }
    const tile = chooseTile(target, pass, groups);
    if (!tile) return node;
    if (isPadded(target, attrs, pass)) {
      const whole = apply(ConvWeightGrad, [padChannels(x, groups), g], attrs);
      return reshape(unpad(whole, 2, c), node.shape);
    }
    const splits = chooseSplits(tile, r * s * c, o, g.size / o);
    if (splits === 1 || splits * groups > target.maxWorkgroups) return node;
    const partial = apply(PartialWeightGrad, node.inputs, { ...attrs, splits });
    return reshape(sum(partial, [0]), node.shape);
  },
  kernels: (node, target) => {
    const [x, g] = node.inputs as [Tensor, Tensor];
    const [r, s, c, o] = four(node);
    const attrs = node.attrs as SizedAttrs;
    const { stride, padding, dilation, groups } = attrs, each = o / groups;
    const grid = windows(four(x), four(g), [r, s], attrs);
    const tile = chooseTile(target, weightGradOf(node), groups);
    if (tile && !isPadded(target, attrs, weightGradOf(node))) {
      return [columnTile(grid, { o: each, splits: 1, groups }, tile, target)];
    }
    const { n, h, w, p, q } = grid;
    return [
      {
        ...perThread(
          arrays({ x: "f32", g: "f32", y: "f32" }),
          node.size,
          target,
          `  let o = i % ${o}u; let c = i / ${o}u % ${c}u;
  let s = i / ${o * c}u % ${s}u; let r = i / ${o * c * s}u;
  var sum = 0.0;
  for (var n = 0u; n < ${n}u; n++) {
    var image = 0.0;
    for (var p = 0u; p < ${p}u; p++) {
      let h = i32(p * ${stride[0]}u + ${apart("r", dilation[0], "u")}) - ${padding[0]};
      if (h < 0 || h >= ${h}) { continue; }
      var row = 0.0;
      for (var q = 0u; q < ${q}u; q++) {
        let w = i32(q * ${stride[1]}u + ${apart("s", dilation[1], "u")}) - ${padding[1]};
        if (w < 0 || w >= ${w}) { continue; }
        row += x[((n * ${h}u + u32(h)) * ${w}u + u32(w)) * ${
            channel(c, groups, `o / ${each}u`)
          } + c] *
          g[((n * ${p}u + p) * ${q}u + q) * ${o}u + o];
      }
      image += row;
    }
    sum += image;
  }
  y[i] = sum;`,
        ),
        flops: 2 * node.size * n * p * q,
      },
    ];
  },
  vjp: (u, _, [x, g], { size: _size, ...attrs }) => [
    inputGrad(g!, swapped(u, attrs.groups), { ...attrs, size: [four(x!)[1], four(x!)[2]] }),
    apply(Conv, [x!, u], attrs),
  ],
};

/** `[splits, R·S·C, O]`: weight gradients over parts of the pixels. */
const PartialWeightGrad: Op<SizedAttrs & { splits: number }> = {
  name: "partialWeightGrad",
  shape: ([x, g], { size, splits, groups }) => {
    return [splits, size[0] * size[1] * four(x!)[3] / groups, four(g!)[3]];
  },
  kernels: (node, target) => {
    const [x, g] = node.inputs as [Tensor, Tensor];
    const { size, splits, ...attrs } = node.attrs as SizedAttrs & { splits: number };
    const o = four(g)[3];
    const grid = windows(four(x), four(g), size, attrs as ConvAttrs);
    const { groups } = attrs as ConvAttrs;
    const tile = chooseTile(target, weightGradOf(node), groups)!;
    return [columnTile(grid, { o: o / groups, splits, groups }, tile, target)];
  },
};

/** The order of a weight's axes that the kernels want, `[R, S, C, O]`: how layers store theirs. */
export const CONV_WEIGHT_ORDER: readonly number[] = [2, 3, 1, 0];

/** The same for a transposed convolution's weight, `[C, O, R, S]` lying as `[R, S, C, O]`. */
export const CONV_TRANSPOSE_WEIGHT_ORDER: readonly number[] = [2, 3, 0, 1];

/** Settings of {@link conv2d}. */
export interface ConvOptions {
  /** Step between windows; 1 by default. */
  readonly stride?: Pair;
  /**
   * Zeros added on every side; 0, which is `"valid"`, by default. `"same"` adds as many as keep the
   * size, and needs a stride of 1.
   */
  readonly padding?: Pair | "same" | "valid";
  /** Pixels from a tap of the kernel to the next; 1 by default. */
  readonly dilation?: Pair;
  /** Parts of the channels, each of which has a convolution of its own; 1 by default. */
  readonly groups?: number;
}

/** The options of a convolution, checked. */
export function checkConv(
  name: string,
  { stride = 1, padding = 0, dilation = 1, groups = 1 }: ConvOptions,
): ConvAttrs & { same: boolean } {
  checkNumber(name, "groups", groups, { integer: true, min: 1 });
  const same = padding === "same", pixels = typeof padding === "string" ? 0 : padding;
  if (typeof padding === "string" && !same && padding !== "valid") {
    refuse(name, "padding", 'a number, two of them, "same" or "valid"', padding);
  }
  const attrs = {
    stride: pair(name, "stride", stride, 1),
    padding: pair(name, "padding", pixels, 0),
    dilation: pair(name, "dilation", dilation, 1),
  };
  if (same && attrs.stride.some((step) => step !== 1)) {
    throw new ArgumentError(`${name}: padding "same" needs a stride of 1, got ${attrs.stride}`);
  }
  return { ...attrs, groups, same };
}

/** Throws unless x, weight and bias are tensors, of 4, 4 and one dimensions; their shapes in words. */
function checkOperands(name: string, x: Tensor, weight: Tensor, bias: Tensor | undefined): string {
  checkTensor(name, "x", x, "f32");
  checkTensor(name, "weight", weight, "f32");
  if (bias !== undefined) checkTensor(name, "bias", bias, "f32");
  const shapes = `${formatShape(x.shape)} * ${formatShape(weight.shape)}`;
  if (x.rank !== 4 || weight.rank !== 4) {
    throw new ShapeError(`${name}: input and weight must have 4 dimensions: ${shapes}`);
  }
  return shapes;
}

/** Throws unless there is no bias, or one for each of `channels`. */
function checkBias(name: string, bias: Tensor | undefined, channels: number): void {
  if (!bias || (bias.rank === 1 && bias.size === channels)) return;
  throw new ShapeError(
    `${name}: bias ${formatShape(bias.shape)} does not fit ${channels} output channels`,
  );
}

/** Each channel of x `[N, H, W, C]` `times` times. */
function repeated(x: Tensor, times: number): Tensor {
  if (times === 1) return x;
  const [n, h, w, c] = four(x);
  const spread = broadcastTo(reshape(x, [n, h, w, c, 1]), [n, h, w, c, times]);
  return reshape(spread, [n, h, w, c * times]);
}

/** Images `[N, H, W, C]` as `[N, C, H, W]`; with a bias. */
function imagesOf(y: Tensor, bias: Tensor | undefined): Tensor {
  // The bias is an op of its own: what follows takes it up, and layers with and without share kernels.
  const image = permute(y, [0, 3, 1, 2]);
  return bias ? add(image, reshape(bias, [bias.size, 1, 1])) : image;
}

/**
 * 2-D convolution: x `[N, C, H, W]`, weight `[O, C / groups, R, S]`, bias `[O]` or none →
 * `[N, O, P, Q]`, where `P = ⌊(H + 2 padding - dilation (R - 1) - 1) / stride⌋ + 1`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html | PyTorch}).
 *
 * A 3×3 convolution of stride 1 may be computed in tiles of up to 6×6 results (Winograd's). There a
 * pixel that is NaN, infinite or near the end of f32's range can spoil all results of the tiles that
 * it lies in, in its image only; directly, as in PyTorch on a CPU, it meets 3×3 of them. A device of
 * `Device.request({ choice: "subgroup" })` computes all convolutions directly.
 *
 * @throws {ArgumentError} if an argument is no tensor, or for an option that cannot be.
 * @throws {ShapeError} for shapes, sizes or groups that do not fit.
 *
 * @example
 * ```ts
 * import { conv2d, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = conv2d(input("x", [4, 3, 6, 6]), input("w", [8, 3, 3, 3]), undefined, { padding: 1 });
 * assertEquals(y.shape, [4, 8, 6, 6]);
 * ```
 *
 * @example A kernel for each channel, its taps two pixels apart
 * ```ts
 * import { conv2d, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = input("x", [4, 8, 6, 6]), w = input("w", [8, 1, 3, 3]);
 * const y = conv2d(x, w, undefined, { groups: 8, dilation: 2, padding: "same" });
 * assertEquals(y.shape, [4, 8, 6, 6]);
 * ```
 */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: ConvOptions = {},
): Tensor {
  const shapes = checkOperands("conv2d", x, weight, bias);
  checkOptions("conv2d", options, ["stride", "padding", "dilation", "groups"]);
  const { same, ...attrs } = checkConv("conv2d", options), { groups } = attrs;
  const [o, each, r, s] = four(weight), c = x.shape[1]!;
  if (c !== each * groups) {
    throw new ShapeError(
      `conv2d: input has ${c} channels, weight expects ${each}${
        groups > 1 ? ` in each of ${groups} groups` : ""
      }: ${shapes}`,
    );
  }
  if (o % groups !== 0) {
    throw new ShapeError(`conv2d: ${groups} groups do not divide ${o} output channels: ${shapes}`);
  }
  checkBias("conv2d", bias, o);
  const window = { ...attrs };
  if (same) {
    // An odd number of zeros has one more behind, as in PyTorch.
    const zeros = [r, s].map((taps, axis) => attrs.dilation[axis]! * (taps - 1));
    x = pad(x, [0, zeros[1]! % 2, 0, zeros[0]! % 2]);
    window.padding = zeros.map((count) => Math.floor(count / 2)) as [number, number];
  }
  const images = permute(x, [0, 2, 3, 1]), w = permute(weight, CONV_WEIGHT_ORDER);
  if (groups === 1 || each > 1) return imagesOf(apply(Conv, [images, w], window), bias);
  const spread = repeated(images, o / groups);
  return imagesOf(depthwise(spread, reshape(w, [r, s, o]), window), bias);
}

/** Settings of {@link convTranspose2d}. */
export interface ConvTransposeOptions {
  /** Step between windows; 1 by default. */
  readonly stride?: Pair;
  /** Pixels left out on every side of the result; 0 by default. */
  readonly padding?: Pair;
  /** Pixels added below and on the right, fewer than stride or dilation; 0 by default. */
  readonly outputPadding?: Pair;
  /** Pixels from a tap of the kernel to the next; 1 by default. */
  readonly dilation?: Pair;
  /** Parts of the channels, each of which has a convolution of its own; 1 by default. */
  readonly groups?: number;
}

/** The options of a transposed convolution, checked. */
export function checkConvTranspose(name: string, options: ConvTransposeOptions) {
  const { outputPadding = 0, ...rest } = options;
  if (typeof rest.padding === "string") {
    refuse(name, "padding", "a number or two of them", rest.padding);
  }
  const { same: _same, ...attrs } = checkConv(name, rest);
  const more = pair(name, "outputPadding", outputPadding, 0);
  if (more.some((size, axis) => size >= Math.max(attrs.stride[axis]!, attrs.dilation[axis]!))) {
    throw new ShapeError(
      `${name}: outputPadding ${more} must be less than stride ${attrs.stride} or dilation ` +
        `${attrs.dilation}`,
    );
  }
  return { ...attrs, outputPadding: more };
}

/**
 * Transposed convolution, the gradient of {@link conv2d} for its input: x `[N, C, H, W]`, weight
 * `[C, O / groups, R, S]`, bias `[O]` or none → `[N, O, P, Q]`, where
 * `P = (H - 1) stride - 2 padding + dilation (R - 1) + outputPadding + 1`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html | PyTorch}).
 *
 * @throws {ArgumentError} if an argument is no tensor, or for an option that cannot be.
 * @throws {ShapeError} for shapes, sizes or groups that do not fit.
 *
 * @example Images twice as large
 * ```ts
 * import { convTranspose2d, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([[[[1, 2]]]]), w = tensor([[[[1, 10], [100, 1000]]]]);
 * const y = convTranspose2d(x, w, undefined, { stride: 2 });
 * assertEquals(y.shape, [1, 1, 2, 4]);
 * assertEquals(await evaluate(y), new Float32Array([1, 10, 2, 20, 100, 1000, 200, 2000]));
 * ```
 */
export function convTranspose2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: ConvTransposeOptions = {},
): Tensor {
  const op = "convTranspose2d", shapes = checkOperands(op, x, weight, bias);
  checkOptions(op, options, ["stride", "padding", "outputPadding", "dilation", "groups"]);
  const { outputPadding, ...window } = checkConvTranspose(op, options), { groups } = window;
  const [c, each, r, s] = four(weight);
  if (x.shape[1] !== c) {
    throw new ShapeError(`${op}: input has ${x.shape[1]} channels, weight expects ${c}: ${shapes}`);
  }
  if (c % groups !== 0) {
    throw new ShapeError(`${op}: ${groups} groups do not divide ${c} input channels: ${shapes}`);
  }
  checkBias(op, bias, groups * each);
  // As many more pixels as a stride are those of another row of zeros.
  const { stride, padding, dilation } = window;
  const added = outputPadding.map((size, axis) => Math.floor(size / stride[axis]!));
  const larger = pad(x, [0, added[1]!, 0, added[0]!]);
  const size = [r, s].map((taps, axis) =>
    (larger.shape[2 + axis]! - 1) * stride[axis]! - 2 * padding[axis]! +
    dilation[axis]! * (taps - 1) + outputPadding[axis]! % stride[axis]! + 1
  ) as [number, number];
  if (size.some((pixels) => pixels < 1)) {
    throw new ShapeError(
      `${op}: padding ${padding} leaves nothing, a size of ${formatShape(size)}: ${shapes}`,
    );
  }
  const images = permute(larger, [0, 2, 3, 1]), attrs = { ...window, size };
  const w = permute(weight, CONV_TRANSPOSE_WEIGHT_ORDER);
  if (groups > 1 && c === groups) {
    const spread = repeated(images, each);
    return imagesOf(depthwiseInputGrad(spread, reshape(w, [r, s, c * each]), attrs), bias);
  }
  if (groups === 1) return imagesOf(inputGrad(images, w, attrs), bias);
  const sideBySide = permute(reshape(w, [r, s, groups, c / groups, each]), [0, 1, 3, 2, 4]);
  const rows = reshape(sideBySide, [r, s, c / groups, groups * each]);
  return imagesOf(inputGrad(images, rows, attrs), bias);
}
