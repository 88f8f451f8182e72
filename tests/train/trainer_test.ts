/** Training: its numbers against plain arithmetic, stopping and going on, and what it refuses. */

import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  Conv2d,
  Device,
  Dropout,
  Dropout2d,
  Flatten,
  Linear,
  manualSeed,
  type Module,
  Random,
  ReLU,
  Sequential,
  setVariable,
  ShapeError,
} from "@resnette/resnette";
import { DataError } from "@resnette/resnette/data";
import {
  type Checkpoint,
  CheckpointError,
  ConfigError,
  decodeCheckpoint,
  DeviceDataset,
  encodeCheckpoint,
  evaluateAccuracy,
  formatEpoch,
  NonFiniteError,
  predict,
  type Progress,
  type TrainConfig,
  trainConfig,
  Trainer,
} from "@resnette/resnette/train";
import type { ImageDataset, ImagesInMemory } from "../../lib/data/dataset.ts";
import { LiveBuffers } from "../faults/gpu.ts";
import { displayOf } from "../display.ts";
import { tinyNet } from "../tiny_train.ts";
import { test, train } from "./runs.ts";

/** Batches of 24, 24 and 16, and of 24 and 8 in tests. */
const settings = {
  model: "tiny",
  batchSize: 24,
  resize: 32,
  epochs: 2,
  lr: 0.03,
  limit: 64,
  testLimit: 32,
};

const tinyTrainer = (epochs = 2, more: Partial<TrainConfig> = {}) =>
  Trainer.create({ config: trainConfig({ ...settings, epochs, ...more }), train, test });

/** Mean loss and right answers of a linear net on some images, in float64. */
function linear(
  { weight, bias }: { weight: Float32Array; bias: Float32Array },
  { images, labels, width, height }: ImagesInMemory,
  indices: Iterable<number>,
): { loss: number; correct: number } {
  const pixels = width * height;
  let loss = 0, correct = 0, count = 0;
  for (const index of indices) {
    const logits = Array.from(bias, (b, k) => {
      let sum = b;
      for (let i = 0; i < pixels; i++) {
        sum += weight[k * pixels + i]! * images[index * pixels + i]! / 255;
      }
      return sum;
    });
    const label = labels[index]!;
    loss += Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0)) - logits[label]!;
    correct += Number(logits.indexOf(Math.max(...logits)) === label);
    count++;
  }
  return { loss: loss / count, correct };
}

Deno.test("an epoch is told in the notebook's words", () => {
  const line = formatEpoch({
    epoch: 1,
    loss: 0.38528,
    trainAccuracy: 0.8592,
    testAccuracy: 0.8891,
    seconds: 562.2,
  });
  assertEquals(line, "epoch 1, loss 0.3853, train acc 0.859, test acc 0.889, time 562 sec");
});

Deno.test("settings are the notebook's by default, and none may be out of its range", () => {
  assertEquals(trainConfig(), {
    model: "resnet18",
    epochs: 5,
    batchSize: 128,
    accumulate: 1,
    lr: 0.001,
    resize: 96,
    seed: 0,
    limit: null,
    testLimit: null,
    optimizer: "adam",
    momentum: 0.9,
    weightDecay: 0,
    schedule: "constant",
    stepSize: 2,
    gamma: 0.1,
    warmup: 0,
    labelSmoothing: 0,
    augment: "none",
    channels: null,
    mean: null,
    std: null,
    testShare: 0.2,
    freeze: [],
    compress: "none",
  });
  for (
    const wrong of [
      { batchSize: 0 },
      { batchSize: 1.5 },
      { accumulate: 0 },
      { batchSize: 2, accumulate: 3 },
      { lr: NaN },
      { lr: 0 },
      { lr: Infinity },
      { epochs: -1 },
      { seed: 2 ** 53 },
      { limit: 0 },
      { model: "toString" },
      { optimizer: "lion" },
      { momentum: 1.5 },
      { weightDecay: -1 },
      { schedule: "" },
      { gamma: NaN },
      { warmup: -1 },
      { labelSmoothing: 2 },
      { augment: "crop,crop" },
    ]
  ) {
    assertThrows(
      () => trainConfig(wrong as Partial<TrainConfig>),
      ConfigError,
      String(Object.values(wrong)[0]),
    );
  }
});

