/**
 * What all commands share: flags that are checked, and how a command ends.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import project from "../deno.json" with { type: "json" };
import { CheckpointError } from "../lib/train/checkpoint.ts";
import { DataError } from "../lib/data/error.ts";
import { DeviceError } from "../lib/device/device.ts";
import { PlanError } from "../lib/plan/plan.ts";
import { SafetensorsError } from "../lib/formats/safetensors.ts";
import { ShapeError } from "../lib/graph/shape.ts";
import { CONFIG_FIELDS, DEFAULT_CONFIG, type TrainConfig } from "../lib/train/config.ts";

/** A wrong command line. */
export class UsageError extends Error {
  /** `UsageError`. */
  override name = "UsageError";
}

/** A command line's words, by what they are. */
export interface Flags<V extends string, S extends string> {
  /** Values of the flags that were given. */
  readonly values: Readonly<Partial<Record<V, string>>>;
  /** Which switches were given. */
  readonly on: Readonly<Record<S, boolean>>;
  /** The other words, in order. */
  readonly words: readonly string[];
}

/** What a command is called with, and how it is described. */
export interface Command<V extends string, S extends string> {
  /** Its task's name. */
  readonly name: string;
  /** The text of `--help`. */
  readonly usage: () => string;
  /** Flags that take a value. */
  readonly values?: readonly V[];
  /** Flags that take none. */
  readonly switches?: readonly S[];
  /** How many other words it takes, and what the first is; none by default. */
  readonly words?: { readonly min: number; readonly max: number; readonly what: string };
}

/** The command line's words, checked one by one; undefined if help is wanted. */
function parse<V extends string, S extends string>(
  args: string[],
  { values = [], switches = [], words }: Command<V, S>,
): Flags<V, S> | undefined {
  const found: string[] = [];
  // As plain strings: `parseArgs` takes no array of a type parameter.
  const takesValue: readonly string[] = values, takesNone: readonly string[] = switches;
  // It would read `--no-out=a` as `--out=a`.
  const mayBeFlags = args.includes("--") ? args.slice(0, args.indexOf("--")) : args;
  const negated = mayBeFlags.find((arg) => /^--no-[^=]+=/.test(arg));
  if (negated !== undefined) throw new UsageError(`unknown: ${negated}`);
  const flags: Record<string, unknown> = parseArgs(args, {
    string: takesValue,
    collect: takesValue,
    boolean: ["help", ...takesNone],
    alias: { help: "h" },
    unknown: (arg: string, key?: string) => {
      if (!words || key !== undefined) throw new UsageError(`unknown: ${arg}`);
      found.push(arg);
      return false;
    },
  });
  if (flags["help"] !== false) return undefined; // `-h=` is "", `-h0` is 0.
  const given: Partial<Record<V, string>> = {};
  for (const name of values) {
    const [value, another] = flags[name] as string[];
    if (another !== undefined) throw new UsageError(`--${name} is given twice`);
    if (value === "") throw new UsageError(`--${name} needs a value`);
    if (value !== undefined) given[name] = value;
  }
  // Words after `--` reach no callback.
  const rest = [...found, ...(flags["_"] as (string | number)[]).map(String)];
  const { min = 0, max = 0, what = "" } = words ?? {};
  if (rest.length < min) throw new UsageError(`${what} is missing`);
  if (rest.length > max) throw new UsageError(`unknown: ${rest[max]}`);
  const on = Object.fromEntries(switches.map((name) => [name, flags[name] === true]));
  return { values: given, on: on as Record<S, boolean>, words: rest };
}

/** A flag's value as the setting of a run that it is; undefined if it was not given. */
export function setting<K extends "batchSize" | "limit" | "resize" | "testLimit">(
  flag: string,
  word: string | undefined,
  name: K,
): NonNullable<TrainConfig[K]> | undefined {
  if (word === undefined) return undefined;
  const { wanted, allows } = CONFIG_FIELDS[name];
  const value = /^\d+$/.test(word) ? Number(word) : NaN;
  if (!allows(value)) throw new UsageError(`--${flag} must be ${wanted}, got "${word}"`);
  return value as NonNullable<TrainConfig[K]>;
}

