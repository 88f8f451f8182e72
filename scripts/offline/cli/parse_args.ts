/**
 * Offline stand-in for `@std/cli/parse-args`, for the options that `scripts/cli.ts` gives: all of
 * them, no aliases but letters, and an `unknown` that lets nothing in.
 *
 * @module
 */

/** Names as the real function types them: an array of a type parameter's own type is none. */
type Names<T extends string> = readonly Extract<T, string>[];

interface Options<B extends string, S extends string, C extends string> {
  /** Other names of flags. */
  alias: Readonly<Record<string, string>>;
  /** Flags that are `false` where they are not given. */
  boolean: Names<B>;
  /** Flags that take the next word as their value, or the text after `=`. */
  string: Names<S>;
  /** Flags whose values are collected into an array. */
  collect: Names<C>;
  /** Called with each word that is no flag's, and with the name in it if it looks like a flag. */
  unknown: (arg: string, key?: string) => false;
}

interface Result {
  [name: string]: unknown;
  /** The words after `--`. */
  _: (string | number)[];
}

/** Reads command line arguments: `--name value`, `--name=value`, `--name`, `-n`. */
export function parseArgs<B extends string, S extends string, C extends string>(
  args: readonly string[],
  { alias, boolean, string, collect, unknown }: Options<B, S, C>,
): Result {
  const others = new Map(Object.entries(alias).flatMap(([a, b]) => [[a, b], [b, a]]));
  const namesOf = (key: string) => others.has(key) ? [key, others.get(key)!] : [key];
  const booleans = new Set(boolean.flatMap(namesOf));
  const strings = new Set(string.flatMap(namesOf));
  const collected = new Set(collect.flatMap(namesOf));
  const declared = new Set([...booleans, ...strings, ...collected, ...others.keys()]);

  const result: Result = { _: [] };
  for (const name of booleans) result[name] = collected.has(name) ? [] : false;
  for (const name of strings) if (collected.has(name)) result[name] = [];

  function set(key: string, given: string | boolean, arg: string): void {
    if (!declared.has(key)) {
      unknown(arg, key);
      return;
    }
    const isNumber = typeof given === "string" && /\S/.test(given) && isFinite(Number(given));
    const value = isNumber && !strings.has(key) ? Number(given) : given;
    for (const name of namesOf(key)) {
      if (collected.has(key)) (result[name] as unknown[]).push(value);
      else result[name] = value;
    }
  }

  /** Sets a flag without `=`; returns whether it took the next word, if that can be a value. */
  function setWithNext(key: string, arg: string, next: string, canBeValue: boolean): boolean {
    if (next !== "" && canBeValue && !booleans.has(key)) set(key, next, arg);
    else if (next === "true" || next === "false") set(key, next === "true", arg);
    else {
      set(key, strings.has(key) ? "" : true, arg);
      return false;
    }
    return true;
  }

  /** `-abc`, `-n5`, `-n=5`; returns whether it took the next word. */
  function setLetters(arg: string, next: string): boolean {
    for (let i = 1; i < arg.length - 1; i++) {
      const letter = arg.charAt(i);
      const rest = arg.slice(i + 1);
      let value: string | undefined;
      if (rest === "=") value = "";
      else if (rest !== "-" && /[A-Za-z]/.test(letter)) {
        value = /=(.+)/.exec(rest)?.[1];
        if (value === undefined && /\d(\.\d*)?(e-?\d+)?$/.test(rest)) value = rest;
      }
      if (rest.length > 1 && /\W/.test(rest.charAt(0))) value ??= rest;
      if (value !== undefined) {
        set(letter, value, arg);
        return false;
      }
      set(letter, rest === "-" ? rest : strings.has(letter) ? "" : true, arg);
    }
    if (arg.endsWith("-")) return false;
    return setWithNext(arg.slice(-1), arg, next, !/^--?[^-]/.test(next));
  }

  const end = args.indexOf("--");
  const words = end < 0 ? args : args.slice(0, end);
  for (let i = 0; i < words.length; i++) {
    const arg = words[i]!;
    const next = words[i + 1] ?? "";
    const named = /^--(no-)?(.+?)(?:=(.*))?$/s.exec(arg);
    if (named) {
      const [, no = "", name = "", value] = named;
      if (value !== undefined) set(name, booleans.has(name) ? value !== "false" : value, arg);
      else if (setWithNext(no + name, arg, next, !next.startsWith("-"))) i++;
    } else if (arg.startsWith("-") && arg.length > 1) {
      if (setLetters(arg, next)) i++;
    } else {
      unknown(arg);
    }
  }
  if (end >= 0) result._ = args.slice(end + 1);
  return result;
}
