/**
 * How the fuzzer calls each public function, class and method: arguments that it takes, what
 * float64 makes of them, and how to spoil them. Not a test.
 */

import * as R from "@resnette/resnette";
import * as D from "@resnette/resnette/data";
import * as M from "@resnette/resnette/measure";
import { Mpi, MpiError } from "@resnette/resnette/mpi";
import * as T from "@resnette/resnette/train";
import { constantData } from "../../lib/graph/tensor.ts";
import * as N from "../ops/nd.ts";
import type { Nd } from "../ops/nd.ts";
import * as reference from "../ops/reference.ts";
import { resizeBytes } from "../../lib/ops/resize.ts";
import { type OpCase, TABLE } from "../ops/table.ts";
import { pick } from "../mutants.ts";

// deno-lint-ignore no-explicit-any -- arguments of any function, right ones and wrong ones
export type Any = any;
type Draw = R.Random;

/** All that is public. */
export const PUBLIC: Readonly<Record<string, Any>> = {
  ...{ ...R, ...D, ...M, ...T, Mpi, MpiError },
};

/** A tensor as float64 numbers that know their element type. */
export interface Known extends Nd {
  readonly dtype: R.DType;
}

/** How something public is called. */
export interface Entry {
  /** Names of the arguments, as messages have them. */
  readonly names: readonly string[];
  /** Arguments that it takes. */
  readonly args: (random: Draw) => Any[];
  /** The call, if it is not simply that of the export. */
  readonly call?: (...args: Any[]) => unknown;
  /** What messages may call it, if not by its name. */
  readonly says?: readonly string[];
  /** The result in float64; throws for arguments that are wrong. Tensors come as {@link Known}. */
  readonly reference?: (...args: Any[]) => Nd | readonly Nd[];
  /** Throws if a result that is no tensor is wrong; may return tensors in it and their values. */
  readonly check?: (result: Any, args: readonly Any[]) => unknown;
  /** Whether numbers of the result may be NaN. */
  readonly mayBeNaN?: boolean;
  /** Share of the calls that others get, for what is slow. */
  readonly share?: number;
  /** Arguments that it would take, but for which there is no time or memory. */
  readonly skip?: (...args: Any[]) => boolean;
  /** Of what takes long: is called with spoilt arguments only. */
  readonly spoiltOnly?: boolean;
}

// What is drawn.

const range = (length: number) => Array.from({ length }, (_, i) => i);
const product = (sizes: readonly number[]) => sizes.reduce((a, b) => a * b, 1);
/** A collective of one rank, which does nothing; and the names of what it has. */
const alone = (): Any => {
  const done = () => Promise.resolve();
  return { rank: 0, size: 1, allReduce: done, broadcast: done, allGather: done, allToAll: done };
};
const COLLECTIVE = Object.keys(alone());
/** A size. */
const some = (random: Draw, most = 4) => 1 + random.below(most);
const shapeOf = (random: Draw, least = 0, most = 4) =>
  range(least + random.below(most - least + 1)).map(() => some(random));
const coin = (random: Draw) => random.below(2) === 0;
/** Some members of an object. */
const partOf = (random: Draw, options: object): Any =>
  Object.fromEntries(Object.entries(options).filter(() => coin(random)));

/** An f32 tensor. */
const floats = (random: Draw, ...shape: number[]) =>
  R.tensor(random.uniform(new Float32Array(product(shape)), -2, 2), shape);
const positive = (random: Draw, ...shape: number[]) =>
  R.tensor(random.uniform(new Float32Array(product(shape)), 0.5, 2), shape);
/** Indices below `limit`. */
const indices = (random: Draw, limit: number, ...shape: number[]) =>
  R.tensor(Uint32Array.from(range(product(shape)), () => random.below(limit)), shape);
const bytes = (random: Draw, ...shape: number[]) =>
  R.tensor(Uint8Array.from(range(product(shape)), () => random.below(256)), shape);
const grey = (random: Draw, ...shape: number[]) =>
  R.tensor(Float32Array.from(range(product(shape)), () => random.below(256)), shape);
/** A shape that broadcasts to `shape`. */
const within = (random: Draw, shape: readonly number[]) =>
  shape.slice(random.below(shape.length + 1)).map((size) => coin(random) ? 1 : size);
const shuffled = (random: Draw, size: number) => [...random.permutation(size)];
const pairOf = (random: Draw, least: number, most: number): R.Pair => {
  const one = () => least + random.below(most - least + 1);
  return coin(random) ? one() : [one(), one()];
};

// What is wrong.

/** Sizes that are wrong, too large, or nearly right. */
const NUMBERS = [
  ...[0, -0, -1, 0.5, -2.5, NaN, Infinity, -Infinity, 2 ** 31, 2 ** 32, 2 ** 53, 1e300],
  ...[1, 2, 3, 5, 255, 5e-324],
];

/** Values of every kind. */
const VALUES: readonly ((random: Draw) => unknown)[] = [
  ...NUMBERS.map((value) => () => value),
  ...[undefined, null, "", "3", "f32", "__proto__", true, false, 3n, Symbol("s")].map(
    (value) => () => value,
  ),
  () => () => 3,
  () => Math.max,
  () => ({}),
  () => ({ length: 2, 0: 1, 1: 2 }),
  () => ({ shape: [2], dtype: "f32", size: 2, rank: 1, op: {}, inputs: [] }),
  () => Object.create(null),
  () => [],
  () => [1],
  () => [1, 2, 3],
  () => [[1, 2], [3]],
  () => [[1, 2], [3, 4]],
  () => [1, , 3],
  () => ["1", "2"],
  () => [NaN, 1],
  () => [undefined],
  () => [Symbol("in a list")],
  () => [Object.create(null)],
  () => [-1],
  () => [2 ** 40, 2 ** 40],
  ...[
    ...[Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array],
    ...[Uint32Array, Float32Array, Float64Array, Float16Array],
  ].map((kind) => (random: Draw) => new kind(random.below(4)).fill(random.below(4))),
  () => new BigInt64Array(2),
  () => new BigUint64Array(2),
  () => new DataView(new ArrayBuffer(4)),
  () => new ArrayBuffer(8),
  () => new SharedArrayBuffer(8),
  () => new Map([["a", 1]]),
  () => new Set([1]),
  () => new WeakMap(),
  () => new Date(NaN),
  () => /x/,
  () => new Error("an error"),
  () => Promise.resolve(3),
  () => new Proxy({}, {}),
  () => new Proxy([2, 3], {}),
  () => new Proxy(function () {}, {}),
  () => new R.ReLU(),
];

/** Any value. */
const anything = (random: Draw) => pick(random, VALUES)(random);

/** Any tensor. */
function anyTensor(random: Draw): R.Tensor {
  const shape = shapeOf(random, 0, 5);
  if (random.below(8) === 0) return R.input("any", shape);
  return pick(random, [
    () => floats(random, ...shape),
    () => indices(random, 300, ...shape),
    () => bytes(random, ...shape),
  ])();
}

const isPlain = (x: unknown): x is Record<string, unknown> =>
  typeof x === "object" && x !== null && Object.getPrototypeOf(x) === Object.prototype;

/** A copy of `value` with something in it that is likely wrong. */
function spoilt(random: Draw, value: unknown, depth = 0): unknown {
  if (random.below(3) === 0) return anything(random);
  if (value instanceof R.Tensor && random.below(2) === 0) return anyTensor(random);
  if (typeof value === "number") return pick(random, NUMBERS);
  if (Array.isArray(value) && depth < 3) {
    const list = [...value], at = random.below(list.length + 1);
    return pick(
      random,
      [
        () => list.toSpliced(at, 0, list.length > 0 ? pick(random, list) : 1),
        () => list.toSpliced(at, 1),
        () => list.with(Math.min(at, list.length - 1), spoilt(random, list[at], depth + 1)),
        () => list.with(Math.min(at, list.length - 1), pick(random, NUMBERS)),
      ].slice(0, list.length > 0 ? 4 : 1),
    )();
  }
  if (isPlain(value) && depth < 3) {
    const keys = Object.keys(value);
    const key = keys.length > 0 ? pick(random, keys) : "more";
    return pick(random, [
      () => ({ ...value, [pick(random, [`${key}s`, key.toUpperCase(), "x"])]: 1 }),
      () => Object.fromEntries(Object.entries(value).filter(([name]) => name !== key)),
      () => ({ ...value, [key]: spoilt(random, value[key], depth + 1) }),
      () => ({ ...value, [key]: spoilt(random, value[key], depth + 1) }),
    ])();
  }
  return anything(random);
}

/** Arguments of which one is spoilt or missing, or there is one more. */
export function spoil(random: Draw, args: readonly Any[]): Any[] {
  if (args.length === 0) return [anything(random)];
  const at = random.below(args.length);
  if (random.below(12) === 0) return args.slice(0, at);
  return args.with(at, spoilt(random, args[at]));
}

// What is right.

/** That arguments are wrong, as the reference sees it. */
class Wrong extends Error {}

function must(holds: unknown, what: string): asserts holds {
  if (!holds) throw new Wrong(what);
}

const isKnown = (x: Any): x is Known => x?.data instanceof Float64Array;
function f32(x: Any): Known {
  must(isKnown(x) && x.dtype === "f32", "an f32 tensor");
  return x;
}
function u32(x: Any): Known {
  must(isKnown(x) && x.dtype === "u32", "a u32 tensor");
  return x;
}
const word = (x: Any): Known => x?.dtype === "u32" ? u32(x) : f32(x);
function shaped(x: Nd, rank: number): readonly number[] {
  must(x.shape.length === rank, `rank ${rank}`);
  return x.shape;
}
/** A number as the device has it, or a tensor. */
const operand = (x: Any): Nd => typeof x === "number" ? N.scalar(Math.fround(x)) : f32(x);
function whole(x: Any, least: number, most = Number.MAX_SAFE_INTEGER): number {
  must(Number.isSafeInteger(x) && x >= least && x <= most, "an integer");
  return x;
}
function two(x: Any, least: number): [number, number] {
  if (!Array.isArray(x)) return [whole(x, least), whole(x, least)];
  must(x.length === 2, "two of them");
  return [whole(x[0], least), whole(x[1], least)];
}
function settings(options: Any, keys: readonly string[]): Any {
  must(Object.prototype.toString.call(options) === "[object Object]", "options");
  must(Object.keys(options).every((key) => keys.includes(key)), "an option that is there");
  return options;
}
function list(x: Any): number[] {
  must(Array.isArray(x), "a list");
  return [...x];
}
function sizes(x: Any): number[] {
  return list(x).map((size) => whole(size, 1));
}
/** Throws unless the shapes broadcast. */
function together(...shapes: (readonly number[])[]): void {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  for (let i = 1; i <= rank; i++) {
    const found = new Set(shapes.map((shape) => shape.at(-i) ?? 1).filter((size) => size !== 1));
    must(found.size < 2, "shapes that broadcast");
  }
}
function mapped(f: (...values: number[]) => number, ...xs: Nd[]): Nd {
  together(...xs.map((x) => x.shape));
  return N.map(f, ...xs);
}
function axes(x: Nd, given: Any): number[] {
  if (given === undefined) return N.axesOf(x);
  const rank = x.shape.length;
  const found = list(given).map((axis) => whole(axis, -rank, rank - 1))
    .map((axis) => axis < 0 ? axis + rank : axis);
  must(new Set(found).size === found.length, "axes once");
  return found;
}

