/**
 * Running plans over the batches of a data set: one plan for each size, and how far to work ahead.
 *
 * @module
 */

import { bytesOf } from "../device/buffers.ts";
import type { Device } from "../device/device.ts";
import { type Feeds, Plan, PlanError, type PlanOptions } from "../plan/plan.ts";
import { stepsOf } from "../plan/steps.ts";
import { formatShape } from "../graph/shape.ts";
import type { Tensor } from "../graph/tensor.ts";

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

/** What the plan of a batch computes, and where. */
type BatchOptions = PlanOptions & { readonly device: Device };

/** Plans for the batches of `count` images, by their sizes: the full one, the last one, or both. */
export class BatchPlans implements Disposable {
  readonly #plans = new Map<number, Plan>();
  #disposed = false;

  constructor(readonly count: number, readonly batchSize: number) {}

  /**
   * Compiles those that are not there yet.
   *
   * @throws {PlanError} where a batch exceeds the adapter's limits; the message says what would fit.
   */
  async prepare(optionsOf: (size: number) => BatchOptions): Promise<void> {
    const { count, batchSize } = this;
    for (const size of [count >= batchSize ? batchSize : 0, count % batchSize]) {
      this.#check();
      if (size === 0 || this.#plans.has(size)) continue;
      const plan = await Plan.compile(optionsOf(size)).catch((error) => {
        throw error instanceof PlanError && error.largest !== undefined
          ? tooLarge(error, size, optionsOf)
          : error;
      });
      // Somebody else may have been here meanwhile.
      if (this.#disposed || this.#plans.has(size)) plan[Symbol.dispose]();
      else this.#plans.set(size, plan);
    }
  }

  /** Runs the plan that is for so many `indices`; the plan. */
  run(indices: Uint32Array<ArrayBuffer>, feeds: Feeds = {}): Plan {
    this.#check();
    const plan = this.#plans.get(indices.length)!;
    plan.run({ indices, ...feeds });
    return plan;
  }

  #check(): void {
    if (this.#disposed) {
      throw new Error("what these plans are of was disposed of; make another one");
    }
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#plans.forEach((plan) => plan[Symbol.dispose]());
  }
}

/** The refusal of a batch that some buffer cannot hold, in terms of batches. */
function tooLarge(
  cause: PlanError,
  size: number,
  optionsOf: (size: number) => BatchOptions,
): PlanError {
  const { target } = optionsOf(size).device, limit = target.maxBindingBytes;
  const worst = (size: number) => {
    const { outputs = [], updates = [] } = optionsOf(size);
    return stepsOf(outputs, updates, target).steps
      .flatMap(({ reads, writes }) => [...reads, ...writes])
      .reduce((a, b) => bytesOf(b.dtype, b.size) > bytesOf(a.dtype, a.size) ? b : a);
  };
  const over = (x: Tensor) => bytesOf(x.dtype, x.size) / limit;
  const tensor = worst(size);
  if (over(tensor) <= 1) return cause;
  // Nearly all tensors grow with the batch; the others show when the smaller one is tried.
  let largest = size;
  for (let x = tensor; largest > 0 && over(x) > 1; x = worst(Math.max(1, largest))) {
    largest = Math.min(largest - 1, Math.floor(largest / over(x)));
  }
  return new PlanError(
    `a batch of ${size} does not fit this adapter: ${tensor.op.name} ` +
      `${formatShape(tensor.shape)} takes ${bytesOf(tensor.dtype, tensor.size)} bytes, more ` +
      `than its maxStorageBufferBindingSize of ${limit}; ` +
      (largest > 0
        ? `the largest batch that fits is ${largest}`
        : `not even one image fits: make them smaller`),
    largest,
  );
}

/** The indices of the batches of `count` images, in order. */
export function* batches(count: number, batchSize: number): Generator<Uint32Array<ArrayBuffer>> {
  for (let first = 0; first < count; first += batchSize) {
    const size = Math.min(batchSize, count - first);
    yield Uint32Array.from({ length: size }, (_, i) => first + i);
  }
}
