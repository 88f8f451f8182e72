/** Arguments of the library: converted if nothing is lost, else an error that names them. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as R from "@resnette/resnette";
import * as T from "@resnette/resnette/train";
import { initialValues } from "../../lib/graph/tensor.ts";

/** A call and what its error must say. */
type Refused = [call: () => unknown, ...parts: string[]];

/** Runs calls that must be refused. */
function refused(calls: readonly Refused[]): void {
  for (const [call, ...parts] of calls) {
    const error = assertThrows(call, Error, undefined, `${call}`);
    assert(error instanceof R.ArgumentError || error instanceof R.ShapeError, `${call}: ${error}`);
    for (const part of parts) assert(error.message.includes(part), `${call}: ${error.message}`);
  }
}

// deno-lint-ignore no-explicit-any -- what types would refuse, and a script may still pass
const any = (value: unknown): any => value;

Deno.test("tensor takes lists in lists to any depth, and has their shape", async () => {
  const x = R.tensor([[[1, 2], [3, 4], [5, 6]]]);
  assertEquals(x.shape, [1, 3, 2]);
  assertEquals([...await R.evaluate(x)], [1, 2, 3, 4, 5, 6]);
  assertEquals(R.tensor([[1, 2], [3, 4]]).shape, [2, 2]);
  assertEquals(R.tensor([[1, 2], [3, 4]], [4]).shape, [4]);
  assertEquals(R.tensor(any([new Float32Array(3), [1, 2, 3]])).shape, [2, 3]);
  assertEquals(R.tensor(7).shape, []);
  const itself: unknown[] = [];
  itself.push(itself);
  refused([
    [() => R.tensor([[1, 2], [3]]), "tensor:", "data[1]", "1 values", "2"],
    [() => R.tensor([1, [2]]), "tensor:", "data[1]", "numbers"],
    [() => R.tensor([[1], 2]), "tensor:", "data[1]", "a number"],
    [() => R.tensor([[], []]), "tensor:", "[2, 0]"],
    [() => R.tensor(any([1, "3"])), "tensor:", "data[1]", '"3"'],
    [() => R.tensor(any([1, , 3])), "tensor:", "data[1]", "undefined"],
    [() => R.tensor(any(true)), "tensor:", "true"],
    [() => R.tensor(any(null)), "tensor:", "null"],
    [() => R.tensor(any(itself)), "tensor:", "deep"],
    [() => R.tensor([1, 2, 3], [2]), "3 values", "[2]"],
    [() => R.tensor([1, 2], any("2")), "shape", '"2"'],
  ]);
});

Deno.test("typed arrays whose values an element type holds are taken, others named", async () => {
  const numbers = [0, 1, 127];
  for (const kind of [Float32Array, Int8Array, Int16Array, Uint16Array, Float16Array]) {
    const x = R.tensor(new kind(numbers));
    assertEquals([x.dtype, ...await R.evaluate(x)], ["f32", ...numbers]);
  }
  assertEquals(R.tensor(new Uint32Array(3)).dtype, "u32");
  assertEquals(R.tensor(new Uint8Array(3)).dtype, "u8");
  assertEquals(R.tensor(new Uint8ClampedArray(3)).dtype, "u8");
  refused([
    [() => R.tensor(new Int32Array(4)), "tensor:", "Int32Array of 4", "Uint32Array.from"],
    [() => R.tensor(new Float64Array(4)), "tensor:", "Float64Array of 4", "Float32Array.from"],
    [() => R.tensor(new BigInt64Array(4)), "tensor:", "BigInt64Array of 4"],
    [() => R.tensor(new DataView(new ArrayBuffer(4))), "tensor:", "DataView"],
  ]);
});

Deno.test("an array may be refilled once it is a tensor's or a variable's", async () => {
  const array = new Float32Array([1, 2]);
  const [x, w] = [R.tensor(array), new R.Variable([2], array)];
  array.fill(7);
  assertEquals((await R.evaluate([x, R.mul(w, 1)])).map((v) => [...v]), [[1, 2], [1, 2]]);
});

