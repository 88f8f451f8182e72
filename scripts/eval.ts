/**
 * `deno task eval`: how well a trained network does on the test images. Parse, call, print; the work
 * is in `lib/train/evaluator.ts` and `lib/train/metrics.ts`.
 *
 * @module
 */

import { defaultDevice } from "../lib/device/device.ts";
import { deviceDataset } from "../lib/train/device_dataset.ts";
import { Evaluator } from "../lib/train/evaluator.ts";
import {
  classMetrics,
  confusionMatrix,
  outputNames,
  type Predictions,
  worstConfusions,
} from "../lib/train/metrics.ts";
import { DEFAULT_CONFIG, type ModelBuilder, MODELS, sizeText } from "../lib/train/config.ts";
import { broadcastBytes, broadcastDataset } from "../lib/train/ranks.ts";
import type { Mpi } from "../lib/files/mpi.ts";
import { loadTrained, type Trained } from "../lib/files/trained.ts";
import { decodeStateDict, encodeStateDict } from "../lib/formats/state_dict.ts";
import { brief, plain, table } from "../lib/check/text.ts";
import { type Flags, setting } from "./cli.ts";
import { openTest } from "./datasets.ts";
import { loadNet } from "./nets.ts";
import { allDone, runOnRanks, shared } from "./ranks.ts";
import { notFinite } from "./report/text.ts";
import { TrainReporter } from "./train_reporter.ts";

/** The most classes whose rows, and whose confusion matrix, are printed; and those of JSON's matrix. */
const MOST_ROWS = 100, MOST_COLUMNS = 30, MOST_IN_JSON = 1000;
/** Pairs of classes that are printed where there are too many for a matrix. */
const WORST = 20;

const usage = () =>
  `usage: deno task eval CHECKPOINT [--data PATH] [--net FILE] [--resize N] [--batch-size N]
                      [--limit N] [--json]

Classifies the test images of the data set that a network was trained on, and prints the accuracy,
precision and recall of each class, and the confusion matrix. Of many classes, only the worst are
printed. Results go to stdout, all else to stderr.

  CHECKPOINT        a checkpoint's folder; a run's, for its latest complete checkpoint; or a
                    .safetensors file, ours or PyTorch's
  --data PATH       where the images lie now (where they were; Fashion-MNIST for a file alone)
  --net FILE        the module that made the net, if it is one of your own
  --resize N        size of the images (the run's own; ${DEFAULT_CONFIG.resize} for a file alone)
  --batch-size N    images of a pass (${DEFAULT_CONFIG.batchSize})
  --limit N         N of the test images only: Fashion-MNIST's first, of others evenly from all of
                    them (all)
  --json            print one JSON object instead
  -h, --help        this text

mpirun -n N, mpiexec -n N or srun before the command divides the images among N processes. Only the
first of them needs files, and only it prints.

exit code: 0 done; 1 no checkpoint, no data or no adapter; 2 the command line is wrong`;

/** A trained network, as rank 0 finds it. */
async function loadTogether(mpi: Mpi, path: string, build?: ModelBuilder): Promise<Trained> {
  const own = mpi.rank === 0 ? await loadTrained(path, build) : undefined;
  if (mpi.size === 1) return own!;
  const about = await shared(mpi, () => ({ ...own!, net: undefined }));
  const weights = await broadcastBytes(mpi, own && encodeStateDict(await own.net.stateDict()));
  if (own) return own;
  const { model, config: { channels }, data } = about;
  const make = build ?? MODELS.get(model)!;
  const net = make({ inChannels: channels ?? data.channels, numClasses: data.classes.length });
  net.loadStateDict(decodeStateDict(weights, path));
  return { ...about, net: net.eval() };
}

