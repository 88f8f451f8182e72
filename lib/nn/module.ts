/**
 * Modules: parameters and running statistics with names, and a forward pass that builds a graph.
 * A module's children and variables are its properties; their names in a state dict are PyTorch's.
 *
 * @module
 */

import { readVariables, setVariable } from "../device/buffers.ts";
import {
  ArgumentError,
  checkBoolean,
  checkFunction,
  checkInstance,
  checkIterable,
  checkNumber,
  checkOptions,
  checkString,
  refuse,
  toFloats,
} from "../check/arguments.ts";
import { brief } from "../check/text.ts";
import { xml } from "../check/text.ts";
import { shownAs } from "../check/display.ts";
import { checkList, formatShape, sameShape, type Shape } from "../graph/shape.ts";
import {
  assign,
  checkTensor,
  checkUpdate,
  currentScope,
  inScope,
  type Tensor,
  type Update,
  Variable,
} from "../graph/tensor.ts";

/**
 * A variable that is trained. A plain {@link Variable} of a module is a buffer: saved, not trained.
 *
 * @example
 * ```ts
 * import { Module, mul, Parameter, type Tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * class Scale extends Module {
 *   readonly factor = new Parameter([], [2]);
 *   override forward(x: Tensor): Tensor {
 *     return mul(x, this.factor);
 *   }
 * }
 * assertEquals([...(await new Scale().stateDict()).keys()], ["factor"]);
 * ```
 */
export class Parameter extends Variable {
  /** Whether it is trained: false while it is frozen (see {@link Module.freeze}). */
  requiresGrad = true;
}

/**
 * A variable of a module that its state dict leaves out, such as a count of the layer's calls
 * (PyTorch's `register_buffer(…, persistent=False)`). The checkpoints of a `Trainer` have it.
 *
 * @example A layer that is off for the first ten steps
 * ```ts
 * import { add, greaterEqual, Module, mul, noteRunning } from "@resnette/resnette";
 * import { type Tensor, UnsavedBuffer } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * class Late extends Module {
 *   readonly steps = new UnsavedBuffer([]);
 *   override forward(x: Tensor): Tensor {
 *     noteRunning(this.steps, (before) => add(before, 1));
 *     return mul(x, greaterEqual(this.steps, 10));
 *   }
 * }
 * assertEquals((await new Late().stateDict()).size, 0);
 * ```
 */
export class UnsavedBuffer extends Variable {}

/** Named values of a module's parameters and buffers. */
export type StateDict = Map<
  string,
  { readonly shape: Shape; readonly data: Float32Array<ArrayBuffer> }
>;

let collector: Update[] | undefined;

/**
 * Runs `body`, which calls modules in training mode. Returns its `result`, and the `updates` of
 * running statistics that those calls noted. Compile both into one plan: without the updates,
 * running means stay as they are and every step drops out the same elements.
 *
 * @throws {ArgumentError} if `body` is no function.
 *
 * @example
 * ```ts
 * import { BatchNorm2d, collectUpdates, input } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const net = new BatchNorm2d(3);
 * const { result, updates } = collectUpdates(() => net.forward(input("x", [2, 3, 4, 4])));
 * assertEquals(result.shape, [2, 3, 4, 4]);
 * assertEquals(updates.length, 3);
 * ```
 */
export function collectUpdates<T>(body: () => T): { result: T; updates: Update[] } {
  checkFunction("collectUpdates", "body", body);
  const outer = collector;
  const updates: Update[] = collector = [];
  try {
    return { result: body(), updates };
  } finally {
    collector = outer;
  }
}

/**
 * Adds an update to those of the enclosing {@link collectUpdates}. Outside of one it does nothing.
 *
 * @throws {ArgumentError} if it is no update.
 * @throws {ShapeError} if its value does not fit its variable.
 *
 * @example
 * ```ts
 * import { add, assign, collectUpdates, noteUpdate, Variable } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const calls = new Variable([]);
 * const { updates } = collectUpdates(() => noteUpdate(assign(calls, add(calls, 1))));
 * assertEquals(updates[0]!.targets, [calls]);
 * ```
 */
export function noteUpdate(update: Update): void {
  checkUpdate("noteUpdate", "update", update);
  collector?.push(update);
}

