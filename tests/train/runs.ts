/**
 * Short runs on a few real images, for tests of training. Not a test.
 */

import { type Device, manualSeed, type Module } from "@resnette/resnette";
import { type Collective, type TrainConfig, trainConfig, Trainer } from "@resnette/resnette/train";
import type { ImageDataset } from "../../lib/data/dataset.ts";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import { plainNet } from "../tiny_train.ts";

/** Where they are from. */
export const DATA = "data/fashion-mnist";
/** Images to train on. */
export const train = await loadFashionMnist(DATA, "train", { limit: 64 });
/** Images to test with. */
export const test = await loadFashionMnist(DATA, "test", { limit: 32 });
/** Batches of 25, 25 and 14. */
export const settings = { batchSize: 25, resize: 28, epochs: 2, seed: 3 };

/** What a run is made of, if not of the above. */
export interface Options {
  readonly make?: () => Module;
  readonly data?: ImageDataset;
  readonly tested?: ImageDataset;
  readonly device?: Device;
  readonly collective?: Collective;
}

/** A trainer of a net of the same weights. */
export function trainerOf(more: Partial<TrainConfig>, options: Options = {}): Promise<Trainer> {
  const { make = plainNet, data = train, tested = test, device, collective } = options;
  manualSeed(7);
  const config = trainConfig({ ...settings, ...more }), net = make();
  return Trainer.create({
    ...{ config, net, train: data, test: tested },
    ...device && { device },
    ...collective && { collective },
  });
}

/** What a run comes to, but for the time it took. */
export async function outcome(trainer: Trainer) {
  while (!trainer.done) await trainer.epoch();
  const { model, optimizer, run } = await trainer.checkpoint();
  const history = run.history.map((result) => ({ ...result, seconds: 0 }));
  return { model, optimizer, history, config: run.config };
}

/** A run to its end, and how far its values have moved. */
export async function trained(more: Partial<TrainConfig>, options: Options = {}) {
  using trainer = await trainerOf(more, options);
  const before = await trainer.net.stateDict(), end = await outcome(trainer);
  const moved = [...end.model].map(([key, { data }]) =>
    data.map((x, i) => x - before.get(key)!.data[i]!)
  );
  return { ...end, moved, traffic: trainer.traffic };
}

/** How far numbers are from others, relative to the largest of these. */
export function off(values: ArrayLike<number>, expected: ArrayLike<number>): number {
  const largest = Math.max(...Array.from(expected, Math.abs));
  return Math.max(...Array.from(values, (x, i) => Math.abs(x - expected[i]!))) / largest;
}
