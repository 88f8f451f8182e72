/**
 * Files of a run that are damaged or lie: safetensors, checkpoints and measured choices. Mutants,
 * 58,000 in a soak, are read if everything in them fits together; else they are errors with a message.
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  decodeStateDict,
  Device,
  encodeStateDict,
  parseSafetensors,
  type Random,
  SafetensorsError,
  type SafetensorsInput,
  serializeSafetensors,
} from "@resnette/resnette";
import {
  type Checkpoint,
  CHECKPOINT_FILES,
  CheckpointError,
  type CheckpointFiles,
  decodeCheckpoint,
  encodeCheckpoint,
  trainConfig,
} from "@resnette/resnette/train";
import * as json from "../../lib/check/json.ts";
import { loadCheckpoint } from "../../lib/files/run.ts";
import { loadTrained } from "../../lib/files/trained.ts";
import { readTuned, writeTuned } from "../../lib/files/tuned.ts";
import { inFolder } from "../folder.ts";
import {
  type Bytes,
  damagedJson,
  damagedTensors,
  fuzz,
  pick,
  reasonOf,
  tensorsFile,
  utf8,
} from "../mutants.ts";
import { rounds } from "../soak.ts";
import { tinyNet } from "../tiny_train.ts";

const LIMITS = { milliseconds: 2000, megabytes: 150 };

// Safetensors.

const tiny = await tinyNet().stateDict();
const TENSORS: Bytes[] = [
  serializeSafetensors([
    ["0.weight", { dtype: "F32", shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) }],
    ["steps", { dtype: "I64", shape: [1], data: BigInt64Array.of(1n) }],
    ["labels", { dtype: "U8", shape: [3], data: new Uint8Array(3) }],
  ], { format: "pt" }),
  await Deno.readFile("tests/fixtures/python_written.safetensors"),
  encodeStateDict(tiny),
];

/** Looks whether a safetensors file that is read has every byte in a tensor, and is what it says. */
function checkTensors(file: Bytes): void {
  const { tensors, metadata } = parseSafetensors(file, "a.safetensors");
  assertEquals(Object.getPrototypeOf(metadata), null);
  const header = Number(new DataView(file.buffer).getBigUint64(0, true));
  const held = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
  assertEquals(held, file.length - 8 - header);
  const again = serializeSafetensors(
    [...tensors].map(([name, tensor]) => [name, tensor as SafetensorsInput]),
    metadata,
  );
  assertEquals(parseSafetensors(again, "again"), { tensors, metadata });
  try {
    for (const { shape, data } of decodeStateDict(file, "a.safetensors").values()) {
      assertEquals(data.length, shape.reduce((a, b) => a * b, 1));
    }
  } catch (error) {
    reasonOf(error, [SafetensorsError], "a.safetensors: tensor ");
  }
}

Deno.test("mutants of safetensors files are read, every byte in its tensor, or refused", () =>
  fuzz("safetensors", { ...LIMITS, stream: 3, count: rounds(1500, 30_000) }, async (random) => {
    const whole = pick(random, TENSORS), other = pick(random, TENSORS);
    const { file, hostile } = damagedTensors(random, whole, other);
    try {
      await checkTensors(file);
      assert(!hostile, "read, though it lies");
      return undefined;
    } catch (error) {
      return reasonOf(error, [SafetensorsError], "a.safetensors: ");
    }
  }));

// Checkpoints.

/** Of a run of `tiny`, in its second epoch. */
const CHECKPOINT: Checkpoint = {
  run: {
    version: "0.1.0",
    adapter: "an adapter",
    tuned: "0123456789abcdef",
    config: trainConfig({ model: "tiny", batchSize: 24, epochs: 5, limit: 64 }),
    data: {
      ...{ kind: "idx", path: "digits", fill: 0.714, channels: 1, height: 20, width: 30 },
      classes: Array.from("0123456789"),
    },
    images: { train: 64, test: 32 },
    history: [{ epoch: 1, loss: 0.5, trainAccuracy: 0.5, testAccuracy: 1, seconds: 1.25 }],
    ...{ step: 2, steps: 5, seconds: 0.5 },
    shuffle: { seed: 0, stream: 2, position: 0 },
    sums: { loss: 1.5, correct: 20 },
  },
  model: tiny,
  optimizer: new Map([["exp_avg.2.1.bias", { shape: [10], data: new Float32Array(10) }]]),
};
const FILES = await encodeCheckpoint(CHECKPOINT);
const RUN = JSON.parse(new TextDecoder().decode(FILES["run.json"]));

