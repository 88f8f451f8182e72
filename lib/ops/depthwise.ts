/**
 * Convolutions of each channel by itself, and their two gradients. They work on `[N, H, W, C]` and
 * kernels `[R, S, C]`, four channels at a time if C is a multiple of 4. A thread makes neighbouring
 * results of a row, so that what it loads serves several of them.
 *
 * Dimension letters: N images, C channels, H×W pixels, P×Q result pixels, R×S kernel.
 *
 * @module
 */

import {
  arrays,
  type Finish,
  type KernelSpec,
  perThread,
  READ,
  type Start,
  type Target,
  type Two,
  vectorOf,
} from "../kernels/kernel.ts";
import { four, windowCounts } from "../graph/shape.ts";
import { apply, type Attrs, type Op, type Tensor } from "../graph/tensor.ts";
import { reductionChunks, sum } from "./reduce.ts";

/** How the kernel goes over the images. */
export interface DepthwiseAttrs extends Attrs {
  /** Step between windows. */
  readonly stride: Two;
  /** Zeros added on every side. */
  readonly padding: Two;
  /** Pixels from a tap to the next. */
  readonly dilation: Two;
}
interface SizedAttrs extends DepthwiseAttrs {
  /** The two sizes that a gradient's other input does not tell: pixels H×W or kernel R×S. */
  readonly size: Two;
}

const three = (x: Tensor) => x.shape as readonly [number, number, number];
const range = (count: number) => Array.from({ length: count }, (_, i) => i);
const lines = <T>(list: readonly T[], line: (item: T, i: number) => string, separator = "\n") =>
  list.map(line).join(separator);

/** Taps of a row, and pixels of a stride, that a kernel writes out one by one. */
const MOST_TAPS = 8, MOST_STRIDE = 4;
/** Neighbouring results of a thread. */
const NEIGHBOURS = 4;

/** Whether a thread makes neighbouring results. */
const writtenOut = (target: Target, taps: number, { stride }: DepthwiseAttrs) =>
  target.choice !== "naive" && taps <= MOST_TAPS && stride[1] <= MOST_STRIDE;

/** The sizes that kernels over `pixels` read. */
const windowSizes = (
  pixels: Two,
  results: Two,
  channels: number,
  [taps_down, taps_across]: Two,
  { stride, padding, dilation }: DepthwiseAttrs,
) => ({
  ...{ h: pixels[0], w: pixels[1], rows: results[0], columns: results[1], channels },
  ...{ taps_down, taps_across, stride_down: stride[0], stride_across: stride[1] },
  ...{ pad_down: padding[0], pad_across: padding[1] },
  ...{ apart_down: dilation[0], apart_across: dilation[1] },
});

/** WGSL of where the windows of result `at` are under tap `tap`; `back` for the gradient's. */
const placeOf = (axis: "down" | "across", at: string, tap: string, back: boolean) =>
  back
    ? `i32(${at} + z.pad_${axis}) - i32(${tap} * z.apart_${axis})`
    : `i32(${at} * z.stride_${axis} + ${tap} * z.apart_${axis}) - i32(z.pad_${axis})`;

/** WGSL: goes on to the next tap where place `name`, before it is divided, is none; `back` as above. */
const divided = (axis: "down" | "across", name: string, back: boolean) =>
  back
    ? `if ((${name} < 0) | (${name} % i32(z.stride_${axis}) != 0)) { continue; }
    ${name} /= i32(z.stride_${axis});`
    : "";

/**
 * A kernel for `node`, from `x` and `w`: each result is a sum over the taps. `back` is the gradient's
 * direction, from a window's result to its pixels.
 */
