/**
 * Ctrl-C and SIGTERM as a signal to abort: what has been done so far is kept.
 *
 * @module
 */

import { stopwatch } from "../lib/measure/timing.ts";

/** Stops on Ctrl-C and SIGTERM; `code` is the exit code then. A second signal stops at once. */
export class Stop implements Disposable {
  readonly #controller = new AbortController();
  readonly #handlers: [Deno.Signal, () => void][];
  /** 0, or after a signal the code to exit with. */
  code = 0;

  /** `say` gets a message when a signal comes: `finishing` says what is still done. */
  constructor(say: (line: string) => unknown, finishing: () => string) {
    const signals: [Deno.Signal, number][] = [["SIGINT", 130]];
    if (Deno.build.os !== "windows") signals.push(["SIGTERM", 143]);
    let sinceFirst = stopwatch();
    this.#handlers = signals.map(([signal, code]) => [signal, () => {
      if (this.code !== 0) {
        // A terminal signals `deno task` too, which passes it on: that is no second one.
        if (sinceFirst() > 1000) Deno.exit(code);
        return;
      }
      sinceFirst = stopwatch();
      this.code = code;
      say(`${signal}: ${finishing()}; a second signal stops at once`);
      this.#controller.abort();
    }]);
    for (const [signal, handler] of this.#handlers) Deno.addSignalListener(signal, handler);
  }

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /**
   * What `work` comes to, or undefined once there is a signal: for work that need not be finished, as
   * the process will end.
   */
  async before<T>(work: Promise<T>): Promise<T | undefined> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const stopped = () => resolve(undefined);
    if (this.signal.aborted) stopped();
    this.signal.addEventListener("abort", stopped);
    try {
      return await Promise.race([work, promise]);
    } finally {
      this.signal.removeEventListener("abort", stopped);
    }
  }

  [Symbol.dispose](): void {
    for (const [signal, handler] of this.#handlers) Deno.removeSignalListener(signal, handler);
  }
}
