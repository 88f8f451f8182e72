/**
 * Predictions from a checkpoint: loads the weights of a training run into a ResNet-18, and prints
 * the class of each test image and what the net takes it for. FILE is
 * `runs/NAME/checkpoints/epoch-5/model.safetensors` or the like. A number of images may follow, and
 * the size that they are resized to.
 *
 *     deno run --allow-read=data/fashion-mnist,runs scripts/examples/predict.ts FILE
 */

import { decodeStateDict, resnet18 } from "@resnette/resnette";
import { loadFashionMnist } from "@resnette/resnette/data";
import { likeliest, predict } from "@resnette/resnette/train";

const [path, limit = 10, resize = 96] = Deno.args;
if (!path) throw new Error("name a checkpoint's model.safetensors");

const net = resnet18();
net.loadStateDict(decodeStateDict(await Deno.readFile(path), path));

const test = await loadFashionMnist("data/fashion-mnist", "test", { limit: Number(limit) });
const rows = await predict(net, test, { resize: Number(resize) });
rows.forEach((row, i) => {
  const [first] = likeliest(row, test.classes, 1);
  const { class: guess, probability } = first!;
  console.log(`${test.classes[test.labels[i]!]}: ${guess} ${probability.toFixed(3)}`);
});
