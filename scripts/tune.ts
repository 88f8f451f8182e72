/**
 * `deno task tune`: measures which kernels are fastest on this adapter, for training. Parse, call,
 * print; the work is in `lib/measure/tune.ts`, and the file is in `lib/files/tuned.ts`.
 *
 * @module
 */

import { type Ceiling, measureCeiling } from "../lib/measure/ceiling.ts";
import { Device } from "../lib/device/device.ts";
import { problemFlops, problemKey } from "../lib/kernels/choice.ts";
import { type Pair, pair } from "../lib/graph/shape.ts";
import { DEFAULT_CONFIG, MODELS } from "../lib/train/config.ts";
import { trainingGraph, tune, type Tuning } from "../lib/measure/tune.ts";
import { cacheFolder, readTuned, writeTuned } from "../lib/files/tuned.ts";
import { table } from "../lib/check/text.ts";
import { type Flags, messageOf, modelHelp, runCommand, setting, UsageError } from "./cli.ts";
import { Stop } from "./stop.ts";
import { TrainReporter } from "./train_reporter.ts";

const { batchSize, resize, model } = DEFAULT_CONFIG;
const BUDGET = 120;

const usage = () =>
  `usage: deno task tune [--budget SECONDS] [--batch-size N] [--resize N] [--model NAME] [--json]

Measures which kernels compute a training step's convolutions and matrix products fastest on this
adapter, the most expensive first, and keeps those that are clearly faster than the ones that rules
choose. deno task train uses them from then on. What the budget does not reach stays as it was. Let
nothing else run meanwhile.

  --budget SECONDS  time after which no other measurement is begun (${BUDGET})
  --batch-size N    images of a step (${batchSize})
  --resize N        size of the images (${resize})
${modelHelp()}
  --json            print one JSON object instead of the table, with all times, and which kernels
                    were refused by compiler or device, or skipped as too slow, and why
  -h, --help        this text

The choices are for one batch size and image size. Tune for others too: all are kept. The table goes
to stdout, all else to stderr, also a line for each kernel that was refused. GFLOP/s are those of
the direct computation, so Winograd's may exceed the ceiling, which is measured by multiply-adds
that stay in registers.

They are kept in $XDG_CACHE_HOME/resnette/tuned-ADAPTER-….json (by default in ~/.cache, on macOS in
~/Library/Caches, on Windows in %LOCALAPPDATA%), a file for each adapter, version of Deno and of
this project. Remove it, or train with --no-tuned, to go back to the rules. Ctrl-C keeps what has
been decided so far.

exit code: 0 tuned; 1 no adapter, or the choices cannot be kept; 2 the command line is wrong;
130 stopped by Ctrl-C; 143 by SIGTERM`;

interface Settings {
  readonly budget: number;
  readonly batchSize: number;
  readonly resize: Pair;
  readonly model: string;
  readonly json: boolean;
}

/** The settings that flags come to. */
function settingsOf(
  { values, on }: Flags<"budget" | "batch-size" | "resize" | "model", "json">,
): Settings {
  const { budget = `${BUDGET}` } = values;
  if (!/^(\d+\.?\d*|\.\d+)$/.test(budget) || Number(budget) === 0) {
    throw new UsageError(`--budget must be a number of seconds above 0, got "${budget}"`);
  }
  return {
    budget: Number(budget),
    batchSize: setting("batchSize", values["batch-size"]) ?? batchSize,
    resize: setting("resize", values.resize) ?? resize,
    model: setting("model", values.model) ?? model,
    json: on.json,
  };
}

/** 10⁹ operations per second of a problem's direct computation; undefined if it was not timed. */
function gflops({ problem, choice, milliseconds }: Tuning): number | undefined {
  const ms = milliseconds.get(choice);
  return ms && problemFlops(problem) / ms / 1e6;
}

/** `resnet_block1.0.conv1 and 3 more`. */
const layersOf = ({ layers: [first, ...more] }: Tuning) =>
  (first || "(network)") + (more.length > 0 ? ` and ${more.length} more` : "");

