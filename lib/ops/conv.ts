/**
 * Convolution and its two gradients, as implicit matrix products.
 *
 * {@link conv2d} has PyTorch's layout, `[N, C, H, W]` and `[O, C, R, S]`. The ops behind it work on
 * `[N, H, W, C]` and `[R, S, C, O]`, where four neighbouring channels are one load; the permutations
 * between them meet and vanish when a plan is made (`plan/rewrite.ts`).
 *
 * Dimension letters: N images, C channels, H×W pixels, O output channels, P×Q output pixels,
 * R×S kernel.
 *
 * @module
 */

import { checkOptions } from "../check/arguments.ts";
import { arrays, type KernelSpec, perThread, type Target, type Two } from "../kernels/kernel.ts";
import { choosePatches, chooseTile, chooseWinograd, type Convolution } from "../kernels/choice.ts";
import {
  ceil4,
  formatShape,
  type Four,
  four,
  type Pair,
  pair,
  ShapeError,
  windowCount,
} from "../graph/shape.ts";
import { apply, type Attrs, checkTensor, type Op, type Tensor } from "../graph/tensor.ts";
import { add } from "./elementwise.ts";
import { columnTile, rowTile, type Windows } from "../kernels/gemm.ts";
import { splitCount } from "./matmul.ts";
import { patches, unpad, zeroPad } from "./patches.ts";
import { sum } from "./reduce.ts";
import { permute, reshape } from "./view.ts";
import { winogradConv, winogradWeightGrad } from "./winograd.ts";

interface ConvAttrs extends Attrs {
  readonly stride: Two;
  readonly padding: Two;
}
interface SizedAttrs extends ConvAttrs {
  /** The two sizes that a gradient's other input does not tell: pixels H×W or kernel R×S. */
  readonly size: Two;
}

/** How the forward windows of `x [N,H,W,C]` line up with `y [N,P,Q,O]`. */
function windows(x: Four, y: Four, taps: Two, { stride, padding }: ConvAttrs): Windows {
  const [n, h, w, c] = x;
  const origin = [-padding[0], -padding[1]] as const;
  return { n, h, w, c, p: y[1], q: y[2], stride, origin, taps, direction: 1 };
}

/** A pass of the convolution from x `[N, H, W, C]` to `o` channels, as a kernel is chosen for it. */
function passOf(
  kind: Convolution["kind"],
  x: Tensor,
  o: number,
  kernel: Two,
  { stride, padding }: ConvAttrs,
): Convolution {
  const [n, h, w, c] = four(x);
  return { kind, n, pixels: [h, w], c, o, kernel, stride, padding };
}

/** {@link passOf} a node of {@link Conv}. */
function forwardOf(node: Tensor): Convolution {
  const [x, w] = node.inputs as [Tensor, Tensor], [r, s, , o] = four(w);
  return passOf("forward", x, o, [r, s], node.attrs as ConvAttrs);
}

/** {@link passOf} a node of {@link ConvInputGrad}. */
function inputGradOf(node: Tensor): Convolution {
  const [r, s, o] = four(node.inputs[1]!);
  return passOf("inputGrad", node, o, [r, s], node.attrs as ConvAttrs);
}

/** {@link passOf} a node of {@link ConvWeightGrad} or {@link PartialWeightGrad}. */
function weightGradOf(node: Tensor): Convolution {
  const [x, g] = node.inputs as [Tensor, Tensor], attrs = node.attrs as SizedAttrs;
  return passOf("weightGrad", x, four(g)[3], attrs.size, attrs);
}

const POINTWISE: ConvAttrs = { stride: [1, 1], padding: [0, 0] };

/**
 * The windows of x `[N, H, W, C]` as rows, where a pass to or from y `[N, P, Q, O]` is best taken as
 * a product with them: with a stride they are few, and few channels leave most of a vector empty.
 */
function unrolled(target: Target, pass: Convolution, x: Tensor, y: Tensor): Tensor | null {
  if (!choosePatches(target, pass)) return null;
  const { kernel, stride, padding } = pass, [, p, q] = four(y);
  return patches(x, { kernel, stride, padding, size: [p, q] });
}

