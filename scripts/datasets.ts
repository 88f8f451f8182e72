/**
 * The images that a command works on: Fashion-MNIST, or the data set at a path; and the messages
 * about them.
 *
 * @module
 */

import { type ImageDataset, readImages } from "../lib/data/dataset.ts";
import { DataError } from "../lib/data/error.ts";
import { loadDataset } from "../lib/files/dataset.ts";
import type { Mpi } from "../lib/files/mpi.ts";
import type { DatasetSummary, LoadedDataset, LoadOptions } from "../lib/files/loaded.ts";
import { ensureFashionMnist } from "../lib/files/download.ts";
import { loadFashionMnist } from "../lib/files/fashion_mnist.ts";
import type { DataSource, TrainedOn } from "../lib/train/checkpoint.ts";
import { sizeText, type TrainConfig } from "../lib/train/config.ts";
import { broadcastDataset } from "../lib/train/ranks.ts";
import { brief } from "../lib/check/text.ts";
import { OwnDataError, UsageError } from "./cli.ts";
import { boxOf } from "./predict/photo.ts";
import { allDone, eachOf, shared } from "./ranks.ts";
import type { TrainReporter } from "./train_reporter.ts";

const FASHION_MNIST = "data/fashion-mnist";
/** Where decoded images are kept. */
const CACHE = "data/cache";
/** Images of which it is measured how large the things on them are. */
const MOST_MEASURED = 1000;
/** Classes whose images are counted one by one. */
const MOST_COUNTED = 20;

/** Which images, and how they are made ready. */
export type DataConfig = Pick<
  TrainConfig,
  "resize" | "channels" | "testShare" | "seed" | "limit" | "testLimit"
>;

/** Images to train on and to test with. */
export interface OpenedData extends Disposable {
  readonly train: ImageDataset;
  readonly test: ImageDataset;
  /** Where they are from. */
  readonly source: DataSource;
}

/** The images of Fashion-MNIST to test with. */
export const fashionMnistTest = (limit: number | null): Promise<ImageDataset> =>
  loadFashionMnist(FASHION_MNIST, "test", limit === null ? {} : { limit });

/** Where the images of a run are: at the path that is given now, or else where they were. */
export function pathOf(data: TrainedOn, given: string | undefined): string | undefined {
  if (given === undefined && data.kind === "other") {
    throw new UsageError("it is not known what images this was trained on; give --data PATH");
  }
  return given ?? data.path ?? undefined;
}

/** Opens Fashion-MNIST, which is fetched first if need be, or the data set at a path. */
export async function openData(
  path: string | undefined,
  config: DataConfig,
  reporter: TrainReporter,
  signal?: AbortSignal,
): Promise<OpenedData> {
  if (path !== undefined) return await openPath(path, config, reporter, signal);
  await ensureFashionMnist(FASHION_MNIST, {
    log: (line) => reporter.say(line),
    onProgress: (progress) => reporter.download(progress),
  });
  return await fashionMnist(config);
}

async function fashionMnist({ limit, testLimit }: DataConfig): Promise<OpenedData> {
  const test = await fashionMnistTest(testLimit);
  const limits = limit === null ? {} : { limit };
  const train = await loadFashionMnist(FASHION_MNIST, "train", limits);
  const source = { kind: "fashion-mnist", path: null } as const;
  return { train, test, source, [Symbol.dispose]() {} };
}

/**
 * Opens the images of a run on all its ranks, where each has them. Rank 0 sends its own where one has
 * none, or where `broadcast` asks for it.
 */
export async function openTogether(
  mpi: Mpi,
  path: string | undefined,
  config: DataConfig,
  reporter: TrainReporter,
  { broadcast, signal }: { readonly broadcast: boolean; readonly signal: AbortSignal },
): Promise<OpenedData> {
  const isFirst = mpi.rank === 0, nothing = Promise.resolve(undefined);
  const first = await allDone(mpi, isFirst ? openData(path, config, reporter, signal) : nothing);
  // Then others on its machine find what it has fetched or decoded.
  const looks = !isFirst && !broadcast;
  const here = await allDone(mpi, looks ? openHere(path, config, reporter, signal) : nothing);
  const own = first ?? here;
  const without = (await eachOf(mpi, own !== undefined)).filter((has) => !has).length;
  if (without === 0) return own!;
  const to = without === 1 ? "1 rank that has none" : `${without} ranks that have none`;
  await reporter.say(`sending the images to ${broadcast ? "all ranks" : to}`);
  const sets = {
    train: await broadcastDataset(mpi, first?.train),
    test: await broadcastDataset(mpi, first?.test),
    source: await shared(mpi, () => first!.source),
  };
  return { ...sets, [Symbol.dispose]: () => own?.[Symbol.dispose]() };
}

/** The images of a run that are here already; undefined if there are none. */
async function openHere(
  path: string | undefined,
  config: DataConfig,
  reporter: TrainReporter,
  signal: AbortSignal,
): Promise<OpenedData | undefined> {
  try {
    return await (path === undefined
      ? fashionMnist(config)
      : openPath(path, config, reporter, signal));
  } catch (error) {
    if (error instanceof DataError && error.code === "missing-file") return undefined;
    throw error;
  }
}

