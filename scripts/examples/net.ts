/**
 * A net of your own: define it, train it on Fashion-MNIST, test it. A number at the end says how many
 * images of each set to use; with 2048 it takes seconds without a GPU.
 *
 *     deno run --allow-read=data/fashion-mnist scripts/examples/net.ts
 */

import * as r from "@resnette/resnette";
import { loadFashionMnist } from "@resnette/resnette/data";
import { DeviceDataset, evaluateAccuracy } from "@resnette/resnette/train";

const BATCH = 64, limit = Number(Deno.args[0] ?? 60_000);
const train = await loadFashionMnist("data/fashion-mnist", "train", { limit });
const test = await loadFashionMnist("data/fashion-mnist", "test", { limit });

const net = new r.Sequential(
  new r.Conv2d(1, 16, { kernelSize: 3, padding: 1 }),
  new r.BatchNorm2d(16),
  new r.ReLU(),
  new r.MaxPool2d({ kernelSize: 2 }),
  new r.Conv2d(16, 32, { kernelSize: 3, padding: 1 }),
  new r.BatchNorm2d(32),
  new r.ReLU(),
  new r.MaxPool2d({ kernelSize: 2 }),
  new r.Flatten(),
  new r.Linear(32 * 7 * 7, 10),
);
const adam = new r.Adam(net.parameters(), { lr: 0.001 });

// A training step is a graph of tensors. It is compiled once, then run for each batch.
const { x, labels } = new DeviceDataset(train).batch(r.input("indices", [BATCH], "u32"));
const { result: loss, updates } = r.collectUpdates(() => r.crossEntropy(net.call(x), labels));
updates.push(...adam.minimize(loss));
const step = await r.Plan.compile({ outputs: [loss], updates });

for (let epoch = 1; epoch <= 3; epoch++) {
  const order = new r.Random(epoch).permutation(train.count), losses: number[] = [];
  for (let end = BATCH; end <= train.count; end += BATCH) {
    step.run({ indices: order.slice(end - BATCH, end), ...adam.nextStep() });
    losses.push(await step.item());
  }
  const mean = losses.reduce((a, b) => a + b) / losses.length;
  const accuracy = await evaluateAccuracy(net, test);
  console.log(`epoch ${epoch}, loss ${mean.toFixed(4)}, test acc ${accuracy.toFixed(3)}`);
}
