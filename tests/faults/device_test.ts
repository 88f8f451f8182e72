/**
 * Adapters that are missing or too small, devices without memory, kernels that no compiler takes, and
 * wrong numbers: each is an error that says what to do, and everything else goes on.
 */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import {
  add,
  apply,
  arrays,
  concat,
  Conv2d,
  defaultDevice,
  Device,
  DeviceError,
  evaluate,
  exp,
  Flatten,
  freeVariables,
  grad,
  input,
  Linear,
  manualSeed,
  matmul,
  Module,
  neg,
  type Op,
  perThread,
  Plan,
  PlanError,
  Random,
  readVariables,
  Sequential,
  SGD,
  square,
  sum,
  type Tensor,
  tensor,
  Variable,
} from "@resnette/resnette";
import { evaluateAccuracy, NonFiniteError, trainConfig, Trainer } from "@resnette/resnette/train";
import { stepsOf } from "../../lib/plan/steps.ts";
import { inFolder } from "../folder.ts";
import { difference } from "../ops/nd.ts";
import { TABLE } from "../ops/table.ts";
import { madeUpImages } from "../../scripts/profile.ts";
import { smallNet } from "../small_net.ts";
import { draws, report } from "../soak.ts";
import { altered, asInBrowser, gpuWith, limitMemory, LiveBuffers, small, withGpu } from "./gpu.ts";
import { namesIn, SETTINGS, train, Training } from "./training.ts";

const f32 = (...values: number[]) => new Float32Array(values);

/** The message of what was thrown, which must be a DeviceError. */
const deviceError = async (body: () => Promise<unknown>) =>
  (await assertRejects(body, DeviceError)).message;

Deno.test("without an adapter the error says what to install, and the next try may have one", async () => {
  const none = { requestAdapter: () => Promise.resolve(null) };
  for (const gpu of [undefined, none]) {
    await withGpu(gpu, async () => {
      for (const ask of [() => Device.request(), defaultDevice]) {
        assertMatch(
          await deviceError(ask),
          /^no WebGPU adapter: install a Vulkan driver .*apt-get/,
        );
        const inBrowser = (secure: boolean) => asInBrowser(() => deviceError(ask), secure);
        assertStringIncludes(
          await inBrowser(true),
          gpu
            ? "no WebGPU adapter: this browser has WebGPU, but no GPU for it: turn hardware"
            : "no WebGPU adapter: this browser has no WebGPU: update it",
        );
        assertStringIncludes(await inBrowser(false), "only on pages that come by https");
      }
    });
  }
  assertEquals([...await evaluate(neg(tensor([1, 2])))], [-1, -2]);
});

Deno.test("deno task train exits 1 where there is no adapter, and leaves no folder", () =>
  inFolder(async (folder) => {
    const none = "export DENO_WEBGPU_BACKEND=vulkan VK_DRIVER_FILES=/dev/null " +
      "VK_ICD_FILENAMES=/dev/null;";
    const { code, out, err } = await new Training(`${SETTINGS} --out ${folder}/run`, none).ended;
    assertEquals([code, out], [1, ""], err);
    assertMatch(err, /^error: no WebGPU adapter: install a Vulkan driver .*apt-get install mesa/);
    assertEquals(namesIn(folder), []);
  }));

/** The least that the kernels need. */
const LEAST = {
  maxStorageBuffersPerShaderStage: 5,
  maxComputeWorkgroupStorageSize: 8192,
  maxComputeInvocationsPerWorkgroup: 128,
  maxComputeWorkgroupSizeX: 128,
};
/** That, and sizes of which WebGPU promises a hundred times as much. */
const SMALL = { ...LEAST, maxStorageBufferBindingSize: 2 ** 20, maxBufferSize: 2 ** 20 };
/** What WebGPU promises of every adapter. */
const PROMISED = {
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 16384,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxStorageBufferBindingSize: 2 ** 27,
  maxBufferSize: 2 ** 28,
};

/** A device of an adapter with these limits. */
const deviceWith = (limits: Readonly<Record<string, number>>) =>
  withGpu(gpuWith((adapter) => small(adapter, limits)), () => Device.request());

