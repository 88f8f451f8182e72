/**
 * A strict reader of JSON from anywhere. A caller says what a file must hold as a {@link Kind}, and
 * gets that, or an error that names the place, the value and what is wanted.
 *
 * It refuses what `JSON.parse` takes: a key that is there twice (of which that keeps the last, so
 * two readers may see two files), a count that f64 does not hold, and nesting without end. It keeps
 * the order of keys, where `JSON.parse` puts keys like `"0"` first. What is refused is never built,
 * so a file cannot claim more memory than it has bytes.
 *
 * @module
 */

import { brief, quote } from "./text.ts";

/** The most objects and lists that are nested. */
const MAX_DEPTH = 32;
/** Numbers, `true`, `false`, `null`, and what is none of them. */
const WORD = /[-+.\w]*/y;

/** What a value in a file must be, and how it is read. */
export interface Kind<T> {
  /** What it must be, in words. */
  readonly wanted: string;
  /** Reads one. */
  readonly read: (at: JsonReader) => T;
  /** What is taken where an object lacks it; without this, it must be there. */
  readonly absent?: T;
}

/** What reads a {@link Kind}. */
export type Of<K> = K extends Kind<infer T> ? T : never;

/**
 * What a JSON file holds, which must be of a kind.
 *
 * @throws {SyntaxError} or the `error` that is given, where it is something else, is no JSON, an object
 * has a key twice or has `__proto__`, or more than 32 objects and lists are nested.
 *
 * @example
 * ```ts
 * import { count, parseJson, record } from "./json.ts";
 * import { assertEquals, assertThrows } from "@std/assert";
 *
 * const size = record({ rows: count(1), columns: count(1) });
 * assertEquals(parseJson('{"rows":2,"columns":3}', size), { rows: 2, columns: 3 });
 * assertThrows(
 *   () => parseJson('{"rows":2.5,"columns":3}', size, { name: "a.json" }),
 *   SyntaxError,
 *   "a.json: rows must be an integer from 1 to 9007199254740991, is 2.5",
 * );
 * ```
 */
export function parseJson<T>(
  json: string | Uint8Array,
  kind: Kind<T>,
  { name = "", error = SyntaxError as new (message: string, options?: ErrorOptions) => Error } = {},
): T {
  const fail = (what: string, options?: ErrorOptions): never => {
    throw new error(name ? `${name}: ${what}` : what, options);
  };
  let text: string;
  try {
    // A byte-order mark stays, and is refused.
    const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    text = typeof json === "string" ? json : utf8.decode(json);
  } catch (cause) {
    return fail("is not JSON: it is not UTF-8", { cause });
  }
  const reader = new JsonReader(text, fail);
  const value = kind.read(reader);
  reader.end();
  return value;
}

/** A text that is read from left to right, once. */
class JsonReader {
  #at = 0;
  #depth = 0;
  /** The value at this place, as messages show it. */
  #shown = "";
  /** Where this is: names of members, numbers of entries. */
  readonly #path: (string | number)[] = [];

  constructor(readonly text: string, readonly error: (what: string) => never) {}

  /** Throws that something is wrong at this place. */
  fail(what: string): never {
    this.error(this.#where(": ") + what);
  }

  /** Throws that the value at this place must be another. */
  refuse(wanted: string, value: string = this.#shown): never {
    this.error(`${this.#where(" ")}must be ${wanted}, is ${brief(value, 60)}`);
  }

  /** `history[0]: epoch`, and what follows. */
  #where(next: string): string {
    const parts = this.#path.map((x, i) => typeof x === "number" ? `[${x}]` : i > 0 ? `: ${x}` : x);
    return parts.length > 0 ? parts.join("") + next : "";
  }

  /** Reads what is a part of this value, and is called so. */
  within<T>(name: string | number, read: () => T): T {
    this.#path.push(name);
    const value = read();
    this.#path.pop();
    return value;
  }

