/**
 * The settings of a training run, and the results of an epoch. One table, {@link CONFIG_FIELDS},
 * says what each setting is; defaults, flags, help, checks and checkpoints are made of it.
 *
 * @module
 */

import { resnet101, resnet152, resnet18, resnet34, resnet50 } from "../nn/resnet.ts";
import { curves, htmlTable, shownAs } from "../check/display.ts";
import { checkNumber, checkObject, checkOptions, shown } from "../check/arguments.ts";
import type { Pair } from "../graph/shape.ts";
import type { Module } from "../nn/module.ts";

/** The library's version, written into checkpoints. */
export const VERSION = "0.1.0";

/** Makes a net: images of `inChannels` channels to logits of `numClasses` classes. */
export type ModelBuilder = (options?: { inChannels?: number; numClasses?: number }) => Module;

/** The models by name, for {@link TrainConfig.model}; you may add your own. */
export const MODELS: Map<string, ModelBuilder> = new Map(
  Object.entries({ resnet18, resnet34, resnet50, resnet101, resnet152 }).flatMap(
    ([name, build]): [string, ModelBuilder][] => [
      [name, build],
      [`torchvision-${name}`, (options) => build({ ...options, variant: "torchvision" })],
    ],
  ).sort(([a], [b]) => Number(a.startsWith("torchvision")) - Number(b.startsWith("torchvision"))),
);

/** Optimizers by name. */
export const OPTIMIZERS = ["adam", "adamw", "sgd"] as const;

/** Schedules of the learning rate by name; see {@link TrainConfig.schedule}. */
export const SCHEDULES = ["constant", "cosine", "step"] as const;

/** How gradients are sent between ranks, by name; see {@link TrainConfig.compress}. */
export const COMPRESSIONS = ["none", "f16"] as const;

/** Random changes of training images, by name; see {@link TrainConfig.augment}. */
export const AUGMENTATIONS = ["flip", "crop", "rotate", "jitter"] as const;

/** Settings of a training run; {@link DEFAULT_CONFIG} has the defaults. */
export interface TrainConfig {
  /** A name in {@link MODELS}. */
  readonly model: string;
  /** Passes over the training images. */
  readonly epochs: number;
  /** Images of a step, on all ranks together; the last batch of an epoch has what is left. */
  readonly batchSize: number;
  /**
   * Micro-batches of a step, on each rank if there are several; there are more if so many do not fit
   * the adapter. Their gradients are summed, weighted by their sizes, so a step is that of the whole
   * batch. But a batch norm, and what it keeps, sees one micro-batch at a time, as in PyTorch.
   */
  readonly accumulate: number;
  /** Learning rate: the highest of the schedule. */
  readonly lr: number;
  /** Images are resized to this: a side, or `[rows, columns]`. */
  readonly resize: Pair;
  /**
   * Seeds the weights, the order of each epoch, augmentation and dropout, and the choice of a
   * folder's images to test with, or to keep under a limit.
   */
  readonly seed: number;
  /** Train on so many images only: the first ones, or some of a folder of images; null for all. */
  readonly limit: number | null;
  /** Test with so many images only, chosen likewise; null for all. */
  readonly testLimit: number | null;
  /** One of {@link OPTIMIZERS}. */
  readonly optimizer: typeof OPTIMIZERS[number];
  /** Momentum of `sgd`. */
  readonly momentum: number;
  /**
   * An L2 penalty for `adam` and `sgd`, decoupled weight decay for `adamw`; on all parameters, as
   * in PyTorch. 0 by default, 0.01 for `adamw`.
   */
  readonly weightDecay: number;
  /**
   * The learning rate after the warm-up: `constant`; `cosine`, which falls with every step to 0 at
   * the end of the last epoch; `step`, multiplied by {@link TrainConfig.gamma} every
   * {@link TrainConfig.stepSize} epochs.
   */
  readonly schedule: typeof SCHEDULES[number];
  /** For the schedule `step`: epochs between drops. */
  readonly stepSize: number;
  /** For the schedule `step`: the factor of each drop. */
  readonly gamma: number;
  /** Steps of linear warm-up: step k of them, counted from 1, has k / (warmup + 1) of the rate. */
  readonly warmup: number;
  /** Share of each label that is spread evenly over all classes; in training only. */
  readonly labelSmoothing: number;
  /**
   * Random changes of training images, before they are resized: `none`, or some of
   * {@link AUGMENTATIONS} with commas between them. `flip` mirrors half of the images. `crop` moves
   * an image by up to an eighth of its shorter side (4 of 28 pixels), and `rotate` turns it by up
   * to 15 degrees; both fill with black. `jitter` changes brightness, contrast and saturation by up
   * to a fifth each.
   */
  readonly augment: string;
  /**
   * 3 makes grey images RGB; null leaves images as they are. 1 makes RGB images grey where they are
   * loaded; a trainer cannot do it.
   */
  readonly channels: number | null;
  /** Subtracted from pixels between 0 and 1: a number, or one for each channel; null for 0. */
  readonly mean: readonly number[] | null;
  /** What pixels are then divided by: a number, or one for each channel; null for 1. */
  readonly std: readonly number[] | null;
  /** Share of each class of a folder to test with, if the folder has no test images of its own. */
  readonly testShare: number;
  /** Parts of the net that are not trained: prefixes for {@linkcode Module.freeze}. */
  readonly freeze: readonly string[];
  /**
   * How gradients travel between the ranks of a run: `none`, as they are; `f16`, in half the bytes,
   * as 16-bit floats scaled by the largest. Sums are made in 32-bit floats.
   */
  readonly compress: typeof COMPRESSIONS[number];
}

