/**
 * What ranks tell each other beside their gradients: bytes of rank 0, such as a checkpoint or a data
 * set, texts of all, and whether all have the same.
 *
 * @module
 */

import * as json from "../check/json.ts";
import { checkInstance, checkString } from "../check/arguments.ts";
import { checkDataset, type ImageDataset, readImages } from "../data/dataset.ts";
import { sizeOf } from "../graph/shape.ts";
import {
  checkedCheckpoint,
  type Checkpoint,
  CHECKPOINT_FILES,
  type CheckpointFiles,
  decodeCheckpoint,
  encodeCheckpoint,
  sha256Of,
} from "./checkpoint.ts";
import { checkCollective, type Collective } from "./collective.ts";

/** Ranks that should have the same and do not; the message names them and says how they differ. */
export class RankError extends Error {
  /** `RankError`. */
  override name = "RankError";
}

type Bytes = Uint8Array<ArrayBuffer>;

/** Bytes of one call, at most: MPI counts in 31 bits, and what is read in pieces has to be in memory. */
const PIECE = 2 ** 28;

const toBytes = (text: string): Bytes => new TextEncoder().encode(text);
const toText = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Rank 0's bytes into those of all. */
async function broadcast(collective: Collective, bytes: Bytes): Promise<void> {
  for (let i = 0; i < bytes.length; i += PIECE) {
    await collective.broadcast(bytes.subarray(i, i + PIECE));
  }
}

/**
 * Sends bytes of rank 0 to all ranks. Each rank gets them as the result; the other ranks need not
 * give any.
 *
 * @throws {ArgumentError} if rank 0 gives no bytes.
 *
 * @example
 * ```ts
 * import { broadcastBytes, type Collective } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * // A process alone, which has nobody to talk to.
 * const done = () => Promise.resolve();
 * const calls = { allReduce: done, broadcast: done, allGather: done, allToAll: done };
 * const alone: Collective = { rank: 0, size: 1, ...calls };
 * assertEquals(await broadcastBytes(alone, Uint8Array.of(1, 2)), Uint8Array.of(1, 2));
 * ```
 */
export async function broadcastBytes(
  collective: Collective,
  bytes?: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  checkCollective("broadcastBytes", "collective", collective);
  if (collective.rank === 0) checkInstance("broadcastBytes", "bytes", bytes, Uint8Array);
  const own = collective.rank === 0 ? bytes! : new Uint8Array();
  if (collective.size === 1) return own;
  const length = Float64Array.of(own.length);
  await collective.broadcast(new Uint8Array(length.buffer));
  const all = collective.rank === 0 ? own : new Uint8Array(length[0]!);
  await broadcast(collective, all);
  return all;
}

/**
 * Gets a text of each rank, on every rank, in the order of the ranks.
 *
 * @example
 * ```ts
 * import { type Collective, gatherTexts } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * // A process alone, which has nobody to talk to.
 * const done = () => Promise.resolve();
 * const calls = { allReduce: done, broadcast: done, allGather: done, allToAll: done };
 * const alone: Collective = { rank: 0, size: 1, ...calls };
 * assertEquals(await gatherTexts(alone, "a host"), ["a host"]);
 * ```
 */
export async function gatherTexts(collective: Collective, text: string): Promise<string[]> {
  checkCollective("gatherTexts", "collective", collective);
  checkString("gatherTexts", "text", text);
  const { size } = collective;
  if (size === 1) return [text];
  const own = toBytes(text), lengths = new Uint32Array(size);
  const mine = Uint32Array.of(own.length);
  await collective.allGather(new Uint8Array(mine.buffer), new Uint8Array(lengths.buffer));
  const each = Math.max(...lengths), send = new Uint8Array(each);
  send.set(own);
  const all = new Uint8Array(each * size);
  await collective.allGather(send, all);
  return Array.from(lengths, (length, i) => toText(all.subarray(i * each, i * each + length)));
}

