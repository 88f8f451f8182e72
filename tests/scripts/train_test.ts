/** `deno task train` from outside: what it prints, how it ends, and that it can be stopped. */

import { call as callMain, deno, wordsOf } from "../call.ts";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import denoConfig from "../../deno.json" with { type: "json" };
import { defaultDevice, parseSafetensors } from "@resnette/resnette";
import { MODELS } from "@resnette/resnette/train";
import { FolderTakenError, loadCheckpoint, RunDirectory } from "../../lib/files/run.ts";
import {
  COMPRESSIONS,
  CONFIG_FIELDS,
  CONFIG_NAMES,
  DEFAULT_CONFIG,
  OPTIMIZERS,
  SCHEDULES,
} from "../../lib/train/config.ts";
import { pathWord, shellWord } from "../../lib/check/text.ts";
import { adviceOn } from "../../scripts/cli.ts";
import { main } from "../../scripts/train.ts";
import { inFolder, ROOT } from "../folder.ts";
import { tinyNet } from "../tiny_train.ts";

/** Batches of 24, 24 and 16, and of 24 and 8 in tests. */
const TINY = "--model tiny --limit 64 --test-limit 32 --batch-size 24 --resize 32 --lr 0.03";
/** All that changes how a run goes; the rate does not depend on the number of epochs. */
const RECIPE =
  "--accumulate 5 --optimizer sgd --momentum 0.8 --weight-decay 1e-3 --schedule step --step-size 1 --gamma 0.9 " +
  "--warmup 5 --label-smoothing 0.1 --augment flip,crop";
const LINE =
  /^epoch (\d+), loss \d+\.\d{4}, train acc [01]\.\d{3}, test acc [01]\.\d{3}, time \d+ sec$/;

/** What a command printed and its exit code. */
interface Ended {
  code: number;
  out: string;
  err: string;
}

