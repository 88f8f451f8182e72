/**
 * `deno task bench`: how fast the parts of the library are, each beside what the adapter can do at
 * best. What is measured, and how, is in the README of this folder.
 *
 * @module
 */

import {
  Adam,
  collectUpdates,
  Conv2d,
  conv2d,
  defaultDevice,
  type Device,
  type Feeds,
  freeVariables,
  grad,
  input,
  matmul,
  type Module,
  permute,
  Plan,
  type PlanOptions,
  resnet18,
  resnetBlock,
  Sequential,
  type Shape,
  sum,
  summarize,
  type Tensor,
  Variable,
} from "@resnette/resnette";
import {
  DataError,
  FASHION_MNIST_FILES,
  type ImageDataset,
  loadFashionMnist,
} from "@resnette/resnette/data";
import {
  type Collective,
  DeviceDataset,
  type TrainConfig,
  trainConfig,
  Trainer,
} from "@resnette/resnette/train";
import { bytesOf } from "../../lib/device/buffers.ts";
import { formatShape, sizeOf } from "../../lib/graph/shape.ts";
import { collectCalls, type ModuleCall } from "../../lib/nn/module.ts";
import { CONV_WEIGHT_ORDER } from "../../lib/ops/conv.ts";
import { type Ceiling, measureCeiling } from "../../lib/measure/ceiling.ts";
import { storeIn } from "../../lib/graph/tensor.ts";
import { wgsl } from "../../lib/kernels/kernel.ts";
import { stepsOf } from "../../lib/plan/steps.ts";
import {
  median,
  stopwatch,
  type TimingOptions,
  timings,
  waitFor,
} from "../../lib/measure/timing.ts";
import { runCommand } from "../../scripts/cli.ts";
import { DenseNet121 } from "../../scripts/examples/nets/densenet.ts";
import { MobileNetV2 } from "../../scripts/examples/nets/mobilenet.ts";
import { VisionTransformer } from "../../scripts/examples/nets/vit.ts";
import { madeUpImages } from "../../scripts/profile.ts";
import { twin } from "../ranks.ts";

const DATA = "data/fashion-mnist";

const USAGE = `usage: deno task bench [--quick] [--filter TEXT] [--json]

Times matrix products; the convolutions of ResNet-18 in their three passes, its forward pass, its
training step, the same as one of two ranks, and the host's part of it; the training steps of
DenseNet-121, MobileNetV2 and a vision transformer (scripts/examples/nets); planning; and reading
the data set. Images are those in ${DATA}, or made-up ones. Each line has
milliseconds, rate and share of the adapter's ceiling; that of a network also its dispatches, how
many distinct kernels they have, and the bytes that they read and write.

  --quick          batches of 16 at 32×32 instead of 128 at 96×96, and less time for each
  --filter TEXT    only those whose name contains TEXT
  --json           print one JSON object instead
  -h, --help       this text

exit code: 0 done; 1 something failed, and what; 2 the command line is wrong`;

/** What was measured: time, and how much was done in it. */
interface Measured {
  /** Median milliseconds. */
  readonly ms: number;
  /** Dispatches of a plan, the distinct kernels among them, and the bytes that they read and write. */
  readonly counts?: {
    readonly dispatches: number;
    readonly kernels: number;
    readonly moved: number;
  };
  /** Floating-point operations of the direct method, also if the kernels use another one. */
  readonly flops?: number;
  readonly images?: number;
  /** Bytes read. */
  readonly bytes?: number;
  /** How many times as long it takes as the same in one process. */
  readonly times?: number;
}

interface Bench {
  readonly name: string;
  run(): Promise<Measured>;
}

/** Where and how thoroughly. */
interface Setting {
  readonly device: Device;
  readonly batchSize: number;
  readonly resize: number;
  readonly timing: TimingOptions;
}

/** Median milliseconds of a run of a plan, and what it consists of; the variables that it uses are freed. */
async function timePlan(
  options: PlanOptions,
  { device, timing }: Setting,
  feeds: Feeds = {},
): Promise<Pick<Measured, "ms" | "counts">> {
  using plan = await Plan.compile({ ...options, device });
  const bound = plan.steps.flatMap(({ reads, writes }) => [...reads, ...writes]);
  const used = new Set(bound);
  const counts = {
    dispatches: plan.steps.length,
    kernels: new Set(plan.steps.map(({ spec }) => wgsl(spec, device.target))).size,
    moved: bound.reduce((sum, { dtype, size }) => sum + bytesOf(dtype, size), 0),
  };
  using stack = new DisposableStack();
  stack.defer(() => freeVariables([...used].filter((x) => x instanceof Variable)));
  const submit = (times: number) => {
    for (let i = 0; i < times; i++) plan.run(feeds);
  };
  return { ms: median(await timings(device, submit, timing)), counts };
}

