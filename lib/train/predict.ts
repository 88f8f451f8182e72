/**
 * What a trained network predicts for images: probabilities, and the likeliest classes.
 *
 * @module
 */

import { batches, BatchPlans, fetchAhead } from "./batches.ts";
import { checkImages, type ImageDataset } from "../data/dataset.ts";
import {
  checkInstance,
  checkNumber,
  checkNumbers,
  checkOptions,
  checkString,
} from "../check/arguments.ts";
import { defaultDevice, Device } from "../device/device.ts";
import {
  checkPreprocessing,
  deviceDataset,
  feedsOf,
  PREPROCESSING,
  type Preprocessing,
} from "./device_dataset.ts";
import { checkOutputs } from "./evaluator.ts";
import { evaluating, Module } from "../nn/module.ts";
import { softmax } from "../ops/classification.ts";
import { checkList } from "../graph/shape.ts";
import { input } from "../graph/tensor.ts";

/** Images of one pass. */
const BATCH = 64;

/** Images without labels. */
export type Images = Omit<ImageDataset, "labels" | "classes">;

/** A class and how likely it is. */
export interface Likely {
  /** Its name. */
  readonly class: string;
  /** Its label. */
  readonly label: number;
  /** Its softmax probability; networks tend to be too sure of themselves. */
  readonly probability: number;
}

/**
 * The softmax probabilities of the classes for each image, in evaluation mode: a list of `count`
 * arrays. `options` say how images are prepared, which should be as in training, and the `device`.
 *
 * @throws {ArgumentError} if an argument or option is of another kind.
 * @throws {DataError} if the images are not what their sizes say.
 * @throws {ShapeError} if the net does not fit the images, or gives no logits `[N, classes]`.
 *
 * @example
 * ```ts
 * import { Flatten, Linear, Sequential } from "@resnette/resnette";
 * import { predict } from "@resnette/resnette/train";
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 *
 * const net = new Sequential(new Flatten(), new Linear(4, 3));
 * const images = new Uint8Array([0, 100, 200, 255]);
 * const [row] = await predict(net, { images, count: 1, height: 2, width: 2 });
 * assertEquals(row!.length, 3);
 * assertAlmostEquals(row!.reduce((a, b) => a + b), 1, 1e-6);
 * ```
 */
export async function predict(
  net: Module,
  data: Images,
  options: Preprocessing & { readonly device?: Device } = {},
): Promise<Float32Array<ArrayBuffer>[]> {
  checkInstance("predict", "net", net, Module);
  checkOptions("predict", options, [...PREPROCESSING, "device"]);
  const { device = await defaultDevice(), ...preprocessing } = options;
  checkInstance("predict", "device", device, Device);
  checkImages("predict: images", data);
  const set = deviceDataset(
    { ...data, labels: new Uint8Array(data.count), classes: [""] },
    "predict: images",
    device,
  );
  checkPreprocessing("predict", preprocessing, set.channels);
  const plans = new BatchPlans(set.count, BATCH);
  try {
    await plans.prepare((size) => {
      const { x } = set.batch(input("indices", [size], "u32"), preprocessing);
      const logits = evaluating(net, () => net.call(x));
      checkOutputs("predict", logits, size);
      return { outputs: [softmax(logits)], device };
    });
    const rows: Float32Array<ArrayBuffer>[] = [];
    const ahead = fetchAhead(
      batches(set.count, BATCH),
      (indices) => feedsOf(set, indices, plans.sizes(indices.length)),
    );
    for await (const [, parts] of ahead) {
      for (const feeds of parts) {
        // Images that come with a batch are taken in order, and their labels are of no use.
        const { indices: _, ...images } = feeds, fed = set.resident ? feeds : images;
        const [values] = await plans.run(feeds, fed).read() as [Float32Array<ArrayBuffer>];
        const classes = values.length / feeds.indices.length;
        feeds.indices.forEach((_, i) => rows.push(values.slice(i * classes, (i + 1) * classes)));
      }
    }
    return rows;
  } finally {
    plans[Symbol.dispose]();
  }
}

/**
 * The `count` likeliest classes, the most likely first; of two that are equally likely, the smaller
 * label first. `probabilities` are one row of {@link predict}.
 *
 * @throws {ArgumentError} if probabilities are negative or not finite, or classes are no names.
 *
 * @example
 * ```ts
 * import { likeliest } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const [first] = likeliest(new Float32Array([0.25, 0.75]), ["bag", "shirt"], 1);
 * assertEquals(first, { class: "shirt", label: 1, probability: 0.75 });
 * ```
 */
export function likeliest(
  probabilities: Float32Array,
  classes: readonly string[],
  count: number,
): Likely[] {
  checkNumbers("likeliest", "probabilities", probabilities, { min: 0 });
  checkList("likeliest", "classes", classes);
  classes.forEach((name, i) => checkString("likeliest", `classes[${i}]`, name));
  checkNumber("likeliest", "count", count, { integer: true, min: 0 });
  return [...probabilities]
    .map((probability, label) => ({ class: classes[label] ?? `${label}`, label, probability }))
    .sort((a, b) => b.probability - a.probability || a.label - b.label)
    .slice(0, count);
}
