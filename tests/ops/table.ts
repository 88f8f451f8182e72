/**
 * The op test table: for each op a few calls, each with inputs and with what float64 arithmetic says
 * about it. `ops_test.ts` and its neighbours run every check on every row.
 */

import * as R from "@resnette/resnette";
import { packVariables } from "../../lib/graph/tensor.ts";
import { orNaN } from "../../lib/ops/expression.ts";
import { pack } from "../../lib/ops/pack.ts";
import { sumTo } from "../../lib/ops/reduce.ts";
import { resizeBytes } from "../../lib/ops/resize.ts";
import type { Tensor } from "@resnette/resnette";
import {
  apart,
  between,
  bits,
  bytes,
  distinct,
  f,
  halves,
  type Input,
  integers,
  labels,
  pixels,
  powers,
  special,
  turns,
  words,
} from "./inputs.ts";
import * as N from "./nd.ts";
import { type Nd, nd } from "./nd.ts";
import * as reference from "./reference.ts";

/** One call of an op. */
export interface OpCase {
  /** Name of the exported function. */
  readonly op: string;
  /** What is special about this call. */
  readonly label: string;
  readonly inputs: readonly Input[];
  readonly compute: (...x: Tensor[]) => Tensor;
  /** The same in float64. */
  readonly reference: (...x: Nd[]) => Nd;
  /** What the op is called with behind its tensors, or behind the list of them. */
  readonly args?: readonly unknown[];
  /** Whether its tensors come in a list. */
  readonly listed?: boolean;
  /** Of an elementwise op that is called as it is: the value for numbers. */
  readonly scalar?: (...x: number[]) => number;
  /** Which inputs have gradients; by default all that are f32. */
  readonly wrt?: readonly number[];
  /** Why and how much it may be less exact than the other ops; see `ops_test.ts`. */
  readonly tolerance?: number;
}

/** Each convolution of the table: x, w, stride, padding, bias. */
const CONVOLUTIONS: [string, number[], number[], [number, number], [number, number], boolean][] = [
  ["the notebook's first layer", [2, 1, 13, 11], [8, 1, 7, 7], [2, 2], [3, 3], true],
  ["nothing square", [1, 3, 5, 8], [5, 3, 2, 3], [1, 3], [0, 2], false],
  ["a residual block's first", [2, 8, 7, 7], [12, 8, 3, 3], [2, 2], [1, 1], true],
];

/** Each convolution of the table whose taps are apart, or that has groups: x, w, options. */
const SPREAD: [
  string,
  number[],
  number[],
  Required<Pick<R.ConvOptions, "groups">> & {
    stride: [number, number];
    padding: [number, number];
    dilation: [number, number];
  },
][] = [
  ["taps apart", [2, 3, 9, 8], [5, 3, 3, 2], {
    ...{ stride: [1, 1], padding: [2, 1], dilation: [2, 3], groups: 1 },
  }],
  ["taps apart by fours", [1, 8, 9, 11], [12, 8, 3, 3], {
    ...{ stride: [2, 3], padding: [2, 3], dilation: [3, 2], groups: 1 },
  }],
  ["three groups", [2, 6, 5, 7], [9, 2, 3, 2], {
    ...{ stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 3 },
  }],
  ["two groups by fours", [1, 16, 6, 5], [24, 8, 3, 3], {
    ...{ stride: [2, 1], padding: [1, 1], dilation: [1, 1], groups: 2 },
  }],
  ["each channel", [2, 5, 7, 6], [5, 1, 3, 2], {
    ...{ stride: [1, 2], padding: [1, 0], dilation: [2, 1], groups: 5 },
  }],
  ["each channel by fours", [1, 8, 7, 9], [8, 1, 3, 5], {
    ...{ stride: [2, 3], padding: [1, 4], dilation: [1, 2], groups: 8 },
  }],
  ["each channel twice", [1, 3, 6, 5], [6, 1, 3, 3], {
    ...{ stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 3 },
  }],
];

/** Each pooling window of the table: x, kernel, stride, padding. */
const WINDOWS: [string, number[], [number, number], [number, number], [number, number]][] = [
  ["overlapping, padded", [2, 4, 7, 9], [3, 3], [2, 2], [1, 1]],
  ["odd channels", [1, 3, 6, 5], [2, 2], [2, 2], [0, 0]],
  ["nothing square", [2, 1, 5, 8], [3, 2], [1, 3], [1, 0]],
  ["large, apart and overlapping", [1, 4, 37, 40], [20, 17], [17, 16], [3, 0]],
  ["large, next to each other", [1, 1, 19, 18], [17, 17], [1, 1], [8, 8]],
];

/** Each pooling window whose last one ends outside: x, kernel, stride, padding. */
const CEILED: typeof WINDOWS = [
  ["nothing square", [2, 3, 8, 6], [3, 2], [2, 3], [1, 1]],
  ["no last window in the padding", [1, 8, 6, 5], [2, 3], [4, 3], [1, 1]],
  ["larger than the image", [1, 2, 2, 9], [3, 4], [2, 3], [0, 0]],
];

/** Each image and size of the table's adaptive means. */
const ADAPTED: [number[], [number, number]][] = [
  [[2, 3, 7, 9], [3, 4]],
  [[1, 8, 10, 6], [4, 3]],
  [[1, 2, 3, 4], [5, 7]],
  [[2, 5, 6, 8], [3, 2]],
  [[2, 3, 5, 4], [1, 1]],
];