const Conv: Op<ConvAttrs> = {
  name: "conv2d",
  shape: ([x, w], { stride, padding }) => {
    const [n, h, width] = four(x!), [r, s, _, o] = four(w!);
    const p = windowCount("conv2d", h, r, stride[0], padding[0]);
    return [n, p, windowCount("conv2d", width, s, stride[1], padding[1]), o];
  },
  lower: (node, target) => {
    const [x, w] = node.inputs as [Tensor, Tensor];
    const { stride, padding } = node.attrs as ConvAttrs;
    const [r, s, c, o] = four(w), pass = forwardOf(node);
    const m = chooseWinograd(target, pass);
    if (m) return winogradConv(x, w, { m, padding });
    const rows = unrolled(target, pass, x, node);
    if (rows) {
      const k = four(rows)[3];
      const matrix = zeroPad(reshape(w, [1, 1, r * s * c, o]), 2, k);
      return apply(Conv, [rows, matrix], POINTWISE);
    }
    if (c % 4 === 0 || !chooseTile(target, pass)) return node;
    const padded = [zeroPad(x, 3, ceil4(c)), zeroPad(w, 2, ceil4(c))];
    return apply(Conv, padded, { stride, padding });
  },
  kernels: (node, target) => {
    const [x, w] = node.inputs as [Tensor, Tensor];
    const attrs = node.attrs as ConvAttrs;
    const [r, s, _, o] = four(w);
    const grid = windows(four(x), four(node), [r, s], attrs);
    const { h, w: width, c, p, q } = grid;
    const tile = chooseTile(target, forwardOf(node));
    if (tile && c % 4 === 0) return [rowTile(grid, { o }, tile, target)];
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
    let h = i32(p * ${attrs.stride[0]}u + r) - ${attrs.padding[0]};
    if (h < 0 || h >= ${h}) { continue; }
    for (var s = 0u; s < ${s}u; s++) {
      let t = i32(q * ${attrs.stride[1]}u + s) - ${attrs.padding[1]};
      if (t < 0 || t >= ${width}) { continue; }
      var pixel = 0.0;
      for (var c = 0u; c < ${c}u; c++) {
        pixel += x[((n * ${h}u + u32(h)) * ${width}u + u32(t)) * ${c}u + c] *
          w[((r * ${s}u + s) * ${c}u + c) * ${o}u + o];
      }
      sum += pixel;
    }
  }
  y[i] = sum;`,
        ),
        flops: 2 * node.size * r * s * c,
      },
    ];
  },
  // The last axis of both is the output channels: each needs one product per remaining weight.
  macs: (node) => node.size * node.inputs[1]!.size / node.shape.at(-1)!,
  vjp: (g, _, [x, w], attrs) => [
    inputGrad(g, permute(w!, [0, 1, 3, 2]), { ...attrs, size: [four(x!)[1], four(x!)[2]] }),
    apply(ConvWeightGrad, [x!, g], { ...attrs, size: [four(w!)[0], four(w!)[1]] }),
  ],
};

/** From `g [N,P,Q,O]` and `w [R,S,O,C]` to `[N,H,W,C]`. */
const ConvInputGrad: Op<SizedAttrs> = {
  name: "conv2dInputGrad",
  shape: ([g, w], { size }) => [four(g!)[0], ...size, four(w!)[3]],
  lower: (node, target) => {
    const [g, w] = node.inputs as [Tensor, Tensor];
    const { padding: [y, x] } = node.attrs as SizedAttrs;
    const m = chooseWinograd(target, inputGradOf(node));
    return m ? winogradConv(g, w, { m, padding: [2 - y, 2 - x], flip: true }) : node;
  },
  kernels: (node, target) => {
    const [g, w] = node.inputs as [Tensor, Tensor];
    const { stride, padding } = node.attrs as SizedAttrs;
    const [n, p, q, o] = four(g), [r, s, _, c] = four(w), [, h, width] = four(node);
    const tile = chooseTile(target, inputGradOf(node));
    if (!tile || o % 4 !== 0) return [naiveInputGrad(node, target)];
    // Pixels of one phase (h mod stride, w mod stride) meet the same taps, every stride-th one:
    // for each phase this is a convolution of stride 1 with those taps.
    const phases = Array.from(
      { length: Math.min(stride[0], h) * Math.min(stride[1], width) },
      (_, i) =>
        [Math.floor(i / Math.min(stride[1], width)), i % Math.min(stride[1], width)] as const,
    );
    return phases.map(([y, x]) => {
      const r0 = (y + padding[0]) % stride[0], s0 = (x + padding[1]) % stride[1];
      const rows = Math.ceil((h - y) / stride[0]), columns = Math.ceil((width - x) / stride[1]);
      const grid: Windows = {
        n,
        h: p,
        w: q,
        c: o,
        p: rows,
        q: columns,
        stride: [1, 1],
        origin: [(y + padding[0] - r0) / stride[0], (x + padding[1] - s0) / stride[1]],
        taps: [
          Math.max(0, Math.ceil((r - r0) / stride[0])),
          Math.max(0, Math.ceil((s - s0) / stride[1])),
        ],
        direction: -1,
      };
      return rowTile(
        grid,
        {
          o: c,
          kernel: { width: s, first: [r0, s0], step: stride },
          ...stride[0] * stride[1] > 1 &&
            { scatter: { size: [h, width], first: [y, x], step: stride } },
        },
        tile,
        target,
      );
    });
  },
  vjp: (u, _, [g, w], { stride, padding }) => [
    apply(Conv, [u, permute(w!, [0, 1, 3, 2])], { stride, padding }),
    permute(
      apply(ConvWeightGrad, [u, g!], { stride, padding, size: [four(w!)[0], four(w!)[1]] }),
      [0, 1, 3, 2],
    ),
  ],
};

const inputGrad = (g: Tensor, w: Tensor, attrs: SizedAttrs) => apply(ConvInputGrad, [g, w], attrs);

function naiveInputGrad(node: Tensor, target: Target): KernelSpec {
  const [g, w] = node.inputs as [Tensor, Tensor];
  const { stride, padding } = node.attrs as SizedAttrs;
  const [, p, q, o] = four(g), [r, s, _, c] = four(w), [, h, width] = four(node);
  return {
    ...perThread(
      arrays({ g: "f32", w: "f32", y: "f32" }),
      node.size,
      target,
      `  let c = i % ${c}u; let w0 = i / ${c}u % ${width}u; let h0 = i / ${c * width}u % ${h}u;
  let n = i / ${c * width * h}u;
  var sum = 0.0;
  for (var r = 0u; r < ${r}u; r++) {
    let p = i32(h0 + ${padding[0]}u) - i32(r);
    if (p < 0 || p % ${stride[0]} != 0 || p / ${stride[0]} >= ${p}) { continue; }
    for (var s = 0u; s < ${s}u; s++) {
      let q = i32(w0 + ${padding[1]}u) - i32(s);
      if (q < 0 || q % ${stride[1]} != 0 || q / ${stride[1]} >= ${q}) { continue; }
      var pixel = 0.0;
      for (var o = 0u; o < ${o}u; o++) {
        pixel += g[((n * ${p}u + u32(p / ${stride[0]})) * ${q}u + u32(q / ${
        stride[1]
      })) * ${o}u + o] *
          w[((r * ${s}u + s) * ${o}u + o) * ${c}u + c];
      }
      sum += pixel;
    }
  }
  y[i] = sum;`,
    ),
    flops: 2 * four(g).reduce((a, b) => a * b) * r * s * c,
  };
}

/** From `x [N,H,W,C]` and `g [N,P,Q,O]` to `[R,S,C,O]`. */
const ConvWeightGrad: Op<SizedAttrs> = {
  name: "conv2dWeightGrad",
  shape: ([x, g], { size }) => [...size, four(x!)[3], four(g!)[3]],
  lower: (node, target) => {
    const [r, s, c, o] = four(node), [x, g] = node.inputs as [Tensor, Tensor];
    const { padding } = node.attrs as SizedAttrs, pass = weightGradOf(node);
    const m = chooseWinograd(target, pass);
    if (m) return winogradWeightGrad(x, g, { m, padding });
    const rows = unrolled(target, pass, x, g);
    if (rows) {
      const whole = apply(ConvWeightGrad, [rows, g], { ...POINTWISE, size: [1, 1] });
      return reshape(unpad(whole, 2, r * s * c), node.shape);
    }
    if (!chooseTile(target, pass)) return node;
    if (c % 4 !== 0) {
      const whole = apply(ConvWeightGrad, [zeroPad(x, 3, ceil4(c)), g], node.attrs as SizedAttrs);
      return reshape(unpad(whole, 2, c), node.shape);
    }
    const splits = splitCount(r * s * c, o, g.size / o);
    if (splits === 1) return node;
    const partial = apply(PartialWeightGrad, node.inputs, { ...node.attrs as SizedAttrs, splits });
    return reshape(sum(partial, [0]), node.shape);
  },
  kernels: (node, target) => {
    const [x, g] = node.inputs as [Tensor, Tensor];
    const [r, s, c, o] = four(node);
    const attrs = node.attrs as SizedAttrs;
    const { stride, padding } = attrs;
    const grid = windows(four(x), four(g), [r, s], attrs);
    const tile = chooseTile(target, weightGradOf(node));
    if (tile && c % 4 === 0) return [columnTile(grid, { o, splits: 1 }, tile, target)];
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
      let h = i32(p * ${stride[0]}u + r) - ${padding[0]};
      if (h < 0 || h >= ${h}) { continue; }
      var row = 0.0;
      for (var q = 0u; q < ${q}u; q++) {
        let w = i32(q * ${stride[1]}u + s) - ${padding[1]};
        if (w < 0 || w >= ${w}) { continue; }
        row += x[((n * ${h}u + u32(h)) * ${w}u + u32(w)) * ${c}u + c] *
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
  vjp: (u, _, [x, g], { stride, padding }) => [
    inputGrad(g!, permute(u, [0, 1, 3, 2]), {
      stride,
      padding,
      size: [four(x!)[1], four(x!)[2]],
    }),
    apply(Conv, [x!, u], { stride, padding }),
  ],
};

/** `[splits, R·S·C, O]`: weight gradients over parts of the pixels. */
const PartialWeightGrad: Op<SizedAttrs & { splits: number }> = {
  name: "partialWeightGrad",
  shape: ([x, g], { size, splits }) => [splits, size[0] * size[1] * four(x!)[3], four(g!)[3]],
  kernels: (node, target) => {
    const [x, g] = node.inputs as [Tensor, Tensor];
    const { size, splits, ...attrs } = node.attrs as SizedAttrs & { splits: number };
    const o = four(g)[3];
    const grid = windows(four(x), four(g), size, attrs as ConvAttrs);
    const tile = chooseTile(target, weightGradOf(node))!;
    return [columnTile(grid, { o, splits }, tile, target)];
  },
};

/** The order of a weight's axes that the kernels want, `[R, S, C, O]`: how layers store theirs. */
export const CONV_WEIGHT_ORDER: readonly number[] = [2, 3, 1, 0];

/**
 * 2-D convolution: x `[N, C, H, W]`, weight `[O, C, R, S]`, bias `[O]` → `[N, O, P, Q]`
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html | PyTorch}).
 *
 * @throws {ShapeError} if the shapes, or the window and the image, do not fit together.
 *
 * @example
 * ```ts
 * import { conv2d, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = conv2d(input("x", [4, 3, 6, 6]), input("w", [8, 3, 3, 3]), undefined, { padding: 1 });
 * assertEquals(y.shape, [4, 8, 6, 6]);
 * ```
 */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options: { stride?: Pair; padding?: Pair } = {},
): Tensor {
  checkTensor("conv2d", "x", x, "f32");
  checkTensor("conv2d", "weight", weight, "f32");
  if (bias !== undefined) checkTensor("conv2d", "bias", bias, "f32");
  checkOptions("conv2d", options, ["stride", "padding"]);
  const { stride = 1, padding = 0 } = options;
  const shapes = `${formatShape(x.shape)} * ${formatShape(weight.shape)}`;
  if (x.rank !== 4 || weight.rank !== 4) {
    throw new ShapeError(`conv2d: input and weight must have 4 dimensions: ${shapes}`);
  }
  if (x.shape[1] !== weight.shape[1]) {
    throw new ShapeError(
      `conv2d: input has ${x.shape[1]} channels, weight expects ${weight.shape[1]}: ${shapes}`,
    );
  }
  if (bias && (bias.rank !== 1 || bias.size !== weight.shape[0])) {
    throw new ShapeError(
      `conv2d: bias ${formatShape(bias.shape)} does not fit ${weight.shape[0]} output channels`,
    );
  }
  const inputs = [permute(x, [0, 2, 3, 1]), permute(weight, CONV_WEIGHT_ORDER)];
  const y = apply(Conv, inputs, {
    stride: pair("conv2d", "stride", stride, 1),
    padding: pair("conv2d", "padding", padding, 0),
  });
  // The bias is an op of its own: what follows takes it up, and layers with and without share kernels.
  const image = permute(y, [0, 3, 1, 2]);
  return bias ? add(image, reshape(bias, [bias.size, 1, 1])) : image;
}
