/**
 * Offline stand-in for `@std/cli/unstable-progress-bar`, for the options that `train_reporter.ts`
 * gives, all of them. Like the real one it does not ask whether it writes to a terminal, locks its
 * `writable`, and keeps the process alive until stopped.
 *
 * @module
 */

interface Options {
  /** Where it is written; stays open. */
  writable: WritableStream<Uint8Array>;
  /** The amount expected. */
  max: number;
  /** Characters in the bar. */
  barLength: number;
  /** The character of what is done. */
  fillChar: string;
  /** The character of what is left. */
  emptyChar: string;
  /** The bar is removed at the end. */
  clear: true;
  /** Makes the line. */
  formatter: (formatter: { progressBar: string }) => string;
}

const LINE_CLEAR = "\r\u001b[K";

/** A bar on one line, rewritten every second; set `value` to move it. */
export class ProgressBar {
  /** The amount so far. */
  value = 0;

  #options: Options;
  #writer: WritableStreamDefaultWriter<string>;
  #pipe: Promise<void>;
  #timer: ReturnType<typeof setInterval>;

  /** Writes the bar, and goes on writing it until it is stopped. */
  constructor(options: Options) {
    this.#options = options;
    const encoder = new TextEncoderStream();
    this.#pipe = encoder.readable.pipeTo(options.writable, { preventClose: true })
      .catch(() => clearInterval(this.#timer));
    this.#writer = encoder.writable.getWriter();
    this.#timer = setInterval(() => this.#print(), 1000);
    this.#print();
  }

  async #print(): Promise<void> {
    const { max, barLength, fillChar, emptyChar, formatter } = this.#options;
    const done = Math.trunc(Math.min(Math.max(this.value / max, 0), 1) * barLength);
    const progressBar = fillChar.repeat(done) + emptyChar.repeat(barLength - done);
    await this.#writer.write(LINE_CLEAR + formatter({ progressBar })).catch(() => {});
  }

  /** Removes the bar, and lets go of the stream. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    try {
      await this.#writer.write(LINE_CLEAR);
      await this.#writer.close();
      await this.#pipe;
    } catch {
      // The stream is gone; there is nothing left to write to.
    }
  }
}
