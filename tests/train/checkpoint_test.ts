/** Checkpoints: PyTorch's keys, whole or not at all, and nothing believed that was not checked. */

import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import {
  decodeStateDict,
  encodeStateDict,
  parseSafetensors,
  resnet18,
  SafetensorsError,
  serializeSafetensors,
} from "@resnette/resnette";
import {
  type Checkpoint,
  CHECKPOINT_FILES,
  CheckpointError,
  decodeCheckpoint,
  encodeCheckpoint,
  trainConfig,
  VERSION,
} from "@resnette/resnette/train";
import denoConfig from "../../deno.json" with { type: "json" };
import { FASHION_MNIST } from "../../lib/train/checkpoint.ts";
import { loadCheckpoint, RunDirectory } from "../../lib/files/run.ts";
import { loadTrained } from "../../lib/files/trained.ts";
import { readFixture } from "../fixture.ts";
import { inFolder } from "../folder.ts";

/** A small run after `epochs` epochs of 3 steps, and `step` more. */
function example(epochs: number, step: number): Checkpoint {
  return {
    run: {
      version: VERSION,
      adapter: "an adapter",
      config: trainConfig({ batchSize: 24, epochs: 5, limit: 64 }),
      data: FASHION_MNIST,
      images: { train: 64, test: 32 },
      history: Array.from({ length: epochs }, (_, i) => ({
        epoch: i + 1,
        loss: 0.1 + i,
        trainAccuracy: 0.5,
        testAccuracy: 1,
        seconds: 1.25,
      })),
      step,
      steps: 3 * epochs + step,
      shuffle: { seed: 0, stream: epochs + 1, position: 0 },
      sums: { loss: Math.fround(1.1) * step, correct: 7 * step },
      seconds: 0.5,
    },
    model: new Map([
      ["weight", { shape: [2, 2], data: Float32Array.of(1, -2, 1e-42, step) }],
      ["num_batches_tracked", { shape: [], data: Float32Array.of(3 * epochs + step) }],
    ]),
    optimizer: new Map([["exp_avg.weight", { shape: [2, 2], data: Float32Array.of(0, 1, 2, 3) }]]),
  };
}

const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

Deno.test("the version written into checkpoints is the package's", () => {
  assertEquals(VERSION, denoConfig.version);
});

Deno.test("the model's file has the notebook's state dict: its keys, shapes and types, no more", async () => {
  const { tensors, metadata } = parseSafetensors(
    encodeStateDict(await resnet18().stateDict()),
    "model.safetensors",
  );
  // The fixture has a gradient for each parameter of the notebook's net, and its running statistics.
  const fixture = await readFixture("resnet18.safetensors");
  const expected = [...fixture.tensors.keys()]
    .map((key) => key.match(/^f64\/32\/grad\/(.*)|^f32\/32\/stat\/(.*)/))
    .flatMap((match) => match?.[1] ?? match?.[2] ?? []);
  const counters = expected.filter((key) => key.endsWith("running_mean"))
    .map((key) => key.replace("running_mean", "num_batches_tracked"));
  assertEquals(counters.length, 17);
  assertEquals([...tensors.keys()].sort(), [...new Set([...expected, ...counters])].sort());
  for (const [key, { dtype, shape }] of tensors) {
    assertEquals([key, dtype], [key, counters.includes(key) ? "I64" : "F32"]);
    if (counters.includes(key)) assertEquals(shape, []);
  }
  assertEquals(tensors.get("resnet_block2.0.conv3.weight")!.shape, [128, 64, 1, 1]);
  assertEquals({ ...metadata }, { format: "pt" });
});

Deno.test("a checkpoint comes back as it was, to the last bit", async () => {
  for (const checkpoint of [example(0, 2), example(2, 0), example(1, 3)]) {
    assertEquals(await decodeCheckpoint(await encodeCheckpoint(checkpoint), "a"), checkpoint);
  }
});