/**
 * Adds the update `running = next(running)` to those of the enclosing {@link collectUpdates}. For a
 * layer that is called twice in a step, both updates are made, one after the other. Outside of
 * `collectUpdates` it does nothing, and does not call `next`.
 *
 * @throws {ArgumentError} if `running` is no variable or `next` no function.
 *
 * @example A layer that counts its calls
 * ```ts
 * import { add, collectUpdates, noteRunning, Plan, readVariables, Variable } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const calls = new Variable([]);
 * const count = () => noteRunning(calls, (before) => add(before, 1));
 * const { updates } = collectUpdates(() => [count(), count()]);
 * using plan = await Plan.compile({ updates });
 * plan.run();
 * assertEquals(await readVariables([calls]), [new Float32Array([2])]);
 * ```
 */
export function noteRunning(running: Variable, next: (before: Tensor) => Tensor): void {
  checkInstance("noteRunning", "running", running, Variable);
  checkFunction("noteRunning", "next", next);
  if (!collector) return;
  const noted = collector.findIndex(({ targets }) => targets[0] === running);
  const before = noted < 0 ? running : collector[noted]!.value!;
  const update = assign(running, next(before));
  if (noted < 0) collector.push(update);
  else collector[noted] = update;
}

/**
 * Settings of a module: its properties that are numbers, words, true or false, or lists or options of
 * these. Numbers that its constructor takes one by one are without a name.
 */
function settingsOf(module: Module): string[] {
  const isSetting = (x: unknown): boolean =>
    ["number", "string", "boolean"].includes(typeof x) || Array.isArray(x) && x.every(isSetting);
  const write = (x: unknown): string =>
    Array.isArray(x)
      ? `[${x.map(write).join(", ")}]`
      : typeof x === "number"
      ? `${x}`
      : JSON.stringify(x);
  const { training: _, options = {}, ...own } = module as { training: boolean; options?: object };
  // A class without a constructor has the one of the class that it extends.
  let kind = module.constructor;
  while (kind.length === 0 && kind !== Module) kind = Object.getPrototypeOf(kind);
  const plain = kind.length;
  return [...Object.entries(own), ...Object.entries(options)]
    .filter(([name, value]) => isSetting(value) || name === "bias" && value === undefined)
    .map(([name, value], i) =>
      i < plain && typeof value === "number" && !(name in options)
        ? `${value}`
        : `${name}=${write(value ?? false)}`
    );
}

/** One call of a module: what went in, what came out, and the calls it made of other modules. */
export interface ModuleCall {
  /** The module. */
  readonly module: Module;
  /** Its input. */
  readonly x: Tensor;
  /** The further tensors that it was given. */
  readonly others: readonly Tensor[];
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

/** What batch norms have had since PyTorch 0.4.1; torchvision publishes weights that are older. */
const LATE = /(^|\.)num_batches_tracked$/;

/** What is before every key of a state dict that PyTorch's `DataParallel` or `torch.compile` wrapped. */
const WRAPPERS = ["module.", "_orig_mod."];

/** Entries of a state dict without {@link WRAPPERS}, where all have one and `own` has none of the keys. */
function unwrap<T>(entries: [string, T][], own: ReadonlyMap<string, unknown>): [string, T][] {
  const isOwn = entries.some(([key]) => own.has(key));
  const prefix = WRAPPERS.find((prefix) => entries.every(([key]) => key.startsWith(prefix)));
  if (entries.length === 0 || isOwn || prefix === undefined) return entries;
  return unwrap(entries.map(([key, value]) => [key.slice(prefix.length), value]), own);
}

/** `runningMean` as `running_mean`: PyTorch's spelling. */
const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/**
 * Base of all layers and models
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.Module.html | PyTorch}). Its children
 * and parameters are its properties; nothing has to be registered. Their keys in the state dict are
 * PyTorch's: `runningMean` of a child `norm` is `norm.running_mean`.
 *
 * @example
 * ```ts
 * import { input, Linear, Module, relu, type Tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * class Net extends Module {
 *   readonly hidden = new Linear(784, 64);
 *   readonly out = new Linear(64, 10);
 *   override forward(x: Tensor): Tensor {
 *     return this.out.call(relu(this.hidden.call(x)));
 *   }
 * }
 * assertEquals(new Net().call(input("x", [4, 784])).shape, [4, 10]);
 * ```
 */
export abstract class Module {
  /** Whether it is in training mode: batch norms take the batch's statistics, dropouts drop. */
  training = true;
  /** Whether it stays in evaluation mode. */
  #frozen = false;

