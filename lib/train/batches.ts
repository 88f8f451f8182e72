/**
 * The batches of a data set, and a plan for each size of them.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { type Feeds, Plan, PlanError, type PlanOptions } from "../plan/plan.ts";
import { oversized, stepsOf } from "../plan/steps.ts";

/** What the plan of a batch computes, and where. */
type BatchOptions = PlanOptions & { readonly device: Device };

/** What a batch is fed by: its indices, and its images where they do not stay on the device. */
export type BatchFeeds = Feeds & { readonly indices: Uint32Array<ArrayBuffer> };

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
  run(feeds: BatchFeeds): Plan {
    this.#check();
    const plan = this.#plans.get(feeds.indices.length)!;
    plan.run(feeds);
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
  const overOf = (size: number) => {
    const { outputs = [], updates = [], device: { target } } = optionsOf(size);
    return oversized(stepsOf(outputs, updates, target), target);
  };
  const first = overOf(size);
  if (!first) return cause;
  // Nearly all tensors grow with the batch; the others show when the smaller one is tried.
  let largest = size;
  for (let over: ReturnType<typeof overOf> = first; over && largest > 0;) {
    largest = Math.min(largest - 1, Math.floor(largest / over.times));
    over = overOf(Math.max(1, largest));
  }
  return new PlanError(
    `a batch of ${size} does not fit this adapter: ${first.what}; ` +
      (largest > 0
        ? `the largest batch that fits is ${largest}`
        : `not even one image fits: make them smaller`),
    largest,
  );
}

/** Batches with what they are fed by, which is asked for while the device works on the one before. */
export async function* fetchAhead(
  all: Iterable<Uint32Array<ArrayBuffer>>,
  feeds: (places: Uint32Array<ArrayBuffer>) => BatchFeeds | Promise<BatchFeeds>,
): AsyncGenerator<[places: Uint32Array<ArrayBuffer>, feeds: BatchFeeds]> {
  let before: [Uint32Array<ArrayBuffer>, BatchFeeds | Promise<BatchFeeds>] | undefined;
  for (const places of all) {
    const fetching = feeds(places);
    // Where the work is stopped before it is waited for, nobody is told.
    if (fetching instanceof Promise) fetching.catch(() => {});
    if (before) yield [before[0], await before[1]];
    before = [places, fetching];
  }
  if (before) yield [before[0], await before[1]];
}

/** The indices of the batches of `count` images, in order, from image `first` on. */
export function* batches(
  count: number,
  batchSize: number,
  first = 0,
): Generator<Uint32Array<ArrayBuffer>> {
  for (; first < count; first += batchSize) {
    const size = Math.min(batchSize, count - first);
    yield Uint32Array.from({ length: size }, (_, i) => first + i);
  }
}
