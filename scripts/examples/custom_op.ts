/**
 * Ops of your own: one as an expression, one as a kernel in WGSL. The gradient of each is written
 * in terms of other ops, and compared with finite differences.
 *
 *     deno run scripts/examples/custom_op.ts
 */

import * as r from "@resnette/resnette";

/** `x / (1 + e⁻ˣ)`, elementwise; any shape. */
function silu(x: r.Tensor): r.Tensor {
  return r.apply(Silu, [x], {});
}

const Silu: r.Op = {
  name: "silu",
  shape: ([x]) => x!.shape,
  // `T` is f32 or vec4f. The planner puts an expression into the kernels around it.
  expression: () => "a / (T(1.0) + exp(-a))",
  // y' = s + y (1 - s), where s = 1 / (1 + e⁻ˣ).
  vjp: (g, y, [x]) => {
    const s = r.div(1, r.add(1, r.exp(r.neg(x!))));
    return [r.mul(g, r.add(s, r.mul(y, r.sub(1, s))))];
  },
};

/** Sums of the first 1, 2, … values of each row `[…, n]`, or of the last ones if `reverse`. */
function cumsum(x: r.Tensor, reverse = false): r.Tensor {
  if (x.rank < 1) throw new r.ShapeError(`cumsum: needs at least one dimension, got ${x}`);
  return r.apply(Cumsum, [x], { reverse });
}

const Cumsum: r.Op<{ reverse: boolean }> = {
  name: "cumsum",
  shape: ([x]) => x!.shape,
  // Thread `i` computes row `i`. Sizes come in `z`, so any shape uses the same pipeline.
  kernels: ({ size, shape }, target, { reverse }) => {
    const length = shape.at(-1)!;
    return [r.perThread(
      r.arrays({ x: "f32", y: "f32" }),
      size / length,
      target,
      `  var sum = 0.0;
  for (var k = 0u; k < z.length; k++) {
    let at = i * z.length + ${reverse ? "z.length - 1u - k" : "k"};
    sum += x[at];
    y[at] = sum;
  }`,
      { sizes: { length } },
    )];
  },
  vjp: (g, _y, _inputs, { reverse }) => [cumsum(g, !reverse)],
};

/** The largest difference between the gradient of `op` at random values and central differences. */
async function gradientError(op: (x: r.Tensor) => r.Tensor, shape: r.Shape): Promise<number> {
  const random = new r.Random(0), h = 2 ** -5;
  const x = r.input("x", shape), values = random.normal(new Float32Array(x.size));
  const y = op(x), weights = r.tensor(random.normal(new Float32Array(y.size)), y.shape);
  const loss = r.sum(r.mul(y, weights));
  using plan = await r.Plan.compile({ outputs: [loss, ...r.grad(loss, [x])] });
  const run = async (x: Float32Array<ArrayBuffer>) => {
    plan.run({ x });
    return await plan.read();
  };
  const [, gradient] = await run(values);
  let error = 0;
  for (let i = 0; i < x.size; i++) {
    const [[above], [below]] = [
      await run(values.with(i, values[i]! + h)),
      await run(values.with(i, values[i]! - h)),
    ];
    error = Math.max(error, Math.abs((above![0]! - below![0]!) / (2 * h) - gradient![i]!));
  }
  return error;
}

console.log("silu", await r.evaluate(silu(r.tensor([-1, 0, 1, 2]))));
console.log("cumsum", await r.evaluate(cumsum(r.tensor([[1, 2, 3], [4, 5, 6]]))));
for (const op of [silu, cumsum]) {
  const error = await gradientError(op, [3, 5]);
  console.log(`${op.name}: gradient and finite differences differ by ${error.toExponential(1)}`);
}