  /** A string, number, truth or null, or which of the others begins here. */
  scalar(): { readonly value: unknown; readonly text: string } | "{" | "[" {
    const mark = this.#peek(), start = this.#at;
    if (mark === "{" || mark === "[") {
      this.#shown = mark === "{" ? "an object" : "a list";
      return mark;
    }
    // To the closing quote by hand: a regular expression may run out of stack on a long string.
    if (mark === '"') {
      let end = start + 1;
      while (end < this.text.length && this.text[end] !== '"') {
        end += this.text[end] === "\\" ? 2 : 1;
      }
      this.#at = end + 1;
    } else {
      WORD.lastIndex = start;
      WORD.test(this.text);
      this.#at = WORD.lastIndex;
    }
    const text = this.text.slice(start, this.#at);
    // What ends with the file may be half a number.
    if (this.#at >= this.text.length && this.#depth > 0) this.#malformed("more");
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      this.#malformed("a value", start);
    }
    if (typeof value === "string" && !value.isWellFormed()) this.fail("has a lone surrogate");
    this.#shown = text;
    return { value, text };
  }

  /** Reads an object: `read` is called with each key, and reads its value. */
  object(wanted: string, read: (key: string) => void): void {
    const keys = new Set<string>();
    this.#each("{", "}", wanted, () => {
      const key = this.#peek() === '"' ? this.scalar() : this.#malformed("a key in quotes");
      const name = (key as { value: string }).value;
      if (name === "__proto__") this.fail('has the key "__proto__"');
      if (keys.has(name)) this.fail(`has the key ${quote(name)} twice in one object`);
      keys.add(name);
      if (!this.#accept(":")) this.#malformed("a colon");
      read(name);
    });
  }

  /** Reads a list: `read` is called with each entry's number, and reads it. */
  list(wanted: string, read: (i: number) => void): void {
    let i = 0;
    this.#each("[", "]", wanted, () => read(i++));
  }

