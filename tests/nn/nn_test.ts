/** Layers and models: initial values, names, state dicts, modes. */

import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import {
  Adam,
  add,
  ArgumentError,
  BatchNorm1d,
  BatchNorm2d,
  collectUpdates,
  Conv2d,
  ConvTranspose2d,
  crossEntropy,
  decodeStateDict,
  Dropout,
  encodeOnnx,
  encodeStateDict,
  evaluate,
  Flatten,
  GlobalAvgPool2d,
  grad,
  input,
  Linear,
  manualSeed,
  MaxPool2d,
  Module,
  ModuleList,
  mul,
  neg,
  Parameter,
  Plan,
  Random,
  readVariables,
  ReLU,
  relu,
  resnet18,
  resnetBlock,
  Sequential,
  setVariable,
  SGD,
  ShapeError,
  sum,
  summarize,
  type Tensor,
  tensor,
  UnsavedBuffer,
} from "@resnette/resnette";
import { evaluateAccuracy, predict } from "@resnette/resnette/train";
import { training } from "../../lib/nn/module.ts";
import { displayOf } from "../display.ts";
import { readFixture } from "../fixture.ts";

const size = (variables: readonly { size: number }[]) =>
  variables.reduce((sum, variable) => sum + variable.size, 0);

Deno.test("ResNet-18 has the notebook's children, parameters and state-dict keys", async () => {
  const net = resnet18();
  const { metadata } = await readFixture("resnet18.safetensors");
  const expected: [string, number[]][] = JSON.parse(metadata["state_dict"]!);
  assertEquals(net.namedVariables().map(([key, { shape }]) => [key, [...shape]]), expected);
  assertEquals(
    net.namedChildren().map(([name]) => name).join(" "),
    "0 1 2 3 resnet_block1 resnet_block2 resnet_block3 resnet_block4 global_avg_pool fc",
  );
  assertEquals(size(net.parameters()), 11_178_378);
  const buffers = net.namedVariables().filter(([key, v]) =>
    !(v instanceof Parameter) && !key.endsWith("num_batches_tracked")
  );
  assertEquals(size(buffers.map(([, v]) => v)), 7_808);
});

Deno.test("the first block keeps its channels, or says why it cannot", () => {
  assertThrows(
    () => resnetBlock(64, 128, 2, { firstBlock: true }),
    Error,
    "the first block keeps its channels, got 64 in and 128 out",
  );
});

Deno.test("layers draw PyTorch's default initial values, and the seed decides them", async () => {
  const draw = async (seed: number) => {
    manualSeed(seed);
    const net = new Sequential(
      new Conv2d(3, 16, { kernelSize: 5 }),
      new Linear(10, 1000),
      new Conv2d(12, 16, { kernelSize: 3, groups: 4 }),
      new ConvTranspose2d(16, 12, { kernelSize: [3, 5], groups: 2 }),
    );
    return await net.stateDict();
  };
  const [a, same, other] = [await draw(3), await draw(3), await draw(4)];
  assertEquals(a, same);
  assertNotEquals(a.get("0.weight"), other.get("0.weight"));
  const fans = { "0.weight": 75, "0.bias": 75, "1.weight": 10, "2.weight": 27, "3.weight": 90 };
  assertEquals([a.get("2.weight")!.shape, a.get("3.weight")!.shape], [[16, 3, 3, 3], [
    16,
    6,
    3,
    5,
  ]]);
  for (const [key, fanIn] of Object.entries(fans)) {
    const { data } = a.get(key)!, bound = 1 / Math.sqrt(fanIn);
    assert(data.every((v) => Math.abs(v) <= Math.fround(bound)), key);
    assert(Math.max(...data) > 0.5 * bound && Math.min(...data) < -0.5 * bound, key);
  }
  const deviation = Math.hypot(...a.get("1.weight")!.data) / 100;
  assert(Math.abs(deviation * Math.sqrt(30) - 1) < 0.03, `standard deviation ${deviation}`);
});

