/**
 * Training and evaluation of a classifier of images. A step only submits work: its batch is a list of
 * indices, and its loss is summed up on the device and read now and then.
 *
 * @module
 */

import { ALONE, type BatchFeeds, BatchPlans, placesOf } from "./batches.ts";
import {
  checkCollective,
  type Collective,
  CountingCollective,
  type Traffic,
} from "./collective.ts";
import { Exchange } from "./exchange.ts";
import { anyOf, checkSame, digestOfData } from "./ranks.ts";
import { bytesOfState } from "../formats/state_dict.ts";
import { GradientSums } from "./gradients.ts";
import { freeVariables, readVariables, setVariable } from "../device/buffers.ts";
import {
  checkedCheckpoint,
  checkedSource,
  type Checkpoint,
  CheckpointError,
  type DataSource,
  type RunState,
  sha256Of,
  sourceOf,
} from "./checkpoint.ts";
import { stopwatch } from "../measure/timing.ts";
import { type ImageDataset, listed } from "../data/dataset.ts";
import { DataError } from "../data/error.ts";
import { checkInstance, checkNumber, checkOptions, refuse } from "../check/arguments.ts";
import { displayed } from "../check/display.ts";
import { defaultDevice, Device } from "../device/device.ts";
import {
  checkPreprocessing,
  type DeviceDataset,
  deviceDataset,
  feedsOf,
} from "./device_dataset.ts";
import { checkOutputs, checkWatch, Evaluator, overBatches, type Watch } from "./evaluator.ts";
import { grad } from "../ops/grad.ts";
import { manualSeed } from "../nn/init.ts";
import { collectUpdates, Module, type Parameter, training } from "../nn/module.ts";
import { add, isFinite, mul, where } from "../ops/elementwise.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { correctCount } from "../ops/classification.ts";
import type { Optimizer } from "../nn/optim.ts";
import { Plan } from "../plan/plan.ts";
import { Random } from "../graph/random.ts";
import { augmentation, drawAugmentation, learningRate, makeOptimizer } from "./recipe.ts";
import { tunedDigest } from "../kernels/choice.ts";
import { formatShape, sameShape, ShapeError } from "../graph/shape.ts";
import { assign, input, type Tensor, type Update, Variable } from "../graph/tensor.ts";
import {
  CONFIG_FIELDS,
  CONFIG_NAMES,
  ConfigError,
  type EpochResult,
  MODELS,
  sameSetting,
  settingText,
  showHistory,
  type TrainConfig,
  trainConfig,
  VERSION,
} from "./config.ts";

/** A loss or a weight is infinite or NaN, so the run cannot go on. */
export class NonFiniteError extends Error {
  /** `NonFiniteError`. */
  override name = "NonFiniteError";
}

const lossError = (step: number, epoch: number) =>
  new NonFiniteError(`the loss of step ${step} of epoch ${epoch} is not finite`);

/** A batch of one image that the net cannot be trained on: a batch norm needs two values. */
export class SingleImageError extends ShapeError {
  /** `SingleImageError`. */
  override name = "SingleImageError";

  /** `images` in batches of `batchSize`, shared by so many `ranks`; `cause` is the net's error. */
  constructor(
    readonly images: number,
    readonly batchSize: number,
    cause: Error,
    readonly ranks = 1,
  ) {
    const where = batchSize < 2 * ranks ? "every batch" : "the last batch";
    super(
      `of ${images} images in batches of ${batchSize}, ` +
        (ranks > 1
          ? `shared by ${ranks} ranks, one has one image of ${where}`
          : `${where} has one image`) +
        `: ${cause.message}`,
      { cause },
    );
  }
}

/** What a {@link Trainer} is made from. */
export interface TrainerOptions {
  /** The settings, from `trainConfig`. */
  readonly config: TrainConfig;
  /** Images to train on: all of them, whatever `config.limit` says. */
  readonly train: ImageDataset;
  /** Images to test with, likewise. */
  readonly test: ImageDataset;
  /** Where to run; the default device by default. */
  readonly device?: Device;
  /** A net of your own; by default the one that `config.model` names, made from the seed. */
  readonly net?: Module;
  /** Where the images are from, for checkpoints; by default a guess from their classes. */
  readonly source?: DataSource;
  /** The processes that train the net together, such as `Mpi`; each has a part of every batch. */
  readonly collective?: Collective;
}

