/**
 * Loads a trained network from the path that a command line names.
 *
 * @module
 */

import { basename, dirname, join } from "node:path";
import {
  CheckpointError,
  FASHION_MNIST,
  MAX_TENSOR_BYTES,
  type RunState,
  type TrainedOn,
} from "../train/checkpoint.ts";
import type { Preprocessing } from "../train/device_dataset.ts";
import { decodeStateDict } from "../formats/state_dict.ts";
import { ArgumentError } from "../check/arguments.ts";
import { brief } from "../check/text.ts";
import { ShapeError } from "../graph/shape.ts";
import type { Module, StateDict } from "../nn/module.ts";
import { kindOf } from "./open.ts";
import { kindOfWeights, loadCheckpoint, readBounded } from "./run.ts";
import { DEFAULT_CONFIG, type ModelBuilder, MODELS, type TrainConfig } from "../train/config.ts";

/** A trained network. */
export interface Trained {
  /** The network, in evaluation mode. */
  readonly net: Module;
  /** Its name in {@link MODELS}, or that of a net of one's own. */
  readonly model: string;
  /** Where it was found: a checkpoint's folder, or a file. */
  readonly path: string;
  /** How its images are made ready; of a file that stands alone, as its model's usually are. */
  readonly config: Preprocessing & Pick<TrainConfig, "resize">;
  /** What it was trained on; of a file that stands alone, what its model usually is. */
  readonly data: TrainedOn;
  /** How it was trained; unknown of a file that stands alone. */
  readonly run: RunState | undefined;
}

/** The means and standard deviations of ImageNet's channels that torchvision's weights were made with. */
const IMAGENET = { resize: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/**
 * Loads a trained network: from a checkpoint's folder, from the latest complete checkpoint of a run
 * whose folder it is, or from a `.safetensors` file, ours or PyTorch's. What such a file is of is told
 * by its keys and shapes; the `model.safetensors` of a checkpoint is that checkpoint.
 *
 * @param path the folder or file
 * @param build makes the net, of one's own, that was trained; without it, it is one of {@link MODELS}
 * @throws {CheckpointError} where there is none, or it is damaged or of no known model.
 * @throws {SafetensorsError} where a file is no safetensors file.
 */
export async function loadTrained(path: string, build?: ModelBuilder): Promise<Trained> {
  if (await kindOfWeights(path) === "file") {
    const folder = dirname(path);
    const alone = basename(path) !== "model.safetensors" ||
      await kindOf(join(folder, "run.json")) !== "file";
    return alone ? await loadFile(path, build) : await loadFolder(folder, build);
  }
  return await loadFolder(path, build);
}

async function loadFolder(folder: string, own?: ModelBuilder): Promise<Trained> {
  const { checkpoint: { run, model: state }, path } = await loadCheckpoint(folder);
  const { data, config: { model, resize, channels, mean, std } } = run;
  const build = own ?? MODELS.get(model);
  if (!build) throw new UnknownModelError(path, model);
  const net = build({ inChannels: channels ?? data.channels, numClasses: data.classes.length });
  try {
    net.loadStateDict(state);
  } catch (cause) {
    throw new CheckpointError(`${path}: ${brief((cause as Error).message, 300)}`, { cause });
  }
  return { net: net.eval(), model, path, config: { resize, channels, mean, std }, data, run };
}

/** A checkpoint of a net that is none of {@link MODELS}. */
export class UnknownModelError extends CheckpointError {
  /** `UnknownModelError`. */
  override name = "UnknownModelError";

  /** For the checkpoint at `path`, of a net with this name. */
  constructor(path: string, readonly model: string) {
    super(`${path}: was trained with the net ${brief(model, 100)}, which is not known here`);
  }
}

async function loadFile(path: string, own?: ModelBuilder): Promise<Trained> {
  const state = decodeStateDict(await readBounded(path, MAX_TENSOR_BYTES), path);
  const shapes = [...state.values()].map(({ shape }) => shape);
  // What a classifier of images begins and ends with.
  const inChannels = shapes.find(({ length }) => length === 4)?.[1] ?? 1;
  const numClasses = shapes.findLast(({ length }) => length === 2)?.[0] ?? 10;
  for (const [model, build] of own ? [["the given net", own] as const] : MODELS) {
    const net = fitting(() => build({ inChannels, numClasses }), state);
    if (!net) continue;
    const isNotebook = inChannels === 1 && numClasses === FASHION_MNIST.classes.length;
    const config = model.startsWith("torchvision-") && inChannels === 3
      ? IMAGENET
      : { resize: DEFAULT_CONFIG.resize };
    const data: TrainedOn = isNotebook ? FASHION_MNIST : {
      ...{ kind: "other", path: null, channels: inChannels },
      ...{ height: config.resize as number, width: config.resize as number },
      classes: Array.from({ length: numClasses }, (_, label) => `${label}`),
    };
    return { net: net.eval(), model, path, config, data, run: undefined };
  }
  const keys = [...state.keys()].slice(0, 3).map((key) => brief(key, 60)).join(", ");
  throw new CheckpointError(
    `${path}: its ${state.size} tensors (${keys}, …) ` +
      (own ? "do not fit the given net" : `fit none of: ${[...MODELS.keys()].join(", ")}`),
  );
}

/** The network that is made, if it has these keys, with these shapes, and so has taken over the values. */
function fitting(make: () => Module, state: StateDict): Module | undefined {
  try {
    const net = make();
    net.loadStateDict(state);
    return net;
  } catch (error) {
    // None is made for what a file claims of channels or classes, either.
    if (error instanceof ArgumentError || error instanceof ShapeError) return undefined;
    throw error;
  }
}
