/**
 * `metrics.jsonl`: what a run measured, one JSON object a line, in the order it was measured.
 *
 *     {"kind":"run", …}    the first line: settings, adapter, images
 *     {"kind":"step", …}   about once a second: results of the steps since the line before
 *     {"kind":"epoch", …}  after each epoch and its test
 *
 * A line is written whole, or, if that fails, not at all; a killed process can leave half of the last
 * one. A file that is read may come from anywhere: other lines are counted and skipped.
 *
 * @module
 */

import { join } from "node:path";
import type { Progress } from "../../lib/train/evaluator.ts";
import * as json from "../../lib/check/json.ts";
import type { RunState } from "../../lib/train/checkpoint.ts";
import { WriteError, writeFileWhole } from "../../lib/files/write.ts";
import type { EpochResult } from "../../lib/train/config.ts";

/** The file's name in a run's folder. */
const METRICS_FILE = "metrics.jsonl";

const is = <K extends string>(kind: K): json.Kind<K> => json.value(kind, (x) => x === kind);
const settings = json.entries(json.any);

/** The first line. */
const RUN_LINE = json.record({
  kind: is("run"),
  /** When it was written, in ISO 8601; so in the other lines. */
  time: json.string(),
  /** The library's version. */
  version: json.string(),
  adapter: json.string(),
  config: {
    wanted: settings.wanted,
    read: (at) => Object.fromEntries(settings.read(at)),
  } as json.Kind<Record<string, unknown>>,
  /** How many images there are. */
  images: json.record({ train: json.count(), test: json.count() }),
  /** The processes that train together, if they are several: the host of each, and their library. */
  ranks: json.optional(
    json.record({ hosts: json.list(json.string(), { min: 2 }), library: json.string() }),
    undefined,
  ),
});

/** Steps of an epoch: all since the line before. */
const STEP_LINE = json.record({
  kind: is("step"),
  time: json.string(),
  /** The epoch, counted from 1. */
  epoch: json.count(1),
  /** Steps done in this epoch. */
  step: json.count(1),
  /** Steps done in the run. */
  steps: json.count(1),
  /** Their mean loss. */
  loss: json.number(),
  /** Share of their images that were classified right. */
  accuracy: json.number(1),
  /** Images trained on per second. */
  imagesPerSecond: json.number(),
});

/** An epoch's results. */
const EPOCH_LINE = json.record({
  kind: is("epoch"),
  time: json.string(),
  epoch: json.count(1),
  /** Steps done in the run. */
  steps: json.count(1),
  loss: json.number(),
  trainAccuracy: json.number(1),
  testAccuracy: json.number(1),
  seconds: json.number(),
  /** Bytes in use: the process's, and of them or beside them the tensors' of a step on the device. */
  memory: json.record({ process: json.number(), workspace: json.number() }),
  /** What this process has said to other ranks since it began, if there are any: see `Traffic`. */
  traffic: json.optional(
    json.record({
      ...{ steps: json.count(), messages: json.count(), bytes: json.count() },
      ...{ waits: json.count(), waited: json.number() },
    }),
    undefined,
  ),
});

/** See {@link RUN_LINE}. */
export type RunLine = json.Of<typeof RUN_LINE>;
/** See {@link STEP_LINE}. */
export type StepLine = json.Of<typeof STEP_LINE>;
/** See {@link EPOCH_LINE}. */
export type EpochLine = json.Of<typeof EPOCH_LINE>;

/** A line of the file. */
export type MetricsLine = RunLine | StepLine | EpochLine;

/** What a file holds; of lines about the same step or epoch, the last. */
export interface Metrics {
  /** The first line. */
  readonly run: RunLine | undefined;
  /** In order. */
  readonly steps: readonly StepLine[];
  /** In order. */
  readonly epochs: readonly EpochLine[];
  /** What was wrong with the file, as messages. */
  readonly warnings: readonly string[];
}

function parseLine(text: string): MetricsLine | undefined {
  for (const kind of [STEP_LINE, EPOCH_LINE, RUN_LINE]) {
    try {
      return json.parseJson<MetricsLine>(text, kind);
    } catch {
      // Maybe of the next kind.
    }
  }
  return undefined;
}

