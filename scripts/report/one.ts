/**
 * The report on one run: its result, curves, classes, mistakes, time, settings, network.
 *
 * @module
 */

import { readImages } from "../../lib/data/dataset.ts";
import {
  classMetrics,
  confidentMistakes,
  confusionMatrix,
  worstConfusions,
} from "../../lib/train/metrics.ts";
import { formatShape } from "../../lib/graph/shape.ts";
import { summarize } from "../../lib/nn/summary.ts";
import { MOST_PIXELS } from "../../lib/ops/data.ts";
import { FASHION_MNIST } from "../../lib/train/checkpoint.ts";
import { CONFIG_FIELDS, MODELS } from "../../lib/train/config.ts";
import { heatMap, lineChart } from "./charts.ts";
import type { Block } from "./document.ts";
import { gallery } from "./gallery.ts";
import { networkMermaid, networkSvg } from "./network.ts";
import { aboutOf, historyOf, type Reported, type Tested } from "./run.ts";
import { fixed, markdown, perStep, ranksText, table, whole } from "./text.ts";

/** Mistakes that are shown. */
const MOST_MISTAKES = 24;
/** The most classes that have a row each, and the most of a confusion matrix. */
const MOST_ROWS = 100, MOST_COLUMNS = 30;
const MB = 1e6;

/** A setting's name in words. */
export const wordsOf = (name: string): string =>
  Object.hasOwn(CONFIG_FIELDS, name)
    ? CONFIG_FIELDS[name as keyof typeof CONFIG_FIELDS].words
    : name;

/** A setting's value in words. */
export const valueOf = (value: unknown): string =>
  value === null || value === undefined || Array.isArray(value) && value.length === 0
    ? "none"
    : markdown(typeof value === "object" ? JSON.stringify(value) : String(value));

/** The result of the run, in a sentence or two. */
function headline(run: Reported): string {
  const history = historyOf(run), last = history.at(-1);
  const about = aboutOf(run);
  const best = history.reduce((a, b) => b.testAccuracy > a.testAccuracy ? b : a, last!);
  const parts = [
    about && `${valueOf(about.config["model"])} on ${markdown(about.adapter)}, ` +
      `${whole(about.images.train)} training and ${whole(about.images.test)} test images.`,
    last
      ? `After epoch ${last.epoch}${about ? ` of ${valueOf(about.config["epochs"])}` : ""}: test ` +
        `accuracy **${fixed(last.testAccuracy, 4)}**, loss ${fixed(last.loss, 4)}` +
        (best.epoch === last.epoch
          ? "."
          : `; the best test accuracy was ${fixed(best.testAccuracy, 4)}, in epoch ${best.epoch}.`)
      : "No epoch is complete yet.",
    run.state && run.state.step > 0 &&
    `It was stopped after ${run.state.step} steps of epoch ${run.state.history.length + 1}.`,
  ];
  return parts.filter(Boolean).join(" ");
}

function results(run: Reported): Block[] {
  const history = historyOf(run);
  if (history.length === 0) return [];
  const rows = history.map(({ epoch, loss, trainAccuracy, testAccuracy, seconds }) => [
    `${epoch}`,
    fixed(loss, 4),
    fixed(trainAccuracy, 4),
    fixed(testAccuracy, 4),
    fixed(seconds, 1),
  ]);
  return [
    "## Results",
    table(["epoch", "loss", "train accuracy", "test accuracy", "seconds"], rows),
  ];
}

function curves(run: Reported): Block[] {
  const history = historyOf(run), { steps } = run.metrics;
  const blocks: Block[] = [];
  if (history.length > 0) {
    const line = (name: string, key: "loss" | "trainAccuracy" | "testAccuracy") => ({
      name,
      points: history.map((result) => [result.epoch, result[key]] as const),
    });
    blocks.push({
      name: "loss-epochs",
      alt: "Loss by epoch",
      svg: lineChart("loss", "epoch", [line("training", "loss")]),
    }, {
      name: "accuracy-epochs",
      alt: "Accuracy by epoch",
      svg: lineChart("accuracy", "epoch", [
        line("training", "trainAccuracy"),
        line("test", "testAccuracy"),
      ]),
    });
  }
  if (steps.length > 0) {
    for (const key of ["loss", "accuracy"] as const) {
      const points = steps.map((line) => [line.steps, line[key]] as const);
      blocks.push({
        name: `${key}-steps`,
        alt: `${key === "loss" ? "Loss" : "Accuracy"} by step`,
        svg: lineChart(key, "step", [{ name: "training", points }]),
      });
    }
  }
  return blocks.length > 0 ? ["## Curves", ...blocks] : [];
}