/** The names of these. */
const OPTIONS: readonly (keyof TrainerOptions)[] = [
  ...["config", "train", "test", "device", "net", "source", "collective"] as const,
];

/** What a checkpoint says of a data set. */
const dataOf = ({ classes, channels, height, width }: DeviceDataset) => ({
  ...{ classes, channels, height, width },
});

/** Throws if a net cannot be trained on one data set and tested with the other. */
function checkTogether(train: DeviceDataset, test: DeviceDataset): void {
  for (const name of ["channels", "classes"] as const) {
    if (sameSetting(train[name], test[name])) continue;
    const of = ({ [name]: value }: DeviceDataset) =>
      typeof value === "number" ? `${value}` : listed(value);
    const what = `${of(test)}, but the images to train on have ${of(train)}`;
    throw new DataError("wrong-shape", `${test.name}.${name}`, `is ${what}`);
  }
}

/**
 * The net that a configuration names, for a data set; its weights come from the seed, wherever in a
 * script it is made.
 */
export function buildModel(
  { model, seed, channels }: TrainConfig,
  data: Pick<ImageDataset, "channels" | "classes">,
): Module {
  manualSeed(seed);
  return MODELS.get(model)!({
    inChannels: channels ?? data.channels ?? 1,
    numClasses: data.classes.length,
  });
}

/**
 * A training run: a net, its optimizer, the data, and how far it has come. Everything random
 * follows from the seed: epoch `e`, counted from 1, takes the images in the order
 * `new Random(seed, e).permutation(count)`; stream 0 gives the weights, and streams 2³¹ + e and
 * 3·2³⁰ + e the augmentation of epoch `e`. Dispose of it (`using`) to free its memory.
 *
 * @example
 * ```ts
 * import { Flatten, Linear, Sequential } from "@resnette/resnette";
 * import { trainConfig, Trainer } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const images = new Uint8Array([0, 255, 255, 0]), labels = new Uint8Array([0, 1]);
 * const data = { images, labels, count: 2, height: 1, width: 2, classes: ["right", "left"] };
 * const config = trainConfig({ batchSize: 2, resize: 2, epochs: 3, lr: 0.1 });
 * const net = new Sequential(new Flatten(), new Linear(4, 2));
 * using trainer = await Trainer.create({ config, train: data, test: data, net });
 * while (!trainer.done) await trainer.epoch();
 * assertEquals(trainer.history.map(({ epoch }) => epoch), [1, 2, 3]);
 * ```
 */
