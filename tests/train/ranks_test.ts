/**
 * Training on several ranks, which are played in one process: against PyTorch's DistributedDataParallel,
 * against one process, and what ranks have to agree on.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  add,
  BatchNorm2d,
  collectUpdates,
  Conv2d,
  crossEntropy,
  Device,
  Dropout,
  evaluate,
  Flatten,
  GlobalAvgPool2d,
  grad,
  input,
  Linear,
  manualSeed,
  Plan,
  Random,
  readVariables,
  ReLU,
  Sequential,
  setVariable,
  SGD,
} from "@resnette/resnette";
import {
  broadcastBytes,
  broadcastCheckpoint,
  broadcastDataset,
  type Checkpoint,
  type Collective,
  ConfigError,
  decodeCheckpoint,
  DeviceDataset,
  encodeCheckpoint,
  gatherTexts,
  NonFiniteError,
  type Predictions,
  type Progress,
  RankError,
  SingleImageError,
  type TrainConfig,
  type Trainer,
} from "@resnette/resnette/train";
import type { ImageDataset } from "../../lib/data/dataset.ts";
import { HalfSums } from "../../lib/train/compress.ts";
import { BUCKET_BYTES } from "../../lib/train/exchange.ts";
import { LiveBuffers, onSubmit } from "../faults/gpu.ts";
import { readFixture } from "../fixture.ts";
import { fill, makeBatch, norm } from "../golden.ts";
import { together, twin } from "../ranks.ts";
import { plainNet, tinyNet } from "../tiny_train.ts";
import { off, type Options, outcome, settings, test, train, trained, trainerOf } from "./runs.ts";

/** The same on so many ranks, all of which have the same bits in the end. */
async function trainedOn(ranks: number, more: Partial<TrainConfig>, options: Options = {}) {
  const [first, ...others] = await together(
    ranks,
    (collective) => trained(more, { ...options, collective }),
  );
  const { traffic: _, ...end } = first!;
  for (const { traffic: _, ...other } of others) assertEquals(other, end);
  return first!;
}

/** Has gradients travel in buckets of a few thousand bytes while `body` runs. */
async function inSmallBuckets<T>(body: () => Promise<T>): Promise<T> {
  const { first, others } = BUCKET_BYTES;
  Object.assign(BUCKET_BYTES, { first: 1000, others: 2000 });
  try {
    return await body();
  } finally {
    Object.assign(BUCKET_BYTES, { first, others });
  }
}

/** Makes one step, and stops; the sum of the losses of the epoch so far. */
async function makeStep(trainer: Trainer, { collective, abort }: Stopping): Promise<number> {
  abort.next = new AbortController();
  assertEquals(await trainer.epoch({ signal: abort.next.signal }), undefined);
  assert(collective.size > 1);
  return (await trainer.checkpoint()).run.sums.loss;
}

/** A collective that aborts when the first gradients travel, so that a step is the last one. */
interface Stopping {
  readonly collective: Collective;
  readonly abort: { next: AbortController | undefined };
}

function stopping(given: Collective): Stopping {
  const abort: Stopping["abort"] = { next: undefined };
  const collective = {
    ...given,
    allReduce(values: Float32Array<ArrayBuffer>) {
      abort.next?.abort();
      return given.allReduce(values);
    },
  };
  return { collective, abort };
}

const ddp = await readFixture("ddp.safetensors");
const ddpRun = JSON.parse(ddp.metadata["run"]!) as Record<
  "ranks" | "batch" | "size" | "steps" | "lr",
  number
>;

