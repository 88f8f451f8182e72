/**
 * The commands with a net and weights of one's own: `--net`, `--init` and `--freeze`, as a user has
 * them. Nets, weights and images are made here.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { decodeStateDict, encodeStateDict, manualSeed, type StateDict } from "@resnette/resnette";
import { ROOT } from "../folder.ts";
import { colour, writeTree } from "../images.ts";
import { inProject, type OwnProject } from "../own_project.ts";
import { tinyNet } from "../tiny_train.ts";

const SETTINGS = "--data photos --resize 8 --batch-size 6 --epochs 1";
const IMPORT = 'from "@resnette/resnette";';
/** Two layers and a batch norm, whose keys are `begin.…`, `bn.…` and `fc.…`. */
const LAYERS = `new Sequential()
  .add(new Conv2d(inChannels, 16, { kernelSize: 3 }), "begin")
  .add(new BatchNorm2d(16), "bn").add(new ReLU(), "relu")
  .add(new GlobalAvgPool2d(), "pool").add(new Flatten(), "flat")
  .add(new Linear(16, numClasses), "fc")`;
const NAMES = "BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear, ReLU, Sequential";
/** A module that exports such a net. */
const netFile = (exported: string, from = IMPORT) =>
  `import { ${NAMES} } ${from}
const build = ({ inChannels, numClasses }: { inChannels: number; numClasses: number }) => ${LAYERS};
${exported}
`;
const DEFAULT = netFile("export default build;");

/** Runs `use` with a project that has a folder of photographs of two classes, and nets. */
async function withPhotos(
  nets: Record<string, string>,
  use: (project: OwnProject) => Promise<void>,
): Promise<void> {
  await inProject(async (project) => {
    const tree: Record<string, Uint8Array<ArrayBuffer> | string> = { ...nets };
    for (let i = 0; i < 10; i++) {
      tree[`photos/red/${i}.png`] = colour(250, 10 * i, 5 * i);
      tree[`photos/blue/${i}.png`] = colour(10 * i, 3 * i, 250);
    }
    writeTree(project.folder, tree);
    await use(project);
  });
}

/** The state dict of a run after an epoch. */
const stateOf = async ({ folder }: OwnProject, run: string, epoch = 1): Promise<StateDict> => {
  const path = `${folder}/runs/${run}/checkpoints/epoch-${epoch}/model.safetensors`;
  return decodeStateDict(await Deno.readFile(path), path);
};