/** A checkpoint with one file damaged; often with a `run.json` that vouches for that. */
async function damagedCheckpoint(random: Random) {
  const name = pick(random, [...CHECKPOINT_FILES, "run.json"] as const);
  const { file, hostile: lies } = name === "run.json"
    ? damagedJson(random, RUN)
    : damagedTensors(random, FILES[name], pick(random, TENSORS));
  const files: CheckpointFiles = { ...FILES, [name]: file };
  const sealed = name === "run.json" || random.below(8) > 0;
  if (name !== "run.json" && sealed) {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", file)).toHex();
    files["run.json"] = utf8(JSON.stringify({ ...RUN, sha256: { ...RUN.sha256, [name]: hash } }));
  }
  const same = file.length === FILES[name].length &&
    file.every((byte, i) => byte === FILES[name][i]);
  return { name, files, sealed, hostile: lies || !sealed && !same };
}

/** Looks whether all that a checkpoint says can be. */
async function checkCheckpoint(checkpoint: Checkpoint): Promise<void> {
  const { run, model, optimizer } = checkpoint;
  const known = { ...run.config, model: "tiny" };
  assertEquals(trainConfig(known), known);
  const { epochs, batchSize, resize, seed, warmup, stepSize } = run.config;
  const sides = [resize].flat();
  const { classes, channels, height, width } = run.data;
  assert(classes.every((name) => typeof name === "string") && Math.min(height, width) > 0);
  for (
    const count of [
      epochs,
      batchSize,
      ...sides,
      channels,
      seed,
      warmup,
      stepSize,
      run.step,
      run.steps,
    ]
  ) {
    assert(Number.isSafeInteger(count) && count >= 0, `${count} is no count`);
  }
  assert(epochs > 0 && batchSize <= 65_536 && Math.max(...sides) <= 4096 && run.images.test > 0);
  const again = await decodeCheckpoint(await encodeCheckpoint(checkpoint), "again");
  assertEquals(JSON.stringify(again.run), JSON.stringify(run));
  assertEquals([again.model, again.optimizer], [model, optimizer]);
  for (const { shape, data } of [...model.values(), ...optimizer.values()]) {
    assertEquals(data.length, shape.reduce((a, b) => a * b, 1));
  }
  assert(run.steps >= run.history.length && run.sums.loss < Infinity && run.seconds < Infinity);
}

Deno.test("mutants of checkpoints hold a run that can be, or are refused", () =>
  fuzz("checkpoints", { ...LIMITS, stream: 4, count: rounds(800, 15_000) }, async (random) => {
    const { files, hostile } = await damagedCheckpoint(random);
    try {
      const checkpoint = await decodeCheckpoint(files, "runs/a");
      assert(!hostile, "read, though it lies");
      await checkCheckpoint(checkpoint);
      return undefined;
    } catch (error) {
      return reasonOf(error, [CheckpointError], "runs/a/");
    }
  }));

Deno.test("mutants of checkpoints on the disk are a network that can be, or are refused", () =>
  inFolder((folder) =>
    fuzz("folders", { ...LIMITS, stream: 5, count: rounds(200, 5000) }, async (random) => {
      const { files, name, sealed, hostile } = await damagedCheckpoint(random);
      const path = `${folder}/run/checkpoints/epoch-2-step-2`;
      await Deno.mkdir(path, { recursive: true });
      for (const file of CHECKPOINT_FILES) await Deno.writeFile(`${path}/${file}`, files[file]);
      const alone = name === "model.safetensors" && sealed && random.below(2) === 0;
      const file = `${folder}/alone.safetensors`;
      if (alone) await Deno.writeFile(file, files[name]);
      try {
        if (!alone) await checkCheckpoint((await loadCheckpoint(`${folder}/run`)).checkpoint);
        const { net, model } = await loadTrained(alone ? file : `${folder}/run`);
        assert(!hostile, "read, though it lies");
        assertEquals([model, (await net.stateDict()).size], ["tiny", tiny.size]);
        return undefined;
      } catch (error) {
        return reasonOf(error, [CheckpointError, SafetensorsError], alone ? file : path);
      }
    })
  ));

// Measured schedules.

Deno.test("mutants of measured choices are a table of short words, or refused", () =>
  inFolder(async (folder) => {
    const tuned = new Map([["product 1 16x32x64", "register 4x1"], ["b", "c"], ["d", "e"]]);
    using device = await Device.request({ tuned });
    const path = await writeTuned(device, folder);
    const good = JSON.parse(await Deno.readTextFile(path));
    await fuzz("schedules", { ...LIMITS, stream: 6, count: rounds(300, 8000) }, async (random) => {
      const { file, hostile } = damagedJson(random, good);
      await Deno.writeFile(path, file);
      try {
        const read = await readTuned(device, folder);
        assert(!hostile, "read, though it lies");
        assert([...read].flat().every((word) => typeof word === "string" && word.length <= 200));
        return undefined;
      } catch (error) {
        return reasonOf(error, [Error], `${path}: not a table of choices, so it is ignored: `);
      }
    });
  }));

