/**
 * The most that an adapter can do, for comparison: multiply-adds that never leave the registers,
 * and a copy of memory. Measuring both takes about a second.
 *
 * @module
 */

import { createBuffer, freeVariables } from "../device/buffers.ts";
import { checkInstance } from "../check/arguments.ts";
import { Device } from "../device/device.ts";
import { arrays, perThread, times } from "../kernels/kernel.ts";
import { Plan } from "../plan/plan.ts";
import { apply, type Op, Variable } from "../graph/tensor.ts";
import { timings } from "./timing.ts";

/** The highest rates of a device, to compare kernels with. */
export interface Ceiling {
  /** 10⁹ floating-point operations per second: multiply-adds in registers, two for each. */
  readonly gflops: number;
  /** 10⁹ bytes per second, read and written, by a copy of 64 MiB. */
  readonly gbs: number;
}

/** Chains of multiply-adds in a thread: enough to hide latency, few enough for the registers. */
const CHAINS = 12;
/** Multiply-adds of a chain in one round of the loop, and rounds. */
const UNROLLED = 4, ROUNDS = 512;

/**
 * Chains differ in where they start, threads in their factor and summand, all read from memory: no
 * compiler can fold the loop. If one did, the rate would exceed what the hardware has.
 */
const MultiplyAdd: Op = {
  name: "multiplyAdd",
  shape: ([x]) => x!.shape,
  kernels: (node, target) => {
    const spec = perThread(
      arrays({ x: "f32", y: "f32" }),
      node.size,
      target,
      `  let f = x[i]; let g = x[(i + 1u) % z.count];
${times(CHAINS, (k) => `  var s${k} = x[(i + ${k + 2}u) % z.count];`)}
  for (var r = 0u; r < z.rounds; r++) {
${times(UNROLLED, () => times(CHAINS, (k) => `    s${k} = s${k} * f + g;`))}
  }
  y[i] = ${times(CHAINS, (k) => `s${k}`).replaceAll("\n", " + ")};`,
      { sizes: { rounds: ROUNDS } },
    );
    return [{ ...spec, flops: 2 * CHAINS * UNROLLED * ROUNDS * node.size }];
  },
};

async function multiplyAdds(device: Device): Promise<number> {
  const values = Float32Array.from({ length: 2 ** 18 }, (_, i) => 1 - 0.5 * (i * 0.618034 % 1));
  const x = new Variable([values.length], values), y = apply(MultiplyAdd, [x], {});
  let plan: Plan | undefined;
  try {
    const { flops } = plan = await Plan.compile({ outputs: [y], device });
    const ms = await timings(device, (times) => {
      for (let i = 0; i < times; i++) plan!.run();
    });
    return flops / Math.min(...ms) / 1e6;
  } finally {
    plan?.[Symbol.dispose]();
    freeVariables([x]);
  }
}

async function copies(device: Device): Promise<number> {
  const bytes = Math.min(2 ** 26, device.target.maxBindingBytes);
  const buffers: GPUBuffer[] = [];
  try {
    for (const label of ["from", "to"]) buffers.push(createBuffer(device, bytes, label));
    const [from, to] = buffers as [GPUBuffer, GPUBuffer];
    const ms = await timings(device, (times) => {
      const encoder = device.gpu.createCommandEncoder();
      for (let i = 0; i < times; i++) encoder.copyBufferToBuffer(from, 0, to, 0, bytes);
      device.gpu.queue.submit([encoder.finish()]);
    });
    return 2 * bytes / Math.min(...ms) / 1e6;
  } finally {
    buffers.forEach((buffer) => buffer.destroy());
  }
}

/**
 * Measures the most that a device can do, in about a second: arithmetic, and copying memory.
 *
 * @throws {ArgumentError} if `device` is no device.
 *
 * @example
 * ```ts
 * import { defaultDevice } from "@resnette/resnette";
 * import { measureCeiling } from "@resnette/resnette/measure";
 * import { assert } from "@std/assert";
 *
 * const { gflops, gbs } = await measureCeiling(await defaultDevice());
 * assert(gflops > 0 && gbs > 0);
 * ```
 */
export async function measureCeiling(device: Device): Promise<Ceiling> {
  checkInstance("measureCeiling", "device", device, Device);
  return { gflops: await multiplyAdds(device), gbs: await copies(device) };
}
