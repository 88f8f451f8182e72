/**
 * The form of settings.
 *
 * @module
 */

import { byId, make } from "./dom.ts";
import { type Settings, SMALL_NET } from "./protocol.ts";

/** Nets to choose from. */
const MODELS = { [SMALL_NET]: "Small net, 28×28", resnet18: "ResNet-18, 32×32" };
/** How many images are trained on and tested with; null for all. */
const IMAGES = [[1000, 500], [5000, 1000], [20_000, 5000], [null, null]] as const;

const fields = {
  model: byId<HTMLSelectElement>("model"),
  images: byId<HTMLSelectElement>("images"),
  lr: byId<HTMLInputElement>("lr"),
  batchSize: byId<HTMLSelectElement>("batch-size"),
  optimizer: byId<HTMLSelectElement>("optimizer"),
  epochs: byId<HTMLInputElement>("epochs"),
  seed: byId<HTMLInputElement>("seed"),
};

fields.model.append(
  ...Object.entries(MODELS).map(([value, name]) => make("option", { value }, name)),
);
fields.images.append(
  ...IMAGES.map(([limit, testLimit], i) =>
    make(
      "option",
      { value: `${i}` },
      limit === null ? "all 60,000" : `${limit.toLocaleString("en")}`,
    )
  ),
);
fields.images.value = "1";

/** What the form says; the worker checks it. */
export function readForm(): Settings {
  const [limit, testLimit] = IMAGES[Number(fields.images.value)]!;
  const number = (name: "lr" | "batchSize" | "epochs" | "seed") => {
    const text = fields[name].value.trim().replace(",", ".");
    return text === "" ? NaN : Number(text);
  };
  return {
    model: fields.model.value,
    ...{ limit, testLimit },
    lr: number("lr"),
    batchSize: number("batchSize"),
    optimizer: fields.optimizer.value as Settings["optimizer"],
    epochs: number("epochs"),
    seed: number("seed"),
  };
}

/** Has the form say what a run has. */
export function writeForm(settings: Settings): void {
  const { model, limit, testLimit, lr, batchSize, optimizer, epochs, seed } = settings;
  const at = IMAGES.findIndex(([train, test]) => train === limit && test === testLimit);
  if (at >= 0) fields.images.value = `${at}`;
  fields.model.value = model;
  fields.lr.value = `${lr}`;
  fields.batchSize.value = `${batchSize}`;
  fields.optimizer.value = optimizer;
  fields.epochs.value = `${epochs}`;
  fields.seed.value = `${seed}`;
}
