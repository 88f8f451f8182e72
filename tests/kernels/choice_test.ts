/**
 * Every kernel of matrix products and convolutions, forward and backward, against float64: so that
 * all of them, the naive kernels included, compute the same. A kernel is run once, however many
 * candidates choose it.
 */

import { assert, assertEquals } from "@std/assert";
import {
  conv2d,
  Device,
  evaluate,
  grad,
  input,
  matmul,
  Random,
  sum,
  type Tensor,
  tensor,
} from "@resnette/resnette";
import { winogradMatrices } from "../../lib/ops/winograd.ts";
import { stepsOf } from "../../lib/plan/steps.ts";
import { type KernelChoice, wgsl } from "../../lib/kernels/kernel.ts";
import { CHOICES, problemKey } from "../../lib/kernels/choice.ts";
import { difference, type Nd, nd } from "../ops/nd.ts";
import {
  conv2d as convolve,
  conv2dGrads,
  matmul as multiply,
  transpose,
} from "../ops/reference.ts";

/**
 * Largest difference from float64, relative to the largest value. The sums have up to 2,304 terms.
 * Winograd's transforms add and subtract numbers several times larger than what remains of them.
 */
const TOLERANCE: Partial<Record<KernelChoice, number>> = { auto: 3e-5, winograd: 3e-5 };
const DIRECT_TOLERANCE = 3e-6;

/** A result and what it should be. */
interface Result {
  readonly name: string;
  readonly tensor: Tensor;
  readonly expected: Nd;
  /** The one kind that is of interest; absent for all. */
  readonly only?: KernelChoice;
}

const random = new Random(5);
const some = (shape: readonly number[]): Nd => {
  const size = shape.reduce((a, b) => a * b, 1);
  return nd(shape, random.uniform(new Float32Array(size), -1, 1));
};
const constant = (x: Nd) => tensor(new Float32Array(x.data), x.shape);

type Two = [number, number];
/**
 * x `[N, C, H, W]`, w `[O, C / groups, R, S]`, stride, padding, dilation, groups: few, as compiling takes
 * nearly all the time.
 */