Deno.test("a checkpoint that is too large to be read again is not written", async () => {
  const { run, model } = example(1, 0), data = new Float32Array(2 ** 21);
  const keys = Array.from({ length: 1025 }, (_, i) => `exp_avg.${i}.weight`);
  const optimizer = new Map(keys.map((key) => [key, { shape: [data.length], data }]));
  await assertRejects(
    () => encodeCheckpoint({ run, model, optimizer }),
    CheckpointError,
    "optimizer.safetensors: 8598323200 bytes are more than 8589934592, and could not be read again",
  );
});

Deno.test("a net of one's own may lie as deep as a file can", async () => {
  const { run, ...rest } = example(1, 0), config = { ...run.config, model: "nets/".repeat(800) };
  const deep = { run: { ...run, config }, ...rest };
  assertEquals(await decodeCheckpoint(await encodeCheckpoint(deep), "a"), deep);
});

Deno.test("a checkpoint from before a setting existed has that setting's default", async () => {
  const files = await encodeCheckpoint(example(1, 1));
  const run = JSON.parse(new TextDecoder().decode(files["run.json"]));
  const { model, epochs, batchSize, lr, resize, seed, limit, testLimit } = run.config;
  run.config = { model, epochs, batchSize, lr, resize, seed, limit, testLimit };
  delete run.data;
  const old = { ...files, "run.json": new TextEncoder().encode(JSON.stringify(run)) };
  assertEquals(await decodeCheckpoint(old, "a"), example(1, 1));
});

Deno.test("a state dict with a wrong type or count is refused by file and tensor", () => {
  const file = (dtype: "F32" | "I64" | "I32", data: ArrayBufferView, shape: number[] = []) =>
    serializeSafetensors([["1.num_batches_tracked", { dtype, shape, data }]]);
  const refused: [Uint8Array<ArrayBuffer>, string][] = [
    [file("F32", Float32Array.of(1.5)), "1.5 is not a count"],
    [file("I64", BigInt64Array.of(-1n)), "-1 is not a count"],
    [file("I64", BigInt64Array.of(2n ** 40n)), "1099511627776 is not a count"],
    [file("I64", BigInt64Array.of(1n, 2n), [2]), "shape is [2], expected []: a count"],
  ];
  for (const [bytes, what] of refused) {
    const error = assertThrows(() => decodeStateDict(bytes, "m.safetensors"), Error, what);
    assert(error.message.startsWith('m.safetensors: tensor "1.num_batches_tracked": '));
  }
  const halves = serializeSafetensors([["a", { dtype: "I32", shape: [], data: Int32Array.of(1) }]]);
  assertThrows(() => decodeStateDict(halves, "m.safetensors"), Error, 'expected one of "F32"');
});

