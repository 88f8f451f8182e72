/**
 * Data sets as graphs read them: a batch is a list of indices, and its images are made ready on the
 * device.
 *
 * @module
 */

import type { BatchFeeds } from "./batches.ts";
import { checkDataset, type ImageDataset, readImages, showDataset } from "../data/dataset.ts";
import {
  checkBoolean,
  checkFunction,
  checkNumber,
  checkNumbers,
  checkOptions,
  checkString,
  refuse,
} from "../check/arguments.ts";
import type { Device } from "../device/device.ts";
import { gather, MOST_PIXELS, resizeBilinear } from "../ops/data.ts";
import { div, sub } from "../ops/elementwise.ts";
import { broadcastTo } from "../ops/view.ts";
import { type Pair, pair, ShapeError } from "../graph/shape.ts";
import {
  checkIndices,
  checkTensor,
  constant,
  input,
  inScope,
  type Scope,
  type Tensor,
  tensor,
} from "../graph/tensor.ts";

/** Where the nodes of a batch come from. */
const DATA: Scope = { layer: "", pass: "data" };

/** How images are prepared for a net: torchvision's `Resize`, `ToTensor` and `Normalize`. */
export interface Preprocessing {
  /** What images are resized to: a side, or `[rows, columns]`; by default they keep their size. */
  readonly resize?: Pair | null;
  /** 3 makes grey images RGB, of three equal channels; by default they keep theirs. */
  readonly channels?: number | null;
  /** Subtracted from values between 0 and 1: one number, or one for each channel; 0 by default. */
  readonly mean?: readonly number[] | null;
  /** What values are then divided by: one number, or one for each channel; 1 by default. */
  readonly std?: readonly number[] | null;
}

/** The names of these. */
export const PREPROCESSING: readonly (keyof Preprocessing)[] = [
  "resize",
  "channels",
  "mean",
  "std",
];

/** Throws unless these options of `op` say how images of so many channels are made ready. */
export function checkPreprocessing(
  op: string,
  { resize, channels, mean, std }: Preprocessing,
  own: number,
) {
  const present = (value: unknown) => value !== undefined && value !== null;
  if (present(resize)) {
    pair(op, "resize", resize!, 1).forEach((side) =>
      checkNumber(op, "resize", side, { integer: true, min: 1, max: MOST_PIXELS })
    );
  }
  if (present(channels) && channels !== own && own !== 1) {
    refuse(op, "channels", `${own}, those of the images`, channels);
  }
  if (present(channels)) {
    checkNumber(op, "channels", channels, { integer: true, min: 1, max: 4096 });
  }
  for (const [name, values] of Object.entries({ mean, std })) {
    if (!present(values)) continue;
    checkNumbers(op, name, values);
    const { length } = values!, wanted = channels ?? own;
    if (length !== 1 && length !== wanted) {
      refuse(op, name, wanted === 1 ? "one number" : `one number, or ${wanted}`, values);
    }
    if (name === "std" && !values!.every((x) => x > 0)) refuse(op, name, "numbers above 0", values);
  }
}

/**
 * Images `[N, channels, …size]` ready for a net: those at `indices` `[N]` of u8 images
 * `[count, channels, H, W]`.
 */
function batchImages(
  images: Tensor,
  indices: Tensor,
  { resize, channels, mean, std }: Preprocessing,
  augment: (pixels: Tensor) => Tensor = (pixels) => pixels,
): Tensor {
  return inScope(DATA, () => {
    const pixels = augment(gather(images, indices));
    const [n, own, height, width] = pixels.shape as [number, number, number, number];
    const [rows, columns] = pair("batch", "size", resize ?? [height, width], 1);
    const fits = height === rows && width === columns;
    const grey = div(fits ? pixels : resizeBilinear(pixels, [rows, columns]), 255);
    let x = channels && channels !== own ? broadcastTo(grey, [n, channels, rows, columns]) : grey;
    const each = (values: readonly number[]) => tensor([...values], [values.length, 1, 1]);
    if (mean) x = sub(x, each(mean));
    return std ? div(x, each(std)) : x;
  });
}

/**
 * A data set for graphs: {@link DeviceDataset.batch} takes a batch from it. If it is `resident`,
 * its images are uploaded to the device once and stay there. If not, the images of each batch are
 * uploaded for the batch; see {@link DeviceDataset.feeds}.
 *
 * @example
 * ```ts
 * import { evaluate, input } from "@resnette/resnette";
 * import { DeviceDataset } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const size = { count: 2, height: 1, width: 2 }, classes = ["a", "b"];
 * const arrays = { images: new Uint8Array([0, 0, 255, 255]), labels: Uint8Array.of(0, 1) };
 * const data = new DeviceDataset({ ...arrays, ...size, classes });
 * const { x } = data.batch(input("indices", [1], "u32"), { resize: [1, 3] });
 * const indices = Uint32Array.of(1);
 * const values = await evaluate(x, { indices, ...await data.feeds(indices) });
 * assertEquals(values, new Float32Array([1, 1, 1]));
 * ```
 */
