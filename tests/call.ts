/** Commands, run in this process or as a user starts them. */

import { ROOT } from "./folder.ts";

/** What a command printed and its exit code. */
export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** The words of a command line, in quotes or not; the project's folder may have spaces in its name. */
export function wordsOf(line: string): string[] {
  return line.replaceAll(ROOT, "\0").split(" ").filter(Boolean)
    .map((word) => word.replace(/^'(.*)'$/, "$1").replaceAll("\0", ROOT));
}

/** Runs a command in this process, its words in a list or one after the other. */
export async function call(
  main: (args: string[]) => Promise<number>,
  words: string | readonly string[],
): Promise<Ended> {
  const args = typeof words === "string" ? wordsOf(words) : [...words];
  const printed = { log: "", error: "" };
  const { log, error } = console;
  console.log = (line: unknown) => void (printed.log += `${line}\n`);
  console.error = (line: unknown) => void (printed.error += `${line}\n`);
  try {
    const code = await main(args);
    return { code, out: printed.log, err: printed.error };
  } finally {
    Object.assign(console, { log, error });
  }
}

/** How a command is run. */
interface Situation {
  readonly input?: Uint8Array;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Runs `deno ARGS…` in a process of its own, with `input` as its standard input. */
export async function deno(
  args: string[],
  { input = new Uint8Array(), env = {}, cwd = "." }: Situation = {},
): Promise<Ended> {
  const child = new Deno.Command("deno", {
    args,
    cwd,
    env: { NO_COLOR: "1", ...env },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  // A command that does not read closes the pipe.
  await writer.write(input).then(() => writer.close()).catch(() => {});
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}
