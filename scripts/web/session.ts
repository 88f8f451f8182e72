/**
 * What the worker has: a device, data, a run of the library's trainer, and the picture that is looked
 * at. It is told what to do, one thing after the other, and tells what comes of it.
 *
 * @module
 */

import { freeVariables } from "../../lib/device/buffers.ts";
import { Device, DeviceError } from "../../lib/device/device.ts";
import { encodeStateDict } from "../../lib/formats/state_dict.ts";
import type { Checkpoint } from "../../lib/train/checkpoint.ts";
import { formatEpoch, MODELS, type TrainConfig, trainConfig } from "../../lib/train/config.ts";
import type { Progress } from "../../lib/train/evaluator.ts";
import { confidentMistakes, confusionMatrix, type Predictions } from "../../lib/train/metrics.ts";
import { buildModel, Trainer } from "../../lib/train/trainer.ts";
import { trainCommand } from "./command.ts";
import { type Data, Fashion, labelled, samplesOf } from "./data.ts";
import { Eye } from "./eye.ts";
import { Kept } from "./kept.ts";
import { sizeFor } from "./models.ts";
import { prepare } from "./prepare.ts";
import type { FromWorker, Picture, Pixels, Settings, ToWorker } from "./protocol.ts";

/** Milliseconds between two looks at what the device has done. */
const INTERVAL = 100;
/** Milliseconds of training after which the run is kept again. */
const KEEP_AFTER = 20_000;
/** Milliseconds between two looks inside the net, which read much. */
const INSIDE_AFTER = 500;
/** Mistakes that are shown. */
const MISTAKES = 12;
/** Devices that may be lost before it is given up, with nothing done in between. */
const MOST_LOST = 3;

/** A run and its device, in the worker. */
export class Session {
  #device: Device | undefined;
  #kept: Kept | undefined;
  #data: Data | undefined;
  #trainer: Trainer | undefined;
  #eye: Eye | undefined;
  /** What is being done: one thing after the other. */
  #work: Promise<void> = Promise.resolve();
  /** The epochs that are running, and what stops them. */
  #running: { readonly ended: Promise<void>; readonly stop: AbortController } | undefined;
  /** The picture, and what the net gets of it. */
  #picture: Picture = { kind: "test", index: 0 };
  #ready: { readonly pixels: Pixels; readonly label?: number } | undefined;
  #insideShown = false;
  #insideAt = 0;
  #looking: Promise<void> | undefined;
  #lookAgain = false;
  #keptAt = 0;
  /** Devices lost since a step was done. */
  #lost = 0;
  /** What the weights began as, if not as the seed says. */
  #init: string | undefined;

  constructor(readonly tell: (message: FromWorker) => void) {}

  /** Does what is asked for. */
  handle(message: ToWorker): void {
    if (message.type === "pause") this.#running?.stop.abort();
    else if (message.type === "inside") {
      this.#insideShown = message.shown;
      this.#insideAt = 0;
      this.#look();
    } else this.#work = this.#work.then(() => this.#handle(message)).catch((e) => this.#fail(e));
  }