/** Starts the task, with the task's permissions, in a process of its own. */
function start(script: string, words: string): Deno.ChildProcess {
  return new Deno.Command("deno", {
    args: ["run", "-q", "-P=train", "--no-prompt", script, ...wordsOf(words)],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Waits for a task, sending `signal` once it has said that it is under way. */
async function end(child: Deno.ChildProcess, signal?: Deno.Signal): Promise<Ended> {
  const out = new Response(child.stdout).text();
  let err = "";
  for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
    err += text;
    if (signal && err.includes(", step ")) {
      child.kill(signal);
      signal = undefined;
    }
  }
  return { code: (await child.status).code, out: await out, err };
}

const run = async (words: string) => await end(start("tests/tiny_train.ts", words));

/** Runs the command in this process. */
const call = (words: string) => callMain(main, words);

Deno.test("--help lists every flag with its default, and exits 0", async () => {
  const { code, out, err } = await call("--help");
  assertEquals([code, err], [0, ""]);
  for (
    const [flag, value] of Object.entries({
      "epochs": "5",
      "batch-size": "128",
      "accumulate": "micro-batches of a step",
      "lr": "0.001",
      "optimizer": "adam, adamw, sgd \\(adam\\)",
      "momentum": "0.9",
      "weight-decay": "0; adamw: 0.01",
      "schedule": "constant, cosine, step \\(constant\\)",
      "step-size": "2",
      "gamma": "0.1",
      "warmup": "0",
      "label-smoothing": "",
      "augment": "what happens to training images",
      "channels": "1 makes images grey, 3 makes them RGB \\(as the images are\\)",
      "mean": "\\(0\\)",
      "std": "\\(1\\)",
      "test-share": "0.2",
      "freeze": "parts of the net",
      "data": "a folder of classes, or IDX files",
      "net": "a module",
      "init": ".safetensors",
      "resize": "96",
      "seed": "0",
      "limit": "all",
      "test-limit": "all",
      "model": "resnet18",
      "broadcast": "only rank 0 reads the images",
      "timeout": "\\(300\\)",
      "out": "runs/",
      "resume": "",
    })
  ) assertMatch(out, new RegExp(`--${flag} .*${value}`));
  assertStringIncludes(out, "never resets");
  assert(out.split("\n").every((line) => line.length <= 100), "lines are at most 100 wide");
  for (const words of ["-h", "-h=", "-h0", "--epochs 2 -h5"]) {
    assertEquals(await call(words), { code, out, err });
  }
});

Deno.test("what the README lists as flags, their words and defaults is what works", async () => {
  const { out } = await call("--help");
  const readme = await Deno.readTextFile("README.md");
  const rows = [...readme.matchAll(/^\| `--([a-z-]+)[^`]*` +\| (.*?) +\| (.*?) +\|$/gm)];
  assert(rows.length > 15, `${rows.length} rows`);
  const words = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, word]) => word!);
  const choices = {
    optimizer: OPTIMIZERS,
    schedule: SCHEDULES,
    compress: COMPRESSIONS,
  };
  for (const [, flag, meaning, standard] of rows) {
    assertStringIncludes(out, `  --${flag}`);
    const name = CONFIG_NAMES.find((name) =>
      name.replace(/[A-Z]/g, (x) => `-${x.toLowerCase()}`) === flag
    );
    if (!name) continue;
    const { choices: isWord, allows, otherwise } = CONFIG_FIELDS[name];
    const value = DEFAULT_CONFIG[name];
    const plain = otherwise ?? `${value ?? "all"}`;
    assertEquals(standard!.split(";")[0], isWord ? `\`${value}\`` : plain, flag);
    if (!isWord || name === "model") continue;
    const listed = new Set([...words(meaning!), ...words(standard!)]);
    for (const word of listed) assert(allows(word), `--${flag} ${word} is refused`);
    assertEquals([...listed].sort(), [...choices[name as keyof typeof choices]].sort());
  }
});

Deno.test("whatever the home is called, tune may read its cache, or nothing more than without", () =>
  inFolder(async (folder) => {
    // The tasks' own command lines and permissions, with a script that says what it may do.
    const tasks = {
      tune: denoConfig.tasks.tune.command
        .replace("scripts/cache_folder.ts", `"${ROOT}scripts/cache_folder.ts"`)
        .replace("scripts/tune.ts", `"${folder}/probe.ts"`),
    };
    const config = { tasks, permissions: denoConfig.permissions };
    await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(config));
    await Deno.writeTextFile(
      `${folder}/probe.ts`,
      `const may = (name: "read" | "write", path?: string) =>
  Deno.permissions.querySync({ name, ...path && { path } }).state === "granted";
const paths = JSON.parse(Deno.args[0]!) as string[];
console.log(JSON.stringify([may("read") || may("write"), paths.filter((path) => may("read", path)),
  paths.filter((path) => may("write", path))]));`,
    );
    const homes: [home: string, usable: boolean][] = [
      [`${folder}/plain`, true],
      [`${folder}/two words `, true],
      [`${folder}/two  words`, false],
      [`${folder}/a\tb`, false],
      [`${folder}/a\u2003b`, false],
      [`${folder}/'quotes" and $HOME and $(pwd) and \`pwd\``, true],
      [`${folder}/back\\slash*?`, true],
      [`${folder}/a,b`, false],
      [`${folder}/a,${folder}/b`, false],
      [`${folder}/a,,b`, false],
      [`${folder}/a\nb`, false],
      [`${folder}/a\r\nb`, false],
      ["a", false],
      ["../a", false],
      ["", false],
    ];
    const others = [
      "/",
      folder,
      `${folder}/a`,
      `${folder}/a b`,
      `${folder}/two words`,
      `${folder}/two words/.cache/resnette`,
      `${folder}/b`,
      `${folder}/b/.cache/resnette`,
      `${folder}/a b/.cache/resnette`,
      `${folder}/a/.cache/resnette`,
      "b/.cache/resnette",
      "b/resnette",
      "b",
      "a",
      "../a/.cache/resnette",
      ".cache/resnette",
    ];
    const xdg = homes.map(([home, usable]) => ({ XDG_CACHE_HOME: home, HOME: "", usable }));
    const own = homes.map(([home, usable]) => ({ XDG_CACHE_HOME: "", HOME: home, usable }));
    for (const { usable, ...env } of [...own, ...xdg]) {
      const mac = Deno.build.os === "darwin" ? "Library/Caches" : ".cache";
      const cache = `${env.XDG_CACHE_HOME || `${env.HOME}/${mac}`}/resnette`;
      const args = ["task", "-q", "--config", `${folder}/deno.json`, "tune"];
      const words = JSON.stringify([...others, cache]);
      const vars = { ...env, DENO_DIR: `${folder}/deno`, DENO_NO_PROMPT: "1" };
      const { code, out, err } = await deno([...args, words], { env: vars });
      assertEquals([code, err], [0, ""], JSON.stringify(env));
      const caches = usable ? [cache] : [];
      assertEquals(JSON.parse(out), [false, caches, caches], JSON.stringify(env));
    }
  }));

