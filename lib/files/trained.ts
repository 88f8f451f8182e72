/**
 * A trained network from what a command line names.
 *
 * @module
 */

import { basename, dirname, join } from "node:path";
import { CheckpointError, MAX_TENSOR_BYTES, type RunState } from "../train/checkpoint.ts";
import { decodeStateDict } from "../formats/state_dict.ts";
import { brief } from "../check/text.ts";
import type { Module, StateDict } from "../nn/module.ts";
import { kindOf } from "./open.ts";
import { loadCheckpoint, readBounded } from "./run.ts";
import { sameShape } from "../graph/shape.ts";
import { DEFAULT_CONFIG, MODELS } from "../train/config.ts";

/** A trained network. */
export interface Trained {
  /** The network, in evaluation mode. */
  readonly net: Module;
  /** Its name in {@link MODELS}. */
  readonly model: string;
  /** Where it was found: a checkpoint's folder, or a file. */
  readonly path: string;
  /** What it was trained on: the size of its images. The notebook's for a file that stands alone. */
  readonly resize: number;
  /** How it was trained; unknown of a file that stands alone. */
  readonly run: RunState | undefined;
}

/**
 * Loads a trained network: from a checkpoint's folder, from the latest complete checkpoint of a run
 * whose folder it is, or from a `.safetensors` file, ours or PyTorch's. What such a file is of is told
 * by its keys and shapes; the `model.safetensors` of a checkpoint is that checkpoint.
 *
 * @throws {CheckpointError} where there is none, or it is damaged or of no known model.
 * @throws {SafetensorsError} where a file is no safetensors file.
 */
export async function loadTrained(path: string): Promise<Trained> {
  const kind = await kindOf(path);
  if (kind === undefined) throw new CheckpointError(`${path}: there is no such file or folder`);
  if (kind === "file") {
    const folder = dirname(path);
    const alone = basename(path) !== "model.safetensors" ||
      await kindOf(join(folder, "run.json")) !== "file";
    return alone ? await loadFile(path) : await loadFolder(folder);
  }
  return await loadFolder(path);
}

async function loadFolder(folder: string): Promise<Trained> {
  const { checkpoint: { run, model: state }, path } = await loadCheckpoint(folder);
  const { model, resize } = run.config;
  const net = MODELS.get(model)!();
  try {
    net.loadStateDict(state);
  } catch (cause) {
    throw new CheckpointError(`${path}: ${brief((cause as Error).message, 300)}`, { cause });
  }
  return { net: net.eval(), model, path, resize, run };
}

async function loadFile(path: string): Promise<Trained> {
  const state = decodeStateDict(await readBounded(path, MAX_TENSOR_BYTES), path);
  for (const [model, build] of MODELS) {
    const net = build();
    if (!fits(net, state)) continue;
    net.loadStateDict(state);
    return { net: net.eval(), model, path, resize: DEFAULT_CONFIG.resize, run: undefined };
  }
  const keys = [...state.keys()].slice(0, 3).map((key) => brief(key, 60)).join(", ");
  throw new CheckpointError(
    `${path}: its ${state.size} tensors (${keys}, …) are the state dict of none of: ` +
      [...MODELS.keys()].join(", "),
  );
}

/** Whether a network has these keys, with these shapes. */
function fits(net: Module, state: StateDict): boolean {
  const own = net.namedVariables();
  return own.length === state.size &&
    own.every(([key, { shape }]) => sameShape(shape, state.get(key)?.shape ?? [NaN]));
}
