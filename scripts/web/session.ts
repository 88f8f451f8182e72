/**
 * What the worker has: a device, data, a run of the library's trainer, and the picture that is
 * looked at. It does what it is told, one thing after the other, and tells the page what comes of
 * it.
 *
 * @module
 */

import { freeVariables } from "../../lib/device/buffers.ts";
import { Device, DeviceError } from "../../lib/device/device.ts";
import { encodeStateDict } from "../../lib/formats/state_dict.ts";
import { pair } from "../../lib/graph/shape.ts";
import type { Module } from "../../lib/nn/module.ts";
import { formatEpoch, type TrainConfig, trainConfig } from "../../lib/train/config.ts";
import { Evaluator, type Progress } from "../../lib/train/evaluator.ts";
import { confidentMistakes, confusionMatrix, type Predictions } from "../../lib/train/metrics.ts";
import { buildModel, NonFiniteError, Trainer } from "../../lib/train/trainer.ts";
import { isLost, nameOf } from "./adapter.ts";
import { trainCommand } from "./command.ts";
import { type Data, Fashion, labelled, samplesOf } from "./data.ts";
import { Eye } from "./eye.ts";
import { readFolder } from "./folder.ts";
import { Kept, type KeptRun } from "./kept.ts";
import { configOf } from "./models.ts";
import { Looking } from "./looking.ts";
import type { FromWorker, Settings, ToWorker } from "./protocol.ts";
import { loadWeights } from "./weights.ts";

/** Milliseconds between two looks at what the device has done. */
const INTERVAL = 100;
/** Milliseconds of training after which the run is kept again, and how many times what that took. */
const KEEP_AFTER = 20_000, KEEP_SHARE = 20;
/** Mistakes that are shown. */
const MISTAKES = 12;
/** Devices that may be lost before it is given up, with nothing done in between. */
const MOST_LOST = 3;
/** Why there is no net. */
const NO_GPU = "There is no GPU any more. Reload the page to try once more.",
  NO_IMAGES = "There is no net yet, as there are no images. Drop a folder of your own first.";

/** A file, or what is known of one. */
type Named = Pick<File, "name">;

/** A run and its device, in the worker. */
export class Session {
  #device: Device | undefined;
  #kept: Kept | undefined;
  /** The run, and the images that it is on. */
  #trainer: Trainer | undefined;
  #data: Data | undefined;
  readonly #looking: Looking;
  /** What is being done: one thing after the other. */
  #work: Promise<void> = Promise.resolve();
  /** The epochs that are running, and what stops them. */
  #running: { readonly ended: Promise<void>; readonly stop: AbortController } | undefined;
  #keptAt = 0;
  #keepAfter = KEEP_AFTER;
  /** The data that the page knows of. */
  #toldData: Data | undefined;
  /** Devices lost since a step was done. */
  #lost = 0;
  /** The file of what the weights began as, if not as the seed says; after a reload, its name. */
  #init: Named | undefined;

  constructor(readonly tell: (message: FromWorker) => void) {
    this.#looking = new Looking(tell);
  }

  /** Does what is asked for. */
  handle(message: ToWorker): void {
    if (message.type === "pause") this.#running?.stop.abort();
    else if (message.type === "inside") {
      this.#looking.show(message.shown).catch((error) => this.#fail(error));
    } else if (message.type === "look") {
      if (this.#looking.ask(message.picture)) this.#later(() => this.#looking.take());
    } else this.#later(() => this.#handle(message));
  }

  async #handle(message: Exclude<ToWorker, { type: "pause" | "inside" | "look" }>): Promise<void> {
    switch (message.type) {
      case "open":
        return await this.#open(message.settings);
      case "begin":
        return await this.#another(() => this.#begin(message.settings));
      case "run":
        return await this.#run();
      case "keep":
        return await this.#keep();
      case "load":
        return await this.#load(message.file);
      case "download":
        return await this.#download();
      case "folder":
        return await this.#another(() => this.#openFolder(message));
      case "fashion-mnist":
        return await this.#another(() => this.#begin(message.settings, this.#fashion()));
    }
  }

  /** Finds a device, reads the first images, and goes on with what was kept. */
  async #open(settings: Settings): Promise<void> {
    this.tell({ type: "phase", phase: "starting" });
    if (!await this.#requestDevice()) return;
    this.#kept = await Kept.open();
    const kept = await this.#kept.load(), run = kept?.checkpoint.run;
    const isOurs = run?.data.kind === "fashion-mnist";
    const data = await this.#fashion().load(isOurs ? run.config : settings);
    const begin = async () => {
      const wanted = await data.load(settings);
      await this.#make(this.#configOf(settings, wanted), wanted);
    };
    if (isOurs) return await this.#goOn(kept!, data, begin);
    await begin();
    if (run) {
      const folder = `${run.data.path} (${run.data.classes.join(", ")})`;
      this.#problem(`A run on your folder ${folder} is kept. Drop it here to go on with that.`);
    }
  }

