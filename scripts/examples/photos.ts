/**
 * Your own images: trains a ResNet-18 on photographs, and prints what it takes the first test image
 * for. DIR has a folder of images for each class; a size and a number of epochs may follow.
 *
 *     deno run --allow-read=DIR,lib scripts/examples/photos.ts DIR
 */

import { loadDataset } from "@resnette/resnette/data";
import { formatEpoch, likeliest, predict, trainConfig, Trainer } from "@resnette/resnette/train";

const [path, size = 64, epochs = 10] = Deno.args;
if (!path) throw new Error("name a folder that has a folder of images for each class");

const resize = Number(size);
using data = await loadDataset(path, { resize });
const { train, test } = data;
const config = trainConfig({ resize, epochs: Number(epochs), batchSize: 32, augment: "flip,crop" });
using trainer = await Trainer.create({ config, train, test });
while (!trainer.done) console.log(formatEpoch((await trainer.epoch())!));

const [row] = await predict(trainer.net, test);
const [first] = likeliest(row!, test.classes, 1);
console.log(`${test.classes[test.labels[0]!]}: ${first!.class} ${first!.probability.toFixed(3)}`);
