/**
 * `deno task export`: what is in its files, and that onnxruntime computes from them what this library
 * does. onnxruntime is the npm package, WebAssembly without native code; Deno gets it the first time
 * (33 MB). What Python's checker says is found by hand: `tests/reference/check_onnx.py`.
 */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import * as R from "@resnette/resnette";
import {
  AdaptiveAvgPool2d,
  AvgPool2d,
  Bottleneck,
  Conv2d,
  ConvTranspose2d,
  encodeOnnx,
  encodeStateDict,
  evaluate,
  Flatten,
  GlobalAvgPool2d,
  input,
  Linear,
  manualSeed,
  MaxPool2d,
  Module,
  mul,
  OnnxError,
  Plan,
  Random,
  resnet18,
  resnet50,
  Sequential,
  type Tensor,
  tensor,
  Upsample,
} from "@resnette/resnette";
import { loadFashionMnist } from "@resnette/resnette/data";
import { DeviceDataset } from "@resnette/resnette/train";
import { DenseNet121 } from "../../scripts/examples/nets/densenet.ts";
import { googlenet } from "../../scripts/examples/nets/googlenet.ts";
import { LeNet } from "../../scripts/examples/nets/lenet.ts";
import { MobileNetV2 } from "../../scripts/examples/nets/mobilenet.ts";
import { UNet } from "../../scripts/examples/nets/unet.ts";
import { vgg11 } from "../../scripts/examples/nets/vgg.ts";
import { VisionTransformer } from "../../scripts/examples/nets/vit.ts";
import { main } from "../../scripts/export.ts";
import { call, deno } from "../call.ts";
import { inFolder } from "../folder.ts";
import { smallNet } from "../small_net.ts";

const ONNXRUNTIME = "npm:onnxruntime-web@1.30.0/wasm";

/** What is used of onnxruntime. */
interface Runtime {
  env: { wasm: { numThreads: number } };
  Tensor: new (type: "float32", data: Float32Array, shape: number[]) => unknown;
  InferenceSession: {
    create(file: Uint8Array): Promise<{
      inputNames: string[];
      outputNames: string[];
      run(feeds: Record<string, unknown>): Promise<Record<string, { data: Float32Array }>>;
    }>;
  };
}

/** onnxruntime; not imported above, so that a machine that cannot get it fails here, in words. */
async function onnxruntime(): Promise<Runtime> {
  try {
    const runtime: Runtime = await import(ONNXRUNTIME);
    runtime.env.wasm.numThreads = 1;
    return runtime;
  } catch (cause) {
    throw new Error(
      `this test compares with onnxruntime, and Deno could not get ${ONNXRUNTIME}; with a registry ` +
        `in reach, \`deno cache ${ONNXRUNTIME}\` gets it`,
      { cause },
    );
  }
}

/** A net whose statistics tell a mean from a variance, as if it had been trained. */
async function settled<T extends Module>(net: T): Promise<T> {
  const state = await net.stateDict();
  let stream = 1;
  for (const [key, { data }] of state) {
    if (key.endsWith(".running_mean")) new Random(0, stream++).uniform(data, -0.2, 0.2);
    if (key.endsWith(".running_var")) new Random(0, stream++).uniform(data, 0.5, 1.5);
  }
  net.loadStateDict(state);
  return net;
}

/** The greatest difference between what onnxruntime makes of the pixels and `expected`. */
async function compare(
  file: Uint8Array,
  pixels: Float32Array,
  shape: readonly [number, number, number],
  batches: readonly number[],
  expected: Float32Array,
): Promise<number> {
  const runtime = await onnxruntime();
  const session = await runtime.InferenceSession.create(file);
  assertEquals([session.inputNames, session.outputNames], [["images"], ["logits"]]);
  const size = shape.reduce((a, b) => a * b);
  let first = 0, worst = 0, at = 0;
  for (const batch of batches) {
    const part = pixels.subarray(first * size, (first + batch) * size);
    const images = new runtime.Tensor("float32", part, [batch, ...shape]);
    const { logits } = await session.run({ images });
    for (const value of logits!.data) {
      const difference = Math.abs(value - expected[at++]!);
      worst = difference <= worst ? worst : difference; // NaN stays
    }
    first += batch;
  }
  assertEquals([first * size, at], [pixels.length, expected.length]);
  return worst;
}