Deno.test("an adapter with less than the kernels need is refused by limit; one with just that is not", async () => {
  for (const [name, least] of Object.entries(LEAST)) {
    const message = await deviceError(() => deviceWith({ ...SMALL, [name]: least - 1 }));
    assertStringIncludes(message, `its ${name} is ${least - 1}, and ${least} is needed`);
    assertMatch(message, /cannot run the kernels: .*; install its newest driver, or choose/);
  }
  const two = { maxComputeInvocationsPerWorkgroup: 32, maxComputeWorkgroupSizeX: 32 };
  const both = await deviceError(() => deviceWith({ ...SMALL, ...two }));
  assertMatch(both, /PerWorkgroup is 32, and 128 is needed; its maxComputeWorkgroupSizeX is 32/);
  using _ = await deviceWith(SMALL);
});

Deno.test("an adapter that gives no device, or one that does not compute, is named", async () => {
  const { info } = (await navigator.gpu.requestAdapter())!;
  const refused = (requestDevice: (adapter: GPUAdapter) => unknown) =>
    deviceError(() =>
      withGpu(
        gpuWith((adapter) => altered(adapter, { requestDevice: () => requestDevice(adapter) })),
        () => Device.request(),
      )
    );
  let asked = 0;
  const never = await refused(() => Promise.reject(new TypeError(`no ${++asked}`)));
  assert(never.startsWith(info.description || info.vendor), never);
  assertMatch(never, /gives no device: no 2; install its newest driver/);
  // It is lost before its first kernel, which looks for subgroups, has run.
  const features: GPUFeatureName[] = ["subgroups" as GPUFeatureName];
  const lost = await refused(async (adapter) => {
    const device = await adapter.requestDevice({ requiredFeatures: features });
    device.destroy();
    return device;
  });
  assertMatch(lost, /gives no device: .*; install its newest driver/);
});

Deno.test("where an adapter allows a million buffers, no kernel binds more than a bind group holds", async () => {
  const gpu = gpuWith((adapter) => {
    const limits = altered(adapter.limits, { maxStorageBuffersPerShaderStage: 2 ** 20 });
    return altered(adapter, {
      limits,
      requestDevice: async ({ requiredFeatures = [] }: GPUDeviceDescriptor) => {
        const device = await adapter.requestDevice({ requiredFeatures });
        return Object.defineProperty(device, "limits", { value: limits });
      },
    });
  });
  using device = await withGpu(gpu, () => Device.request());
  const y = concat(Array.from({ length: 5000 }, (_, i) => tensor([i])));
  // WebGPU promises 1000 places, of which the sizes take one.
  for (const { spec } of stepsOf([y], [], device.target).steps) assert(spec.bindings.length < 1000);
});

Deno.test("all ops and gradients are computed within the least limits and within those WebGPU promises", async () => {
  using least = await deviceWith(SMALL);
  using promised = await deviceWith(PROMISED);
  const random = draws(1);
  for (const row of TABLE) {
    const inputs = row.inputs.map(({ shape, dtype }, i) => input(`${i}`, shape, dtype));
    const y = row.compute(...inputs);
    const wrt = inputs.filter((x, i) =>
      (row.wrt?.includes(i) ?? true) && x.dtype === "f32" && y.dtype === "f32"
    );
    const outputs = [y, ...wrt.length > 0 ? grad(sum(square(y)), wrt) : []];
    const feeds = Object.fromEntries(
      row.inputs.map(({ values }, i) => [`${i}`, values(random, inputs[i]!.size)]),
    );
    const expected = await evaluate(outputs, feeds);
    for (const device of [least, promised]) {
      for (const [k, values] of (await evaluate(outputs, feeds, device)).entries()) {
        const off = difference(values, Float64Array.from(expected[k]!));
        assert(off < 1e-4, `${row.op}: ${row.label}: result ${k} is off by ${off}`);
      }
    }
  }
  report(`${TABLE.length} ops and their gradients on two small devices`);
});

Deno.test("a network trains within the least limits; one too large for them is refused, and what is read may be more", async () => {
  using device = await deviceWith(SMALL);
  const losses = await Promise.all([device, await defaultDevice()].map(async (device) => {
    manualSeed(3);
    const config = trainConfig({ batchSize: 8, resize: 28, epochs: 2 });
    const data = { config, train: madeUpImages(20), test: madeUpImages(12), net: smallNet() };
    using trainer = await Trainer.create({ ...data, device });
    while (!trainer.done) await trainer.epoch();
    await trainer.checkpoint();
    return trainer.history.map(({ loss }) => loss);
  }));
  assertEquals(
    losses[0]!.map((loss) => loss.toFixed(3)),
    losses[1]!.map((loss) => loss.toFixed(3)),
  );

  const net = new Sequential(new Flatten(), new Linear(784, 400));
  const config = trainConfig({ batchSize: 2, resize: 28 });
  using wide = await Trainer.create({
    config,
    train: madeUpImages(2),
    test: madeUpImages(2),
    net,
    device,
  });
  const error = await assertRejects(() => wide.prepare(), PlanError);
  assertMatch(
    error.message,
    /variable \[400, 784\] takes \d+ bytes, .* of 1048576; take a smaller net/,
  );

  // Three quarters of what a buffer holds, twice.
  const x = tensor(Float32Array.from({ length: 196_608 }, (_, i) => i));
  const [a, b] = await evaluate([neg(x), add(x, 1)], {}, device);
  assert(a!.every((v, i) => v === -i) && b!.every((v, i) => v === i + 1));
});

