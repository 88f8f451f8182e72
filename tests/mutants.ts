/**
 * Damaged and hostile files, drawn from a seed: of bytes, and of JSON; and the loop that has them read.
 * Not a test.
 */

import process from "node:process";
import v8 from "node:v8";
import vm from "node:vm";
import { assert } from "@std/assert";
import type { Random } from "@resnette/resnette";
import { draws, report, SEED } from "./soak.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

export const utf8 = (text: string): Bytes => new TextEncoder().encode(text);

/** One of them. */
export function pick<T>(random: Random, list: readonly T[]): T {
  return list[random.below(list.length)]!;
}

/** One after the other. */
export function concat(...parts: (Bytes | number[])[]): Bytes {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Integers that sizes, counts and offsets should not be. */
const INTEGERS = [0n, 1n, 0x7fn, 0xffn, 0x7fffn, 0xffffn, 0x7fffffffn, 0xffffffffn, 2n ** 32n]
  .concat([10_000_000_000n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, -1n, -2n, -(2n ** 31n)]);

/** A file with one damage; parts of `other` may come in. */
export function damage(random: Random, bytes: Bytes, other: Bytes = bytes): Bytes {
  const place = () => random.below(bytes.length + 1);
  const [from, to] = [place(), place()].sort((a, b) => a - b) as [number, number];
  const before = bytes.subarray(0, from), after = bytes.subarray(to);
  const end = Math.min(to, from + 1 + random.below(32));
  const chunk = bytes.subarray(from, end);
  switch (random.below(9)) {
    case 0: // cut off
      return bytes.slice(0, from);
    case 1: // with something at its end
      return concat(bytes, other.subarray(random.below(other.length + 1)).subarray(0, 64));
    case 2: { // with some bits flipped
      const copy = bytes.slice();
      const bits = 1 + random.below(3);
      for (let i = 0; i < bits && copy.length > 0; i++) {
        copy[random.below(copy.length)]! ^= 1 << random.below(8);
      }
      return copy;
    }
    case 3: { // with a run of the same byte, or of any
      const copy = bytes.slice(), value = pick(random, [0, 0xff, -1]);
      for (let i = from; i < end; i++) copy[i] = value < 0 ? random.below(256) : value;
      return copy;
    }
    case 4: // with a part twice
      return concat(bytes.subarray(0, end), chunk, bytes.subarray(end));
    case 5: // without a part
      return concat(before, bytes.subarray(end));
    case 6: // with a part in another place
      return concat(before, bytes.subarray(end, to), chunk, after);
    case 7: // spliced with another
      return concat(before, other.subarray(random.below(other.length + 1)));
    default: { // with an integer somewhere, most often near the start, where headers are
      const size = pick(random, [1, 2, 4, 8]), integer = pick(random, INTEGERS);
      const at = random.below(Math.max(1, Math.min(bytes.length, pick(random, [32, 1e9])) - size));
      const field = new DataView(new ArrayBuffer(8));
      field.setBigInt64(0, BigInt.asIntN(64, integer << BigInt(64 - 8 * size)));
      const value = new Uint8Array(field.buffer, 0, size);
      if (random.below(2) > 0) value.reverse();
      return concat(bytes.subarray(0, at), value, bytes.subarray(at + size));
    }
  }
}

/** JSON as it is written: the text of a value, values in a list, or keys, as written, and values. */
export type Json = string | { list: Json[] } | { members: [key: string, value: Json][] };

/** The JSON of a value. */
export function jsonOf(value: unknown): Json {
  if (Array.isArray(value)) return { list: value.map(jsonOf) };
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return { members: Object.entries(value).map(([key, x]) => [JSON.stringify(key), jsonOf(x)]) };
}

/** Its text. */
export function textOf(json: Json): string {
  if (typeof json === "string") return json;
  if ("list" in json) return `[${json.list.map(textOf)}]`;
  return `{${json.members.map(([key, value]) => `${key}:${textOf(value)}`)}}`;
}

/** The place of a value: in a list, or the second of a pair. */
type Place = [holder: Json[], at: number];

function placesOf(root: Json[]): { places: Place[]; objects: { members: [string, Json][] }[] } {
  const places: Place[] = [], objects: { members: [string, Json][] }[] = [];
  const visit = (holder: Json[], at: number) => {
    const json = holder[at]!;
    places.push([holder, at]);
    if (typeof json === "string") return;
    if ("list" in json) json.list.forEach((_, i) => visit(json.list, i));
    else {
      objects.push(json);
      json.members.forEach((pair) => visit(pair, 1));
    }
  };
  root.forEach((_, i) => visit(root, i));
  return { places, objects };
}

/** Values that are not what is wanted there, and some that are no JSON. */
const VALUES = ["0", "-0", "1", "-1", "0.5", "1e999", "-1e999", "1e308", "9007199254740993", "01"]
  .concat(["18446744073709551616", "10000000000", "4294967296", "1.0", "1e2", "NaN", "Infinity"])
  .concat(["null", "true", "[]", "{}", '""', '"\\ud800"', '"\\u0000"', '"__proto__"', '"a', "+1"])
  .concat(["9".repeat(5000), `"${"x".repeat(5000)}"`, `[${"0,".repeat(2000)}0]`, ""]);
const KEYS = ["__proto__", "constructor", "toString", "\\ud800", "x".repeat(3000), "", "length"]
  .map((key) => `"${key}"`);

/**
 * The text of JSON with one damage, and whether it is one that nobody may take: a key twice, the key
 * `__proto__`, or nested without end.
 */
export function damageJson(random: Random, json: Json): { text: string; hostile: boolean } {
  const root = [structuredClone(json)];
  const { places, objects } = placesOf(root);
  const [holder, at] = pick(random, places);
  const value = holder[at]!;
  const members = objects.length > 0 ? pick(random, objects).members : [];
  let hostile = false;
  switch (random.below(9)) {
    case 0: // another value
      holder[at] = pick(random, VALUES);
      break;
    case 1: // a number a little, or a lot, beside itself
      if (Number.isFinite(Number(value))) {
        const scale = pick(random, [1, 1, 2 ** 32, -1]);
        holder[at] = `${Number(value) * scale + random.below(3) - 1}`;
      }
      break;
    case 2: { // deeper
      const depth = pick(random, [1, 2, 40, 100_000]);
      holder[at] = "[".repeat(depth) + textOf(value) + "]".repeat(depth);
      hostile = depth > 32;
      break;
    }
    case 3: // gone
      if (members.length > 0) members.splice(random.below(members.length), 1);
      break;
    case 4: { // a key twice, perhaps in other words
      if (members.length === 0) break;
      const [key, old] = pick(random, members);
      const code = JSON.parse(key).charCodeAt(0).toString(16).padStart(4, "0");
      const written = pick(random, [key, `"\\u${code}${key.slice(2)}`]);
      members.splice(random.below(members.length + 1), 0, [
        written,
        pick(random, [textOf(old), ...VALUES]),
      ]);
      hostile = true;
      break;
    }
    case 5: { // one more key
      const key = pick(random, KEYS),
        added = pick(random, ['{"polluted":true}', '"a"', "[]", textOf(value)]);
      members.push([key, added]);
      hostile = key === '"__proto__"';
      break;
    }
    case 6: // another key
      if (members.length > 0) pick(random, members)[0] = pick(random, KEYS);
      break;
    case 7: { // two in each other's places
      const [other, i] = pick(random, places);
      holder[at] = textOf(other[i]!);
      other[i] = textOf(value);
      break;
    }
    default: { // in a list, one more
      const lists = places.map(([holder, at]) => holder[at]!)
        .filter((json) => typeof json === "object" && "list" in json);
      if (lists.length > 0) pick(random, lists).list.push(pick(random, [textOf(value), ...VALUES]));
    }
  }
  return { text: textOf(root[0]!), hostile };
}

/** A file, and whether it must be refused. */
export interface Mutant {
  readonly file: Bytes;
  readonly hostile: boolean;
}

/** JSON damaged as such, or its bytes, or both; then one damage may undo another. */
export function damagedJson(random: Random, value: unknown): Mutant {
  const json = jsonOf(value);
  if (random.below(4) === 0) return { file: damage(random, utf8(textOf(json))), hostile: false };
  const { text, hostile } = damageJson(random, json);
  if (random.below(4) > 0) return { file: utf8(text), hostile };
  return { file: damage(random, utf8(text)), hostile: false };
}

/** A safetensors file in parts. */
function partsOf(file: Bytes): { header: Json; data: Bytes } {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
  return { header: jsonOf(header), data: file.slice(8 + length) };
}

/** A safetensors file of its header's text and its data; `length` is what it says of the former. */
export function tensorsFile(header: string, data: Bytes, length?: bigint): Bytes {
  const text = utf8(header), field = new DataView(new ArrayBuffer(8));
  field.setBigUint64(0, BigInt.asUintN(64, length ?? BigInt(text.length)), true);
  return concat(new Uint8Array(field.buffer), text, data);
}

/** A file with one lie in it, the format's bytes being right otherwise. */
function lyingTensors(random: Random, file: Bytes): Bytes {
  const { header, data } = partsOf(file);
  const { members } = header as { members: [string, Json][] };
  const parsed = members.map(([key, json]) => [key, JSON.parse(textOf(json))] as const);
  const sized = parsed.filter(([, { data_offsets: at }]) => at && at[1] > at[0]);
  const [name, entry] = structuredClone(pick(random, sized));
  const [begin, end] = entry.data_offsets, by = 1 + random.below(8);
  const offsets = [
    [end, begin],
    [begin, end + by],
    [begin + by, end],
    [begin + by, end + by],
    [begin - by, end - by],
    [begin, end + 10_000_000_000],
    [begin + 2 ** 40, end + 2 ** 40],
    [-1, end],
    [begin, 2 ** 53],
    [begin + 0.5, end],
    [begin],
    [begin, end, end],
  ];
  const shapes = [
    [...entry.shape, 2],
    [...entry.shape, 0],
    [10_000_000_000],
    [2 ** 32, 2 ** 32],
    [2 ** 26, 2 ** 26, 2],
    [3_037_000_500, 3_037_000_500],
    [-1, -(end - begin)],
    new Array(1000).fill(2),
    [1e300],
  ];
  // Another tensor in the same bytes, or an empty one inside them.
  if (random.below(8) === 0) {
    const within = { dtype: "U8", shape: [0], data_offsets: [begin + 1, begin + 1] };
    const second = pick(random, [entry, within]);
    return tensorsFile(textOf({ members: [...members, ['"another"', jsonOf(second)]] }), data);
  }
  const kind = random.below(5);
  if (kind < 2) entry.data_offsets = pick(random, offsets);
  else if (kind < 4) entry.shape = pick(random, shapes);
  else entry.dtype = pick(random, ["F4", "f32", "", "BF16", "toString"]);
  if (random.below(8) === 0) {
    const lengths = [-1n, 0n, 2n ** 63n, 10_000_000_000n, BigInt(textOf(header).length + 1)];
    return tensorsFile(textOf(header), data, pick(random, lengths));
  }
  const changed = members.map(([key, json]) => [key, key === name ? jsonOf(entry) : json]);
  return tensorsFile(textOf({ members: changed as [string, Json][] }), data);
}

/** A safetensors file with one damage or lie; parts of `other` may come in. */
export function damagedTensors(random: Random, file: Bytes, other: Bytes): Mutant {
  const { header, data } = partsOf(file);
  switch (random.below(4)) {
    case 0:
      return { file: damage(random, file, other), hostile: false };
    case 1:
      return { file: lyingTensors(random, file), hostile: true };
    case 2: {
      const bytes = damage(random, utf8(textOf(header)));
      return { file: tensorsFile(new TextDecoder().decode(bytes), data), hostile: false };
    }
    default: {
      const { text, hostile } = damageJson(random, header);
      return { file: tensorsFile(text, data), hostile };
    }
  }
}

/** Longest message of a refusal. */
const LONGEST = 500;

/**
 * Why a file was refused, in a few words for the tally. The message must begin with `start`, the file's
 * name or path, and be short.
 *
 * @throws {unknown} the error itself if it is none of these.
 */
export function reasonOf(
  error: unknown,
  kinds: readonly (new (...args: never[]) => Error)[],
  start: string,
): string {
  if (!kinds.some((kind) => error instanceof kind)) throw error;
  const { message } = error as Error;
  if (!message.startsWith(start)) throw new Error(`does not name ${start}: ${message}`);
  const text = message.slice(start.length);
  assert(text.length < LONGEST, `a message of ${text.length} characters: ${text.slice(0, 700)}`);
  // Without its numbers and names.
  return text.replace(/"[^"]*"?/g, '""').replace(/\d[\d.,×]*/g, "0").replace(/^: /, "").slice(
    0,
    60,
  );
}