Deno.test("every damage to a checkpoint's files is found, and the file named", async (t) => {
  const good = await encodeCheckpoint(example(1, 1));
  const refuses = async (files: typeof good, ...parts: string[]) => {
    const error = await assertRejects(() => decodeCheckpoint(files, "runs/a"), CheckpointError);
    for (const part of parts) assert(error.message.includes(part), error.message);
  };
  for (const name of ["model.safetensors", "optimizer.safetensors"] as const) {
    await t.step(`a flipped bit of ${name}`, async () => {
      for (let at = 0; at < good[name].length; at += 7) {
        const bytes = good[name].slice();
        bytes[at]! ^= 1 << at % 8;
        await refuses({ ...good, [name]: bytes }, `runs/a/${name}: damaged`);
      }
    });
    await t.step(`${name} cut off, or of another checkpoint`, async () => {
      await refuses({ ...good, [name]: good[name].slice(0, -1) }, `runs/a/${name}: damaged`);
      const other = serializeSafetensors([]);
      await refuses({ ...good, [name]: other }, "not of this checkpoint");
    });
  }
  const text = new TextDecoder().decode(good["run.json"]);
  const withRun = (json: string) => ({ ...good, "run.json": new TextEncoder().encode(json) });
  await t.step("run.json that is no JSON, or no object", async () => {
    for (const json of ["", text.slice(0, -3), "\uFEFF{}", "{}}"]) {
      await refuses(withRun(json), "runs/a/run.json: ");
    }
    await refuses({ ...good, "run.json": Uint8Array.of(0xff) }, "runs/a/run.json: is not JSON");
    for (const json of ["null", "[]", '"a"']) await refuses(withRun(json), "must be an object");
  });
  const faults: [path: string, value: unknown, message: string][] = [
    ["format", 2, "format must be 1, as this version of the library reads no other, is 2"],
    [
      "format",
      undefined,
      "format must be 1, as this version of the library reads no other, is missing",
    ],
    ["version", 1, "version must be a string"],
    ["adapter", "x".repeat(2000), "adapter must be a string"],
    ["config", [], "config must be an object, is a list"],
    ["config.batchSize", 0, "config: batchSize must be an integer from 1 to 65536, is 0"],
    ["config.lr", "fast", 'config: lr must be a finite number above 0, is "fast"'],
    ["config.model", 18, "config: model must be a string"],
    ["config.resize", [96], "config: resize must be an integer from 1 to 4096, or ROWSxCOLUMNS"],
    ["config.mean", ["0"], "config: mean must be a finite number, or one for each channel"],
    ["config.std", [1, 2], "config: std has 2 numbers, not 1"],
    ["config.freeze", "fc", "config: freeze must be beginnings of keys"],
    ["config.accumulate", 25, "config: accumulate makes 25 micro-batches of 24 images"],
    ["data.kind", "ftp", "data: kind must be one of: fashion-mnist, idx, folder, other"],
    ["data.classes", [], "data: classes must be a list of 1 to 65536"],
    ["data.channels", 0, "data: channels must be an integer from 1"],
    ["config.limit", undefined, "config: limit must be"],
    ["config.optimizer", "lion", "config: optimizer must be one of: adam, adamw, sgd"],
    ["config.momentum", null, "config: momentum must be a number from 0 to 1, is null"],
    ["images.train", 0, "images: train must be an integer from 1"],
    ["images.train", 100, "step 1 after 1 epochs"],
    ["history", {}, "history must be a list"],
    ["history", [], "is not step 4 of the run"],
    ["history.0.epoch", 2, "history[0]: epoch must be 1, is 2"],
    ["history.0.loss", null, "history[0]: loss must be a number"],
    ["history.0.testAccuracy", 1.5, "testAccuracy must be a number from 0 to 1"],
    ["step", 4, "step 4 after"],
    ["step", 1.5, "step must be an integer"],
    ["steps", 3, "is not step 3 of the run"],
    ["shuffle.stream", 2 ** 32, "shuffle: stream must be"],
    ["shuffle.position", 2 ** 53 - 1, "shuffle: position must be"],
    ["sums.loss", -1, "sums: loss must be"],
    ["seconds", "1", "seconds must be"],
    ["sha256", null, "sha256 must be an object, is null"],
    ["sha256.model\\.safetensors", "0", "sha256: model.safetensors must be a sha256"],
  ];
  await t.step("run.json with a wrong member", async () => {
    for (const [path, value, message] of faults) {
      const run = JSON.parse(text);
      const keys = path.split(/(?<!\\)\./).map((key) => key.replace("\\.", "."));
      const last = keys.pop()!;
      keys.reduce((object, key) => object[key], run)[last] = value;
      await refuses(withRun(JSON.stringify(run)), "runs/a/run.json", message);
    }
    const run = JSON.parse(text);
    Object.assign(run.config, { channels: 1 });
    Object.assign(run.data, { channels: 3 });
    await refuses(withRun(JSON.stringify(run)), "config: channels is 1, and the images have 3");
  });
});

