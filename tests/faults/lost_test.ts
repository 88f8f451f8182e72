/**
 * A device that is lost, at any moment: everything that waits for it gets an error, a new request another,
 * and a run goes on there from its checkpoint to the same bits.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  defaultDevice,
  Device,
  DeviceError,
  evaluate,
  input,
  neg,
  Plan,
  readVariables,
  setVariable,
  SGD,
  tensor,
  Variable,
} from "@resnette/resnette";
import {
  type Checkpoint,
  decodeCheckpoint,
  encodeCheckpoint,
  evaluateAccuracy,
  trainConfig,
  Trainer,
} from "@resnette/resnette/train";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import { timings } from "../../lib/measure/timing.ts";
import { inFolder } from "../folder.ts";
import { draws, report, rounds } from "../soak.ts";
import { tinyNet } from "../tiny_train.ts";
import { onSubmit } from "./gpu.ts";
import { assertSameEnd, namesIn, SETTINGS, train, trainWhole } from "./training.ts";

const LOST =
  /^the device was lost \(\w+: .*\), and with it all that was on it; request another one/;

/** Asserts that something ends, and with the error of a lost device. */
async function assertLost(what: string, body: () => unknown): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`${what}: no answer in 20 sec`)), 20_000);
  try {
    const error = await assertRejects(() =>
      Promise.race([(async () => await body())(), late.promise])
    );
    assert(error instanceof DeviceError, `${what}: ${error}`);
    assertMatch(error.message, LOST, what);
  } finally {
    clearTimeout(timer);
  }
}

const ones = new Float32Array(100_000).fill(1);
const planOn = (device: Device) =>
  Plan.compile({ outputs: [neg(input("x", [ones.length]))], device });

Deno.test("whoever waits for a device that is lost is told so, whatever the moment", async () => {
  const data = await loadFashionMnist("data/fashion-mnist", "test", { limit: 20 });
  const moments: Record<string, (device: Device, plan: Plan) => unknown> = {
    "while results are read": (device, plan) => {
      plan.run({ x: ones });
      const read = plan.read();
      device.gpu.destroy();
      return read;
    },
    "before they are read": (device, plan) => {
      plan.run({ x: ones });
      device.gpu.destroy();
      return plan.read();
    },
    "between runs": (device, plan) => {
      device.gpu.destroy();
      plan.run({ x: ones });
      return plan.read();
    },
    "while a plan is compiled": async (device) => {
      const compiled = planOn(device);
      device.gpu.destroy();
      const plan = await compiled;
      plan.run({ x: ones });
      return await plan.read();
    },
    "while something is evaluated": (device) => {
      const found = evaluate(neg(tensor(ones)), {}, device);
      device.gpu.destroy();
      return found;
    },
    "while a network is tested": (device) => {
      onSubmit(device.gpu, () => device.gpu.destroy());
      return evaluateAccuracy(tinyNet(), data, { batchSize: 10, resize: 28, device });
    },
    "while work is timed": (device, plan) => {
      const timed = timings(device, () => plan.run({ x: ones }));
      device.gpu.destroy();
      return timed;
    },
    "when it never answers": (device, plan) => {
      device.gpu.queue.onSubmittedWorkDone = () => new Promise<undefined>(() => {});
      const finished = plan.finished();
      device.gpu.destroy();
      return finished;
    },
    "when it never gives what is read": async (device, plan) => {
      const { mapAsync } = GPUBuffer.prototype;
      GPUBuffer.prototype.mapAsync = () => {
        device.gpu.destroy();
        return new Promise<undefined>(() => {});
      };
      plan.run({ x: ones });
      try {
        return await plan.read();
      } finally {
        GPUBuffer.prototype.mapAsync = mapAsync;
      }
    },
    "when it was disposed of": (device, plan) => {
      device[Symbol.dispose]();
      plan.run({ x: ones });
    },
  };
  for (const [what, lose] of Object.entries(moments)) {
    const device = await Device.request();
    const plan = await planOn(device);
    await assertLost(what, () => lose(device, plan));
    await assertLost(`${what}, then compiled`, () => planOn(device));
    await assertLost(`${what}, then run`, () => plan.run({ x: ones }));
    await assertLost(`${what}, then read`, () => plan.read());
    await assertLost(`${what}, then waited for`, () => plan.finished());
    plan[Symbol.dispose]();
    device[Symbol.dispose]();
  }
});

Deno.test("variables on a lost device say so, on any device", async () => {
  const device = await Device.request();
  const v = new Variable([2], new Float32Array([1, 2])), y = neg(v);
  assertEquals([...await evaluate(y, {}, device)], [-1, -2]);
  device.gpu.destroy();
  await device.gpu.lost;
  await assertLost("read", () => readVariables([v]));
  await assertLost("set", () => setVariable(v, new Float32Array(2)));
  await assertLost("used elsewhere", () => evaluate(y));
  const updates = new SGD([v]).updates([tensor([1, 1])]);
  await assertLost("trained elsewhere", () => Plan.compile({ updates }));
});

