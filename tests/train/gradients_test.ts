/** Steps of several micro-batches: what they come to, and when there are any. */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import {
  Adam,
  BatchNorm1d,
  collectUpdates,
  Conv2d,
  crossEntropy,
  Device,
  Dropout,
  Flatten,
  GlobalAvgPool2d,
  grad,
  input,
  Linear,
  manualSeed,
  Plan,
  PlanError,
  Random,
  readVariables,
  Sequential,
  SGD,
} from "@resnette/resnette";
import {
  type Checkpoint,
  CheckpointError,
  decodeCheckpoint,
  DeviceDataset,
  encodeCheckpoint,
  evaluateAccuracy,
  NonFiniteError,
  predict,
  SingleImageError,
  type TrainConfig,
  trainConfig,
  Trainer,
} from "@resnette/resnette/train";
import type { ImageDataset } from "../../lib/data/dataset.ts";
import { BatchPlans } from "../../lib/train/batches.ts";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import { GradientSums } from "../../lib/train/gradients.ts";
import { stepsOf } from "../../lib/plan/steps.ts";
import { LeNet } from "../../scripts/examples/nets/lenet.ts";
import { VisionTransformer } from "../../scripts/examples/nets/vit.ts";
import { LiveBuffers } from "../faults/gpu.ts";
import { readFixture } from "../fixture.ts";
import { fill, makeBatch, norm } from "../golden.ts";
import { plainNet, tinyNet } from "../tiny_train.ts";
import { DATA, off, settings, test, train, trained } from "./runs.ts";

Deno.test("micro-batches are as even as can be, and those of the last batch no larger", () => {
  const sizes = (count: number, batchSize: number, parts: number) => {
    const plans = new BatchPlans(count, batchSize, parts);
    const last = count > batchSize && count % batchSize;
    return [plans.sizes(Math.min(batchSize, count)), ...last ? [plans.sizes(last)] : []];
  };
  assertEquals(sizes(64, 25, 1), [[25], [14]]);
  assertEquals(sizes(64, 25, 3), [[9, 8, 8], [7, 7]]);
  assertEquals(sizes(60_000, 128, 4), [[32, 32, 32, 32], [32, 32, 32]]);
  assertEquals(sizes(27, 25, 5), [[5, 5, 5, 5, 5], [2]]);
  assertEquals(sizes(10, 4, 4), [[1, 1, 1, 1], [1, 1]]);
  assertEquals(sizes(9, 128, 2), [[5, 4]]);
  for (let batchSize = 1; batchSize < 40; batchSize++) {
    for (let parts = 1; parts <= batchSize; parts++) {
      const [full, last] = sizes(batchSize + batchSize % 7 + 1, batchSize, parts);
      assertEquals([full!.length, full!.reduce((a, b) => a + b)], [parts, batchSize]);
      assert(full![0]! - full!.at(-1)! <= 1);
      assert(!last || last[0]! <= full![0]!, `${batchSize} in ${parts}: ${last}`);
    }
  }
});

/** Settings that are different for each image, or change from step to step. */
const RECIPES: Record<string, Partial<TrainConfig>> = {
  "plain SGD, which shows the gradients": { optimizer: "sgd", lr: 0.05, momentum: 0 },
  "Adam": { lr: 0.001 },
  "all else": {
    optimizer: "sgd",
    lr: 0.05,
    weightDecay: 1e-3,
    schedule: "cosine",
    warmup: 2,
    labelSmoothing: 0.1,
    augment: "flip,crop,rotate,jitter",
  },
};
for (const [what, recipe] of Object.entries(RECIPES)) {
  Deno.test(`without a batch norm, micro-batches come to the whole batch: ${what}`, async () => {
    const whole = await trained(recipe);
    for (const accumulate of [2, 3, 7]) {
      const cut = await trained({ ...recipe, accumulate });
      // A wrong weight of a micro-batch, 8/24 for 8/25, would be 4e-2.
      // Adam's first steps are signs of gradients, so rounding tells of one that is nearly zero.
      const worst = Math.max(...cut.moved.map((moved, i) => off(moved, whole.moved[i]!)));
      assert(
        worst < (recipe.optimizer ? 1e-4 : 2e-2),
        `${accumulate}: weights are off by ${worst}`,
      );
      for (const [epoch, { loss, ...rest }] of cut.history.entries()) {
        const { loss: expected, ...others } = whole.history[epoch]!;
        assert(Math.abs(loss / expected - 1) < 1e-5, `loss ${loss}, not ${expected}`);
        assertEquals(rest, others);
      }
    }
  });
}

