/** What a plan fuses, and how it lays out images: read from its steps, without a device. */

import { assert, assertEquals } from "@std/assert";
import {
  add,
  batchNorm,
  broadcastTo,
  channelMoments,
  conv2d,
  crossEntropy,
  div,
  exp,
  globalAvgPool2d,
  grad,
  input,
  linear,
  matmul,
  maxPool2d,
  mean,
  mul,
  neg,
  permute,
  relu,
  reshape,
  select,
  slice,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
} from "@resnette/resnette";
import type { Target } from "../../lib/kernels/kernel.ts";
import { stepsOf } from "../../lib/plan/steps.ts";
import { TARGET } from "./target.ts";

const planned = (outputs: Tensor[], limits: Partial<Target> = {}) =>
  stepsOf(outputs, [], { ...TARGET, ...limits }).steps;
const names = (...outputs: Tensor[]) => planned(outputs).map(({ name }) => name);

const x = input("x", [4, 6]), y = input("y", [4, 6]);

Deno.test("a chain of elementwise ops is one dispatch", () => {
  assertEquals(names(relu(add(mul(sub(x, 1), y), neg(exp(x))))), ["relu(add(mul(sub),neg(exp)))"]);
});

Deno.test("a broadcast bias is fused, whichever way it is broadcast", () => {
  const bias = input("bias", [6]), column = input("column", [4, 1]);
  assertEquals(names(relu(add(x, bias))), ["relu(add)"]);
  assertEquals(names(relu(add(column, x))), ["relu(add)"]);
  assertEquals(names(relu(add(x, broadcastTo(bias, [4, 6])))), ["relu(add)"]);
  // A small operand that is itself computed is computed once, not once per row.
  assertEquals(names(mul(x, sqrt(bias))), ["sqrt", "mul"]);
});

Deno.test("a reduction takes its input fused", () => {
  assertEquals(names(sum(square(sub(x, y)))), ["sum(square(sub))"]);
  assertEquals(names(mean(exp(x), [0])), ["sum(exp) + mul"]);
  assertEquals(names(channelMoments(relu(x))), ["partialMoments(relu)", "mergeMoments"]);
});

Deno.test("views cost no dispatch where their reader follows strides", () => {
  assertEquals(names(add(permute(x, [1, 0]), reshape(y, [6, 4]))), ["add"]);
  assertEquals(names(neg(select(x, 1))), ["neg"]);
  assertEquals(names(sum(permute(x, [1, 0]), [0])), ["sum"]);
  assertEquals(names(reshape(x, [24])), []);
  // Other kernels want whole tensors: one copy.
  assertEquals(names(softmax(permute(x, [1, 0]))), ["permute", "logSoftmax", "exp"]);
});

Deno.test("a node with two users is computed in both where that moves fewer bytes, else once", () => {
  const cheap = exp(x);
  assertEquals(names(neg(cheap), sum(cheap)), ["neg(exp)", "sum(exp)"]);
  const costly = add(mul(x, y), input("z", [4, 6]));
  assertEquals(names(neg(costly), sum(costly), relu(costly)), ["sum + add(mul)", "neg + relu"]);
});

Deno.test("a tensor that is asked for is stored, and read by those that use it", () => {
  const h = exp(input("large", [1024, 1024]));
  const steps = planned([h, neg(h)]);
  assertEquals(steps.map(({ name }) => name), ["exp", "neg"]);
  assertEquals(steps[1]!.reads, steps[0]!.writes);
});

Deno.test("what is made of tensors that a kernel reads anyway is computed again, not read", () => {
  const large = input("large", [600, 600]), row = input("row", [600]);
  const h = relu(add(large, row));
  const product = matmul(h, large);
  const reads = (y: Tensor) =>
    planned([product, y]).find(({ name }) => /neg|sum/.test(name))!.reads;
  assertEquals(reads(sum(mul(neg(h), large))), [large, row]);
  assertEquals(reads(neg(mul(h, large))), [large, row]);
  // It would take another large tensor, or a buffer too many.
  assertEquals(reads(neg(mul(h, row))).map(({ op }) => op.name), ["relu", "input"]);
  const steps = planned([product, neg(mul(h, large))], { maxStorageBuffers: 3 });
  assert(steps.every(({ spec }) => spec.bindings.length <= 3));
});

Deno.test("equal computations are made once", () => {
  assertEquals(names(add(softmax(x), softmax(x))), ["logSoftmax", "add(exp)"]);
  assertEquals(names(sub(sum(exp(x)), sum(exp(x)))), ["sum(exp) + sub"]);
  // Factors common to all terms are taken out of the sum, which then may be known already.
  const total = sum(x, [0]), row = input("row", [1, x.shape[1]!]);
  assertEquals(names(total, sum(mul(x, row), [0]), sum(neg(x), [0])), ["sum + mul + neg"]);
});

Deno.test("fusion keeps within the buffers that one kernel can bind", () => {
  const parts = Array.from({ length: 12 }, (_, i) => input(`p${i}`, [8]));
  const total = parts.reduce((a, b) => add(a, b));
  for (const maxStorageBuffers of [3, 4, 8, 13]) {
    const steps = planned([total], { maxStorageBuffers });
    const most = Math.max(...steps.map(({ spec }) => spec.bindings.length));
    assert(most <= maxStorageBuffers, `${most} bindings where ${maxStorageBuffers} are allowed`);
    const least = Math.ceil(11 / (maxStorageBuffers - 2));
    assertEquals(steps.length, least, `dispatches with ${maxStorageBuffers} buffers`);
  }
});

