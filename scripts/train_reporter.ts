/**
 * What `deno task train` and `tune` say on stderr while they work: a progress bar in a terminal,
 * else plain lines now and then.
 *
 * @module
 */

import { plain } from "../lib/check/text.ts";
import { stopwatch } from "../lib/measure/timing.ts";
import { ProgressBar } from "@std/cli/unstable-progress-bar";
import type { DownloadProgress } from "../lib/files/download.ts";
import type { Progress } from "../lib/train/evaluator.ts";
import type { TuneProgress } from "../lib/measure/tune.ts";

/** Seconds between two lines of a log. */
const LOG_INTERVAL = 30;

/** `1:02:03`, `2:03`. */
export function formatTime(seconds: number): string {
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** How far it is and how it goes, in a line. */
export function formatProgress(progress: Progress): string {
  const { phase, epoch, step, steps, loss, accuracy, images, of, imagesPerSecond } = progress;
  return [
    `${phase === "train" ? "epoch" : "testing epoch"} ${epoch}, step ${step}/${steps}`,
    ...loss === undefined ? [] : [`loss ${loss.toFixed(4)}`],
    `acc ${accuracy.toFixed(3)}`,
    `${imagesPerSecond.toFixed(imagesPerSecond < 100 ? 1 : 0)} images/s`,
    `${formatTime((of - images) / imagesPerSecond)} left`,
  ].join(", ");
}

/** One bar at a time, and none where nobody watches. */
export class TrainReporter implements AsyncDisposable {
  readonly #terminal = Deno.stderr.isTerminal();
  readonly #quiet: boolean;
  #bar: ProgressBar | undefined;
  /** When the last bar has let go of stderr: until then there can be no other. */
  #stopped: Promise<void> = Promise.resolve();
  /** What the bar is about, and what it says beside. */
  #subject = "";
  #text = "";
  #sinceLine: () => number = () => Infinity;

  /** One that is `quiet` says nothing: another process speaks for this one. */
  constructor({ quiet = false }: { readonly quiet?: boolean } = {}) {
    this.#quiet = quiet;
  }

  /** A result: a line on stdout. */
  result(line: string): void {
    if (!this.#quiet) console.log(line);
  }

  /** A line of its own; names of files and classes in it may have anything in them. */
  async say(line: string): Promise<void> {
    await this.clear();
    if (!this.#quiet) console.error(plain(line));
  }

  /** Takes the bar away. */
  async clear(): Promise<void> {
    const bar = this.#bar;
    this.#bar = undefined;
    if (bar) this.#stopped = bar.stop();
    await this.#stopped;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.clear();
  }

  /** How far a download has come; logs leave it out, as they get a line for each file. */
  async download({ name, received, total }: DownloadProgress): Promise<void> {
    if (total === undefined || !this.#terminal || this.#quiet) return;
    await this.#draw(name, received, total, `${name}, ${(received / 1e6).toFixed(1)} MB`);
  }

  /** How many images of a folder have been decoded. */
  async decoding({ done, of }: { readonly done: number; readonly of: number }): Promise<void> {
    await this.#show("decoding", done, of, `decoded ${done} of ${of} images`);
    if (done === of) this.#sinceLine = () => Infinity; // What comes next is news.
  }

  /** How far an epoch has come. */
  async progress(progress: Progress): Promise<void> {
    const { phase, epoch, step, steps } = progress;
    await this.#show(`${phase} ${epoch}`, step, steps, formatProgress(progress));
  }

  /** How far tuning has come, of so many seconds that it may take. */
  async tuning({ done, of, doing, seconds }: TuneProgress, budget: number): Promise<void> {
    const text = `${done}/${of}, ${formatTime(seconds)} of ${formatTime(budget)}, ${doing}`;
    await this.#show("tuning", done, of, text);
  }

  /** A bar on a terminal; in a log, a line if the last one is long ago. */
  async #show(subject: string, value: number, max: number, text: string): Promise<void> {
    if (this.#quiet) return;
    if (this.#terminal) {
      await this.#draw(subject, value, max, text);
    } else if (this.#sinceLine() > 1000 * LOG_INTERVAL) {
      this.#sinceLine = stopwatch();
      console.error(text);
    }
  }

  async #draw(subject: string, value: number, max: number, text: string): Promise<void> {
    if (subject !== this.#subject) await this.clear();
    await this.#stopped;
    this.#subject = subject;
    this.#text = text;
    this.#bar ??= new ProgressBar({
      max,
      writable: Deno.stderr.writable,
      clear: true,
      fillChar: "█",
      emptyChar: "░",
      barLength: Math.max(8, Math.min(30, Deno.consoleSize().columns - 85)),
      formatter: ({ progressBar }) => `${progressBar} ${this.#text}`,
    });
    this.#bar.value = value;
  }
}
