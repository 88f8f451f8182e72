/** The whole ResNet-18 against PyTorch: logits, every gradient, running statistics. */

import { assert } from "@std/assert";
import { collectUpdates, crossEntropy, grad, Plan, resnet18 } from "@resnette/resnette";
import { batch, fill, fixture, golden, nullGrads, relative, summary } from "./golden.ts";

for (const size of [32, 96]) {
  Deno.test(`ResNet-18 at ${size}×${size}: logits, gradients and running statistics are PyTorch's`, async () => {
    const net = resnet18();
    fill(net);
    const { x, labels } = batch(4, size);
    const parameters = net.namedParameters();
    const { result: logits, updates } = collectUpdates(() => net.forward(x));
    const loss = crossEntropy(logits, labels);
    const grads = grad(loss, parameters.map(([, p]) => p));
    using plan = await Plan.compile({ outputs: [logits, loss, ...grads], updates });
    plan.run();
    const [gotLogits, gotLoss, ...gotGrads] = await plan.read();
    const scores: [string, number][] = [
      ["logits", relative(gotLogits!, golden(`f32/${size}/logits`))],
      ["loss", relative(gotLoss!, golden(`f32/${size}/loss`))],
    ];
    parameters.forEach(([key], i) => {
      const expected = golden(`f64/${size}/grad/${key}`);
      const got = summary(key, gotGrads[i] as Float32Array, true);
      const scale = nullGrads.has(key) ? golden(`f64/${size}/scale/${key}`)[0]! : expected[0]!;
      const worst = Math.max(...got.map((v, j) => Math.abs(v - expected[j]!))) / scale;
      scores.push([`grad ${key}`, Number.isNaN(worst) ? Infinity : worst]);
    });
    const state = await net.stateDict();
    for (const key of fixture.tensors.keys()) {
      const stat = key.startsWith(`f32/${size}/stat/`) && key.slice(`f32/${size}/stat/`.length);
      if (stat) scores.push([stat, relative(state.get(stat)!.data, golden(key))]);
    }
    net.eval();
    using evaluation = await Plan.compile({ outputs: [net.forward(x)] });
    evaluation.run();
    scores.push([
      "eval logits",
      relative((await evaluation.read())[0]!, golden(`f32/${size}/eval_logits`)),
    ]);
    const worst = scores.reduce((a, b) => b[1] > a[1] ? b : a);
    console.log(`${size}×${size}: worst of ${scores.length} is ${worst[0]}, ${worst[1]}`);
    for (const [what, score] of scores) assert(score < 1e-3, `${what} is off by ${score}`);
  });
}