Deno.test("a run's folder keeps the end of every epoch, and the latest stop", () =>
  inFolder(async (folder) => {
    const path = `${folder}/run`;
    {
      using run = await RunDirectory.open(path, { fresh: true });
      await assertRejects(() => loadCheckpoint(path), CheckpointError, "has no checkpoint yet");
      for (const [epochs, step] of [[0, 1], [0, 3], [1, 0], [2, 0], [2, 1], [2, 2]] as const) {
        const saved = await run.save(example(epochs, step));
        const loaded = await loadCheckpoint(path);
        assertEquals(loaded, { checkpoint: example(epochs, step), path: saved, run: path });
      }
    }
    assertEquals(names(`${path}/checkpoints`), ["epoch-1", "epoch-2", "epoch-3-step-2"]);
    assertEquals(names(`${path}/checkpoints/epoch-2`), [...CHECKPOINT_FILES].sort());
    // From one that is not the latest, a run can only go on elsewhere.
    assertEquals((await loadCheckpoint(`${path}/checkpoints/epoch-1`)).run, undefined);
    assertEquals((await loadCheckpoint(`${path}/checkpoints/epoch-3-step-2/`)).run, path);
    await assertRejects(
      () => RunDirectory.open(path, { fresh: true }),
      CheckpointError,
      `${path}: there is a run already; go on with it, or give another folder`,
    );
    using again = await RunDirectory.open(path, { fresh: false });
    await assertRejects(() => again.save(example(2, 2)), CheckpointError, "is there already");
  }));

Deno.test("epoch 10 comes after epoch 9, and other folders are not taken for checkpoints", () =>
  inFolder(async (folder) => {
    const path = `${folder}/run`;
    using run = await RunDirectory.open(path, { fresh: true });
    await run.save(example(9, 0));
    await run.save(example(10, 0));
    for (const name of ["epoch-99.old", "epoch-011", "epoch-0", "epoch-12-step-0", ".partial-1"]) {
      await Deno.mkdir(`${path}/checkpoints/${name}`);
    }
    await Deno.writeTextFile(`${path}/checkpoints/epoch-50`, "a file");
    assertEquals((await loadCheckpoint(path)).path, `${path}/checkpoints/epoch-10`);
  }));

Deno.test("a checkpoint that was moved to another disk is one where a link leads to it", () =>
  inFolder(async (folder) => {
    const path = `${folder}/run`, moved = `${folder}/moved`, link = `${path}/checkpoints/epoch-1`;
    {
      using run = await RunDirectory.open(path, { fresh: true });
      await run.save(example(1, 0));
    }
    // Deno may make links only where it may write everywhere.
    const script = 'mv "$0" "$1" && ln -s "$1" "$0" && ln -s nowhere "$2"';
    const args = ["-c", script, link, moved, `${path}/checkpoints/epoch-7`];
    assert((await new Deno.Command("sh", { args }).output()).success);
    assertEquals(await loadCheckpoint(path), {
      checkpoint: example(1, 0),
      path: link,
      run: path,
    });
    await assertRejects(
      () => RunDirectory.open(path, { fresh: true }),
      CheckpointError,
      "there is a run already",
    );
  }));

Deno.test("a checkpoint that cannot be written whole leaves the one before it, and no rest", () =>
  inFolder(async (folder) => {
    const path = `${folder}/run`;
    using run = await RunDirectory.open(path, { fresh: true });
    await run.save(example(1, 0));
    const { rename } = Deno;
    // The files are renamed into place one by one, then their folder.
    for (let failing = 1; failing <= CHECKPOINT_FILES.length + 1; failing++) {
      let renames = 0;
      Deno.rename = (from, to) =>
        ++renames === failing
          ? Promise.reject(new Error("No space left on device"))
          : rename(from, to);
      try {
        await assertRejects(() => run.save(example(2, 0)), Error, "No space left on device");
      } finally {
        Deno.rename = rename;
      }
      assertEquals(names(`${path}/checkpoints`), ["epoch-1"]);
      assertEquals((await loadCheckpoint(path)).checkpoint, example(1, 0));
    }
    await run.save(example(2, 0));
  }));