/** The ten steps of `make_ddp.py`: losses, and the state in the end; the worst differences from DDP's. */
async function asInDdp(change = (collective: Collective) => collective) {
  const { ranks, batch, size, steps, lr } = ddpRun, count = batch * (steps + 1);
  const images = new Uint8Array(count * size * size), labels = new Uint8Array(count);
  // Step by step in the order in which the trainer takes them.
  const order = new Random(settings.seed, 1).permutation(count);
  for (let step = 0; step <= steps; step++) {
    const { pixels, labels: given } = makeBatch(step, batch, size), each = size * size;
    given.forEach((label, i) => {
      const at = order[step * batch + i]!;
      labels[at] = label;
      const bytes = pixels.subarray(i * each, (i + 1) * each).map((x) => Math.floor(x * 255));
      images.set(bytes, at * each);
    });
  }
  const classes = Array.from({ length: 10 }, (_, i) => `${i}`);
  const data = { images, labels, count, height: size, width: size, classes };
  const make = () => {
    const net = new Sequential(
      new Conv2d(1, 8, { kernelSize: 3, stride: 2, padding: 1, bias: false }),
      new BatchNorm2d(8),
      new ReLU(),
      new Conv2d(8, 16, { kernelSize: 3, stride: 2, padding: 1, bias: false }),
      new BatchNorm2d(16),
      new ReLU(),
      new GlobalAvgPool2d(),
      new Flatten(),
      new Linear(16, 10),
    );
    fill(net);
    return net;
  };
  const more = { batchSize: batch, resize: size, lr, epochs: 1 };
  const [first, ...others] = await together(ranks, async (given) => {
    const stop = stopping(change(given));
    const options = { make, data, tested: data, collective: stop.collective };
    using trainer = await trainerOf(more, options);
    const losses: number[] = [];
    let sum = 0, state;
    for (let step = 0; step <= steps; step++) {
      if (step === steps) state = await trainer.net.stateDict();
      const before = sum;
      sum = await makeStep(trainer, stop);
      losses.push(sum - before);
    }
    assertEquals(trainer.step, steps + 1);
    return { losses, state: state! };
  });
  for (const other of others) assertEquals(other.losses, first!.losses);
  const golden = (key: string) => ddp.tensors.get(key)!.data;
  const losses = Math.max(...first!.losses.map((x, i) => Math.abs(x / golden("losses")[i]! - 1)));
  let weights = 0, statistics = 0;
  for (const [key, { data }] of first!.state) {
    if (key.endsWith("num_batches_tracked")) continue;
    const wrong = norm(data, golden(`state/${key}`)), moved = ddp.tensors.get(`moved/${key}`);
    if (moved) weights = Math.max(weights, wrong / moved.data[0]!);
    else statistics = Math.max(statistics, wrong / norm(golden(`state/${key}`)));
  }
  return { losses, weights, statistics, states: [first!.state, ...others.map((x) => x.state)] };
}

Deno.test("two ranks take the steps of PyTorch's DistributedDataParallel", async (t) => {
  const { unreduced } = JSON.parse(ddp.metadata["wrong"]!) as { unreduced: number };
  await t.step("losses, weights and statistics", async () => {
    const { losses, weights, statistics, states } = await inSmallBuckets(() => asInDdp());
    console.log(`off by ${losses} (losses), ${weights} (weights), ${statistics} (statistics)`);
    assertEquals(states[1], states[0]);
    assert(losses < 1e-5, `losses are off by ${losses}`);
    // PyTorch's float32 is off by 3e-5 from its float64.
    assert(weights < 1e-3, `weights are off by ${weights} of what they moved`);
    assert(statistics < 1e-5, `statistics are off by ${statistics}`);
  });
  await t.step("which others find where gradients are not summed", async () => {
    const alone = (given: Collective): Collective => ({ ...given, allReduce: async () => {} });
    await assertRejects(() => asInDdp(alone), RankError, "rank 1 has other weights");
  });
  await t.step("and which are others where they are those of one rank", async () => {
    const first = (given: Collective): Collective => ({
      ...given,
      async allReduce(values) {
        await given.broadcast(new Uint8Array(values.buffer));
        values.forEach((x, i) => values[i] = given.size * x);
      },
    });
    const { losses } = await asInDdp(first);
    assert(losses > 1e-3 && losses > unreduced / 4, `losses are off by no more than ${losses}`);
  });
  await t.step("and close by where they travel as 16-bit floats", async () => {
    // Adam's first steps are signs of gradients, so weights are not compared.
    await together(ddpRun.ranks, async (collective) => {
      const more = { lr: ddpRun.lr, epochs: 1, compress: "f16" } as const;
      const half = await trained(more, { collective, make: tinyNet });
      const whole = await trained({ ...more, compress: "none" }, { collective, make: tinyNet });
      const wrong = Math.abs(half.history[0]!.loss / whole.history[0]!.loss - 1);
      assert(wrong < 1e-4, `${wrong}`);
    });
  });
});

/** Settings that are different for each image, or change from step to step. */
const RECIPES: Record<string, Partial<TrainConfig>> = {
  "plain SGD, which shows the gradients": { optimizer: "sgd", lr: 0.05, momentum: 0 },
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
  Deno.test(`without a batch norm, ranks come to what one process does: ${what}`, () =>
    inSmallBuckets(async () => {
      const whole = await trained(recipe);
      const cases = [[2, 1], [3, 1], [3, 4], [4, 2], [20, 1]] as const;
      for (const [ranks, accumulate] of cases) {
        const shared = await trainedOn(ranks, { ...recipe, accumulate });
        const worst = Math.max(...shared.moved.map((moved, i) => off(moved, whole.moved[i]!)));
        assert(worst < 1e-4, `${ranks} ranks, ${accumulate} parts: weights are off by ${worst}`);
        for (const [epoch, { loss, ...rest }] of shared.history.entries()) {
          const { loss: expected, ...others } = whole.history[epoch]!;
          assert(Math.abs(loss / expected - 1) < 1e-5, `loss ${loss}, not ${expected}`);
          // Right answers are counted exactly.
          assertEquals(rest, others);
        }
      }
    }));
}

