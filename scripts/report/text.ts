/**
 * Text that comes from elsewhere (names of runs, of adapters, of classes), made harmless for Markdown
 * and for XML; numbers and tables.
 *
 * @module
 */

import { plain, xml } from "../../lib/check/text.ts";
import type { Traffic } from "../../lib/train/collective.ts";

export { plain, xml };

/** As literal text of Markdown: no markup, no HTML, and no link. */
export const markdown = (text: string): string =>
  plain(text).replace(/[\\`*_{}[\]<>|~$&!#@:]/g, "\\$&").replace(/\bwww\./gi, "www\\.");

/** A number with `digits` decimals, or a dash if it is no number. */
export const fixed = (x: number | undefined, digits: number): string =>
  x === undefined || !Number.isFinite(x) ? "–" : x.toFixed(digits);

/** `1,234`. */
export const whole = (x: number): string => x.toLocaleString("en-US");

/** A table of Markdown; cells are Markdown already. All columns but the first `words` are numbers. */
export function table(heads: readonly string[], rows: readonly string[][], words = 1): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [heads, heads.map((_, i) => i < words ? "---" : "---:"), ...rows].map(line).join("\n");
}

/** Ranks by the machines that they are on: `4 ranks, 2 on a and 2 on b`. */
export function ranksText(hosts: readonly string[]): string {
  const counts = [...new Set(hosts)].map((host) =>
    `${hosts.filter((other) => other === host).length} on ${host}`
  );
  return `${hosts.length} ranks, ${counts.join(" and ")}`;
}

/** What is to be said of predictions, by their probabilities, if some are made of NaN or infinities. */
export function notFinite(probability: ArrayLike<number>): string | undefined {
  const count = Array.from(probability).filter(Number.isNaN).length;
  if (count === 0) return undefined;
  const some = `${whole(count)} of ${whole(probability.length)} test images`;
  return `for ${some} the net gives numbers that are not finite; what it is said to take them for ` +
    "means nothing";
}

/** What a step has to say to other ranks, on average. */
export function perStep({ steps, messages, bytes, waits, waited }: Traffic) {
  const each = (sum: number, digits: number) => (sum / Math.max(1, steps)).toFixed(digits);
  return {
    messages: each(messages, 1),
    megabytes: each(bytes / 1e6, 2),
    waits: each(waits, 1),
    milliseconds: each(waited, 1),
  };
}
