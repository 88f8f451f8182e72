/**
 * What the net makes of one picture: probabilities, and what comes out of each layer. Its plans
 * read the net's parameters where they are, so they show the net as it is while it is trained.
 *
 * @module
 */

import type { Device } from "../../lib/device/device.ts";
import { collectCalls, evaluating, type Module, type ModuleCall } from "../../lib/nn/module.ts";
import { softmax } from "../../lib/ops/classification.ts";
import { resizeBytes } from "../../lib/ops/resize.ts";
import { pair } from "../../lib/graph/shape.ts";
import { input } from "../../lib/graph/tensor.ts";
import { Plan } from "../../lib/plan/plan.ts";
import type { TrainConfig } from "../../lib/train/config.ts";
import { DeviceDataset } from "../../lib/train/device_dataset.ts";
import type { LayerView, Pixels } from "./protocol.ts";

/** The most channels of a layer that are shown. */
const MOST_MAPS = 12;
/** The widest map of a layer that has but numbers. */
const WIDEST = 128;

/** Looks at pictures with a net. */
export class Eye {
  readonly #x;
  #likely: Promise<Plan> | undefined;
  #inside: Promise<Plan> | undefined;
  #calls: readonly ModuleCall[] = [];

  /** For pictures of the form of `form`, made ready as the settings say. */
  constructor(
    readonly net: Module,
    readonly form: Omit<Pixels, "pixels">,
    readonly config: TrainConfig,
    readonly device: Device,
  ) {
    const { resize, channels, mean, std } = config;
    const images = () => Promise.reject(new Error("a picture is fed to the plan"));
    const set = { images, labels: new Uint8Array(1), count: 1, ...form, classes: [""] };
    const data = new DeviceDataset(set, "picture", { resident: false });
    this.#x = data.batch(input("indices", [1], "u32"), { resize, channels, mean, std }).x;
  }

  /** What the net sees: the picture in the size that it is resized to. */
  seen({ pixels, channels, height, width }: Pixels): Pixels {
    const [rows, columns] = pair("seen", "resize", this.config.resize, 1);
    const resized = resizeBytes(pixels, channels, height, width, rows, columns);
    return { pixels: resized, channels, height: rows, width: columns };
  }

  /** The probability of each class. */
  async likely({ pixels }: Pixels): Promise<Float32Array<ArrayBuffer>> {
    const { net, device } = this;
    this.#likely ??= Plan.compile({
      outputs: [softmax(evaluating(net, () => net.call(this.#x)))],
      device,
    });
    const plan = await this.#likely;
    plan.run({ images: pixels });
    const [probabilities] = await plan.read();
    return probabilities as Float32Array<ArrayBuffer>;
  }

  /** What comes out of the net's layers, those that it calls itself. */
  async layers({ pixels }: Pixels): Promise<LayerView[]> {
    const { net, device } = this;
    if (!this.#inside) {
      const { calls } = evaluating(net, () => collectCalls(() => net.call(this.#x)));
      this.#calls = calls[0]!.calls;
      this.#inside = Plan.compile({ outputs: this.#calls.map(({ y }) => y), device });
    }
    const plan = await this.#inside;
    plan.run({ images: pixels });
    const values = await plan.read();
    const names = new Map(net.namedChildren().map(([name, child]) => [child, name]));
    return this.#calls.map(({ module, y: { shape } }, i) => ({
      name: names.get(module) ?? "",
      kind: module.constructor.name,
      shape: shape.slice(1),
      parameters: module.parameters().reduce((sum, { size }) => sum + size, 0),
      ...mapsOf(values[i] as Float32Array, shape.slice(1)),
    }));
  }

  /** Frees the plans; the net stays. */
  dispose(): void {
    for (const plan of [this.#likely, this.#inside]) {
      plan?.then((plan) => plan[Symbol.dispose](), () => {});
    }
  }
}

/** The first channels of a layer's output as pictures, from its least value to its most. */
function mapsOf(
  values: Float32Array,
  shape: readonly number[],
): Pick<LayerView, "maps" | "shown" | "height" | "width"> {
  const size = values.length, flat = shape.length < 3 || shape[0] === size;
  const width = flat ? Math.min(size, WIDEST) : shape[2]!;
  const height = flat ? Math.ceil(size / width) : shape[1]!;
  const shown = flat ? 1 : Math.min(MOST_MAPS, shape[0]!);
  const part = values.subarray(0, shown * height * width);
  const least = part.reduce((a, b) => Math.min(a, b), Infinity);
  const most = part.reduce((a, b) => Math.max(a, b), -Infinity);
  const scale = most > least ? 255 / (most - least) : 0;
  const maps = new Uint8Array(shown * height * width);
  part.forEach((value, i) => maps[i] = Math.round((value - least) * scale));
  return { maps, shown, height, width };
}