  #each(open: "{" | "[", close: string, wanted: string, read: () => void): void {
    if (this.scalar() !== open) this.refuse(wanted);
    this.#at++;
    if (++this.#depth > MAX_DEPTH) {
      this.fail(`has more than ${MAX_DEPTH} nested objects and lists`);
    }
    if (!this.#accept(close)) {
      do read(); while (this.#accept(","));
      if (!this.#accept(close)) this.#malformed(`a comma or ${close}`);
    }
    this.#depth--;
  }

  /** Throws where there is more text. */
  end(): void {
    if (this.#peek() !== undefined) this.#malformed("no more");
  }

  #peek(): string | undefined {
    while (this.#at < this.text.length && " \n\r\t".includes(this.text[this.#at]!)) this.#at++;
    return this.text[this.#at];
  }

  #accept(mark: string): boolean {
    const isThere = this.#peek() === mark;
    if (isThere) this.#at++;
    return isThere;
  }

  #malformed(wanted: string, at = this.#at): never {
    const place = at < this.text.length ? `at character ${at}` : "where it ends";
    this.error(`is not JSON: it should have ${wanted} ${place}`);
  }
}

function kind<T>(wanted: string, read: (at: JsonReader) => T): Kind<T> {
  return { wanted, read };
}

/** Any value. */
export const any: Kind<unknown> = kind("a value", (at) => {
  const found = at.scalar();
  if (typeof found === "object") return found.value;
  const list: unknown[] = [], object: Record<string, unknown> = {};
  if (found === "[") at.list("a list", () => list.push(any.read(at)));
  else at.object("an object", (key) => object[key] = any.read(at));
  return found === "[" ? list : object;
});

/** Goes past any value. */
function skip(at: JsonReader): void {
  const found = at.scalar();
  if (found === "[") at.list("", () => skip(at));
  else if (found === "{") at.object("", () => skip(at));
}

/** A string, number, truth or null that passes a test. */
export function value<T>(
  wanted: string,
  allows: (value: unknown, text: string) => boolean,
): Kind<T> {
  return kind(wanted, (at) => {
    const found = at.scalar();
    const fits = typeof found === "object" && allows(found.value, found.text);
    return fits ? found.value as T : at.refuse(wanted);
  });
}

/** A value of whatever form that passes a test, and what is then taken for it. */
export function tested<T>(
  wanted: string,
  allows: (value: unknown) => boolean,
  taken: (value: unknown) => T,
): Kind<T> {
  return kind(wanted, (at) => {
    const found = any.read(at);
    return allows(found) ? taken(found) : at.refuse(wanted, brief(JSON.stringify(found), 60));
  });
}

/** An integer, written as one: not 1.0 or 1e3. */
export function count(min = 0, max: number = Number.MAX_SAFE_INTEGER): Kind<number> {
  const wanted = min === max ? `${min}` : `an integer from ${min} to ${max}`;
  return value(wanted, (x, text) => {
    const fits = Number.isSafeInteger(x) && x as number >= min && x as number <= max;
    return fits && `${x}` === text;
  });
}

/** A finite number that is not negative. */
export function number(max: number = Number.MAX_VALUE): Kind<number> {
  return value(`a number from 0 to ${max}`, (x) => typeof x === "number" && x >= 0 && x <= max);
}

/** A string of at most so many characters. */
export function string(max = 1000): Kind<string> {
  const wanted = max < Infinity ? `a string of at most ${max} characters` : "a string";
  return value(wanted, (x) => typeof x === "string" && x.length <= max);
}

/** What a kind is, but an object may lack it, and then has `absent`. */
export function optional<T>(kind: Kind<T>, absent: T): Kind<T> {
  return { ...kind, absent };
}

/** A list of as many entries as are said. */
export function list<T>(
  kindOf: Kind<T> | ((i: number) => Kind<T>),
  { min = 0, max = Infinity } = {},
): Kind<T[]> {
  const size = max < Infinity ? `${min === max ? "" : `${min} to `}${max}` : `at least ${min}`;
  const wanted = min === 0 && max === Infinity ? "a list" : `a list of ${size}`;
  return kind(wanted, (at) => {
    const found: T[] = [];
    at.list(wanted, (i) => {
      if (i === max) at.refuse(wanted, "longer");
      const { read } = typeof kindOf === "function" ? kindOf(i) : kindOf;
      found.push(at.within(i, () => read(at)));
    });
    return found.length < min ? at.refuse(wanted, `a list of ${found.length}`) : found;
  });
}

/** An object of members that are known; others are passed over, or, where it is `closed`, refused. */
export function record<T extends object>(
  members: { readonly [K in keyof T]: Kind<T[K]> },
  { closed = false } = {},
): Kind<T> {
  const kinds = new Map(Object.entries<Kind<unknown>>(members)), wanted = "an object";
  return kind(wanted, (at) => {
    const found: Record<string, unknown> = {};
    at.object(wanted, (key) => {
      const kind = kinds.get(key);
      if (kind) found[key] = at.within(key, () => kind.read(at));
      else if (closed) at.fail(`has the unknown key ${quote(key)}`);
      else skip(at);
    });
    for (const [key, kind] of kinds) {
      if (Object.hasOwn(found, key)) continue;
      if (!("absent" in kind)) at.within(key, () => at.refuse(kind.wanted, "missing"));
      found[key] = kind.absent;
    }
    return found as T;
  });
}

/** The members of an object of any keys, in the order of the text; and what messages call them. */
export function entries<T>(
  kindOf: Kind<T> | ((key: string) => Kind<T>),
  { max = Infinity, longest = Infinity, name = quote } = {},
): Kind<[key: string, value: T][]> {
  const wanted = `an object${max < Infinity ? ` of at most ${max} members` : ""}`;
  return kind(wanted, (at) => {
    const found: [string, T][] = [];
    at.object(wanted, (key) => {
      if (found.length === max) at.refuse(wanted, "larger");
      if (key.length > longest) at.fail(`has a key of more than ${longest} characters`);
      const { read } = typeof kindOf === "function" ? kindOf(key) : kindOf;
      found.push([key, at.within(name(key), () => read(at))]);
    });
    return found;
  });
}
