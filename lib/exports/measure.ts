/**
 * Speed: which kernels suit an adapter, where the time of a plan goes, and the most that a device
 * can do.
 *
 * @example The share of each op in a plan
 * ```ts
 * import { Plan, square, sum, tensor } from "@resnette/resnette";
 * import { costsBy, profilePlan } from "@resnette/resnette/measure";
 * import { assertEquals } from "@std/assert";
 *
 * using plan = await Plan.compile({ outputs: [sum(square(tensor([1, 2, 3])))] });
 * const { steps } = await profilePlan(plan, {}, { runs: 1 });
 * assertEquals(costsBy(steps, ({ name }) => name).size, plan.steps.length);
 * ```
 *
 * @module
 */

// Tuning.
export {
  trainingGraph,
  tune,
  type TuneOptions,
  type TuneProgress,
  type Tuning,
} from "../measure/tune.ts";
export type { Convolution, Problem, Product } from "../kernels/choice.ts";
export type { Tuned } from "../kernels/kernel.ts";

// Profiles.
export {
  chromeTrace,
  type Cost,
  costsBy,
  type Profile,
  type ProfileOptions,
  profilePlan,
  type StepProfile,
} from "../measure/profile.ts";
export type { TimingOptions } from "../measure/timing.ts";
export type { Pass, Scope } from "../graph/tensor.ts";

// What the device could do.
export { type Ceiling, measureCeiling } from "../measure/ceiling.ts";
