/**
 * What kernels of products, convolutions and pools do with their results before they store them, and
 * with their input as they load it.
 */

import { assert, assertEquals } from "@std/assert";
import {
  add,
  avgPool2d,
  conv2d,
  Device,
  grad,
  input,
  linear,
  matmul,
  maxPool2d,
  mul,
  permute,
  Plan,
  Random,
  relu,
  reshape,
  sub,
  sum,
  type Tensor,
  tensor,
  type TensorData,
} from "@resnette/resnette";
import { CHOICES } from "../../lib/kernels/choice.ts";
import { stepsOf } from "../../lib/plan/steps.ts";

const random = new Random(3);
const some = (shape: readonly number[]) => {
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(random.uniform(new Float32Array(size), -1, 1), [...shape]);
};
/** Images that lie in memory with their channels last, as convolutions take and give them. */
const images = ([n, c, h, w]: readonly number[]) => permute(some([n!, h!, w!, c!]), [0, 3, 1, 2]);

/** x `[N, C, H, W]`, w `[O, C / groups, R, S]`, and options, with and without whole vectors. */
const CONVOLUTIONS: [number[], number[], Parameters<typeof conv2d>[3]][] = [
  [[2, 4, 7, 6], [8, 4, 3, 3], { padding: 1 }],
  [[1, 64, 5, 5], [64, 64, 3, 3], { padding: 1 }],
  [[1, 64, 9, 8], [32, 64, 3, 3], { padding: 0 }],
  [[3, 8, 5, 6], [68, 8, 1, 1], {}],
  [[5, 8, 6, 7], [20, 8, 3, 3], { stride: [2, 1], padding: 1 }],
  [[1, 3, 9, 8], [5, 3, 3, 2], { stride: 2 }],
  [[2, 16, 7, 6], [40, 8, 3, 3], { groups: 2, padding: 1 }],
  [[2, 8, 9, 11], [8, 1, 3, 3], { groups: 8, padding: 1 }],
  [[1, 5, 8, 9], [5, 1, 3, 4], { groups: 5, stride: 3, padding: 2 }],
];

/** Results of kernels that finish, by name; those of pools are the same for all devices. */
function results(withPools: boolean): [string, Tensor][] {
  const all: [string, Tensor][] = CONVOLUTIONS.flatMap(([x, w, options]) => {
    const source = images(x), kernel = some(w);
    const y = conv2d(source, kernel, undefined, options), name = `${x} ${w}`;
    const [dx] = grad(sum(mul(y, images(y.shape))), [source]);
    return [[`conv2d ${name}`, y], [`gradient ${name}`, dx!]];
  });
  for (const pool of withPools ? [maxPool2d, avgPool2d] : []) {
    for (const c of [8, 5]) {
      const x = images([2, c, 9, 8]), y = pool(x, { kernelSize: 3, stride: 2, padding: 1 });
      const [dx] = grad(sum(mul(y, images(y.shape))), [x]);
      all.push([`${pool.name} ${c}`, y], [`${pool.name} gradient ${c}`, dx!]);
    }
  }
  return [
    ...all,
    ["matmul", matmul(some([70, 12]), some([12, 68]))],
    ["matmul of odd sizes", matmul(some([7, 9]), some([9, 5]))],
    ["matmul of three", matmul(some([3, 5, 8]), some([3, 8, 12]))],
    ["linear of rows of rows", linear(some([2, 9, 12]), some([20, 12]))],
  ];
}

/** `relu((h - m) · s + b) + 0.5 h r`, where m, s and b are vectors of channels, and r has h's shape. */
function finishing(h: Tensor, isImage: boolean): { y: Tensor; operands: Tensor[] } {
  const c = h.shape[isImage ? 1 : h.rank - 1]!;
  const [m, s, b] = [some([c]), some([c]), some([c])] as const,
    r = isImage ? images(h.shape) : some(h.shape);
  const along = (x: Tensor) => isImage ? reshape(x, [c, 1, 1]) : x;
  const scaled = add(mul(sub(h, along(m)), along(s)), along(b));
  return { y: add(relu(scaled), mul(mul(h, 0.5), r)), operands: [m, s, b, r] };
}

