/** Plans at work: what they compute from any input, and what they refuse. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  add,
  apply,
  ArgumentError,
  arrays,
  broadcastTo,
  Conv2d,
  crossEntropy,
  defaultDevice,
  Device,
  DeviceError,
  div,
  encodeOnnx,
  evaluate,
  exp,
  grad,
  input,
  isFinite,
  item,
  log,
  matmul,
  maxPool2d,
  mean,
  Module,
  mul,
  neg,
  oneHot,
  OnnxError,
  type Op,
  permute,
  perThread,
  Plan,
  PlanError,
  relu,
  reshape,
  select,
  setVariable,
  SGD,
  ShapeError,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  summarize,
  type Tensor,
  tensor,
  toList,
  type Update,
  Variable,
  where,
} from "@resnette/resnette";
import { stepsOf } from "../../lib/plan/steps.ts";
import { displayOf } from "../display.ts";

const device = await defaultDevice();
const f32 = (...values: number[]) => new Float32Array(values);

Deno.test("any slice of a tensor can be read, at odd offsets too", async () => {
  const x = tensor(Float32Array.from({ length: 15 }, (_, i) => i), [3, 5]);
  const found = await evaluate([
    select(x, 1),
    neg(select(x, 2)),
    select(permute(x, [1, 0]), 3),
    sum(select(x, 1)),
    reshape(select(x, 2), [5, 1]),
    select(select(x, 2), 4),
    x,
    oneHot(select(tensor(Uint32Array.of(9, 9, 1, 0), [2, 2]), 1), 2),
  ]);
  assertEquals(found.map((values) => [...values]), [
    [5, 6, 7, 8, 9],
    [-10, -11, -12, -13, -14],
    [3, 8, 13],
    [35],
    [10, 11, 12, 13, 14],
    [14],
    Array.from({ length: 15 }, (_, i) => i),
    [0, 1, 1, 0],
  ]);
});

Deno.test("scalars, leaves and whole numbers can be asked for, any number of times", async () => {
  const x = input("x", [2]), variable = new Variable([2], f32(3, 4)), y = add(sum(x), 1);
  const labels = tensor(Uint32Array.of(7, 8, 9), [3, 1]);
  const found = await evaluate(
    [y, y, x, tensor(5), variable, labels, permute(labels, [1, 0]), tensor(Uint8Array.of(1, 2, 3))],
    { x: f32(1, 2) },
  );
  assertEquals(found.map((values) => [...values]), [
    ...[[4], [4], [1, 2], [5], [3, 4]],
    ...[[7, 8, 9], [7, 8, 9], [1, 2, 3]],
  ]);
  assertEquals(found.map((values) => values.constructor), [
    ...new Array(5).fill(Float32Array),
    ...[Uint32Array, Uint32Array, Uint8Array],
  ]);
  assertEquals(await evaluate([]), []);
});

Deno.test("values come as lists in lists, and one value as a number", async () => {
  const x = tensor(Uint32Array.from({ length: 12 }, (_, i) => i), [2, 1, 6]);
  assertEquals(await toList(x), [[[0, 1, 2, 3, 4, 5]], [[6, 7, 8, 9, 10, 11]]]);
  const cut = permute(reshape(input("a", [2, 3]), [2, 3, 1]), [1, 2, 0]);
  assertEquals(await toList(cut, { a: f32(1, 2, 3, 4, 5, 6) }), [[[1, 4]], [[2, 5]], [[3, 6]]]);
  const weight = new Conv2d(1, 2, { kernelSize: 2 }).weight;
  setVariable(weight, f32(1, 2, 3, 4, 5, 6, 7, 8));
  assertEquals(await toList(weight), [[[[1, 2], [3, 4]]], [[[5, 6], [7, 8]]]]);
  assertEquals(await toList(tensor(3)), 3);
  assertEquals(await item(tensor(Uint8Array.of(255))), 255);
  assertEquals(await item(new Variable([1, 1], [2.5])), 2.5);
  assertEquals(await item(sum(mul(input("a", [2]), 3)), { a: f32(1, -2) }), -3);
  await assertRejects(() => item(x), ShapeError, "item: wants a tensor of one element, got Tensor");
  using plan = await Plan.compile({ outputs: [sum(input("a", [2])), x], device });
  for (const k of [1, 2]) {
    plan.run({ a: f32(k, k) });
    assertEquals(await plan.item(), 2 * k);
  }
  using list = await Plan.compile({ outputs: [x], device });
  list.run();
  await assertRejects(() => list.item(), ShapeError, "item: wants an output of one element");
  using none = await Plan.compile({ updates: [], device });
  await assertRejects(() => none.item(), ShapeError, "the plan has none");
});

Deno.test("NaN and infinity pass through as in PyTorch", async () => {
  const all = input("all", [6]), bad = input("bad", [2, 2]);
  const ones = input("ones", [3]), zeros = input("zeros", [3]);
  const window = input("window", [1, 1, 4, 4]), four = input("four", [1, 2, 2, 4]);
  const pool = { kernelSize: 2 };
  const found = await evaluate([
    relu(all),
    grad(sum(mul(relu(all), 3)), [all])[0]!,
    isFinite(all),
    maxPool2d(window, pool),
    maxPool2d(permute(four, [0, 3, 1, 2]), pool),
    div(ones, zeros),
    div(ones, 0),
    log(zeros),
    sum(bad, [1]),
    softmax(bad),
    where(isFinite(all), all, 0),
    where(all, 1, 2),
    crossEntropy(tensor([0, -Infinity], [1, 2]), tensor(Uint32Array.of(0))),
  ], {
    all: f32(NaN, -Infinity, -1, 0, 2, Infinity),
    zeros: f32(0, -0, 1),
    ones: f32(1, 1, 0),
    window: f32(
      NaN,
      1,
      2,
      3,
      5,
      4,
      NaN,
      1,
      -1,
      -Infinity,
      -Infinity,
      -Infinity,
      -2,
      -3,
      -Infinity,
      -Infinity,
    ),
    four: f32(1, NaN, 3, 4, 5, 6, NaN, 8, 9, 1, 2, 3, 4, 5, 6, NaN),
    bad: f32(1, NaN, Infinity, 1),
  });
  assertEquals(found.map((values) => [...values]), [
    [NaN, 0, 0, 0, 2, Infinity],
    [3, 0, 0, 0, 3, 3],
    [0, 0, 1, 1, 1, 0],
    [NaN, NaN, -1, -Infinity],
    [9, NaN, NaN, NaN],
    [Infinity, -Infinity, 0],
    [Infinity, Infinity, NaN],
    [-Infinity, -Infinity, 0],
    [NaN, Infinity],
    [NaN, NaN, NaN, NaN],
    [0, 0, -1, 0, 2, 0],
    [1, 1, 1, 2, 1, 1],
    [0],
  ]);
});

Deno.test("constants that WGSL cannot write, or refuses to compute with, are computed all the same", async () => {
  const x = input("x", [2]);
  const found = await evaluate([
    add(x, Infinity),
    mul(x, NaN),
    sub(x, -Infinity),
    mul(x, 3.4028234663852886e38),
    log(tensor(-1)),
    exp(tensor(100)),
    div(tensor(1), tensor(0)),
    mul(x, div(1, tensor(0))),
    add(x, sqrt(tensor(4))),
  ], { x: f32(1, 0.5) });
  assertEquals(found.map((values) => [...values]), [
    [Infinity, Infinity],
    [NaN, NaN],
    [Infinity, Infinity],
    [3.4028234663852886e38, 1.7014117331926443e38],
    [NaN],
    [Infinity],
    [Infinity],
    [Infinity, Infinity],
    [3, 2.5],
  ]);
});

Deno.test("long chains and shared subexpressions plan quickly and run", async () => {
  let chain: Tensor = input("x", [3]), shared = chain;
  for (let i = 0; i < 1000; i++) chain = add(chain, 1);
  for (let i = 0; i < 40; i++) shared = add(shared, mul(shared, 0));
  const [a, b] = await evaluate([chain, shared], { x: f32(1, 2, 3) });
  assertEquals([...a!], [1001, 1002, 1003]);
  assertEquals([...b!], [1, 2, 3]);
});

Deno.test("more elements than one row of workgroups holds are all computed", async () => {
  // By fours, and one by one.
  const n = 65535 * 64 * 4 + 1000, odd = 65535 * 64 + 65;
  const ramp = Float32Array.from({ length: n }, (_, i) => i % 251);
  const found = await evaluate([add(input("n", [n]), 1), add(input("odd", [odd]), 1)], {
    n: ramp,
    odd: ramp.slice(0, odd),
  });
  for (const y of found) assert(y.every((v, i) => v === i % 251 + 1));
});

Deno.test("a grid that the adapter cannot run is refused, not skipped", async () => {
  const layers = device.target.maxWorkgroups + 1;
  const a = input("a", [layers, 1, 4]), b = input("b", [layers, 4, 4]);
  const ones = (x: Tensor) => new Float32Array(x.size).fill(1);
  const feeds = { a: ones(a), b: ones(b) };
  const y = await evaluate(matmul(a, b), feeds).catch((error: Error) => error);
  if (y instanceof Error) assert(y instanceof PlanError, `${y}`);
  else for (const value of y) assertEquals(value, 4);
});

Deno.test("wrong feeds are refused by name", async () => {
  using plan = await Plan.compile({ outputs: [add(input("x", [3]), 1)] });
  assertThrows(() => plan.run(), PlanError, 'input "x"');
  assertThrows(
    () => plan.run({ x: f32(1) }),
    PlanError,
    "wants a Float32Array of 3, got a Float32Array of 1",
  );
  assertThrows(() => plan.run({ x: new Uint32Array(3) }), PlanError, "Uint32Array");
  assertThrows(() => plan.run({ x: f32(1, 2, 3), y: f32(1) }), PlanError, 'no input "y"');
});

Deno.test("labels in parts of an input are held to what reads each part", async () => {
  const labels = input("labels", [2, 2], "u32");
  const [first, second] = [select(labels, 0), select(labels, 1)];
  using plan = await Plan.compile({ outputs: [oneHot(first, 2), oneHot(second, 3)] });
  plan.run({ labels: Uint32Array.of(0, 1, 2, 0) });
  assertEquals((await plan.read()).map((y) => [...y]), [[1, 0, 0, 1], [0, 0, 1, 1, 0, 0]]);
  const wrong = { labels: Uint32Array.of(0, 2, 2, 0) };
  assertThrows(() => plan.run(wrong), ArgumentError, "must be from 0 to 1, got 2 at index 1");
});

Deno.test("two inputs cannot share a name", async () => {
  const y = add(input("x", [2]), input("x", [2]));
  await assertRejects(() => Plan.compile({ outputs: [y] }), Error, 'two inputs are named "x"');
});

Deno.test("a kernel that WGSL refuses is reported by the name of its op, with the place", async () => {
  const broken = { name: "brokenOp", shape: ([x]: readonly Tensor[]) => x!.shape };
  const wrong = apply({ ...broken, expression: () => "frob(a)" }, [input("x", [2, 3])], {});
  const error = await assertRejects(() => Plan.compile({ outputs: [wrong] }), DeviceError);
  for (const part of ["brokenOp", "[2, 3]", "frob"]) {
    assert(error.message.includes(part), error.message);
  }
  const empty = apply(broken, [input("x", [2])], {});
  await assertRejects(() => Plan.compile({ outputs: [empty] }), Error, "brokenOp has no kernel");
  // Neither leaves the device unusable.
  assertEquals([...await evaluate(neg(tensor([1, 2])))], [-1, -2]);
});

Deno.test("a plan that is refused takes nothing from one that is compiled beside it", async () => {
  const broken: Op = { name: "broken", shape: ([x]) => x!.shape, expression: () => "frob(a)" };
  const x = tensor([1, 2, 3]);
  const [refused, y] = await Promise.allSettled([
    evaluate(apply(broken, [x], {})),
    evaluate(neg(x)),
  ]);
  assertEquals(refused.status, "rejected");
  assertEquals(y, { status: "fulfilled", value: f32(-1, -2, -3) });
});

Deno.test("a plan on a lost device says so", async () => {
  using own = await Device.request();
  using plan = await Plan.compile({ outputs: [neg(tensor([1, 2]))], device: own });
  plan.run();
  own[Symbol.dispose]();
  await own.gpu.lost;
  assertThrows(() => plan.run(), DeviceError, "lost");
  await assertRejects(() => evaluate(neg(tensor([1, 2])), {}, own), DeviceError, "lost");
});

Deno.test("a variable stays on the device that holds it", async () => {
  const v = new Variable([2], f32(1, 2));
  assertEquals([...await evaluate(neg(v))], [-1, -2]);
  using other = await Device.request();
  await assertRejects(() => evaluate(neg(v), {}, other), Error, "another device");
});

Deno.test("a disposed plan says so", async () => {
  const plan = await Plan.compile({ outputs: [neg(tensor([1, 2]))] });
  plan.run();
  plan[Symbol.dispose]();
  assertThrows(() => plan.run(), PlanError, "disposed");
  await assertRejects(() => plan.read(), PlanError, "disposed");
});

Deno.test("a tensor larger than a binding is refused, with the largest size that fits", async () => {
  const each = 2 ** 20, limit = device.target.maxBindingBytes;
  const x = input("x", [Math.floor(limit / each / 4) + 1, each]);
  const error = await assertRejects(() => Plan.compile({ outputs: [relu(x)] }), PlanError);
  assertEquals(error.largest, Math.floor(limit / each / 4));
  for (const part of [`${limit}`, "maxStorageBufferBindingSize", `at most ${error.largest}`]) {
    assert(error.message.includes(part), error.message);
  }
});

Deno.test("a sum of more elements than can be counted is refused, in memory or not", () => {
  const x = input("x", [70_000, 1]), y = input("y", [70_000]), each = square(sub(x, y));
  const steps = (z: Tensor) => stepsOf([z], [], device.target).steps;
  assertThrows(() => steps(mean(each)), PlanError, "takes 4900000000 elements together");
  assert(steps(mean(mean(each, [1]))).length > 0);
});

Deno.test("a plan prints a row for each dispatch, and totals", async () => {
  const x = input("x", [4, 6]);
  using plan = await Plan.compile({
    outputs: [matmul(relu(add(x, 1)), tensor(f32(...new Array(18).fill(1)), [6, 3]))],
  });
  const lines = plan.toString().split("\n");
  assertEquals(lines.slice(0, 2).map((line) => line.replace(/ +/g, " ").trim()), [
    "0 relu(add) [4, 6] 0.000 MB 0.000 MFLOP",
    "1 matmul [4, 3] 0.000 MB 0.000 MFLOP",
  ]);
  assert(/^2 dispatches, 0\.000 GFLOP, .* MB of buffers$/.test(lines[2]!), lines[2]);
  assertEquals(new Set(lines.slice(0, 2).map((line) => line.length)).size, 1, "columns line up");
  assertEquals(plan.flops, 2 * 4 * 6 * 3 + 2 * 24);
  const { text, html } = await displayOf(plan); // In a notebook as well.
  assertEquals(text, `${plan}`);
  const cells = html.split(/(?:<[^>]*>)+/).filter(Boolean);
  assertEquals(cells.slice(0, 8), [
    lines[2],
    "kernel",
    "shape",
    "bytes",
    "operations",
    "0",
    "relu(add)",
    "[4, 6]",
  ]);
  using large = await Plan.compile({ outputs: [add(input("x", [1000, 1000]), 1)] });
  assert(large.toString().includes("[1000, 1000]  8.000 MB  1.000 MFLOP"), large.toString());
});

Deno.test("any f32 is a constant: huge, subnormal, of either zero, infinite, NaN", async () => {
  const values = [1e18, 1e19, 1e20, 1e22, 3e38, -1e19, 1e-45, 1e-39, 0, -0, Infinity, NaN];
  const x = input("x", [2]);
  const found = await evaluate(values.map((value) => where(x, value, 0)), { x: f32(1, 0) });
  found.forEach((y, i) => {
    assert(Object.is(y[0], Math.fround(values[i]!)), `${values[i]} came back as ${y[0]}`);
  });
});

Deno.test("nodes are equal to the bit or not at all: zeros, infinities, NaN, functions, arrays", async () => {
  const [minus, plus] = await evaluate([div(1, tensor([-0])), div(1, tensor([0]))]);
  assertEquals([...minus!, ...plus!], [-Infinity, Infinity]);
  /** Adds what a function of its attributes makes of them. */
  const Custom: Op = {
    name: "custom",
    shape: ([x]) => x!.shape,
    kernels: (node, target) => [perThread(
      arrays({ x: "f32", y: "f32" }),
      node.size,
      target,
      `  y[i] = x[i] + ${(node.attrs["value"] as () => number)()}.0;`,
    )],
  };
  const x = input("x", [1]);
  const made = [() => 1, () => 2].map((value) => apply(Custom, [x], { value }));
  assertEquals((await evaluate(made, { x: f32(0) })).map((y) => y[0]), [1, 2]);
  /** Of its attributes, the steps that a plan makes of them tell which it holds apart. */
  const Marked: Op = {
    ...Custom,
    name: "marked",
    kernels: (node, target) => [
      perThread(arrays({ x: "f32", y: "f32" }), node.size, target, "  y[i] = x[i];"),
    ],
  };
  const steps = (...attrs: unknown[]) =>
    stepsOf(attrs.map((value) => apply(Marked, [x], { value })), [], device.target).steps.length;
  const bytes = new Uint8Array([1]);
  for (
    const [a, b] of [
      [-0, 0],
      [Infinity, -Infinity],
      [NaN, null],
      [undefined, null],
      ["1", 1],
      [[1, 2], [1, [2]]],
      [{ a: 1 }, { b: 1 }],
      [new Uint8Array([1]), new Uint8Array([2])],
      [1n, 1],
      [Symbol.iterator, Symbol.asyncIterator],
    ]
  ) assertEquals(steps(a, b), 2, `${String(a)} and ${String(b)}`);
  for (const a of [-0, NaN, "a", [1, { b: [2] }], bytes, null, undefined]) {
    assertEquals(steps(a, Array.isArray(a) ? structuredClone(a) : a), 1, String(a));
  }
});