Deno.test("micro-batches take PyTorch's steps", async () => {
  const { tensors, metadata } = await readFixture("nets.safetensors");
  const runs = JSON.parse(metadata["runs"]!), own = JSON.parse(metadata["worst"]!);
  const nets = { lenet: () => new LeNet(), vit: () => new VisionTransformer() };
  for (const [name, make] of Object.entries(nets)) {
    const { batch, size, steps, optimizer: { name: kind, ...options } } = runs[name];
    const net = make(), parameters = net.parameters();
    fill(net);
    for (const module of net.modules()) if (module instanceof Dropout) module.eval();
    const optimizer = new (kind === "adam" ? Adam : SGD)(parameters, options);
    using gradients = new GradientSums(parameters);
    /** The plan of a micro-batch. */
    const part = (size: number, side: number) => {
      const pixels = input("pixels", [size, 1, side, side]);
      const loss = crossEntropy(net.call(pixels), input("labels", [size], "u32"));
      const share = input("share", []), first = input("first", []);
      const updates = gradients.updates(grad(loss, parameters), { share, first });
      return Plan.compile({ outputs: [loss], updates });
    };
    const sizes = [batch / 2 + 1, batch / 2 - 1];
    const [large, small] = await Promise.all(sizes.map((n) => part(n, size)));
    const ending = { updates: optimizer.updates(gradients.sums) };
    using end = await Plan.compile(ending);
    const before = await readVariables(parameters);
    const losses: number[] = [];
    let moved: number[][] = [];
    for (let step = 0; step <= steps; step++) {
      const { pixels, labels } = makeBatch(step, batch, size);
      let from = 0, loss = 0;
      for (const [i, plan] of [large!, small!].entries()) {
        const to = from + sizes[i]!, share = sizes[i]! / batch, each = size * size;
        plan.run({
          pixels: pixels.slice(from * each, to * each),
          labels: labels.slice(from, to),
          share: Float32Array.of(share),
          first: Float32Array.of(i === 0 ? 1 : 0),
        });
        loss += share * await plan.item();
        from = to;
      }
      losses.push(loss);
      if (step === steps) {
        const after = await readVariables(parameters);
        moved = after.map((values, i) => [...values.map((x, k) => x - before[i]![k]!)]);
      }
      end.run(optimizer.nextStep());
    }
    [large, small].forEach((plan) => plan![Symbol.dispose]());
    const golden = (part: string) => tensors.get(`${name}/${part}`)!.data;
    losses.forEach((loss, i) => {
      const wrong = Math.abs(loss / golden("losses")[i]! - 1);
      assert(wrong < 5 * own[name].losses + 1e-5, `${name}: loss ${i} is off by ${wrong}`);
    });
    moved.forEach((values, i) => {
      const [expected, , whole] = golden("moved").slice(3 * i, 3 * i + 3) as unknown as number[];
      const wrong = Math.abs(norm(values) - expected!) / Math.max(expected!, 1e-4 * whole!);
      assert(wrong < 5 * own[name].moved + 1e-5, `${name}: parameter ${i} is off by ${wrong}`);
    });
    // The sums are read where they lie: no copy of any parameter's gradient.
    const { steps: made } = stepsOf([], ending.updates, (await Device.request()).target);
    assertEquals(made.length, 1);
  }
});

