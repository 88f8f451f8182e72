/** `deno task tune`, the file that it leaves, and what `deno task train` makes of that. */

import { call as callMain, wordsOf } from "../call.ts";
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { Device } from "@resnette/resnette";
import { tunedDigest } from "../../lib/kernels/choice.ts";
import { readTuned, TunedError, tunedPath, writeTuned } from "../../lib/files/tuned.ts";
import { main } from "../../scripts/tune.ts";
import { inFolder } from "../folder.ts";

Deno.test("a table of choices survives a file; a file that is no table is refused in words", () =>
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
      ["[]", "must be an object, is a list"],
      [JSON.stringify({ ...good, format: 1 }), "format must be 2, is 1"],
      [JSON.stringify({ ...good, origin: { ...good.origin, version: "9" } }), "another adapter"],
      [JSON.stringify({ ...good, choices: ["a"] }), "choices must be an object of at most 4096"],
      [JSON.stringify({ ...good, choices: { a: 1 } }), 'choices: "a" must be a string'],
      [
        JSON.stringify({ ...good, choices: { a: "x".repeat(999) } }),
        "must be a string of at most 200",
      ],
      [JSON.stringify({ ...good, choices: many }), "choices must be an object of at most 4096"],
      [
        JSON.stringify({ ...good, choices: { ["x".repeat(999)]: "a" } }),
        "choices: has a key of more than 200 characters",
      ],
      [" ".repeat(2 ** 20) + JSON.stringify(good), "at most 1048576 bytes"],
    ];
    for (const [text, message] of bad) {
      await Deno.writeTextFile(path, text);
      const error = await assertRejects(() => readTuned(device, inside), TunedError, message);
      assertStringIncludes(error.message, path);
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
        args: ["task", "-q", command, ...wordsOf(words)],
        env: { XDG_CACHE_HOME: folder },
      }).output();
      const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      return { code, out: out!, err: err! };
    };
    const tuned = await run("tune", "--budget 2 --batch-size 2 --resize 32 --json");
    assertEquals(tuned.code, 0, tuned.err);
    const { adapter, ceiling, problems } = JSON.parse(tuned.out);
    assert(typeof adapter === "string" && ceiling.gflops > 0 && problems.length > 20, tuned.out);
    for (const { rule, milliseconds, refused, skipped } of problems) {
      assertEquals([refused, typeof skipped], [{}, "object"]);
      if (Object.keys(milliseconds).length > 0) assert(milliseconds[rule] > 0, rule);
    }
    const [, path] = tuned.err.match(/^saved (.*)$/m)!;
    assertStringIncludes(path!, `${folder}/resnette/tuned-`);
    const file = JSON.parse(await Deno.readTextFile(path!));
    const choices = { "product 1 16x32x64": "register 4x1", "product 1 1x1x1": "of no use" };
    await Deno.writeTextFile(path!, JSON.stringify({ ...file, choices }));

    // A folder that may not be written to: nothing is trained.
    const used = await run("train", "--out lib");
    assertEquals(used.code, 1);
    assertStringIncludes(used.err, "2 choices by `deno task tune`");
    const without = await run("train", "--out lib --no-tuned");
    assert(!without.err.includes("tune"), without.err);
    await Deno.writeTextFile(path!, "{");
    const damaged = await run("train", "--out lib");
    assertStringIncludes(damaged.err, `warning: ${path}: not a table of choices`);
    assertStringIncludes(damaged.err, "; `deno task tune` writes a new one");
    assert(!damaged.err.includes("choices by"), damaged.err);
  }));