Deno.test("the default device is another one after a loss, and the same for all", async () => {
  const first = await defaultDevice();
  assertEquals(await defaultDevice(), first);
  first.gpu.destroy();
  await first.gpu.lost;
  const [second, third] = await Promise.all([defaultDevice(), defaultDevice()]);
  assert(second !== first && second === third);
  assertEquals([...await evaluate(neg(tensor([1, 2])))], [-1, -2]);
});

/** Four steps an epoch and two in tests. */
const config = trainConfig({
  model: "tiny",
  batchSize: 24,
  resize: 28,
  epochs: 3,
  lr: 0.03,
  seed: 4,
});

Deno.test("a run whose device is lost at any moment goes on from its checkpoint to the same bits", async () => {
  const [trainSet, testSet] = await Promise.all([
    loadFashionMnist("data/fashion-mnist", "train", { limit: 96 }),
    loadFashionMnist("data/fashion-mnist", "test", { limit: 40 }),
  ]);
  const start = (device: Device) =>
    Trainer.create({ config, train: trainSet, test: testSet, device });
  const outcome = ({ model, optimizer, run }: Checkpoint) => ({
    model: Object.fromEntries(model),
    optimizer: Object.fromEntries(optimizer),
    history: run.history.map((result) => ({ ...result, seconds: 0 })),
  });
  const save = async (trainer: Trainer) => await encodeCheckpoint(await trainer.checkpoint());

  let expected: unknown, submits = 0;
  {
    using device = await Device.request();
    using _ = onSubmit(device.gpu, (number) => submits = number);
    using trainer = await start(device);
    await save(trainer);
    while (!trainer.done) {
      await trainer.epoch();
      await save(trainer);
    }
    expected = outcome(await trainer.checkpoint());
  }

  const random = draws(2), places = new Map<string, number>();
  const losses = rounds(4, 60);
  let lost = 0;
  for (let i = 0; i < losses; i++) {
    let saved: Awaited<ReturnType<typeof save>> | undefined, done = false, doing = "";
    while (!done) {
      // Not disposed of: that is another way to lose it.
      const device = await Device.request();
      const at = 1 + random.below(submits);
      using _ = onSubmit(device.gpu, (number) => {
        if (number !== at) return;
        device.gpu.destroy();
        places.set(doing, (places.get(doing) ?? 0) + 1);
        lost++;
      });
      try {
        doing = "starting";
        using trainer = await start(device);
        if (saved) trainer.restore(await decodeCheckpoint(saved, "run"));
        else saved = await save(trainer);
        while (!trainer.done) {
          doing = "training";
          await trainer.epoch({ onProgress: ({ phase }) => void (doing = phase) });
          doing = "saving";
          saved = await save(trainer);
        }
        assertEquals(outcome(await trainer.checkpoint()), expected);
        done = true;
        device[Symbol.dispose]();
      } catch (error) {
        assert(error instanceof DeviceError, `${doing}: ${error}`);
        assertMatch(error.message, LOST);
      }
    }
  }
  assert(lost >= losses / 2, `${lost} losses in ${losses} runs`);
  const where = [...places].map(([doing, times]) => `${times} ${doing}`).join(", ");
  report(`${losses} runs lost their device ${lost} times (${where}), and ended with the same bits`);
});

Deno.test("deno task train says how to go on when its device is lost, and goes on to the same bits", () =>
  inFolder(async (folder) => {
    const words = `${SETTINGS} --epochs 2`, whole = `${folder}/whole`;
    let submits = 0;
    {
      const { gpu } = await defaultDevice();
      using _ = onSubmit(gpu, (number) => submits = number);
      await trainWhole(`${words} --out ${whole}`);
    }
    const random = draws(3), losses = rounds(2, 20);
    for (let i = 0; i < losses; i++) {
      const run = `${folder}/run-${i}`, at = 1 + random.below(submits);
      const { gpu } = await defaultDevice();
      using _ = onSubmit(gpu, (number) => number === at && gpu.destroy());
      const { code, err } = await train(`${words} --out ${run}`);
      const where = `lost before submit ${at} of ${submits}`;
      assertEquals(code, 1, where);
      assertMatch(err, /^error: the device was lost \(destroyed: .*; request another one/m, where);
      const saved = namesIn(`${run}/checkpoints`);
      const [, path, command] = err.match(/; to go on from (.+): deno task train (.*)$/m) ?? [];
      assertEquals(path, saved.length > 0 ? `${run}/checkpoints/${saved[0]}` : undefined, where);
      const on = await train(command ?? `${words} --out ${run}`);
      assertEquals(on.code, 0, `${where}: ${on.err}`);
      await assertSameEnd(run, whole, 2);
    }
    report(`deno task train lost its device ${losses} times, before one of ${submits} submits`);
  }));
