/** Ten training steps of the whole ResNet-18 against PyTorch: losses, parameters, running statistics. */

import { assert } from "@std/assert";
import {
  Adam,
  collectUpdates,
  crossEntropy,
  grad,
  input,
  Plan,
  resnet18,
  SGD,
} from "@resnette/resnette";
import {
  fill,
  golden,
  goldenKeys,
  greatest,
  makeBatch,
  norm,
  nullGrads,
  optionsOf,
  runs,
  Scores,
  summary,
} from "../golden.ts";

/**
 * Relative differences that are allowed: of losses; of how far a parameter moved; of its norm and
 * projections, by how far it moved; of the norms and projections of running statistics. The loss is
 * the sharp one: a learning rate 1.001 times as large moves it by 3e-4. Adam's first steps are the signs
 * of the gradients, so that one near zero moves its parameter either way: the others are coarse. So are
 * running means, which contain convolution biases without a gradient.
 */
const TOLERANCE = { loss: 1e-4, moved: 2e-2, param: 0.2, running_mean: 5e-2, running_var: 1e-2 };

for (const [name, { batch, size, steps, optimizer: settings }] of Object.entries(runs)) {
  const adam = settings.name === "adam";
  Deno.test(`${steps} steps of ${settings.name} at ${size}×${size} (${name}): losses, parameters and statistics are PyTorch's`, async () => {
    const net = resnet18();
    fill(net, true);
    const start = await net.stateDict();
    const x = input("x", [batch, 1, size, size]), labels = input("labels", [batch], "u32");
    const optimizer = new (adam ? Adam : SGD)(net.parameters(), optionsOf(settings));
    const { result, updates } = collectUpdates(() => net.forward(x));
    const loss = crossEntropy(result, labels);
    const training = optimizer.updates(grad(loss, net.parameters()));
    using plan = await Plan.compile({ outputs: [loss], updates: [...updates, ...training] });

    /** The loss before the update of a step. */
    const run = async (step: number) => {
      const { pixels, labels } = makeBatch(step, batch, size);
      plan.run({ x: pixels, labels, ...optimizer.nextStep() });
      return (await plan.read())[0]![0]!;
    };
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) losses.push(await run(step));
    const state = await net.stateDict();
    losses.push(await run(steps));

    const scores = new Scores();
    const [f32, f64] = [golden(`f32/${name}/losses`), golden(`f64/${name}/losses`)];
    losses.forEach((value, i) => {
      scores.add(`loss ${i} of f32`, Math.abs(value / f32[i]! - 1));
      scores.add(`loss ${i} of f64`, Math.abs(value / f64[i]! - 1));
    });
    for (const key of goldenKeys(`f64/${name}/moved/`)) {
      if (nullGrads.has(key)) continue;
      const { data } = state.get(key)!;
      const moved = golden(`f64/${name}/moved/${key}`);
      const expected = golden(`f64/${name}/param/${key}`);
      scores.add(`param ${key}`, greatest(summary(key, data, false), expected, moved[0]!));
      scores.add(`moved ${key}`, greatest([norm(data, start.get(key)!.data)], moved, moved[0]!));
    }
    for (const key of goldenKeys(`f64/${name}/stat/`)) {
      const expected = golden(`f64/${name}/stat/${key}`);
      const got = summary(key, state.get(key)!.data, false);
      scores.add(`${key.split(".").at(-1)} ${key}`, greatest(got, expected, expected[0]!));
    }
    for (const part of ["loss", "moved", "param", "running_mean", "running_var"] as const) {
      const [what, worst] = scores.worst(part);
      console.log(`${name}: the worst ${part} is ${what}, ${worst.toExponential(1)}`);
      assert(worst < TOLERANCE[part], `${what} is off by ${worst}`);
    }
  });
}
