/** In-place updates: each sees the values from before the run, and everyone else sees them too. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  add,
  ArgumentError,
  arrays,
  assign,
  BatchNorm2d,
  collectUpdates,
  Conv2d,
  type Device,
  div,
  exp,
  grad,
  input,
  matmul,
  mul,
  neg,
  pad,
  permute,
  perThread,
  Plan,
  PlanError,
  readVariables,
  reshape,
  select,
  setVariable,
  SGD,
  ShapeError,
  sin,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  type TensorData,
  type Update,
  Variable,
} from "@resnette/resnette";
import { packVariables } from "../../lib/graph/tensor.ts";
import { storeIn } from "../../lib/graph/tensor.ts";
import { difference } from "../ops/nd.ts";

const f32 = (...values: number[]) => new Float32Array(values);
const values = async (...variables: Variable[]) =>
  (await readVariables(variables)).map((x) => [...x]);
const orders = <T>(items: readonly T[]): T[][] =>
  items.length < 2
    ? [[...items]]
    : items.flatMap((first, i) => orders(items.toSpliced(i, 1)).map((rest) => [first, ...rest]));

Deno.test("updates see the values from before, in whatever order they are given", async () => {
  for (const order of orders([0, 1, 2])) {
    const a = new Variable([4], f32(1, 2, 3, 4));
    const b = new Variable([4], f32(10, 20, 30, 40));
    const c = new Variable([4], f32(5, 6, 7, 8));
    // a and b trade places, by way of no one; c takes from both and itself.
    const updates = [assign(a, b), assign(b, neg(a)), assign(c, add(mul(c, 2), sub(b, a)))];
    const before = sum(add(mul(a, b), c));
    using plan = await Plan.compile({
      outputs: [before, c],
      updates: order.map((i) => updates[i]!),
    });
    plan.run();
    assertEquals((await plan.read()).map((x) => [...x]), [[326], [5, 6, 7, 8]]);
    assertEquals(await values(a, b), [[10, 20, 30, 40], [-1, -2, -3, -4]]);
    plan.run();
    assertEquals(
      await values(a, b, c),
      [[-1, -2, -3, -4], [-10, -20, -30, -40], [27, 38, 49, 60]],
      `order ${order}`,
    );
  }
});

Deno.test("an update follows every reader, however late that comes", async () => {
  const v = new Variable([2, 2], f32(1, 2, 3, 4));
  const update = assign(v, add(v, 1));
  let late: Tensor = v;
  for (let i = 0; i < 5; i++) late = matmul(late, v);
  const [slope] = grad(sum(square(late)), [v]);
  using plan = await Plan.compile({ outputs: [late, slope!, add(v, 0)], updates: [update] });
  using frozen = await Plan.compile({ outputs: [late, slope!, add(v, 0)] });
  for (let i = 0; i < 2; i++) {
    frozen.run();
    const expected = await frozen.read();
    plan.run();
    assertEquals(await plan.read(), expected);
  }
  assertEquals(await values(v), [[3, 4, 5, 6]]);
});

Deno.test("an update may be any function of its own target", async () => {
  const size = 48, start = Float32Array.from({ length: size * size }, (_, i) => (i % 97) / 50 - 1);
  const element = (i: number, j: number) => start[i * size + j]!;
  const row = (i: number) => start.subarray(i * size, (i + 1) * size).reduce((a, b) => a + b);
  const cases: [string, (v: Variable) => Tensor, (i: number, j: number) => number][] = [
    ["2v + 1", (v) => add(mul(v, 2), 1), (i, j) => 2 * element(i, j) + 1],
    [
      "v plus its second row",
      (v) => add(v, reshape(select(v, 1), [1, size])),
      (i, j) => element(i, j) + element(1, j),
    ],
    [
      "v plus its transpose",
      (v) => add(v, permute(v, [1, 0])),
      (i, j) => element(i, j) + element(j, i),
    ],
    ["its transpose", (v) => permute(v, [1, 0]), (i, j) => element(j, i)],
    [
      "v over its row sums",
      (v) => div(v, sum(exp(v), [1], { keepDims: true })),
      (i, j) =>
        element(i, j) /
        start.subarray(i * size, (i + 1) * size).reduce((a, b) => a + Math.exp(b), 0),
    ],
    [
      "v minus the sum of row 0",
      (v) => sub(v, sum(select(v, 0))),
      (i, j) => element(i, j) - row(0),
    ],
    [
      "v @ v",
      (v) => matmul(v, v),
      (i, j) =>
        start.subarray(0, size).reduce((total, _, k) => total + element(i, k) * element(k, j), 0),
    ],
  ];
  const variables = cases.map(() => new Variable([size, size], start.slice()));
  using plan = await Plan.compile({
    updates: cases.map(([, value], i) => assign(variables[i]!, value(variables[i]!))),
  });
  plan.run();
  const found = await readVariables(variables);
  cases.forEach(([name, , expected], k) => {
    const off = difference(
      found[k]!,
      start.map((_, at) => expected(Math.floor(at / size), at % size)),
    );
    assertEquals(off < 3e-6, true, `${name} is off by ${off}`);
  });
});

Deno.test("a value that is computed early makes no other one read what has changed", async () => {
  const a = new Variable([2], [1, 2]), b = new Variable([2], [10, 20]), c = new Variable([2]);
  let left: Tensor = a, right: Tensor = b;
  // Together too long for one kernel, until the left one is stored.
  for (let i = 0; i < 30; i++) [left, right] = [add(left, 1), sub(right, 1)];
  using plan = await Plan.compile({
    updates: [assign(b, add(b, 100)), assign(a, add(left, right)), assign(c, left)],
  });
  plan.run();
  assertEquals(await values(a, b, c), [[11, 22], [110, 120], [31, 32]]);
});

Deno.test("a column read by its own update is read whole", async () => {
  const v = new Variable([8, 1], f32(1, 2, 3, 4, 5, 6, 7, 8));
  using plan = await Plan.compile({ updates: [assign(v, add(v, select(v, 7)))] });
  plan.run();
  assertEquals(await values(v), [[9, 10, 11, 12, 13, 14, 15, 16]]);
});

Deno.test("runs accumulate, also of two plans that update the same variable", async () => {
  const v = new Variable([3]), scalar = new Variable([]);
  using up = await Plan.compile({
    updates: [assign(v, add(v, 1)), assign(scalar, add(scalar, 1))],
  });
  using double = await Plan.compile({ updates: [assign(v, mul(v, 2))] });
  up.run();
  up.run();
  double.run();
  up.run();
  assertEquals(await values(v, scalar), [[5, 5, 5], [3]]);
  setVariable(v, f32(7, 8, 9));
  double.run();
  assertEquals(await values(v), [[14, 16, 18]]);
});

Deno.test("an average of weights follows the old ones, before or after the optimizer", async () => {
  for (const swapped of [false, true]) {
    const w = new Variable([4], f32(1, 2, 3, 4)), average = new Variable([4]);
    const optimizer = new SGD([w], { lr: 1 });
    const updates = [...optimizer.updates([tensor([1, 1, 1, 1])]), assign(average, mul(w, 0.5))];
    using plan = await Plan.compile({ updates: swapped ? updates.reverse() : updates });
    plan.run(optimizer.nextStep());
    assertEquals(await values(average, w), [[0.5, 1, 1.5, 2], [0, 1, 2, 3]]);
  }
});

Deno.test("an optimizer's gradients are those at the old weights, whatever else is updated", async () => {
  for (const order of orders([0, 1])) {
    const w = new Variable([2], f32(1, 2)), scale = new Variable([2], f32(3, 5));
    const optimizer = new SGD([w], { lr: 1 });
    const loss = sum(mul(square(w), scale));
    const updates: Update[][] = [optimizer.updates(grad(loss, [w])), [
      assign(scale, add(scale, w)),
    ]];
    using plan = await Plan.compile({
      outputs: [loss],
      updates: order.flatMap((i) => updates[i]!),
    });
    plan.run(optimizer.nextStep());
    assertEquals([...(await plan.read())[0]!], [23]);
    assertEquals(await values(w, scale), [[-5, -18], [4, 7]], `order ${order}`);
  }
});

Deno.test("kernels of an update read what was there before, their own variable too", async () => {
  for (const order of orders([0, 1, 2])) {
    const starts = [[1, 2], [10, 20], [3, 4]];
    const [u, v, w] = starts.map((x) => new Variable([2], x)) as [Variable, Variable, Variable];
    const optimizers = [u, v, w].map((x) => new SGD([x], { lr: 1 }));
    // The gradient for v is u, which another one changes, and that for w is w.
    const updates = [tensor([5, 5]), u, w].map((g, i) => optimizers[i]!.updates([g]));
    using plan = await Plan.compile({ updates: order.flatMap((i) => updates[i]!) });
    plan.run(Object.assign({}, ...optimizers.map((x) => x.nextStep())));
    assertEquals(await values(u, v, w), [[-4, -3], [9, 18], [0, 0]], `order ${order}`);
  }
});

Deno.test("a batch norm that is used twice takes in both batches, one after the other", async () => {
  const norm = new BatchNorm2d(1);
  const first = tensor([1, 2, 3, 4], [4, 1]), second = tensor([10, 20, 30, 40], [4, 1]);
  const { result, updates } = collectUpdates(() => add(norm.call(first), norm.call(second)));
  using plan = await Plan.compile({ outputs: [result], updates });
  plan.run();
  const [mean, variance, batches] = await values(
    norm.runningMean!,
    norm.runningVar!,
    norm.numBatchesTracked!,
  );
  assertEquals(batches, [2]);
  assertEquals(difference(mean!, [0.9 * 0.1 * 2.5 + 0.1 * 25]) < 1e-6, true, `${mean}`);
  const expected = 0.9 * (0.9 + 0.1 * 5 / 3) + 0.1 * 500 / 3;
  assertEquals(difference(variance!, [expected]) < 1e-6, true, `${variance}, not ${expected}`);
});

Deno.test("a variable stored with its axes in another order is like any other", async () => {
  const data = Float32Array.from({ length: 12 }, (_, i) => i);
  const g = tensor(Float32Array.from({ length: 12 }, (_, i) => i * i), [3, 4]);
  const found = await Promise.all([undefined, [1, 0]].map(async (order) => {
    const [v, w] = [1, 2].map(() => {
      const variable = new Variable([3, 4], data.slice());
      return order ? storeIn(order, variable) : variable;
    }) as [Variable, Variable];
    const optimizer = new SGD([new Variable([2]), w], { lr: 1, momentum: 0.5 });
    const momentum = optimizer.state.get("momentum_buffer")![1]!;
    using plan = await Plan.compile({
      outputs: [mul(v, 2), matmul(v, permute(w, [1, 0])), select(w, 1)],
      updates: [
        ...optimizer.updates([tensor([0, 0]), mul(w, g)]),
        assign(v, add(mul(v, 3), w)),
      ],
    });
    const seen: TensorData[] = [];
    for (let i = 0; i < 2; i++) {
      plan.run(optimizer.nextStep());
      seen.push(...await plan.read(), ...await readVariables([v, w, momentum]));
      setVariable(v, data.map((x) => x - 5));
    }
    return [...seen, ...await readVariables([v])];
  }));
  assertEquals(found[1], found[0]);
});

Deno.test("outputs are from before the updates, variables and what is computed from them alike", async () => {
  for (const order of [undefined, [1, 0]]) {
    const v = new Variable([2, 2], f32(1, 2, 3, 4)), row = new Variable([1, 2], f32(5, 6));
    if (order) storeIn(order, v);
    using plan = await Plan.compile({
      // A sum of one row is that row.
      outputs: [v, add(v, 0), sum(row, [0])],
      updates: [assign(v, add(v, 10)), assign(row, add(row, 10))],
    });
    plan.run();
    assertEquals(
      (await plan.read()).map((x) => [...x]),
      [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6]],
      `order ${order}`,
    );
  }
});

Deno.test("what one variable is set to may be set to others, turned or not, and be asked for", async () => {
  const x = input("x", [2, 3]), v = new Variable([2, 3], f32(1, 2, 3, 4, 5, 6));
  const [a, b, c] = [new Variable([2, 3]), new Variable([2, 3]), new Variable([3, 2])] as const;
  const turned = (x: Tensor) => permute(x, [1, 0]);
  using plan = await Plan.compile({
    outputs: [v, turned(v)],
    updates: [assign(a, v), assign(b, x), assign(c, turned(x))],
  });
  plan.run({ x: f32(10, 20, 30, 40, 50, 60) });
  assertEquals(
    (await plan.read()).map((y) => [...y]),
    [[1, 2, 3, 4, 5, 6], [1, 4, 2, 5, 3, 6]],
  );
  assertEquals(
    await values(a, b, c),
    [[1, 2, 3, 4, 5, 6], [10, 20, 30, 40, 50, 60], [10, 40, 20, 50, 30, 60]],
  );
});

Deno.test("a value of another shape or type is refused", () => {
  const v = new Variable([2, 3]);
  assertThrows(() => assign(v, tensor([1, 2, 3, 4, 5, 6], [3, 2])), ShapeError, "[3, 2]");
  assertThrows(() => assign(v, tensor(new Uint32Array(6), [2, 3])), ShapeError, "u32");
  assertThrows(() => assign(v, softmax(tensor([1, 2]))), ShapeError, "[2, 3]");
});

Deno.test("an update that is no assignment of a fitting value is refused", async () => {
  const v = new Variable([2]), w = new Variable([2]);
  for (const value of [tensor([1, 2, 3]), tensor([1]), tensor(Uint32Array.of(1, 2))]) {
    const wrong = { updates: [{ targets: [v], value }] };
    await assertRejects(() => Plan.compile(wrong), ShapeError, "does not fit a variable");
  }
  const two = { updates: [{ targets: [v, w], value: tensor([1, 2]) }] };
  await assertRejects(() => Plan.compile(two), ArgumentError, "must be one variable");
});

Deno.test("kernels cannot update what lies in memory with its axes in another order", async () => {
  const { weight } = new Conv2d(2, 2, { kernelSize: 1 });
  const kernels: NonNullable<Update["kernels"]> = (target) => [
    perThread(arrays({ w: "f32" }), weight.size, target, "  w[i] = 0.0;"),
  ];
  const message = "updates[0].targets[0] must be one whose axes lie in order";
  await assertRejects(
    () => Plan.compile({ updates: [{ targets: [weight], kernels }] }),
    ArgumentError,
    message,
  );
  using plan = await Plan.compile({ updates: [assign(weight, mul(weight, 0))] });
  plan.run();
  assertEquals((await values(weight))[0]!.every((x) => x === 0), true);
});

Deno.test("two updates of one variable in a plan are refused, as one would be lost", async () => {
  const [a, b] = [new Variable([2]), new Variable([2])];
  const [whole] = packVariables([a, b]);
  const one = (target: Variable) => assign(target, add(target, 1));
  for (const updates of [[one(a), one(a)], [one(whole!), one(b)], [one(a), one(whole!)]]) {
    await assertRejects(() => Plan.compile({ updates }), PlanError, "is updated twice");
  }
  using plan = await Plan.compile({ updates: [one(a), one(b)] });
  plan.run();
  assertEquals((await readVariables([a, b])).map((v) => [...v]), [[1, 1], [1, 1]]);
});

/** A packed sum of gradients that is updated early: three layers, the last of which is first. */
function earlySums() {
  const weights = [3, 4, 5].map((n) =>
    new Variable([n, n], Array.from({ length: n * n }, (_, i) => i / 9 - 1))
  );
  const x = input("x", [2, 3]);
  const [a, b, c] = weights as [Variable, Variable, Variable];
  const wide = (x: Tensor) => pad(x, [0, 1]);
  const loss = sum(square(matmul(wide(sin(matmul(wide(sin(matmul(x, a))), b))), c)));
  const grads = grad(loss, weights);
  const sums = weights.map((w) => new Variable([64], new Float32Array(64).fill(w.size)));
  const adding = (i: number, early: boolean): Update => {
    const [whole] = [sums[i]!],
      flat = pad(reshape(grads[i]!, [weights[i]!.size]), [0, 64 - weights[i]!.size]);
    return {
      ...{ name: `add ${i}`, targets: [whole], reads: [flat], early },
      kernels: (target) => [
        perThread(arrays({ g: "f32", s: "f32" }), 64, target, "  s[i] = s[i] + g[i];"),
      ],
    };
  };
  return { weights, loss, sums, adding };
}

