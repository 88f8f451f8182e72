/** `deno task eval`: its numbers, what it takes for a checkpoint, and how it ends. */

import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { encodeStateDict } from "@resnette/resnette";
import { loadFashionMnist } from "@resnette/resnette/data";
import { main } from "../../scripts/eval.ts";
import { call, deno } from "../call.ts";
import { inFolder } from "../folder.ts";
import { smallNet, TESTED, trainSmall } from "../small_net.ts";

interface Report {
  checkpoint: string;
  model: string;
  epochs: number;
  resize: number;
  images: number;
  accuracy: number;
  classes: { class: string; label: number; images: number; precision: number; recall: number }[];
  confusion: number[][];
}

Deno.test("deno task eval reports a run's accuracy by class, from each form of a checkpoint", (t) =>
  inFolder(async (folder) => {
    const run = `${folder}/run`;
    const accuracies = await trainSmall(run, { limit: 200, epochs: 2 });
    const flags = ["--limit", `${TESTED}`, "--batch-size", "50"];
    const report = async (path: string, ...more: string[]): Promise<Report> => {
      const { code, out, err } = await call(main, [path, ...flags, "--json", ...more]);
      assertEquals(code, 0, err);
      return JSON.parse(out);
    };

    const last = await report(run);
    await t.step("a run's folder stands for its latest checkpoint", () => {
      const { checkpoint, model, epochs, resize, images, accuracy } = last;
      assertEquals(
        { checkpoint, model, epochs, resize, images, accuracy },
        {
          checkpoint: `${run}/checkpoints/epoch-2`,
          model: "small",
          epochs: 2,
          resize: 28,
          images: TESTED,
          accuracy: accuracies[1]!,
        },
      );
    });
    await t.step("the confusion matrix and the classes agree with the labels", async () => {
      const { labels, classes } = await loadFashionMnist("data/fashion-mnist", "test", {
        limit: TESTED,
      });
      const of = (label: number) => labels.filter((x) => x === label).length;
      last.classes.forEach((row, label) => {
        assertEquals([row.class, row.label, row.images], [classes[label]!, label, of(label)]);
        const right = last.confusion[label]![label]!;
        assertEquals(last.confusion[label]!.reduce((a, b) => a + b), of(label));
        assertAlmostEquals(row.recall, right / of(label), 1e-9);
      });
      const right = last.confusion.reduce((sum, row, i) => sum + row[i]!, 0);
      assertEquals(right / TESTED, last.accuracy);
    });
    await t.step(
      "a checkpoint's folder, and its model.safetensors, stand for themselves",
      async () => {
        const first = `${run}/checkpoints/epoch-1`;
        for (const path of [first, `${first}/`, `${first}/model.safetensors`]) {
          const { accuracy, epochs } = await report(path);
          assertEquals([accuracy, epochs], [accuracies[0]!, 1]);
        }
      },
    );
    const file = `${folder}/weights.safetensors`;
    await t.step("a file alone is told by its tensors; the size of its images is not", async () => {
      await Deno.copyFile(`${last.checkpoint}/model.safetensors`, file);
      const { accuracy, model, resize } = await report(file, "--resize", "28");
      assertEquals([accuracy, model, resize], [accuracies[1]!, "small", 28]);
    });
    await t.step("it prints tables, with the task's permissions", async () => {
      const script = ["run", "-q", "-P=eval", "--no-prompt", "tests/small_net.ts", "eval", run];
      const { code, out, err } = await deno([...script, ...flags]);
      assertEquals(code, 0, err);
      const right = Math.round(accuracies[1]! * TESTED);
      assert(
        out.startsWith(`test acc ${accuracies[1]!.toFixed(3)} (${right} of ${TESTED})\n\n`),
        out,
      );
      assertStringIncludes(out, "class          images  precision  recall     F1\n0 T-shirt/top ");
      assertStringIncludes(out, "rows: what it is; columns: what it was taken for\n");
      assertEquals(out.trimEnd().split("\n").length, 2 + 11 + 2 + 11);
      assert(out.split("\n").every((line) => line.length <= 80), out);
      assertStringIncludes(err, `${TESTED} test images at 28×28`);
    });
  }));

