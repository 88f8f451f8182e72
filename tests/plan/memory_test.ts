/** Where plans keep tensors: shared slots, packed gradients, variables, and other plans' workspace. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  Adam,
  add,
  assign,
  BatchNorm2d,
  collectUpdates,
  Conv2d,
  crossEntropy,
  evaluate,
  Flatten,
  grad,
  input,
  Linear,
  matmul,
  MaxPool2d,
  neg,
  Plan,
  PlanError,
  Random,
  readVariables,
  ReLU,
  relu,
  Residual,
  select,
  Sequential,
  SGD,
  sum,
  type Tensor,
  tensor,
  Variable,
} from "@resnette/resnette";
import { bytesOf } from "../../lib/device/buffers.ts";
import { type Access, assignSlots } from "../../lib/plan/memory.ts";

const f32 = (...values: number[]) => new Float32Array(values);

/**
 * Goes through the steps with, for each place in memory, the tensor that was written there last: every
 * read must find what it wants, no kernel may write where it reads, and everything must fit.
 */
function simulate(
  steps: readonly Access[],
  slotOf: ReadonlyMap<Tensor, number>,
  sizes: readonly number[],
  bytes: (node: Tensor) => number,
): void {
  const holds = new Map<number, Tensor>();
  for (const { reads, writes } of steps) {
    for (const node of reads) {
      const slot = slotOf.get(node);
      if (slot === undefined) continue;
      assertEquals(`${holds.get(slot)?.id}`, `${node.id}`, `slot ${slot} was reused too early`);
      assert(!writes.some((x) => slotOf.get(x) === slot), `a kernel reads and writes slot ${slot}`);
    }
    for (const node of writes) {
      const slot = slotOf.get(node);
      if (slot === undefined) continue;
      assert(bytes(node) <= sizes[slot]!, `${node} does not fit slot ${slot}`);
      holds.set(slot, node);
    }
    const taken = writes.map((node) => slotOf.get(node)).filter((slot) => slot !== undefined);
    assertEquals(new Set(taken).size, taken.length, "one kernel writes two tensors to one slot");
  }
}

/** Most bytes that are held at once by tensors between their first write and their last read. */
function peak(steps: Plan["steps"], tensors: readonly Tensor[]): number {
  const held = steps.map(() => 0);
  for (const x of tensors) {
    const first = steps.findIndex(({ writes }) => writes.includes(x));
    const last = steps.findLastIndex(({ reads, writes }) =>
      reads.includes(x) || writes.includes(x)
    );
    for (let i = first; i <= last; i++) held[i]! += bytesOf(x.dtype, x.size);
  }
  return Math.max(...held);
}

/** A training step of a small ResNet: everything that a plan can contain. */
function training() {
  const net = new Sequential(
    new Conv2d(1, 4, { kernelSize: 3, padding: 1 }),
    new BatchNorm2d(4),
    new ReLU(),
    new MaxPool2d({ kernelSize: 2 }),
    new Residual(4, 8, { use1x1conv: true, stride: 2 }),
    new Flatten(),
    new Linear(32, 4),
  );
  const labels = input("labels", [3], "u32");
  const { result: loss, updates } = collectUpdates(() =>
    crossEntropy(net.call(input("images", [3, 1, 8, 8])), labels)
  );
  const parameters = net.parameters();
  const optimizer = new Adam(parameters, { lr: 0.01 });
  updates.push(...optimizer.updates(grad(loss, parameters)));
  const feeds = () => ({
    images: new Random(1).uniform(new Float32Array(192)),
    labels: Uint32Array.of(0, 3, 1),
    ...optimizer.nextStep(),
  });
  return { net, loss, updates, feeds };
}

