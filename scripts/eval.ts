/**
 * `deno task eval`: how well a trained network does on the test images. Parse, call, print; the work
 * is in `lib/train/evaluator.ts` and `lib/train/metrics.ts`.
 *
 * @module
 */

import { loadFashionMnist } from "../lib/files/fashion_mnist.ts";
import { defaultDevice } from "../lib/device/device.ts";
import { DeviceDataset } from "../lib/train/device_dataset.ts";
import { Evaluator } from "../lib/train/evaluator.ts";
import { classMetrics, confusionMatrix, type Predictions } from "../lib/train/metrics.ts";
import { DEFAULT_CONFIG } from "../lib/train/config.ts";
import { loadTrained } from "../lib/files/trained.ts";
import { table } from "../lib/check/text.ts";
import { type Flags, runCommand, setting } from "./cli.ts";
import { TrainReporter } from "./train_reporter.ts";

const DATA = "data/fashion-mnist";

const usage = () =>
  `usage: deno task eval CHECKPOINT [--resize N] [--batch-size N] [--limit N] [--json]

Classifies the test images of Fashion-MNIST with a trained network, and prints its accuracy, a
table of precision and recall by class, and the confusion matrix. Results go to stdout, all else to
stderr.

  CHECKPOINT        a checkpoint's folder; a run's, for its latest complete checkpoint; or a
                    .safetensors file, ours or PyTorch's
  --resize N        size of the images (the run's own; ${DEFAULT_CONFIG.resize} for a file alone)
  --batch-size N    images of a pass (${DEFAULT_CONFIG.batchSize})
  --limit N         the first N test images only (all)
  --json            print one JSON object instead
  -h, --help        this text

exit code: 0 done; 1 no checkpoint, no data or no adapter; 2 the command line is wrong`;

async function run(
  { values, on, words }: Flags<"resize" | "batch-size" | "limit", "json">,
  reporter: TrainReporter,
): Promise<number> {
  const given = setting("resize", values.resize);
  const batchSize = setting("batchSize", values["batch-size"]) ??
    DEFAULT_CONFIG.batchSize;
  const limit = setting("testLimit", values.limit, "--limit");
  const { net, model, path, run, ...trained } = await loadTrained(words[0]!);
  const resize = given ?? trained.resize;
  const data = await loadFashionMnist(DATA, "test", limit === undefined ? {} : { limit });
  const device = await defaultDevice();
  const epochs = run?.history.length ?? 0;
  await reporter.say(
    `${path}: ${model}, ${data.count} test images at ${resize}×${resize}, on ${device}`,
  );
  using evaluator = new Evaluator(net, new DeviceDataset(data), { batchSize, resize, device });
  let predictions: Predictions | undefined;
  const accuracy = await evaluator.run({
    onProgress: (progress) => reporter.progress(progress),
    onTested: (tested) => void (predictions = tested),
  }, epochs);
  await reporter.clear();
  const confusion = confusionMatrix(data.labels, predictions!.predicted, data.classes.length);
  const classes = classMetrics(confusion)
    .map((metrics, label) => ({ class: data.classes[label]!, label, ...metrics }));
  if (on.json) {
    const { description: adapter } = device;
    const images = data.count;
    console.log(JSON.stringify(
      { checkpoint: path, model, epochs, resize, adapter, images, accuracy, classes, confusion },
      null,
      2,
    ));
    return 0;
  }
  const right = confusion.reduce((sum, row, label) => sum + row[label]!, 0);
  console.log(`test acc ${accuracy!.toFixed(3)} (${right} of ${data.count})\n`);
  const names = classes.map((row) => `${row.label} ${row.class}`);
  console.log(table([
    ["class", "images", "precision", "recall", "F1"],
    ...classes.map(({ images, precision, recall, f1 }, label) => [
      names[label]!,
      `${images}`,
      ...[precision, recall, f1].map((x) => Number.isNaN(x) ? "-" : x.toFixed(3)),
    ]),
  ]));
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
  return await runCommand(
    args,
    {
      name: "eval",
      usage,
      values: ["resize", "batch-size", "limit"],
      switches: ["json"],
      words: { min: 1, max: 1, what: "CHECKPOINT" },
    },
    async (flags) => {
      await using reporter = new TrainReporter();
      return await run(flags, reporter);
    },
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
