/**
 * The five ResNets against PyTorch's of the same definition: parameters, state-dict keys, shapes, a few
 * training steps of two of them, and the logits of a third.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  Adam,
  Bottleneck,
  collectUpdates,
  crossEntropy,
  evaluate,
  grad,
  input,
  Parameter,
  Plan,
  Random,
  resnetBlock,
  SGD,
  summarize,
  tensor,
} from "@resnette/resnette";
import { MODELS } from "@resnette/resnette/train";
import { ROOT } from "../folder.ts";
import { readFixture } from "../fixture.ts";
import {
  fill,
  floats,
  type GoldenRun,
  greatest,
  makeBatch,
  norm,
  optionsOf,
  Scores,
  SEED,
} from "../golden.ts";

const { tensors, metadata } = await readFixture("models.safetensors");

/** What PyTorch says of a model; `state_dict` has a line `KEY SHAPE` for each entry. */
interface Described {
  readonly parameters: number;
  readonly state_dict: string;
  readonly trace: [child: string, shape: readonly number[]][];
}

const models: Record<string, Described> = JSON.parse(metadata["models"]!);
const nullGrads: Record<string, string[]> = JSON.parse(metadata["null_grads"]!);
const runs: Record<string, GoldenRun> = JSON.parse(metadata["runs"]!);
const forwards: Record<string, { batch: number; size: number }> = JSON.parse(metadata["forwards"]!);

/** Norm and a projection of `a - b`: `summary` of `make_models.py`. */
function summary(stream: number, a: Float32Array, b = new Float32Array(a.length)): number[] {
  const direction = new Random(SEED, 2000 + stream).uniform(new Float32Array(a.length), -1, 1);
  return [norm(a, b), direction.reduce((sum, u, i) => sum + u * (a[i]! - b[i]!), 0)];
}

/** The rows of a matrix of the fixture. */
function rows(key: string): number[][] {
  const { shape: [n, width], data } = tensors.get(key)!;
  return Array.from({ length: n! }, (_, i) => [...data.subarray(i * width!, (i + 1) * width!)]);
}

Deno.test("the models are those that PyTorch was asked about", () => {
  assertEquals(Object.keys(models), [18, 34, 50, 101, 152].map((depth) => `resnet${depth}`));
  assertEquals([...MODELS.keys()].filter((name) => name.startsWith("resnet")), Object.keys(models));
});

for (const [name, { parameters, state_dict, trace }] of Object.entries(models)) {
  Deno.test(`${name}: parameters, state-dict keys and shapes are PyTorch's`, () => {
    const net = MODELS.get(name)!();
    const keys = net.namedVariables().map(([key, { shape }]) => `${key} ${shape.join()}`);
    assertEquals(keys, state_dict.split("\n"));
    const found = summarize(net, [1, 1, 224, 224]);
    assertEquals(found.parameters, parameters);
    assertEquals(found.layers.map(({ name, shape }) => [name, shape]), trace);
  });
}

Deno.test("a bottleneck's layers are listed as it runs them, the 3×3 with the stride", () => {
  const block = new Bottleneck(8, 16, { use1x1conv: true, stride: 2 });
  assertEquals(
    summarize(block, [2, 8, 6, 6]).layers.map(({ name, shape }) => [name, shape]),
    [
      ["conv1", [2, 4, 6, 6]],
      ["b1", [2, 4, 6, 6]],
      ["conv2", [2, 4, 3, 3]],
      ["b2", [2, 4, 3, 3]],
      ["conv3", [2, 16, 3, 3]],
      ["b3", [2, 16, 3, 3]],
      ["conv4", [2, 16, 3, 3]],
    ],
  );
  assertThrows(() => new Bottleneck(8, 10), Error, "outChannels must be a multiple of 4, got 10");
});

Deno.test("the first block of bottlenecks may widen, and keeps the size", () => {
  const options = { firstBlock: true, kind: Bottleneck };
  const [wide, same] = [resnetBlock(8, 16, 2, options), resnetBlock(16, 16, 1, options)];
  assertEquals(wide.call(input("x", [1, 8, 6, 6])).shape, [1, 16, 6, 6]);
  const shortcuts = [...wide.namedVariables(), ...same.namedVariables()]
    .filter(([key]) => key.endsWith("conv4.weight")).map(([key]) => key);
  assertEquals(shortcuts, ["0.conv4.weight"]);
});