Deno.test("a net of one's own is trained, goes on, and serves all commands that are told of it", () =>
  withPhotos({ "nets/mine.ts": DEFAULT }, async (project) => {
    const words = `${SETTINGS} --net nets/mine.ts`;
    const { out } = await project.done("train", words);
    assertMatch(out, /^epoch 1, loss/m);
    // Called by its file.
    const [name] = project.names("runs"), run = `runs/${name}`;
    assertMatch(name!, /^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-mine$/);
    const keys = [...(await stateOf(project, name!)).keys()];
    assertEquals(keys[0], "begin.weight");
    assertEquals(keys.at(-1), "fc.bias");

    const unknown =
      `error: ${run}/checkpoints/epoch-1: was trained with the net nets/mine.ts, which ` +
      "is not known here; name the module that makes it: --net FILE\n";
    await project.fails("train", `--resume ${run} --epochs 2`, 1, unknown);
    for (const task of ["eval", "predict", "export"] as const) {
      const more = { eval: "", predict: "photos/red/1.png", export: "--to onnx" }[task];
      await project.fails(task, `${run} ${more}`, 1, unknown);
    }
    const net = "--net nets/mine.ts";
    const evaluated = await project.done("eval", `${run} ${net} --json`);
    const { accuracy, model } = JSON.parse(evaluated.out);
    assertEquals(model, "nets/mine.ts");
    assertStringIncludes(out, `test acc ${accuracy.toFixed(3)}`);
    const predicted = await project.done("predict", `${run} photos/red/1.png ${net}`);
    assertMatch(predicted.out, /^photos\/red\/1\.png: (red|blue) 0\.\d{3}, (red|blue) 0\.\d{3}\n$/);
    await project.done("export", `${run} --to safetensors --out runs/mine.safetensors ${net}`);
    await project.done("export", `runs/mine.safetensors --to onnx --resize 8 ${net}`);
    await Deno.remove(`${project.folder}/${run}/predictions.json`);
    await project.fails("report", `${run} --evaluate`, 1, unknown);
    await project.done("report", `${run} --evaluate ${net}`);
    const report = () => Deno.readTextFile(`${project.folder}/${run}/report.md`);
    assertStringIncludes(await report(), '"begin: Conv2d<br>[1, 16, 6, 6], 448 parameters"');
    await project.done("report", run);
    assert(!(await report()).includes("## Network"));

    const endless = words.replace("--epochs 1", "--epochs 9000 --out runs/stopped");
    const stopped = await project.stop("train", endless, "SIGINT", "saved runs/stopped/");
    assertEquals(stopped.code, 130, stopped.err);
    assertStringIncludes(
      stopped.err,
      "to go on: deno task train --resume runs/stopped --net nets/mi",
    );

    // The file may lie elsewhere by now; the run ends with the bits of one that was not resumed.
    await Deno.rename(`${project.folder}/nets/mine.ts`, `${project.folder}/moved.ts`);
    await project.done("train", `--resume ${run} --epochs 2 --net moved.ts`);
    const whole = words.replace("nets/mine.ts", "moved.ts").replace("--epochs 1", "--epochs 2");
    await project.done("train", `${whole} --out runs/whole`);
    assertEquals(await stateOf(project, name!, 2), await stateOf(project, "whole", 2));
  }));

/** Of one more output for each class, of which the first is always the largest. */
const WIDE = `import { add, concat, mul } ${IMPORT}
export default (options) =>
  build(options).add((x) => concat([x, add(mul(x, 0), 99)], 1), "more");`;

Deno.test("a net with more outputs than classes is evaluated and reported on, what it takes for none too", () =>
  withPhotos({ "wide.ts": netFile(WIDE) }, async (project) => {
    const net = "--net wide.ts";
    await project.done("train", `${SETTINGS} ${net} --out runs/wide`);
    const report = () => Deno.readTextFile(`${project.folder}/runs/wide/report.md`);
    const row = "| 2 | 0.000 | – | 0.000 | 0 |";
    await project.done("report", `runs/wide ${net}`);
    assertStringIncludes(await report(), row);
    const { out } = await project.done("eval", `runs/wide ${net} --json`);
    const { accuracy, classes, confusion } = JSON.parse(out);
    assertEquals(classes.map((row: { class: string }) => row.class), ["blue", "red", "2"]);
    assertEquals([accuracy, confusion], [0, [[0, 0, 2], [0, 0, 2], [0, 0, 0]]]);
    assertStringIncludes((await project.done("eval", `runs/wide ${net}`)).out, "(0 of 4)");
    await Deno.remove(`${project.folder}/runs/wide/predictions.json`);
    await project.done("report", `runs/wide --evaluate ${net}`);
    assertStringIncludes(await report(), row);
  }));

Deno.test("a run whose net has changed where it is frozen is refused, with what does not fit", () =>
  withPhotos({ "net.ts": DEFAULT }, async (project) => {
    await project.done("train", `${SETTINGS} --net net.ts --freeze begin --out runs/frozen`);
    writeTree(project.folder, { "net.ts": DEFAULT.replace("kernelSize: 3", "kernelSize: 5") });
    await project.fails(
      "train",
      "--resume runs/frozen --epochs 2 --net net.ts",
      1,
      "error: runs/frozen/checkpoints/epoch-1: loadStateDict: the values do not fit this model; of " +
        "another shape: begin.weight: ",
    );
  }));

