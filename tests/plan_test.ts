/** Plans: fusion, layout, liveness, in-place updates, errors. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  add,
  assign,
  BatchNorm2d,
  Conv2d,
  defaultDevice,
  evaluate,
  input,
  mul,
  Plan,
  PlanError,
  readVariables,
  relu,
  reshape,
  select,
  Sequential,
  setVariable,
  SGD,
  sub,
  sum,
  type Tensor,
  tensor,
  Variable,
} from "@resnette/resnette";
import { schedule } from "../lib/plan/steps.ts";

const device = await defaultDevice();
const names = (outputs: Tensor[], target = device.target) =>
  schedule(outputs, [], target).steps.map((step) => step.name);
const f32 = (...values: number[]) => new Float32Array(values);
const one = async (variable: Variable) => [...(await readVariables([variable]))[0]!];

Deno.test("a chain of elementwise ops is one dispatch, its broadcast bias included", () => {
  const x = input("x", [64, 32]), bias = input("b", [32]);
  assertEquals(names([relu(mul(add(x, bias), 2))]), ["relu(mul(add))"]);
});

Deno.test("a reduction computes its input itself", () => {
  const x = input("x", [8, 8]);
  assertEquals(names([sum(mul(x, x))]), ["partialSum(mul)", "sum"]);
});

Deno.test("a kernel never binds more buffers than the adapter allows", () => {
  const inputs = Array.from({ length: 12 }, (_, i) => input(`x${i}`, [64]));
  const total = inputs.reduce<Tensor>((a, b) => add(a, b), tensor(0));
  for (const maxStorageBuffers of [3, 4, 8]) {
    const { steps } = schedule([total], [], { ...device.target, maxStorageBuffers });
    assert(steps.every(({ spec }) => spec.bindings.length <= maxStorageBuffers));
    assert(steps.length > 1);
  }
});

Deno.test("between convolutions nothing is rearranged, weights included", () => {
  const net = new Sequential(
    new Conv2d(8, 8, { kernelSize: 1 }),
    new BatchNorm2d(8),
    new Conv2d(8, 8, { kernelSize: 1 }),
  );
  const { steps } = schedule([net.forward(input("x", [2, 8, 5, 5]))], [], device.target);
  const moved = steps.filter((step) => step.name === "permute").map(({ node }) => node.shape);
  // The input and the output of the whole.
  assertEquals(moved, [[2, 5, 5, 8], [2, 8, 5, 5]]);
});

Deno.test("tensors that are needed at the same time never share memory", async () => {
  let x: Tensor = input("x", [16, 4, 6, 6]);
  const kept: Tensor[] = [];
  for (let i = 0; i < 12; i++) {
    x = new Conv2d(4, 4, { kernelSize: 3, padding: 1 }).forward(x);
    if (i % 3 === 0) kept.push(x);
  }
  const total = kept.reduce((a, b) => add(a, b), x);
  using plan = await Plan.compile({ outputs: [sum(total)] });
  const { slotOf, slotSizes } = plan.placed;
  const life = new Map<Tensor, [number, number]>();
  plan.steps.forEach(({ reads, writes }, i) => {
    for (const node of [...reads, ...writes]) {
      life.set(node, [life.get(node)?.[0] ?? i, i]);
    }
  });
  const nodes = [...slotOf.keys()];
  for (const a of nodes) {
    for (const b of nodes) {
      if (a === b || slotOf.get(a) !== slotOf.get(b)) continue;
      const [[a0, a1], [b0, b1]] = [life.get(a)!, life.get(b)!];
      assert(a1 < b0 || b1 < a0, `${a} and ${b} live at once in slot ${slotOf.get(a)}`);
    }
  }
  assert(slotSizes.length < nodes.length, "no memory was reused");
});

Deno.test("updates see the values from before, in whatever order they are given", async () => {
  for (const swapped of [false, true]) {
    const a = new Variable([4], f32(1, 2, 3, 4)), b = new Variable([4], f32(10, 20, 30, 40));
    const updates = [assign(a, add(a, b)), assign(b, sub(b, a))];
    const loss = sum(mul(a, b));
    using plan = await Plan.compile({
      outputs: [loss],
      updates: swapped ? updates.reverse() : updates,
    });
    plan.run();
    assertEquals([...(await plan.read())[0]!], [300]);
    assertEquals(await one(a), [11, 22, 33, 44]);
    assertEquals(await one(b), [9, 18, 27, 36]);
    plan.run();
    assertEquals(await one(a), [20, 40, 60, 80]);
    assertEquals(await one(b), [-2, -4, -6, -8]);
  }
});

Deno.test("an update may read its target at other elements", async () => {
  const v = new Variable([4, 4], Float32Array.from({ length: 16 }, (_, i) => i));
  using plan = await Plan.compile({ updates: [assign(v, add(v, reshape(select(v, 1), [1, 4])))] });
  plan.run();
  assertEquals(await one(v), [4, 6, 8, 10, 8, 10, 12, 14, 12, 14, 16, 18, 16, 18, 20, 22]);
});

Deno.test("an average of weights follows the old ones, before or after the optimizer", async () => {
  for (const swapped of [false, true]) {
    const w = new Variable([4], f32(1, 2, 3, 4)), average = new Variable([4]);
    const optimizer = new SGD([w], { lr: 1 });
    const updates = [...optimizer.updates([tensor([1, 1, 1, 1])]), assign(average, mul(w, 0.5))];
    using plan = await Plan.compile({ updates: swapped ? updates.reverse() : updates });
    plan.run(optimizer.nextStep());
    assertEquals(await one(average), [0.5, 1, 1.5, 2]);
    assertEquals(await one(w), [0, 1, 2, 3]);
  }
});

Deno.test("variables keep their values when an optimizer packs them after use", async () => {
  const w = new Variable([3], f32(1, 2, 3)), v = new Variable([2], f32(4, 5));
  using before = await Plan.compile({ outputs: [sum(w), sum(v)] });
  before.run();
  assertEquals((await before.read()).map((x) => x[0]), [6, 9]);
  const optimizer = new SGD([w, v], { lr: 1 });
  using step = await Plan.compile({
    updates: optimizer.updates([tensor([1, 1, 1]), tensor([2, 2])]),
  });
  step.run(optimizer.nextStep());
  before.run();
  assertEquals((await before.read()).map((x) => x[0]), [3, 5]);
  const again = new SGD([w, v], { lr: 1 });
  using other = await Plan.compile({ updates: again.updates([tensor([1, 1, 1]), tensor([1, 1])]) });
  other.run(again.nextStep());
  assertEquals(await one(w), [-1, 0, 1]);
  assertThrows(() => step.run(optimizer.nextStep()), Error, "taken over by another optimizer");
});

Deno.test("how a variable is stored makes no difference to anybody", async () => {
  const values = Float32Array.from({ length: 24 }, (_, i) => i);
  const plain = new Variable([2, 3, 4], values.slice());
  const other = new Variable([2, 3, 4], values.slice(), [2, 0, 1]);
  assertEquals(await readVariables([plain, other]), [values, values]);
  for (const v of [plain, other]) {
    const optimizer = new SGD([v], { lr: 1 });
    using step = await Plan.compile({
      outputs: [v, select(v, 1)],
      updates: [assign(v, mul(v, 2)), ...optimizer.updates([tensor(values, [2, 3, 4])])],
    });
    step.run(optimizer.nextStep());
    const read = await step.read();
    assertEquals([...read[0]!], [...values]);
    assertEquals([...read[1]!], [...values.slice(12)]);
    assertEquals(await one(v), [...values]);
    setVariable(v, values.toReversed());
    assertEquals(await one(v), [...values.toReversed()]);
  }
});

Deno.test("plans share a workspace without disturbing each other", async () => {
  const build = (n: number) => {
    const x = input("x", [n, 4, 4, 4]);
    const conv = new Conv2d(4, 4, { kernelSize: 3, padding: 1 });
    return sum(conv.forward(relu(conv.forward(x))));
  };
  const small = build(1), large = build(40);
  const feeds = (n: number) => ({ x: Float32Array.from({ length: n * 64 }, (_, i) => i % 7) });
  using a = await Plan.compile({ outputs: [small] });
  a.run(feeds(1));
  const alone = (await a.read())[0]!;
  using b = await Plan.compile({ outputs: [large] });
  b.run(feeds(40));
  const other = (await b.read())[0]!;
  a.run(feeds(1));
  b.run(feeds(40));
  assertEquals((await a.read())[0], alone);
  assertEquals((await b.read())[0], other);
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
  const n = 65535 * 64 * 4 + 1000;
  const y = await evaluate(add(input("x", [n]), 1), { x: new Float32Array(n).fill(1) });
  assert(y.every((v) => v === 2));
});

Deno.test("wrong feeds are refused by name", async () => {
  using plan = await Plan.compile({ outputs: [add(input("x", [3]), 1)] });
  assertThrows(() => plan.run(), PlanError, 'input "x"');
  assertThrows(() => plan.run({ x: f32(1) }), PlanError, "wants 3 values");
  assertThrows(() => plan.run({ x: new Uint32Array(3) }), PlanError, "Uint32Array");
  assertThrows(() => plan.run({ x: f32(1, 2, 3), y: f32(1) }), PlanError, 'no input "y"');
});

Deno.test("a disposed plan says so", async () => {
  const plan = await Plan.compile({ outputs: [tensor([1, 2])] });
  plan[Symbol.dispose]();
  assertThrows(() => plan.run(), PlanError, "disposed");
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

Deno.test("a plan prints a row for each dispatch, and totals", async () => {
  using plan = await Plan.compile({ outputs: [relu(add(input("x", [4, 5]), 1))] });
  const [row, total] = plan.toString().split("\n");
  assert(row!.includes("relu(add)") && row!.includes("[4, 5]") && row!.includes("MB"), row);
  assert(total!.startsWith("1 dispatches"), total);
});