function classes({ tested }: Reported): Block[] {
  if (!tested) {
    return [
      "## Classes",
      "There are no predictions for the test images yet. Each epoch ends with them; for a " +
      "checkpoint, `deno task report --evaluate RUN` makes them.",
    ];
  }
  const { labels, predicted, classes } = tested;
  const all = classMetrics(labels, predicted, classes.length).map((row, k) => ({ ...row, k }));
  const isLong = classes.length > MOST_ROWS;
  const shown = isLong
    ? all.filter(({ images }) => images > 0).sort((a, b) => a.f1 - b.f1).slice(0, MOST_ROWS)
    : all;
  const rows = shown.map(({ precision, recall, f1, images, k }) => [
    markdown(classes[k]!),
    fixed(precision, 3),
    fixed(recall, 3),
    fixed(f1, 3),
    whole(images),
  ]);
  return [
    "## Classes",
    `The results on ${whole(tested.labels.length)} test images after ${
      whole(tested.steps)
    } steps (epoch ${tested.epoch}). Precision is the share of the images taken for ` +
    "a class that are of it; recall is the share of a class's images that were taken for it; F1 is " +
    `their harmonic mean.${isLong ? ` These are the ${MOST_ROWS} worst classes.` : ""}`,
    table(["class", "precision", "recall", "F1", "images"], rows),
    ...confusions(tested),
  ];
}

/** What was taken for what: as a matrix, or of many classes, the pairs that were confused most. */
function confusions({ labels, predicted, classes }: Tested): Block[] {
  if (classes.length <= MOST_COLUMNS) {
    return [{
      name: "confusion",
      alt: "Confusion matrix: true classes down, predicted ones across",
      svg: heatMap(confusionMatrix(labels, predicted, classes.length), classes),
    }];
  }
  const rows = worstConfusions(labels, predicted, MOST_MISTAKES)
    .map((pair) => [
      markdown(classes[pair.label]!),
      markdown(classes[pair.predicted]!),
      whole(pair.count),
    ]);
  return rows.length > 0
    ? ["These were confused most:", table(["true class", "predicted class", "images"], rows, 2)]
    : [];
}

async function mistakes({ tested, images }: Reported): Promise<Block[]> {
  if (!tested) return [];
  const worst = confidentMistakes(tested.labels, tested, MOST_MISTAKES);
  if (worst.length === 0) return ["## Mistakes", "Every test image was classified right."];
  const heading = "## Mistakes";
  const { classes, labels, predicted, probability } = tested;
  const count = labels.length;
  const same = images && images.count >= count &&
    Array.from(labels).every((label, i) => label === images.labels[i]);
  if (!same) {
    const rows = worst.map((i) => [
      `${i}`,
      markdown(classes[labels[i]!]!),
      markdown(classes[predicted[i]!]!),
      fixed(probability[i], 3),
    ]);
    return [
      heading,
      "The mistakes that the net was surest of. The images themselves are not available.",
      table(["image", "true class", "predicted class", "probability"], rows, 3),
    ];
  }
  const bytes = await readImages("images", images, Uint32Array.from(worst));
  const size = bytes.length / worst.length;
  const pictures = worst.map((i, k) => ({
    pixels: bytes.subarray(k * size, (k + 1) * size),
    lines: [
      `#${i}: ${classes[labels[i]!]}`,
      `taken for ${classes[predicted[i]!]}`,
      `with ${fixed(probability[i], 3)}`,
    ],
  }));
  return [
    heading,
    "The mistakes that the net was surest of: number and true class of the image, predicted " +
    "class, probability.",
    {
      name: "mistakes",
      alt: "Test images that were classified wrong",
      svg: await gallery(pictures, images),
    },
  ];
}