// The entries.

const isA = (kind: Any) => (result: unknown) => must(result instanceof kind, `a ${kind.name}`);
type Table = Record<string, Entry>;

const binary = (f: (a: number, b: number) => number): Entry => ({
  names: ["a", "b"],
  args: (random) => {
    const shape = shapeOf(random);
    const other = coin(random) ? floats(random, ...within(random, shape)) : random.below(9) - 4.5;
    const both = [floats(random, ...shape), other];
    return coin(random) ? both : both.reverse();
  },
  reference: (a, b) => mapped(f, operand(a), operand(b)),
});

const reduction = (f: typeof N.sum): Entry => ({
  names: ["x", "axes", "options", "keepDims"],
  args: (random) => {
    const x = floats(random, ...shapeOf(random));
    const chosen = range(x.rank).filter(() => coin(random))
      .map((axis) => coin(random) ? axis : axis - x.rank);
    return [x, coin(random) ? undefined : chosen, partOf(random, { keepDims: coin(random) })];
  },
  reference: (x, over, options = {}) => {
    const { keepDims = false } = settings(options, ["keepDims"]);
    must(typeof keepDims === "boolean", "true or false");
    return f(f32(x), axes(x, over), keepDims);
  },
});

const image = (random: Draw) =>
  floats(random, some(random, 2), some(random), ...[6, 7].map((most) => 3 + random.below(most)));

const pooling = (
  reduce: (values: number[], cells: number, countIncludePad: boolean) => number,
  more: object = {},
): Entry => ({
  names: [
    ...["x", "options", "kernelSize", "stride", "padding", "ceilMode"],
    ...Object.keys(more),
  ],
  args: (random) => [
    image(random),
    {
      kernelSize: pairOf(random, 2, 3),
      ...partOf(random, {
        stride: pairOf(random, 1, 3),
        padding: pairOf(random, 0, 1),
        ceilMode: coin(random),
        ...more,
      }),
    },
  ],
  reference: (x, options) => {
    const {
      kernelSize,
      stride = kernelSize,
      padding = 0,
      ceilMode = false,
      countIncludePad = true,
    } = settings(options, [
      ...["kernelSize", "stride", "padding", "ceilMode"],
      ...Object.keys(more),
    ]);
    must([ceilMode, countIncludePad].every((x) => typeof x === "boolean"), "true or false");
    const kernel = two(kernelSize, 1),
      window = { stride: two(stride, 1), padding: two(padding, 0), ceilMode };
    must(window.padding.every((size, i) => 2 * size <= kernel[i]!), "padding");
    shaped(f32(x), 4);
    const y = reference.pool(
      x,
      kernel,
      window,
      (values, cells) => reduce(values, cells, countIncludePad),
    );
    must(y.shape.every((size) => size > 0), "a window");
    return y;
  },
});

/** How a convolution goes over the images, from its options. */
function slid(options: Any, more: readonly string[] = []): reference.Window & { groups: number } {
  const { stride = 1, padding = 0, dilation = 1, groups = 1 } = settings(options, [
    ...["stride", "padding", "dilation", "groups", ...more],
  ]);
  return {
    ...{ stride: two(stride, 1), padding: two(padding, 0), dilation: two(dilation, 1) },
    groups: whole(groups, 1),
  };
}

function convolved(x: Any, w: Any, b: Any, options: Any = {}): Nd {
  const [, , ...kernel] = shaped(f32(w), 4);
  const same = options?.padding === "same";
  const window = slid({
    ...settings(options, Object.keys(options)),
    ...typeof options.padding === "string" && { padding: 0 },
  });
  must(typeof options.padding !== "string" || same || options.padding === "valid", "padding");
  if (same) {
    must(window.stride.every((step) => step === 1), "no stride");
    const zeros = kernel.map((taps, i) => window.dilation![i]! * (taps - 1));
    const sides = zeros.map((n) => [Math.floor(n / 2), Math.ceil(n / 2)] as const);
    x = { ...N.padded(f32(x), [[0, 0], [0, 0], ...sides], 0), dtype: "f32" };
  }
  const [, c, ...pixels] = shaped(f32(x), 4), [o, each] = w.shape as [number, number];
  must(c === each * window.groups && o % window.groups === 0, "channels");
  must(
    kernel.every((taps, i) =>
      window.dilation![i]! * (taps - 1) < pixels[i]! + 2 * window.padding[i]!
    ),
    "a window",
  );
  if (b !== undefined) must(shaped(f32(b), 1)[0] === o, "a bias");
  return reference.conv2d(x, w, b, window);
}

function transposed(x: Any, w: Any, b: Any, options: Any = {}): Nd {
  const window = slid(options, ["outputPadding"]), more = two(options.outputPadding ?? 0, 0);
  const [, c] = shaped(f32(x), 4), [ofC, each] = shaped(f32(w), 4) as [number, number];
  must(c === ofC && c! % window.groups === 0, "channels");
  must(
    more.every((size, i) => size < Math.max(window.stride[i]!, window.dilation![i]!)),
    "output padding",
  );
  if (b !== undefined) must(shaped(f32(b), 1)[0] === each * window.groups, "a bias");
  const y = reference.convTranspose2d(x, w, b, window, more);
  must(y.shape.every((size) => size > 0), "pixels");
  return y;
}

function multiplied(a: Any, b: Any, options: Any = {}): Nd {
  const { transposeA = false, transposeB = false } = settings(options, [
    "transposeA",
    "transposeB",
  ]);
  must([transposeA, transposeB].every((x) => typeof x === "boolean"), "true or false");
  must(f32(a).shape.length > 0 && f32(b).shape.length > 0, "no scalars");
  must(!transposeA || a.shape.length > 1, "a matrix");
  must(!transposeB || b.shape.length > 1, "a matrix");
  const p = transposeA ? reference.transpose(a) : a, q = transposeB ? reference.transpose(b) : b;
  must(p.shape.at(-1) === (q.shape.length > 1 ? q.shape.at(-2) : q.shape[0]), "an inner size");
  together(p.shape.slice(0, -2), q.shape.slice(0, -2));
  return reference.matmul(p, q);
}

function vectors(x: Any, eps: Any, ...rest: Any[]): void {
  must(f32(x).shape.length >= 2, "channels");
  rest.forEach((vector) => must(shaped(f32(vector), 1)[0] === x.shape[1], "a vector"));
  must(typeof eps === "number" && eps >= 0 && eps < Infinity, "eps");
}

function classified(logits: Any, labels: Any): void {
  const [n, k] = shaped(f32(logits), 2);
  must(shaped(u32(labels), 1)[0] === n, "labels");
  must(labels.data.every((label: number) => label < k!), "labels of the classes");
}

const logitsAndLabels = (random: Draw) => {
  const n = some(random), k = some(random);
  return [floats(random, n, k), indices(random, k, n)];
};

const rows = (f: (x: Nd) => Nd): Entry => ({
  names: ["x", "options", "axis"],
  args: (random) => {
    const x = floats(random, ...shapeOf(random, 1, 3));
    return [x, partOf(random, { axis: random.below(2 * x.rank) - x.rank })];
  },
  reference: (x, options = {}) => {
    const { axis = -1 } = settings(options, ["axis"]);
    must(f32(x).shape.length > 0, "an axis");
    const [at] = axes(x, [axis]);
    return reference.alongAxis(x, at!, f);
  },
});

/** Entries of the elementwise ops that are called as they are, from their rows in the op table. */
const ELEMENTWISE: Table = Object.fromEntries(
  TABLE.flatMap(({ op, scalar, inputs }): [string, Entry][] => {
    if (!scalar) return [];
    // What is too large for f32 is infinite.
    const f = (...x: number[]) => Math.fround(scalar(...x));
    if (inputs.length > 1) return [[op, binary(f)]];
    return [[op, {
      names: ["x"],
      args: (random) => {
        const shape = shapeOf(random);
        return [R.tensor(inputs[0]!.values(random, product(shape)), shape)];
      },
      reference: (x) => N.map(f, f32(x)),
    }]];
  }),
);