Deno.test("initial values do not depend on when they are needed, nor on layers made later", async () => {
  const make = () => {
    manualSeed(3);
    return [new Conv2d(2, 4, { kernelSize: 3 }), new Linear(5, 4)] as const;
  };
  const [conv, linear] = make();
  const inOrder = await readVariables([conv.weight, conv.bias!, linear.weight, linear.bias!]);
  const [conv2, linear2] = make();
  new Linear(100, 100);
  const [bias, weight] = await readVariables([linear2.bias!, linear2.weight]);
  await evaluate(neg(conv2.bias!));
  const [first, second] = await readVariables([conv2.weight, conv2.bias!]);
  assertEquals([first, second, weight, bias], inOrder);
  // No two parameters are drawn from the same numbers.
  const scaled = inOrder.flatMap((values, i) =>
    [...values].map((v) => v * Math.sqrt(i < 2 ? 18 : 5))
  );
  assertEquals(new Set(scaled.map((v) => v.toFixed(5))).size, scaled.length);
});

Deno.test("batch norm starts as the identity, and follows batches only in training", async () => {
  const norm = new BatchNorm2d(3);
  const values = [...await norm.stateDict()].map(([key, { data }]) => [key, [...data]]);
  assertEquals(values, [
    ["weight", [1, 1, 1]],
    ["bias", [0, 0, 0]],
    ["running_mean", [0, 0, 0]],
    ["running_var", [1, 1, 1]],
    ["num_batches_tracked", [0]],
  ]);
  const x = tensor(Float32Array.from({ length: 24 }, (_, i) => i), [2, 3, 4]);
  const training = collectUpdates(() => norm.call(x));
  assertEquals(training.updates.length, 3);
  const evaluation = collectUpdates(() => norm.eval().call(x));
  assertEquals(evaluation.updates.length, 0);
  const [trained, plain] = await evaluate([training.result, evaluation.result]);
  assert(plain!.every((v, i) => Math.abs(v - i) < 1e-4 * Math.max(i, 1)), `${plain}`);
  const mean = [...trained!].reduce((a, b) => a + b) / 24;
  const square = [...trained!].reduce((a, b) => a + b * b, 0) / 24;
  assert(Math.abs(mean) < 1e-6 && Math.abs(square - 1) < 1e-4, `mean ${mean}, square ${square}`);
});

Deno.test("loadStateDict lists what is missing, unexpected and misshapen, and changes nothing", async () => {
  const net = new Sequential(new BatchNorm2d(2), new Linear(2, 3));
  const before = await net.stateDict();
  const given = new Map(await new Sequential(new BatchNorm2d(2), new Linear(2, 4)).stateDict());
  given.set("extra", { shape: [1], data: new Float32Array(1) });
  given.delete("0.running_var");
  const error = assertThrows(() => net.loadStateDict(given), Error);
  for (
    const part of [
      "missing: 0.running_var",
      "unexpected: extra",
      "1.weight: [4, 2] where the model has [3, 2]",
      "1.bias: [4] where the model has [3]",
    ]
  ) assert(error.message.includes(part), error.message);
  assertEquals(await net.stateDict(), before);
  given.delete("1.weight");
  given.delete("1.bias");
  given.set("0.weight", { shape: [2], data: new Float32Array([5, 6]) });
  assertEquals(net.loadStateDict(given, { strict: false }), {
    loaded: ["0.weight", "0.bias", "0.running_mean", "0.num_batches_tracked"],
    missing: ["0.running_var", "1.weight", "1.bias"],
    unexpected: ["extra"],
    mismatched: new Map(),
  });
  assertEquals([...(await net.stateDict()).get("0.weight")!.data], [5, 6]);
});

