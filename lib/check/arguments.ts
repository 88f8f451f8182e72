/**
 * Checks of arguments. A public function checks its arguments with these before it uses them, so an
 * error names the wrong argument where it was written. What is behind it does not check again.
 *
 * @module
 */

import { brief } from "./text.ts";

/**
 * An argument that a function does not take; the message names the function, the argument and its
 * value.
 */
export class ArgumentError extends TypeError {
  /** `"ArgumentError"`. */
  override name = "ArgumentError";
}

/** Any value in a few words, for messages: `"3"`, `an array of 2`, `a Float64Array of 4`. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(brief(value, 40));
    case "bigint":
      return `${value}n`;
    case "number":
      return Object.is(value, -0) ? "-0" : `${value}`;
    case "function":
      return value.name ? `the function ${value.name}` : "a function";
    case "object": {
      if (value === null) return "null";
      if (Array.isArray(value)) return `an array of ${value.length}`;
      const kind = withArticle(kindOf(value));
      return ArrayBuffer.isView(value) && "length" in value ? `${kind} of ${value.length}` : kind;
    }
    default:
      return String(value);
  }
}

const withArticle = (name: string) => `${/^[aeiou]/i.test(name) ? "an" : "a"} ${name}`;

/** The class of an object, in a word. */
function kindOf(value: object): string {
  const { constructor } = value;
  const name = typeof constructor === "function" ? constructor.name : "";
  return !name || name === "Object" ? "object" : name;
}

/** Throws that argument `name` of `op` must be `wanted`. */
export function refuse(op: string, name: string, wanted: string, value: unknown): never {
  throw new ArgumentError(`${op}: ${name} must be ${wanted}, got ${shown(value)}`);
}

/** Whether the contents of a value are its keys; those of a list, a Map or a Date, say, are elsewhere. */
function isRecord(value: unknown): value is object {
  return Object.prototype.toString.call(value) === "[object Object]";
}

/**
 * Throws unless `options` is an object whose keys are all in `known`: what is misspelt, or not there
 * yet, is not passed over in silence.
 */
export function checkOptions(op: string, options: object, known: readonly string[]): void {
  if (!isRecord(options)) {
    refuse(op, "options", `an object that may have ${known.join(", ")}`, options);
  }
  for (const key of Object.keys(options)) {
    if (known.includes(key)) continue;
    const has = known.length > 0 ? `it has ${known.join(", ")}` : "it has none";
    throw new ArgumentError(`${op}: there is no option ${JSON.stringify(key)}; ${has}`);
  }
}

/** What a number must be; any finite one where nothing is said. */
export interface Wanted {
  /** Whether it is a whole one. */
  readonly integer?: boolean;
  /** The least it may be. */
  readonly min?: number;
  /** The most it may be. */
  readonly max?: number;
  /** What it must be less than. */
  readonly below?: number;
}

/** Throws unless argument `name` of `op` is a finite number, as wanted. */
export function checkNumber(
  op: string,
  name: string,
  value: unknown,
  { integer = false, min = -Infinity, max = Infinity, below = Infinity }: Wanted = {},
): asserts value is number {
  const fits = typeof value === "number" && Number.isFinite(value) &&
    (!integer || Number.isSafeInteger(value)) && value >= min && value <= max && value < below;
  if (fits) return;
  const bounds = [
    ...min > -Infinity ? [`at least ${min}`] : [],
    ...max < Infinity ? [`at most ${max}`] : [],
    ...below < Infinity ? [`less than ${below}`] : [],
  ];
  const kind = integer ? "an integer" : "a finite number";
  refuse(op, name, bounds.length > 0 ? `${kind}, ${bounds.join(" and ")}` : kind, value);
}

/** Throws unless argument `name` of `op` is true or false. */
export function checkBoolean(op: string, name: string, value: unknown): asserts value is boolean {
  if (typeof value !== "boolean") refuse(op, name, "true or false", value);
}

/** Throws unless argument `name` of `op` is text. */
export function checkString(op: string, name: string, value: unknown): asserts value is string {
  if (typeof value !== "string") refuse(op, name, "a string", value);
}

/** Throws unless argument `name` of `op` can be called. */
export function checkFunction(op: string, name: string, value: unknown): void {
  if (typeof value !== "function") refuse(op, name, "a function", value);
}

/** Throws unless argument `name` of `op`, which must be `wanted`, can be gone through. */
export function checkIterable(op: string, name: string, value: unknown, wanted: string): void {
  const isIterable = typeof (value as Iterable<unknown>)?.[Symbol.iterator] === "function";
  if (!isIterable) refuse(op, name, wanted, value);
}

/** Throws unless argument `name` of `op` is an object, of whatever keys. */
export function checkObject(op: string, name: string, value: unknown): asserts value is object {
  if (!isRecord(value)) refuse(op, name, "an object", value);
}

/** Throws unless argument `name` of `op` is one of some words. */
export function checkChoice(
  op: string,
  name: string,
  value: unknown,
  choices: readonly string[],
): void {
  if (choices.includes(value as string)) return;
  refuse(op, name, `one of ${choices.join(", ")}`, value);
}

/** Throws unless argument `name` of `op` is a list or typed array of numbers, each as wanted. */
export function checkNumbers(
  op: string,
  name: string,
  values: unknown,
  wanted?: Wanted,
): asserts values is ArrayLike<number> {
  const isList = Array.isArray(values) || ArrayBuffer.isView(values) && "length" in values;
  if (!isList) refuse(op, name, "a list of numbers", values);
  const list = values as ArrayLike<unknown>;
  for (let i = 0; i < list.length; i++) {
    if (wanted) checkNumber(op, `${name}[${i}]`, list[i], wanted);
    else if (typeof list[i] !== "number") refuse(op, `${name}[${i}]`, "a number", list[i]);
  }
}

/** Throws unless argument `name` of `op` is an object of numbers, any or each as wanted. */
export function checkValues(op: string, name: string, values: object, wanted?: Wanted): void {
  checkObject(op, name, values);
  for (const [key, value] of Object.entries(values)) {
    if (wanted) checkNumber(op, `${name}.${key}`, value, wanted);
    else if (typeof value !== "number") refuse(op, `${name}.${key}`, "a number", value);
  }
}

/** Throws unless argument `name` of `op` is an instance of a class. */
export function checkInstance<T>(
  op: string,
  name: string,
  value: unknown,
  kind: { readonly prototype: T; readonly name: string },
): asserts value is T {
  // Classes with private constructors have no type that says so.
  if (value instanceof (kind as unknown as typeof Object)) return;
  refuse(op, name, withArticle(kind.name), value);
}

/**
 * Numbers as f32, in an array of their own: from a typed array whose values f32 holds exactly, or
 * from a list of numbers, which are rounded.
 */
export function toFloats(op: string, name: string, values: unknown): Float32Array<ArrayBuffer> {
  if (Array.isArray(values)) checkNumbers(op, name, values);
  else if (!isExactInF32(values)) refuse(op, name, "a Float32Array or a list of numbers", values);
  return new Float32Array(values);
}

/** Whether f32 holds every value of a typed array's type. */
export function isExactInF32(
  values: unknown,
): values is Float32Array | Int8Array | Uint8Array | Uint8ClampedArray | Int16Array | Uint16Array {
  return values instanceof Float32Array || values instanceof Int8Array ||
    values instanceof Uint8Array || values instanceof Uint8ClampedArray ||
    values instanceof Int16Array || values instanceof Uint16Array ||
    (typeof Float16Array === "function" && values instanceof Float16Array);
}