/** Memory enough for a batch of 8 of the small network, and not for one of 64. */
const MEMORY = 3 * 2 ** 20;

Deno.test("a plan without memory names the buffer and its bytes, takes all back, and a smaller one works", async () => {
  using device = await Device.request();
  manualSeed(5);
  const net = smallNet();
  const values = async () => Object.fromEntries(await net.stateDict());
  const weights = await values();
  const trainer = (batchSize: number) => {
    const config = trainConfig({ batchSize, resize: 28, epochs: 1 });
    return Trainer.create({
      config,
      train: madeUpImages(batchSize),
      test: madeUpImages(8),
      net,
      device,
    });
  };
  using live = new LiveBuffers();
  {
    using _ = limitMemory(device.gpu, MEMORY);
    using large = await trainer(64);
    const message = await deviceError(() => large.prepare());
    assertMatch(
      message,
      /^plan: the device is out of memory: it has no \d{5,} bytes for (Tensor|workspace) .*, after \d+ for .*; take a smaller batch/,
    );
    assertEquals(live.names, []);
    assertEquals(device.workspace.filter(Boolean), []);
    assertEquals(await values(), weights);

    using fitting = await trainer(8);
    assertEquals((await fitting.epoch())!.epoch, 1);
    // What is on the device comes back from there, and stays there when another plan is refused.
    const trained = await values();
    using again = await trainer(64);
    await deviceError(() => again.prepare());
    assertEquals(await values(), trained);
  }
  using enough = await trainer(64);
  assertEquals((await enough.epoch())!.epoch, 1);
});

Deno.test("constants and variables that a refused plan was the first to use are as before", async () => {
  using device = await Device.request();
  const constant = tensor([1, 2]), variable = new Variable([2], f32(3, 4));
  const small = [neg(constant), neg(variable)];
  {
    using _ = limitMemory(device.gpu, 2000);
    const outputs = [...small, neg(input("large", [5000]))];
    const message = await deviceError(() => Plan.compile({ outputs, device }));
    assertMatch(message, /it has no 20000 bytes for Tensor input \[5000\] f32; take a smaller/);
    const found = await evaluate(small, {}, device);
    assertEquals(found.map((values) => [...values]), [[-1, -2], [-3, -4]]);
  }
});

Deno.test("memory that fails while something is read is named too, and reading works later", async () => {
  using device = await Device.request();
  using plan = await Plan.compile({ outputs: [neg(input("x", [3000]))], device });
  plan.run({ x: new Float32Array(3000).fill(2) });
  {
    using _ = limitMemory(device.gpu, 10_000);
    const message = await deviceError(() => plan.read());
    assertMatch(message, /^read back: the device is out of memory: it has no 12000 bytes for what/);
  }
  assertEquals((await plan.read())[0]![2999], -2);
});

Deno.test("deno task train exits 1 where a batch finds no memory, and leaves no folder", () =>
  inFolder(async (folder) => {
    using _ = limitMemory((await defaultDevice()).gpu, 2 ** 16);
    const { code, err } = await train(`${SETTINGS} --out ${folder}/run`);
    assertEquals(code, 1);
    assertMatch(err, /^error: plan: the device is out of memory: .* bytes for .*; take a smaller/m);
    assertEquals(namesIn(folder), []);
  }));

Deno.test("a command that the device refuses is not passed over in silence: the next read tells", async () => {
  using device = await Device.request();
  const v = new Variable([2], f32(1, 2));
  using plan = await Plan.compile({ outputs: [add(v, 1)], device });
  v.storage!.buffer.destroy();
  plan.run();
  assertMatch(await deviceError(() => plan.read()), /of what was submitted before: .*destroyed/i);
  plan.run();
  assertMatch(await deviceError(() => plan.finished()), /because of what was submitted before: /);
});