Deno.test("an op is its object and never its name", async () => {
  const named = (name: string, expression: string): Op => ({
    name,
    shape: (inputs) => inputs[0]!.shape,
    expression: () => expression,
    vjp: (g) => [mul(g, 100), null],
  });
  const x = tensor([1, 2, 3]), two = tensor([2]);
  const total = (name: string, expression: string) =>
    sum(apply(named(name, expression), [x, two], {}));
  assertEquals(
    (await evaluate([
      total("mul", "a * b * 100.0"),
      total("neg", "a * b"),
      total("broadcastTo", "a + b"),
      total("reshape", "a - b"),
      total("div", "a * b"),
    ])).map((y) => y[0]),
    [1200, 12, 12, 0, 12],
  );
  // Also where layers are counted and exported.
  class Fake extends Module {
    override forward(x: Tensor): Tensor {
      return apply(named("matmul", "a * b"), [x, two], {});
    }
  }
  assertEquals(summarize(new Fake(), [3]).macs, 0);
  class Sum extends Module {
    override forward(x: Tensor): Tensor {
      return apply(named("add", "a - b"), [x, x], {});
    }
  }
  await assertRejects(() => encodeOnnx(new Sum(), { shape: [1, 1, 1] }), OnnxError, "has a add");
});

Deno.test("an elementwise op of one's own may take one shape only, or that of its first operand", async () => {
  const named = (shape: Op["shape"], expression = "a - b"): Op => ({
    name: "own",
    shape,
    expression: () => expression,
  });
  const like = named(([a]) => a!.shape);
  const strict = named(([a, b]) => {
    if (`${a!.shape}` !== `${b!.shape}`) throw new ShapeError("own: wants two of one shape");
    return a!.shape;
  });
  const colours = named(([x]) => {
    if (x!.rank !== 4 || x!.shape[1] !== 3) throw new ShapeError("own: wants [N, 3, H, W]");
    return x!.shape;
  }, "a * 2.0");
  const x = tensor([[1, 2, 3], [4, 5, 6]]), row = broadcastTo(tensor([10, 20, 30]), [2, 3]);
  const image = tensor([1, 2, 3, 4, 5, 6], [1, 1, 2, 3]);
  const found = await evaluate([
    apply(like, [row, x], {}),
    apply(strict, [x, row], {}),
    apply(colours, [permute(image, [0, 3, 1, 2])], {}),
  ]);
  assertEquals(found.map((y) => [...y]), [
    [9, 18, 27, 6, 15, 24],
    [-9, -18, -27, -6, -15, -24],
    [2, 8, 4, 10, 6, 12],
  ]);
});

