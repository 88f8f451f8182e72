/** Where steps come from, and how `deno task profile` tells where their time goes. */

import { call as callMain } from "../call.ts";
import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import {
  Adam,
  BatchNorm2d,
  collectUpdates,
  Conv2d,
  defaultDevice,
  grad,
  input,
  matmul,
  Module,
  Plan,
  relu,
  Residual,
  Sequential,
  type Step,
  sum,
  type Tensor,
} from "@resnette/resnette";
import { chromeTrace, costsBy, measureCeiling, profilePlan } from "@resnette/resnette/measure";
import { DeviceDataset } from "@resnette/resnette/train";
import { stepsOf } from "../../lib/plan/steps.ts";
import { passTimes } from "../../lib/measure/timing.ts";
import { madeUpImages, main } from "../../scripts/profile.ts";
import { tinyNet } from "../tiny_train.ts";
import { inFolder } from "../folder.ts";

const { target } = await defaultDevice();

/** The steps of a training step of `net` on images of 8×8. */
function trainingSteps(net: Module): readonly Step[] {
  const indices = input("indices", [4], "u32");
  const { x } = new DeviceDataset(madeUpImages(4)).batch(indices, { resize: 8 });
  const { result: loss, updates } = collectUpdates(() => sum(net.call(x)));
  const optimizing = new Adam(net.parameters()).updates(grad(loss, net.parameters()));
  return stepsOf([], [...updates, ...optimizing], target).steps;
}

Deno.test("every step knows its layer and pass", () => {
  const net = new Sequential(new Conv2d(1, 4, { kernelSize: 3, padding: 1 }))
    .add(new Sequential(new Residual(4, 8, { use1x1conv: true, stride: 2 })), "block");
  const steps = trainingSteps(net);
  const layers = (pass: string) =>
    new Set(steps.filter(({ scope }) => scope.pass === pass).map(({ scope }) => scope.layer));
  const children = ["conv1", "b1", "conv2", "b2", "conv3"].map((name) => `block.0.${name}`);
  assertEquals(layers("data"), new Set([""]));
  for (const pass of ["forward", "backward"]) {
    const found = layers(pass);
    for (const layer of ["0", ...children]) assert(found.has(layer), `${layer} has no ${pass}`);
  }
  assert(layers("forward").has("block.0"), "the block's own addition and relu");
  assertEquals(layers("optimizer"), new Set([""]));
  assertEquals(steps.at(-1)!.name, "Adam");
  for (const { name, scope: { pass, layer } } of steps) {
    // What a kernel finishes with, or does beside, may belong to another pass.
    if (/Grad/.test(name.split(" + ")[0]!)) assertEquals(pass, "backward", name);
    if (/^conv2d/.test(name)) assert(/conv|0$/.test(layer), `${name} of ${layer}`);
  }
});

/** A module that calls one that is no child of its own, and one twice. */
class Odd extends Module {
  readonly #hidden = new Conv2d(1, 4, { kernelSize: 1 });
  readonly mix = new Conv2d(4, 4, { kernelSize: 1 });

