/**
 * `deno task profile`: where the time of a training step goes. Parse, call, print; the work is in
 * `lib/measure/profile.ts`.
 *
 * @module
 */

import { type Ceiling, measureCeiling } from "../lib/measure/ceiling.ts";
import { FASHION_MNIST_CLASSES } from "../lib/data/fashion_mnist.ts";
import type { ImageDataset } from "../lib/data/dataset.ts";
import { defaultDevice, type Device } from "../lib/device/device.ts";
import { DeviceDataset } from "../lib/train/device_dataset.ts";
import { type Feeds, Plan } from "../lib/plan/plan.ts";
import {
  chromeTrace,
  type Cost,
  costsBy,
  type Profile,
  profilePlan,
} from "../lib/measure/profile.ts";
import { Random } from "../lib/graph/random.ts";
import { formatShape, type Pair } from "../lib/graph/shape.ts";
import { input } from "../lib/graph/tensor.ts";
import { Trainer } from "../lib/train/trainer.ts";
import { DEFAULT_CONFIG, MODELS, sizeText, trainConfig } from "../lib/train/config.ts";
import { brief, table } from "../lib/check/text.ts";
import { type Flags, modelHelp, runCommand, setting } from "./cli.ts";

const { batchSize, resize, model } = DEFAULT_CONFIG;
const TOP = 20;

const usage = () =>
  `usage: deno task profile [options]

Times every dispatch of a training step on made-up images: op, layer, pass, shape, milliseconds,
rates. Then sums by layer and pass, and by op.

  --batch-size N    images of a step (${batchSize})
  --resize N        images are resized from 28×28 to N×N (${resize})
${modelHelp()}
  --eval            the forward pass in evaluation mode instead, up to the count of right answers
  --submits         time each dispatch in submits of its own, not by timestamps; takes minutes
  --top N           dispatches, and ops, to print, the slowest first (${TOP})
  --json            print one JSON object with all dispatches instead
  --trace FILE      write them as a Chrome trace too (chrome://tracing, ui.perfetto.dev), a track
                    for each pass; the task may write in runs/ only
  -h, --help        this text

Times are the device's own (timestamp-query, the median of three runs), if it has such and they
agree with the host's clock; else each dispatch is submitted over and over. A kernel into which ops
of several layers are fused counts for the layer of the last. GFLOP/s count what a kernel computes,
so Winograd's are fewer than a direct convolution's; GB/s count each bound tensor once. "of ceiling"
is the larger share of two rates measured just before: multiply-adds in registers, and a copy of
memory.

  deno task profile --batch-size 8 --resize 32       a first try
  deno task profile --trace runs/step.json           the notebook's step

exit code: 0 done; 1 the sizes do not fit the adapter; 2 the command line is wrong`;

interface Options {
  readonly batchSize: number;
  readonly resize: Pair;
  readonly model: string;
  readonly top: number;
  readonly trace: string | undefined;
  readonly evaluating: boolean;
  readonly submits: boolean;
  readonly json: boolean;
}

/** What the flags come to. */
function optionsOf(
  { values, on }: Flags<
    "batch-size" | "resize" | "model" | "top" | "trace",
    "eval" | "submits" | "json"
  >,
): Options {
  return {
    batchSize: setting("batchSize", values["batch-size"]) ?? batchSize,
    resize: setting("resize", values.resize) ?? resize,
    top: setting("limit", values.top, "--top") ?? TOP,
    model: setting("model", values.model) ?? model,
    trace: values.trace,
    evaluating: on.eval,
    submits: on.submits,
    json: on.json,
  };
}

/** Images as the data set has them, of random pixels. */
export function madeUpImages(count: number): ImageDataset {
  const random = new Random(0), height = 28, width = 28;
  const pixels = random.uniform(new Float32Array(count * height * width));
  return {
    images: Uint8Array.from(pixels, (x) => 256 * x),
    labels: Uint8Array.from({ length: count }, (_, i) => i % 10),
    count,
    height,
    width,
    classes: FASHION_MNIST_CLASSES,
  };
}

/** The plan to profile, and what it is fed. */
async function planOf(options: Options, device: Device): Promise<{ plan: Plan; feeds: Feeds }> {
  const { batchSize, resize, model, evaluating } = options;
  const data = madeUpImages(batchSize);
  const indices = Uint32Array.from({ length: batchSize }, (_, i) => i);
  if (evaluating) {
    const net = MODELS.get(model)!({ inChannels: 1 }).eval();
    const { x } = new DeviceDataset(data).batch(input("indices", [batchSize], "u32"), { resize });
    return { plan: await Plan.compile({ outputs: [net.call(x)], device }), feeds: { indices } };
  }
  const config = trainConfig({ batchSize, resize, model });
  const trainer = await Trainer.create({ config, train: data, test: data, device });
  const plan = await Plan.compile({ updates: trainer.updates(batchSize), device });
  return { plan, feeds: { indices, ...trainer.optimizer.nextStep() } };
}

