/**
 * Paths, for files of this folder that a page loads as well: in a page, `node:path` is an error,
 * even if it is not used.
 *
 * @module
 */

/** What is between the names of a path. */
export const separator = (): string => Deno.build.os === "windows" ? "\\" : "/";

/** Where a path's last name begins, but for what is at its end. */
function cut(path: string): [end: number, last: number] {
  const isMark = (at: number) => path[at] === "/" || path[at] === separator();
  let end = path.length;
  while (end > 1 && isMark(end - 1)) end--;
  let last = end;
  while (last > 0 && !isMark(last - 1)) last--;
  return [end, last];
}

/** Names in a folder; those that are empty are left out. */
export function join(folder: string, ...names: readonly string[]): string {
  const inside = names.filter((name) => name !== "");
  return inside.length === 0 ? folder : [folder.replace(/\/+$/, ""), ...inside].join("/");
}

/** The last name of a path. */
export function basename(path: string): string {
  const [end, last] = cut(path);
  return path.slice(last, end);
}

/** The folder that a path lies in. */
export function dirname(path: string): string {
  const [, last] = cut(path);
  return last === 0 ? "." : last === 1 ? path.slice(0, 1) : path.slice(0, last - 1);
}