/** Names of a function's parameters, from its text. */
const parametersOf = (f: object) =>
  /\(([^]*?)\)\s*\{/.exec(`${f}`)![1]!.split(",").map((name) => name.split("=")[0]!.trim())
    .filter((name) => /^\w+$/.test(name));

/**
 * Entries of the ops whose rows say what they are called with behind their tensors. What a call with
 * arguments as they are returns is compared; of others it is only known that they return or throw.
 */
const CALLED: Table = Object.fromEntries(
  [...Map.groupBy(TABLE.filter(({ args }) => args), ({ op }) => op)].map(([op, rows]) => {
    const right = new WeakMap<readonly Any[], OpCase>();
    const options = rows.flatMap(({ args }) =>
      args!.flatMap((x) => isPlain(x) ? Object.keys(x) : [])
    );
    return [
      op,
      {
        names: [...parametersOf(Reflect.get(R, op)), ...options],
        args: (random) => {
          const row = pick(random, rows);
          const tensors = row.inputs.map(({ shape, values }) =>
            R.tensor(values(random, product(shape)), [...shape])
          );
          const args = [...row.listed ? [tensors] : tensors, ...structuredClone(row.args!)];
          right.set(args, row);
          return args;
        },
        check: (y, args) => {
          const row = right.get(args);
          if (!row) return must([y].flat().every((x) => x instanceof R.Tensor), "tensors");
          const tensors: R.Tensor[] = row.listed ? args[0] : args.slice(0, row.inputs.length);
          return Array.isArray(y)
            ? undefined
            : [{ y, expected: row.reference(...tensors.map((x) => known(x) as Nd)) }];
        },
        share: 0.3,
      } satisfies Entry,
    ];
  }),
);

/** Ops: what they return is computed and compared. */
const OPS: Table = {
  ...CALLED,
  ...ELEMENTWISE,
  split: {
    names: ["x", "sizes", "axis"],
    args: () => [floats(new R.Random(1), 7, 3), 3, 0],
    check: (parts) => must(parts.every((x: unknown) => x instanceof R.Tensor), "tensors"),
    says: ["split", "slice"],
  },
  layerNorm: {
    names: ["x", "normalizedShape", "shape", "options", "weight", "bias", "eps"],
    args: (random) => [
      floats(random, 3, 2, 4),
      [2, 4],
      partOf(random, { weight: floats(random, 2, 4), bias: floats(random, 2, 4), eps: 0.1 }),
    ],
    check: isA(R.Tensor),
  },
  groupNorm: {
    names: ["x", "numGroups", "options", "weight", "bias", "eps"],
    args: (random) => [
      floats(random, 3, 4, 2),
      2,
      partOf(random, { weight: floats(random, 4), bias: floats(random, 4), eps: 0.1 }),
    ],
    check: isA(R.Tensor),
  },
  where: {
    names: ["condition", "yes", "no"],
    args: (random) => {
      const shape = shapeOf(random);
      const other = () => coin(random) ? floats(random, ...within(random, shape)) : random.below(3);
      return [floats(random, ...shape), other(), other()];
    },
    reference: (c, a, b) => mapped((x, yes, no) => x ? yes : no, f32(c), operand(a), operand(b)),
  },
  reshape: {
    names: ["x", "shape"],
    args: (random) => {
      const x = floats(random, ...shapeOf(random, 1));
      const shape = shuffled(random, x.rank).map((axis) => x.shape[axis]!);
      return [x, coin(random) ? shape : shape.with(random.below(shape.length), -1)];
    },
    reference: (x, shape) => {
      must(isKnown(x), "a tensor");
      const rest = x.data.length / product(list(shape).filter((size) => size !== -1));
      const full = shape.map((size: number) => whole(size === -1 ? rest : size, 1));
      must(shape.filter((size: number) => size === -1).length < 2, "one that is inferred");
      must(product(full) === x.data.length, "as many elements");
      return N.reshape(x, full);
    },
  },
  flatten: {
    names: ["x"],
    args: (random) => [floats(random, ...shapeOf(random, 1))],
    reference: (x) => {
      must(isKnown(x) && x.shape.length > 0, "an axis");
      return N.reshape(x, [x.shape[0]!, product(x.shape.slice(1))]);
    },
  },
  permute: {
    names: ["x", "order"],
    args: (random) => {
      const x = floats(random, ...shapeOf(random));
      return [x, shuffled(random, x.rank)];
    },
    reference: (x, order) => {
      const fromStart = list(order).map((axis) => axis < 0 ? axis + word(x).shape.length : axis);
      must(`${fromStart.toSorted()}` === `${N.axesOf(word(x))}`, "an order");
      return N.permute(x, fromStart);
    },
  },
  broadcastTo: {
    names: ["x", "shape"],
    args: (random) => {
      const shape = shapeOf(random);
      return [floats(random, ...within(random, shape)), shape];
    },
    reference: (x, shape) => {
      together(word(x).shape, sizes(shape));
      must(x.shape.length <= shape.length, "fewer axes");
      x.shape.forEach((size: number, i: number) =>
        must(size === 1 || size === shape.at(i - x.shape.length), "a size")
      );
      return N.broadcastTo(x, shape);
    },
  },
  select: {
    names: ["x", "index"],
    args: (random) => {
      const x = floats(random, ...shapeOf(random, 1));
      return [x, random.below(x.shape[0]!)];
    },
    reference: (x, index) => {
      must(word(x).shape.length > 0, "an axis");
      const count = x.shape[0]!, at = whole(index, -count, count - 1);
      return N.select(x, at < 0 ? at + count : at);
    },
  },
  sum: reduction(N.sum),
  mean: reduction(N.mean),
  matmul: {
    names: ["a", "b", "options", "transposeA", "transposeB"],
    args: (random) => {
      const [m, k, n] = range(3).map(() => some(random, 6)) as [number, number, number];
      const lead = shapeOf(random, 0, 2), [transposeA, transposeB] = [coin(random), coin(random)];
      const a = floats(random, ...lead, ...transposeA ? [k, m] : [m, k]);
      const b = floats(random, ...within(random, lead), ...transposeB ? [n, k] : [k, n]);
      const named = { ...transposeA && { transposeA }, ...transposeB && { transposeB } };
      return Object.keys(named).length > 0 ? [a, b, named] : [a, b];
    },
    reference: multiplied,
  },
  linear: {
    names: ["x", "weight", "bias"],
    args: (random) => {
      const [n, k, o] = [some(random), some(random), some(random)];
      const bias = coin(random) ? [floats(random, o)] : [];
      return [floats(random, ...shapeOf(random, 0, 2), n, k), floats(random, o, k), ...bias];
    },
    reference: (x, w, b) => {
      must(f32(x).shape.at(-1) === shaped(f32(w), 2)[1], "features");
      const y = reference.matmul(x, reference.transpose(w));
      if (b === undefined) return y;
      must(shaped(f32(b), 1)[0] === w.shape[0], "a bias");
      return mapped((v, u) => v + u, y, b);
    },
  },
  conv2d: {
    names: ["x", "weight", "bias", "options", "stride", "padding", "dilation", "groups"],
    args: (random) => {
      const x = image(random), c = x.shape[1]!, groups = coin(random) ? 1 : c;
      const o = groups * some(random), kernel = [some(random, 2), some(random, 3)];
      const w = floats(random, o, c / groups, ...kernel);
      const moved = { stride: pairOf(random, 1, 3), padding: pairOf(random, 0, 2) };
      const options = {
        ...partOf(random, coin(random) ? moved : { padding: pick(random, ["same", "valid"]) }),
        ...coin(random) && kernel[1]! < 3 && { dilation: pairOf(random, 1, 2) },
        ...groups > 1 && { groups },
      };
      return [x, w, coin(random) ? floats(random, o) : undefined, options];
    },
    reference: convolved,
  },
  convTranspose2d: {
    names: [
      ...["x", "weight", "bias", "options", "stride", "padding", "outputPadding", "dilation"],
      "groups",
    ],
    args: (random) => {
      const x = image(random), c = x.shape[1]!, groups = coin(random) ? 1 : c, each = some(random);
      const w = floats(random, c, each, some(random, 3), some(random, 3));
      const options = {
        ...partOf(random, { dilation: pairOf(random, 1, 2), padding: pairOf(random, 0, 1) }),
        ...coin(random) && { stride: [2, 3], outputPadding: pairOf(random, 0, 1) },
        ...groups > 1 && { groups },
      };
      return [x, w, coin(random) ? floats(random, groups * each) : undefined, options];
    },
    reference: transposed,
  },
  maxPool2d: pooling((values) => Math.max(...values)),
  avgPool2d: pooling(
    (values, cells, counted) =>
      values.reduce((a, b) => a + b, 0) / (counted ? cells : values.length),
    { countIncludePad: false },
  ),
  adaptiveAvgPool2d: {
    names: ["x", "outputSize"],
    args: (random) => {
      const one = () => coin(random) ? null : some(random, 9);
      return [image(random), coin(random) ? one() : [one(), one()]];
    },
    reference: (x, size) => {
      const [, , ...pixels] = shaped(f32(x), 4);
      const given = Array.isArray(size) ? size : [size, size];
      return reference.adaptiveAvgPool2d(
        x,
        two(given.map((n, i) => n === null ? pixels[i] : n), 1),
      );
    },
  },
  upsample: {
    names: ["x", "options", "size", "scaleFactor", "mode", "alignCorners"],
    args: (random) => {
      const factor = () => 1 + random.below(8) / 4;
      const linear = { mode: "bilinear", ...partOf(random, { alignCorners: coin(random) }) };
      return [image(random), {
        ...coin(random) ? { size: pairOf(random, 1, 9) } : {
          scaleFactor: coin(random) ? factor() : [factor(), factor()],
        },
        ...coin(random) ? linear : partOf(random, { mode: "nearest", alignCorners: false }),
      }];
    },
    reference: (x, options) => {
      const { size, scaleFactor, mode = "nearest", alignCorners = false } = settings(options, [
        ...["size", "scaleFactor", "mode", "alignCorners"],
      ]);
      must(["nearest", "bilinear"].includes(mode), "a mode");
      must(typeof alignCorners === "boolean" && !(alignCorners && mode === "nearest"), "corners");
      must((size === undefined) !== (scaleFactor === undefined), "a size or factors");
      const [, , ...pixels] = shaped(f32(x), 4);
      if (size !== undefined) return reference.upsample(x, two(size, 1), { mode, alignCorners });
      const factors = (Array.isArray(scaleFactor) ? scaleFactor : [scaleFactor, scaleFactor]) as [
        number,
        number,
      ];
      must(factors.length === 2 && factors.every((n) => Number.isFinite(n) && n > 0), "factors");
      const after = two(factors.map((n, i) => Math.floor(n * pixels[i]!)), 1);
      return reference.upsample(x, after, { mode, alignCorners, factors });
    },
  },
  globalAvgPool2d: {
    names: ["x"],
    args: (random) => [image(random)],
    reference: (x) => {
      shaped(f32(x), 4);
      return N.mean(x, [2, 3], true);
    },
  },
  channelMoments: {
    names: ["x"],
    args: (random) => [floats(random, ...shapeOf(random, 2, 3))],
    reference: (x) => {
      must(f32(x).shape.length > 1, "channels");
      return reference.channelMoments(x);
    },
  },
  normalize: {
    names: ["x", "mean", "variance", "gamma", "beta", "eps"],
    args: (random) => {
      const x = floats(random, ...shapeOf(random, 2)), c = x.shape[1]!;
      const [m, gamma, beta] = range(3).map(() => floats(random, c));
      return [x, m, positive(random, c), gamma, beta, ...coin(random) ? [1e-3] : []];
    },
    reference: (x, m, v, gamma, beta, eps = 1e-5) => {
      vectors(x, eps, m, v, gamma, beta);
      return reference.normalize(x, m, v, gamma, beta, eps);
    },
  },
  batchNorm: {
    names: ["x", "gamma", "beta", "eps"],
    args: (random) => {
      const x = floats(random, 1 + some(random), some(random), ...shapeOf(random, 1, 2));
      const [gamma, beta] = range(2).map(() => floats(random, x.shape[1]!));
      return [x, gamma, beta, ...coin(random) ? [1e-2] : []];
    },
    call: (...args: Parameters<typeof R.batchNorm>) => {
      const { y, moments } = R.batchNorm(...args);
      return [y, moments];
    },
    reference: (x, gamma, beta, eps = 1e-5) => {
      vectors(x, eps, gamma, beta);
      must(x.data.length > x.shape[1], "more than one value");
      return [reference.batchNorm(x, gamma, beta, eps), reference.channelMoments(x)];
    },
  },
  logSoftmax: rows(reference.logSoftmax),
  softmax: rows(reference.softmax),
  argmax: rows(reference.argmax),
  argmin: rows((x) => reference.argmax(N.map((a) => -a, x))),
  oneHot: {
    names: ["labels", "classes"],
    args: (random) => {
      const k = some(random);
      return [indices(random, k, ...shapeOf(random, 0, 3)), k];
    },
    reference: (labels, k) => {
      must(u32(labels).data.every((label) => label < whole(k, 1)), "labels of the classes");
      return reference.oneHot(labels, k);
    },
  },
  crossEntropy: {
    names: ["logits", "labels", "options", "weight", "ignoreIndex", "reduction", "labelSmoothing"],
    args: (random) => {
      const [n, k, ...pixels] = shapeOf(random, 2, 4) as [number, number];
      const soft = coin(random);
      const options = {
        weight: positive(random, k),
        labelSmoothing: random.below(3) / 4,
        reduction: pick(random, ["mean", "sum", "none"]),
      };
      const labels = soft ? positive(random, n, k, ...pixels) : indices(random, k, n, ...pixels);
      const ignored = soft ? {} : { ignoreIndex: k + random.below(2) };
      return [floats(random, n, k, ...pixels), labels, partOf(random, { ...options, ...ignored })];
    },
    reference: (logits, labels, options = {}) => {
      const { weight, ignoreIndex, labelSmoothing = 0, reduction = "mean" } = settings(options, [
        ...["weight", "ignoreIndex", "reduction", "labelSmoothing"],
      ]);
      must(labelSmoothing >= 0 && labelSmoothing <= 1, "smoothing");
      must(["mean", "sum", "none"].includes(reduction), "a reduction");
      if (ignoreIndex !== undefined) whole(ignoreIndex, 0, 2 ** 32 - 1);
      const { shape } = f32(logits), axis = Math.min(1, shape.length - 1), k = shape[axis]!;
      const soft = labels?.dtype === "f32";
      must(!soft || ignoreIndex === undefined, "labels to ignore");
      must(shape.length > 0, "classes");
      const of = soft ? f32(labels) : u32(labels);
      must(`${of.shape}` === `${soft ? shape : shape.toSpliced(axis, 1)}`, "labels");
      if (!soft) must(of.data.every((label) => label < k || label === ignoreIndex), "classes");
      const weights = known(weight) as Known | undefined;
      if (weight !== undefined) must(`${f32(weights).shape}` === `${[k]}`, "weights");
      return reference.crossEntropy(logits, labels, {
        ...{ weight: weights, ignoreIndex, labelSmoothing, reduction },
      });
    },
    mayBeNaN: true,
  },
  correctCount: {
    names: ["logits", "labels"],
    args: logitsAndLabels,
    reference: (logits, labels) => {
      classified(logits, labels);
      return reference.correctCount(logits, labels);
    },
  },
  gather: {
    names: ["records", "indices", "dtype"],
    args: (random) => {
      const records = bytes(random, ...shapeOf(random, 1, 3));
      const chosen = indices(random, records.shape[0]!, some(random));
      return [records, chosen, ...coin(random) ? [pick(random, ["f32", "u32"])] : []];
    },
    reference: (records, chosen, dtype = "f32") => {
      must(isKnown(records) && records.dtype !== "f32" && records.shape.length > 0, "records");
      must(["f32", "u32"].includes(dtype), "a dtype");
      must(u32(chosen).data.every((index) => index < records.shape[0]!), "indices");
      return reference.gather(records, chosen);
    },
  },
  cropFlip: {
    names: ["x", "draws", "padding"],
    args: (random) => {
      const x = image(random), padding = random.below(3);
      return [x, indices(random, 2 * padding + 1, x.shape[0]!, 3), padding];
    },
    reference: (x, draws, padding) => {
      const [n] = shaped(f32(x), 4);
      must(`${u32(draws).shape}` === `${[n, 3]}`, "draws");
      // A flip is a bit, and any other number than 0 is one.
      const crops = N.map((draw) => draw, draws);
      return reference.cropFlip(x, crops, whole(padding, 0, 2 ** 30));
    },
  },
  rotate: {
    names: ["x", "turns"],
    args: (random) => {
      const x = image(random);
      const turns = range(x.shape[0]!).flatMap(() =>
        pick(random, [[1, 0], [0, 1], [-1, 0], [0, -1]])
      );
      return [x, R.tensor(turns, [x.shape[0]!, 2])];
    },
    reference: (x, turns) => {
      const [n] = shaped(f32(x), 4);
      must(`${f32(turns).shape}` === `${[n, 2]}`, "turns");
      return reference.rotate(x, turns);
    },
  },
  resizeBilinear: {
    names: ["x", "size"],
    args: (random) => [
      grey(random, some(random, 2), some(random, 2), some(random, 8), some(random, 8)),
      pairOf(random, 1, 9),
    ],
    reference: (x, size) => {
      const [n, c, h, w] = shaped(f32(x), 4) as [number, number, number, number];
      must(x.data.every((v: number) => Number.isInteger(v) && v >= 0 && v < 256), "pixels");
      const out = two(size, 1);
      return N.nd([n, c, ...out], resizeBytes(Uint8Array.from(x.data), n * c, h, w, ...out));
    },
  },
  tensor: {
    names: ["data", "shape"],
    args: (random) => {
      const shape = shapeOf(random);
      const data = random.uniform(new Float32Array(product(shape)), -1, 1);
      return pick(random, [
        () => [data, shape],
        () => [[...data], shape],
        () => [random.below(5)],
        () => [[[1, 2, 3], [4, 5, 6]]],
        () => [new Uint8Array(3)],
      ])();
    },
    reference: (data, shape) => {
      const flat = (x: Any): number[] =>
        Array.isArray(x) || ArrayBuffer.isView(x)
          ? [...x as Any].flatMap(flat)
          : (must(typeof x === "number", "a number"), [x]);
      const shapeIn = (x: Any): number[] =>
        Array.isArray(x) || ArrayBuffer.isView(x)
          ? [(x as Any).length, ...shapeIn((x as Any)[0])]
          : [];
      const numbers = flat(data).map(Math.fround), own = shapeIn(data);
      must(product(own) === numbers.length, "no ragged lists");
      const wanted = shape === undefined ? own.map((size) => whole(size, 1)) : sizes(shape);
      must(product(wanted) === numbers.length, "as many");
      return N.nd(wanted, numbers);
    },
  },
  grad: {
    names: ["y", "wrt", "seed"],
    args: (random) => {
      const x = floats(random, ...shapeOf(random));
      const y = R.square(x);
      return coin(random) ? [R.sum(y), [x]] : [y, [x], floats(random, ...x.shape)];
    },
    check: (found: R.Tensor[], [y, wrt, seed]) => {
      must(found.length === wrt.length, "a gradient for each");
      // Of the sum of squares, or of squares with weights.
      const squares = y.op.name === "square" ? y : y.inputs[0]?.inputs[0] ?? y;
      const x = squares.op.name === "square" ? squares.inputs[0] : undefined;
      return found.flatMap((g, i) => {
        must(`${g.shape}` === `${wrt[i].shape}`, "its shape");
        const zeros = N.nd(g.shape, () => 0);
        if (wrt[i] !== x) return { y: g, expected: zeros };
        const weight = seed ? known(seed) as Nd | undefined : N.nd(g.shape, () => 1);
        return weight
          ? [{ y: g, expected: N.map((v, w) => 2 * v * w, known(x) as Nd, weight) }]
          : [];
      });
    },
  },
};

// The rest: what they return is looked at.

const layer = (
  name: string,
  names: string[],
  args: Entry["args"],
  says: readonly string[] = [name],
): Entry => ({
  says,
  names,
  args,
  call: (...given) => Reflect.construct(PUBLIC[name], given),
  check: isA(PUBLIC[name]),
});

/** The ops that layers consist of. */
const OPS_OF: Readonly<Record<string, readonly string[]>> = {
  BatchNorm1d: ["normalize", "batchNorm"],
  Dropout: ["dropout"],
  Dropout2d: ["dropout", "broadcastTo"],
  ELU: ["elu"],
  Embedding: ["embedding"],
  GELU: ["gelu"],
  GroupNorm: ["groupNorm"],
  LayerNorm: ["layerNorm"],
  LeakyReLU: ["leakyRelu"],
  Sigmoid: ["sigmoid"],
  SiLU: ["silu"],
  Softplus: ["softplus"],
  Tanh: ["tanh"],
  AdaptiveAvgPool2d: ["adaptiveAvgPool2d"],
  AvgPool2d: ["avgPool2d"],
  Upsample: ["upsample"],
  BatchNorm2d: ["normalize"],
  Bottleneck: ["Conv2d", "conv2d", "add"],
  Conv2d: ["conv2d"],
  ConvTranspose2d: ["convTranspose2d"],
  Flatten: ["flatten"],
  GlobalAvgPool2d: ["globalAvgPool2d"],
  Linear: ["linear"],
  MaxPool2d: ["maxPool2d"],
  ReLU: ["relu"],
  Residual: ["Conv2d", "conv2d", "add"],
  Sequential: ["Flatten", "flatten", "Linear", "linear"],
};

/** An op of one's own. */
const Double: R.Op = {
  name: "double",
  shape: ([x]) => x?.shape ?? [],
  expression: () => "a + a",
};

const FORWARDS: Record<string, (random: Draw) => [R.Module, R.Tensor]> = {
  BatchNorm1d: (random) => [
    new R.BatchNorm1d(3, { affine: coin(random), trackRunningStats: coin(random) }).train(false),
    floats(random, 2, 3, ...coin(random) ? [some(random)] : []),
  ],
  Dropout: (random) => [new R.Dropout(0.3), floats(random, ...shapeOf(random))],
  Dropout2d: (random) => [new R.Dropout2d(0.3), image(random)],
  Embedding: (random) => [new R.Embedding(7, 3), indices(random, 7, some(random))],
  GroupNorm: (random) => [new R.GroupNorm(2, 4), floats(random, some(random), 4, 3)],
  LayerNorm: (random) => [new R.LayerNorm([3, 2]), floats(random, some(random), 3, 2)],
  ELU: (random) => [new R.ELU(), floats(random, ...shapeOf(random))],
  GELU: (random) => [new R.GELU(), floats(random, ...shapeOf(random))],
  LeakyReLU: (random) => [new R.LeakyReLU(), floats(random, ...shapeOf(random))],
  Sigmoid: (random) => [new R.Sigmoid(), floats(random, ...shapeOf(random))],
  SiLU: (random) => [new R.SiLU(), floats(random, ...shapeOf(random))],
  Softplus: (random) => [new R.Softplus(), floats(random, ...shapeOf(random))],
  Tanh: (random) => [new R.Tanh(), floats(random, ...shapeOf(random))],
  AdaptiveAvgPool2d: (random) => [new R.AdaptiveAvgPool2d([2, 3]), image(random)],
  AvgPool2d: (random) => [new R.AvgPool2d({ kernelSize: 2 }), image(random)],
  Upsample: (random) => [new R.Upsample({ scaleFactor: 2 }), image(random)],
  BatchNorm2d: (random) => {
    return [new R.BatchNorm2d(3).eval(), floats(random, some(random), 3, 2, 2)];
  },
  Bottleneck: (random) => [new R.Bottleneck(4, 4).eval(), floats(random, 1, 4, 3, 3)],
  Conv2d: (random) => [new R.Conv2d(2, 3, { kernelSize: 2 }), floats(random, 2, 2, 4, 4)],
  ConvTranspose2d: (random) => [
    new R.ConvTranspose2d(2, 3, { kernelSize: 2 }),
    floats(random, 2, 2, 4, 4),
  ],
  Flatten: (random) => [new R.Flatten(), floats(random, ...shapeOf(random, 1))],
  GlobalAvgPool2d: (random) => [new R.GlobalAvgPool2d(), image(random)],
  Linear: (random) => [new R.Linear(3, 2), floats(random, ...shapeOf(random, 0, 3), 3)],
  MaxPool2d: (random) => [new R.MaxPool2d({ kernelSize: 2 }), image(random)],
  ReLU: (random) => [new R.ReLU(), floats(random, ...shapeOf(random))],
  Residual: (random) => [new R.Residual(2, 2).eval(), floats(random, 1, 2, 3, 3)],
  Sequential: (random) => [
    new R.Sequential(new R.Flatten(), new R.Linear(12, 2)),
    floats(random, some(random), 3, 4),
  ],
};

const device = await R.defaultDevice();
const net = () => new R.Sequential(new R.Flatten(), new R.Linear(4, 2));
const dataset = (random: Draw) => {
  const images = Uint8Array.from(range(12), () => random.below(256));
  const labels = Uint8Array.from(range(3), () => random.below(2));
  return { images, labels, count: 3, height: 2, width: 2, classes: ["a", "b"] };
};
const stream = (...of: number[]) => new Blob([new Uint8Array(of)]).stream();
const IDX = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 10, 20];
const LABELS = [0, 0, 8, 1, 0, 0, 0, 2, 1, 0];
const GARMENT = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28, ...new Array(784).fill(0)];
const state = (random: Draw): R.StateDict =>
  new Map([["weight", { shape: [2], data: random.uniform(new Float32Array(2)) }]]);