Deno.test("with a batch norm, ranks come to what the same means by hand do", async () => {
  const more = { optimizer: "sgd", lr: 0.1, momentum: 0.5, epochs: 1, accumulate: 2 } as const;
  const found = await trainedOn(3, more, { make: tinyNet });

  manualSeed(7);
  const net = tinyNet(), parameters = net.parameters();
  const sgd = new SGD(parameters, { lr: more.lr, momentum: more.momentum });
  const order = new Random(settings.seed, 1).permutation(64), data = new DeviceDataset(train);
  const given = parameters.map(({ shape }, i) => input(`g${i}`, shape));
  using step = await Plan.compile({ updates: sgd.updates(given) });
  const norm = net.modules().find((module) => module instanceof BatchNorm2d)!;
  const statistics = [norm.runningMean!, norm.runningVar!];
  let losses = 0;
  for (const [from, count] of [[0, 25], [25, 25], [50, 14]] as const) {
    const sums = parameters.map(({ size }) => new Float64Array(size));
    const means = statistics.map(({ size }) => new Float64Array(size));
    const before = await readVariables(statistics);
    for (let rank = 0; rank < 3; rank++) {
      statistics.forEach((variable, i) => setVariable(variable, before[i]!));
      const own = order.slice(from, from + count).filter((_, i) => i % 3 === rank);
      // Rank 2 has 4 of the 14 images of the last batch, and 8 of the others, in twos of 4.
      const half = own.length > 4 ? Math.ceil(own.length / 2) : own.length;
      for (const indices of [own.subarray(0, half), own.subarray(half)]) {
        if (indices.length === 0) continue;
        const size = indices.length;
        const { x, labels } = data.batch(input("indices", [size], "u32"), { resize: 28 });
        const { result, updates } = collectUpdates(() => net.call(x));
        const loss = crossEntropy(result, labels);
        using plan = await Plan.compile({ outputs: [loss, ...grad(loss, parameters)], updates });
        plan.run({ indices: indices.slice() });
        const [value, ...grads] = await plan.read();
        grads.forEach((g, i) => g.forEach((v, k) => sums[i]![k]! += v * size / count));
        losses += value![0]! * size / count;
      }
      const after = await readVariables(statistics);
      after.forEach((x, i) => x.forEach((v, k) => means[i]![k]! += v * own.length / count));
    }
    statistics.forEach((variable, i) => setVariable(variable, Float32Array.from(means[i]!)));
    const feeds = sums.map((values, i) => [`g${i}`, Float32Array.from(values)]);
    step.run({ ...Object.fromEntries(feeds), ...sgd.nextStep() });
  }
  assert(Math.abs(found.history[0]!.loss / (losses / 3) - 1) < 1e-5);
  for (const [key, { data }] of await net.stateDict()) {
    // The bias' gradient is zero but for rounding; the counter was tampered with above.
    if (key === "0.bias" || key.endsWith("tracked")) continue;
    const wrong = off(found.model.get(key)!.data, data);
    assert(wrong < 1e-4, `${key} is off by ${wrong}`);
  }
  assertEquals(found.model.get("1.num_batches_tracked")!.data[0], 6, "micro-batches of rank 0");
});

Deno.test("a process alone, and one of one rank, train as if there were no ranks", async () => {
  using device = await Device.request();
  const pipelines: string[] = [];
  const { createShaderModule } = device.gpu;
  device.gpu.createShaderModule = (descriptor) => {
    pipelines.push(descriptor.code);
    return createShaderModule.call(device.gpu, descriptor);
  };
  const alone = await trained({}, { make: tinyNet, device });
  const made = pipelines.length;
  assert(made > 10, `${made} kernels`);
  const never = () => Promise.reject(new Error("it has nobody to talk to"));
  const calls = { allReduce: never, broadcast: never, allGather: never, allToAll: never };
  const collective = { rank: 0, size: 1, ...calls };
  assertEquals(await trained({}, { make: tinyNet, device, collective }), alone);
  assertEquals(alone.traffic, undefined);
  assertEquals(pipelines.length, made, "no other kernel");
});