Deno.test("an epoch's numbers are what plain arithmetic makes of the documented order", async () => {
  // So small a learning rate changes no weight, so that every batch meets the same ones.
  const config = trainConfig({ ...settings, resize: 28, lr: 1e-30, seed: 5, epochs: 2 });
  const net = new Sequential(new Flatten(), new Linear(784, 10));
  using trainer = await Trainer.create({ config, train, test, net });
  const state = await net.stateDict();
  const weights = { weight: state.get("1.weight")!.data, bias: state.get("1.bias")!.data };
  for (const epoch of [1, 2]) {
    const seen: Progress[] = [];
    const result = await trainer.epoch({ onProgress: (progress) => void seen.push(progress) });
    const order = new Random(5, epoch).permutation(64);
    const batches = [order.slice(0, 24), order.slice(24, 48), order.slice(48)]
      .map((indices) => linear(weights, train, indices));
    const tested = linear(weights, test, test.labels.keys());
    assertEquals([seen[0]!.phase, seen[0]!.step, seen[0]!.images], ["train", 1, 24]);
    assertAlmostEquals(seen[0]!.loss!, batches[0]!.loss, 1e-4);
    // The mean over batches, of which the last is smaller; not the mean over images.
    assertAlmostEquals(result!.loss, batches.reduce((sum, { loss }) => sum + loss, 0) / 3, 1e-4);
    assertEquals(result!.trainAccuracy, batches.reduce((sum, x) => sum + x.correct, 0) / 64);
    assertEquals(result!.testAccuracy, tested.correct / 32);
    assertEquals(result!.epoch, epoch);
  }
  assert(trainer.done);
});

Deno.test("a watch says how far the device gets ahead of what is read", async () => {
  const stepsRead = async (interval: number) => {
    using trainer = await tinyTrainer(1, { batchSize: 8 });
    const steps: number[] = [];
    const onProgress = ({ phase, step }: Progress) => void (phase === "train" && steps.push(step));
    await trainer.epoch({ onProgress, interval });
    return steps;
  };
  assertEquals(await stepsRead(0), [1, 2, 3, 4, 5, 6, 7, 8], "each step");
  assertEquals(await stepsRead(1e9), [1, 3, 7, 8], "twice as many at a time");
});

/** Images in the order of an epoch, moved and mirrored by the documented draws. */
function augmented({ images, labels, ...rest }: ImagesInMemory, seed: number, epoch: number) {
  const random = new Random(seed, 2 ** 31 + epoch);
  const order = new Random(seed, epoch).permutation(labels.length);
  const moved = new Uint8Array(images.length);
  order.forEach((index, k) => {
    const [top, left, flip] = [9, 9, 2].map((n) => Math.floor(n * random.nextUint32() / 2 ** 32));
    for (let i = 0; i < 784; i++) {
      const row = Math.floor(i / 28) + top! - 4;
      const column = (flip ? 27 - i % 28 : i % 28) + left! - 4;
      if (row < 0 || row > 27 || column < 0 || column > 27) continue;
      moved[784 * k + i] = images[784 * index + 28 * row + column]!;
    }
  });
  return { ...rest, images: moved, labels: Uint8Array.from(order, (index) => labels[index]!) };
}

