/**
 * Measures which kernels are fastest on an adapter, for the convolutions and products of a graph:
 * each candidate is timed as the plan of that one op, transforms and copies included. The fastest are
 * then measured in turns with the rule's choice. Only a candidate that is clearly faster gets into the
 * table, so tuning makes nothing slower.
 *
 * @module
 */

import { freeVariables } from "../device/buffers.ts";
import { checkFunction, checkInstance, checkNumber, checkOptions } from "../check/arguments.ts";
import { Device, DeviceError } from "../device/device.ts";
import { grad } from "../ops/grad.ts";
import { collectUpdates, Module, training } from "../nn/module.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import { Plan, PlanError } from "../plan/plan.ts";
import { graphOf, problemsOf } from "./problems.ts";
import {
  candidates,
  choiceFor,
  type Convolution,
  isProduct,
  type Problem,
  problemFlops,
  winogradCost,
} from "../kernels/choice.ts";
import { checkList, checkShape, type Shape, ShapeError } from "../graph/shape.ts";
import { checkTensor, input, type Tensor } from "../graph/tensor.ts";
import { type Contender, contest, passTimes, stopwatch, timings } from "./timing.ts";

/** How far tuning has come. */
export interface TuneProgress {
  /** Problems that are done. */
  readonly done: number;
  /** Number of problems. */
  readonly of: number;
  /** What is being measured: a layer, its pass and a candidate. */
  readonly doing: string;
  /** Seconds since the start. */
  readonly seconds: number;
}

/** Settings of {@link tune}. */
export interface TuneOptions {
  /** Seconds after which no further measurement begins; no limit by default. */
  readonly budget?: number;
  /** Called before each measurement; awaited. */
  readonly onProgress?: (progress: TuneProgress) => void | Promise<void>;
  /** Ends the tuning; problems that are done keep their results. */
  readonly signal?: AbortSignal;
}

/** The result for a problem: a matrix product, or a pass of a convolution. */
export interface Tuning {
  /** The problem. */
  readonly problem: Problem;
  /** The layers that have it. */
  readonly layers: readonly string[];
  /** The candidate that is used from now on. */
  readonly choice: string;
  /** The candidate that a rule chooses: it is used unless another is clearly faster. */
  readonly rule: string;
  /** Milliseconds of each candidate that was timed, in the order of the measurements. */
  readonly milliseconds: ReadonlyMap<string, number>;
  /**
   * Candidates that cannot be run, and why: the compiler's or device's message, or the limit of the
   * adapter that they exceed. `winograd 4, register 8x2` is a candidate for the product inside
   * another.
   */
  readonly refused: ReadonlyMap<string, string>;
  /** Candidates that were not tried because they are hopeless, and why. */
  readonly skipped: ReadonlyMap<string, string>;
}

/**
 * The loss and the gradients of a classifier for an input of `shape`, as training computes them:
 * give them to {@link tune}.
 *
 * @throws {ArgumentError} if `net` is no module or `shape` no list.
 * @throws {ShapeError} if the shape does not fit the network, or the network gives no logits.
 *
 * @example
 * ```ts
 * import { Linear } from "@resnette/resnette";
 * import { trainingGraph } from "@resnette/resnette/measure";
 * import { assertEquals } from "@std/assert";
 *
 * const [loss, dw, db] = trainingGraph(new Linear(8, 2), [4, 8]);
 * assertEquals([loss!.shape, dw!.shape, db!.shape], [[], [2, 8], [2]]);
 * ```
 */
export function trainingGraph(net: Module, shape: Shape): Tensor[] {
  checkInstance("trainingGraph", "net", net, Module);
  checkShape("trainingGraph", shape);
  if (shape.length === 0) throw new ShapeError("trainingGraph: shape must be [N, …], got []");
  const x = input("x", shape), labels = input("labels", [shape[0]!], "u32");
  const { result: logits } = training(net, () => collectUpdates(() => net.call(x)));
  const loss = crossEntropy(logits, labels);
  return [loss, ...grad(loss, net.parameters())];
}

