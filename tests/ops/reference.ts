/**
 * The ops that are more than elementwise arithmetic, in float64 and by their definitions: for each
 * result, a loop over what goes into it. Dimension letters: N images, C channels, H×W pixels, O output
 * channels, P×Q output pixels, R×S kernel.
 */

import { at, axesOf, map, mean, type Nd, nd, permute, reshape, scalar, select, sum } from "./nd.ts";

/** Settings of a convolution or pooling window, both directions spelled out. */
export interface Window {
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  /** Of convolutions: pixels from a tap to the next; 1 if absent. */
  readonly dilation?: readonly [number, number];
  /** Of convolutions: parts of the channels that do not see each other; 1 if absent. */
  readonly groups?: number;
  /** Whether windows may end outside, if they begin inside or in the padding before it. */
  readonly ceilMode?: boolean;
}

/** How many windows there are that fit, or that begin inside where the one before did not reach the end. */
function count(size: number, kernel: number, stride: number, padding: number, ceilMode = false) {
  const end = size + 2 * padding;
  let windows = 0;
  for (let first = 0;; first += stride, windows++) {
    const fits = first + kernel <= end;
    const begins = first < size + padding && first - stride + kernel < end;
    if (!fits && !(ceilMode && begins)) return windows;
  }
}

/** `a @ b` over the last two axes; leading axes are equal. */
export function matmul(a: Nd, b: Nd): Nd {
  if (a.shape.length === 1) {
    const y = matmul(reshape(a, [1, ...a.shape]), b);
    return reshape(
      y,
      y.shape.filter((_, axis) => axis !== y.shape.length - (b.shape.length > 1 ? 2 : 1)),
    );
  }
  if (b.shape.length === 1) {
    const y = matmul(a, reshape(b, [...b.shape, 1]));
    return reshape(y, y.shape.slice(0, -1));
  }
  const k = b.shape.at(-2)!;
  const [p, q] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const lead = Array.from(
    { length: Math.max(p.length, q.length) },
    (_, i, n = -i - 1) => Math.max(p.at(n) ?? 1, q.at(n) ?? 1),
  ).reverse();
  /** Where an operand with the leading axes `own` has the element of `index`. */
  const inside = (own: readonly number[], index: readonly number[]) =>
    own.map((size, axis) => size === 1 ? 0 : index[axis + lead.length - own.length]!);
  return nd([...lead, a.shape.at(-2)!, b.shape.at(-1)!], (index) => {
    const row = index.at(-2)!, column = index.at(-1)!;
    const [x, y] = [inside(p, index), inside(q, index)];
    let total = 0;
    for (let i = 0; i < k; i++) total += at(a, [...x, row, i]) * at(b, [...y, i, column]);
    return total;
  });
}

/** The last two axes swapped. */
export function transpose(x: Nd): Nd {
  const [m, n] = x.shape.slice(-2) as [number, number];
  return nd(
    [...x.shape.slice(0, -2), n, m],
    (index) => at(x, [...index.slice(0, -2), index.at(-1)!, index.at(-2)!]),
  );
}

/** Calls `visit` with the flat positions in x, w and y of every product that a convolution sums. */
function products(
  [n, c, h, w]: readonly number[],
  [o, each, r, s]: readonly number[],
  [, , p, q]: readonly number[],
  { stride, padding, dilation = [1, 1], groups = 1 }: Window,
  visit: (x: number, w: number, y: number) => void,
): void {
  for (let image = 0; image < n!; image++) {
    for (let out = 0; out < o!; out++) {
      for (let row = 0; row < p!; row++) {
        for (let column = 0; column < q!; column++) {
          const y = ((image * o! + out) * p! + row) * q! + column;
          for (let i = 0; i < r!; i++) {
            const top = row * stride[0] - padding[0] + i * dilation[0];
            if (top < 0 || top >= h!) continue;
            for (let j = 0; j < s!; j++) {
              const left = column * stride[1] - padding[1] + j * dilation[1];
              if (left < 0 || left >= w!) continue;
              const first = Math.floor(out / (o! / groups)) * each!;
              for (let channel = 0; channel < each!; channel++) {
                visit(
                  ((image * c! + first + channel) * h! + top) * w! + left,
                  ((out * each! + channel) * r! + i) * s! + j,
                  y,
                );
              }
            }
          }
        }
      }
    }
  }
}

