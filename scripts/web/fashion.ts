/**
 * Fashion-MNIST, from the folder `data/` beside the page. Its first images can be trained on before the
 * rest has come.
 *
 * @module
 */

import {
  FASHION_MNIST_CLASSES,
  FASHION_MNIST_FILES,
  type Split,
} from "../../lib/data/fashion_mnist.ts";
import { DataError } from "../../lib/data/error.ts";
import type { ByteStream } from "../../lib/data/gzip.ts";
import { type IdxStream, readIdx } from "../../lib/data/idx.ts";
import type { ImagesInMemory } from "../../lib/data/dataset.ts";

/** Rows and columns. */
const SIDE = 28;
/** Images that are taken over at a time. */
const BATCH = 500;

/** Opens a file of the folder `data/`. */
async function open(name: string): Promise<ByteStream> {
  const fail = (what: string, cause?: unknown): never => {
    throw new DataError("read-failed", name, `cannot be fetched: ${what}`, { cause });
  };
  try {
    const response = await fetch(`data/${name}`);
    if (!response.ok || !response.body) return fail(`the server says ${response.status}`);
    return response.body;
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    return fail(`${(cause as Error).message}; is there a connection?`, cause);
  }
}

/** One part of the data set, as it comes. */
export class FashionPart {
  readonly #images: Uint8Array<ArrayBuffer>;
  readonly #labels: Uint8Array<ArrayBuffer>;
  /** Images, and labels, that are there. */
  readonly #read = { images: 0, labels: 0 };
  #waiting: { readonly count: number; readonly resolve: () => void; reject(why: unknown): void }[] =
    [];
  #failed: unknown;

  /** Begins to read; `onRead` is told how many images are there. */
  constructor(split: Split, onRead: (count: number) => void) {
    const { images, labels } = FASHION_MNIST_FILES[split];
    const count = labels.bytes - 8;
    this.#images = new Uint8Array(count * SIDE * SIDE);
    this.#labels = new Uint8Array(count);
    const come = () => {
      onRead(this.#count);
      this.#answer();
    };
    const files = [
      this.#fill("images", images.name, [count, SIDE, SIDE], come),
      this.#fill("labels", labels.name, [count], come),
    ];
    Promise.all(files).catch((error) => {
      this.#failed = error;
      this.#answer();
    });
  }

  /** The first so many, once they are there. What comes after them is read on. */
  async first(count: number): Promise<ImagesInMemory> {
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ count, resolve, reject });
      this.#answer();
    });
    return {
      images: this.#images.subarray(0, count * SIDE * SIDE),
      labels: this.#labels.subarray(0, count),
      ...{ count, height: SIDE, width: SIDE, classes: FASHION_MNIST_CLASSES },
    };
  }

  get #count(): number {
    return Math.min(this.#read.images, this.#read.labels);
  }

  #answer(): void {
    this.#waiting = this.#waiting.filter(({ count, resolve, reject }) => {
      if (count <= this.#count) return resolve();
      if (this.#failed !== undefined) return reject(this.#failed);
      return true;
    });
  }

  async #fill(
    what: "images" | "labels",
    name: string,
    shape: readonly number[],
    come: () => void,
  ): Promise<void> {
    const target = what === "images" ? this.#images : this.#labels;
    const idx: IdxStream = await readIdx(await open(name), name, { shape });
    const reader = idx.batches(BATCH).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      target.set(value, this.#read[what] * idx.recordBytes);
      this.#read[what] += value.length / idx.recordBytes;
      come();
    }
  }
}