async function run(
  { values, on, words }: Flags<"data" | "net" | "resize" | "batch-size" | "limit", "json">,
  reporter: TrainReporter,
  mpi: Mpi,
): Promise<number> {
  const given = setting("resize", values.resize);
  const batchSize = setting("batchSize", values["batch-size"]) ??
    DEFAULT_CONFIG.batchSize;
  const limit = setting("testLimit", values.limit, "--limit");
  const build = values.net === undefined ? undefined : await loadNet(values.net);
  const { net, model, path, run, ...trained } = await loadTogether(mpi, words[0]!, build);
  const config = { ...trained.config, ...given !== undefined && { resize: given } };
  const { resize } = config;
  const wanted = { ...DEFAULT_CONFIG, ...run?.config, ...config, testLimit: null };
  const opening = mpi.rank === 0
    ? openTest(trained.data, values.data, wanted, reporter, { limit, named: run !== undefined })
    : Promise.resolve(undefined);
  using opened = await allDone(mpi, opening);
  const data = await broadcastDataset(mpi, opened?.test);
  const device = await defaultDevice();
  const epochs = run?.history.length ?? 0;
  await reporter.say(
    `${path}: ${model}, ${data.count} test images at ${sizeText(resize)}, on ${device}`,
  );
  const set = deviceDataset(data, path, device);
  using evaluator = new Evaluator(net, set, {
    ...{ ...config, batchSize, device },
    ...mpi.size > 1 && { together: { collective: mpi, workspace: device.workspace } },
  });
  let predictions: Predictions | undefined;
  const accuracy = await evaluator.run({
    onProgress: (progress) => reporter.progress(progress),
    onTested: (tested) => void (predictions = tested),
  }, epochs);
  await reporter.clear();
  if (mpi.rank > 0) return 0;
  const { labels, count } = data, { predicted, probability } = predictions!;
  const lost = notFinite(probability);
  if (lost !== undefined) await reporter.say(`warning: ${lost}`);
  const outputs = outputNames(data.classes, predicted);
  const matrix = (most: number) =>
    outputs.length > most ? undefined : confusionMatrix(labels, predicted, outputs.length);
  const classes = classMetrics(labels, predicted, outputs.length)
    .map((metrics, label) => ({ class: outputs[label]!, label, ...metrics }));
  if (on.json) {
    const { description: adapter } = device;
    const found = { images: count, accuracy, classes, confusion: matrix(MOST_IN_JSON) };
    console.log(
      JSON.stringify({ checkpoint: path, model, epochs, resize, adapter, ...found }, null, 2),
    );
    return 0;
  }
  const right = Math.round(accuracy! * count);
  console.log(`test acc ${accuracy!.toFixed(3)} (${right} of ${count})\n`);
  const names = classes.map((row) => `${row.label} ${brief(plain(row.class), 40)}`);
  const tested = classes.filter(({ images }) => images > 0);
  const rows = classes.length > MOST_ROWS
    ? tested.sort((a, b) => a.f1 - b.f1 || a.label - b.label).slice(0, MOST_ROWS)
    : classes;
  if (rows !== classes) console.log(`the ${rows.length} worst of ${classes.length} classes`);
  console.log(table([
    ["class", "images", "precision", "recall", "F1"],
    ...rows.map(({ images, precision, recall, f1, label }) => [
      names[label]!,
      `${images}`,
      ...[precision, recall, f1].map((x) => Number.isNaN(x) ? "-" : x.toFixed(3)),
    ]),
  ]));
  const confusion = matrix(MOST_COLUMNS);
  if (!confusion) {
    console.log(`\nthe pairs that were confused most`);
    console.log(table([
      ["class", "taken for", "images"],
      ...worstConfusions(labels, predicted, WORST)
        .map(({ label, predicted, count }) => [names[label]!, names[predicted]!, `${count}`]),
    ]));
    return 0;
  }
  console.log("\nrows: what it is; columns: what it was taken for");
  console.log(table([
    ["", ...classes.map(({ label }) => `${label}`)],
    ...confusion.map((row, label) => [names[label]!, ...row.map((count) => `${count || "."}`)]),
  ]));
  return 0;
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  return await runOnRanks(
    args,
    {
      name: "eval",
      usage,
      values: ["data", "net", "resize", "batch-size", "limit"],
      switches: ["json"],
      words: { min: 1, max: 1, what: "CHECKPOINT" },
    },
    async (flags, mpi) => {
      await using reporter = new TrainReporter({ quiet: mpi.rank > 0 });
      return await run(flags, reporter, mpi);
    },
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
