/**
 * What all commands share: flags that are checked, and how a command ends.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import project from "../deno.json" with { type: "json" };
import { flagOf, pathWord, plain } from "../lib/check/text.ts";
import { CheckpointError } from "../lib/train/checkpoint.ts";
import { DataError } from "../lib/data/error.ts";
import { DeviceError } from "../lib/device/device.ts";
import { PlanError } from "../lib/plan/plan.ts";
import { SafetensorsError } from "../lib/formats/safetensors.ts";
import { ShapeError } from "../lib/graph/shape.ts";
import { FolderTakenError } from "../lib/files/run.ts";
import { UnknownModelError } from "../lib/files/trained.ts";
import { TunedError } from "../lib/files/tuned.ts";
import { WriteError } from "../lib/files/write.ts";
import {
  CONFIG_FIELDS,
  CONFIG_NAMES,
  DEFAULT_CONFIG,
  MODELS,
  type TrainConfig,
} from "../lib/train/config.ts";

/** A wrong command line. */
export class UsageError extends Error {
  /** `UsageError`. */
  override name = "UsageError";
}

/** What is wrong with images of one's own: what helps Fashion-MNIST's files does not help there. */
export class OwnDataError extends DataError {
  /** Of such an error, as the library throws it. */
  constructor({ code, file, message, cause }: DataError) {
    super(code, file, message.slice(`${file}: `.length), { cause });
  }
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

/** A flag's value as the setting of a run that it is; undefined where it was not given. */
export function setting<K extends keyof TrainConfig>(
  name: K,
  word: string | undefined,
  flag: string = flagOf(name),
): NonNullable<TrainConfig[K]> | undefined {
  if (word === undefined) return undefined;
  const { wanted, allows, parse, normal = (value) => value } = CONFIG_FIELDS[name];
  const value = parse(word);
  if (!allows(value)) throw new UsageError(`${flag} must be ${wanted}, got "${word}"`);
  return normal(value) as NonNullable<TrainConfig[K]>;
}

/** The lines of `--help` about all settings of a run: flag, meaning, default. */
export function settingsHelp(): string {
  return CONFIG_NAMES.map((name) => {
    const { about, value, standard, otherwise, standardWith, wanted, choices, when } =
      CONFIG_FIELDS[name];
    const all = [
      otherwise ?? standard ?? "all",
      ...standardWith ? [standardWith.slice(1).join(": ")] : [],
    ];
    const only = when ? `${flagOf(when[0])} ${when[1]} only: ` : "";
    const words = wanted.replace("one of: ", "");
    const text = choices
      ? `${words} (${all.join("; ")})${about && `: ${about}`}`
      : `${only}${about} (${all.join("; ")})`;
    return optionHelp(`${flagOf(name)} ${value}`, text);
  }).join("\n");
}

/** The lines of `--help` about `--model`, whose text begins in some column. */
export const modelHelp = (indent?: number): string =>
  optionHelp("--model NAME", `${[...MODELS.keys()].join(", ")} (${DEFAULT_CONFIG.model})`, indent);

/** The lines of `--help` about a flag, of at most 100 columns. */
function optionHelp(flag: string, text: string, INDENT = 20): string {
  const lines = [`  ${flag}`.padEnd(INDENT)];
  if (lines[0]!.length > INDENT) lines.push(" ".repeat(INDENT));
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!, space = line.length > INDENT ? " " : "";
    if (line.length + space.length + word.length <= 100) lines[lines.length - 1] += space + word;
    else lines.push(" ".repeat(INDENT) + word);
  }
  return lines.join("\n");
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

// deno-lint-ignore no-explicit-any -- errors are made in all ways
export type ErrorKind = new (...args: any[]) => Error;

/** Errors whose message is all there is to say: our own, and the file system's. */
const KNOWN: readonly ErrorKind[] = [
  CheckpointError,
  DataError,
  DeviceError,
  PlanError,
  SafetensorsError,
  ShapeError,
  WriteError,
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

/** Whether it is the system's, and one that Deno has no kind for: of a full disk, a name that is too long. */
const isOfSystem = ({ name, message }: Error): boolean =>
  name === "Error" && /\(os error \d+\)/.test(message);

/** Whether an error, or its cause, is of a kind whose message is all there is to say. */
export function isKnown(error: unknown, known: readonly ErrorKind[] = []): boolean {
  const kinds = [...KNOWN, ...known];
  return [...causes(error)].slice(0, 2)
    .some((error) => isOfSystem(error) || kinds.some((kind) => error instanceof kind));
}

/** Which task helps against an error of the library, which knows of no tasks. */
export function adviceOn(error: unknown): string | undefined {
  if (error instanceof FolderTakenError) {
    const { path, by } = error;
    const goingOn = by === "run" ? `--resume ${pathWord(path)} goes on, ` : "";
    return `${goingOn}--out DIR takes another folder`;
  }
  if (error instanceof UnknownModelError) return "name the module that makes it: --net FILE";
  if (error instanceof TunedError) return "`deno task tune` writes a new one";
  if (error instanceof OwnDataError) {
    return error.code === "missing-file" ? "--data PATH says where the images lie" : undefined;
  }
  if (!(error instanceof DataError)) return undefined;
  // The last of the servers' faults stands for all of them.
  switch (error.cause instanceof DataError ? "unreachable" : error.code) {
    case "missing-file":
      return "get Fashion-MNIST with `deno task data`";
    case "unreachable":
      return "`deno run -A scripts/data.ts --from FOLDER` copies the files from there";
    case "read-failed":
    case "unsupported-type":
      return undefined;
    default:
      return "for Fashion-MNIST: `deno task data --verify`";
  }
}

/** An error's message, and which task helps. */
export function messageOf(error: unknown): string {
  const advice = adviceOn(error), { message } = error as Error;
  return advice === undefined ? message : `${message}; ${advice}`;
}

/** A message, without what a terminal would obey: names of files may have anything in them. */
const printable = (message: string) => message.split("\n").map(plain).join("\n");

/** What went wrong, in words; undefined for what should not happen. */
function explain(error: unknown, name: string, known: readonly ErrorKind[]): string | undefined {
  const refused = causes(error).find((error) => error instanceof Deno.errors.NotCapable);
  if (refused) return refusal(messageOf(error), refused.message, name);
  return isKnown(error, known) ? messageOf(error) : undefined;
}

/** What says something. */
export interface Voice {
  /** Results, on stdout. */
  readonly result: (text: string) => void;
  /** What is wrong, on stderr. */
  readonly error: (text: string) => void | Promise<void>;
}

/**
 * Runs a command.
 *
 * @param args the command line's words
 * @param command what they may be
 * @param run the command itself, which returns the exit code
 * @param known further errors whose message is all there is to say
 * @param voice what says that; the console by default
 * @returns the exit code: 1 for such an error, 2 for a wrong command line
 */
export async function runCommand<V extends string, S extends string>(
  args: string[],
  command: Command<V, S>,
  run: (flags: Flags<V, S>) => Promise<number>,
  known: readonly ErrorKind[] = [],
  { result, error: complain }: Voice = {
    result: (text) => console.log(text),
    error: (text) => console.error(text),
  },
): Promise<number> {
  const { name, usage } = command;
  try {
    const flags = parse(args, command);
    if (flags) return await run(flags);
    result(usage());
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      const [synopsis] = usage().split("\n\n");
      await complain(
        `error: ${
          printable(error.message)
        }\n\n${synopsis}\n\nFor all options: deno task ${name} --help`,
      );
      return 2;
    }
    const message = explain(error, name, known);
    if (message === undefined) throw error;
    await complain(`error: ${printable(message)}`);
    return 1;
  }
}
