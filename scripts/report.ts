/**
 * `deno task report`: a report on a run, or on several side by side. Parse, call, print; the work is
 * in `scripts/report/`.
 *
 * @module
 */

import { DataError } from "../lib/data/error.ts";
import type { ImageDataset } from "../lib/data/dataset.ts";
import { loadFashionMnist } from "../lib/files/fashion_mnist.ts";
import { defaultDevice } from "../lib/device/device.ts";
import { DeviceDataset } from "../lib/train/device_dataset.ts";
import { Evaluator } from "../lib/train/evaluator.ts";
import { loadTrained } from "../lib/files/trained.ts";
import { messageOf, runCommand, UsageError } from "./cli.ts";
import { latestRun, readRun, type Reported, saveTested } from "./report/run.ts";
import { TrainReporter } from "./train_reporter.ts";

const DATA = "data/fashion-mnist";
const RUNS = "runs";
const COMPARISON = `${RUNS}/compare`;

const USAGE = `usage: deno task report [RUN] [options]
       deno task report RUN1 RUN2 … [options]

Writes report.md and report.html, and the pictures of the former in report/, about a run: settings,
curves, precision and recall by class, confusion matrix, the most confident mistakes, time, memory,
the network. The HTML is one file, loads nothing and runs no script. deno task train does the same
after each epoch. Several runs are compared.

  RUN            folder of a run or of a checkpoint (the run in ${RUNS}/ that was trained last)
  --out DIR      folder of the report (the run's own; ${COMPARISON} for several)
  --evaluate     test the latest checkpoint, on the WebGPU adapter, where it is not known how it
                 does on each test image: after a stop, say, or where RUN is a checkpoint
  -h, --help     this text

exit code: 0 written; 1 there is no such run, or it is damaged; 2 the command line is wrong`;

/** The first `count` test images; undefined, with a warning, if they cannot be read. */
async function testImages(count: number): Promise<ImageDataset | undefined> {
  try {
    return await loadFashionMnist(DATA, "test", { limit: count });
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    console.error(`warning: no pictures of mistakes: ${messageOf(error)}`);
    return undefined;
  }
}

/** Finds out how the latest checkpoint of a run does on each test image, and notes it there. */
async function evaluate(folder: string): Promise<void> {
  const { net, run, path } = await loadTrained(folder);
  const { batchSize, resize, testLimit } = run!.config;
  const images = await loadFashionMnist(
    DATA,
    "test",
    testLimit === null ? {} : { limit: testLimit },
  );
  const { labels, classes } = images;
  const device = await defaultDevice();
  await using reporter = new TrainReporter();
  await reporter.say(`${path}: testing on ${device}`);
  using evaluator = new Evaluator(net, new DeviceDataset(images), { batchSize, resize, device });
  const epoch = run!.history.length + (run!.step > 0 ? 1 : 0);
  await evaluator.run({
    onProgress: (progress) => reporter.progress(progress),
    onTested: (predictions) =>
      saveTested(folder, { ...predictions, epoch, steps: run!.steps, labels, classes }),
  }, epoch);
}

async function read(folder: string, evaluated: boolean): Promise<Reported> {
  const run = await readRun(folder);
  const isNew = run.state && run.tested?.steps === run.state.steps;
  if (!evaluated || isNew) return run;
  await evaluate(folder);
  return await readRun(folder);
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  return await runCommand(
    args,
    {
      name: "report",
      usage: () => USAGE,
      values: ["out"],
      switches: ["evaluate"],
      words: { min: 0, max: 8, what: "RUN" },
    },
    async ({ values: { out }, on, words }) => {
      const latest = words.length > 0 ? words : [await latestRun(RUNS)];
      const runs: Reported[] = [];
      for (const folder of latest) {
        if (folder === undefined) throw new UsageError(`there is no run in ${RUNS}/; name one`);
        runs.push(await read(folder.replace(/(?<=.)\/+$/, ""), on.evaluate));
      }
      const [run] = runs;
      // Loaded only now, so that packages that cannot be loaded are an error like any other.
      const { writeComparison, writeReport } = await import("./report/write.ts");
      if (runs.length > 1) await writeComparison(runs, out ?? COMPARISON);
      else {
        const { tested } = run!;
        const images = tested && await testImages(tested.labels.length);
        await writeReport({ ...run!, images }, out);
      }
      for (const warning of runs.flatMap(({ warnings }) => warnings)) {
        console.error(`warning: ${warning}`);
      }
      const folder = runs.length > 1 ? out ?? COMPARISON : out ?? run!.folder;
      console.log(`${folder}/report.md\n${folder}/report.html`);
      return 0;
    },
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
