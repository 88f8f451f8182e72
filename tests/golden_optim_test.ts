/** Each optimizer against PyTorch, step by step, on given gradients. */

import { assert } from "@std/assert";
import { Adam, AdamW, input, Plan, readVariables, SGD, Variable } from "@resnette/resnette";
import { readFixture } from "./fixture.ts";

const OPTIMIZERS = { adam: Adam, adamW: AdamW, sgd: SGD };

Deno.test("the optimizers take PyTorch's steps", async (t) => {
  const { tensors, metadata } = await readFixture("optim.safetensors");
  const cases: { name: string; optimizer: keyof typeof OPTIMIZERS; attrs: object }[] = JSON.parse(
    metadata["cases"]!,
  );
  assert(cases.length >= 5, `only ${cases.length} cases`);
  const values = (key: string) => tensors.get(key)!.data as Float32Array<ArrayBuffer>;
  for (const { name, optimizer, attrs } of cases) {
    await t.step(name, async () => {
      const parameters = [0, 1, 2].map((i) => {
        const { shape } = tensors.get(`p${i}`)!;
        return new Variable(shape, values(`p${i}`).slice());
      });
      const grads = parameters.map(({ shape }, i) => input(`g${i}`, shape));
      const rule = new OPTIMIZERS[optimizer](parameters, attrs);
      using plan = await Plan.compile({ updates: rule.updates(grads) });
      let step = 1;
      for (; tensors.has(`g${step}/0`); step++) {
        const given = parameters.map((_, i) => [`g${i}`, values(`g${step}/${i}`)] as const);
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
