/**
 * `deno task data`: gets Fashion-MNIST. Parse, call, print; the work is in `lib/data/download.ts`.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { ProgressBar } from "@std/cli/unstable-progress-bar";
import { ensureFashionMnist, type EnsureOptions, type Progress } from "../lib/data/download.ts";
import { DataError } from "../lib/data/error.ts";

const USAGE = `usage: deno task data [--dir FOLDER] [--from FOLDER] [--verify]

Gets the four files of Fashion-MNIST (30 MB), checks the sha256 of what they decompress to, and puts
them in place. Files that are there already are kept. An interrupted download is resumed. Where
nothing can be downloaded, Debian's package dataset-fashion-mnist is used if it is installed.

  --dir FOLDER    where to put them (data/fashion-mnist)
  --from FOLDER   copy the .gz files from there instead of downloading
  --verify        also check the files that are there, and replace those that are wrong
  -h, --help      this text

exit code: 0 all files are there; 1 some cannot be had; 2 the command line is wrong`;

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @param where other servers, files and fallback than the published ones, for tests
 * @returns the exit code
 */
export async function main(args: string[], where: EnsureOptions = {}): Promise<number> {
  const unknown: string[] = [];
  const flags = parseArgs(args, {
    string: ["dir", "from"],
    boolean: ["verify", "help"],
    alias: { help: "h" },
    default: { dir: "data/fashion-mnist" },
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
  const { dir, from, verify } = flags;
  if (dir === "") return misuse("--dir needs a folder");
  if (from === "") return misuse("--from needs a folder");

  // One bar at a time, and none where nobody watches: it draws on anything it is given, and keeps
  // the process alive until it is stopped.
  let bar: ProgressBar | undefined;
  let drawn = "";
  const stop = async () => {
    await bar?.stop();
    bar = undefined;
  };
  const onProgress = async ({ name, received, total }: Progress) => {
    if (total === undefined || !Deno.stderr.isTerminal()) return;
    if (drawn !== name) await stop();
    bar ??= new ProgressBar({ max: total, writable: Deno.stderr.writable, clear: true });
    bar.value = received;
    drawn = name;
  };
  const log = async (line: string) => {
    await stop();
    console.log(line);
  };
  try {
    const { fetched, kept } = await ensureFashionMnist(dir, {
      ...where,
      verify,
      log,
      onProgress,
      ...(from === undefined ? {} : { from }),
    });
    const done = fetched.length > 0
      ? `${fetched.length} fetched, ${kept.length} kept`
      : "nothing to do";
    await log(`${dir}: all ${fetched.length + kept.length} files are there (${done})`);
    return 0;
  } catch (error) {
    await stop();
    if (error instanceof DataError) console.error(`error: ${error.message}`);
    else if (
      error instanceof Deno.errors.NotCapable || error instanceof Deno.errors.PermissionDenied
    ) {
      console.error(
        `error: ${error.message}. The task may only touch data/fashion-mnist; for another folder: ` +
          "deno run -A scripts/data.ts --dir FOLDER",
      );
    } else throw error;
    return 1;
  } finally {
    await stop();
  }
}

/** Says what is wrong with the command line. */
function misuse(what: string): number {
  console.error(`error: ${what}\n\n${USAGE}`);
  return 2;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
