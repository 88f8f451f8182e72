/**
 * One pass of whole ResNets against PyTorch: logits, every gradient, running statistics. The notebook's
 * ResNet-18, and torchvision's 18 and 50; of all torchvision's, parameters, state-dict keys and shapes.
 */

import { assert, assertEquals } from "@std/assert";
import * as r from "@resnette/resnette";
import { collectUpdates, crossEntropy, grad, Plan, resnet18, tensor } from "@resnette/resnette";
import { readFixture } from "../fixture.ts";
import {
  fill,
  floats,
  golden,
  goldenKeys,
  greatest,
  makeImages,
  norm,
  nullGrads,
  project,
  Scores,
  summary,
} from "../golden.ts";

const BATCH = 4;

/** ‖a - b‖ / ‖b‖. */
const relative = (a: ArrayLike<number>, b: ArrayLike<number>) => norm(a, b) / norm(b);

for (const size of [32, 96]) {
  Deno.test(`ResNet-18 at ${size}×${size}: logits, gradients and running statistics are PyTorch's`, async () => {
    const net = resnet18();
    fill(net);
    const { pixels, labels } = makeImages(BATCH, size);
    const x = tensor(pixels, [BATCH, 1, size, size]);
    const parameters = net.namedParameters();
    const { result: logits, updates } = collectUpdates(() => net.forward(x));
    const loss = crossEntropy(logits, tensor(labels));
    const grads = grad(loss, parameters.map(([, p]) => p));
    using plan = await Plan.compile({ outputs: [logits, loss, ...grads], updates });
    plan.run();
    const [gotLogits, gotLoss, ...gotGrads] = await plan.read();
    const scores = new Scores();
    scores.add("logits", relative(gotLogits!, golden(`f32/${size}/logits`)));
    scores.add("loss", relative(gotLoss!, golden(`f32/${size}/loss`)));
    parameters.forEach(([key], i) => {
      const expected = golden(`f64/${size}/grad/${key}`);
      const unit = nullGrads.has(key) ? golden(`f64/${size}/scale/${key}`)[0]! : expected[0]!;
      const got = summary(key, gotGrads[i] as Float32Array, true);
      scores.add(`grad ${key}`, greatest(got, expected, unit));
    });
    const state = await net.stateDict();
    const stats = `f32/${size}/stat/`;
    for (const key of goldenKeys(stats)) {
      scores.add(key, relative(state.get(key)!.data, golden(stats + key)));
    }
    net.eval();
    using evaluation = await Plan.compile({ outputs: [net.forward(x)] });
    evaluation.run();
    const [evalLogits] = await evaluation.read();
    scores.add("eval logits", relative(evalLogits!, golden(`f32/${size}/eval_logits`)));
    const [what, worst] = scores.worst();
    console.log(`${size}×${size}: the worst is ${what}, ${worst.toExponential(1)}`);
    assert(worst < 1e-3, `${what} is off by ${worst}`);
  });
}

const models = await readFixture("models.safetensors");

/** What PyTorch says of torchvision's definitions; see `make_models.py`. */
const torchvision: Record<string, {
  readonly parameters: number;
  readonly state_dict: string;
  readonly trace: [child: string, shape: readonly number[]][];
}> = JSON.parse(models.metadata["torchvision"]!);
const passes: Record<string, { batch: number; size: number }> = JSON.parse(
  models.metadata["passes"]!,
);

/** torchvision's net of a name. */
const build = (name: string): r.Sequential =>
  r[name as "resnet18" | "resnet50"]({ variant: "torchvision" });

for (const [name, { parameters, state_dict, trace }] of Object.entries(torchvision)) {
  Deno.test(`torchvision's ${name}: parameters, state-dict keys and shapes are PyTorch's`, () => {
    const net = build(name);
    const keys = net.namedVariables().map(([key, { shape }]) => `${key} ${shape.join()}`);
    assertEquals(keys, state_dict.split("\n"));
    const found = r.summarize(net, [1, 3, 224, 224]);
    assertEquals(found.parameters, parameters);
    // There the network flattens between two children, here the first one does.
    const flat = trace.map((
      [child, shape],
    ) => [child, child === "avgpool" ? shape.slice(0, 2) : shape]);
    assertEquals(found.layers.map(({ name, shape }) => [name, shape]), flat);
  });
}

