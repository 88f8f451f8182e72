/**
 * `deno task train`: trains a ResNet on Fashion-MNIST, or another net on other images. Parse, call,
 * print; the work is in `lib/train/trainer.ts`, and the files are in `lib/files/run.ts`.
 *
 * @module
 */

import { basename } from "node:path";
import { ArgumentError } from "../lib/check/arguments.ts";
import { brief, flagOf, pathWord, shellWord } from "../lib/check/text.ts";
import { CheckpointError } from "../lib/train/checkpoint.ts";
import type { ImageDataset } from "../lib/data/dataset.ts";
import { defaultDevice, type Device } from "../lib/device/device.ts";
import { PlanError } from "../lib/plan/plan.ts";
import { loadCheckpoint, type LoadedCheckpoint, RunDirectory } from "../lib/files/run.ts";
import { WriteError } from "../lib/files/write.ts";
import { tunedDigest } from "../lib/kernels/choice.ts";
import { stopwatch } from "../lib/measure/timing.ts";
import type { Module } from "../lib/nn/module.ts";
import { buildModel, NonFiniteError, SingleImageError, Trainer } from "../lib/train/trainer.ts";
import {
  CONFIG_FIELDS,
  CONFIG_NAMES,
  ConfigError,
  DEFAULT_CONFIG,
  formatEpoch,
  type ModelBuilder,
  MODELS,
  sameSetting,
  settingText,
  type TrainConfig,
  trainConfig,
} from "../lib/train/config.ts";
import { type Mpi, MpiError } from "../lib/files/mpi.ts";
import { UnknownModelError } from "../lib/files/trained.ts";
import { readTuned } from "../lib/files/tuned.ts";
import type { Traffic } from "../lib/train/collective.ts";
import { broadcastBytes, broadcastCheckpoint, RankError } from "../lib/train/ranks.ts";
import { decodeStateDict, encodeStateDict } from "../lib/formats/state_dict.ts";
import {
  type Command,
  type Flags,
  isKnown,
  messageOf,
  setting,
  settingsHelp,
  UsageError,
} from "./cli.ts";
import { type OpenedData, openTogether, pathOf } from "./datasets.ts";
import { loadNet, takeWeights } from "./nets.ts";
import { eachOf, endAll, runOnRanks, shared } from "./ranks.ts";
import { RunRecorder } from "./report/recorder.ts";
import { perStep, ranksText } from "./report/text.ts";
import { Stop } from "./stop.ts";
import { TrainReporter } from "./train_reporter.ts";