Deno.test("a wrong command line says what is wrong and exits 2", async (t) => {
  const wrong: [words: string, message: string][] = [
    ["--bogus", "unknown: --bogus"],
    ["extra", "unknown: extra"],
    ["--batch-size 0", '--batch-size must be an integer from 1 to 65536, got "0"'],
    ["--batch-size=-3", '--batch-size must be an integer from 1 to 65536, got "-3"'],
    ["--batch-size 1.5", '--batch-size must be an integer from 1 to 65536, got "1.5"'],
    ["--batch-size 0x10", 'got "0x10"'],
    ["--lr NaN", '--lr must be a finite number above 0, got "NaN"'],
    ["--lr 0", "--lr must be a finite number above 0"],
    ["--lr 1e999", "--lr must be a finite number above 0"],
    ["--epochs many", '--epochs must be an integer from 1 to 100000, got "many"'],
    ["--limit 0", "--limit must be an integer from 1"],
    ["--seed 9007199254740992", "--seed must be an integer from 0 to 9007199254740991"],
    ["--model vgg16", "--model must be one of: resnet18, "],
    ["--optimizer lion", '--optimizer must be one of: adam, adamw, sgd, got "lion"'],
    ["--schedule linear", '--schedule must be one of: constant, cosine, step, got "linear"'],
    [
      "--augment cutout",
      '--augment must be none, or some of flip, crop, rotate, jitter with commas between, got "cutout"',
    ],
    ["--weight-decay=-1", "--weight-decay must be a finite number, at least 0"],
    ["--label-smoothing 1.5", "--label-smoothing must be a number from 0 to 1"],
    ["--warmup 0.5", "--warmup must be an integer from 0"],
    ["--batch-size 4 --accumulate 5", "at most the batch size, 4, got 5"],
    ["--momentum 0.5", "--momentum is for --optimizer sgd only"],
    ["--schedule cosine --gamma 0.5", "--gamma is for --schedule step only"],
    ["--lr 1 --lr 2", "--lr is given twice"],
    ["--out=", "--out needs a value"],
    ["--no-out=a", "unknown: --no-out=a"],
    ["--resume", "--resume needs a value"],
  ];
  for (const [words, message] of wrong) {
    await t.step(words, async () => {
      // A folder that may not be written to: a line that is wrongly let pass starts no training.
      const { code, out, err } = await call(words.includes("--out") ? words : `--out lib ${words}`);
      assertEquals([code, out], [2, ""]);
      assert(err.startsWith("error: "), err);
      assertStringIncludes(err, message);
      assertStringIncludes(err, "deno task train --help");
    });
  }
});

