/**
 * How well a net does on a data set; and the loop over batches, which training uses as well.
 *
 * @module
 */

import { ALONE, batches, type BatchFeeds, BatchPlans, fetchAhead, placesOf } from "./batches.ts";
import type { Collective } from "./collective.ts";
import { anyOf } from "./ranks.ts";
import { stopwatch } from "../measure/timing.ts";
import { freeVariables, readVariables, setVariable } from "../device/buffers.ts";
import { type ImageDataset, listed } from "../data/dataset.ts";
import { checkFunction, checkInstance, checkNumber, checkOptions } from "../check/arguments.ts";
import { defaultDevice, Device } from "../device/device.ts";
import {
  checkPreprocessing,
  DeviceDataset,
  deviceDataset,
  feedsOf,
  PREPROCESSING,
  type Preprocessing,
} from "./device_dataset.ts";
import { arrays, perThread } from "../kernels/kernel.ts";
import type { Predictions } from "./metrics.ts";
import { evaluating, Module } from "../nn/module.ts";
import { add } from "../ops/elementwise.ts";
import { argmaxOf, correctCount } from "../ops/classification.ts";
import { formatShape, ShapeError } from "../graph/shape.ts";
import { assign, input, type Tensor, type Update, Variable } from "../graph/tensor.ts";

/** How far an epoch has come. Counts and means are over the epoch so far. */
export interface Progress {
  /** The epoch, counted from 1. */
  readonly epoch: number;
  /** Whether it trains or tests. */
  readonly phase: "train" | "test";
  /** Batches that are done. */
  readonly step: number;
  /** Number of batches. */
  readonly steps: number;
  /** Mean loss; undefined in tests. */
  readonly loss?: number;
  /** Share that is classified right; in tests on several ranks, of this rank's images. */
  readonly accuracy: number;
  /** Images that are done. */
  readonly images: number;
  /** Number of images. */
  readonly of: number;
  /** Images per second, in this phase and process. */
  readonly imagesPerSecond: number;
}

/** Callbacks and an abort signal. */
export interface Watch {
  /** Called about once every {@link Watch.interval}, when results have been read; awaited. */
  readonly onProgress?: (progress: Progress) => void | Promise<void>;
  /** Called when a test is complete, with the prediction for each test image, in order; awaited. */
  readonly onTested?: (predictions: Predictions) => void | Promise<void>;
  /** Aborting it ends the epoch after the current step. */
  readonly signal?: AbortSignal;
  /**
   * Milliseconds of work that are submitted before results are read, at least one step; 1000 by
   * default. A page that shows results more often takes less.
   */
  readonly interval?: number;
}

/** Throws unless `watch`, an argument of `op`, says whom to tell. */
export function checkWatch(op: string, watch: Watch): void {
  checkOptions(op, watch, ["onProgress", "onTested", "signal", "interval"]);
  const { onProgress, onTested, signal, interval } = watch;
  if (onProgress !== undefined) checkFunction(op, "onProgress", onProgress);
  if (onTested !== undefined) checkFunction(op, "onTested", onTested);
  if (signal !== undefined) checkInstance(op, "signal", signal, AbortSignal);
  if (interval !== undefined) checkNumber(op, "interval", interval, { min: 0 });
}

/** Milliseconds between two reads, if nobody says otherwise: a stop is a matter of seconds. */
const INTERVAL = 1000;

/**
 * Goes over a data set in batches, from image `first` on, and tells a watch now and then. False where
 * its signal ended that.
 */