const checkpoint = (random: Draw): T.Checkpoint => ({
  run: {
    ...{ version: "0.1.0", adapter: "a GPU", config: T.trainConfig(), history: [] },
    data: {
      ...{ kind: "folder", path: null, classes: ["a", "b"] },
      ...{ channels: 3, height: 2, width: 5 },
    },
    images: { train: 60, test: 10 },
    ...{ step: 1, steps: 1, seconds: 2 },
    shuffle: { seed: 0, stream: 1, position: 0 },
    sums: { loss: 5.5, correct: 1 },
  },
  model: state(random),
  optimizer: new Map(),
});
const FILES = await T.encodeCheckpoint(checkpoint(new R.Random(1)));
const x44 = R.input("x", [4, 4]);
const PLAN = await R.Plan.compile({ outputs: [R.matmul(x44, R.exp(x44))], device });
const { steps: STEPS } = await M.profilePlan(PLAN, { x: new Float32Array(16) }, {
  enough: 1,
  runs: 1,
});
const stepOf = ({ name, layer, pass, shape, milliseconds, flops, bytes }: M.StepProfile) => ({
  name,
  layer,
  pass,
  shape: [...shape],
  milliseconds,
  flops,
  bytes,
});
const count = (result: Any) => must(Number.isSafeInteger(result) && result >= 0, "a count");
const optimizer = (name: string, options: object): Entry =>
  layer(name, ["parameters", "params", "options", ...Object.keys(options)], (random) => {
    const params = [[new R.Parameter([2])], [new R.Parameter([3]), new R.Parameter([])]];
    const groups = params.map((group) => ({ params: group, ...partOf(random, options) }));
    return [coin(random) ? params.flat() : groups, partOf(random, options)];
  });
