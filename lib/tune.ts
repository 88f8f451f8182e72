/**
 * Measures which schedules are fastest on an adapter, for the convolutions and products of a graph:
 * each candidate is timed as the plan of that one op, transforms and copies included. A problem's
 * own rule is timed first, so that nothing gets worse by tuning.
 *
 * @module
 */

import { type Device, DeviceError } from "./device.ts";
import { grad } from "./grad.ts";
import { collectUpdates, type Module } from "./nn/module.ts";
import { conv2d, CONV_WEIGHT_ORDER } from "./ops/conv.ts";
import { crossEntropy } from "./ops/loss.ts";
import { matmul } from "./ops/matmul.ts";
import { permute } from "./ops/view.ts";
import { Plan, PlanError } from "./plan.ts";
import { schedule } from "./plan/steps.ts";
import { Random } from "./random.ts";
import {
  candidates,
  choiceFor,
  type Convolution,
  isProduct,
  parseProblem,
  type Problem,
  problemFlops,
  resultPixels,
  winogradCost,
} from "./schedule.ts";
import { type Shape, sizeOf } from "./shape.ts";
import { currentScope, input, inverseOrder, type Tensor, Variable } from "./tensor.ts";
import { waitFor } from "./timing.ts";

/** How far tuning has come. */
export interface TuneProgress {
  /** Problems that are done with. */
  readonly done: number;
  /** Problems in all. */
  readonly of: number;
  /** What is measured now: a layer, its pass and a schedule. */
  readonly doing: string;
  /** Seconds since the start. */
  readonly seconds: number;
}

/** How to tune. */
export interface TuneOptions {
  /** Seconds after which no other measurement is begun; no limit by default. */
  readonly budget?: number;
  /** Is told about each measurement before it is made. */
  readonly onProgress?: (progress: TuneProgress) => void | Promise<void>;
  /** Ends tuning; what has been measured counts. */
  readonly signal?: AbortSignal;
}

/** What came out for a problem. */
export interface Tuning {
  /** The problem. */
  readonly problem: Problem;
  /** The layers that have it. */
  readonly layers: readonly string[];
  /** The schedule that is used from now on. */
  readonly schedule: string;
  /** The one that a rule would have chosen. */
  readonly rule: string;
  /** Milliseconds of each schedule that was timed, in the order of the measurements. */
  readonly milliseconds: ReadonlyMap<string, number>;
}

/** Loss and gradients of a classifier, as training computes them: what to tune for it. */
export function trainingGraph(net: Module, shape: Shape): Tensor[] {
  const x = input("x", shape), labels = input("labels", [shape[0]!], "u32");
  const { result: logits } = collectUpdates(() => net.train().call(x));
  const loss = crossEntropy(logits, labels);
  return [loss, ...grad(loss, net.parameters())];
}

/**
 * Times schedules for the problems in the graph of `roots`, the most expensive first, and adds the
 * fastest to `device.tuned`: plans compiled from then on use them. They are worth keeping, for
 * {@link Device.request}. Problems that the budget does not reach are left to the rules.
 *
 * @example
 * ```ts
 * import { Device, input, matmul, tune } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * using device = await Device.request();
 * const a = input("a", [64, 32]), b = input("b", [32, 64]);
 * const [product] = await tune(device, [matmul(a, b)], { budget: 1 });
 * assertEquals(device.tuned.get("product 1 64x32x64"), product!.schedule);
 * ```
 */
export async function tune(
  device: Device,
  roots: readonly Tensor[],
  options: TuneOptions = {},
): Promise<Tuning[]> {
  if (device.target.schedule !== "auto") {
    throw new DeviceError(
      `tune: this device is bound to the schedule "${device.target.schedule}"; request one with "auto"`,
    );
  }
  return await new Search(device, options).all(roots);
}

/** Problems by key, each with the layers that have it. */
type Problems = Map<string, { problem: Problem; layers: Set<string> }>;

/** The problems that have a choice in a plan of `roots` for the device as it is tuned now. */
function problemsOf(device: Device, roots: readonly Tensor[]): Problems {
  const found: Problems = new Map();
  const get = (key: string) => {
    const entry = found.get(key) ?? { problem: parseProblem(key), layers: new Set<string>() };
    found.set(key, entry);
    entry.layers.add(currentScope().layer);
    return device.tuned.get(key);
  };
  schedule(roots, [], { ...device.target, tuned: { get } });
  for (const [key, { problem }] of found) {
    if (candidates(device.target, problem).length < 2) found.delete(key);
  }
  return found;
}