Deno.test("a module's net: its default, or the only function; and what is wrong with others", () => {
  const nets: Record<string, string> = {
    "default.ts": netFile("export default build;\nexport const other = () => {};"),
    "named.ts": netFile("export const size = 3;\nexport { build };"),
    "function.ts": netFile("export default function make(options) { return build(options); }"),
    "none.ts": "export const size = 3;",
    "nothing.ts": "export {};",
    "two.ts": "export const a = () => {}, b = () => {};",
    "object.ts": netFile("export default build({ inChannels: 3, numClasses: 2 });"),
    "throws.ts": 'export default () => { throw new Error("no such layer"); };',
    "number.ts": "export default () => 7;",
    "promise.ts": netFile("export default (options) => Promise.resolve(build(options));"),
    "syntax.ts": "export default (",
    "import.ts": 'import "./there_is_none.ts"; export default () => {};',
    "fails.ts": 'throw new Error("not today");',
    "few.ts": netFile("export default () => build({ inChannels: 3, numClasses: 1 });"),
    "grey.ts": netFile("export default ({ numClasses }) => build({ inChannels: 1, numClasses });"),
    "empty.ts": `import { ReLU } ${IMPORT} export default () => new ReLU();`,
  };
  return withPhotos(nets, async (project) => {
    for (const name of ["default", "named", "function"]) {
      await project.done("train", `${SETTINGS} --net ${name}.ts --out runs/${name}`);
    }
    const wanted = "export default a function of { inChannels, numClasses } that returns a Module";
    const wrong: [name: string, code: number, message: string][] = [
      ["there_is_none", 2, "there is no such file"],
      ["none", 2, `exports size; ${wanted}`],
      ["nothing", 2, `exports nothing; ${wanted}`],
      ["two", 2, `exports a, b; ${wanted}`],
      ["object", 2, `exports default; ${wanted}`],
      ["throws", 2, "its function failed: no such layer"],
      ["number", 2, "its function returns no Module"],
      ["promise", 2, "its function returns no Module"],
      ["syntax", 2, "cannot be loaded: "],
      ["import", 2, "cannot be loaded: "],
      ["fails", 2, "cannot be loaded: not today"],
      ["empty", 2, "the net has no parameters to train"],
    ];
    for (const [name, code, message] of wrong) {
      const about = name === "empty" ? message : `error: --net ${name}.ts: ${message}`;
      await project.fails("train", `${SETTINGS} --net ${name}.ts`, code, about);
    }
    // These the data contradict.
    await project.fails("train", `${SETTINGS} --net few.ts`, 1, "but the net has 1 outputs");
    await project.fails(
      "train",
      `${SETTINGS} --net grey.ts`,
      1,
      "input has 3 channels, weight exp",
    );
    await project.fails(
      "train",
      `${SETTINGS} --net named.ts --model resnet18`,
      2,
      "--net and --model are two nets; give one",
    );
    await project.fails("eval", "runs/named --net none.ts", 2, `exports size; ${wanted}`);
    await project.fails("eval", "runs/named --net few.ts", 1, "runs/named/checkpoints/epoch-1: ");
    await project.fails(
      "predict",
      "runs/named a.png --net throws.ts",
      2,
      "its function failed: no ",
    );
    assertEquals(project.names("runs"), ["default", "function", "named"]);
  });
});

Deno.test("a net of another copy of the library is told from what is none", () =>
  withPhotos({}, async (project) => {
    const { folder } = project;
    // A copy that is as large as it must be for this.
    const copy = (path: string) => {
      Deno.mkdirSync(`${folder}/copy/${path}`, { recursive: true });
      for (const { name, isDirectory } of Deno.readDirSync(`${ROOT}${path}`)) {
        if (isDirectory) copy(`${path}/${name}`);
        else Deno.copyFileSync(`${ROOT}${path}/${name}`, `${folder}/copy/${path}/${name}`);
      }
    };
    copy("lib");
    Deno.copyFileSync(`${ROOT}mod.ts`, `${folder}/copy/mod.ts`);
    writeTree(folder, { "net.ts": netFile("export default build;", 'from "./copy/mod.ts";') });
    await project.fails(
      "train",
      `${SETTINGS} --net net.ts`,
      2,
      "--net net.ts: its net is of another copy of the library; import from " +
        '"@resnette/resnette"',
    );
  }));