  /**
   * Builds the graph of the output for `x`, and for further tensors if the module takes any. It
   * checks shapes and needs no device. Run a module by {@link Module.call}.
   *
   * @throws {ShapeError} if `x` does not fit.
   */
  abstract forward(x: Tensor, ...others: Tensor[]): Tensor;

  /**
   * The output of {@link Module.forward} (PyTorch's `__call__`). Call networks and children so:
   * then summaries, profiles and ONNX files know which layer each node belongs to.
   *
   * @throws {ArgumentError} if `x` is no tensor.
   * @throws {ShapeError} if `x` does not fit.
   */
  call(x: Tensor, ...others: Tensor[]): Tensor {
    checkTensor(this.constructor.name, "x", x);
    const outer = caller;
    const { layer, pass } = currentScope();
    const path = outer ? `${layer && `${layer}.`}${outer.#nameOf(this)}` : layer;
    caller = this;
    try {
      return inScope({ layer: path, pass }, () => this.#noted(x, others));
    } finally {
      caller = outer;
    }
  }

  #noted(x: Tensor, others: Tensor[]): Tensor {
    const noted = calling;
    if (!noted) return this.forward(x, ...others);
    const { result: y, calls } = collectCalls(() => this.forward(x, ...others));
    noted.push({ module: this, x, others, y, calls });
    return y;
  }

  /** The name of a module that this one calls: a child's name, or else its class's. */
  #nameOf(module: Module): string {
    const child = this.namedChildren().find(([, child]) => child === module);
    return child?.[0] ?? module.constructor.name;
  }

  /**
   * The direct children with their names, in the order of definition: the properties that are
   * modules.
   *
   * @throws {ArgumentError} if a property is an array of modules or variables: layers belong in a
   * {@link ModuleList}, variables in properties of their own.
   */
  namedChildren(): [string, Module][] {
    const isPart = (x: unknown) => x instanceof Module || x instanceof Variable;
    return Object.entries(this).filter((entry): entry is [string, Module] => {
      const [name, value] = entry;
      if (Array.isArray(value) && value.some(isPart)) {
        throw new ArgumentError(
          `${this.constructor.name}: layers and parameters in the array ${name} are not found; ` +
            "hold layers in a ModuleList, and parameters in properties",
        );
      }
      return value instanceof Module;
    });
  }

  /** This module and all below it, each once. */
  modules(): Module[] {
    const found = new Set<Module>();
    const visit = (module: Module) => {
      if (found.has(module)) return;
      found.add(module);
      module.namedChildren().forEach(([, child]) => visit(child));
    };
    visit(this);
    return [...found];
  }