/** A setting with a value that is not allowed; the message names it and says what it may be. */
export class ConfigError extends RangeError {
  /** `ConfigError`. */
  override name = "ConfigError";
}

/** A setting: what it is called, what it means, what it may be, and when it counts. */
export interface ConfigField {
  /** Its name in words. */
  readonly words: string;
  /** What it means, with its unit; after the choices, for one that is a word. */
  readonly about: string;
  /** Its default, the notebook's; null for all there is, or nothing. */
  readonly standard: string | number | null | readonly string[];
  /** Its value where another setting has some value, if nobody says otherwise. */
  readonly standardWith?: readonly [name: keyof TrainConfig, value: string, standard: number];
  /** What it may be, in words. */
  readonly wanted: string;
  /** Whether it may be `value`. */
  readonly allows: (value: unknown) => boolean;
  /** The words that it may be; undefined for what is no word. */
  readonly choices?: readonly string[];
  /** What stands for its value in help: `N` for an integer, `X` for a number, a word for a word. */
  readonly value: string;
  /** What help calls the default, where it is not plain. */
  readonly otherwise?: string;
  /** The value that some text says, as on a command line; it may be none that is allowed. */
  readonly parse: (text: string) => unknown;
  /** The one way to write a value that can be written in several. */
  readonly normal?: (value: unknown) => unknown;
  /** Another setting, and what that must be for this one to matter. */
  readonly when?: readonly [name: keyof TrainConfig, value: string];
  /** Whether checkpoints may lack it: those written before there was such a setting have its default. */
  readonly late?: boolean;
}

/** A plain decimal: Number() would also take "0x10", "1_0" and " ". */
const decimal = (text: string): number =>
  /^-?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : NaN;
const whole = (text: string): number => /^-?\d+$/.test(text) ? Number(text) : NaN;

const integer = (
  words: string,
  standard: number | null,
  [min, max]: readonly [number, number],
  about: string,
): ConfigField => ({
  ...{ words, standard, about, value: "N", parse: whole },
  wanted: `an integer from ${min} to ${max}`,
  allows: (x) =>
    standard === null && x === null ||
    typeof x === "number" && Number.isInteger(x) && x >= min && x <= max,
});

const real = (words: string, standard: number, max: number, about: string): ConfigField => ({
  ...{ words, standard, about, value: "X", parse: decimal },
  wanted: max < Infinity ? `a number from 0 to ${max}` : "a finite number, at least 0",
  allows: (x) => typeof x === "number" && Number.isFinite(x) && x >= 0 && x <= max,
});

