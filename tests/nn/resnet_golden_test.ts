/** One pass of the whole ResNet-18 against PyTorch: logits, every gradient, running statistics. */

import { assert } from "@std/assert";
import { collectUpdates, crossEntropy, grad, Plan, resnet18, tensor } from "@resnette/resnette";
import {
  fill,
  golden,
  goldenKeys,
  greatest,
  makeImages,
  norm,
  nullGrads,
  Scores,
  summary,
} from "../golden.ts";

const BATCH = 4;

/** ‖a - b‖ / ‖b‖. */
const relative = (a: ArrayLike<number>, b: ArrayLike<number>) => norm(a, b) / norm(b);

for (const size of [32, 96]) {
  Deno.test(`ResNet-18 at ${size}×${size}: logits, gradients and running statistics are PyTorch's`, async () => {
    const net = resnet18();
    fill(net);
    const { pixels, labels } = makeImages(BATCH, size);
    const x = tensor(pixels, [BATCH, 1, size, size]);
    const parameters = net.namedParameters();
    const { result: logits, updates } = collectUpdates(() => net.forward(x));
    const loss = crossEntropy(logits, tensor(labels));
    const grads = grad(loss, parameters.map(([, p]) => p));
    using plan = await Plan.compile({ outputs: [logits, loss, ...grads], updates });
    plan.run();
    const [gotLogits, gotLoss, ...gotGrads] = await plan.read();
    const scores = new Scores();
    scores.add("logits", relative(gotLogits!, golden(`f32/${size}/logits`)));
    scores.add("loss", relative(gotLoss!, golden(`f32/${size}/loss`)));
    parameters.forEach(([key], i) => {
      const expected = golden(`f64/${size}/grad/${key}`);
      const unit = nullGrads.has(key) ? golden(`f64/${size}/scale/${key}`)[0]! : expected[0]!;
      const got = summary(key, gotGrads[i] as Float32Array, true);
      scores.add(`grad ${key}`, greatest(got, expected, unit));
    });
    const state = await net.stateDict();
    const stats = `f32/${size}/stat/`;
    for (const key of goldenKeys(stats)) {
      scores.add(key, relative(state.get(key)!.data, golden(stats + key)));
    }
    net.eval();
    using evaluation = await Plan.compile({ outputs: [net.forward(x)] });
    evaluation.run();
    const [evalLogits] = await evaluation.read();
    scores.add("eval logits", relative(evalLogits!, golden(`f32/${size}/eval_logits`)));
    const [what, worst] = scores.worst();
    console.log(`${size}×${size}: the worst is ${what}, ${worst.toExponential(1)}`);
    assert(worst < 1e-3, `${what} is off by ${worst}`);
  });
}