Deno.test("a run that is stopped twice and resumed ends with the bits of one that was not", () =>
  inFolder(async (folder) => {
    const stopped = `${folder}/stopped`;
    const notResumable = await call(`--resume ${stopped}`);
    assertEquals(notResumable.code, 1);
    assertStringIncludes(notResumable.err, `error: ${stopped}: there is no such folder`);

    // Enough epochs that the signal always comes in time, on any adapter.
    const first = await end(
      start("tests/tiny_train.ts", `${TINY} ${RECIPE} --epochs 9000 --out ${stopped}`),
      "SIGINT",
    );
    assertEquals(first.code, 130, first.err);
    assertMatch(first.err, /^SIGINT: finishing the step and saving/m);
    assertStringIncludes(
      first.err,
      `stopped; to go on: deno task train --resume ${shellWord(stopped)}\n`,
    );

    const second = await end(start("tests/tiny_train.ts", `--resume ${stopped}`), "SIGTERM");
    assertEquals(second.code, 143, second.err);

    const { history } = JSON.parse(await latestFile(stopped, "run.json"));
    const contradiction = await call(`--resume ${stopped} --lr 0.5 --batch-size 24`);
    assertEquals(contradiction.code, 2);
    assertStringIncludes(contradiction.err, "--lr 0.5 contradicts the run in");
    assertStringIncludes(contradiction.err, "which has 0.03");

    const another = await call(`--resume ${stopped} --optimizer adam`);
    assertEquals(another.code, 2);
    assertStringIncludes(another.err, "--optimizer adam contradicts the run in");
    assertStringIncludes(another.err, "which has sgd");

    const epochs = history.length + 2;
    const last = await run(`--resume ${stopped} --epochs ${epochs}`);
    assertEquals(last.code, 0, last.err);
    const whole = await run(`${TINY} ${RECIPE} --epochs ${epochs} --out ${folder}/whole`);
    assertEquals(whole.code, 0, whole.err);
    for (const file of ["model.safetensors", "optimizer.safetensors"]) {
      const [a, b] = await Promise.all(
        [stopped, `${folder}/whole`].map((path) =>
          Deno.readFile(`${path}/checkpoints/epoch-${epochs}/${file}`)
        ),
      );
      assertEquals(a, b, file);
    }

    // The lines too, but for the time.
    const [heading, ...lines] = whole.out.trimEnd().split("\n");
    assertMatch(heading!, /^training on .*(software adapter|GPU)/);
    assertEquals(lines.map((line) => line.match(LINE)?.[1]), lines.map((_, i) => `${i + 1}`));
    assertEquals(lines.length, epochs);
    const timeless = (text: string) =>
      text.split("\n").filter((line) => LINE.test(line)).map((line) =>
        line.replace(/, time.*/, "")
      );
    assertEquals(
      [first, second, last].flatMap(({ out }) => timeless(out)),
      timeless(whole.out),
    );

    const done = await call(`--resume ${folder}/whole`);
    assertEquals(done.code, 0);
    assertStringIncludes(done.err, `all ${epochs} epochs are done; to train on: --resume`);
    assertStringIncludes(
      done.err,
      `; for its report: deno task report ${shellWord(`${folder}/whole`)}\n`,
    );
    const again = await call(`${TINY} --out ${folder}/whole`);
    assertEquals(again.code, 1);
    assertStringIncludes(
      again.err,
      `; --resume ${shellWord(`${folder}/whole`)} goes on, --out DIR takes another folder`,
    );
    const older = await call(`--resume ${folder}/whole/checkpoints/epoch-1`);
    assertEquals(older.code, 2);
    assertStringIncludes(older.err, "is not the latest of a run; give --out DIR");
  }));

/** A file of a run's only stop. */
async function latestFile(path: string, file: string): Promise<string> {
  const stops = [...Deno.readDirSync(`${path}/checkpoints`)]
    .map(({ name }) => ({ name, numbers: name.match(/\d+/g)!.map(Number) }))
    .sort((a, b) => b.numbers[0]! - a.numbers[0]! || (b.numbers[1] ?? 0) - (a.numbers[1] ?? 0));
  return await Deno.readTextFile(`${path}/checkpoints/${stops[0]!.name}/${file}`);
}

