/**
 * Writes what a training run leaves beside its checkpoints: `metrics.jsonl` while it trains; after
 * each epoch and each stop, `predictions.json` and the report. Once it trains, an error with these
 * files is only a warning.
 *
 * @module
 */

import { basename, dirname } from "node:path";
import { pathWord } from "../../lib/check/text.ts";
import type { RunState } from "../../lib/train/checkpoint.ts";
import type { ImageDataset } from "../../lib/data/dataset.ts";
import type { Progress } from "../../lib/train/evaluator.ts";
import type { Predictions } from "../../lib/train/metrics.ts";
import type { Trainer } from "../../lib/train/trainer.ts";
import { type EpochResult, VERSION } from "../../lib/train/config.ts";
import { MetricsLog, readMetrics, type RunLine } from "./metrics_log.ts";
import { readTested, runName, saveTested, type Tested } from "./run.ts";

/** The run that is recorded. */
export interface Recorded {
  /** Its folder. */
  readonly folder: string;
  /** Whether nothing of it is there yet. */
  readonly fresh: boolean;
  /** What trains. */
  readonly trainer: Trainer;
  /** The images that it is tested with. */
  readonly test: ImageDataset;
  /** The checkpoint that it goes on from. */
  readonly before: { readonly path: string; readonly state: RunState } | undefined;
  /** The processes that train together, if they are several. */
  readonly ranks: RunLine["ranks"];
  /** Says something on stderr. */
  readonly say: (line: string) => Promise<void>;
}

/** Records a run. */
export class RunRecorder implements Disposable {
  readonly #run: Recorded;
  readonly #log: MetricsLog;
  /** What was predicted, and when. */
  #tested: Predictions & Pick<Tested, "epoch" | "steps"> | undefined;
  /** Whether there is something worth keeping. */
  #kept: boolean;
  /** What it was said to be without. */
  readonly #without = new Set<string>();

  private constructor(run: Recorded, log: MetricsLog) {
    this.#run = run;
    this.#log = log;
    this.#kept = !run.fresh;
  }

  /**
   * Begins to record; the run's folder must be this process's.
   *
   * @throws {WriteError} when nothing can be written there: so a full disk is known before it matters
   */
  static async open(run: Recorded): Promise<RunRecorder> {
    const { folder, trainer, before, ranks } = run;
    const { config, device, train, test, steps } = trainer;
    const about = {
      version: VERSION,
      adapter: device.description,
      config: { ...config },
      images: { train: train.count, test: test.count },
      ranks,
    };
    const above = before && dirname(before.path);
    const from = before && {
      folder: basename(above!) === "checkpoints" ? dirname(above!) : before.path,
      state: before.state,
    };
    return new RunRecorder(run, await MetricsLog.open(folder, about, steps, from));
  }

  /** How far an epoch has come. */
  async progress(progress: Progress): Promise<void> {
    await this.#attempt("metrics", () => this.#log.step(progress));
  }

  /** What was predicted. */
  tested(predictions: Predictions): void {
    const { history, optimizer: { steps } } = this.#run.trainer;
    this.#tested = { ...predictions, epoch: history.length + 1, steps };
  }

  /** An epoch's results. */
  async epoch(result: EpochResult): Promise<void> {
    const { trainer: { workspaceBytes: workspace, traffic } } = this.#run;
    const memory = { process: Deno.memoryUsage().rss, workspace };
    await this.#attempt("metrics", () => this.#log.epoch(result, { memory, traffic }));
  }

  /** A checkpoint was saved: time for a report. */
  async report(state: RunState): Promise<void> {
    this.#kept = true;
    const { folder, test } = this.#run;
    await this.#attempt("report", async () => {
      if (this.#tested) {
        const { labels, classes } = test;
        await saveTested(folder, { ...this.#tested, labels, classes });
        this.#tested = undefined;
      }
      // Loaded only now: charts and Markdown are the packages that nothing else needs.
      const { writeReport } = await import("./write.ts");
      const metrics = await readMetrics(folder);
      const warnings = [...metrics.warnings];
      const tested = await readTested(folder, warnings);
      const name = runName(folder);
      await writeReport({ name, folder, state, metrics, tested, images: test, warnings });
    });
  }

  /** Does what training can do without, and says so the first time that it fails. */
  async #attempt(what: "metrics" | "report", work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#without.has(what)) return;
      this.#without.add(what);
      const { folder, say } = this.#run;
      const [why] = (error instanceof Error ? error.message : `${error}`).split("\n");
      await say(
        what === "metrics"
          ? `warning: ${why}; training goes on, and the file will lack some lines`
          : `warning: no report (${why}); to have one later: deno task report ${pathWord(folder)}`,
      );
    }
  }

  /** Ends the recording; a run that has done nothing leaves no file. */
  [Symbol.dispose](): void {
    this.#log[Symbol.dispose]();
    if (!this.#kept) this.#log.discard();
  }
}