const ADAM = {
  ...{ lr: 0.1, betas: [0.9, 0.99], eps: 1e-6, weightDecay: 0.1 },
  ...{ amsgrad: true, maximize: true },
};
const SGD = { lr: 0.1, momentum: 0.9, dampening: 0.1, weightDecay: 0.1, maximize: true };
const RMSPROP = {
  ...{ lr: 0.1, alpha: 0.9, eps: 1e-6, weightDecay: 0.1, momentum: 0.9 },
  ...{ centered: true, maximize: true },
};
/** Entries of learning-rate schedules: their options, all of which are there or some. */
const rates = (
  all: Readonly<Record<string, [needed: object, more: object]>>,
): Table =>
  Object.fromEntries(
    Object.entries(all).map(([name, [needed, more]]): [string, Entry] => [name, {
      names: ["lr", "maxLr", "options", ...Object.keys(needed), ...Object.keys(more)],
      args: (random) => [random.below(9) / 8, { ...needed, ...partOf(random, more) }],
      check: (rate) => {
        must(!Number.isNaN(rate(0)), "a rate");
        let refused = false;
        try {
          rate(0.5);
        } catch (error) {
          refused = error instanceof R.ArgumentError;
        }
        must(refused, "a check of the step");
      },
    }]),
  );
const PARAMETERS = [new R.Parameter([2]), new R.Parameter([3])];
const parameters = () => [new R.Parameter([2]), new R.Parameter([3])];
const resnet = (name: "resnet18" | "resnet34" | "resnet50" | "resnet101" | "resnet152"): Entry => ({
  names: ["options", "inChannels", "numClasses", "variant"],
  args: (random) => [{
    variant: pick(random, ["notebook", "torchvision"]),
    inChannels: some(random),
    numClasses: some(random),
  }],
  call: (...args) => R[name](...args as []),
  check: isA(R.Sequential),
  share: name === "resnet18" ? 0.2 : 0.04,
});
const random32 = () => new R.Random(5, 6);
const onRandom = (
  method: "below" | "uniform" | "normal" | "permutation",
  names: string[],
  args: Entry["args"],
  check: Entry["check"],
): Entry => ({
  names,
  args,
  call: (...given) => (random32()[method] as Any)(...given),
  says: ["Random"],
  skip: (n) => method === "permutation" && typeof n === "number" && n > 1e6,
  ...check && { check },
});