Deno.test("a tensor read in two ways by one kernel is bound once", () => {
  const row = reshape(select(permute(input("s", [4, 4]), [1, 0]), 0), [4, 1]);
  const s = row.inputs[0]!.inputs[0]!.inputs[0]!;
  const steps = planned([relu(add(mul(s, input("t", [4, 4])), row))], { maxStorageBuffers: 3 });
  assertEquals(steps.map(({ spec }) => spec.bindings.length), [3]);
});

Deno.test("shared parts of a long expression do not multiply", () => {
  let h: Tensor = x;
  for (let i = 0; i < 40; i++) h = add(h, mul(h, 0.1));
  const start = performance.now();
  const steps = planned([h]);
  assert(performance.now() - start < 1000, "it took more than a second");
  assert(steps.every(({ spec }) => spec.body.length < 20_000));
});

Deno.test("a chain of thousands of ops can be planned", () => {
  let h: Tensor = x;
  for (let i = 0; i < 5000; i++) h = add(h, y);
  const steps = planned([h]);
  assert(steps.length < 1000, `${steps.length} dispatches`);
});

/** conv → batch norm → ReLU → max pool, again with a shortcut, then classified. */
function network() {
  const image = input("image", [2, 3, 8, 8]);
  const weights = [[4, 3, 3, 3], [4, 4, 3, 3], [4], [4], [4], [5, 4], [5]]
    .map((shape, i) => input(`w${i}`, shape));
  const [w1, w2, gamma, beta, bias, fc, fcBias] = weights as [Tensor, ...Tensor[]] as Tensor[];
  let h = conv2d(image, w1!, bias, { padding: 1 });
  h = maxPool2d(relu(batchNorm(h, gamma!, beta!).y), { kernelSize: 2 });
  const shortcut = h;
  h = conv2d(h, w2!, bias, { padding: 1 });
  h = relu(add(batchNorm(h, gamma!, beta!).y, shortcut));
  const logits = linear(reshape(globalAvgPool2d(h), [2, 4]), fc!, fcBias);
  return { logits, image, weights };
}

/** Batches of images that are rearranged by a copy. */
const permuted = (steps: ReturnType<typeof planned>) =>
  steps.filter(({ name, node }) => name === "permute" && node.rank === 4 && node.shape[0] === 2)
    .map(({ node }) => `${node}`);

Deno.test("between convolutions activations stay channels-last: none is permuted", () => {
  const { logits } = network();
  const steps = planned([logits]);
  // Only what comes from outside is rearranged: the images.
  assertEquals(permuted(steps), ["Tensor permute [2, 8, 8, 3] f32"]);
  // Bias, normalisation, shortcut and ReLU are one pass over the activations.
  assertEquals(steps.map(({ name }) => name).filter((name) => name !== "permute"), [
    ...[
      "conv2d",
      "partialMoments(add)",
      "mergeMoments + mul(div(sqrt(add)))",
      // The pool computes it of each element as it loads it.
      "maxPool2d(relu(add(mul(sub(add)))))",
    ],
    ...[
      "conv2d",
      "partialMoments(add)",
      "mergeMoments + mul(div(sqrt(add)))",
      "sum(relu(add(add(mul(sub(add)))))) + mul",
    ],
    ...["matmulBT + add"],
  ]);
});

Deno.test("nor are they in the backward pass", () => {
  const { logits, weights } = network();
  const loss = crossEntropy(logits, input("labels", [2], "u32"));
  const steps = planned([loss, ...grad(loss, weights)]);
  assertEquals(permuted(steps), ["Tensor permute [2, 8, 8, 3] f32"]);
});

Deno.test("a permutation that ends where it began moves nothing", () => {
  const image = input("image", [2, 3, 4, 5]);
  const there = permute(image, [0, 2, 3, 1]);
  assertEquals(names(permute(relu(there), [0, 3, 1, 2])), ["relu"]);
  assertEquals(names(permute(there, [0, 3, 1, 2])), []);
  // Moving only axes of size 1 is a reshape.
  assertEquals(names(permute(input("v", [1, 4, 1]), [1, 0, 2])), []);
});

Deno.test("a part of images is taken as they lie: channels last", () => {
  const image = input("image", [2, 8, 4, 4]), w = input("w", [8, 8, 3, 3]);
  const y = conv2d(image, w, undefined, { padding: 1 });
  const [dy] = grad(sum(mul(exp(slice(y, [null, [4, 8]])), slice(y, [null, [0, 4]]))), [y]);
  // The first and the last, as they are given and wanted.
  const [given, wanted] = ["Tensor permute [2, 4, 4, 8] f32", "Tensor permute [2, 8, 2, 2] f32"];
  assertEquals(permuted(planned([conv2d(dy!, w)])), [given, wanted]);
});

Deno.test("any number is in the kernel's uniform, so that another one has the same WGSL", () => {
  const spec = (t: Tensor) => planned([t])[0]!.spec;
  for (const value of [2, 4, 1e19, 1e20, 1e-45, 0, -0, Infinity, NaN]) {
    for (const op of [add, mul, div]) {
      const { bindings, body, numbers } = spec(op(x, value));
      assertEquals([bindings.length, body], [2, spec(op(x, 1)).body]);
      assert(Object.is(Object.values(numbers!)[0], Math.fround(value)));
    }
  }
});
