/** Ten optimizer steps of the whole ResNet-18 against PyTorch's: the loss before each. */

import { assert, assertEquals } from "@std/assert";
import { Adam, collectUpdates, crossEntropy, grad, Plan, resnet18, SGD } from "@resnette/resnette";
import { batch, fill, fixture, golden } from "./golden.ts";

interface Run {
  readonly size: number;
  readonly batch: number;
  readonly optimizer: { readonly name: "adam" | "sgd"; readonly lr: number };
}

/** Relative difference from PyTorch's float32 that is always allowed. */
const TOLERANCE = 1e-3;
/**
 * Some of these runs amplify the last digit: Adam's first steps are the signs of the gradients, and
 * eight images are learnt by heart in three. There PyTorch's float32 is itself this far from its
 * float64, and ours may be so many times farther.
 */
const FACTOR = 3;

const runs: Record<string, Run> = JSON.parse(fixture.metadata["runs"]!);

for (
  const [name, { size, batch: n, optimizer: { name: rule, ...attrs } }] of Object.entries(runs)
) {
  Deno.test(`ten steps of ${name} have PyTorch's losses`, async () => {
    const net = resnet18();
    fill(net);
    const { x, labels } = batch(n, size);
    const { result: logits, updates } = collectUpdates(() => net.forward(x));
    const loss = crossEntropy(logits, labels);
    const parameters = net.parameters();
    const optimizer = new { adam: Adam, sgd: SGD }[rule](parameters, attrs);
    using plan = await Plan.compile({
      outputs: [loss],
      updates: [...updates, ...optimizer.updates(grad(loss, parameters))],
    });
    const [single, double] = [golden(`f32/${name}/losses`), golden(`f64/${name}/losses`)];
    assertEquals(single.length, 11);
    let worst = 0;
    for (let step = 0; step <= 10; step++) {
      plan.run(optimizer.nextStep());
      const found = (await plan.read())[0]![0]!;
      const off = Math.abs(found - single[step]!) / single[step]!;
      const floor = Math.abs(single[step]! - double[step]!) / double[step]!;
      const bound = Math.max(TOLERANCE, FACTOR * floor);
      assert(off < bound, `loss ${step} is ${found}, off by ${off}; allowed ${bound}`);
      worst = Math.max(worst, off);
    }
    console.log(`${name}: worst ${worst.toExponential(1)}`);
  });
}