/** Fields of a protobuf message: numbers, and the bytes of all else. */
function* fields(bytes: Uint8Array): Generator<[field: number, value: number | Uint8Array]> {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1;; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint(), field = Math.floor(key / 8);
    if (key % 8 === 0) yield [field, varint()];
    else {
      const size = key % 8 === 5 ? 4 : varint();
      yield [field, bytes.subarray(at, at += size)];
    }
  }
}

/** The values of a field. */
const all = (bytes: Uint8Array, field: number) =>
  [...fields(bytes)].filter(([found]) => found === field).map(([, value]) => value);
const messages = (bytes: Uint8Array, field: number) => all(bytes, field) as Uint8Array[];
const texts = (bytes: Uint8Array, field: number) =>
  messages(bytes, field).map((value) => new TextDecoder().decode(value));

Deno.test("an exported ResNet-18 gives onnxruntime the logits of 1,000 test images", () =>
  inFolder(async (folder) => {
    manualSeed(0);
    const net = (await settled(resnet18())).eval();
    const path = `${folder}/net.safetensors`;
    await Deno.writeFile(path, encodeStateDict(await net.stateDict()));
    const words = [path, "--to", "onnx", "--resize", "28"];
    const { code, out, err } = await call(main, words);
    assertEquals([code, out, err], [0, `${folder}/net.onnx (44.8 MB)\n`, ""]);

    const count = 1000, batch = 250;
    const data = await loadFashionMnist("data/fashion-mnist", "test", { limit: count });
    const indices = input("indices", [batch], "u32");
    const logits = net.call(new DeviceDataset(data).batch(indices, { resize: 28 }).x);
    const expected = new Float32Array(10 * count);
    using plan = await Plan.compile({ outputs: [logits] });
    for (let first = 0; first < count; first += batch) {
      plan.run({ indices: Uint32Array.from({ length: batch }, (_, i) => first + i) });
      expected.set((await plan.read())[0]!, 10 * first);
    }
    const pixels = Float32Array.from(data.images, (value) => value / 255);
    const file = await Deno.readFile(`${folder}/net.onnx`);
    const worst = await compare(file, pixels, [1, 28, 28], [1, 199, 400, 400], expected);
    assert(worst < 1e-4, `they differ by ${worst}`);
  }));

for (const build of [resnet18, resnet50]) {
  Deno.test(`torchvision's ${build.name} gives onnxruntime our logits`, async () => {
    manualSeed(2);
    const net = (await settled(build({ variant: "torchvision" }))).eval();
    const shape = [3, 32, 32] as const;
    const pixels = new Random(3).uniform(new Float32Array(3 * 3 * 32 * 32));
    const expected = await evaluate(net.call(tensor(pixels, [3, ...shape]))) as Float32Array;
    const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const worst = await compare(await encodeOnnx(net, { shape }), pixels, shape, [1, 2], expected);
    assert(largest > 0.1 && worst < 1e-5 * largest, `of ${largest} they differ by ${worst}`);
  });
}

/** A net with a block of its own, one layer that runs twice, and windows that are not square. */
class Own extends Module {
  readonly widen = new Conv2d(2, 8, {
    kernelSize: [3, 1],
    stride: [1, 2],
    padding: [1, 0],
    bias: false,
  });
  readonly mix = new Conv2d(8, 8, { kernelSize: 1 });
  readonly pool = new MaxPool2d({ kernelSize: [3, 2], stride: [2, 1], padding: [1, 0] });
  readonly deep = new Bottleneck(8, 16, { use1x1conv: true, stride: 2 });

  override forward(x: Tensor): Tensor {
    const y = this.mix.call(this.mix.call(this.widen.call(x)));
    return this.deep.call(this.pool.call(y));
  }
}