Deno.test("what fits of a state dict is taken over: parameters and buffers, and nothing else", async () => {
  manualSeed(1);
  const net = new Sequential(new BatchNorm2d(2), new Linear(2, 3), new Linear(3, 3));
  const before = await net.stateDict();
  manualSeed(2);
  const other = new Sequential(new BatchNorm2d(2), new Linear(2, 4), new Linear(3, 3));
  const given = await other.stateDict();
  given.set("0.running_mean", { shape: [2], data: new Float32Array([5, 6]) });
  given.set("extra", { shape: [1], data: new Float32Array(1) });
  given.delete("2.bias");
  const wrong = [
    [{ strict: false }, "of another shape: 1.weight: [4, 2] where the model has [3, 2]"],
    [{ ignoreMismatchedSizes: true }, "missing: 2.bias; unexpected: extra"],
  ] as const;
  for (const [options, message] of wrong) {
    assertThrows(() => net.loadStateDict(given, options), ArgumentError, message);
  }
  const options = { strict: false, ignoreMismatchedSizes: true };
  const broken = new Map(given).set("2.weight", { shape: [3, 3], data: new Float32Array(8) });
  assertThrows(() => net.loadStateDict(broken, options), ArgumentError, "2.weight: 8 values for");
  assertEquals(await net.stateDict(), before);
  const { loaded, missing, unexpected, mismatched } = net.loadStateDict(given, options);
  assertEquals([missing, unexpected], [["2.bias"], ["extra"]]);
  assertEquals([...mismatched.keys()], ["1.weight", "1.bias"]);
  assertEquals(mismatched.get("1.weight"), { given: [4, 2], own: [3, 2] });
  assertEquals(mismatched.get("1.bias"), { given: [4], own: [3] });
  const left = [...missing, ...mismatched.keys()];
  assertEquals(loaded, [...before.keys()].filter((key) => !left.includes(key)));
  for (const [key, { data }] of await net.stateDict()) {
    assertEquals(data, (left.includes(key) ? before : given).get(key)!.data, key);
  }
});

Deno.test("weights from before there was num_batches_tracked are loaded, as in PyTorch", async () => {
  const net = new Sequential(new BatchNorm2d(2));
  const old = await new Sequential(new BatchNorm2d(2)).stateDict();
  old.delete("0.num_batches_tracked");
  old.set("0.running_mean", { shape: [2], data: new Float32Array([5, 6]) });
  setVariable(net.namedVariables().at(-1)![1], new Float32Array([3]));
  const keys = ["0.weight", "0.bias", "0.running_mean", "0.running_var"];
  const others = { missing: [], unexpected: [], mismatched: new Map() };
  assertEquals(net.loadStateDict(old), { loaded: keys, ...others });
  const state = await net.stateDict();
  assertEquals([...state.get("0.running_mean")!.data], [5, 6]);
  assertEquals([...state.get("0.num_batches_tracked")!.data], [3]);
  old.delete("0.running_var");
  assertThrows(() => net.loadStateDict(old), ArgumentError, "missing: 0.running_var");
});

Deno.test("what DataParallel and torch.compile put before all keys is left off", async () => {
  const net = new Sequential(new Linear(2, 1)),
    state = await new Sequential(new Linear(2, 1)).stateDict();
  const named = (prefix: string, of = state) =>
    new Map([...of].map(([key, value]) => [prefix + key, value]));
  for (const prefix of ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", ""]) {
    assertEquals(net.loadStateDict(named(prefix)).loaded, ["0.weight", "0.bias"]);
  }
  assertEquals(await net.stateDict(), state);
  const one = named("module.").set("0.bias", state.get("0.bias")!);
  for (const given of [one, named("modules."), named("module.x.")]) {
    assertThrows(() => net.loadStateDict(given), ArgumentError, "missing: 0.weight");
  }
  // A net that has a child of that name.
  const wrapper = new Sequential().add(net, "module"), own = await wrapper.stateDict();
  assertEquals([...own.keys()], ["module.0.weight", "module.0.bias"]);
  for (const given of [own, named("module.", own)]) {
    assertEquals(wrapper.loadStateDict(given).loaded, [...own.keys()]);
  }
});

/** A net with a batch norm and a dropout in each of two layers of similar names. */
function layered(): Sequential {
  manualSeed(3);
  const layer = () =>
    new Sequential(new Conv2d(2, 2, { kernelSize: 1 }), new BatchNorm2d(2), new Dropout(0.5));
  return new Sequential().add(layer(), "layer1").add(layer(), "layer10").add(new ReLU(), "relu")
    .add(new Flatten(), "flat").add(new Linear(8, 3), "fc");
}

