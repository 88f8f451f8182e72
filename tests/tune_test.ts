/** Tuning: names of problems, what counts as a choice, the search, the file, and `deno task tune`. */

import { call as callMain } from "./call.ts";
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
  type Problem,
  Random,
  type Tensor,
  tensor,
  tune,
} from "@resnette/resnette";
import type { Target } from "../lib/kernel.ts";
import { schedule } from "../lib/plan/steps.ts";
import {
  candidates,
  choiceFor,
  parseProblem,
  problemFlops,
  problemKey,
  tunedDigest,
} from "../lib/schedule.ts";
import { readTuned, tunedPath, writeTuned } from "../lib/tune_cache.ts";
import { main } from "../scripts/tune.ts";
import { inFolder } from "./folder.ts";

const TARGET: Target = {
  schedule: "auto",
  subgroupSize: 8,
  subgroupsDirective: false,
  maxStorageBuffers: 8,
  maxWorkgroups: 65535,
  maxBindingBytes: 2 ** 27,
};
const CONV: Problem = {
  kind: "forward",
  n: 2,
  pixels: [6, 7],
  c: 8,
  o: 32,
  kernel: [3, 3],
  stride: [1, 1],
  padding: [1, 0],
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
  assertEquals(chosen(CONV, "winograd 4", { schedule: "register" }), "register 8x2");
});

