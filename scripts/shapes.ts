/**
 * `deno task shapes`: the notebook's trace of shapes. Parse, call, print; the work is in
 * `lib/nn/summary.ts`.
 *
 * @module
 */

import { Device, DeviceError } from "../lib/device/device.ts";
import { Random } from "../lib/graph/random.ts";
import { formatShape, type Shape, ShapeError, sizeOf } from "../lib/graph/shape.ts";
import { formatSummary, runLayers, summarize } from "../lib/nn/summary.ts";
import { input, tensor } from "../lib/graph/tensor.ts";
import { DEFAULT_CONFIG, MODELS } from "../lib/train/config.ts";
import { type Flags, modelHelp, runCommand, setting, UsageError } from "./cli.ts";
import { networkMermaid } from "./report/network.ts";

const USAGE = `usage: deno task shapes [--size N] [--batch N] [--channels N] [--dry]
                        [--summary] [--json] [--graph] [--model NAME]

Prints the shape that each child of the network gives, as the notebook does. The layers run on the
WebGPU adapter, on uniform random pixels; where there is none, the shapes are inferred, and a line
on stderr says so.

  --size N       height and width of the images (224)
  --batch N      images (1)
  --channels N   channels of an image, and of the network's first layer (1; torchvision's: 3)
  --dry          infer the shapes, use no device
  --summary      add a table of all layers: parameters, MACs, bytes of activations
  --json         print one JSON object with all of that instead
  --graph        draw the network instead, in Mermaid for Markdown; uses no device
${modelHelp(17)}
  -h, --help     this text

MACs are the multiply-accumulates of convolutions and linear layers, those that meet padding
included; biases, batch norm, ReLU, pooling and additions count as none. Bytes are those of the f32
outputs of the layers that hold no others; the ReLUs and the addition inside a residual block are not
counted. The numbers of a layer that holds others are their sum.

exit code: 0 done; 1 the sizes do not fit the network or the adapter; 2 the command line is wrong`;

/** A flag's value, which must be a number: which ones make sense, the network knows. */
function number(flag: string, word: string | undefined, otherwise: number): number {
  if (word === undefined) return otherwise;
  const value = word.trim() === "" ? NaN : Number(word);
  if (Number.isNaN(value)) throw new UsageError(`--${flag} needs a number, got "${word}"`);
  return value;
}

async function run(
  { values, on: { dry, graph, json, summary } }: Flags<
    "size" | "batch" | "channels" | "model",
    "dry" | "summary" | "json" | "graph"
  >,
): Promise<number> {
  const name = setting("model", values.model) ?? DEFAULT_CONFIG.model;
  const size = number("size", values.size, 224);
  const channels = number("channels", values.channels, name.startsWith("torchvision-") ? 3 : 1);
  const shape: Shape = [number("batch", values.batch, 1), channels, size, size];
  input("input", shape); // Throws for sizes that cannot be.
  // In evaluation mode, as one image of 32×32 leaves the last block one pixel.
  const net = MODELS.get(name)!({ inChannels: channels }).eval();
  const found = summarize(net, shape);
  if (graph) {
    console.log(`\`\`\`mermaid\n${networkMermaid(found, formatShape(shape))}\n\`\`\``);
    return 0;
  }
  using device = dry ? undefined : await findDevice();
  const print = (name: string, shape: Shape) => {
    if (!json) console.log(`${name} output shape: ${formatShape(shape)}`);
  };
  if (device) {
    const x = tensor(pixels(shape), shape);
    for await (const [name, y] of runLayers(net, x, device)) print(name, y.shape);
  } else {
    for (const { name, shape } of found.layers) print(name, shape);
  }
  if (json) {
    const adapter = device?.description ?? null;
    console.log(JSON.stringify({ input: shape, adapter, ...found, name }, null, 2));
  } else if (summary) console.log(`\n${formatSummary(found)}`);
  return 0;
}

/** Uniform random pixels. */
function pixels(shape: Shape): Float32Array<ArrayBuffer> {
  try {
    return new Random(0).uniform(new Float32Array(sizeOf(shape)));
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    const what = `an input of ${formatShape(shape)} is more than this machine holds`;
    throw new ShapeError(what, { cause });
  }
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  return await runCommand(args, {
    name: "shapes",
    usage: () => USAGE,
    values: ["size", "batch", "channels", "model"],
    switches: ["dry", "summary", "json", "graph"],
  }, run);
}

/** The device, or undefined, with a line on stderr, if there is no adapter. */
async function findDevice(): Promise<Device | undefined> {
  try {
    // For one pass, the kernels that compile fastest: the fast ones take a software adapter longer.
    return await Device.request({ choice: "naive" });
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    console.error("no WebGPU adapter here: the shapes are inferred, the layers do not run");
    return undefined;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
