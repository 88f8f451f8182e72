/**
 * Optimizers: all parameters lie in one flat buffer and one kernel updates them. Numbers that change
 * from step to step are an input of the plan, not part of the kernel.
 *
 * @module
 */

import { ArgumentError, checkNumber, checkOptions, refuse } from "../check/arguments.ts";
import type { KernelSpec, Target } from "../kernels/kernel.ts";
import { perThread } from "../kernels/kernel.ts";
import { asStored, pack } from "../ops/pack.ts";
import type { Feeds } from "../plan/plan.ts";
import { checkList, formatShape, sameShape, ShapeError } from "../graph/shape.ts";
import {
  checkTensor,
  checkVariables,
  input,
  inScope,
  packVariables,
  type Scope,
  storeIn,
  type Tensor,
  type Update,
  Variable,
} from "../graph/tensor.ts";

/** Name of the plan input that carries the numbers of a step. */
const INPUT = "optimizer";
const SCOPE: Scope = { layer: "", pass: "optimizer" };

/**
 * Base of the optimizers. One of them has state by PyTorch's names, the numbers of a step, and a rule
 * in WGSL: of a parameter `p` with gradient `g0`, numbers `h` and state `s0`, `s1`, ….
 *
 * @example
 * ```ts
 * import { Optimizer, Plan, readVariables, tensor, Variable } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * class SignDescent extends Optimizer {
 *   constructor(parameters: readonly Variable[], lr: number) {
 *     super(parameters, lr, []);
 *   }
 *   protected override numbers(): number[] {
 *     return [this.lr];
 *   }
 *   protected override rule(): string {
 *     return "  p = p - h[0] * sign(g0);";
 *   }
 * }
 * const w = new Variable([1], [1]);
 * const optimizer = new SignDescent([w], 0.5);
 * using plan = await Plan.compile({ updates: optimizer.updates([tensor([10])]) });
 * plan.run(optimizer.nextStep());
 * const [values] = await readVariables([w]);
 * assertAlmostEquals(values![0]!, 0.5, 1e-6);
 * ```
 */
export abstract class Optimizer {
  /** Learning rate; may be changed between steps. */
  lr: number;
  /** Steps taken. */
  steps = 0;
  /** State tensors by PyTorch's name, each with a part for each parameter. */
  readonly state: ReadonlyMap<string, readonly Variable[]>;
  readonly #parameters: readonly Variable[];
  readonly #packs: readonly Variable[];
  readonly #states: readonly (readonly Variable[])[];

  /** Packs `parameters` into flat buffers; they stay usable as they were. */
  protected constructor(parameters: readonly Variable[], lr: number, names: readonly string[]) {
    const { name } = this.constructor;
    checkNumber(name, "lr", lr, { min: 0 });
    checkVariables(name, "parameters", parameters);
    if (parameters.length === 0) {
      throw new ArgumentError(
        `${name}: no parameters: a module finds those in its properties, in Sequential and in ` +
          "ModuleList, and not in arrays or #private fields",
      );
    }
    const twice = parameters.findIndex((x, i) => parameters.indexOf(x) < i);
    if (twice >= 0) {
      throw new ArgumentError(`${name}: parameters[${twice}] is there twice; give it once`);
    }
    this.lr = lr;
    this.#parameters = parameters;
    this.#packs = packVariables(parameters);
    const state = new Map(
      names.map((name) => [
        name,
        parameters.map(({ shape, stored }) => {
          const zeros = new Variable(shape);
          return stored ? storeIn(stored.order, zeros) : zeros;
        }),
      ]),
    );
    this.state = state;
    this.#states = [...state.values()].map((parts) => packVariables(parts));
  }

  /** WGSL statements that update `p` and the state from `g` and the numbers `h`, all `vec4f` but h. */
  protected abstract rule(): string;

  /** The numbers `h` of step `t`, counted from 1. */
  protected abstract numbers(t: number): readonly number[];