export async function overBatches(
  { count, batchSize, first = 0 }: { count: number; batchSize: number; first?: number },
  { onProgress, signal, interval = INTERVAL }: Watch,
  { about, feeds, submit, read, stopped = () => signal?.aborted === true }: {
    readonly about: Pick<Progress, "epoch" | "phase">;
    /** What micro-batches of the images at some places are fed by; asked for a batch ahead. */
    readonly feeds: (places: Uint32Array<ArrayBuffer>) => BatchFeeds[] | Promise<BatchFeeds[]>;
    /** Submits the work of the images at some places of the order. */
    readonly submit: (
      places: Uint32Array<ArrayBuffer>,
      feeds: BatchFeeds[],
    ) => void | Promise<void>;
    /** Waits for the device; what has come of so many images. */
    readonly read: (images: number) => Promise<Pick<Progress, "loss" | "accuracy">>;
    /** Whether to go no further; by default where the signal says so. */
    readonly stopped?: () => boolean | Promise<boolean>;
  },
): Promise<boolean> {
  const steps = Math.ceil(count / batchSize);
  let queued = 0, allowed = 1, sinceRead = stopwatch();
  let counted = first, sinceCounted = stopwatch(), isFirst = true;
  const ahead = fetchAhead(batches(count, batchSize, first), feeds);
  for await (const [places, fed] of ahead) {
    if (await stopped()) return false;
    await submit(places, fed);
    const images = places.at(-1)! + 1, step = Math.ceil(images / batchSize);
    if (++queued < allowed && images < count) continue;
    const means = await read(images);
    allowed = Math.max(1, Math.min(2 * allowed, Math.floor(interval * queued / sinceRead())));
    [queued, sinceRead] = [0, stopwatch()];
    const imagesPerSecond = 1000 * (images - counted) / Math.max(sinceCounted(), 1e-3);
    // Until the first read, drivers compile kernels: that does not count.
    if (isFirst) [counted, sinceCounted, isFirst] = [images, stopwatch(), false];
    await onProgress?.({ ...about, step, steps, ...means, images, of: count, imagesPerSecond });
  }
  return true;
}

/**
 * Refuses what is no logits `[size, outputs]` of a net, or has fewer outputs than `classes` (as with
 * PyTorch's losses, there may be more).
 *
 * @throws {ShapeError} whose message begins with `name`.
 */
