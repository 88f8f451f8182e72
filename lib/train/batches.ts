/**
 * The batches of a data set, cut into micro-batches where they are too large, and a plan for each size.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { ShapeError } from "../graph/shape.ts";
import { type Feeds, Plan, PlanError, type PlanOptions } from "../plan/plan.ts";
import { oversized, stepsOf } from "../plan/steps.ts";

/** What the plan of a batch computes, and where. */
type BatchOptions = PlanOptions & { readonly device: Device };

/** What a micro-batch of `size` images computes, if a full batch is cut into so many `parts`. */
type OptionsOf = (size: number, parts: number) => BatchOptions;

/** What a micro-batch is fed by: its indices, and its images where they do not stay on the device. */
export type BatchFeeds = Feeds & { readonly indices: Uint32Array<ArrayBuffer> };

/** Which of how many ranks; a process alone is the only one. */
export interface Rank {
  /** The number of the rank. */
  readonly rank: number;
  /** How many ranks there are. */
  readonly size: number;
}

/** A process alone. */
export const ALONE: Rank = { rank: 0, size: 1 };

/** How many of so many images a rank has: every `size`-th. */
export const shareOf = (images: number, { rank, size }: Rank): number =>
  Math.max(0, Math.ceil((images - rank) / size));

/** Those of the places of a batch that are a rank's. */
export const placesOf = (
  places: Uint32Array<ArrayBuffer>,
  { rank, size }: Rank,
): Uint32Array<ArrayBuffer> => size === 1 ? places : places.filter((_, i) => i % size === rank);

/**
 * Plans for a rank's part of the batches of `count` images: the full one, the last one, or both. Each
 * is cut into micro-batches, as even as can be: a full one into `parts`, or into more if these do not
 * fit the device.
 */
export class BatchPlans implements Disposable {
  /** By the number of images. */
  readonly #plans = new Map<number, Plan>();
  readonly #batches: readonly number[];
  readonly #full: number;
  /** Images of a micro-batch, at least, if its batch has so many. */
  #least = 1;
  #refusal: string | undefined;
  #disposed = false;
  #parts: number;

  constructor(
    count: number,
    batchSize: number,
    parts = 1,
    rank: Rank = ALONE,
    readonly workspace?: Device["workspace"],
  ) {
    this.#full = shareOf(Math.min(count, batchSize), rank);
    this.#batches = [this.#full, shareOf(count % batchSize, rank)].filter((size) => size > 0);
    this.#parts = parts;
  }

  /** Images of the largest batch. */
  get full(): number {
    return this.#full;
  }

  /** Micro-batches of a full batch. Plans of other ones are freed. */
  get parts(): number {
    return this.#parts;
  }

  set parts(parts: number) {
    if (parts === this.#parts) return;
    this.#parts = parts;
    this.#refusal = undefined;
    this.#plans.forEach((plan) => plan[Symbol.dispose]());
    this.#plans.clear();
  }

  /** Why there are more parts than were asked for, if there are. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** The sizes of the micro-batches of a batch of `size` images, the larger ones first. */
  sizes(size: number): number[] {
    const most = Math.max(1, Math.floor(size / this.#least));
    const parts = Math.min(most, Math.ceil(size * this.#parts / this.#full));
    return Array.from({ length: parts }, (_, i) => Math.ceil((size - i) / parts));
  }

  /**
   * Compiles those that are not there yet. If a micro-batch does not fit, there are more of them, the
   * smallest number that fits; and none has one image, if that cannot be computed.
   *
   * @throws {PlanError} where not even the smallest micro-batch fits.
   */
  async prepare(optionsOf: OptionsOf): Promise<void> {
    for (;;) {
      this.#check();
      const parts = this.#parts;
      const batch = this.#batches.find((size) =>
        this.sizes(size).some((part) => !this.#plans.has(part))
      );
      if (batch === undefined) return;
      const size = this.sizes(batch).find((part) => !this.#plans.has(part))!;
      try {
        const plan = await Plan.compile(optionsOf(size, parts), this.workspace);
        // Somebody else may have been here meanwhile.
        const late = this.#disposed || this.#parts !== parts || this.#plans.has(size);
        if (late) plan[Symbol.dispose]();
        else this.#plans.set(size, plan);
      } catch (error) {
        if (this.#parts !== parts) continue;
        if (error instanceof ShapeError && size === 1 && batch > 1 && this.#least === 1) {
          this.#least = 2;
        } else if (error instanceof PlanError && error.largest !== undefined) {
          this.#cut(error, batch, size, (size) => optionsOf(size, parts));
        } else throw error;
      }
    }
  }

  /** Cuts batches into more parts, because a micro-batch of `size` images of a `batch` does not fit. */
  #cut(
    cause: PlanError,
    batch: number,
    size: number,
    optionsOf: (size: number) => BatchOptions,
  ): void {
    if (size > 1 && this.#least === 1) {
      try {
        optionsOf(1);
      } catch (error) {
        if (!(error instanceof ShapeError)) throw error;
        this.#least = 2;
      }
    }
    const { largest, what } = largestFitting(cause, size, this.#least, optionsOf);
    const refusal = `a batch of ${size} does not fit this adapter: ${what}`;
    if (largest >= this.#least) {
      const before = this.#refusal;
      this.parts = Math.ceil(this.#full / largest);
      this.#refusal = before ?? refusal;
    }
    if (this.sizes(batch)[0]! <= largest) return;
    const few = this.#least === 1
      ? "not even one image fits"
      : "what fits is too few, as one image alone cannot be computed";
    throw new PlanError(`${refusal}; ${few}: make them smaller`, largest);
  }

  /** The plan that is for so many `indices`. */
  planOf({ indices }: BatchFeeds): Plan {
    this.#check();
    return this.#plans.get(indices.length)!;
  }

  /** Runs that plan, with what it is `fed`; the plan. */
  run(feeds: BatchFeeds, fed: Feeds = feeds): Plan {
    const plan = this.planOf(feeds);
    plan.run(fed);
    return plan;
  }

  #check(): void {
    if (this.#disposed) {
      throw new Error("these plans were disposed of with their trainer; make another trainer");
    }
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#plans.forEach((plan) => plan[Symbol.dispose]());
  }
}

/** The most images, below `size`, that some device can hold; and what is too large at `size`. */
function largestFitting(
  cause: PlanError,
  size: number,
  least: number,
  optionsOf: (size: number) => BatchOptions,
): { largest: number; what: string } {
  const overOf = (size: number) => {
    const { outputs = [], updates = [], device: { target } } = optionsOf(size);
    return oversized(stepsOf(outputs, updates, target), target);
  };
  const first = overOf(size);
  if (!first) throw cause;
  let largest = size;
  // Nearly all tensors grow with the batch; the others show when the smaller one is tried.
  for (let over: typeof first | undefined = first; over; over = overOf(largest)) {
    largest = Math.min(largest - 1, Math.floor(largest / over.times));
    if (largest < least) break;
  }
  return { largest, what: first.what };
}

/** Batches with what they are fed by, which is asked for while the device works on the one before. */
export async function* fetchAhead(
  all: Iterable<Uint32Array<ArrayBuffer>>,
  feeds: (places: Uint32Array<ArrayBuffer>) => BatchFeeds[] | Promise<BatchFeeds[]>,
): AsyncGenerator<[places: Uint32Array<ArrayBuffer>, feeds: BatchFeeds[]]> {
  let before: [Uint32Array<ArrayBuffer>, BatchFeeds[] | Promise<BatchFeeds[]>] | undefined;
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