const usage = () =>
  `usage: deno task train [options]

Trains a ResNet on Fashion-MNIST, or another net on other images, and tests it after each epoch. The
defaults are those of the PyTorch notebook that the README names. Fashion-MNIST is fetched the first
time. Results go to stdout, one line an epoch; all else to stderr.

  --data PATH       other images: a folder of classes, or IDX files (Fashion-MNIST)
  --net FILE        a net of your own: a module that exports a function, of { inChannels,
                    numClasses }, that returns a Module
  --init WEIGHTS    begin with those weights of a .safetensors file or a checkpoint that fit the net
${settingsHelp()}
  --out DIR         folder of the run (runs/TIME-${DEFAULT_CONFIG.model})
  --resume PATH     go on with a run, given its folder or a checkpoint's; the settings are the
                    run's own, and only --epochs, --out and --data (where the same images lie
                    now) may change; the schedule cosine then reaches to the new end
  --broadcast       on several ranks: only rank 0 reads the images, and sends them to the others
  --timeout N       on several ranks: seconds that one waits for the others (300)
  --no-tuned        do without the kernels that deno task tune found to be fastest here
  -h, --help        this text

Folders of images are PATH/train/CLASS/… and PATH/test/CLASS/… (or val), or PATH/CLASS/…, of which
--test-share is kept for testing. JPEG, PNG and WebP files of any size are decoded once, resized,
and kept in data/cache. If a file changes, they are decoded again. IDX files are MNIST's, KMNIST's
and EMNIST's as published; if a folder has several sets, PATH is the beginning of their names, such
as DIR/emnist-letters.

The loss is the mean over the epoch's batches. (The notebook divides by a count of batches that it
never resets: its second epoch's 0.1235 is really 0.247.)

After each epoch, and when it is stopped, the run's state is saved, whole or not at all, in a folder
of DIR/checkpoints: model.safetensors has the weights, optimizer.safetensors the optimizer's state,
run.json settings and history; 130 MB in all for a ResNet-18. Ctrl-C (or SIGTERM) finishes the step,
saves, and says how to go on; a second one stops at once. A resumed run ends, on the same adapter,
with the same bits as one that was never stopped. DIR/report.html shows how it went (deno task
report), DIR/metrics.jsonl has the numbers.

  deno task train --limit 512 --resize 32               a first try: a minute without a GPU
  deno task train                                       the notebook's run
  deno task train --data ~/photos --resize 64           a folder of photographs
  deno task train --resume runs/a --epochs 10           train a run of 5 epochs for 5 more

mpirun -n N, mpiexec -n N or srun before the command trains with N processes, called ranks, on one
machine or several; --batch-size is the batch of all of them. Only rank 0 needs the checkpoint, and
only it writes and prints; it sends the images to ranks that have none. If one fails, all end, and
--resume goes on, with any number of ranks.

exit code: 0 trained; 1 the run failed; 2 the command line is wrong; 130 stopped by Ctrl-C; 143 by
SIGTERM`;

const COMMAND: Command<string, "no-tuned" | "broadcast"> = {
  name: "train",
  usage,
  values: [
    ...CONFIG_NAMES.map((name) => flagOf(name).slice(2)),
    ...["data", "net", "init", "out", "resume", "timeout"],
  ],
  switches: ["no-tuned", "broadcast"],
};

/** The settings that were given, checked one by one. */
function settingsOf(values: Readonly<Record<string, string | undefined>>): Partial<TrainConfig> {
  const given = CONFIG_NAMES.map((name) => [name, setting(name, values[flagOf(name).slice(2)])]);
  return Object.fromEntries(given.filter(([, value]) => value !== undefined));
}

/** The settings of a resumed run: its own; flags may repeat them, and may change the epochs. */
function resumedConfig({ checkpoint, path }: LoadedCheckpoint, given: Partial<TrainConfig>) {
  const { config, history } = checkpoint.run;
  for (const name of CONFIG_NAMES) {
    if (name === "epochs" || given[name] === undefined) continue;
    if (sameSetting(given[name], config[name])) continue;
    throw new UsageError(
      `${flagOf(name)} ${
        settingText(name, given[name])
      } contradicts the run in ${path}, which has ` +
        `${settingText(name, config[name])}; leave it out, or start a new run`,
    );
  }
  const epochs = given.epochs ?? config.epochs;
  if (epochs < history.length) {
    throw new UsageError(
      `--epochs ${epochs}: the run in ${path} has had ${history.length} already`,
    );
  }
  return { ...config, epochs };
}

/** The settings of a new run. */
function newConfig(given: Partial<TrainConfig>): TrainConfig {
  try {
    return trainConfig(given);
  } catch (error) {
    // Each by itself has been checked: two contradict each other.
    throw error instanceof ConfigError ? new UsageError(error.message) : error;
  }
}

/** Refuses flags that would do nothing. */
function checkUse(given: Partial<TrainConfig>, config: TrainConfig): void {
  for (const name of CONFIG_NAMES) {
    const [other, value] = CONFIG_FIELDS[name].when ?? [];
    if (given[name] !== undefined && other && config[other] !== value) {
      throw new UsageError(`${flagOf(name)} is for ${flagOf(other)} ${value} only`);
    }
  }
}