/** The metrics in a run's folder; none if there is no such file. */
export async function readMetrics(folder: string): Promise<Metrics> {
  const path = join(folder, METRICS_FILE);
  let text = "";
  const warnings: string[] = [];
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      warnings.push(`${path}: cannot be read: ${(error as Error).message}`);
    }
  }
  let run: RunLine | undefined;
  const steps = new Map<number, StepLine>(), epochs = new Map<number, EpochLine>();
  const wrong: number[] = [];
  for (const [i, words] of text.split("\n").entries()) {
    if (words.trim() === "") continue;
    const line = parseLine(words);
    if (!line) wrong.push(i + 1);
    else if (line.kind === "run") run = line;
    else if (line.kind === "step") steps.set(line.steps, line);
    else epochs.set(line.epoch, line);
  }
  if (wrong.length > 0) {
    warnings.push(
      `${path}: skipped ${wrong.length} damaged line${wrong.length > 1 ? "s" : ""}, the first is ` +
        `line ${wrong[0]}`,
    );
  }
  return {
    run,
    steps: [...steps.values()].sort((a, b) => a.steps - b.steps),
    epochs: [...epochs.values()].sort((a, b) => a.epoch - b.epoch),
    warnings,
  };
}

/** The file of a run that this process trains. */
export class MetricsLog implements Disposable {
  readonly #path: string;
  readonly #file: Deno.FsFile;
  /** Steps of an epoch. */
  readonly #perEpoch: number;
  /** Bytes of the lines that are whole. */
  #size: number;
  /** The sums of the epoch so far, at the last line. */
  #last = { epoch: 0, step: 0, images: 0, loss: 0, correct: 0 };

  private constructor(path: string, file: Deno.FsFile, size: number, perEpoch: number) {
    this.#path = path;
    this.#file = file;
    this.#size = size;
    this.#perEpoch = perEpoch;
  }

  /**
   * Begins a file in a run's folder. A run that goes on from a checkpoint keeps the lines of the
   * folder that it was in, up to there: what came after will come again.
   *
   * @param before the checkpoint's state and that folder
   * @throws {WriteError} when it cannot be written
   */
  static async open(
    folder: string,
    run: Omit<RunLine, "kind" | "time">,
    perEpoch: number,
    before?: { readonly folder: string; readonly state: RunState },
  ): Promise<MetricsLog> {
    const lines: MetricsLine[] = [{ kind: "run", time: new Date().toISOString(), ...run }];
    if (before) {
      const { steps, epochs } = await readMetrics(before.folder);
      lines.push(
        ...[...steps, ...epochs].filter((line) => line.steps <= before.state.steps)
          // An epoch's line has the number of its last step, and follows that one's.
          .sort((a, b) => a.steps - b.steps || (a.kind === "epoch" ? 1 : -1)),
      );
    }
    const path = join(folder, METRICS_FILE);
    const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
    const bytes = new TextEncoder().encode(text);
    await writeFileWhole(path, bytes);
    const file = await Deno.open(path, { append: true });
    const log = new MetricsLog(path, file, bytes.length, perEpoch);
    if (before) {
      const { history, step, sums, config, images } = before.state;
      const seen = Math.min(images.train, step * config.batchSize);
      log.#last = { epoch: history.length + 1, step, images: seen, ...sums };
    }
    return log;
  }

  /**
   * A line about the steps since the last one that was written.
   *
   * @throws {WriteError} when it cannot be
   */
  async step(progress: Progress): Promise<void> {
    const { phase, epoch, step, loss = NaN, accuracy, images, imagesPerSecond } = progress;
    if (phase !== "train") return;
    const last = this.#last.epoch === epoch
      ? this.#last
      : { step: 0, images: 0, loss: 0, correct: 0 };
    const now = { epoch, step, images, loss: loss * step, correct: accuracy * images };
    // Differences of rounded sums: they may miss their range by a little.
    const share = (now.correct - last.correct) / (images - last.images);
    await this.#write({
      kind: "step",
      time: new Date().toISOString(),
      epoch,
      step,
      steps: (epoch - 1) * this.#perEpoch + step,
      loss: Math.max(0, (now.loss - last.loss) / (step - last.step)),
      accuracy: Math.min(1, Math.max(0, share)),
      imagesPerSecond,
    });
    this.#last = now;
  }

  /**
   * A line about an epoch.
   *
   * @throws {WriteError} when it cannot be written
   */
  async epoch(
    result: EpochResult,
    about: Pick<EpochLine, "memory" | "traffic">,
  ): Promise<void> {
    const steps = result.epoch * this.#perEpoch;
    await this.#write({
      ...{ kind: "epoch", time: new Date().toISOString(), ...result, steps, ...about },
    });
  }

  async #write(line: MetricsLine): Promise<void> {
    const bytes = new TextEncoder().encode(`${JSON.stringify(line)}\n`);
    try {
      for (let written = 0; written < bytes.length;) {
        written += await this.#file.write(bytes.subarray(written));
      }
      this.#size += bytes.length;
    } catch (cause) {
      // Half a line would spoil the next one too.
      await this.#file.truncate(this.#size).catch(() => {});
      throw new WriteError(this.#path, cause);
    }
  }

  /** Removes the file, if it is still there: the run has done nothing. */
  discard(): void {
    try {
      Deno.removeSync(this.#path);
    } catch {
      // What ended the run is worth telling, and this is not.
    }
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}
