/**
 * Where the time of a plan goes, dispatch by dispatch.
 *
 * @module
 */

import { bytesOf } from "../device/buffers.ts";
import {
  checkChoice,
  checkFunction,
  checkInstance,
  checkNumber,
  checkObject,
  checkOptions,
  checkString,
} from "../check/arguments.ts";
import { type Feeds, Plan } from "../plan/plan.ts";
import { checkList } from "../graph/shape.ts";
import type { Shape } from "../graph/shape.ts";
import type { Scope } from "../graph/tensor.ts";
import { checkTiming, median, passTimes, type TimingOptions, timings } from "./timing.ts";

/** Time and work of one dispatch, or of several together. */
export interface Cost {
  /** Milliseconds. */
  readonly milliseconds: number;
  /** Floating-point operations that the kernels really make: with Winograd, fewer than directly. */
  readonly flops: number;
  /** Bytes of the tensors that are read and written, each tensor counted once. */
  readonly bytes: number;
}

/** One dispatch of a plan, timed. */
export interface StepProfile extends Scope, Cost {
  /** The name of the op, with the ops that are fused into its kernel. */
  readonly name: string;
  /** Shape of the result as it lies in memory, which may be `[N, H, W, C]`. */
  readonly shape: Shape;
}

/** What {@link profilePlan} finds. */
export interface Profile {
  /** The dispatches, in the order of the plan. */
  readonly steps: readonly StepProfile[];
  /** Milliseconds of a normal run of the plan, in one submit, by the host's clock. */
  readonly whole: number;
  /** How the dispatches were timed: by the device's timestamps, or each in submits of its own. */
  readonly clock: "timestamps" | "submits";
}

/** Settings of {@link profilePlan}. */
export interface ProfileOptions extends TimingOptions {
  /** `"timestamps"` by default, if the device has good ones; `"submits"` does without them. */
  readonly clock?: Profile["clock"];
}

/**
 * Times every dispatch of a plan. It takes the medians of timestamps around each, in `runs` runs of
 * the plan. If the device has no timestamps, or they do not agree with the host's clock, it runs
 * each dispatch many times in submits of its own.
 *
 * It runs the plan's updates many times with the same inputs, so the variables that they change
 * have useless values afterwards. Profile a network that was made for it.
 *
 * @throws {ArgumentError} if an argument or option is invalid.
 * @throws {PlanError} if inputs are missing, or have another type or size.
 *
 * @example
 * ```ts
 * import { input, matmul, Plan } from "@resnette/resnette";
 * import { profilePlan } from "@resnette/resnette/measure";
 * import { assertEquals } from "@std/assert";
 *
 * const x = input("x", [64, 64]);
 * using plan = await Plan.compile({ outputs: [matmul(x, x)] });
 * const { steps } = await profilePlan(plan, { x: new Float32Array(64 * 64) });
 * assertEquals(steps.map(({ name, flops }) => [name, flops]), [["matmul", 2 * 64 ** 3]]);
 * ```
 */
export async function profilePlan(
  plan: Plan,
  feeds: Feeds = {},
  options: ProfileOptions = {},
): Promise<Profile> {
  checkInstance("profilePlan", "plan", plan, Plan);
  checkOptions("profilePlan", options, ["clock", "enough", "runs"]);
  checkTiming("profilePlan", options);
  const { clock = "timestamps", enough, runs = 3 } = options;
  checkChoice("profilePlan", "clock", clock, ["timestamps", "submits"]);
  const whole = median(
    await timings(plan.device, (times) => {
      for (let i = 0; i < times; i++) plan.run(feeds);
    }, { enough: enough ?? 150, runs }),
  );
  const stamped = clock === "timestamps" ? await byTimestamps(plan, runs) : undefined;
  const times = stamped ?? await bySubmits(plan, enough ?? 60);
  const steps = plan.steps.map(({ name, node, scope, spec, reads, writes }, i) => ({
    name,
    layer: scope.layer,
    pass: scope.pass,
    shape: node.shape,
    milliseconds: times[i]!,
    flops: spec.flops ?? 0,
    bytes: [...new Set([...reads, ...writes])].reduce(
      (sum, x) => sum + bytesOf(x.dtype, x.size),
      0,
    ),
  }));
  return { steps, whole, clock: stamped ? "timestamps" : "submits" };
}

