/** Tuning: names of problems, what counts as a choice, and the search. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import {
  conv2d,
  Device,
  DeviceError,
  evaluate,
  grad,
  matmul,
  Random,
  type Tensor,
  tensor,
} from "@resnette/resnette";
import { type Problem, tune } from "@resnette/resnette/measure";
import type { Target } from "../../lib/kernels/kernel.ts";
import { stepsOf } from "../../lib/plan/steps.ts";
import {
  candidates,
  choiceFor,
  parseProblem,
  problemFlops,
  problemKey,
} from "../../lib/kernels/choice.ts";
import { contest } from "../../lib/measure/timing.ts";
import { TARGET as NAIVE } from "../plan/target.ts";
import { formatRefused } from "../../scripts/tune.ts";
import { gpuWith, small, withGpu } from "../faults/gpu.ts";

const TARGET: Target = { ...NAIVE, choice: "auto", subgroupSize: 8 };
const CONV: Problem = {
  kind: "forward",
  n: 2,
  pixels: [6, 7],
  c: 8,
  o: 32,
  kernel: [3, 3],
  stride: [1, 1],
  padding: [1, 0],
  dilation: [1, 1],
};
const PRODUCT: Problem = { kind: "productT", layers: 2, rows: 12, inner: 50, columns: 36 };

const random = new Random(3);
const some = (...shape: number[]) => {
  const size = shape.reduce((a, b) => a * b);
  return tensor(random.uniform(new Float32Array(size), -1, 1), shape);
};

/** Largest difference relative to the largest value. */
function difference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  const values = Array.from(expected);
  const largest = values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return values.reduce((worst, x, i) => Math.max(worst, Math.abs(x - found[i]!)), 0) / largest;
}

Deno.test("a problem is told by its key, and its work by its sizes", () => {
  for (const kind of ["forward", "inputGrad", "weightGrad"] as const) {
    const problem: Problem = { ...CONV, kind, stride: [2, 3] };
    assertEquals(problemKey(problem), `${kind} 2x6x7x8 3x3x8x32 stride 2x3 padding 1x0`);
    assertEquals(parseProblem(problemKey(problem)), problem);
  }
  // Taps that are apart are told at the end, so that the keys of others stay as they were.
  const dilated: Problem = { ...CONV, dilation: [1, 2] };
  assertEquals(problemKey(dilated), `${problemKey(CONV)} dilation 1x2`);
  assertEquals(parseProblem(problemKey(dilated)), dilated);
  assertEquals(problemKey(PRODUCT), "productT 2 12x50x36");
  assertEquals(parseProblem(problemKey(PRODUCT)), PRODUCT);
  assertEquals(problemFlops(CONV), 2 * 2 * 6 * 5 * 32 * 9 * 8);
  assertEquals(problemFlops(PRODUCT), 2 * 2 * 12 * 50 * 36);
});

Deno.test("a choice counts if it can compute the problem, else the rule does", () => {
  const chosen = (problem: Problem, choice: string, target: Partial<Target> = {}) =>
    choiceFor({ ...TARGET, ...target, tuned: new Map([[problemKey(problem), choice]]) }, problem);
  const strided: Problem = { ...CONV, stride: [2, 2] }, narrow: Problem = { ...CONV, o: 4 };
  for (const problem of [CONV, strided, PRODUCT]) {
    for (const name of candidates(TARGET, problem)) assertEquals(chosen(problem, name), name);
  }
  const hostile = ["", "naive", "winograd 5", "winograd 4 ", "winograd", "subgroup 7x3", "padded"];
  hostile.push("register 1000000x1", "subgroup -16x1", "subgroup NaNx1", "__proto__", "patches");
  for (const choice of hostile) assertEquals(chosen(CONV, choice), choiceFor(TARGET, CONV), choice);
  assertEquals(chosen(strided, "winograd 4"), "patches");
  assertEquals(chosen(strided, "subgroup 16x1"), "subgroup 16x1");
  assertEquals(chosen(narrow, "register 8x2"), "register 8x1");
  assertEquals(chosen({ ...CONV, o: 6 }, "register 8x1"), "naive");
  assertEquals(
    chosen({ ...CONV, kind: "inputGrad", padding: [3, 1] }, "winograd 2"),
    "register 8x2",
  );
  // Lanes that the adapter does not have, or that do not divide the rows.
  assertEquals(chosen(CONV, "subgroup 16x1", { subgroupSize: 1 }), "register 8x2");
  assertEquals(chosen(CONV, "subgroup 24x1", { subgroupSize: 16 }), "subgroup 16x1");
  assertEquals(chosen(CONV, "winograd 4", { choice: "register" }), "register 8x2");
});

