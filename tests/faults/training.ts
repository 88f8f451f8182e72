/** Training runs to break: started, watched from outside, and held against one left alone. Not a test. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { MODELS } from "@resnette/resnette/train";
import { shellWord } from "../../lib/check/text.ts";
import { loadCheckpoint } from "../../lib/files/run.ts";
import { readMetrics } from "../../scripts/report/metrics_log.ts";
import { main } from "../../scripts/train.ts";
import { call, type Ended as Called, wordsOf } from "../call.ts";
import { tinyNet } from "../tiny_train.ts";

MODELS.set("tiny", tinyNet);

/** Ten steps an epoch and five in tests, with all that changes how a run goes but its end. */
export const SETTINGS =
  "--model tiny --limit 240 --test-limit 120 --batch-size 24 --resize 32 --lr 0.03 --warmup 5 " +
  "--optimizer sgd --momentum 0.8 --weight-decay 1e-3 --schedule step --step-size 1 --gamma 0.9 " +
  "--label-smoothing 0.1 --augment flip,crop";
/** Steps of an epoch of such a run. */
export const STEPS = 10;

/** The command of {@linkcode Training}, for a shell. */
export const commandOf = (words: string): string =>
  `deno run -q -P=train --no-prompt --no-code-cache tests/tiny_train.ts ${
    wordsOf(words).map(shellWord).join(" ")
  }`;

/** How a process ended, and what it printed. */
export interface Ended {
  readonly code: number;
  /** The signal that ended it, where none of its own handlers did. */
  readonly signal: Deno.Signal | null;
  readonly out: string;
  readonly err: string;
}

/** `deno task train` in a process of its own, with the task's permissions; it does not outlive its test. */
export class Training implements AsyncDisposable {
  readonly ended: Promise<Ended>;
  /** What it has said on stdout and stderr. */
  said = "";
  readonly #child: Deno.ChildProcess;

  /** `within` are words of a shell that come before, as `ulimit -f 8;`; the command may be another. */
  constructor(words: string, within = "", command = commandOf(words)) {
    this.#child = new Deno.Command("sh", {
      args: ["-c", `${within} exec ${command}`],
      env: { NO_COLOR: "1" },
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.ended = this.#end();
  }

  async #end(): Promise<Ended> {
    const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
      let all = "";
      for await (const text of stream.pipeThrough(new TextDecoderStream())) {
        all += text;
        this.said += text;
      }
      return all;
    };
    const { stdout, stderr, status } = this.#child;
    const [out, err, { code, signal }] = await Promise.all([read(stdout), read(stderr), status]);
    return { code, signal, out, err };
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Sends a signal; one that has ended gets none. */
  signal(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal("SIGKILL");
    await this.ended;
  }
}

/** Waits for some milliseconds, or parts of one, and lets nothing else happen here. */
export function nap(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** Waits until `seen` sees it, looking some thousand times a second. */
export async function until(seen: () => boolean): Promise<void> {
  const start = performance.now();
  for (let looks = 1; !seen(); looks++) {
    assert(performance.now() - start < 30_000, "what was waited for did not come");
    nap(0.2);
    // Time to read what the process prints.
    if (looks % 8 === 0) await new Promise((resume) => setTimeout(resume));
  }
}

/** Names in a folder; none if there is no folder. */
export function namesIn(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  } catch (error) {
    const { NotADirectory, NotFound } = Deno.errors;
    if (error instanceof NotFound || error instanceof NotADirectory) return [];
    throw error;
  }
}

/** How far a run has come, by its folder. */
export interface Seen {
  /** Whether it has begun to train. */
  readonly begun: boolean;
  /** Steps in its latest checkpoint. */
  readonly saved: number;
  /** Steps in its metrics. */
  readonly trained: number;
  /** Whether the epoch of the last of those has been tested. */
  readonly tested: boolean;
  /** The folder of a checkpoint that is being written, or was when the process was killed. */
  readonly partial: string | undefined;
}