/** Milliseconds, share of the sum, rates, and the share of the ceiling that is nearer. */
function costCells({ milliseconds: ms, flops, bytes }: Cost, sum: number, ceiling: Ceiling) {
  const gflops = flops / ms / 1e6, gbs = bytes / ms / 1e6;
  const percent = (share: number) => `${(100 * share).toFixed(1)}%`;
  return [
    ms.toFixed(3),
    percent(ms / sum),
    gflops.toFixed(1),
    gbs.toFixed(1),
    percent(Math.max(gflops / ceiling.gflops, gbs / ceiling.gbs)),
  ];
}
const COST_NAMES = ["ms", "share", "GFLOP/s", "GB/s", "of ceiling"];

/** What has no layer belongs to the network itself. */
const layerName = (layer: string) => layer || "(network)";

/** The tables. */
function report({ steps, whole }: Profile, ceiling: Ceiling, top: number): string {
  const sum = steps.reduce((total, step) => total + step.milliseconds, 0);
  const slowest = steps.map((step, i) => ({ ...step, i }))
    .sort((a, b) => b.milliseconds - a.milliseconds).slice(0, top);
  const dispatches = [
    ["op", "layer", "pass", "shape", "#", ...COST_NAMES],
    ...slowest.map((step) => [
      brief(step.name, 35),
      layerName(step.layer),
      step.pass,
      formatShape(step.shape),
      `${step.i}`,
      ...costCells(step, sum, ceiling),
    ]),
  ];
  const passes = [...costsBy(steps, (step) => step.pass)];
  const cells = costsBy(steps, (step) => `${step.layer} ${step.pass}`);
  const layers = [
    ["layer", ...passes.map(([pass]) => pass), "ms", "share"],
    ...[...costsBy(steps, (step) => step.layer)].map(([layer, { milliseconds }]) => [
      layerName(layer),
      ...passes.map(([pass]) => cells.get(`${layer} ${pass}`)?.milliseconds.toFixed(3) ?? "-"),
      milliseconds.toFixed(3),
      `${(100 * milliseconds / sum).toFixed(1)}%`,
    ]),
    ["all", ...passes.map(([, cost]) => cost.milliseconds.toFixed(3)), sum.toFixed(3), "100.0%"],
  ];
  const ops = [
    ["op", "dispatches", ...COST_NAMES],
    ...[...costsBy(steps, (step) => step.name)]
      .sort(([, a], [, b]) => b.milliseconds - a.milliseconds).slice(0, top)
      .map(([name, cost]) => [brief(name, 35), `${cost.steps}`, ...costCells(cost, sum, ceiling)]),
  ];
  return [
    `the ${slowest.length} slowest of ${steps.length} dispatches`,
    table(dispatches, (column) => column > 3),
    "\nmilliseconds by layer and pass",
    table(layers),
    "\nby op, with what is fused into it",
    table(ops),
    `\nsum of the dispatches ${sum.toFixed(1)} ms; the whole in one submit ${whole.toFixed(1)} ms`,
  ].join("\n");
}

async function profile(options: Options): Promise<void> {
  const { batchSize, resize, model, evaluating, submits, top, trace, json } = options;
  const device = await defaultDevice();
  const what = `${evaluating ? "forward, evaluating" : "training step"} of ${model}, ` +
    `${batchSize} images ${sizeText(resize)}`;
  if (!json) console.log(`${what}, on ${device}`);
  // At once, so that a folder that is forbidden is not found out at the end.
  if (trace !== undefined) await Deno.writeTextFile(trace, "");
  const { plan, feeds } = await planOf(options, device);
  using _ = plan;
  const ceiling = await measureCeiling(device);
  const found = await profilePlan(plan, feeds, submits ? { clock: "submits" } : {});
  if (trace !== undefined) {
    await Deno.writeTextFile(trace, JSON.stringify(chromeTrace(found.steps)));
  }
  if (json) {
    const adapter = device.description;
    const settings = { adapter, model, batchSize, resize, evaluating };
    console.log(JSON.stringify({ ...settings, ceiling, ...found }, null, 2));
    return;
  }
  const clock = found.clock === "timestamps" ? "timestamps" : "submits of their own";
  console.log(
    `ceilings ${ceiling.gflops.toFixed(1)} GFLOP/s, ${ceiling.gbs.toFixed(1)} GB/s; ` +
      `dispatches timed by ${clock}\n`,
  );
  console.log(report(found, ceiling, top));
  if (trace !== undefined) console.log(`wrote ${trace}`);
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
      name: "profile",
      usage,
      values: ["batch-size", "resize", "model", "top", "trace"],
      switches: ["eval", "submits", "json"],
    },
    async (flags) => {
      await profile(optionsOf(flags));
      return 0;
    },
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