  /**
   * All parameters and buffers with their state-dict keys: a module's own before its children's, in
   * the order of definition. As in PyTorch, a shared variable is listed under each of its names. An
   * {@link UnsavedBuffer} is left out. `prefix` is put before every key.
   *
   * @throws {ArgumentError} if a module is inside itself.
   */
  namedVariables(prefix = ""): [string, Variable][] {
    checkString("namedVariables", "prefix", prefix);
    return this.#variables(prefix, []).filter(([, variable]) =>
      !(variable instanceof UnsavedBuffer)
    );
  }

  /** The variables that the state dict leaves out, each with the key that it would have there. */
  namedUnsavedBuffers(): [string, UnsavedBuffer][] {
    return this.#variables("", []).filter((entry): entry is [string, UnsavedBuffer] =>
      entry[1] instanceof UnsavedBuffer
    );
  }

  #variables(prefix: string, above: readonly Module[]): [string, Variable][] {
    if (above.includes(this)) {
      throw new ArgumentError(`${this.constructor.name}: it is inside of itself, as ${prefix}`);
    }
    const own = Object.entries(this)
      .filter((entry): entry is [string, Variable] => entry[1] instanceof Variable)
      .map(([name, variable]): [string, Variable] => [prefix + snake(name), variable]);
    return [
      ...own,
      ...this.namedChildren().flatMap(([name, child]) =>
        child.#variables(`${prefix}${name}.`, [...above, this])
      ),
    ];
  }

  /** All parameters, frozen ones too, with their keys; a shared one once, under its first key. */
  namedParameters(): [string, Parameter][] {
    const seen = new Set<Variable>();
    return this.namedVariables().filter((entry): entry is [string, Parameter] =>
      entry[1] instanceof Parameter && !seen.has(entry[1]) && !!seen.add(entry[1])
    );
  }

  /** All parameters, each once. Those that are not frozen have `requiresGrad`. */
  parameters(): Parameter[] {
    return this.namedParameters().map(([, parameter]) => parameter);
  }

  /**
   * Switches this module and all below it to training mode, or to evaluation mode if `mode` is
   * false. Frozen modules stay in evaluation mode.
   */
  train(mode = true): this {
    checkBoolean("train", "mode", mode);
    for (const module of this.modules()) module.training = mode && !module.#frozen;
    return this;
  }

  /** Switches this module and all below it to evaluation mode. */
  eval(): this {
    return this.train(false);
  }

  /**
   * Freezes the layer or parameter with the key `prefix` and all below it, so that only the rest is
   * trained; by default it freezes everything. `layer1` means `layer1.0.weight` and so on, not
   * `layer10.weight`. Frozen parameters have `requiresGrad` false, as after PyTorch's
   * `requires_grad_(False)`; make the optimizer of the others. Unlike in PyTorch, frozen layers
   * also stay in evaluation mode, even after {@link Module.train}: batch norms take their running
   * statistics and leave them as they are, and dropouts drop nothing. `frozen` false undoes it.
   *
   * @throws {ArgumentError} if no layer that has variables and no parameter has that key.
   *
   * @example Fine-tuning
   * ```ts
   * import { resnet18, SGD } from "@resnette/resnette";
   * import { assertEquals } from "@std/assert";
   *
   * const net = resnet18({ variant: "torchvision", numClasses: 5 }).freeze();
   * net.freeze("layer4", false).freeze("fc", false);
   * const trained = net.parameters().filter((p) => p.requiresGrad);
   * const sgd = new SGD(trained, { lr: 0.01 });
   * assertEquals([net.parameters().length, trained.length], [62, 17]);
   * ```
   */
  freeze(prefix = "", frozen = true): this {
    checkString("freeze", "prefix", prefix);
    checkBoolean("freeze", "frozen", frozen);
    const own = this.namedVariables();
    const under = own.filter(([key]) => prefix === "" || `${key}.`.startsWith(`${prefix}.`));
    const parameters = under.map(([, variable]) => variable).filter((x) => x instanceof Parameter);
    const path = prefix === "" ? [] : prefix.split(".");
    const module = path.reduce<Module | undefined>(
      (parent, name) => parent?.namedChildren().find(([child]) => child === name)?.[1],
      this,
    );
    if (under.length === 0 || !module && parameters.length === 0) {
      const first = [...new Set(own.map(([key]) => key.split(".")[0]))].join(", ");
      const wanted = `the key of a layer or a parameter (keys begin with ${brief(first, 200)})`;
      refuse("freeze", "prefix", wanted, prefix);
    }
    for (const parameter of parameters) parameter.requiresGrad = !frozen;
    // Of a module that is frozen itself, nobody knows which mode it would be in.
    const training = this.training || this.#frozen;
    for (const part of module?.modules() ?? []) {
      part.#frozen = frozen;
      part.training = training && !frozen;
    }
    return this;
  }

  /**
   * Its class, settings and children, much as PyTorch prints them, and the number of its
   * parameters: `Linear(784, 10)  // 7,850 parameters`.
   */
  toString(): string {
    const children = this.namedChildren()
      .map(([name, child]) => `\n  (${name}): ${`${child}`.replaceAll("\n", "\n  ")}`);
    const inside = [...settingsOf(this), ...children].join(", ").replaceAll(", \n", "\n");
    const count = this.#count();
    return `${this.constructor.name}(${inside}${children.length > 0 ? "\n" : ""})` +
      (count && `  // ${count}`);
  }

  /** `7,850 parameters`, or nothing. */
  #count(): string {
    const count = this.parameters().reduce((sum, { size }) => sum + size, 0);
    return count === 0 ? "" : `${count.toLocaleString("en-US")} parameter${count > 1 ? "s" : ""}`;
  }

  /** Shown by `console.log`. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }

  /** Shown by a notebook: the same as a tree that unfolds. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    return shownAs(`${this}`, this.#tree("", true));
  }

  #tree(name: string, open: boolean): string {
    const settings = settingsOf(this).join(", "), count = this.#count();
    const words = `${name && `(${name}): `}${this.constructor.name}(${settings})`;
    const line = `<code>${xml(words)}</code>${count && ` ${count}`}`;
    const children = this.namedChildren().map(([key, child]) => child.#tree(key, false));
    return children.length === 0
      ? `<div>${line}</div>`
      : `<details${open ? " open" : ""}><summary>${line}</summary>` +
        `<div style="margin-left:24px">${children.join("")}</div></details>`;
  }

  /**
   * The values of all parameters and buffers by key, read from the device if they are there.
   *
   * @throws {DeviceError} if the device that holds them was lost.
   */
  async stateDict(): Promise<StateDict> {
    const entries = this.namedVariables();
    const values = await readVariables(entries.map(([, variable]) => variable));
    return new Map(
      entries.map(([key, { shape }], i) => [key, { shape, data: values[i]! }]),
    );
  }

  /**
   * Takes over values by key: row-major, as Float32Arrays or lists of numbers. By default it is
   * strict: all keys must be there, and no others. Everything is checked first. If anything does
   * not fit, nothing changes and the error lists what is wrong. If a parameter has two names, the
   * values of the last one count. As in PyTorch, `num_batches_tracked` may be missing, because
   * older weights have none.
   *
   * With `strict` false it takes over what there is. The result lists the keys that were `loaded`,
   * those that are `missing` and those that are `unexpected`. Values of another shape are still an
   * error, as in PyTorch; `ignoreMismatchedSizes` (Hugging Face's name) leaves them out and lists
   * them as `mismatched`. If all keys begin with `module.` (PyTorch's `DataParallel`) or
   * `_orig_mod.` (`torch.compile`), that prefix is dropped.
   *
   * @throws {ArgumentError} if keys or shapes do not fit; the message lists them.
   *
   * @example Weights of a net with other classes
   * ```ts
   * import { resnet18 } from "@resnette/resnette";
   * import { assertEquals } from "@std/assert";
   *
   * const pretrained = await resnet18({ variant: "torchvision" }).stateDict();
   * const net = resnet18({ variant: "torchvision", numClasses: 5 });
   * const options = { strict: false, ignoreMismatchedSizes: true };
   * const { loaded, mismatched } = net.loadStateDict(pretrained, options);
   * assertEquals(loaded.length, 120);
   * assertEquals([...mismatched.keys()], ["fc.weight", "fc.bias"]);
   * assertEquals(mismatched.get("fc.bias"), { given: [1000], own: [5] });
   * ```
   */
  loadStateDict(
    state: ReadonlyMap<
      string,
      { readonly shape: Shape; readonly data: Float32Array<ArrayBuffer> | readonly number[] }
    >,
    options: { strict?: boolean; ignoreMismatchedSizes?: boolean } = {},
  ): {
    loaded: string[];
    missing: string[];
    unexpected: string[];
    mismatched: Map<string, { given: Shape; own: Shape }>;
  } {
    checkOptions("loadStateDict", options, ["strict", "ignoreMismatchedSizes"]);
    const { strict = true, ignoreMismatchedSizes = false } = options;
    checkBoolean("loadStateDict", "strict", strict);
    checkBoolean("loadStateDict", "ignoreMismatchedSizes", ignoreMismatchedSizes);
    checkInstance("loadStateDict", "state", state, Map);
    for (const key of state.keys()) checkString("loadStateDict", "a key of state", key);
    const own = new Map(this.namedVariables()), given = new Map(unwrap([...state], own));
    const missing = [...own.keys()].filter((key) => !given.has(key) && !LATE.test(key));
    const unexpected = [...given.keys()].filter((key) => !own.has(key));
    const loaded: string[] = [], mismatched = new Map<string, { given: Shape; own: Shape }>();
    const misshapen: string[] = [];
    const values = new Map<Variable, Float32Array<ArrayBuffer>>();
    for (const [key, variable] of own) {
      if (!given.has(key)) continue;
      const { shape, data } = given.get(key) ?? {};
      checkList("loadStateDict", `${key}.shape`, shape);
      const floats = data instanceof Float32Array
        ? data as Float32Array<ArrayBuffer>
        : toFloats("loadStateDict", `${key}.data`, data);
      if (!sameShape(shape as Shape, variable.shape)) {
        mismatched.set(key, { given: shape as Shape, own: variable.shape });
        continue;
      }
      if (floats.length !== variable.size) {
        misshapen.push(`${key}: ${floats.length} values for ${formatShape(variable.shape)}`);
      }
      loaded.push(key);
      values.set(variable, floats);
    }
    if (!ignoreMismatchedSizes) {
      misshapen.push(
        ...[...mismatched].map(([key, { given, own }]) =>
          `${key}: ${formatShape(given)} where the model has ${formatShape(own)}`
        ),
      );
    }
    const faults = [
      ...strict && missing.length > 0 ? [`missing: ${missing.join(", ")}`] : [],
      ...strict && unexpected.length > 0 ? [`unexpected: ${unexpected.join(", ")}`] : [],
      ...misshapen.length > 0 ? [`of another shape: ${misshapen.join("; ")}`] : [],
    ];
    if (faults.length > 0) {
      throw new ArgumentError(
        `loadStateDict: the values do not fit this model; ${faults.join("; ")}`,
      );
    }
    values.forEach((data, variable) => setVariable(variable, data));
    return { loaded, missing, unexpected, mismatched };
  }
}

