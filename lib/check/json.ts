/**
 * JSON from anywhere, read more strictly than `JSON.parse` does: of a key that is there twice, that
 * would keep the last, so that two readers may see two files; and what is nested without end takes
 * some of them out of their stack.
 *
 * It refuses to know what the values mean.
 *
 * @module
 */

import { quote } from "./brief.ts";

/** Objects and lists in each other. */
const MAX_DEPTH = 32;

/**
 * The value that a JSON file holds.
 *
 * @throws {SyntaxError} where it holds none, an object has a key twice or has `__proto__`, or more than
 * 32 objects and lists are in each other. The message goes after the file's name.
 *
 * @example
 * ```ts
 * import { parseJson } from "./json.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = new TextEncoder().encode('{"lr":0.1}');
 * assertEquals(parseJson(bytes), { lr: 0.1 });
 * ```
 */
export function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new SyntaxError("is not JSON: it is not UTF-8", { cause });
  }
  checkKeys(text);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SyntaxError("is not JSON", { cause });
  }
}

/** Refuses what `JSON.parse` would not. What is no JSON at all may pass. */
function checkKeys(text: string): void {
  /** The keys of each object around the place, nothing for a list. */
  const around: (Set<string> | undefined)[] = [];
  let before = "";
  for (let at = 0; at < text.length; at++) {
    const mark = text[at]!;
    if (" \n\r\t".includes(mark)) continue;
    if (mark === '"') {
      const start = at++;
      while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
      const keys = around.at(-1);
      if (keys && (before === "{" || before === ",")) {
        const key = keyOf(text.slice(start, at + 1));
        if (key === "__proto__") throw new SyntaxError('has the key "__proto__"');
        if (keys.has(key)) throw new SyntaxError(`has the key ${quote(key)} twice in one object`);
        keys.add(key);
      }
    } else if (mark === "{" || mark === "[") {
      if (around.push(mark === "{" ? new Set() : undefined) > MAX_DEPTH) {
        throw new SyntaxError(`has more than ${MAX_DEPTH} objects and lists in each other`);
      }
    } else if (mark === "}" || mark === "]") around.pop();
    before = mark;
  }
}

function keyOf(text: string): string {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SyntaxError("is not JSON", { cause });
  }
}