Deno.test("variables take lists of numbers, and name what is none", async () => {
  const [w] = await R.readVariables([new R.Parameter([2], [1, 2])]);
  assertEquals([...w!], [1, 2]);
  const v = new R.Variable([2]);
  R.setVariable(v, [3, 4]);
  assertEquals([...(await R.readVariables([v]))[0]!], [3, 4]);
  refused([
    [() => new R.Variable([2], any([1, "2"])), "variable:", "initial[1]", '"2"'],
    [() => new R.Variable([2], any(new Float64Array(2))), "variable:", "Float64Array"],
    [() => new R.Variable([2], [1]), "variable:", "1 values", "[2]"],
    [() => initialValues(new R.Variable([2], any(() => [1, 2]))), "variable:", "Float32Array"],
  ]);
});

Deno.test("an option that is not there is refused by name, by every function and layer", () => {
  const x = R.input("x", [1, 2, 5, 5]), w = R.input("w", [2, 2, 3, 3]), p = new R.Parameter([1]);
  const logits = R.input("logits", [2, 3]), labels = R.input("labels", [2], "u32");
  const option = (name: string, value: unknown = true) => any({ [name]: value });
  refused([
    [() => R.conv2d(x, w, undefined, option("dilations", 2)), "conv2d:", '"dilations"', "stride"],
    [() => R.conv2d(x, w, undefined, option("group", 2)), "conv2d:", '"group"', "groups"],
    [() => R.conv2d(x, w, undefined, option("padding", "full")), "conv2d: padding", '"full"'],
    [() => R.convTranspose2d(x, w, undefined, option("output_padding", 1)), "outputPadding"],
    [() => R.maxPool2d(x, any({ kernelSize: 2, ceil: true })), "maxPool2d:", '"ceil"', "ceilMode"],
    [() => R.maxPool2d(x, any({ kernelSize: 2, countIncludePad: true })), '"countIncludePad"'],
    [() => R.upsample(x, any({ size: 2, align_corners: true })), '"align_corners"', "alignCorners"],
    [() => R.avgPool2d(x, any({ kernel: 2 })), "avgPool2d:", '"kernel"', "kernelSize"],
    [() => R.sum(x, [0], option("keepdim")), "sum:", '"keepdim"', "keepDims"],
    [() => R.mean(x, [0], option("dtype")), "mean:", '"dtype"'],
    [() => R.matmul(x, x, option("transpose")), "matmul:", '"transpose"'],
    [() => R.crossEntropy(logits, labels, option("weights")), "crossEntropy:", '"weights"'],
    [() => new R.Conv2d(2, 2, any({ kernelSize: 3, group: 2 })), "Conv2d:", '"group"', "groups"],
    [() => new R.Conv2d(2, 3, { kernelSize: 3, groups: 2 }), "Conv2d:", "outChannels, 3"],
    [() => new R.ConvTranspose2d(2, 2, any({ kernelSize: 3, padding: "same" })), '"same"'],
    [() => new R.Linear(3, 2, option("Bias")), "Linear:", '"Bias"', "bias"],
    [() => new R.BatchNorm2d(8, option("track_running_stats")), "trackRunningStats"],
    [() => new R.MaxPool2d(any({ kernelSize: 2, dilation: 2 })), "MaxPool2d:", '"dilation"'],
    [() => new R.Residual(3, 3, option("bias")), "Residual:", '"bias"'],
    [() => new R.Bottleneck(4, 4, option("bias")), "Bottleneck:", '"bias"'],
    [() => R.resnetBlock(3, 3, 1, option("first")), "resnetBlock:", '"first"'],
    [() => R.resnet18(option("classes", 3)), "resnet18:", '"classes"', "numClasses"],
    [() => new R.SGD([p], option("foreach")), "SGD:", '"foreach"', "nesterov, maximize"],
    [() => new R.Adam([p], option("fused")), "Adam:", '"fused"', "amsgrad"],
    [() => new R.AdamW([p], option("fused")), "AdamW:", '"fused"', "amsgrad"],
    [() => new R.RMSprop([p], option("decay")), "RMSprop:", '"decay"', "alpha"],
    [() => new R.ReLU().train(any("no")), "train:", '"no"'],
    [() => new R.Linear(1, 1).loadStateDict(new Map(), option("assign")), '"assign"', "strict"],
  ]);
  assertEquals(new R.Linear(3, 2, { bias: false }).bias, undefined);
});