// What is chosen where nothing is forced is one of the others.
for (const choice of CHOICES.slice(1)) {
  Deno.test(`${choice}: results are finished in the kernel, to what they are otherwise`, async () => {
    using device = await Device.request({ choice });
    for (const [name, h] of results(choice === "naive")) {
      const { y, operands } = finishing(h, h.rank === 4);
      const plain = await values([h, ...operands], device);
      const [[found], names] = await run([y], device);
      const [x, m, s, b, r] = plain as [Float32Array, ...Float32Array[]] as Float32Array[];
      const c = m!.length, each = h.rank === 4 ? h.shape[2]! * h.shape[3]! : 1;
      const expected = x!.map((v, i) => {
        const k = Math.floor(i / each) % c;
        return Math.max(0, (v - m![k]!) * s![k]! + b![k]!) + 0.5 * v * r![i]!;
      });
      const scale = expected.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      expected.forEach((v, i) =>
        assert(Math.abs(v - found![i]!) <= 1e-6 * scale, `${name}: ${found![i]} at ${i}, not ${v}`)
      );
      // Of a sum that is taken in parts, none is a result yet.
      assertEquals(
        names.filter((x) => x.includes(" + ")).length,
        names.includes("partialConv2d") ? 0 : 1,
        `${name}: ${names}`,
      );
    }
  });
}

/** `relu((h - m) · s) + r`, where m and s are vectors of channels, and r has h's shape. */
function beginning(shape: readonly number[]): Tensor {
  const c = shape[1]!, [m, s] = [some([c, 1, 1]), some([c, 1, 1])];
  return add(relu(mul(sub(images(shape), m), s)), mul(images(shape), 0.5));
}

/** Asserts that some results are equal but for rounding. */
function assertClose(found: readonly TensorData[], expected: readonly TensorData[]): void {
  expected.forEach((values, k) => {
    const numbers = [...values],
      scale = numbers.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
    numbers.forEach((v, i) => {
      const other = found[k]![i]!;
      assert(Math.abs(v - other) <= 2e-6 * scale, `${k}: ${other} at ${i}, not ${v}`);
    });
  });
}