const REST: Table = {
  // Layers and modules.
  Conv2d: layer("Conv2d", [
    "inChannels",
    "outChannels",
    "options",
    "kernelSize",
    "stride",
    "padding",
    "dilation",
    "groups",
    "bias",
  ], (random) => {
    const groups = some(random);
    return [
      groups * some(random),
      groups * some(random),
      {
        ...{ kernelSize: pairOf(random, 1, 3), groups },
        ...partOf(random, { stride: 2, padding: 1, dilation: 2, bias: coin(random) }),
      },
    ];
  }),
  ConvTranspose2d: layer("ConvTranspose2d", [
    ...["inChannels", "outChannels", "options", "kernelSize", "stride", "padding"],
    ...["outputPadding", "dilation", "groups", "bias"],
  ], (random) => {
    const groups = some(random);
    return [
      groups * some(random),
      groups * some(random),
      {
        ...{ kernelSize: pairOf(random, 1, 3), groups, stride: 2 },
        ...partOf(random, { outputPadding: 1, padding: 1, dilation: 2, bias: coin(random) }),
      },
    ];
  }),
  Linear: layer(
    "Linear",
    ["inFeatures", "outFeatures", "options", "bias"],
    (random) => [some(random), some(random), partOf(random, { bias: coin(random) })],
  ),
  ...Object.fromEntries(
    ["BatchNorm1d", "BatchNorm2d"].map((name) => [
      name,
      layer(
        name,
        ["numFeatures", "options", "eps", "momentum", "affine", "trackRunningStats"],
        (random) => [
          some(random),
          partOf(random, {
            ...{ eps: 1e-3, momentum: 0.2 },
            ...{ affine: coin(random), trackRunningStats: coin(random) },
          }),
        ],
      ),
    ]),
  ),
  ...Object.fromEntries(
    ["Sigmoid", "SiLU", "Softplus", "Tanh"].map((name) => [name, layer(name, [], () => [])]),
  ),
  Dropout: layer("Dropout", ["p"], () => [0.3]),
  Dropout2d: layer("Dropout2d", ["p"], () => [0.3]),
  Embedding: layer(
    "Embedding",
    ["numEmbeddings", "embeddingDim"],
    (random) => [some(random), some(random)],
  ),
  LayerNorm: layer(
    "LayerNorm",
    ["normalizedShape", "shape", "options", "eps", "affine"],
    (random) => [shapeOf(random, 1), partOf(random, { eps: 0.1, affine: coin(random) })],
  ),
  GroupNorm: layer(
    "GroupNorm",
    ["numGroups", "numChannels", "options", "eps", "affine"],
    (random) => [2, 2 * some(random), partOf(random, { eps: 0.1, affine: coin(random) })],
  ),
  GELU: layer("GELU", ["options", "approximate"], () => [{ approximate: "tanh" }], ["gelu"]),
  ELU: layer("ELU", ["options", "alpha"], () => [{ alpha: 0.3 }], ["elu"]),
  LeakyReLU: layer("LeakyReLU", ["options", "negativeSlope"], () => [{ negativeSlope: 0.3 }], [
    "leakyRelu",
  ]),
  MaxPool2d: layer(
    "MaxPool2d",
    ["options", "kernelSize", "stride", "padding", "ceilMode"],
    (random) => [{
      kernelSize: pairOf(random, 2, 3),
      ...partOf(random, { stride: 2, padding: 1, ceilMode: true }),
    }],
  ),
  AvgPool2d: layer(
    "AvgPool2d",
    ["options", "kernelSize", "stride", "padding", "ceilMode", "countIncludePad"],
    (random) => [{
      kernelSize: pairOf(random, 2, 3),
      ...partOf(random, { stride: 2, padding: 1, ceilMode: true, countIncludePad: coin(random) }),
    }],
  ),
  AdaptiveAvgPool2d: layer("AdaptiveAvgPool2d", ["outputSize"], (random) => [
    coin(random) ? null : [pick(random, [null, 3]), some(random)],
  ]),
  Upsample: layer(
    "Upsample",
    ["options", "size", "scaleFactor", "mode", "alignCorners"],
    (random) => [{
      ...coin(random) ? { size: pairOf(random, 1, 9) } : { scaleFactor: some(random) },
      ...partOf(random, { mode: "bilinear" }),
    }],
  ),
  Residual: layer(
    "Residual",
    ["inChannels", "outChannels", "options", "use1x1conv", "stride"],
    (
      random,
    ) => [some(random), some(random), partOf(random, { use1x1conv: coin(random), stride: 2 })],
  ),
  Bottleneck: layer(
    "Bottleneck",
    ["inChannels", "outChannels", "options", "use1x1conv", "stride"],
    (
      random,
    ) => [some(random), 4 * some(random), partOf(random, { use1x1conv: coin(random), stride: 2 })],
  ),
  Sequential: layer(
    "Sequential",
    ["layer"],
    (random) => range(some(random)).map(() => coin(random) ? new R.ReLU() : R.relu),
  ),
  ModuleList: layer(
    "ModuleList",
    ["modules", "module"],
    (random) => [range(some(random)).map(() => new R.ReLU())],
  ),
  ...Object.fromEntries(
    Object.entries(FORWARDS).flatMap(([name, draw]) => {
      const forward = (method: "forward" | "call"): Entry => ({
        names: ["x", "indices"],
        args: (random) => [draw(random)[1]],
        call: (x) => draw(new R.Random(3))[0][method](x),
        check: isA(R.Tensor),
        // The layer says what is wrong, or its op.
        says: [name, ...OPS_OF[name]!],
      });
      return [[`${name}.forward`, forward("forward")], [`${name}.call`, forward("call")]];
    }),
  ),
  "Sequential.add": {
    names: ["layer", "name"],
    args: () => [new R.ReLU(), "name"],
    call: (...args) => (new R.Sequential().add as Any)(...args),
    check: isA(R.Sequential),
    says: ["Sequential"],
  },
  "ModuleList.append": {
    names: ["module"],
    args: () => [new R.ReLU()],
    call: (...args) => (new R.ModuleList().append as Any)(...args),
    check: isA(R.ModuleList),
    says: ["ModuleList"],
  },
  "ModuleList.at": {
    names: ["index"],
    args: (random) => [random.below(2)],
    call: (...args) => (new R.ModuleList([new R.ReLU(), new R.ReLU()]).at as Any)(...args),
    says: ["ModuleList"],
    check: (result) => must(result === undefined || result instanceof R.ReLU, "a module"),
  },
  "Module.train": {
    names: ["mode"],
    args: (random) => [coin(random)],
    call: (...args) => net().train(...args as []),
    check: isA(R.Module),
  },
  "Module.freeze": {
    names: ["prefix", "frozen"],
    args: (random) => [pick(random, ["", "weight"]), coin(random)],
    call: (...args) => new R.Linear(2, 1).freeze(...args as []),
    check: isA(R.Module),
  },
  "Module.namedVariables": {
    names: ["prefix"],
    args: () => ["a."],
    call: (...args) => net().namedVariables(...args as []),
  },
  "Module.loadStateDict": {
    names: [
      ...["state", "options", "strict", "ignoreMismatchedSizes"],
      ...["weight", "shape", "data", "values"],
    ],
    args: (random) => [
      { weight: { shape: [1, 2], data: [1, 2] }, bias: { shape: [1], data: [3] } },
      partOf(random, { strict: coin(random), ignoreMismatchedSizes: coin(random) }),
    ],
    call: (given, ...rest) =>
      new R.Linear(2, 1).loadStateDict(
        isPlain(given) ? new Map(Object.entries(given)) as Any : given,
        ...rest,
      ),
  },
  collectUpdates: {
    names: ["body"],
    args: () => [() => 3],
    check: ({ updates }) => must(Array.isArray(updates), "updates"),
  },
  noteRunning: {
    names: ["running", "next"],
    args: () => [new R.Variable([2]), (x: R.Tensor) => R.add(x, 1)],
    check: (result) => must(result === undefined, "nothing"),
  },
  noteUpdate: {
    names: ["update", "targets", "value", "reads", "kernels"],
    args: () => [R.assign(new R.Variable([2]), R.tensor([1, 2]))],
    call: (...args) => R.collectUpdates(() => (R.noteUpdate as Any)(...args)),
    check: ({ updates }) => must(updates.length === 1, "noted"),
  },
  manualSeed: {
    names: ["seed"],
    args: (random) => [random.below(9)],
    call: (...args) => {
      try {
        (R.manualSeed as Any)(...args);
      } finally {
        R.manualSeed(0);
      }
    },
  },
  normalParameter: {
    names: ["shape", "std"],
    args: (random) => [shapeOf(random), random.below(3)],
    check: isA(R.Parameter),
  },
  uniformParameter: {
    names: ["shape", "fanIn"],
    args: (random) => [shapeOf(random), 1 + random.below(9)],
    check: async (result: R.Parameter) =>
      must(
        result.size > 1e6 || (await R.readVariables([result]))[0]!.every(Number.isFinite),
        "numbers",
      ),
  },
  constantParameter: {
    names: ["shape", "value"],
    args: (random) => [shapeOf(random), 3],
    check: isA(R.Parameter),
  },
  resnetBlock: {
    names: ["inChannels", "outChannels", "numResiduals", "options", "firstBlock", "kind"],
    args: (random) => {
      const c = 4 * some(random, 2);
      return [
        c,
        c,
        some(random, 2),
        partOf(random, {
          firstBlock: coin(random),
          kind: pick(random, [R.Residual, R.Bottleneck]),
        }),
      ];
    },
    check: isA(R.Sequential),
  },
  resnet18: resnet("resnet18"),
  resnet34: resnet("resnet34"),
  resnet50: resnet("resnet50"),
  resnet101: resnet("resnet101"),
  resnet152: resnet("resnet152"),

  // Tensors, variables, optimizers.
  Tensor: {
    names: ["op", "input", "attrs", "shape"],
    args: (random) => [{ ...Double }, [floats(random, 2)], {}],
    call: (...args) => Reflect.construct(R.Tensor, args),
    check: isA(R.Tensor),
    says: ["apply", "double"],
  },
  apply: {
    names: ["op", "input", "attrs", "shape"],
    args: (random) => [{ ...Double }, [floats(random, 2)], {}],
    check: isA(R.Tensor),
    says: ["apply", "double"],
  },
  input: {
    names: ["name", "shape", "dtype"],
    args: (random) => ["x", shapeOf(random), pick(random, ["f32", "u32", "u8"])],
    check: isA(R.Tensor),
  },
  Variable: {
    says: ["variable"],
    names: ["shape", "initial"],
    args: (random) => {
      const shape = shapeOf(random);
      return [shape, range(product(shape))];
    },
    call: (...args) => Reflect.construct(R.Variable, args),
    check: async (result: R.Variable, [, initial]) => {
      if (result.size > 1e6 || typeof initial === "function") return;
      const [values] = await R.readVariables([result]);
      if (Array.isArray(initial)) {
        must(
          values!.every((value, i) => Object.is(value, Math.fround(initial[i]))),
          "its values",
        );
      }
    },
    mayBeNaN: true,
  },
  ...Object.fromEntries(
    [R.Parameter, R.UnsavedBuffer].map((kind): [string, Entry] => [kind.name, {
      names: ["shape", "initial"],
      args: (random) => [shapeOf(random), undefined],
      call: (...args) => Reflect.construct(kind, args),
      check: isA(kind),
      says: ["variable"],
    }]),
  ),
  setVariable: {
    names: ["variable", "values"],
    args: (random) => [new R.Variable([2]), coin(random) ? [1, 2] : new Float32Array(2)],
  },
  readVariables: {
    names: ["variables"],
    args: () => [[new R.Variable([2])]],
    check: (result) => result.forEach(isA(Float32Array)),
  },
  freeVariables: { names: ["variables"], args: () => [[new R.Variable([2])]] },
  assign: {
    names: ["target", "value"],
    args: (random) => {
      const shape = shapeOf(random);
      return [new R.Variable(shape), floats(random, ...shape)];
    },
    check: ({ targets, value }) => must(`${targets[0].shape}` === `${value.shape}`, "a shape"),
  },
  Adam: optimizer("Adam", ADAM),
  AdamW: optimizer("AdamW", ADAM),
  RMSprop: optimizer("RMSprop", RMSPROP),
  SGD: optimizer("SGD", SGD),
  "Optimizer.minimize": {
    names: ["loss"],
    args: () => {
      const [a, b] = PARAMETERS;
      return [R.add(R.sum(a!), R.sum(b!))];
    },
    call: (...args) => (new R.SGD(PARAMETERS).minimize as Any)(...args),
    says: ["SGD", "grad"],
    check: (result) => result.forEach(({ targets }: R.Update) => targets.forEach(isA(R.Variable))),
  },
  clipGradNorm: {
    names: ["grads", "maxNorm"],
    args: (random) => [range(3).map(() => floats(random, ...shapeOf(random))), some(random)],
    check: ({ grads, norm }, [given, most]) => {
      if (!given.every(known)) return;
      const squares = given.map((g: R.Tensor) => known(g) as Known)
        .map(({ data }: Known) => data.reduce((sum, x) => sum + x * x, 0));
      const expected = Math.sqrt(squares.reduce((a: number, b: number) => a + b, 0));
      const factor = Math.min(1, Math.fround(most) / (expected + 1e-6));
      return [
        { y: norm, expected: N.scalar(expected) },
        ...grads.map((y: R.Tensor, i: number) => ({
          y,
          expected: N.map((x) => x * factor, known(given[i]) as Known),
        })),
      ];
    },
  },
  clipGradValue: {
    names: ["grads", "clipValue"],
    args: (random) => [range(3).map(() => floats(random, ...shapeOf(random))), random.below(9) / 8],
    check: (grads, [given, most]) =>
      given.every(known) && grads.map((y: R.Tensor, i: number) => {
        const bound = Math.fround(most);
        const clip = (x: number) => Math.max(-bound, Math.min(bound, x));
        return { y, expected: N.map(clip, known(given[i]) as Known) };
      }),
  },
  ...rates({
    stepLR: [{ stepSize: 3 }, { gamma: 0.5 }],
    multiStepLR: [{ milestones: [2, 5] }, { gamma: 0.5 }],
    exponentialLR: [{ gamma: 0.5 }, {}],
    cosineAnnealingLR: [{ TMax: 9 }, { etaMin: 0.01 }],
    linearLR: [{}, { startFactor: 0.5, endFactor: 0.7, totalIters: 4 }],
    oneCycleLR: [{ totalSteps: 9 }, {
      ...{ pctStart: 0.25, annealStrategy: "linear", divFactor: 9 },
      ...{ finalDivFactor: 5, threePhase: true },
    }],
  }),
  sequentialLR: {
    names: ["schedules", "milestones"],
    args: () => [[R.linearLR(0.1), R.linearLR(0.2)], [3]],
    check: isA(Function),
  },
  "Optimizer.updates": {
    names: ["grads", "gradients"],
    args: (random) => [[floats(random, 2), floats(random, 3)]],
    call: (...args) => (new R.SGD(parameters()).updates as Any)(...args),
    says: ["SGD"],
    check: (result) => result.forEach(({ targets }: R.Update) => targets.forEach(isA(R.Variable))),
  },

  // Plans.
  item: {
    names: ["x", "feeds", "device"],
    args: (random) => [floats(random, ...shapeOf(random).map(() => 1)), {}],
    says: ["item", "evaluate", "plan", "run"],
    check: (found, [x]) => must(found === constantData(x)![0], "its value"),
    share: 0.1,
  },
  toList: {
    names: ["x", "feeds", "device"],
    args: (random) => [floats(random, ...shapeOf(random, 0, 3)), {}],
    says: ["toList", "evaluate", "plan", "run"],
    check: (found, [x]) => {
      must(`${[found].flat(Infinity)}` === `${constantData(x)}`, "its values");
      must(`${R.tensor(found).shape}` === `${x.shape}`, "its shape");
    },
    share: 0.1,
  },
  evaluate: {
    names: ["x", "outputs", "feeds", "device"],
    args: (random) => {
      const x = floats(random, ...shapeOf(random, 0, 2));
      return [coin(random) ? x : [x], {}];
    },
    says: ["evaluate", "plan", "run"],
    check: (found, [x]) =>
      [x].flat().forEach((y: R.Tensor, i: number) => {
        const values = x instanceof R.Tensor ? found : found[i];
        must(`${values}` === `${constantData(y)}`, "its values");
      }),
    share: 0.1,
  },
  "Plan.compile": {
    names: ["options", "outputs", "updates", "device", "targets", "value", "reads", "kernels"],
    args: (
      random,
    ) => [{
      outputs: [floats(random, 2)],
      ...partOf(random, { updates: [R.assign(new R.Variable([2]), floats(random, 2))], device }),
    }],
    call: async (...args) => {
      using plan = await (R.Plan.compile as Any)(...args);
      return plan;
    },
    says: ["plan"],
    check: isA(R.Plan),
    share: 0.1,
  },
  "Plan.run": {
    names: ["feeds", "x"],
    args: (random) => [{ x: random.uniform(new Float32Array(16)) }],
    call: (...args) => (PLAN.run as Any)(...args),
    says: ["run"],
    share: 0.5,
  },
  profilePlan: {
    names: ["plan", "feeds", "options", "clock", "enough", "runs", "x"],
    args: () => [PLAN, { x: new Float32Array(16) }, { clock: "submits", enough: 1, runs: 1 }],
    says: ["profilePlan", "run"],
    share: 0.1,
    check: ({ steps }) => must(steps.length === PLAN.steps.length, "steps"),
  },
  costsBy: {
    names: ["steps", "key"],
    args: () => [STEPS.map(stepOf), ({ pass }: M.StepProfile) => pass],
    check: isA(Map),
  },
  chromeTrace: {
    names: ["steps"],
    args: () => [STEPS.map(stepOf)],
    check: ({ traceEvents }) => must(Array.isArray(traceEvents), "events"),
  },
  trainingGraph: {
    names: ["net", "shape"],
    args: (random) => [net(), [some(random), 4]],
    check: (result) => result.forEach(isA(R.Tensor)),
    says: ["trainingGraph", "linear", "crossEntropy", "flatten"],
  },
  tune: {
    names: ["device", "roots", "options", "budget", "onProgress", "signal"],
    args: () => [device, [R.relu(x44)], { budget: 0.001 }],
    check: (result) => must(Array.isArray(result), "a list"),
    share: 0.5,
  },
  measureCeiling: { names: ["device"], args: () => [device], spoiltOnly: true },
  "Device.request": {
    names: ["options", "choice", "tuned"],
    args: (random) => [partOf(random, { choice: "naive", tuned: new Map([["a", "b"]]) })],
    call: async (...args) => {
      using made = await (R.Device.request as Any)(...args);
      return made;
    },
    says: ["Device"],
    check: isA(R.Device),
    share: 0.15,
  },
  arrays: {
    names: ["types"],
    args: () => [{ x: "f32", y: "vec4f" }],
    check: (result, [types]) => must(result.length === Object.keys(types).length, "bindings"),
  },
  perThread: {
    mayBeNaN: true,
    names: [
      "bindings",
      "threads",
      "target",
      "statements",
      "options",
      "declarations",
      "sizes",
      "numbers",
    ],
    args: (
      random,
    ) => [
      R.arrays({ x: "f32", y: "f32" }),
      1 + random.below(1000),
      { ...device.target },
      "  y[i] = x[i];",
      partOf(random, { declarations: "", sizes: { n: 3 }, numbers: { k: 2.5 } }),
    ],
    check: ({ workgroups }) =>
      must(workgroups.every((n: number) => Number.isSafeInteger(n) && n > 0), "a grid"),
  },

  // Shapes.

  // Random numbers and metrics.
  Random: {
    names: ["seed", "stream"],
    args: (random) => [random.below(99), random.below(9)],
    call: (...args) => Reflect.construct(R.Random, args).nextUint32(),
    check: count,
  },
  "Random.fromState": {
    names: ["state", "seed", "stream", "position"],
    args: () => [{ seed: 1, stream: 2, position: 3 }],
    call: (...args) => (R.Random.fromState as Any)(...args).nextUint32(),
    says: ["Random"],
    check: count,
  },
  "Random.below": onRandom(
    "below",
    ["bound"],
    (random) => [1 + random.below(9)],
    (result, [bound]) => must(result >= 0 && result < bound && Number.isInteger(result), "less"),
  ),
  "Random.uniform": onRandom(
    "uniform",
    ["out", "low", "high", "bounds"],
    () => [new Float32Array(3), -1, 1],
    isA(Float32Array),
  ),
  "Random.normal": onRandom(
    "normal",
    ["out", "mean", "std"],
    () => [new Float32Array(3), 1, 2],
    isA(Float32Array),
  ),
  "Random.permutation": onRandom(
    "permutation",
    ["n", "length"],
    (random) => [random.below(9)],
    (result, [n]) => must(`${result.toSorted()}` === `${range(n)}`, "each once"),
  ),
  confusionMatrix: {
    names: ["labels", "predicted", "predictions", "classes", "image"],
    args: (random) => [range(4).map(() => random.below(3)), range(4).map(() => random.below(3)), 3],
    check: (result, [labels]) =>
      must(
        product([]) && result.flat().reduce((a: number, b: number) => a + b, 0) === labels.length,
        "each counted",
      ),
  },
  worstConfusions: {
    names: ["labels", "predicted", "most"],
    args: (random) => [range(4).map(() => random.below(3)), range(4).map(() => random.below(3)), 2],
    check: (result) => result.forEach(({ count: images }: T.Confusion) => count(images)),
  },
  classMetrics: {
    names: ["labels", "predicted", "predictions", "classes", "image"],
    args: (random) => [range(4).map(() => random.below(3)), range(4).map(() => random.below(3)), 3],
    mayBeNaN: true,
    check: (result) =>
      result.forEach(({ precision, images }: T.ClassMetrics) => {
        count(images);
        must(Number.isNaN(precision) || precision >= 0 && precision <= 1, "a share");
      }),
  },
  confidentMistakes: {
    names: ["labels", "predictions", "predicted", "probability", "most"],
    args: () => [[0, 1, 1], { predicted: [1, 1, 0], probability: [0.6, 0.9, 0.8] }, 2],
    check: (result) => result.forEach(count),
  },
  likeliest: {
    names: ["probabilities", "classes", "count"],
    args: () => [new Float32Array([0.25, 0.75]), ["a", "b"], 1],
    check: (result) => must(Array.isArray(result), "a list"),
  },

  // Networks and their data.
  summarize: {
    names: ["net", "shape"],
    args: () => [net(), [2, 4]],
    says: ["summarize", "linear", "flatten"],
    check: ({ parameters }) => count(parameters),
  },
  formatSummary: {
    names: ["summary", "layers", "parameters", "macs", "activationBytes"],
    args: () => [R.summarize(net(), [2, 4])],
    check: (result) => must(!/NaN|undefined/.test(result), "numbers"),
  },
  runLayers: {
    names: ["net", "x", "device"],
    args: (random) => [net(), floats(random, 2, 4)],
    call: (...args) => Array.fromAsync((R.runLayers as Any)(...args)),
    says: ["runLayers", "Flatten", "Linear", "linear", "flatten", "run"],
    share: 0.05,
  },
  encodeOnnx: {
    names: ["net", "options", "shape", "images", "metadata", "version"],
    args: (
      random,
    ) => [new R.Sequential(new R.Flatten(), new R.Linear(4, 2)), {
      shape: [1, 2, 2],
      ...partOf(random, { metadata: { a: "b" } }),
    }],
    says: ["encodeOnnx", "onnx", "linear"],
    check: isA(Uint8Array),
  },
  predict: {
    names: ["net", "data", "images", "count", "height", "width", "options", "resize", "device"],
    args: (random) => {
      const { images, count, height, width } = dataset(random);
      return [net(), { images, count, height, width }, {
        resize: 2,
        ...partOf(random, { device }),
      }];
    },
    says: ["predict", "linear"],
    share: 0.1,
    check: (result) =>
      result.forEach((row: Float32Array) =>
        must(Math.abs(row.reduce((a, b) => a + b) - 1) < 1e-5, "probabilities")
      ),
  },
  evaluateAccuracy: {
    names: [
      "net",
      "data",
      "images",
      "labels",
      "count",
      "height",
      "width",
      "classes",
      "options",
      "batchSize",
      "resize",
      "device",
    ],
    args: (random) => [net(), dataset(random), { batchSize: 2, resize: 2 }],
    says: ["evaluateAccuracy", "linear"],
    share: 0.05,
    check: (result) => must(result >= 0 && result <= 1, "a share"),
  },
  DeviceDataset: {
    names: ["data", "name", "images", "labels", "count", "height", "width", "classes"],
    args: (random) => [dataset(random), "DeviceDataset: data"],
    call: (...args) => Reflect.construct(T.DeviceDataset, args),
    says: ["DeviceDataset"],
    check: isA(T.DeviceDataset),
  },
  "DeviceDataset.batch": {
    names: ["indices", "options", "resize", "channels", "mean", "std", "augment"],
    args: (random) => [
      indices(random, 3, 2),
      partOf(random, { resize: [1, 3], channels: 3, mean: [0.5], std: [0.2] }),
    ],
    call: (...args) => {
      const { x, labels } = (new T.DeviceDataset(dataset(new R.Random(1))).batch as Any)(...args);
      return [x, labels];
    },
    says: ["batch"],
    check: (result) => result.forEach(isA(R.Tensor)),
  },
  "DeviceDataset.feeds": {
    names: ["indices"],
    args: (random) => [Uint32Array.of(random.below(3), random.below(3))],
    call: (...args) => {
      const data = dataset(new R.Random(1));
      return (new T.DeviceDataset(data, "data", { resident: false }).feeds as Any)(...args);
    },
    says: ["feeds"],
    check: ({ images }, [indices]) => must(images.length === 4 * indices.length, "two pixels each"),
  },
  "Trainer.create": {
    names: [
      "options",
      "config",
      "train",
      "test",
      "device",
      "net",
      "images",
      "labels",
      "count",
      "height",
      "width",
      "classes",
      "collective",
      ...COLLECTIVE,
      ...Object.keys(T.DEFAULT_CONFIG),
    ],
    args: (
      random,
    ) => [{
      config: { ...T.trainConfig({ batchSize: 2, resize: 2 }) },
      train: dataset(random),
      test: dataset(random),
      net: net(),
      ...partOf(random, { collective: alone() }),
    }],
    call: async (...args) => {
      using trainer = await (T.Trainer.create as Any)(...args);
      return trainer;
    },
    says: ["Trainer.create", "the ", "trainConfig"],
    share: 0.5,
    check: isA(T.Trainer),
  },
  trainConfig: {
    names: ["given", ...Object.keys(T.DEFAULT_CONFIG)],
    args: () => [{ batchSize: 3, lr: 0.1, schedule: "cosine" }],
    says: ["trainConfig", "the "],
    check: (result, [given]) =>
      Object.entries(given ?? {}).forEach(([name, value]) => must(result[name] === value, name)),
  },
  learningRate: {
    names: ["config", "step", "stepsPerEpoch"],
    args: (
      random,
    ) => [
      T.trainConfig({ schedule: pick(random, T.SCHEDULES), warmup: random.below(3) }),
      random.below(9),
      3,
    ],
    check: (result) => must(Number.isFinite(result), "a rate"),
  },
  formatEpoch: {
    names: ["result", "epoch", "loss", "trainAccuracy", "testAccuracy", "seconds"],
    args: () => [{ epoch: 1, loss: 0.5, trainAccuracy: 0.5, testAccuracy: 0.5, seconds: 3 }],
    check: (result) => must(!/undefined/.test(result), "numbers"),
  },

  // Files.
  parseSafetensors: {
    names: ["bytes", "name"],
    args: () => [FILES["model.safetensors"], "a file"],
    says: ["parseSafetensors", "a file"],
    check: ({ tensors }) => must(tensors instanceof Map, "tensors"),
  },
  serializeSafetensors: {
    names: ["tensors", "tensor", "metadata", "name", "shape", "data", "dtype"],
    args: (
      random,
    ) => [
      [["a", { dtype: "F32", shape: [2], data: new Float32Array(2) }]],
      partOf(random, { a: "b" }),
    ],
    check: isA(Uint8Array),
  },
  asFloat32Array: {
    names: ["tensor", "name", "dtype", "data"],
    args: () => [{ dtype: "F32", shape: [1], data: new Uint8Array(4) }, "a tensor"],
    says: ["asFloat32Array", "a tensor"],
    check: isA(Float32Array),
  },
  encodeStateDict: {
    names: ["state", "tensor", "shape", "data"],
    args: (random) => [state(random)],
    says: ["encodeStateDict"],
    check: isA(Uint8Array),
  },
  decodeStateDict: {
    names: ["bytes", "name"],
    args: () => [FILES["model.safetensors"], "a file"],
    says: ["decodeStateDict", "a file"],
    check: isA(Map),
  },
  encodeCheckpoint: {
    names: ["checkpoint", "run", "model", "optimizer", "state"],
    args: (random) => [checkpoint(random)],
    says: ["encodeCheckpoint"],
    check: (files) => T.CHECKPOINT_FILES.forEach((name) => isA(Uint8Array)(files[name])),
  },
  decodeCheckpoint: {
    names: ["files", "folder", ...T.CHECKPOINT_FILES],
    args: () => [{ ...FILES }, "a folder"],
    says: ["decodeCheckpoint", "a folder"],
    check: ({ model }) => must(model instanceof Map, "a model"),
  },
  broadcastBytes: {
    names: ["collective", "bytes", ...COLLECTIVE],
    args: (random) => [alone(), new Uint8Array(random.below(5))],
    says: ["broadcastBytes"],
    check: isA(Uint8Array),
  },
  broadcastCheckpoint: {
    names: ["collective", "checkpoint", "run", "model", "optimizer", "state", ...COLLECTIVE],
    args: (random) => [alone(), checkpoint(random)],
    says: ["broadcastCheckpoint", "encodeCheckpoint"],
    check: (result) => must(result === undefined || typeof result === "object", "a checkpoint"),
  },
  broadcastDataset: {
    names: [
      ...["collective", "data", "images", "labels", "count", "height", "width", "classes"],
      ...COLLECTIVE,
    ],
    args: (random) => [alone(), dataset(random)],
    says: ["broadcastDataset"],
    check: ({ count }) => must(count > 0, "images"),
  },
  gatherTexts: {
    names: ["collective", "text", ...COLLECTIVE],
    args: () => [alone(), "a text"],
    says: ["gatherTexts"],
    check: (texts) => must(texts.length > 0, "texts"),
  },
  gunzip: {
    names: ["source", "name", "size"],
    args: () => [stream(1, 2).pipeThrough(new CompressionStream("gzip")), "a.gz"],
    call: (...args) => new Response((D.gunzip as Any)(...args)).bytes(),
    says: ["gunzip", "a.gz"],
    check: isA(Uint8Array),
  },
  readIdx: {
    names: ["source", "name", "options", "shape", "most"],
    args: (
      random,
    ) => [stream(...IDX), "a file", partOf(random, { shape: [undefined, 1, 1], most: 2 })],
    call: async (...args) => await (await (D.readIdx as Any)(...args)).bytes(),
    says: ["readIdx", "a file"],
    check: isA(Uint8Array),
  },
  "IdxStream.batches": {
    names: ["size", "batches"],
    args: (random) => [some(random)],
    call: async (...args) =>
      await Array.fromAsync((await D.readIdx(stream(...IDX), "IdxStream") as Any).batches(...args)),
    says: ["IdxStream"],
    check: (result) => result.forEach(isA(Uint8Array)),
  },
  "IdxStream.bytes": {
    names: ["limit", "options", "stopEarly"],
    args: (random) => [some(random), partOf(random, { stopEarly: true })],
    call: async (...args) =>
      await (await D.readIdx(stream(...IDX), "IdxStream") as Any).bytes(...args),
    says: ["IdxStream"],
    check: isA(Uint8Array),
  },
  readImageDataset: {
    names: [
      "images",
      "labels",
      "stream",
      "name",
      "options",
      "classes",
      "size",
      "most",
      "limit",
      "stopEarly",
    ],
    args: (
      random,
    ) => [
      { stream: stream(...IDX), name: "images" },
      { stream: stream(...LABELS), name: "labels" },
      {
        classes: ["a", "b"],
        ...partOf(random, { size: [1, 1], most: 2, limit: 1, stopEarly: true }),
      },
    ],
    says: ["readImageDataset", "images", "labels"],
    check: ({ labels }) => isA(Uint8Array)(labels),
  },
  readFashionMnist: {
    names: ["split", "images", "labels", "stream", "name", "options", "limit", "stopEarly"],
    args: (random) => [
      pick(random, ["train", "test"]),
      { stream: stream(...GARMENT), name: "images" },
      { stream: stream(...LABELS.slice(0, 7), 1, 9), name: "labels" },
      partOf(random, { limit: 1, stopEarly: true }),
    ],
    says: ["readFashionMnist", "readImageDataset", "images", "labels"],
    check: ({ labels }) => isA(Uint8Array)(labels),
  },
  fetchFile: {
    names: ["url", "options", "onProgress", "signal"],
    args: (random) => [
      "data:,a",
      partOf(random, { onProgress: () => {}, signal: new AbortController().signal }),
    ],
    call: async (...args) => new Response((await (D.fetchFile as Any)(...args)).stream).bytes(),
    says: ["fetchFile", "data:,a"],
    check: isA(Uint8Array),
  },
  fetchFashionMnist: {
    names: ["folder", "split", "options", "limit", "stopEarly", "onProgress", "signal"],
    args: (random) => [
      new URL("../../data/fashion-mnist", import.meta.url).href,
      "test",
      { limit: 2, stopEarly: true, ...partOf(random, { onProgress: () => {} }) },
    ],
    says: ["fetchFashionMnist", "file:"],
    share: 0.1,
    check: (result) => count(result.count),
  },
  loadFashionMnist: {
    names: ["dir", "split", "options", "limit"],
    args: () => ["data/fashion-mnist", "test", { limit: 2 }],
    says: ["loadFashionMnist", "data/fashion-mnist"],
    share: 0.1,
    check: (result) => count(result.count),
  },
  loadDataset: {
    names: [
      ...["path", "options", "resize", "channels", "testShare", "seed", "limit", "testLimit"],
      ...["cache", "memory", "onProgress", "signal", "workers"],
    ],
    args: (random) => [
      "data/fashion-mnist",
      {
        limit: 2,
        testLimit: 1,
        ...partOf(random, { channels: 3, memory: 1e6, seed: 1, workers: 2 }),
      },
    ],
    says: ["loadDataset", "data/fashion-mnist"],
    share: 0.1,
    check: ({ test }) => count(test.count),
  },
  collectImages: {
    names: [
      ...["items", "image", "label", "pixels", "height", "width", "channels", "options", "classes"],
      ...["size"],
    ],
    args: (random) => [
      [
        { image: { pixels: Uint8Array.of(1, 2), height: 1, width: 2 }, label: "a" },
        { image: { pixels: Uint8Array.of(3, 4), height: 1, width: 2, channels: 1 }, label: "b" },
      ],
      partOf(random, { classes: ["b", "a"], size: [2, 3], channels: 3 }),
    ],
    check: ({ images, labels }) => {
      isA(Uint8Array)(images);
      isA(Uint8Array)(labels);
    },
  },
};