Deno.test("blocks of one's own are exported, by the layers that they are made of", async () => {
  manualSeed(1);
  const net = await settled(
    new Sequential(
      new Own(),
      new GlobalAvgPool2d(),
      new Flatten(),
      new Flatten(),
      new Linear(16, 3),
    ),
  );
  const shape = [2, 12, 10] as const, count = 5;
  const pixels = new Random(2).uniform(new Float32Array(count * 240));
  const file = await encodeOnnx(net, { shape });
  assert(net.training, "it trains on where it did");
  const expected = await evaluate(net.eval().call(tensor(pixels, [count, ...shape])));
  const worst = await compare(file, pixels, shape, [2, 3], expected as Float32Array);
  assert(worst < 1e-5, `they differ by ${worst}`);
  const [graph] = messages(file, 7);
  const names = messages(graph!, 1).map((node) => texts(node, 3)[0]);
  assertEquals(names.slice(0, 4), ["0.widen", "0.mix", "0.mix_1", "0.pool"]);
  assertEquals(names.slice(-4), ["0.deep.relu_2", "1", "2", "4"]);
});

Deno.test("convolutions, pools and sizes of all kinds are exported", async () => {
  manualSeed(4);
  const net = new Sequential(
    new Conv2d(2, 8, { kernelSize: [3, 4], padding: "same", dilation: [2, 1] }),
    new Conv2d(8, 8, { kernelSize: 3, groups: 8, padding: 1, bias: false }),
    new Conv2d(8, 12, { kernelSize: 3, groups: 4, dilation: 2, padding: [1, 2] }),
    new MaxPool2d({ kernelSize: 3, stride: 2, padding: 1, ceilMode: true }),
    new ConvTranspose2d(12, 6, {
      ...{ kernelSize: 3, stride: [2, 3], padding: 1, outputPadding: [1, 0], groups: 2 },
    }),
    new AvgPool2d({ kernelSize: [3, 2], stride: 2, ceilMode: true }),
    new AvgPool2d({ kernelSize: 3, stride: 1, padding: 1 }),
    new Upsample({ scaleFactor: [1.5, 2] }),
    new AvgPool2d({ kernelSize: 3, stride: 2, padding: 1, countIncludePad: false, ceilMode: true }),
    new Upsample({ size: [7, 12], mode: "bilinear" }),
    new Upsample({ size: [9, 8], mode: "bilinear", alignCorners: true }),
    new Upsample({ scaleFactor: 0.7 }),
    new AdaptiveAvgPool2d([3, null]),
    new AdaptiveAvgPool2d(1),
    new Flatten(),
  );
  const shape = [2, 13, 10] as const, count = 3;
  const pixels = new Random(2).uniform(new Float32Array(count * 260));
  // Each layer's own result, so that a mean over pixels hides nothing.
  for (let layers = 1; layers <= net.namedChildren().length; layers++) {
    const part = new Sequential(...net.namedChildren().slice(0, layers).map(([, layer]) => layer));
    const file = await encodeOnnx(part, { shape });
    const result = await evaluate(part.eval().call(tensor(pixels, [count, ...shape])));
    const worst = await compare(file, pixels, shape, [1, 2], result as Float32Array);
    assert(worst < 1e-5, `with layer ${layers - 1} they differ by ${worst}`);
  }
  const refused: [Module, string][] = [
    [new AdaptiveAvgPool2d(4), "onnx: layer 0, a AdaptiveAvgPool2d, takes means of unequal blocks"],
    [
      new AvgPool2d({ kernelSize: 3, stride: 2, padding: 1, ceilMode: true }),
      "onnx: layer 0, a AvgPool2d, counts the padding, but not what is beyond it",
    ],
  ];
  for (const [layer, message] of refused) {
    await assertRejects(
      () => encodeOnnx(new Sequential(layer), { shape: [2, 6, 10] }),
      OnnxError,
      message,
    );
  }
});

Deno.test("the nearest pixels of an exported net are ours, or it is refused", async () => {
  const made = (options: R.UpsampleOptions) =>
    new Sequential(new Upsample(options), new Flatten()).eval();
  for (const [options, side] of [[{ size: [12, 9] }, 6], [{ scaleFactor: 0.57 }, 100]] as const) {
    const net = made(options), shape = [1, side, side] as const;
    const pixels = Float32Array.from({ length: 2 * side * side }, (_, i) => i);
    const expected = await evaluate(net.call(tensor(pixels, [2, 1, side, side]))) as Float32Array;
    const file = await encodeOnnx(net, { shape });
    assertEquals(await compare(file, pixels, shape, [1, 1], expected), 0, JSON.stringify(options));
  }
  // The factors next to 10/3 make 19 rows of 6, or lead from row 10 to row 2.
  await assertRejects(
    () => encodeOnnx(made({ size: [20, 12] }), { shape: [1, 6, 6] }),
    OnnxError,
    "takes pixels that no factor of single precision leads to",
  );
});

