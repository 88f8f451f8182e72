/** Each optimizer against PyTorch, step by step, on given gradients. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  Adam,
  AdamW,
  add,
  ArgumentError,
  clipGradNorm,
  clipGradValue,
  evaluate,
  grad,
  input,
  Plan,
  readVariables,
  RMSprop,
  setVariable,
  SGD,
  square,
  sum,
  tensor,
  Variable,
} from "@resnette/resnette";
import { readFixture } from "../fixture.ts";
import { type OptimizerSettings, optionsOf } from "../golden.ts";

const OPTIMIZERS = { adam: Adam, adamw: AdamW, rmsprop: RMSprop, sgd: SGD };

interface Case {
  readonly name: string;
  readonly optimizer: keyof typeof OPTIMIZERS;
  readonly attrs: OptimizerSettings;
  /** The learning rate of each step, where it changes. */
  readonly lrs?: readonly number[];
  /** What is set for each parameter by itself. */
  readonly groups?: readonly OptimizerSettings[];
}

Deno.test("the optimizers take PyTorch's steps", async (t) => {
  const { tensors, metadata } = await readFixture("optim.safetensors");
  const cases: Case[] = JSON.parse(metadata["cases"]!);
  assert(cases.length >= 29, `only ${cases.length} cases`);
  const values = (key: string) => tensors.get(key)!.data as Float32Array<ArrayBuffer>;
  for (const { name, optimizer, attrs, lrs, groups } of cases) {
    await t.step(name, async () => {
      const parameters = [0, 1, 2].map((i) => {
        const { shape } = tensors.get(`p${i}`)!;
        return new Variable(shape, values(`p${i}`).slice());
      });
      const grads = parameters.map(({ shape }, i) => input(`g${i}`, shape));
      const given = groups?.map((group, i) => ({ ...group, params: [parameters[i]!] }));
      const rule = new OPTIMIZERS[optimizer](given ?? parameters, optionsOf(attrs));
      using plan = await Plan.compile({ updates: rule.updates(grads) });
      let step = 1;
      for (; tensors.has(`g${step}/0`); step++) {
        const feeds = parameters.map((_, i) => [`g${i}`, values(`g${step}/${i}`)] as const);
        if (lrs) rule.lr = lrs[step - 1]!;
        plan.run({ ...Object.fromEntries(feeds), ...rule.nextStep() });
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

Deno.test("gradients are clipped as PyTorch does", async () => {
  const { tensors, metadata } = await readFixture("optim.safetensors");
  const clips: { name: string; kind: "norm" | "value"; most: number; norm?: number }[] = JSON.parse(
    metadata["clips"]!,
  );
  assertEquals(clips.map(({ name }) => name), ["clip_norm", "clip_norm_none", "clip_value"]);
  const given = [0, 1, 2].map((i) => {
    const { shape, data } = tensors.get(`g1/${i}`)!;
    return tensor(data, shape);
  });
  for (const { name, kind, most, norm } of clips) {
    const found = kind === "norm"
      ? clipGradNorm(given, most)
      : { grads: clipGradValue(given, most), norm: tensor(0) };
    const [total, ...grads] = await evaluate([found.norm, ...found.grads]);
    if (norm !== undefined) assert(Math.abs(total![0]! / norm - 1) < 1e-6, `${total}, not ${norm}`);
    grads.forEach((got, i) => {
      const { data, shape } = tensors.get(`${name}/${i}`)!;
      assertEquals(found.grads[i]!.shape, shape);
      const off = Math.max(...got.map((v, k) => Math.abs(v - data[k]!)));
      assert(off < 1e-6, `${name}: gradient ${i} is off by ${off}`);
    });
  }
  const many = clipGradNorm(Array.from({ length: 100 }, (_, i) => tensor(i % 2 ? 2 : -2)), 5);
  const [norm, last] = await evaluate([many.norm, many.grads[99]!]);
  assert(Math.abs(norm![0]! - 20) < 1e-5 && Math.abs(last![0]! - 0.5) < 1e-6, `${norm}, ${last}`);
  const none = clipGradNorm([], 1);
  assertEquals([none.grads, [...await evaluate(none.norm)]], [[], [0]]);
});

Deno.test("a group has its own settings, and its parameters their place in gradients and state", async () => {
  const [a, b, c] = [0, 1, 2].map(() => new Variable([1], [1]));
  const sgd = new SGD([{ params: [a!, b!] }, { params: [c!], lr: 0.5, momentum: 0.5 }], { lr: 1 });
  assertEquals(sgd.paramGroups.map(({ lr, momentum }) => [lr, momentum]), [[1, 0], [0.5, 0.5]]);
  using plan = await Plan.compile({ updates: sgd.updates([1, 2, 4].map((g) => tensor([g]))) });
  assertEquals(Object.keys(sgd.nextStep()).length, 2);
  plan.run(sgd.nextStep());
  assertEquals((await readVariables([a!, b!, c!])).map(([x]) => x), [0, -1, -1]);
  const state = await readVariables(sgd.state.get("momentum_buffer")!);
  assertEquals(state.map(([x]) => x), [1, 2, 4]);
  sgd.paramGroups[1]!.lr = 0;
  plan.run(sgd.nextStep());
  assertEquals((await readVariables([a!, b!, c!])).map(([x]) => x), [-1, -3, -1]);
  sgd.lr = 2;
  assertEquals(sgd.paramGroups.map(({ lr }) => lr), [2, 2]);
  const wrong = (groups: object[]) => () =>
    new SGD(groups as { params: Variable[] }[], { momentum: 0.5 });
  assertThrows(wrong([{ params: [a] }, { params: [a] }]), ArgumentError, "there twice");
  assertThrows(wrong([{ params: [a], lrs: 1 }]), ArgumentError, "SGD: parameters[0]: there is no");
  assertThrows(wrong([{ params: [a], nesterov: true, dampening: 1 }]), ArgumentError, "nesterov");
  assertThrows(wrong([{ params: [] }]), ArgumentError, "SGD: parameters[0]: no parameters");
  assertThrows(wrong([{ params: [a] }, {}]), ArgumentError, "SGD: parameters[1]: params");
  assertThrows(() => new SGD([a!], { nesterov: true }), ArgumentError, "nesterov wants a momentum");
});

Deno.test("several optimizers take their steps in one plan, each with its own numbers", async () => {
  const w = new Variable([], [4]), v = new Variable([], [2]);
  const one = new SGD([w], { lr: 0.25 }), two = new SGD([v], { lr: 0.125, maximize: true });
  const loss = add(square(w), square(v));
  using plan = await Plan.compile({
    outputs: [loss],
    updates: [...one.minimize(loss), ...two.minimize(loss)],
  });
  for (let k = 0; k < 2; k++) plan.run({ ...one.nextStep(), ...two.nextStep() });
  assertEquals((await readVariables([w, v])).map(([x]) => x), [1, 3.125]);
  assertEquals(await plan.read(), [new Float32Array([4 + 2.5 ** 2])]);
});

Deno.test("minimize is updates of grad", async () => {
  const steps = async (short: boolean) => {
    const parameters = [new Variable([2], [1, -2]), new Variable([], [3])];
    const adam = new Adam(parameters, { lr: 0.1 });
    const loss = sum(square(add(parameters[0]!, parameters[1]!)));
    const updates = short ? adam.minimize(loss) : adam.updates(grad(loss, parameters));
    using plan = await Plan.compile({ updates });
    for (let k = 0; k < 3; k++) plan.run(adam.nextStep());
    return await readVariables(parameters);
  };
  assertEquals(await steps(true), await steps(false));
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

Deno.test("SGD without a momentum forgets a gradient of NaN once the parameter is set again", async () => {
  const w = new Variable([1], [1]), sgd = new SGD([w], { lr: 0.5 });
  using plan = await Plan.compile({ updates: sgd.updates([input("g", [1])]) });
  plan.run({ g: Float32Array.of(NaN), ...sgd.nextStep() });
  assertEquals(await readVariables([w]), [Float32Array.of(NaN)]);
  setVariable(w, [1]);
  plan.run({ g: Float32Array.of(1), ...sgd.nextStep() });
  assertEquals(await readVariables([w]), [Float32Array.of(0.5)]);
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
