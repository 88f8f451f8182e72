/**
 * Every row of the op table: its value and its gradients against float64, alone and inside one large
 * plan, on contiguous and on strided inputs; and that no exported op lacks a row.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  add,
  binaryCrossEntropyWithLogits,
  cast,
  channelMoments,
  concat,
  defaultDevice,
  Device,
  embedding,
  evaluate,
  type Feeds,
  freeVariables,
  grad,
  huberLoss,
  input,
  matmul,
  max,
  maximum,
  maxPool2d,
  mean as reduceMean,
  min,
  minimum,
  mul,
  permute,
  Plan,
  pow,
  prod,
  Random,
  reshape,
  select,
  ShapeError,
  softmax,
  softplus,
  square,
  stack,
  sum,
  type Tensor,
  tensor,
  type TensorData,
  Variable,
} from "@resnette/resnette";
import { axesOf, difference, map, type Nd, nd, sum as sumOf } from "./nd.ts";
import { type OpCase, TABLE } from "./table.ts";

/**
 * Largest difference from float64 relative to the largest value. One rounding is 6e-8; the sums here
 * have up to 4,099 terms, and WGSL's exp and log may be off by some units in the last place.
 */
const TOLERANCE = 1e-5;
/** The same for a gradient's projection on a random direction, relative to what it comes to typically. */
const GRADIENT_TOLERANCE = 3e-5;
/** Step of the central difference: in float64 it costs about 1e-10. */
const H = 1e-5;

/** Exports of `lib/ops` that need no row, `file` or `file function`, and why. */
const EXEMPT: Readonly<Record<string, string>> = {
  "expression.ts binary": "makes the nodes of others",
  "expression.ts elementwise": "makes the ops of others",
  "expression.ts lift": "makes a tensor of a number",
  "expression.ts unary": "makes the nodes of others",
  "grad.ts": "no op; each row checks it",
  "resize.ts": "arithmetic of resizeBilinear",
  "winograd.ts": "kernels of conv2d; kernels/choice_test.ts runs them",
  "conv.ts checkConv": "checks options",
  "conv.ts checkConvTranspose": "checks options",
  "depthwise.ts": "kernels of conv2d; kernels/choice_test.ts runs them",
  "classification.ts argmaxOf": "WGSL of argmax, which the evaluator uses too",
  "classification.ts labelHits": "oneHot, which crossEntropy uses too",
  "pack.ts asStored": "a permutation; plan/updates_test.ts runs it",
  "pack.ts packOffsets": "reads an attribute",
  "patches.ts": "parts of lowered convolutions and products; kernels/choice_test.ts runs them",
  "pool.ts checkAvgPool": "checks options",
  "pool.ts checkImages": "checks an argument",
  "pool.ts checkPool": "checks options",
  "resample.ts checkOutputSize": "checks an argument",
  "resample.ts checkUpsample": "checks options",
  "resample.ts nearestPixel": "arithmetic of upsample",
  "reduce.ts checkReduction": "checks arguments",
  "reduce.ts noteSum": "notes what batch norm's gradient knows; nn/nn_test.ts looks at it",
  "reduce.ts reduced": "makes the nodes of others",
  "reduce.ts reducing": "makes the ops of others",
  "reduce.ts reductionChunks": "a number",
  "view.ts isContiguous": "a question about strides",
  "view.ts wordType": "checks an element type",
  "view.ts permuteOrder": "reads an attribute",
};

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** A row as a graph over inputs named after it. */
interface Graph {
  readonly name: string;
  readonly row: OpCase;
  /** Result, then a gradient for each input that has one. */
  readonly outputs: readonly Tensor[];
  /** Inputs that have gradients. */
  readonly wrt: readonly number[];
  /** What the result is shifted and weighted by, before its gradient is taken. */
  readonly shift: Nd;
  readonly weight: Nd;
  /** Values of the inputs in run `seed`. */
  readonly values: (seed: number) => TensorData[];
  readonly feeds: (seed: number) => Feeds;
}

