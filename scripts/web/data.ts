/**
 * The images that the page trains on: Fashion-MNIST, or a folder of one's own.
 *
 * @module
 */

import type { ImagesInMemory } from "../../lib/data/dataset.ts";
import type { DataSource } from "../../lib/train/checkpoint.ts";
import { fetchFashionMnist } from "../../lib/data/fetch.ts";
import type { Split } from "../../lib/data/fashion_mnist.ts";
import type { Labelled } from "./protocol.ts";

/** Test images that the page shows to choose from. */
const SAMPLES = 24;
/** Images of Fashion-MNIST. */
const ALL = { train: 60_000, test: 10_000 } as const;
/** Bytes of one of them, packed. */
const PACKED = 440;

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
  /** Takes so many of each, the first ones; null for all. */
  load(limit: number | null, testLimit: number | null): Promise<void>;
}

/** Fashion-MNIST, from the folder `data/` beside the page; no more of it than is needed. */
export class Fashion implements Data {
  readonly name = "Fashion-MNIST";
  readonly source = { kind: "fashion-mnist", path: null } as const;
  readonly notes = [];
  train!: ImagesInMemory;
  test!: ImagesInMemory;
  /** As much of each split as has come. */
  readonly #got: Partial<Record<Split, ImagesInMemory>> = {};

  /** `onRead` is told which share of what is waited for has come. */
  constructor(readonly onRead: (share: number) => void) {}

  async load(limit: number | null, testLimit: number | null): Promise<void> {
    const shares = { train: 0, test: 0 };
    const [train, test] = [limit ?? ALL.train, testLimit ?? ALL.test];
    const get = (split: Split, count: number) =>
      this.#first(split, count, (share) => {
        shares[split] = share;
        this.onRead((shares.train * train + shares.test * test) / (train + test));
      });
    [this.train, this.test] = await Promise.all([get("train", train), get("test", test)]);
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