function time(run: Reported): Block[] {
  const { steps, epochs } = run.metrics;
  const history = historyOf(run);
  const total = history.reduce((sum, { seconds }) => sum + seconds, run.state?.seconds ?? 0);
  const rates = steps.map(({ imagesPerSecond }) => imagesPerSecond).sort((a, b) => a - b);
  const most = (key: "process" | "workspace") =>
    Math.max(0, ...epochs.map(({ memory }) => memory[key]));
  const rows = [
    ["training and testing", `${fixed(total, 1)} s`],
    ["an epoch, on average", history.length > 0 ? `${fixed(mean(history), 1)} s` : "–"],
    ["training, median", rates.length > 0 ? `${fixed(rates[rates.length >> 1], 1)} images/s` : "–"],
    ["memory of the process", most("process") > 0 ? `${fixed(most("process") / MB, 0)} MB` : "–"],
    [
      "workspace on the device",
      most("workspace") > 0 ? `${fixed(most("workspace") / MB, 0)} MB` : "–",
    ],
  ];
  return [
    "## Time and memory",
    table(["what", "how much"], [...rows, ...traffic(run)]),
    "The workspace holds the intermediate values of a step, without parameters, the optimizer's " +
    "state and the data. Memory was read after each epoch; the largest is shown.",
  ];
}

/** What a step had to say to other ranks, where there are any. */
function traffic({ metrics: { epochs } }: Reported): string[][] {
  const last = epochs.findLast(({ traffic }) => traffic)?.traffic;
  if (!last) return [];
  const { messages, megabytes, waits, milliseconds } = perStep(last);
  return [
    ["messages to other ranks, a step", `${messages}, ${megabytes} MB`],
    ["waits for other ranks, a step", `${waits}, ${milliseconds} ms`],
  ];
}

const mean = (history: readonly { seconds: number }[]) =>
  history.reduce((sum, { seconds }) => sum + seconds, 0) / history.length;

function settings(run: Reported): Block[] {
  const about = aboutOf(run), { ranks } = run.metrics.run ?? {};
  if (!about) return [];
  const rows = Object.entries(about.config).map(([name, value]) => [
    markdown(wordsOf(name)),
    valueOf(value),
  ]);
  rows.push(
    ["adapter", markdown(about.adapter)],
    ...ranks ? [["ranks", markdown(`${ranksText(ranks.hosts)}, by ${ranks.library}`)]] : [],
    ...run.state?.tuned === undefined ? [] : [["measured choices", markdown(run.state.tuned)]],
    ["version of Resnette", markdown(about.version)],
  );
  return ["## Configuration", table(["setting", "value"], rows, 2)];
}

function network(run: Reported): Block[] {
  const config = aboutOf(run)?.config ?? {};
  const build = MODELS.get(String(config["model"]));
  const { classes = FASHION_MNIST.classes, channels = 1 } = run.state?.data ?? FASHION_MNIST;
  const sides = [config["resize"]].flat().map(Number);
  const inChannels = Number(config["channels"] ?? channels);
  // What a run without a checkpoint says of itself may be anything.
  const isCount = (n: number) => Number.isInteger(n) && n >= 1 && n <= MOST_PIXELS;
  const shape = [1, inChannels, sides[0] ?? 0, sides.at(-1) ?? 0];
  if (!build || !shape.every(isCount)) return [];
  const net = summarize(build({ inChannels, numClasses: classes.length }), shape);
  return ["## Network", {
    name: "network",
    alt: "The network, layer by layer",
    svg: networkSvg(net, formatShape(shape)),
    mermaid: networkMermaid(net, formatShape(shape)),
  }];
}

/** What is wrong with the files of runs. */
export const notes = (runs: readonly Reported[]): Block[] => {
  const warnings = runs.flatMap((run) => run.warnings);
  return warnings.length > 0
    ? ["## Notes", warnings.map((warning) => `- ${markdown(warning)}`).join("\n")]
    : [];
};

/** The report. */
export async function reportOn(run: Reported): Promise<Block[]> {
  return [
    `# ${markdown(run.name)}`,
    headline(run),
    ...results(run),
    ...curves(run),
    ...classes(run),
    ...await mistakes(run),
    ...time(run),
    ...settings(run),
    ...network(run),
    ...notes([run]),
  ];
}