/** Convolution of x `[N, C, H, W]` with w `[O, C, R, S]`, plus b `[O]`. */
export function conv2d(x: Nd, w: Nd, b: Nd | undefined, window: Window): Nd {
  const [n, , h, width] = x.shape as [number, number, number, number];
  const [o, , r, s] = w.shape as [number, number, number, number];
  const { stride, padding, dilation = [1, 1] } = window;
  const p = count(h, dilation[0] * (r - 1) + 1, stride[0], padding[0]);
  const q = count(width, dilation[1] * (s - 1) + 1, stride[1], padding[1]);
  const y = nd([n, o, p, q], ([, out]) => b ? b.data[out!]! : 0);
  products(x.shape, w.shape, y.shape, window, (i, j, k) => y.data[k]! += x.data[i]! * w.data[j]!);
  return y;
}

/** What a convolution with w `[C, O, R, S]` is the gradient of, for x `[N, C, H, W]`; plus b `[O]`. */
export function convTranspose2d(
  x: Nd,
  w: Nd,
  b: Nd | undefined,
  window: Window,
  outputPadding: readonly [number, number] = [0, 0],
): Nd {
  const { stride, padding, dilation = [1, 1], groups = 1 } = window;
  const size = [0, 1].map((axis) =>
    (x.shape[2 + axis]! - 1) * stride[axis]! - 2 * padding[axis]! +
    dilation[axis]! * (w.shape[2 + axis]! - 1) + outputPadding[axis]! + 1
  );
  const y = nd(
    [x.shape[0]!, w.shape[1]! * groups, ...size],
    ([, out]) => b ? b.data[out!]! : 0,
  );
  products(y.shape, w.shape, x.shape, window, (i, j, k) => y.data[i]! += x.data[k]! * w.data[j]!);
  return y;
}

/** Gradients of `sum(conv2d(x, w, b) * g)` for x, w and b. */
export function conv2dGrads(x: Nd, w: Nd, g: Nd, window: Window): [Nd, Nd, Nd] {
  const dx = nd(x.shape, () => 0), dw = nd(w.shape, () => 0);
  products(x.shape, w.shape, g.shape, window, (i, j, k) => {
    dx.data[i]! += g.data[k]! * w.data[j]!;
    dw.data[j]! += g.data[k]! * x.data[i]!;
  });
  return [dx, dw, sum(g, [0, 2, 3])];
}

/**
 * `reduce` of the values of x `[N, C, H, W]` in each window, without padding; it also gets how many
 * cells of the padded image the window has.
 */
export function pool(
  x: Nd,
  kernel: readonly [number, number],
  { stride, padding, ceilMode }: Window,
  reduce: (values: number[], cells: number) => number,
): Nd {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const p = count(h, kernel[0], stride[0], padding[0], ceilMode);
  const q = count(w, kernel[1], stride[1], padding[1], ceilMode);
  return nd([n, c, p, q], ([image, channel, row, column]) => {
    const values: number[] = [];
    let cells = 0;
    for (let r = 0; r < kernel[0]; r++) {
      for (let s = 0; s < kernel[1]; s++) {
        const top = row! * stride[0] - padding[0] + r, left = column! * stride[1] - padding[1] + s;
        const inside = top >= 0 && top < h && left >= 0 && left < w;
        if (inside) values.push(at(x, [image!, channel!, top, left]));
        if (top < h + padding[0] && left < w + padding[1]) cells++;
      }
    }
    return reduce(values, cells);
  });
}

/** The mean of `x` `[N, C, H, W]` over each of P×Q blocks that cover it evenly. */
export function adaptiveAvgPool2d(x: Nd, [p, q]: readonly [number, number]): Nd {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  return nd([n, c, p, q], ([image, channel, row, column]) => {
    let total = 0, cells = 0;
    for (let i = Math.floor(row! * h / p); i < (row! + 1) * h / p; i++) {
      for (let j = Math.floor(column! * w / q); j < (column! + 1) * w / q; j++, cells++) {
        total += at(x, [image!, channel!, i, j]);
      }
    }
    return total / cells;
  });
}

