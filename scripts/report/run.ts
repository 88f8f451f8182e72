/**
 * Reads a run from its folder, for a report. A checkpoint is enough, or the metrics of a run that
 * has no checkpoint yet.
 *
 * @module
 */

import { basename, dirname, join } from "node:path";
import { CheckpointError, type RunState } from "../../lib/train/checkpoint.ts";
import * as json from "../../lib/check/json.ts";
import type { ImageDataset } from "../../lib/data/dataset.ts";
import { outputNames, type Predictions } from "../../lib/train/metrics.ts";
import { kindOf } from "../../lib/files/open.ts";
import { loadCheckpoint } from "../../lib/files/run.ts";
import { writeFileWhole } from "../../lib/files/write.ts";
import type { EpochResult } from "../../lib/train/config.ts";
import { type Metrics, readMetrics } from "./metrics_log.ts";
import { notFinite } from "./text.ts";

/** Predictions for the test images, and when they were made. */
export interface Tested extends Predictions {
  /** The epoch that was or is being trained, counted from 1; 0 before the first step. */
  readonly epoch: number;
  /** Steps of training until then. */
  readonly steps: number;
  /** The images' labels. */
  readonly labels: ArrayLike<number>;
  /** Names of the classes. */
  readonly classes: readonly string[];
}

/** A run, to be reported on. */
export interface Reported {
  /** Its name: that of its folder. */
  readonly name: string;
  /** The folder that the report goes to. */
  readonly folder: string;
  /** How far it has come; unknown before the first checkpoint. */
  readonly state: RunState | undefined;
  /** What it measured on its way. */
  readonly metrics: Metrics;
  /** How it did on each test image. */
  readonly tested: Tested | undefined;
  /** The test images. */
  readonly images: ImageDataset | undefined;
  /** What was wrong with its files, as messages. */
  readonly warnings: readonly string[];
}

/** The settings and the adapter: of the checkpoint, or of a run that has none, of its metrics. */
export function aboutOf({ state, metrics: { run } }: Reported):
  | {
    config: Record<string, unknown>;
    adapter: string;
    version: string;
    images: RunState["images"];
  }
  | undefined {
  const { config, adapter, version, images } = state ?? run ?? {};
  return config && adapter !== undefined && version !== undefined && images
    ? { config: { ...config }, adapter, version, images }
    : undefined;
}

/** Results of the complete epochs. */
export const historyOf = ({ state, metrics }: Reported): readonly EpochResult[] =>
  state?.history ?? metrics.epochs;

const TESTED_FILE = "predictions.json";

const TESTED = json.record({
  format: json.count(1, 1),
  epoch: json.count(),
  steps: json.count(),
  classes: json.list(json.string(), { min: 1, max: 2 ** 16 }),
  labels: json.list(json.count(), { min: 1 }),
  predicted: json.list(json.count(), { min: 1 }),
  probability: json.list(
    // JSON has no NaN.
    json.value<number | null>(
      "a number from 0 to 1, or null",
      (x) => x === null || typeof x === "number" && x >= 0 && x <= 1,
    ),
    { min: 1 },
  ),
});

/** Writes `predictions.json`, whole or not at all. */
export async function saveTested(folder: string, tested: Tested): Promise<void> {
  const { epoch, steps, classes, labels, predicted, probability } = tested;
  const json = JSON.stringify({
    format: 1,
    epoch,
    steps,
    classes: outputNames(classes, predicted),
    labels: Array.from(labels),
    predicted: Array.from(predicted),
    probability: Array.from(probability, (p) => Number(p.toFixed(6))),
  });
  await writeFileWhole(join(folder, TESTED_FILE), new TextEncoder().encode(`${json}\n`));
}

/**
 * Reads `predictions.json`; undefined if there is none, or, with a warning, if it is damaged. What means
 * nothing in it is a warning, too.
 */
export async function readTested(
  folder: string,
  warnings: string[],
): Promise<Tested | undefined> {
  const path = join(folder, TESTED_FILE);
  if (await kindOf(path) !== "file") return undefined;
  try {
    const tested = json.parseJson(await Deno.readFile(path), TESTED);
    const { classes, labels, predicted } = tested;
    const probability = tested.probability.map((p) => p ?? NaN);
    const isClass = (i: number) => i < classes.length;
    if (
      [labels, predicted].every((list) => list.every(isClass)) &&
      labels.length === predicted.length && labels.length === probability.length
    ) {
      const lost = notFinite(probability);
      if (lost !== undefined) warnings.push(`${path}: ${lost}`);
      return { ...tested, probability };
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  warnings.push(`${path}: is damaged, and was left out`);
  return undefined;
}

/** The name of a run, or of a checkpoint, by its folder. */
export function runName(folder: string): string {
  const above = dirname(folder);
  if (basename(above) === "checkpoints") return `${basename(dirname(above))}/${basename(folder)}`;
  return basename(folder) || folder;
}

/**
 * Reads a run's folder, or a checkpoint's.
 *
 * @throws {CheckpointError} when it is neither, or a checkpoint is damaged.
 */
export async function readRun(folder: string): Promise<Reported> {
  const metrics = await readMetrics(folder);
  const warnings = [...metrics.warnings];
  let state: RunState | undefined;
  try {
    ({ checkpoint: { run: state } } = await loadCheckpoint(folder));
  } catch (error) {
    if (!(error instanceof CheckpointError) || !metrics.run) throw error;
    warnings.push(error.message);
  }
  const tested = await readTested(folder, warnings);
  return { name: runName(folder), folder, state, metrics, tested, images: undefined, warnings };
}

/** The run in `runs` that was trained last; undefined if there is none. */
export async function latestRun(runs: string): Promise<string | undefined> {
  let latest: { path: string; time: number } | undefined;
  if (await kindOf(runs) !== "folder") return undefined;
  for await (const { name, isDirectory } of Deno.readDir(runs)) {
    if (!isDirectory) continue;
    const path = join(runs, name);
    if (await kindOf(join(path, "checkpoints")) !== "folder") continue;
    // A run that was killed before its first step left nothing to tell.
    if (await kindOf(join(path, "metrics.jsonl")) !== "file" && await isEmpty(path)) continue;
    const time = (await Deno.stat(join(path, "checkpoints"))).mtime?.getTime() ?? 0;
    if (!latest || time > latest.time) latest = { path, time };
  }
  return latest?.path;
}

async function isEmpty(run: string): Promise<boolean> {
  for await (const _ of Deno.readDir(join(run, "checkpoints"))) return false;
  return true;
}
