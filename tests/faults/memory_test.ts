/**
 * Memory does not grow: buffers to the byte, the process except for garbage. In the suite
 * for some rounds of a small network; a soak takes 2,000 steps of ResNet-18, and 50 plans.
 */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  add,
  conv2d,
  Device,
  evaluate,
  freeVariables,
  grad,
  input,
  matmul,
  mul,
  permute,
  Plan,
  readVariables,
  relu,
  resnet18,
  sum,
  tensor,
  Variable,
} from "@resnette/resnette";
import { measureCeiling, profilePlan, tune } from "@resnette/resnette/measure";
import { evaluateAccuracy, predict, trainConfig, Trainer } from "@resnette/resnette/train";
import { median } from "../../lib/measure/timing.ts";
import { madeUpImages } from "../../scripts/profile.ts";
import { smallNet } from "../small_net.ts";
import { draws, report, rounds } from "../soak.ts";
import { asInBrowser, LiveBuffers } from "./gpu.ts";

/** V8 collects garbage when its own heap fills; of what WebGPU's objects hold besides, it knows nothing. */
const collectGarbage: () => void = (() => {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc");
})();

/** Bytes that the process may grow by. */
const SLACK = 16 * 2 ** 20;

/** The memory of the process, looked at now and then. */
class Resident {
  readonly points: number[] = [];

  look(): void {
    collectGarbage();
    this.points.push(Deno.memoryUsage().rss);
  }

  /** Asserts that the last third of the looks is like the second: before that, caches fill. */
  check(): void {
    const third = Math.floor(this.points.length / 3);
    const growth = median(this.points.slice(-third)) - median(this.points.slice(third, 2 * third));
    assert(growth < SLACK, `${this}: grows by ${growth}`);
  }

  toString(): string {
    return `${this.points.map((bytes) => Math.round(bytes / 2 ** 20)).join(" ")} MiB`;
  }
}

/** The buffers without the workspace, which is the device's and stays. */
const beside = (live: LiveBuffers) => live.names.filter((name) => !name.startsWith("workspace"));

Deno.test("a training run takes the same memory in its last step as in its first", async () => {
  const steps = rounds(100, 2000), batchSize = rounds(16, 4), epochs = 10;
  const net = rounds(1, 0) ? smallNet() : resnet18();
  const config = trainConfig({ batchSize, resize: rounds(28, 32), epochs, lr: 1e-5 });
  const data = madeUpImages(batchSize * steps / epochs);
  using live = new LiveBuffers();
  using device = await Device.request();
  const trainer = await Trainer.create({
    config,
    train: data,
    test: madeUpImages(40),
    net,
    device,
  });
  const resident = new Resident();
  let seen: unknown;
  while (!trainer.done) {
    await trainer.epoch();
    resident.look();
    seen ??= live.now;
    assertEquals(live.now, seen, `after epoch ${trainer.history.length}`);
  }
  const { count, bytes } = live.now;
  resident.check();
  trainer[Symbol.dispose]();
  freeVariables(net.namedVariables().map(([, variable]) => variable));
  assertEquals(beside(live), []);
  report(
    `${steps} steps at batch ${batchSize}: ${count} buffers of ${bytes} bytes after each tenth; ` +
      `process ${resident}`,
  );
});

Deno.test("plans that are made and disposed of leave nothing but the workspace that the largest took", async () => {
  const plans = rounds(8, 50), random = draws(4);
  using live = new LiveBuffers();
  using device = await Device.request();
  const weight = new Variable([8, 4, 3, 3], () => new Float32Array(288).fill(0.1));
  await evaluate(weight, {}, device);
  const before = beside(live);
  const largest: number[] = [];
  const resident = new Resident();
  for (let i = 0; i < plans; i++) {
    const [n, size, columns] = [2, 5, 1].map((least) => least + random.below(12)) as [
      number,
      number,
      number,
    ];
    const pixels = [n, 4, size, size];
    const x = input("x", pixels), constant = tensor(new Float32Array(n * 4 * size ** 2), pixels);
    // A constant of its own lets every plan have kernels of its own.
    const y = relu(conv2d(mul(add(x, constant), 1 + i / 64), weight, undefined, { padding: 1 }));
    const flat = input("flat", [n, 64]);
    const z = matmul(flat, tensor(new Float32Array(64 * columns), [64, columns]));
    using plan = await Plan.compile({ outputs: [y, z, ...grad(sum(y), [x, weight])], device });
    plan.placed.slotSizes.forEach((bytes, slot) =>
      largest[slot] = Math.max(largest[slot] ?? 0, bytes)
    );
    for (let run = 0; run < 3; run++) {
      plan.run({ x: new Float32Array(x.size).fill(run), flat: new Float32Array(flat.size) });
    }
    const [found] = await plan.read();
    assertEquals(found!.length, n * 8 * size ** 2);
    plan[Symbol.dispose]();
    assertEquals(beside(live), before, `after plan ${i}`);
    const workspace = live.names.filter((name) => name.startsWith("workspace"));
    assertEquals(
      workspace.sort(),
      largest.map((bytes, slot) => `workspace ${slot}: ${bytes}`).sort(),
    );
    resident.look();
  }
  resident.check();
  report(`${plans} plans: ${largest.length} buffers of workspace left; process ${resident}`);
});

