/**
 * How long work takes on the device, told by the host's clock. Waiting for a submit has a fixed
 * cost (Deno looks every 10 ms whether it is done), so short work is submitted many times over.
 *
 * @module
 */

import type { Device } from "./device.ts";

/** The middle one of `values`, or the mean of the two middle ones. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 > 0 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Milliseconds until the device has done what `submit` submits. */
export async function waitFor(device: Device, submit: () => void): Promise<number> {
  const start = performance.now();
  submit();
  await device.finished();
  return performance.now() - start;
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
  /** Milliseconds that a measurement lasts at least; 150 by default. */
  readonly enough?: number;
  /** Measurements; 3 by default. */
  readonly runs?: number;
}

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
