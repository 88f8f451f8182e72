/**
 * The images that the page trains on: Fashion-MNIST, or a folder of one's own.
 *
 * @module
 */

import type { ImagesInMemory } from "../../lib/data/dataset.ts";
import type { DataSource } from "../../lib/train/checkpoint.ts";
import { fetchFashionMnist } from "../../lib/data/fetch.ts";
import type { Split } from "../../lib/data/fashion_mnist.ts";
import type { Labelled, Settings } from "./protocol.ts";

/** Test images that the page shows to choose from. */
const SAMPLES = 24;
/** Images of Fashion-MNIST. */
const ALL = { train: 60_000, test: 10_000 } as const;
/** Bytes of one of them, packed. */
const PACKED = 440;

/** What the images depend on. */
export type DataSettings = Pick<Settings, "limit" | "testLimit" | "seed">;

/** Images to train on and to test with. */
export interface Data {
  /** What it is called. */
  readonly name: string;
  /** Where the images are from. */
  readonly source: DataSource;
  /** What else there is to say. */
  readonly notes: readonly string[];
  /** To train on. */
  readonly train: ImagesInMemory;
  /** To test with. */
  readonly test: ImagesInMemory;
  /**
   * The same images, but so many of each, the first ones, or null for all; of a folder, all of them, and
   * those to test with that the seed chooses.
   */
  load(settings: DataSettings): Promise<Data>;
}

/** Fashion-MNIST, from the folder `data/` beside the page; no more of it than is needed. */
export class Fashion implements Pick<Data, "load"> {
  readonly #source = { kind: "fashion-mnist", path: null } as const;
  /** As much of each split as has come. */
  readonly #got: Partial<Record<Split, ImagesInMemory>> = {};

  /** `onRead` is told which share of what is waited for has come. */
  constructor(readonly onRead: (share: number) => void) {}

  async load(
    { limit, testLimit }: Pick<Settings, "limit" | "testLimit">,
  ): Promise<Data> {
    const shares = { train: 0, test: 0 };
    const most = { train: limit ?? ALL.train, test: testLimit ?? ALL.test };
    const get = (split: Split) =>
      this.#first(split, most[split], (share) => {
        shares[split] = share;
        const sum = shares.train * most.train + shares.test * most.test;
        this.onRead(sum / (most.train + most.test));
      });
    const [train, test] = await Promise.all([get("train"), get("test")]);
    const load = (settings: DataSettings) => this.load(settings);
    return { name: "Fashion-MNIST", source: this.#source, notes: [], train, test, load };
  }

  async #first(split: Split, count: number, onRead: (share: number) => void) {
    const all = ALL[split];
    const data = (this.#got[split]?.count ?? 0) >= count
      ? this.#got[split]!
      : await fetchFashionMnist(new URL("data/", location.href), split, {
        ...{ limit: count, stopEarly: count < all },
        onProgress: ({ received, total = all * PACKED }) =>
          onRead(Math.min(1, received * all / (total * count))),
      });
    this.#got[split] = data;
    const { images, labels, height, width } = data;
    return {
      ...data,
      count,
      images: images.subarray(0, count * height * width),
      labels: labels.subarray(0, count),
    };
  }
}

/** An image of a data set, with its class. */
export function labelled(data: ImagesInMemory, index: number): Labelled {
  const { images, labels, channels = 1, height, width } = data, size = channels * height * width;
  const pixels = images.slice(index * size, (index + 1) * size);
  return { pixels, channels, height, width, index, label: labels[index]! };
}

/** Some images of each class, the classes in turns. */
export function samplesOf(data: ImagesInMemory): Labelled[] {
  const { labels, classes, count } = data;
  const byClass = classes.map((_, label) =>
    Array.from({ length: count }, (_, i) => i).filter((i) => labels[i] === label)
  );
  const chosen: number[] = [];
  for (let turn = 0; chosen.length < Math.min(SAMPLES, count); turn++) {
    for (const indices of byClass) if (turn < indices.length) chosen.push(indices[turn]!);
  }
  return chosen.slice(0, SAMPLES).map((index) => labelled(data, index));
}