/** Values in (-0.5, 0.5) that stay on the device, with the axes in memory in the given order. */
function resident(shape: Shape, order?: readonly number[]): Variable {
  const values = Float32Array.from({ length: sizeOf(shape) }, (_, i) => i * 0.618034 % 1 - 0.5);
  const variable = new Variable(shape, values);
  return order ? storeIn(order, variable) : variable;
}

function product(lead: Shape, m: number, k: number, n: number, setting: Setting): Bench {
  const shapes = [[...lead, m, k], [...lead, k, n]] as const;
  return {
    name: `matmul ${shapes.map(formatShape).join(" @ ")}`,
    run: async () => {
      const y = matmul(resident(shapes[0]), resident(shapes[1]));
      return { ...await timePlan({ outputs: [y] }, setting), flops: 2 * y.size * k };
    },
  };
}

/** All calls below one, itself included. */
const flat = (call: ModuleCall): ModuleCall[] => [call, ...call.calls.flatMap(flat)];

/** The distinct convolutions of ResNet-18, each in its passes. */
function convolutions(setting: Setting): Bench[] {
  const { batchSize, resize } = setting;
  const image = input("image", [batchSize, 1, resize, resize]);
  const { calls } = collectCalls(() => resnet18().call(image));
  const distinct = new Map<string, { conv: Conv2d; x: Tensor; y: Tensor }>();
  for (const { module, x, y } of flat(calls[0]!)) {
    if (!(module instanceof Conv2d)) continue;
    const { weight, stride } = module;
    const name = `${formatShape(x.shape)} * ${formatShape(weight.shape)} / ${stride[0]}`;
    distinct.set(name, distinct.get(name) ?? { conv: module, x, y });
  }
  // Tensors lie in memory as the kernels want them: no pass has to rearrange any.
  const nhwc = [0, 2, 3, 1];
  return [...distinct].flatMap(([name, { conv, x: { shape, op }, y }]) => {
    const { inChannels, kernelSize: [r, s], stride, padding } = conv;
    const flops = 2 * y.size * inChannels * r * s;
    const build = () => {
      const x = resident(shape, nhwc), weight = resident(conv.weight.shape, CONV_WEIGHT_ORDER);
      const bias = resident([conv.outChannels]);
      return { x, weight, bias, seed: resident(y.shape, nhwc), options: { stride, padding } };
    };
    const passes: Record<string, () => Tensor> = {
      forward: () => {
        const { x, weight, bias, options } = build();
        return permute(conv2d(x, weight, bias, options), nhwc);
      },
      ...op !== image.op && {
        "input gradient": () => {
          const { x, weight, seed, options } = build();
          return permute(grad(conv2d(x, weight, undefined, options), [x], seed)[0]!, nhwc);
        },
      },
      "weight gradient": () => {
        const { x, weight, seed, options } = build();
        const y = conv2d(x, weight, undefined, options);
        return permute(grad(y, [weight], seed)[0]!, CONV_WEIGHT_ORDER);
      },
    };
    return Object.entries(passes).map(([pass, output]) => ({
      name: `conv2d ${name}, ${pass}`,
      run: async () => ({ ...await timePlan({ outputs: [output()] }, setting), flops }),
    }));
  });
}