Deno.test("training images are moved and mirrored as documented and labels smoothed; tests are as ever", async () => {
  const augment = "flip,crop", labelSmoothing = 0.25;
  const more = { resize: 28, lr: 1e-30, seed: 5, augment, labelSmoothing } as const;
  const config = trainConfig({ ...settings, ...more });
  const net = new Sequential(new Flatten(), new Linear(784, 10));
  using trainer = await Trainer.create({ config, train, test, net });
  const state = await net.stateDict();
  const weights = { weight: state.get("1.weight")!.data, bias: state.get("1.bias")!.data };
  for (const epoch of [1, 2]) {
    const result = await trainer.epoch();
    const data = augmented(train, 5, epoch);
    // A smoothed loss is a mean of the losses of all labels.
    const losses = [[0, 24], [24, 48], [48, 64]].map(([first, end]) => {
      const indices = Array.from({ length: end! - first! }, (_, i) => first! + i);
      const loss = (labels: Uint8Array<ArrayBuffer>) =>
        linear(weights, { ...data, labels }, indices).loss;
      const all = Array.from({ length: 10 }, (_, k) => loss(new Uint8Array(64).fill(k)));
      return 0.75 * loss(data.labels) + 0.25 * all.reduce((sum, x) => sum + x / 10, 0);
    });
    assertAlmostEquals(result!.loss, losses.reduce((sum, x) => sum + x / 3, 0), 1e-4);
    assertEquals(result!.trainAccuracy, linear(weights, data, data.labels.keys()).correct / 64);
    assertEquals(result!.testAccuracy, linear(weights, test, test.labels.keys()).correct / 32);
  }
});

Deno.test("a small net learns real images, and the test accuracy is the notebook's evaluate_accuracy", async () => {
  using trainer = await tinyTrainer(24);
  while (!trainer.done) await trainer.epoch();
  const losses = trainer.history.map(({ loss }) => loss);
  assert(losses.at(-1)! < 0.8 * losses[0]!, `losses ${losses}`);
  const options = { batchSize: 24, resize: 32 };
  assertEquals(
    await evaluateAccuracy(trainer.net, test, options),
    trainer.history.at(-1)!.testAccuracy,
  );
  assertEquals(trainer.net.modules().every((module) => module.training), true);
});

/** The end state of a run, without times. */
async function outcome(trainer: Trainer): Promise<unknown> {
  const { model, optimizer, run } = await trainer.checkpoint();
  return {
    model,
    optimizer,
    history: run.history.map((result) => ({ ...result, seconds: 0 })),
    steps: run.steps,
  };
}

/** Settings of runs that are stopped. */
const RUNS: Record<string, Partial<TrainConfig>> = {
  "the notebook's settings": {},
  "all others": {
    optimizer: "sgd",
    weightDecay: 1e-3,
    schedule: "cosine",
    warmup: 2,
    labelSmoothing: 0.1,
    augment: "flip,crop",
  },
  "micro-batches": { accumulate: 5, augment: "flip,crop" },
};
for (const [what, more] of Object.entries(RUNS)) {
  Deno.test(`a stopped run goes on, from wherever it was stopped, to the same bits: ${what}`, async (t) => {
    using whole = await tinyTrainer(2, more);
    while (!whole.done) await whole.epoch();
    const expected = await outcome(whole);
    // A device that is fast enough may finish a phase before it looks: then the stop is a later one.
    const stops: [string, (progress: Progress) => boolean][] = [
      ["in the first epoch", ({ epoch, phase }) => epoch === 1 && phase === "train"],
      ["in the second epoch", ({ epoch, phase }) => epoch === 2 && phase === "train"],
      ["in the test after an epoch", ({ phase }) => phase === "test"],
    ];
    for (const [where, stopsAt] of stops) {
      await t.step(where, async () => {
        const abort = new AbortController();
        const onProgress = (progress: Progress) => void (stopsAt(progress) && abort.abort());
        let checkpoint: Checkpoint;
        {
          using stopped = await tinyTrainer(2, more);
          while (!abort.signal.aborted) await stopped.epoch({ onProgress, signal: abort.signal });
          assertEquals(stopped.done, false);
          checkpoint = await stopped.checkpoint();
        }
        const files = await encodeCheckpoint(checkpoint);
        using resumed = await tinyTrainer(2, more);
        resumed.restore(await decodeCheckpoint(files, "run"));
        while (!resumed.done) await resumed.epoch();
        assertEquals(await outcome(resumed), expected);
      });
    }
  });
}