/** Each way of the table to make images larger. */
const UPSAMPLED: [string, number[], R.UpsampleOptions][] = [
  ["twice", [2, 3, 3, 5], { scaleFactor: 2 }],
  ["odd sizes, smaller too", [1, 4, 5, 7], { size: [8, 3] }],
  ["fractions", [1, 2, 5, 3], { scaleFactor: [1.7, 2.5] }],
  ["four pixels", [2, 3, 4, 5], { size: [9, 3], mode: "bilinear" }],
  ["four pixels, twice", [1, 8, 3, 4], { scaleFactor: 2, mode: "bilinear" }],
  ["four pixels, fractions", [1, 2, 4, 3], { scaleFactor: [1.3, 2.6], mode: "bilinear" }],
  ["equal corners", [1, 3, 4, 5], { size: [7, 11], mode: "bilinear", alignCorners: true }],
  ["corners of one", [1, 4, 4, 3], { size: [1, 5], mode: "bilinear", alignCorners: true }],
];

/** Two parts of an optimizer's flat variable: 6 elements at 0, 4 at 64, 128 in all. */
const whole = packVariables([new R.Variable([2, 3]), new R.Variable([4])])[0]!;

const row = (
  op: string,
  label: string,
  inputs: readonly Input[],
  compute: OpCase["compute"],
  reference: OpCase["reference"],
  rest: Pick<OpCase, "wrt" | "tolerance"> = {},
): OpCase => ({ op, label, inputs, compute, reference, ...rest });

/** A call of an elementwise op as it is, with its value in float64 for numbers. */
const each = (
  op: keyof typeof R,
  label: string,
  inputs: readonly Input[],
  scalar: (...x: number[]) => number,
  rest: Pick<OpCase, "wrt" | "tolerance"> = {},
): OpCase => ({
  op,
  label,
  inputs,
  compute: R[op] as unknown as OpCase["compute"],
  reference: (...x) => N.map(scalar, ...x),
  scalar,
  ...rest,
});

/** x with mean 0 and variance 1 over `axes`. */
function standardized(x: Nd, axes: number[], eps: number): Nd {
  const centred = N.map((a, m) => a - m, x, N.mean(x, axes, true));
  const variance = N.mean(N.map((a) => a * a, centred), axes, true);
  return N.map((a, v) => a / Math.sqrt(v + eps), centred, variance);
}

/** A call of an op with its tensors and then `args`, from which the fuzzer takes it too. */
const called = (
  op: keyof typeof R,
  label: string,
  inputs: readonly Input[],
  args: readonly unknown[],
  reference: OpCase["reference"],
  rest: Pick<OpCase, "wrt" | "tolerance" | "listed"> = {},
): OpCase => ({
  op,
  label,
  inputs,
  args,
  reference,
  compute: (...x) => (R[op] as (...args: unknown[]) => Tensor)(...rest.listed ? [x] : x, ...args),
  ...rest,
});

const softplus = (x: number) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const roundEven = (x: number) => x - Math.floor(x) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);

