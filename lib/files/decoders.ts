/**
 * Decodes many images, by default in as many threads as there are cores.
 *
 * @module
 */

import { decodeInto, type FormedImage, ImageError, type ImageForm } from "./image.ts";
import type { DecodeAnswer, DecodeRequest } from "./image_worker.ts";

/** Images that make it worth to start a worker. */
const IMAGES_OF_A_WORKER = 8;

const MODULE = new URL("./image_worker.ts", import.meta.url);

/** Whether a worker may read its module; a local one needs a permission for that. */
function mayStart(): boolean {
  if (MODULE.protocol !== "file:") return true;
  return Deno.permissions.querySync({ name: "read", path: MODULE }).state === "granted";
}

/** Workers that decode. Where one does not pay, or none may be started, this thread does it itself. */
export class Decoders implements Disposable {
  readonly #workers: { readonly worker: Worker; waiting: number }[] = [];
  readonly #waiting = new Map<number, PromiseWithResolvers<FormedImage>>();
  readonly #signal: AbortSignal | undefined;
  #next = 0;

  /** Starts workers for so many images: at most `workers`. */
  constructor(
    readonly form: ImageForm,
    { images, workers, signal }: {
      images: number;
      workers: number;
      signal?: AbortSignal | undefined;
    },
  ) {
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort);
    const count = Math.min(workers, Math.ceil(images / IMAGES_OF_A_WORKER));
    if (count < 2 || !mayStart()) return;
    for (let i = 0; i < count; i++) this.#start();
  }

  readonly #abort = () => {
    this[Symbol.dispose]();
    this.#fail(this.#signal!.reason);
  };

  /** Gives an error to whoever waits. */
  #fail(error: unknown): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #start(): void {
    const worker = new Worker(MODULE, { type: "module", name: "images" });
    const state = { worker, waiting: 0 };
    this.#workers.push(state);
    worker.onmessage = ({ data }: MessageEvent<DecodeAnswer>) => {
      const { resolve, reject } = this.#waiting.get(data.id)!;
      this.#waiting.delete(data.id);
      state.waiting--;
      if ("image" in data) resolve(data.image);
      else reject(new ImageError(data.why));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new Error(`a worker that decodes images failed: ${event.message}`));
    };
  }

  /** How many images should be given before the first is waited for. */
  get ahead(): number {
    return 2 * this.#workers.length + 1;
  }

  /**
   * Decodes a file, as {@linkcode decodeInto}. The bytes are gone afterwards.
   *
   * @throws {ImageError}
   */
  async decode(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<FormedImage> {
    this.#signal?.throwIfAborted();
    if (this.#workers.length === 0) return await decodeInto(this.form, bytes, name);
    const least = this.#workers.reduce((a, b) => b.waiting < a.waiting ? b : a);
    const id = this.#next++, answer = Promise.withResolvers<FormedImage>();
    this.#waiting.set(id, answer);
    least.waiting++;
    const request: DecodeRequest = { id, form: this.form, bytes, name };
    least.worker.postMessage(request, [bytes.buffer]);
    return await answer.promise;
  }

  /** Ends the workers, whatever they do. */
  [Symbol.dispose](): void {
    this.#signal?.removeEventListener("abort", this.#abort);
    for (const { worker } of this.#workers) worker.terminate();
  }
}

/** What becomes of each, in their order; work on the next ones goes on meanwhile. */
export async function* inOrder<A, B>(
  items: Iterable<A>,
  ahead: number,
  work: (item: A) => Promise<B>,
): AsyncGenerator<B> {
  const pending: Promise<B>[] = [];
  try {
    for (const item of items) {
      const result = work(item);
      result.catch(() => {}); // Whoever waits for it gets the error.
      pending.push(result);
      if (pending.length >= ahead) yield await pending.shift()!;
    }
    while (pending.length > 0) yield await pending.shift()!;
  } finally {
    await Promise.allSettled(pending);
  }
}