const GRAPHS: readonly Graph[] = TABLE.map((row, number): Graph => {
  const name = `${row.op}: ${row.label}`;
  const inputs = row.inputs.map(({ shape, dtype }, i) => input(`${number}.${i}`, shape, dtype));
  const y = row.compute(...inputs);
  const wrt = row.wrt ??
    inputs.flatMap((x, i) => x.dtype === "f32" && y.dtype === "f32" ? [i] : []);
  const random = new Random(11, number);
  const some = () => random.uniform(new Float32Array(size(y.shape)), -1, 1);
  const shift = some(), weight = some();
  // The op is followed by others, so that what comes back is neither ones nor a constant.
  const loss = () => sum(mul(square(add(y, tensor(shift, y.shape))), tensor(weight, y.shape)));
  const values = (seed: number) => {
    const random = new Random(seed, number);
    return row.inputs.map(({ shape, values }) => values(random, size(shape)));
  };
  return {
    name,
    row,
    outputs: [y, ...wrt.length > 0 ? grad(loss(), wrt.map((i) => inputs[i]!)) : []],
    wrt,
    shift: nd(y.shape, shift),
    weight: nd(y.shape, weight),
    values,
    feeds: (seed) => Object.fromEntries(values(seed).map((data, i) => [`${number}.${i}`, data])),
  };
});

/** Results of a row on its own, computed once. */
const alone = (() => {
  const known = new Map<string, Promise<TensorData[]>>();
  return ({ name, outputs, feeds }: Graph, seed: number) => {
    const key = `${name} ${seed}`;
    const found = known.get(key) ?? evaluate(outputs, feeds(seed));
    known.set(key, found);
    return found;
  };
})();

/** Inputs as float64 arrays. */
const exact = ({ row, values }: Graph, seed: number): Nd[] =>
  values(seed).map((data, i) => nd(row.inputs[i]!.shape, data));

Deno.test("every function that lib/ops exports has a row in the op table or a reason not to", async () => {
  const covered = new Set(TABLE.map(({ op }) => op));
  const excused = new Set<string>();
  const missing: string[] = [];
  const folder = new URL("../../lib/ops/", import.meta.url);
  for await (const { name: file } of Deno.readDir(folder)) {
    for (const [name, value] of Object.entries(await import(new URL(file, folder).href))) {
      if (typeof value !== "function" || covered.has(name)) continue;
      const excuse = [file, `${file} ${name}`].find((key) => key in EXEMPT);
      if (excuse) excused.add(excuse);
      else missing.push(`${file} ${name}`);
    }
  }
  assertEquals(missing, [], "without a row in tests/ops/table.ts");
  assertEquals([...excused].sort(), Object.keys(EXEMPT).sort(), "excuses that nothing needs");
});

Deno.test("each op agrees with float64, and its gradients with differences of it", async (t) => {
  const worst = { value: 0, gradient: 0 };
  for (const graph of GRAPHS) {
    const { name, row, wrt, shift, weight } = graph;
    await t.step(name, async () => {
      const [y, ...grads] = await alone(graph, 1);
      const x = exact(graph, 1);
      const expected = row.reference(...x);
      assertEquals(graph.outputs[0]!.shape, expected.shape);
      const off = difference(y!, expected.data);
      const bound = row.tolerance ?? TOLERANCE;
      assert(off < bound, `the value is off by ${off}, more than ${bound}`);
      if (!row.tolerance) worst.value = Math.max(worst.value, off);

      const loss = (x: Nd[]) => {
        const terms = map((y, s, w) => (y + s) ** 2 * w, row.reference(...x), shift, weight);
        return sumOf(terms, axesOf(terms)).data[0]!;
      };
      wrt.forEach((at, k) => {
        const g = grads[k]!;
        assertEquals(g.length, x[at]!.data.length);
        for (const seed of [21, 22]) {
          const v = new Random(seed).uniform(new Float32Array(g.length), -1, 1);
          const moved = (h: number) =>
            x.map((x, i) => i === at ? nd(x.shape, x.data.map((e, j) => e + h * v[j]!)) : x);
          const slope = (loss(moved(H)) - loss(moved(-H))) / (2 * H);
          const found = v.reduce((total, e, j) => total + e * g[j]!, 0);
          // What a random projection of these numbers comes to.
          const scale = Math.hypot(...g) * Math.hypot(...v) / Math.sqrt(g.length);
          const off = Math.abs(found - slope) / Math.max(scale, 1e-30);
          const bound = row.tolerance ?? GRADIENT_TOLERANCE;
          assert(off < bound, `the gradient of input ${at} is off by ${off}: ${found}, ${slope}`);
          if (!row.tolerance) worst.gradient = Math.max(worst.gradient, off);
        }
      });
    });
  }
  console.log(
    `worst value ${worst.value.toExponential(1)}, gradient ${worst.gradient.toExponential(1)}`,
  );
});