/**
 * Sends the checkpoint of rank 0, if it has one, to all ranks, so that only rank 0 has to read
 * files. Each rank gets it as the result; the other ranks need not give any.
 *
 * @throws {ArgumentError} if a part of it is of another kind.
 * @throws {CheckpointError} if it is invalid.
 *
 * @example
 * ```ts
 * import { broadcastCheckpoint, type Collective } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * // A process alone, which has nobody to talk to.
 * const done = () => Promise.resolve();
 * const calls = { allReduce: done, broadcast: done, allGather: done, allToAll: done };
 * const alone: Collective = { rank: 0, size: 1, ...calls };
 * assertEquals(await broadcastCheckpoint(alone, undefined), undefined);
 * ```
 */
export async function broadcastCheckpoint(
  collective: Collective,
  checkpoint?: Checkpoint,
): Promise<Checkpoint | undefined> {
  checkCollective("broadcastCheckpoint", "collective", collective);
  const { rank, size } = collective;
  if (rank === 0 && checkpoint !== undefined) checkedCheckpoint("broadcastCheckpoint", checkpoint);
  if (size === 1) return checkpoint;
  const files = rank === 0 && checkpoint && await encodeCheckpoint(checkpoint);
  const received: Bytes[] = [];
  for (const name of CHECKPOINT_FILES) {
    received.push(await broadcastBytes(collective, files ? files[name] : new Uint8Array()));
  }
  if (rank === 0) return checkpoint;
  if (received.every(({ length }) => length === 0)) return undefined;
  const given = Object.fromEntries(CHECKPOINT_FILES.map((name, i) => [name, received[i]!]));
  return await decodeCheckpoint(given as CheckpointFiles, "the checkpoint of rank 0");
}

/** Whether some rank wants it: so all do the same. */
export async function anyOf(collective: Collective, wish: boolean): Promise<boolean> {
  const wishes = new Uint8Array(collective.size);
  await collective.allGather(Uint8Array.of(Number(wish)), wishes);
  return wishes.includes(1);
}

/** The arrays that labels may lie in. */
const LABELS = { Uint8Array, Uint16Array, Uint32Array };

/** What is told of a data set before its bytes. */
const ABOUT = json.record({
  kind: json.value<keyof typeof LABELS>("an array of labels", (x) => Object.hasOwn(LABELS, `${x}`)),
  count: json.count(1),
  height: json.count(1),
  width: json.count(1),
  channels: json.count(1),
  classes: json.list(json.string(Infinity), { min: 1, max: 2 ** 32 }),
});

/** Names, and what a rank has under them. */
const FACTS = json.entries(json.string(Infinity));

/**
 * Sends the data set of rank 0 to all ranks, so that only rank 0 needs its files. Each rank gets it
 * as the result; the others hold it in memory, and need not give any.
 *
 * @throws {DataError} if rank 0 gives no data set, or its images cannot be read.
 *
 * @example
 * ```ts
 * import { broadcastDataset, type Collective } from "@resnette/resnette/train";
 * import { assertStrictEquals } from "@std/assert";
 *
 * // A process alone, which has nobody to talk to.
 * const done = () => Promise.resolve();
 * const calls = { allReduce: done, broadcast: done, allGather: done, allToAll: done };
 * const alone: Collective = { rank: 0, size: 1, ...calls };
 * const size = { count: 2, height: 1, width: 1 }, classes = ["dark", "bright"];
 * const data = { images: Uint8Array.of(0, 255), labels: Uint8Array.of(0, 1), ...size, classes };
 * assertStrictEquals(await broadcastDataset(alone, data), data);
 * ```
 */