Deno.test("deno task eval says that a net's outputs are not finite", () =>
  inFolder(async (folder) => {
    const state = await smallNet().stateDict(), path = `${folder}/diverged.safetensors`;
    state.get("fc.1.bias")!.data.fill(NaN, 3, 4);
    await Deno.writeFile(path, encodeStateDict(state));
    const { code, out, err } = await call(main, [path, "--resize", "28", "--limit", "20"]);
    assertEquals(code, 0, err);
    assert(out.startsWith("test acc 0."), out);
    const lost = "for 20 of 20 test images the net gives numbers that are not finite";
    assertStringIncludes(err, `warning: ${lost}`);
  }));

Deno.test("deno task eval says what is wrong with a checkpoint, and exits 1", () =>
  inFolder(async (folder) => {
    const write = (name: string, content: string | Uint8Array) =>
      Deno.writeFile(
        `${folder}/${name}`,
        typeof content === "string" ? new TextEncoder().encode(content) : content,
      );
    await Deno.mkdir(`${folder}/run/checkpoints/.partial-1`, { recursive: true });
    const state = await smallNet().stateDict();
    await write("foreign.safetensors", encodeStateDict(new Map([...state].slice(1))));
    const whole = encodeStateDict(state);
    await write("short.safetensors", whole.subarray(0, whole.length - 4));
    const none = { shape: [2, 0, 3, 3], data: new Float32Array() };
    await write("nothing.safetensors", encodeStateDict(new Map([["w", none]])));
    await write("picture.png", await Deno.readFile("tests/fixtures/images/boot_16.png"));
    const faults = {
      "none": "there is no such file or folder",
      "": "is neither a run's folder (it has no checkpoints/) nor a checkpoint's",
      "run": "this run has no checkpoint yet",
      "foreign.safetensors": "its 38 tensors (0.bias, 1.weight, 1.bias, …) fit none of",
      "short.safetensors": "beyond the data's",
      "nothing.safetensors": "its 1 tensors (w, …) fit none of",
      "picture.png": "this is an image",
    };
    for (const [name, message] of Object.entries(faults)) {
      const { code, out, err } = await call(main, [`${folder}/${name}`]);
      assertEquals([code, out], [1, ""], name);
      assert(err.startsWith(`error: ${folder}/${name}`), err);
      assertStringIncludes(err, message);
    }
    // The task reads whatever it is given, wherever that lies.
    const outside = await deno(["task", "-q", "eval", "tests/fixtures/models.safetensors"]);
    assertEquals([outside.code, outside.out], [1, ""]);
    assertStringIncludes(outside.err, "fit none of: resnet18");
  }));

Deno.test("a wrong command line of deno task eval exits 2, and --help 0", async () => {
  const wrong: [words: string, message: string][] = [
    ["", "CHECKPOINT is missing"],
    ["a b", "unknown: b"],
    ["a --bogus", "unknown: --bogus"],
    ["a --resize 0", '--resize must be an integer from 1 to 4096, or ROWSxCOLUMNS, got "0"'],
    ["a --limit 1e3", 'got "1e3"'],
    ["a --limit", "--limit needs a value"],
    ["a --batch-size 1 --batch-size 2", "--batch-size is given twice"],
  ];
  for (const [words, message] of wrong) {
    const { code, out, err } = await call(main, words);
    assertEquals([code, out], [2, ""], words);
    assert(err.startsWith(`error: ${message}`) || err.includes(message), err);
    assertStringIncludes(err, "For all options: deno task eval --help");
  }
  const { code, out, err } = await call(main, ["--help"]);
  assertEquals([code, err], [0, ""]);
  assert(out.startsWith("usage: deno task eval CHECKPOINT"));
  assert(out.split("\n").every((line) => line.length <= 100));
});
