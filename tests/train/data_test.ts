/**
 * What training, testing and predicting make of images: of any channels, sizes and numbers of classes,
 * made ready and changed at random, on the device or fed batch by batch.
 */

import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  ArgumentError,
  BatchNorm2d,
  Conv2d,
  Device,
  evaluate,
  Flatten,
  GlobalAvgPool2d,
  input,
  Linear,
  manualSeed,
  Random,
  ReLU,
  Sequential,
  tensor,
} from "@resnette/resnette";
import { DataError, type ImageDataset, type ImagesInMemory } from "@resnette/resnette/data";
import {
  DeviceDataset,
  evaluateAccuracy,
  predict,
  type TrainConfig,
  trainConfig,
  Trainer,
} from "@resnette/resnette/train";
import { drawAugmentation, jittered } from "../../lib/train/recipe.ts";

/** Images of random pixels, brighter in a channel for each class. */
function madeUp(
  count: number,
  { channels = 3, height = 9, width = 12, classes = ["a", "b", "c"] } = {},
): ImagesInMemory & { channels: number } {
  const random = new Random(3), each = height * width;
  const labels = Uint8Array.from({ length: count }, (_, i) => i % classes.length);
  const images = Uint8Array.from({ length: count * channels * each }, (_, at) => {
    const image = Math.floor(at / each / channels), channel = Math.floor(at / each) % channels;
    return random.below(128) + (channel === labels[image]! % channels ? 100 : 0);
  });
  return { images, labels, count, channels, height, width, classes };
}

const reading = ({ images, channels = 1, height, width }: ImagesInMemory) => {
  const each = channels * height * width;
  return (indices: Uint32Array) => {
    const bytes = new Uint8Array(indices.length * each);
    indices.forEach((i, k) => bytes.set(images.subarray(i * each, (i + 1) * each), k * each));
    return Promise.resolve(bytes);
  };
};

/** A small net, always with the same weights. */
function small(inChannels: number, numClasses: number): Sequential {
  manualSeed(5);
  return new Sequential(
    new Conv2d(inChannels, 8, { kernelSize: 3, padding: 1 }),
    new BatchNorm2d(8),
    new ReLU(),
  ).add(new Sequential(new GlobalAvgPool2d(), new Flatten(), new Linear(8, numClasses)), "head");
}

const settings = { batchSize: 10, epochs: 2, lr: 0.02, resize: [6, 8] } as const;

async function outcome(
  train: ImageDataset,
  more: Partial<TrainConfig> = {},
  net = small(more.channels ?? train.channels ?? 1, train.classes.length),
) {
  const test = { ...train };
  const config = trainConfig({ ...settings, ...more });
  using trainer = await Trainer.create({ config, train, test, net });
  while (!trainer.done) await trainer.epoch();
  const { model, run: { history } } = await trainer.checkpoint();
  const results = history.map(({ seconds: _, ...result }) => result);
  return { results, model: [...model].map(([key, { data }]) => [key, data] as const), trainer };
}

Deno.test("images that are read batch by batch are trained on to the same bits as those on the device", async () => {
  const data = madeUp(47), more = { augment: "flip,crop,rotate,jitter" };
  const resident = await outcome(data, more);
  assert(resident.trainer.train.resident);
  const fed = await outcome({ ...data, images: reading(data) }, more);
  assert(!fed.trainer.train.resident);
  assertEquals(fed.results, resident.results);
  assertEquals(fed.model, resident.model);
  assert(resident.results[1]!.trainAccuracy > 0.6, JSON.stringify(resident.results));
  const set = new DeviceDataset(data, "data", { resident: false });
  const net = small(3, 3);
  assertEquals(await evaluateAccuracy(net, set), await evaluateAccuracy(net, data));
});

Deno.test("images that are larger than a binding stay in memory, and are fed", async () => {
  using device = await Device.request();
  Object.defineProperty(device, "target", {
    value: { ...device.target, maxBindingBytes: 2 ** 20 },
  });
  const data = madeUp(1100, { height: 20, width: 20 });
  const config = trainConfig({ ...settings, epochs: 1, batchSize: 100 });
  const net = small(3, 3);
  using trainer = await Trainer.create({ config, train: data, test: madeUp(9), device, net });
  assertEquals([trainer.train.resident, trainer.test.resident], [false, true]);
  assert((await trainer.epoch())!.trainAccuracy > 0.3);
});

Deno.test("images that a function reads are predicted as those in memory", async () => {
  const data = madeUp(70), net = small(3, 3);
  assertEquals(await predict(net, { ...data, images: reading(data) }), await predict(net, data));
});

