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
 * A variable that is trained; a plain {@link Variable} of a module is a buffer, saved but not trained.
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
  /** Whether it is to be trained; not if it is frozen (see {@link Module.freeze}). */
  requiresGrad = true;
}

/**
 * A variable of a module that is no part of its state dict, but of a training run: what a layer counts
 * (PyTorch's `register_buffer(…, persistent=False)`). A `Trainer` keeps it in its checkpoints.
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
 * Runs `body`, which calls `forward` of modules in training mode, and returns what it returns together
 * with the updates of running statistics that go with it; hand both to one plan.
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
 * Notes an update for the enclosing {@link collectUpdates}; outside of one, nothing happens.
 *
 * @throws {ArgumentError} if it is no update.
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
 * Notes for the enclosing {@link collectUpdates} that a running statistic becomes `next` of its value:
 * once for each call of a layer, so a layer that is called twice in a step makes both updates, one after
 * the other.
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
 * Base of all layers and models ({@link https://pytorch.org/docs/stable/generated/torch.nn.Module.html | PyTorch}).
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
  /** Whether batch norm uses the batch's statistics (true) or the running ones. */
  training = true;
  /** Whether it stays in evaluation mode. */
  #frozen = false;

  /**
   * The output for `x`, and for further tensors if a module wants any, as a graph node; shapes are
   * checked here, without a device.
   *
   * @throws {ShapeError} if `x` does not fit.
   */
  abstract forward(x: Tensor, ...others: Tensor[]): Tensor;

  /**
   * {@link Module.forward}, noted for {@link collectCalls}: how a network and a module's children are
   * run (PyTorch's `__call__`). The nodes' scope is the module's path from the outermost call on.
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
    noted.push({ module: this, x, y, calls });
    return y;
  }

  /** The name of a module that this one calls: a child's name, or else its class's. */
  #nameOf(module: Module): string {
    const child = this.namedChildren().find(([, child]) => child === module);
    return child?.[0] ?? module.constructor.name;
  }

  /**
   * Direct children with their names, in the order of definition: the properties that are modules.
   *
   * @throws {ArgumentError} if a property is an array of modules or variables, which would not be
   * found: use a {@link ModuleList}.
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
   * Parameters and buffers with their state-dict keys, in PyTorch's order. As in PyTorch's state dict,
   * a variable that modules share is there under each of its names, and an {@link UnsavedBuffer} not.
   */
  namedVariables(prefix = ""): [string, Variable][] {
    checkString("namedVariables", "prefix", prefix);
    return this.#variables(prefix, []).filter(([, variable]) =>
      !(variable instanceof UnsavedBuffer)
    );
  }

  /** Variables that are no part of the state dict, with what would be their keys in it. */
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

  /** Trained variables with their state-dict keys: one that has several has the first here. */
  namedParameters(): [string, Parameter][] {
    const seen = new Set<Variable>();
    return this.namedVariables().filter((entry): entry is [string, Parameter] =>
      entry[1] instanceof Parameter && !seen.has(entry[1]) && !!seen.add(entry[1])
    );
  }

  /** Trained variables. */
  parameters(): Parameter[] {
    return this.namedParameters().map(([, parameter]) => parameter);
  }

  /** Switches this module and all below it to training mode, but for those that are frozen. */
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
   * Leaves all that is under a prefix of the state-dict keys as it is while the rest is trained; everything
   * by default. `layer1` is `layer1.0.weight` and so on, not `layer10.weight`. Its parameters are marked as
   * by PyTorch's `requires_grad_(False)`; give an optimizer the others. Its layers stay in evaluation mode,
   * whatever {@link Module.train} says: a batch norm takes its running statistics and leaves them, and
   * nothing is dropped out. With `frozen` false it is trained again.
   *
   * @throws {ArgumentError} if no layer and no parameter has that prefix.
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
      const wanted = `the key of a layer or a parameter, as keys begin: ${brief(first, 200)}`;
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
   * Its class, settings and children, as PyTorch prints them, and the number of its parameters:
   * `Linear(784, 10)  // 7,850 parameters`.
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

  /** Shown by a notebook: the same, as a tree whose branches open. */
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
   * Values of all parameters and buffers by key, read from the device if they are there.
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
   * Takes over values by key, row-major; lists of numbers serve too. Strict by default: every key must
   * be there and no other. All is checked first: where anything does not fit, nothing is changed and
   * the error lists what is wrong. If a parameter has two names, the values of the last one count.
   *
   * Not strict, it takes over what there is and says what was `loaded`, which keys are `missing` and
   * which `unexpected`. Values of another shape are an error all the same, as in PyTorch, unless
   * `ignoreMismatchedSizes` (Hugging Face's name) leaves them out as `mismatched`. A prefix `module.`,
   * which `DataParallel` puts before all keys, or `_orig_mod.` of `torch.compile` is left off.
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
    const missing = [...own.keys()].filter((key) => !given.has(key));
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
 * Modules in a list, so that their parent finds them; their names are `0`, `1`, …
 * ({@link https://pytorch.org/docs/stable/generated/torch.nn.ModuleList.html | PyTorch}). It is no
 * layer itself: the parent calls its members.
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

  /** How many there are. */
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

  /** A list computes nothing: @throws {ArgumentError} always. */
  override forward(): Tensor {
    throw new ArgumentError("ModuleList: a list computes nothing; call its members");
  }
}