/** Looks at a run's folder, as fast as can be. */
export function look(run: string): Seen {
  const names = namesIn(`${run}/checkpoints`);
  const partial = names.find((name) => name.startsWith(".partial-"));
  const steps = names.map((name) => {
    const [, epoch, step] = name.match(/^epoch-(\d+)(?:-step-(\d+))?$/) ?? [];
    return epoch === undefined ? 0 : STEPS * (Number(epoch) - (step ? 1 : 0)) + Number(step ?? 0);
  });
  let text = "";
  try {
    text = Deno.readTextFileSync(`${run}/metrics.jsonl`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const last = text.trimEnd().split("\n").at(-1)!;
  return {
    begun: text !== "",
    saved: Math.max(0, ...steps),
    trained: Number(last.match(/"steps":(\d+)/)?.[1] ?? 0),
    tested: last.startsWith('{"kind":"epoch"'),
    partial: partial && `${run}/checkpoints/${partial}`,
  };
}

/** Complete epochs in the latest checkpoint, which must load; 0 if there is none. */
export async function epochsSaved(run: string): Promise<number> {
  if (look(run).saved === 0) return 0;
  return (await loadCheckpoint(run)).checkpoint.run.history.length;
}

/** Files that a killed process leaves half written, below a folder. */
export function unfinished(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    if (/^\.partial-|^\.resnette-/.test(name)) return [`${folder}/${name}`];
    return isDirectory ? unfinished(`${folder}/${name}`) : [];
  });
}

/** A number of seconds, and of bytes of memory, is another one each time. */
const timeless = (json: unknown) =>
  JSON.parse(
    JSON.stringify(json, (key, value) =>
      ["seconds", "time", "memory", "imagesPerSecond", "traffic"].includes(key)
        ? undefined
        : value),
  );

/** Asserts that a run has, after `epochs` epochs, the same state as a `whole` one that was not disturbed. */
export async function assertSameBits(run: string, whole: string, epochs: number): Promise<void> {
  const both = [run, whole].map((path) => `${path}/checkpoints/epoch-${epochs}`);
  for (const file of ["model.safetensors", "optimizer.safetensors"]) {
    const [a, b] = await Promise.all(both.map((path) => Deno.readFile(`${path}/${file}`)));
    assertEquals(a, b, `${run}: ${file}`);
  }
  const [a, b] = await Promise.all(both.map(async (path) => {
    const { config: { epochs: _, ...config }, ...state } = JSON.parse(
      await Deno.readTextFile(`${path}/run.json`),
    );
    return timeless({ config, ...state });
  }));
  assertEquals(a, b, `${run}: run.json`);
}

/** Asserts that a run left, at its end, what the `whole` one left. */
export async function assertSameEnd(run: string, whole: string, epochs: number): Promise<void> {
  await assertSameBits(run, whole, epochs);
  const both = async (file: string) =>
    await Promise.all([run, whole].map((path) => Deno.readTextFile(`${path}/${file}`)));
  assertEquals(...await both("predictions.json") as [string, string]);
  await assertLines(run, await readMetrics(whole));
  for (const markdown of await both("report.md")) {
    assertStringIncludes(markdown, `After epoch ${epochs} of ${epochs}: test accuracy`);
    assertStringIncludes(markdown, "## Classes");
  }
  assertEquals(unfinished(run), []);
}

/** Asserts that `metrics.jsonl` is whole, has no step twice, and says what the other run's says. */
async function assertLines(
  run: string,
  { epochs: expected }: Awaited<ReturnType<typeof readMetrics>>,
): Promise<void> {
  const text = await Deno.readTextFile(`${run}/metrics.jsonl`);
  assert(text.endsWith("}\n"), "the last line is whole");
  const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line));
  const { steps, epochs, warnings } = await readMetrics(run);
  assertEquals(warnings, []);
  assertEquals(lines.length, 1 + steps.length + epochs.length, "no line about the same twice");
  const order = lines.slice(1).map(({ steps }) => steps);
  assertEquals(order, order.toSorted((a, b) => a - b), "in order");
  assertEquals(timeless(epochs), timeless(expected));
  for (const { epoch, loss } of epochs) {
    let sum = 0, before = 0;
    for (const line of steps.filter((line) => line.epoch === epoch)) {
      sum += line.loss * (line.step - before);
      before = line.step;
    }
    assertEquals(before, STEPS, "all steps are in it");
    assert(Math.abs(sum / STEPS - loss) < 1e-4, `epoch ${epoch}: its lines add up to it`);
  }
}

/** Trains in this process. */
export const train = async (words: string): Promise<Called> => await call(main, words);

/** Trains a run that nothing happens to. */
export async function trainWhole(words: string): Promise<void> {
  const { code, err } = await train(words);
  assertEquals(code, 0, err);
}

/** Runs a script of the shell, which must end well; what it prints. */
export async function shell(script: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", script, "sh", ...args],
    env: { NO_COLOR: "1" },
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}
