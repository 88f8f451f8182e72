/**
 * Checkpoints as bytes: `model.safetensors` with PyTorch's state dict and nothing else,
 * `optimizer.safetensors` with `exp_avg.KEY` and the like, and `run.json` with all the rest and the
 * sha256 of the other two. Where files lie is not known here; `files/run.ts` knows.
 *
 * What is read may come from anywhere: it is checked before it is believed.
 *
 * @module
 */

import { brief, quote } from "../check/brief.ts";
import { parseJson } from "../check/json.ts";
import type { StateDict } from "../nn/module.ts";
import {
  checkInstance,
  checkNumbers,
  checkObject,
  checkString,
  refuse,
} from "../check/arguments.ts";
import type { RandomState } from "../graph/random.ts";
import {
  asFloat32Array,
  parseSafetensors,
  SafetensorsError,
  type SafetensorsInput,
  type SafetensorsTensor,
  serializeSafetensors,
} from "../formats/safetensors.ts";
import { checkList, formatShape, type Shape, sizeOf } from "../graph/shape.ts";
import { foreignFormat } from "../formats/safetensors_header.ts";
import {
  CONFIG_FIELDS,
  CONFIG_NAMES,
  DEFAULT_CONFIG,
  type EpochResult,
  type TrainConfig,
} from "./config.ts";

/** A checkpoint that cannot be used; the message names the file and says why. */
export class CheckpointError extends Error {
  /** `CheckpointError`. */
  override name = "CheckpointError";
}

/** Where a run stands, but for its tensors. */
export interface RunState {
  /** The library's version that wrote it. */
  readonly version: string;
  /** The adapter it ran on; another one's results differ in the last bits. */
  readonly adapter: string;
  /** Digest of the measured choices of kernels (`schedules` in the file); absent where there were none. */
  readonly tuned?: string;
  /** The settings. */
  readonly config: TrainConfig;
  /** How many images there were. */
  readonly images: { readonly train: number; readonly test: number };
  /** Results of the complete epochs. */
  readonly history: readonly EpochResult[];
  /** Batches trained on in the epoch that is not complete. */
  readonly step: number;
  /** Batches trained on in all. */
  readonly steps: number;
  /** The generator of this epoch's order, before it is drawn. */
  readonly shuffle: RandomState;
  /** Sums over the batches of this epoch: of losses, and of right answers. */
  readonly sums: { readonly loss: number; readonly correct: number };
  /** Seconds spent on this epoch. */
  readonly seconds: number;
}

/** All that is needed to go on with a run. */
export interface Checkpoint {
  /** Where the run stands. */
  readonly run: RunState;
  /** The net's state dict. */
  readonly model: StateDict;
  /** The optimizer's state: `exp_avg.KEY`, `exp_avg_sq.KEY`, of the parameter's shape. */
  readonly optimizer: StateDict;
}

/** The files of a checkpoint; `run.json` is the one that vouches for the others. */
export const CHECKPOINT_FILES = ["model.safetensors", "optimizer.safetensors", "run.json"] as const;

/** The bytes of each file of a checkpoint. */
export type CheckpointFiles = Record<typeof CHECKPOINT_FILES[number], Uint8Array<ArrayBuffer>>;

/** The largest `run.json` that is read. */
export const MAX_RUN_BYTES: number = 2 ** 24;
/** The largest safetensors file that is read. */
export const MAX_TENSOR_BYTES: number = 2 ** 31;

/** The format of `run.json`; another number is refused. */
const FORMAT = 1;
/** PyTorch counts batches in 64-bit integers, this library in f32: exact up to here. */
const MAX_COUNT = 2 ** 24;

const isCounter = (key: string) => /(^|\.)num_batches_tracked$/.test(key);

/** Throws unless argument `name` of `op` is a state dict. */
function checkState(op: string, name: string, state: unknown): asserts state is StateDict {
  checkInstance(op, name, state, Map);
  for (const [key, value] of state) {
    checkString(op, `a key of ${name}`, key);
    const at = `${name} ${quote(key)}`;
    checkObject(op, at, value);
    const { shape, data } = value as { shape?: Shape; data?: unknown };
    checkList(op, `${at}.shape`, shape);
    checkInstance(op, `${at}.data`, data, Float32Array);
    if (sizeOf(shape as Shape) !== data.length) {
      refuse(op, `${at}.data`, `as long as ${formatShape(shape as Shape)} says`, data);
    }
    if (isCounter(key)) checkNumbers(op, `${at}.data`, data, { integer: true, min: 0 });
  }
}