Deno.test("in a training step no tensor is overwritten before its last reader", async () => {
  const { loss, updates, feeds } = training();
  using plan = await Plan.compile({ outputs: [loss], updates });
  const { slotOf, slotSizes, parts } = plan.placed;
  simulate(plan.steps, slotOf, slotSizes, (x) => bytesOf(x.dtype, x.size));
  const used = slotSizes.reduce((a, b) => a + b, 0), least = peak(plan.steps, [...slotOf.keys()]);
  assert(used < 1.25 * least, `${used} bytes of workspace, ${least} of them in use at once`);

  // Gradients lie side by side in the packed one, and no kernel binds that twice.
  assert(parts.size > 10, `${parts.size} parts`);
  const places = [...parts].map(([node, { whole, offset }]) => ({ node, whole, offset }))
    .sort((a, b) => a.offset - b.offset);
  places.forEach(({ node, whole, offset }, i) => {
    assertEquals(whole, places[0]!.whole);
    assert(offset % 64 === 0 && offset + node.size <= whole.size, `${node} at ${offset}`);
    const next = places[i + 1];
    assert(!next || offset + node.size <= next.offset, `${node} reaches into ${next?.node}`);
  });
  for (const { name, reads, writes } of plan.steps) {
    const home = (x: Tensor) => parts.get(x)?.whole ?? x;
    const written = writes.map(home);
    assert(!reads.some((x) => written.includes(home(x))), `${name} reads what it writes`);
  }
  const losses: number[] = [];
  for (let i = 0; i < 8; i++) {
    plan.run(feeds());
    losses.push((await plan.read())[0]![0]!);
  }
  assert(losses.at(-1)! < 0.5 * losses[0]!, `it does not learn: ${losses}`);
});

Deno.test("slots stay apart whatever the steps are", () => {
  const random = new Random(8);
  for (let trial = 0; trial < 200; trial++) {
    const tensors: Tensor[] = [input("x", [1])];
    const steps: Access[] = [];
    const count = 2 + random.below(30);
    for (let i = 0; i < count; i++) {
      // Now and then a tensor is written by several kernels, each a part of it.
      const reads = Array.from(
        { length: random.below(4) },
        () => tensors[random.below(tensors.length)]!,
      );
      const node = input("t", [1 + random.below(1000)]);
      const kernels = 1 + random.below(3) % 2;
      for (let k = 0; k < kernels; k++) steps.push({ reads, writes: [node] });
      tensors.push(node);
    }
    const bytes = (x: Tensor) => 4 * x.size;
    const given = tensors[0]!;
    const { slotOf, sizes } = assignSlots(steps, (x) => x !== given, bytes);
    assertEquals(slotOf.size, count);
    simulate(steps, slotOf, sizes, bytes);
  }
});

Deno.test("a long chain takes as much memory as a short one", async () => {
  const chain = async (length: number) => {
    let x: Tensor = input("x", [4, 4]);
    for (let i = 0; i < length; i++) x = matmul(x, x);
    using plan = await Plan.compile({ outputs: [x] });
    assertEquals(plan.steps.length, length);
    return plan.placed.slotSizes;
  };
  assertEquals(await chain(5), [64, 64]);
  assertEquals(await chain(300), [64, 64]);
});

Deno.test("plans share a workspace without disturbing each other", async () => {
  const build = (n: number) => {
    const conv = new Conv2d(4, 4, { kernelSize: 3, padding: 1 });
    return sum(conv.forward(relu(conv.forward(input("x", [n, 4, 4, 4])))), [1, 2, 3]);
  };
  const feeds = (n: number, shift: number) => ({
    x: Float32Array.from({ length: n * 64 }, (_, i) => (i + shift) % 7),
  });
  const graphs = [1, 3, 40].map((n) => ({ n, y: build(n) }));
  const alone = (shift: number) =>
    Promise.all(graphs.map(({ n, y }) => evaluate([y], feeds(n, n + shift))));
  const expected = [await alone(0), await alone(3)];

  // Each plan is compiled after the one before it has run, and needs a larger workspace.
  const plans: Plan[] = [];
  for (const { n, y } of graphs) {
    const plan = await Plan.compile({ outputs: [y] });
    plans.push(plan);
    plan.run(feeds(n, n));
  }
  for (const [round, values] of expected.entries()) {
    if (round > 0) graphs.forEach(({ n }, i) => plans[i]!.run(feeds(n, n + 3)));
    for (const [i, plan] of plans.entries()) assertEquals(await plan.read(), values[i]);
  }
  // A plan that is gone takes nothing of the others' with it.
  plans[2]![Symbol.dispose]();
  plans[0]!.run(feeds(1, 1));
  assertEquals(await plans[0]!.read(), expected[0]![0]);
  plans.slice(0, 2).forEach((plan) => plan[Symbol.dispose]());
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
  assertEquals((await readVariables([w, v])).map((x) => [...x]), [[-1, 0, 1], [1, 2]]);
  assertThrows(() => step.run(optimizer.nextStep()), Error, "taken over by another optimizer");
});

