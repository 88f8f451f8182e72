/**
 * `deno task data`: gets Fashion-MNIST. Parse, call, print; the work is in `lib/files/download.ts`.
 *
 * @module
 */

import { ensureFashionMnist, type EnsureOptions } from "../lib/files/download.ts";
import { type Flags, runCommand } from "./cli.ts";
import { TrainReporter } from "./train_reporter.ts";

const USAGE = `usage: deno task data [--dir FOLDER] [--from FOLDER] [--verify]

Gets the four files of Fashion-MNIST (30 MB), checks the sha256 of what they decompress to, and puts
them in place. Files that are there already are kept. An interrupted download is resumed. If nothing
can be downloaded, Debian's package dataset-fashion-mnist is used, if it is installed.

  --dir FOLDER    where to put them (data/fashion-mnist)
  --from FOLDER   copy the files from there instead of downloading
  --verify        also check the files that are there, and replace those that are wrong
  -h, --help      this text

The task may use only data/fashion-mnist and the package's folder. To use another FOLDER, run
deno run -A scripts/data.ts.

exit code: 0 all files are there; 1 some cannot be had; 2 the command line is wrong`;

async function run(
  { values: { dir = "data/fashion-mnist", from }, on: { verify } }: Flags<"dir" | "from", "verify">,
  where: EnsureOptions,
): Promise<number> {
  await using reporter = new TrainReporter();
  const log = async (line: string) => {
    await reporter.clear();
    console.log(line);
  };
  const { fetched, kept } = await ensureFashionMnist(dir, {
    ...where,
    verify,
    log,
    onProgress: (progress) => reporter.download(progress),
    ...from !== undefined && { from },
  });
  const done = fetched.length > 0
    ? `${fetched.length} fetched, ${kept.length} kept`
    : "nothing to do";
  await log(`${dir}: all ${fetched.length + kept.length} files are there (${done})`);
  return 0;
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @param where other servers, files and fallback than the published ones, for tests
 * @returns the exit code
 */
export async function main(args: string[], where: EnsureOptions = {}): Promise<number> {
  return await runCommand(args, {
    name: "data",
    usage: () => USAGE,
    values: ["dir", "from"],
    switches: ["verify"],
  }, (flags) => run(flags, where));
}

if (import.meta.main) Deno.exit(await main(Deno.args));