const CONVOLUTIONS: [number[], number[], Two, Two, Two?, number?][] = [
  [[1, 1, 9, 8], [8, 1, 7, 7], [2, 2], [3, 3]],
  [[5, 3, 7, 5], [4, 3, 3, 3], [1, 1], [0, 1]],
  [[1, 4, 6, 5], [20, 4, 1, 1], [1, 1], [0, 0]],
  [[5, 8, 6, 7], [20, 8, 3, 3], [2, 1], [1, 1]],
  [[1, 64, 5, 5], [64, 64, 3, 3], [1, 1], [1, 1]],
  [[1, 20, 7, 8], [8, 20, 5, 2], [1, 3], [2, 0]],
  // Result columns that no tile fits.
  [[1, 8, 4, 5], [6, 8, 3, 3], [1, 1], [3, 3]],
  // Large tiles, with and without windows written out.
  [[3, 8, 5, 6], [64, 8, 1, 1], [1, 1], [0, 0]],
  [[2, 8, 13, 14], [68, 8, 3, 3], [2, 2], [1, 1]],
  // Pixels that no window meets.
  [[1, 4, 6, 5], [4, 4, 2, 1], [3, 1], [0, 0]],
  // A stride with more phases than tiles are made for.
  [[1, 4, 70, 67], [4, 4, 3, 2], [35, 33], [1, 0]],
  // Enough pixels that the weight gradient is taken in parts.
  [[3, 4, 14, 22], [36, 4, 3, 2], [1, 1], [1, 1]],
  // Taps apart: alike and not alike on both axes, with strides that share a factor or none; padded.
  [[2, 8, 9, 8], [20, 8, 3, 3], [1, 1], [2, 2], [2, 2]],
  [[1, 8, 11, 10], [12, 8, 3, 2], [2, 3], [2, 1], [4, 2]],
  [[1, 3, 9, 9], [4, 3, 3, 3], [3, 2], [3, 0], [2, 3]],
  [[1, 64, 9, 9], [64, 64, 3, 3], [1, 1], [3, 3], [3, 3]],
  // Groups: with strides, with windows that some pixels miss, padded, in parts, with odd channels.
  [[2, 16, 7, 6], [40, 8, 3, 3], [2, 1], [1, 1], [1, 1], 2],
  [[2, 24, 8, 9], [48, 8, 2, 1], [3, 2], [1, 0], [1, 1], 3],
  [[1, 6, 6, 5], [8, 3, 3, 3], [1, 1], [1, 1], [2, 1], 2],
  [[3, 8, 14, 22], [16, 4, 3, 2], [1, 1], [1, 1], [1, 1], 2],
  [[1, 6, 5, 6], [9, 2, 3, 3], [1, 2], [1, 1], [1, 2], 3],
  // The same with odd channels, forward too.
  [[3, 3, 14, 22], [8, 3, 3, 2], [1, 1], [1, 1]],
  [[1, 61, 4, 5], [8, 61, 3, 3], [1, 2], [1, 0]],
  // So long sums that the forward pass is taken in parts too, of channels.
  [[1, 120, 5, 4], [24, 60, 3, 3], [2, 1], [1, 0], [1, 1], 2],
  // Each channel by itself: by fours and not, in parts, twice, and with more taps than are written out.
  [[2, 8, 9, 10], [8, 1, 3, 3], [1, 1], [1, 1], [1, 1], 8],
  [[2, 12, 9, 11], [12, 1, 5, 3], [2, 2], [2, 1], [1, 2], 12],
  [[1, 5, 8, 9], [5, 1, 3, 4], [3, 3], [2, 5], [2, 2], 5],
  [[4, 4, 23, 21], [4, 1, 3, 3], [1, 1], [1, 1], [1, 1], 4],
  [[1, 6, 6, 7], [12, 1, 3, 3], [2, 1], [0, 1], [1, 1], 6],
  [[1, 4, 5, 13], [4, 1, 2, 11], [1, 1], [0, 5], [1, 1], 4],
  [[1, 8, 6, 17], [8, 1, 3, 2], [1, 6], [1, 1], [1, 3], 8],
  // Windows that are written out, four channels at a time.
  [[2, 8, 8, 10], [4, 8, 3, 3], [2, 2], [1, 1]],
  [[2, 4, 9, 12], [8, 4, 2, 3], [2, 2], [1, 0], [2, 1]],
];
/** The same for tiles of 2 and 4 of Winograd's; the 64 channels above have tiles of 3. */
const WINOGRAD: typeof CONVOLUTIONS = [
  [[1, 4, 4, 2], [4, 4, 3, 3], [1, 1], [0, 1]],
  [[1, 4, 3, 2], [8, 4, 3, 3], [1, 1], [3, 2]],
];

/** a, b, whether a and b are transposed. */
const PRODUCTS: [number[], number[], boolean, boolean][] = [
  [[1, 12], [12, 8], false, false],
  [[7, 9], [9, 4], false, false],
  [[17, 20], [20, 36], false, false],
  [[3, 5, 8], [3, 8, 12], false, false],
  [[6, 64], [10, 64], false, true],
  [[2, 520, 8], [2, 520, 20], true, false],
  [[2, 5, 1044], [2, 1044, 12], false, false],
  // Large tiles, partly past the end.
  [[70, 12], [12, 68], false, false],
  [[2, 9, 72], [2, 9, 100], true, false],
  [[52, 12], [12, 64], false, false],
  [[9, 52], [9, 64], true, false],
  [[2, 70, 10], [2, 68, 10], false, true],
  [[2, 3, 1044], [2, 72, 1044], false, true],
];