/** A flag's value, which must be one of some words. */
export function choice<T extends string>(
  flag: string,
  word: string | undefined,
  allowed: readonly T[],
): T | undefined {
  if (word === undefined || allowed.includes(word as T)) return word as T | undefined;
  throw new UsageError(`--${flag} must be one of: ${allowed.join(", ")}, got "${word}"`);
}

/** The value of `--model`, the notebook's where it was not given. */
export function modelName(word: string = DEFAULT_CONFIG.model): string {
  const { wanted, allows } = CONFIG_FIELDS.model;
  if (allows(word)) return word;
  throw new UsageError(`--model must be ${wanted}; there is no model "${word}"`);
}

// deno-lint-ignore no-explicit-any -- errors are made in all ways
type ErrorKind = new (...args: any[]) => Error;

/** Errors whose message is all there is to say: our own, and the file system's. */
const KNOWN: readonly ErrorKind[] = [
  CheckpointError,
  DataError,
  DeviceError,
  PlanError,
  SafetensorsError,
  ShapeError,
  ...Object.values(Deno.errors),
];

/** What a task may do, in words, by the kind of permission. */
const MAY: Readonly<Record<string, (what: readonly string[]) => string>> = {
  read: (paths) => `read in ${folders(paths)}`,
  write: (paths) => `write in ${folders(paths)}`,
  net: (hosts) => `reach ${hosts.join(" and ")}`,
};
const folders = (paths: readonly string[]) => paths.map((path) => `${path}/`).join(" and ");

/** What a refusal by Deno, for the reason that it gives, means for a task. */
function refusal(message: string, reason: string, task: string): string {
  const kind = reason.match(/^Requires (\w+) access/)?.[1] ?? "";
  const sets: Readonly<Record<string, Readonly<Record<string, unknown>>>> = project.permissions;
  const listed = sets[task]?.[kind];
  const may = Array.isArray(listed) && MAY[kind] ? `; it may only ${MAY[kind](listed)}` : "";
  const tasks: Readonly<Record<string, { readonly command: string }>> = project.tasks;
  const script = tasks[task]!.command.match(/\S+\.ts/g)!.at(-1);
  return `${message}. The task \`${task}\` may not do that${may}. ` +
    `Without limits: deno run -A ${script} …`;
}

/** An error, what caused it, and so on. */
function* causes(error: unknown): Generator<Error> {
  for (; error instanceof Error; error = error.cause) yield error;
}

/** Whether an error, or its cause, is of a kind whose message is all there is to say. */
export function isKnown(error: unknown, known: readonly ErrorKind[] = []): boolean {
  const all = [...causes(error)].slice(0, 2);
  return [...KNOWN, ...known].some((kind) => all.some((error) => error instanceof kind));
}

/** What went wrong, in words; undefined for what should not happen. */
function explain(error: unknown, name: string, known: readonly ErrorKind[]): string | undefined {
  const { message } = error as Error;
  const refused = causes(error).find((error) => error instanceof Deno.errors.NotCapable);
  if (refused) return refusal(message, refused.message, name);
  return isKnown(error, known) ? message : undefined;
}

/**
 * Runs a command.
 *
 * @param args the command line's words
 * @param command what they may be
 * @param run the command itself, which returns the exit code
 * @param known further errors whose message is all there is to say
 * @returns the exit code: 1 for such an error, 2 for a wrong command line
 */
export async function runCommand<V extends string, S extends string>(
  args: string[],
  command: Command<V, S>,
  run: (flags: Flags<V, S>) => Promise<number>,
  known: readonly ErrorKind[] = [],
): Promise<number> {
  const { name, usage } = command;
  try {
    const flags = parse(args, command);
    if (flags) return await run(flags);
    console.log(usage());
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      const [synopsis] = usage().split("\n\n");
      console.error(
        `error: ${error.message}\n\n${synopsis}\n\nFor all options: deno task ${name} --help`,
      );
      return 2;
    }
    const message = explain(error, name, known);
    if (message === undefined) throw error;
    console.error(`error: ${message}`);
    return 1;
  }
}

/** Rows as lines whose columns line up: the first to the left, or those that are not `right`. */
export function table(
  rows: readonly (readonly string[])[],
  right: (column: number) => boolean = (column) => column > 0,
): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) =>
    row.map((cell, i) => right(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)).join("  ")
      .trimEnd()
  ).join("\n");
}
