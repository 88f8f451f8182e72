/**
 * Checkpoints as bytes: `model.safetensors` with PyTorch's state dict and nothing else,
 * `optimizer.safetensors` with `exp_avg.KEY` and the like, and `run.json` with all the rest and the
 * sha256 of the other two. `files/run.ts` has them as files in a folder.
 *
 * What is read may come from anywhere, so it is checked.
 *
 * @module
 */

import * as json from "../check/json.ts";
import type { StateDict } from "../nn/module.ts";
import {
  checkChoice,
  checkInstance,
  checkNumber,
  checkObject,
  checkOptions,
  checkString,
} from "../check/arguments.ts";
import { FASHION_MNIST_CLASSES } from "../data/fashion_mnist.ts";
import type { RandomState } from "../graph/random.ts";
import { SafetensorsError } from "../formats/safetensors.ts";
import { bytesOfState, checkState, decodeStateDict } from "../formats/state_dict.ts";
import { foreignFormat } from "../formats/foreign.ts";
import {
  CONFIG_FIELDS,
  CONFIG_NAMES,
  DEFAULT_CONFIG,
  type EpochResult,
  sameSetting,
  type TrainConfig,
} from "./config.ts";

/** A checkpoint that cannot be used; the message names the file and says why. */
export class CheckpointError extends Error {
  /** `CheckpointError`. */
  override name = "CheckpointError";
}

/** Kinds of data sets. */
const KINDS: readonly DataSource["kind"][] = ["fashion-mnist", "idx", "folder", "other"];

/** Where the images of a run are from. */
export interface DataSource {
  /** Fashion-MNIST, other IDX files, a folder of image files, or something else. */
  readonly kind: "fashion-mnist" | "idx" | "folder" | "other";
  /** Their path; null if they have none. */
  readonly path: string | null;
  /** For IDX files: the share of an image's side that the object on it fills; 1 by default. */
  readonly fill?: number;
}

/** The images that a run trains and tests with. */
export interface TrainedOn extends DataSource {
  /** The classes' names, by label. */
  readonly classes: readonly string[];
  /** 1 for grey, 3 for red, green and blue. */
  readonly channels: number;
  /** Rows of an image, before it is resized. */
  readonly height: number;
  /** Columns of an image, before it is resized. */
  readonly width: number;
}

/** Fashion-MNIST: what was trained on before there was anything else, or by a file that stands alone. */
export const FASHION_MNIST: TrainedOn = {
  ...{ kind: "fashion-mnist", path: null, channels: 1, height: 28, width: 28 },
  classes: FASHION_MNIST_CLASSES,
};

/** Where images are from that nobody says more of: their classes may tell. */
export const sourceOf = ({ classes }: Pick<TrainedOn, "classes">): DataSource => ({
  kind: sameSetting(classes, FASHION_MNIST_CLASSES) ? "fashion-mnist" : "other",
  path: null,
});

/** An option `source` of `op`, checked. */
export function checkedSource(op: string, source: DataSource): DataSource {
  checkOptions(`${op}: source`, source, ["kind", "path", "fill"]);
  const { kind, path, fill } = source;
  checkChoice(op, "source.kind", kind, KINDS);
  if (path !== null) checkString(op, "source.path", path);
  if (fill === undefined) return { kind, path };
  checkNumber(op, "source.fill", fill, { min: 0, max: 1 });
  return { kind, path, fill };
}

/** All of a run's state but its tensors. */
export interface RunState {
  /** The version of the library that wrote it. */
  readonly version: string;
  /** The adapter that it ran on; the results of another one differ in the last bits. */
  readonly adapter: string;
  /** Digest of what `tune` had measured (`schedules` in the file); undefined if nothing was. */
  readonly tuned?: string;
  /** The settings. */
  readonly config: TrainConfig;
  /** The images; Fashion-MNIST if an old `run.json` does not say. */
  readonly data: TrainedOn;
  /** The numbers of training and test images. */
  readonly images: { readonly train: number; readonly test: number };
  /** Results of the complete epochs. */
  readonly history: readonly EpochResult[];
  /** Batches trained on in the present epoch. */
  readonly step: number;
  /** Batches trained on in all. */
  readonly steps: number;
  /** State of the random generator before it draws the order of this epoch. */
  readonly shuffle: RandomState;
  /** Sums over the batches of this epoch: of losses, and of images classified right. */
  readonly sums: { readonly loss: number; readonly correct: number };
  /** Seconds spent on this epoch. */
  readonly seconds: number;
}

