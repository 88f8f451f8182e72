/**
 * Graphs as they are built: what ops refuse, naming themselves and the shapes; and what `grad` makes
 * of graphs, second derivatives included.
 */

import {
  assert,
  assertEquals,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import * as R from "@resnette/resnette";
import { packVariables } from "../../lib/graph/tensor.ts";
import { sumTo } from "../../lib/ops/reduce.ts";
import { pack } from "../../lib/ops/pack.ts";
import { displayOf } from "../display.ts";
import { map, type Nd, nd } from "../ops/nd.ts";
import { conv2d as convolve, conv2dGrads, type Window } from "../ops/reference.ts";

const t = (...shape: number[]) => R.input("t", shape);
const u32 = (...shape: number[]) => R.input("u", shape, "u32");

/** What each call must say. */
const REFUSED: [() => unknown, ...string[]][] = [
  [() => R.add(t(2, 3), t(4)), "add:", "[2, 3]", "[4]"],
  [() => R.where(t(2), t(3), 0), "where:", "[2]", "[3]"],
  [() => R.mul(t(2), u32(2)), "mul:", "u32"],
  [() => R.relu(u32(2)), "relu:", "u32"],
  [() => R.reshape(t(2, 3), [4]), "reshape:", "[2, 3]", "[4]"],
  [() => R.reshape(t(2, 3), [-1, 4]), "reshape:", "4]"],
  [() => R.reshape(t(2, 3), [-1, -1]), "reshape:", "[-1, -1]"],
  [() => R.flatten(t()), "flatten:", "scalar"],
  [() => R.permute(t(2, 3), [0, 0]), "permute:", "[0, 0]", "[2, 3]"],
  [() => R.permute(t(2, 3), [0]), "permute:", "[0]"],
  [() => R.broadcastTo(t(2, 3), [2, 4]), "broadcastTo:", "[2, 3]", "[2, 4]"],
  [() => R.broadcastTo(t(2, 3), [3]), "broadcastTo:", "[2, 3]", "[3]"],
  [() => R.select(t(2, 3), 2), "select:", "2", "[2, 3]"],
  [() => R.select(t(), 0), "select:", "[]"],
  [() => R.sum(t(2, 3), [2]), "sum:", "[2]", "rank 2"],
  [() => R.sum(t(2, 3), [0, -2]), "sum:", "rank 2"],
  [() => R.sum(u32(2)), "sum:", "u32"],
  [() => R.matmul(t(2, 3), t(2, 3)), "matmul:", "[2, 3]"],
  [() => R.matmul(t(2, 3), t(3, 2), { transposeA: true }), "matmul:", "[2, 3]ᵀ", "[3, 2]"],
  [() => R.matmul(t(3), t(2, 3)), "matmul:", "[3]", "[2, 3]"],
  [() => R.matmul(t(3), t(3, 2), { transposeA: true }), "matmul:", "[3]ᵀ", "[3, 2]"],
  [() => R.matmul(t(), t(3)), "matmul:", "[]", "[3]"],
  [() => R.matmul(t(2, 2, 3), t(3, 3, 2)), "matmul:", "[2, 2, 3]", "[3, 3, 2]"],
  [() => R.matmul(u32(2, 2), t(2, 2)), "matmul:", "u32"],
  [() => R.linear(t(2, 3), t(4, 2)), "linear:", "[2, 3]", "[4, 2]"],
  [() => R.linear(t(2, 3), t(4, 3), t(3)), "linear: bias [3]", "[4, 3]"],
  [() => R.conv2d(t(1, 3, 6, 6), t(8, 1, 3, 3)), "conv2d:", "3 channels, weight expects 1"],
  [() => R.conv2d(t(3, 6, 6), t(8, 3, 3, 3)), "conv2d:", "4 dimensions", "[3, 6, 6]"],
  [() => R.conv2d(t(1, 3, 6, 6), t(8, 3, 3, 3), t(4)), "conv2d:", "bias [4]", "8 output"],
  [() => R.conv2d(t(1, 3, 2, 2), t(8, 3, 3, 3)), "conv2d:", "window of 3", "2 + 2 × 0"],
  [() => R.conv2d(t(1, 1, 2, 2), t(1, 1, 1, 1), undefined, { stride: 0 }), "conv2d:", "stride"],
  [() => R.conv2d(t(1, 1, 2, 2), t(1, 1, 1, 1), undefined, { padding: 0.5 }), "padding", "0.5"],
  [
    () => R.conv2d(t(1, 6, 5, 5), t(4, 2, 3, 3), undefined, { groups: 2 }),
    ...["conv2d:", "6 channels, weight expects 2 in each of 2 groups"],
  ],
  [
    () => R.conv2d(t(1, 6, 5, 5), t(4, 2, 3, 3), undefined, { groups: 3 }),
    ...["conv2d:", "3 groups do not divide 4 output channels"],
  ],
  [
    () => R.conv2d(t(1, 1, 5, 5), t(1, 1, 3, 3), undefined, { dilation: 3 }),
    "conv2d:",
    "window of 7",
  ],
  [
    () => R.conv2d(t(1, 1, 5, 5), t(1, 1, 3, 3), undefined, { padding: "same", stride: 2 }),
    ...["conv2d:", '"same"', "stride of 1"],
  ],
  [() => R.convTranspose2d(t(1, 3, 5, 5), t(4, 2, 3, 3)), "convTranspose2d:", "3 channels", "4"],
  [
    () => R.convTranspose2d(t(1, 4, 5, 5), t(4, 2, 3, 3), undefined, { groups: 3 }),
    ...["convTranspose2d:", "3 groups do not divide 4 input channels"],
  ],
  [() => R.convTranspose2d(t(1, 4, 5, 5), t(4, 2, 3, 3), t(4)), "bias [4]", "2 output channels"],
  [
    () => R.convTranspose2d(t(1, 1, 5, 5), t(1, 1, 3, 3), undefined, { outputPadding: 1 }),
    ...["convTranspose2d: outputPadding 1,1", "stride 1,1"],
  ],
  [
    () => R.convTranspose2d(t(1, 1, 1, 1), t(1, 1, 3, 3), undefined, { padding: 2 }),
    ...["convTranspose2d:", "padding 2,2", "nothing"],
  ],
  [() => R.adaptiveAvgPool2d(t(1, 1, 4, 4), [2, 0]), "adaptiveAvgPool2d: outputSize", "0"],
  [() => R.upsample(t(1, 1, 4, 4), {}), "upsample:", "either size or scaleFactor"],
  [() => R.upsample(t(1, 1, 4, 4), { scaleFactor: 0.1 }), "upsample:", "[1, 1, 4, 4]", "0.1"],
  [() => R.upsample(t(1, 1, 4, 4), { size: 2, alignCorners: true }), "upsample:", "alignCorners"],
  [() => R.maxPool2d(t(2, 2), { kernelSize: 2 }), "maxPool2d:", "[2, 2]"],
  [() => R.maxPool2d(t(1, 1, 4, 4), { kernelSize: 2, padding: 2 }), "maxPool2d:", "padding"],
  [() => R.avgPool2d(t(1, 1, 2, 2), { kernelSize: 3 }), "avgPool2d:", "window of 3"],
  [() => R.globalAvgPool2d(t(2, 3)), "globalAvgPool2d:", "[2, 3]"],
  [() => R.batchNorm(t(2, 3, 4), t(4), t(3)), "batchNorm:", "gamma [4]", "3 channels"],
  [() => R.channelMoments(t(3)), "channelMoments:", "[3]"],
  [() => R.crossEntropy(t(2, 3), u32(3)), "crossEntropy:", "[2, 3]", "[3]"],
  [() => R.crossEntropy(t(2, 3), t(2)), "u32"],
  [() => R.correctCount(t(6), u32(6)), "correctCount:", "[6]"],
  [() => R.logSoftmax(t()), "logSoftmax:", "scalar"],
  [() => R.argmax(t()), "argmax:", "scalar"],
  [() => R.oneHot(t(2), 3), "oneHot:", "u32"],
  [() => R.gather(t(2), u32(1)), "gather:", "u8"],
  [() => R.resizeBilinear(t(2, 2), 4), "resizeBilinear:", "[2, 2]"],
  [() => R.resizeBilinear(t(1, 1, 2, 2), 0), "resizeBilinear:", "size"],
  [() => R.tensor([1, 2, 3], [2]), "3 values", "[2]"],
  [() => R.tensor([], [0]), "[0]"],
  [() => R.input("x", [2, -1]), "input:", "[2, -1]"],
  [() => new R.Variable([2], new Float32Array(3)), "variable:", "3 values", "[2]"],
  [() => R.grad(t(2), []), "grad:", "[2]"],
  [() => pack([t(3)], packVariables([new R.Variable([2])])[0]!), "pack:", "[3]", "[2]"],
];

Deno.test("a call that does not fit is refused with the op's name and the shapes", () => {
  for (const [call, ...parts] of REFUSED) {
    const error = assertThrows(call, Error, undefined, `${call}`);
    assert(error instanceof R.ShapeError || error instanceof R.ArgumentError, `${call}: ${error}`);
    for (const part of parts) assert(error.message.includes(part), `${call}: ${error.message}`);
  }
});

Deno.test("an op without a gradient says so, where one is wanted through it", () => {
  const x = t(3);
  assertThrows(
    () => R.grad(R.sum(R.isFinite(x)), [x]),
    R.ArgumentError,
    "isFinite has no gradient",
  );
  assertEquals(R.grad(R.sum(R.mul(R.isFinite(x), t(3))), [t(3)]).length, 1);
});

Deno.test("gradients have the shapes of what they are for, zeros where nothing depends on it", async () => {
  const x = R.tensor([1, 2, 3]), y = R.tensor([[4, 5, 6], [7, 8, 9]].flat(), [2, 3]);
  const loss = R.sum(R.mul(R.mul(x, y), x));
  const other = R.tensor([1, 1], [1, 2]);
  const grads = R.grad(loss, [x, other, y, x, loss]);
  assertEquals(grads.map(({ shape }) => shape), [[3], [1, 2], [2, 3], [3], []]);
  assertEquals((await R.evaluate(grads)).map((g) => [...g]), [
    [22, 52, 90],
    [0, 0],
    [1, 4, 9, 1, 4, 9],
    [22, 52, 90],
    [1],
  ]);
});

Deno.test("a seed weights the elements; an intermediate result has a gradient too", async () => {
  const x = R.tensor([1, 2, 3]), h = R.mul(x, x), y = R.mul(h, 2);
  const [dx, dh] = R.grad(y, [x, h], R.tensor([1, 10, 100]));
  assertEquals((await R.evaluate([dx!, dh!])).map((g) => [...g]), [[4, 80, 1200], [2, 20, 200]]);
});

Deno.test("second derivatives", async () => {
  const x = R.tensor([1, 2, -3]), w = R.tensor([1, 0, 2, -1, 3, 1], [2, 3]);
  // d/dx Σ (w x)³ = 3 wᵀ (w x)²; the second derivative along v is 6 wᵀ (w x · w v).
  const y = R.linear(R.reshape(x, [1, 3]), w);
  const [dx] = R.grad(R.sum(R.mul(y, R.square(y))), [x]);
  const v = R.tensor([1, -1, 2]);
  const [ddx] = R.grad(R.sum(R.mul(dx!, v)), [x]);
  assertEquals((await R.evaluate([dx!, ddx!])).map((g) => [...g]), [
    [63, 36, 162],
    [-126, -72, -324],
  ]);
});

Deno.test("second derivatives of convolutions", async (t) => {
  const windows: [string, Required<Omit<Window, "ceilMode">>, number[], number[]][] = [
    ["strided", { stride: [2, 1], padding: [1, 0], dilation: [1, 1], groups: 1 }, [2, 3, 5, 4], [
      ...[4, 3, 3, 2],
    ]],
    ["taps apart", { stride: [2, 1], padding: [1, 2], dilation: [1, 3], groups: 1 }, [1, 4, 6, 5], [
      ...[8, 4, 2, 3],
    ]],
    ["groups", { stride: [1, 2], padding: [1, 1], dilation: [2, 1], groups: 2 }, [1, 6, 5, 4], [
      ...[4, 3, 3, 2],
    ]],
    [
      "each channel",
      { stride: [1, 2], padding: [1, 1], dilation: [2, 1], groups: 4 },
      [2, 4, 5, 6],
      [
        ...[4, 1, 3, 3],
      ],
    ],
  ];
  for (const [name, window, xShape, wShape] of windows) {
    await t.step(name, () => secondDerivatives(window, xShape, wShape));
  }
});

/** Compares a convolution's second derivatives with differences of the first ones in float64. */
async function secondDerivatives(window: Window, xShape: number[], wShape: number[]) {
  const random = new R.Random(6);
  const [x, w, v] = [xShape, wShape, xShape].map((shape) => {
    const size = shape.reduce((a, b) => a * b);
    return nd(shape, random.uniform(new Float32Array(size), -1, 1));
  }) as [Nd, Nd, Nd];
  const [tx, tw, tv] = [x, w, v].map((a) => R.tensor(new Float32Array(a.data), a.shape)) as [
    R.Tensor,
    R.Tensor,
    R.Tensor,
  ];
  const y = R.conv2d(tx, tw, undefined, window as R.ConvOptions);
  const [dx, dw] = R.grad(R.sum(R.mul(y, R.square(y))), [tx, tw]);
  const slope = R.add(R.sum(R.mul(dx!, tv)), R.sum(R.mul(dw!, tw)));
  const found = await R.evaluate(R.grad(slope, [tx, tw]));
  const exact = (x: Nd, w: Nd) => {
    const g = map((value) => 3 * value ** 2, convolve(x, w, undefined, window));
    const [gx, gw] = conv2dGrads(x, w, g, window);
    return [map((a, b) => a * b, gx, v), map((a, b) => a * b, gw, w)]
      .reduce((total, { data }) => total + data.reduce((a, b) => a + b), 0);
  };
  const along = (a: Nd, d: Nd, h: number) => map((p, q) => p + h * q, a, d);
  const h = 1e-5;
  const direction = [x, w].map(({ shape, data }) =>
    nd(shape, random.uniform(new Float32Array(data.length), -1, 1))
  ) as [Nd, Nd];
  const slopes = [
    (exact(along(x, direction[0], h), w) - exact(along(x, direction[0], -h), w)) / (2 * h),
    (exact(x, along(w, direction[1], h)) - exact(x, along(w, direction[1], -h))) / (2 * h),
  ];
  slopes.forEach((expected, i) => {
    const d = direction[i]!.data, g = found[i]!;
    const projected = d.reduce((total, e, k) => total + e * g[k]!, 0);
    const off = Math.abs(projected - expected) / Math.abs(expected);
    assert(off < 1e-5, `${["x", "w"][i]}: ${projected}, not ${expected}`);
  });
}

Deno.test("ops that change nothing give back what they got", () => {
  const x = t(2, 3);
  assertStrictEquals(R.reshape(x, [2, 3]), x);
  assertStrictEquals(R.broadcastTo(x, [2, 3]), x);
  assertStrictEquals(sumTo(x, [2, 3]), x);
  assertStrictEquals(R.sum(x, []), x);
});

Deno.test("what is not chosen gives no gradient, though its own is infinite", async () => {
  const other = R.tensor([16, 16]); // Powers of two: a quotient may be off by 2.5 ULP in WGSL.
  const chosen = R.where(R.tensor([1, 0]), R.tensor([0, 4]), other);
  const [g] = await R.evaluate(R.grad(R.sum(R.sqrt(chosen)), [other]));
  assertEquals([...g!], [0, 1 / 8]);
});

const INSPECT = Symbol.for("Deno.customInspect");

Deno.test("console.log shows a node's op, shape and type, and a constant's numbers as PyTorch does", () => {
  const shown = (x: R.Tensor) => (x as unknown as Record<symbol, () => string>)[INSPECT]!();
  assertEquals(shown(R.relu(R.tensor([1, 2]))), "Tensor relu [2] f32");
  assertEquals(shown(R.tensor(0.1)), "Tensor constant [] f32\n0.1000");
  assertEquals(
    shown(R.tensor([[1.5, 2, 3], [4, 5, -60]])),
    "Tensor constant [2, 3] f32\n[[  1.5000,   2.0000,   3.0000],\n [  4.0000,   5.0000, -60.0000]]",
  );
  assertEquals(
    shown(R.tensor([1e-6, 0, -1, NaN])),
    "Tensor constant [4] f32\n[ 1.0000e-6,  0.0000e+0, -1.0000e+0,        NaN]",
  );
  assertEquals(
    shown(R.tensor(Uint32Array.of(7, 123456))),
    "Tensor constant [2] u32\n[     7, 123456]",
  );
  // Lines have at most 80 characters, and of many elements those at the ends are shown.
  const words = shown(R.tensor(Float32Array.from({ length: 60 }, (_, i) => i))).split("\n");
  assertEquals(words.slice(1).map((line) => line.split(",").length - 1), [20, 20, 19]);
  assert(words.every((line) => line.length <= 80), `${words}`);
  const many = R.tensor(Float32Array.from({ length: 7000 }, (_, i) => i), [2, 500, 7]);
  assertEquals(shown(many).split("\n"), [
    "Tensor constant [2, 500, 7] f32",
    "[[[   0,    1,    2, ...,    4,    5,    6],",
    "  [   7,    8,    9, ...,   11,   12,   13],",
    "  [  14,   15,   16, ...,   18,   19,   20],",
    "  ...,",
    "  [3479, 3480, 3481, ..., 3483, 3484, 3485],",
    "  [3486, 3487, 3488, ..., 3490, 3491, 3492],",
    "  [3493, 3494, 3495, ..., 3497, 3498, 3499]],",
    "",
    " [[3500, 3501, 3502, ..., 3504, 3505, 3506],",
    "  [3507, 3508, 3509, ..., 3511, 3512, 3513],",
    "  [3514, 3515, 3516, ..., 3518, 3519, 3520],",
    "  ...,",
    "  [6979, 6980, 6981, ..., 6983, 6984, 6985],",
    "  [6986, 6987, 6988, ..., 6990, 6991, 6992],",
    "  [6993, 6994, 6995, ..., 6997, 6998, 6999]]]",
  ]);
});

Deno.test("a constant of many small axes is shown in full, as PyTorch does", () => {
  const halves = R.tensor(new Float32Array(2 ** 18).fill(0.5), new Array(18).fill(2));
  const text = (halves as unknown as Record<symbol, () => string>)[INSPECT]!();
  assertEquals(text.split("0.5000").length, 2 ** 18 + 1);
});

Deno.test("a notebook shows what a tensor is, and the first and last numbers of a constant", async () => {
  const node = await displayOf(R.relu(t(4, 6, 3, 3)));
  assertEquals(node.text, "Tensor relu [4, 6, 3, 3] f32");
  for (const word of ["relu", "[4, 6, 3, 3]", "f32"]) {
    assertStringIncludes(node.html, `>${word}</td>`);
  }
  const constant = await displayOf(R.tensor([[1, 2], [3, 4]]));
  assertEquals(constant.text, "Tensor constant [2, 2] f32\n[[1, 2],\n [3, 4]]");
  assertStringIncludes(constant.html, "<pre>[[1, 2],\n [3, 4]]</pre>");
  const long = await displayOf(R.tensor(Float32Array.from({ length: 900 }, (_, i) => i), [300, 3]));
  const lines = long.text.split("\n");
  assertEquals(lines.length, 18);
  assertEquals([lines[1], lines[9], lines[17]], ["[[  0,   1,   2],", "...", " [897, 898, 899]]"]);
  class Named extends R.Module {
    override forward(x: R.Tensor): R.Tensor {
      return new R.Sequential().add(new R.ReLU(), "<b>&").call(x);
    }
  }
  assertStringIncludes((await displayOf(new Named().call(t(1)))).html, "&lt;b&gt;&amp;</td>");
});