Deno.test("one plan of all ops gives in each run, bit for bit, what each op gives alone", async (t) => {
  using plan = await Plan.compile({ outputs: GRAPHS.flatMap(({ outputs }) => outputs) });
  const same = (a: TensorData, b: TensorData) => {
    const x = new Uint32Array(a.buffer), y = new Uint32Array(b.buffer);
    return x.length === y.length && x.every((word, i) => word === y[i]);
  };
  for (const [run, seed] of [1, 2, 1].entries()) {
    plan.run(Object.assign({}, ...GRAPHS.map(({ feeds }) => feeds(seed))));
    const found = await plan.read();
    await t.step(`run ${run + 1}`, async () => {
      const wrong: string[] = [];
      for (const graph of GRAPHS) {
        const eager = await alone(graph, seed);
        const mine = found.splice(0, eager.length);
        eager.forEach((values, i) => {
          if (!same(values, mine[i]!)) {
            wrong.push(`${graph.name}, output ${i}: ${difference(mine[i]!, values)}`);
          }
        });
      }
      assertEquals(wrong, []);
    });
  }
});

Deno.test("each op reads inputs that are strided views at an odd offset", async () => {
  const feeds: Record<string, TensorData> = {};
  const outputs = GRAPHS.map(({ row, values }, number) => {
    const data = values(1);
    const x = row.inputs.map(({ shape, dtype }, i) => {
      const name = `${number}.${i}`;
      if (dtype !== "f32") {
        feeds[name] = data[i]!;
        return input(name, shape, dtype);
      }
      // Every second number, from the second on.
      feeds[name] = Float32Array.from(
        { length: 2 * data[i]!.length },
        (_, k) => k % 2 ? data[i]![k >> 1]! : 7,
      );
      const wide = input(name, [...shape, 2]);
      return select(permute(wide, [shape.length, ...shape.map((_, axis) => axis)]), 1);
    });
    return row.compute(...x);
  });
  const found = await evaluate(outputs, feeds);
  GRAPHS.forEach((graph, i) => {
    const off = difference(found[i]!, graph.row.reference(...exact(graph, 1)).data);
    assert(off < (graph.row.tolerance ?? TOLERANCE), `${graph.name} is off by ${off}`);
  });
});

Deno.test("a value that is made whole has no gradient", async () => {
  const x = tensor([0.3, 2.7]), whole = sum(mul(cast(cast(x, "u32"), "f32"), x));
  assertEquals(await evaluate(grad(whole, [x])[0]!), new Float32Array([0, 2]));
});

Deno.test("a max pool's second gradient is what lies where its results came from", async () => {
  const x = tensor([[[[1, 5, 2], [4, 3, 9], [7, 7, 0]]]]), w = tensor([[[[2, 3], [5, 7]]]]);
  const pooled = maxPool2d(x, { kernelSize: 2, stride: 1 });
  const [dx] = grad(sum(mul(mul(pooled, pooled), w)), [x]);
  const direction = tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]);
  const [ddx] = grad(sum(mul(dx!, direction)), [x]);
  // Windows have 5, 9, 7, 9; the gradient 2 w v goes to those pixels, and 2 w u to them again.
  const wanted = [[0, 2 * 2 * 2, 0], [0, 0, 2 * 10 * 6], [2 * 5 * 7, 0, 0]];
  assertEquals(await evaluate(ddx!), new Float32Array(wanted.flat()));
});

Deno.test("a max pool of more taps than f32 counts has no gradient, rather than two for one", () => {
  const x = input("x", [1, 1, 4097, 4096]);
  const [most, more] = [4096, [4097, 4096] as const].map((kernelSize) =>
    sum(maxPool2d(x, { kernelSize }))
  ) as [Tensor, Tensor];
  assertEquals(grad(most, [x])[0]!.shape, x.shape);
  assertThrows(() => grad(more, [x]), ShapeError, "window of 4097 × 4096");
});

Deno.test("second gradients of logistic losses are finite far from zero", async () => {
  const x = tensor([-200, 0, 200]), targets = tensor([1, 1, 0]);
  const second = [softplus(x), binaryCrossEntropyWithLogits(x, targets, { reduction: "none" })]
    .map((y) => grad(sum(grad(sum(y), [x])[0]!), [x])[0]!);
  // σ(x) (1 - σ(x)) of both.
  for (const found of await evaluate(second)) assertEquals(found, new Float32Array([0, 0.25, 0]));
});

