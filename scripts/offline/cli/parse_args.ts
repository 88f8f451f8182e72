/**
 * Offline stand-in for `@std/cli/parse-args`: the options, defaults and quirks of the real function,
 * except that a dot in a name does not nest (`--a.b` stays the key `"a.b"`), and that the type
 * parameters are fewer, so they must be inferred and not written out.
 *
 * @module
 */

type Flatten<T> = { [K in keyof T]: T[K] };
type OneOrMore<T extends string> = T | readonly T[];

/** Names given more than once are arrays. */
type Collected<K, C, T> = K extends C ? T[] : T;

/** What a name with a default holds. */
type WithDefaults<T, D> =
  & Omit<T, keyof D>
  & { [K in keyof D]: D[K] | (K extends keyof T ? NonNullable<T[K]> : never) };

type Named<B extends string, S extends string, C extends string, N extends string> =
  & { [K in B]: Collected<K, C, boolean> }
  & { [K in Extract<S, C>]: string[] | (K extends N ? false : never) }
  & { [K in Exclude<S, C>]?: string | (K extends N ? false : never) }
  & { [K in Exclude<C, B | S>]: unknown[] | (K extends N ? false : never) };

type Aliased<T, A> =
  & T
  & {
    [K in keyof A & keyof T as A[K] extends string ? A[K] : never]: T[K];
  }
  & {
    [K in keyof A & keyof T as A[K] extends readonly string[] ? A[K][number] : never]: T[K];
  };

type Result<
  B extends string,
  S extends string,
  C extends string,
  N extends string,
  D,
  A,
  DD extends boolean,
> = Flatten<
  & ([B | S | C] extends [never]
    // deno-lint-ignore no-explicit-any
    ? Record<string, any>
    : Record<string, unknown> & Aliased<WithDefaults<Named<B, S, C, N>, D>, A>)
  & { _: (string | number)[] }
  & (DD extends true ? { "--": string[] } : Record<never, never>)
>;

/** What {@linkcode parseArgs} returns. */
export type Args = {
  // deno-lint-ignore no-explicit-any
  [name: string]: any;
  /** The arguments that belong to no option. */
  _: (string | number)[];
  /** The arguments after `--`, if asked for. */
  "--"?: string[];
};

/** Options of {@linkcode parseArgs}. */
export interface ParseOptions<
  B extends string = string,
  S extends string = string,
  C extends string = string,
  N extends string = string,
  D extends Record<string, unknown> = Record<string, unknown>,
  A extends Record<string, OneOrMore<string>> = Record<string, OneOrMore<string>>,
  DD extends boolean = boolean,
