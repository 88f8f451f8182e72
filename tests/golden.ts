/** What `make_resnet.py` made, and the same weights, images and summaries on our side. */

import { assertEquals } from "@std/assert";
import { type Module, Parameter, Random, setVariable, type Variable } from "@resnette/resnette";
import { readFixture } from "./fixture.ts";

/** Of all random numbers of the fixtures. */
export const SEED = 7;
const { tensors, metadata } = await readFixture("resnet18.safetensors");
const streams: Record<string, number> = JSON.parse(metadata["streams"]!);

/** Parameters whose true gradient is zero: biases of convolutions before a batch norm. */
export const nullGrads = new Set<string>(JSON.parse(metadata["null_grads"]!));

/** The training runs of the fixture, by name. */
export const runs: Record<string, GoldenRun> = JSON.parse(metadata["runs"]!);

/** A training run: from the calm weights of {@link fill}, on a {@link makeBatch} in each step. */
export interface GoldenRun {
  readonly batch: number;
  readonly size: number;
  readonly steps: number;
  readonly optimizer: { readonly name: string; readonly lr: number; readonly momentum?: number };
}

/** Keys of the fixture that start with a prefix, without it. */
export function goldenKeys(prefix: string): string[] {
  return [...tensors.keys()].filter((key) => key.startsWith(prefix))
    .map((key) => key.slice(prefix.length));
}

/** Values of a tensor of the fixture. */
export function golden(key: string): ArrayLike<number> {
  const entry = tensors.get(key);
  if (!entry) throw new Error(`resnet18.safetensors has no ${key}`);
  return entry.data;
}

/** Variables that have a stream of random numbers, which is their place here. */
export const floats = (net: Module): [string, Variable][] =>
  net.namedVariables().filter(([key]) => !key.endsWith("num_batches_tracked"));

/**
 * The weights of `philox_fill` in `notebook_net.py`; calm, as `calm_down` there and in `make_models.py`
 * leaves them.
 */
export function fill(net: Module, calm = false): void {
  const variables = new Map(floats(net));
  [...variables].forEach(([key, variable], stream) => {
    if (!(variable instanceof Parameter)) return;
    const weight = variables.get(key.replace(/bias$/, "weight"))!;
    let [low, high] = key.endsWith("weight") ? [0.5, 1.5] : [-0.5, 0.5];
    if (weight.shape.length > 1) {
      high = 1 / Math.sqrt(weight.size / weight.shape[0]!);
      low = -high;
    }
    const last = /\.bn?3\.weight$/.test(key) ||
      /\.bn?2\.weight$/.test(key) && !variables.has(key.replace("2.weight", "3.weight"));
    const factor = !calm ? 1 : last ? 1 / 64 : /^fc\.(1\.)?weight$/.test(key) ? 1 / 8 : 1;
    const data = new Random(SEED, stream).uniform(new Float32Array(variable.size), low, high);
    setVariable(variable, data.map((value) => value * factor));
  });
}

/** Pixels and labels of a batch of square images. */
export interface Batch {
  readonly pixels: Float32Array<ArrayBuffer>;
  readonly labels: Uint32Array<ArrayBuffer>;
}

/** `make_images` and `make_labels` of `notebook_net.py`. */
export function makeImages(n: number, size: number): Batch {
  return { pixels: noise(1000, n * size * size), labels: classes(1001, n) };
}

/** `make_batch` of `notebook_net.py`: images that show their labels. */
export function makeBatch(step: number, n: number, size: number): Batch {
  const labels = classes(5000 + step, n), brightness = noise(6000, 160);
  const square = size / 4;
  const pixels = noise(4000 + step, n * size * size).map((value, i) => {
    const label = labels[Math.floor(i / size ** 2)]!;
    const row = Math.floor(i / size) % size, column = i % size;
    const at = Math.floor(row / square) * 4 + Math.floor(column / square);
    return value * brightness[label * 16 + at]!;
  });
  return { pixels, labels };
}

const noise = (stream: number, n: number, low = 0) =>
  new Random(SEED, stream).uniform(new Float32Array(n), low, 1);

function classes(stream: number, n: number): Uint32Array<ArrayBuffer> {
  const random = new Random(SEED, stream);
  return Uint32Array.from({ length: n }, () => random.nextUint32() % 10);
}

/** ‖a‖, or with `b` ‖a - b‖. */
export function norm(a: ArrayLike<number>, b?: ArrayLike<number>): number {
  if (b) assertEquals(a.length, b.length);
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - (b ? b[i]! : 0)) ** 2;
  return Math.sqrt(sum);
}

/** The greatest |a - b|, divided by `unit`; infinite where something is not a number. */
export function greatest(a: ArrayLike<number>, b: ArrayLike<number>, unit: number): number {
  assertEquals(a.length, b.length);
  const found = Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i]!))) / unit;
  return Number.isNaN(found) ? Infinity : found;
}

/** The values on a direction, which is uniform(-1, 1) of a stream of random numbers. */
export function project(values: Float32Array, stream: number): number {
  const direction = noise(stream, values.length, -1);
  return values.reduce((sum, value, i) => sum + value * direction[i]!, 0);
}

/** Norm, two projections and, if wanted, samples: `summary` of `make_resnet.py`. */
export function summary(key: string, values: Float32Array, samples: boolean): number[] {
  const stream = streams[key]!;
  const step = Math.floor(values.length / 64);
  const taken = values.length > 64
    ? Array.from({ length: 64 }, (_, j) => values[j * step]!)
    : values;
  return [
    norm(values),
    project(values, 2000 + stream),
    project(values, 3000 + stream),
    ...samples ? taken : [],
  ];
}

/** What was compared and how far off it was, worst first. */
export class Scores {
  readonly #scores: [string, number][] = [];

  /** Notes a score. */
  add(what: string, score: number): void {
    this.#scores.push([what, Number.isNaN(score) ? Infinity : score]);
  }

  /** The worst of all, or of those whose name starts with a prefix. */
  worst(prefix = ""): [string, number] {
    return this.#scores.filter(([what]) => what.startsWith(prefix))
      .reduce((a, b) => b[1] > a[1] ? b : a);
  }
}

/** An optimizer's settings as PyTorch has them. */
export interface OptimizerSettings {
  /** `adam`, `adamw`, `rmsprop` or `sgd`. */
  readonly name?: string;
}

/** Those settings as options here. */
export function optionsOf({ name: _, ...options }: OptimizerSettings): object {
  return options;
}