Deno.test("ranks stop after the same step, whichever of them is told to, and go on to the same bits", async (t) => {
  const more = { epochs: 3, augment: "flip" }, options = { make: tinyNet };
  const { traffic: _, moved: __, ...end } = await trainedOn(3, more, options);

  await t.step("in an epoch", async () => {
    const checkpoints = await together(3, async (collective) => {
      using trainer = await trainerOf(more, { ...options, collective });
      const abort = new AbortController();
      // Only rank 2 is told, while it is in its fifth step.
      let sums = 0;
      const { allReduce } = collective;
      collective.allReduce = (values) => {
        if (collective.rank === 2 && ++sums === 6) abort.abort();
        return allReduce(values);
      };
      let complete = 0;
      while (await trainer.epoch({ signal: abort.signal })) complete++;
      assertEquals([complete, trainer.step, trainer.optimizer.steps], [1, 2, 5]);
      const checkpoint = await trainer.checkpoint();
      const resumed = await outcome(trainer);
      assertEquals(resumed, end, "the same trainers go on");
      return checkpoint;
    });
    const untimed = checkpoints.map(({ run, ...rest }) => {
      return { ...rest, run: { ...run, seconds: 0, history: [] } };
    });
    assertEquals(untimed[1], untimed[0]);
    assertEquals(untimed[2], untimed[0]);
    // Rank 0's file is all that there is, and other processes go on.
    const files = await encodeCheckpoint(checkpoints[0]!);
    await together(3, async (collective) => {
      using trainer = await trainerOf(more, { ...options, collective });
      const own = collective.rank === 0 ? await decodeCheckpoint(files, "run") : undefined;
      trainer.restore((await broadcastCheckpoint(collective, own))!);
      assertEquals(await outcome(trainer), end, "others go on");
    });
  });

  await t.step("before it begins, and in a test", async () => {
    await together(3, async (collective) => {
      using trainer = await trainerOf(more, { ...options, collective });
      const signal = collective.rank === 1 ? AbortSignal.abort() : new AbortController().signal;
      assertEquals(await trainer.epoch({ signal }), undefined);
      assertEquals(trainer.step, 0);
      const abort = new AbortController();
      const seen: string[] = [];
      const onProgress = ({ phase, step, steps }: Progress) => {
        seen.push(phase);
        if (collective.rank === 0 && phase === "test" && step < steps) abort.abort();
      };
      assertEquals(await trainer.epoch({ signal: abort.signal, onProgress }), undefined);
      assertEquals([trainer.step, trainer.history.length], [3, 0]);
      assert(seen.includes("train"));
      assertEquals(await outcome(trainer), end);
    });
  });
});

Deno.test("a run goes on with any number of ranks", async () => {
  const more = { optimizer: "sgd", lr: 0.05, augment: "flip,crop", epochs: 3 } as const;
  const whole = await trained(more);
  const stopped = async (trainer: Trainer) => {
    await trainer.epoch();
    let steps = 0;
    const abort = new AbortController(), { device } = trainer;
    // A step's sign, whatever the number of ranks: the learning rate is set in each.
    Object.defineProperty(trainer.optimizer, "lr", {
      set(lr: number) {
        for (const group of this.paramGroups) group.lr = lr;
        if (++steps === 2) abort.abort();
      },
      get: () => more.lr,
    });
    assertEquals(await trainer.epoch({ signal: abort.signal }), undefined);
    await device.finished();
    assertEquals(trainer.step, 2);
    return await trainer.checkpoint();
  };
  const checkpoints: Checkpoint[] = [];
  for (const ranks of [1, 2, 3]) {
    const [checkpoint] = await together(ranks, async (collective) => {
      using trainer = await trainerOf(more, { collective });
      return await stopped(trainer);
    });
    checkpoints.push(checkpoint!);
  }
  for (const [i, checkpoint] of checkpoints.entries()) {
    for (const ranks of [1, 2, 4]) {
      const [end] = await together(ranks, async (collective) => {
        using trainer = await trainerOf(more, { collective });
        trainer.restore(checkpoint);
        return await outcome(trainer);
      });
      for (const [key, { data }] of end!.model) {
        const wrong = off(data, whole.model.get(key)!.data);
        assert(wrong < 1e-4, `from ${i + 1} to ${ranks} ranks, ${key} is off by ${wrong}`);
      }
      assertEquals(
        end!.history.map(({ trainAccuracy }) => trainAccuracy),
        whole.history.map(({ trainAccuracy }) => trainAccuracy),
      );
    }
  }
});

Deno.test("images are tested once each, whatever the number of ranks", async () => {
  const predictions = async (trainer: Trainer) => {
    let found: Predictions | undefined;
    const onTested = (predictions: Predictions) => void (found = predictions);
    const result = await trainer.epoch({ onTested });
    return { found: found!, accuracy: result!.testAccuracy };
  };
  const few = (count: number) => ({
    ...test,
    ...{ count, images: test.images.slice(0, 784 * count), labels: test.labels.slice(0, count) },
  });
  for (const tested of [test, few(7), few(2)]) {
    const more = { optimizer: "sgd", lr: 0.05, momentum: 0 } as const;
    using alone = await trainerOf(more, { tested });
    const expected = await predictions(alone);
    for (const ranks of [2, 3, 7]) {
      const found = await together(ranks, async (collective) => {
        using trainer = await trainerOf(more, { tested, collective });
        return await predictions(trainer);
      });
      for (const { found: { predicted, probability }, accuracy } of found) {
        assertEquals(predicted, expected.found.predicted);
        assertEquals(accuracy, expected.accuracy);
        assert(off(probability, expected.found.probability) < 1e-4);
        const right = Array.from(predicted).filter((label, i) => label === tested.labels[i]).length;
        assertEquals(accuracy, right / tested.count);
      }
    }
  }
});

