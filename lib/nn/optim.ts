/**
 * Optimizers: the parameters of a group lie in one flat buffer and one kernel updates them. Numbers
 * that change from step to step are an input of the plan, not part of the kernel.
 *
 * @module
 */

import {
  ArgumentError,
  checkBoolean,
  checkNumber,
  checkOptions,
  refuse,
} from "../check/arguments.ts";
import { Parameter } from "./module.ts";
import type { KernelSpec, Target } from "../kernels/kernel.ts";
import { perThread } from "../kernels/kernel.ts";
import { grad } from "../ops/grad.ts";
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
  type Tensor,
  type Update,
  Variable,
  zerosLike,
} from "../graph/tensor.ts";

const SCOPE: Scope = { layer: "", pass: "optimizer" };
/** Groups of all optimizers until now: so the inputs of several can be in one plan. */
let groups = 0;

/** Settings of every optimizer. */
export interface OptimizerOptions {
  /** Learning rate; each optimizer has its default. */
  readonly lr?: number;
  /** Whether to maximize the loss instead of minimizing it; false by default. */
  readonly maximize?: boolean;
}

/** Parameters with settings of their own; settings that are left out are those of the optimizer. */
export type ParameterGroup<O> = O & { readonly params: readonly Variable[] };

/** A group with all its settings; only `lr` may be changed, as kernels may be made for the others. */
export type GroupSettings<O> = { readonly [K in Exclude<keyof O, "lr">]-?: NonNullable<O[K]> } & {
  /** Learning rate; may be changed between steps. */
  lr: number;
  /** The parameters. */
  readonly params: readonly Variable[];
};

/**
 * Base of the optimizers. Compile its {@link Optimizer.minimize} into the plan of a step, and feed
 * each run of the plan with {@link Optimizer.nextStep}.
 *
 * A subclass says which `states` it keeps, which `numbers` a step needs, and the `rule`: WGSL that
 * computes a parameter `p` from its gradient `g0`, the numbers `h` and the states by their names.
 *
 * @example
 * ```ts
 * import { Optimizer, Plan, readVariables, type GroupSettings, tensor, Variable } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * interface Options {
 *   readonly lr?: number;
 * }
 * class SignDescent extends Optimizer<Options> {
 *   constructor(parameters: readonly Variable[], options: Options = {}) {
 *     super(parameters, options, { lr: 0.1 });
 *   }
 *   protected override numbers({ lr }: GroupSettings<Options>): number[] {
 *     return [lr];
 *   }
 *   protected override rule(): string {
 *     return "  p = p - h[0] * sign(g0);";
 *   }
 * }
 * const w = new Variable([1], [1]);
 * const optimizer = new SignDescent([w], { lr: 0.5 });
 * using plan = await Plan.compile({ updates: optimizer.updates([tensor([10])]) });
 * plan.run(optimizer.nextStep());
 * const [values] = await readVariables([w]);
 * assertAlmostEquals(values![0]!, 0.5, 1e-6);
 * ```
 */
