/** The golden run of `tests/reference/make_resnet.py`: its fixture, weights, batches and measures. */

import { assertEquals } from "@std/assert";
import {
  type Module,
  Parameter,
  Random,
  setVariable,
  type Tensor,
  tensor,
} from "@resnette/resnette";
import { readFixture } from "./fixture.ts";

const SEED = 7;
/** The fixture. */
export const fixture = await readFixture("resnet18.safetensors");
const streams: Record<string, number> = JSON.parse(fixture.metadata["streams"]!);
/** Parameters whose true gradient is zero: biases before a batch norm. */
export const nullGrads = new Set<string>(JSON.parse(fixture.metadata["null_grads"]!));
/** Values of a tensor of the fixture. */
export const golden = (key: string) => fixture.tensors.get(key)!.data;

/** The weights of `philox_fill` in `tests/reference/notebook_net.py`. */
export function fill(net: Module): void {
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

/** `n` random images of `size` pixels square, and labels. */
export function batch(n: number, size: number): { x: Tensor; labels: Tensor } {
  const random = new Random(SEED, 1001);
  const labels = Uint32Array.from({ length: n }, () => random.nextUint32() % 10);
  const pixels = new Random(SEED, 1000).uniform(new Float32Array(n * size * size));
  return { x: tensor(pixels, [n, 1, size, size]), labels: tensor(labels) };
}

/** ‖a - b‖ / ‖b‖. */
export function relative(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assertEquals(a.length, b.length);
  let difference = 0, norm = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    norm += b[i]! ** 2;
  }
  const score = Math.sqrt(difference / norm);
  return Number.isNaN(score) ? Infinity : score;
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
};

/** Norm, two projections and samples, as `make_resnet.py` takes them of a gradient. */
export function summary(key: string, values: Float32Array, samples: boolean): number[] {
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