/** Most processor time for one file, in milliseconds; and the most that memory may grow, in MB. */
interface Limits {
  readonly milliseconds: number;
  readonly megabytes: number;
}

v8.setFlagsFromString("--expose-gc");
const collect: () => void = vm.runInNewContext("gc");

/** Collects garbage: what lies outside the heap, such as a stream's, is not counted for when it is due. */
export async function collectGarbage(): Promise<void> {
  collect();
  await new Promise((done) => setTimeout(done));
}

const rss = () => Deno.memoryUsage().rss / 1e6;
const own = () => Reflect.ownKeys(Object.prototype).length;

/**
 * Has `count` files made and read. `attempt` makes number n from `random` alone, so that seed and
 * number make it again, and returns why it was refused, or undefined if it was read.
 */
export async function fuzz(
  what: string,
  { stream, count, milliseconds, megabytes }: Limits & { stream: number; count: number },
  attempt: (random: Random, n: number) => Promise<string | undefined>,
): Promise<void> {
  const reasons = new Map<string, number>();
  const start = performance.now(), keys = own(), memory = rss();
  let slowest = 0, slowestAt = 0, most = 0, read = 0;
  for (let n = 0; n < count; n++) {
    try {
      const before = process.cpuUsage();
      const reason = await attempt(draws(stream * 2 ** 24 + n), n);
      const { user, system } = process.cpuUsage(before);
      const took = (user + system) / 1000;
      if (took > slowest) [slowest, slowestAt] = [took, n];
      if (reason === undefined) read++;
      else reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
      assert(took < milliseconds, `took ${took.toFixed()} ms of processor time`);
      assert(own() === keys && !("polluted" in {}), "changed what all objects have");
      if (n % 16 === 0 || took > 100) most = Math.max(most, rss() - memory);
      if (n % 256 === 0) await collectGarbage();
      assert(most < megabytes, `memory grew by ${most.toFixed()} MB`);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : cause;
      throw new Error(`${what}: mutant ${n} of seed ${SEED}: ${why}`, { cause });
    }
  }
  const seconds = (performance.now() - start) / 1000;
  const top = [...reasons].sort((a, b) => b[1] - a[1]).slice(0, 6)
    .map(([reason, times]) => `${times} ${reason}`);
  report(
    `${what}: ${count} mutants, ${read} read and ${count - read} refused (${top.join("; ")}) in ` +
      `${seconds.toFixed()} s, the slowest (${slowestAt}) in ${slowest.toFixed()} ms; memory grew ` +
      `by ${most.toFixed()} MB at most`,
  );
  assert(read > count / 100 && read < 0.9 * count, `${read} of ${count} were read`);
}