  async #handle(message: Exclude<ToWorker, { type: "pause" | "inside" }>): Promise<void> {
    switch (message.type) {
      case "open":
        return await this.#open(message.settings);
      case "begin":
        await this.#halt();
        return await this.#begin(message.settings);
      case "run":
        return this.#run();
      case "keep":
        return await this.#keep();
      case "look":
        return await this.#take(message.picture);
      case "load":
        return await this.#load(message.file);
      case "download":
        return await this.#download();
      case "folder":
        return; // to come
    }
  }

  /** Finds a device, reads the first images, and goes on with what was kept. */
  async #open(settings: Settings): Promise<void> {
    this.tell({ type: "phase", phase: "starting" });
    if (!await this.#requestDevice()) return;
    this.#kept = await Kept.open();
    const kept = await this.#kept.load();
    const config = kept?.checkpoint.run.config;
    await this.#read(config ?? settings);
    if (!kept) return await this.#begin(settings);
    try {
      await this.#make(kept.checkpoint.run.config, kept);
    } catch (error) {
      this.#problem(`What was kept cannot be gone on with: ${messageOf(error)}`);
      await this.#begin(settings);
    }
  }

  async #requestDevice(): Promise<boolean> {
    try {
      const device = await Device.request();
      this.#device = device;
      device.gpu.lost.then(() => {
        if (this.#device !== device) return;
        // If something runs, that sees it.
        if (!this.#running) this.#work = this.#work.then(() => this.#recover(device));
      });
      this.tell({ type: "device", words: `${device}`, software: device.software });
      return true;
    } catch (error) {
      this.tell({ type: "no-device", reason: messageOf(error) });
      return false;
    }
  }

  async #read(settings: Pick<Settings, "limit" | "testLimit">): Promise<void> {
    this.tell({ type: "phase", phase: "reading" });
    this.#data ??= new Fashion((share) => this.tell({ type: "reading", share }));
    await this.#data.load(settings.limit, settings.testLimit);
    const { train, test } = this.#data;
    this.tell({
      type: "data",
      name: this.#data.name,
      classes: train.classes,
      ...{ train: train.count, test: test.count, notes: this.#data.notes },
      samples: samplesOf(test),
    });
  }

  /** A new run. */
  async #begin(settings: Settings): Promise<void> {
    await this.#kept?.clear();
    this.#init = undefined;
    await this.#read(settings);
    await this.#make(this.#configOf(settings));
  }

  #configOf(settings: Settings): TrainConfig {
    return trainConfig({ ...settings, resize: sizeFor(settings.model) });
  }

  /** Makes the trainer of a run, at its start or where it was kept. */
  async #make(
    config: TrainConfig,
    kept?: { readonly checkpoint: Checkpoint; readonly time: number },
  ): Promise<void> {
    const { train, test, source } = this.#data!, device = this.#device!;
    const net = buildModel(config, train);
    const trainer = await Trainer.create({ config, train, test, net, device, source });
    if (kept) trainer.restore(kept.checkpoint);
    this.#free();
    this.#trainer = trainer;
    const form = { channels: train.channels ?? 1, height: train.height, width: train.width };
    this.#eye = new Eye(net, form, config, device);
    this.#tellBegun(kept?.time);
    await this.#take(this.#picture);
  }

  #tellBegun(time?: number): void {
    const trainer = this.#trainer!, { config, history } = trainer;
    const { model, limit, testLimit, batchSize, lr, optimizer, epochs, seed } = config;
    const side = sizeFor(model);
    this.tell({
      type: "begun",
      settings: { model, limit, testLimit, batchSize, lr, optimizer, epochs, seed },
      parameters: trainer.net.parameters().reduce((sum, { size }) => sum + size, 0),
      size: [side, side],
      history: [...history],
      steps: trainer.optimizer.steps,
      stepsPerEpoch: trainer.steps,
      command: this.#command(config),
      ...time !== undefined && { kept: time },
    });
    this.tell({
      type: "phase",
      phase: trainer.done ? "done" : trainer.optimizer.steps > 0 ? "paused" : "ready",
    });
  }

  #command(config: TrainConfig): string {
    return trainCommand(config, [
      ...this.#data!.source.path === null ? [] : [`--data ${this.#data!.source.path}`],
      ...this.#init === undefined ? [] : [`--init ${this.#init}`],
    ]);
  }

  /** Frees what the run had on the device. */
  #free(): void {
    this.#eye?.dispose();
    const trainer = this.#trainer;
    trainer?.[Symbol.dispose]();
    if (trainer) freeVariables(trainer.net.namedVariables().map(([, variable]) => variable));
    this.#eye = this.#trainer = undefined;
  }

  /** Trains until all epochs are done, or it is stopped. */
  #run(): void {
    const trainer = this.#trainer;
    if (!trainer || this.#running || trainer.done) return;
    const stop = new AbortController(), device = this.#device!;
    const ended = this.#epochs(trainer, stop.signal).then(
      () => this.#running = undefined,
      async (error) => {
        this.#running = undefined;
        if (await lostSoon(device)) return this.#later(() => this.#recover(device, true));
        this.tell({ type: "phase", phase: "failed" });
        this.#problem(messageOf(error));
      },
    ).then(() => {});
    this.#running = { ended, stop };
  }

  #later(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error) => this.#fail(error));
  }

  async #epochs(trainer: Trainer, signal: AbortSignal): Promise<void> {
    this.tell({ type: "phase", phase: "compiling" });
    await trainer.prepare();
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
      if (trainer.done || performance.now() - this.#keptAt > KEEP_AFTER / 4) await this.#keep();
    }
    if (!trainer.done) await this.#keep();
    this.tell({ type: "phase", phase: trainer.done ? "done" : "paused" });
  }

  async #progress(progress: Progress): Promise<void> {
    const { phase, step, epoch, loss } = progress;
    const { optimizer: { steps } } = this.#trainer!;
    this.#lost = 0;
    this.tell({ type: "phase", phase: phase === "train" ? "training" : "testing" });
    this.tell({ type: "progress", progress, steps });
    if (epoch === 1 && step === 1 && loss !== undefined) this.tell({ type: "first-loss", loss });
    await this.#look();
    if (phase === "train" && performance.now() - this.#keptAt > KEEP_AFTER) await this.#keep();
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
    const steps = trainer.optimizer.steps;
    try {
      const time = await this.#kept!.save(await trainer.checkpoint());
      this.#keptAt = performance.now();
      this.tell({ type: "kept", time, steps });
    } catch (error) {
      if (error instanceof DeviceError) throw error;
      this.#keptAt = performance.now();
      this.#problem(`The run cannot be kept: ${messageOf(error)}`);
    }
  }

  /** Another device, and the run on it as it was kept. */
  async #recover(lost: Device, run = false): Promise<void> {
    if (this.#device !== lost) return;
    this.tell({ type: "phase", phase: "recovering" });
    const config = this.#trainer?.config;
    this.#free();
    this.#device = undefined;
    if (++this.#lost > MOST_LOST) {
      this.tell({ type: "phase", phase: "failed" });
      return this.#problem("The GPU was lost again and again. Reload the page to try once more.");
    }
    if (!await this.#requestDevice() || !config || !this.#data) return;
    const kept = await this.#kept!.load();
    await this.#make(config, kept);
    this.tell({ type: "recovered", steps: this.#trainer!.optimizer.steps });
    if (run) this.#run();
  }

  /** Makes a picture ready for the net. */
  async #take(picture: Picture): Promise<void> {
    this.#picture = picture;
    const { test, source } = this.#data!;
    if (picture.kind === "test") {
      const { label, ...pixels } = labelled(test, Math.min(picture.index, test.count - 1));
      this.#ready = { pixels, label };
    } else {
      const image = picture.kind === "file" ? picture.file : picture.image;
      this.#ready = { pixels: await prepare(image, test, source) };
    }
    const { label } = this.#ready, seen = this.#eye!.seen(this.#ready.pixels);
    this.tell({ type: "seen", seen, ...label !== undefined && { label } });
    this.#insideAt = 0;
    await this.#look();
  }

  /** Tells what the net makes of the picture now. One look at a time: another waits for it. */
  #look(): Promise<void> {
    this.#lookAgain = this.#looking !== undefined;
    return this.#looking ??= (async () => {
      do {
        this.#lookAgain = false;
        const eye = this.#eye, ready = this.#ready;
        if (!eye || !ready) return;
        this.tell({ type: "likely", probabilities: await eye.likely(ready.pixels) });
        if (!this.#insideShown || performance.now() - this.#insideAt < INSIDE_AFTER) continue;
        this.tell({ type: "layers", layers: await eye.layers(ready.pixels) });
        this.#insideAt = performance.now();
      } while (this.#lookAgain);
    })().catch((error) => {
      // A net that was given up, or a device that was lost: who trains is told.
      if (!(error instanceof DeviceError)) throw error;
    }).finally(() => this.#looking = undefined);
  }

  async #load(_file: File): Promise<void> {
    await this.#halt();
  }

  async #download(): Promise<void> {
    const { net, config: { model }, optimizer: { steps } } = this.#trainer!;
    const bytes = encodeStateDict(await net.stateDict());
    const name = `${MODELS.has(model) ? model.split("/").at(-1)!.replace(".ts", "") : "net"}`;
    this.tell({ type: "file", name: `${name}-step-${steps}.safetensors`, bytes });
  }

  #problem(message: string): void {
    this.tell({ type: "problem", message });
  }

  #fail(error: unknown): void {
    this.#problem(messageOf(error));
  }
}

const messageOf = (error: unknown) => error instanceof Error ? error.message : String(error);

/** Whether a device is lost, which may be told a little after the work that failed. */
async function lostSoon({ gpu }: Device): Promise<boolean> {
  const later = new Promise<false>((resolve) => setTimeout(() => resolve(false), 100));
  return await Promise.race([gpu.lost.then(() => true), later]);
}