/** `x` `[N, C, H, W]` at P×Q points: the nearest pixels, or between the nearest ones. */
export function upsample(
  x: Nd,
  size: readonly [number, number],
  { mode = "nearest", alignCorners = false, factors }: {
    mode?: string | undefined;
    alignCorners?: boolean | undefined;
    factors?: readonly [number, number];
  },
): Nd {
  const pixels = x.shape.slice(2) as [number, number];
  /** Where result `i` is among the pixels of an axis. */
  const place = (axis: 0 | 1, i: number) => {
    const scale = factors ? 1 / factors[axis] : pixels[axis] / size[axis];
    if (mode === "nearest") {
      return Math.min(Math.floor(Math.fround(Math.fround(scale) * i)), pixels[axis] - 1);
    }
    if (alignCorners) return size[axis] > 1 ? i * (pixels[axis] - 1) / (size[axis] - 1) : 0;
    return Math.max(0, (i + 0.5) * scale - 0.5);
  };
  return nd([x.shape[0]!, x.shape[1]!, ...size], ([image, channel, row, column]) => {
    const [top, left] = [place(0, row!), place(1, column!)];
    let total = 0;
    for (let i = 0; i < pixels[0]; i++) {
      for (let j = 0; j < pixels[1]; j++) {
        const share = (k: number, at: number, last: number) =>
          Math.max(0, 1 - Math.abs(k - Math.min(at, last)));
        total += share(i, top, pixels[0] - 1) * share(j, left, pixels[1] - 1) *
          at(x, [image!, channel!, i, j]);
      }
    }
    return total;
  });
}

/** `[2, C]`: mean and biased variance of each channel of `[N, C, …]`. */
export function channelMoments(x: Nd): Nd {
  const axes = axesOf(x).filter((axis) => axis !== 1);
  const centre = mean(x, axes, true);
  const variance = mean(map((v, m) => (v - m) ** 2, x, centre), axes);
  return nd([2, x.shape[1]!], [...centre.data, ...variance.data]);
}

/** Normalises each channel of `[N, C, …]`. */
export function normalize(x: Nd, m: Nd, v: Nd, gamma: Nd, beta: Nd, eps: number): Nd {
  const spread = [1, x.shape[1]!, ...x.shape.slice(2).map(() => 1)];
  return map(
    (value, mu, sigma2, g, b) => (value - mu) / Math.sqrt(sigma2 + eps) * g + b,
    x,
    ...[m, v, gamma, beta].map((vector) => reshape(vector, spread)),
  );
}

export function batchNorm(x: Nd, gamma: Nd, beta: Nd, eps: number): Nd {
  const moments = channelMoments(x);
  return normalize(x, select(moments, 0), select(moments, 1), gamma, beta, eps);
}

/** The rows of `x` along its last axis, each made into another of any length by `f`. */
function rows(x: Nd, f: (row: number[]) => number[]): Nd {
  const k = x.shape.at(-1)!;
  const out = Array.from(
    { length: x.data.length / k },
    (_, i) => f([...x.data.subarray(i * k, (i + 1) * k)]),
  );
  return nd([...x.shape.slice(0, -1), out[0]!.length], out.flat());
}

export const softmax = (x: Nd): Nd =>
  rows(x, (row) => row.map((v) => 1 / row.reduce((total, u) => total + Math.exp(u - v), 0)));

export const logSoftmax = (x: Nd): Nd =>
  rows(x, (row) => {
    const top = Math.max(...row);
    const log = top + Math.log(row.reduce((total, v) => total + Math.exp(v - top), 0));
    return row.map((v) => v - log);
  });

export function argmax(x: Nd): Nd {
  // NaN where any is NaN.
  const found = rows(x, (row) => {
    const top = Math.max(...row);
    return [row.findIndex((v) => v === top || Number.isNaN(v) && Number.isNaN(top))];
  });
  return reshape(found, x.shape.slice(0, -1));
}

/** 1 at the label along a new last axis, NaN if it is no class. */
export const oneHot = (labels: Nd, classes: number): Nd =>
  nd(
    [...labels.shape, classes],
    (index) => {
      const label = at(labels, index.slice(0, -1));
      return label >= classes ? NaN : label === index.at(-1) ? 1 : 0;
    },
  );

/** `f`, a function of the last axis, along another one. */
export function alongAxis(x: Nd, axis: number, f: (x: Nd) => Nd): Nd {
  const at = axis < 0 ? axis + x.shape.length : axis;
  const order = axesOf(x).filter((i) => i !== at).concat(at);
  const y = f(permute(x, order));
  return y.shape.length < order.length ? y : permute(y, axesOf(x).map((i) => order.indexOf(i)));
}

/** Settings of a cross-entropy. */
export interface Entropy {
  readonly weight?: Nd | undefined;
  readonly ignoreIndex?: number | undefined;
  readonly labelSmoothing?: number | undefined;
  readonly reduction?: "mean" | "sum" | "none" | undefined;
}