Deno.test("of two errors at once both are told, one by the next look", async () => {
  using device = await Device.request();
  const v = new Variable([2], f32(1, 2)), freed = new Variable([2]);
  await evaluate(freed, {}, device);
  freeVariables([freed]);
  using plan = await Plan.compile({ outputs: [add(v, 1)], device });
  v.storage!.buffer.destroy();
  const refused: Record<string, () => Promise<unknown>> = {
    "before it asks the device": () => evaluate(neg(freed), {}, device),
    "by the device": () => evaluate(new Odd("  y[i] = ;").call(input("x", [2])), {}, device),
    "for want of memory": async () => {
      using _ = limitMemory(device.gpu, 1000);
      await evaluate(neg(input("large", [5000])), {}, device);
    },
  };
  for (const [how, refuse] of Object.entries(refused)) {
    plan.run();
    const { message } = await assertRejects(refuse, Error);
    assertMatch(message, /was freed|expected expression|20000 bytes/, how);
    const told = await deviceError(() => plan.read());
    assertMatch(told, /^read back, because of what was submitted before: .*destroyed/i, how);
  }
  await device.finished();
});

Deno.test("an op whose kernel is none leaves errors to be told as before, in a browser too", async () => {
  using device = await Device.request();
  const { gpu } = device;
  let open = 0;
  gpu.pushErrorScope = (filter) => (open++, GPUDevice.prototype.pushErrorScope.call(gpu, filter));
  gpu.popErrorScope = () => (open--, GPUDevice.prototype.popErrorScope.call(gpu));
  const None: Op = {
    name: "none",
    shape: ([x]) => x!.shape,
    kernels: () => [{ workgroups: [1, 1, 1] } as never],
  };
  const compile = () => Plan.compile({ outputs: [apply(None, [input("x", [2])], {})], device });
  for (const inPlace of [(body: typeof compile) => body(), asInBrowser]) {
    await assertRejects(() => inPlace(compile), TypeError);
    assertEquals(open, 0);
  }
});

Deno.test("a run without memory for its workspace is told, and the next one computes all anew", async () => {
  using device = await Device.request();
  const w = new Variable([8, 8]), e = exp(w), x = input("x", [2, 8]);
  using plan = await Plan.compile({ outputs: [matmul(x, matmul(e, e))], device });
  assertEquals([plan.placed.slotSizes, plan.fixed.steps.size], [[256], 2]);
  const ones = { x: new Float32Array(16).fill(1) };
  {
    // The workspace is lost to a larger plan, which is refused.
    using _ = limitMemory(device.gpu, 200);
    const large = input("large", [30, 30]);
    await deviceError(() => evaluate(matmul(large, exp(large)), {}, device));
    plan.run(ones);
    plan.run(ones);
    const message = await deviceError(() => plan.read());
    assertMatch(message, /of what was submitted before: .* no 256 bytes for workspace 0; take a/);
  }
  plan.run(ones);
  assertEquals((await plan.read())[0], new Float32Array(16).fill(64));
});

Deno.test("variables that a run finds no memory to pack stay where they are", async () => {
  using device = await Device.request();
  const v = new Variable([2], f32(1, 2)), y = neg(v);
  using plan = await Plan.compile({ outputs: [y], device });
  new SGD([v, new Variable([30])], { lr: 1 });
  {
    using _ = limitMemory(device.gpu, 100);
    plan.run();
    const message = await deviceError(() => plan.read());
    assertMatch(message, /of what was submitted before: .* no 512 bytes for Tensor variable/);
    assertEquals(await readVariables([v]), [f32(1, 2)]);
  }
  plan.run();
  assertEquals((await plan.read())[0], f32(-1, -2));
  assertEquals(await readVariables([v]), [f32(1, 2)]);
});

Deno.test("what a plan updates while another one that has moved it is refused stays updated", async () => {
  using device = await Device.request();
  const v = new Variable([2], f32(1, 2));
  const updates = [{ targets: [v] as const, value: add(v, 1) }];
  using update = await Plan.compile({ updates, device });
  const optimizer = new SGD([v], { lr: 1 });
  {
    using _ = limitMemory(device.gpu, 2000);
    const outputs = [neg(input("large", [5000]))];
    const compiled = Plan.compile({
      updates: optimizer.updates([tensor([1, 1])]),
      outputs,
      device,
    });
    const refused = deviceError(() => compiled);
    while (!v.home!.whole.storage) await Promise.resolve();
    update.run();
    assertStringIncludes(await refused, "it has no 20000 bytes for Tensor input");
  }
  assertEquals(await readVariables([v]), [f32(2, 3)]);
  update.run();
  assertEquals(await readVariables([v]), [f32(3, 4)]);
});