/** How {@linkcode openTest} opens them. */
export interface TestOptions {
  /** The most images; as many as the run has if it is left out, null for all. */
  readonly limit?: number | null | undefined;
  /** Whether it is known how the classes are called, and not only how many there are. */
  readonly named?: boolean;
}

/**
 * Opens the images that a run was tested with, or those at the path that is given: all that `config`
 * says, or the first `limit` of Fashion-MNIST, or as many of others, evenly from all classes.
 */
export async function openTest(
  data: TrainedOn,
  given: string | undefined,
  config: DataConfig,
  reporter: TrainReporter,
  { limit = config.testLimit, named = true }: TestOptions = {},
): Promise<Disposable & { readonly test: ImageDataset }> {
  const path = pathOf(data, given);
  if (path === undefined) return { test: await fashionMnistTest(limit), [Symbol.dispose]() {} };
  const opened = await openPath(path, config, reporter);
  const { test } = opened, { classes } = data;
  const another = named ? test.classes.findIndex((name, label) => name !== classes[label]) : -1;
  if (test.classes.length !== classes.length || another >= 0) {
    opened[Symbol.dispose]();
    const [has, had] = [test.classes, classes].map((names) => brief(names.join(", "), 100));
    throw new UsageError(
      `${path} has the ${test.classes.length} classes ${has}, but the network was trained on the ` +
        `${classes.length} classes ${had}; give its own data set as --data`,
    );
  }
  if (limit === null || limit >= test.count) return opened;
  return { test: someOf(test, limit), [Symbol.dispose]: () => opened[Symbol.dispose]() };
}

/** So many images of a data set, evenly from all of it. */
function someOf(data: ImageDataset, count: number): ImageDataset {
  const chosen = Uint32Array.from({ length: count }, (_, i) => Math.floor(i * data.count / count));
  return {
    ...data,
    count,
    labels: Uint32Array.from(chosen, (i) => data.labels[i]!),
    images: (indices) => readImages("images", data, indices.map((i) => chosen[i]!)),
  };
}

async function openPath(
  path: string,
  { resize, channels, testShare, seed, limit, testLimit }: DataConfig,
  reporter: TrainReporter,
  signal?: AbortSignal,
): Promise<OpenedData> {
  const opened = await loadOwn(path, {
    ...{ resize, testShare, seed, cache: CACHE },
    ...channels !== null && { channels: channels as 1 | 3 },
    ...limit !== null && { limit },
    ...testLimit !== null && { testLimit },
    ...signal && { signal },
    onProgress: (progress) => reporter.decoding(progress),
  });
  await reporter.clear();
  const { summary, train, test } = opened;
  for (const line of described(path, summary, [train, test])) await reporter.say(line);
  const isIdx = summary.kind === "idx";
  const fill = isIdx ? await fillOf(train) : undefined;
  const source = { kind: summary.kind, path, ...fill !== undefined && { fill } };
  return { train, test, source, [Symbol.dispose]: () => opened[Symbol.dispose]() };
}

async function loadOwn(path: string, options: LoadOptions): Promise<LoadedDataset> {
  try {
    return await loadDataset(path, options);
  } catch (error) {
    throw error instanceof DataError ? new OwnDataError(error) : error;
  }
}

/** How much of an image's side the things on some images take, on average; they lie on black. */
async function fillOf(data: ImageDataset): Promise<number> {
  const { height, width } = data, count = Math.min(MOST_MEASURED, data.count);
  const bytes = await readImages("images", data, Uint32Array.from({ length: count }, (_, i) => i));
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const pixels = bytes.subarray(i * height * width, (i + 1) * height * width);
    const box = boxOf(pixels, width, height, 0);
    sum += Math.max(box.width / width, box.height / height);
  }
  return Number((sum / count).toFixed(3));
}

/** What a data set is, in lines: classes, counts, channels, sizes, and what was skipped. */
function* described(
  path: string,
  summary: DatasetSummary,
  [train, test]: readonly [ImageDataset, ImageDataset],
): Generator<string> {
  const { classes, channels, smallest, largest, size, kind, cached, file } = summary;
  const counts = new Uint32Array(classes.length);
  for (const { labels } of [train, test]) labels.forEach((label) => counts[label]!++);
  const names = classes.length > MOST_COUNTED
    ? brief(classes.join(", "), 200)
    : classes.map((name, label) => `${brief(name, 40)} ${counts[label]}`).join(", ");
  yield `${path}: ${classes.length} classes: ${names}`;
  const [small, large] = [smallest, largest].map((size) => sizeText(size));
  const sizes = small === large ? `of ${small}` : `from ${small} to ${large}`;
  const stored = kind === "folder" ? `, resized to ${sizeText(size)}` : "";
  const from = file ? `, read from ${file}` : cached ? ", from the cache" : "";
  yield `${path}: ${train.count} images to train on and ${test.count} to test with, ` +
    `${channels === 1 ? "grey" : "RGB"}, ${sizes}${stored}${from}`;
  for (const note of summary.notes) yield `${path}: ${note}`;
  for (const { reason, count, names } of summary.skipped) {
    const more = count > names.length ? `, and ${count - names.length} more` : "";
    yield `warning: ${path}: ${count} skipped, ${reason}: ${names.join(", ")}${more}`;
  }
}