/** Median milliseconds of each step; undefined where timestamps are missing or make no sense. */
async function byTimestamps(plan: Plan, runs: number): Promise<number[] | undefined> {
  const found: number[][] = [];
  // A run may be disturbed, but not most of them.
  for (let tries = 0; found.length < runs && tries < runs + 2; tries++) {
    const times = await passTimes(
      plan.device,
      plan.steps.length,
      (encoder, step, stamps) => plan.encode(encoder, { step, ...stamps }),
    );
    if (times) found.push(times);
  }
  if (found.length < runs) return undefined;
  return plan.steps.map((_, i) => median(found.map((times) => times[i]!)));
}

/** Milliseconds of each step, repeated in submits of its own for `enough` milliseconds. */
async function bySubmits(plan: Plan, enough: number): Promise<number[]> {
  const { device, steps } = plan;
  const found: number[] = [];
  for (const step of steps.keys()) {
    const submit = (times: number) => {
      const encoder = device.gpu.createCommandEncoder();
      plan.encode(encoder, { step, times });
      device.gpu.queue.submit([encoder.finish()]);
    };
    const [ms] = await timings(device, submit, { enough, runs: 1 });
    found.push(ms!);
  }
  return found;
}

/** Throws unless `steps`, an argument of `op`, is a list of timed dispatches. */
function checkSteps(op: string, steps: readonly StepProfile[]): void {
  checkList(op, "steps", steps);
  steps.forEach((step, i) => {
    checkObject(op, `steps[${i}]`, step);
    for (const key of ["milliseconds", "flops", "bytes"] as const) {
      checkNumber(op, `steps[${i}].${key}`, step[key], { min: 0 });
    }
    for (const key of ["name", "layer", "pass"] as const) {
      checkString(op, `steps[${i}].${key}`, step[key]);
    }
    checkList(op, `steps[${i}].shape`, step.shape);
  });
}

/**
 * Sums up the costs of the steps that have the same `key`, such as their op, layer or pass, with
 * the number of these `steps`. Keys come in the order in which they first occur.
 *
 * @throws {ArgumentError} if `steps` are not those of a {@link Profile}, or `key` is no function.
 *
 * @example
 * ```ts
 * import { costsBy } from "@resnette/resnette/measure";
 * import { assertEquals } from "@std/assert";
 *
 * const step = { layer: "fc", pass: "forward" as const, shape: [1], flops: 4, bytes: 8 };
 * const steps = [1, 2].map((milliseconds) => ({ ...step, name: "matmul", milliseconds }));
 * assertEquals(costsBy(steps, ({ layer }) => layer).get("fc")!.milliseconds, 3);
 * ```
 */
export function costsBy(
  steps: readonly StepProfile[],
  key: (step: StepProfile) => string,
): Map<string, Cost & { readonly steps: number }> {
  checkSteps("costsBy", steps);
  checkFunction("costsBy", "key", key);
  const groups = Map.groupBy(steps, key);
  return new Map([...groups].map(([name, members]) => {
    const sum = (of: keyof Cost) => members.reduce((total, step) => total + step[of], 0);
    return [name, {
      steps: members.length,
      milliseconds: sum("milliseconds"),
      flops: sum("flops"),
      bytes: sum("bytes"),
    }];
  }));
}

/**
 * The steps of a profile as a Chrome trace, with a track for each pass. Saved as JSON,
 * {@link https://ui.perfetto.dev | Perfetto} and `chrome://tracing` show it.
 *
 * @throws {ArgumentError} if `steps` are not those of a {@link Profile}.
 *
 * @example
 * ```ts
 * import { chromeTrace } from "@resnette/resnette/measure";
 * import { assert } from "@std/assert";
 *
 * const step = { layer: "fc", pass: "forward" as const, shape: [1], flops: 4, bytes: 8 };
 * const { traceEvents } = chromeTrace([{ ...step, name: "matmul", milliseconds: 1 }]);
 * assert(JSON.stringify(traceEvents).includes("matmul"));
 * ```
 */
export function chromeTrace(steps: readonly StepProfile[]): { traceEvents: readonly unknown[] } {
  checkSteps("chromeTrace", steps);
  const passes = [...new Set(steps.map((step) => step.pass))];
  const tracks = passes.map((name, tid) => ({
    ph: "M",
    name: "thread_name",
    pid: 0,
    tid,
    args: { name },
  }));
  let ts = 0; // Microseconds, as durations.
  const events = steps.map(({ name, layer, pass, shape, milliseconds, flops, bytes }) => {
    const dur = 1000 * milliseconds;
    const args = { layer, pass, shape, flops, bytes };
    const event = { ph: "X", name, cat: pass, pid: 0, tid: passes.indexOf(pass), ts, dur, args };
    ts += dur;
    return event;
  });
  return { traceEvents: [...tracks, ...events] };
}