  /**
   * The update for gradients of the parameters, in their order.
   *
   * @throws {ArgumentError} if they are no tensors, or not one for each parameter.
   * @throws {ShapeError} if one has another shape than its parameter.
   */
  updates(grads: readonly Tensor[]): Update[] {
    const { name } = this.constructor, parameters = this.#parameters;
    checkList(name, "grads", grads);
    if (grads.length !== parameters.length) {
      throw new ArgumentError(
        `${name}: ${grads.length} gradients for ${parameters.length} parameters`,
      );
    }
    grads.forEach((x, i) => {
      checkTensor(name, `grads[${i}]`, x, "f32");
      if (sameShape(x.shape, parameters[i]!.shape)) return;
      throw new ShapeError(
        `${name}: grads[${i}] is ${formatShape(x.shape)}, and its parameter ${
          formatShape(parameters[i]!.shape)
        }`,
      );
    });
    const stored = grads.map((x, i) => asStored(parameters[i]!, x));
    const h = input(INPUT, [this.numbers(1).length]);
    let taken = 0;
    return this.#packs.map((whole, i) => {
      const parts = stored.slice(taken, taken += whole.parts.length);
      const states = this.#states.map((packs) => packs[i]!);
      return {
        name: this.constructor.name,
        targets: [whole, ...states],
        reads: [inScope(SCOPE, () => pack(parts, whole)), h],
        kernels: (target: Target) => [this.#kernel(whole.size, states.length, target)],
      };
    });
  }

  #kernel(size: number, states: number, target: Target): KernelSpec {
    const names = Array.from({ length: states }, (_, i) => `s${i}`);
    const spec = perThread(
      [
        { name: "grads", type: "vec4f" },
        { name: "h", type: "f32" },
        { name: "parameters", type: "vec4f", write: true },
        ...names.map((name) => ({ name: `state_${name}`, type: "vec4f", write: true }) as const),
      ],
      size / 4,
      target,
      `  let g0 = grads[i];
  var p = parameters[i];
${names.map((name) => `  var ${name} = state_${name}[i];`).join("\n")}
${this.rule()}
  parameters[i] = p;
${names.map((name) => `  state_${name}[i] = ${name};`).join("\n")}`,
    );
    return { ...spec, flops: 12 * size };
  }

  /** Feeds of the next run of a plan with this optimizer's updates; counts the step. */
  nextStep(): Feeds {
    return { [INPUT]: new Float32Array(this.numbers(++this.steps)) };
  }
}

/** Settings of {@link Adam} and {@link AdamW}. */
export interface AdamOptions {
  /** Learning rate; 1e-3 by default. */
  readonly lr?: number;
  /** Decay of the running mean and square; 0.9 and 0.999 by default. */
  readonly betas?: readonly [number, number];
  /** Added to the denominator; 1e-8 by default. */
  readonly eps?: number;
  /** L2 penalty, or in AdamW decoupled decay. */
  readonly weightDecay?: number;
}

/** The keys of {@link AdamOptions}. */
const ADAM_OPTIONS: readonly (keyof AdamOptions)[] = ["lr", "betas", "eps", "weightDecay"];

/**
 * Adam (Kingma & Ba 2014; {@link https://pytorch.org/docs/stable/generated/torch.optim.Adam.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { Adam, Plan, readVariables, tensor, Variable } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const w = new Variable([1], [1]);
 * const optimizer = new Adam([w], { lr: 0.1 });
 * using plan = await Plan.compile({ updates: optimizer.updates([tensor([10])]) });
 * plan.run(optimizer.nextStep());
 * const [values] = await readVariables([w]);
 * assertAlmostEquals(values![0]!, 0.9, 1e-6);
 * ```
 */
export class Adam extends Optimizer {
  /** Decay of the running mean and square of the gradients. */
  readonly betas: readonly [number, number];
  /** Added to the denominator. */
  readonly eps: number;
  /** L2 penalty, or in AdamW decoupled decay. */
  readonly weightDecay: number;

