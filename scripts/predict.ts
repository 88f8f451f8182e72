/**
 * `deno task predict`: what garments are on pictures. Parse, call, print; the work is in
 * `lib/files/image.ts`, `scripts/predict/photo.ts` and `lib/train/predict.ts`.
 *
 * @module
 */

import { FASHION_MNIST_CLASSES } from "../lib/data/fashion_mnist.ts";
import { decodeGrey, ImageError, MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS } from "../lib/files/image.ts";
import { readImageBytes } from "./predict/image_file.ts";
import { type Garment, prepareGarment } from "./predict/photo.ts";
import { Device } from "../lib/device/device.ts";
import { likeliest, predict } from "../lib/train/predict.ts";
import { DEFAULT_CONFIG } from "../lib/train/config.ts";
import { loadTrained } from "../lib/files/trained.ts";
import { choice, type Flags, runCommand, setting, UsageError } from "./cli.ts";

/** Classes that are named for an image. */
const TOP = 3;
/** From this many images on, the fast kernels pay, which take longer to compile. */
const MANY = 32;

const usage = () =>
  `usage: deno task predict CHECKPOINT [IMAGE…] [--invert auto|yes|no] [--resize N] [--json]

Says which garment is on each image, one line an image: the three likeliest classes with their
probabilities. Images are PNG, JPEG or WebP, of any size, grey or in colour; without any, or for one
called -, standard input is read.

  CHECKPOINT     a checkpoint's folder; a run's, for its latest complete checkpoint; or a
                 .safetensors file, ours or PyTorch's
  --invert WHEN  the network knows bright garments on black: yes inverts, no does not, and auto
                 inverts images whose edges are light (auto)
  --resize N     size of the images (the run's own; ${DEFAULT_CONFIG.resize} for a file alone)
  --json         print one JSON object instead
  -h, --help     this text

An image is prepared as Fashion-MNIST was: made grey (transparency is laid on white), and inverted
where its background, the median of its outermost pixels, is light; what differs from that by less
than 5% is cut off on all sides; the rest is resized so that its longer side is 28, and put in the
middle of 28×28 black pixels. An image of 28×28 is taken to be one of the data set, and at most
inverted. After that it is resized as in training. One garment on a plain background works; a person
who wears it in a street does not, nor does a garment upside down.

Files may have ${MAX_IMAGE_BYTES / 2 ** 20} MiB and ${MAX_IMAGE_PIXELS / 2 ** 20} Mi pixels.

exit code: 0 done; 1 no checkpoint, no adapter, or an image that cannot be used (the others are
predicted all the same); 2 the command line is wrong`;

/** An image of the command line: prepared, or why it is not. */
type Read =
  & { readonly image: string }
  & ({ readonly garment: Garment } | { readonly error: string });

async function read(image: string, invert: "auto" | "yes" | "no"): Promise<Read> {
  const name = image === "-" ? "standard input" : image;
  try {
    const open = async () => (await Deno.open(image, { read: true })).readable;
    const stream = image === "-" ? Deno.stdin.readable : await open();
    const bytes = await readImageBytes(stream, name);
    return { image, garment: prepareGarment(await decodeGrey(bytes, name), { invert }) };
  } catch (error) {
    if (error instanceof ImageError) return { image, error: error.message };
    const { NotFound, PermissionDenied, NotCapable } = Deno.errors;
    if (error instanceof NotFound) return { image, error: `${name}: there is no such file` };
    if (![PermissionDenied, NotCapable].some((kind) => error instanceof kind)) throw error;
    return { image, error: `${name}: ${(error as Error).message}` };
  }
}

async function run({ values, on, words }: Flags<"invert" | "resize", "json">): Promise<number> {
  const invert = choice("invert", values.invert, ["auto", "yes", "no"]) ?? "auto";
  const given = setting("resize", values.resize);
  const [checkpoint, ...files] = words;
  const images = files.length > 0 ? files : ["-"];
  if (files.length === 0 && Deno.stdin.isTerminal()) throw new UsageError("IMAGE is missing");
  if (files.filter((file) => file === "-").length > 1) throw new UsageError("- is given twice");

  const { net, path, model, ...trained } = await loadTrained(checkpoint!);
  const resize = given ?? trained.resize;
  const all: Read[] = [];
  for (const image of images) all.push(await read(image, invert));
  const garments = all.flatMap((one) => "garment" in one ? [one.garment] : []);
  using device = await Device.request({ choice: garments.length < MANY ? "naive" : "auto" });
  const pixels = new Uint8Array(garments.length * 28 * 28);
  garments.forEach((garment, i) => pixels.set(garment.pixels, i * 28 * 28));
  const set = { images: pixels, count: garments.length, height: 28, width: 28 };
  const rows = garments.length > 0 ? await predict(net, set, { resize, device }) : [];

  let next = 0;
  const results = all.map((one) => {
    if ("error" in one) return one;
    const { image, garment: { inverted, box } } = one;
    return { image, inverted, box, top: likeliest(rows[next++]!, FASHION_MNIST_CLASSES, TOP) };
  });
  for (const result of results) {
    if ("error" in result) console.error(`error: ${result.error}`);
    else if (!on.json) {
      const likely = result.top.map((x) => `${x.class} ${x.probability.toFixed(3)}`);
      console.log(`${result.image}: ${likely.join(", ")}`);
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
    values: ["invert", "resize"],
    switches: ["json"],
    words: { min: 1, max: Infinity, what: "CHECKPOINT" },
  }, run);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