export abstract class Optimizer<O extends OptimizerOptions = OptimizerOptions> {
  /** Number of steps taken. */
  steps = 0;
  /** The groups (PyTorch's `param_groups`); one if the optimizer was given only parameters. */
  readonly paramGroups: readonly GroupSettings<O>[];
  /**
   * State by PyTorch's names, such as `exp_avg`: a tensor for each parameter, group by group. To go
   * on with a run, a checkpoint of your own needs these and {@link Optimizer.steps}.
   */
  readonly state: ReadonlyMap<string, readonly Variable[]>;
  readonly #parameters: readonly Variable[];
  /** Of each group: name of its input, packed parameters, the same for each state tensor. */
  readonly #packed: readonly {
    readonly group: GroupSettings<O>;
    readonly input: string;
    readonly packs: readonly Variable[];
    readonly states: readonly (readonly Variable[])[];
  }[];

  /**
   * Packs the parameters into flat buffers; they stay usable as they were. `defaults` names all
   * options but `maximize`.
   *
   * @throws {ArgumentError} if there are no parameters, one is given twice, or an option is
   * invalid.
   */
  protected constructor(
    parameters: readonly Variable[] | readonly ParameterGroup<O>[],
    options: O,
    defaults: Omit<Required<O>, "maximize">,
  ) {
    const { name } = this.constructor, all = { ...defaults, maximize: false };
    const keys = Object.keys(all);
    checkOptions(name, options, keys);
    checkList(name, "parameters", parameters);
    const grouped = parameters.some((x) => !(x instanceof Variable) && "params" in Object(x));
    const given = (grouped ? parameters : [{ params: parameters }]) as ParameterGroup<O>[];
    this.paramGroups = given.map((group, i) => {
      const op = grouped ? `${name}: parameters[${i}]` : name;
      checkOptions(op, group, ["params", ...keys]);
      checkVariables(op, grouped ? "params" : "parameters", group.params);
      if (group.params.length === 0) {
        throw new ArgumentError(
          `${op}: no parameters: a module finds those in its properties, in Sequential and in ` +
            "ModuleList, and not in arrays or #private fields",
        );
      }
      const settings = { ...all, ...options, ...group } as unknown as GroupSettings<O>;
      checkNumber(op, "lr", settings.lr, { min: 0 });
      checkBoolean(op, "maximize", settings.maximize);
      this.check(op, settings);
      return settings;
    });
    const every = this.#parameters = this.paramGroups.flatMap(({ params }) => params);
    const twice = every.findIndex((x, i) => every.indexOf(x) < i);
    if (twice >= 0) {
      throw new ArgumentError(`${name}: parameters[${twice}] is there twice; give it once`);
    }
    // A tensor that one group needs, all have: so each parameter has its part.
    const names = [...new Set(this.paramGroups.flatMap((group) => this.states(group)))];
    const state = names.map((name): [string, Variable[]] => [name, every.map(zerosLike)]);
    this.state = new Map(state);
    let end = 0;
    this.#packed = this.paramGroups.map((group) => {
      const start = end;
      end += group.params.length;
      return {
        group,
        input: `optimizer ${groups++}`,
        packs: packVariables(group.params),
        states: state.map(([, parts]) => packVariables(parts.slice(start, end))),
      };
    });
  }

  /** Learning rate of the first group. Setting it sets that of all groups. */
  get lr(): number {
    return this.paramGroups[0]!.lr;
  }

  set lr(lr: number) {
    for (const group of this.paramGroups) group.lr = lr;
  }

  /** Throws an {@link ArgumentError} that begins with `op` if a setting of the group is invalid. */
  protected check(_op: string, _group: GroupSettings<O>): void {}

  /** Names of the state tensors that the group needs; they begin as zeros. */
  protected states(_group: GroupSettings<O>): readonly string[] {
    return [];
  }

  /**
   * WGSL statements that update `p` and the states from `g0` and `h`. `h` is an array of f32, the
   * others are `vec4f`.
   */
  protected abstract rule(group: GroupSettings<O>): string;

  /** The numbers `h` of step `t`, counted from 1. */
  protected abstract numbers(group: GroupSettings<O>, t: number): readonly number[];

  /**
   * The updates that take a step, given a gradient for each parameter, in their order, group by
   * group.
   *
   * @throws {ArgumentError} if `grads` are no tensors, or not one for each parameter, or if a
   * parameter is frozen.
   * @throws {ShapeError} if a gradient has another shape than its parameter.
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
    for (const [i, parameter] of parameters.entries()) {
      if (!(parameter instanceof Parameter) || parameter.requiresGrad) continue;
      throw new ArgumentError(
        `${name}: parameters[${i}], ${
          formatShape(parameter.shape)
        }, is frozen; make the optimizer of ` +
          "net.parameters().filter((p) => p.requiresGrad)",
      );
    }
    const stored = grads.map((x, i) => asStored(parameters[i]!, x));
    let taken = 0;
    return this.#packed.flatMap(({ group, input: name, packs, states }) => {
      const h = input(name, [this.numbers(group, 1).length]);
      return packs.map((whole, i) => {
        const parts = stored.slice(taken, taken += whole.parts.length);
        return {
          name: this.constructor.name,
          targets: [whole, ...states.map((packs) => packs[i]!)],
          reads: [inScope(SCOPE, () => pack(parts, whole)), h],
          kernels: (target: Target) => [this.#kernel(group, whole.size, target)],
        };
      });
    });
  }

  /**
   * The updates of a step for the scalar `loss`: {@link Optimizer.updates} of its gradients. A
   * parameter that the loss does not depend on has a gradient of 0, so weight decay and momentum
   * still change it; PyTorch leaves it as it is.
   *
   * @throws {ShapeError} if the loss is no scalar.
   *
   * @example
   * ```ts
   * import { Plan, readVariables, SGD, square, Variable } from "@resnette/resnette";
   * import { assertEquals } from "@std/assert";
   *
   * const x = new Variable([], [1]), sgd = new SGD([x], { lr: 0.25 });
   * using plan = await Plan.compile({ updates: sgd.minimize(square(x)) });
   * plan.run(sgd.nextStep());
   * assertEquals(await readVariables([x]), [new Float32Array([0.5])]);
   * ```
   */
  minimize(loss: Tensor): Update[] {
    checkTensor(this.constructor.name, "loss", loss, "f32");
    return this.updates(grad(loss, this.#parameters));
  }

  #kernel(group: GroupSettings<O>, size: number, target: Target): KernelSpec {
    const names = [...this.state.keys()];
    const spec = perThread(
      [
        { name: "grads", type: "vec4f" },
        { name: "h", type: "f32" },
        { name: "parameters", type: "vec4f", write: true },
        ...names.map((name) => ({ name: `state_${name}`, type: "vec4f", write: true }) as const),
      ],
      size / 4,
      target,
      `  let g0 = ${group.maximize ? "-" : ""}grads[i];
  var p = parameters[i];
${names.map((name) => `  var ${name} = state_${name}[i];`).join("\n")}
${this.rule(group)}
  parameters[i] = p;
${names.map((name) => `  state_${name}[i] = ${name};`).join("\n")}`,
    );
    return { ...spec, flops: 12 * size };
  }

  /**
   * What to feed the next run of a plan that has this optimizer's updates, such as the learning
   * rate. Call it once for each run: it counts the step.
   */
  nextStep(): Feeds {
    const t = ++this.steps;
    return Object.fromEntries(
      this.#packed.map(({ group, input }) => [input, new Float32Array(this.numbers(group, t))]),
    );
  }
}

