/**
 * What a notebook shows of a value: tables, pictures, curves. Jupyter's Deno kernel asks an
 * object's method `Symbol.for("Jupyter.display")` for its media types; nothing else calls it. There
 * are no scripts, and SVG is only a picture: front ends show these even if they do not trust a
 * notebook.
 *
 * @module
 */

import { xml } from "./text.ts";

/** A value as media types: as text, and as HTML. */
export function shownAs(text: string, html: string): Record<string, string> {
  return { "text/plain": text, "text/html": html };
}

/**
 * `value`, which notebooks show by `show` from now on. For everybody else it is as before: the property
 * is in no JSON, no copy and no comparison.
 */
export function displayed<T extends object>(
  value: T,
  show: (value: T) => Record<string, string> | Promise<Record<string, string>>,
): T {
  return Object.defineProperty(value, Symbol.for("Jupyter.display"), { value: () => show(value) });
}

/** A cell of a table: a text, or one on a colour. */
export type Cell = string | { readonly text: string; readonly color: string };

/** A table; the columns but the first `words` are numbers. */
export function htmlTable(
  heads: readonly string[],
  rows: readonly (readonly Cell[])[],
  words = 1,
): string {
  const line = (cells: readonly Cell[], tag: string) =>
    `<tr>${
      cells.map((cell, i) => {
        const { text, color } = typeof cell === "string" ? { text: cell, color: "" } : cell;
        const style = `text-align:${i < words ? "left" : "right"}` +
          (color && `;background-color:${color}`);
        return `<${tag} style="${style}">${xml(text)}</${tag}>`;
      }).join("")
    }</tr>`;
  return `<table>${heads.length > 0 ? line(heads, "th") : ""}${
    rows.map((row) => line(row, "td")).join("")
  }</table>`;
}

/** Pictures in rows, each with words below it. */
export function pictureGrid(
  pictures: readonly { readonly png: Uint8Array; readonly words: string }[],
  { columns = 8, width = 72 }: { columns?: number; width?: number } = {},
): string {
  const cells = pictures.map(({ png, words }) =>
    `<td style="text-align:center"><img width="${width}" alt="${xml(words)}" ` +
    `src="data:image/png;base64,${png.toBase64()}"><br>${xml(words)}</td>`
  );
  const rows = Array.from(
    { length: Math.ceil(cells.length / columns) },
    (_, i) => `<tr>${cells.slice(i * columns, (i + 1) * columns).join("")}</tr>`,
  );
  return `<table>${rows.join("")}</table>`;
}

const WIDTH = 320, HEIGHT = 180, LEFT = 44, RIGHT = 12, TOP = 22, BOTTOM = 20;
/** These show on light and on dark; a picture cannot know the colour of the text around it. */
const COLORS = ["#2f81f7", "#e0731d"], INK = "#888";

/** Lines over the whole numbers from 1 on, by name, as a picture. */
export function curves(lines: Readonly<Record<string, readonly number[]>>): string {
  const named = Object.entries(lines), all = named.flatMap(([, ys]) => ys);
  const least = Math.min(...all), most = Math.max(...all);
  const last = Math.max(1, ...named.map(([, ys]) => ys.length - 1));
  const x = (i: number) => LEFT + i / last * (WIDTH - LEFT - RIGHT);
  const y = (value: number) =>
    TOP + (most > least ? (most - value) / (most - least) : 0.5) * (HEIGHT - TOP - BOTTOM);
  const word = (at: readonly number[], text: string, more = "") =>
    `<text x="${at[0]}" y="${at[1]}" fill="${INK}"${more}>${xml(text)}</text>`;
  const end = ' text-anchor="end"', bottom = HEIGHT - BOTTOM;
  const parts = [
    `<path d="M${LEFT} ${TOP}V${bottom}H${WIDTH - RIGHT}" fill="none" stroke="${INK}"/>`,
    word([LEFT - 5, y(most) + 4], most.toPrecision(3), end),
    ...most > least ? [word([LEFT - 5, y(least) + 4], least.toPrecision(3), end)] : [],
    word([x(0) - 3, HEIGHT - 6], "1"),
    ...named.some(([, ys]) => ys.length > 1)
      ? [word([x(last), HEIGHT - 6], `${last + 1}`, end)]
      : [],
    ...named.flatMap(([name, ys], k) => {
      const color = COLORS[k % COLORS.length]!;
      const points = ys.map((value, i) => [x(i).toFixed(1), y(value).toFixed(1)] as const);
      return [
        word([LEFT + 4 + 140 * k, 12], name).replace(INK, color),
        `<polyline points="${points.join(" ")}" fill="none" stroke="${color}"/>`,
        ...points.length > 40
          ? []
          : points.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="2.5" fill="${color}"/>`),
      ];
    }),
  ];
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" ` +
    `font-family="sans-serif" font-size="11">${parts.join("")}</svg>`;
  const alt = xml(named.map(([name]) => name).join(", "));
  return `<img alt="${alt}" src="data:image/svg+xml;base64,${
    new TextEncoder().encode(svg).toBase64()
  }">`;
}