Deno.test("an ONNX file has the notebook's names, a free batch size, an opset of 2021, and says what it is", async () => {
  const net = smallNet();
  const file = await encodeOnnx(net, {
    shape: [1, 28, 28],
    version: "1.2.3",
    images: "grey",
    metadata: { model: "small" },
  });
  assertEquals([all(file, 1), texts(file, 2), texts(file, 3)], [[8], ["resnette"], ["1.2.3"]]);
  assertEquals(messages(file, 8).map((opset) => [texts(opset, 1), all(opset, 2)]), [[[""], [15]]]);
  assertEquals(messages(file, 14).map((x) => [texts(x, 1), texts(x, 2)]), [[["model"], ["small"]]]);
  const [graph] = messages(file, 7);
  const state = await net.stateDict();
  const weights = messages(graph!, 5);
  assertEquals(
    weights.map((weight) => [texts(weight, 8)[0]!, all(weight, 1), messages(weight, 9)[0]!.length])
      .sort(),
    [...state].filter(([key]) => !key.endsWith(".num_batches_tracked"))
      .map(([key, { shape, data }]) => [key, [...shape], 4 * data.length]).sort(),
  );
  const nodes = messages(graph!, 1).map((node) => `${texts(node, 4)[0]} ${texts(node, 3)[0]}`);
  assertEquals(nodes, [
    "Conv 0",
    "BatchNormalization 1",
    "Relu 2",
    "MaxPool 3",
    ...["Conv 4.conv1", "BatchNormalization 4.b1", "Relu 4.relu", "Conv 4.conv2"],
    ...["BatchNormalization 4.b2", "Add 4.add", "Relu 4.relu_1"],
    ...["Conv 5.conv1", "BatchNormalization 5.b1", "Relu 5.relu", "Conv 5.conv2"],
    ...["BatchNormalization 5.b2", "Conv 5.conv3", "Add 5.add", "Relu 5.relu_1"],
    ...["GlobalAveragePool pool", "Flatten fc.0", "Gemm fc.1"],
  ]);
  const sizes = (field: number) => {
    const [value] = messages(graph!, field), [type] = messages(value!, 2);
    const [shape] = messages(messages(type!, 1)[0]!, 2);
    return messages(shape!, 1).map((size) => all(size, 1)[0] ?? texts(size, 2)[0]);
  };
  assertEquals([sizes(11), sizes(12)], [["N", 1, 28, 28], ["N", 10]]);
});