Deno.test("the gradients of a power of zero are PyTorch's", async () => {
  const a = tensor([0, 0, 0, 0, 2]), b = tensor([0, 1, 2, -1, 0]);
  const [da, db] = await evaluate(grad(sum(pow(a, b)), [a, b]));
  assertEquals(da, new Float32Array([0, 1, 0, -Infinity, 0]));
  assertEquals([...db!.slice(0, 4)], [0, 0, 0, -Infinity]);
  assert(Math.abs(db![4]! - Math.LN2) < 1e-6);
  const x = tensor([0, 3]), [dx] = grad(sum(pow(x, 0)), [x]);
  assertEquals(await evaluate(dx!), new Float32Array([0, 0]));
});

Deno.test("1 to any power is 1, and any number to the power of 0", async () => {
  const ones = pow(1, tensor([Infinity, -Infinity, NaN, 3]));
  const zeroth = pow(tensor([Infinity, -Infinity, NaN, 0]), tensor([0, 0, 0, 0]));
  for (const y of await evaluate([ones, zeroth])) assertEquals(y, new Float32Array([1, 1, 1, 1]));
});

Deno.test("the Huber loss has PyTorch's gradient however far x is", async () => {
  const x = tensor([Infinity, -3e38, 0.5]);
  const loss = huberLoss(x, tensor([0, 0, 0]), { reduction: "sum" });
  const [dx] = grad(loss, [x]);
  assertEquals(await evaluate(dx!), new Float32Array([1, -1, 0.5]));
});

Deno.test("a sum of terms that are made small first does not overflow", async () => {
  const x = tensor([3e38, 3e38]), scale = tensor(1);
  const [slope] = grad(reduceMean(mul(x, scale)), [scale]);
  const found = await evaluate([sum(mul(x, 0.1)), sum(mul(0.5, x)), slope!]);
  const expected = [6e37, 3e38, 3e38];
  found.forEach(([value], i) => assert(Math.abs(value! / expected[i]! - 1) < 1e-6, `${value}`));
});

Deno.test("the gradients of what is larger and smaller are PyTorch's beside NaN", async () => {
  const x = tensor([1, NaN, 3, NaN]), rows = tensor([[1, NaN], [3, 3]]);
  const a = tensor([1, NaN, 3, NaN, 2]), b = tensor([2, 1, NaN, NaN, 2]);
  const pixels = tensor([[[[NaN, NaN, 3]]]]);
  const of = (y: Tensor, ...inputs: Tensor[]) => grad(sum(y), inputs);
  const found = await evaluate([
    ...of(max(x), x),
    ...of(min(x), x),
    ...of(max(rows, [1]), rows),
    ...of(maximum(a, b), a, b),
    ...of(minimum(a, b), a, b),
    ...of(maxPool2d(pixels, { kernelSize: [1, 3] }), pixels),
  ]);
  assertEquals(found.map((values) => [...values]), [
    [NaN, NaN, NaN, NaN],
    [NaN, NaN, NaN, NaN],
    [NaN, NaN, 0.5, 0.5],
    [0, 1, 1, 1, 0.5],
    [1, 1, 1, 1, 0.5],
    [1, 1, 1, 1, 0.5],
    [0, 1, 1, 1, 0.5],
    [0, 1, 0],
  ]);
});

Deno.test("an embedding has its gradient also where no binding holds its one-hot rows", async () => {
  using small = await Device.request();
  Object.defineProperty(small, "target", { value: { ...small.target, maxBindingBytes: 8192 } });
  for (const each of [6, 8]) {
    const random = new Random(each);
    const some = (...shape: number[]) =>
      tensor(random.uniform(new Float32Array(size(shape)), -1, 1), shape);
    const indices = Uint32Array.from({ length: 100 }, () => random.below(64));
    const table = some(64, each), taken = embedding(table, tensor(indices, [20, 5]));
    const [gradient] = grad(sum(mul(taken, some(20, 5, each))), [table]);
    const found = await evaluate(gradient!, {}, small);
    const off = difference(found, await evaluate(gradient!));
    assert(off < TOLERANCE, `rows of ${each} are off by ${off}`);
  }
});