// Without chance.

Deno.test("files are refused wherever they are cut off", () =>
  inFolder(async (folder) => {
    for (const file of TENSORS) {
      for (let length = 0; length < file.length; length++) {
        assertThrows(
          () => parseSafetensors(file.slice(0, length), "cut"),
          SafetensorsError,
          "cut: ",
        );
      }
    }
    const cuts = (file: Bytes) =>
      Array.from(file.slice(0, -2), (_, length) => file.slice(0, length));
    for (const file of cuts(FILES["run.json"])) {
      const cut = { ...FILES, "run.json": file };
      await assertRejects(
        () => decodeCheckpoint(cut, "a"),
        CheckpointError,
        "a/run.json: is not JSON",
      );
    }
    using device = await Device.request({ tuned: new Map([["a", "b"]]) });
    const path = await writeTuned(device, folder);
    for (const file of cuts(await Deno.readFile(path))) {
      await Deno.writeFile(path, file);
      await assertRejects(() => readTuned(device, folder), Error, `${path}: not a table`);
    }
  }));

Deno.test("JSON has no key twice, no __proto__ and no end of depth", () => {
  const deep = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
  const refused: [text: string, message: string][] = [
    ['{"a":1,"a":2}', 'has the key "a" twice in one object'],
    ['{"a":1,"b":{"a":2},"\\u0061":2}', 'has the key "a" twice'],
    ['[[{"a":[{}],"b":"a","a":2}]]', 'has the key "a" twice'],
    ['{"__proto__":{"polluted":true}}', 'has the key "__proto__"'],
    ['[{"a" :0,\n "\\u005f_proto__" : 1}]', 'has the key "__proto__"'],
    [deep(33), "has more than 32 nested objects and lists"],
    [`{"a":`.repeat(4e6), "has more than 32"],
    ['{"a', "is not JSON"],
    ['{"\\x":0}', "is not JSON"],
    ["", "is not JSON"],
    ["]]]{", "is not JSON"],
  ];
  for (const [text, message] of refused) {
    const error = assertThrows(() => json.parseJson(utf8(text), json.any), SyntaxError, message);
    assert(error.message.length < 100, error.message);
  }
  assertThrows(
    () => json.parseJson(Uint8Array.of(0x22, 0xff, 0x22), json.any),
    SyntaxError,
    "not UTF-8",
  );
  const read = [
    deep(32),
    '{"a":{"a":{"a":"a"}},"b":["a","a",{"a":"{[\\\\"},{"a":"\\"a"}],"":","}',
    '["a","a",{},{"constructor":"__proto__","toString":["__proto__"]}]',
    ` ${JSON.stringify(RUN, null, 2)}\n`,
  ];
  for (const text of read) assertEquals(json.parseJson(utf8(text), json.any), JSON.parse(text));
});

Deno.test("what a JSON file must hold is refused by place, value and what is wanted", () => {
  const kind = json.record({
    rows: json.count(1, 9),
    names: json.optional(json.list(json.string(3), { max: 2 }), []),
    shares: json.entries(json.number(1), { max: 2, longest: 4 }),
  });
  const read = (text: string) => json.parseJson(text, kind, { name: "a.json" });
  assertEquals(read('{"shares":{"10":1,"2":0.5},"more":[{}],"rows":9}'), {
    rows: 9,
    names: [],
    shares: [["10", 1], ["2", 0.5]],
  });
  const refused: [text: string, message: string][] = [
    ["[]", "must be an object, is a list"],
    ['{"shares":{}}', "rows must be an integer from 1 to 9, is missing"],
    ['{"rows":10,"shares":{}}', "rows must be an integer from 1 to 9, is 10"],
    ['{"rows":1.0,"shares":{}}', "rows must be an integer from 1 to 9, is 1.0"],
    ['{"rows":"1","shares":{}}', 'rows must be an integer from 1 to 9, is "1"'],
    ['{"names":["abc",null]}', "names[1] must be a string of at most 3 characters, is null"],
    ['{"names":["a","b","c"]}', "names must be a list of 0 to 2, is longer"],
    ['{"shares":{"a":1.5}}', 'shares: "a" must be a number from 0 to 1, is 1.5'],
    ['{"shares":{"a":1,"b":1,"c":1}}', "shares must be an object of at most 2 members, is larger"],
    ['{"shares":{"abcde":1}}', "shares: has a key of more than 4 characters"],
    ['{"more":{"a":1,"a":1}}', 'has the key "a" twice in one object'],
    ['{"rows":1,"shares":{}', "is not JSON: it should have a comma or } where it ends"],
  ];
  for (const [text, message] of refused) {
    const error = assertThrows(() => read(text), SyntaxError);
    assertEquals(error.message, `a.json: ${message}`);
  }
});