/** A layer whose op has these statements. */
class Odd extends Module {
  constructor(readonly statements: string) {
    super();
  }
  override forward(x: Tensor): Tensor {
    const OddOp: Op = {
      name: "oddOp",
      shape: ([x]) => x!.shape,
      kernels: ({ size }, target) => [
        perThread(arrays({ x: "f32", y: "f32" }), size, target, this.statements),
      ],
    };
    return apply(OddOp, [x], {});
  }
}

Deno.test("a kernel that WGSL refuses is named by op, shape and layer, each time, with what the compiler says", async () => {
  using device = await Device.request();
  using live = new LiveBuffers();
  const wrong: [statements: string, says: RegExp][] = [
    [
      "  y[i] = frob(x[i]);",
      /no definition in scope for identifier: [`']frob[`'][^]*y\[i\] = frob/,
    ],
    ["  y[i] = x[i] + 1u;", /\+/],
    ["  y[i] = ;", /expected expression[^]*y\[i\] = ;/],
  ];
  for (const [statements, says] of wrong) {
    const net = new Sequential(new Flatten()).add(new Sequential(new Odd(statements)), "odd");
    const y = exp(net.call(input("x", [2, 3])));
    for (const time of ["first", "second"]) {
      const message = await deviceError(() => Plan.compile({ outputs: [y], device }));
      assertMatch(message, /oddOp \[2, 3\] of odd\.0/, time);
      assertMatch(message, says, time);
    }
  }
  assertEquals(live.names, []);
  const net = new Odd("  y[i] = 2.0 * x[i];");
  assertEquals([...await evaluate(net.call(tensor([1, 2])), {}, device)], [2, 4]);
});

Deno.test("a driver that fails at a kernel is told of", async () => {
  using device = await Device.request();
  const { gpu } = device;
  const scopes: GPUErrorFilter[] = [];
  gpu.pushErrorScope = (filter) => void scopes.push(filter);
  gpu.popErrorScope = () =>
    Promise.resolve(scopes.pop() === "internal" ? { message: "too many registers" } : null);
  const message = await deviceError(() => evaluate(neg(tensor([1])), {}, device));
  assertEquals(message, "plan: the driver failed: too many registers");
});

Deno.test("NaN in a loaded weight stops the run at its step; in a statistic, nothing is saved", async () => {
  for (const key of ["0.weight", "1.running_mean"]) {
    const net = smallNet();
    const state = await net.stateDict();
    state.get(key)!.data[0] = NaN;
    net.loadStateDict(state);
    const config = trainConfig({ batchSize: 16, resize: 28, epochs: 1 });
    using trainer = await Trainer.create({
      config,
      train: madeUpImages(32),
      test: madeUpImages(16),
      net,
    });
    if (key === "0.weight") {
      const step = "the loss of step 1 of epoch 1 is not finite";
      await assertRejects(() => trainer.epoch(), NonFiniteError, step);
      await assertRejects(() => trainer.checkpoint(), NonFiniteError, step);
    } else {
      // Training takes the batch's own mean, so the losses know nothing of it.
      assert(Number.isFinite((await trainer.epoch())!.loss));
      await assertRejects(() => trainer.checkpoint(), NonFiniteError, `after step 2, ${key} has`);
    }
    const accuracy = await evaluateAccuracy(net, madeUpImages(10), { batchSize: 10, resize: 28 });
    assertEquals(accuracy, 0.1, "NaN is no class, and counts as the first");
  }
});

Deno.test("NaN in an image changes no other image's result", async () => {
  manualSeed(7);
  const net = new Sequential(smallNet(), new Linear(10, 6)).eval();
  const images = new Random(2).uniform(new Float32Array(6 * 784));
  const x = input("x", [6, 1, 28, 28]), y = net.call(x);
  const conv = new Conv2d(1, 32, { kernelSize: 3, padding: 1 }).call(x);
  const clean = await evaluate([y, conv], { x: images });
  images[2 * 784 + 400] = NaN;
  const found = await evaluate([y, conv], { x: images });
  for (const [k, values] of found.entries()) {
    const each = values.length / 6;
    for (let n = 0; n < 6; n++) {
      const part = (of: ArrayLike<number>) => Array.from(of).slice(n * each, (n + 1) * each);
      if (n !== 2) assertEquals(part(values), part(clean[k]!), `image ${n}`);
      else assert(part(values).some(Number.isNaN), "the image itself is not a number");
    }
  }
});
