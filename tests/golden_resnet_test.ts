/** The whole ResNet-18 against PyTorch: logits, every gradient, running statistics, optimizer steps. */

import { assert, assertEquals } from "@std/assert";
import {
  Adam,
  collectUpdates,
  crossEntropy,
  grad,
  type Module,
  type Optimizer,
  Parameter,
  Plan,
  Random,
  resnet18,
  setVariable,
  SGD,
  type Tensor,
  tensor,
} from "@resnette/resnette";
import { readFixture } from "./fixture.ts";

const SEED = 7;
const fixture = await readFixture("resnet18.safetensors");
const streams: Record<string, number> = JSON.parse(fixture.metadata["streams"]!);
const nullGrads = new Set<string>(JSON.parse(fixture.metadata["null_grads"]!));
const golden = (key: string) => fixture.tensors.get(key)!.data;

/** The weights of `philox_fill` in `tests/reference/notebook_net.py`. */
function fill(net: Module): void {
  for (const [key, variable] of net.namedVariables()) {
    const { shape, size } = variable;
    if (!(variable instanceof Parameter)) continue;
    const random = new Random(SEED, streams[key]!);
    let bounds: [number, number];
    if (shape.length > 1) {
      const bound = 1 / Math.sqrt(size / shape[0]!);
      bounds = [-bound, bound];
    } else {
      const weight = net.namedVariables().find(([k]) => k === key.replace("bias", "weight"))![1];
      const fanIn = weight.size / weight.shape[0]!;
      const normed = weight.shape.length === 1;
      bounds = !normed
        ? [-1 / Math.sqrt(fanIn), 1 / Math.sqrt(fanIn)]
        : key.endsWith("weight")
        ? [0.5, 1.5]
        : [-0.5, 0.5];
    }
    setVariable(variable, random.uniform(new Float32Array(size), ...bounds));
  }
}

function batch(n: number, size: number): { x: Tensor; labels: Tensor } {
  const random = new Random(SEED, 1001);
  const labels = Uint32Array.from({ length: n }, () => random.nextUint32() % 10);
  const pixels = new Random(SEED, 1000).uniform(new Float32Array(n * size * size));
  return { x: tensor(pixels, [n, 1, size, size]), labels: tensor(labels) };
}

/** ‖a - b‖ / ‖b‖. */
function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assertEquals(a.length, b.length);
  let difference = 0, norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  const score = Math.sqrt(difference / norm);
  return Number.isNaN(score) ? Infinity : score;
}

const norm = (x: ArrayLike<number>) => Math.hypot(...Array.from(x));
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
};

/** Norm, two projections and samples, as `make_resnet.py` takes them of a gradient. */
function summary(key: string, values: Float32Array, samples: boolean): number[] {
  const k = streams[key]!;
  const project = (stream: number) =>
    dot(values, new Random(SEED, stream).uniform(new Float32Array(values.length), -1, 1));
  let sum = 0;
  for (const v of values) sum += v * v;
  const step = Math.max(1, Math.floor(values.length / 64));
  const taken = values.length <= 64
    ? [...values]
    : Array.from({ length: 64 }, (_, j) => values[j * step]!);
  return [Math.sqrt(sum), project(2000 + k), project(3000 + k), ...samples ? taken : []];
}

for (const size of [32, 96]) {
  Deno.test(`ResNet-18 at ${size}×${size}: logits, gradients and running statistics are PyTorch's`, async () => {
    const net = resnet18();
    fill(net);
    const { x, labels } = batch(4, size);
    const parameters = net.namedParameters();
    const { result: logits, updates } = collectUpdates(() => net.forward(x));
    const loss = crossEntropy(logits, labels);
    const grads = grad(loss, parameters.map(([, p]) => p));
    using plan = await Plan.compile({ outputs: [logits, loss, ...grads], updates });
    plan.run();
    const [gotLogits, gotLoss, ...gotGrads] = await plan.read();
    const scores: [string, number][] = [
      ["logits", relative(gotLogits!, golden(`f32/${size}/logits`))],
      ["loss", relative(gotLoss!, golden(`f32/${size}/loss`))],
    ];
    parameters.forEach(([key], i) => {
      const expected = golden(`f64/${size}/grad/${key}`);
      const got = summary(key, gotGrads[i] as Float32Array, true);
      const scale = nullGrads.has(key) ? golden(`f64/${size}/scale/${key}`)[0]! : expected[0]!;
      const worst = Math.max(...got.map((v, j) => Math.abs(v - expected[j]!))) / scale;
      scores.push([`grad ${key}`, Number.isNaN(worst) ? Infinity : worst]);
    });
    const state = await net.stateDict();
    for (const key of fixture.tensors.keys()) {
      const stat = key.startsWith(`f32/${size}/stat/`) && key.slice(`f32/${size}/stat/`.length);
      if (stat) scores.push([stat, relative(state.get(stat)!.data, golden(key))]);
    }
    net.eval();
    using evaluation = await Plan.compile({ outputs: [net.forward(x)] });
    evaluation.run();
    scores.push([
      "eval logits",
      relative((await evaluation.read())[0]!, golden(`f32/${size}/eval_logits`)),
    ]);
    const worst = scores.reduce((a, b) => b[1] > a[1] ? b : a);
    console.log(`${size}×${size}: worst of ${scores.length} is ${worst[0]}, ${worst[1]}`);
    for (const [what, score] of scores) assert(score < 1e-3, `${what} is off by ${score}`);
  });
}

void [Adam, SGD, norm] as unknown as Optimizer;