/** Trains `net` for three steps, its unfrozen parameters, with weight decay and momentum. */
async function trainLayered(net: Sequential): Promise<void> {
  const x = tensor(new Random(5).uniform(new Float32Array(4 * 2 * 4)), [4, 2, 2, 2]);
  const labels = tensor(new Uint32Array([0, 1, 2, 1]));
  const trained = net.parameters().filter((p) => p.requiresGrad);
  const sgd = new SGD(trained, { lr: 0.1, momentum: 0.9, weightDecay: 0.1 });
  const { result: loss, updates } = training(
    net,
    () => collectUpdates(() => crossEntropy(net.call(x), labels)),
  );
  using plan = await Plan.compile({ updates: [...updates, ...sgd.minimize(loss)] });
  for (let step = 0; step < 3; step++) plan.run(sgd.nextStep());
}

for (const mode of ["train", "eval"] as const) {
  Deno.test(`nothing under a frozen prefix changes, in a net that is in ${mode} mode`, async () => {
    for (
      const [prefix, isFrozen] of [
        ["layer1", (key: string) => key.startsWith("layer1.")],
        ["layer10.1", (key: string) => key.startsWith("layer10.1.")],
        ["layer1.0.weight", (key: string) => key === "layer1.0.weight"],
        ["nothing", () => false],
      ] as const
    ) {
      const net = layered()[mode]();
      if (prefix !== "nothing") assert(net.freeze(prefix) === net);
      const before = await net.stateDict();
      await trainLayered(net);
      const changed = [...await net.stateDict()].filter(([key, { data }]) =>
        data.some((x, i) => !Object.is(x, before.get(key)!.data[i]))
      ).map(([key]) => key);
      assertEquals(changed, [...before.keys()].filter((key) => !isFrozen(key)), prefix);
    }
  });
}

Deno.test("a frozen layer computes as in evaluation, whatever mode its net is in", async () => {
  const net = layered().freeze("layer1");
  const layer = net.namedChildren()[0]![1];
  const x = tensor(new Random(6).uniform(new Float32Array(3 * 2 * 4)), [3, 2, 2, 2]);
  const expected = await evaluate(layer.call(x));
  assert(layer.modules().every(({ training }) => !training));
  for (const part of [net.train(), net.eval(), net.train(), layer.train()]) {
    assert(layer.modules().every(({ training }) => !training));
    assertEquals(await evaluate(layer.call(x)), expected);
    assert(part instanceof Sequential);
  }
  assert(net.train().training);
  net.freeze("layer1", false);
  assert(net.modules().every(({ training }) => training));
  assert(net.parameters().every(({ requiresGrad }) => requiresGrad));
  assertNotEquals(await evaluate(layer.call(x)), expected);
});

Deno.test("all but the classifier is frozen, and trained again", () => {
  const net = layered().freeze().freeze("fc", false);
  const trained = net.namedParameters().filter(([, { requiresGrad }]) => requiresGrad);
  assertEquals(trained.map(([key]) => key), ["fc.weight", "fc.bias"]);
  const modes = () => net.namedChildren().map(([name, { training }]) => [name, training]);
  const only = ["layer1", "layer10", "relu", "flat", "fc"].map((name) => [name, name === "fc"]);
  assertEquals(modes(), only);
  net.train();
  assertEquals(modes(), only);
  training(net, () => assertEquals(modes(), only));
  training(net.eval(), () => assertEquals(modes(), only));
  assert(net.freeze("", false).modules().every((module) => module.training));
});

Deno.test("freeze refuses a prefix without parameters, an optimizer what is frozen", () => {
  for (
    const prefix of ["layer", "layer1.", "layer2", "relu", "layer1.2", "layer1.1.running_mean", "."]
  ) {
    const error = assertThrows(
      () => layered().freeze(prefix),
      ArgumentError,
      "freeze: prefix must",
    );
    assert(error.message.includes("(keys begin with layer1, layer10, fc), got"), error.message);
    assert(error.message.endsWith(`got ${JSON.stringify(prefix)}`), error.message);
  }
  const net = layered(), sgd = new SGD(net.parameters(), { lr: 0.1 });
  net.freeze("fc.weight");
  const loss = crossEntropy(net.call(input("x", [3, 2, 2, 2])), tensor(new Uint32Array(3)));
  const says =
    "SGD: parameters[8], [3, 8], is frozen; make the optimizer of net.parameters().filter(";
  assertThrows(() => sgd.minimize(loss), ArgumentError, says);
});