function rowsKernel(
  node: Tensor,
  target: Target,
  back: boolean,
  finish: Finish,
  start: Start,
): KernelSpec {
  const [x, w] = node.inputs as [Tensor, Tensor], attrs = node.attrs as DepthwiseAttrs;
  const [, rows, columns, c] = four(node), [, h, width] = four(x), [r, s] = three(w);
  const [type, each] = vectorOf(c), channels = c / each;
  const sizes = windowSizes([h, width], [rows, columns], channels, [r, s], attrs);
  const flops = 2 * (back ? x.size : node.size) * r * s;
  const bindings = arrays({ x: type, w: type, y: type });
  /** WGSL over the rows of taps, `h` being the row of `x`. */
  const overRows = (body: string) =>
    `  for (var r = 0u; r < z.taps_down; r++) {
    var h = ${placeOf("down", "row", "r", back)};
    ${divided("down", "h", back)}
    if (u32(h) >= z.h) { continue; }
    let line = (n * z.h + u32(h)) * z.w;
${body}
  }`;
  if (!writtenOut(target, s, attrs)) {
    const statements = `  let c = i % z.channels; let column = i / z.channels % z.columns;
  let row = i / (z.channels * z.columns) % z.rows; let n = i / (z.channels * z.columns * z.rows);
  var sum = ${type}(0.0);
  ${start.load("c")}
${
      overRows(`    for (var s = 0u; s < z.taps_across; s++) {
      var t = ${placeOf("across", "column", "s", back)};
      ${divided("across", "t", back)}
      if (u32(t) >= z.w) { continue; }
      sum += ${
        start.value("(line + u32(t)) * z.channels + c")
      } * w[(r * z.taps_across + s) * z.channels + c];
    }`)
    }
  ${finish.load("c")}
  ${finish.store("i", "sum")}`;
    const threads = node.size / c * channels;
    return { ...perThread(bindings, threads, target, statements, { sizes }), flops };
  }
  const stride = attrs.stride[1], apart = attrs.dilation[1], around = attrs.padding[1];
  // Going back, a block begins at a multiple of the stride, counted with the padding.
  const count = back ? stride * Math.ceil(NEIGHBOURS / stride) : NEIGHBOURS;
  const first = back ? Math.floor(around / count) : 0;
  const blocks = back ? Math.ceil((columns + around) / count) - first : Math.ceil(columns / count);
  /** The column of x that result j of the block meets under tap t, counted from the block's. */
  const offset = (j: number, t: number): number | undefined => {
    if (!back) return j * stride + t * apart;
    return (j - t * apart) % stride === 0 ? (j - t * apart) / stride : undefined;
  };
  const products = range(count).map((j) =>
    range(s).flatMap((t) => {
      const column = offset(j, t);
      return column === undefined ? [] : [{ t, column }];
    })
  );
  const loaded = [...new Set(products.flat().map(({ column }) => column))].sort((a, b) => a - b);
  const name = (column: number) => column < 0 ? `m${-column}` : `${column}`;
  const base = back
    ? `i32((block + z.first) * ${count / stride}u)`
    : `i32(block * ${count * stride}u) - i32(z.pad_across)`;
  const left = back
    ? `i32((block + z.first) * ${count}u) - i32(z.pad_across)`
    : `i32(block * ${count}u)`;
  const statements = `  let c = i % z.channels; let block = i / z.channels % z.blocks;
  let row = i / (z.channels * z.blocks) % z.rows; let n = i / (z.channels * z.blocks * z.rows);
  let base = ${base}; let left = ${left};
  ${start.load("c")}
${
    lines(loaded, (k) =>
      `  let t${name(k)} = base + ${k}; let in${name(k)} = u32(t${name(k)}) < z.w;
  let at${name(k)} = select(0u, u32(t${name(k)}), in${name(k)}) * z.channels + c;`)
  }
${lines(products, (_, j) => `  var s${j} = ${type}(0.0);`)}
${
    overRows(`    let from_line = line * z.channels; let tap = r * ${s}u * z.channels + c;
${lines(range(s), (t) => `    let w${t} = w[tap + ${t}u * z.channels];`)}
${
      lines(
        loaded,
        (k) =>
          `    let x${name(k)} = select(${type}(0.0), ${
            start.value(`from_line + at${name(k)}`)
          }, in${name(k)});`,
      )
    }
${
      lines(products, (terms, j) =>
        terms.length === 0
          ? ""
          : `    s${j} += ${lines(terms, ({ t, column }) => `x${name(column)} * w${t}`, " + ")};`)
    }`)
  }
  let result = (n * z.rows + row) * z.columns;
  ${finish.load("c")}
${
    lines(products, (_, j) =>
      `  if (u32(left + ${j}) < z.columns) { ${
        finish.store(`(result + u32(left + ${j})) * z.channels + c`, `s${j}`)
      } }`)
  }`;
  const threads = four(node)[0] * rows * blocks * channels;
  return {
    ...perThread(bindings, threads, target, statements, { sizes: { ...sizes, blocks, first } }),
    flops,
  };
}