Deno.test("an early update is made as soon as what it reads is there, with the same bits", async () => {
  const results: Float32Array[][] = [], places: number[][] = [];
  for (const early of [false, true]) {
    const { weights, loss, sums, adding } = earlySums();
    const last = assign(weights[0]!, mul(weights[0]!, 2));
    const updates = [...[2, 1, 0].map((i) => adding(i, early)), last];
    using plan = await Plan.compile({ outputs: [loss], updates });
    const names = plan.steps.map(({ name }) => name);
    places.push([2, 1, 0].map((i) => names.length - names.indexOf(`add ${i}`)));
    plan.run({ x: new Float32Array([1, 2, 3, 4, 5, 6]) });
    results.push(await readVariables([...sums, ...weights]));
  }
  assertEquals(results[1], results[0]);
  // At the end all together; else each before what only the ones after it need.
  assertEquals(places, [[4, 3, 2], [6, 4, 2]]);
});

Deno.test("a plan that runs in parts computes the same, also where others run in between", async () => {
  const x = new Float32Array([1, 2, 3, 4, 5, 6]);
  const whole = earlySums(), cut = earlySums();
  const of = ({ loss, adding }: typeof whole) => ({
    outputs: [loss],
    updates: [2, 1, 0].map((i) => adding(i, true)),
  });
  using plan = await Plan.compile(of(whole));
  plan.run({ x });
  const workspace: Device["workspace"] = [];
  using parts = await Plan.compile(of(cut), workspace);
  using other = await Plan.compile(of(earlySums()));
  const ends = [2, 1, 0].map((i) => parts.steps.findIndex(({ name }) => name === `add ${i}`) + 1);
  const seen: number[] = [];
  const commands = parts.runParts({ x }, [...ends, parts.steps.length], (_, k) => seen.push(k));
  assertEquals(seen, [0, 1, 2, 3]);
  for (const command of commands) {
    parts.device.gpu.queue.submit([command]);
    other.run({ x: x.map((v) => -v) });
  }
  assertEquals(await parts.read(), await plan.read());
  assertEquals(await readVariables(cut.sums), await readVariables(whole.sums));
  workspace.forEach((slot) => slot?.buffer.destroy());
});

Deno.test("what is updated early is read by nobody else", async () => {
  const { loss, sums, adding } = earlySums();
  const late = new Variable([64]);
  const updates = [adding(2, true), assign(late, mul(sums[2]!, 2))];
  await assertRejects(
    () => Plan.compile({ outputs: [loss], updates }),
    PlanError,
    "is updated early, and read; update it after all else",
  );
});