Deno.test("a state dict moves between nets whose values are on the device already", async () => {
  const [a, b] = [1, 2].map((seed) => {
    manualSeed(seed);
    return new Sequential(new Conv2d(1, 2, { kernelSize: 3 }), new BatchNorm2d(2));
  }) as [Sequential, Sequential];
  const x = tensor(Float32Array.from({ length: 16 }, (_, i) => i % 5), [1, 1, 4, 4]);
  const [before, other] = [await evaluate(a.call(x)), await evaluate(b.call(x))];
  assertNotEquals(before, other);
  b.loadStateDict(await a.stateDict());
  assertEquals(await evaluate(b.call(x)), before);
  assertEquals(await b.stateDict(), await a.stateDict());
});

Deno.test("train() and eval() reach every module", () => {
  const net = resnet18().eval();
  assert(net.modules().every((module) => !module.training));
  assert(net.train().modules().every((module) => module.training));
});

Deno.test("a wrong shape fails at the line that builds it", () => {
  assertThrows(
    () => new Conv2d(1, 64, { kernelSize: 7 }).forward(input("x", [4, 3, 6, 6])),
    Error,
    "conv2d: input has 3 channels, weight expects 1: [4, 3, 6, 6] * [64, 1, 7, 7]",
  );
  assertThrows(() => new GlobalAvgPool2d().forward(input("x", [3, 6])), Error, "[3, 6]");
});

/** Multiplies by its one parameter. */
class Scale extends Module {
  readonly w = new Parameter([1], [2]);
  override forward(x: Tensor): Tensor {
    return mul(x, this.w);
  }
}

Deno.test("a parameter under two names is one: trained once, counted once, in the state dict twice", async () => {
  const scale = new Scale(), net = new Sequential(scale, new ReLU(), scale);
  assertEquals(net.parameters(), [scale.w]);
  assertEquals(net.modules().length, 3);
  assertEquals(summarize(net, [1]).parameters, 1);
  // y = w² x, so that of the loss 3 w² at x = 3 the gradient is 6 w.
  const loss = sum(net.call(tensor([3])));
  for (const make of [SGD, Adam]) {
    scale.w.storage = undefined;
    setVariable(scale.w, [2]);
    const optimizer = new make(net.parameters(), { lr: 0.1 });
    using plan = await Plan.compile({ updates: optimizer.updates(grad(loss, net.parameters())) });
    plan.run(optimizer.nextStep());
    const values = [...await net.stateDict()].map(([key, { data }]) => [key, ...data]);
    const expected = Math.fround(make === SGD ? 2 - 0.1 * 12 : 2 - 0.1);
    assertEquals(values.map(([key]) => key), ["0.w", "2.w"]);
    for (const [, value] of values) assert(Math.abs(value as number - expected) < 1e-6, `${value}`);
  }
  const bytes = encodeStateDict(await net.stateDict());
  const other = new Scale(), again = new Sequential(other, new ReLU(), other);
  again.loadStateDict(decodeStateDict(bytes, "shared.safetensors"));
  const [a, b] = await readVariables([scale.w, other.w]);
  assertEquals(a, b);
});

Deno.test("a shared layer goes into an ONNX file with its values once", async () => {
  const layer = new Linear(3, 3), net = new Sequential(layer, new ReLU(), layer);
  const options = { shape: [1, 1, 3] as [number, number, number] };
  const flat = (inner: Module) => new Sequential(new Flatten(), inner);
  const [shared, twice] = [
    await encodeOnnx(flat(net), options),
    await encodeOnnx(flat(new Sequential(new Linear(3, 3), new ReLU(), new Linear(3, 3))), options),
  ];
  assert(shared.length < twice.length - 40, `${shared.length} and ${twice.length} bytes`);
});