/** Cross-entropy of logits `[N, classes, …]`, pixel by pixel; of labels, or of shares of classes. */
export function crossEntropy(logits: Nd, labels: Nd, options: Entropy = {}): Nd {
  const axis = Math.min(1, logits.shape.length - 1);
  return nllLoss(alongAxis(logits, axis, logSoftmax), labels, options);
}

export function nllLoss(logs: Nd, labels: Nd, options: Entropy = {}): Nd {
  const { weight, ignoreIndex, labelSmoothing = 0, reduction = "mean" } = options;
  const axis = Math.min(1, logs.shape.length - 1), classes = logs.shape[axis]!;
  const soft = labels.shape.length === logs.shape.length;
  const weightOf = (k: number) => weight ? weight.data[k]! : 1;
  let weights = 0;
  const losses = nd(logs.shape.toSpliced(axis, 1), (index) => {
    const of = (x: Nd, k: number) => at(x, index.toSpliced(axis, 0, k));
    const label = soft ? undefined : at(labels, index);
    if (label !== undefined && label === ignoreIndex) return 0;
    weights += label === undefined ? 1 : weightOf(label);
    let loss = 0;
    for (let k = 0; k < classes; k++) {
      const share = label === undefined ? of(labels, k) : k === label ? 1 : 0;
      const smooth = share * (1 - labelSmoothing) + labelSmoothing / classes;
      if (smooth !== 0) loss -= smooth * weightOf(k) * of(logs, k);
    }
    return loss;
  });
  const total = reduction === "none" ? losses : sum(losses, axesOf(losses));
  return reduction === "mean" ? map((x) => x / weights, total) : total;
}

export function correctCount(logits: Nd, labels: Nd): Nd {
  const found = argmax(logits);
  return scalar(
    labels.data.reduce((total, label, i) => total + (found.data[i] === label ? 1 : 0), 0),
  );
}

/** Records of `[count, …]` by index. */
export const gather = (records: Nd, indices: Nd): Nd =>
  nd(
    [...indices.shape, ...records.shape.slice(1)],
    (index) =>
      at(records, [
        at(indices, index.slice(0, indices.shape.length)),
        ...index.slice(indices.shape.length),
      ]),
  );

/** Crops out of images with `padding` zeros around them, then mirrored; draws are top, left, flip. */
export const cropFlip = (x: Nd, draws: Nd, padding: number): Nd =>
  nd(x.shape, ([n, c, row, column]) => {
    const [h, w] = x.shape.slice(2) as [number, number];
    const [top, left, flip] = [0, 1, 2].map((i) => at(draws, [n!, i])) as [number, number, number];
    const i = row! + top - padding, j = (flip ? w - 1 - column! : column!) + left - padding;
    return i >= 0 && i < h && j >= 0 && j < w ? at(x, [n!, c!, i, j]) : 0;
  });

/** Images turned about their middles, bilinearly, to integers; turns are cosine and sine. */
export const rotate = (x: Nd, turns: Nd): Nd =>
  nd(x.shape, ([n, c, row, column]) => {
    const [h, w] = x.shape.slice(2) as [number, number];
    const [cosine, sine] = [at(turns, [n!, 0]), at(turns, [n!, 1])];
    const right = column! + 0.5 - w / 2, down = row! + 0.5 - h / 2;
    const j = cosine * right - sine * down + w / 2, i = sine * right + cosine * down + h / 2;
    if (!(j >= 0 && j < w && i >= 0 && i < h)) return 0;
    const left = Math.floor(j - 0.5), top = Math.floor(i - 0.5);
    const pixel = (row: number, column: number) =>
      at(x, [n!, c!, Math.max(0, Math.min(h - 1, row)), Math.max(0, Math.min(w - 1, column))]);
    const line = (row: number) =>
      pixel(row, left) + (pixel(row, left + 1) - pixel(row, left)) * (j - 0.5 - left);
    return Math.floor(line(top) + (line(top + 1) - line(top)) * (i - 0.5 - top));
  });

/** The error function: its series, and near 1 the continued fraction of what is missing. */
export function erf(x: number): number {
  const z = x * x;
  if (z < 9) {
    let term = x, total = x;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(total); n++) {
      term *= -z / n;
      total += term / (2 * n + 1);
    }
    return 2 / Math.sqrt(Math.PI) * total;
  }
  let rest = Math.abs(x);
  for (let n = 60; n > 0; n--) rest = Math.abs(x) + n / 2 / rest;
  return Math.sign(x) * (1 - Math.exp(-z) / (Math.sqrt(Math.PI) * rest));
}