for (const [name, { batch, size }] of Object.entries(passes)) {
  Deno.test(`torchvision's ${name}: logits, gradients and running statistics are PyTorch's`, async () => {
    const net = build(name), parameters = net.namedParameters(), keys = floats(net);
    fill(net, true);
    const { pixels } = makeImages(3 * batch, size), { labels } = makeImages(batch, size);
    const x = tensor(pixels, [batch, 3, size, size]);
    const { result, updates } = collectUpdates(() => crossEntropy(net.call(x), tensor(labels)));
    const grads = grad(result, parameters.map(([, p]) => p));
    using plan = await Plan.compile({ outputs: [result, ...grads], updates });
    plan.run();
    const [loss, ...gotGrads] = await plan.read();
    const scores = new Scores();
    const expected = (part: string) => models.tensors.get(`torchvision/${name}/${part}`)!.data;
    /** Norm and a projection of values: `summary` of `make_models.py`. */
    const compare = (part: string, of: readonly [string, Float32Array][]) =>
      of.forEach(([key, values], i) => {
        const stream = 2000 + keys.findIndex(([name]) => name === key);
        const wanted = expected(part).subarray(2 * i, 2 * i + 2);
        const found = [norm(values), project(values, stream)];
        scores.add(`${part} ${key}`, greatest(found, wanted, wanted[0]!));
      });
    scores.add("loss", relative(loss!, expected("loss")));
    compare("grad", parameters.map(([key], i) => [key, gotGrads[i] as Float32Array]));
    const state = await net.stateDict();
    for (const part of ["running_mean", "running_var"]) {
      const stats = [...state].filter(([key]) => key.endsWith(part));
      compare(part, stats.map(([key, { data }]) => [key, data]));
    }
    const evaluated = await r.evaluate(net.eval().call(x));
    scores.add("eval logits", relative(evaluated.subarray(0, 2000), expected("eval_logits")));
    const [what, worst] = scores.worst();
    console.log(`torchvision's ${name}: the worst is ${what}, ${worst.toExponential(1)}`);
    assert(worst < 1e-3, `${what} is off by ${worst}`);
  });
}

Deno.test("torchvision's weights begin as torchvision draws them", async () => {
  r.manualSeed(1);
  const state = await build("resnet50").stateDict();
  const about = (key: string, std: number, most: number) => {
    const { data } = state.get(key)!, n = data.length;
    const mean = data.reduce((a, b) => a + b) / n;
    const found = Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / n);
    assert(Math.abs(mean) < 5 * std / Math.sqrt(n), `${key}: mean ${mean}`);
    assert(Math.abs(found / std - 1) < 5 / Math.sqrt(2 * n), `${key}: ${found}, not ${std}`);
    assert(data.some((x) => Math.abs(x) > most * std), `${key}: no value beyond ${most} std`);
  };
  // Normal, with the variance 2 / (outChannels · R · S).
  about("conv1.weight", Math.sqrt(2 / (64 * 49)), 3);
  about("layer1.0.conv2.weight", Math.sqrt(2 / (64 * 9)), 3);
  about("layer2.0.downsample.0.weight", Math.sqrt(2 / 512), 3);
  // Uniform, up to 1 / √inFeatures.
  about("fc.weight", 1 / Math.sqrt(3 * 2048), 1.7);
  assert(state.get("fc.weight")!.data.every((x) => Math.abs(x) <= 1 / Math.sqrt(2048)));
  const norms = [...state].filter(([key]) => /bn\d\.|downsample\.1\./.test(key));
  const start = { weight: 1, bias: 0, running_mean: 0, running_var: 1, num_batches_tracked: 0 };
  for (const [key, { data }] of norms) {
    const value = start[key.split(".").at(-1) as keyof typeof start];
    assert(data.every((x) => x === value), key);
  }
  assertEquals(norms.length, 5 * 53);
});