  /**
   * An optimizer for `parameters`.
   *
   * @throws {ArgumentError} if there are no parameters, one is there twice, or an option is wrong.
   */
  constructor(
    parameters: readonly Variable[],
    options: AdamOptions = {},
  ) {
    checkOptions(new.target.name, options, ADAM_OPTIONS);
    const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0 } = options;
    checkList(new.target.name, "betas", betas);
    [0, 1].forEach((i) =>
      checkNumber(new.target.name, `betas[${i}]`, betas[i], { min: 0, below: 1 })
    );
    if (betas.length > 2) refuse(new.target.name, "betas", "two numbers", betas);
    checkNumber(new.target.name, "eps", eps, { min: 0 });
    checkNumber(new.target.name, "weightDecay", weightDecay, { min: 0 });
    super(parameters, lr, ["exp_avg", "exp_avg_sq"]);
    this.betas = betas;
    this.eps = eps;
    this.weightDecay = weightDecay;
  }

  /**
   * Step size, √ of the second bias correction, L2 penalty, factor of decoupled decay. Then the numbers
   * that stay: a gradient's share in the mean, the square's decay and a gradient's share in it, eps.
   */
  protected override numbers(t: number): number[] {
    const [b1, b2] = this.betas;
    const step = [this.lr / (1 - b1 ** t), Math.sqrt(1 - b2 ** t), this.weightDecay, 1];
    return [...step, 1 - b1, b2, 1 - b2, this.eps];
  }

  /** Means follow, parameters step; `p * h[3]` is the decoupled decay. */
  protected override rule(): string {
    return `  p = p * h[3];
  let g = g0 + h[2] * p;
  s0 = s0 + h[4] * (g - s0);
  s1 = h[5] * s1 + h[6] * g * g;
  p = p - h[0] * s0 / (sqrt(s1) / h[1] + h[7]);`;
  }
}

/**
 * Adam with decoupled weight decay (Loshchilov & Hutter 2017; {@link https://pytorch.org/docs/stable/generated/torch.optim.AdamW.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { AdamW, Plan, readVariables, tensor, Variable } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const w = new Variable([1], [1]);
 * const optimizer = new AdamW([w], { lr: 0.1, weightDecay: 1 });
 * using plan = await Plan.compile({ updates: optimizer.updates([tensor([10])]) });
 * plan.run(optimizer.nextStep());
 * const [values] = await readVariables([w]);
 * assertAlmostEquals(values![0]!, 0.8, 1e-6);
 * ```
 */
export class AdamW extends Adam {
  /**
   * An optimizer for `parameters`; the weight decay is 0.01 by default.
   *
   * @throws {ArgumentError} if there are no parameters, one is there twice, or an option is wrong.
   */
  constructor(parameters: readonly Variable[], options: AdamOptions = {}) {
    checkOptions("AdamW", options, ADAM_OPTIONS);
    super(parameters, { weightDecay: 0.01, ...options });
  }

  /** As Adam, but with the decay as a factor and no penalty. */
  protected override numbers(t: number): number[] {
    const [step, correction, , , ...rest] = super.numbers(t);
    return [step!, correction!, 0, 1 - this.lr * this.weightDecay, ...rest];
  }
}

/** Settings of {@link SGD}. */
export interface SGDOptions {
  /** Learning rate; 1e-3 by default. */
  readonly lr?: number;
  /** Share of the last step in the next; 0 by default. */
  readonly momentum?: number;
  /** L2 penalty; 0 by default. */
  readonly weightDecay?: number;
}

/**
 * Gradient descent with momentum ({@link https://pytorch.org/docs/stable/generated/torch.optim.SGD.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { Plan, readVariables, SGD, tensor, Variable } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const w = new Variable([1], [1]);
 * const optimizer = new SGD([w], { lr: 0.01 });
 * using plan = await Plan.compile({ updates: optimizer.updates([tensor([10])]) });
 * plan.run(optimizer.nextStep());
 * const [values] = await readVariables([w]);
 * assertAlmostEquals(values![0]!, 0.9, 1e-6);
 * ```
 */
export class SGD extends Optimizer {
  /** Share of the last step in the next. */
  readonly momentum: number;
  /** L2 penalty. */
  readonly weightDecay: number;

  /**
   * An optimizer for `parameters`.
   *
   * @throws {ArgumentError} if there are no parameters, one is there twice, or an option is wrong.
   */
  constructor(
    parameters: readonly Variable[],
    options: SGDOptions = {},
  ) {
    checkOptions("SGD", options, ["lr", "momentum", "weightDecay"]);
    const { lr = 1e-3, momentum = 0, weightDecay = 0 } = options;
    checkNumber("SGD", "momentum", momentum, { min: 0 });
    checkNumber("SGD", "weightDecay", weightDecay, { min: 0 });
    super(parameters, lr, ["momentum_buffer"]);
    this.momentum = momentum;
    this.weightDecay = weightDecay;
  }

  /** Learning rate, L2 penalty, momentum. */
  protected override numbers(): number[] {
    return [this.lr, this.weightDecay, this.momentum];
  }

  /** The momentum follows the penalised gradient, parameters follow the momentum. */
  protected override rule(): string {
    return `  s0 = h[2] * s0 + g0 + h[1] * p;
  p = p - h[0] * s0;`;
  }
}
