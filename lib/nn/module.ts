/**
 * Modules: parameters and running statistics with names, and a forward pass that builds a graph.
 * A module's children and variables are its properties; their names in a state dict are PyTorch's.
 *
 * @module
 */

import { readVariables, setVariable } from "../buffers.ts";
import { formatShape, sameShape, type Shape } from "../shape.ts";
import { currentScope, type Tensor, type Update, Variable, withScope } from "../tensor.ts";

/** A variable that is trained; a plain {@link Variable} of a module is a buffer, saved but not trained. */
export class Parameter extends Variable {}

/** Named values of a module's parameters and buffers. */
export type StateDict = Map<
  string,
  { readonly shape: Shape; readonly data: Float32Array<ArrayBuffer> }
>;

let collector: Update[] | undefined;

/**
 * Runs `body`, which calls `forward` of modules in training mode, and returns what it returns together
 * with the updates of running statistics that go with it; hand both to one plan.
 *
 * @example
 * ```ts
 * import { BatchNorm2d, collectUpdates, input } from "@resnette/resnette";
 *
 * const net = new BatchNorm2d(3);
 * const { result, updates } = collectUpdates(() => net.forward(input("x", [2, 3, 4, 4])));
 * console.log(result.shape, updates.length); // [ 2, 3, 4, 4 ] 3
 * ```
 */
export function collectUpdates<T>(body: () => T): { result: T; updates: Update[] } {
  const outer = collector;
  const updates: Update[] = collector = [];
  try {
    return { result: body(), updates };
  } finally {
    collector = outer;
  }
}

/** Notes an update for the enclosing {@link collectUpdates}; outside of one it is not made. */
export function noteUpdate(update: Update): void {
  collector?.push(update);
}

/** One call of a module: what went in, what came out, and the calls it made of other modules. */
export interface ModuleCall {
  /** The module. */
  readonly module: Module;
  /** Its input. */
  readonly x: Tensor;
  /** Its output. */
  readonly y: Tensor;
  /** Calls made while it ran, in order. */
  readonly calls: readonly ModuleCall[];
}

let calling: ModuleCall[] | undefined;
/** The module that runs now. */
let caller: Module | undefined;

/** Runs `body` and returns what it returns together with the module calls that it made. */
export function collectCalls<T>(body: () => T): { result: T; calls: ModuleCall[] } {
  const outer = calling;
  const calls: ModuleCall[] = calling = [];
  try {
    return { result: body(), calls };
  } finally {
    calling = outer;
  }
}

/** `runningMean` as `running_mean`: PyTorch's spelling. */
const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Base of all layers and models ({@link https://pytorch.org/docs/stable/generated/torch.nn.Module.html | PyTorch}). */
export abstract class Module {
  /** Whether batch norm uses the batch's statistics (true) or the running ones. */
  training = true;

  /** The output for `x`, as a graph node; shapes are checked here, without a device. */
  abstract forward(x: Tensor): Tensor;

  /**
   * {@link Module.forward}, noted for {@link collectCalls}: how a network and a module's children are
   * run (PyTorch's `__call__`). The nodes' scope is the module's path from the outermost call on.
   */
  call(x: Tensor): Tensor {
    const outer = caller;
    const { layer, pass } = currentScope();
    const path = outer ? `${layer && `${layer}.`}${outer.#nameOf(this)}` : layer;
    caller = this;
    try {
      return withScope({ layer: path, pass }, () => this.#noted(x));
    } finally {
      caller = outer;
    }
  }

  #noted(x: Tensor): Tensor {
    const noted = calling;
    if (!noted) return this.forward(x);
    const { result: y, calls } = collectCalls(() => this.forward(x));
    noted.push({ module: this, x, y, calls });
    return y;
  }

  /** The name of a module that this one calls: of a child its own, else its class's. */
  #nameOf(module: Module): string {
    const child = this.namedChildren().find(([, child]) => child === module);
    return child?.[0] ?? module.constructor.name;
  }

  /** Direct children with their names, in the order of definition. */
  namedChildren(): [string, Module][] {
    return Object.entries(this).filter((entry): entry is [string, Module] =>
      entry[1] instanceof Module
    );
  }

  /** This module and all below it. */
  modules(): Module[] {
    return [this, ...this.namedChildren().flatMap(([, child]) => child.modules())];
  }

  /** Parameters and buffers with their state-dict keys, in PyTorch's order. */
  namedVariables(prefix = ""): [string, Variable][] {
    const own = Object.entries(this)
      .filter((entry): entry is [string, Variable] => entry[1] instanceof Variable)
      .map(([name, variable]): [string, Variable] => [prefix + snake(name), variable]);
    return [
      ...own,
      ...this.namedChildren().flatMap(([name, child]) => child.namedVariables(`${prefix}${name}.`)),
    ];
  }

  /** Trained variables with their state-dict keys. */
  namedParameters(): [string, Parameter][] {
    return this.namedVariables().filter((entry) => entry[1] instanceof Parameter);
  }

  /** Trained variables. */
  parameters(): Parameter[] {
    return this.namedParameters().map(([, parameter]) => parameter);
  }

  /** Switches this module and all below it to training mode. */
  train(mode = true): this {
    for (const module of this.modules()) module.training = mode;
    return this;
  }

  /** Switches this module and all below it to evaluation mode. */
  eval(): this {
    return this.train(false);
  }

  /** Values of all parameters and buffers by key, read from the device where they are there. */
  async stateDict(): Promise<StateDict> {
    const entries = this.namedVariables();
    const values = await readVariables(entries.map(([, variable]) => variable));
    return new Map(
      entries.map(([key, { shape }], i) => [key, { shape, data: values[i]! }]),
    );
  }

  /**
   * Takes over values by key. Strict by default: every key must be there and no other, and every
   * shape must fit, or nothing is changed and the error lists what is wrong.
   */
  loadStateDict(
    state: ReadonlyMap<string, { readonly shape: Shape; readonly data: Float32Array<ArrayBuffer> }>,
    { strict = true }: { strict?: boolean } = {},
  ): { missing: string[]; unexpected: string[] } {
    const own = new Map(this.namedVariables());
    const missing = [...own.keys()].filter((key) => !state.has(key));
    const unexpected = [...state.keys()].filter((key) => !own.has(key));
    const shared = [...own].filter(([key]) => state.has(key));
    const misshapen = shared.flatMap(([key, { shape }]) => {
      const given = state.get(key)!.shape;
      return sameShape(given, shape)
        ? []
        : [`${key}: ${formatShape(given)} where the model has ${formatShape(shape)}`];
    });
    const faults = [
      ...strict && missing.length > 0 ? [`missing: ${missing.join(", ")}`] : [],
      ...strict && unexpected.length > 0 ? [`unexpected: ${unexpected.join(", ")}`] : [],
      ...misshapen.length > 0 ? [`of another shape: ${misshapen.join("; ")}`] : [],
    ];
    if (faults.length > 0) {
      throw new Error(`loadStateDict: the values do not fit this model; ${faults.join("; ")}`);
    }
    for (const [key, variable] of shared) setVariable(variable, state.get(key)!.data);
    return { missing, unexpected };
  }
}