Deno.test("an op of no operands is computed, as an expression too", async () => {
  const Ones: Op<{ shape: number[] }> = {
    name: "ones",
    shape: (_, { shape }) => shape,
    expression: () => "T(1.0)",
  };
  const ones = (...shape: number[]) => apply(Ones, [], { shape });
  const found = await evaluate([ones(5), matmul(ones(2, 3), ones(3, 1)), mul(ones(2), 3)]);
  assertEquals(found.map((y) => [...y]), [[1, 1, 1, 1, 1], [3, 3], [3, 3]]);
});

Deno.test("a number that changes from call to call compiles nothing again", async () => {
  const x = tensor([1, 2, 3]);
  const made: string[] = [];
  const { gpu } = device, create = gpu.createComputePipeline.bind(gpu);
  gpu.createComputePipeline = (
    descriptor,
  ) => (made.push(descriptor.label ?? ""), create(descriptor));
  try {
    await evaluate(sum(mul(x, 0.5)), {}, device);
    const first = made.length;
    for (let k = 1; k <= 5; k++) {
      const [y] = await evaluate([sum(mul(x, 1e18 * k / 3))], {}, device);
      assert(Math.abs(y![0]! / (2e18 * k) - 1) < 1e-6);
    }
    assertEquals(made.length, first);
  } finally {
    gpu.createComputePipeline = create;
  }
});