Deno.test("images and labels may be parts of larger arrays, of any length", async () => {
  const { images, labels, ...sizes } = madeUp(5, { channels: 1, height: 3, width: 3 });
  const whole = {
    images: images.subarray(9, 36),
    labels: labels.subarray(1, 4),
    ...sizes,
    count: 3,
  };
  const net = small(1, 3);
  const copy = { ...whole, images: whole.images.slice(), labels: whole.labels.slice() };
  assertEquals(await predict(net, whole), await predict(net, copy));
  const set = new DeviceDataset(whole);
  const { labels: found } = set.batch(tensor(new Uint32Array([2, 0])));
  assertEquals(await evaluate(found), Uint32Array.of(labels[3]!, labels[1]!));
});

Deno.test("what a function reads is checked, and its failure ends the work with its own error", async () => {
  const data = madeUp(25), config = trainConfig({ ...settings, epochs: 1 });
  const trainerOf = (images: ImageDataset["images"]) =>
    Trainer.create({ config, train: { ...data, images }, test: data, net: small(3, 3) });
  using short = await trainerOf(() => Promise.resolve(new Uint8Array(7)));
  await assertRejects(() => short.epoch(), DataError, "Trainer.create: train.images: gave");
  let reads = 0;
  const failing = () =>
    ++reads > 1 ? Promise.reject(new Error("the disk is gone")) : reading(data)(
      new Uint32Array(10),
    );
  using broken = await trainerOf(failing);
  await assertRejects(() => broken.epoch(), Error, "the disk is gone");
});

Deno.test("labels of more than 256 classes are trained, tested and predicted", async () => {
  const classes = Array.from({ length: 700 }, (_, k) => `class ${k}`);
  const data = madeUp(8, { classes });
  const labels = Uint16Array.of(699, 5, 300, 256, 255, 1, 699, 0);
  const net = small(3, 700);
  const accuracy = await evaluateAccuracy(net, { ...data, labels });
  const rows = await predict(net, data);
  const right = rows.filter((row, i) => row.indexOf(Math.max(...row)) === labels[i]).length;
  assertEquals([rows[0]!.length, accuracy], [700, right / 8]);
  for (const kind of [labels, Uint32Array.from(labels)]) {
    const set = new DeviceDataset({ ...data, labels: kind });
    const chosen = set.batch(tensor(new Uint32Array([2, 0, 3]))).labels;
    assertEquals(await evaluate(chosen), Uint32Array.of(300, 699, 256));
  }
  assertThrows(
    () => new DeviceDataset({ ...data, labels: Uint16Array.from(labels, (x) => x + 1) }),
    DataError,
    "label 0 is 700, but there are 700 classes",
  );
});

Deno.test("images are resized, made RGB and normalized as torchvision's transforms do it", async () => {
  const data = madeUp(3, { channels: 1, height: 2, width: 3 });
  const set = new DeviceDataset(data);
  const mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225];
  const { x } = set.batch(input("indices", [2], "u32"), { channels: 3, mean, std });
  const found = await evaluate(x, { indices: Uint32Array.of(2, 0) }) as Float32Array;
  assertEquals(x.shape, [2, 3, 2, 3]);
  found.forEach((value, at) => {
    const image = [2, 0][Math.floor(at / 18)]!, channel = Math.floor(at / 6) % 3;
    const pixel = data.images[6 * image + at % 6]! / 255;
    assertAlmostEquals(value, (pixel - mean[channel]!) / std[channel]!, 1e-6);
  });
  const { x: wide } = set.batch(input("indices", [1], "u32"), { resize: [4, 7], mean: [0.5] });
  assertEquals(wide.shape, [1, 1, 4, 7]);
  const rgb = new DeviceDataset(madeUp(3));
  const batch = (set: DeviceDataset, options: object) => () =>
    set.batch(tensor(new Uint32Array([0])), options);
  assertThrows(batch(rgb, { mean: [1, 2] }), ArgumentError, "mean must be one number, or 3");
  assertThrows(batch(rgb, { std: [0] }), ArgumentError, "std must be numbers above 0");
  assertThrows(
    batch(rgb, { channels: 1 }),
    ArgumentError,
    "channels must be 3, those of the images",
  );
  assertThrows(batch(set, { mean }), ArgumentError, "mean must be one number");
  await assertRejects(
    () => outcome(madeUp(20), { mean: [0.1, 0.2] }),
    ArgumentError,
    "Trainer.create: config: mean must be",
  );
  await assertRejects(
    async () => {
      const config = trainConfig(settings), train = madeUp(20);
      await Trainer.create({ config, train, test: madeUp(20, { channels: 1 }), net: small(3, 3) });
    },
    DataError,
    "Trainer.create: test.channels: is 1, but the images to train on have 3",
  );
});