/** Every row. */
export const TABLE: readonly OpCase[] = [
  each("add", "one shape", [f(2, 3, 5), f(2, 3, 5)], (x, y) => x + y),
  row(
    "add",
    "a vector to each of many rows",
    [f(8192, 8), f(8)],
    R.add,
    (a, b) => N.map((x, y) => x + y, a, b),
  ),
  row("add", "a number", [f(4, 6)], (a) => R.add(a, 2.5), (a) => N.map((x) => x + 2.5, a)),
  each("sub", "an outer difference", [f(3, 1), f(1, 7)], (x, y) => x - y),
  row("sub", "from a number", [f(9)], (a) => R.sub(-1, a), (a) => N.map((x) => -1 - x, a)),
  each("mul", "channels", [f(2, 3, 4, 5), f(3, 1, 1)], (x, y) => x * y),
  row(
    "mul",
    "a scalar tensor first",
    [f(), f(3, 7)],
    R.mul,
    (a, b) => N.map((x, y) => x * y, a, b),
  ),
  row("mul", "with itself", [f(5, 4)], (a) => R.mul(a, a), (a) => N.map((x) => x * x, a)),
  each("div", "a column", [f(2, 4, 3), apart(4, 1)], (x, y) => x / y),
  row("div", "of a number", [apart(6)], (a) => R.div(3, a), (a) => N.map((x) => 3 / x, a)),
  each("neg", "odd size", [f(3, 5)], (x) => -x),
  each("exp", "both signs", [between(-3, 3, 8, 3)], Math.exp),
  each("log", "around 1", [between(0.1, 3, 7, 2)], Math.log),
  each("softplus", "both signs, small and large", [between(-30, 30, 9, 5)], softplus),
  each("abs", "both signs", [apart(5, 7)], Math.abs),
  each("sign", "zero too", [integers(-2, 3, 7, 3)], Math.sign, { wrt: [] }),
  each("floor", "both signs", [between(-3, 3, 19)], Math.floor),
  each("round", "ties go to even numbers", [halves(-3, 4, 29)], (x) => roundEven(x), { wrt: [] }),
  each("sin", "several turns", [between(-20, 20, 9, 8)], Math.sin),
  each("sin", "many turns", [between(-9000, 9000, 31)], Math.sin),
  each("cos", "several turns", [between(-20, 20, 9, 8)], Math.cos),
  each("erf", "both parts of it", [between(-5, 5, 17, 4)], reference.erf),
  each("pow", "positive bases", [between(0.1, 4, 5, 7), between(-3, 3, 7)], Math.pow),
  each("log", "very small and very large", [powers(-30, 30, 40)], Math.log, { wrt: [] }),
  row(
    "pow",
    "of negative bases",
    [apart(6, 4)],
    (a) => R.pow(a, -3),
    (a) => N.map((x) => x ** -3, a),
  ),
  row(
    "pow",
    "that are products",
    [apart(6, 4)],
    (a) => R.pow(a, 3),
    (a) => N.map((x) => x ** 3, a),
  ),
  row(
    "pow",
    "square roots",
    [between(0.1, 3, 7)],
    (a) => R.pow(a, 0.5),
    (a) => N.map(Math.sqrt, a),
  ),
  each("sigmoid", "far from zero too", [between(-100, 100, 9, 5)], (x) => 1 / (1 + Math.exp(-x))),
  each("tanh", "far from zero too", [between(-50, 50, 9, 5)], Math.tanh),
  each("tanh", "near zero", [between(-1, 1, 9, 4)], Math.tanh),
  each("silu", "both signs", [between(-20, 20, 9, 5)], (x) => x / (1 + Math.exp(-x))),
  each(
    "gelu",
    "both signs",
    [between(-6, 6, 9, 5)],
    (x) => x / 2 * (1 + reference.erf(x / Math.SQRT2)),
  ),
  called(
    "gelu",
    "by tanh",
    [between(-6, 6, 9, 4)],
    [{ approximate: "tanh" }],
    (a) =>
      N.map((x) => x / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))), a),
  ),
  each("elu", "both signs", [between(-20, 5, 9, 5)], (x) => x > 0 ? x : Math.expm1(x)),
  called(
    "elu",
    "another alpha, near zero",
    [apart(7, 3)],
    [{ alpha: 0.3 }],
    (a) => N.map((x) => x > 0 ? x : 0.3 * Math.expm1(x), a),
  ),
  each("leakyRelu", "both signs", [apart(7, 3)], (x) => x > 0 ? x : 0.01 * x),
  called(
    "leakyRelu",
    "another slope",
    [apart(8)],
    [{ negativeSlope: -2 }],
    (a) => N.map((x) => x > 0 ? x : -2 * x, a),
  ),
  each("minimum", "broadcast", [distinct(5, 4), f(4)], Math.min),
  each("maximum", "broadcast", [f(3, 1, 4), distinct(2, 1)], Math.max),
  each(
    "equal",
    "few values",
    [integers(0, 3, 5, 7), integers(0, 3, 7)],
    (x, y) => x === y ? 1 : 0,
    { wrt: [] },
  ),
  each(
    "notEqual",
    "few values",
    [integers(0, 3, 5, 7), integers(0, 3, 7)],
    (x, y) => x !== y ? 1 : 0,
    { wrt: [] },
  ),
  each("less", "few values", [integers(0, 3, 5, 7), integers(0, 3, 7)], (x, y) => x < y ? 1 : 0, {
    wrt: [],
  }),
  each(
    "lessEqual",
    "few values",
    [integers(0, 3, 5, 7), integers(0, 3, 7)],
    (x, y) => x <= y ? 1 : 0,
    { wrt: [] },
  ),
  each(
    "greater",
    "few values",
    [integers(0, 3, 5, 7), integers(0, 3, 7)],
    (x, y) => x > y ? 1 : 0,
    { wrt: [] },
  ),
  each(
    "greaterEqual",
    "NaN and infinity",
    [special(5, 7), special(7)],
    (x, y) => x >= y ? 1 : 0,
    { wrt: [] },
  ),
  called(
    "clamp",
    "both bounds",
    [f(7, 5)],
    [{ min: -0.3, max: 0.5 }],
    (a) => N.map((x) => Math.min(Math.max(x, -0.3), 0.5), a),
  ),
  called("clamp", "from below", [f(8)], [{ min: 0.1 }], (a) => N.map((x) => Math.max(x, 0.1), a)),
  row(
    "stopGradient",
    "in a product",
    [f(3, 4), f(4)],
    (a, b) => R.mul(R.stopGradient(a), b),
    (a, b) => N.map((x, y) => x * y, a, b),
    { wrt: [1] },
  ),
  called(
    "max",
    "two axes that are no neighbours",
    [distinct(4, 3, 5)],
    [[0, 2]],
    (x) => N.fold(x, [0, 2], false, Math.max),
  ),
  called(
    "max",
    "a long axis, kept",
    [distinct(2, 3001)],
    [[1], { keepDims: true }],
    (x) => N.fold(x, [1], true, Math.max),
  ),
  called(
    "max",
    "of NaN and infinity",
    [special(9, 5)],
    [[1]],
    (x) => N.fold(x, [1], false, Math.max),
    { wrt: [] },
  ),
  called("min", "all axes", [distinct(7, 12)], [], (x) => N.fold(x, [0, 1], false, Math.min)),
  called("prod", "columns", [apart(7, 8)], [[0]], (x) => N.fold(x, [0], false, (a, b) => a * b)),
  called(
    "prod",
    "with zeros",
    [integers(-1, 4, 3, 9)],
    [[0]],
    (x) => N.fold(x, [0], false, (a, b) => a * b),
  ),
  called("variance", "an estimate", [f(3, 40)], [[1]], (x) => {
    const centred = N.map((a, b) => a - b, x, N.mean(x, [1], true));
    return N.map((s) => s / 39, N.sum(N.map((a) => a * a, centred), [1], false));
  }),
  called(
    "logSumExp",
    "of large numbers",
    [between(50, 200, 5, 7)],
    [[0], { keepDims: true }],
    (x) => {
      const top = N.fold(x, [0], true, Math.max);
      const sums = N.sum(N.map((a, b) => Math.exp(a - b), x, top), [0], true);
      return N.map((s, b) => Math.log(s) + b, sums, top);
    },
  ),
  called(
    "argmin",
    "with ties",
    [integers(0, 3, 5, 8)],
    [],
    (x) => reference.argmax(N.map((a) => -a, x)),
    { wrt: [] },
  ),
  called(
    "embedding",
    "rows of a table, some of them twice",
    [f(5, 3), labels(5, 4, 2)],
    [],
    (table, indices) => nd([4, 2, 3], ([i, j, k]) => N.at(table, [N.at(indices, [i!, j!]), k!])),
  ),
  called(
    "embedding",
    "whole vectors",
    [f(7, 8), labels(7, 9)],
    [],
    (table, indices) => nd([9, 8], ([i, j]) => N.at(table, [N.at(indices, [i!]), j!])),
  ),
  called(
    "takeAlong",
    "an axis in the middle",
    [f(2, 5, 3), labels(5, 2, 7, 3)],
    [1],
    (x, indices) => nd([2, 7, 3], ([i, j, k]) => N.at(x, [i!, N.at(indices, [i!, j!, k!]), k!])),
  ),
  row(
    "cast",
    "to whole numbers and back",
    [between(0, 99, 3, 5)],
    (x) => R.cast(R.cast(x, "u32"), "f32"),
    (x) => N.map(Math.floor, x),
    { wrt: [] },
  ),
  row(
    "cast",
    "to bytes and back",
    [between(0, 255, 3, 7)],
    (x) => R.cast(R.cast(x, "u8"), "f32"),
    (x) => N.map(Math.floor, x),
    { wrt: [] },
  ),
  row("cast", "of labels", [labels(9, 5)], (x) => R.cast(x, "f32"), (x) => x),
  called(
    "mseLoss",
    "the mean",
    [f(3, 5), f(3, 5)],
    [],
    (x, y) => N.mean(N.map((a, b) => (a - b) ** 2, x, y), [0, 1]),
  ),
  called(
    "l1Loss",
    "the sum",
    [f(3, 5), apart(3, 5)],
    [{ reduction: "sum" }],
    (x, y) => N.sum(N.map((a, b) => Math.abs(a - b), x, y), [0, 1]),
  ),
  called("huberLoss", "each, near and far", [between(-3, 3, 5, 7), f(5, 7)], [{
    delta: 0.7,
    reduction: "none",
  }], (x, y) =>
    N.map(
      (a, b) => {
        const d = Math.abs(a - b);
        return d <= 0.7 ? d * d / 2 : 0.7 * (d - 0.35);
      },
      x,
      y,
    )),
  called(
    "binaryCrossEntropy",
    "soft targets",
    [between(0.01, 0.99, 4, 6), between(0, 1, 4, 6)],
    [],
    (x, y) => N.mean(N.map((p, t) => -(t * Math.log(p) + (1 - t) * Math.log(1 - p)), x, y), [0, 1]),
  ),
  called(
    "binaryCrossEntropyWithLogits",
    "far from zero, positives weighted",
    [between(-60, 60, 4, 6), between(0, 1, 4, 6)],
    [{ posWeight: 3, reduction: "none" }],
    (x, y) => N.map((a, t) => 3 * t * softplus(-a) + (1 - t) * softplus(a), x, y),
  ),
  called("dropout", "a third, in one of many steps", [f(7, 9)], [{
    p: 1 / 3,
    seed: 2 ** 40 + 5,
    step: 12,
  }], (x) => {
    const random = new R.Random(2 ** 40 + 5, 12);
    return nd([7, 9], (_, flat) => random.nextUint32() < 2 ** 32 / 3 ? 0 : x.data[flat]! * 1.5);
  }),
  row(
    "layerNorm",
    "two dimensions, scaled and shifted",
    [f(5, 3, 7), f(3, 7), f(3, 7)],
    (x, weight, bias) => R.layerNorm(x, [3, 7], { weight, bias, eps: 1e-3 }),
    (x, weight, bias) => N.map((y, w, b) => y * w + b, standardized(x, [1, 2], 1e-3), weight, bias),
  ),
  row(
    "groupNorm",
    "images, scaled",
    [f(2, 6, 3, 5), f(6)],
    (x, weight) => R.groupNorm(x, 3, { weight }),
    (x, weight) =>
      N.map(
        (y, w) => y * w,
        N.reshape(standardized(N.reshape(x, [2, 3, 30]), [2], 1e-5), [2, 6, 3, 5]),
        N.reshape(weight, [6, 1, 1]),
      ),
  ),
  each(
    "isFinite",
    "NaN and infinity",
    [special(9, 4)],
    (x) => Number.isFinite(x) ? 1 : 0,
    { wrt: [] },
  ),
  called("cast", "to whole numbers", [between(0, 99, 7)], ["u32"], (x) => N.map(Math.floor, x), {
    wrt: [],
  }),
  called("stopGradient", "alone", [f(5)], [], (x) => x, { wrt: [] }),
  called(
    "slice",
    "rows apart, and the last columns",
    [f(9, 4, 3)],
    [[[1, 8, 3], null, [-2]]],
    (x) => nd([3, 4, 2], ([i, j, k]) => N.at(x, [1 + 3 * i!, j!, 1 + k!])),
  ),
  called(
    "slice",
    "whole vectors",
    [f(5, 16)],
    [[[2], [4, 12]]],
    (x) => nd([3, 8], ([i, j]) => N.at(x, [2 + i!, 4 + j!])),
  ),
  called(
    "slice",
    "a step along the only row",
    [f(1, 3, 5)],
    [[[0, null, 2], null, [0, 2]]],
    (x) => nd([1, 3, 2], ([i, j, k]) => N.at(x, [i!, j!, k!])),
  ),
  called(
    "flip",
    "two axes of three",
    [f(3, 4, 5)],
    [[0, -1]],
    (x) => nd([3, 4, 5], ([i, j, k]) => N.at(x, [2 - i!, j!, 4 - k!])),
  ),
  row(
    "split",
    "the last, smaller part",
    [f(2, 7, 3)],
    (x) => R.split(x, 3, 1)[2]!,
    (x) => nd([2, 1, 3], ([i, j, k]) => N.at(x, [i!, 6 + j!, k!])),
  ),
  called(
    "pad",
    "two axes, with a number",
    [f(2, 3, 5)],
    [[1, 0, 2, 3], { value: 7 }],
    (x) => N.padded(x, [[0, 0], [2, 3], [1, 0]], 7),
  ),
  row(
    "pad",
    "whole vectors of images",
    [f(2, 8, 3, 4)],
    (x) => R.permute(R.pad(R.permute(x, [0, 3, 1, 2]), [1, 1, 2, 0]), [0, 2, 3, 1]),
    (x) => N.padded(x, [[0, 0], [2, 0], [1, 1], [0, 0]], 0),
  ),
  called("concat", "the last axis", [f(3, 2), f(3, 5), f(3, 1)], [-1], (...x) => N.concat(x, 1), {
    listed: true,
  }),
  row(
    "concat",
    "channels of images that lie with their channels last",
    [f(2, 3, 5, 4), f(2, 3, 5, 8)],
    (...x) => R.concat(x.map((image) => R.permute(image, [0, 3, 1, 2])), 1),
    (...x) => N.permute(N.concat(x, 3), [0, 3, 1, 2]),
  ),
  called(
    "concat",
    "more than can be bound at once",
    Array.from({ length: 70 }, (_, i) => f(1 + i % 2, 3)),
    [],
    (...x) => N.concat(x, 0),
    { wrt: [0, 69], listed: true },
  ),
  called(
    "stack",
    "a new axis inside",
    [f(3, 4), f(3, 4)],
    [1],
    (...x) => N.concat(x.map((y) => N.reshape(y, [3, 1, 4])), 1),
    { listed: true },
  ),
  called("squeeze", "one of two", [f(1, 3, 1)], [[-1]], (x) => N.reshape(x, [1, 3])),
  called("unsqueeze", "at the end", [f(2, 3)], [-1], (x) => N.reshape(x, [2, 3, 1])),
  each("sqrt", "small and large", [between(0.01, 9, 11)], Math.sqrt),
  each("square", "both signs", [f(4, 4)], (x) => x * x),
  each("relu", "both signs", [apart(3, 5, 7)], (x) => Math.max(x, 0)),
  row(
    "isFinite",
    "of quotients",
    [f(6), bits(6)],
    (a, b) => R.isFinite(R.div(a, b)),
    (a, b) => N.map((x, y) => Number.isFinite(x / y) ? 1 : 0, a, b),
    { wrt: [] },
  ),
  row(
    "where",
    "broadcast",
    [bits(4, 1), f(4, 3), f(3)],
    R.where,
    (c, a, b) => N.map((x, yes, no) => x ? yes : no, c, a, b),
    { wrt: [1, 2] },
  ),
  row(
    "where",
    "numbers",
    [bits(12)],
    (c) => R.where(c, 2, -1),
    (c) => N.map((x) => x ? 2 : -1, c),
    { wrt: [] },
  ),

  row(
    "orNaN",
    "rows of NaN",
    [special(6, 1), f(6, 5)],
    orNaN,
    (marker, x) => N.map((m, v) => Number.isNaN(m) ? NaN : v, marker, x),
    { wrt: [] },
  ),
  row(
    "where",
    "what is not chosen is infinite",
    [bits(4, 6), f(4, 6)],
    (c, x) => R.where(c, x, R.div(x, R.mul(c, 0))),
    (c, x) => N.map((chosen, v) => chosen ? v : v / 0, c, x),
    { wrt: [] },
  ),

  row(
    "reshape",
    "to fewer axes",
    [f(2, 3, 5)],
    (x) => R.reshape(x, [-1, 15]),
    (x) => N.reshape(x, [2, 15]),
  ),
  row("flatten", "an image", [f(2, 3, 2, 2)], R.flatten, (x) => N.reshape(x, [2, 12])),
  row(
    "permute",
    "channels last",
    [f(2, 3, 4, 5)],
    (x) => R.permute(x, [0, 2, 3, 1]),
    (x) => N.permute(x, [0, 2, 3, 1]),
  ),
  row(
    "permute",
    "axes of size 1",
    [f(1, 4, 1, 3)],
    (x) => R.permute(x, [2, 3, 0, 1]),
    (x) => N.permute(x, [2, 3, 0, 1]),
  ),
  row(
    "broadcastTo",
    "new and old axes",
    [f(3, 1, 2)],
    (x) => R.broadcastTo(x, [2, 3, 4, 2]),
    (x) => N.broadcastTo(x, [2, 3, 4, 2]),
  ),
  row("select", "at an odd offset", [f(3, 5)], (x) => R.select(x, 1), (x) => N.select(x, 1)),
  row(
    "select",
    "the last of columns",
    [f(4, 3)],
    (x) => R.select(R.permute(x, [1, 0]), 2),
    (x) => N.select(N.permute(x, [1, 0]), 2),
  ),

  row("sum", "all", [f(3, 5, 2)], (x) => R.sum(x), (x) => N.sum(x, [0, 1, 2])),
  row(
    "sum",
    "outer axes",
    [f(3, 4, 5)],
    (x) => R.sum(x, [0, -1], { keepDims: true }),
    (x) => N.sum(x, [0, 2], true),
  ),
  row("sum", "a long axis, in parts", [f(3, 4099)], (x) => R.sum(x, [1]), (x) => N.sum(x, [1])),
  row("sum", "long columns, in parts", [f(2050, 8)], (x) => R.sum(x, [0]), (x) => N.sum(x, [0])),
  row(
    "sum",
    "around a kept axis, the last of size 1",
    [f(2, 4, 1)],
    (x) => R.sum(x, [0, 2]),
    (x) => N.sum(x, [0, 2]),
  ),
  row(
    "sum",
    "with a common factor",
    [f(3, 4), f(4)],
    (x, y) => R.sum(R.mul(x, y), [0]),
    (x, y) => N.sum(N.map((a, b) => a * b, x, y), [0]),
  ),
  row("mean", "the middle", [f(2, 6, 4)], (x) => R.mean(x, [1]), (x) => N.mean(x, [1])),
  row("mean", "all", [f(7, 3)], (x) => R.mean(x), (x) => N.mean(x, [0, 1])),
  row(
    "sumTo",
    "a channel vector",
    [f(2, 3, 4, 2)],
    (x) => sumTo(x, [3, 1, 1]),
    (x) => N.reshape(N.sum(x, [0, 2, 3]), [3, 1, 1]),
  ),

  row("matmul", "odd sizes", [f(5, 7), f(7, 3)], (a, b) => R.matmul(a, b), reference.matmul),
  row(
    "matmul",
    "vectors of four",
    [f(9, 12), f(12, 20)],
    (a, b) => R.matmul(a, b),
    reference.matmul,
  ),
  row(
    "matmul",
    "batched, b transposed",
    [f(3, 5, 6), f(3, 8, 6)],
    (a, b) => R.matmul(a, b, { transposeB: true }),
    (a, b) => reference.matmul(a, reference.transpose(b)),
  ),
  row(
    "matmul",
    "a transposed, a long sum in parts",
    [f(1100, 6), f(1100, 8)],
    (a, b) => R.matmul(a, b, { transposeA: true }),
    (a, b) => reference.matmul(reference.transpose(a), b),
  ),
  row("matmul", "two vectors", [f(37), f(37)], (a, b) => R.matmul(a, b), reference.matmul),
  row("matmul", "a vector first", [f(12), f(12, 20)], (a, b) => R.matmul(a, b), reference.matmul),
  row("matmul", "a vector last", [f(5, 9), f(9)], (a, b) => R.matmul(a, b), reference.matmul),
  row(
    "matmul",
    "leading axes broadcast",
    [f(2, 1, 3, 4), f(5, 4, 8)],
    (a, b) => R.matmul(a, b),
    reference.matmul,
  ),
  row(
    "matmul",
    "a batch and a vector",
    [f(3, 4, 7), f(3, 4)],
    (a, b) => R.matmul(b, R.select(a, 1)),
    (a, b) => reference.matmul(b, N.select(a, 1)),
  ),
  row(
    "linear",
    "ten classes",
    [f(5, 12), f(10, 12), f(10)],
    R.linear,
    (x, w, b) => N.map((v, u) => v + u, reference.matmul(x, reference.transpose(w)), b),
  ),
  row(
    "linear",
    "no bias",
    [f(3, 7), f(9, 7)],
    (x, w) => R.linear(x, w),
    (x, w) => reference.matmul(x, reference.transpose(w)),
  ),
  ...CONVOLUTIONS.map(([label, x, w, stride, padding, bias]) =>
    row(
      "conv2d",
      label,
      [f(...x), f(...w), ...bias ? [f(w[0]!)] : []],
      (x, w, b?: Tensor) => R.conv2d(x, w, b, { stride, padding }),
      (x, w, b?: Nd) => reference.conv2d(x, w, b, { stride, padding }),
    )
  ),
  ...SPREAD.map(([label, x, w, options]) =>
    row(
      "conv2d",
      label,
      [f(...x), f(...w), f(w[0]!)],
      (x, w, b) => R.conv2d(x!, w!, b, options),
      (x, w, b) => reference.conv2d(x!, w!, b, options),
    )
  ),
  ...SPREAD.map(([label, x, w, options]) => {
    const outputPadding = options.stride.map((step) => step - 1) as [number, number];
    return row(
      "convTranspose2d",
      label,
      // What the convolution gives, with as many channels as its weight's first axis.
      [f(x[0]!, w[0]!, 3, 4), f(...w), f(w[1]! * options.groups)],
      (x, w, b) => R.convTranspose2d(x, w, b, { ...options, outputPadding }),
      (x, w, b) => reference.convTranspose2d(x!, w!, b, options, outputPadding),
    );
  }),
  row(
    "convTranspose2d",
    "more pixels than a stride",
    [f(1, 4, 3, 2), f(4, 8, 2, 3)],
    (x, w) => R.convTranspose2d(x, w, undefined, { dilation: [4, 3], outputPadding: [3, 2] }),
    (x, w) =>
      reference.convTranspose2d(x, w, undefined, {
        ...{ stride: [1, 1], padding: [0, 0], dilation: [4, 3] },
      }, [3, 2]),
  ),
  row(
    "conv2d",
    "of the same size, kernels of even ones",
    [f(2, 3, 5, 7), f(4, 3, 2, 4)],
    (x, w) => R.conv2d(x, w, undefined, { padding: "same", dilation: [3, 1] }),
    (x, w) =>
      reference.conv2d(N.padded(x, [[0, 0], [0, 0], [1, 2], [1, 2]], 0), w, undefined, {
        ...{ stride: [1, 1], padding: [0, 0], dilation: [3, 1] },
      }),
  ),
  row(
    "conv2d",
    "each channel, of the same size",
    [f(1, 4, 5, 6), f(4, 1, 3, 4)],
    (x, w) => R.conv2d(x, w, undefined, { padding: "same", groups: 4 }),
    (x, w) =>
      reference.conv2d(N.padded(x, [[0, 0], [0, 0], [1, 1], [1, 2]], 0), w, undefined, {
        ...{ stride: [1, 1], padding: [0, 0], groups: 4 },
      }),
  ),
  ...WINDOWS.flatMap(([label, x, kernel, stride, padding]) => [
    row(
      "maxPool2d",
      label,
      [distinct(...x)],
      (x) => R.maxPool2d(x, { kernelSize: kernel, stride, padding }),
      (x) => reference.pool(x, kernel, { stride, padding }, (values) => Math.max(...values)),
    ),
    row(
      "avgPool2d",
      label,
      [f(...x)],
      (x) => R.avgPool2d(x, { kernelSize: kernel, stride, padding }),
      (x) =>
        reference.pool(
          x,
          kernel,
          { stride, padding },
          (values) => values.reduce((a, b) => a + b, 0) / (kernel[0] * kernel[1]),
        ),
    ),
  ]),
  ...CEILED.flatMap(([label, x, kernelSize, stride, padding]) => [
    row(
      "maxPool2d",
      `ends outside: ${label}`,
      [distinct(...x)],
      (x) => R.maxPool2d(x, { kernelSize, stride, padding, ceilMode: true }),
      (x) =>
        reference.pool(
          x,
          kernelSize,
          { stride, padding, ceilMode: true },
          (values) => Math.max(...values),
        ),
    ),
    ...[true, false].map((countIncludePad) =>
      row(
        "avgPool2d",
        `ends outside: ${label}, padding ${countIncludePad ? "" : "not "}counted`,
        [f(...x)],
        (x) => R.avgPool2d(x, { kernelSize, stride, padding, ceilMode: true, countIncludePad }),
        (x) =>
          reference.pool(
            x,
            kernelSize,
            { stride, padding, ceilMode: true },
            (values, cells) =>
              values.reduce((a, b) => a + b, 0) / (countIncludePad ? cells : values.length),
          ),
      )
    ),
  ]),
  row(
    "avgPool2d",
    "padding not counted",
    [f(2, 4, 7, 9)],
    (x) => R.avgPool2d(x, { kernelSize: 3, stride: 2, padding: 1, countIncludePad: false }),
    (x) =>
      reference.pool(
        x,
        [3, 3],
        { stride: [2, 2], padding: [1, 1] },
        (values) => values.reduce((a, b) => a + b, 0) / values.length,
      ),
  ),
  ...ADAPTED.map(([x, size]) =>
    row(
      "adaptiveAvgPool2d",
      `[${x}] to [${size}]`,
      [f(...x)],
      (x) => R.adaptiveAvgPool2d(x, size),
      (x) => reference.adaptiveAvgPool2d(x, size),
    )
  ),
  row(
    "adaptiveAvgPool2d",
    "one axis as it is",
    [f(1, 3, 5, 4)],
    (x) => R.adaptiveAvgPool2d(x, [2, null]),
    (x) => reference.adaptiveAvgPool2d(x, [2, 4]),
  ),
  ...UPSAMPLED.map(([label, x, options]) => {
    const { size, scaleFactor, mode, alignCorners } = options;
    const factors = scaleFactor === undefined
      ? undefined
      : [scaleFactor].flat().concat(scaleFactor as number).slice(0, 2) as [number, number];
    const after = factors
      ? factors.map((factor, i) => Math.floor(factor * x[2 + i]!)) as [number, number]
      : size as [number, number];
    return row(
      "upsample",
      `${mode ?? "nearest"}, ${label}`,
      [f(...x)],
      (x) => R.upsample(x, options),
      (x) => reference.upsample(x, after, { mode, alignCorners, ...factors && { factors } }),
    );
  }),
  row(
    "globalAvgPool2d",
    "odd pixels",
    [f(2, 5, 3, 3)],
    R.globalAvgPool2d,
    (x) => N.mean(x, [2, 3], true),
  ),

  row("channelMoments", "images", [f(3, 4, 5, 5)], R.channelMoments, reference.channelMoments),
  row(
    "channelMoments",
    "many rows, in parts",
    [f(700, 6)],
    R.channelMoments,
    reference.channelMoments,
  ),
  row(
    "normalize",
    "running statistics",
    [f(2, 3, 4, 4), f(3), between(0.5, 2, 3), f(3), f(3)],
    (...[x, m, v, g, b]: Tensor[]) => R.normalize(x!, m!, v!, g!, b!, 1e-3),
    (...[x, m, v, g, b]: Nd[]) => reference.normalize(x!, m!, v!, g!, b!, 1e-3),
  ),
  row(
    "batchNorm",
    "images",
    [f(4, 5, 3, 3), f(5), f(5)],
    (x, g, b) => R.batchNorm(x, g, b).y,
    (x, g, b) => reference.batchNorm(x, g, b, 1e-5),
  ),
  row(
    "batchNorm",
    "channels by fours",
    [f(2, 8, 4, 4), f(8), f(8)],
    (x, g, b) => R.batchNorm(x, g, b, 1e-3).y,
    (x, g, b) => reference.batchNorm(x, g, b, 1e-3),
  ),
  row(
    "batchNorm",
    "the moments it hands out",
    [f(6, 3)],
    (x) => R.batchNorm(x, R.tensor([1, 2, 3]), R.tensor([4, 5, 6])).moments,
    reference.channelMoments,
  ),
  // Values of 100 ± 1 in single precision have lost two of their seven digits before any arithmetic.
  row(
    "batchNorm",
    "far from zero",
    [between(99, 101, 5, 4, 3, 3), f(4), f(4)],
    (x, g, b) => R.batchNorm(x, g, b).y,
    (x, g, b) => reference.batchNorm(x, g, b, 1e-5),
    { tolerance: 3e-4 },
  ),

  called("logSoftmax", "ten classes", [between(-4, 4, 6, 10)], [], reference.logSoftmax),
  called(
    "logSoftmax",
    "logits that overflow exp",
    [between(-200, 200, 3, 5)],
    [],
    reference.logSoftmax,
  ),
  called(
    "logSoftmax",
    "channels",
    [between(-4, 4, 2, 5, 3, 4)],
    [{ axis: 1 }],
    (x) => reference.alongAxis(x, 1, reference.logSoftmax),
  ),
  called("softmax", "three axes", [between(-3, 3, 2, 3, 7)], [], reference.softmax),
  called(
    "softmax",
    "the first axis",
    [between(-3, 3, 5, 3)],
    [{ axis: -2 }],
    (x) => reference.alongAxis(x, 0, reference.softmax),
  ),
  row("oneHot", "seven", [labels(7, 5)], (x) => R.oneHot(x, 7), (x) => reference.oneHot(x, 7)),
  row(
    "oneHot",
    "labels that only the device knows, some out of range",
    [bytes(12), labels(12, 3, 4)],
    (x, i) => R.oneHot(R.gather(x, i, "u32"), 200),
    (x, i) => reference.oneHot(reference.gather(x, i), 200),
  ),
  ...[0, 0.3].map((labelSmoothing) =>
    called(
      "crossEntropy",
      `ten classes, smoothing ${labelSmoothing}`,
      [between(-3, 3, 9, 10), labels(10, 9)],
      [{ labelSmoothing }],
      (x, y) => reference.crossEntropy(x, y, { labelSmoothing }),
    )
  ),
  ...(["mean", "sum", "none"] as const).flatMap((reduction) =>
    [0, 0.2].map((labelSmoothing) =>
      row(
        "crossEntropy",
        `pixels, weighted, a class ignored, ${reduction}, smoothing ${labelSmoothing}`,
        [between(-3, 3, 2, 4, 3, 5), labels(4, 2, 3, 5), between(0.5, 2, 4)],
        (x, y, weight) =>
          R.crossEntropy(x, y, {
            weight: R.stopGradient(weight),
            ignoreIndex: 2,
            reduction,
            labelSmoothing,
          }),
        (x, y, weight) =>
          reference.crossEntropy(x, y, { weight, ignoreIndex: 2, reduction, labelSmoothing }),
        { wrt: [0] },
      )
    )
  ),
  row(
    "crossEntropy",
    "a label that is no class ignored",
    [between(-3, 3, 9, 3), labels(4, 9)],
    (x, y) => R.crossEntropy(x, y, { ignoreIndex: 3, labelSmoothing: 0.1 }),
    (x, y) => reference.crossEntropy(x, y, { ignoreIndex: 3, labelSmoothing: 0.1 }),
  ),
  row(
    "crossEntropy",
    "shares of classes, weighted and smoothed",
    [between(-3, 3, 3, 5, 2), between(0, 1, 3, 5, 2), between(0.5, 2, 5)],
    (x, y, weight) => R.crossEntropy(x, y, { weight, labelSmoothing: 0.1 }),
    (x, y, weight) => reference.crossEntropy(x, y, { weight, labelSmoothing: 0.1 }),
    { wrt: [0, 1, 2] },
  ),
  called(
    "crossEntropy",
    "shares of classes, each loss",
    [between(-3, 3, 6, 5), between(0, 1, 6, 5)],
    [{ reduction: "none" }],
    (x, y) => reference.crossEntropy(x, y, { reduction: "none" }),
  ),
  called(
    "crossEntropy",
    "one image without a batch",
    [between(-3, 3, 6), labels(6)],
    [],
    (x, y) => reference.crossEntropy(x, y),
  ),
  called(
    "nllLoss",
    "a class ignored",
    [f(8, 5), labels(5, 8)],
    [{ ignoreIndex: 1 }],
    (x, y) => reference.nllLoss(x, y, { ignoreIndex: 1 }),
  ),
  called(
    "nllLoss",
    "each pixel",
    [f(2, 3, 4), labels(3, 2, 4)],
    [{ reduction: "none" }],
    (x, y) => reference.nllLoss(x, y, { reduction: "none" }),
  ),
  called("argmax", "three axes", [distinct(3, 4, 10)], [], reference.argmax),
  called(
    "argmax",
    "channels",
    [distinct(3, 4, 5)],
    [{ axis: 1 }],
    (x) => reference.alongAxis(x, 1, reference.argmax),
  ),
  called(
    "argmin",
    "rows",
    [distinct(4, 5)],
    [{ axis: 0 }],
    (x) => reference.alongAxis(N.map((a) => -a, x), 0, reference.argmax),
    { wrt: [] },
  ),
  called("argmax", "NaN and infinities", [special(40, 3)], [], reference.argmax),
  called("argmax", "equal values", [bits(16, 4)], [], reference.argmax),
  row(
    "correctCount",
    "three classes",
    [distinct(40, 3), labels(3, 40)],
    R.correctCount,
    reference.correctCount,
    { wrt: [] },
  ),

  row(
    "gather",
    "images of odd size",
    [bytes(7, 3, 3), labels(7, 4)],
    (x, i) => R.gather(x, i),
    reference.gather,
  ),
  row(
    "gather",
    "labels",
    [bytes(13), labels(13, 5)],
    (x, i) => R.gather(x, i, "u32"),
    reference.gather,
  ),
  row(
    "cropFlip",
    "nothing square",
    [pixels(8, 2, 5, 4), labels(5, 8, 3)],
    (x, draws) => R.cropFlip(x, draws, 2),
    (x, draws) => reference.cropFlip(x, draws, 2),
    { wrt: [] },
  ),
  row(
    "gather",
    "labels of more than a byte",
    [words(13), labels(13, 5)],
    (x, i) => R.gather(x, i, "u32"),
    reference.gather,
  ),
  row(
    "rotate",
    "nothing square",
    [pixels(4, 3, 7, 10), turns(4)],
    R.rotate,
    reference.rotate,
    { wrt: [] },
  ),
  ...([[[2, 1, 7, 5], [16, 12]], [[1, 3, 20, 9], [5, 9]]] as const).map(([x, size]) =>
    row(
      "resizeBilinear",
      `${x} to ${size}`,
      [pixels(...x)],
      (x) => R.resizeBilinear(x, size),
      (x) => {
        const [n, c, h, w] = x.shape as [number, number, number, number];
        // Its own tests hold this function to PIL's bytes.
        const resized = resizeBytes(Uint8Array.from(x.data), n * c, h, w, size[0], size[1]);
        return N.nd([n, c, ...size], resized);
      },
      { wrt: [] },
    )
  ),
  row("pack", "two parts with gaps", [f(2, 3), f(4)], (...x) => pack(x, whole), (a, b) => {
    const values = new Array<number>(128).fill(0);
    values.splice(0, 6, ...a.data);
    values.splice(64, 4, ...b.data);
    return N.nd([128], values);
  }, { wrt: [] }),
];
