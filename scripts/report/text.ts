/**
 * Text that comes from elsewhere (names of runs, of adapters, of classes), made harmless for Markdown
 * and for XML; numbers and tables.
 *
 * @module
 */

import { plain, xml } from "../../lib/check/text.ts";

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
