/**
 * What a trained network makes of images: probabilities, and the likeliest classes.
 *
 * @module
 */

import { defaultDevice, type Device } from "./device.ts";
import { DeviceDataset } from "./evaluate.ts";
import type { Module } from "./nn/module.ts";
import { softmax } from "./ops/loss.ts";
import { evaluate } from "./plan.ts";
import { tensor } from "./tensor.ts";

/** Images of one pass. */
const BATCH = 64;

/** Grey images, 0 black to 255 white. */
export interface GreyImages {
  /** `[count, height, width]`. */
  readonly images: Uint8Array<ArrayBuffer>;
  /** How many. */
  readonly count: number;
  /** Rows. */
  readonly height: number;
  /** Columns. */
  readonly width: number;
}

/** A class and how likely it is. */
export interface Likely {
  /** Its name. */
  readonly class: string;
  /** Its label. */
  readonly label: number;
  /** Its probability by softmax; networks are surer of themselves than they should be. */
  readonly probability: number;
}

/**
 * The probabilities of the classes, `[count, classes]`, in evaluation mode, of images that are resized
 * as in training.
 *
 * @example
 * ```ts
 * import { Flatten, Linear, predict, Sequential } from "@resnette/resnette";
 * import { assertAlmostEquals, assertEquals } from "@std/assert";
 *
 * const net = new Sequential(new Flatten(), new Linear(4, 3));
 * const images = new Uint8Array([0, 100, 200, 255]);
 * const [row] = await predict(net, { images, count: 1, height: 2, width: 2 }, { resize: 2 });
 * assertEquals(row!.length, 3);
 * assertAlmostEquals(row!.reduce((a, b) => a + b), 1, 1e-6);
 * ```
 */
export async function predict(
  net: Module,
  { images, count, height, width }: GreyImages,
  { resize, device }: { resize: number; device?: Device },
): Promise<Float32Array<ArrayBuffer>[]> {
  const on = device ?? await defaultDevice();
  const set = new DeviceDataset({
    images,
    labels: new Uint8Array(count),
    count,
    height,
    width,
    classes: [],
  });
  const { training } = net;
  net.eval();
  try {
    const rows: Float32Array<ArrayBuffer>[] = [];
    for (let first = 0; first < count; first += BATCH) {
      const size = Math.min(BATCH, count - first);
      const indices = tensor(Uint32Array.from({ length: size }, (_, i) => first + i));
      const { x } = set.batch(indices, resize);
      const y = softmax(net.call(x));
      const values = await evaluate(y, {}, on) as Float32Array<ArrayBuffer>;
      const classes = values.length / size;
      for (let i = 0; i < size; i++) rows.push(values.slice(i * classes, (i + 1) * classes));
    }
    return rows;
  } finally {
    net.train(training);
  }
}

/**
 * The likeliest classes, the first first; where two are equally likely, the smaller label.
 *
 * @example
 * ```ts
 * import { likeliest } from "@resnette/resnette";
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
  return [...probabilities]
    .map((probability, label) => ({ class: classes[label] ?? `${label}`, label, probability }))
    .sort((a, b) => b.probability - a.probability || a.label - b.label)
    .slice(0, count);
}
