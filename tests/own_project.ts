/**
 * A folder in which commands run as in the project's: their cache is its `data/cache`, their runs are
 * in its `runs`, and they may do what their tasks may. Not a test.
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import project from "../deno.json" with { type: "json" };
import { deno, type Ended, wordsOf } from "./call.ts";
import { inFolder, ROOT } from "./folder.ts";

/** A command that may run there. */
export type Task = "train" | "eval" | "export" | "predict" | "report";

/** The words of a command: in a list, or one after the other. */
export type Words = string | readonly string[];

/** Such a folder. */
export interface OwnProject {
  /** Its path. */
  readonly folder: string;
  /** Runs a command, with `tiny` among the models. */
  run(task: Task, words: Words): Promise<Ended>;
  /** The same for one that must go well. */
  done(task: Task, words: Words): Promise<Ended>;
  /** The same for one that must fail with a code and a message, and not with a stack trace. */
  fails(task: Task, words: Words, code: number, message: string): Promise<void>;
  /** Starts it, and sends it a signal once it has said something. */
  stop(task: Task, words: Words, signal: Deno.Signal, said: string): Promise<Ended>;
  /** The files and folders in one of its folders. */
  names(path: string): string[];
}

/** The words that Deno runs a command with: the task's permissions, in whatever folder that is. */
function commandOf(task: Task, words: Words): string[] {
  const permissions: Readonly<Record<string, boolean | string[]>> = project.permissions[task];
  const allowed = Object.entries(permissions).map(([kind, what]) =>
    Array.isArray(what) ? `--allow-${kind}=${what.join(",")}` : `--allow-${kind}`
  );
  return [
    ...["run", "-q", "--no-prompt", "--config", `${ROOT}deno.json`, ...allowed],
    `${ROOT}tests/tiny_train.ts`,
    ...task === "train" ? [] : [task],
    ...typeof words === "string" ? wordsOf(words) : words,
  ];
}

/** Runs `use` with a new folder. */
export async function inProject(use: (project: OwnProject) => Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    const run = (task: Task, words: Words) => deno(commandOf(task, words), { cwd: folder });
    await use({
      folder,
      run,
      async done(task, words) {
        const ended = await run(task, words);
        assertEquals(ended.code, 0, `${task} ${words}: ${ended.err}`);
        return ended;
      },
      async fails(task, words, code, message) {
        const ended = await run(task, words);
        assertEquals([ended.code, ended.err.includes("Uncaught")], [code, false], ended.err);
        assertStringIncludes(ended.err, message, `${task} ${words}`);
      },
      async stop(task, words, signal, said) {
        const child = new Deno.Command("deno", {
          args: commandOf(task, words),
          cwd: folder,
          env: { NO_COLOR: "1" },
          stdout: "piped",
          stderr: "piped",
        }).spawn();
        const out = new Response(child.stdout).text();
        let err = "", sent = false;
        for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
          err += text;
          if (sent || !err.includes(said)) continue;
          child.kill(signal);
          sent = true;
        }
        return { code: (await child.status).code, out: await out, err };
      },
      names: (path) => [...Deno.readDirSync(`${folder}/${path}`)].map(({ name }) => name).sort(),
    });
  });
}