Deno.test("a loss that is not finite ends the run with the step and what to try", () =>
  inFolder(async (folder) => {
    const { code, out, err } = await call(`${TINY.replace("0.03", "1e38")} --out ${folder}/run`);
    assertEquals(code, 1);
    assertEquals(out.split("\n").filter((line) => LINE.test(line)), []);
    assertMatch(err, /^error: the loss of step [23] of epoch 1 is not finite/m);
    assertStringIncludes(err, "There is no checkpoint yet");
    assertStringIncludes(err, "smaller --lr");
    assertEquals([...Deno.readDirSync(folder)], []);
  }));

Deno.test("a run that blows up later keeps its good checkpoints, and says where", () =>
  inFolder(async (folder) => {
    const out = `${folder}/run`;
    // Each step multiplies the weights by 1 - 0.03 · 3000.
    const { code, err } = await call(
      `${TINY} --optimizer sgd --momentum 0 --weight-decay 3000 --epochs 99 --out ${out}`,
    );
    assertEquals(code, 1);
    const [, step, epoch] = err.match(
      /^error: the loss of step (\d) of epoch (\d) is not finite/m,
    )!;
    assert(Number(epoch) > 1, `epoch ${epoch}`);
    const good = `${out}/checkpoints/epoch-${Number(epoch) - 1}`;
    assertStringIncludes(
      err,
      `The last good checkpoint is ${good}; going on from it would end here`,
    );
    assertStringIncludes(err, "smaller --lr");
    const { checkpoint, path } = await loadCheckpoint(out);
    assertEquals([path, checkpoint.run.history.length], [good, Number(epoch) - 1]);
    const again = await call(`--resume ${out}`);
    assertStringIncludes(again.err, `error: the loss of step ${step} of epoch ${epoch} is not`);
    assertEquals((await loadCheckpoint(out)).path, good);
  }));

Deno.test("ResNet-18 at a learning rate of a million stops at its second step", () =>
  inFolder(async (folder) => {
    const { code, err } = await call(
      `--lr 1e6 --limit 8 --test-limit 4 --batch-size 4 --resize 32 --out ${folder}/run`,
    );
    assertEquals(code, 1);
    assertStringIncludes(err, "error: the loss of step 2 of epoch 1 is not finite. There is no ch");
    assertEquals([...Deno.readDirSync(folder)], []);
  }));

Deno.test("a folder that another process trains in is refused, and one that may not be written to", () =>
  inFolder(async (folder) => {
    using _ = await RunDirectory.open(`${folder}/run`, { fresh: true });
    const { code, err } = await call(`${TINY} --out ${folder}/run`);
    assertEquals(code, 1);
    assertStringIncludes(err, `${folder}/run: another process is training there`);
    assertStringIncludes(err, "give another folder; --out DIR takes another folder");
    const outside = await call(`${TINY} --out tests/run`);
    assertEquals(outside.code, 1);
    assertStringIncludes(
      outside.err,
      "it may only write in data/cache/ and data/fashion-mnist/ and runs/. Without limits: deno run -A scripts/train.ts",
    );
  }));

Deno.test("a damaged checkpoint is refused by name", () =>
  inFolder(async (folder) => {
    await call(`${TINY} --epochs 1 --out ${folder}/run`);
    const path = `${folder}/run/checkpoints/epoch-1/model.safetensors`;
    await Deno.writeFile(path, (await Deno.readFile(path)).slice(0, 100));
    const { code, err } = await call(`--resume ${folder}/run --epochs 2`);
    assertEquals(code, 1);
    assertStringIncludes(err, `error: ${path}: damaged`);
  }));