Deno.test("every candidate is used when chosen, and computes what the naive kernels do", async () => {
  const x = some(2, 8, 6, 7), w = some(32, 8, 3, 3), a = some(2, 50, 12), b = some(2, 50, 36);
  const y = conv2d(x, w, undefined, { padding: [1, 0] });
  const strided = conv2d(x, w, undefined, { stride: 2, padding: [1, 0] });
  const strides = { ...CONV, stride: [2, 2] } as Problem;
  const cases: [Problem, Tensor][] = [
    [CONV, y],
    [{ ...CONV, kind: "inputGrad" } as Problem, grad(y, [x], some(...y.shape))[0]!],
    [{ ...strides, kind: "weightGrad" } as Problem, grad(strided, [w], some(...strided.shape))[0]!],
    [PRODUCT, matmul(a, b, { transposeA: true })],
  ];
  using naive = await Device.request({ schedule: "naive" });
  using device = await Device.request();
  const expected = await evaluate(cases.map(([, result]) => result), {}, naive);
  for (const [i, [problem, result]] of cases.entries()) {
    const names = candidates(device.target, problem);
    assert(names.length > 3, `${problemKey(problem)} has a choice`);
    const kernels = new Set<string>();
    for (const [k, name] of names.entries()) {
      device.tuned.set(problemKey(problem), name);
      const { steps } = schedule([result], [], device.target);
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

Deno.test("tuning keeps the fastest schedules for the plans that come, and computes the same", async () => {
  const x = some(2, 4, 8, 8), w = some(36, 4, 3, 3);
  const layer = conv2d(x, w, undefined, { padding: 1 });
  const y = conv2d(layer, some(8, 36, 1, 1));
  using device = await Device.request();
  const told: string[] = [], controller = new AbortController();
  const tunings = await tune(device, [y], {
    signal: controller.signal,
    onProgress: ({ doing }) => {
      if (told.push(doing) === 3) controller.abort();
    },
  });
  assertEquals(tunings.map(({ problem }) => problemKey(problem)), [
    "forward 2x8x8x4 3x3x4x36 stride 1x1 padding 1x1",
    "forward 2x8x8x36 1x1x36x8 stride 1x1 padding 0x0",
  ]);
  assertStringIncludes(told[0]!, "graph forward: ");
  const [first] = tunings;
  assertEquals(told.length, 3);
  assert(first!.milliseconds.size > 0, "something was measured");
  assert(first!.milliseconds.has(first!.rule), "the rule's choice is measured first");
  assertEquals(device.tuned.get(problemKey(first!.problem)), first!.schedule);
  assertEquals(choiceFor(device.target, first!.problem), first!.schedule);
  using naive = await Device.request({ schedule: "naive" });
  const off = difference(await evaluate(y, {}, device), await evaluate(y, {}, naive));
  assert(off < 3e-5, `off by ${off}`);
});

Deno.test("without time nothing is measured, and what was known stays", async () => {
  const product = matmul(some(16, 32), some(32, 64));
  using device = await Device.request({ tuned: new Map([["product 1 16x32x64", "register 4x1"]]) });
  const aborted = AbortSignal.abort();
  for (const options of [{ budget: 0 }, { signal: aborted }]) {
    const [tuning] = await tune(device, [product], options);
    assertEquals([tuning!.schedule, tuning!.milliseconds.size], ["register 4x1", 0]);
    assertEquals([...device.tuned.values()], ["register 4x1"]);
  }
  using forced = await Device.request({ schedule: "naive" });
  await assertRejects(() => tune(forced, [product]), DeviceError, 'bound to the schedule "naive"');
});

Deno.test("a table of schedules survives a file; a file that is no table is refused in words", () =>
  inFolder(async (folder) => {
    const tuned = new Map([["product 1 16x32x64", "register 4x1"], ["b", "c"]]);
    using device = await Device.request({ tuned });
    const inside = `${folder}/not/yet/there`;
    assertEquals(await readTuned(device, inside), new Map());
    const path = await writeTuned(device, inside);
    assertEquals(path, await tunedPath(device, inside));
    assertEquals(await readTuned(device, inside), tuned);
    assertEquals([...Deno.readDirSync(inside)].length, 1);
    assertMatch(await tunedDigest(tuned) ?? "", /^[0-9a-f]{16}$/);
    assertEquals(await tunedDigest(new Map([...tuned].reverse())), await tunedDigest(tuned));
    assertEquals(await tunedDigest(new Map()), undefined);

    const good = JSON.parse(await Deno.readTextFile(path));
    const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`p${i}`, "x"]));
    const bad: [string, string][] = [
      ["", "JSON"],
      ["[]", "its format is not 1"],
      [JSON.stringify({ ...good, format: 2 }), "its format is not 1"],
      [JSON.stringify({ ...good, origin: { ...good.origin, version: "9" } }), "another adapter"],
      [JSON.stringify({ ...good, choices: ["a"] }), "short strings"],
      [JSON.stringify({ ...good, choices: { a: 1 } }), "short strings"],
      [JSON.stringify({ ...good, choices: { a: "x".repeat(999) } }), "short strings"],
      [JSON.stringify({ ...good, choices: many }), "short strings"],
      [" ".repeat(2 ** 20) + JSON.stringify(good), "at most 1048576 bytes"],
    ];
    for (const [text, message] of bad) {
      await Deno.writeTextFile(path, text);
      const error = await assertRejects(() => readTuned(device, inside), Error, message);
      assertStringIncludes(error.message, path);
      assertStringIncludes(error.message, "deno task tune");
    }
  }));

/** Runs the command in this process. */
const call = (words: string) => callMain(main, words);

Deno.test("deno task tune explains itself and wrong command lines", async () => {
  const { code, out } = await call("--help");
  assertEquals(code, 0);
  for (const flag of ["--budget", "--batch-size", "--resize", "--model", "--json"]) {
    assertStringIncludes(out, flag);
  }
  assert(out.split("\n").every((line) => line.length <= 100), "lines are at most 100 wide");
  for (
    const [words, message] of [
      ["--bogus", "unknown: --bogus"],
      ["extra", "unknown: extra"],
      ["--budget 0", '--budget must be a number of seconds above 0, got "0"'],
      ["--budget soon", '--budget must be a number of seconds above 0, got "soon"'],
      ["--batch-size 1.5", '--batch-size must be an integer from 1 to 65536, got "1.5"'],
      ["--resize 0x10", 'got "0x10"'],
      ["--model other", "--model must be one of: resnet18"],
    ] as const
  ) {
    const { code, out, err } = await call(words);
    assertEquals([code, out], [2, ""], words);
    assertStringIncludes(err, message);
    assertStringIncludes(err, "deno task tune --help");
  }
});

Deno.test("what deno task tune stores, deno task train uses; and a damaged file it does not", () =>
  inFolder(async (folder) => {
    const run = async (command: string, words: string) => {
      const { code, stdout, stderr } = await new Deno.Command("deno", {
        args: ["task", "-q", command, ...words.split(" ")],
        env: { XDG_CACHE_HOME: folder },
      }).output();
      const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      return { code, out: out!, err: err! };
    };
    const tuned = await run("tune", "--budget 2 --batch-size 2 --resize 32 --json");
    assertEquals(tuned.code, 0, tuned.err);
    const { adapter, ceiling, problems } = JSON.parse(tuned.out);
    assert(typeof adapter === "string" && ceiling.gflops > 0 && problems.length > 20, tuned.out);
    const [, path] = tuned.err.match(/^saved (.*)$/m)!;
    assertStringIncludes(path!, `${folder}/resnette/tuned-`);
    const file = JSON.parse(await Deno.readTextFile(path!));
    const choices = { "product 1 16x32x64": "register 4x1", "product 1 1x1x1": "of no use" };
    await Deno.writeTextFile(path!, JSON.stringify({ ...file, choices }));

    // A folder that may not be written to: nothing is trained.
    const used = await run("train", "--out lib");
    assertEquals(used.code, 1);
    assertStringIncludes(used.err, "2 schedules by `deno task tune`");
    const without = await run("train", "--out lib --no-tuned");
    assert(!without.err.includes("tune"), without.err);
    await Deno.writeTextFile(path!, "{");
    const damaged = await run("train", "--out lib");
    assertStringIncludes(damaged.err, `warning: ${path}: not a table of schedules`);
    assert(!damaged.err.includes("schedules by"), damaged.err);
  }));