Deno.test("what depends on variables alone is computed when they have changed", async () => {
  // y = x · exp(w)², in two steps that need no input and one that does.
  const w = new Variable([8, 8]), x = input("x", [2, 8]), e = exp(w);
  const y = matmul(x, matmul(e, e));
  using plan = await Plan.compile({ outputs: [y], device });
  assertEquals([plan.steps.length, plan.fixed.steps.size], [3, 2]);
  const ones = { x: new Float32Array(16).fill(1) };
  let dispatches = 0;
  const { dispatchWorkgroups } = GPUComputePassEncoder.prototype;
  GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...counts) {
    dispatches++;
    return dispatchWorkgroups.apply(this, counts);
  };
  using stack = new DisposableStack();
  stack.defer(() => GPUComputePassEncoder.prototype.dispatchWorkgroups = dispatchWorkgroups);
  /** Asserts what a run gives if all of w is `value`, and how many kernels it takes. */
  const check = async (value: number, kernels: number) => {
    dispatches = 0;
    plan.run(ones);
    assertEquals(dispatches, kernels);
    const expected = 64 * Math.exp(value) ** 2;
    for (const v of (await plan.read())[0]!) {
      assert(Math.abs(v - expected) < 1e-5 * expected, `${v} is not ${expected}`);
    }
  };
  const all = (value: number) => new Float32Array(64).fill(value);
  await check(0, 3);
  await check(0, 1);
  setVariable(w, all(1));
  await check(1, 3);
  await check(1, 1);
  // Another plan updates it.
  using update = await Plan.compile({ updates: [{ targets: [w], value: add(w, 0.5) }], device });
  update.run();
  await check(1.5, 3);
  await check(1.5, 1);
  // An optimizer moves it to other memory, and takes a step.
  const optimizer = new SGD([w], { lr: 1 });
  using step = await Plan.compile({ updates: optimizer.updates([tensor(all(2), [8, 8])]), device });
  await check(1.5, 3);
  step.run(optimizer.nextStep());
  await check(-0.5, 3);
  await check(-0.5, 1);
  // A run that is encoded by hand may be submitted at any time.
  const encoder = device.gpu.createCommandEncoder();
  update.encode(encoder);
  await check(-0.5, 3);
  device.gpu.queue.submit([encoder.finish()]);
  await check(0, 3);
});

Deno.test("it is not kept where that takes much memory, spares little or is all there is", async () => {
  const fixed = async (outputs: Tensor[], updates: Update[] = []) => {
    using plan = await Plan.compile({ outputs, updates, device });
    return plan.fixed.steps.size;
  };
  const w = new Variable([8, 8]), x = input("x", [2, 8]), square = matmul(w, w);
  assertEquals(await fixed([matmul(x, square)]), 1);
  assertEquals(await fixed([square]), 0);
  assertEquals(await fixed([matmul(input("x", [2000, 8]), square)]), 0);
  assertEquals(await fixed([matmul(x, square)], [{ targets: [w], value: neg(w) }]), 0);
  const row = new Variable([1, 64]), column = new Variable([64, 1]);
  assertEquals(await fixed([matmul(input("x", [2, 64]), matmul(column, row))]), 0);
});