/** A checkpoint, argument of `op`, whose parts are there, and whose run is one that can be. */
export function checkedCheckpoint(op: string, checkpoint: Checkpoint): Checkpoint {
  checkObject(op, "checkpoint", checkpoint);
  checkObject(op, "checkpoint.run", checkpoint.run);
  decodeRun(runJson(checkpoint.run, NO_FILES), `${op}: checkpoint.run`);
  checkState(op, "checkpoint.model", checkpoint.model);
  checkState(op, "checkpoint.optimizer", checkpoint.optimizer);
  return checkpoint;
}

/** What `run.json` says of a run and of the other files' bytes. */
function runJson(run: RunState, sha256: object): Uint8Array<ArrayBuffer> {
  const plain = (_: string, value: unknown) => typeof value === "bigint" ? `${value}n` : value;
  const { version, adapter, tuned, ...rest } = run;
  const fields = { format: FORMAT, version, adapter, schedules: tuned, ...rest, sha256 };
  const json = JSON.stringify(fields, plain, 2);
  return new TextEncoder().encode(`${json}\n`);
}

/** Digests of files that are not there. */
const NO_FILES = Object.fromEntries(
  CHECKPOINT_FILES.slice(0, -1).map((name) => [name, "0".repeat(64)]),
);

/**
 * A state dict as a safetensors file that PyTorch's `load_state_dict` takes as it is: f32, but
 * `num_batches_tracked`, which is an i64 there. What a net has under two names is written under both.
 *
 * @throws {ArgumentError} where it is no state dict, or a count no integer.
 *
 * @example
 * ```ts
 * import { BatchNorm2d, decodeStateDict, encodeStateDict } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = encodeStateDict(await new BatchNorm2d(3).stateDict());
 * const names = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
 * assertEquals([...decodeStateDict(bytes, "bn.safetensors").keys()], names);
 * ```
 */
export function encodeStateDict(state: StateDict): Uint8Array<ArrayBuffer> {
  checkState("encodeStateDict", "state", state);
  return bytesOfState(state);
}

/** {@link encodeStateDict} of what is one. */
function bytesOfState(state: StateDict): Uint8Array<ArrayBuffer> {
  return serializeSafetensors(
    [...state].map(([key, { shape, data }]): [string, SafetensorsInput] => [
      key,
      isCounter(key)
        ? { dtype: "I64", shape, data: BigInt64Array.from(data, BigInt) }
        : { dtype: "F32", shape, data },
    ]),
    { format: "pt" },
  );
}

/**
 * The state dict in a safetensors file, ours or PyTorch's.
 *
 * @throws {ArgumentError} where an argument is of another kind.
 * @throws {SafetensorsError} when it is none; the message names `name` and the tensor.
 *
 * @example
 * ```ts
 * import { decodeStateDict, encodeStateDict, Linear } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const state = await new Linear(3, 2).stateDict();
 * assertEquals(decodeStateDict(encodeStateDict(state), "linear.safetensors"), state);
 * ```
 */
export function decodeStateDict(bytes: Uint8Array<ArrayBuffer>, name: string): StateDict {
  checkInstance("decodeStateDict", "bytes", bytes, Uint8Array);
  checkString("decodeStateDict", "name", name);
  const { tensors } = parseSafetensors(bytes, name);
  return new Map(
    [...tensors].map(([key, tensor]) => {
      const where = `${name}: tensor ${quote(key)}`;
      const data = isCounter(key) ? counts(tensor, where) : asFloat32Array(tensor, where);
      return [key, { shape: tensor.shape, data }];
    }),
  );
}

function counts(
  { dtype, shape, data }: SafetensorsTensor,
  where: string,
): Float32Array<ArrayBuffer> {
  if (dtype !== "I64") {
    throw new SafetensorsError(`${where}: dtype is ${quote(dtype)}, expected "I64"`);
  }
  if (shape.length > 0) {
    throw new SafetensorsError(
      `${where}: shape is [${brief(`${shape}`, 40)}], expected []: a count`,
    );
  }
  return Float32Array.from(new BigInt64Array(data.slice().buffer), (count) => {
    if (count < 0n || count > MAX_COUNT) {
      throw new SafetensorsError(`${where}: ${count} is not a count from 0 to ${MAX_COUNT}`);
    }
    return Number(count);
  });
}

