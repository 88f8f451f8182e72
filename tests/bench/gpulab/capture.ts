/**
 * Run by `run.sh`: the kernels of a training step of ResNet-18, as a GPU gets them. Each is compiled
 * once, for a Vulkan layer to see, and `steps.json` lists the dispatches.
 *
 * @module
 */

import { Device } from "@resnette/resnette";
import { trainConfig, Trainer } from "@resnette/resnette/train";
import { bytesOf } from "../../../lib/device/buffers.ts";
import type { Tensor } from "../../../lib/graph/tensor.ts";
import { wgsl } from "../../../lib/kernels/kernel.ts";
import { stepsOf } from "../../../lib/plan/steps.ts";
import { madeUpImages } from "../../../scripts/profile.ts";

const [folder, batch, resize, subgroup] = Deno.args as [string, ...string[]];
const batchSize = Number(batch ?? 128), size = Number(resize ?? 96);

using device = await Device.request();
/** A GPU in place of the adapter at hand; TUNED is what `tune` might choose, `{ problem: choice }`. */
const target = {
  ...device.target,
  subgroupSize: Number(subgroup ?? 32),
  maxBindingBytes: 2 ** 31 - 4,
  tuned: new Map<string, string>(Object.entries(JSON.parse(Deno.env.get("TUNED") ?? "{}"))),
};
const data = madeUpImages(2 * batchSize);
using trainer = await Trainer.create({
  ...{ config: trainConfig({ batchSize, resize: size }), train: data, test: data, device },
});
const { steps } = stepsOf([], trainer.updates(batchSize), target);

/** Pipelines by their WGSL. The layer numbers its files in the order in which they are made. */
const pipelines = new Map<string, number>();
const files = () => [...Deno.readDirSync(folder)].filter(({ name }) => name.endsWith(".spv"));
const bytes = (tensors: readonly Tensor[]) =>
  tensors.reduce((sum, x) => sum + bytesOf(x.dtype, x.size), 0);
const list = steps.map(({ name, node, spec, reads, writes }) => {
  const code = wgsl(spec, target);
  let pipeline = pipelines.get(code);
  if (pipeline === undefined) {
    pipelines.set(code, pipeline = files().length);
    device.pipeline(spec, name);
    Deno.writeTextFileSync(`${folder}/${String(pipeline).padStart(4, "0")}.wgsl`, code);
  }
  return {
    ...{ name, pipeline, shape: node.shape, groups: spec.workgroups },
    size: Number(code.match(/@workgroup_size\((\d+)/)![1]),
    ...{ read: bytes(reads), written: bytes(writes), flops: spec.flops ?? 0, sizes: spec.sizes },
  };
});
Deno.writeTextFileSync(`${folder}/steps.json`, JSON.stringify({ steps: list }));
