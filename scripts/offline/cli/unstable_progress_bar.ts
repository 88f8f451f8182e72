/**
 * Offline stand-in for `@std/cli/unstable-progress-bar`, complete. Like the real one it does not ask
 * whether it writes to a terminal, locks its `writable`, and keeps the process alive until stopped.
 *
 * @module
 */

/** What a formatter is given. */
export interface ProgressBarFormatter {
  /** The time so far, as `mm:ss`. */
  styledTime: string;
  /** The amount so far, as `0.40/97.66 KiB`. */
  styledData: (fractions?: number) => string;
  /** The bar, as `###-------`. */
  progressBar: string;
  /** Milliseconds since the start. */
  time: number;
  /** `time` of the last call. */
  previousTime: number;
  /** The amount so far. */
  value: number;
  /** `value` of the last call. */
  previousValue: number;
  /** The amount expected. */
  max: number;
}

/** Options of {@linkcode ProgressBar}. */
export interface ProgressBarOptions {
  /** Where it is written: stderr by default. */
  writable?: WritableStream<Uint8Array>;
  /** The amount to start from. */
  value?: number;
  /** The amount expected. */
  max: number;
  /** Characters in the bar: 50 by default. */
  barLength?: number;
  /** The character of what is done: `#` by default. */
  fillChar?: string;
  /** The character of what is left: `-` by default. */
  emptyChar?: string;
  /** Whether to remove the bar at the end. */
  clear?: boolean;
  /** Makes the line: `[mm:ss] [###-------] [0.24/97.6 KiB]` by default. */
  formatter?: (formatter: ProgressBarFormatter) => string;
  /** Whether `writable` stays open at the end: it does by default. */
  keepOpen?: boolean;
  /** Milliseconds between two writes: 1000 by default. */
  interval?: number;
}

const LINE_CLEAR = "\r\u001b[K";
const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB"];

function inUnits(value: number, max: number, fractions: number): string {
  let power = 1;
  while (power < UNITS.length && max >= 1024 ** (power + 1)) power++;
  const [v, m] = [value, max].map((n) => (n / 1024 ** power).toFixed(fractions));
  return `${v}/${m} ${UNITS[power - 1]}`;
}

function minutes(time: number): string {
  const seconds = Math.floor(time / 1000);
  return [Math.floor(seconds / 60), seconds % 60]
    .map((n) => String(n).padStart(2, "0")).join(":");
}

/** A bar on one line, rewritten at intervals; set `value` to move it. */
export class ProgressBar {
  /** The amount so far. */
  value: number;
  /** The amount expected. */
  max: number;

  #options: Required<ProgressBarOptions>;
  #writer: WritableStreamDefaultWriter<string>;
  #pipe: Promise<void>;
  #timer: ReturnType<typeof setInterval>;
  #start = Date.now();
  #previousTime = 0;
  #previousValue: number;

  /** Writes the bar, and goes on writing it until it is stopped. */
  constructor(options: ProgressBarOptions) {
    this.#options = {
      value: 0,
      barLength: 50,
      fillChar: "#",
      emptyChar: "-",
      clear: false,
      formatter: (x) => `[${x.styledTime}] [${x.progressBar}] [${x.styledData()}]`,
      keepOpen: true,
      interval: 1000,
      ...options,
      writable: options.writable ?? Deno.stderr.writable,
    };
    this.value = this.#previousValue = this.#options.value;
    this.max = options.max;
    const encoder = new TextEncoderStream();
    this.#pipe = encoder.readable
      .pipeTo(this.#options.writable, { preventClose: this.#options.keepOpen })
      .catch(() => clearInterval(this.#timer));
    this.#writer = encoder.writable.getWriter();
    this.#timer = setInterval(() => this.#print(), this.#options.interval);
    this.#print();
  }

  async #print(): Promise<void> {
    const { barLength, fillChar, emptyChar, formatter } = this.#options;
    const { value, max } = this;
    const time = Date.now() - this.#start;
    const done = Math.trunc(Math.min(Math.max(value / max, 0), 1) * barLength);
    const line = formatter({
      styledTime: minutes(time),
      styledData: (fractions = 2) => inUnits(value, max, fractions),
      progressBar: fillChar.repeat(done) + emptyChar.repeat(barLength - done),
      time,
      previousTime: this.#previousTime,
      value,
      previousValue: this.#previousValue,
      max,
    });
    this.#previousTime = time;
    this.#previousValue = value;
    await this.#writer.write(LINE_CLEAR + line).catch(() => {});
  }

  /** Writes the bar for the last time, or removes it, and lets go of the stream. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    try {
      if (this.#options.clear) {
        await this.#writer.write(LINE_CLEAR);
      } else {
        await this.#print();
        await this.#writer.write("\n");
      }
      await this.#writer.close();
      await this.#pipe;
    } catch {
      // The stream is gone; there is nothing left to write to.
    }
  }
}