export function checkOutputs(
  name: string,
  { shape }: Tensor,
  size: number,
  classes: readonly string[] = [],
): void {
  if (shape.length !== 2 || shape[0] !== size) {
    throw new ShapeError(
      `${name}: the net gives ${formatShape(shape)} for a batch of ${size}; ` +
        `it must give logits [${size}, classes]`,
    );
  }
  if (shape[1]! < classes.length) {
    throw new ShapeError(
      `${name}.classes: has ${classes.length} (${listed(classes)}), but the net has ${shape[1]} ` +
        `outputs: its logits are ${formatShape(shape)}; give it an output for each class`,
    );
  }
}

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
${argmaxOf("row", k)}
  var s = 0.0;
  for (var k = 0u; k < ${k}u; k++) { s += exp(x[row + k] - x[row + best]); }
  results[2u * indices[i]] = f32(best);
  results[2u * indices[i] + 1u] = 1.0 / s;`,
    )],
  };
}

/** What was noted of each image. */
function predictionsOf(results: Float32Array): Predictions {
  const column = (k: number) =>
    Float32Array.from({ length: results.length / 2 }, (_, i) => results[2 * i + k]!);
  return { predicted: Uint32Array.from(column(0)), probability: column(1) };
}

/** Counts right answers in evaluation mode; its plans last as long as it does. */
export class Evaluator implements Disposable {
  readonly #correct = new Variable([]);
  /** Of each image, the predicted class and its probability. */
  readonly #results: Variable;
  readonly #plans: BatchPlans;

  constructor(
    readonly net: Module,
    readonly data: DeviceDataset,
    readonly options: Preprocessing & {
      readonly batchSize: number;
      readonly device: Device;
      /** Ranks that test a part of each batch, with plans in a workspace of their own. */
      readonly together?: {
        readonly collective: Collective;
        readonly workspace: Device["workspace"];
      };
    },
  ) {
    const { collective, workspace } = options.together ?? {};
    this.#results = new Variable([data.count, 2]);
    this.#plans = new BatchPlans(data.count, options.batchSize, 1, collective, workspace);
  }

  async prepare(): Promise<void> {
    const { net, data, options: { batchSize: _, together: __, device, ...preprocessing } } = this;
    await this.#plans.prepare((size) => {
      const indices = input("indices", [size], "u32");
      const { x, labels } = data.batch(indices, preprocessing);
      const logits = evaluating(net, () => net.call(x));
      checkOutputs(data.name, logits, size, data.classes);
      const updates = [
        assign(this.#correct, add(this.#correct, correctCount(logits, labels))),
        note(this.#results, logits, indices),
      ];
      return { updates, device };
    });
  }

  /** Share classified right; undefined where the signal, of any rank, stopped it. */
  async run(watch: Watch, epoch: number): Promise<number | undefined> {
    await this.prepare();
    const { data: { count }, options: { batchSize, together } } = this;
    const collective = together?.collective, { signal } = watch;
    setVariable(this.#correct, new Float32Array(1));
    let accuracy = 0, tested = 0;
    const complete = await overBatches({ count, batchSize }, watch, {
      about: { epoch, phase: "test" },
      feeds: (batch) => {
        const indices = placesOf(batch, collective ?? ALONE);
        return feedsOf(this.data, indices, this.#plans.sizes(indices.length));
      },
      submit: (_, feeds) =>
        feeds.forEach((part) => {
          this.#plans.run(part);
          tested += part.indices.length;
        }),
      read: async () => {
        const [correct] = await readVariables([this.#correct]);
        accuracy = correct![0]! / Math.max(1, tested);
        return { accuracy };
      },
      ...collective && { stopped: () => anyOf(collective, signal?.aborted === true) },
    });
    if (!complete) return undefined;
    if (!collective) {
      await watch.onTested?.(await this.#predictions());
      return accuracy;
    }
    // What another rank tests is zero here. A sum of counts is exact.
    const [correct, results] = await readVariables([this.#correct, this.#results]);
    const sums = new Float32Array(1 + results!.length);
    sums.set(correct!);
    sums.set(results!, 1);
    await collective.allReduce(sums);
    await watch.onTested?.(predictionsOf(sums.subarray(1)));
    return sums[0]! / count;
  }

  async #predictions(): Promise<Predictions> {
    const [results] = await readVariables([this.#results]);
    return predictionsOf(results!);
  }

  [Symbol.dispose](): void {
    this.#plans[Symbol.dispose]();
    freeVariables([this.#correct, this.#results]);
  }
}

/**
 * The share of `data` that `net` classifies right, in evaluation mode: the notebook's
 * `evaluate_accuracy`. `options` say how images are prepared, the `batchSize` (128 by default) and
 * the `device`.
 *
 * @throws {ArgumentError} if an argument or option is of another kind.
 * @throws {DataError} if the arrays are no data set, or a label is none of the classes.
 * @throws {ShapeError} if the net does not fit the images, or has fewer outputs than there are
 * classes.
 *
 * @example
 * ```ts
 * import { Flatten } from "@resnette/resnette";
 * import { evaluateAccuracy } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const images = new Uint8Array([255, 0, 0, 0, 0, 0, 255, 0]), labels = new Uint8Array([0, 3]);
 * const classes = ["top left", "top right", "bottom left", "bottom right"];
 * const data = { images, labels, count: 2, height: 2, width: 2, classes };
 * const net = new Flatten(); // its largest output is the brightest pixel
 * assertEquals(await evaluateAccuracy(net, data), 0.5);
 * ```
 */
export async function evaluateAccuracy(
  net: Module,
  data: ImageDataset | DeviceDataset,
  options: Preprocessing & { readonly batchSize?: number; readonly device?: Device } = {},
): Promise<number> {
  checkInstance("evaluateAccuracy", "net", net, Module);
  checkOptions("evaluateAccuracy", options, [...PREPROCESSING, "batchSize", "device"]);
  const { batchSize = 128, device = await defaultDevice(), ...preprocessing } = options;
  checkNumber("evaluateAccuracy", "batchSize", batchSize, { integer: true, min: 1 });
  checkInstance("evaluateAccuracy", "device", device, Device);
  const set = data instanceof DeviceDataset
    ? data
    : deviceDataset(data, "evaluateAccuracy: data", device);
  checkPreprocessing("evaluateAccuracy", preprocessing, set.channels);
  const evaluator = new Evaluator(net, set, { ...preprocessing, batchSize, device });
  try {
    return (await evaluator.run({}, 0))!;
  } finally {
    evaluator[Symbol.dispose]();
  }
}