export class DeviceDataset {
  /** Whether the images stay on the device. */
  readonly resident: boolean;
  /** Number of images. */
  readonly count: number;
  /** 1 for grey, 3 for red, green and blue. */
  readonly channels: number;
  /** Rows of an image. */
  readonly height: number;
  /** Columns of an image. */
  readonly width: number;
  /** The classes' names, by label. */
  readonly classes: readonly string[];
  /** `[count, channels, height, width]`, u8; of a set that stays. */
  readonly #images: Tensor | undefined;
  /** `[count]`, u8 or u32. */
  readonly #labels: Tensor;
  readonly #data: ImageDataset;

  /**
   * Takes the arrays without a copy; do not change them any more.
   *
   * @param data images and labels
   * @param name what error messages call it
   * @param options `resident`: whether the images stay on the device; by default they do if they
   * are in memory
   * @throws {DataError} if an array has another kind or length than it should, or a label is none
   * of the classes; the message names it.
   */
  constructor(
    data: ImageDataset,
    readonly name = "DeviceDataset: data",
    options: { resident?: boolean } = {},
  ) {
    checkString("DeviceDataset", "name", name);
    checkDataset(name, data);
    const { images, labels, count, channels = 1, height, width, classes } = data;
    checkOptions("DeviceDataset", options, ["resident"]);
    const { resident = typeof images !== "function" } = options;
    checkBoolean("DeviceDataset", "resident", resident);
    if (resident && typeof images === "function") {
      refuse("DeviceDataset", "resident", "false for images that a function reads", resident);
    }
    const shape = [channels, height, width];
    this.#images = resident
      ? constant(images as Uint8Array<ArrayBuffer>, [count, ...shape])
      : undefined;
    this.#labels = constant(
      labels instanceof Uint16Array ? Uint32Array.from(labels) : labels,
      [count],
    );
    this.#data = data;
    this.resident = resident;
    this.count = count;
    this.channels = channels;
    this.height = height;
    this.width = width;
    this.classes = classes;
    this.#data = data;
  }

  /** Shown by a notebook: some of its images, with their classes. */
  [Symbol.for("Jupyter.display")](): Promise<Record<string, string>> {
    return showDataset(this.#data);
  }

  /**
   * The batch at u32 `indices` `[N]`: images `x` `[N, channels, H, W]`, from 0 to 1 before `mean`
   * and `std`, and u32 `labels` `[N]`. `options` say how images are prepared; `augment` is a
   * function that changes them before that, as values from 0 to 255. Feed each run of a plan with
   * what {@link DeviceDataset.feeds} gives, too.
   *
   * @throws {ArgumentError} if an argument or option is of another kind, or an index too large.
   * @throws {ShapeError} if `indices` are not a list of u32.
   */
  batch(
    indices: Tensor,
    options: Preprocessing & { readonly augment?: (pixels: Tensor) => Tensor } = {},
  ): { x: Tensor; labels: Tensor } {
    checkTensor("batch", "indices", indices, "u32");
    if (indices.rank !== 1) throw new ShapeError(`batch: indices must be [N], got ${indices}`);
    checkOptions("batch", options, [...PREPROCESSING, "augment"]);
    checkPreprocessing("batch", options, this.channels);
    checkIndices("batch", "indices", indices, this.count);
    const { augment } = options;
    if (augment !== undefined) checkFunction("batch", "augment", augment);
    const [size] = indices.shape as [number];
    const x = this.#images ? batchImages(this.#images, indices, options, augment) : batchImages(
      inScope(DATA, () => input("images", [size, this.channels, this.height, this.width], "u8")),
      constant(Uint32Array.from({ length: size }, (_, i) => i), [size]),
      options,
      augment,
    );
    const labels = inScope(DATA, () => gather(this.#labels, indices, "u32"));
    return { x, labels };
  }

  /**
   * What to feed a plan with a {@link DeviceDataset.batch}, beside the indices: nothing if the set
   * is resident, or else the batch's images, as a promise.
   *
   * @throws {ArgumentError} if an index is too large.
   * @throws {DataError} if the function that reads the images gives something else.
   */
  feeds(indices: Uint32Array<ArrayBuffer>):
    | { images?: Uint8Array<ArrayBuffer> }
    | Promise<
      { images: Uint8Array<ArrayBuffer> }
    > {
    checkNumbers("feeds", "indices", indices, { integer: true, min: 0, max: this.count - 1 });
    if (this.resident) return {};
    return readImages(this.name, this.#data, indices).then((images) => ({ images }));
  }
}

/** What the micro-batches of a batch of these images are fed by, whose `sizes` make up the batch. */
export function feedsOf(
  data: DeviceDataset,
  indices: Uint32Array<ArrayBuffer>,
  sizes: readonly number[],
): BatchFeeds[] | Promise<BatchFeeds[]> {
  const cut = ({ images }: { images?: Uint8Array<ArrayBuffer> }) => {
    const each = (images?.length ?? 0) / indices.length;
    let end = 0;
    return sizes.map((size) => {
      const first = end;
      end += size;
      return {
        indices: indices.subarray(first, end),
        ...images && { images: images.subarray(first * each, end * each) },
      };
    });
  };
  const fed = data.feeds(indices);
  return fed instanceof Promise ? fed.then(cut) : cut(fed);
}

/** A data set that stays on a device if it may: as a tensor, it has to fit into one binding. */
export function deviceDataset(data: ImageDataset, name: string, { target }: Device): DeviceDataset {
  const resident = !(data?.images?.length > target.maxBindingBytes);
  return new DeviceDataset(data, name, resident ? {} : { resident });
}