const Depthwise: Op<DepthwiseAttrs> = {
  name: "depthwise",
  shape: ([x, w], attrs) => {
    const [n, h, width, c] = four(x!), [r, s] = three(w!);
    return [n, ...windowCounts("conv2d", [h, width], [r, s], attrs), c];
  },
  finishes: true,
  starts: true,
  kernels: (node, target, _, finish, start = READ) => [
    rowsKernel(node, target, false, finish, start),
  ],
  macs: (node) => node.size * three(node.inputs[1]!)[0] * three(node.inputs[1]!)[1],
  vjp: (g, _, [x, w], attrs) => [
    depthwiseInputGrad(g, w!, { ...attrs, size: [four(x!)[1], four(x!)[2]] }),
    apply(DepthwiseWeightGrad, [x!, g], { ...attrs, size: [three(w!)[0], three(w!)[1]] }),
  ],
};

/** From `g [N, P, Q, C]` and `w [R, S, C]` to `[N, H, W, C]`. */
const DepthwiseInputGrad: Op<SizedAttrs> = {
  name: "depthwiseInputGrad",
  shape: ([g], { size }) => [four(g!)[0], ...size, four(g!)[3]],
  finishes: true,
  kernels: (node, target, _, finish) => [rowsKernel(node, target, true, finish, READ)],
  macs: ({ inputs: [g, w] }) => g!.size * three(w!)[0] * three(w!)[1],
  vjp: (u, _, [g, w], { size: _size, ...attrs }) => [
    apply(Depthwise, [u, w!], attrs),
    apply(DepthwiseWeightGrad, [u, g!], { ...attrs, size: [three(w!)[0], three(w!)[1]] }),
  ],
};

/** From `x [N, H, W, C]` and `g [N, P, Q, C]` to `[R, S, C]`. */
const DepthwiseWeightGrad: Op<SizedAttrs> = {
  name: "depthwiseWeightGrad",
  shape: ([x], { size }) => [...size, four(x!)[3]],
  lower: (node) => {
    const [x, g] = node.inputs as [Tensor, Tensor], attrs = node.attrs as SizedAttrs;
    const [n, p, q, c] = four(g), [, width] = vectorOf(c), channels = c / width;
    const blocks = n * p * Math.ceil(q / NEIGHBOURS);
    const chunks = Math.min(n * p, reductionChunks(attrs.size[0] * channels, blocks));
    return sum(apply(PartialWeightGrad, [x, g], { ...attrs, chunks }), [0]);
  },
  vjp: (u, _, [x, g], { size: _size, ...attrs }) => [
    depthwiseInputGrad(g!, u, { ...attrs, size: [four(x!)[1], four(x!)[2]] }),
    apply(Depthwise, [x!, u], attrs),
  ],
};

