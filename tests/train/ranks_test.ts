/** Training on several ranks, played in one process. */

import { assert, assertEquals } from "@std/assert";
import { manualSeed, type Module } from "@resnette/resnette";
import { type Collective, type TrainConfig, trainConfig, Trainer } from "@resnette/resnette/train";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import { together } from "../ranks.ts";
import { tinyNet } from "../tiny_train.ts";

const DATA = "data/fashion-mnist";
const train = await loadFashionMnist(DATA, "train", { limit: 64 });
const test = await loadFashionMnist(DATA, "test", { limit: 32 });
const settings = { batchSize: 25, resize: 28, epochs: 2, seed: 3 };

async function trained(
  more: Partial<TrainConfig>,
  collective?: Collective,
  make: () => Module = tinyNet,
) {
  manualSeed(7);
  const config = trainConfig({ ...settings, ...more }), net = make();
  using trainer = await Trainer.create({
    config,
    net,
    train,
    test,
    ...collective && { collective },
  });
  while (!trainer.done) await trainer.epoch();
  const { model, optimizer, run } = await trainer.checkpoint();
  return { model, optimizer, run, traffic: trainer.traffic };
}

Deno.test("smoke", async () => {
  const one = await trained({});
  const all = await together(2, (collective) => trained({}, collective));
  console.log(one.run.history, all[0]!.run.history, all[0]!.traffic);
  assertEquals(all[0]!.model, all[1]!.model);
  assertEquals(all[0]!.optimizer, all[1]!.optimizer);
  assert(true);
});