/**
 * Measures which kernels are fastest on a device, for the convolutions and matrix products in the
 * graph of `roots`. It times the candidates for each of these problems, the most expensive problem
 * first. A candidate that is clearly faster than the one that a rule chooses goes into
 * `device.tuned`, and plans that are compiled from then on use it. Save `device.tuned` and give it
 * to {@link Device.request} next time. Problems that the budget does not reach stay as they were.
 *
 * @throws {ArgumentError} if an argument or option is of another kind.
 * @throws {DeviceError} if the device was requested with one `choice` of kernels, or is lost.
 *
 * @example
 * ```ts
 * import { Device, input, matmul } from "@resnette/resnette";
 * import { tune } from "@resnette/resnette/measure";
 * import { assert } from "@std/assert";
 *
 * using device = await Device.request();
 * const a = input("a", [64, 32]), b = input("b", [32, 64]);
 * const [product] = await tune(device, [matmul(a, b)], { budget: 1 });
 * assert(product!.milliseconds.has(product!.rule));
 * ```
 */
export async function tune(
  device: Device,
  roots: readonly Tensor[],
  options: TuneOptions = {},
): Promise<Tuning[]> {
  checkInstance("tune", "device", device, Device);
  checkList("tune", "roots", roots);
  roots.forEach((x, i) => checkTensor("tune", `roots[${i}]`, x));
  checkOptions("tune", options, ["budget", "onProgress", "signal"]);
  const { budget = 0, onProgress, signal } = options;
  if (budget !== Infinity) checkNumber("tune", "budget", budget, { min: 0 });
  if (onProgress !== undefined) checkFunction("tune", "onProgress", onProgress);
  if (signal !== undefined) checkInstance("tune", "signal", signal, AbortSignal);
  if (device.target.choice !== "auto") {
    throw new DeviceError(
      `tune: this device is bound to the choice "${device.target.choice}"; request one with "auto"`,
    );
  }
  return await new Search(device, options).all(roots);
}

/** The share of the rule's time that a candidate must save to be taken instead. */
const WORTHWHILE = 0.02;
/** The same for Winograd's m = 6, which has five times the rounding errors of the others. */
const WORTH_ERRORS = 0.1;
/** Candidates that are measured in turns with the rule's choice, and how near the best they must be. */
const FINALISTS = 2, NEAR = 1.05;
/** Winograd's sizes are tried if they take at most this many times the fewest multiplications. */
const MULTIPLICATIONS = 1.6;
/** A candidate that took this many times as long as the best is not tried again for such problems. */
const SLOW = 1.6;
/** If one took this many times as long as the best, others of its sort are not tried either. */
const HOPELESS = 2.5;

/** Milliseconds that a measurement by timestamps lasts, if that takes no more runs than these. */
const ENOUGH = 10, MOST_RUNS = 64;
/** Milliseconds that one without timestamps lasts. */
const ENOUGH_BY_HOST = 300;
/** Tries to get timestamps that make sense, before they are given up. */
const TRIES = 3;

/** Runs of a plan that make a measurement, if one run takes `ms` milliseconds. */
const runsFor = (ms: number) => Math.min(MOST_RUNS, Math.ceil(ENOUGH / ms));

/** The share of the rule's time that a candidate has to save. */
const worthOf = (name: string) => winogradSize(name) === 6 ? WORTH_ERRORS : WORTHWHILE;

/** A {@link Tuning} while it comes about. */
interface Trial extends Tuning {
  choice: string;
  readonly milliseconds: Map<string, number>;
  readonly refused: Map<string, string>;
  readonly skipped: Map<string, string>;
}

class Search {
  readonly #elapsed = stopwatch();
  /** What is known of each problem; problems inside others have no layers. */
  readonly #tunings = new Map<string, Tuning>();
  /** Times relative to the best, by kind of problem and candidate. */
  readonly #ratios = new Map<string, number>();
  /** Whether the device's own clock is of use. */
  #stamps = true;
  #done = 0;
  #of = 0;

  constructor(readonly device: Device, readonly options: TuneOptions) {}