Deno.test("max pools, with what their gradients need, compute their input as they load it", async () => {
  using device = await Device.request();
  for (const c of [8, 5]) {
    const h = beginning([2, c, 9, 8]), y = maxPool2d(h, { kernelSize: 3, stride: 2, padding: 1 });
    const [dh] = grad(sum(mul(y, images(y.shape))), [h]);
    const [found, names] = await run([y, dh!], device);
    const both = names.filter((x) => /^maxPool2d\(add\(relu.*\) \+ maxPool2dTaps$/.test(x));
    assertEquals(both.length, 1, `${names}`);
    // What is asked for is stored, and read.
    const [[_, ...expected], others] = await run([h, y, dh!], device);
    assert(others.includes("maxPool2d + maxPool2dTaps"), `${others}`);
    assertClose(found, expected);
  }
});

Deno.test("Winograd's transforms compute their input as they load it, in all passes", async () => {
  for (const m of [2, 3]) {
    const kinds = ["forward", "inputGrad", "weightGrad"];
    const key = "2x7x9x8 3x3x8x8 stride 1x1 padding 1x1";
    const tuned = new Map(kinds.map((kind) => [`${kind} ${key}`, `winograd ${m}`]));
    using device = await Device.request({ tuned });
    const h = beginning([2, 8, 7, 9]), w = some([8, 8, 3, 3]);
    const y = conv2d(h, w, undefined, { padding: 1 });
    const g = beginning(y.shape), gradients = grad(y, [h, w], g) as Tensor[];
    const [found, names] = await run([y, ...gradients], device);
    const started = names.filter((x) => /^winograd(Input|OutputGrad)\(add\(relu/.test(x));
    assertEquals(started.length, 2, `${names}`);
    const [[_h, _g, ...expected], others] = await run([h, g, y, ...gradients], device);
    assert(others.includes("winogradInput") && others.includes("winogradOutputGrad"), `${others}`);
    assertClose(found, expected);
  }
});

Deno.test("depthwise convolutions and their gradients compute what they convolve", async () => {
  for (const [choice, c] of [["auto", 8], ["naive", 5]] as const) {
    using device = await Device.request({ choice });
    const h = beginning([2, c, 9, 11]), w = some([c, 1, 3, 3]);
    const y = conv2d(h, w, undefined, { groups: c, padding: 1, stride: [1, 2] });
    const gradients = grad(y, [h, w], images(y.shape)) as Tensor[];
    const [found, names] = await run([y, ...gradients], device);
    const started = names.filter((x) => /^depthwise(WeightGrad)?\(add\(relu/.test(x));
    assertEquals(started.length, 2, `${names}`);
    const [[_, ...expected], others] = await run([h, y, ...gradients], device);
    assert(others.includes("depthwise") && others.includes("depthwiseWeightGrad"), `${others}`);
    assertClose(found, expected);
  }
});

Deno.test("a kernel that is needed as it is elsewhere computes no input", () => {
  const pool = (x: Tensor) => maxPool2d(x, { kernelSize: 2 });
  const x = permute(input("x", [2, 8, 6, 4]), [0, 3, 1, 2]), h = relu(add(x, 1));
  const starts = (outputs: Tensor[], ...limits: number[]) =>
    planned(outputs, ...limits).filter(({ name }) => name.startsWith("maxPool2d(")).length;
  assertEquals(starts([pool(h)]), 1);
  assertEquals(starts([pool(h), pool(relu(add(x, 2)))]), 2);
  assertEquals(starts([pool(h), pool(x)]), 0);
  assertEquals(starts([pool(h), pool(x)], 8, 32), 1); // A GPU's driver compiles quickly.
  assertEquals(starts([pool(h), h]), 0);
  // Nor where an operand is read in another way, or there are too many.
  const some = (name: string, shape: number[]) => permute(input(name, shape), [0, 3, 1, 2]);
  assertEquals(starts([pool(mul(x, some("s", [2, 1, 1, 4])))]), 0);
  assertEquals(starts([pool(mul(x, some("s", [1, 1, 1, 4])))]), 1);
  const many = ["a", "b", "c"].map((name) => some(name, [2, 8, 6, 4])).reduce(add, x);
  assertEquals([starts([pool(many)]), starts([pool(many)], 3)], [1, 0]);
  // A convolution finishes with what only a pool reads.
  const y = conv2d(x, input("w", [8, 4, 3, 3]));
  assertEquals(starts([pool(relu(y))]), 0);
});

async function run(outputs: Tensor[], device: Device) {
  using plan = await Plan.compile({ outputs, device });
  plan.run();
  return [await plan.read(), plan.steps.map(({ name }) => name)] as const;
}
const values = async (outputs: Tensor[], device: Device) => (await run(outputs, device))[0];

/** The names of the steps of `outputs` where a kernel binds so many buffers at most. */
/** The steps on a software adapter; with subgroups of 32, on a GPU. */
const planned = (outputs: Tensor[], maxStorageBuffers = 8, subgroupSize = 8) =>
  stepsOf(outputs, [], {
    ...{ choice: "naive", subgroupSize, subgroupsDirective: false },
    ...{ maxStorageBuffers, maxWorkgroups: 65535, maxBindingBytes: 2 ** 27 },
  }).steps;
const names = (...of: Parameters<typeof planned>) => planned(...of).map(({ name }) => name);

const a = input("a", [6, 4]), b = input("b", [4, 8]), h = matmul(a, b);
const bias = input("bias", [8]), x = input("x", [6, 8]);

Deno.test("a result that others need is stored as it is", () => {
  assertEquals(names([relu(h)]), ["matmul + relu"]);
  assertEquals(names([relu(h), h]), ["matmul", "relu"]);
  assertEquals(names([relu(h), sum(h)]), ["matmul", "relu", "sum"]);
  assertEquals(names([relu(h), matmul(h, input("c", [8, 2]))]), ["matmul", "relu", "matmul"]);
  const twins = [relu(h), matmul(input("c", [6, 4]), input("d", [4, 8]))];
  assertEquals(names(twins), ["matmul", "relu", "matmul"]);
  assertEquals(names(twins, 8, 32), ["matmul + relu", "matmul"]);
});

Deno.test("of two that one node reads, one kernel finishes with it", () => {
  const other = matmul(input("d", [6, 2]), input("e", [2, 8]));
  assertEquals(names([relu(add(h, other))]), ["matmul", "matmul + relu(add)"]);
  // What is finished is read by the next one as any other tensor.
  const next = matmul(relu(add(h, bias)), input("f", [8, 8]));
  assertEquals(names([add(next, x)]), ["matmul + relu(add)", "matmul + add"]);
});

Deno.test("operands are of the result's shape, vectors of its columns, or numbers", () => {
  assertEquals(names([add(mul(h, x), add(bias, input("n", [])))]), ["add", "matmul + add(mul)"]);
  assertEquals(names([reshape(add(reshape(h, [2, 3, 8]), bias), [48])]), ["matmul + add"]);
  for (const other of [input("column", [6, 1]), permute(input("t", [8, 6]), [1, 0])]) {
    assertEquals(names([add(h, other)]), ["matmul", "add"]);
  }
  // Rows of another length, as of all columns in one.
  assertEquals(names([add(reshape(h, [4, 12]), input("r", [12]))]), ["matmul", "add"]);
});

Deno.test("kernels that finish bind no more buffers than they may", () => {
  const y = relu(add(mul(h, x), bias));
  for (const most of [3, 4, 5, 6]) {
    const steps = planned([y], most);
    assertEquals(steps.length, [3, 2, 1, 1][most - 3]);
    assert(steps.every(({ spec }) => spec.bindings.length <= most));
  }
});

Deno.test("a constant with another value compiles nothing again", () => {
  const [two, three] = [2, 3].map((k) => planned([mul(h, k)])[0]!.spec);
  assertEquals(two!.body, three!.body);
  assertEquals([two!.numbers, three!.numbers], [{ k0: 2 }, { k0: 3 }]);
});
