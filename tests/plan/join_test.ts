/** Which small kernels become one: read from the steps, and run. */

import { assert, assertEquals } from "@std/assert";
import {
  add,
  assign,
  batchNorm,
  BatchNorm2d,
  collectUpdates,
  exp,
  grad,
  input,
  mean,
  mul,
  neg,
  Plan,
  readVariables,
  relu,
  select,
  SGD,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  type Update,
  Variable,
} from "@resnette/resnette";
import type { Target } from "../../lib/kernels/kernel.ts";
import { stepsOf } from "../../lib/plan/steps.ts";
import { TARGET } from "./target.ts";

const planned = (outputs: Tensor[], updates: Update[] = [], limits: Partial<Target> = {}) =>
  stepsOf(outputs, updates, { ...TARGET, ...limits }).steps;
const names = (...of: Parameters<typeof planned>) => planned(...of).map(({ name }) => name);
const counts = (n: number) => Array.from({ length: n }, (_, i) => new Variable([], [i]));

Deno.test("what a batch norm does on its channels is one kernel forward and one backward", () => {
  const x = input("x", [64, 8, 4, 4]), layer = new BatchNorm2d(8);
  const { result, updates } = collectUpdates(() => layer.call(x));
  const sgd = new SGD(layer.parameters());
  const loss = sum(square(relu(result)));
  const [dx] = grad(loss, [x]);
  const found = names([loss, dx!], [...updates, ...sgd.minimize(loss)]);
  const small = found.filter((name) => /merge|assign/.test(name));
  assertEquals(small, [
    "mergeMoments + mul(div(sqrt(add))) + assign",
    // The loss, and the number of batches.
    "sum + assign",
    "mergeDots + mul(div(sqrt(add))) + mul(mul(div(sqrt(add))),mul) + mul(mul) + assign",
  ]);
});

Deno.test("a result that only its own kernel reads is not stored", () => {
  const x = input("x", [8, 100]);
  const [step, ...others] = planned([exp(mean(x, [0])), neg(sum(x, [0]))]);
  assertEquals(others, []);
  assertEquals(step!.name, "sum + exp(mul) + neg");
  assertEquals(step!.writes.map(({ op }) => op.name), ["exp", "neg"]);
});

Deno.test("joined kernels bind no more buffers than they may", async () => {
  for (const maxStorageBuffers of [3, 4, 5, 8, 100]) {
    const variables = counts(40);
    const updates = variables.map((x) => assign(x, add(x, 1)));
    const steps = planned([], updates, { maxStorageBuffers });
    assertEquals(steps.length, Math.ceil(40 / Math.min(maxStorageBuffers, 16)));
    const most = Math.max(...steps.map(({ spec }) => spec.bindings.length));
    assert(most <= maxStorageBuffers, `${most} bindings of ${maxStorageBuffers}`);
  }
  const variables = counts(40);
  using plan = await Plan.compile({ updates: variables.map((x) => assign(x, add(x, 1))) });
  plan.run();
  assertEquals((await readVariables(variables)).map(([x]) => x), variables.map((_, i) => i + 1));
});

Deno.test("a kernel waits for nothing that comes after its first part", () => {
  const x = input("x", [50, 8]), y = input("y", [50, 8]);
  const a = sum(x, [0]), b = sum(exp(add(y, a)), [0]);
  // The last sum needs b, which needs a: it cannot be where a is.
  assertEquals(names([add(a, b), neg(a)]), ["sum + neg", "sum(exp(add)) + add"]);
});

Deno.test("an update is early only if no one else reads the old value", async () => {
  const v = new Variable([4], [1, 2, 3, 4]), w = new Variable([4], [1, 1, 1, 1]);
  const rows = tensor(Float32Array.from({ length: 200 }, (_, i) => i % 4), [50, 4]);
  const total = sum(rows, [0]);
  const updates = [assign(v, add(v, total)), assign(w, add(w, total))];
  // v is read late, by another sum; w by its update only.
  const late = sum(relu(add(rows, v)), [0]);
  using plan = await Plan.compile({ outputs: [late, sub(v, 1)], updates });
  const assigns = plan.steps.filter(({ name }) => name.includes("assign"));
  assertEquals(assigns.map(({ name }) => name), ["sum + sub + assign", "assign"]);
  assertEquals(assigns.map(({ writes }) => writes.includes(v)), [false, true]);
  for (const [k, before] of [[1, [1, 2, 3, 4]], [2, [1, 52, 103, 154]]] as const) {
    plan.run();
    const [sums, less] = await plan.read();
    assertEquals([...sums!], before.map((x, i) => 50 * (i + x)));
    assertEquals([...less!], before.map((x) => x - 1));
    const found = await readVariables([v, w]);
    assertEquals(found.map((x) => [...x]), [
      [1, 2, 3, 4].map((x, i) => x + 50 * i * k),
      [1, 1, 1, 1].map((x, i) => x + 50 * i * k),
    ]);
  }
});