/** All that is needed to go on with a run. */
export interface Checkpoint {
  /** Settings, results and progress. */
  readonly run: RunState;
  /** The net's state dict. */
  readonly model: StateDict;
  /**
   * The optimizer's state, such as `exp_avg.KEY` for the parameter with that key and of its shape;
   * and `buffer.KEY` for each `UnsavedBuffer` of the net, such as a dropout's count of draws.
   */
  readonly optimizer: StateDict;
}

/** The files of a checkpoint; `run.json` has the checksums of the other two. */
export const CHECKPOINT_FILES = ["model.safetensors", "optimizer.safetensors", "run.json"] as const;

/** The bytes of each file of a checkpoint. */
export type CheckpointFiles = Record<typeof CHECKPOINT_FILES[number], Uint8Array<ArrayBuffer>>;

/** The largest `run.json` that is read. */
export const MAX_RUN_BYTES: number = 2 ** 24;
/** The largest safetensors file that is read: Adam's state of 2³⁰ parameters. */
export const MAX_TENSOR_BYTES: number = 2 ** 33;

/** The most classes, the longest side, and the longest path, that `run.json` may tell of. */
const MOST_CLASSES = 2 ** 16, MOST_SIZE = 2 ** 15, LONGEST_PATH = 2 ** 15;

/** The farthest that a generator may have come: an order is drawn from there on, and 2⁵³ words are all. */
const MOST_DRAWN = 2 ** 52;

/** The format of `run.json`; another number is refused. */
const FORMAT = 1;
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
 * Writes a checkpoint as the bytes of its three files. PyTorch's `load_state_dict` takes
 * `model.safetensors` as it is.
 *
 * @throws {ArgumentError} if a part of it is missing or of another kind.
 * @throws {CheckpointError} if it could not be read again, as its numbers do not agree, or a file
 * would exceed 8 GiB.
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
    "model.safetensors": boundedBytes("model.safetensors", model),
    "optimizer.safetensors": boundedBytes("optimizer.safetensors", optimizer),
  };
  const sha256 = {
    "model.safetensors": await sha256Of(files["model.safetensors"]),
    "optimizer.safetensors": await sha256Of(files["optimizer.safetensors"]),
  };
  return { ...files, "run.json": runJson(run, sha256) };
}

/** A file of a checkpoint; throws if it would be larger than what is read. */
function boundedBytes(name: string, state: StateDict): Uint8Array<ArrayBuffer> {
  const check = (bytes: number) => {
    if (bytes <= MAX_TENSOR_BYTES) return;
    throw new CheckpointError(
      `${name}: ${bytes} bytes are more than ${MAX_TENSOR_BYTES}, and could not be read again; ` +
        "train a smaller net, freeze a part of it, or take SGD, which keeps half of what Adam does",
    );
  };
  // Before the memory is taken; names and shapes come on top.
  check([...state.values()].reduce((sum, { data }) => sum + data.byteLength, 0));
  const bytes = bytesOfState(state);
  check(bytes.length);
  return bytes;
}

