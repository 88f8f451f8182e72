/**
 * Data sets that stay on the device, and how well a net does on one. A batch is a list of indices.
 *
 * @module
 */

import { freeVariables, readVariables, setVariable } from "./buffers.ts";
import type { ImageDataset } from "./data/fashion_mnist.ts";
import { defaultDevice, type Device } from "./device.ts";
import { arrays, perThread } from "./kernel.ts";
import type { Predictions } from "./metrics.ts";
import type { Module } from "./nn/module.ts";
import { gather, resizeBilinear } from "./ops/data.ts";
import { add, div } from "./ops/elementwise.ts";
import { correctCount } from "./ops/loss.ts";
import { Plan } from "./plan.ts";
import { assign, input, type Tensor, tensor, type Update, Variable, withScope } from "./tensor.ts";

/** How far an epoch has come; counts and means are those of the epoch so far. */
export interface Progress {
  /** The epoch, counted from 1. */
  readonly epoch: number;
  /** Whether it trains or, after that, tests. */
  readonly phase: "train" | "test";
  /** Batches done. */
  readonly step: number;
  /** Batches in all. */
  readonly steps: number;
  /** Mean loss; absent in tests. */
  readonly loss?: number;
  /** Share classified right. */
  readonly accuracy: number;
  /** Images done. */
  readonly images: number;
  /** Images in all. */
  readonly of: number;
  /** Images done per second, in this phase and process. */
  readonly imagesPerSecond: number;
}

/** Whom to tell, and who may stop it. */
export interface Watch {
  /** Told about every second, whenever results have been read. */
  readonly onProgress?: (progress: Progress) => void | Promise<void>;
  /** Told what was predicted for each test image, in their order, once a test is complete. */
  readonly onTested?: (predictions: Predictions) => void | Promise<void>;
  /** Aborting it ends the work after the current step. */
  readonly signal?: AbortSignal;
}

/** A data set as constants of a graph: uploaded once for all plans that use it at a time. */
export class DeviceDataset {
  /** `[count, 1, height, width]`, u8. */
  readonly images: Tensor;
  /** `[count]`, u8. */
  readonly labels: Tensor;
  /** How many images. */
  readonly count: number;

  /** Takes the arrays as they are; they must not change any more. */
  constructor({ images, labels, count, height, width }: ImageDataset) {
    this.images = tensor(images, [count, 1, height, width]);
    this.labels = tensor(labels, [count]);
    this.count = count;
  }

  /**
   * Images `[N, 1, size, size]` from 0 to 1, and u32 labels `[N]`, of u32 `indices` `[N]`. The images
   * go through `augment` before they are resized.
   */
  batch(
    indices: Tensor,
    size: number,
    augment: (pixels: Tensor) => Tensor = (pixels) => pixels,
  ): { x: Tensor; labels: Tensor } {
    return withScope({ layer: "", pass: "data" }, () => {
      const pixels = augment(gather(this.images, indices));
      const [, , height, width] = pixels.shape;
      const sized = height === size && width === size ? pixels : resizeBilinear(pixels, size);
      return { x: div(sized, 255), labels: gather(this.labels, indices, "u32") };
    });
  }
}

/** Lets the device work ahead, but by no more than about a second: so a stop is a matter of seconds. */
export class Pace {
  #queued = 0;
  #allowed = 1;
  #since = performance.now();

  /** Counts a submission; whether it is time to wait for the device. */
  due(): boolean {
    return ++this.#queued >= this.#allowed;
  }

  /** Notes that the device has done all that was submitted. */
  settled(): void {
    const now = performance.now();
    const each = (now - this.#since) / Math.max(1, this.#queued);
    this.#allowed = Math.max(1, Math.min(2 * this.#allowed, Math.floor(1000 / each)));
    this.#queued = 0;
    this.#since = now;
  }
}

/** Images per second, without those until the first look: drivers compile kernels meanwhile. */
export class Rate {
  #since = performance.now();
  #images: number;
  #looks = 0;

  /** Starts after so many images. */
  constructor(images = 0) {
    this.#images = images;
  }

