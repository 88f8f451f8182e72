/**
 * The images that the page trains on: Fashion-MNIST, or a folder of one's own.
 *
 * @module
 */

import type { ImagesInMemory } from "../../lib/data/dataset.ts";
import type { DataSource } from "../../lib/train/checkpoint.ts";
import { FashionPart } from "./fashion.ts";
import type { Labelled } from "./protocol.ts";

/** Test images that the page shows to choose from. */
const SAMPLES = 24;
/** Images of Fashion-MNIST. */
const ALL = { train: 60_000, test: 10_000 } as const;

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

/** Fashion-MNIST, which is fetched as it is needed. */
export class Fashion implements Data {
  readonly name = "Fashion-MNIST";
  readonly source = { kind: "fashion-mnist", path: null } as const;
  readonly notes = [];
  train!: ImagesInMemory;
  test!: ImagesInMemory;
  readonly #train: FashionPart;
  readonly #test: FashionPart;
  /** How many images are wanted, while somebody waits for them. */
  #wanted = 0;

  /** `onRead` is told how many of the images that are waited for have come. */
  constructor(onRead: (done: number, of: number) => void) {
    let train = 0, test = 0;
    const come = () =>
      this.#wanted > 0 && onRead(Math.min(train + test, this.#wanted), this.#wanted);
    this.#test = new FashionPart("test", (count) => (test = count, come()));
    this.#train = new FashionPart("train", (count) => (train = count, come()));
  }

  async load(limit: number | null, testLimit: number | null): Promise<void> {
    const [train, test] = [limit ?? ALL.train, testLimit ?? ALL.test];
    this.#wanted = train + test;
    [this.train, this.test] = await Promise.all([this.#train.first(train), this.#test.first(test)])
      .finally(() => this.#wanted = 0);
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