Deno.test("constants are on the device once, while some plan needs them", async () => {
  using live = new LiveBuffers();
  using device = await Device.request();
  const x = tensor(new Float32Array(1000).fill(3)), bytes = `${x}: 4000`;
  const held = () => live.names.filter((name) => name === bytes).length;
  const a = await Plan.compile({ outputs: [sum(x)], device });
  const b = await Plan.compile({ outputs: [mul(x, 2), x], device });
  assertEquals(held(), 1);
  a[Symbol.dispose]();
  a[Symbol.dispose]();
  b.run();
  assertEquals((await b.read()).map((values) => values[999]), [6, 3]);
  assertEquals(held(), 1);
  b[Symbol.dispose]();
  assertEquals(held(), 0);
  for (let i = 0; i < rounds(20, 500); i++) {
    await evaluate(sum(tensor(new Float32Array(2 ** 16))), {}, device);
  }
  assertEquals(beside(live), []);
});

Deno.test("runs, tests and predictions leave their networks' values, which can be freed", async () => {
  const runs = rounds(3, 40);
  using live = new LiveBuffers();
  using device = await Device.request();
  const resident = new Resident();
  const data = madeUpImages(32);
  for (let i = 0; i < runs; i++) {
    const config = trainConfig({ batchSize: 16, resize: 28, epochs: 1, seed: i });
    const net = smallNet();
    // Each parameter gets a buffer, which the optimizer then moves into one with all of them.
    await evaluateAccuracy(net, data, { batchSize: 32, resize: 28, device });
    const trainer = await Trainer.create({ config, train: data, test: data, net, device });
    await trainer.epoch();
    await trainer.checkpoint();
    trainer[Symbol.dispose]();
    await evaluateAccuracy(net, data, { batchSize: 20, resize: 28, device });
    await predict(net, data, { resize: 28, device });
    const values = net.namedVariables().map(([, variable]) => variable);
    // All parameters are in one, and each statistic has its own.
    assertEquals(beside(live).length, 1 + values.length - net.parameters().length);
    assertEquals((await readVariables(values)).length, values.length);
    freeVariables(values);
    assertEquals(beside(live), []);
    resident.look();
  }
  resident.check();
  report(`${runs} networks trained, tested, asked and freed; process ${resident}`);
});

Deno.test("measuring leaves nothing: ceilings, profiles, and tuning, also where that fails", async () => {
  using live = new LiveBuffers();
  using device = await Device.request();
  const a = tensor(new Float32Array(32 * 64), [32, 64]), product = matmul(a, permute(a, [1, 0]));
  const works: Record<string, () => Promise<unknown>> = {
    measureCeiling: () => measureCeiling(device),
    "profilePlan by timestamps": async () => {
      using plan = await Plan.compile({ outputs: [product], device });
      await profilePlan(plan, {}, { enough: 5 });
    },
    "profilePlan by submits": async () => {
      using plan = await Plan.compile({ outputs: [product], device });
      await profilePlan(plan, {}, { enough: 5, clock: "submits" });
    },
    tune: () => tune(device, [product]),
    "tune that fails": () => {
      let told = 0;
      const onProgress = () => {
        if (++told === 2) throw new Error("enough");
      };
      return assertRejects(() => tune(device, [product], { onProgress }), Error, "enough");
    },
  };
  for (const [name, work] of Object.entries(works)) {
    for (let i = 0; i < rounds(1, 5); i++) await work();
    assertEquals(beside(live), [], name);
  }
});

Deno.test("a device that is disposed of leaves no buffer, whoever has some on it", async () => {
  const devices = rounds(3, 20);
  using live = new LiveBuffers();
  const resident = new Resident();
  for (let i = 0; i < devices; i++) {
    {
      using device = await Device.request();
      const v = new Variable([1000]), x = tensor(new Float32Array(1000));
      await Plan.compile({ outputs: [add(v, x), mul(x, 2)], device });
      assert(live.now.count >= 5);
    }
    assertEquals(live.now, { count: 0, bytes: 0 });
    resident.look();
  }
  resident.check();
  report(`${devices} devices; process ${resident}`);
});

Deno.test("kernels are kept for plans to come: the latest 256, and all that the latest plan has", async () => {
  using device = await Device.request();
  const { gpu } = device;
  let compiled = 0;
  gpu.createComputePipeline = () => {
    compiled++;
    return {} as GPUComputePipeline;
  };
  gpu.createComputePipelineAsync = () => Promise.resolve(gpu.createComputePipeline(null!));
  gpu.createShaderModule = () => ({}) as GPUShaderModule;
  const kernel = (number: number) =>
    [{ bindings: [], body: `// ${number}`, workgroups: [1, 1, 1] }, "some kernel"] as const;
  /** How many are compiled for a plan with kernels of these numbers. */
  const compiledFor = (...numbers: number[]) => {
    const before = compiled;
    device.pipelines(numbers.map(kernel));
    return compiled - before;
  };
  for (let i = 0; i < 300; i++) {
    assertEquals(compiledFor(i), 1);
    assertEquals(compiledFor(0), 0, `with ${i} others`);
  }
  assertEquals([299, 45, 44, 0].map((i) => compiledFor(i)), [0, 0, 1, 0]);

  const large = (from: number) => Array.from({ length: 300 }, (_, i) => from + i);
  assertEquals(compiledFor(...large(1000), 1000), 300);
  assertEquals(compiledFor(...large(1000)), 0, "the last batch, which is smaller");
  assertEquals(compiledFor(1299), 0, "a small plan, beside which there is room for 255");
  assertEquals(compiledFor(...large(1000)), 44);
  assertEquals(compiledFor(...large(2000)), 300);
  compiled = 0;
  await asInBrowser(() => device.compileAhead(large(3000).map(kernel)));
  assertEquals(compiledFor(...large(3000)), 0);
  assertEquals(compiled, 300);
});