function convolutions(): Result[] {
  return [...CONVOLUTIONS, ...WINOGRAD].flatMap((shapes) => {
    const [xShape, wShape, stride, padding, dilation = [1, 1], groups = 1] = shapes;
    const window = { stride, padding, dilation, groups };
    const only = WINOGRAD.includes(shapes) && { only: "winograd" as const };
    const x = some(xShape), w = some(wShape), b = some([wShape[0]!]);
    const leaves = [x, w, b].map(constant) as [Tensor, Tensor, Tensor];
    const y = conv2d(...leaves, window);
    const g = some(y.shape);
    const expected = [
      convolve(x, w, b, window),
      ...conv2dGrads(x, w, g, window),
    ];
    return [y, ...grad(y, leaves, constant(g))].map((tensor, i) => ({
      name: `${
        ["conv2d", "dx", "dw", "db"][i]
      } of [${xShape}] * [${wShape}], stride ${stride}, padding ${padding}, dilation ${dilation}, groups ${groups}`,
      tensor,
      expected: expected[i]!,
      ...only,
    }));
  });
}

function products(): Result[] {
  return PRODUCTS.flatMap(([aShape, bShape, transposeA, transposeB]) => {
    const a = some(aShape), b = some(bShape);
    const leaves = [a, b].map(constant) as [Tensor, Tensor];
    const y = matmul(...leaves, { transposeA, transposeB });
    const g = some(y.shape);
    const [p, q] = [transposeA ? transpose(a) : a, transposeB ? transpose(b) : b];
    const da = multiply(g, transpose(q)), db = multiply(transpose(p), g);
    const expected = [
      multiply(p, q),
      transposeA ? transpose(da) : da,
      transposeB ? transpose(db) : db,
    ];
    return [y, ...grad(y, leaves, constant(g))].map((tensor, i) => ({
      name: `${["matmul", "da", "db"][i]} of [${aShape}]${transposeA ? "ᵀ" : ""} @ [${bShape}]${
        transposeB ? "ᵀ" : ""
      }`,
      tensor,
      expected: expected[i]!,
    }));
  });
}

/** Everything that the kernels of `x` depend on. */
function fingerprint(x: Tensor, device: Device): string {
  const { steps } = stepsOf([x], [], device.target);
  return JSON.stringify(steps.map(({ name, spec }) => [name, spec]));
}

for (const [what, make] of Object.entries({ convolutions, products })) {
  Deno.test(`all kernels of ${what} agree with float64, forward and backward`, async (t) => {
    const results = make();
    const seen = results.map(() => new Set<string>());
    for (const name of ["naive", ...CHOICES.filter((s) => s !== "naive")] as KernelChoice[]) {
      await t.step(name, async () => {
        using device = await Device.request({ choice: name });
        const fresh = results.filter(({ tensor, only = name }, i) => {
          if (only !== name) return false;
          const kernels = fingerprint(tensor, device);
          return !seen[i]!.has(kernels) && seen[i]!.add(kernels);
        });
        const found = await evaluate(fresh.map((x) => x.tensor), {}, device);
        const bound = TOLERANCE[name] ?? DIRECT_TOLERANCE;
        let worst = 0;
        fresh.forEach(({ name, expected }, i) => {
          const off = difference(found[i]!, expected.data);
          assert(off < bound, `${name} is off by ${off}`);
          worst = Math.max(worst, off);
        });
        console.log(`${name}: ${fresh.length} results, worst ${worst.toExponential(1)}`);
      });
    }
  });
}

Deno.test("an input gradient takes few kernels, and one pipeline, whatever the stride", async () => {
  using device = await Device.request();
  const { target } = device;
  // Patches of a vision transformer; windows that overlap, as in a network that segments; one window.
  for (const [k, stride, most] of [[16, 16, 16], [64, 32, 64], [224, 224, 1]] as const) {
    const x = input("x", [2, 8, 224, 224]), w = input("w", [8, 8, k, k]);
    const [dx] = grad(sum(conv2d(x, w, undefined, { stride })), [x]);
    const own = stepsOf([dx!], [], target).steps.filter(({ node }) =>
      node.op.name === "conv2dInputGrad"
    );
    assert(own.length <= most, `${own.length} kernels for a stride of ${stride}`);
    assertEquals(new Set(own.map(({ spec }) => wgsl(spec, target))).size, 1);
  }
});