/** A net of layers and functions, whose names here are ONNX's operators. */
const PARTS: Record<string, () => Sequential> = {
  "activations": () =>
    new Sequential(
      new Conv2d(2, 4, { kernelSize: 3 }),
      ...[new R.Sigmoid(), new R.Tanh(), new R.SiLU(), new R.GELU(), R.softplus, R.sin, R.cos],
      ...[new R.GELU({ approximate: "tanh" }), new R.ELU({ alpha: 0.5 }), R.abs, R.exp, R.log],
      ...[new R.LeakyReLU({ negativeSlope: 0.2 }), (x: Tensor) => R.clamp(x, { max: 0.5 })],
      ...[(x: Tensor) => R.pow(R.square(x), 0.5), (x: Tensor) => R.sub(R.maximum(x, 0.1), x)],
      ...[(x: Tensor) => R.div(R.minimum(x, R.neg(x)), R.sqrt(R.add(R.square(x), 1)))],
      ...[R.erf, (x: Tensor) => R.add(R.floor(R.mul(x, 9)), R.sign(x)), R.round, R.relu],
      new Flatten(),
    ),
  "norms": () =>
    new Sequential(
      new Conv2d(2, 4, { kernelSize: 3 }),
      new R.GroupNorm(2, 4),
      new R.BatchNorm2d(4, { affine: false }),
      new R.LayerNorm([4, 6]),
      (x) => R.reshape(x, [x.shape[0]!, 4, -1]),
      new R.BatchNorm1d(4),
      new Linear(24, 5),
      new R.Dropout(),
      (x) => R.softmax(x, { axis: 1 }),
      new Flatten(),
      new R.BatchNorm1d(20),
    ),
  "shapes": () =>
    new Sequential(
      (x) => R.mul(x, R.mean(R.tensor([0.5, 1.5]))),
      (x) => {
        const n = 2 * x.shape[0]!, twice = R.broadcastTo(R.reshape(x, [n, 1, 48]), [n, 2, 48]);
        return R.reshape(R.mean(twice, [1]), x.shape);
      },
      (x) => R.slice(x, [null, null, [0, 6], [1, 6, 2]]),
      (x) => R.concat([R.flip(x, [2, 3]), R.mul(x, 2)], 1),
      (x) => R.permute(R.unsqueeze(x, 1), [0, 3, 2, 4, 1]),
      (x) => R.stack([R.select(R.permute(x, [1, 0, 2, 3, 4]), 2), R.mean(x, [1])], 1),
      (x) => R.concat([x, R.broadcastTo(R.mean(x, [2], { keepDims: true }), x.shape)], 2),
      (x) => R.matmul(R.reshape(x, [x.shape[0]!, 4, -1]), R.reshape(x, [x.shape[0]!, -1, 4])),
      (x) => R.sum(R.logSoftmax(x), [-1]),
    ),
};

for (const [name, make] of Object.entries(PARTS)) {
  Deno.test(`${name} between layers are exported by the ops that they are made of`, async () => {
    manualSeed(2);
    const net = await settled(make()), shape = [2, 6, 8] as const;
    const pixels = new Random(3).uniform(new Float32Array(5 * 96), -1, 1);
    const file = await encodeOnnx(net, { shape });
    const expected = await evaluate(net.eval().call(tensor(pixels, [5, ...shape])));
    const worst = await compare(file, pixels, shape, [1, 4], expected as Float32Array);
    assert(worst < 1e-5, `they differ by ${worst}`);
  });
}

const NETS: [string, () => Module, [number, number, number]][] = [
  ["LeNet", () => new LeNet(), [1, 28, 28]],
  ["VGG-11", () => vgg11({ ratio: 8, size: 32 }), [1, 32, 32]],
  ["GoogLeNet", googlenet, [1, 32, 32]],
  ["DenseNet-121", () => new DenseNet121(10), [3, 64, 64]],
  ["a vision transformer", () => new VisionTransformer(), [1, 28, 28]],
  ["MobileNetV2", () => new MobileNetV2(10), [3, 32, 32]],
  ["a U-Net", () => new UNet(), [1, 16, 24]],
];
for (const [name, make, shape] of NETS) {
  Deno.test(`${name} is exported, and onnxruntime gets its logits`, async () => {
    manualSeed(3);
    const net = await settled(make()), size = shape.reduce((a, b) => a * b);
    const pixels = new Random(4).uniform(new Float32Array(3 * size));
    const file = await encodeOnnx(net, { shape });
    const expected = await evaluate(net.eval().call(tensor(pixels, [3, ...shape]))) as Float32Array;
    const worst = await compare(file, pixels, shape, [1, 2], expected);
    assert(worst < 1e-5 * Math.max(1, ...expected.map(Math.abs)), `they differ by ${worst}`);
  });
}