  async all(roots: readonly Tensor[]): Promise<Tuning[]> {
    const { device } = this;
    const before = new Set(device.tuned.keys());
    const problems = problemsOf(device, roots);
    // A product of Winograd's, say, is measured with the convolution that it is part of.
    const convolutions = [...problems].filter(([, { problem }]) => !isProduct(problem));
    for (const [key, { problem }] of convolutions) {
      for (const inner of problemsOf(device, [graphOf(problem).result]).keys()) {
        if (inner !== key) problems.delete(inner);
      }
    }
    const cost = ({ problem, layers }: { problem: Problem; layers: Set<string> }) =>
      problemFlops(problem) * layers.size;
    const order = [...problems].sort(([, a], [, b]) => cost(b) - cost(a));
    this.#of = order.length;
    try {
      for (const [key, { problem, layers }] of order) {
        await this.#tune(key, problem, [...layers]);
        this.#done++;
      }
    } finally {
      // Keep the choices that this graph uses, and those that were there before.
      const used = problemsOf(device, roots);
      for (const key of this.#tunings.keys()) {
        if (!used.has(key) && !before.has(key)) device.tuned.delete(key);
      }
    }
    return order.map(([key]) => this.#tunings.get(key)!);
  }

  get #seconds(): number {
    return this.#elapsed() / 1000;
  }

