/**
 * The notebook's shapes, number by number, inferred and run; the summary; and `deno task shapes` as a
 * user starts it. The golden tests look at the values that the layers compute.
 */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  Conv2d,
  conv2d,
  ConvTranspose2d,
  Device,
  evaluate,
  formatSummary,
  input,
  type LayerSummary,
  Linear,
  Module,
  Parameter,
  Random,
  relu,
  Residual,
  resnet18,
  runLayers,
  Sequential,
  ShapeError,
  summarize,
  type Tensor,
  tensor,
} from "@resnette/resnette";
import { sizeOf } from "../../lib/graph/shape.ts";
import { collectCalls } from "../../lib/nn/module.ts";
import { ROOT } from "../folder.ts";

/** What cell 13 of the notebook prints, without `torch.Size`. */
const NOTEBOOK = `\
0 output shape: [1, 64, 112, 112]
1 output shape: [1, 64, 112, 112]
2 output shape: [1, 64, 112, 112]
3 output shape: [1, 64, 56, 56]
resnet_block1 output shape: [1, 64, 56, 56]
resnet_block2 output shape: [1, 128, 28, 28]
resnet_block3 output shape: [1, 256, 14, 14]
resnet_block4 output shape: [1, 512, 7, 7]
global_avg_pool output shape: [1, 512, 1, 1]
fc output shape: [1, 10]
`;

/** Uniform random pixels, as `torch.rand` makes them. */
function rand(...shape: number[]): Tensor {
  return tensor(new Random(0).uniform(new Float32Array(sizeOf(shape))), shape);
}

const NO_ADAPTER = { DENO_WEBGPU_BACKEND: "vulkan", VK_DRIVER_FILES: "/dev/null" };