> {
  /** Put what follows `--` into `"--"`, rather than into `_`. */
  "--"?: DD;
  /** Other names of an option. */
  alias?: A;
  /** Names that are always booleans, `false` by default; `true` for all without `=`. */
  boolean?: boolean | OneOrMore<B>;
  /** Values of options that are not given. */
  default?: D;
  /** Take everything from the first argument that belongs to no option as it is. */
  stopEarly?: boolean;
  /** Names that are always strings. */
  string?: OneOrMore<S>;
  /** Names whose values are collected into an array. */
  collect?: OneOrMore<C>;
  /** Names that `--no-NAME` sets to `false`. */
  negatable?: OneOrMore<N>;
  /** Called with each argument that no option declares; if it returns `false`, it is left out. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

const isNumeric = (text: string): boolean => text.trim() !== "" && Number.isFinite(Number(text));
const isBoolean = (text: string | undefined): boolean => text === "true" || text === "false";

function list(names: string | boolean | readonly string[] | undefined): string[] {
  return (Array.isArray(names) ? names : [names]).filter((name) => name && name !== true);
}

/** Reads command line arguments: `--name value`, `--name=value`, `--name`, `-n value`, `-abc`. */
export function parseArgs<
  B extends string = never,
  S extends string = never,
  C extends string = never,
  N extends string = never,
  D extends Record<string, unknown> = Record<never, never>,
  const A extends Record<string, OneOrMore<string>> = Record<never, never>,
  DD extends boolean = false,
>(
  args: string[],
  options: ParseOptions<B, S, C, N, D, A, DD> = {},
): Result<B, S, C, N, D, A, DD> {
  const { alias = {}, stopEarly = false, unknown = () => true } = options;

  const synonyms = new Map<string, string[]>();
  for (const [name, others] of Object.entries<OneOrMore<string> | undefined>(alias)) {
    if (others === undefined) throw new TypeError("Alias value must be defined");
    const all = [name, ...list(others)];
    for (const each of all) synonyms.set(each, all.filter((other) => other !== each));
  }
  const withSynonyms = (names: string[]): Set<string> =>
    new Set(names.flatMap((name) => [name, ...synonyms.get(name) ?? []]));

  const allBooleans = options.boolean === true;
  const booleans = withSynonyms(list(options.boolean));
  const strings = withSynonyms(list(options.string));
  const collected = withSynonyms(list(options.collect));
  const negatables = withSynonyms(list(options.negatable));

  const result: Args = { _: [] };

  function set(key: string, given: string | boolean, arg: string, collect = true): void {
    const declared = booleans.has(key) || strings.has(key) || synonyms.has(key) ||
      (allBooleans && /^--[^=]+$/.test(arg));
    if (!declared && unknown(arg, key, given) === false) return;
    const value = typeof given === "string" && !strings.has(key) && isNumeric(given)
      ? Number(given)
      : given;
    for (const name of [key, ...synonyms.get(key) ?? []]) {
      const before = result[name];
      if (!collect || !collected.has(key)) result[name] = value;
      else if (Array.isArray(before)) before.push(value);
      else result[name] = before ? [before, value] : [value];
    }
  }

  const isFlag = (key: string): boolean => booleans.has(key);
  const lone = (key: string): string | boolean => strings.has(key) ? "" : true;

  /** `key` without a value of its own; returns whether it took the next argument. */
  function setWithNext(key: string, arg: string, next: string | undefined, free: boolean): boolean {
    if (next && ((free && !isFlag(key)) || isBoolean(next))) {
      set(key, free && !isFlag(key) ? next : next !== "false", arg);
      return true;
    }
    set(key, lone(key), arg);
    return false;
  }

  /** `-abc`, `-n5`, `-n=5`; returns whether it took the next argument. */
  function setLetters(arg: string, next: string | undefined): boolean {
    const letters = arg.slice(1, -1);
    for (let i = 0; i < letters.length; i++) {
      const letter = letters.charAt(i);
      const rest = arg.slice(i + 2);
      if (rest === "-") {
        set(letter, rest, arg);
        continue;
      }
      if (/[A-Za-z]/.test(letter)) {
        const equals = rest.indexOf("=");
        if (equals >= 0 && equals < rest.length - 1) {
          set(letter, rest.slice(equals + 1), arg);
          return false;
        }
        if (/-?\d+(\.\d*)?(e-?\d+)?$/.test(rest)) {
          set(letter, rest, arg);
          return false;
        }
      }
      if (/\W/.test(letters.charAt(i + 1))) {
        set(letter, rest, arg);
        return false;
      }
      set(letter, lone(letter), arg);
    }
    const last = arg.slice(-1);
    if (last === "-") return false;
    return setWithNext(last, arg, next, next !== undefined && !/^--?[^-]/.test(next));
  }

  const end = args.indexOf("--");
  const before = end < 0 ? args : args.slice(0, end);
  const after = end < 0 ? [] : args.slice(end + 1);

  for (let i = 0; i < before.length; i++) {
    const arg = before[i]!;
    const next = before[i + 1];
    const [, dashes, no, name = "", value] = /^(--?)(?:(?<=--)(no-))?(.+?)(?:=(.+))?$/s.exec(arg) ??
      [];
    if (dashes === "--") {
      if (value !== undefined) {
        set(name, booleans.has(name) ? value !== "false" : value, arg);
      } else if (no && negatables.has(name)) {
        set(name, false, arg, false);
      } else {
        const free = !allBooleans && next !== undefined && !next.startsWith("-");
        if (setWithNext(`${no ?? ""}${name}`, arg, next, free)) i++;
      }
    } else if (dashes === "-") {
      if (setLetters(arg, next)) i++;
    } else {
      if (unknown(arg) !== false) {
        result._.push(strings.has("_") || !isNumeric(arg) ? arg : Number(arg));
      }
      if (stopEarly) {
        result._.push(...before.slice(i + 1));
        break;
      }
    }
  }

  for (const [key, value] of Object.entries(options.default ?? {})) {
    if (Object.hasOwn(result, key)) continue;
    for (const name of [key, ...synonyms.get(key) ?? []]) result[name] = value;
  }
  for (const key of booleans) {
    if (!Object.hasOwn(result, key)) result[key] = collected.has(key) ? [] : false;
  }
  for (const key of strings) {
    if (!Object.hasOwn(result, key) && collected.has(key)) result[key] = [];
  }
  if (options["--"]) result["--"] = after;
  else result._.push(...after);

  return result as Result<B, S, C, N, D, A, DD>;
}