/** Settings of {@link Adam} and {@link AdamW}. */
export interface AdamOptions extends OptimizerOptions {
  /** Learning rate; 1e-3 by default. */
  readonly lr?: number;
  /** Decay rates of the gradient's running mean and of its square's; `[0.9, 0.999]` by default. */
  readonly betas?: readonly [number, number];
  /** Added to the denominator; 1e-8 by default. */
  readonly eps?: number;
  /** Adam: an L2 penalty, 0 by default. AdamW: decoupled weight decay, 0.01 by default. */
  readonly weightDecay?: number;
  /** Whether to divide by the largest running square so far (AMSGrad); false by default. */
  readonly amsgrad?: boolean;
}

const ADAM = { lr: 1e-3, betas: [0.9, 0.999] as const, eps: 1e-8, weightDecay: 0, amsgrad: false };

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
export class Adam extends Optimizer<AdamOptions> {
  /**
   * An optimizer for `parameters`, or for groups of them with settings of their own.
   *
   * @throws {ArgumentError} if there are no parameters, one is given twice, or an option is
   * invalid.
   */
  constructor(
    parameters: readonly Variable[] | readonly ParameterGroup<AdamOptions>[],
    options: AdamOptions = {},
  ) {
    super(parameters, options, ADAM);
  }

  /** Each option by itself. */
  protected override check(op: string, group: GroupSettings<AdamOptions>): void {
    const { betas, eps, weightDecay, amsgrad } = group;
    checkList(op, "betas", betas);
    [0, 1].forEach((i) => checkNumber(op, `betas[${i}]`, betas[i], { min: 0, below: 1 }));
    if (betas.length > 2) refuse(op, "betas", "two numbers", betas);
    checkNumber(op, "eps", eps, { min: 0 });
    checkNumber(op, "weightDecay", weightDecay, { min: 0 });
    checkBoolean(op, "amsgrad", amsgrad);
  }

  /** `exp_avg`, `exp_avg_sq`, and with AMSGrad `max_exp_avg_sq`. */
  protected override states({ amsgrad }: GroupSettings<AdamOptions>): string[] {
    return ["exp_avg", "exp_avg_sq", ...amsgrad ? ["max_exp_avg_sq"] : []];
  }

  /**
   * Step size, √ of the second bias correction, L2 penalty, factor of decoupled decay. Then what is
   * the same in each step: 1 - β₁, β₂, 1 - β₂, eps.
   */
  protected override numbers(group: GroupSettings<AdamOptions>, t: number): number[] {
    const { lr, betas: [b1, b2], weightDecay, eps } = group;
    const step = [lr / (1 - b1 ** t), Math.sqrt(1 - b2 ** t), weightDecay, 1];
    return [...step, 1 - b1, b2, 1 - b2, eps];
  }