/** A trainer of two steps an epoch, for a call. */
async function withTrainer(body: (trainer: T.Trainer) => unknown): Promise<unknown> {
  const data = dataset(new R.Random(1));
  const config = T.trainConfig({ batchSize: 2, resize: 2, optimizer: "sgd" });
  using trainer = await T.Trainer.create({ config, train: data, test: data, net: net() });
  return await body(trainer);
}

const TRAINING: Table = {
  "Trainer.updates": {
    says: ["Trainer.updates"],
    names: ["size"],
    args: (random) => [1 + random.below(2)],
    call: (...args) => withTrainer((trainer) => (trainer.updates as Any)(...args)),
    check: (result) => must(Array.isArray(result), "a list"),
    share: 0.2,
  },
  "Trainer.epoch": {
    says: ["Trainer.epoch"],
    names: ["watch", "onProgress", "onTested", "signal", "interval"],
    args: () => [{ onProgress: () => {}, interval: 100 }],
    call: (...args) => withTrainer((trainer) => (trainer.epoch as Any)(...args)),
    share: 0.05,
  },
  "Trainer.restore": {
    says: ["Trainer.restore", "the checkpoint is of another run"],
    names: ["checkpoint", "run", "model", "optimizer"],
    args: () => [{ ...CHECKPOINT }],
    call: (...args) => withTrainer((trainer) => (trainer.restore as Any)(...args)),
    share: 0.2,
  },
};
const CHECKPOINT = await withTrainer((trainer) => trainer.checkpoint()) as T.Checkpoint;