const word = (
  words: string,
  standard: string,
  choices: readonly string[],
  about = "",
): ConfigField => ({
  ...{ words, standard, about, value: "NAME", choices, parse: (text) => text },
  wanted: `one of: ${choices.join(", ")}`,
  allows: (x: unknown) => choices.includes(x as string),
});

/** One number for all channels, or one for each. */
const perChannel = (
  words: string,
  least: number,
  otherwise: string,
  about: string,
): ConfigField => ({
  ...{ words, about, otherwise, standard: null, value: "X,…", late: true },
  parse: (text) => text.split(",").map(decimal),
  wanted: `a finite number${
    least < 0 ? "" : " above 0"
  }, or one for each channel with commas between`,
  allows: (x) =>
    x === null || Array.isArray(x) && x.length >= 1 && x.length <= MOST_CHANNELS &&
      x.every((one) => Number.isFinite(one) && one > least),
});

/** The longest side of an image, and the most channels of one. */
const MOST_SIDE = 4096, MOST_CHANNELS = 4096;
/** The most parts of a net that are named, and the longest name of one. */
const MOST_FROZEN = 100, LONGEST_KEY = 200;

const isSide = (x: unknown) =>
  typeof x === "number" && Number.isInteger(x) && x >= 1 && x <= MOST_SIDE;
/** Augmentations in the order of their table, each once; undefined where there is another word. */
const augmentations = (text: string): readonly string[] | undefined => {
  if (text === "none") return [];
  const words = text.split(",");
  const known = words.every((word) => (AUGMENTATIONS as readonly string[]).includes(word));
  return known && new Set(words).size === words.length
    ? AUGMENTATIONS.filter((word) => words.includes(word))
    : undefined;
};

const late = (field: ConfigField, when?: ConfigField["when"]): ConfigField => ({
  ...field,
  ...when && { when },
  late: true,
});

const STEP = ["schedule", "step"] as const;