/**
 * Differences that are allowed: of losses, relative; of what the steps changed parameters by, and of
 * running statistics, by their norms. PyTorch's own float32 is off by 1.4e-7, 8e-3, 3e-4 and 6e-7,
 * our kernels by 4e-7, 2e-2, 1e-4 and 2e-6. A missing ReLU or a stride in the wrong place changes a
 * loss by 3e-4. Adam's learning rate is small, as one input of a ReLU of that run is so near 0 that
 * the last digit decides its sign, and Adam makes a step of it whatever its size.
 */
const TOLERANCE = { loss: 3e-6, moved: 0.05, running_mean: 1e-3, running_var: 1e-5 };

for (const [name, { batch, size, steps, optimizer: settings }] of Object.entries(runs)) {
  Deno.test(`${steps} steps of ${settings.name}, ${name} at ${size}×${size}: losses, parameters and statistics are PyTorch's`, async () => {
    const net = MODELS.get(name)!();
    fill(net, true);
    const start = await net.stateDict();
    const x = input("x", [batch, 1, size, size]), labels = input("labels", [batch], "u32");
    const optimizer = new (settings.name === "adam" ? Adam : SGD)(
      net.parameters(),
      optionsOf(settings),
    );
    const { result, updates } = collectUpdates(() => net.forward(x));
    const loss = crossEntropy(result, labels);
    const training = optimizer.updates(grad(loss, net.parameters()));
    using plan = await Plan.compile({ outputs: [loss], updates: [...updates, ...training] });
    const scores = new Scores();
    /** Compares the loss before the update of a step. */
    const run = async (step: number) => {
      const { pixels, labels } = makeBatch(step, batch, size);
      plan.run({ x: pixels, labels, ...optimizer.nextStep() });
      const expected = tensors.get(`${name}/losses`)!.data[step]!;
      scores.add(`loss ${step}`, Math.abs((await plan.read())[0]![0]! / expected - 1));
    };
    for (let step = 0; step < steps; step++) await run(step);
    const state = await net.stateDict();
    await run(steps);

    const expected = {
      moved: rows(`${name}/moved`),
      running_mean: rows(`${name}/running_mean`),
      running_var: rows(`${name}/running_var`),
    };
    floats(net).forEach(([key, variable], stream) => {
      const { data } = state.get(key)!;
      if (variable instanceof Parameter) {
        const [length, projection, before] = expected.moved.shift()!;
        // Of a parameter that hardly moves, f32 keeps little more than the parameter.
        const unit = Math.max(length!, 1e-5 * before!);
        if (nullGrads[name]!.includes(key)) return;
        const moved = summary(stream, data, start.get(key)!.data);
        scores.add(`moved ${key}`, greatest(moved, [length!, projection!], unit));
      } else {
        const kind = key.endsWith("mean") ? "running_mean" : "running_var";
        const row = expected[kind].shift()!;
        scores.add(`${kind} ${key}`, greatest(summary(stream, data), row, row[0]!));
      }
    });
    for (const part of ["loss", "moved", "running_mean", "running_var"] as const) {
      const [what, worst] = scores.worst(part);
      console.log(`${name}: the worst ${part} is ${what}, ${worst.toExponential(1)}`);
      assert(worst < TOLERANCE[part], `${what} is off by ${worst}`);
    }
  });
}

for (const [name, { batch, size }] of Object.entries(forwards)) {
  Deno.test(`${name} at ${size}×${size}: logits are PyTorch's`, async () => {
    const net = MODELS.get(name)!();
    fill(net, false);
    const { pixels } = makeBatch(0, batch, size);
    const logits = await evaluate(net.forward(tensor(pixels, [batch, 1, size, size])));
    const { data } = tensors.get(`${name}/logits`)!;
    const off = greatest(logits, data, Math.max(...data.map(Math.abs)));
    console.log(`${name}: the worst logit is off by ${off.toExponential(1)}`);
    assert(off < 2e-3, `off by ${off}`);
  });
}

Deno.test("deno task shapes takes their names", async () => {
  const { code, stdout } = await new Deno.Command("deno", {
    args: "task -q shapes --dry --size 32 --model resnet50".split(" "),
    cwd: ROOT,
    stdin: "null",
    stderr: "inherit",
  }).output();
  assertEquals(code, 0);
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  assertEquals(lines.slice(-3), [
    "resnet_block4 output shape: [1, 2048, 1, 1]",
    "global_avg_pool output shape: [1, 2048, 1, 1]",
    "fc output shape: [1, 10]",
  ]);
});