  /** Updates the running mean and square, and then the parameters. */
  protected override rule({ amsgrad }: GroupSettings<AdamOptions>): string {
    const square = amsgrad ? "max_exp_avg_sq" : "exp_avg_sq";
    return `  p = p * h[3];
  let g = g0 + h[2] * p;
  exp_avg = exp_avg + h[4] * (g - exp_avg);
  exp_avg_sq = h[5] * exp_avg_sq + h[6] * g * g;
${amsgrad ? `  ${square} = max(${square}, exp_avg_sq);` : ""}
  p = p - h[0] * exp_avg / (sqrt(${square}) / h[1] + h[7]);`;
  }
}

/**
 * Adam with decoupled weight decay (Loshchilov & Hutter 2017;
 * {@link https://pytorch.org/docs/stable/generated/torch.optim.AdamW.html | PyTorch}).
 *
 * @example Weights decay, biases do not
 * ```ts
 * import { AdamW, Plan, readVariables, tensor, Variable } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const w = new Variable([1], [1]), b = new Variable([1], [1]);
 * const groups = [{ params: [w] }, { params: [b], weightDecay: 0 }];
 * const optimizer = new AdamW(groups, { lr: 0.1, weightDecay: 1 });
 * using plan = await Plan.compile({ updates: optimizer.updates([tensor([10]), tensor([10])]) });
 * plan.run(optimizer.nextStep());
 * const [weight, bias] = await readVariables([w, b]);
 * assertAlmostEquals(weight![0]!, 0.8, 1e-6);
 * assertAlmostEquals(bias![0]!, 0.9, 1e-6);
 * ```
 */
export class AdamW extends Adam {
  /**
   * An optimizer for `parameters`, or for groups of them with settings of their own.
   *
   * @throws {ArgumentError} if there are no parameters, one is given twice, or an option is
   * invalid.
   */
  constructor(
    parameters: readonly Variable[] | readonly ParameterGroup<AdamOptions>[],
    options: AdamOptions = {},
  ) {
    checkOptions("AdamW", options, [...Object.keys(ADAM), "maximize"]);
    super(parameters, { weightDecay: 0.01, ...options });
  }

  /** As Adam's, but with the weight decay as a factor and no L2 penalty. */
  protected override numbers(group: GroupSettings<AdamOptions>, t: number): number[] {
    const [step, correction, , , ...rest] = super.numbers(group, t);
    return [step!, correction!, 0, 1 - group.lr * group.weightDecay, ...rest];
  }
}

/** Settings of {@link SGD}. */
export interface SGDOptions extends OptimizerOptions {
  /** Learning rate; 1e-3 by default. */
  readonly lr?: number;
  /** Momentum factor; 0 by default. */
  readonly momentum?: number;
  /** Dampening: the momentum takes in `1 - dampening` times the gradient; 0 by default. */
  readonly dampening?: number;
  /** L2 penalty; 0 by default. */
  readonly weightDecay?: number;
  /** Whether to use Nesterov momentum; needs a momentum and no dampening; false by default. */
  readonly nesterov?: boolean;
}

const SGD_DEFAULTS = { lr: 1e-3, momentum: 0, dampening: 0, weightDecay: 0, nesterov: false };

/**
 * Stochastic gradient descent, with momentum if asked for
 * ({@link https://pytorch.org/docs/stable/generated/torch.optim.SGD.html | PyTorch}).
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
export class SGD extends Optimizer<SGDOptions> {
  /**
   * An optimizer for `parameters`, or for groups of them with settings of their own.
   *
   * @throws {ArgumentError} if there are no parameters, one is given twice, or an option is
   * invalid.
   */
  constructor(
    parameters: readonly Variable[] | readonly ParameterGroup<SGDOptions>[],
    options: SGDOptions = {},
  ) {
    super(parameters, options, SGD_DEFAULTS);
  }

  /** Each option by itself, and nesterov with the others. */
  protected override check(op: string, group: GroupSettings<SGDOptions>): void {
    const { momentum, dampening, weightDecay, nesterov } = group;
    checkNumber(op, "momentum", momentum, { min: 0 });
    checkNumber(op, "dampening", dampening);
    checkNumber(op, "weightDecay", weightDecay, { min: 0 });
    checkBoolean(op, "nesterov", nesterov);
    if (nesterov && (momentum === 0 || dampening !== 0)) {
      throw new ArgumentError(
        `${op}: nesterov wants a momentum above 0 and no dampening, got ${momentum} and ${dampening}`,
      );
    }
  }

  /** `momentum_buffer`; without a momentum it is the last gradient, where PyTorch keeps nothing. */
  protected override states(): string[] {
    return ["momentum_buffer"];
  }

  /** Learning rate, L2 penalty, momentum, and 1 - dampening, which is 1 in the first step. */
  protected override numbers(group: GroupSettings<SGDOptions>, t: number): number[] {
    const { lr, weightDecay, momentum, dampening } = group;
    return [lr, weightDecay, momentum, momentum === 0 || t === 1 ? 1 : 1 - dampening];
  }

  /** Updates the momentum by the penalised gradient, and the parameters by the momentum. */
  protected override rule({ momentum, dampening, nesterov }: GroupSettings<SGDOptions>): string {
    const g = "g0 + h[1] * p";
    // 0 times a NaN of a step before would be NaN in all steps after it.
    const kept = momentum !== 0 ? "h[2] * momentum_buffer + " : "";
    return `  ${nesterov ? `let g = ${g};` : ""}
  momentum_buffer = ${kept}${dampening !== 0 ? `h[3] * (${g})` : g};
  p = p - h[0] * ${nesterov ? "(g + h[2] * momentum_buffer)" : "momentum_buffer"};`;
  }
}