export async function broadcastDataset(
  collective: Collective,
  data?: ImageDataset,
): Promise<ImageDataset> {
  checkCollective("broadcastDataset", "collective", collective);
  const { rank, size } = collective;
  if (rank === 0) checkDataset("broadcastDataset: data", data!);
  if (size === 1) return data!;
  const given = rank === 0 ? data : undefined;
  const { labels, count, height, width, channels = 1, classes } = given ?? {} as ImageDataset;
  const about = { kind: labels?.constructor.name, count, height, width, channels, classes };
  const head = await broadcastBytes(collective, toBytes(JSON.stringify(about)));
  const { kind, ...sizes } = json.parseJson(head, ABOUT, { name: "broadcastDataset: rank 0" });
  const own = given ?? {
    ...sizes,
    labels: new LABELS[kind](sizes.count),
    images: new Uint8Array(sizeOf([sizes.count, sizes.channels, sizes.height, sizes.width])),
  };
  const { buffer, byteOffset, byteLength } = own.labels;
  await broadcast(collective, new Uint8Array(buffer, byteOffset, byteLength));
  const { images } = own, each = sizeOf([sizes.channels, sizes.height, sizes.width]);
  const most = Math.max(1, Math.floor(PIECE / each));
  for (let from = 0; from < sizes.count; from += most) {
    const length = Math.min(most, sizes.count - from);
    const indices = Uint32Array.from({ length }, (_, i) => from + i);
    await collective.broadcast(
      typeof images === "function"
        ? await readImages("broadcastDataset: data", own, indices)
        : images.subarray(from * each, (from + length) * each),
    );
  }
  return own;
}

/** Images of a set that are looked at where a function reads them. */
const LOOKED_AT = 16;

/**
 * What tells data sets apart, in hex: sizes, classes, labels, and the images. Of those that a function
 * reads, that is some that lie evenly.
 */
export async function digestOfData(name: string, data: ImageDataset): Promise<string> {
  const { images, labels, count, height, width, channels = 1, classes } = data;
  const some = Math.min(count, LOOKED_AT);
  const bytes = typeof images === "function"
    ? await readImages(
      name,
      data,
      Uint32Array.from({ length: some }, (_, i) => Math.floor(i * (count - 1) / (some - 1 || 1))),
    )
    : images;
  const parts = [JSON.stringify([count, height, width, channels, classes])];
  const words = new Uint8Array(Uint32Array.from(labels).buffer);
  parts.push(await sha256Of(words), await sha256Of(bytes));
  return await sha256Of(toBytes(parts.join()));
}

/**
 * Throws unless all ranks have the same: `facts` by their names. What most ranks have is right; of two,
 * what rank 0 has. Digests of 64 digits are not shown.
 *
 * @throws {RankError} on every rank, which says who differs, and in what.
 */
export async function checkSame(
  op: string,
  collective: Collective,
  facts: Readonly<Record<string, string>>,
): Promise<void> {
  const texts = await gatherTexts(collective, JSON.stringify(facts));
  const all = texts.map((text) => new Map(json.parseJson(text, FACTS, { name: op })));
  const names = new Set(all.flatMap((own) => [...own.keys()]));
  const usual = new Map([...names].map((name) => [name, mostCommon(all.map((x) => x.get(name)))]));
  const differing = all.flatMap((own, rank) => {
    const others = [...names].filter((name) => own.get(name) !== usual.get(name));
    const what = others.map((name) => {
      const values = [own.get(name), usual.get(name)] as const;
      return values.some((value) => /^[0-9a-f]{64}$/.test(value ?? ""))
        ? `other ${name}`
        : `${name} ${values[0] ?? "none"}, not ${values[1] ?? "none"}`;
    });
    return what.length > 0 ? [`rank ${rank} has ${what.join("; ")}`] : [];
  });
  if (differing.length === 0) return;
  throw new RankError(
    `${op}: the ranks must not differ, but ${differing.join("; and ")}`,
  );
}

/** The value that there is most often, the first of them. */
function mostCommon<T>(values: readonly T[]): T {
  const counts = new Map<T, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((best, next) => next[1] > best[1] ? next : best)[0];
}
