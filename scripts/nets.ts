/**
 * Loads the nets and weights that a command line names: `--net` and `--init`.
 *
 * @module
 */

import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { decodeStateDict } from "../lib/formats/state_dict.ts";
import { kindOf } from "../lib/files/open.ts";
import { kindOfWeights, loadCheckpoint, readBounded } from "../lib/files/run.ts";
import { Module, type StateDict } from "../lib/nn/module.ts";
import { formatShape } from "../lib/graph/shape.ts";
import { MAX_TENSOR_BYTES } from "../lib/train/checkpoint.ts";
import type { ModelBuilder } from "../lib/train/config.ts";
import { brief } from "../lib/check/text.ts";
import { UsageError } from "./cli.ts";

/** Keys that are named of those that do not fit. */
const NAMED = 6;

/**
 * The function of a module that makes a net: its default export, or the only function that it exports.
 *
 * @throws {UsageError} if the file cannot be loaded, or exports no such function; and by the function
 * if it returns no net of this library.
 */
export async function loadNet(path: string): Promise<ModelBuilder> {
  const fail = (what: string, cause?: unknown): never => {
    throw new UsageError(`--net ${path}: ${what}`, { cause });
  };
  if (await kindOf(path) !== "file") fail("there is no such file");
  let exported: Record<string, unknown> = {};
  try {
    exported = await import(pathToFileURL(resolve(path)).href);
  } catch (cause) {
    fail(`cannot be loaded: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
  const functions = Object.values(exported).filter((x) => typeof x === "function");
  const build = exported["default"] ?? (functions.length === 1 ? functions[0] : undefined);
  if (typeof build !== "function") {
    const names = Object.keys(exported).join(", ") || "nothing";
    return fail(
      `exports ${
        brief(names, 100)
      }; export default a function of { inChannels, numClasses } that ` +
        "returns a Module",
    );
  }
  return (options) => {
    let net: unknown;
    try {
      net = build(options);
    } catch (cause) {
      return fail(`its function failed: ${cause instanceof Error ? cause.message : cause}`, cause);
    }
    if (net instanceof Module) return net;
    const isOther = typeof (net as Module | undefined)?.forward === "function";
    return fail(
      isOther
        ? 'its net is of another copy of the library; import from "@resnette/resnette"'
        : "its function returns no Module",
    );
  };
}

/** The state dict of a `.safetensors` file, or of a checkpoint's or a run's folder. */
async function stateOf(path: string): Promise<StateDict> {
  if (await kindOfWeights(path) === "folder") return (await loadCheckpoint(path)).checkpoint.model;
  return decodeStateDict(await readBounded(path, MAX_TENSOR_BYTES), path);
}

/**
 * Takes over the weights in a file or a checkpoint whose keys and shapes fit; what there is to say of it.
 *
 * @throws {UsageError} if none fits.
 */
export async function takeWeights(net: Module, path: string): Promise<string[]> {
  const state = await stateOf(path);
  const options = { strict: false, ignoreMismatchedSizes: true };
  const { loaded, missing, unexpected, mismatched } = net.loadStateDict(state, options);
  const named = (keys: readonly string[]) =>
    keys.slice(0, NAMED).map((key) => brief(key, 100)).join(", ") +
    (keys.length > NAMED ? `, and ${keys.length - NAMED} more` : "");
  if (loaded.length === 0) {
    throw new UsageError(
      `--init ${path}: none of its ${state.size} keys (${
        named([...state.keys()])
      }) fits the net, ` +
        `which has ${named(net.namedVariables().map(([key]) => key))}`,
    );
  }
  const shapes = [...mismatched].map(([key, { given, own }]) =>
    `${key} ${formatShape(given)}, not ${formatShape(own)}`
  );
  return [
    `${path}: ${loaded.length} of the net's ${net.namedVariables().length} tensors taken over`,
    ...shapes.length > 0 ? [`of another shape, left as they were: ${named(shapes)}`] : [],
    ...missing.length > 0 ? [`not in the file, left as they were: ${named(missing)}`] : [],
    ...unexpected.length > 0 ? [`in the file, not in the net: ${named(unexpected)}`] : [],
  ];
}
