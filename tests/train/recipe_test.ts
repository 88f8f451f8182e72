/** What a run's settings come to, against PyTorch: learning rates, optimizers, crops and flips. */

import { assert, assertEquals, assertInstanceOf, assertNotEquals } from "@std/assert";
import { Adam, AdamW, type Optimizer, SGD, Variable } from "@resnette/resnette";
import { learningRate, type TrainConfig, trainConfig } from "@resnette/resnette/train";
import { drawAugmentation, makeOptimizer } from "../../lib/train/recipe.ts";
import { readFixture } from "../fixture.ts";

Deno.test("the learning rate of every step of a run is PyTorch's", async (t) => {
  const { metadata } = await readFixture("optim.safetensors");
  const runs: { config: Partial<TrainConfig>; stepsPerEpoch: number; lrs: number[] }[] = JSON.parse(
    metadata["schedules"]!,
  );
  assert(runs.length >= 10, `only ${runs.length} runs`);
  for (const { config, stepsPerEpoch, lrs } of runs) {
    await t.step(`${JSON.stringify(config)}, ${stepsPerEpoch} steps per epoch`, () => {
      assertEquals(lrs.length, config.epochs! * stepsPerEpoch);
      lrs.forEach((lr, step) => {
        const found = learningRate(trainConfig(config), step, stepsPerEpoch);
        assert(Math.abs(found / lr - 1) < 1e-12, `step ${step}: ${found}, not ${lr}`);
      });
    });
  }
});

Deno.test("the learning rate's last bits are those of the formulas that runs until now used", () => {
  const { PI, cos, floor, max } = Math;
  for (const schedule of ["constant", "cosine", "step"] as const) {
    for (const [lr, warmup] of [[0.1, 0], [1e-3, 5], [0.3, 7], [7e-4, 40]] as const) {
      const config = trainConfig({ lr, schedule, warmup, epochs: 3, stepSize: 1, gamma: 0.3 });
      for (let step = 0; step < 33; step++) {
        const done = step - warmup;
        const after = {
          constant: lr,
          cosine: lr * cos(PI / 2 * done / max(1, 33 - warmup)) ** 2,
          step: lr * 0.3 ** floor(done / 11),
        }[schedule];
        const expected = step < warmup ? lr * (step + 1) / (warmup + 1) : after;
        assertEquals(learningRate(config, step, 11), expected);
      }
    }
  }
});

Deno.test("by default the learning rate is the given one to the last bit, in every step", () => {
  const config = trainConfig({ lr: 0.1 });
  for (const step of [0, 1, 468, 2344]) assertEquals(learningRate(config, step, 469), 0.1);
});

Deno.test("the optimizer is the one that is named, with its own weight decay unless one is given", () => {
  const make = (given: Partial<TrainConfig>) =>
    makeOptimizer(trainConfig(given), [new Variable([4])]);
  const decay = (optimizer: Optimizer) => (optimizer as Adam | SGD).paramGroups[0]!.weightDecay;
  const adam = make({});
  assertInstanceOf(adam, Adam);
  assert(!(adam instanceof AdamW));
  const { params: _, ...settings } = adam.paramGroups[0]!;
  const own = { lr: 1e-3, betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 0 };
  assertEquals(settings, { ...own, amsgrad: false, maximize: false });
  assertEquals(decay(make({ weightDecay: 0.5 })), 0.5);
  const adamw = make({ optimizer: "adamw", lr: 0.25 });
  assertInstanceOf(adamw, AdamW);
  assertEquals([adamw.lr, decay(adamw)], [0.25, 0.01]);
  assertEquals(decay(make({ optimizer: "adamw", weightDecay: 0 })), 0);
  const sgd = make({ optimizer: "sgd", weightDecay: 5e-4 });
  assertInstanceOf(sgd, SGD);
  assertEquals([sgd.paramGroups[0]!.momentum, decay(sgd)], [0.9, 5e-4]);
  const plain = make({ optimizer: "sgd", momentum: 0 }) as SGD;
  assertEquals([plain.paramGroups[0]!.momentum, decay(plain)], [0, 0]);
});

/** Sizes of Fashion-MNIST's images. */
const SIDES = { height: 28, width: 28 };

Deno.test("crops and flips are those that numpy draws, in whatever parts they are drawn", async () => {
  const { tensors, metadata } = await readFixture("ops.safetensors");
  const cases: { name: string; attrs: { epoch?: number } }[] = JSON.parse(metadata["cases"]!);
  const { attrs } = cases.find(({ name }) => name === "crop_flip_fashion")!;
  const { data, shape } = tensors.get("crop_flip_fashion/x1")!;
  const config = trainConfig({ seed: 20240, augment: "flip,crop" });
  const draw = (given: TrainConfig, first: number, count: number, epoch = attrs.epoch!) =>
    drawAugmentation(given, epoch, first, count, SIDES)["augment"] as Uint32Array;
  assertEquals([...draw(config, 0, shape[0]!)], [...data]);
  assertEquals([...draw(config, 0, 7), ...draw(config, 7, shape[0]! - 7)], [...data]);
  assertNotEquals([...draw(config, 0, shape[0]!, attrs.epoch! + 1)], [...data]);
  // One without the other draws the same.
  const only = (augment: "flip" | "crop") => [...draw({ ...config, augment }, 0, shape[0]!)];
  assertEquals(only("flip"), [...data].map((x, i) => i % 3 === 2 ? x : 4));
  assertEquals(only("crop"), [...data].map((x, i) => i % 3 === 2 ? 0 : x));
  assertEquals(drawAugmentation(trainConfig(), 1, 0, 8, SIDES), {});
});