Deno.test("a checkpoint of another run is refused with what differs, and changes nothing", async () => {
  using trainer = await tinyTrainer();
  const before = await trainer.checkpoint();
  const other = trainConfig({ ...settings, batchSize: 16, seed: 3, epochs: 7 });
  const differing = { ...before, run: { ...before.run, config: other } };
  assertThrows(
    () => trainer.restore(differing),
    CheckpointError,
    "of another run: it has batch size 16, not 24; seed 3, not 0",
  );
  const images = { ...before.run, images: { train: 63, test: 32 } };
  assertThrows(() => trainer.restore({ ...before, run: images }), Error, "63 train images, not 64");
  const optimizer = new Map(before.optimizer);
  optimizer.set("exp_avg.0.bias", { shape: [3], data: new Float32Array(3) });
  assertThrows(
    () => trainer.restore({ ...before, optimizer }),
    Error,
    "exp_avg.0.bias [3], not [16]",
  );
  const model = new Map(before.model);
  model.delete("0.weight");
  assertThrows(() => trainer.restore({ ...before, model }), Error, "missing: 0.weight");
  assertEquals((await trainer.checkpoint()).model, before.model);
});

Deno.test("a loss that is not finite stops the run and names the step", async (t) => {
  const poison = (net: Module) =>
    setVariable(net.parameters().at(-1)!, new Float32Array(10).fill(NaN));
  await t.step("at its first step", async () => {
    using trainer = await tinyTrainer();
    poison(trainer.net);
    await assertRejects(
      () => trainer.epoch(),
      NonFiniteError,
      "the loss of step 1 of epoch 1 is not finite",
    );
    await assertRejects(() => trainer.checkpoint(), NonFiniteError);
  });
  await t.step("later, found though it is read later still", async () => {
    using trainer = await tinyTrainer();
    await trainer.epoch();
    const abort = new AbortController();
    await trainer.epoch({ signal: abort.signal, onProgress: () => abort.abort() });
    const { step } = trainer;
    assert(step >= 1);
    if (step < trainer.steps) {
      poison(trainer.net);
      await assertRejects(
        () => trainer.epoch(),
        NonFiniteError,
        `the loss of step ${step + 1} of epoch 2 is not finite`,
      );
    }
  });
  await t.step("weights that are not finite are never saved", async () => {
    using trainer = await tinyTrainer();
    poison(trainer.net);
    await assertRejects(() => trainer.checkpoint(), NonFiniteError, "fc.1.bias");
  });
});

/** Six images of 1×2 and three classes, with other fields as given. */
const six = (fields: object = {}): ImageDataset => ({
  images: Uint8Array.from({ length: 12 }, (_, i) => 20 * i),
  labels: new Uint8Array([0, 1, 2, 0, 1, 2]),
  count: 6,
  height: 1,
  width: 2,
  classes: ["shirt", "bag", "boot"],
  ...fields,
});
const wide = (classes: number) => new Sequential(new Flatten(), new Linear(4, classes));