/** The state dict of a net `tiny` for the photographs. */
async function tinyState(seed: number, numClasses = 2): Promise<StateDict> {
  manualSeed(seed);
  return await tinyNet({ inChannels: 3, numClasses }).stateDict();
}

Deno.test("--init takes over the weights that fit, says which do not, and trains from there", (t) =>
  withPhotos({ "net.ts": DEFAULT }, async (project) => {
    const { folder } = project;
    // A rate that is zero as f32 has it: nothing moves.
    const words = `${SETTINGS} --model tiny --lr 1e-60`;
    const write = (name: string, state: StateDict) =>
      Deno.writeFile(`${folder}/${name}.safetensors`, encodeStateDict(state));
    const state = await tinyState(7),
      parameters = [...state.keys()].filter((key) =>
        !key.includes("running") && !key.includes("num_batches")
      );
    const renamed = (begin: string) =>
      new Map([...state].map(([key, value]) => [`${begin}${key}`, value]));
    const train = async (name: string, more = `--init ${name}.safetensors`) =>
      await project.done("train", `${words} --out runs/${name} ${more}`);
    const same = async (name: string, keys: readonly string[], expected = state) => {
      const found = await stateOf(project, name);
      for (const key of keys) assertEquals(found.get(key), expected.get(key), `${name}: ${key}`);
    };
    await project.done("train", `${words} --out runs/own`);
    const own = await stateOf(project, "own");
    await t.step("all of them", async () => {
      await write("all", state);
      const { err } = await train("all");
      assertStringIncludes(
        err,
        `\nall.safetensors: ${state.size} of the net's ${state.size} tensors`,
      );
      assert(!err.includes("left as they were"), err);
      await same("all", parameters);
      assert(`${own.get("0.weight")!.data}` !== `${state.get("0.weight")!.data}`);
    });
    await t.step("all, as nets have them that were trained on several devices", async () => {
      await write("module", renamed("module."));
      const { err } = await train("module");
      assertStringIncludes(err, `module.safetensors: ${state.size} of the net's ${state.size}`);
      await same("module", parameters);
    });
    await t.step("some of them: others keep the seed's", async () => {
      const other = await tinyState(7, 5);
      other.delete("0.bias");
      other.set("extra.weight", { shape: [1], data: new Float32Array(1) });
      await write("some", other);
      const { err } = await train("some");
      const fits = state.size - 3;
      assertStringIncludes(
        err,
        `some.safetensors: ${fits} of the net's ${state.size} tensors taken`,
      );
      assertStringIncludes(
        err,
        "of another shape, left as they were: fc.1.weight [5, 16], not [2, 16], fc.1.bias [5], not [2]\n",
      );
      assertStringIncludes(err, "not in the file, left as they were: 0.bias\n");
      assertStringIncludes(err, "in the file, not in the net: extra.weight\n");
      await same("some", ["0.weight", "1.weight", "1.bias"]);
      await same("some", ["0.bias", "fc.1.weight", "fc.1.bias"], own);
    });
    await t.step("those of a run, for a net of one's own", async () => {
      await project.done("train", `${SETTINGS} --net net.ts --out runs/net`);
      const again = `${SETTINGS} --net net.ts --lr 1e-60 --seed 5 --init runs/net --out runs/again`;
      const { err } = await project.done("train", again);
      assertMatch(err, /^runs\/net: 9 of the net's 9 tensors taken over$/m);
      const [before, after] = [await stateOf(project, "net"), await stateOf(project, "again")];
      for (const key of ["begin.weight", "fc.bias"]) assertEquals(after.get(key), before.get(key));
    });
    await t.step("none, or what is no such file, is refused", async () => {
      await write("none", renamed("other."));
      await project.fails(
        "train",
        `${words} --init none.safetensors`,
        2,
        `--init none.safetensors: none of its ${state.size} keys (other.0.weight, other.0.bias, `,
      );
      await Deno.writeFile(
        `${folder}/torch.pt`,
        new TextEncoder().encode(`PK\x03\x04${"\0".repeat(26)}archive/data.pkl${"\0".repeat(99)}`),
      );
      const pickle = await project.run("train", `${words} --init torch.pt`);
      assertEquals(pickle.code, 1);
      assertStringIncludes(pickle.err, "error: torch.pt: ");
      assertStringIncludes(
        pickle.err,
        "this is a PyTorch pickle (a zip); in Python: `safetensors.t",
      );
      await project.fails("train", `${words} --init nowhere.safetensors`, 1, "nowhere.safetensors");
      await project.fails(
        "train",
        "--resume runs/own --epochs 2 --init all.safetensors",
        2,
        "--init is for new runs: one that goes on has its own weights",
      );
    });
  }));

Deno.test("--freeze keeps parts of the net bit by bit, also when the run goes on", (t) =>
  withPhotos({ "net.ts": DEFAULT }, async (project) => {
    const words = `${SETTINGS} --net net.ts --lr 0.1`;
    // The seed's weights: at this rate nothing moves but the statistics.
    await project.done("train", `${words.replace("0.1", "1e-60")} --out runs/seed`);
    const seed = await stateOf(project, "seed");
    await t.step("what is frozen is as it was, and all else is trained", async () => {
      await project.done("train", `${words} --freeze begin,bn --out runs/a`);
      await project.done("train", "--resume runs/a --epochs 3 --net net.ts");
      const state = await stateOf(project, "a", 3);
      for (const [key, { data }] of state) {
        const isFrozen = !key.startsWith("fc");
        // Of a frozen batch norm, the statistics too: they begin at 0 and 1.
        const before = key.endsWith("running_mean") || key.endsWith("num_batches_tracked")
          ? new Float32Array(data.length)
          : key.endsWith("running_var")
          ? new Float32Array(data.length).fill(1)
          : seed.get(key)!.data;
        assertEquals(data.every((x, i) => Object.is(x, before[i])), isFrozen, key);
      }
      const path = `${project.folder}/runs/a/checkpoints/epoch-3/optimizer.safetensors`;
      const keys = [...decodeStateDict(await Deno.readFile(path), path).keys()];
      assertEquals(keys.filter((key) => !key.includes(".fc.")), []);
    });
    await t.step("a parameter alone", async () => {
      await project.done("train", `${words} --freeze fc.bias --out runs/b`);
      const state = await stateOf(project, "b");
      assertEquals(state.get("fc.bias"), seed.get("fc.bias"));
      assert(`${state.get("fc.weight")!.data}` !== `${seed.get("fc.weight")!.data}`);
    });
    await t.step("what is no part of it, and all of it, are refused", async () => {
      const keys = "there is no such layer; the net's keys begin with: begin, bn, fc";
      for (const key of ["bogus", "fc.bias.x", "beg", "fc."]) {
        const message = `error: --freeze ${key}: ${keys}\n`;
        await project.fails("train", `${words} --freeze bn,${key}`, 2, message);
      }
      await project.fails(
        "train",
        `${words} --freeze fc,`,
        2,
        "--freeze must be beginnings of keys",
      );
      await project.fails(
        "train",
        `${words} --freeze begin,bn,fc`,
        2,
        "error: --freeze begin,bn,fc: nothing is left to train\n",
      );
      await project.fails(
        "train",
        "--resume runs/a --net net.ts --freeze bn",
        2,
        "--freeze bn contradicts the run in runs/a/checkpoints/epoch-3, which has begin,bn",
      );
      assertEquals(project.names("runs"), ["a", "b", "seed"]);
    });
  }));