  /** Takes up a run that was kept, if it fits the data; does something else `otherwise`. */
  async #goOn(kept: KeptRun, data: Data, otherwise: () => Promise<void>): Promise<void> {
    try {
      const init = kept.init === undefined ? undefined : { name: kept.init };
      await this.#make(kept.checkpoint.run.config, data, { kept, init });
      const { adapter } = kept.checkpoint.run;
      if (adapter !== this.#device!.description) {
        this.#problem(`The run was on ${adapter}: on another device, the last bits may differ.`);
      }
      // What it is worth is shown at once, if that is quick.
      if (!this.#device!.software) await this.#test();
    } catch (error) {
      await otherwise();
      // Now, as the page forgets what was wrong before another run.
      this.#problem(`The run that was kept cannot go on: ${messageOf(error)}`);
    }
  }

  /** Reads a folder, and begins a run on it, or goes on with the one that was kept of it. */
  async #openFolder({ name, files, settings }: ToWorker & { type: "folder" }): Promise<void> {
    const kept = await this.#kept?.load(), run = kept?.checkpoint.run;
    const isKept = run?.data.kind === "folder" && run.data.path === name;
    const { seed } = isKept ? run.config : settings;
    const data = await readFolder(name, files, seed, (share) => this.#tellRead(share));
    const begin = () => this.#begin(settings, data);
    return isKept ? await this.#goOn(kept!, data, begin) : await begin();
  }

  /** Makes another run. If it cannot be made, the one before is still there. */
  async #another(make: () => Promise<void>): Promise<void> {
    await this.#halt();
    const before = this.#trainer;
    try {
      await make();
    } catch (error) {
      if (before && this.#trainer === before) this.#tellPhase();
      throw error;
    }
  }

  async #requestDevice(): Promise<boolean> {
    try {
      const device = await Device.request();
      this.#device = device;
      device.gpu.lost.then(() => {
        if (this.#device !== device) return;
        // If something runs, that sees it.
        if (!this.#running) this.#later(() => this.#recover(device));
      });
      const { info, software } = device;
      this.tell({ type: "device", name: nameOf(info), words: `${device}`, software });
      return true;
    } catch (error) {
      this.tell({ type: "no-device", reason: messageOf(error) });
      return false;
    }
  }

  #fashion(): Fashion {
    return new Fashion((share) => this.#tellRead(share));
  }

  /** Tells of the images, if they are others than before. */
  #tellData(data: Data): void {
    const { train, test, name, notes, source } = data, told = this.#toldData;
    this.#toldData = data;
    const isTold = (["train", "test"] as const).every((part) =>
      told?.[part].count === data[part].count &&
      told?.[part].images.buffer === data[part].images.buffer
    );
    if (isTold && told?.source === source) return;
    this.tell({
      ...{ type: "data", name, notes, own: source.kind === "folder", classes: train.classes },
      ...{ train: train.count, test: test.count, samples: samplesOf(test) },
    });
  }

