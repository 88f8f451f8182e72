/**
 * A network that learns Fashion-MNIST in seconds, for tests of what is done with a trained one; and the
 * commands for them, with that network among the models. Not a test.
 */

import {
  BatchNorm2d,
  Conv2d,
  Flatten,
  GlobalAvgPool2d,
  Linear,
  MaxPool2d,
  ReLU,
  Residual,
  Sequential,
} from "@resnette/resnette";
import { loadFashionMnist } from "@resnette/resnette/data";
import { MODELS, trainConfig, Trainer } from "@resnette/resnette/train";
import { RunDirectory } from "../lib/files/run.ts";
import { main as evaluate } from "../scripts/eval.ts";
import { main as exportNet } from "../scripts/export.ts";
import { main as predict } from "../scripts/predict.ts";

/** Logits `[N, 10]` of `[N, 1, H, W]`: a ResNet of two blocks, with every kind of layer. */
export function smallNet(): Sequential {
  return new Sequential(
    new Conv2d(1, 16, { kernelSize: 3, stride: 2, padding: 1 }),
    new BatchNorm2d(16),
    new ReLU(),
    new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1 }),
    new Residual(16, 16),
    new Residual(16, 32, { use1x1conv: true, stride: 2 }),
  ).add(new GlobalAvgPool2d(), "pool").add(new Sequential(new Flatten(), new Linear(32, 10)), "fc");
}

/** Test images of a run of {@linkcode trainSmall}. */
export const TESTED = 300;

/** Trains it at 28×28 as a run in `folder`, with a checkpoint after each epoch; its test accuracies. */
export async function trainSmall(
  folder: string,
  { limit, epochs }: { limit: number; epochs: number },
): Promise<number[]> {
  using run = await RunDirectory.open(folder, { fresh: true });
  const load = (split: "train" | "test", limit: number) =>
    loadFashionMnist("data/fashion-mnist", split, { limit });
  const settings = { resize: 28, batchSize: 50, lr: 0.01, schedule: "cosine" } as const;
  using trainer = await Trainer.create({
    config: trainConfig({ model: "small", limit, testLimit: TESTED, epochs, ...settings }),
    train: await load("train", limit),
    test: await load("test", TESTED),
  });
  while (!trainer.done) {
    await trainer.epoch({});
    await run.save(await trainer.checkpoint());
  }
  return trainer.history.map(({ testAccuracy }) => testAccuracy);
}

MODELS.set("small", smallNet);
if (import.meta.main) {
  const [name, ...args] = Deno.args;
  const commands: Record<string, typeof evaluate> = { eval: evaluate, export: exportNet, predict };
  Deno.exit(await commands[name!]!(args));
}