Deno.test("channels that are no multiple of four, one channel, and one value", async () => {
  for (const c of [1, 2, 3, 4, 5, 8, 12]) {
    for (const n of [2, 3, 70, 5000]) {
      const data = Float32Array.from({ length: n * c }, (_, i) => (i * 7919 % 101) / 25 + i % c);
      const x = tensor(data, [n, c]);
      const gamma = tensor(Float32Array.from({ length: c }, (_, i) => 1 + i / 4));
      const beta = tensor(new Float32Array(c).fill(0.5));
      const running = new Variable([c]);
      const { y, moments } = batchNorm(x, gamma, beta, 1e-3);
      using plan = await Plan.compile({
        outputs: [y, moments],
        updates: [assign(running, add(mul(running, 0.5), select(moments, 1)))],
      });
      plan.run();
      const [found, stats] = await plan.read();
      const [followed] = await readVariables([running]);
      for (let k = 0; k < c; k++) {
        const column = [...data].filter((_, i) => i % c === k);
        const mean = column.reduce((a, b) => a + b) / n;
        const variance = column.reduce((a, b) => a + (b - mean) ** 2, 0) / n;
        const scale = (1 + k / 4) / Math.sqrt(variance + 1e-3);
        const off = Math.max(
          Math.abs(stats![k]! - mean),
          Math.abs(stats![c + k]! - variance),
          Math.abs(followed![k]! - variance),
          ...column.map((x, i) => Math.abs((x - mean) * scale + 0.5 - found![i * c + k]!)),
        );
        assert(off < 1e-4, `channel ${k} of ${c}, ${n} rows, is off by ${off}`);
      }
    }
  }
});

Deno.test("a reduction of what is stored is taken on the way, over any axes", async () => {
  const shapes = [[40, 8], [33, 7], [2, 50, 4], [3, 5, 70], [6, 4, 3, 8], [128], [1, 96]];
  for (const shape of shapes) {
    const size = shape.reduce((a, b) => a * b);
    const data = (k: number) => Float32Array.from({ length: size }, (_, i) => (i * k % 23) - 11);
    const [a, b] = [data(7), data(5)], x = tensor(a, shape), y = tensor(b, shape);
    const h = add(mul(x, y), mul(x, 2));
    const at = (i: number) => a[i]! * b[i]! + 2 * a[i]!;
    for (let axis = 0; axis < shape.length; axis++) {
      if (shape[axis]! < 16) continue;
      using plan = await Plan.compile({ outputs: [h, neg(sum(mul(h, y), [axis]))] });
      const [step, ...more] = plan.steps;
      assert(step!.writes.includes(plan.outputs[0]!.node), `${shape} over ${axis}: ${plan}`);
      assert(step!.name.includes("um(mul)"), `${shape} over ${axis}: ${plan}`);
      assert(!more.some(({ reads }) => reads.includes(plan.outputs[0]!.node)), `${plan}`);
      plan.run();
      const [stored, sums] = await plan.read();
      assertEquals(stored, a.map((_, i) => at(i)));
      const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
      const expected = new Float32Array(size / shape[axis]!);
      for (let i = 0; i < size; i++) {
        const row = Math.floor(i / (inner * shape[axis]!)) * inner + i % inner;
        expected[row]! -= at(i) * b[i]!;
      }
      assertEquals(sums, expected);
    }
  }
});

Deno.test("a stored tensor is not read by the kernel that makes it", () => {
  const x = input("x", [64, 8]), y = input("y", [64, 8]);
  const h = add(mul(x, y), mul(x, 2)), sums = sum(h, [0]);
  // The first row has as many elements as there are sums.
  const steps = planned([h, sums, neg(select(h, 0))]);
  for (const { reads, writes } of steps) {
    assert(!writes.some((x) => reads.includes(x)), "read and written");
  }
  assertEquals(steps.map(({ name }) => name), ["sum + add(mul,mul)", "neg"]);
});