/** `[chunks, R, S, C]`: {@link DepthwiseWeightGrad} over parts of the rows of all images. */
const PartialWeightGrad: Op<SizedAttrs & { chunks: number }> = {
  name: "depthwiseWeightGrad",
  shape: ([x], { size, chunks }) => [chunks, ...size, four(x!)[3]],
  starts: true,
  kernels: (node, target, _, _finish, start = READ) => {
    const [x, g] = node.inputs as [Tensor, Tensor];
    const attrs = node.attrs as SizedAttrs & { chunks: number };
    const [n, p, q, c] = four(g), [, h, w] = four(x);
    const [type, width] = vectorOf(c), channels = c / width;
    const out = writtenOut(target, attrs.size[1], attrs);
    // A thread has all taps of a row, or one.
    const taps = range(out ? attrs.size[1] : 1), neighbours = range(out ? NEIGHBOURS : 1);
    const stride = attrs.stride[1], apart = attrs.dilation[1];
    const loaded = [
      ...new Set(neighbours.flatMap((j) => taps.map((t) => j * stride + t * apart))),
    ];
    const statements = `  let c = i % z.channels; let t = i / z.channels % z.each;
  let r = i / (z.channels * z.each) % z.taps_down;
  let chunk = i / (z.channels * z.each * z.taps_down);
  ${start.load("c")}
${lines(taps, (t) => `  var s${t} = ${type}(0.0);`)}
  for (var l = chunk * z.lines; l < min((chunk + 1u) * z.lines, z.all_lines); l++) {
    let h = ${placeOf("down", "(l % z.rows)", "r", false)};
    if (u32(h) >= z.h) { continue; }
    let line = (l / z.rows * z.h + u32(h)) * z.w;
${lines(taps, (t) => `    var l${t} = ${type}(0.0);`)}
    for (var q = 0u; q < z.columns; q += ${neighbours.length}u) {
      let base = ${placeOf("across", "q", out ? "0u" : "t", false)};
${
      lines(neighbours, (j) =>
        `      let g${j} = select(${type}(0.0), g[(l * z.columns + min(q + ${j}u, z.columns - 1u)) * z.channels + c], q + ${j}u < z.columns);`)
    }
${
      lines(loaded, (k) =>
        `      let in${k} = u32(base + ${k}) < z.w;
      let at${k} = (line + select(0u, u32(base + ${k}), in${k})) * z.channels + c;
      let x${k} = select(${type}(0.0), ${start.value(`at${k}`)}, in${k});`)
    }
${
      lines(taps, (t) =>
        `      l${t} += ${
          lines(neighbours, (j) => `x${j * stride + t * apart} * g${j}`, " + ")
        };`)
    }
    }
${lines(taps, (t) => `    s${t} += l${t};`)}
  }
${
      lines(taps, (t) =>
        `  y[((chunk * z.taps_down + r) * z.taps_across + ${
          out ? `${t}u` : "t"
        }) * z.channels + c] = s${t};`)
    }`;
    const each = attrs.size[1] / taps.length, rows = n * p;
    return [{
      ...perThread(
        arrays({ x: type, g: type, y: type }),
        attrs.chunks * attrs.size[0] * each * channels,
        target,
        statements,
        {
          sizes: {
            ...windowSizes([h, w], [p, q], channels, attrs.size, attrs),
            ...{ each, all_lines: rows, lines: Math.ceil(rows / attrs.chunks) },
          },
        },
      ),
      flops: 2 * g.size * attrs.size[0] * attrs.size[1],
    }];
  },
};

/** Each channel of x `[N, H, W, C]` under its own kernel of w `[R, S, C]` → `[N, P, Q, C]`. */
export function depthwise(x: Tensor, w: Tensor, attrs: DepthwiseAttrs): Tensor {
  return apply(Depthwise, [x, w], attrs);
}

/** What {@link depthwise} is the gradient of: from `[N, P, Q, C]` to images of `size`. */
export function depthwiseInputGrad(g: Tensor, w: Tensor, attrs: SizedAttrs): Tensor {
  return apply(DepthwiseInputGrad, [g, w], attrs);
}
