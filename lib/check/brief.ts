/**
 * What an error message shows of a file that may say anything: a little of it.
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