  #tellRead(share: number): void {
    this.tell({ type: "phase", phase: "reading" });
    this.tell({ type: "reading", share });
  }

  /** A new run. One that had begun is kept no longer. */
  async #begin(
    settings: Settings,
    from: Pick<Data, "load"> = this.#data ?? this.#fashion(),
  ): Promise<void> {
    const hadBegun = (this.#trainer?.optimizer.steps ?? 0) > 0, data = await from.load(settings);
    await this.#make(this.#configOf(settings, data), data);
    if (hadBegun) await this.#kept?.clear();
  }

  #configOf(settings: Settings, { source }: Data): TrainConfig {
    return configOf(settings, source.kind === "folder");
  }

  /**
   * Makes the trainer of a run: at its start, or where it was kept; of a net, if one is given. `init` is
   * the file that its weights began as those of.
   */
  async #make(
    config: TrainConfig,
    data: Data,
    { kept, net, init }: {
      readonly kept?: KeptRun | undefined;
      readonly net?: Module | undefined;
      readonly init?: Named | undefined;
    } = {},
  ): Promise<void> {
    const { train, test, source } = data, device = this.#device;
    if (!device) throw new Error(NO_GPU);
    const trained = net ?? buildModel(config, train);
    const trainer = await Trainer.create({ config, train, test, net: trained, device, source });
    if (kept) trainer.restore(kept.checkpoint);
    this.#free();
    this.#trainer = trainer;
    this.#data = data;
    this.#init = init;
    const form = { channels: train.channels ?? 1, height: train.height, width: train.width };
    this.#tellData(data);
    this.#tellBegun(kept?.time);
    // The run is there, whatever becomes of the picture.
    await this.#looking.use(new Eye(trained, form, config, device), data)
      .catch((error) => this.#fail(error));
  }

  #tellBegun(time?: number): void {
    const trainer = this.#trainer!, { config, history, net } = trainer;
    const { model, limit, testLimit, batchSize, lr, optimizer, epochs, seed } = config;
    this.tell({
      type: "begun",
      settings: { model, limit, testLimit, batchSize, lr, optimizer, epochs, seed },
      parameters: net.parameters().reduce((sum, { size }) => sum + size, 0),
      size: pair("begun", "resize", config.resize, 1),
      history: [...history],
      lines: history.map(formatEpoch),
      steps: trainer.optimizer.steps,
      stepsPerEpoch: trainer.steps,
      command: this.#command(config),
      ...time !== undefined && { kept: time },
    });
    this.#tellPhase();
  }

  /** Where a run stands that does not run. */
  #tellPhase(): void {
    const { done, optimizer: { steps } } = this.#trainer!;
    this.tell({ type: "phase", phase: done ? "done" : steps > 0 ? "paused" : "ready" });
  }

  #command(config: TrainConfig): string {
    const { path } = this.#data!.source, init = this.#init?.name;
    return trainCommand(config, { data: path ?? undefined, init });
  }

  /** Frees what the run had on the device. */
  #free(): void {
    this.#looking.close();
    const trainer = this.#trainer;
    trainer?.[Symbol.dispose]();
    if (trainer) freeVariables(trainer.net.namedVariables().map(([, variable]) => variable));
    this.#trainer = undefined;
  }

  /** Trains until all epochs are done, or it is stopped; one that is done gets as many again. */
  async #run(): Promise<void> {
    if (this.#running || !this.#trainer) return;
    if (this.#trainer.done) await this.#extend();
    const trainer = this.#trainer, device = this.#device!, stop = new AbortController();
    const ended = this.#epochs(trainer, stop.signal).catch(async (error) => {
      if (await isLost(device)) return this.#later(() => this.#recover(device, true));
      this.tell({ type: "phase", phase: "failed" });
      const advice = "Press Reset, and take a smaller learning rate.";
      this.#problem(
        error instanceof NonFiniteError ? `${messageOf(error)}. ${advice}` : messageOf(error),
      );
    }).finally(() => this.#running = undefined);
    this.#running = { ended, stop };
  }

  /** As many epochs again as there were. */
  async #extend(): Promise<void> {
    const trainer = this.#trainer!, { config } = trainer;
    const checkpoint = await trainer.checkpoint();
    const kept = { checkpoint, time: Date.now() };
    const more = { ...config, epochs: 2 * config.epochs };
    await this.#make(more, this.#data!, { kept, init: this.#init });
  }

  #later(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error) => this.#fail(error));
  }

  async #epochs(trainer: Trainer, signal: AbortSignal): Promise<void> {
    this.tell({ type: "phase", phase: "compiling" });
    await trainer.prepare();
    if (trainer.notice !== undefined) this.#problem(`${trainer.notice}.`);
    this.#keptAt = performance.now();
    while (!trainer.done && !signal.aborted) {
      const result = await trainer.epoch({
        signal,
        interval: INTERVAL,
        onProgress: (progress) => this.#progress(progress),
        onTested: (predictions) => this.#tested(predictions),
      });
      if (!result) break;
      this.tell({ type: "epoch", result, line: formatEpoch(result) });
      if (trainer.done || performance.now() - this.#keptAt > this.#keepAfter / 4) {
        await this.#keep();
      }
    }
    if (!trainer.done) await this.#keep();
    this.#tellPhase();
  }

  async #progress(progress: Progress): Promise<void> {
    const { phase, step, epoch, loss } = progress;
    const { optimizer: { steps } } = this.#trainer!;
    this.#lost = 0;
    this.tell({ type: "phase", phase: "training" });
    this.tell({ type: "progress", progress, steps });
    if (epoch === 1 && step === 1 && loss !== undefined) this.tell({ type: "first-loss", loss });
    // The device does one thing after the other; training goes on.
    this.#looking.look().catch((error) => this.#fail(error));
    if (phase === "train" && performance.now() - this.#keptAt > this.#keepAfter) await this.#keep();
  }

  #tested(predictions: Predictions): void {
    const { test } = this.#data!, { labels, classes } = test;
    const matrix = confusionMatrix(labels, predictions.predicted, classes.length);
    const right = matrix.reduce((sum, row, k) => sum + row[k]!, 0);
    const mistakes = confidentMistakes(labels, predictions, MISTAKES).map((index) => ({
      ...labelled(test, index),
      predicted: predictions.predicted[index]!,
      probability: predictions.probability[index]!,
    }));
    this.tell({ type: "tested", matrix, accuracy: right / test.count, mistakes });
  }

  /** Stops what runs, and waits for it. */
  async #halt(): Promise<void> {
    this.#running?.stop.abort();
    await this.#running?.ended;
  }

  /** Keeps the run as it stands. */
  async #keep(): Promise<void> {
    const trainer = this.#trainer;
    if (!trainer || trainer.optimizer.steps === 0) return;
    const steps = trainer.optimizer.steps, begin = performance.now();
    try {
      const time = await this.#kept!.save(await trainer.checkpoint(), this.#init?.name);
      this.tell({ type: "kept", time, steps });
    } catch (error) {
      if (error instanceof DeviceError || error instanceof NonFiniteError) throw error;
      this.#problem(`The run cannot be kept: ${messageOf(error)}`);
    }
    this.#keptAt = performance.now();
    this.#keepAfter = Math.max(KEEP_AFTER, KEEP_SHARE * (this.#keptAt - begin));
  }

  /** Another device, and the run on it as it was kept. */
  async #recover(lost: Device, run = false): Promise<void> {
    if (this.#device !== lost) return;
    this.tell({ type: "phase", phase: "recovering" });
    const config = this.#trainer?.config, data = this.#data, init = this.#init;
    this.#free();
    this.#device = undefined;
    if (++this.#lost > MOST_LOST) {
      this.tell({ type: "phase", phase: "failed" });
      return this.#problem("The GPU was lost again and again. Reload the page to try once more.");
    }
    if (!await this.#requestDevice() || !config || !data) return;
    const kept = await this.#kept!.load();
    // What is kept may be of a run before.
    const goesOn = kept &&
      await this.#make(config, data, { kept, init }).then(() => true, () => false);
    if (!goesOn) {
      const { length } = data.train.classes, file = init instanceof File ? init : undefined;
      const net = file && (await loadWeights(file, length, config.seed)).net;
      await this.#make(config, data, { net, init: file });
    }
    this.tell({ type: "recovered", steps: this.#trainer!.optimizer.steps });
    if (run) await this.#run();
  }

  /** A new run that begins with the weights of a file, and what they are worth. */
  async #load(file: File): Promise<void> {
    await this.#halt();
    const { model: _, ...settings } = this.#made().config;
    const data = this.#data!, { train } = data;
    const { length } = train.classes, { seed } = settings;
    const { net, model, channels, whole, words } = await loadWeights(file, length, seed);
    const config = trainConfig({
      ...{ ...settings, model },
      channels: channels === (train.channels ?? 1) ? null : channels,
      resize: this.#configOf({ ...settings, model }, data).resize,
    });
    await this.#make(config, data, { net, init: file });
    await this.#kept?.clear();
    this.tell({ type: "loaded", words });
    if (whole) await this.#test();
  }

  /** Tests the net as it is. */
  async #test(): Promise<void> {
    const { net, test, config } = this.#trainer!, device = this.#device!;
    const { batchSize, resize, channels, mean, std } = config;
    this.tell({ type: "phase", phase: "testing" });
    const evaluator = new Evaluator(net, test, { batchSize, resize, channels, mean, std, device });
    try {
      await evaluator.run({ onTested: (predictions) => this.#tested(predictions) }, 0);
    } finally {
      evaluator[Symbol.dispose]();
      this.#tellPhase();
    }
  }

  async #download(): Promise<void> {
    const { net, config: { model }, optimizer: { steps } } = this.#made();
    const bytes = encodeStateDict(await net.stateDict());
    const name = model.split("/").at(-1)!.replace(".ts", "");
    this.tell({ type: "file", name: `${name}-step-${steps}.safetensors`, bytes });
  }

  /** The run, where there is one. */
  #made(): Trainer {
    if (this.#trainer) return this.#trainer;
    throw new Error(this.#device ? NO_IMAGES : NO_GPU);
  }

  #problem(message: string): void {
    this.tell({ type: "problem", message });
  }

  #fail(error: unknown): void {
    if (!this.#trainer) this.tell({ type: "phase", phase: "failed" });
    this.#problem(messageOf(error));
  }
}

const messageOf = (error: unknown) => error instanceof Error ? error.message : String(error);