Deno.test("with a batch norm, micro-batches come to what the same sums by hand do", async () => {
  const more = { accumulate: 3, optimizer: "sgd", lr: 0.1, momentum: 0.5, epochs: 1 } as const;
  const found = await trained(more, { make: tinyNet });
  const whole = await trained({ ...more, accumulate: 1 }, { make: tinyNet });

  manualSeed(7);
  const net = tinyNet(), parameters = net.parameters();
  const sgd = new SGD(parameters, { lr: more.lr, momentum: more.momentum });
  const order = new Random(settings.seed, 1).permutation(64);
  const data = new DeviceDataset(train);
  const given = parameters.map(({ shape }, i) => input(`g${i}`, shape));
  using step = await Plan.compile({ updates: sgd.updates(given) });
  let place = 0, losses = 0;
  for (const sizes of [[9, 8, 8], [9, 8, 8], [7, 7]]) {
    const count = sizes.reduce((a, b) => a + b);
    const sums = parameters.map(({ size }) => new Float64Array(size));
    for (const size of sizes) {
      const { x, labels } = data.batch(input("indices", [size], "u32"), { resize: 28 });
      const { result, updates } = collectUpdates(() => net.call(x));
      const loss = crossEntropy(result, labels);
      using plan = await Plan.compile({ outputs: [loss, ...grad(loss, parameters)], updates });
      plan.run({ indices: order.slice(place, place + size) });
      const [value, ...grads] = await plan.read();
      grads.forEach((g, i) => g.forEach((v, k) => sums[i]![k]! += v * size / count));
      losses += value![0]! * size / count;
      place += size;
    }
    const feeds = sums.map((values, i) => [`g${i}`, Float32Array.from(values)]);
    step.run({ ...Object.fromEntries(feeds), ...sgd.nextStep() });
  }
  const state = await net.stateDict();
  assertEquals(state.get("1.num_batches_tracked")!.data[0], 8, "once for each micro-batch");
  assert(Math.abs(found.history[0]!.loss / (losses / 3) - 1) < 1e-5);
  for (const [key, { data }] of state) {
    if (key === "0.bias") continue; // Its gradient is zero but for rounding.
    const wrong = off(found.model.get(key)!.data, data);
    assert(wrong < 1e-4, `${key} is off by ${wrong}`);
  }
  // And that is not what a whole batch would come to.
  assert(off(whole.model.get("1.running_var")!.data, state.get("1.running_var")!.data) > 1e-3);
});

/** A device whose buffers hold 16 MiB, so that a small batch is too large on any machine. */
async function smallDevice(maxBindingBytes = 2 ** 24): Promise<Device> {
  const device = await Device.request();
  Object.defineProperty(device, "target", { value: { ...device.target, maxBindingBytes } });
  return device;
}

/** A net whose first layer gives 64 × 48 × 48 values for an image of 96×96: 28 fit into 16 MiB. */
const wideNet = () =>
  new Sequential(
    new Conv2d(1, 64, { kernelSize: 7, stride: 2, padding: 3 }),
    new GlobalAvgPool2d(),
    new Flatten(),
    new Linear(64, 10),
  );

Deno.test("a batch that the adapter cannot hold is trained on in as few micro-batches as fit", async (t) => {
  const config = { batchSize: 60, resize: 96, epochs: 1, seed: 3, lr: 0.01 };
  const create = (more: Partial<TrainConfig>, device?: Device) => {
    manualSeed(1);
    const given = trainConfig({ ...config, ...more });
    const net = wideNet();
    return Trainer.create({ config: given, train, test, net, ...device && { device } });
  };
  const outcome = async (trainer: Trainer) => {
    while (!trainer.done) await trainer.epoch();
    const { model, optimizer, run: { history } } = await trainer.checkpoint();
    return { model, optimizer, history: history.map((result) => ({ ...result, seconds: 0 })) };
  };
  using device = await smallDevice();
  using trainer = await create({}, device);
  const start = await trainer.checkpoint();
  assertEquals([trainer.config.accumulate, trainer.notice], [1, undefined]);
  const expected = await outcome(trainer);

  await t.step("and says so", () => {
    assertEquals(trainer.config.accumulate, 3, "60 images, of which 28 fit");
    assertMatch(
      trainer.notice!,
      /^a batch of 60 does not fit this adapter: \w+ \[60, .*48, 48.*\] takes \d+ bytes, more than this adapter's maxStorageBufferBindingSize of 16777216; so a step has 3 micro-batches of 20, /,
    );
  });

  await t.step("which is the same as to ask for them", async () => {
    using asked = await create({ accumulate: 3 }, device);
    assertEquals(await outcome(asked), expected);
    assertEquals([asked.config.accumulate, asked.notice], [3, undefined]);
    using fewer = await create({ accumulate: 2 }, device);
    await fewer.prepare();
    assertEquals(fewer.config.accumulate, 3);
    assertMatch(fewer.notice!, /^a batch of 30 does not fit/);
    using more = await create({ accumulate: 5 }, device);
    await more.prepare();
    assertEquals([more.config.accumulate, more.notice], [5, undefined]);
  });

  await t.step("a run goes on with as many, also where all would fit", async () => {
    assertEquals([start.run.config.accumulate, trainer.config.accumulate], [1, 3]);
    const abort = new AbortController();
    using stopped = await create({ batchSize: 30 }, device);
    await stopped.epoch({ onProgress: () => abort.abort(), signal: abort.signal });
    const checkpoint = await stopped.checkpoint();
    assertEquals([checkpoint.run.step, checkpoint.run.config.accumulate], [1, 2]);
    const files = await encodeCheckpoint(checkpoint);
    using whole = await create({ batchSize: 30 }, device);
    const ends = await outcome(whole);
    using large = await create({ batchSize: 30 });
    await large.prepare();
    assertEquals([large.config.accumulate, large.notice], [1, undefined]);
    large.restore(await decodeCheckpoint(files, "run"));
    assertEquals(await outcome(large), ends);
    assertEquals([large.config.accumulate, large.notice], [2, undefined]);
    using other = await create({ batchSize: 30, accumulate: 4 });
    assertThrows(
      () => other.restore(checkpoint),
      CheckpointError,
      "of another run: it has micro-batches 2, not 4",
    );
  });

  await t.step("and tested, and predicted with", async () => {
    const options = { resize: 96, device };
    const accuracy = await evaluateAccuracy(trainer.net, test, { ...options, batchSize: 32 });
    assertEquals(accuracy, trainer.history[0]!.testAccuracy);
    const all = await predict(trainer.net, train, options);
    const right = all.filter((row, i) => row.indexOf(Math.max(...row)) === train.labels[i]);
    const one = await evaluateAccuracy(trainer.net, train, { ...options, batchSize: 8 });
    assertEquals([all.length, right.length / 64], [64, one]);
  });
});