Deno.test("ranks that do not have the same are named, with what they differ in", async (t) => {
  /** What all of three ranks are told where one of them has something else. */
  const told = async (
    rank: number,
    changed: (collective: Collective) => Promise<unknown>,
    usual: (collective: Collective) => Promise<unknown> = (collective) =>
      trainerOf({}, { collective }),
  ) => {
    const messages = await together(3, async (collective) => {
      const body = collective.rank === rank ? changed : usual;
      const error = await assertRejects(() => body(collective), RankError);
      return error.message;
    });
    assertEquals(new Set(messages).size, 1);
    return messages[0]!;
  };
  await t.step("settings", async () => {
    const changed = { lr: 0.01, augment: "flip" };
    assertEquals(
      await told(2, (collective) => trainerOf(changed, { collective })),
      "Trainer.create: the ranks must not differ, but rank 2 has learning rate 0.01, not 0.001; " +
        "augmentation flip, not none",
    );
  });
  await t.step("data, also of rank 0, also where a function reads them", async () => {
    const images = train.images.slice();
    images[5]! ^= 1;
    const said = "rank 0 has other images to train on";
    const data = { ...train, images };
    assertMatch(
      await told(0, (collective) => trainerOf({}, { data, collective })),
      new RegExp(`${said}$`),
    );
    const read = (from: ImageDataset): ImageDataset => ({
      ...from,
      images: (indices) => {
        const bytes = [...indices].flatMap((i) => [
          ...(from.images as Uint8Array).subarray(784 * i, 784 * i + 784),
        ]);
        return Promise.resolve(Uint8Array.from(bytes));
      },
    });
    assertMatch(
      await told(
        0,
        (collective) => trainerOf({}, { data: read(data), collective }),
        (collective) => trainerOf({}, { data: read(train), collective }),
      ),
      new RegExp(`${said}$`),
    );
    const labels = test.labels.slice();
    labels[3] = (labels[3]! + 1) % 10;
    assertMatch(
      await told(1, (collective) => trainerOf({}, { tested: { ...test, labels }, collective })),
      /rank 1 has other images to test with$/,
    );
  });
  await t.step("weights, and the adapter", async () => {
    const make = () => {
      const net = plainNet();
      const [weight] = net.parameters();
      setVariable(weight!, new Float32Array(weight!.size));
      return net;
    };
    assertMatch(
      await told(1, (collective) => trainerOf({}, { make, collective })),
      /rank 1 has other weights$/,
    );
    using device = await Device.request();
    const { description } = device;
    Object.defineProperty(device, "description", { value: "another GPU" });
    assertEquals(
      await told(1, (collective) => trainerOf({}, { device, collective })),
      "Trainer.create: the ranks must not differ, but rank 1 has adapter another GPU, not " +
        description,
    );
  });
  await t.step("and what has become of weights and optimizer since", async () => {
    const between = (change: (trainer: Trainer) => void, epochs = 1) => (collective: Collective) =>
      trainerOf({ epochs: 3 }, { collective }).then(async (trainer) => {
        using _ = trainer;
        for (let i = 0; i < epochs; i++) await trainer.epoch();
        change(trainer);
        await trainer.epoch();
      });
    const nothing = between(() => {});
    const parameter = ({ net }: Trainer) => setVariable(net.parameters()[1]!, new Float32Array(8));
    assertMatch(
      await told(2, between(parameter), nothing),
      /^Trainer.epoch: the ranks .* rank 2 has other weights$/,
    );
    const square = ({ optimizer: { state } }: Trainer) =>
      setVariable(state.get("exp_avg_sq")![1]!, new Float32Array(8).fill(1));
    assertMatch(
      await told(1, between(square, 0), between(() => {}, 0)),
      /rank 1 has other weights$/,
    );
    const steps = ({ optimizer }: Trainer) => void (optimizer.steps = 7);
    assertMatch(await told(0, between(steps), nothing), /rank 0 has steps 7, not 3$/);
  });
});

Deno.test("a batch that ranks cannot share is refused", async () => {
  const refused = (
    ranks: number,
    more: Partial<TrainConfig>,
    kind: new (...args: never[]) => Error,
    message: string,
    data = train,
  ) =>
    assertRejects(
      () =>
        together(ranks, async (collective) => {
          using trainer = await trainerOf(more, { collective, make: oneNet, data });
          await trainer.prepare();
        }),
      kind as typeof Error,
      message,
    );
  /** A batch norm over images alone, which one of them is not enough for. */
  const oneNet = () =>
    new Sequential(new GlobalAvgPool2d(), new BatchNorm2d(1), new Flatten(), new Linear(1, 10));
  const few = "the batch size must be at least the number of ranks, 3, got 2";
  await refused(3, { batchSize: 2 }, ConfigError, few);
  // 64 = 25 + 25 + 14, of which 8 ranks have 1 or 2.
  const one =
    "of 64 images in batches of 25, shared by 8 ranks, one has one image of the last batch: ";
  await refused(8, {}, SingleImageError, one);
  const three = {
    ...train,
    ...{ count: 3, images: train.images.slice(0, 784 * 3), labels: train.labels.slice(0, 3) },
  };
  const fewer = "there must be at least as many images to train on as ranks, 4, got 3";
  await refused(4, {}, ConfigError, fewer, three);
});