export class Trainer implements Disposable {
  /** Results of the epochs that are complete. */
  readonly history: EpochResult[] = displayed([], showHistory);
  /** The optimizer. */
  readonly optimizer: Optimizer;
  /** Batches trained on in the present epoch. */
  step = 0;
  /** Number of steps of an epoch. */
  readonly steps: number;
  readonly #sums = {
    /** Sum of the losses of this epoch's batches. */
    loss: new Variable([]),
    /** Right answers in this epoch. */
    correct: new Variable([]),
    /** Batches of this epoch until the first whose loss was not finite: the sum stays so for good. */
    finite: new Variable([]),
  };
  readonly #config: TrainConfig;
  readonly #plans: BatchPlans;
  /** What ends a step of several micro-batches, or ranks. */
  #stepPlan: Plan | undefined;
  #gradients: GradientSums | undefined;
  /** The other ranks, if there are any, and what is exchanged with them. */
  readonly #ranks: {
    readonly collective: CountingCollective;
    readonly exchange: Exchange;
    /** Plans that run in parts share it, and no others. */
    readonly workspace: Device["workspace"];
  } | undefined;
  /** The step that ranks make now. */
  #together: Promise<void> | undefined;
  /** Whether it was compared what ranks begin with. */
  #compared = false;
  readonly #evaluator: Evaluator;
  /** The parameters that are not frozen, by their keys. */
  readonly #trained: [key: string, parameter: Parameter][];
  #order: { epoch: number; indices: Uint32Array<ArrayBuffer> } | undefined;
  /** Seconds spent on this epoch in calls and processes before. */
  #seconds = 0;
  /** Since when the present call runs. */
  #clock: (() => number) | undefined;
  /** Whether an epoch is running now. */
  #running = false;
  #disposed = false;

  private constructor(
    config: TrainConfig,
    /** The net; its parameters change with every step. */
    readonly net: Module,
    /** The training images. */
    readonly train: DeviceDataset,
    /** The test images. */
    readonly test: DeviceDataset,
    /** Where it runs. */
    readonly device: Device,
    /** Where the images are from. */
    readonly source: DataSource,
    collective: Collective | undefined,
  ) {
    this.#config = config;
    for (const prefix of config.freeze) net.freeze(prefix);
    this.#trained = net.namedParameters().filter(([, { requiresGrad }]) => requiresGrad);
    if (this.#trained.length === 0) {
      refuse("Trainer.create", "net", "a module with parameters to train, not all frozen", net);
    }
    this.optimizer = makeOptimizer(config, this.#trained.map(([, parameter]) => parameter));
    this.steps = Math.ceil(train.count / config.batchSize);
    const { batchSize, resize, channels, mean, std, accumulate, compress } = config;
    // A process alone trains as if there were no ranks.
    if (collective && collective.size > 1) {
      const counting = new CountingCollective(collective);
      const exchange = new Exchange(this.#parameters(), { device, collective: counting, compress });
      this.#ranks = { collective: counting, exchange, workspace: [] };
    }
    const { workspace } = this.#ranks ?? {};
    this.#plans = new BatchPlans(train.count, batchSize, accumulate, collective, workspace);
    this.#evaluator = new Evaluator(net, test, {
      ...{ batchSize, resize, channels, mean, std, device },
      ...this.#ranks && { together: this.#ranks },
    });
  }

  /**
   * Makes a trainer at the start of a run. With a `collective`, all ranks make the same calls: they
   * create a trainer, restore the same checkpoint if there is one, and run its epochs. It compares
   * what they begin with.
   *
   * @throws {ArgumentError} if an option is of another kind, or the net has nothing to train.
   * @throws {ConfigError} for an invalid setting.
   * @throws {DataError} if `train` or `test` is no data set, they do not go together, or a label is
   * none of the classes; the message names the array.
   * @throws {RankError} if ranks have different data, weights, settings, adapters or versions.
   */
  static async create(options: TrainerOptions): Promise<Trainer> {
    checkOptions("Trainer.create", options, OPTIONS);
    const { train, test, device = await defaultDevice(), collective } = options;
    if (collective !== undefined) checkCollective("Trainer.create", "collective", collective);
    checkInstance("Trainer.create", "device", device, Device);
    if (options.net !== undefined) {
      checkInstance("Trainer.create", "net", options.net, Module);
      if (options.net.parameters().length === 0) {
        refuse("Trainer.create", "net", "a module with parameters to train", options.net);
      }
    }
    const config = trainConfig(options.config);
    const trainSet = deviceDataset(train, "Trainer.create: train", device);
    const testSet = deviceDataset(test, "Trainer.create: test", device);
    checkPreprocessing("Trainer.create: config", config, trainSet.channels);
    checkTogether(trainSet, testSet);
    const net = options.net ?? buildModel(config, trainSet);
    const source = checkedSource("Trainer.create", options.source ?? sourceOf(train));
    if (collective && collective.size > 1) {
      if (config.batchSize < collective.size) {
        throw new ConfigError(
          `the batch size must be at least the number of ranks, ${collective.size}, got ` +
            `${config.batchSize}`,
        );
      }
      await checkSame("Trainer.create", collective, {
        version: VERSION,
        adapter: device.description,
        "measured kernels": await tunedDigest(device.tuned) ?? "none",
        ...Object.fromEntries(CONFIG_NAMES.map((name) => [
          CONFIG_FIELDS[name].words,
          settingText(name, config[name]),
        ])),
        "images to train on": await digestOfData("Trainer.create: train", train),
        "images to test with": await digestOfData("Trainer.create: test", test),
        weights: await sha256Of(bytesOfState(await net.stateDict())),
      });
      // One that never has an image knows nothing of the net's statistics, which all send.
      if (trainSet.count < collective.size) {
        throw new ConfigError(
          `there must be at least as many images to train on as ranks, ${collective.size}, got ` +
            `${trainSet.count}`,
        );
      }
    }
    return new Trainer(config, net, trainSet, testSet, device, source, collective);
  }

  /** Bytes of the workspace for intermediate values, which all plans of the device share. */
  get workspaceBytes(): number {
    return [...this.device.workspace, ...this.#ranks?.workspace ?? []]
      .reduce((sum, slot) => sum + (slot?.size ?? 0), 0);
  }

  /** What this rank has sent to the others so far; undefined in a process alone. */
  get traffic(): Traffic | undefined {
    return this.#ranks && { ...this.#ranks.collective.traffic };
  }

  /**
   * The settings. After {@link Trainer.prepare}, `accumulate` is the number of micro-batches that a
   * step really has, so that it fits the adapter.
   */
  get config(): TrainConfig {
    return { ...this.#config, accumulate: this.#plans.parts };
  }

  /** Says why a step has more micro-batches than the settings ask for; undefined if it has not. */
  get notice(): string | undefined {
    const { refusal, parts } = this.#plans;
    if (refusal === undefined) return undefined;
    const sizes = this.#plans.sizes(this.#plans.full);
    const [most, least] = [sizes[0]!, sizes.at(-1)!];
    return `${refusal}; so a step has ${parts} micro-batches of ` +
      `${most === least ? most : `${least} or ${most}`}, whose gradients are summed, and a batch ` +
      "norm sees one at a time";
  }

  /** Whether all epochs are complete. */
  get done(): boolean {
    return this.history.length >= this.config.epochs;
  }

  /**
   * Compiles the plans for all batch sizes, so that errors come now and not later;
   * {@link Trainer.epoch} calls it too. A batch that exceeds the adapter's limits is cut into
   * micro-batches, as few as fit: {@link Trainer.notice} says so.
   *
   * @throws {PlanError} if not even one image fits.
   * @throws {ShapeError} if the net does not fit the images, or has fewer outputs than there are
   * classes.
   * @throws {SingleImageError} if a batch has one image, and the net cannot be trained on that.
   */
  async prepare(): Promise<void> {
    this.#check("prepare");
    try {
      await this.#prepare();
    } finally {
      // What was compiled meanwhile has taken memory again.
      if (this.#disposed) this.#free();
    }
  }

  async #prepare(): Promise<void> {
    const { device, train: { count }, config: { batchSize } } = this, ranks = this.#ranks;
    await this.#plans.prepare((size, parts) => {
      try {
        const isPart = parts > 1 || ranks !== undefined;
        return { updates: isPart ? this.#partUpdates(size) : this.updates(size), device };
      } catch (cause) {
        if (size > 1 || !(cause instanceof ShapeError)) throw cause;
        throw new SingleImageError(count, batchSize, cause, ranks?.collective.size);
      }
    });
    if ((this.#plans.parts > 1 || ranks) && !this.#stepPlan) {
      const updates = this.#stepUpdates();
      const plan = await Plan.compile({ updates, device }, ranks?.workspace);
      // Somebody else may have been here meanwhile.
      if (this.#disposed || this.#stepPlan) plan[Symbol.dispose]();
      else this.#stepPlan = plan;
    }
    await ranks?.exchange.prepare();
    await this.#evaluator.prepare();
  }

  /**
   * The updates of a whole step with `size` images, to compile into a plan of your own, for
   * profiles. Its inputs are `indices`; `images`, if they do not stay on the device; the draws of
   * the augmentation, `augment`, `turns` and `jitter`, as far as it is used; and the optimizer's
   * numbers.
   */
  updates(size: number): Update[] {
    checkNumber("Trainer.updates", "size", size, { integer: true, min: 1, max: 2 ** 31 });
    const { loss, logits, labels, updates } = this.#pass(size);
    const sums = this.#sums;
    const total = add(sums.loss, loss);
    const metrics = [
      assign(sums.finite, add(sums.finite, isFinite(total))),
      assign(sums.loss, total),
      assign(sums.correct, add(sums.correct, correctCount(logits, labels))),
    ];
    const optimizing = this.optimizer.updates(grad(loss, this.#parameters()));
    return [...metrics, ...updates, ...optimizing];
  }

  /**
   * A micro-batch of `size` images; further inputs are its `share` of the batch, and whether it is the
   * `first` of it.
   */
  #partUpdates(size: number): Update[] {
    const { loss, logits, labels, updates } = this.#pass(size);
    const share = input("share", []), first = input("first", []), exchange = this.#ranks?.exchange;
    // Of ranks, the sums of a step; the epoch's are made of those of all ranks.
    const sums = exchange ?? this.#sums;
    const before = (sum: Variable) => exchange ? where(first, 0, sum) : sum;
    const metrics = [
      assign(sums.loss, add(before(sums.loss), mul(loss, share))),
      assign(sums.correct, add(before(sums.correct), correctCount(logits, labels))),
    ];
    exchange?.track(updates);
    const gradients = exchange ?? (this.#gradients ??= new GradientSums(this.#parameters()));
    const summing = gradients.updates(grad(loss, this.#parameters()), { share, first });
    return [...metrics, ...updates, ...summing];
  }

  /**
   * The end of a step of micro-batches, or ranks; its inputs are the optimizer's numbers and, for ranks,
   * the batch's `loss` and how many answers are right.
   */
  #stepUpdates(): Update[] {
    const { finite, loss, correct } = this.#sums;
    if (!this.#ranks) {
      const counting = assign(finite, add(finite, isFinite(loss)));
      return [counting, ...this.optimizer.updates(this.#gradients!.sums)];
    }
    const total = add(loss, input("loss", []));
    return [
      assign(finite, add(finite, isFinite(total))),
      assign(loss, total),
      assign(correct, add(correct, input("correct", []))),
      ...this.optimizer.updates(this.#ranks.exchange.gradients),
    ];
  }

  #parameters(): Parameter[] {
    return this.#trained.map(([, parameter]) => parameter);
  }

  /** The pass forward of `size` images in training; the updates are those of running statistics. */
  #pass(size: number): Record<"loss" | "logits" | "labels", Tensor> & { updates: Update[] } {
    const { config, config: { resize, channels, mean, std }, train } = this;
    const indices = input("indices", [size], "u32");
    const augment = augmentation(config, size, train);
    const { x, labels } = train.batch(indices, {
      ...{ resize, channels, mean, std },
      ...augment && { augment },
    });
    const { net } = this;
    const { result: logits, updates } = training(net, () => collectUpdates(() => net.call(x)));
    checkOutputs(train.name, logits, size, train.classes);
    const loss = crossEntropy(logits, labels, { labelSmoothing: config.labelSmoothing });
    return { loss, logits, labels, updates };
  }

  /**
   * Trains to the end of the present epoch and tests. The result is undefined if the signal stopped
   * it; then another call goes on from there, also in another process after
   * {@link Trainer.checkpoint} and {@link Trainer.restore}.
   *
   * It throws what {@link Trainer.prepare} throws, too.
   *
   * @throws {NonFiniteError} if a loss is not finite; it is found when results are read, about once
   * a second.
   * @throws {RankError} if the ranks do not have the same weights, or are not at the same step.
   * @throws {Error} if another epoch is running, or the trainer is disposed of.
   */
  async epoch(watch: Watch = {}): Promise<EpochResult | undefined> {
    this.#check("epoch", { idle: true });
    checkWatch("Trainer.epoch", watch);
    this.#running = true;
    try {
      await this.prepare();
      this.#check("epoch");
      this.#clock = stopwatch();
      return await this.#epoch(watch);
    } finally {
      this.#seconds = this.seconds;
      this.#clock = undefined;
      if (this.step === 0) this.#seconds = 0;
      this.#running = false;
    }
  }

  /** Refuses a call of a trainer that is disposed of or, for one that wants it `idle`, that trains. */
  #check(call: string, { idle = false } = {}): void {
    if (this.#disposed) throw new Error(`Trainer.${call}: this trainer was disposed of`);
    if (!idle || !this.#running) return;
    throw new Error(`Trainer.${call}: an epoch is running already; await it first`);
  }

  async #epoch(watch: Watch): Promise<EpochResult | undefined> {
    const { config: { batchSize }, train: { count }, steps } = this;
    const epoch = this.history.length + 1, ranks = this.#ranks;
    if (this.step === 0) this.#setSums([0, 0, 0]);
    const aborted = () => watch.signal?.aborted === true;
    if (ranks) await this.#cutAlike();
    let stop = ranks ? await this.#meet(aborted()) : false;
    await overBatches({ count, batchSize, first: this.step * batchSize }, watch, {
      about: { epoch, phase: "train" },
      feeds: (batch) => {
        const places = placesOf(batch, ranks?.collective ?? ALONE);
        return feedsOf(this.train, this.#indices(epoch, places), this.#plans.sizes(places.length));
      },
      submit: async (places, feeds) => {
        if (ranks) stop = await this.#submitTogether(epoch, places, feeds, aborted);
        else this.#submit(epoch, places, feeds);
      },
      ...ranks && { stopped: () => stop },
      read: async (images) => {
        const { loss, correct } = await this.#read();
        return { loss: loss / this.step, accuracy: correct / images };
      },
    });
    // Stops at once where the signal ended this.
    const testAccuracy = await this.#evaluator.run(watch, epoch);
    this.#check("epoch");
    if (testAccuracy === undefined) return undefined;
    const { loss, correct } = await this.#read();
    const result = {
      epoch,
      loss: loss / steps,
      trainAccuracy: correct / count,
      testAccuracy,
      seconds: this.seconds,
    };
    this.history.push(result);
    this.step = 0;
    return result;
  }

  /** The images at some places of an epoch's order. */
  #indices(epoch: number, places: Uint32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
    const { config: { seed }, train: { count } } = this;
    if (this.#order?.epoch !== epoch) {
      this.#order = { epoch, indices: new Random(seed, epoch).permutation(count) };
    }
    const { indices } = this.#order;
    return places.map((place) => indices[place]!);
  }

  /**
   * The micro-batches of a step of an epoch with all that their plans are fed, but for the optimizer's
   * numbers; `places` are those of the whole batch.
   */
  #fed(epoch: number, places: Uint32Array, feeds: readonly BatchFeeds[]): BatchFeeds[] {
    const { config, train } = this, { rank, size } = this.#ranks?.collective ?? ALONE;
    const isPart = this.#ranks !== undefined || this.#plans.parts > 1;
    let place = places[0]! + rank;
    return feeds.map((part, i) => {
      const { length } = part.indices;
      const draws = drawAugmentation(config, epoch, place, length, train, size);
      const share = Float32Array.of(length / places.length), first = Float32Array.of(+(i === 0));
      place += length * size;
      return { ...part, ...draws, ...isPart && { share, first } };
    });
  }

  /** Submits the next step of an epoch: the images at these places of its order. */
  #submit(epoch: number, places: Uint32Array, feeds: BatchFeeds[]): void {
    this.#check("epoch");
    const { config, optimizer } = this, isCut = this.#plans.parts > 1;
    optimizer.lr = learningRate(config, optimizer.steps, this.steps);
    for (const part of this.#fed(epoch, places, feeds)) {
      this.#plans.run(isCut ? part : { ...part, ...optimizer.nextStep() });
    }
    if (isCut) this.#stepPlan!.run(optimizer.nextStep());
    this.step++;
  }

  /** Compares what the ranks have before they go on; whether one of them wants to stop. */
  async #meet(stop: boolean): Promise<boolean> {
    const { optimizer, step, history, net } = this, { collective } = this.#ranks!;
    const state = await net.stateDict(), slots = [...this.#slots()];
    if (!this.#compared) {
      const values = await readVariables(slots.map(([, variable]) => variable));
      slots.forEach(([key, { shape }], i) =>
        state.set(`state of ${key}`, { shape, data: values[i]! })
      );
      this.#compared = true;
    }
    await checkSame("Trainer.epoch", collective, {
      ...{ epoch: `${history.length + 1}`, step: `${step}`, steps: `${optimizer.steps}` },
      weights: await sha256Of(bytesOfState(state)),
    });
    return await anyOf(collective, stop);
  }

  /**
   * Has the ranks cut their shares into as many micro-batches each as the one that needs most: the shares
   * differ by an image. So a run that goes on from a checkpoint, which has one number, cuts them alike.
   */
  async #cutAlike(): Promise<void> {
    const { collective } = this.#ranks!, all = new Uint32Array(collective.size);
    const bytes = (x: Uint32Array<ArrayBuffer>) => new Uint8Array(x.buffer);
    do {
      await collective.allGather(bytes(Uint32Array.of(this.#plans.parts)), bytes(all));
      this.#plans.parts = Math.max(...all);
      await this.prepare();
    } while (new Set(all).size > 1);
  }

  /** A step of an epoch with the other ranks; whether one of them wants to stop after it. */
  async #submitTogether(
    epoch: number,
    places: Uint32Array,
    feeds: BatchFeeds[],
    aborted: () => boolean,
  ): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#together = promise;
    try {
      this.#check("epoch");
      const { config, optimizer } = this, { exchange } = this.#ranks!;
      optimizer.lr = learningRate(config, optimizer.steps, this.steps);
      const parts = this.#fed(epoch, places, feeds);
      const images = parts.reduce((sum, { indices }) => sum + indices.length, 0);
      const final = parts.pop(), last = final && { plan: this.#plans.planOf(final), feeds: final };
      for (const part of parts) this.#plans.run(part);
      const { loss, correct, stop } = await exchange.step(last, { images, stop: aborted });
      this.#check("epoch");
      // All ranks see it in the same step.
      if (!Number.isFinite(loss)) throw lossError(this.step + 1, epoch);
      this.#stepPlan!.run({
        ...{ loss: Float32Array.of(loss), correct: Float32Array.of(correct) },
        ...optimizer.nextStep(),
      });
      this.step++;
      return stop;
    } catch (error) {
      this.#check("epoch");
      throw error;
    } finally {
      this.#together = undefined;
      resolve();
    }
  }

  /** Sums of the epoch so far. */
  async #read(): Promise<RunState["sums"]> {
    const { loss, correct, finite } = this.#sums;
    const { step } = this, epoch = this.history.length + 1;
    const values = await readVariables([loss, correct, finite]);
    const sums = values.map((x) => x[0]!) as [number, number, number];
    if (sums[2] < step) throw lossError(sums[2] + 1, epoch);
    return { loss: sums[0], correct: sums[1] };
  }

  #setSums(values: readonly number[]): void {
    Object.values(this.#sums).forEach((x, i) => setVariable(x, Float32Array.of(values[i]!)));
  }

  /** Seconds spent on the present epoch. */
  get seconds(): number {
    return this.#seconds + (this.#clock?.() ?? 0) / 1000;
  }

  /**
   * All that is needed to go on from here as if the run had never stopped, to the same bits. It may
   * be called while an epoch runs; it is then the state between two steps. On several ranks all
   * have the same, so one may call it alone.
   *
   * @throws {NonFiniteError} if a value is not finite: there is no use in going on with such a run.
   */
  async checkpoint(): Promise<Checkpoint> {
    this.#check("checkpoint");
    while (this.#together) await this.#together;
    const { config, step, train, test, device, seconds, source, optimizer: { steps } } = this;
    const history = [...this.history], slots = [...this.#slots()];
    // All are copied before the first of them is awaited; steps may go on meanwhile.
    const [sums, model, values, tuned] = await Promise.all([
      step > 0 ? this.#read() : { loss: 0, correct: 0 },
      this.net.stateDict(),
      readVariables(slots.map(([, variable]) => variable)),
      tunedDigest(device.tuned),
    ]);
    const optimizer = new Map(
      slots.map(([key, { shape }], i) => [key, { shape, data: values[i]! }]),
    );
    for (const [key, { data }] of [...model, ...optimizer]) {
      if (!data.every(Number.isFinite)) {
        throw new NonFiniteError(
          `after step ${steps}, ${key} has values that are not finite`,
        );
      }
    }
    const run: RunState = {
      version: VERSION,
      adapter: device.description,
      ...tuned !== undefined && { tuned },
      config,
      data: { ...source, ...dataOf(train) },
      images: { train: train.count, test: test.count },
      history,
      step,
      steps,
      shuffle: new Random(config.seed, history.length + 1).state,
      sums,
      seconds,
    };
    return { run, model, optimizer };
  }

  /**
   * Goes on with the run of a checkpoint, which has the same settings and data; only `epochs` may
   * differ.
   *
   * @throws {ArgumentError} if it is no checkpoint, or its weights do not fit the net.
   * @throws {CheckpointError} if it is of another run; the message says what differs, and nothing
   * has changed.
   * @throws {Error} if an epoch is running, or the trainer is disposed of.
   */
  restore(checkpoint: Checkpoint): void {
    this.#check("restore", { idle: true });
    const { run, model, optimizer } = checkedCheckpoint("Trainer.restore", checkpoint);
    const { config, train, test, net } = this;
    const differs = CONFIG_NAMES
      .filter((name) => name !== "epochs" && !sameSetting(config[name], run.config[name]))
      // There may be more micro-batches than were wanted.
      .filter((name) => name !== "accumulate" || run.config[name] < this.#config[name])
      .map((name) => {
        const text = (value: unknown) => settingText(name, value);
        return `${CONFIG_FIELDS[name].words} ${text(run.config[name])}, not ${text(config[name])}`;
      });
    const had = run.data, has = dataOf(train);
    for (const name of ["channels", "height", "width"] as const) {
      if (had[name] !== has[name]) differs.push(`images of ${had[name]} ${name}, not ${has[name]}`);
    }
    if (!sameSetting(had.classes, has.classes)) {
      differs.push(`the classes ${listed(had.classes)}, not ${listed(has.classes)}`);
    }
    const images = { train: train.count, test: test.count };
    for (const split of ["train", "test"] as const) {
      if (run.images[split] !== images[split]) {
        differs.push(`${run.images[split]} ${split} images, not ${images[split]}`);
      }
    }
    const slots = new Map(this.#slots());
    for (const [key, { shape }] of slots) {
      const given = optimizer.get(key);
      if (!given) differs.push(`no optimizer state ${key}`);
      else if (!sameShape(given.shape, shape)) {
        differs.push(`${key} ${formatShape(given.shape)}, not ${formatShape(shape)}`);
      }
    }
    differs.push(
      ...[...optimizer.keys()].filter((key) => !slots.has(key)).map((key) => `a ${key}`),
    );
    if (differs.length > 0) {
      throw new CheckpointError(`the checkpoint is of another run: it has ${differs.join("; ")}`);
    }
    this.#compared = false;
    net.loadStateDict(model);
    this.#plans.parts = run.config.accumulate;
    for (const [key, variable] of slots) setVariable(variable, optimizer.get(key)!.data);
    this.optimizer.steps = run.steps;
    this.history.splice(0, Infinity, ...run.history);
    this.step = run.step;
    this.#setSums([run.sums.loss, run.sums.correct, run.step]);
    this.#seconds = run.seconds;
    this.#order = {
      epoch: run.history.length + 1,
      indices: Random.fromState(run.shuffle).permutation(train.count),
    };
  }

  /**
   * The optimizer's variables as `exp_avg.KEY` and so on, KEY being the parameter's; and what the net
   * counts outside of its state dict, as `buffer.KEY`.
   */
  *#slots(): Generator<[string, Variable]> {
    const keys = this.#trained.map(([key]) => key);
    for (const [name, parts] of this.optimizer.state) {
      for (const [i, part] of parts.entries()) yield [`${name}.${keys[i]}`, part];
    }
    for (const [key, buffer] of this.net.namedUnsavedBuffers()) yield [`buffer.${key}`, buffer];
  }

  /** Frees the plans and the optimizer's state; the net stays. A running epoch then fails. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#free();
  }

  #free(): void {
    this.#plans[Symbol.dispose]();
    this.#stepPlan?.[Symbol.dispose]();
    this.#gradients?.[Symbol.dispose]();
    this.#ranks?.exchange[Symbol.dispose]();
    this.#ranks?.workspace.forEach((slot) => slot?.buffer.destroy());
    this.#evaluator[Symbol.dispose]();
    freeVariables([...Object.values(this.#sums), ...[...this.optimizer.state.values()].flat()]);
  }
}