/** ResNet-18 as a whole. */
function network(setting: Setting): Bench[] {
  const { device, batchSize: images, resize } = setting;
  const { macs } = summarize(resnet18(), [images, 1, resize, resize]);
  const indices = Uint32Array.from({ length: images }, (_, i) => i);
  // A quarter of the pixels, so that twice the batch fits where the usual size only just does.
  const small = resize / 2;
  const sizes = [
    ...[images / 8, images / 2, images].map((size) => [size, resize] as const),
    ...[images / 8, images / 2, images, 2 * images].map((size) => [size, small] as const),
  ];
  const trainer = async (data: ImageDataset, config: Partial<TrainConfig>, net?: Module) =>
    await Trainer.create({
      config: trainConfig(config),
      train: data,
      test: data,
      device,
      ...net && { net },
    });
  const trainingStep = (
    title: string,
    make: () => Module,
    [size, resize, channels = 1]: readonly [images: number, resize: number, channels?: number],
  ): Bench => ({
    name: `${title} training step, ${size} images ${resize}×${resize}`,
    run: async () => {
      const config = { batchSize: size, resize, channels };
      using run = await trainer(await someImages(size), config, make());
      const indices = Uint32Array.from({ length: size }, (_, i) => i);
      const feeds = { indices, ...run.optimizer.nextStep() };
      const measured = await timePlan({ updates: run.updates(size) }, setting, feeds);
      const { macs } = summarize(make(), [size, channels, resize, resize]);
      return { ...measured, flops: 6 * macs, images: size };
    },
  });
  /** Steps of an epoch, in one process and as one of two ranks, in turns. */
  const rankStep = (size: number, compress: "none" | "f16"): Bench => ({
    name: `resnet18 training step, ${size} images ${resize}×${resize}, as a rank's` +
      (compress === "none" ? "" : `, ${compress}`),
    run: async () => {
      const steps = 8, test = madeUpImages(2), epochs = 1000;
      const made = (batchSize: number, collective?: Collective) =>
        Trainer.create({
          config: trainConfig({ batchSize, resize, epochs, compress }),
          ...{ train: madeUpImages(batchSize * steps), test, device },
          ...collective && { collective },
        });
      using whole = await made(size);
      using rank = await made(2 * size, twin);
      const time = async (trainer: Trainer, signal?: AbortSignal) => {
        const elapsed = stopwatch();
        await trainer.epoch({ ...signal && { signal } });
        return elapsed();
      };
      await time(whole);
      await time(rank);
      const found: { ms: number; times: number }[] = [];
      for (let round = 0; round < 5; round++) {
        // Ranks compare their weights before an epoch, which is no part of a step.
        const compared = await time(rank, AbortSignal.abort());
        const alone = await time(whole), shared = await time(rank) - compared;
        found.push({ ms: shared / steps, times: shared / alone });
      }
      for (const { net } of [whole, rank]) {
        freeVariables(net.namedVariables().map(([, variable]) => variable));
      }
      const of = (key: "ms" | "times") => median(found.map((one) => one[key]));
      return { ms: of("ms"), times: of("times"), images: size };
    },
  });
  return [
    {
      name: `resnet18 forward, evaluating, ${images} images ${resize}×${resize}`,
      run: async () => {
        const data = new DeviceDataset(await someImages(images));
        const { x } = data.batch(input("indices", [images], "u32"), { resize });
        const outputs = [resnet18().eval().call(x)];
        return { ...await timePlan({ outputs }, setting, { indices }), flops: 2 * macs, images };
      },
    },
    ...sizes.map((size) => trainingStep("resnet18", () => resnet18(), size)),
    rankStep(images, "none"),
    rankStep(images, "f16"),
    trainingStep("densenet121", () => new DenseNet121(10), [images / 4, resize, 3]),
    trainingStep("mobilenet_v2", () => new MobileNetV2(10), [images / 4, resize, 3]),
    // This one is for images of 28×28.
    trainingStep("vit", () => new VisionTransformer(), [images, 28]),
    {
      name: "resnet18 training step, the host's part of it",
      run: async () => {
        using run = await trainer(madeUpImages(2), { batchSize: 2, resize: 32 });
        using plan = await Plan.compile({ updates: run.updates(2), device });
        const feeds = { indices: Uint32Array.of(0, 1), ...run.optimizer.nextStep() };
        const found: number[] = [];
        for (let i = 0; i < 10; i++) {
          await waitFor(device, () => {
            const elapsed = stopwatch();
            plan.run(feeds);
            found.push(elapsed());
          });
        }
        freeVariables(run.net.namedVariables().map(([, variable]) => variable));
        return { ms: median(found.slice(1)) };
      },
    },
  ];
}

/** The first images of the data set, or made-up ones if it is not there. */
async function someImages(count: number): Promise<ImageDataset> {
  try {
    return await loadFashionMnist(DATA, "train", { limit: count });
  } catch (error) {
    if (!(error instanceof DataError && error.code === "missing-file")) throw error;
    return madeUpImages(count);
  }
}