/**
 * A checkpoint as files.
 *
 * @throws {ArgumentError} where a part of it is missing or of another kind.
 * @throws {CheckpointError} where the run is none that {@link decodeCheckpoint} would read.
 *
 * @example
 * ```ts
 * import { Flatten, Linear, Sequential } from "@resnette/resnette";
 * import { encodeCheckpoint, trainConfig, Trainer } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const size = { count: 2, height: 2, width: 2 }, classes = ["a", "b"];
 * const data = { images: new Uint8Array(8), labels: Uint8Array.of(0, 1), ...size, classes };
 * const net = new Sequential(new Flatten(), new Linear(4, 2));
 * const config = trainConfig({ batchSize: 2, resize: 2 });
 * using trainer = await Trainer.create({ config, train: data, test: data, net });
 * const files = await encodeCheckpoint(await trainer.checkpoint());
 * const names = ["model.safetensors", "optimizer.safetensors", "run.json"];
 * assertEquals(Object.keys(files), names);
 * ```
 */
export async function encodeCheckpoint(checkpoint: Checkpoint): Promise<CheckpointFiles> {
  const { run, model, optimizer } = checkedCheckpoint("encodeCheckpoint", checkpoint);
  const files = {
    "model.safetensors": bytesOfState(model),
    "optimizer.safetensors": bytesOfState(optimizer),
  };
  const sha256 = {
    "model.safetensors": await sha256Of(files["model.safetensors"]),
    "optimizer.safetensors": await sha256Of(files["optimizer.safetensors"]),
  };
  return { ...files, "run.json": runJson(run, sha256) };
}

/**
 * A checkpoint from its files.
 *
 * @param files The files' bytes.
 * @param folder What error messages put before the files' names.
 * @throws {ArgumentError} where a file is not there.
 * @throws {CheckpointError} when a file is damaged, of another checkpoint or another format.
 *
 * @example
 * ```ts
 * import {
 *   type Checkpoint,
 *   decodeCheckpoint,
 *   encodeCheckpoint,
 *   trainConfig,
 * } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const checkpoint: Checkpoint = {
 *   run: {
 *     version: "0.1.0",
 *     adapter: "a GPU",
 *     config: trainConfig(),
 *     images: { train: 60_000, test: 10_000 },
 *     history: [],
 *     step: 3,
 *     steps: 3,
 *     shuffle: { seed: 0, stream: 1, position: 0 },
 *     sums: { loss: 5.5, correct: 120 },
 *     seconds: 2,
 *   },
 *   model: new Map([["weight", { shape: [1], data: new Float32Array([7]) }]]),
 *   optimizer: new Map(),
 * };
 * const files = await encodeCheckpoint(checkpoint);
 * assertEquals(await decodeCheckpoint(files, "runs/a"), checkpoint);
 * ```
 */
export async function decodeCheckpoint(
  files: CheckpointFiles,
  folder: string,
): Promise<Checkpoint> {
  checkObject("decodeCheckpoint", "files", files);
  checkString("decodeCheckpoint", "folder", folder);
  for (const name of CHECKPOINT_FILES) {
    checkInstance("decodeCheckpoint", `files["${name}"]`, files[name], Uint8Array);
  }
  const { run, sha256 } = decodeRun(files["run.json"], `${folder}/run.json`);
  const tensors = async (file: keyof typeof sha256) => {
    const name = `${folder}/${file}`;
    if (await sha256Of(files[file]) !== sha256[file]) {
      const what = foreignFormat(files[file]) ?? "its sha256 is not the one in run.json";
      throw new CheckpointError(`${name}: damaged, or not of this checkpoint: ${what}`);
    }
    try {
      return decodeStateDict(files[file], name);
    } catch (cause) {
      if (!(cause instanceof SafetensorsError)) throw cause;
      throw new CheckpointError(cause.message, { cause });
    }
  };
  return {
    run,
    model: await tensors("model.safetensors"),
    optimizer: await tensors("optimizer.safetensors"),
  };
}