Deno.test("every candidate is used when chosen, and computes what the naive kernels do", async () => {
  const x = some(2, 8, 6, 7), w = some(32, 8, 3, 3), a = some(2, 50, 12), b = some(2, 50, 36);
  const y = conv2d(x, w, undefined, { padding: [1, 0] });
  const strided = conv2d(x, w, undefined, { stride: 2, padding: [1, 0] });
  const strides = { ...CONV, stride: [2, 2] } as Problem;
  const apart = { padding: [1, 0], dilation: [1, 2] } as const;
  const dilated = conv2d(x, w, undefined, apart), spread = { ...CONV, ...apart } as Problem;
  const cases: [Problem, Tensor][] = [
    [CONV, y],
    [{ ...CONV, kind: "inputGrad" } as Problem, grad(y, [x], some(...y.shape))[0]!],
    [{ ...strides, kind: "weightGrad" } as Problem, grad(strided, [w], some(...strided.shape))[0]!],
    [PRODUCT, matmul(a, b, { transposeA: true })],
    [spread, dilated],
    [{ ...spread, kind: "weightGrad" } as Problem, grad(dilated, [w], some(...dilated.shape))[0]!],
  ];
  using naive = await Device.request({ choice: "naive" });
  using device = await Device.request();
  const expected = await evaluate(cases.map(([, result]) => result), {}, naive);
  for (const [i, [problem, result]] of cases.entries()) {
    const names = candidates(device.target, problem);
    assert(names.length > 3, `${problemKey(problem)} has a choice`);
    const kernels = new Set<string>();
    for (const [k, name] of names.entries()) {
      device.tuned.set(problemKey(problem), name);
      const { steps } = stepsOf([result], [], device.target);
      kernels.add(JSON.stringify(steps.map((step) => [step.name, step.spec])));
      assertEquals(steps.some((step) => /winograd/i.test(step.name)), /winograd/.test(name));
      assertEquals(steps.some((step) => step.name === "patches"), name === "patches");
      // Some of each, as compiling takes nearly all the time.
      if (k % cases.length !== i) continue;
      const off = difference(await evaluate(result, {}, device), expected[i]!);
      assert(off < 3e-5, `${problemKey(problem)} by ${name} is off by ${off}`);
    }
    assertEquals(kernels.size, names.length);
  }
});

/** The last of the three that follow. */
const SMALL: Problem = { kind: "product", layers: 1, rows: 48, inner: 64, columns: 32 };

/** Three problems: one for Winograd's kernels, one with a stride, and a product. */
const three = () => [
  conv2d(some(2, 32, 8, 8), some(32, 32, 3, 3), undefined, { padding: 1 }),
  conv2d(some(2, 32, 8, 8), some(64, 32, 1, 1), undefined, { stride: 2 }),
  matmul(some(48, 64), some(64, 32)),
];

