/**
 * `deno task report`: a report on a run, or on several side by side. Parse, call, print; the work is
 * in `scripts/report/`.
 *
 * @module
 */

import { plain } from "../lib/check/text.ts";
import { DataError } from "../lib/data/error.ts";
import type { ImageDataset } from "../lib/data/dataset.ts";
import { defaultDevice } from "../lib/device/device.ts";
import { deviceDataset } from "../lib/train/device_dataset.ts";
import { FASHION_MNIST } from "../lib/train/checkpoint.ts";
import { DEFAULT_CONFIG, type ModelBuilder, MODELS } from "../lib/train/config.ts";
import { openTest } from "./datasets.ts";
import { loadNet } from "./nets.ts";
import { Evaluator } from "../lib/train/evaluator.ts";
import { loadTrained } from "../lib/files/trained.ts";
import { messageOf, runCommand, UsageError } from "./cli.ts";
import { latestRun, readRun, type Reported, saveTested } from "./report/run.ts";
import { TrainReporter } from "./train_reporter.ts";

const RUNS = "runs";
const COMPARISON = `${RUNS}/compare`;

const USAGE = `usage: deno task report [RUN] [options]
       deno task report RUN1 RUN2 … [options]

Writes a report about a run, as report.html and as report.md with pictures in report/: settings,
curves, precision and recall by class, confusion matrix, the most confident mistakes, time, memory,
the network. The HTML is one file, loads nothing and runs no script. deno task train does the same
after each epoch. Several runs are compared.

  RUN            folder of a run or of a checkpoint (the run in ${RUNS}/ that was trained last)
  --out DIR      folder of the report (the run's own; ${COMPARISON} for several)
  --evaluate     test the latest checkpoint, on the WebGPU adapter, if its predictions are not
                 known: after a stop, for example, or if RUN is a checkpoint
  --data PATH    where the images lie now (where they were when it was trained)
  --net FILE     the module that made the net, if it is one of your own; for its picture, and for
                 --evaluate
  -h, --help     this text

exit code: 0 written; 1 there is no such run, or it is damaged; 2 the command line is wrong`;

/** The images that a run was tested with; undefined, with a warning, if they cannot be read. */
async function testImages(
  { tested, state }: Reported,
  path: string | undefined,
  reporter: TrainReporter,
): Promise<Disposable & { readonly test: ImageDataset } | undefined> {
  const config = { ...DEFAULT_CONFIG, testLimit: tested!.labels.length, ...state?.config };
  try {
    return await openTest(state?.data ?? FASHION_MNIST, path, config, reporter);
  } catch (error) {
    if (!(error instanceof DataError || error instanceof UsageError)) throw error;
    await reporter.say(`warning: no pictures of mistakes: ${messageOf(error)}`);
    return undefined;
  }
}

/** Finds out how the latest checkpoint of a run does on each test image, and notes it there. */
async function evaluate(folder: string, { data, build }: Given, reporter: TrainReporter) {
  const { net, run: state, path, config } = await loadTrained(folder, build);
  const run = state!;
  using opened = await openTest(run.data, data, run.config, reporter);
  const { labels, classes } = opened.test;
  const device = await defaultDevice();
  await reporter.say(`${path}: testing on ${device}`);
  const set = deviceDataset(opened.test, path, device);
  const { batchSize } = run.config;
  using evaluator = new Evaluator(net, set, { ...config, batchSize, device });
  const epoch = run.history.length + (run.step > 0 ? 1 : 0);
  await evaluator.run({
    onProgress: (progress) => reporter.progress(progress),
    onTested: (predictions) =>
      saveTested(folder, { ...predictions, epoch, steps: run.steps, labels, classes }),
  }, epoch);
}

/** What the command line says of images and nets. */
type Given = { readonly data: string | undefined; readonly build: ModelBuilder | undefined };

async function read(
  folder: string,
  evaluated: boolean,
  given: Given,
  reporter: TrainReporter,
): Promise<Reported> {
  const run = await readRun(folder);
  const isNew = run.state && run.tested?.steps === run.state.steps;
  if (!evaluated || isNew) return run;
  await evaluate(folder, given, reporter);
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
      values: ["out", "data", "net"],
      switches: ["evaluate"],
      words: { min: 0, max: 8, what: "RUN" },
    },
    async ({ values: { out, data, net }, on, words }) => {
      await using reporter = new TrainReporter();
      const build = net === undefined ? undefined : await loadNet(net);
      const given = { data, build };
      const latest = words.length > 0 ? words : [await latestRun(RUNS)];
      const runs: Reported[] = [];
      for (const folder of latest) {
        if (folder === undefined) throw new UsageError(`there is no run in ${RUNS}/; name one`);
        runs.push(await read(folder.replace(/(?<=.)\/+$/, ""), on.evaluate, given, reporter));
      }
      const [run] = runs;
      // For the picture of the network.
      if (build && run!.state) MODELS.set(run!.state.config.model, build);
      // Loaded only now, so that packages that cannot be loaded are an error like any other.
      const { writeComparison, writeReport } = await import("./report/write.ts");
      if (runs.length > 1) await writeComparison(runs, out ?? COMPARISON);
      else {
        using opened = run!.tested && await testImages(run!, given.data, reporter);
        await writeReport({ ...run!, images: opened?.test }, out);
      }
      for (const warning of runs.flatMap(({ warnings }) => warnings)) {
        console.error(plain(`warning: ${warning}`));
      }
      const folder = runs.length > 1 ? out ?? COMPARISON : out ?? run!.folder;
      console.log(`${folder}/report.md\n${folder}/report.html`);
      return 0;
    },
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