/**
 * Runs `body`, which builds a graph, with `net` in evaluation mode, and returns what it returns. Every
 * module has its own mode again afterwards, also if `body` throws.
 */
export function evaluating<T>(net: Module, body: () => T): T {
  return inMode(net, false, body);
}

/**
 * The same with `net` in training mode. If it is in that mode already, its modules keep their own
 * modes: a batch norm that was set to evaluation stays frozen, as one does in any mode after
 * {@link Module.freeze}.
 */
export function training<T>(net: Module, body: () => T): T {
  return net.training ? body() : inMode(net, true, body);
}

function inMode<T>(net: Module, mode: boolean, body: () => T): T {
  const modes = net.modules().map((module) => [module, module.training] as const);
  try {
    net.train(mode);
    return body();
  } finally {
    for (const [module, training] of modes) module.training = training;
  }
}

/**
 * A list of modules that their parent finds; their names are `0`, `1`, …
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.ModuleList.html | PyTorch}). It
 * computes nothing itself: the parent calls its members.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Linear, Module, ModuleList, relu, type Tensor } from "@resnette/resnette";
 *
 * class Net extends Module {
 *   readonly layers = new ModuleList([new Linear(4, 8), new Linear(8, 3)]);
 *   override forward(x: Tensor): Tensor {
 *     return [...this.layers].reduce((y, layer) => relu(layer.call(y)), x);
 *   }
 * }
 * assertEquals(new Net().namedParameters().map(([key]) => key), [
 *   "layers.0.weight",
 *   "layers.0.bias",
 *   "layers.1.weight",
 *   "layers.1.bias",
 * ]);
 * ```
 */