Deno.test("every candidate is accounted for, the rule's is timed, and no choice is slower than it", async () => {
  using device = await Device.request();
  const tunings = await tune(device, three());
  assertEquals(tunings.length, 3);
  for (const sort of ["winograd", "patches"]) {
    assert(tunings.some(({ rule }) => rule.split(" ", 1)[0] === sort), `a rule chooses ${sort}`);
  }
  assertEquals(tunings.map(({ problem }) => problem.kind).sort(), [
    "forward",
    "forward",
    "product",
  ]);
  for (const { problem, rule, choice, milliseconds, refused, skipped } of tunings) {
    const key = problemKey(problem);
    assertEquals(refused, new Map(), key);
    assertEquals(
      [...milliseconds.keys()][0],
      rule,
      `${key}: the rule's choice is timed, and first`,
    );
    assert(
      [...milliseconds.values()].every((ms) => ms > 0 && ms < 1e5),
      Deno.inspect(milliseconds),
    );
    assertEquals(
      new Set([...milliseconds.keys(), ...skipped.keys()]),
      new Set([rule, ...candidates(device.target, problem)]),
      key,
    );
    assert(milliseconds.get(choice)! <= milliseconds.get(rule)!, `${key}: ${choice}, ${rule}`);
    assertEquals(choiceFor(device.target, problem), choice);
    assertEquals(device.tuned.get(key), choice === rule ? undefined : choice);
    if (choice !== rule) assert(milliseconds.get(choice)! <= 0.98 * milliseconds.get(rule)!);
  }
  using naive = await Device.request({ choice: "naive" });
  const graphs = three();
  const expected = await evaluate(graphs, {}, naive), found = await evaluate(graphs, {}, device);
  expected.forEach((values, i) => assert(difference(found[i]!, values) < 3e-5));
});

Deno.test("the rule's choice stays unless another is clearly faster, whatever the machine does", async () => {
  const noise = new Random(5);
  /** Who wins among choices that take so long, on a machine that takes `load` times as long. */
  const winner = async (took: readonly number[], load: (measurement: number) => number) => {
    let measurements = 0;
    const measure = (ms: number) => () => Promise.resolve(ms * load(measurements++));
    const contenders = took.map((ms, i) => ({ worth: i === 2 ? 0.1 : 0.02, measure: measure(ms) }));
    const found = await contest(contenders);
    assert(found!.medians[found!.winner]! <= found!.medians[0]!, "the winner is never slower");
    return found!.winner;
  };
  const calm = () => 1;
  assertEquals(await winner([10, 11, 12], calm), 0);
  assertEquals(await winner([10, 10, 10], calm), 0);
  assertEquals(await winner([10, 9.9, 9.5], calm), 0, "not worth it");
  assertEquals(await winner([10, 9, 8.5], calm), 1, "the last one has to save a tenth");
  assertEquals(await winner([10, 9, 7], calm), 2);
  // A machine that gets slower, or faster, all the time.
  for (const drift of [-0.05, 0.2]) {
    const load = (i: number) => 1 + drift * i;
    assertEquals(await winner([10, 10], load), 0, `${drift}`);
    assertEquals(await winner([10, 6], load), 1, `${drift}`);
  }
  // Another process has the machine now and then: whose measurement it meets matters to none.
  for (let hit = 0; hit < 14; hit++) {
    const load = (i: number) => i === hit ? 9 : 1;
    assertEquals(await winner([10, 10], load), 0, `${hit}`);
    assertEquals(await winner([10, 8], load), 1, `${hit}`);
  }
  // And noise of ± 20%.
  const noisy = () => 0.8 + 0.4 * noise.uniform(new Float32Array(1))[0]!;
  const count = async (took: readonly number[]) => {
    let won = 0;
    for (let i = 0; i < 200; i++) if (await winner(took, noisy) > 0) won++;
    return won;
  };
  assertEquals(await count([10, 13]), 0);
  assertEquals(await count([10, 6]), 200);
  const [equal, slower] = [await count([10, 10]), await count([10, 11])];
  assert(equal < 20 && slower < 2, `of 200, ${equal} that are equal win, ${slower} a tenth slower`);
  // Time is up in the middle.
  let looks = 0;
  const measure = () => Promise.resolve(1);
  const both = [{ worth: 0, measure }, { worth: 0, measure }];
  assertEquals(await contest(both, () => ++looks > 1), undefined);
});

