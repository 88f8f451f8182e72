/**
 * How long work takes on the device, by its own clock (`passTimes`) or by the host's (`timings`),
 * and which of several kernels is fastest (`contest`). Waiting for a submit has a fixed cost (Deno
 * looks every 10 ms whether it is done), so the host's clock times short work by submitting it many
 * times.
 *
 * @module
 */

import { checkNumber } from "../check/arguments.ts";
import type { Device } from "../device/device.ts";
import { BufferUsage, MapMode } from "../device/flags.ts";

/** A clock that starts now and never steps back: how many milliseconds ago that was. */
export function stopwatch(): () => number {
  const start = performance.now();
  return () => performance.now() - start;
}

/** The middle one of `values`, or the mean of the two middle ones. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 > 0 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Milliseconds until the device has done what `submit` submits. */
export async function waitFor(device: Device, submit: () => void): Promise<number> {
  const elapsed = stopwatch();
  submit();
  await device.finished();
  return elapsed();
}

const idle = new WeakMap<Device, number>();

/** Milliseconds that waiting for a submit of nothing takes; measured once for a device. */
export async function idleTime(device: Device): Promise<number> {
  const { gpu } = device;
  if (!idle.has(device)) {
    const nothing = () => gpu.queue.submit([gpu.createCommandEncoder().finish()]);
    const waits: number[] = [];
    for (let i = 0; i < 7; i++) waits.push(await waitFor(device, nothing));
    idle.set(device, median(waits));
  }
  return idle.get(device)!;
}

/** How thoroughly to time. */
export interface TimingOptions {
  /** Milliseconds that a measurement by the host's clock lasts at least; 150 by default. */
  readonly enough?: number;
  /** Number of measurements; 3 by default. */
  readonly runs?: number;
}

/** Throws unless `options` of `op` say how thoroughly to time. */
export function checkTiming(op: string, { enough, runs }: TimingOptions): void {
  if (enough !== undefined) checkNumber(op, "enough", enough, { min: 0, max: LONGEST });
  if (runs !== undefined) checkNumber(op, "runs", runs, { integer: true, min: 1, max: MOST_RUNS });
}

/** The longest measurement, in milliseconds, and the most of them. */
const LONGEST = 600_000, MOST_RUNS = 10_000;

/**
 * Milliseconds that the device takes for each of the `times` that `submit` submits the same work: a
 * value for each measurement. Before them come as many submits as it takes to know `times`; the
 * first lets the driver compile what it has to.
 */
export async function timings(
  device: Device,
  submit: (times: number) => void,
  { enough = 150, runs = 3 }: TimingOptions = {},
): Promise<number[]> {
  const fixed = await idleTime(device);
  let times = 1;
  const measure = async () => await waitFor(device, () => submit(times)) - fixed;
  await measure();
  let total = await measure();
  while (total < enough) {
    times *= Math.ceil(Math.min(16, 1.5 * enough / Math.max(total, 1)));
    total = await measure();
  }
  const totals = [total];
  while (totals.length < runs) totals.push(await measure());
  return totals.map((ms) => ms / times);
}

/** Timestamps of one query set: WebGPU's most. */
const SET = 4096;

/**
 * Milliseconds of each of some passes in one submit, by the device's own clock; undefined if it has
 * none, or one that does not agree with the host's. `encode` gets the number of the pass to encode and
 * its timestamps: one at each end, because WebGPU rejects a pass that writes none.
 */
export async function passTimes(
  device: Device,
  passes: number,
  encode: (encoder: GPUCommandEncoder, pass: number, stamps: GPUComputePassDescriptor) => void,
): Promise<number[] | undefined> {
  const { gpu } = device, count = 2 * passes;
  if (!gpu.features.has("timestamp-query")) return undefined;
  if (passes === 0) return [];
  const fixed = await idleTime(device);
  const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = BufferUsage;
  const owned: { destroy(): void }[] = [];
  const own = <T extends { destroy(): void }>(x: T) => (owned.push(x), x);
  try {
    const sets = Array.from(
      { length: Math.ceil(count / SET) },
      (_, i) =>
        own(gpu.createQuerySet({ type: "timestamp", count: Math.min(SET, count - i * SET) })),
    );
    const buffer = (usage: number, label: string) =>
      own(device.createBuffer({ size: 8 * count, usage, label }));
    const resolved = buffer(QUERY_RESOLVE | COPY_SRC, "timestamps");
    const staging = buffer(COPY_DST | MAP_READ, "timestamps that are read");
    const encoder = gpu.createCommandEncoder();
    for (let pass = 0; pass < passes; pass++) {
      const querySet = sets[Math.floor(2 * pass / SET)]!, first = 2 * pass % SET;
      encode(encoder, pass, {
        timestampWrites: {
          querySet,
          beginningOfPassWriteIndex: first,
          endOfPassWriteIndex: first + 1,
        },
      });
    }
    sets.forEach((set, i) => encoder.resolveQuerySet(set, 0, set.count, resolved, 8 * SET * i));
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 8 * count);
    const commands = encoder.finish();
    const sinceSubmit = stopwatch();
    gpu.queue.submit([commands]);
    await device.settled("timestamps", () => staging.mapAsync(MapMode.READ));
    const elapsed = sinceSubmit() - fixed;
    await device.checked("timestamps", () => {});
    const stamps = new BigUint64Array(staging.getMappedRange().slice(0));
    const between = (a: number, b: number) => Number(stamps[b]! - stamps[a]!) / 1e6;
    const times = Array.from({ length: passes }, (_, i) => between(2 * i, 2 * i + 1));
    const span = between(0, count - 1);
    // The host sees the end up to about 10 ms late.
    const sane = span > 0 && times.every((ms) => ms >= 0 && ms <= span) &&
      Math.abs(span - elapsed) < 15 + 0.3 * elapsed;
    return sane ? times : undefined;
  } finally {
    owned.forEach((x) => x.destroy());
  }
}

/** Who takes part in a {@link contest}. */
export interface Contender {
  /** The share of the first one's time that it must save to be taken instead. */
  readonly worth: number;
  /** Milliseconds, measured again by each call. */
  measure(): Promise<number>;
}

/** Rounds of a contest, and those of them that a contender may lose to the first one. */
const ROUNDS = 7, LOSSES = 1;

/**
 * The number of the contender to take: the first one (0), unless another is clearly faster. They are
 * measured in turns, forwards and backwards, so that other work of the machine slows all alike. A
 * contender is clearly faster if it loses at most one round of seven to the first, and if its median
 * saves the share that it is `worth`. One that has lost more rounds is not measured again. The medians
 * are returned too. Undefined if `over` says that there is no time for another measurement.
 */
export async function contest(
  contenders: readonly Contender[],
  over: () => boolean = () => false,
): Promise<{ winner: number; medians: number[] } | undefined> {
  const times: number[][] = contenders.map(() => []);
  const lost = (i: number) => times[i]!.filter((ms, round) => ms >= times[0]![round]!).length;
  const hopes = () => [...contenders.keys()].filter((i) => i === 0 || lost(i) <= LOSSES);
  for (let round = 0; round < ROUNDS && hopes().length > 1; round++) {
    for (const i of round % 2 > 0 ? hopes().reverse() : hopes()) {
      if (over()) return undefined;
      times[i]!.push(await contenders[i]!.measure());
    }
  }
  const medians = times.map(median);
  const cost = (i: number) => i === 0 ? medians[0]! : medians[i]! / (1 - contenders[i]!.worth);
  const winner = hopes().reduce((best, i) => cost(i) < cost(best) ? i : best);
  return { winner, medians };
}