Deno.test("a plan is compiled again where an optimizer lays side by side what it reads and writes", async () => {
  const w = new Variable([2], f32(1, 2)), v = new Variable([2], f32(3, 4));
  const options = { updates: [assign(v, add(w, 1))] };
  using before = await Plan.compile(options);
  const optimizer = new SGD([w, v], { lr: 1 });
  const grads = [tensor([1, 1]), tensor([1, 1])];
  using step = await Plan.compile({ updates: optimizer.updates(grads) });
  step.run(optimizer.nextStep());
  for (let i = 0; i < 2; i++) assertThrows(() => before.run(), PlanError, "compile the plan again");
  using again = await Plan.compile(options);
  again.run();
  assertEquals((await readVariables([w, v])).map((x) => [...x]), [[0, 1], [1, 2]]);
});

Deno.test("variables can be read while a plan takes some of them over", async () => {
  const a = new Variable([2], f32(1, 2)), b = new Variable([2], f32(3, 4));
  await evaluate(a);
  const reading = readVariables([a, b]);
  using plan = await Plan.compile({ outputs: [neg(b)] });
  assertEquals((await reading).map((x) => [...x]), [[1, 2], [3, 4]]);
  plan.run();
  assertEquals([...(await plan.read())[0]!], [-3, -4]);
});

Deno.test("an optimizer of some parameters leaves the others of an earlier one usable", async () => {
  for (const isUsed of [true, false]) {
    const w = new Variable([3], f32(1, 2, 3)), v = new Variable([2], f32(4, 5));
    const all = new SGD([w, v], { lr: 1 });
    using first = await Plan.compile({
      updates: isUsed ? all.updates([tensor([1, 1, 1]), tensor([1, 1])]) : [],
    });
    first.run(isUsed ? all.nextStep() : {});
    const some = new SGD([v], { lr: 1 });
    using step = await Plan.compile({ outputs: [sum(w)], updates: some.updates([neg(v)]) });
    step.run(some.nextStep());
    assertEquals((await step.read())[0]![0], isUsed ? 3 : 6);
    assertEquals(
      (await readVariables([w, v])).map((x) => [...x]),
      isUsed ? [[0, 1, 2], [6, 8]] : [[1, 2, 3], [8, 10]],
    );
    if (isUsed) assertThrows(() => first.run(all.nextStep()), Error, "taken over by another");
  }
});

Deno.test("gradients that are slices, or one for two parameters, reach their places in the pack", async () => {
  const parameters = [2, 2, 2, 2].map((n) => new Variable([n]));
  const optimizer = new SGD(parameters, { lr: 1 });
  const h = neg(input("x", [3, 2]));
  const total = sum(h, [0]);
  using plan = await Plan.compile({
    updates: optimizer.updates([select(h, 0), total, select(h, 2), total]),
  });
  plan.run({ x: f32(1, 2, 3, 4, 5, 6), ...optimizer.nextStep() });
  assertEquals(
    (await readVariables(parameters)).map((x) => [...x]),
    [[1, 2], [9, 12], [5, 6], [9, 12]],
  );
});