/** All settings, in the order of help and checkpoints; flags, checks and defaults are made of these. */
export const CONFIG_FIELDS: Readonly<Record<keyof TrainConfig, ConfigField>> = {
  // Models may be added.
  get model() {
    return word("model", "resnet18", [...MODELS.keys()]);
  },
  epochs: integer("epochs", 5, [1, 100_000], "passes over the training images"),
  batchSize: integer(
    "batch size",
    128,
    [1, 65_536],
    "images of a step; the last step of an epoch has what is left",
  ),
  accumulate: late(
    integer(
      "micro-batches",
      1,
      [1, 65_536],
      "micro-batches of a step, whose gradients are summed; a batch norm sees one at a time; if N " +
        "do not fit the adapter, there are more",
    ),
  ),
  lr: {
    ...real("learning rate", 1e-3, Infinity, "learning rate, the highest of its schedule"),
    wanted: "a finite number above 0",
    allows: (x) => typeof x === "number" && Number.isFinite(x) && x > 0,
  },
  resize: {
    ...integer("resize", 96, [1, MOST_SIDE], "images are resized to N×N pixels, or to N rows of M"),
    value: "N or NxM",
    wanted: `an integer from 1 to ${MOST_SIDE}, or ROWSxCOLUMNS`,
    allows: (x) => isSide(x) || Array.isArray(x) && x.length === 2 && x.every(isSide),
    parse: (text) => /[x×]/.test(text) ? text.split(/[x×]/).map(whole) : whole(text),
    normal: (x) => Array.isArray(x) && x[0] === x[1] ? x[0] : x,
  },
  seed: integer(
    "seed",
    0,
    [0, Number.MAX_SAFE_INTEGER],
    "seeds the weights, the order of the images and what else is random",
  ),
  limit: integer(
    "limit",
    null,
    [1, 1e9],
    "train on N images only: the first, or some of a folder of images",
  ),
  testLimit: integer("test limit", null, [1, 1e9], "test with N images only, chosen likewise"),
  optimizer: late(word("optimizer", "adam", OPTIMIZERS)),
  momentum: late(real("momentum", 0.9, 1, "its momentum"), ["optimizer", "sgd"]),
  weightDecay: {
    ...real("weight decay", 0, Infinity, "an L2 penalty for adam and sgd, decoupled for adamw"),
    standardWith: ["optimizer", "adamw", 0.01],
    late: true,
  },
  schedule: late(
    word(
      "schedule",
      "constant",
      SCHEDULES,
      "cosine falls all the time, to 0 at the end of the last epoch; step drops every few epochs",
    ),
  ),
  stepSize: late(integer("step size", 2, [1, 100_000], "epochs between drops"), STEP),
  gamma: late(real("gamma", 0.1, 1, "factor of each drop"), STEP),
  warmup: late(integer("warm-up", 0, [0, 1e9], "steps of linear warm-up before the schedule")),
  labelSmoothing: late(
    real("label smoothing", 0, 1, "share of each label that is spread over all classes"),
  ),
  augment: {
    words: "augmentation",
    standard: "none",
    about:
      "what happens to training images, with commas between: flip mirrors half of them, crop " +
      "moves each by up to an eighth of its shorter side, rotate turns it by up to 15 " +
      "degrees, jitter changes brightness, contrast and saturation by up to a fifth",
    wanted: `none, or some of ${AUGMENTATIONS.join(", ")} with commas between`,
    value: "WHAT",
    allows: (x) => typeof x === "string" && augmentations(x) !== undefined,
    parse: (text) => text,
    normal: (x) => augmentations(x as string)!.join(",") || "none",
    late: true,
  },
  channels: {
    ...integer("channels", null, [1, 3], "1 makes images grey, 3 makes them RGB"),
    wanted: "1 (grey) or 3 (RGB)",
    allows: (x) => x === null || x === 1 || x === 3,
    otherwise: "as the images are",
    late: true,
  },
  mean: perChannel("mean", -Infinity, "0", "subtracted from pixels between 0 and 1, by channel"),
  std: perChannel("standard deviation", 0, "1", "what pixels are then divided by, by channel"),
  testShare: {
    ...real("test share", 0.2, 1, "share of each class to test with, if PATH has no test images"),
    wanted: "a number above 0 and below 1",
    allows: (x) => typeof x === "number" && x > 0 && x < 1,
    late: true,
  },
  freeze: {
    words: "frozen",
    standard: [],
    otherwise: "nothing",
    about: "parts of the net that keep their weights: beginnings of keys, with commas between",
    wanted: "beginnings of keys, such as layer1,bn1",
    value: "KEY,…",
    allows: (x) =>
      Array.isArray(x) && x.length <= MOST_FROZEN &&
      x.every((key) => typeof key === "string" && key !== "" && key.length <= LONGEST_KEY),
    parse: (text) => text.split(","),
    late: true,
  },
  compress: late(
    word(
      "compression",
      "none",
      COMPRESSIONS,
      "how gradients travel between several processes; f16 halves their bytes",
    ),
  ),
};

/** The names of all settings, in order. */
export const CONFIG_NAMES: readonly (keyof TrainConfig)[] = Object.keys(
  CONFIG_FIELDS,
) as (keyof TrainConfig)[];

/** A setting's value in words; both sides of an image as `ROWSxCOLUMNS`. */
export function settingText(name: keyof TrainConfig, value: unknown): string {
  if (Array.isArray(value)) return value.join(name === "resize" ? "x" : ",") || "nothing";
  return value === null || value === undefined ? "none" : String(value);
}

/** Rows and columns of images in words: `96×96`. */
export const sizeText = (size: Pair): string =>
  (typeof size === "number" ? [size, size] : size).join("×");

/** Whether two values of a setting are the same. */
export const sameSetting = (a: unknown, b: unknown): boolean =>
  JSON.stringify(a) === JSON.stringify(b);

/** The default settings, which are the notebook's. */
export const DEFAULT_CONFIG: TrainConfig = Object.fromEntries(
  CONFIG_NAMES.map((name) => [name, CONFIG_FIELDS[name].standard]),
) as unknown as TrainConfig;