/**
 * Reads a checkpoint from the bytes of its three files.
 *
 * @param files The files' bytes.
 * @param folder What error messages put before the files' names.
 * @throws {ArgumentError} if a file is missing.
 * @throws {CheckpointError} if a file is damaged, or of another checkpoint or format.
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
 *     data: {
 *       ...{ kind: "folder", path: "photos", classes: ["cat", "dog"] },
 *       ...{ channels: 3, height: 96, width: 96 },
 *     },
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

/** The sha256 of bytes, in hex. */
export async function sha256Of(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

const SHA256: json.Kind<string> = json.value(
  "a sha256 in hex",
  (x) => typeof x === "string" && /^[0-9a-f]{64}$/.test(x),
);

/** What `run.json` holds, its format first; models may be added meanwhile. */
const runKind = () =>
  json.record({
    format: json.value<number>(
      `${FORMAT}, as this version of the library reads no other`,
      (x) => x === FORMAT,
    ),
    version: json.string(),
    adapter: json.string(),
    schedules: json.optional(json.string(), undefined),
    config: json.record(
      Object.fromEntries(CONFIG_NAMES.map((name) => {
        const { wanted, allows, normal = (x) => x, late } = CONFIG_FIELDS[name];
        // A net of one's own has a name that is not known here: the path of its file.
        const kind = name === "model"
          ? json.string(LONGEST_PATH)
          : json.tested(wanted, allows, normal);
        return [name, late ? json.optional(kind, DEFAULT_CONFIG[name]) : kind];
      })),
    ) as json.Kind<unknown> as json.Kind<TrainConfig>,
    data: json.optional(
      json.record<Omit<TrainedOn, "fill"> & { fill: number | undefined }>({
        fill: json.optional(json.number(1), undefined),
        kind: json.value(`one of: ${KINDS.join(", ")}`, (x) => KINDS.includes(x as "other")),
        path: json.value("a path or null", (x) => x === null || typeof x === "string"),
        classes: json.list(json.string(), { min: 1, max: MOST_CLASSES }),
        channels: json.count(1, MOST_SIZE),
        height: json.count(1, MOST_SIZE),
        width: json.count(1, MOST_SIZE),
      }),
      { ...FASHION_MNIST, fill: undefined },
    ),
    images: json.record({ train: json.count(1), test: json.count(1) }),
    history: json.list((i) =>
      json.record({
        epoch: json.count(i + 1, i + 1),
        loss: json.number(),
        trainAccuracy: json.number(1),
        testAccuracy: json.number(1),
        seconds: json.number(),
      })
    ),
    step: json.count(),
    steps: json.count(),
    shuffle: json.record({
      seed: json.count(),
      stream: json.count(0, 2 ** 32 - 1),
      position: json.count(0, MOST_DRAWN),
    }),
    sums: json.record({ loss: json.number(), correct: json.count() }),
    seconds: json.number(),
    sha256: json.record({ "model.safetensors": SHA256, "optimizer.safetensors": SHA256 }),
  });

/** What `run.json` says, checked: types, ranges, and that its numbers agree with each other. */
function decodeRun(
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
): { run: RunState; sha256: Record<"model.safetensors" | "optimizer.safetensors", string> } {
  const { format: _, schedules: tuned, sha256, version, adapter, data: found, ...rest } = json
    .parseJson(bytes, runKind(), { name, error: CheckpointError });
  const { fill, ...images } = found;
  const data: TrainedOn = { ...images, ...fill !== undefined && { fill } };
  const run: RunState = { version, adapter, ...tuned !== undefined && { tuned }, ...rest, data };
  const { accumulate, batchSize } = run.config;
  if (accumulate > batchSize) {
    const what = `${accumulate} micro-batches of ${batchSize} images`;
    throw new CheckpointError(`${name}: config: accumulate makes ${what}`);
  }
  const { channels, mean, std } = run.config, own = data.channels, wanted = channels ?? own;
  if (wanted !== own && own !== 1) {
    throw new CheckpointError(`${name}: config: channels is ${wanted}, and the images have ${own}`);
  }
  for (const [field, values] of Object.entries({ mean, std })) {
    const { length = 1 } = values ?? {};
    if (length === 1 || length === wanted) continue;
    const what = `${length} numbers, not 1${wanted > 1 ? ` or ${wanted}` : ""}`;
    throw new CheckpointError(`${name}: config: ${field} has ${what}`);
  }
  const perEpoch = Math.ceil(run.images.train / run.config.batchSize);
  if (run.step > perEpoch || run.steps !== run.history.length * perEpoch + run.step) {
    throw new CheckpointError(
      `${name}: step ${run.step} after ${run.history.length} epochs of ${perEpoch} steps is not ` +
        `step ${run.steps} of the run`,
    );
  }
  return { run, sha256 };
}