  get #over(): boolean {
    const { budget = Infinity, signal } = this.options;
    return signal?.aborted || this.#seconds >= budget;
  }

  /** Tunes a problem, and those inside its candidates. What is not decided stays as it was. */
  async #tune(
    key: string,
    problem: Problem,
    layers: readonly string[],
    within = "",
  ): Promise<Tuning> {
    const { tuned, target } = this.device;
    let choice = tuned.get(key);
    tuned.delete(key);
    const rule = choiceFor(target, problem);
    const trial: Trial = {
      ...{ problem, layers, rule, choice: rule },
      ...{ milliseconds: new Map(), refused: new Map(), skipped: new Map() },
    };
    this.#tunings.set(key, trial);
    const { result, leaves } = graphOf(problem);
    try {
      if (await this.#timeAll(key, trial, result, within)) {
        const winner = await this.#winner(key, trial, result);
        if (winner !== undefined) choice = winner === rule ? undefined : winner;
      }
    } finally {
      freeVariables(leaves);
      if (choice === undefined) tuned.delete(key);
      else tuned.set(key, choice);
    }
    trial.choice = choiceFor(target, problem);
    const best = trial.milliseconds.get(trial.choice);
    for (const [name, ms] of best ? trial.milliseconds : []) {
      this.#ratios.set(`${familyOf(problem)} ${name}`, ms / best!);
    }
    return trial;
  }

  /** Times the candidates of a problem, the rule's first; whether there was time for all. */
  async #timeAll(key: string, trial: Trial, result: Tensor, within: string): Promise<boolean> {
    const { device } = this, { problem, layers, rule, milliseconds, refused, skipped } = trial;
    const names = candidates(device.target, problem).filter((name) => name !== rule);
    for (const name of [rule, ...names]) {
      if (this.#over) return false;
      const hopeless = name !== rule && this.#hopeless(name, trial);
      if (hopeless) {
        skipped.set(name, hopeless);
        continue;
      }
      device.tuned.set(key, name);
      const doing = within || `${layers[0] || "graph"} ${problem.kind}: ${name}`;
      for (const [inner, { problem }] of problemsOf(device, [result])) {
        if (this.#tunings.has(inner)) continue;
        const tuning = await this.#tune(inner, problem, [], doing);
        for (const [of, why] of tuning.refused) refused.set(`${name}, ${of}`, why);
      }
      if (this.#over) return false;
      await this.options.onProgress?.({
        done: this.#done,
        of: this.#of,
        doing: within ? `${doing}, ${name}` : doing,
        seconds: this.#seconds,
      });
      try {
        const plan = await Plan.compile({ outputs: [result], device });
        try {
          // At first the driver may have to compile.
          const once = Math.min(await this.#time(plan, 1), await this.#time(plan, 1));
          const runs = runsFor(once);
          milliseconds.set(name, runs > 1 ? await this.#time(plan, runs) : once);
        } finally {
          plan[Symbol.dispose]();
        }
      } catch (error) {
        this.#refuse(name, trial, error);
      }
    }
    return true;
  }

  /** Notes why a candidate cannot be run. Throws again if the device is lost, or for another error. */
  #refuse(name: string, { refused }: Trial, error: unknown): void {
    if (!(error instanceof PlanError || error instanceof DeviceError)) throw error;
    this.device.check();
    refused.set(name, error.message);
  }

  /** Why a candidate of a problem is not worth a try; undefined if it is. */
  #hopeless(name: string, { problem, milliseconds }: Trial): string | undefined {
    const ratio = this.#ratios.get(`${familyOf(problem)} ${name}`) ?? 1;
    if (ratio >= SLOW) return `took ${ratio.toFixed(1)} times the best for a problem of its kind`;
    const m = winogradSize(name);
    if (m) {
      const cost = (name: string) => winogradCost(problem as Convolution, winogradSize(name)!);
      const sizes = candidates(this.device.target, problem).filter(winogradSize);
      const more = cost(name) / Math.min(...sizes.map(cost));
      return more > MULTIPLICATIONS
        ? `has ${more.toFixed(1)} times the multiplications of another size`
        : undefined;
    }
    const best = Math.min(...milliseconds.values());
    const slow = [...milliseconds].find(([of, ms]) =>
      sortOf(of) === sortOf(name) && ms > HOPELESS * best
    );
    return slow && `${slow[0]} took ${(slow[1] / best).toFixed(1)} times the best`;
  }

  /**
   * The choice to take: the rule's, unless another is clearly faster when both are measured in
   * turns. Undefined where that cannot be told: there is no time, or nothing can be run.
   */
  async #winner(key: string, trial: Trial, result: Tensor): Promise<string | undefined> {
    const { device } = this, { rule, milliseconds } = trial;
    const cost = (name: string) => milliseconds.get(name)! / (1 - worthOf(name));
    const others = [...milliseconds.keys()].filter((name) => name !== rule)
      .sort((a, b) => cost(a) - cost(b));
    const ruled = milliseconds.get(rule);
    if (ruled === undefined) return others[0];
    const most = Math.min(ruled, NEAR * cost(others[0] ?? rule));
    const names = [rule, ...others.filter((name) => cost(name) < most).slice(0, FINALISTS)];
    const plans: Plan[] = [];
    try {
      const contenders = new Map<string, Contender>();
      for (const name of names) {
        device.tuned.set(key, name);
        const runs = runsFor(milliseconds.get(name)!);
        try {
          const plan = await Plan.compile({ outputs: [result], device });
          plans.push(plan);
          contenders.set(name, { worth: worthOf(name), measure: () => this.#time(plan, runs) });
        } catch (error) {
          // There is no memory for all of them at once.
          this.#refuse(name, trial, error);
        }
      }
      if (!contenders.has(rule)) return undefined;
      if (contenders.size === 1) return rule;
      const stamps = this.#stamps;
      const found = await contest([...contenders.values()], () => this.#over);
      // Times by two clocks are not to be compared.
      if (!found || this.#stamps !== stamps) return undefined;
      const finalists = [...contenders.keys()];
      finalists.forEach((name, i) => milliseconds.set(name, found.medians[i]!));
      return finalists[found.winner]!;
    } finally {
      plans.forEach((plan) => plan[Symbol.dispose]());
    }
  }

  /**
   * Milliseconds of a run, from `times` runs in a row: by the device's own clock if it makes sense,
   * else by the host's.
   */
  async #time(plan: Plan, times: number): Promise<number> {
    const { device } = this;
    for (let tries = 0; this.#stamps && tries < TRIES; tries++) {
      const found = await passTimes(
        device,
        1,
        (encoder, _, stamps) => plan.encode(encoder, { times, ...stamps }),
      );
      if (found) return found[0]! / times;
    }
    this.#stamps = false;
    const run = (times: number) => {
      for (let i = 0; i < times; i++) plan.run();
    };
    const [ms] = await timings(device, run, { enough: ENOUGH_BY_HOST, runs: 1 });
    return ms!;
  }
}

/** Problems of one family have the same kernels, so what is slow for one is slow for all. */
function familyOf(problem: Problem): string {
  if (isProduct(problem)) return problem.kind;
  const { kind, kernel, stride, c } = problem;
  return `${kind === "weightGrad"} ${kernel} ${stride} ${c % 4 === 0}`;
}

/** `subgroup` of `subgroup 16x1`. */
const sortOf = (name: string) => name.split(" ", 1)[0]!;

/** m of `winograd m`. */
function winogradSize(name: string): number | undefined {
  return name.startsWith("winograd ") ? Number(name.slice("winograd ".length)) : undefined;
}