Deno.test("what ranks tell each other is counted, and less where it is compressed", async () => {
  // 12 × 25 × 10 + 10, 8 × 9 × 12 + 12, 8 × 25 + 8, each padded to 64 elements.
  const elements = 3008 + 64 + 896 + 64 + 256 + 64;
  const options = { epochs: 1, optimizer: "sgd", momentum: 0 } as const;
  const steps = 3, tests = 2;
  for (const ranks of [2, 4]) {
    const sent: number[] = [];
    for (const compress of ["none", "f16"] as const) {
      let calls = 0, text = 0;
      const watched = ({ allGather, ...rest }: Collective): Collective => ({
        ...rest,
        allGather: (send, receive) => {
          // Two calls of each rank are before there is a trainer; then come a count of micro-batches, a
          // length and a text.
          if (rest.rank === 0 && ++calls === 5) text = send.length;
          return allGather(send, receive);
        },
      });
      const [first] = await together(
        ranks,
        (collective) => trained({ ...options, compress }, { collective: watched(collective) }),
      );
      const traffic = first!.traffic!, half = compress === "f16";
      assertEquals(traffic.steps, steps);
      // A count, a text, wishes to stop before the epoch and each batch of tests, results; sums and
      // numbers.
      assertEquals(traffic.messages, 1 + 2 + 1 + tests + 1 + steps * (half ? 3 : 2));
      const gathered = 4 + 4 + text + 1 + tests + steps * 4 * 4;
      const results = 2 * 4 * (1 + 2 * test.count) / ranks;
      const wire = traffic.bytes - (ranks - 1) * (gathered + results);
      // Of gradients, or of 16-bit floats and two exponents.
      const each = (half ? 2 : 4) * elements / ranks + (half ? 4 : 0);
      const wanted = steps * 2 * (ranks - 1) * each;
      assert(Math.abs(wire - wanted) < 9, `${ranks} ranks, ${compress}: ${wire}, not ${wanted}`);
      assert(traffic.waits > 0 && traffic.waits <= 2 * steps, `${traffic.waits} waits`);
      assert(traffic.waited >= 0);
      sent.push(wire);
    }
    assert(sent[1]! < 0.51 * sent[0]!);
  }
  const travelled = await inSmallBuckets(() => trainedOn(2, options));
  // The last layer's weight, and the two of the others.
  assert(travelled.traffic!.messages > steps * 3);
});

Deno.test("sums of 16-bit floats are as exact as these, and keep what is not finite", async () => {
  const random = new Random(5), size = 3, length = 1001;
  /** Gradients of very different sizes, as they are in a bucket. */
  const parts = Array.from({ length: size }, () =>
    Float32Array.from(
      random.uniform(new Float32Array(length), -1, 1),
      (x, i) => x * 10 ** -(i % 7),
    ));
  const sums = async (given: readonly Float32Array<ArrayBuffer>[]) => {
    const [first, ...others] = await together(given.length, async (collective) => {
      const half = new HalfSums(collective, given[0]!.length),
        own = given[collective.rank]!.slice();
      // What was there before does not matter.
      await half.allReduce(own.slice().reverse());
      await half.allReduce(own);
      return own;
    });
    others.forEach((other) => assertEquals(other, first));
    return first!;
  };
  let worst = 0;
  (await sums(parts)).forEach((sum, i) => {
    const values = parts.map((part) => part[i]!), exact = values.reduce((a, b) => a + b);
    const most = values.reduce((a, b) => a + Math.abs(b), Math.abs(exact));
    worst = Math.max(worst, Math.abs(sum - exact) / most);
  });
  console.log(
    `16-bit sums are off by ${worst.toExponential(1)} of the sum of what they are made of`,
  );
  assert(worst < 2 ** -11, `${worst}`);
  // PyTorch's fp16_compress_hook would make zeros of these.
  const tiny = parts.map((part) => part.map((x, i) => x * 10 ** (i % 7) * 1e-12));
  const found = await sums(tiny);
  const exact = found.map((_, i) => tiny.reduce((sum, part) => sum + part[i]!, 0));
  assert(off(found, exact) < 1e-3);
  assertEquals(await sums(parts.map((part) => part.fill(0))), new Float32Array(length));
  const broken = [
    Float32Array.of(1, NaN, Infinity, -Infinity, 3e38, 0),
    new Float32Array(6).fill(1),
  ];
  // The last two are another rank's: what is so small beside another one is lost.
  const [one, nan, plus, minus, large, lost] = await sums(broken);
  assertEquals([one, nan, plus, minus, lost], [2, NaN, Infinity, -Infinity, 0]);
  assert(Math.abs(large! / 3e38 - 1) < 1e-3);
});