Deno.test("numbers and tensors of options and arguments are checked", () => {
  const x = R.input("x", [2, 3]), p = new R.Parameter([1]);
  refused([
    [() => R.add(x, any("1")), "add: b", '"1"'],
    [() => R.relu(any(3)), "relu:", "a tensor", "3"],
    [() => R.where(any([1]), 1, 0), "where:", "an array of 1"],
    [() => R.reshape(x, any(6)), "reshape: shape", "6"],
    [() => R.permute(x, any(undefined)), "permute: order", "undefined"],
    [() => R.sum(x, any(0)), "sum: axes", "0"],
    [() => R.sum(x, [NaN]), "sum: axes [NaN]"],
    [() => R.mean(x, [2]), "mean: axes [2]"],
    [() => R.input("x", any(3)), "input: shape", "3"],
    [() => R.input("x", [2 ** 40, 2 ** 40]), "input:", "counted"],
    [() => R.input("x", [2], any("f64")), "input: dtype", '"f64"'],
    [() => new R.Linear(0, 2), "Linear: inFeatures", "0"],
    [() => new R.Conv2d(1, 2.5, { kernelSize: 3 }), "Conv2d: outChannels", "2.5"],
    [() => new R.Conv2d(1, 2, any(undefined)), "Conv2d: options", "undefined"],
    [() => new R.BatchNorm2d(2, { eps: NaN }), "BatchNorm2d: eps", "NaN"],
    [() => new R.Adam([p], { betas: any([0.9]) }), "Adam: betas[1]", "undefined"],
    [() => new R.Adam([p], { betas: [0.9, 1] }), "Adam: betas[1]", "less than 1"],
    [() => new R.SGD([p], { lr: any("0.1") }), "SGD: lr", '"0.1"'],
    [() => new R.SGD([p, p]), "SGD: parameters[1]", "twice"],
    [() => R.grad(x, [x], R.tensor(1)), "grad:", "seed"],
    [() => R.oneHot(R.tensor(new Uint32Array(1)), 0), "oneHot: classes", "0"],
    [() => R.assign(any(x), x), "assign: target", "Variable"],
    [() => new R.Sequential(new R.ReLU(), any("relu")), "Sequential: layer 1", "relu"],
    [() => new R.Sequential(any(undefined)), "Sequential: layer 0", "undefined"],
  ]);
});

Deno.test("labels and indices are checked where they enter, also by a plan's run", async () => {
  const logits = R.tensor([[1, 2, 3], [1, 2, 3]]), records = R.tensor(new Uint8Array([5, 6]));
  const u32 = (...values: number[]) => R.tensor(new Uint32Array(values));
  refused([
    [() => R.crossEntropy(logits, u32(0, 3)), "crossEntropy: labels", "0 to 2, got 3 at index 1"],
    [() => R.correctCount(logits, u32(7, 0)), "correctCount: labels", "got 7 at index 0"],
    [() => R.oneHot(u32(4), 4), "oneHot:", "0 to 3, got 4 at index 0"],
    [() => R.gather(records, u32(0, 1, 2)), "gather:", "0 to 1, got 2 at index 2"],
  ]);
  const labels = R.input("labels", [2], "u32");
  using plan = await R.Plan.compile({ outputs: [R.crossEntropy(logits, labels)] });
  const message = 'input "labels" must be from 0 to 2, got 3 at index 1';
  assertThrows(() => plan.run({ labels: new Uint32Array([0, 3]) }), R.ArgumentError, message);
  plan.run({ labels: new Uint32Array([0, 2]) });
  const [loss] = await plan.read();
  assert(loss![0]! > 1 && loss![0]! < 2);
});