Deno.test("thousands of tensors are joined by as few kernels as can bind them", async () => {
  const { target } = await defaultDevice(), most = target.maxStorageBuffers - 1;
  for (const count of [most + 1, 1000, 5000]) {
    const xs = Array.from({ length: count }, (_, i) => tensor([i, -i]));
    using plan = await Plan.compile({ outputs: [concat(xs), stack(xs, 1)] });
    // Each kernel makes one of so many; one may be left over at each level of the two.
    const least = 2 * Math.ceil((count - 1) / (most - 1));
    assert(plan.steps.length <= least + 8, `${plan.steps.length} kernels for ${count}`);
    plan.run();
    const [flat, across] = await plan.read();
    assert(flat!.every((v, i) => v === (i % 2 ? -(i >> 1) : i >> 1)));
    assert(across!.every((v, i) => v === (i < count ? i : count - i)));
  }
});

Deno.test("second gradients of a product are right where elements are 0", async () => {
  const x = tensor([[0, 0, 1], [2, 0, 2], [3, 3, 3]]);
  const [dx] = grad(sum(prod(x, [0])), [x]);
  const [ddx] = grad(sum(dx!), [x]);
  // Of the columns' sums of a b, a c and b c.
  assertEquals(await evaluate(ddx!), new Float32Array([5, 3, 5, 3, 3, 4, 2, 0, 3]));
});

Deno.test("a sum may be over any axes, whatever the sizes of the others", async () => {
  const shapes = [[2, 3, 1, 4], [1, 3, 2, 1], [3, 1, 1, 2]];
  const cases = shapes.flatMap((shape) => {
    const data = new Random(4).uniform(new Float32Array(size(shape)), -1, 1);
    return Array.from({ length: 2 ** shape.length }, (_, bits) => {
      const axes = shape.map((_, axis) => axis).filter((axis) => bits >> axis & 1);
      return { shape, axes, x: tensor(data, shape), expected: sumOf(nd(shape, data), axes) };
    });
  });
  const found = await evaluate(cases.map(({ x, axes }) => sum(x, axes)));
  cases.forEach(({ shape, axes, expected }, i) => {
    const off = difference(found[i]!, expected.data);
    assert(off < TOLERANCE, `the sum of [${shape}] over [${axes}] is off by ${off}`);
  });
});

Deno.test("sums over 10⁷ values are off by less than 1e-6, in every reduction", async () => {
  const n = 10_000_000, worst: Record<string, number> = {};
  const fills: [string, () => Float32Array<ArrayBuffer>][] = [
    // Of equal values the rounding errors all point the same way.
    ["0.1", () => new Float32Array(n).fill(0.1)],
    ["0.7", () => new Float32Array(n).fill(0.7)],
    ["uniform", () => new Random(3).uniform(new Float32Array(n), 0, 1)],
  ];
  for (const [name, fill] of fills) {
    const values = fill();
    let total = 0, squares = 0;
    for (const v of values) total += v, squares += v * v;
    const mean = total / n;
    let deviations = 0;
    for (const v of values) deviations += (v - mean) ** 2;
    const x = new Variable([n], values), wide = reshape(x, [n / 4, 4]);
    const one = new Variable([1], [0]);
    const exact: [string, Tensor, number][] = [
      ["sum", sum(x), total],
      ["sum of a product", sum(square(x)), squares],
      ["sum of columns", sum(sum(wide, [0])), total],
      ["mean", reduceMean(x), mean],
      ["matmul of vectors", matmul(x, x), squares],
      ["gradient of a broadcast", grad(sum(mul(x, one)), [one])[0]!, total],
      ["mean of moments", select(channelMoments(reshape(x, [n, 1])), 0), mean],
      ["softmax", sum(softmax(reshape(x, [1, n]))), 1],
    ];
    if (name === "uniform") {
      const moments = channelMoments(reshape(x, [n, 1]));
      exact.push(["variance of moments", select(moments, 1), deviations / n]);
    }
    const found = await evaluate(exact.map(([, y]) => y));
    exact.forEach(([what, , expected], i) => {
      const off = Math.abs(found[i]![0]! / expected - 1);
      worst[what] = Math.max(worst[what] ?? 0, off);
      assert(off <= 1e-6, `${what} of ${name} is off by ${off}`);
    });
    freeVariables([x, one]);
  }
  for (const [what, off] of Object.entries(worst)) console.log(`${what}: ${off.toExponential(1)}`);
});
