/**
 * `deno task shapes`: the notebook's trace of shapes. Parse, call, print; the work is in
 * `lib/summary.ts`.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { Device, DeviceError } from "../lib/device.ts";
import { PlanError } from "../lib/plan.ts";
import { Random } from "../lib/random.ts";
import { formatShape, type Shape, ShapeError, sizeOf } from "../lib/shape.ts";
import { formatSummary, runLayers, summarize } from "../lib/summary.ts";
import { input, tensor } from "../lib/tensor.ts";
import { DEFAULT_CONFIG, MODELS } from "../lib/train_config.ts";
import { networkMermaid } from "./report/network.ts";

const USAGE = `usage: deno task shapes [--size N] [--batch N] [--channels N] [--dry]
                        [--summary] [--json] [--graph] [--model NAME]

Prints the shape that each child of the network gives, as the notebook does. The layers run on the
WebGPU adapter, on uniform random pixels; where there is none, the shapes are inferred, and a line
on stderr says so.

  --size N       height and width of the images (224)
  --batch N      images (1)
  --channels N   channels of an image, and of the network's first layer (1)
  --dry          infer the shapes, use no device
  --summary      add a table of all layers: parameters, MACs, bytes of activations
  --json         print one JSON object with all of that instead
  --graph        draw the network instead, in Mermaid for Markdown; uses no device
  --model NAME   ${[...MODELS.keys()].join(", ")}
  -h, --help     this text

MACs are the multiply-accumulates of convolutions and linear layers, those that meet padding
included; biases, batch norm, ReLU, pooling and additions count as none. Bytes are those of the f32
outputs of the layers that hold no others; the ReLUs and the addition inside a residual block are not
counted. The numbers of a layer that holds others are their sum.

exit code: 0 done; 1 the sizes do not fit the network or the adapter; 2 the command line is wrong`;

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  const unknown: string[] = [];
  const flags = parseArgs(args, {
    string: ["size", "batch", "channels", "model"],
    boolean: ["dry", "summary", "json", "graph", "help"],
    alias: { help: "h" },
    default: { size: "224", batch: "1", channels: "1", model: DEFAULT_CONFIG.model },
    unknown: (arg: string) => {
      unknown.push(arg);
      return false;
    },
  });
  if (unknown.length > 0) return misuse(`unknown: ${unknown.join(" ")}`);
  if (flags.help) {
    console.log(USAGE);
    return 0;
  }
  const { model, dry, summary, json, graph } = flags;
  const build = MODELS.get(model);
  if (!build) return misuse(`there is no model "${model}"`);
  for (const name of ["size", "batch", "channels"] as const) {
    const text = flags[name];
    if (text.trim() === "" || Number.isNaN(Number(text))) {
      return misuse(`--${name} needs a number, got "${text}"`);
    }
  }
  const [batch, channels, size] = [flags.batch, flags.channels, flags.size].map(Number);
  const shape: Shape = [batch!, channels!, size!, size!];

  try {
    input("input", shape); // Refuses sizes that are none.
    const net = build({ inChannels: channels! });
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
      const x = tensor(new Random(0).uniform(new Float32Array(sizeOf(shape))), shape);
      for await (const [name, y] of runLayers(net, x, device)) print(name, y.shape);
    } else {
      for (const { name, shape } of found.layers) print(name, shape);
    }
    if (json) {
      const adapter = device?.description ?? null;
      console.log(JSON.stringify({ input: shape, adapter, ...found, name: model }, null, 2));
    } else if (summary) console.log(`\n${formatSummary(found)}`);
    return 0;
  } catch (error) {
    const said = [ShapeError, PlanError, DeviceError].some((kind) => error instanceof kind);
    if (said) console.error(`error: ${(error as Error).message}`);
    else if (error instanceof RangeError) {
      console.error(`error: an input of ${formatShape(shape)} is more than this machine holds`);
    } else throw error;
    return 1;
  }
}

/** The device, or undefined where there is no adapter, which is said on stderr. */
async function findDevice(): Promise<Device | undefined> {
  try {
    // For one pass, the kernels that compile fastest: the fast ones take a software adapter longer.
    return await Device.request({ schedule: "naive" });
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    console.error("no WebGPU adapter here: the shapes are inferred, the layers do not run");
    return undefined;
  }
}

/** Says what is wrong with the command line. */
function misuse(what: string): number {
  console.error(`error: ${what}\n\n${USAGE}`);
  return 2;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