/** Settings of {@link RMSprop}. */
export interface RMSpropOptions extends OptimizerOptions {
  /** Learning rate; 1e-2 by default. */
  readonly lr?: number;
  /** Decay rate of the running square; 0.99 by default. */
  readonly alpha?: number;
  /** Added to the denominator; 1e-8 by default. */
  readonly eps?: number;
  /** L2 penalty; 0 by default. */
  readonly weightDecay?: number;
  /** Momentum factor; 0 by default. */
  readonly momentum?: number;
  /** Whether to divide by the root of the running variance instead; false by default. */
  readonly centered?: boolean;
}

const RMSPROP = { lr: 1e-2, alpha: 0.99, eps: 1e-8, weightDecay: 0, momentum: 0, centered: false };

/**
 * Gradients divided by their running root mean square (Hinton 2012;
 * {@link https://pytorch.org/docs/stable/generated/torch.optim.RMSprop.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { Plan, readVariables, RMSprop, tensor, Variable } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const w = new Variable([1], [1]);
 * const optimizer = new RMSprop([w], { lr: 0.01 });
 * using plan = await Plan.compile({ updates: optimizer.updates([tensor([10])]) });
 * plan.run(optimizer.nextStep());
 * const [values] = await readVariables([w]);
 * assertAlmostEquals(values![0]!, 0.9, 1e-6);
 * ```
 */
export class RMSprop extends Optimizer<RMSpropOptions> {
  /**
   * An optimizer for `parameters`, or for groups of them with settings of their own.
   *
   * @throws {ArgumentError} if there are no parameters, one is given twice, or an option is
   * invalid.
   */
  constructor(
    parameters: readonly Variable[] | readonly ParameterGroup<RMSpropOptions>[],
    options: RMSpropOptions = {},
  ) {
    super(parameters, options, RMSPROP);
  }

  /** Each option by itself. */
  protected override check(op: string, group: GroupSettings<RMSpropOptions>): void {
    for (const name of ["alpha", "eps", "weightDecay", "momentum"] as const) {
      checkNumber(op, name, group[name], { min: 0 });
    }
    checkBoolean(op, "centered", group.centered);
  }

  /** `square_avg`, and as needed `grad_avg` and `momentum_buffer`. */
  protected override states({ momentum, centered }: GroupSettings<RMSpropOptions>): string[] {
    const names = ["square_avg", centered && "grad_avg", momentum > 0 && "momentum_buffer"];
    return names.filter((name) => name !== false);
  }

  /** Learning rate, L2 penalty, momentum, alpha, 1 - alpha, eps. */
  protected override numbers(group: GroupSettings<RMSpropOptions>): number[] {
    const { lr, weightDecay, momentum, alpha, eps } = group;
    return [lr, weightDecay, momentum, alpha, 1 - alpha, eps];
  }

  /** Updates the averages, the momentum if there is one, and then the parameters. */
  protected override rule({ momentum, centered }: GroupSettings<RMSpropOptions>): string {
    const variance = centered ? "max(square_avg - grad_avg * grad_avg, vec4f())" : "square_avg";
    return `  let g = g0 + h[1] * p;
  square_avg = h[3] * square_avg + h[4] * g * g;
${centered ? "  grad_avg = grad_avg + h[4] * (g - grad_avg);" : ""}
  let d = g / (sqrt(${variance}) + h[5]);
${momentum > 0 ? "  momentum_buffer = h[2] * momentum_buffer + d;" : ""}
  p = p - h[0] * ${momentum > 0 ? "momentum_buffer" : "d"};`;
  }
}