/**
 * Makes the folder of a run that is given none: `runs/2026-02-14T15-30-12-resnet18`, with `-2` at its
 * end if that is taken, because a clock can step back.
 */
async function newFolder(model: string): Promise<string> {
  // A net of one's own is called by its file.
  const name = basename(model).replace(/\.\w+$/, "").replace(/[^\w.-]+/g, "-");
  const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  for (let number = 1;; number++) {
    const path = `runs/${time}-${name}${number > 1 ? `-${number}` : ""}`;
    try {
      await Deno.mkdir("runs", { recursive: true });
      await Deno.mkdir(path);
      return path;
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw new WriteError(path, error);
    }
  }
}

/** Makes the net of a run known that is to go on: it is the one that is given, or was named. */
function useNet({ checkpoint, path }: LoadedCheckpoint, build: ModelBuilder | undefined): void {
  const { model } = checkpoint.run.config;
  if (build) MODELS.set(model, build);
  else if (!MODELS.has(model)) throw new UnknownModelError(path, model);
}

/** The command that starts as many ranks. */
const commandOn = ({ size }: Mpi) => `${size > 1 ? `mpirun -n ${size} ` : ""}deno task train`;

/** How to go on after a stop or a failure. */
interface GoOn {
  /** The last checkpoint's folder; undefined if there is none. */
  path?: string;
  /** The command: until something is saved, the one that was given. */
  command: string;
}

/** Lets a device use the kernels that were measured best on rank 0's, if there are any. */
async function useTuned(device: Device, reporter: TrainReporter, mpi: Mpi): Promise<void> {
  const tuned = await shared(mpi, async () => {
    try {
      return [...await readTuned(device)];
    } catch (error) {
      await reporter.say(`warning: ${messageOf(error)}`);
      return [];
    }
  });
  tuned.forEach(([key, choice]) => device.tuned.set(key, choice));
  if (tuned.length > 0) {
    await reporter.say(`${tuned.length} choices by \`deno task tune\` are used`);
  }
}

/** The net of a new run, with the weights that it begins with, which rank 0 reads. */
async function netOf(
  config: TrainConfig,
  data: ImageDataset,
  init: string | undefined,
  reporter: TrainReporter,
  mpi: Mpi,
): Promise<Module> {
  const net = buildModel(config, data);
  if (init === undefined) return net;
  if (mpi.rank === 0) { for (const line of await takeWeights(net, init)) await reporter.say(line); }
  if (mpi.size === 1) return net;
  const own = mpi.rank === 0 ? encodeStateDict(await net.stateDict()) : undefined;
  net.loadStateDict(decodeStateDict(await broadcastBytes(mpi, own), init));
  return net;
}

/** Throws unless the settings fit the images and the net that they are about. */
function checkFit(config: TrainConfig, { channels: own }: ImageDataset, net: Module): void {
  const channels = config.channels ?? own ?? 1;
  for (const name of ["mean", "std"] as const) {
    const { length = 1 } = config[name] ?? {};
    if (length === 1 || length === channels) continue;
    throw new UsageError(
      `${flagOf(name)} ${settingText(name, config[name])}: has ${length} numbers, but the images ` +
        `have ${
          channels === 1 ? "one channel; give one number" : `${channels} channels; give ` +
            `one number, or ${channels}`
        }`,
    );
  }
  for (const key of config.freeze) {
    try {
      net.freeze(key);
    } catch (cause) {
      if (!(cause instanceof ArgumentError)) throw cause;
      const keys = new Set(net.namedVariables().map(([name]) => name.split(".")[0]!));
      const begin = `the net's keys begin with: ${brief([...keys].join(", "), 200)}`;
      throw new UsageError(`--freeze ${key}: there is no such layer; ${begin}`, { cause });
    }
  }
  if (net.parameters().some(({ requiresGrad }) => requiresGrad)) return;
  throw new UsageError(
    config.freeze.length > 0
      ? `--freeze ${settingText("freeze", config.freeze)}: nothing is left to train`
      : "the net has no parameters to train",
  );
}