Deno.test("a data set that does not fit is refused at the door, with array, index, label and classes", async () => {
  const labels = "label 2 is 3, but there are 3 classes (0 to 2: shirt, bag, boot)";
  const config = trainConfig({ batchSize: 2, resize: 2 });
  const doors: [name: string, open: (data: ImageDataset) => unknown][] = [
    ["DeviceDataset: data", (data) => new DeviceDataset(data)],
    ["Trainer.create: train", (train) => {
      return Trainer.create({ config, train, test: six(), net: wide(3) });
    }],
    ["Trainer.create: test", (test) => {
      return Trainer.create({ config, train: six(), test, net: wide(3) });
    }],
    ["evaluateAccuracy: data", (data) => evaluateAccuracy(wide(3), data, { resize: 2 })],
  ];
  const images: [field: string, code: string, data: unknown, message: string][] = [
    ["", "unsupported-type", null, ": is null; give { images, "],
    ["images", "unsupported-type", six({ images: [1, 2] }), "is an array of 2; give a Uint8Array"],
    ["images", "unsupported-type", six({ images: new Float32Array(12) }), "is a Float32Array"],
    [
      "images",
      "wrong-shape",
      six({ images: new Uint8Array(11) }),
      "has 11 values; [6, 1, 2] needs",
    ],
    ["count", "wrong-shape", six({ count: 0 }), "is 0; give a positive integer"],
    ["count", "wrong-shape", six({ count: 5.5 }), "is 5.5; give a positive integer"],
    ["height", "wrong-shape", six({ height: NaN }), "is NaN; give a positive integer"],
    ["width", "wrong-shape", six({ width: "2" }), 'is "2"; give a positive integer'],
  ];
  const marks: typeof images = [
    ["labels", "label-range", six({ labels: new Uint8Array([1, 2, 3, 1, 2, 3]) }), labels],
    ["labels", "unsupported-type", six({ labels: new Int32Array(6) }), "is an Int32Array"],
    ["labels", "count-mismatch", six({ labels: new Uint8Array(5) }), "has 5 values; [6] needs 6"],
    ["classes", "unsupported-type", six({ classes: [] }), "is empty; give the classes' names"],
    ["classes", "unsupported-type", six({ classes: 3 }), "is 3; give the classes' names"],
  ];
  for (const [name, open] of doors) {
    for (const [field, code, data, message] of [...images, ...marks]) {
      const error = await assertRejects(async () => {
        const opened = await open(data as ImageDataset);
        if (opened instanceof Trainer) await opened.epoch();
      }, DataError);
      const where = `${name}${field && `.${field}`}`;
      assertEquals([error.code, error.file], [code, where], error.message);
      assert(error.message.startsWith(where) && error.message.includes(message), error.message);
    }
  }
  for (const [field, code, data, message] of images) {
    const error = await assertRejects(
      () => predict(wide(3), data as ImageDataset, { resize: 2 }),
      DataError,
    );
    assertEquals([error.code, error.file], [code, `predict: images${field && `.${field}`}`]);
    assert(error.message.includes(message), error.message);
  }
  assertEquals((await predict(wide(3), six(), { resize: 2 })).length, 6);
});

Deno.test("a net with fewer outputs than the data set has classes is refused before the first step", async () => {
  const config = trainConfig({ batchSize: 4, resize: 2, epochs: 1 });
  const net = wide(2), before = await net.stateDict();
  using narrow = await Trainer.create({ config, net, train: six(), test: six() });
  await assertRejects(
    () => narrow.epoch(),
    ShapeError,
    "Trainer.create: train.classes: has 3 (shirt, bag, boot), but the net has 2 outputs: its " +
      "logits are [4, 2]",
  );
  assertEquals([narrow.step, await net.stateDict()], [0, before]);
  const all = six({ labels: new Uint8Array(6), classes: ["all"] });
  await assertRejects(
    () => Trainer.create({ config, net, train: six(), test: all }),
    DataError,
    "Trainer.create: test.classes: is all, but the images to train on have shirt, bag, boot",
  );
  await assertRejects(
    () => evaluateAccuracy(wide(2), six(), { resize: 2 }),
    ShapeError,
    "evaluateAccuracy: data.classes: has 3",
  );
  await assertRejects(
    () =>
      evaluateAccuracy(new Sequential(new Conv2d(1, 3, { kernelSize: 1 })), six(), { resize: 2 }),
    ShapeError,
    "the net gives [6, 3, 2, 2] for a batch of 6; it must give logits [6, classes]",
  );
  await assertRejects(
    () => predict(new Sequential(), six(), { resize: 2 }),
    ShapeError,
    "predict: the net gives [6, 1, 2, 2] for a batch of 6",
  );
  // As with PyTorch's losses, there may be more outputs than classes.
  using trainer = await Trainer.create({ config, train: six(), test: six(), net: wide(5) });
  assertEquals((await trainer.epoch())!.epoch, 1);
});