async function sha256Of(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** What `run.json` says, checked: types, ranges, and that its numbers agree with each other. */
function decodeRun(
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
): { run: RunState; sha256: Record<"model.safetensors" | "optimizer.safetensors", string> } {
  let json: unknown;
  try {
    json = parseJson(bytes);
  } catch (cause) {
    throw new CheckpointError(`${name}: ${(cause as Error).message}`, { cause });
  }
  const top = new Reader(json, name);
  const format = top.take("format", "a number", isNumber);
  if (format !== FORMAT) {
    throw new CheckpointError(
      `${name}: has format ${format}, and this version of the library reads ${FORMAT}`,
    );
  }
  const configOf = top.object("config");
  const config = Object.fromEntries(CONFIG_NAMES.map((key) => {
    const { wanted, allows, late } = CONFIG_FIELDS[key];
    const fits = (x: unknown): x is unknown => late && x === undefined || allows(x);
    return [key, configOf.take(key, wanted, fits) ?? DEFAULT_CONFIG[key]];
  })) as unknown as TrainConfig;
  const images = top.object("images");
  const shuffle = top.object("shuffle");
  const sums = top.object("sums");
  const sha256 = top.object("sha256");
  const tuned = top.take("schedules", "a string", isOptionalString);
  const run: RunState = {
    version: top.take("version", "a string", isString),
    adapter: top.take("adapter", "a string", isString),
    ...tuned !== undefined && { tuned },
    config,
    images: { train: images.count("train", 1), test: images.count("test", 1) },
    history: top.list("history").map((result, i) => ({
      epoch: result.count("epoch", i + 1, i + 1),
      loss: result.number("loss"),
      trainAccuracy: result.number("trainAccuracy", 1),
      testAccuracy: result.number("testAccuracy", 1),
      seconds: result.number("seconds"),
    })),
    step: top.count("step"),
    steps: top.count("steps"),
    shuffle: {
      seed: shuffle.count("seed"),
      stream: shuffle.count("stream", 0, 2 ** 32 - 1),
      position: shuffle.count("position"),
    },
    sums: { loss: sums.number("loss"), correct: sums.count("correct") },
    seconds: top.number("seconds"),
  };
  const perEpoch = Math.ceil(run.images.train / config.batchSize);
  if (run.step > perEpoch || run.steps !== run.history.length * perEpoch + run.step) {
    throw new CheckpointError(
      `${name}: step ${run.step} after ${run.history.length} epochs of ${perEpoch} steps is not ` +
        `step ${run.steps} of the run`,
    );
  }
  const hex = (file: string) => sha256.take(file, "a sha256 in hex", isSha256);
  return {
    run,
    sha256: {
      "model.safetensors": hex("model.safetensors"),
      "optimizer.safetensors": hex("optimizer.safetensors"),
    },
  };
}

const isNumber = (x: unknown): x is number => typeof x === "number" && Number.isFinite(x);
const isString = (x: unknown): x is string => typeof x === "string" && x.length <= 1000;
const isOptionalString = (x: unknown): x is string | undefined => x === undefined || isString(x);
const isSha256 = (x: unknown): x is string => typeof x === "string" && /^[0-9a-f]{64}$/.test(x);

/** Members of a JSON object, checked one by one. */
class Reader {
  readonly #object: object;

  constructor(value: unknown, readonly name: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new CheckpointError(`${name}: must be an object, is ${shown(value)}`);
    }
    this.#object = value;
  }

  take<T>(key: string, wanted: string, allows: (value: unknown) => value is T): T {
    const value = Object.getOwnPropertyDescriptor(this.#object, key)?.value;
    if (!allows(value)) {
      throw new CheckpointError(`${this.name}: ${key} must be ${wanted}, is ${shown(value)}`);
    }
    return value;
  }

  /** An integer. */
  count(key: string, min = 0, max = Number.MAX_SAFE_INTEGER): number {
    const allows = (x: unknown): x is number =>
      Number.isInteger(x) && x as number >= min && x as number <= max;
    return this.take(key, `an integer from ${min} to ${max}`, allows);
  }

  /** A number that is not negative. */
  number(key: string, max = Number.MAX_VALUE): number {
    const allows = (x: unknown): x is number => isNumber(x) && x >= 0 && x <= max;
    return this.take(key, `a number from 0 to ${max}`, allows);
  }

  object(key: string): Reader {
    return new Reader(
      this.take(key, "an object", (_): _ is unknown => true),
      `${this.name}: ${key}`,
    );
  }

  list(key: string): Reader[] {
    const values = this.take(key, "a list", (x): x is unknown[] => Array.isArray(x));
    return values.map((value, i) => new Reader(value, `${this.name}: ${key}[${i}]`));
  }
}

function shown(value: unknown): string {
  return value === undefined ? "missing" : brief(JSON.stringify(value), 60);
}