Deno.test("what rank 0 has, all get: bytes, checkpoints, data sets; and texts of all", async () => {
  using trainer = await trainerOf({});
  const checkpoint = await trainer.checkpoint();
  const wide: ImageDataset = {
    ...{ count: 300, height: 2, width: 1, channels: 3, classes: ["a", "é", "c"] },
    labels: Uint16Array.from({ length: 300 }, (_, i) => i % 3),
    images: (indices) =>
      Promise.resolve(Uint8Array.from([...indices].flatMap((i) => [i, i >> 8, 2, 3, 4, 5]))),
  };
  const found = await together(3, async (collective) => {
    const first = collective.rank === 0;
    const given = first ? [Uint8Array.of(1, 2, 3), checkpoint, train, wide] as const : [];
    return {
      bytes: await broadcastBytes(collective, given[0]),
      none: await broadcastCheckpoint(collective, undefined),
      checkpoint: await broadcastCheckpoint(collective, given[1]),
      texts: await gatherTexts(collective, ["", "ü and more", "b"][collective.rank]!),
      data: await broadcastDataset(collective, given[2]),
      wide: await broadcastDataset(collective, given[3]),
    };
  });
  const { images, labels, count, height, width, classes } = train;
  for (const [rank, own] of found.entries()) {
    assertEquals(own.bytes, Uint8Array.of(1, 2, 3));
    assertEquals(own.none, undefined);
    assertEquals(own.checkpoint, checkpoint);
    assertEquals(own.texts, ["", "ü and more", "b"]);
    if (rank === 0) continue;
    assertEquals(own.data, {
      images,
      labels,
      count,
      height,
      width,
      channels: 1,
      classes: [...classes],
    });
    assertEquals(own.wide.labels, wide.labels);
    assertEquals(own.wide.classes, wide.classes);
    assertEquals([...(own.wide.images as Uint8Array).slice(1794)], [43, 1, 2, 3, 4, 5]);
  }
});

Deno.test("a bucket travels while the next part of the backward pass is computed", async () => {
  using device = await Device.request();
  const events: string[] = [], steps: string[] = [];
  using _ = onSubmit(device.gpu, () => events.push("submit"));
  const collective: Collective = {
    ...twin,
    allReduce: (values) => {
      events.push(`sum of ${values.length}`);
      return twin.allReduce(values);
    },
    allGather: (send, receive) => {
      // After the wish to stop before the epoch comes its only step, which ends with its numbers.
      if (send.length === 16) steps.push(events.join(", "));
      events.length = 0;
      return twin.allGather(send, receive);
    },
  };
  await inSmallBuckets(async () => {
    using trainer = await trainerOf({ batchSize: 64, epochs: 1 }, { device, collective });
    await trainer.epoch();
    // The last part is submitted after the first bucket has left, and before the second one does.
    assertEquals(steps, ["submit, submit, sum of 3072, submit, sum of 960, sum of 320"]);
  });
});

Deno.test("others may use the device, also in the middle of a step", async () => {
  const options = { make: tinyNet }, more = { epochs: 2 };
  const { traffic: _, moved: __, ...end } = await trainedOn(2, more, options);
  await inSmallBuckets(() =>
    together(2, async (given) => {
      let used = 0;
      const x = Float32Array.from({ length: 4096 }, (_, i) => i);
      const collective: Collective = {
        ...given,
        // A part of the backward pass has been submitted, and the next one has not, or just so.
        async allReduce(values) {
          const a = input("x", [4096]);
          assertEquals(await evaluate(add(add(a, a), 1), { x }), x.map((v) => 2 * v + 1));
          used++;
          await given.allReduce(values);
        },
      };
      using trainer = await trainerOf(more, { ...options, collective });
      assertEquals(await outcome(trainer), end);
      assert(used > 6);
    })
  );
});