Deno.test("labels and indices that only the device knows give NaN, and never another record", async () => {
  const u8 = (...values: number[]) => R.tensor(new Uint8Array(values));
  const u32 = (...values: number[]) => R.tensor(new Uint32Array(values));
  const logits = new R.Variable([2, 3], [1, 2, 3, 1, 2, 3]);
  const labels = R.gather(u8(0, 3), u32(0, 1), "u32");
  for (const labelSmoothing of [0, 0.1]) {
    const loss = R.crossEntropy(logits, labels, { labelSmoothing });
    const [value, gradient] = await R.evaluate([loss, ...R.grad(loss, [logits])]);
    assertEquals([...value!], [NaN]);
    // The row of the label that is one has its gradient.
    assert(gradient!.subarray(0, 3).every(Number.isFinite));
    assertEquals([...gradient!.subarray(3)], [NaN, NaN, NaN]);
  }
  const far = R.gather(u8(0, 9), u32(0, 1), "u32");
  assertEquals([...await R.evaluate(R.gather(u8(5, 6, 7), far))], [5, NaN]);
  assertEquals([...await R.evaluate(R.gather(u8(5, 6, 7), far, "u32"))], [5, 2 ** 32 - 1]);
});

Deno.test("a state dict is taken whole or not at all, and may hold lists of numbers", async () => {
  const net = new R.Linear(2, 1);
  const values = async () => [...(await net.stateDict()).values()].map(({ data }) => [...data]);
  const before = await values();
  const state = (
    weight: unknown,
    bias: unknown,
  ): ReadonlyMap<string, { shape: number[]; data: number[] }> =>
    any(
      new Map([["weight", { shape: [1, 2], data: weight }], ["bias", { shape: [1], data: bias }]]),
    );
  refused([
    [() => net.loadStateDict(state([1, 2], new Float32Array(3))), "bias: 3 values for [1]"],
    [() => net.loadStateDict(state([1, 2], ["3"])), "loadStateDict: bias.data[0]", '"3"'],
    [() => net.loadStateDict(state([1, 2], undefined)), "loadStateDict: bias.data", "undefined"],
    [() => net.loadStateDict(any({ weight: 1 })), "loadStateDict: state", "Map"],
  ]);
  assertEquals(await values(), before);
  net.loadStateDict(state([1, 2], [3]));
  assertEquals(await values(), [[1, 2], [3]]);
});

Deno.test("what the door's fuzzer found silently wrong is right, or refused", async () => {
  const scalar = new R.Variable([], [-1]);
  assertEquals([...(await R.readVariables([scalar]))[0]!], [-1]);
  const labels = R.tensor(new Uint32Array([7]), [1]);
  assertEquals([...await R.evaluate(R.broadcastTo(labels, [2, 4]))], new Array(8).fill(7));
  const x = R.input("x", [1, 1, 4, 4]), p = new R.Parameter([2]);
  refused([
    [() => R.sum(x, [0], any(new Map([["keepDims", true]]))), "sum: options", "a Map"],
    [() => R.avgPool2d(x, any({ kernelSize: 2, stride: null })), "avgPool2d: stride", "null"],
    [() => R.maxPool2d(x, { kernelSize: 2, stride: 2 ** 32 }), "maxPool2d: stride", "4294967296"],
    [() => R.tensor([1, 2], any(null)), "tensor: shape", "null"],
    [() => R.resizeBilinear(R.tensor([0.5], [1, 1, 1, 1]), 2), "resizeBilinear: x", "0.5"],
    [() => R.resizeBilinear(x, 2 ** 20), "resizeBilinear:", "32768 pixels"],
    [() => R.softmax(labels), "softmax: x must be f32"],
    [() => new R.BatchNorm2d(2 ** 32), "BatchNorm2d:", "4294967296"],
    [() => R.resnetBlock(4, 4, 2 ** 31), "resnetBlock: numResiduals", "2147483648"],
    [() => new R.SGD([p]).updates([R.tensor([1, 2, 3])]), "SGD: grads[0]", "[3]", "[2]"],
    [() => T.learningRate(any({ ...T.trainConfig(), schedule: "x" }), 0, 1), "config.schedule"],
    [() => T.confusionMatrix([0], [0], 2 ** 31), "confusionMatrix: classes", "2147483648"],
    [() => R.manualSeed(-1), "manualSeed: seed", "-1"],
  ]);
});