Deno.test("what a killed process left half written is never loaded, and is cleared away", () =>
  inFolder(async (folder) => {
    const path = `${folder}/run`;
    {
      using run = await RunDirectory.open(path, { fresh: true });
      await run.save(example(1, 0));
    }
    await Deno.mkdir(`${path}/checkpoints/.partial-x`);
    await Deno.writeTextFile(`${path}/checkpoints/.partial-x/model.safetensors`, "half");
    assertEquals((await loadCheckpoint(path)).path, `${path}/checkpoints/epoch-1`);
    using _ = await RunDirectory.open(path, { fresh: false });
    assertEquals(names(`${path}/checkpoints`), ["epoch-1"]);
  }));

Deno.test("a run's folder belongs to one process at a time", () =>
  inFolder(async (folder) => {
    const path = `${folder}/run`;
    {
      using run = await RunDirectory.open(path, { fresh: true });
      await assertRejects(
        () => RunDirectory.open(path, { fresh: true }),
        CheckpointError,
        `another process is training there (process ${Deno.pid})`,
      );
      await run.save(example(1, 0));
    }
    // A lock file that nobody holds, as a killed process leaves it, stops nobody.
    assertEquals(names(path), ["checkpoints", "lock"]);
    using _ = await RunDirectory.open(path, { fresh: false });
  }));

Deno.test("a run that saved nothing leaves no folder behind", () =>
  inFolder(async (folder) => {
    (await RunDirectory.open(`${folder}/run`, { fresh: true }))[Symbol.dispose]();
    assertEquals(names(folder), []);
    // A link to a folder, which may be on another disk, is the user's.
    const args = ["-c", 'mkdir "$0" && ln -s "$0" "$1"', `${folder}/real`, `${folder}/link`];
    assert((await new Deno.Command("sh", { args }).output()).success);
    (await RunDirectory.open(`${folder}/link`, { fresh: true }))[Symbol.dispose]();
    assertEquals([names(folder), names(`${folder}/real`)], [["link", "real"], []]);
  }));

Deno.test("a path that holds no checkpoint is refused with the reason", () =>
  inFolder(async (folder) => {
    const refuses = async (path: string, what: string) => {
      const error = await assertRejects(() => loadCheckpoint(path), CheckpointError, what);
      assert(error.message.startsWith(path), error.message);
    };
    await refuses(`${folder}/none`, "there is no such folder");
    await refuses(folder, "is neither a run's folder");
    const pickle = new TextEncoder().encode(`PK\x03\x04${"\0".repeat(26)}net/data.pkl`);
    await Deno.writeFile(`${folder}/net.pt`, pickle);
    await refuses(
      `${folder}/net.pt`,
      "net.pt: is a file; a run goes on from its own folder, or from a checkpoint's; " +
        "this is a PyTorch pickle (a zip); in Python: `safetensors.torch.save_file(",
    );
    const loading = assertRejects(() => loadTrained(`${folder}/net.pt`), SafetensorsError);
    assertMatch((await loading).message, /net\.pt: this is a PyTorch pickle \(a zip\); in Python/);
    const files = await encodeCheckpoint(example(1, 0));
    await Deno.writeFile(`${folder}/run.json`, files["run.json"]);
    await refuses(
      folder,
      "model.safetensors: there is no such file; the checkpoint is not complete",
    );
    await Deno.mkdir(`${folder}/model.safetensors`);
    await refuses(folder, "model.safetensors: is not a file");
    using file = await Deno.open(`${folder}/run.json`, { write: true });
    await file.truncate(2 ** 30);
    await Deno.remove(`${folder}/model.safetensors`);
    await Deno.writeFile(`${folder}/model.safetensors`, files["model.safetensors"]);
    await Deno.writeFile(`${folder}/optimizer.safetensors`, files["optimizer.safetensors"]);
    await refuses(folder, "run.json: 1073741824 bytes are more than");
    await Deno.writeFile(`${folder}/run.json`, files["run.json"]);
    await Deno.writeFile(`${folder}/model.safetensors`, pickle);
    await refuses(folder, "damaged, or not of this checkpoint: this is a PyTorch pickle (a zip)");
  }));