Deno.test("a batch norm that is called twice in a step follows both batches, as in PyTorch", async () => {
  const norm = new BatchNorm2d(2), net = new Sequential(norm, norm);
  const x = tensor([[[[1, 2]], [[3, 4]]], [[[5, 6]], [[7, 8]]]]);
  const { result, updates } = collectUpdates(() => net.call(x));
  assertEquals(updates.length, 3);
  using plan = await Plan.compile({ outputs: [result], updates });
  plan.run();
  const [mean, variance, count] = await readVariables(
    [norm.runningMean!, norm.runningVar!, norm.numBatchesTracked!],
  );
  // 0.9 · 0.1 · 3.5 + 0, 0.9 (0.9 + 0.1 · 17/3) + 0.1 · 4/3 but for the eps.
  const off = [...mean!, ...variance!].map((v, i) =>
    Math.abs(v - [0.315, 0.495, 1.45333, 1.45333][i]!)
  );
  assert(Math.max(...off) < 1e-5, `${mean} ${variance}`);
  assertEquals([...count!], [2]);
});

Deno.test("a bias before a batch norm has the gradient 0, unless something else reads its sum", async () => {
  const x = tensor(new Random(3).normal(new Float32Array(4 * 2 * 5 * 5)), [4, 2, 5, 5]);
  const conv = new Conv2d(2, 3, { kernelSize: 3 }), norm = new BatchNorm2d(3);
  const y = conv.call(x), [rows, line] = [new Linear(3, 2), new BatchNorm1d(2)];
  const normal = norm.call(y), cubes = sum(mul(normal, mul(normal, normal)));
  const z = rows.call(tensor([[1, 2, 3], [4, 6, 5], [9, 7, 8], [0, 1, 1]]));
  const narrow = line.call(z), squares = sum(mul(narrow, relu(narrow)));
  const of = async (loss: Tensor, wrt: Tensor) => [...await evaluate(grad(loss, [wrt])[0]!)];
  assertEquals((await of(sum(relu(normal)), conv.bias!)).map(Math.abs), [0, 0, 0]);
  assertEquals((await of(squares, rows.bias!)).map(Math.abs), [0, 0]);
  // The same by another way, with the rounding of 36 terms for each channel.
  const [dy] = grad(cubes, [y]);
  for (const value of await evaluate(sum(dy!, [0, 2, 3]))) assertAlmostEquals(value, 0, 1e-4);
  // What else there is counts.
  const both = await of(add(sum(relu(normal)), sum(y)), conv.bias!);
  both.forEach((value) => assertAlmostEquals(value, 36, 1e-4));
  // NaN stays NaN.
  const broken = await of(mul(sum(relu(normal)), NaN), conv.bias!);
  assertEquals(broken.map(Number.isNaN), [true, true, true]);
});

Deno.test("training a batch norm with one value per channel is refused, evaluating is not", () => {
  const norm = new BatchNorm2d(3), x = input("x", [1, 3, 1, 1]);
  assertThrows(() => norm.call(x), ShapeError, "more than 1 value per channel");
  assertEquals(norm.eval().call(x).shape, [1, 3, 1, 1]);
  assertEquals(norm.train().call(input("y", [1, 3, 1, 2])).shape, [1, 3, 1, 2]);
});

Deno.test("every module has its own mode again after evaluation, an export, a summary or an error", async () => {
  const frozen = new BatchNorm2d(1).eval(), free = new BatchNorm2d(1);
  const net = new Sequential(frozen, free, new Flatten(), new Linear(4, 2));
  const modes = () => net.modules().map(({ training }) => training);
  const before = modes();
  assertEquals(before, [true, false, true, true, true]);
  const images = new Uint8Array(8), labels = new Uint8Array([0, 1]);
  const data = { images, labels, count: 2, height: 2, width: 2, classes: ["a", "b"] };
  await evaluateAccuracy(net, data, { resize: 2 });
  await predict(net, data, { resize: 2 });
  await encodeOnnx(net, { shape: [1, 2, 2] });
  summarize(net, [1, 1, 2, 2]);
  assertEquals(modes(), before);
  const calls = [
    () => evaluateAccuracy(net, data, { resize: 3 }),
    () => predict(net, data, { resize: 3 }),
    () => encodeOnnx(net, { shape: [1, 3, 3] }),
    () => Promise.resolve().then(() => summarize(net, [1, 1, 3, 3])),
  ];
  for (const call of calls) {
    await assertRejects(call, ShapeError, "linear:");
    assertEquals(modes(), before);
  }
});