/** The table of results, and what they come to. */
export function formatTunings(tunings: readonly Tuning[], { gflops: most }: Ceiling): string {
  const rows = [["layer", "pass", "kernel", "ms", "GFLOP/s", "of ceiling", "by rule"]];
  for (const tuning of tunings) {
    const { problem, choice, rule, milliseconds } = tuning;
    const speed = gflops(tuning), ms = milliseconds.get(choice), before = milliseconds.get(rule);
    rows.push([
      layersOf(tuning),
      problem.kind,
      speed === undefined ? `${choice} (not measured)` : choice,
      ms?.toFixed(2) ?? "",
      speed?.toFixed(1) ?? "",
      speed === undefined ? "" : `${(100 * speed / most).toFixed(0)}%`,
      rule === choice || before === undefined ? "" : `${rule}, ${before.toFixed(2)} ms`,
    ]);
  }
  const measured = tunings.filter((tuning) => gflops(tuning) !== undefined);
  const sum = (time: (tuning: Tuning) => number) =>
    measured.reduce((total, tuning) => total + tuning.layers.length * time(tuning), 0).toFixed(0);
  const left = tunings.length - measured.length;
  return [
    table(rows, (column) => column > 2 && column < 6),
    `ceiling: ${most.toFixed(0)} GFLOP/s of multiply-adds in registers`,
    `the ${measured.length} measured take ${sum((x) => x.milliseconds.get(x.choice)!)} ms of a ` +
    `step, and by the rules ${
      sum((x) => x.milliseconds.get(x.rule) ?? x.milliseconds.get(x.choice)!)
    } ms`,
    ...left > 0 ? [`${left} are not measured: a larger --budget would reach them`] : [],
  ].join("\n");
}

/** A line for each candidate that cannot be run here: layer, pass, candidate, and the reason. */
export function formatRefused(tunings: readonly Tuning[]): string[] {
  return tunings.flatMap((tuning) =>
    [...tuning.refused].map(([name, why]) =>
      `warning: ${layersOf(tuning)} ${tuning.problem.kind}: ${name} cannot be run: ${
        why.replace(/\s+/g, " ")
      }`
    )
  );
}

async function run(settings: Settings, reporter: TrainReporter): Promise<number> {
  const folder = cacheFolder();
  if (!folder) {
    console.error(
      "error: there is no folder to keep the choices in: neither $XDG_CACHE_HOME nor $HOME is set, " +
        "or it has a comma or two spaces in it, or this process may not read them. Run " +
        "`deno task tune`, or deno run -A scripts/tune.ts",
    );
    return 1;
  }
  using device = await Device.request();
  await reporter.say(`tuning for ${device}`);
  const kept = await readTuned(device, folder).catch(async (error: Error) => {
    await reporter.say(`warning: ${messageOf(error)}`);
    return new Map<string, string>();
  });
  kept.forEach((choice, key) => device.tuned.set(key, choice));
  // At once, so that a folder that cannot be written to is not found out at the end.
  await writeTuned(device, folder);
  const ceiling = await measureCeiling(device);
  const { batchSize, resize, budget } = settings;
  const sides = pair("tune", "resize", resize, 1);
  const graph = trainingGraph(MODELS.get(settings.model)!({ inChannels: 1 }), [
    batchSize,
    1,
    ...sides,
  ]);
  using stop = new Stop((line) => reporter.say(line), () => "keeping what has been measured");
  const tunings = await tune(device, graph, {
    budget,
    signal: stop.signal,
    onProgress: (progress) => reporter.tuning(progress, budget),
  });
  for (const line of formatRefused(tunings)) await reporter.say(line);
  await reporter.clear();
  if (settings.json) {
    console.log(JSON.stringify(report(tunings, device, ceiling, settings), null, 2));
  } else console.log(formatTunings(tunings, ceiling));
  const path = await writeTuned(device, folder);
  await reporter.say(`saved ${path}`);
  return stop.code;
}

function report(tunings: readonly Tuning[], device: Device, ceiling: Ceiling, settings: Settings) {
  const { json: _, ...rest } = settings;
  return {
    adapter: device.description,
    ...rest,
    ceiling,
    problems: tunings.map((tuning) => ({
      problem: problemKey(tuning.problem),
      layers: tuning.layers,
      choice: tuning.choice,
      rule: tuning.rule,
      milliseconds: Object.fromEntries(tuning.milliseconds),
      refused: Object.fromEntries(tuning.refused),
      skipped: Object.fromEntries(tuning.skipped),
      gflops: gflops(tuning) ?? null,
    })),
  };
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
      name: "tune",
      usage,
      values: ["budget", "batch-size", "resize", "model"],
      switches: ["json"],
    },
    async (flags) => {
      await using reporter = new TrainReporter();
      return await run(settingsOf(flags), reporter);
    },
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