/** What refusing a file takes. */
async function cost(refuse: () => unknown, message: string): Promise<void> {
  const before = Deno.memoryUsage().rss, start = performance.now();
  const error = await assertRejects(async () => await refuse(), Error, message);
  assert(error instanceof SafetensorsError || error instanceof CheckpointError, `${error}`);
  assert(error.message.length < 500, `a message of ${error.message.length} characters`);
  const grown = (Deno.memoryUsage().rss - before) / 1e6, took = performance.now() - start;
  assert(grown < 40, `${message}: memory grew by ${grown} MB`);
  assert(took < 2000, `${message}: took ${took} ms`);
}

Deno.test("claims of gigabytes in a small file cost nothing, and no message is long", async () => {
  const tensor = (name: string, dtype: string, shape: number[], end: number) =>
    tensorsFile(
      JSON.stringify({ [name]: { dtype, shape, data_offsets: [0, end] } }),
      new Uint8Array(900),
    );
  const parse = (file: Bytes) => () => decodeStateDict(file, "a.safetensors");
  await cost(
    parse(tensor("a", "F32", [2_500_000_000], 1e10)),
    "end at 10000000000, beyond the data",
  );
  await cost(parse(tensor("a", "U8", [1e10], 900)), "need 10000000000");
  await cost(
    parse(tensorsFile("{}", new Uint8Array(900), 10_000_000_000n)),
    "header length 10000000000",
  );
  await cost(parse(tensor("x".repeat(1e6), "I16", [450], 900)), 'dtype is "I16", expected one of');
  await cost(
    parse(tensor("\u0001".repeat(1e6), "U8", [1], 1)),
    "data has 900 bytes, tensors cover",
  );
  // A counter of a batch norm, of millions: read one by one, they would take a hundred times as much.
  const counts = new BigInt64Array(1e6);
  await cost(
    parse(serializeSafetensors([[
      `${"x".repeat(1e6)}.num_batches_tracked`,
      { dtype: "I64", shape: [1e6], data: counts },
    ]])),
    "shape is [1000000], expected []",
  );
  const run = (json: unknown) => () =>
    decodeCheckpoint({ ...FILES, "run.json": utf8(JSON.stringify(json)) }, "a");
  await cost(run({ ...RUN, version: "x".repeat(1e6) }), "version must be a string");
  await cost(run({ ...RUN, step: new Array(1e6).fill(0) }), "step must be an integer");
  await cost(run({ ...RUN, history: { length: 1e10 } }), "history must be a list");
  await cost(run({ ...RUN, images: { train: 1e10, test: 1 } }), "is not step 5 of the run");
});

Deno.test("a checkpoint's tensors that are none, or do not fit the network, are refused by file", () =>
  inFolder(async (folder) => {
    const load = async (model: CheckpointFiles["run.json"]) => {
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", model)).toHex();
      const sha256 = { ...RUN.sha256, "model.safetensors": hash };
      const files = { ...FILES, "model.safetensors": model };
      files["run.json"] = utf8(JSON.stringify({ ...RUN, sha256 }));
      for (const name of CHECKPOINT_FILES) await Deno.writeFile(`${folder}/${name}`, files[name]);
      const error = await assertRejects(() => loadTrained(folder), CheckpointError);
      assert(error.message.startsWith(folder) && error.message.length < 600, error.message);
      return error.message.slice(folder.length);
    };
    assertEquals(
      await load(utf8("{}")),
      "/model.safetensors: 2 bytes are too few for a header length",
    );
    const empty = { shape: [0], data: new Float32Array() };
    const many = Array.from(
      { length: 1000 },
      (_, i) => [`${"x".repeat(1000)}${i}`, empty] as const,
    );
    const message = await load(encodeStateDict(new Map(many)));
    assert(
      message.startsWith(": loadStateDict: the values do not fit this model; missing: "),
      message,
    );
    const path = `${folder}/alone.safetensors`;
    await Deno.writeFile(path, encodeStateDict(new Map(many)));
    const { message: alone } = await assertRejects(() => loadTrained(path), CheckpointError);
    assert(alone.startsWith(`${path}: its 1000 tensors (xxx`) && alone.length < 600, alone);
  }));