/** Median milliseconds of work on the host. */
async function timeHost(work: () => unknown, runs = 3): Promise<number> {
  const found: number[] = [];
  while (found.length < runs) {
    const elapsed = stopwatch();
    await work();
    found.push(elapsed());
  }
  return median(found);
}

/** 50 residual blocks, as ResNet-152 has them, of two convolutions each. */
function deepNet(): Sequential {
  return new Sequential(
    new Conv2d(1, 64, { kernelSize: 7, stride: 2, padding: 3 }),
    resnetBlock(64, 64, 3, { firstBlock: true }),
    resnetBlock(64, 128, 8),
    resnetBlock(128, 256, 36),
    resnetBlock(256, 512, 3),
  );
}

function planning({ device }: Setting): Bench {
  return {
    name: "planning a training step of 50 residual blocks",
    run: async () => {
      const net = deepNet(), adam = new Adam(net.parameters());
      const plan = () => {
        const x = input("x", [16, 1, 96, 96]);
        const { result: loss, updates } = collectUpdates(() => sum(net.call(x)));
        const optimizing = adam.updates(grad(loss, net.parameters()));
        stepsOf([], [...updates, ...optimizing], device.target);
      };
      return { ms: await timeHost(plan) };
    },
  };
}

function reading(): Bench {
  const { images, labels } = FASHION_MNIST_FILES.train;
  return {
    name: "reading the 60,000 training images",
    run: async () => ({
      ms: await timeHost(() => loadFashionMnist(DATA, "train")),
      bytes: images.bytes + labels.bytes,
    }),
  };
}

/** `93.1 GFLOP/s` and `52%`, if they make sense. */
function rates({ ms, flops, images, bytes }: Measured, ceiling: Ceiling): [string, string] {
  const perSecond = (count: number, unit: string) => `${(1000 * count / ms).toFixed(1)} ${unit}`;
  const rate = images !== undefined
    ? perSecond(images, "images/s")
    : flops !== undefined
    ? perSecond(flops / 1e9, "GFLOP/s")
    : bytes !== undefined
    ? perSecond(bytes / 1e6, "MB/s")
    : "";
  const share = flops === undefined ? "" : `${(flops / ms / 1e4 / ceiling.gflops).toFixed(0)}%`;
  return [rate, share];
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  const command = {
    name: "bench",
    usage: () => USAGE,
    values: ["filter"],
    switches: ["quick", "json"],
  } as const;
  return await runCommand(args, command, async ({ values: { filter = "" }, on }) => {
    await bench(filter, on);
    return 0;
  });
}

async function bench(
  filter: string,
  { quick, json }: { quick: boolean; json: boolean },
): Promise<void> {
  const device = await defaultDevice();
  const setting: Setting = quick
    ? { device, batchSize: 16, resize: 32, timing: { enough: 30 } }
    : { device, batchSize: 128, resize: 96, timing: {} };
  const benches = [
    product([], 1024, 1024, 1024, setting),
    product([36], 512, 128, 128, setting),
    ...convolutions(setting),
    ...network(setting),
    planning(setting),
    reading(),
  ].filter(({ name }) => name.includes(filter));
  const ceiling = await measureCeiling(device);
  const say = (line: string) => json || console.log(line);
  say(`${device}; Deno ${Deno.version.deno}`);
  say(`ceilings ${ceiling.gflops.toFixed(1)} GFLOP/s, ${ceiling.gbs.toFixed(1)} GB/s\n`);
  const width = Math.max(...benches.map(({ name }) => name.length));
  const found: unknown[] = [];
  for (const { name, run } of benches) {
    const measured = await run();
    const [rate, share] = rates(measured, ceiling);
    found.push({ name, ...measured });
    const { counts, images, times } = measured;
    const than = times === undefined ? "" : `  ${times.toFixed(2)} × one process`;
    const made = counts && images !== undefined
      ? `  ${counts.dispatches} of ${counts.kernels} kernels, ${(counts.moved / 1e9).toFixed(2)} GB`
      : "";
    say(
      (`${name.padEnd(width)}  ${measured.ms.toFixed(2).padStart(9)} ms  ` +
        `${rate.padStart(15)}  ${share.padStart(4)}${made}${than}`).trimEnd(),
    );
  }
  if (json) {
    const { description } = device;
    const results = { adapter: description, deno: Deno.version.deno, quick, ceiling, found };
    console.log(JSON.stringify(results, null, 2));
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
