/**
 * Pictures made ready for a network, as its training images were: for the command and for the page.
 *
 * @module
 */

import type { DecodedImage } from "../../lib/data/pixels.ts";
import { type Pair, pair } from "../../lib/graph/shape.ts";
import { resizeBytes } from "../../lib/ops/resize.ts";
import type { TrainedOn } from "../../lib/train/checkpoint.ts";
import { type Invert, prepareGarment } from "./photo.ts";

/** Whether what was trained on shows things alone on a plain background, as Fashion-MNIST does. */
export const isIdx = ({ kind }: Pick<TrainedOn, "kind">): boolean =>
  kind === "idx" || kind === "fashion-mnist";

/** A picture made ready, and what there is to say of how. */
export interface Ready {
  /** `[channels, rows, columns]`. */
  readonly pixels: Uint8Array<ArrayBuffer>;
  /** Of JSON. */
  readonly about: object;
}

/** What a network gets, and how it is made of a picture of those channels. */
export interface Preparing {
  /** 1 for grey, 3 for RGB. */
  readonly channels: number;
  /** Rows and columns. */
  readonly size: readonly [rows: number, columns: number];
  /** Makes it ready. */
  readonly prepare: (picture: DecodedImage) => Ready;
}

/** How pictures are made ready for a network that was trained on such images, resized so. */
export function preparing(
  data: Omit<TrainedOn, "path" | "classes">,
  resize: Pair,
  invert: Invert,
): Preparing {
  if (isIdx(data)) {
    const size: [number, number] = [data.height, data.width];
    const options = { invert, size, ...data.fill !== undefined && { fill: data.fill } };
    return {
      channels: 1,
      size,
      prepare: (picture) => {
        const { pixels, ...about } = prepareGarment(picture, options);
        return { pixels, about };
      },
    };
  }
  const { channels } = data, size = pair("predict", "resize", resize, 1);
  return {
    channels,
    size,
    prepare: ({ pixels, width, height }) => ({
      pixels: resizeBytes(pixels, channels, height, width, ...size),
      about: {},
    }),
  };
}
