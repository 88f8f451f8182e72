/**
 * `deno task export`: a trained network as a file for other programs. Parse, call, print; the work
 * is in `lib/formats/`.
 *
 * @module
 */

import { resolve } from "node:path";
import { encodeStateDict } from "../lib/formats/state_dict.ts";
import { encodeOnnx, OnnxError } from "../lib/formats/onnx.ts";
import { writeFileWhole } from "../lib/files/write.ts";
import { pair } from "../lib/graph/shape.ts";
import { DEFAULT_CONFIG, sizeText, VERSION } from "../lib/train/config.ts";
import { loadTrained, type Trained } from "../lib/files/trained.ts";
import { choice, type Flags, runCommand, setting, UsageError } from "./cli.ts";
import { loadNet } from "./nets.ts";

const FORMATS = ["safetensors", "onnx"] as const;

const usage = () =>
  `usage: deno task export CHECKPOINT --to safetensors|onnx [--out FILE] [--resize N]
                        [--net FILE]

Writes a trained network to a file that other programs read.

  CHECKPOINT    a checkpoint's folder; a run's, for its latest complete checkpoint; or a
                .safetensors file, ours or PyTorch's
  --to FORMAT   safetensors: the state dict, with the notebook's keys, for load_state_dict
                onnx: the network, for onnxruntime and others
  --out FILE    where to write it (beside the checkpoint, with its name)
  --resize N    size of the images (the run's own; ${DEFAULT_CONFIG.resize} for a file alone)
  --net FILE    the module that made the net, if it is one of your own
  -h, --help    this text

In ONNX (opset 15) the input is called images, [N, channels, rows, columns] for any N: values from 0
(black) to 1, minus the mean and divided by the standard deviation that the run was trained with, if
any. The file's metadata have both, and the names of the classes. The output is called logits,
[N, classes], before softmax. Weights have the state dict's keys. The command needs no adapter.

exit code: 0 written; 1 no checkpoint, or it cannot be written; 2 the command line is wrong`;

/** A trained network as an ONNX file. */
async function onnx({ net, model, config, data, run }: Trained): Promise<Uint8Array<ArrayBuffer>> {
  const epochs = run?.history.length, { resize, mean, std } = config;
  const channels = config.channels ?? data.channels;
  const from = data.kind === "folder" ? "" : ` from ${sizeText([data.height, data.width])}`;
  const normalized = mean || std
    ? `, then less ${mean ?? 0} and divided by ${std ?? 1} by channel`
    : "";
  return await encodeOnnx(net, {
    shape: [channels, ...pair("export", "resize", resize, 1)],
    version: VERSION,
    images: `${channels === 1 ? "grey" : channels === 3 ? "RGB" : `${channels} channels`} ` +
      `from 0 (black) to 1, resized${from} to ${sizeText(resize)}${normalized}`,
    metadata: {
      model,
      classes: JSON.stringify(data.classes),
      ...mean && { mean: JSON.stringify(mean) },
      ...std && { std: JSON.stringify(std) },
      ...epochs !== undefined && { epochs: `${epochs}` },
    },
  });
}

async function run(
  { values, words }: Flags<"to" | "out" | "resize" | "net", never>,
): Promise<number> {
  const format = choice("to", values.to, FORMATS);
  if (!format) throw new UsageError(`--to is missing; it is one of: ${FORMATS.join(", ")}`);
  const resize = setting("resize", values.resize);
  const build = values.net === undefined ? undefined : await loadNet(values.net);
  const loaded = await loadTrained(words[0]!, build);
  const { net, path } = loaded;
  const out = values.out ?? `${path.replace(/(\.safetensors|\/+)$/, "")}.${format}`;
  if (resolve(out) === resolve(path)) {
    throw new UsageError(`${out} is what is exported; give another --out`);
  }
  const bytes = format === "onnx"
    ? await onnx(
      resize === undefined ? loaded : { ...loaded, config: { ...loaded.config, resize } },
    )
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
      values: ["to", "out", "resize", "net"],
      words: { min: 1, max: 1, what: "CHECKPOINT" },
    },
    run,
    [OnnxError],
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