Deno.test("while an epoch runs, another one and a restore are refused, and a checkpoint is of a whole step", async (t) => {
  using whole = await tinyTrainer();
  while (!whole.done) await whole.epoch();
  const expected = await outcome(whole);

  await t.step("another epoch, a restore", async () => {
    using trainer = await tinyTrainer();
    const start = await trainer.checkpoint();
    const running = trainer.epoch({
      onProgress: () => {
        assertThrows(() => trainer.restore(start), Error, "Trainer.restore: an epoch is running");
      },
    });
    const message = "Trainer.epoch: an epoch is running already; await it first";
    const second = assertRejects(() => trainer.epoch(), Error, message);
    assertThrows(() => trainer.restore(start), Error, "Trainer.restore: an epoch is running");
    await second;
    assertEquals((await running)!.epoch, 1);
    await trainer.epoch();
    assertEquals(await outcome(trainer), expected);
    trainer.restore(start);
    assertEquals(trainer.history, []);
  });

  await t.step("checkpoints", async () => {
    using trainer = await tinyTrainer();
    await trainer.prepare();
    const running = trainer.epoch();
    const taken: Checkpoint[] = [];
    let ended = false;
    void running.then(() => ended = true);
    while (!ended) taken.push(await trainer.checkpoint());
    await running;
    for (const checkpoint of taken.filter(({ run }) => run.step > 0)) {
      using resumed = await tinyTrainer();
      resumed.restore(checkpoint);
      while (!resumed.done) await resumed.epoch();
      assertEquals(await outcome(resumed), expected, `from step ${checkpoint.run.step}`);
    }
    assert(taken.some(({ run }) => run.step > 0), "none was taken within the epoch");
  });

  await t.step("its end", async () => {
    using device = await Device.request();
    using live = new LiveBuffers();
    for (const prepared of [true, false]) {
      const config = trainConfig(settings);
      const trainer = await Trainer.create({ config, train, test, device });
      if (prepared) await trainer.prepare();
      const running = trainer.epoch();
      trainer[Symbol.dispose]();
      await assertRejects(() => running, Error, "disposed of");
      await assertRejects(() => trainer.epoch(), Error, "Trainer.epoch: this trainer was disposed");
      await assertRejects(() => trainer.checkpoint(), Error, "Trainer.checkpoint: this trainer");
      trainer[Symbol.dispose]();
      // The net's own values stay, and the workspace is the device's.
      const left = live.names.filter((name) => !/^(workspace|Tensor variable)/.test(name));
      assertEquals(left, []);
    }
  });
});

Deno.test("a net that shares a layer trains, and goes on from its checkpoint to the same bits", async () => {
  const net = () => {
    const shared = new Linear(10, 10);
    return new Sequential(tinyNet(), new ReLU(), shared, new ReLU(), shared);
  };
  const trainer = () =>
    Trainer.create({ config: trainConfig({ ...settings }), train, test, net: net() });
  using whole = await trainer();
  const values = async (x: Trainer) =>
    [...(await x.checkpoint()).model].map(([key, { data }]) => [key, [...data]]);
  await whole.epoch();
  const { run, model, optimizer } = await whole.checkpoint();
  assertEquals(model.get("2.weight"), model.get("4.weight"));
  assertEquals([...optimizer.keys()].filter((key) => /\.[24]\./.test(key)), [
    "exp_avg.2.weight",
    "exp_avg.2.bias",
    "exp_avg_sq.2.weight",
    "exp_avg_sq.2.bias",
  ]);
  const files = await encodeCheckpoint({ run, model, optimizer });
  using resumed = await trainer();
  resumed.restore(await decodeCheckpoint(files, "shared"));
  await whole.epoch();
  await resumed.epoch();
  assertEquals(await values(resumed), await values(whole));
});