Deno.test("layers that cannot be found are named, and a ModuleList holds them", () => {
  class InArray extends Module {
    readonly layers = [new Linear(2, 2)];
    override forward(x: Tensor): Tensor {
      return this.layers[0]!.call(x);
    }
  }
  class Private extends Module {
    readonly #layer = new Linear(2, 2);
    override forward(x: Tensor): Tensor {
      return this.#layer.call(x);
    }
  }
  class Listed extends Module {
    readonly layers = new ModuleList([new Linear(2, 2), new Linear(2, 3)]);
    override forward(x: Tensor): Tensor {
      return [...this.layers].reduce((y, layer) => layer.call(y), x);
    }
  }
  assertThrows(() => new InArray().parameters(), ArgumentError, "InArray: layers and parameters");
  assertThrows(() => new Adam(new Private().parameters()), ArgumentError, "no parameters");
  const net = new Listed();
  assertEquals(
    net.namedParameters().map(([key]) => key).join(" "),
    [
      "layers.0.weight layers.0.bias layers.1.weight layers.1.bias",
    ].join(),
  );
  assertEquals(net.call(input("x", [5, 2])).shape, [5, 3]);
  assertEquals([net.layers.length, net.layers.at(-1) instanceof Linear], [2, true]);
  assertThrows(() => net.layers.call(input("x", [5, 2])), ArgumentError, "ModuleList");
  const loop = new Sequential(new ReLU());
  loop.add(loop);
  assertThrows(() => loop.parameters(), ArgumentError, "inside of itself");
});

Deno.test("console.log shows a module's settings, children and parameters", () => {
  const net = new Sequential(
    new Conv2d(1, 64, { kernelSize: 7, stride: 2, padding: 3 }),
    new MaxPool2d({ kernelSize: 3, stride: 2 }),
  );
  net.add(new Sequential(new Flatten(), new Linear(1, 1)), "fc");
  assertEquals(`${net}`.split("\n"), [
    "Sequential(",
    "  (0): Conv2d(1, 64, kernelSize=[7, 7], stride=[2, 2], padding=[3, 3], dilation=[1, 1], groups=1)  // 3,200 parameters",
    "  (1): MaxPool2d(kernelSize=3, stride=2)",
    "  (fc): Sequential(",
    "    (0): Flatten()",
    "    (1): Linear(1, 1)  // 2 parameters",
    "  )  // 2 parameters",
    ")  // 3,202 parameters",
  ]);
  assertEquals(
    `${new BatchNorm2d(4)}`,
    "BatchNorm2d(4, eps=0.00001, momentum=0.1)  // 8 parameters",
  );
  assertEquals(`${new Linear(2, 3, { bias: false })}`, "Linear(2, 3, bias=false)  // 6 parameters");
  /** A module of one's own. */
  class Scaled extends Module {
    readonly factor = new Parameter([], [2]);
    readonly names = ["a", "b"];
    override forward(x: Tensor): Tensor {
      return mul(x, this.factor);
    }
  }
  assertEquals(`${new Scaled()}`, 'Scaled(names=["a", "b"])  // 1 parameter');
});

Deno.test("a Sequential takes functions: they have a number, and no parameters", async () => {
  const net = new Sequential(new Linear(4, 3), relu, new Linear(3, 2), (x) => mul(x, 2));
  assertEquals([...(await net.stateDict()).keys()], ["0.weight", "0.bias", "2.weight", "2.bias"]);
  const layers = new Sequential(new Linear(4, 3), new ReLU(), new Linear(3, 2));
  layers.loadStateDict(await net.stateDict());
  const x = tensor(new Random(1).uniform(new Float32Array(20), -1, 1), [5, 4]);
  const [twice, once] = await evaluate([net.call(x), layers.call(x)]);
  assertEquals(twice, once!.map((value) => 2 * value));
  assertEquals(summarize(net, [1, 4]).layers.map(({ name, shape }) => `${name} ${shape}`), [
    ...["0 1,3", "1 1,3", "2 1,2", "3 1,2"],
  ]);
  const none = (() => 3) as unknown as (x: Tensor) => Tensor;
  assertThrows(() => new Sequential(none).call(x), ArgumentError, "Sequential: what ");
  const made = ReLU as unknown as ReLU;
  assertThrows(() => new Sequential(made), ArgumentError, "Sequential: layer 0 must be a Module");
});