Deno.test("Winograd's tiles of every size compute convolutions and their gradients", async () => {
  const shapes: [number[], number[], Two][] = [
    // One tile, partly outside; several that are whole; those of other paddings, which are not.
    [[2, 4, 3, 2], [4, 4, 3, 3], [1, 1]],
    [[1, 4, 12, 12], [8, 4, 3, 3], [1, 1]],
    [[2, 8, 8, 17], [4, 8, 3, 3], [2, 0]],
  ];
  for (const [xShape, wShape, padding] of shapes) {
    const x = some(xShape), w = some(wShape);
    const leaves = [x, w].map(constant) as [Tensor, Tensor];
    const window = { stride: [1, 1] as Two, padding };
    const y = conv2d(...leaves, undefined, window);
    const g = some(y.shape);
    const expected = [
      convolve(x, w, undefined, window),
      ...conv2dGrads(x, w, g, window).slice(0, 2),
    ];
    const results = [y, ...grad(y, leaves, constant(g))];
    const [n, c, ...pixels] = xShape as [number, number, number, number], [o] = wShape;
    const problem = { n, c, o: o!, pixels, kernel: [3, 3], stride: [1, 1], padding } as const;
    for (const m of [2, 3, 4, 6]) {
      const kinds = ["forward", "inputGrad", "weightGrad"] as const;
      const keys = kinds.map((kind) => problemKey({ ...problem, kind, dilation: [1, 1] }));
      const tuned = new Map(keys.map((key) => [key, `winograd ${m}`]));
      using device = await Device.request({ tuned });
      const { steps } = stepsOf(results, [], device.target);
      for (const name of ["winogradOutput", "winogradInputGrad", "winogradKernelGrad"]) {
        assertEquals(steps.filter((step) => step.name === name).length, 1, name);
      }
      const found = await evaluate(results, {}, device);
      expected.forEach(({ data }, i) => {
        const off = difference(found[i]!, data);
        assert(off < 3e-5, `${["y", "dx", "dw"][i]} of [${xShape}] by F(${m}) is off by ${off}`);
      });
    }
  }
});

Deno.test("NaN spoils a window's results, and by Winograd's tiles those of its tiles and image", async () => {
  const size = 24, at = 11, x = some([2, 4, size, size]), w = constant(some([4, 4, 3, 3]));
  const pixels = new Float32Array(x.data).with(at * size + at, NaN);
  const y = conv2d(tensor(pixels, x.shape), w, undefined, { padding: 1 });
  for (const choice of ["subgroup", "winograd"] as const) {
    using device = await Device.request({ choice });
    const found = await evaluate(y, {}, device);
    const spoilt = [...found.keys()].filter((i) => Number.isNaN(found[i]));
    const far = (place: number) => Math.abs(place - at);
    const reach = spoilt.map((i) =>
      Math.max(far(Math.floor(i / size) % size), far(i % size), i < 4 * size ** 2 ? 0 : Infinity)
    );
    assertEquals(reach.filter((pixels) => pixels <= 1).length, 4 * 9);
    if (choice === "subgroup") assertEquals(reach.length, 4 * 9);
    else assert(reach.length > 4 * 9 && Math.max(...reach) <= 6, `${Math.max(...reach)} pixels`);
  }
});

Deno.test("Winograd's transforms compute convolutions, for every size of tile", () => {
  for (const m of [2, 3, 4, 6]) {
    const { bt, g, at } = winogradMatrices(m);
    const times = (matrix: readonly (readonly number[])[], vector: readonly number[]) =>
      matrix.map((row) => row.reduce((total, value, i) => total + value * vector[i]!, 0));
    const x = [...some([m + 2]).data], w = [...some([3]).data];
    const transformed = times(g, w), tile = times(bt, x);
    const y = times(at, tile.map((value, i) => value * transformed[i]!));
    const expected = y.map((_, i) => w[0]! * x[i]! + w[1]! * x[i + 1]! + w[2]! * x[i + 2]!);
    assertEquals(y.length, m);
    const off = difference(y, expected);
    assert(off < 1e-12, `F(${m}, 3) is off by ${off}`);
  }
});