Deno.test("what cannot be cut is refused: one image that does not fit, and one that has to be alone", async () => {
  using tiny = await smallDevice(2 ** 18);
  const config = trainConfig({ batchSize: 4, resize: 96 });
  using wide = await Trainer.create({ config, train, test, net: wideNet(), device: tiny });
  const error = await assertRejects(() => wide.prepare(), PlanError);
  assertMatch(
    error.message,
    /^a batch of 4 does not fit this adapter: .*; not even one image fits: make them smaller$/,
  );
  assertEquals(error.largest, 0);

  // One image by itself fits here, and two do not: but a batch norm cannot do with one.
  const normed = () =>
    new Sequential(
      new Conv2d(1, 64, { kernelSize: 7, stride: 2, padding: 3 }),
      new GlobalAvgPool2d(),
      new Flatten(),
      new BatchNorm1d(64),
      new Linear(64, 10),
    );
  using one = await smallDevice(2 ** 20);
  using alone = await Trainer.create({ config, train, test, net: normed(), device: one });
  const few = await assertRejects(() => alone.prepare(), PlanError);
  assertMatch(few.message, /; what fits is too few, as one image alone cannot be computed: make/);
  using fits = await Trainer.create({ config, train, test, net: wideNet(), device: one });
  await fits.prepare();
  assertEquals(fits.config.accumulate, 4);
});

Deno.test("no micro-batch has one image where a net cannot be trained on one", async () => {
  const make = () => new Sequential(new Flatten(), new BatchNorm1d(784), new Linear(784, 10));
  const tracked = async (limit: number, more: Partial<TrainConfig>) => {
    const data = await loadFashionMnist(DATA, "train", { limit });
    const { model } = await trained({ epochs: 1, ...more }, { make, data });
    return model.get("1.num_batches_tracked")!.data[0];
  };
  // 5 images are 3 and 2, not 2, 1, 1 and 1; the 2 that are left stay together.
  assertEquals(await tracked(12, { batchSize: 5, accumulate: 4 }), 2 + 2 + 1);
  assertEquals(await tracked(10, { batchSize: 5, accumulate: 2 }), 2 + 2);
  const single = await assertRejects(
    () => tracked(11, { batchSize: 5, accumulate: 2 }),
    SingleImageError,
  );
  assertMatch(single.message, /of 11 images in batches of 5, the last batch has one image/);
  // Other nets can.
  const data = await loadFashionMnist(DATA, "train", { limit: 5 });
  const { history } = await trained({ batchSize: 4, accumulate: 4 }, { data });
  const { history: whole } = await trained({ batchSize: 4 }, { data });
  assert(Math.abs(history[1]!.loss / whole[1]!.loss - 1) < 1e-4);
});

