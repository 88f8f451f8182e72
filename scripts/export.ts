/**
 * `deno task export`: a trained network as a file for other programs. Parse, call, print; the work is
 * in `lib/formats/onnx.ts` and `lib/train/checkpoint.ts`.
 *
 * @module
 */

import { resolve } from "node:path";
import { encodeStateDict } from "../lib/formats/state_dict.ts";
import { FASHION_MNIST_CLASSES } from "../lib/data/fashion_mnist.ts";
import { encodeOnnx, OnnxError } from "../lib/formats/onnx.ts";
import { writeFileWhole } from "../lib/files/write.ts";
import { DEFAULT_CONFIG, VERSION } from "../lib/train/config.ts";
import { loadTrained, type Trained } from "../lib/files/trained.ts";
import { choice, type Flags, runCommand, setting, UsageError } from "./cli.ts";

const FORMATS = ["safetensors", "onnx"] as const;

const usage = () =>
  `usage: deno task export CHECKPOINT --to safetensors|onnx [--out FILE] [--resize N]

Writes a trained network to a file that other programs read.

  CHECKPOINT    a checkpoint's folder; a run's, for its latest complete checkpoint; or a
                .safetensors file, ours or PyTorch's
  --to FORMAT   safetensors: the state dict, with the notebook's keys, for load_state_dict
                onnx: the network, for onnxruntime and others
  --out FILE    where to (beside the checkpoint, with its name)
  --resize N    size of the images (the run's own; ${DEFAULT_CONFIG.resize} for a file alone)
  -h, --help    this text

In ONNX (opset 15) the input is called images, [N, 1, size, size] for any N: grey from 0 (black) to
1, resized from 28×28 as in training. The output is called logits, [N, 10], before softmax. Weights
have the notebook's keys. The file's metadata name the classes. It needs no adapter.

exit code: 0 written; 1 no checkpoint, or it cannot be written; 2 the command line is wrong`;

/** A trained network as an ONNX file. */
async function onnx({ net, model, resize, run }: Trained): Promise<Uint8Array<ArrayBuffer>> {
  const epochs = run?.history.length;
  return await encodeOnnx(net, {
    shape: [1, resize, resize],
    version: VERSION,
    images: `grey from 0 (black) to 1, resized from 28×28 to ${resize}×${resize}`,
    metadata: {
      model,
      classes: JSON.stringify(FASHION_MNIST_CLASSES),
      ...epochs !== undefined && { epochs: `${epochs}` },
    },
  });
}

async function run({ values, words }: Flags<"to" | "out" | "resize", never>): Promise<number> {
  const format = choice("to", values.to, FORMATS);
  if (!format) throw new UsageError(`--to is missing; it is one of: ${FORMATS.join(", ")}`);
  const resize = setting("resize", values.resize);
  const loaded = await loadTrained(words[0]!);
  const { net, path } = loaded;
  const out = values.out ?? `${path.replace(/(\.safetensors|\/+)$/, "")}.${format}`;
  if (resolve(out) === resolve(path)) {
    throw new UsageError(`${out} is what is exported; give another --out`);
  }
  const bytes = format === "onnx"
    ? await onnx(resize === undefined ? loaded : { ...loaded, resize })
    : encodeStateDict(await net.stateDict());
  await writeFileWhole(out, bytes);
  console.log(`${out} (${(bytes.length / 1e6).toFixed(1)} MB)`);
  return 0;
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  return await runCommand(
    args,
    {
      name: "export",
      usage,
      values: ["to", "out", "resize"],
      words: { min: 1, max: 1, what: "CHECKPOINT" },
    },
    run,
    [OnnxError],
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