/**
 * Completes a configuration: settings that `given` leaves out have the notebook's values. With
 * AdamW, the default weight decay is 0.01.
 *
 * @throws {ConfigError} if a setting is out of its range; the message names it.
 * @throws {ArgumentError} if `given` has a name that is no setting.
 *
 * @example
 * ```ts
 * import { trainConfig } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(trainConfig({ batchSize: 64 }).lr, 0.001);
 * ```
 */
export function trainConfig(given: Partial<TrainConfig> = {}): TrainConfig {
  checkOptions("trainConfig", given, CONFIG_NAMES);
  const config: Record<string, unknown> = { ...DEFAULT_CONFIG, ...given };
  for (const name of CONFIG_NAMES) {
    const { words, wanted, allows, normal, standardWith: [other, value, standard] = [] } =
      CONFIG_FIELDS[name];
    if (other && config[other] === value && !Object.hasOwn(given, name)) config[name] = standard;
    if (!allows(config[name])) {
      throw new ConfigError(`the ${words} must be ${wanted}, got ${shown(config[name])}`);
    }
    if (normal) config[name] = normal(config[name]);
  }
  const { accumulate, batchSize } = config as unknown as TrainConfig;
  if (accumulate > batchSize) {
    throw new ConfigError(
      `the micro-batches must be at most the batch size, ${batchSize}, got ${accumulate}`,
    );
  }
  return config as unknown as TrainConfig;
}

/** The results of an epoch. */
export interface EpochResult {
  /** The epoch, counted from 1. */
  readonly epoch: number;
  /** Mean of the losses of its batches. */
  readonly loss: number;
  /** Share of the training images that were classified right, each in its own training step. */
  readonly trainAccuracy: number;
  /** Share of the test images that are classified right after the epoch, in evaluation mode. */
  readonly testAccuracy: number;
  /** Seconds of training and testing. */
  readonly seconds: number;
}

/**
 * Formats the results of an epoch as a line, in the notebook's words.
 *
 * @throws {ArgumentError} if a field is missing or no number.
 *
 * @example
 * ```ts
 * import { formatEpoch } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const line = formatEpoch({
 *   epoch: 1,
 *   loss: 0.38528,
 *   trainAccuracy: 0.859,
 *   testAccuracy: 0.889,
 *   seconds: 562.2,
 * });
 * assertEquals(line, "epoch 1, loss 0.3853, train acc 0.859, test acc 0.889, time 562 sec");
 * ```
 */
export function formatEpoch(result: EpochResult): string {
  checkObject("formatEpoch", "result", result);
  const { epoch, loss, trainAccuracy, testAccuracy, seconds } = result;
  for (const [name, value] of Object.entries({ loss, trainAccuracy, testAccuracy, seconds })) {
    checkNumber("formatEpoch", `result.${name}`, value);
  }
  checkNumber("formatEpoch", "result.epoch", epoch, { integer: true, min: 1 });
  return `epoch ${epoch}, loss ${loss.toFixed(4)}, train acc ${trainAccuracy.toFixed(3)}, ` +
    `test acc ${testAccuracy.toFixed(3)}, time ${seconds.toFixed(0)} sec`;
}

/** Shows a run's epochs in a notebook: as a table and curves. */
export function showHistory(history: readonly EpochResult[]): Record<string, string> {
  if (history.length === 0) return shownAs("no epochs yet", "no epochs yet");
  const rows = history.map(({ epoch, loss, trainAccuracy, testAccuracy, seconds }) => [
    `${epoch}`,
    loss.toFixed(4),
    trainAccuracy.toFixed(3),
    testAccuracy.toFixed(3),
    `${seconds.toFixed(0)} s`,
  ]);
  const table = htmlTable(["epoch", "loss", "train acc", "test acc", "time"], rows, 0);
  const pictures = [
    curves({ loss: history.map(({ loss }) => loss) }),
    curves({
      "train acc": history.map(({ trainAccuracy }) => trainAccuracy),
      "test acc": history.map(({ testAccuracy }) => testAccuracy),
    }),
  ];
  return shownAs(history.map(formatEpoch).join("\n"), table + pictures.join(""));
}
