/**
 * The module of a worker that decodes images: it gets the bytes of files, one after the other, and
 * opens nothing itself. `Decoders` starts it.
 *
 * @module
 */

import { decodeInto, type FormedImage, type ImageForm } from "./image.ts";

/** What a worker is sent. */
export interface DecodeRequest {
  /** Which this is. */
  readonly id: number;
  /** What the image becomes. */
  readonly form: ImageForm;
  /** The file. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** What messages call it. */
  readonly name: string;
}

/** What a worker answers: the image, or why there is none. */
export type DecodeAnswer =
  & { readonly id: number }
  & ({ readonly image: FormedImage } | { readonly why: string });

/** The global scope of a worker, as far as it is used. */
interface WorkerScope {
  onmessage: (event: MessageEvent<DecodeRequest>) => void;
  postMessage(answer: DecodeAnswer, transfer: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope;
/** One image is decoded at a time, so that no more than one is in memory. */
let before: Promise<void> = Promise.resolve();

scope.onmessage = ({ data }) => {
  before = before.then(() => answer(data));
};

async function answer({ id, form, bytes, name }: DecodeRequest): Promise<void> {
  try {
    const image = await decodeInto(form, bytes, name);
    scope.postMessage({ id, image }, [image.pixels.buffer]);
  } catch (error) {
    scope.postMessage({ id, why: error instanceof Error ? error.message : String(error) }, []);
  }
}
