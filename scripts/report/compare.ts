/**
 * The report on several runs: their results side by side, and their differences.
 *
 * @module
 */

import { sameSetting } from "../../lib/train/config.ts";
import { classMetrics } from "../../lib/train/metrics.ts";
import { lineChart } from "./charts.ts";
import type { Block } from "./document.ts";
import { notes, valueOf, wordsOf } from "./one.ts";
import { aboutOf, historyOf, type Reported } from "./run.ts";
import { fixed, markdown, table } from "./text.ts";

/** Names that tell the runs apart. */
function namesOf(runs: readonly Reported[]): string[] {
  return runs.map(({ name }, i) =>
    runs.some((other, k) => k !== i && other.name === name) ? `${name} (${i + 1})` : name
  );
}

function results(runs: readonly Reported[], names: readonly string[]): Block {
  const rows = runs.map((run, i) => {
    const history = historyOf(run), last = history.at(-1);
    return [
      markdown(names[i]!),
      `${last?.epoch ?? 0}`,
      fixed(last?.loss, 4),
      fixed(last?.trainAccuracy, 4),
      fixed(last?.testAccuracy, 4),
      fixed(last && Math.max(...history.map(({ testAccuracy }) => testAccuracy)), 4),
      fixed(history.reduce((sum, { seconds }) => sum + seconds, 0), 1),
    ];
  });
  const heads = ["loss", "train accuracy", "test accuracy", "best test accuracy", "seconds"];
  return table(["run", "epochs", ...heads], rows);
}

function curves(runs: readonly Reported[], names: readonly string[]): Block[] {
  const lines = (points: (run: Reported) => (readonly [number, number])[]) =>
    runs.map((run, i) => ({ name: names[i]!, points: points(run) }))
      .filter(({ points }) => points.length > 0);
  const charts = [
    {
      name: "loss-epochs",
      title: "loss",
      across: "epoch",
      lines: lines((run) => historyOf(run).map(({ epoch, loss }) => [epoch, loss])),
    },
    {
      name: "accuracy-epochs",
      title: "test accuracy",
      across: "epoch",
      lines: lines((run) => historyOf(run).map(({ epoch, testAccuracy }) => [epoch, testAccuracy])),
    },
    {
      name: "loss-steps",
      title: "loss",
      across: "step",
      lines: lines((run) => run.metrics.steps.map(({ steps, loss }) => [steps, loss])),
    },
    {
      name: "accuracy-steps",
      title: "train accuracy",
      across: "step",
      lines: lines((run) => run.metrics.steps.map(({ steps, accuracy }) => [steps, accuracy])),
    },
  ];
  const blocks = charts.filter(({ lines }) => lines.length > 0).map((
    { name, title, across, lines },
  ): Block => ({ name, alt: `${title} by ${across}`, svg: lineChart(title, across, lines) }));
  return blocks.length > 0 ? ["## Curves", ...blocks] : [];
}

function classes(runs: readonly Reported[], names: readonly string[]): Block[] {
  const known = runs.flatMap(({ tested }, i) => tested ? [{ tested, name: names[i]! }] : []);
  const [first] = known;
  const same = known.filter(({ tested }) => sameSetting(tested.classes, first!.tested.classes));
  if (!first) return [];
  const found = same.map(({ tested }) =>
    classMetrics(tested.labels, tested.predicted, tested.classes.length)
  );
  const rows = first.tested.classes.map((name, k) => [
    markdown(name),
    ...found.map((metrics) => fixed(metrics[k]!.f1, 3)),
  ]);
  return ["## F1 by class", table(["class", ...same.map(({ name }) => markdown(name))], rows)];
}

function settings(runs: readonly Reported[], names: readonly string[]): Block[] {
  const abouts = runs.map((run) => {
    const { config = {}, adapter = "", version = "" } = aboutOf(run) ?? {};
    return new Map([
      ...Object.entries(config).map(([name, value]) => [wordsOf(name), valueOf(value)] as const),
      ["adapter", markdown(adapter)] as const,
      ["version of Resnette", markdown(version)] as const,
    ]);
  });
  const rows = [...new Set(abouts.flatMap((about) => [...about.keys()]))].map((name) => [
    markdown(name),
    ...abouts.map((about) => about.get(name) ?? "–"),
  ]);
  const differ = rows.filter(([, first, ...others]) => others.some((value) => value !== first));
  const shared = rows.filter((row) => !differ.includes(row)).map((row) => row.slice(0, 2));
  return [
    "## Configuration",
    differ.length > 0
      ? table(["setting", ...names.map(markdown)], differ, 1 + names.length)
      : "The runs have the same settings.",
    ...shared.length > 0 ? ["In all of them:", table(["setting", "value"], shared, 2)] : [],
  ];
}

/** The report. */
export function comparisonOf(runs: readonly Reported[]): Block[] {
  const names = namesOf(runs);
  return [
    `# ${markdown(names.join(", "))}`,
    results(runs, names),
    ...curves(runs, names),
    ...classes(runs, names),
    ...settings(runs, names),
    ...notes(runs),
  ];
}