Deno.test("ResNet-18 trains on real images, and leaves PyTorch's state dict", () =>
  inFolder(async (folder) => {
    const { code, out, err } = await end(
      start(
        "scripts/train.ts",
        `--limit 8 --test-limit 4 --batch-size 4 --resize 32 --epochs 1 --out ${folder}/run`,
      ),
    );
    assertEquals(code, 0, err);
    assertMatch(out.trimEnd().split("\n").at(-1)!, LINE);
    const path = `${folder}/run/checkpoints/epoch-1/model.safetensors`;
    const { tensors } = parseSafetensors(await Deno.readFile(path), path);
    assertEquals(tensors.size, (20 + 17 + 1) * 2 + 17 * 3);
    assertEquals(new Uint8Array(tensors.get("1.num_batches_tracked")!.data)[0], 2);
  }));

MODELS.set("tiny", tinyNet);

Deno.test("a path in a command is one word, and no flag", () => {
  assertEquals(
    ["runs/a", "two words", "-a", "it's"].map(pathWord),
    ["runs/a", "'two words'", "./-a", "'it'\\''s'"],
  );
  const advice = adviceOn(new FolderTakenError("-a", "run", "there is a run already"));
  assertEquals(advice, "--resume ./-a goes on, --out DIR takes another folder");
});

Deno.test("a batch of one image that cannot be trained on is refused first, with what to type", async () => {
  MODELS.set("tiny", tinyNet);
  const small = "--model tiny --test-limit 8 --resize 4 --out";
  await inFolder(async (folder) => {
    const last = await call(`${small} ${folder}/a --limit 25 --batch-size 24`);
    assertEquals([last.code, last.out.includes("epoch")], [1, false]);
    assertStringIncludes(
      last.err,
      "of 25 images in batches of 24, the last batch has one image: batchNorm: training needs more " +
        "than 1 value per channel, got [1, 16, 1, 1]",
    );
    assertStringIncludes(last.err, "try --limit 24 or --batch-size 25");
    const every = await call(`${small} ${folder}/b --limit 24 --batch-size 1`);
    assertEquals(every.code, 1);
    assertStringIncludes(every.err, "of 24 images in batches of 1, every batch has one image");
    assertStringIncludes(every.err, "try --batch-size 2");
    const odd = await call(`${small} ${folder}/c --limit 25 --batch-size 1`);
    assertStringIncludes(odd.err, "every batch has one image");
    assertStringIncludes(odd.err, "; try --batch-size 5\n");
    const one = await call(`${small} ${folder}/d --limit 1`);
    assertStringIncludes(one.err, "; there must be 2 training images or more\n");
  });
});

Deno.test("a batch that does not fit is trained on in micro-batches, and said so; one image that does not, refused", () =>
  inFolder(async (folder) => {
    const device = await defaultDevice(), { target } = device;
    const limit = (maxBindingBytes: number) =>
      Object.defineProperty(device, "target", {
        value: { ...target, maxBindingBytes },
        configurable: true,
      });
    try {
      // So much do 16 images of 16 channels of 8 × 8 values take.
      limit(2 ** 16);
      const { code, out, err } = await call(`${TINY} --epochs 1 --out ${folder}/run`);
      assertEquals(code, 0, err);
      assertMatch(out.trimEnd().split("\n").at(-1)!, LINE);
      assertMatch(
        err,
        /^note: a batch of 24 does not fit this adapter: .*; so a step has \d micro-batches of .*batch norm/m,
      );
      const { config } = (await loadCheckpoint(`${folder}/run`)).checkpoint.run;
      assert(config.accumulate > 1, `${config.accumulate} micro-batches`);
      // One image has 16 channels of 8 × 8 values; all parameters take less.
      limit(3840);
      const none = await call(`${TINY} --epochs 1 --out ${folder}/none`);
      assertEquals(none.code, 1);
      assertStringIncludes(
        none.err,
        "not even one image fits: make them smaller; try a smaller --resize",
      );
    } finally {
      Object.defineProperty(device, "target", { value: target, configurable: true });
    }
  }));
