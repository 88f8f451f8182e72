/**
 * A layer of your own, with parameters, their initial values, and a running statistic that training
 * updates and evaluation uses. A net of two such layers learns which points lie in a circle.
 *
 *     deno run scripts/examples/custom_layer.ts
 */

import * as r from "@resnette/resnette";

/**
 * `[N, inFeatures]` → `[N, outFeatures]`: a linear layer whose inputs are first divided by their
 * root mean squares over the batch; in evaluation mode, by the running ones.
 */
class ScaledLinear extends r.Module {
  readonly weight: r.Parameter;
  readonly bias: r.Parameter;
  /** Not a parameter: it is saved with the net, by the key `running_square`, and not trained. */
  readonly runningSquare: r.Variable;

  constructor(readonly inFeatures: number, readonly outFeatures: number) {
    super();
    this.weight = r.uniformParameter([outFeatures, inFeatures], inFeatures);
    this.bias = r.constantParameter([outFeatures], 0);
    this.runningSquare = new r.Variable([inFeatures], Array(inFeatures).fill(1));
  }

  override forward(x: r.Tensor): r.Tensor {
    let square: r.Tensor = this.runningSquare;
    if (this.training) {
      square = r.mean(r.square(x), [0]);
      const running = r.add(r.mul(this.runningSquare, 0.9), r.mul(square, 0.1));
      r.noteUpdate(r.assign(this.runningSquare, running));
    }
    return r.linear(r.div(x, r.sqrt(r.add(square, 1e-5))), this.weight, this.bias);
  }
}

const net = new r.Sequential(new ScaledLinear(2, 16), new r.ReLU(), new ScaledLinear(16, 2));

// Points of a square with sides of 200, in steps of 10: label 1 in a circle around the middle, else 0.
const side = Array.from({ length: 21 }, (_, i) => 10 * i - 100);
const points = side.flatMap((x) => side.map((y) => [x, y] as const));
const x = r.tensor(points);
const labels = r.tensor(Uint32Array.from(points, ([x, y]) => Math.hypot(x, y) < 80 ? 1 : 0));

const adam = new r.Adam(net.parameters(), { lr: 0.02 });
// The layers note updates of their running statistics, which go into the plan with Adam's.
const { result: loss, updates } = r.collectUpdates(() => r.crossEntropy(net.call(x), labels));
using step = await r.Plan.compile({
  outputs: [loss],
  updates: [...updates, ...adam.minimize(loss)],
});
for (let k = 0; k <= 200; k++) {
  step.run(adam.nextStep());
  if (k % 50 === 0) console.log(`step ${k}, loss ${(await step.item()).toFixed(3)}`);
}

net.eval();
const correct = await r.item(r.correctCount(net.call(x), labels));
console.log(`right: ${correct} of ${points.length}`);
console.log(`state: ${[...(await net.stateDict()).keys()].join(", ")}`);