Deno.test("steps of ranks take no memory, and all of it is freed with the trainer", async () => {
  using device = await Device.request();
  using live = new LiveBuffers();
  for (const when of ["between epochs", "in a step", "while it prepares"]) {
    await inSmallBuckets(() =>
      together(2, async (given) => {
        let disposing = false;
        const collective: Collective = {
          ...given,
          // All ranks, at the same time, as none may miss a message.
          allReduce(values) {
            if (disposing) trainer[Symbol.dispose]();
            return given.allReduce(values);
          },
        };
        const trainer = await trainerOf({ epochs: 4 }, { collective, device });
        if (when !== "while it prepares") {
          await trainer.epoch();
          // What is read back has buffers of its own, which another rank may have just now.
          const kept = () =>
            live.names.filter((name) => !name.startsWith("what is read")).toSorted();
          const before = kept();
          await trainer.epoch();
          assertEquals(kept(), before);
        }
        await given.allReduce(new Float32Array(1));
        disposing = when === "in a step";
        const running = trainer.epoch();
        if (!disposing) trainer[Symbol.dispose]();
        await assertRejects(() => running, Error, "disposed of");
      })
    );
    // The net stays, whose parameters are in one pack.
    const left = live.names.filter((name) => !/^Tensor variable \[4352\]/.test(name));
    assertEquals(left, [], when);
  }
});

Deno.test("a loss that is not finite, on whichever rank, ends all of them with the same step", async () => {
  // Image 40 of the order, of rank 0, is the only one with a label that its logit makes infinite.
  const order = new Random(settings.seed, 1).permutation(64), bad = order[40]!;
  const images = new Uint8Array(784 * 64);
  images.fill(255, 784 * bad, 784 * bad + 784);
  const make = () => {
    const net = new Sequential(new Flatten(), new Linear(784, 10));
    setVariable(net.parameters()[0]!, new Float32Array(7840).fill(3e38));
    return net;
  };
  await together(3, async (collective) => {
    const more = { lr: 1e-30, optimizer: "sgd" } as const;
    using trainer = await trainerOf(more, { data: { ...train, images }, make, collective });
    const message = "the loss of step 2 of epoch 1 is not finite";
    await assertRejects(() => trainer.epoch(), NonFiniteError, message);
    assertEquals(trainer.optimizer.steps, 1);
  });
});

Deno.test("what ranks compute on the way is counted with the device's memory", async () => {
  using device = await Device.request();
  await together(2, async (collective) => {
    using trainer = await trainerOf({}, { collective, device });
    assertEquals(trainer.workspaceBytes, 0);
    await trainer.prepare();
    assert(trainer.workspaceBytes > 1000, `${trainer.workspaceBytes}`);
    assertEquals(device.workspace.length, 0);
    await collective.allReduce(new Float32Array(1));
  });
});

Deno.test("ranks whose shares do not fit cut them alike, and as a run that goes on does", async () => {
  // The first layer gives 64 × 24 × 24 values for an image; 6 fit. The shares are 13 and 12 images.
  using device = await Device.request();
  const maxBindingBytes = 6 * 4 * 64 * 24 ** 2;
  Object.defineProperty(device, "target", { value: { ...device.target, maxBindingBytes } });
  const make = () =>
    new Sequential(
      new Conv2d(1, 64, { kernelSize: 7, stride: 2, padding: 3 }),
      new BatchNorm2d(64),
      new GlobalAvgPool2d(),
      new Flatten(),
      new Linear(64, 10),
    );
  const more = { resize: 48 }, options = { make, device };
  const { traffic: _, moved: __, ...end } = await trainedOn(2, more, options);
  assertEquals(end.config.accumulate, 3);
  await together(2, async (given) => {
    const stop = stopping(given);
    using trainer = await trainerOf(more, { ...options, collective: stop.collective });
    await makeStep(trainer, stop);
    const checkpoint = await trainer.checkpoint();
    assertEquals(checkpoint.run.config.accumulate, 3);
    using resumed = await trainerOf({ ...more, accumulate: 3 }, { ...options, collective: given });
    resumed.restore(checkpoint);
    assertEquals(await outcome(resumed), end);
  });
});

Deno.test("a checkpoint of a rank that trains is that of a whole step", async () => {
  const make = () => new Sequential(new Dropout(0.2), tinyNet()), more = { accumulate: 2 };
  const { traffic: _, moved: __, ...end } = await trainedOn(2, more, { make });
  assertEquals(end.optimizer.get("buffer.0.draws")!.data[0], 12, "two in each step, of rank 0");
  const taken = new Map<number, Checkpoint>();
  await together(2, async (collective) => {
    using trainer = await trainerOf(more, { make, collective });
    const running = outcome(trainer);
    let ended = false;
    void running.then(() => ended = true);
    // Only rank 0 asks.
    while (!ended && collective.rank === 0) {
      const checkpoint = await trainer.checkpoint(), { step, steps } = checkpoint.run;
      assertEquals(checkpoint.optimizer.get("buffer.0.draws")!.data[0], 2 * steps);
      if (step > 0 && step < 3) taken.set(steps, checkpoint);
    }
    assertEquals(await running, end);
  });
  assert(taken.size > 0, "none was taken within an epoch");
  for (const [steps, checkpoint] of taken) {
    await together(2, async (collective) => {
      using resumed = await trainerOf(more, { make, collective });
      resumed.restore(checkpoint);
      assertEquals(await outcome(resumed), end, `from step ${steps}`);
    });
  }
});