/** Goes on from a checkpoint, which may be of a net that has changed meanwhile. */
function restore(trainer: Trainer, { checkpoint, path }: LoadedCheckpoint): void {
  try {
    trainer.restore(checkpoint);
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    throw new CheckpointError(`${path}: ${brief(cause.message, 300)}`, { cause });
  }
}

/** Compiles the plans; the seconds are those of that. */
async function prepare(
  { config, loaded, data, init, device, reporter, mpi }: {
    readonly config: TrainConfig;
    readonly loaded: LoadedCheckpoint | undefined;
    readonly data: OpenedData;
    readonly init: string | undefined;
    readonly device: Device;
    readonly reporter: TrainReporter;
    readonly mpi: Mpi;
  },
): Promise<{ trainer: Trainer; seconds: number }> {
  const { train, test, source } = data;
  const net = await netOf(config, train, init, reporter, mpi);
  checkFit(config, train, net);
  const trainer = await Trainer.create({
    ...{ config, train, test, device, net, source, collective: mpi },
  });
  if (loaded) restore(trainer, loaded);
  const elapsed = stopwatch();
  await trainer.prepare();
  return { trainer, seconds: elapsed() / 1000 };
}

/** The checkpoint to go on from, as rank 0 finds it. */
async function loadTogether(mpi: Mpi, path: string): Promise<LoadedCheckpoint> {
  const own = mpi.rank === 0 ? await loadCheckpoint(path) : undefined;
  const checkpoint = await broadcastCheckpoint(mpi, own?.checkpoint);
  const [found, run] = await shared(mpi, () => [own!.path, own!.run ?? null] as const);
  return { path: found, run: run ?? undefined, checkpoint: checkpoint! };
}

/** Seconds that ranks wait for each other. */
function secondsOf(word: string): number {
  const seconds = Number(word);
  if (seconds >= 1 && seconds <= 86_400) return seconds;
  throw new UsageError(`--timeout must be a number of seconds, from 1 to 86400, got "${word}"`);
}

/** What a step had to say to other ranks, in words. */
function formatTraffic(traffic: Traffic): string {
  const { messages, megabytes, waits, milliseconds } = perStep(traffic);
  return `to the other ranks, a step: ${messages} messages, ${megabytes} MB; ${waits} waits, ` +
    `${milliseconds} ms`;
}

/** Where a run trains, in words. */
function placeOf(device: Device, { library }: Mpi, hosts: readonly string[]): string {
  return hosts.length === 1 ? `${device}` : `${device}; ${ranksText(hosts)}, by ${library}`;
}