Deno.test("images that are read batch by batch are cut as those on the device: the same bits", async () => {
  const { images } = train, asked: number[] = [];
  const fed: ImageDataset = {
    ...train,
    images: (indices) => {
      asked.push(indices.length);
      const batch = new Uint8Array(indices.length * 784);
      indices.forEach((index, i) =>
        batch.set(images.subarray(index * 784, index * 784 + 784), i * 784)
      );
      return Promise.resolve(batch);
    },
  };
  const more = { accumulate: 3, augment: "flip" };
  assertEquals(await trained(more, { data: fed }), await trained(more));
  // A batch is read at once.
  assertEquals(asked, [25, 25, 14, 25, 25, 14]);
});

Deno.test("checkpoints that are taken while a step of micro-batches runs are of whole steps, and dropout draws on", async () => {
  const create = () => {
    manualSeed(5);
    const net = new Sequential(new Dropout(0.5), plainNet());
    const config = trainConfig({ ...settings, accumulate: 3, augment: "flip", lr: 0.003 });
    return Trainer.create({ config, net, train, test });
  };
  const outcome = async (trainer: Trainer) => {
    while (!trainer.done) await trainer.epoch();
    const { model, optimizer, run: { history } } = await trainer.checkpoint();
    return { model, optimizer, history: history.map((result) => ({ ...result, seconds: 0 })) };
  };
  using whole = await create();
  const expected = await outcome(whole);
  // 3, 3 and 2 micro-batches an epoch.
  assertEquals(expected.optimizer.get("buffer.0.draws")!.data[0], 16);
  using trainer = await create();
  await trainer.prepare();
  const running = outcome(trainer), taken = new Map<number, Checkpoint>();
  let ended = false;
  void running.then(() => ended = true);
  while (!ended) {
    const checkpoint = await trainer.checkpoint(), { run: { step, steps } } = checkpoint;
    const draws = checkpoint.optimizer.get("buffer.0.draws")!.data[0];
    assertEquals(draws, 8 * Math.floor(steps / 3) + 3 * (steps % 3), `at step ${steps}`);
    if (step > 0 && step < 3) taken.set(steps, checkpoint);
  }
  assertEquals(await running, expected);
  assert(taken.size > 0, "none was taken within an epoch");
  for (const [steps, checkpoint] of taken) {
    using resumed = await create();
    resumed.restore(checkpoint);
    assertEquals(await outcome(resumed), expected, `from step ${steps}`);
  }
});

Deno.test("a loss that is not finite, in whichever micro-batch, ends the run with the step", async () => {
  // Image 40 of the order is the only one with a label that its logit makes infinite.
  const order = new Random(settings.seed, 1).permutation(64), bad = order[40]!;
  const images = train.images.slice();
  images.fill(0);
  images.fill(255, 784 * bad, 784 * bad + 784);
  const net = new Sequential(new Flatten(), new Linear(784, 10));
  const state = await net.stateDict();
  state.get("1.weight")!.data.fill(3e38);
  net.loadStateDict(state);
  const config = trainConfig({ ...settings, lr: 1e-30, optimizer: "sgd", accumulate: 5 });
  using trainer = await Trainer.create({ config, net, train: { ...train, images }, test });
  await assertRejects(
    () => trainer.epoch(),
    NonFiniteError,
    "the loss of step 2 of epoch 1 is not finite",
  );
});

Deno.test("what a trainer of micro-batches made is freed with it, also while it prepares", async () => {
  using device = await Device.request();
  using live = new LiveBuffers();
  for (const wait of ["prepared", "a while", "not"]) {
    const config = trainConfig({ ...settings, accumulate: 3 });
    const net = plainNet();
    const trainer = await Trainer.create({ config, train, test, device, net });
    if (wait === "prepared") await trainer.prepare();
    const running = trainer.epoch();
    if (wait === "a while") await new Promise((done) => setTimeout(done, 20));
    trainer[Symbol.dispose]();
    await assertRejects(() => running, Error, "disposed of");
    const left = live.names.filter((name) => !/^(workspace|Tensor variable)/.test(name));
    assertEquals(left, [], wait);
  }
});