export class ModuleList extends Module {
  readonly #members: Module[] = [];

  /** The modules in order. */
  constructor(modules: Iterable<Module> = []) {
    super();
    checkIterable("ModuleList", "modules", modules, "a list of modules");
    for (const module of modules) this.append(module);
  }

  /**
   * Adds a module at the end.
   *
   * @throws {ArgumentError} if it is no module.
   */
  append(module: Module): this {
    checkInstance("ModuleList", `module ${this.length}`, module, Module);
    this.#members.push(module);
    return this;
  }

  /** The number of modules. */
  get length(): number {
    return this.#members.length;
  }

  /** The module at an index; a negative one counts from the end. Undefined if there is none. */
  at(index: number): Module | undefined {
    checkNumber("ModuleList", "index", index, { integer: true });
    return this.#members.at(index);
  }

  /** The modules in order. */
  [Symbol.iterator](): Iterator<Module> {
    return this.#members[Symbol.iterator]();
  }

  /** The modules with their names, in order. */
  override namedChildren(): [string, Module][] {
    return this.#members.map((module, i) => [`${i}`, module]);
  }

  /**
   * Cannot be used: a list computes nothing.
   *
   * @throws {ArgumentError} always.
   */
  override forward(): Tensor {
    throw new ArgumentError("ModuleList: a list computes nothing; call its members");
  }
}