/** Of a process alone. */
const MPI = await Mpi.init();

/** A call of the ranks, with as many bytes in each array. */
const ofRanks = (name: "allGather" | "allToAll"): Entry => ({
  names: ["send", "receive"],
  args: (random) => {
    const length = random.below(5);
    return [new Uint8Array(length).fill(3), new Uint8Array(length)];
  },
  call: async (...args) => {
    await (MPI[name] as Any)(...args);
    return args;
  },
  says: [`Mpi.${name}`],
  check: ([send, receive]) => must(`${send}` === `${receive}`, "it has what it sent"),
});

const RANKS: Table = {
  "Mpi.init": {
    names: ["options", "library", "timeout"],
    args: (random) => [partOf(random, { timeout: 5, library: "/nowhere/libmpi.so" })],
    call: (...args) => (Mpi.init as Any)(...args),
    says: ["Mpi.init"],
    check: (mpi) => must(mpi === MPI && mpi.size === 1, "it is alone"),
  },
  "Mpi.allReduce": {
    names: ["values"],
    args: () => [new Float32Array([1, 2])],
    call: (...args) => (MPI.allReduce as Any)(...args),
    says: ["Mpi.allReduce"],
  },
  "Mpi.broadcast": {
    names: ["bytes"],
    args: () => [new Uint8Array([1, 2])],
    call: (...args) => (MPI.broadcast as Any)(...args),
    says: ["Mpi.broadcast"],
  },
  "Mpi.allGather": ofRanks("allGather"),
  "Mpi.allToAll": ofRanks("allToAll"),
  "Mpi.abort": {
    names: ["code"],
    args: () => [1],
    call: (...args) => (MPI.abort as Any)(...args),
    says: ["Mpi.abort"],
    // It ends this process.
    skip: (code) => Number.isInteger(code) && code >= 1 && code <= 255,
  },
};

/** Everything that is called, by name. */
export const ENTRIES: Readonly<Table> = { ...OPS, ...REST, ...TRAINING, ...RANKS };

const because = (why: string, names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [name, why]));

/** What is not called, and why. */
export const EXEMPT: Readonly<Record<string, string>> = {
  ...because("is called under the name of its classes", [
    "BatchNorm",
    "BatchNorm.forward",
    "Module",
    "Optimizer",
  ]),
  ...because("takes no arguments; its layers are called", [
    ...["Flatten", "GlobalAvgPool2d", "ReLU", "ModuleList.forward", "Module.call"],
    ...["Module.namedChildren", "ModuleList.namedChildren", "Sequential.namedChildren"],
    ...[
      "Module.modules",
      "Module.namedUnsavedBuffers",
      "Module.namedParameters",
      "Module.parameters",
      "Module.eval",
    ],
    "Module.stateDict",
  ]),
  ...because("takes no arguments", [
    ...[
      "defaultDevice",
      "Device.finished",
      "Device.check",
      "Plan.read",
      "Plan.finished",
      "Plan.item",
    ],
    ...["Optimizer.nextStep", "Random.nextUint32", "IdxStream.chunks", "Trainer.prepare"],
    ...["Trainer.checkpoint", "Mpi.finalize"],
  ]),
  ...because("has no public constructor", ["Device", "IdxStream", "Mpi", "Plan", "Trainer"]),
  ...because("takes any reason", ["IdxStream.cancel"]),
  ...because("takes WebGPU's own objects, and what is done with them, from plans and profiles", [
    ...[
      "Device.pipeline",
      "Device.pipelines",
      "Device.createBuffer",
      "Device.made",
      "Device.checked",
      "Device.compileAhead",
      "Device.inTurn",
    ],
    ...["Device.settled", "Plan.encode", "Plan.runParts"],
  ]),
  ...because("is protected", [
    ...["Adam", "RMSprop", "SGD"].flatMap((name) =>
      ["check", "states", "numbers", "rule"].map((method) => `${name}.${method}`)
    ),
    ...["AdamW.numbers", "Optimizer.check", "Optimizer.states"],
  ]),
};

/** A tensor as the reference takes it; undefined if its values are not known. Others as they are. */
export function known(x: unknown): unknown {
  if (!(x instanceof R.Tensor)) return x;
  const data = constantData(x);
  if (!data) return undefined;
  return { ...N.nd(x.shape, Float64Array.from(data)), dtype: x.dtype };
}