Deno.test("what ONNX has not, a part of the batch or its statistics, is refused, with its layer", async () => {
  const faults: [(x: Tensor) => Tensor, string][] = [
    [
      (x) => R.slice(x, [[1]]),
      "onnx: layer 0's slice takes a part of a batch: ONNX has no operator",
    ],
    [(x) => R.slice(x, [[-1]]), "onnx: layer 0's slice takes a part of a batch"],
    [(x) => R.select(x, -1), "onnx: layer 0's select takes a part of a batch"],
    [
      (x) => {
        const sizes = [2 * x.shape[0]!, 2];
        return R.add(R.reshape(x, sizes), R.broadcastTo(R.tensor([1, 2]), sizes));
      },
      "onnx: layer 0's broadcastTo fills several times the batch's size",
    ],
    [
      (x) => R.sub(x, R.mean(x)),
      "onnx: layer 0 has numbers that change with the size of the batch",
    ],
    [
      (x) => {
        const y = R.flatten(x), n = x.shape[0]!;
        return R.reshape(R.matmul(y, y, { transposeB: true }), [n, 1, n]);
      },
      "onnx: layer 0's reshape has a shape with the batch in it twice",
    ],
    [(x) => x.shape[0] === 2 ? R.neg(x) : R.exp(x), "changes with the size of the batch"],
    [
      (x) => new R.BatchNorm2d(1, { trackRunningStats: false }).eval().call(x),
      "onnx: layer 0.BatchNorm2d has a batchNorm that no known layer made",
    ],
    [
      (x) => R.mul(x, new R.Variable([])),
      "onnx: layer 0 reads a variable that is not in the state dict",
    ],
  ];
  for (const [fault, message] of faults) {
    const net = new Sequential(fault, new Flatten());
    await assertRejects(() => encodeOnnx(net, { shape: [1, 2, 2] }), OnnxError, message);
  }
});

Deno.test("an op that ONNX is not told about is refused, with its layer", async () => {
  class Scaled extends Conv2d {
    override forward(x: Tensor): Tensor {
      return mul(super.forward(x), 2);
    }
  }
  const net = new Sequential(new Sequential(new Scaled(1, 2, { kernelSize: 3 })), new Flatten());
  await assertRejects(
    () => encodeOnnx(net, { shape: [1, 5, 5] }),
    OnnxError,
    "onnx: layer 0.0 has a conv2d that no known layer made; known are the layers Conv2d, ",
  );
});

Deno.test("deno task export writes the state dict as it is, and says what is wrong", () =>
  inFolder(async (folder) => {
    const path = `${folder}/net.safetensors`, out = `${folder}/copy.safetensors`;
    const bytes = encodeStateDict(await smallNet().stateDict());
    await Deno.writeFile(path, bytes);
    const script = ["run", "-q", "-P=export", "--no-prompt", "tests/small_net.ts", "export", path];
    // It needs no adapter.
    const env = { DENO_WEBGPU_BACKEND: "vulkan", VK_DRIVER_FILES: "/dev/null" };
    const done = await deno([...script, "--to", "safetensors", "--out", out], { env });
    assertEquals([done.code, done.err], [0, ""]);
    assertEquals(await Deno.readFile(out), bytes);
    const outside = await deno([...script, "--to", "onnx", "--out", "tests/net.onnx"]);
    assertEquals(outside.code, 1);
    assertStringIncludes(outside.err, "error: could not write tests/net.onnx");
    assertStringIncludes(outside.err, "The task `export` may not do that");
    const long = "a".repeat(300);
    const faults: [words: string[], code: number, message: string][] = [
      [[], 2, "CHECKPOINT is missing"],
      [[path], 2, "--to is missing; it is one of: safetensors, onnx"],
      [[path, "--to", "tflite"], 2, '--to must be one of: safetensors, onnx, got "tflite"'],
      [[path, "--to", "safetensors"], 2, `${path} is what is exported; give another --out`],
      [[path, path, "--to", "onnx"], 2, `unknown: ${path}`],
      [[folder, "--to", "onnx"], 1, "is neither a run's folder"],
      [[path, "--to", "onnx", "--out", `${folder}/none/net.onnx`], 1, "could not write"],
      // Deno has no kind of error for these.
      [[path, "--to", "onnx", "--out", `${folder}/${long}`], 1, "could not write"],
      [[long, "--to", "onnx"], 1, "error: File name too long"],
    ];
    for (const [words, expected, message] of faults) {
      const { code, out, err } = await call(main, words);
      assertEquals([code, out], [expected, ""], `${words}`);
      assertStringIncludes(err, message);
    }
    const help = await call(main, ["--help"]);
    assertEquals(help.code, 0);
    assert(help.out.startsWith("usage: deno task export CHECKPOINT --to safetensors|onnx"));
    assert(help.out.split("\n").every((line) => line.length <= 100));
  }));
