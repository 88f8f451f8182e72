/**
 * The form of settings.
 *
 * @module
 */

import { byId, make } from "./dom.ts";
import { type Settings, SMALL_NET } from "./protocol.ts";

/** Nets to choose from. */
const MODELS = { [SMALL_NET]: "Small net", resnet18: "ResNet-18" };
/** How many images are trained on and tested with; null for all. */
const IMAGES = [[1000, 500], [5000, 1000], [20_000, 5000], [null, null]] as const;

/** Images of a step. */
const BATCHES = [16, 32, 64, 128, 256];
/** Optimizers to choose from. */
const OPTIMIZERS: Record<Settings["optimizer"], string> = {
  adam: "Adam",
  adamw: "AdamW",
  sgd: "SGD, momentum 0.9",
};

const fields = {
  model: byId<HTMLSelectElement>("model"),
  images: byId<HTMLSelectElement>("images"),
  lr: byId<HTMLInputElement>("lr"),
  batchSize: byId<HTMLSelectElement>("batch-size"),
  optimizer: byId<HTMLSelectElement>("optimizer"),
  epochs: byId<HTMLInputElement>("epochs"),
  seed: byId<HTMLInputElement>("seed"),
};

/** Offers values with their words. */
function offer(field: HTMLSelectElement, choices: Readonly<Record<string, string>>): void {
  field.append(
    ...Object.entries(choices).map(([value, words]) => make("option", { value }, words)),
  );
}
offer(fields.model, MODELS);
offer(
  fields.images,
  Object.fromEntries(
    IMAGES.map(([limit], i) => [i, limit === null ? "all 60,000" : limit.toLocaleString("en")]),
  ),
);
offer(fields.batchSize, Object.fromEntries(BATCHES.map((size) => [size, `${size}`])));
offer(fields.optimizer, OPTIMIZERS);
fields.batchSize.value = "64";
fields.images.value = "1";
/** The choice of images of Fashion-MNIST, while a folder of one's own is trained on. */
let chosen = fields.images.value;

/** What the form says; of a folder, how many images of Fashion-MNIST there are to be after it. */
export function readForm(): Settings {
  const { disabled, value } = fields.images;
  const [limit, testLimit] = IMAGES[Number(disabled ? chosen : value)]!;
  return {
    model: fields.model.value,
    ...{ limit, testLimit },
    lr: Number(fields.lr.value),
    batchSize: Number(fields.batchSize.value),
    optimizer: fields.optimizer.value as Settings["optimizer"],
    epochs: Number(fields.epochs.value),
    seed: Number(fields.seed.value),
  };
}

/** Whether all images of a folder of one's own are trained on. */
export function setOwn(own: boolean): void {
  const { images } = fields;
  if (images.disabled === own) return;
  images.disabled = own;
  if (own) {
    chosen = images.value;
    images.append(make("option", { value: "own", selected: "" }, "all in the folder"));
  } else {
    images.querySelector("[value=own]")?.remove();
    images.value = chosen;
  }
}

/** Has the form say what a run has. */
export function writeForm(settings: Settings): void {
  const { model, limit, testLimit, lr, batchSize, optimizer, epochs, seed } = settings;
  const at = IMAGES.findIndex(([train, test]) => train === limit && test === testLimit);
  if (at >= 0 && !fields.images.disabled) fields.images.value = `${at}`;
  if (![...fields.model.options].some(({ value }) => value === model)) {
    fields.model.append(make("option", { value: model }, model));
  }
  fields.model.value = model;
  fields.lr.value = `${lr}`;
  fields.batchSize.value = `${batchSize}`;
  fields.optimizer.value = optimizer;
  fields.epochs.value = `${epochs}`;
  fields.seed.value = `${seed}`;
}