/** Values to compute with: some random ones, over and over. */
function values(size: number): Float32Array<ArrayBuffer> {
  const block = new Random(0).uniform(new Float32Array(Math.min(size, 2 ** 14)), -1, 1);
  const filled = new Float32Array(size);
  for (let i = 0; i < size; i += block.length) filled.set(block.subarray(0, size - i), i);
  return filled;
}

/** A graph that is one problem and nothing else, and the variables that it reads. */
function graphOf(problem: Problem): { result: Tensor; leaves: Variable[] } {
  const leaf = (...shape: number[]) => new Variable(shape, () => values(sizeOf(shape)));
  if (isProduct(problem)) {
    const { kind, layers, rows, inner, columns } = problem, transposeA = kind === "productT";
    const a = transposeA ? leaf(layers, inner, rows) : leaf(layers, rows, inner);
    const b = leaf(layers, inner, columns);
    return { result: matmul(a, b, { transposeA }), leaves: [a, b] };
  }
  const { kind, n, pixels, c, o, kernel, stride, padding } = problem;
  const x = leaf(n, ...pixels, c), w = leaf(...kernel, c, o);
  const g = leaf(n, ...resultPixels(problem), o);
  const nchw = (v: Tensor) => permute(v, [0, 3, 1, 2]),
    nhwc = (v: Tensor) => permute(v, [0, 2, 3, 1]);
  const image = nchw(x), weight = permute(w, inverseOrder(CONV_WEIGHT_ORDER));
  const y = conv2d(image, weight, undefined, {
    stride: [...stride] as [number, number],
    padding: [...padding] as [number, number],
  });
  const leaves = [x, w, g];
  if (kind === "forward") return { result: nhwc(y), leaves };
  const wrt = kind === "inputGrad" ? image : weight;
  const [gradient] = grad(y, [wrt], nchw(g));
  return {
    result: kind === "inputGrad" ? nhwc(gradient!) : permute(gradient!, CONV_WEIGHT_ORDER),
    leaves,
  };
}

/** The share of its time that a schedule must save to be taken instead of the rule's. */
const WORTHWHILE = 0.02;
/** Of Winograd's sizes, how many times the fewest multiplications are still tried. */
const MULTIPLICATIONS = 1.6;
/** A schedule that took so many times as long as the best is not tried for such problems again. */
const SLOW = 1.6;
/** If one took so many times as long as the best, those of its sort are not tried either. */
const HOPELESS = 2.5;
/** How much slower than the best so far a first measurement may be to be worth a second look. */
const CLOSE = 1.25;

/** Milliseconds without timestamps that a measurement lasts. */
const ENOUGH = 120;

/**
 * Milliseconds of a run, by the device's own clock where it has one that makes sense; else by the
 * host's, in as many runs as are long beside the wait for them.
 */
