/** Each optimizer against PyTorch, step by step, on given gradients. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  Adam,
  AdamW,
  ArgumentError,
  input,
  Plan,
  readVariables,
  SGD,
  tensor,
  Variable,
} from "@resnette/resnette";
import { readFixture } from "../fixture.ts";
import { type OptimizerSettings, optionsOf } from "../golden.ts";

const OPTIMIZERS = { adam: Adam, adamw: AdamW, sgd: SGD };

interface Case {
  readonly name: string;
  readonly optimizer: keyof typeof OPTIMIZERS;
  readonly attrs: OptimizerSettings;
  /** The learning rate of each step, where it changes. */
  readonly lrs?: readonly number[];
}

Deno.test("the optimizers take PyTorch's steps", async (t) => {
  const { tensors, metadata } = await readFixture("optim.safetensors");
  const cases: Case[] = JSON.parse(metadata["cases"]!);
  assert(cases.length >= 14, `only ${cases.length} cases`);
  const values = (key: string) => tensors.get(key)!.data as Float32Array<ArrayBuffer>;
  for (const { name, optimizer, attrs, lrs } of cases) {
    await t.step(name, async () => {
      const parameters = [0, 1, 2].map((i) => {
        const { shape } = tensors.get(`p${i}`)!;
        return new Variable(shape, values(`p${i}`).slice());
      });
      const grads = parameters.map(({ shape }, i) => input(`g${i}`, shape));
      const rule = new OPTIMIZERS[optimizer](parameters, optionsOf(attrs));
      using plan = await Plan.compile({ updates: rule.updates(grads) });
      let step = 1;
      for (; tensors.has(`g${step}/0`); step++) {
        const given = parameters.map((_, i) => [`g${i}`, values(`g${step}/${i}`)] as const);
        rule.lr = lrs?.[step - 1] ?? rule.lr;
        plan.run({ ...Object.fromEntries(given), ...rule.nextStep() });
        const found = await readVariables(parameters);
        found.forEach((got, i) => {
          const expected = values(`${name}/${step}/${i}`);
          const off = Math.max(...got.map((v, k) => Math.abs(v - expected[k]!)));
          assert(off < 2e-6, `parameter ${i} is off by ${off} after step ${step}`);
        });
      }
      assert(step > 5, `only ${step - 1} steps`);
    });
  }
});

Deno.test("the learning rate may change between steps, without another plan", async () => {
  const w = new Variable([2], new Float32Array([1, 2]));
  const sgd = new SGD([w], { lr: 1 });
  using plan = await Plan.compile({ updates: sgd.updates([tensor([1, 10])]) });
  plan.run(sgd.nextStep());
  sgd.lr = 0.5;
  plan.run(sgd.nextStep());
  assertEquals([...(await readVariables([w]))[0]!], [-0.5, -13]);
  assertEquals(sgd.steps, 2);
  assertThrows(() => new SGD([w], { lr: -1 }), ArgumentError, "got -1");
  assertThrows(() => new Adam([w], { lr: NaN }), ArgumentError, "got NaN");
});

Deno.test("settings of 0 are settings too", async () => {
  const w = new Variable([2], new Float32Array([1, 2]));
  const adam = new Adam([w], { lr: 0.25, betas: [0, 0], eps: 0 });
  using plan = await Plan.compile({ updates: adam.updates([tensor([4, -0.01])]) });
  plan.run(adam.nextStep());
  const [found] = await readVariables([w]);
  assert(Math.abs(found![0]! - 0.75) < 1e-6 && Math.abs(found![1]! - 2.25) < 1e-6, `${found}`);
});

Deno.test("an optimizer's state has a part for each parameter, by PyTorch's names", async () => {
  const parameters = [new Variable([2, 3]), new Variable([4])];
  const adam = new Adam(parameters);
  assertEquals([...adam.state.keys()], ["exp_avg", "exp_avg_sq"]);
  const grads = [tensor([1, 2, 3, 4, 5, 6], [2, 3]), tensor([7, 8, 9, 10])];
  using plan = await Plan.compile({ updates: adam.updates(grads) });
  plan.run(adam.nextStep());
  const [a, b] = await readVariables(adam.state.get("exp_avg")!);
  assert(a!.every((v, i) => Math.abs(v - 0.1 * (i + 1)) < 1e-6), `${a}`);
  assert(b!.every((v, i) => Math.abs(v - 0.1 * (i + 7)) < 1e-6), `${b}`);
});