/** Two inputs, one by the other. */
class Gate extends Module {
  override forward(x: Tensor, by: Tensor): Tensor {
    return mul(x, by);
  }
}

Deno.test("what a layer's further inputs cost is not counted as the layer's", () => {
  class Net extends Module {
    readonly a = new Linear(4, 3);
    readonly b = new Linear(4, 3);
    readonly gate = new Gate();
    override forward(x: Tensor): Tensor {
      return this.gate.call(this.a.call(x), this.b.call(x));
    }
  }
  const { macs, layers } = summarize(new Net(), [1, 4]);
  assertEquals(layers.map(({ name, macs }) => `${name} ${macs}`), ["a 12", "b 12", "gate 0"]);
  assertEquals(macs, 24);
});

Deno.test("batch norms without scale, without running statistics and of rows are PyTorch's", async () => {
  const x = tensor([[1, 2], [3, 6], [8, 1]]),
    y = tensor([[[1, 2, 3], [3, 6, 9]], [[8, 1, 4], [2, 2, 2]]]);
  const still = new BatchNorm1d(2, { affine: false, trackRunningStats: false });
  const rows = new BatchNorm1d(2, { affine: false, momentum: 0.5 });
  assertEquals(still.namedVariables(), []);
  assertEquals(rows.namedVariables().map(([key]) => key), [
    ...["running_mean", "running_var", "num_batches_tracked"],
  ]);
  const { result, updates } = collectUpdates(() => [still.call(x), rows.call(x), rows.call(y)]);
  using plan = await Plan.compile({ outputs: result, updates });
  plan.run();
  const [a, b] = await plan.read();
  assertEquals(a, b);
  // torch.nn.functional.batch_norm(x, None, None, training=True)
  const expected = [-1.01905, -0.46291, -0.33968, 1.38873, 1.35873, -0.92582];
  expected.forEach((value, i) => assertAlmostEquals(a![i]!, value, 2e-5));
  const evaluated = await evaluate(still.eval().call(x));
  assertEquals(evaluated, a);
  assertThrows(
    () => rows.call(tensor([1, 2])),
    ShapeError,
    "BatchNorm1d: wants [N, 2] or [N, 2, L]",
  );
});

Deno.test("what a module counts is no part of its state dict, and two tensors may go in", () => {
  class Counts extends Module {
    readonly seen = new UnsavedBuffer([]);
    readonly inner = new Dropout();
    override forward(x: Tensor, y: Tensor): Tensor {
      return this.inner.call(mul(x, y));
    }
  }
  const net = new Counts();
  assertEquals(net.namedVariables(), []);
  assertEquals(net.namedUnsavedBuffers().map(([key]) => key), ["seen", "inner.draws"]);
  assertEquals(net.call(input("x", [2, 1]), input("y", [3])).shape, [2, 3]);
});

Deno.test("a notebook shows a module as a tree, with the number of its parameters", async () => {
  const net = new Sequential(new Linear(4, 8), new ReLU())
    .add(new Sequential(new Linear(8, 1)), '<script>"');
  const { text, html } = await displayOf(net);
  assertEquals(text, `${net}`);
  assertEquals(html.replace(/<[^>]*>/g, "|").split(/\|+/).filter(Boolean), [
    "Sequential()",
    " 49 parameters",
    "(0): Linear(4, 8)",
    " 40 parameters",
    "(1): ReLU()",
    "(&lt;script&gt;&quot;): Sequential()",
    " 9 parameters",
    "(0): Linear(8, 1)",
    " 9 parameters",
  ]);
  assertEquals([...html.matchAll(/<details( open)?>/g)].map(([, open]) => open), [
    " open",
    undefined,
  ]);
  assertEquals((await displayOf(new ReLU())).html, "<div><code>ReLU()</code></div>");
});