  /** The rate after so many images. */
  after(images: number): number {
    const now = performance.now();
    const rate = 1000 * (images - this.#images) / Math.max(now - this.#since, 1e-3);
    if (this.#looks++ === 0) [this.#since, this.#images] = [now, images];
    return rate;
  }
}

/** Sizes of the batches of `count` images: the full one, the last one, or both. */
export const batchSizes = (count: number, batch: number): number[] =>
  [count >= batch ? batch : 0, count % batch].filter((size) => size > 0);

/** Notes, for the images `indices` `[N]`, what logits `[N, classes]` say: class and probability. */
function note(results: Variable, logits: Tensor, indices: Tensor): Update {
  const [size, k] = logits.shape as [number, number];
  const bindings = arrays({ x: "f32", indices: "u32", results: "f32" });
  return {
    name: "predictions",
    targets: [results],
    reads: [logits, indices],
    kernels: (target) => [perThread(
      bindings,
      size,
      target,
      `  let row = i * ${k}u;
  var best = 0u;
  for (var k = 1u; k < ${k}u; k++) {
    if (x[row + k] > x[row + best]) { best = k; }
  }
  var s = 0.0;
  for (var k = 0u; k < ${k}u; k++) { s += exp(x[row + k] - x[row + best]); }
  results[2u * indices[i]] = f32(best);
  results[2u * indices[i] + 1u] = 1.0 / s;`,
    )],
  };
}

/** Counts right answers in evaluation mode; its plans last as long as it does. */
export class Evaluator implements Disposable {
  readonly #correct = new Variable([]);
  /** Of each image, the predicted class and its probability. */
  readonly #results: Variable;
  readonly #plans = new Map<number, Plan>();

  constructor(
    readonly net: Module,
    readonly data: DeviceDataset,
    readonly options: { batchSize: number; resize: number; device: Device },
  ) {
    this.#results = new Variable([data.count, 2]);
  }

  async prepare(): Promise<void> {
    const { net, data, options: { batchSize, resize, device } } = this;
    for (const size of batchSizes(data.count, batchSize)) {
      if (this.#plans.has(size)) continue;
      const indices = input("indices", [size], "u32");
      const { x, labels } = data.batch(indices, resize);
      const training = net.training;
      const logits = net.eval().call(x);
      net.train(training);
      const updates = [
        assign(this.#correct, add(this.#correct, correctCount(logits, labels))),
        note(this.#results, logits, indices),
      ];
      this.#plans.set(size, await Plan.compile({ updates, device }));
    }
  }

  /** Share classified right; undefined where the signal stopped it. */
  async run({ onProgress, onTested, signal }: Watch, epoch: number): Promise<number | undefined> {
    await this.prepare();
    const { data: { count }, options: { batchSize } } = this;
    setVariable(this.#correct, new Float32Array(1));
    const pace = new Pace(), rate = new Rate();
    const steps = Math.ceil(count / batchSize);
    let accuracy = 0;
    for (let step = 0; step < steps; step++) {
      if (signal?.aborted) return undefined;
      const first = step * batchSize, end = Math.min(count, first + batchSize);
      const indices = Uint32Array.from({ length: end - first }, (_, i) => first + i);
      this.#plans.get(indices.length)!.run({ indices });
      if (!pace.due() && end < count) continue;
      const [correct] = await readVariables([this.#correct]); // waits for the device
      pace.settled();
      accuracy = correct![0]! / end;
      await onProgress?.({
        epoch,
        phase: "test",
        step: step + 1,
        steps,
        accuracy,
        images: end,
        of: count,
        imagesPerSecond: rate.after(end),
      });
    }
    await onTested?.(await this.#predictions());
    return accuracy;
  }

  async #predictions(): Promise<Predictions> {
    const [results] = await readVariables([this.#results]);
    const column = (k: number) =>
      Float32Array.from({ length: this.data.count }, (_, i) => results![2 * i + k]!);
    return { predicted: Uint32Array.from(column(0)), probability: column(1) };
  }

  [Symbol.dispose](): void {
    this.#plans.forEach((plan) => plan[Symbol.dispose]());
    freeVariables([this.#correct, this.#results]);
  }
}

/**
 * Share of `data` that `net` classifies right, in evaluation mode: the notebook's
 * `evaluate_accuracy`. The last batch may be a smaller one.
 *
 * @example
 * ```ts
 * import { evaluateAccuracy, Flatten } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const images = new Uint8Array([255, 0, 0, 0, 0, 0, 255, 0]), labels = new Uint8Array([0, 3]);
 * const classes = ["top left", "top right", "bottom left", "bottom right"];
 * const data = { images, labels, count: 2, height: 2, width: 2, classes };
 * const net = new Flatten(); // its largest output is the brightest pixel
 * assertEquals(await evaluateAccuracy(net, data, { batchSize: 2, resize: 2 }), 0.5);
 * ```
 */
export async function evaluateAccuracy(
  net: Module,
  data: ImageDataset | DeviceDataset,
  options: { batchSize?: number; resize?: number; device?: Device } = {},
): Promise<number> {
  const { batchSize = 128, resize = 96 } = options;
  const device = options.device ?? await defaultDevice();
  const set = data instanceof DeviceDataset ? data : new DeviceDataset(data);
  using evaluator = new Evaluator(net, set, { batchSize, resize, device });
  return (await evaluator.run({}, 0))!;
}
