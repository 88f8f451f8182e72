/**
 * Text in messages and documents: shortened, quoted, escaped; and tables in columns.
 *
 * @module
 */

/** A text, cut off where it is longer than `most` characters. */
export function brief(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** A name, quoted. */
export function quote(name: string): string {
  const text = JSON.stringify(brief(name, 80));
  return text.length > 100 ? `${text.slice(0, 99)}…"` : text;
}

/** `batchSize` as `--batch-size`. */
export const flagOf = (name: string): string =>
  `--${name.replace(/[A-Z]/g, (x) => `-${x.toLowerCase()}`)}`;

/** A word of a command as a shell takes it: in quotes where it needs them. */
export const shellWord = (word: string): string =>
  /^[\w%+,./:=@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** A path as a word of a command: one that begins with a dash would be a flag. */
export const pathWord = (path: string): string =>
  shellWord(path.startsWith("-") ? `./${path}` : path);

/**
 * Without what is not seen: line breaks, control and direction characters. What joins letters or
 * parts them, in Persian or in an emoji, stays: without it a path leads elsewhere.
 */
export const plain = (text: string): string =>
  text.replace(/(?:(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}])+/gu, " ");

/** As text or attribute of XML and HTML. */
export const xml = (text: string): string =>
  plain(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;").replaceAll("'", "&#39;");

/** Rows as lines whose columns line up: the first to the left, or those that are not `right`. */
export function table(
  rows: readonly (readonly string[])[],
  right: (column: number) => boolean = (column) => column > 0,
): string {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]!.length))) ?? [];
  return rows.map((row) =>
    row.map((cell, i) => right(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)).join("  ")
      .trimEnd()
  ).join("\n");
}
