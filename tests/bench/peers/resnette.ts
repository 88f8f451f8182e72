/**
 * Resnette's part of `deno task bench:peers`; see `job.ts`.
 *
 * @module
 */

import {
  Adam,
  collectUpdates,
  crossEntropy,
  defaultDevice,
  grad,
  Plan,
  resnet18,
  type StateDict,
  tensor,
} from "@resnette/resnette";
import { VERSION } from "@resnette/resnette/train";
import { type Job, measure, type Run } from "./job.ts";

async function start({ phase, shape, pixels, labels, weights }: Job): Promise<Run> {
  const net = resnet18();
  const counters = [...await net.stateDict()]
    .filter(([key]) => !weights.has(key)); // num_batches_tracked
  net.loadStateDict(new Map([...weights, ...counters]) as StateDict);
  const device = await defaultDevice();
  const about = { version: VERSION, adapter: device.description };
  const x = tensor(pixels, shape);
  if (phase === "forward") {
    const plan = await Plan.compile({ outputs: [net.eval().forward(x)], device });
    const step = async () => {
      plan.run();
      return (await plan.read())[0]!;
    };
    return { ...about, step };
  }
  const optimizer = new Adam(net.parameters());
  const { result: logits, updates } = collectUpdates(() => net.train().forward(x));
  const loss = crossEntropy(logits, tensor(labels));
  const optimizing = optimizer.updates(grad(loss, net.parameters()));
  const plan = await Plan.compile({
    outputs: [loss],
    updates: [...updates, ...optimizing],
    device,
  });
  const step = async () => {
    plan.run(optimizer.nextStep());
    return (await plan.read())[0]![0]!;
  };
  return { ...about, step };
}

await measure(start);
