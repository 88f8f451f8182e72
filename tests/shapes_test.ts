/**
 * The notebook's shapes, number by number, inferred and run; the summary; and `deno task shapes` as a
 * user starts it. Refuses to test what the layers compute: that is the golden tests' work.
 */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  collectCalls,
  conv2d,
  evaluate,
  formatSummary,
  input,
  type LayerSummary,
  Linear,
  Module,
  Random,
  relu,
  Residual,
  resnet18,
  runLayers,
  Sequential,
  ShapeError,
  sizeOf,
  summarize,
  type Tensor,
  tensor,
  Variable,
} from "@resnette/resnette";

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

const ROOT = new URL("..", import.meta.url).pathname;
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
  const net = resnet18(), x = rand(2, 1, 32, 32);
  const found: [string, readonly number[]][] = [];
  let last = x;
  for await (const [name, y] of runLayers(net, x)) {
    found.push([name, y.shape]);
    last = y;
  }
  assertEquals(found, summarize(net, [2, 1, 32, 32]).layers.map(({ name, shape }) => [name, shape]));
  const [logits, expected] = [await evaluate(last), await evaluate(net.forward(x))];
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

/** A block of one's own: a convolution without a layer, and a layer used twice. */
class Own extends Module {
  readonly kernel = new Variable([8, 2, 3, 3]);
  readonly twice = new Linear(16, 16);

  override forward(x: Tensor): Tensor {
    const y = conv2d(x, this.kernel, undefined, { padding: 1 });
    const flat = new Sequential(this.twice).call;
    void flat;
    return this.twice.call(relu(this.twice.call(reshape2(y))));
  }
}