Deno.test("a net with dropout goes on from wherever it was stopped to the same bits, though its state dict has no draws", async () => {
  const create = () => {
    manualSeed(5);
    const net = new Sequential(
      new Conv2d(1, 8, { kernelSize: 5, stride: 4 }),
      new Dropout2d(0.3),
      new ReLU(),
      new Flatten(),
      new Dropout(0.5),
      new Linear(8 * 49, 10),
    );
    return Trainer.create({ config: trainConfig({ ...settings }), train, test, net });
  };
  using whole = await create();
  const checkpoints: Checkpoint[] = [await whole.checkpoint()];
  const watch = { onProgress: async () => void checkpoints.push(await whole.checkpoint()) };
  while (!whole.done) await whole.epoch(watch);
  const expected = await outcome(whole), last = await whole.checkpoint();
  assertEquals([...last.model.keys()], ["0.weight", "0.bias", "5.weight", "5.bias"]);
  const draws = (checkpoint: Checkpoint) =>
    ["buffer.1.draws", "buffer.4.draws"].map((key) => checkpoint.optimizer.get(key)!.data[0]);
  assertEquals(draws(last), [6, 6]);
  assert(new Set(checkpoints.map(({ run }) => run.steps)).size > 2, "stopped at several steps");
  for (const checkpoint of checkpoints) {
    assertEquals(draws(checkpoint), [checkpoint.run.steps, checkpoint.run.steps]);
    using resumed = await create();
    resumed.restore(await decodeCheckpoint(await encodeCheckpoint(checkpoint), "dropout"));
    while (!resumed.done) await resumed.epoch();
    assertEquals(await outcome(resumed), expected, `from step ${checkpoint.run.steps}`);
  }
  const { run, model } = last, optimizer = new Map(last.optimizer);
  optimizer.delete("buffer.4.draws");
  assertThrows(() => whole.restore({ run, model, optimizer }), Error, "buffer.4.draws");
});

Deno.test("a notebook shows a trainer's history as a table and curves, and data on a device", async () => {
  using trainer = await tinyTrainer();
  assertEquals((await displayOf(trainer.history)).text, "no epochs yet");
  assertEquals(trainer.history, []);
  const more = { trainAccuracy: 0.5, testAccuracy: 0.25, seconds: 7 };
  trainer.history.push({ epoch: 1, loss: 2, ...more }, { epoch: 2, loss: 1, ...more });
  const { text, html } = await displayOf(trainer.history);
  assertEquals(text, trainer.history.map(formatEpoch).join("\n"));
  assertEquals([...html.matchAll(/<t[hd][^>]*>([^<]*)/g)].map(([, words]) => words), [
    ...["epoch", "loss", "train acc", "test acc", "time"],
    ...["1", "2.0000", "0.500", "0.250", "7 s"],
    ...["2", "1.0000", "0.500", "0.250", "7 s"],
  ]);
  const [loss, accuracies] = [...html.matchAll(/svg\+xml;base64,([^"]*)/g)].map(([, base64]) =>
    new TextDecoder().decode(Uint8Array.fromBase64(base64!))
  );
  const lines = (svg: string | undefined) =>
    [...svg!.matchAll(/points="([^"]*)"/g)].map(([, points]) => points);
  assertEquals(lines(loss), ["44.0,22.0 308.0,160.0"], "from the top left to the bottom right");
  assertEquals(lines(accuracies), ["44.0,22.0 308.0,22.0", "44.0,160.0 308.0,160.0"]);
  for (const label of ["2.00", "1.00"]) assert(loss!.includes(`>${label}</text>`), loss);
  assertEquals((await displayOf(trainer.train)).text, (await displayOf(train)).text);
});