Deno.test("tuning tells what it does, stops where it is told to, and takes back what it tried", async () => {
  const x = some(2, 4, 8, 8), w = some(36, 4, 3, 3);
  const layer = conv2d(x, w, undefined, { padding: 1 });
  const y = conv2d(layer, some(8, 36, 1, 1));
  const known = "forward 2x8x8x4 3x3x4x36 stride 1x1 padding 1x1";
  using device = await Device.request({ tuned: new Map([[known, "register 4x1"]]) });
  const told: string[] = [], controller = new AbortController();
  const tunings = await tune(device, [y], {
    signal: controller.signal,
    onProgress: ({ doing }) => {
      if (told.push(doing) === 3) controller.abort();
    },
  });
  assertEquals(tunings.map(({ problem }) => problemKey(problem)), [
    known,
    "forward 2x8x8x36 1x1x36x8 stride 1x1 padding 0x0",
  ]);
  const [first] = tunings;
  assertStringIncludes(told[0]!, `graph forward: ${first!.rule}`);
  assertEquals(told.length, 3);
  assert(first!.milliseconds.has(first!.rule), "the rule's choice is measured first");
  // What was not decided is as it was.
  assertEquals(first!.choice, "register 4x1");
  assertEquals([...device.tuned], [[known, "register 4x1"]]);
  await assertRejects(
    () => tune(device, [y], { onProgress: () => Promise.reject(new Error("enough")) }),
    Error,
    "enough",
  );
  assertEquals([...device.tuned], [[known, "register 4x1"]]);
});

Deno.test("a choice that the compiler refuses is named, with what it says; it may be the rule's", async () => {
  for (const who of ["workgroup 64x16", "the rule's"]) {
    using device = await Device.request();
    const { gpu } = device, createShaderModule = gpu.createShaderModule.bind(gpu);
    let refusing = false;
    gpu.createShaderModule = (descriptor) =>
      createShaderModule({ ...descriptor, code: refusing ? "no WGSL" : descriptor.code });
    const [product] = await tune(device, [matmul(some(48, 64), some(64, 32))], {
      onProgress: ({ doing }) => {
        const name = doing.slice("graph product: ".length);
        const rule = choiceFor({ ...device.target, tuned: new Map() }, SMALL);
        refusing = name === (who === "the rule's" ? rule : who);
      },
    });
    const { problem, rule, choice, milliseconds, refused } = product!;
    assertEquals(problem, SMALL);
    const name = who === "the rule's" ? rule : who;
    assertEquals([...refused.keys()], [name]);
    assertStringIncludes(refused.get(name)!, "plan: ");
    assert(!milliseconds.has(name) && milliseconds.size > 0);
    assert(choice !== name);
    assertEquals(device.tuned.get(problemKey(problem)), choice === rule ? undefined : choice);
    const [line, ...more] = formatRefused([product!]);
    assertEquals(more, []);
    assertStringIncludes(line!, `warning: (network) product: ${name} cannot be run: plan: `);
    assert(!line!.includes("\n"));
  }
});

Deno.test("a choice that is too large for the adapter is named, also inside of others", async () => {
  const limits = { maxStorageBufferBindingSize: 2 ** 17 };
  using device = await withGpu(
    gpuWith((adapter) => small(adapter, limits)),
    () => Device.request(),
  );
  const [conv] = await tune(device, three().slice(0, 1));
  const { rule, choice, milliseconds, refused } = conv!;
  assertEquals(rule, "winograd 4");
  assertMatch(refused.get(rule)!, /takes 147456 bytes, more than this adapter's maxStorageBuffer/);
  assert(milliseconds.has("winograd 3") && !milliseconds.has(rule));
  assertEquals(device.tuned.get(problemKey(conv!.problem)), choice);
  assert([...refused.keys()].some((name) => name.startsWith("winograd 4, ")), "its products too");
});

Deno.test("without time nothing is measured, and what was known stays", async () => {
  const product = matmul(some(16, 32), some(32, 64));
  using device = await Device.request({ tuned: new Map([["product 1 16x32x64", "register 4x1"]]) });
  const aborted = AbortSignal.abort();
  for (const options of [{ budget: 0 }, { signal: aborted }]) {
    const [tuning] = await tune(device, [product], options);
    assertEquals([tuning!.choice, tuning!.milliseconds.size], ["register 4x1", 0]);
    assertEquals([...device.tuned.values()], ["register 4x1"]);
  }
  using forced = await Device.request({ choice: "naive" });
  await assertRejects(() => tune(forced, [product]), DeviceError, 'bound to the choice "naive"');
});
