/**
 * `deno task predict`: what is on pictures. Parse, call, print; the work is in
 * `lib/files/image.ts`, `scripts/predict/` and `lib/train/predict.ts`.
 *
 * @module
 */

import { decodeImage, ImageError, MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS } from "../lib/files/image.ts";
import { plain } from "../lib/check/text.ts";
import { readImageBytes } from "./predict/image_file.ts";
import { isIdx, preparing, type Ready } from "./predict/prepare.ts";
import { Device } from "../lib/device/device.ts";
import { likeliest, predict } from "../lib/train/predict.ts";
import { DEFAULT_CONFIG } from "../lib/train/config.ts";
import { loadTrained } from "../lib/files/trained.ts";
import { loadNet } from "./nets.ts";
import { choice, type Flags, runCommand, setting, UsageError } from "./cli.ts";

/** Classes that are named for an image. */
const TOP = 3;
/** From this many images on, the fast kernels pay, which take longer to compile. */
const MANY = 32;

const usage = () =>
  `usage: deno task predict CHECKPOINT [IMAGE…] [--invert auto|yes|no] [--resize N] [--net FILE]
                         [--json]

Says what is on each image, in one line each: the three likeliest classes with their probabilities.
Images are PNG, JPEG or WebP, of any size, grey or in colour; without any, or for one called -,
standard input is read.

  CHECKPOINT     a checkpoint's folder; a run's, for its latest complete checkpoint; or a
                 .safetensors file, ours or PyTorch's
  --invert WHEN  for networks that were trained on IDX files, which show bright things on black: yes
                 inverts, no does not, and auto inverts images whose edges are light (auto)
  --resize N     size of the images, N×N or NxM (the run's own; ${DEFAULT_CONFIG.resize} for a file alone)
  --net FILE     the module that made the net, if it is one of your own
  --json         print one JSON object instead
  -h, --help     this text

For a network that was trained on a folder of images, an image is turned as its EXIF says, laid on
white where it is transparent, made grey or RGB as in training, and resized.

For a network that was trained on Fashion-MNIST or other IDX files, an image is prepared as that set
was. It is made grey, and inverted if its background, the median of its outermost pixels, is light.
Margins that differ from the background by less than 5% are cut off. The rest is resized to the size
of the data set's images (28×28), or to as much of it as things take there, and put in the middle of
black pixels. An image that has that size already is taken to be one of the data set, and at most
inverted. Then it is resized as in training. One garment on a plain background works; a person who
wears it in a street does not, nor does a garment upside down.

Files may have at most ${MAX_IMAGE_BYTES / 2 ** 20} MiB and ${
    MAX_IMAGE_PIXELS / 2 ** 20
  } Mi pixels (2²⁰ each).

exit code: 0 done; 1 no checkpoint, no adapter, or an image that cannot be used (the others are
predicted all the same); 2 the command line is wrong`;

/** An image of the command line: made ready, or why it is not. */
type Read = { readonly image: string } & ({ readonly ready: Ready } | { readonly error: string });

async function read(
  image: string,
  prepare: (bytes: Uint8Array<ArrayBuffer>, name: string) => Promise<Ready>,
): Promise<Read> {
  const name = image === "-" ? "standard input" : image;
  const open = async () => {
    try {
      return (await Deno.open(image, { read: true })).readable;
    } catch (cause) {
      const why = cause instanceof Deno.errors.NotFound
        ? "there is no such file"
        : (cause as Error).message;
      throw new ImageError(`${name}: ${why}`, { cause });
    }
  };
  try {
    const stream = image === "-" ? Deno.stdin.readable : await open();
    return { image, ready: await prepare(await readImageBytes(stream, name), name) };
  } catch (error) {
    if (error instanceof ImageError) return { image, error: error.message };
    throw error;
  }
}

async function run(
  { values, on, words }: Flags<"invert" | "resize" | "net", "json">,
): Promise<number> {
  const invert = choice("invert", values.invert, ["auto", "yes", "no"]);
  const given = setting("resize", values.resize);
  const [checkpoint, ...files] = words;
  const images = files.length > 0 ? files : ["-"];
  if (files.length === 0 && Deno.stdin.isTerminal()) throw new UsageError("IMAGE is missing");
  if (files.filter((file) => file === "-").length > 1) throw new UsageError("- is given twice");

  const build = values.net === undefined ? undefined : await loadNet(values.net);
  const { net, path, model, data, ...trained } = await loadTrained(checkpoint!, build);
  if (invert !== undefined && !isIdx(data)) {
    throw new UsageError("--invert is for networks that were trained on IDX files only");
  }
  const config = { ...trained.config, ...given !== undefined && { resize: given } };
  const { resize } = config;
  const { channels, size: [height, width], prepare } = preparing(data, resize, invert ?? "auto");
  const all: Read[] = [];
  for (const image of images) {
    all.push(
      await read(
        image,
        async (bytes, name) => prepare(await decodeImage(bytes, name, { channels })),
      ),
    );
  }
  const ready = all.flatMap((one) => "ready" in one ? [one.ready] : []);
  using device = await Device.request({ choice: ready.length < MANY ? "naive" : "auto" });
  const bytes = channels * height * width;
  const pixels = new Uint8Array(ready.length * bytes);
  ready.forEach((one, i) => pixels.set(one.pixels, i * bytes));
  const set = { images: pixels, count: ready.length, channels, height, width };
  const rows = ready.length > 0 ? await predict(net, set, { ...config, device }) : [];

  let next = 0;
  const results = all.map((one) => {
    if ("error" in one) return one;
    const { image, ready: { about } } = one, row = rows[next++]!;
    if (!row.every(Number.isFinite)) {
      return { image, error: `${image}: the network gives numbers that are not finite` };
    }
    return { image, ...about, top: likeliest(row, data.classes, TOP) };
  });
  for (const result of results) {
    if ("error" in result) console.error(plain(`error: ${result.error}`));
    else if (!on.json) {
      const likely = result.top.map((x) => `${x.class} ${x.probability.toFixed(3)}`);
      console.log(plain(`${result.image}: ${likely.join(", ")}`));
    }
  }
  if (on.json) {
    const { description: adapter } = device;
    console.log(
      JSON.stringify({ checkpoint: path, model, resize, adapter, images: results }, null, 2),
    );
  }
  return results.some((result) => "error" in result) ? 1 : 0;
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  return await runCommand(args, {
    name: "predict",
    usage,
    values: ["invert", "resize", "net"],
    switches: ["json"],
    words: { min: 1, max: Infinity, what: "CHECKPOINT" },
  }, run);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