  override forward(x: Tensor): Tensor {
    return relu(this.mix.call(this.mix.call(this.#hidden.call(x))));
  }
}

Deno.test("paths begin at the outermost call; who is no child goes by its class", () => {
  const x = input("x", [1, 1, 2, 2]), odd = new Odd();
  const layersOf = (y: Tensor): string[] => [
    ...new Set([y.scope.layer, ...y.inputs.flatMap(layersOf)]),
  ];
  assertEquals(layersOf(odd.call(x)).sort(), ["", "Conv2d", "mix"]);
  assertEquals(layersOf(new Sequential(odd).call(x)).sort(), ["", "0", "0.Conv2d", "0.mix"]);
  const failing = new Sequential(new Conv2d(2, 4, { kernelSize: 1 }));
  try {
    failing.call(x);
  } catch {
    assertEquals(relu(x).scope, { layer: "", pass: "forward" }, "a failed call leaves no trace");
  }
});

Deno.test("equal nodes of two layers become one, which belongs to the first", () => {
  const net = new Sequential(new BatchNorm2d(2)).eval(), x = input("x", [2, 2, 2, 2]);
  const twice = () => new Sequential(net).call(x);
  const { steps } = stepsOf([twice(), net.call(x)], [], target);
  assertEquals(steps.map(({ scope }) => scope.layer), steps.map(() => "0.0"));
});

Deno.test("a profile has a row for each step, by timestamps and by submits", async () => {
  const x = input("x", [64, 96]), w = input("w", [96, 64]);
  using plan = await Plan.compile({ outputs: [sum(relu(matmul(x, w)))] });
  const feeds = { x: new Float32Array(64 * 96).fill(1), w: new Float32Array(96 * 64).fill(1) };
  for (const clock of ["timestamps", "submits"] as const) {
    const found = await profilePlan(plan, feeds, { clock, enough: 15, runs: 2 });
    if (clock === "submits") assertEquals(found.clock, clock);
    assertEquals(found.steps.map(({ name }) => name), plan.steps.map(({ name }) => name));
    assert(found.steps.every(({ milliseconds }) => milliseconds > 0), Deno.inspect(found));
    assert(found.whole > 0);
    const product = found.steps.find(({ name }) => name === "matmul")!;
    assertEquals([product.flops, product.bytes], [2 * 64 * 64 * 96, 4 * 64 * (96 + 96 + 64)]);
  }
  // The plan computes what it did before.
  plan.run(feeds);
  assertEquals((await plan.read())[0]![0], 64 * 64 * 96);
});

Deno.test("the device's clock takes a run as the one pass that it is, and a step alone", async () => {
  const x = input("x", [64, 96]), w = input("w", [96, 64]);
  // Sums in several kernels: more dispatches than a first and a last one.
  using plan = await Plan.compile({ outputs: [sum(relu(matmul(x, w))), sum(matmul(w, x))] });
  const { device, steps } = plan;
  assert(steps.length > 3, `${plan}`);
  const feeds = { x: new Float32Array(64 * 96).fill(1), w: new Float32Array(96 * 64).fill(1) };
  plan.run(feeds);
  const passes: GPUComputePassDescriptor[] = [];
  const time = (count: number, options: { step?: number; times?: number }) =>
    passTimes(device, count, (encoder, _, stamps) => {
      encoder.beginComputePass = (descriptor) => {
        passes.push(descriptor!);
        return GPUCommandEncoder.prototype.beginComputePass.call(encoder, descriptor);
      };
      plan.encode(encoder, { ...options, ...stamps });
    });
  for (const options of [{}, { times: 3 }, { step: 1 }]) {
    // Undefined if the machine is too busy for the two clocks to agree.
    const found = await time(2, options);
    if (found) assert(found.length === 2 && found.every((ms) => ms >= 0), Deno.inspect(found));
  }
  if (device.gpu.features.has("timestamp-query")) {
    assertEquals(passes.length, 6);
    for (const { timestampWrites } of passes) {
      const { beginningOfPassWriteIndex: begin, endOfPassWriteIndex: end } = timestampWrites!;
      assertEquals(end, begin! + 1);
    }
  }
  assertEquals(await passTimes(device, 0, () => {}), []);
  assertEquals((await plan.read()).map((values) => values[0]), [64 * 64 * 96, 96 * 96 * 64]);
});

Deno.test("costs add up, and a trace has a track for each pass, one step after the other", () => {
  const row = { name: "mul", layer: "0", shape: [2], flops: 2, bytes: 24 };
  const steps = [
    { ...row, pass: "forward" as const, milliseconds: 1 },
    { ...row, pass: "backward" as const, milliseconds: 2 },
    { ...row, pass: "forward" as const, milliseconds: 4 },
  ];
  assertEquals(costsBy(steps, ({ pass }) => pass).get("forward"), {
    steps: 2,
    milliseconds: 5,
    flops: 4,
    bytes: 48,
  });
  const events = chromeTrace(steps).traceEvents as Record<string, unknown>[];
  assertEquals(events.filter(({ ph }) => ph === "M").length, 2);
  const complete = events.filter(({ ph }) => ph === "X");
  assertEquals(complete.map(({ ts, dur, tid }) => [ts, dur, tid]), [
    [0, 1000, 0],
    [1000, 2000, 1],
    [3000, 4000, 0],
  ]);
});

Deno.test("the ceilings are rates that a machine can have", async () => {
  const { gflops, gbs } = await measureCeiling(await defaultDevice());
  assert(gflops > 0.1 && gflops < 1e6 && gbs > 0.01 && gbs < 1e5, `${gflops} GFLOP/s, ${gbs} GB/s`);
});

/** Runs the command in this process, with `tinyNet` for a model. */
const call = (words: string) => callMain(main, words);
const TINY = "--model tiny --batch-size 4 --resize 32";

Deno.test("--json and --trace tell of the same steps", async () => {
  assert(tinyNet); // Its module has made it a model.
  await inFolder(async (folder) => {
    const path = `${folder}/step.json`;
    const { code, out, err } = await call(`${TINY} --json --trace ${path}`);
    assertEquals([code, err], [0, ""]);
    const { model, batchSize, ceiling, steps, whole } = JSON.parse(out);
    assertEquals([model, batchSize], ["tiny", 4]);
    assert(ceiling.gflops > 0 && whole > 0);
    const { traceEvents } = JSON.parse(await Deno.readTextFile(path));
    const events = traceEvents.filter(({ ph }: { ph: string }) => ph === "X");
    assertEquals(events.length, steps.length);
    const total = steps.reduce(
      (ms: number, step: { milliseconds: number }) => ms + step.milliseconds,
      0,
    );
    const { ts, dur } = events.at(-1);
    assertAlmostEquals((ts + dur) / 1000, total, 1e-6);
  });
});

Deno.test("the tables: slowest dispatches, layers by pass, ops, and the whole", async () => {
  const step = await call(`${TINY} --top 60`);
  assertEquals([step.code, step.err], [0, ""]);
  assertStringIncludes(step.out, "training step of tiny, 4 images 32×32, on ");
  assert(/the (\d+) slowest of \1 dispatches/.test(step.out));
  for (const word of ["Adam", "optimizer", "backward", "fc.1", "of ceiling", "one submit"]) {
    assertStringIncludes(step.out, word);
  }
  const forward = await call(`${TINY} --eval`);
  assertStringIncludes(forward.out, "forward, evaluating of tiny");
  assert(!forward.out.includes("backward"));
});

Deno.test("a wrong command line ends with 2, a forbidden file with 1, --help with 0", async () => {
  for (
    const [words, message] of [
      ["--bogus", "unknown: --bogus"],
      ["--batch-size 0", "--batch-size must be an integer from 1 to 65536"],
      ["--top many", '--top must be an integer from 1 to 1000000000, got "many"'],
      ["--model resnet1", "--model must be one of: resnet18, "],
      ["--trace", "--trace needs a value"],
    ] as const
  ) {
    const { code, out, err } = await call(words);
    assertEquals([code, out], [2, ""]);
    assertStringIncludes(err, message);
  }
  const forbidden = await call(`${TINY} --json --trace step.json`);
  assertEquals([forbidden.code, forbidden.out], [1, ""]);
  assertStringIncludes(forbidden.err, "may only write in runs/");
  const { code, out } = await call("--help");
  assertEquals(code, 0);
  assert(out.startsWith("usage: deno task profile"));
  assert(out.split("\n").every((line) => line.length <= 100), "lines are not too wide");
});

Deno.test("deno task profile has the permission to write in runs/, and no other", async () => {
  const { permissions } = JSON.parse(
    await Deno.readTextFile(new URL("../../deno.json", import.meta.url)),
  );
  assertEquals(permissions.profile, { write: ["runs"] });
});