async function train(
  { values, on }: Flags<string, "no-tuned" | "broadcast">,
  reporter: TrainReporter,
  goOn: GoOn,
  mpi: Mpi,
): Promise<number> {
  if (values.timeout !== undefined) mpi.timeout = secondsOf(values.timeout);
  const { resume, out: folder, data: images, net, init } = values, isFirst = mpi.rank === 0;
  const build = net === undefined ? undefined : await loadNet(net);
  if (build && resume === undefined) MODELS.set(net!, build);
  const given = settingsOf(build && resume === undefined ? { model: net, ...values } : values);
  if (build && given.model !== undefined && given.model !== net) {
    throw new UsageError("--net and --model are two nets; give one");
  }
  if (init !== undefined && resume !== undefined) {
    throw new UsageError("--init is for new runs: one that goes on has its own weights");
  }
  using stop = new Stop((line) => reporter.say(line), () => {
    const lost = mpi.size > 1 ? `; if a rank is lost, go on by: ${goOn.command}` : "";
    return `finishing the step and saving${lost}`;
  });
  const loaded = resume === undefined ? undefined : await loadTogether(mpi, resume);
  if (loaded) useNet(loaded, build);
  const config = loaded ? resumedConfig(loaded, given) : newConfig(given);
  checkUse(given, config);
  const path = loaded ? pathOf(loaded.checkpoint.run.data, images) : images;
  if (given.testShare !== undefined && path === undefined) {
    throw new UsageError("--test-share is for --data only: Fashion-MNIST has test images");
  }
  if (loaded && folder === undefined && !loaded.run) {
    throw new UsageError(
      `--resume ${pathWord(resume!)}: this checkpoint is not the latest of a run; ` +
        "give --out DIR to go on from it in a new folder",
    );
  }
  const device = await defaultDevice();
  const hosts = await eachOf(mpi, mpi.host);
  reporter.result(`training on ${placeOf(device, mpi, hosts)}`);
  if (mpi.size > 1 && navigator.hardwareConcurrency === 1) {
    await reporter.say(
      "warning: a rank may use only one core; if there are more: mpirun --bind-to none",
    );
  }
  if (!on["no-tuned"]) await useTuned(device, reporter, mpi);
  const before = loaded?.checkpoint.run;
  if (before && before.adapter !== device.description) {
    await reporter.say(
      `note: the run was on ${before.adapter}; on another adapter the last bits may differ`,
    );
  }
  if (before && before.tuned !== await tunedDigest(device.tuned)) {
    await reporter.say(
      "note: the run used other kernels than those that `deno task tune` has chosen here; the last " +
        "bits may differ",
    );
  }
  if (before && before.history.length >= config.epochs) {
    await reporter.say(
      `${loaded.path}: all ${config.epochs} epochs are done; to train on: ` +
        `--resume ${pathWord(resume!)} --epochs N; for its report: deno task report ` +
        pathWord(resume!),
    );
    return 0;
  }

  const stopped = async () => {
    await reporter.say(
      loaded || goOn.path
        ? `stopped; to go on: ${goOn.command}`
        : "stopped before the first step; nothing is saved",
    );
    return stop.code;
  };
  const out = await shared(mpi, async () => folder ?? loaded?.run ?? await newFolder(config.model));
  const fresh = out !== loaded?.run;
  using run = isFirst ? await RunDirectory.open(out, { fresh }) : undefined;
  const { broadcast } = on, { signal } = stop;
  const opening = openTogether(mpi, path, config, reporter, { broadcast, signal });
  const opened = await stop.before(opening);
  if (!opened) {
    if (mpi.size > 1) return await endAll(mpi, await stopped());
    // Images that were half decoded are taken away; a download goes on from there, and has no signal.
    if (path !== undefined) await opening.then((late) => late[Symbol.dispose](), () => {});
    return await stopped();
  }
  using data = opened;
  const prepared = await stop.before(
    prepare({ config, loaded, data, init, device, reporter, mpi }),
  );
  if (!prepared) {
    const code = await stopped();
    return mpi.size > 1 ? await endAll(mpi, code) : code;
  }
  const { trainer, seconds } = prepared;
  using _ = trainer;
  if (trainer.notice !== undefined) await reporter.say(`note: ${trainer.notice}`);
  const again = () =>
    `${commandOn(mpi)} --resume ${pathWord(out)}` +
    (net === undefined ? "" : ` --net ${pathWord(net)}`);
  if (loaded) goOn.path = loaded.path;
  await reporter.say(
    `${out}: ${trainer.train.count} training and ${trainer.test.count} test images, ` +
      `${trainer.steps} steps per epoch; compiled in ${seconds.toFixed(1)} sec`,
  );

  using recorder = run && await RunRecorder.open({
    folder: out,
    fresh,
    trainer,
    test: data.test,
    before: loaded && { path: loaded.path, state: loaded.checkpoint.run },
    ranks: mpi.size > 1 ? { hosts, library: mpi.library } : undefined,
    say: (line) => reporter.say(line),
  });
  while (!trainer.done) {
    const steps = trainer.optimizer.steps;
    const result = await trainer.epoch({
      onProgress: async (progress) => {
        await recorder?.progress(progress);
        await reporter.progress(progress);
      },
      onTested: (predictions) => recorder?.tested(predictions),
      signal: stop.signal,
    });
    await reporter.clear();
    // Before the line: a run whose weights are not finite has no results.
    const news = result || trainer.optimizer.steps > steps;
    const checkpoint = news && await trainer.checkpoint();
    if (result) {
      reporter.result(formatEpoch(result));
      await recorder?.epoch(result);
    }
    if (checkpoint) {
      const isNew = goOn.command !== again();
      goOn.path = await shared(mpi, () => run!.save(checkpoint));
      goOn.command = again();
      const lost = mpi.size > 1 && isNew ? `; if a rank is lost, go on by: ${again()}` : "";
      await reporter.say(`saved ${goOn.path}${lost}`);
      await recorder?.report(checkpoint.run);
    }
    // An epoch that was complete when a signal came to some ranks is followed by none, on all of them.
    if (!result && !trainer.done) {
      stop.code = Math.max(...await eachOf(mpi, stop.code));
      return await stopped();
    }
  }
  if (trainer.traffic) await reporter.say(formatTraffic(trainer.traffic));
  return 0;
}