/** `deno task shapes ARGS…`, as a child process. */
async function shapes(args: string[], env: Record<string, string> = {}) {
  const child = new Deno.Command("deno", {
    args: ["task", "-q", "shapes", ...args],
    cwd: ROOT,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
  });
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("the notebook's two residual blocks give its shapes, inferred and run", async () => {
  const blocks: [Residual, number[]][] = [
    [new Residual(3, 3), [4, 3, 6, 6]],
    [new Residual(3, 6, { use1x1conv: true, stride: 2 }), [4, 6, 3, 3]],
  ];
  for (const [block, shape] of blocks) {
    const y = block.forward(rand(4, 3, 6, 6));
    assertEquals(y.shape, shape);
    const values = await evaluate(y);
    assertEquals(values.length, sizeOf(shape));
    assert([...values].every((value) => value >= 0 && value < Infinity));
  }
});

Deno.test("the notebook's ten layers give its shapes at 224×224", () => {
  const lines = summarize(resnet18(), [1, 1, 224, 224]).layers
    .map(({ name, shape }) => `${name} output shape: [${shape.join(", ")}]\n`);
  assertEquals(lines.join(""), NOTEBOOK);
});

Deno.test("the layers, run one after the other, compute what the whole network computes", async () => {
  using device = await Device.request({ choice: "naive" }); // Its kernels compile fastest.
  const net = resnet18(), x = rand(2, 1, 32, 32);
  const found: [string, readonly number[]][] = [];
  let last = x;
  for await (const [name, y] of runLayers(net, x, device)) {
    found.push([name, y.shape]);
    last = y;
  }
  assertEquals(
    found,
    summarize(net, [2, 1, 32, 32]).layers.map(({ name, shape }) => [name, shape]),
  );
  const logits = await evaluate(last, {}, device);
  const expected = await evaluate(net.forward(x), {}, device);
  expected.forEach((value, i) => assert(Math.abs(logits[i]! - value) < 1e-3, `${logits}`));
});

/** Multiply-accumulates of a convolution with `pixels` results. */
const conv = (inputs: number, outputs: number, kernel: number, pixels: number) =>
  inputs * outputs * kernel ** 2 * pixels;

Deno.test("parameters, MACs and activation bytes are those of the architecture", () => {
  const summary = summarize(resnet18(), [1, 1, 224, 224]);
  const stages = [64, 128, 256, 512].map((c, i) => ({ c, pixels: (56 >> i) ** 2, first: i === 0 }));
  const macs = stages.map(({ c, pixels, first }) =>
    first
      ? 4 * conv(c, c, 3, pixels)
      : conv(c / 2, c, 3, pixels) + conv(c / 2, c, 1, pixels) + 3 * conv(c, c, 3, pixels)
  );
  // Convolutions and batch norms: eight of a size in a stage, and the shortcut's where there is one.
  const bytes = stages.map(({ c, pixels, first }) => 4 * c * pixels * (first ? 8 : 9));
  assertEquals(
    summary.layers.map(({ name, parameters, macs, activationBytes }) => [
      name,
      parameters,
      macs,
      activationBytes,
    ]),
    [
      ["0", 3200, conv(1, 64, 7, 112 ** 2), 4 * 64 * 112 ** 2],
      ["1", 128, 0, 4 * 64 * 112 ** 2],
      ["2", 0, 0, 4 * 64 * 112 ** 2],
      ["3", 0, 0, 4 * 64 * 56 ** 2],
      ["resnet_block1", 148_224, macs[0], bytes[0]],
      ["resnet_block2", 525_952, macs[1], bytes[1]],
      ["resnet_block3", 2_100_480, macs[2], bytes[2]],
      ["resnet_block4", 8_395_264, macs[3], bytes[3]],
      ["global_avg_pool", 0, 0, 4 * 512],
      ["fc", 5130, 5120, 4 * (512 + 10)],
    ],
  );
  assertEquals(summary.parameters, 11_178_378);
  const sum = (of: (layer: LayerSummary) => number) =>
    summary.layers.reduce((total, layer) => total + of(layer), 0);
  assertEquals(summary.macs, sum((layer) => layer.macs));
  assertEquals(summary.activationBytes, sum((layer) => layer.activationBytes));
  const batch = summarize(resnet18(), [3, 1, 224, 224]);
  assertEquals(
    [batch.parameters, batch.macs, batch.activationBytes],
    [summary.parameters, 3 * summary.macs, 3 * summary.activationBytes],
  );
});

Deno.test("a residual block's layers are listed as it runs them", () => {
  const { layers } = summarize(new Residual(3, 6, { use1x1conv: true, stride: 2 }), [4, 3, 6, 6]);
  assertEquals(layers.map(({ name, kind }) => `${name} ${kind}`), [
    "conv1 Conv2d",
    "b1 BatchNorm2d",
    "conv2 Conv2d",
    "b2 BatchNorm2d",
    "conv3 Conv2d",
  ]);
  assert(layers.every(({ shape }) => String(shape) === "4,6,3,3"));
  assertEquals(layers.map(({ macs }) => macs), [
    4 * conv(3, 6, 3, 9),
    0,
    4 * conv(6, 6, 3, 9),
    0,
    4 * conv(3, 6, 1, 9),
  ]);
});

Deno.test("groups and transposed convolutions are counted by what each result takes", () => {
  const net = new Sequential(
    new Conv2d(8, 16, { kernelSize: 3, groups: 4, padding: "same" }),
    new Conv2d(16, 16, { kernelSize: [3, 5], groups: 16, dilation: 2 }),
    new ConvTranspose2d(16, 6, { kernelSize: 2, stride: 2, groups: 2 }),
    new ConvTranspose2d(6, 6, { kernelSize: 3, groups: 6 }),
  );
  const { layers } = summarize(net, [2, 8, 9, 10]);
  assertEquals(layers.map(({ shape, macs }) => [shape, macs]), [
    [[2, 16, 9, 10], 2 * 16 * 90 * 2 * 9],
    [[2, 16, 5, 2], 2 * 16 * 10 * 15],
    [[2, 6, 10, 4], 2 * 16 * 10 * 3 * 4],
    [[2, 6, 12, 6], 2 * 6 * 40 * 9],
  ]);
});

/** A block with a convolution that is no layer, and a layer that is used twice. */
class Own extends Module {
  readonly kernel = new Parameter([8, 2, 3, 3]);
  readonly mix = new Conv2d(8, 8, { kernelSize: 1, bias: false });

  override forward(x: Tensor): Tensor {
    const y = relu(conv2d(x, this.kernel, undefined, { padding: 1 }));
    return this.mix.call(this.mix.call(y));
  }
}

Deno.test("a block of one's own is counted whole, its parameters once", () => {
  const { layers: [own], ...total } = summarize(new Sequential(new Own()), [1, 2, 4, 4]);
  assertEquals([own!.name, own!.kind, own!.shape], ["0", "Own", [1, 8, 4, 4]]);
  assertEquals(own!.layers.map(({ name, macs }) => [name, macs]), [["mix", 1024], ["mix", 1024]]);
  assertEquals([own!.parameters, own!.macs], [2 * 8 * 9 + 64, 2 * 8 * 9 * 16 + 2 * 1024]);
  assertEquals([total.parameters, total.macs], [own!.parameters, own!.macs]);
});

Deno.test("calls are noted only inside collectCalls, also after one that fails", () => {
  const net = new Sequential(new Linear(2, 3), new Linear(4, 5));
  assertThrows(() => summarize(net, [1, 2]), ShapeError, "linear: input [1, 3]");
  const relay = new Sequential(new Linear(2, 3));
  const { result, calls } = collectCalls(() => relay.call(input("x", [1, 2])));
  assertEquals(calls.map((call) => [call.module, call.y]), [[relay, result]]);
  assertEquals(calls[0]!.calls.map((call) => call.module), [relay.namedChildren()[0]![1]]);
  relay.call(input("x", [1, 2]));
  assertEquals(calls.length, 1);
});

Deno.test("the table fits 80 columns, up to batches of 1,024", () => {
  for (const batch of [1, 128, 1024]) {
    const lines = formatSummary(summarize(resnet18(), [batch, 1, 224, 224])).split("\n");
    for (const line of lines) assert(line.length <= 80, `${line.length} columns: ${line}`);
    assertEquals(lines.length, 1 + 10 + 8 * 5 + 3 + 2 + 2);
  }
});

Deno.test("deno task shapes prints the notebook's trace, run, inferred or without an adapter", async (t) => {
  await t.step("run on the adapter", async () => {
    assertEquals(await shapes([]), { code: 0, stdout: NOTEBOOK, stderr: "" });
    const { adapter } = JSON.parse((await shapes(["--size", "32", "--json"])).stdout);
    assert(typeof adapter === "string", `ran on ${adapter}`);
  });
  await t.step("--dry", async () => {
    assertEquals(await shapes(["--dry"]), { code: 0, stdout: NOTEBOOK, stderr: "" });
    // Where there is no adapter, not even a word about it.
    assertEquals(await shapes(["--dry"], NO_ADAPTER), { code: 0, stdout: NOTEBOOK, stderr: "" });
  });
  await t.step("no adapter", async () => {
    const { code, stdout, stderr } = await shapes([], NO_ADAPTER);
    assertEquals([code, stdout], [0, NOTEBOOK]);
    assertEquals(
      stderr,
      "no WebGPU adapter here: the shapes are inferred, the layers do not run\n",
    );
  });
});

Deno.test("deno task shapes takes another size, batch and number of channels", async () => {
  for (const dry of [[], ["--dry"]]) {
    const args = ["--size", "96", "--batch", "2", "--channels=3", ...dry];
    const { code, stdout } = await shapes(args);
    assertEquals(code, 0);
    assertStringIncludes(stdout, "0 output shape: [2, 64, 48, 48]\n");
    assertStringIncludes(stdout, "resnet_block4 output shape: [2, 512, 3, 3]\n");
    assertStringIncludes(stdout, "fc output shape: [2, 10]\n");
  }
});

Deno.test("--summary adds the table below the trace, --json gives the same numbers", async () => {
  const { code, stdout } = await shapes(["--dry", "--summary"]);
  const net = summarize(resnet18(), [1, 1, 224, 224]);
  assertEquals([code, stdout], [0, `${NOTEBOOK}\n${formatSummary(net)}\n`]);
  assertStringIncludes(stdout, "total: 11,178,378 parameters, 1,734,890,496 MACs,\n");
  assertStringIncludes(stdout, " 23,185,448 bytes of activations\n");
  const json = await shapes(["--dry", "--json"]);
  assertEquals(JSON.parse(json.stdout), {
    input: [1, 1, 224, 224],
    adapter: null,
    ...net,
    name: "resnet18",
  });
});

Deno.test("sizes that do not fit end with 1, a wrong command line with 2", async () => {
  const faults: [string[], number, string][] = [
    [
      ["--size", "0"],
      1,
      "error: input: every dimension must be a positive integer, got [1, 1, 0, 0]",
    ],
    [["--size=-3", "--dry"], 1, "got [1, 1, -3, -3]"],
    [["--batch", "1.5"], 1, "got [1.5, 1, 224, 224]"],
    [["--channels", "0"], 1, "got [1, 0, 224, 224]"],
    [["--size", "100000"], 1, "error: "],
    [["--size", "large"], 2, 'error: --size needs a number, got "large"'],
    [["--size"], 2, "error: --size needs a value"],
    [
      ["--model", "vgg16"],
      2,
      "--model must be one of: resnet18, resnet34, resnet50, resnet101, resnet152, torchvision-",
    ],
    [["--sise", "96"], 2, "error: unknown: --sise"],
    [["224"], 2, "error: unknown: 224"],
  ];
  for (const [args, expected, message] of faults) {
    const { code, stdout, stderr } = await shapes(args);
    assertEquals([args, code, stdout], [args, expected, ""]);
    assertStringIncludes(stderr, message);
    assertEquals(stderr.includes("usage: deno task shapes"), expected === 2);
  }
  const help = await shapes(["--help"]);
  assertEquals([help.code, help.stderr], [0, ""]);
  assert(help.stdout.startsWith("usage: deno task shapes"));
});

Deno.test("the README shows the trace as it is printed", async () => {
  assertStringIncludes(
    await Deno.readTextFile(`${ROOT}README.md`),
    "```text\n" + NOTEBOOK + "```\n",
  );
});

Deno.test("deno task shapes is given no permission", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
  assertEquals(tasks.shapes.command, "deno run -q scripts/shapes.ts");
});
