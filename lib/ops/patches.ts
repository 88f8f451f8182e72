/**
 * The windows of an image written out as rows (im2col), and the zero padding that lets products
 * take four elements at a time. Only lowered graphs have these: none has a gradient.
 *
 * @module
 */

import { arrays, perThread, times, type Two } from "../kernels/kernel.ts";
import { apart } from "../kernels/gemm.ts";
import { ceil4, four, sizeOf } from "../graph/shape.ts";
import { apply, type Attrs, type Op, type Tensor } from "../graph/tensor.ts";
import { slice } from "./slice.ts";
import { reshape } from "./view.ts";

interface PatchAttrs extends Attrs {
  readonly kernel: Two;
  readonly stride: Two;
  readonly padding: Two;
  readonly dilation: Two;
  /** Result pixels P×Q. */
  readonly size: Two;
}

const Patches: Op<PatchAttrs> = {
  name: "patches",
  shape: ([x], { kernel, size }) => {
    const [n, , , c] = four(x!);
    return [n, ...size, ceil4(kernel[0] * kernel[1] * c)];
  },
  kernels: (node, target, attrs) => {
    const { kernel: [r, s], stride, padding, dilation, size: [p, q] } = attrs;
    const [n, h, w, c] = four(node.inputs[0]!);
    if (c % 4 === 0) {
      // A thread writes the same four channels of all taps, so that it finds its pixel once.
      return [perThread(
        arrays({ x: "vec4f", y: "vec4f" }),
        n * p * q * c / 4,
        target,
        `  let c = i % z.channels; let pixel = i / z.channels;
  let image = pixel / (z.p * z.q) * z.h * z.w;
  let h0 = i32(pixel / z.q % z.p * z.sh) - i32(z.top);
  let w0 = i32(pixel % z.q * z.sw) - i32(z.left);
  var to = pixel * z.r * z.s * z.channels + c;
  for (var r = 0u; r < z.r; r++) {
    let h = h0 + i32(r * z.down);
    for (var s = 0u; s < z.s; s++) {
      let w = w0 + i32(s * z.across); let inside = (u32(h) < z.h) & (u32(w) < z.w);
      let at = select(0u, image + u32(h) * z.w + u32(w), inside) * z.channels + c;
      y[to] = select(vec4f(0.0), x[at], inside);
      to += z.channels;
    }
  }`,
        {
          sizes: {
            ...{ channels: c / 4, p, q, h, w, r, s, sh: stride[0], sw: stride[1] },
            ...{ top: padding[0], left: padding[1], down: dilation[0], across: dilation[1] },
          },
        },
      )];
    }
    const columns = node.shape[3]!;
    /** WGSL of element `k` of the window's row. */
    const element = (k: string, j: number) =>
      `{ let k = ${k}; let tap = k / ${c}u;
      let h = h0 + ${apart(`i32(tap / ${s}u)`, dilation[0])}; let w = w0 + ${
        apart(`i32(tap % ${s}u)`, dilation[1])
      };
      let inside = (tap < ${r * s}u) & (u32(h) < ${h}u) & (u32(w) < ${w}u);
      let at = select(0u, u32((n * ${h} + h) * ${w} + w) * ${c}u + k % ${c}u, inside);
      v[${j}] = select(0.0, x[at], inside); }`;
    return [perThread(
      arrays({ x: "f32", y: "vec4f" }),
      node.size / 4,
      target,
      `  let pixel = i / ${columns / 4}u; let n = i32(pixel / ${p * q}u);
  let h0 = i32(pixel / ${q}u % ${p}u) * ${stride[0]} - ${padding[0]};
  let w0 = i32(pixel % ${q}u) * ${stride[1]} - ${padding[1]};
  var v = vec4f(0.0);
${times(4, (j) => `  ${element(`i % ${columns / 4}u * 4u + ${j}u`, j)}`)}
  y[i] = v;`,
    )];
  },
};

/**
 * The windows of x `[N, H, W, C]` under each result pixel, `[N, P, Q, R·S·C]` with zeros up to a
 * multiple of 4: the convolution is then a product with the weight as `[R·S·C, O]`.
 */
export function patches(x: Tensor, attrs: PatchAttrs): Tensor {
  const { kernel, padding, stride: [down, across] } = attrs, [, h, w, c] = four(x);
  // Windows of one pixel are pixels: a view, whose copy is a kernel that any number of channels shares.
  if (Math.max(...kernel) === 1 && Math.max(...padding) === 0 && c % 4 === 0) {
    return slice(x, [null, [0, h, down], [0, w, across]]);
  }
  return apply(Patches, [x], attrs);
}

const ZeroPad: Op<{ size: number }> = {
  name: "zeroPad",
  shape: ([x], { size }) => [...x!.shape.slice(0, -1), size],
  kernels: (node, target) => {
    const length = node.inputs[0]!.shape.at(-1)!, size = node.shape.at(-1)!;
    return [perThread(
      arrays({ x: "f32", y: "f32" }),
      node.size,
      target,
      `  let row = i / z.size; let at = i - row * z.size; let inside = at < z.length;
  y[i] = select(0.0, x[select(0u, row * z.length + at, inside)], inside);`,
      { sizes: { length, size } },
    )];
  },
};

/** x with zeros added at the end of an axis, up to `size`. */
export function zeroPad(x: Tensor, axis: number, size: number): Tensor {
  if (x.shape[axis] === size) return x;
  const before = sizeOf(x.shape.slice(0, axis)), after = sizeOf(x.shape.slice(axis + 1));
  const padded = apply(ZeroPad, [reshape(x, [before, x.shape[axis]! * after])], {
    size: size * after,
  });
  return reshape(padded, x.shape.map((dim, i) => i === axis ? size : dim));
}

/** The first `size` elements along an axis: what {@link zeroPad} undoes. */
export function unpad(x: Tensor, axis: number, size: number): Tensor {
  return slice(x, x.shape.map((_, i) => i === axis ? [0, size] : null));
}