async function timeRun(plan: Plan): Promise<number> {
  const { device, steps } = plan, { gpu } = device;
  if (gpu.features.has("timestamp-query")) {
    using stack = new DisposableStack();
    const querySet = gpu.createQuerySet({ type: "timestamp", count: 2 });
    const { QUERY_RESOLVE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
    const resolved = gpu.createBuffer({ size: 16, usage: QUERY_RESOLVE | COPY_SRC });
    const staging = gpu.createBuffer({ size: 16, usage: COPY_DST | MAP_READ });
    [querySet, resolved, staging].forEach((x) => stack.defer(() => x.destroy()));
    const encoder = gpu.createCommandEncoder();
    steps.forEach((_, i) =>
      plan.encodeStep(encoder, i, {
        timestampWrites: {
          querySet,
          ...i === 0 && { beginningOfPassWriteIndex: 0 },
          ...i === steps.length - 1 && { endOfPassWriteIndex: 1 },
        },
      })
    );
    encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
    const commands = encoder.finish();
    const elapsed = await waitFor(device, () => gpu.queue.submit([commands]));
    await device.settled("timestamps", () => staging.mapAsync(GPUMapMode.READ));
    const [start, end] = new BigUint64Array(staging.getMappedRange().slice(0));
    const ms = Number(end! - start!) / 1e6;
    if (ms > 0 && ms <= elapsed && ms >= 0.5 * elapsed - 30) return ms;
  }
  const run = (times: number) =>
    waitFor(device, () => {
      for (let i = 0; i < times; i++) plan.run();
    });
  const times = Math.min(64, Math.ceil(ENOUGH / await run(1)));
  return await run(times) / times;
}

class Search {
  readonly #start = performance.now();
  /** What is known of each problem that was looked at; those inside of others have no layers. */
  readonly #tunings = new Map<string, Tuning>();
  /** Times relative to the best, by kind of problem and schedule. */
  readonly #ratios = new Map<string, number>();
  #done = 0;
  #of = 0;

  constructor(readonly device: Device, readonly options: TuneOptions) {}

  async all(roots: readonly Tensor[]): Promise<Tuning[]> {
    const { device } = this;
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
    for (const [key, { problem, layers }] of order) {
      await this.#tune(key, problem, [...layers]);
      this.#done++;
    }
    // Of what was tried along the way, keep what is used.
    const used = problemsOf(device, roots);
    for (const key of this.#tunings.keys()) {
      if (!used.has(key)) device.tuned.delete(key);
    }
    return order.map(([key]) => this.#tunings.get(key)!);
  }

  get #seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  get #over(): boolean {
    const { budget = Infinity, signal } = this.options;
    return signal?.aborted || this.#seconds >= budget;
  }

  /** Times the schedules of a problem, and of the problems inside them, and takes the fastest. */
  async #tune(
    key: string,
    problem: Problem,
    layers: readonly string[],
    within = "",
  ): Promise<void> {
    const { device } = this;
    const before = device.tuned.get(key);
    device.tuned.delete(key);
    const rule = choiceFor(device.target, problem);
    const milliseconds = new Map<string, number>();
    const tuning = { problem, layers, rule, schedule: rule, milliseconds };
    this.#tunings.set(key, tuning);
    const { result, leaves } = graphOf(problem);
    const hopeless = new Set<string>();
    for (const name of this.#worthTrying(problem, rule)) {
      if (this.#over) break;
      if (hopeless.has(sortOf(name))) continue;
      device.tuned.set(key, name);
      const doing = within || `${layers[0] || "graph"} ${problem.kind}: ${name}`;
      for (const [inner, { problem }] of problemsOf(device, [result])) {
        if (!this.#tunings.has(inner)) await this.#tune(inner, problem, [], doing);
      }
      if (this.#over) break;
      await this.options.onProgress?.({
        done: this.#done,
        of: this.#of,
        doing: within ? `${doing}, ${name}` : doing,
        seconds: this.#seconds,
      });
      const best = Math.min(...milliseconds.values());
      const ms = await this.#time(result, best);
      if (ms !== undefined) milliseconds.set(name, ms);
      if (ms !== undefined && ms > HOPELESS * best) hopeless.add(sortOf(name));
    }
    leaves.forEach(({ storage }) => storage?.buffer.destroy());
    if (milliseconds.size === 0) {
      device.tuned.delete(key);
      if (before !== undefined) device.tuned.set(key, before);
      tuning.schedule = choiceFor(device.target, problem);
      return;
    }
    tuning.schedule = this.#fastest(milliseconds, rule);
    device.tuned.set(key, tuning.schedule);
    const best = milliseconds.get(tuning.schedule)!;
    for (const [name, ms] of milliseconds) {
      this.#ratios.set(`${familyOf(problem)} ${name}`, ms / best);
    }
  }

  /** The candidates with a chance, the rule's choice first. */
  #worthTrying(problem: Problem, rule: string): string[] {
    const all = candidates(this.device.target, problem);
    const sizes = all.flatMap((name) => winogradSize(name) ?? []);
    const least = Math.min(...sizes.map((m) => winogradCost(problem as Convolution, m)));
    const rest = all.filter((name) => {
      const m = winogradSize(name);
      return name !== rule && (this.#ratios.get(`${familyOf(problem)} ${name}`) ?? 1) < SLOW &&
        (!m || winogradCost(problem as Convolution, m) <= MULTIPLICATIONS * least);
    });
    return [rule, ...rest];
  }

  /** Milliseconds of a graph; undefined where the device cannot run it. */
  async #time(result: Tensor, best: number): Promise<number | undefined> {
    const { device } = this;
    try {
      using plan = await Plan.compile({ outputs: [result], device });
      // The first run lets the driver compile what it has to.
      await waitFor(device, () => plan.run());
      const first = await timeRun(plan);
      if (first > CLOSE * best) return first;
      return Math.min(first, await timeRun(plan), await timeRun(plan));
    } catch (error) {
      // Too large for a buffer, or refused by the driver: no candidate. A lost device is the end.
      if (!(error instanceof PlanError || error instanceof DeviceError)) throw error;
      device.check();
      return undefined;
    }
  }

  #fastest(milliseconds: ReadonlyMap<string, number>, rule: string): string {
    // Rounding errors of m = 6 are five times those of the others.
    const cost = ([name, ms]: [string, number]) =>
      ms * (name === rule ? 1 - WORTHWHILE : winogradSize(name) === 6 ? 1.1 : 1);
    return [...milliseconds].reduce((a, b) => cost(b) < cost(a) ? b : a)[0];
  }
}

/** What a schedule's chances are judged by: problems of one family have the same kernels. */
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
