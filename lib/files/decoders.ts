/**
 * Decodes many images, by default in as many threads as there are cores.
 *
 * @module
 */

import { DataError } from "../data/error.ts";
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
  /** Each with the names of the images that it has not answered yet, the one that it decodes first. */
  readonly #workers: { readonly worker: Worker; readonly names: string[] }[] = [];
  readonly #waiting = new Map<number, PromiseWithResolvers<FormedImage> & { name: string }>();
  readonly #signal: AbortSignal | undefined;
  /** Why nothing is decoded any more, for an image. */
  #failure: ((name: string) => unknown) | undefined;
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

  readonly #abort = () => this.#fail(() => this.#signal!.reason);

  /** Ends the workers, and gives an error to whoever waits or comes later. */
  #fail(failure: (name: string) => unknown): void {
    this.#failure ??= failure;
    this[Symbol.dispose]();
    for (const { reject, name } of this.#waiting.values()) reject(failure(name));
    this.#waiting.clear();
  }

  #start(): void {
    const worker = new Worker(MODULE, { type: "module", name: "images" });
    const names: string[] = [];
    this.#workers.push({ worker, names });
    worker.onmessage = ({ data }: MessageEvent<DecodeAnswer>) => {
      const answer = this.#waiting.get(data.id);
      if (!answer) return; // Another worker has failed meanwhile.
      this.#waiting.delete(data.id);
      names.shift();
      if ("image" in data) answer.resolve(data.image);
      else answer.reject(new ImageError(data.why));
    };
    worker.onerror = (event) => {
      event.preventDefault();
      const [own] = names, what = `the worker that decodes it failed: ${event.message}`;
      this.#fail((name) => new DataError("read-failed", own ?? name, what));
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
   * @throws {DataError} if a worker has failed
   */
  async decode(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<FormedImage> {
    this.#signal?.throwIfAborted();
    if (this.#failure) throw this.#failure(name);
    if (this.#workers.length === 0) return await decodeInto(this.form, bytes, name);
    const least = this.#workers.reduce((a, b) => b.names.length < a.names.length ? b : a);
    const id = this.#next++, answer = Promise.withResolvers<FormedImage>();
    this.#waiting.set(id, { ...answer, name });
    least.names.push(name);
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
