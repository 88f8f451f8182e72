/** Every op against PyTorch in double precision: forward and the gradients of sum(y * g). */

import { assert } from "@std/assert";
import * as R from "@resnette/resnette";
import {
  adaptiveAvgPool2d,
  avgPool2d,
  batchNorm,
  conv2d,
  convTranspose2d,
  correctCount,
  cropFlip,
  crossEntropy,
  evaluate,
  globalAvgPool2d,
  grad,
  linear,
  logSoftmax,
  matmul,
  maxPool2d,
  mean,
  normalize,
  permute,
  type PoolOptions,
  reshape,
  sum,
  type Tensor,
  tensor,
} from "@resnette/resnette";
import { readFixture } from "../fixture.ts";

interface Case {
  readonly name: string;
  readonly op: string;
  // deno-lint-ignore no-explicit-any -- attributes differ from op to op
  readonly attrs: any;
  readonly inputs: number;
  readonly grads: readonly number[];
}

/** How ops of the fixture are called, where it is not with tensors or a tensor and settings. */
const CALLS: Record<string, (x: readonly Tensor[], attrs: Case["attrs"]) => Tensor> = {
  sum: ([x], { axes, keepDims }) => sum(x!, axes, { keepDims }),
  mean: ([x], { axes, keepDims }) => mean(x!, axes, { keepDims }),
  matmul: ([a, b], attrs) => matmul(a!, b!, attrs),
  linear: ([x, w, b]) => linear(x!, w!, b),
  reshape: ([x], { shape }) => reshape(x!, shape),
  permute: ([x], { order }) => permute(x!, order),
  conv2d: ([x, w, b], attrs) => conv2d(x!, w!, b, attrs),
  convTranspose2d: ([x, w, b], attrs) => convTranspose2d(x!, w!, b, attrs),
  batchNorm: ([x, gamma, beta], { eps }) => batchNorm(x!, gamma!, beta!, eps).y,
  batchNormEval: ([x, gamma, beta, m, v], { eps }) => normalize(x!, m!, v!, gamma!, beta!, eps),
  maxPool2d: ([x], attrs: PoolOptions) => maxPool2d(x!, attrs),
  avgPool2d: ([x], attrs: PoolOptions) => avgPool2d(x!, attrs),
  adaptiveAvgPool2d: ([x], { outputSize }) => adaptiveAvgPool2d(x!, outputSize),
  globalAvgPool2d: ([x]) => globalAvgPool2d(x!),
  crossEntropy: ([x, labels, weight], attrs) => crossEntropy(x!, labels!, { ...attrs, weight }),
  logSoftmax: ([x]) => logSoftmax(x!),
  correctCount: ([x, labels]) => correctCount(x!, labels!),
  layerNorm: ([x, weight, bias]) => R.layerNorm(x!, [6, 5], { weight, bias }),
  groupNorm: ([x, weight, bias]) => R.groupNorm(x!, 3, { weight, bias }),
  cropFlip: ([x, draws], { padding }) => cropFlip(x!, draws!, padding),
};

/** Largest difference, relative to the largest expected value. */
function worst(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert(actual.length === expected.length, `${actual.length} values for ${expected.length}`);
  let difference = 0, scale = 0;
  for (let i = 0; i < expected.length; i++) {
    const d = Math.abs(actual[i]! - expected[i]!);
    difference = Math.max(difference, Number.isNaN(d) ? Infinity : d);
    scale = Math.max(scale, Math.abs(expected[i]!));
  }
  return difference / Math.max(scale, 1e-30);
}

Deno.test("every op and its gradients agree with PyTorch", async (t) => {
  const { tensors, metadata } = await readFixture("ops.safetensors");
  const cases: Case[] = JSON.parse(metadata["cases"]!);
  assert(cases.length > 200, `only ${cases.length} cases`);
  /** By op, the worst of its cases. */
  const byOp = new Map<string, number>();
  for (const { name, op, attrs, inputs, grads } of cases) {
    await t.step(name, async () => {
      const values = (key: string) => tensors.get(`${name}/${key}`)!;
      const x = Array.from({ length: inputs }, (_, i) => values(`x${i}`).tensor());
      const { args, listed } = attrs;
      const call = args
        ? (x: readonly Tensor[]) =>
          Reflect.get(R, op)(...listed ? [x] : x, ...args.map((arg: unknown) => arg ?? undefined))
        : CALLS[op] ?? (([a, b]) => Reflect.get(R, op)(a, b ?? attrs));
      const y = call(x, attrs);
      const wrt = grads.map((i) => x[i]!);
      const found = await evaluate([y, ...grads.length ? grad(y, wrt, values("g").tensor()) : []]);
      const scores = [
        ["y", worst(found[0]!, values("y").data)] as const,
        ...grads.map((i, k) => [`dx${i}`, worst(found[k + 1]!, values(`dx${i}`).data)] as const),
      ];
      // A mean far from zero costs digits in any single-precision batch norm, PyTorch's too.
      const bound = name.includes("offset") ? 3e-4 : 2e-5;
      for (const [what, score] of scores) {
        assert(score < bound, `${name}: ${what} is off by ${score}`);
        byOp.set(op, Math.max(score, byOp.get(op) ?? 0));
      }
    });
  }
  const lines = [...byOp].sort(([, a], [, b]) => b - a).map(([op, off]) =>
    `${op} ${off.toExponential(1)}`
  );
  console.log(`worst errors: ${lines.join(", ")}`);
});

void tensor;
