/**
 * The files that all peers read: weights, a batch, and the network as ONNX.
 *
 * @module
 */

import {
  encodeOnnx,
  encodeStateDict,
  manualSeed,
  Random,
  resnet18,
  serializeSafetensors,
} from "@resnette/resnette";
import { DataError, loadFashionMnist } from "@resnette/resnette/data";
import { resizeBytes } from "../../../lib/ops/resize.ts";
import { FILES } from "./job.ts";

const DATA = "data/fashion-mnist";
const SEED = 0;

/** Writes the files into `folder`; says what the images are. */
export async function prepare(folder: string, count: number, size: number): Promise<string> {
  manualSeed(SEED);
  const net = resnet18();
  const state = await net.stateDict();
  // Statistics as if trained, so that eval mode tells a mean from a variance.
  let stream = 1;
  for (const [key, { data }] of state) {
    if (key.endsWith(".running_mean")) new Random(SEED, stream++).uniform(data, -0.2, 0.2);
    if (key.endsWith(".running_var")) new Random(SEED, stream++).uniform(data, 0.5, 1.5);
  }
  const { pixels, labels, what } = await images(count, size);
  const batch = serializeSafetensors([
    ["images", { dtype: "F32", shape: [count, 1, size, size], data: pixels }],
    ["labels", { dtype: "I64", shape: [count], data: BigInt64Array.from(labels, BigInt) }],
  ]);
  const write = (name: string, bytes: Uint8Array) => Deno.writeFile(`${folder}/${name}`, bytes);
  await write(FILES.weights, encodeStateDict(state));
  await write(FILES.batch, batch);
  net.loadStateDict(state);
  await write(FILES.onnx, await encodeOnnx(net, { shape: [1, size, size] }));
  return what;
}

/** The first training images of Fashion-MNIST, resized, or noise if it is absent. */
async function images(count: number, size: number) {
  try {
    const { images, labels, height, width } = await loadFashionMnist(DATA, "train", {
      limit: count,
    });
    const resized = resizeBytes(images, count, height, width, size, size);
    const pixels = Float32Array.from(resized, (value) => value / 255);
    return { pixels, labels, what: `the first ${count} training images of Fashion-MNIST` };
  } catch (error) {
    if (!(error instanceof DataError && error.code === "missing-file")) throw error;
    const random = new Random(SEED, 1000);
    const pixels = random.uniform(new Float32Array(count * size * size));
    const labels = Uint8Array.from({ length: count }, () => random.nextUint32() % 10);
    return { pixels, labels, what: "noise (`deno task data` gets Fashion-MNIST)" };
  }
}
