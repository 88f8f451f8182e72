/**
 * Weights from a safetensors file, ours or PyTorch's, and the net that they are of.
 *
 * @module
 */

import { decodeStateDict } from "../../lib/formats/state_dict.ts";
import { formatShape } from "../../lib/graph/shape.ts";
import { manualSeed } from "../../lib/nn/init.ts";
import type { Module } from "../../lib/nn/module.ts";
import { MODELS } from "../../lib/train/config.ts";
import { titleOf } from "./models.ts";

/** The largest file that is read; browsers hold no larger one in one piece. */
const MAX_BYTES = 2 ** 31;
/** Keys that are named of those that do not fit. */
const NAMED = 4;

/** A net with the weights of a file. */
export interface LoadedNet {
  /** A name of {@link MODELS}. */
  readonly model: string;
  /** The net. */
  readonly net: Module;
  /** Channels of the images that it takes. */
  readonly channels: number;
  /** Whether all of its weights are the file's. */
  readonly whole: boolean;
  /** What there is to say of it. */
  readonly words: readonly string[];
}

/**
 * The net whose keys a file has, for so many classes. Where the file's net had other classes, the last
 * layer begins anew, and so on for whatever else has another shape: from the seed.
 *
 * @throws {Error} if it is no such file, or none of the nets has its keys.
 */
export async function loadWeights(
  file: File,
  numClasses: number,
  seed: number,
): Promise<LoadedNet> {
  const { name } = file;
  if (file.size > MAX_BYTES) throw new Error(`${name}: is too large to be read`);
  const state = decodeStateDict(new Uint8Array(await file.arrayBuffer()), name);
  const channels = [...state.values()].find(({ shape }) => shape.length === 4)?.shape[1] ?? 1;
  for (const [model, build] of MODELS) {
    manualSeed(seed); // As the command does, before it takes weights over.
    const net = build({ inChannels: channels, numClasses });
    const options = { strict: false, ignoreMismatchedSizes: true };
    const { loaded, missing, unexpected, mismatched } = net.loadStateDict(state, options);
    if (loaded.length === 0 || missing.length + unexpected.length > 0) continue;
    const shapes = [...mismatched].map(([key, { given, own }]) =>
      `${key} is ${formatShape(given)} there and ${formatShape(own)} here: it begins anew`
    );
    const words = [
      `${name}: ${loaded.length} tensors of a ${titleOf(model)} taken over`,
      ...shapes,
    ];
    return { model, net, channels, whole: mismatched.size === 0, words };
  }
  const keys = [...state.keys()], more = keys.length > NAMED ? ", …" : "";
  throw new Error(
    `${name}: no net of this page has its ${keys.length} tensors ` +
      `(${keys.slice(0, NAMED).join(", ")}${more}); the small net and the ResNets can be loaded`,
  );
}
