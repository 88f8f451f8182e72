/** Training: its numbers against plain arithmetic, stopping and going on, and what it refuses. */

import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  type Checkpoint,
  CheckpointError,
  ConfigError,
  Conv2d,
  decodeCheckpoint,
  Device,
  encodeCheckpoint,
  evaluateAccuracy,
  Flatten,
  formatEpoch,
  GlobalAvgPool2d,
  Linear,
  type Module,
  NonFiniteError,
  PlanError,
  type Progress,
  Random,
  Sequential,
  setVariable,
  type TrainConfig,
  trainConfig,
  Trainer,
} from "@resnette/resnette";
import { type ImageDataset, loadFashionMnist } from "../lib/data/fashion_mnist.ts";
import "./tiny_train.ts";

const DATA = "data/fashion-mnist";
const train = await loadFashionMnist(DATA, "train", { limit: 64 });
const test = await loadFashionMnist(DATA, "test", { limit: 32 });
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
  { images, labels, width, height }: ImageDataset,
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
  });
  for (
    const wrong of [
      { batchSize: 0 },
      { batchSize: 1.5 },
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

/** Images in the order of an epoch, moved and mirrored by the documented draws. */
function augmented({ images, labels, ...rest }: ImageDataset, seed: number, epoch: number) {
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

/** All that a run ends with, but for times. */
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

Deno.test("a batch that the adapter cannot hold is refused, and the largest that is named fits", async () => {
  using device = await Device.request();
  // 16 MiB for a buffer, so that the largest batch is a small one on any machine.
  const maxBindingBytes = 2 ** 24;
  Object.defineProperty(device, "target", { value: { ...device.target, maxBindingBytes } });
  const create = (batchSize: number) =>
    Trainer.create({
      config: trainConfig({ batchSize, resize: 96 }),
      train,
      test: {
        ...test,
        count: 1,
        images: test.images.slice(0, 784),
        labels: test.labels.slice(0, 1),
      },
      device,
      net: new Sequential(
        new Conv2d(1, 64, { kernelSize: 7, stride: 2, padding: 3 }),
        new GlobalAvgPool2d(),
        new Flatten(),
        new Linear(64, 10),
      ),
    });
  using large = await create(32);
  const error = await assertRejects(() => large.prepare(), PlanError);
  assert(error.message.includes("a batch of 32 does not fit this adapter"), error.message);
  assert(error.message.includes("48, 48"), error.message);
  assert(error.message.includes("maxStorageBufferBindingSize"), error.message);
  assertEquals(error.largest, 28);
  using fitting = await create(error.largest!);
  await fitting.prepare();
});