/** A message about what ended a run, with what to do. */
class RunError extends Error {
  /** `RunError`. */
  override name = "RunError";
}

/** What to type where a rank would have one image of a batch. */
function insteadOf({ images, batchSize, ranks }: SingleImageError): string {
  const fits = (images: number, size: number) =>
    images > 0 && CONFIG_FIELDS.batchSize.allows(size) &&
    [Math.min(images, size), images % size].every((batch) => batch === 0 || batch >= 2 * ranks);
  const fewer = images - images % batchSize;
  const near = Array.from({ length: images }, (_, i) => [batchSize + 1 + i, batchSize - 1 - i]);
  const another = near.flat().find((size) => fits(images, size));
  const ways = [
    ...fits(fewer, batchSize) ? [`--limit ${fewer}`] : [],
    ...another === undefined ? [] : [`--batch-size ${another}`],
  ];
  return ways.length > 0
    ? `try ${ways.join(" or ")}`
    : `there must be ${2 * ranks} training images or more`;
}

/** An error's message, with what to do about it if that is known. */
function advised(error: unknown, { path, command }: GoOn): unknown {
  const advise = (what: string) => new RunError(what, { cause: error });
  const message = messageOf(error);
  if (error instanceof NonFiniteError) {
    const good = path
      ? `The last good checkpoint is ${path}; going on from it would end here again.`
      : "There is no checkpoint yet.";
    return advise(
      `${message}. ${good} Start a new run with a smaller --lr (a tenth, say), or with another --seed`,
    );
  }
  if (error instanceof PlanError && error.largest !== undefined) {
    return advise(`${message}; try a smaller --resize`);
  }
  if (error instanceof SingleImageError) {
    return advise(`${message}; ${insteadOf(error)}`);
  }
  if (error instanceof WriteError && !(error.cause instanceof Deno.errors.NotCapable)) {
    return advise(
      `${message}. Free some space there, or make it writable; then ` +
        `${path ? `go on from ${path}` : "try again"}: ${command}`,
    );
  }
  return path && isKnown(error, [MpiError, RankError])
    ? advise(`${message}; to go on from ${path}: ${command}`)
    : error;
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  return await runOnRanks(args, COMMAND, async (flags, mpi) => {
    const goOn: GoOn = { command: [commandOn(mpi), ...args.map(shellWord)].join(" ") };
    await using reporter = new TrainReporter({ quiet: mpi.rank > 0 });
    try {
      return await train(flags, reporter, goOn, mpi);
    } catch (error) {
      throw advised(error, goOn);
    }
  }, [RunError, ConfigError]);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