Deno.test("brightness, contrast and saturation are changed as torchvision's ColorJitter does it", async () => {
  const data = madeUp(2, { height: 4, width: 5 }), size = 20;
  const x = tensor(Float32Array.from(data.images), [2, 3, 4, 5]);
  const factors = [[0.8, 1.2], [1.2, 0.85], [0.8, 1.15]];
  const flat = tensor(factors.flat(), [3, 2, 1, 1, 1]);
  const found = await evaluate(jittered(x, flat)) as Float32Array;
  const within = (x: number) => Math.min(255, Math.max(0, x));
  for (const image of [0, 1]) {
    let rgb = [0, 1, 2].map((
      k,
    ) => [...data.images.subarray((3 * image + k) * size, (3 * image + k + 1) * size)]);
    const [brightness, contrast, saturation] = factors.map((pair) => pair[image]!);
    const grey = (rgb: number[][]) =>
      rgb[0]!.map((_, i) => 0.299 * rgb[0]![i]! + 0.587 * rgb[1]![i]! + 0.114 * rgb[2]![i]!);
    rgb = rgb.map((values) => values.map((x) => within(x * brightness!)));
    const mean = grey(rgb).reduce((a, b) => a + b) / size;
    rgb = rgb.map((values) => values.map((x) => within(mean + (x - mean) * contrast!)));
    const greys = grey(rgb);
    rgb = rgb.map((values) =>
      values.map((x, i) => within(greys[i]! + (x - greys[i]!) * saturation!))
    );
    rgb.flat().forEach((value, i) => {
      const got = found[60 * image + i]!;
      assert(Number.isInteger(got) && Math.abs(got - value) < 0.501, `${got} for ${value}`);
    });
  }
  // Grey images have no saturation.
  const greyImages = tensor(Float32Array.from(data.images.subarray(0, 40)), [2, 1, 4, 5]);
  const [a, b] = await Promise.all(
    [1, 0.5].map((s) =>
      evaluate(jittered(greyImages, tensor([1, 1, 1.1, 1.1, s, s], [3, 2, 1, 1, 1])))
    ),
  );
  assertEquals(a, b);
});

Deno.test("turns and colours are drawn as documented, in whatever parts, and crops by the images' size", () => {
  const config = trainConfig({ seed: 9, augment: "jitter,crop,rotate" });
  assertEquals(config.augment, "crop,rotate,jitter");
  const sides = { height: 96, width: 130 };
  const draws = drawAugmentation(config, 4, 0, 200, sides);
  const random = new Random(9, 3 * 2 ** 30 + 4);
  const words = Array.from({ length: 800 }, () => random.nextUint32() / 2 ** 31 - 1);
  const { turns, jitter, augment } = draws as Record<string, Float32Array>;
  for (let i = 0; i < 200; i++) {
    const angle = Math.atan2(turns![2 * i + 1]!, turns![2 * i]!) * 180 / Math.PI;
    assertAlmostEquals(angle, 15 * words[4 * i]!, 1e-4);
    for (let k = 0; k < 3; k++) {
      assertAlmostEquals(jitter![200 * k + i]!, 1 + words[4 * i + 1 + k]! / 5, 1e-6);
    }
  }
  const part = drawAugmentation(config, 4, 60, 2, sides) as Record<string, Float32Array>;
  assertEquals(part["turns"], turns!.slice(120, 124));
  assertEquals([...part["jitter"]!], [60, 61, 260, 261, 460, 461].map((i) => jitter![i]!));
  const tops = [...augment!].filter((_, i) => i % 3 === 0);
  assertEquals([Math.min(...tops), Math.max(...tops)], [0, 24]);
});

Deno.test("what is frozen keeps its bits, and the rest is trained", async () => {
  const data = madeUp(30), net = small(3, 3);
  const before = new Map([...await net.stateDict()].map(([key, { data }]) => [key, data]));
  const { model } = await outcome(data, { freeze: ["0", "1"] }, net);
  for (const [key, values] of model) {
    const kept = values.every((value, i) => Object.is(value, before.get(key)![i]));
    assertEquals([key, kept], [key, !key.startsWith("head.")]);
  }
  const all = trainConfig({ ...settings, freeze: ["0", "1", "head"] });
  const create = (config: TrainConfig) =>
    Trainer.create({ config, train: data, test: data, net: small(3, 3) });
  await assertRejects(() => create(all), ArgumentError, "not all frozen");
  await assertRejects(
    () => create(trainConfig({ ...settings, freeze: ["layer1"] })),
    ArgumentError,
    "(keys begin with 0, 1, head)",
  );
});

Deno.test("a checkpoint says what it was trained on, and is refused for other images", async () => {
  const data = madeUp(20), config = trainConfig(settings);
  const create = (train: ImageDataset) =>
    Trainer.create({
      ...{ config, train, test: train, net: small(train.channels!, train.classes.length) },
      source: { kind: "folder", path: "photos" },
    });
  using trainer = await create(data);
  const checkpoint = await trainer.checkpoint();
  assertEquals(checkpoint.run.data, {
    ...{ kind: "folder", path: "photos", channels: 3, height: 9, width: 12 },
    classes: ["a", "b", "c"],
  });
  using other = await create({ ...data, classes: ["a", "c", "b"] });
  assertThrows(() => other.restore(checkpoint), Error, "the classes a, b, c, not a, c, b");
  using wide = await create(madeUp(20, { width: 14 }));
  assertThrows(() => wide.restore(checkpoint), Error, "images of 12 width, not 14");
});
