/**
 * Tensors as graph nodes: a shape, an element type, an op and its inputs. Making one infers and
 * checks its shape and touches no GPU; a plan (`plan/plan.ts`) computes it. And the type {@link
 * Op}.
 *
 * Only leaves have data: {@link tensor} and {@link Variable}.
 *
 * @module
 */

import {
  ArgumentError,
  checkBoolean,
  checkChoice,
  checkFunction,
  checkInstance,
  checkObject,
  checkString,
  isExactInF32,
  refuse,
  shown,
  toFloats,
} from "../check/arguments.ts";
import { htmlTable, shownAs } from "../check/display.ts";
import type { Finish, KernelSpec, Start, Target } from "../kernels/kernel.ts";
import { printed } from "./print.ts";
import {
  checkList,
  checkShape,
  formatShape,
  sameShape,
  type Shape,
  ShapeError,
  sizeOf,
  stridesOf,
} from "./shape.ts";

/**
 * Element types: `f32` for all that is computed, comparisons too; `u32` for indices and labels;
 * `u8` for data sets, which {@link gather} reads.
 */
export type DType = "f32" | "u32" | "u8";

/** Every element type. */
const DTYPES: readonly DType[] = ["f32", "u32", "u8"];

/** Throws unless `dtype`, an argument of `op`, is an element type. */
function checkDType(op: string, dtype: unknown): asserts dtype is DType {
  checkChoice(op, "dtype", dtype, DTYPES);
}

/** The typed arrays of the element types f32, u32 and u8, in this order. */
export type TensorData =
  | Float32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>;

/**
 * Settings of a node, such as its axes. Nodes with the same op, inputs and settings are computed
 * once.
 */
export type Attrs = Readonly<Record<string, unknown>>;

/** Where the elements of a view lie in the tensor that it is a view of, its base. */
export interface StridedView {
  /** First element, counted from the base tensor's start. */
  readonly offset: number;
  /** Step in elements of the base tensor for each dimension of the node's shape; 0 broadcasts. */
  readonly strides: readonly number[];
}

/**
 * What a reduction kernel computes of one or two inputs, which may be expressions fused into it.
 */
export interface ReductionSpec {
  /** Axes of the input that are reduced; neighbours of each other, but for axes of size 1. */
  readonly axes: readonly number[];
  /** Partial results for each result, each over ⌈length / chunks⌉ neighbours. */
  readonly chunks: number;
  /** Names of variables that `step` adds to, of type `T` (`f32` or `vec4f`); they begin at 0. */
  readonly sums: readonly string[];
  /** WGSL declarations of what else a thread keeps. */
  readonly init?: string;
  /**
   * WGSL statement that takes up the next element, `v`, and `w` of a second input; `r` is its
   * number.
   */
  readonly step: string;
  /** Integers that the WGSL reads as `z.NAME`. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** WGSL expressions of the results, each written to its own plane of the output. */
  readonly results: readonly string[];
}

/**
 * An operation: shape rule, kernel and gradient in one place. One of `expression`, `view`,
 * `reduction` and `kernels` says how it is computed, or `lower` does for the cases they leave out
 * (leaves have none). {@link apply} makes a node of it.
 */
// deno-lint-ignore no-explicit-any -- each op gives its own attrs type
export interface Op<A extends Attrs = any> {
  /** Name in error messages, plans and profiles. */
  readonly name: string;
  /** Output shape; throws a ShapeError that names the op and the shapes. */
  shape(inputs: readonly Tensor[], attrs: A): Shape;
  /** Element type of each input, f32 when absent; `"any"`, and views, take all. */
  readonly accepts?: readonly DType[] | "any";
  /** Output element type; f32 when absent. */
  dtype?(inputs: readonly Tensor[], attrs: A): DType;
  /** Elementwise: a WGSL expression in `a`, `b`, … of type `T` (`f32` or `vec4f`). */
  expression?(attrs: A): string;
  /** WGSL functions over `T` and `U` that `expression` calls. */
  readonly functions?: readonly string[];
  /** A view: strides of the output over the input's base, or null where only a copy will do. */
  view?(input: { shape: Shape } & StridedView, attrs: A): StridedView | null;
  /** A reduction, whose input may be fused into its kernel. */
  reduction?(node: Tensor, attrs: A): ReductionSpec;
  /** Dispatches that compute the output from the inputs. */
  kernels?(
    node: Tensor,
    target: Target,
    attrs: A,
    finish: Finish,
    start?: Start,
  ): KernelSpec[];
  /** Whether `kernels` store every element of the output by `finish`, and never read one back. */
  readonly finishes?: boolean;
  /** Whether `kernels` load every element of their first input by `start`. */
  readonly starts?: boolean;
  /**
   * An op with the same inputs and attributes, and kernels that compute both: they bind its output, then
   * this one's.
   */
  readonly beside?: {
    readonly op: Op;
    kernels(node: Tensor, target: Target, attrs: A, start?: Start): KernelSpec[];
  };
  /** The same value in terms of simpler ops, chosen when a plan is made. */
  lower?(node: Tensor, target: Target, attrs: A): Tensor;
  /** The value of the op on `permute(x, order)`, computed from `x` as stored; null if no gain. */
  sink?(x: Tensor, order: readonly number[], attrs: A): Tensor | null;
  /**
   * For each input, how many records it chooses from; undefined if it holds no indices. A wrong
   * index from the host is an error where it enters; for one computed on the device, the op gives
   * NaN, or 2³² - 1.
   */
  below?(node: Tensor): readonly (number | undefined)[];
  /** Multiply-accumulates that computing the node takes; none when absent. */
  macs?(node: Tensor): number;
  /**
   * Gradients of the inputs as graph nodes, from the gradient `g` of the output `y`; null for an
   * input that gets none. When absent, {@link grad} throws.
   */
  vjp?(g: Tensor, y: Tensor, inputs: readonly Tensor[], attrs: A): (Tensor | null)[];
}

/** The parts of a training step. */
export type Pass = "data" | "forward" | "backward" | "optimizer";

/** Where a node comes from, for profiles; it is no part of the node's identity. */
export interface Scope {
  /** Path of the module whose call built it, `resnet_block2.0.conv1`; empty for the network's own. */
  readonly layer: string;
  /** Its part of a training step. */
  readonly pass: Pass;
}

let scope: Scope = { layer: "", pass: "forward" };

/** Where the nodes that are built now come from. */
export function currentScope(): Scope {
  return scope;
}

/** Runs `body`, and returns what it returns; the nodes that it builds come from `inner`. */
export function inScope<T>(inner: Scope, body: () => T): T {
  const outer = scope;
  scope = inner;
  try {
    return body();
  } finally {
    scope = outer;
  }
}

let nextId = 0;

/** Lines of numbers that a notebook shows of a constant. */
const MOST_LINES = 16;

/**
 * An immutable node of a computation graph. Make one with an op, {@link tensor} or {@link input}.
 *
 * @example
 * ```ts
 * import { relu, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = relu(tensor([[1, -2, 3]]));
 * assertEquals([y.shape, y.size, y.rank, y.dtype], [[1, 3], 3, 2, "f32"]);
 * ```
 */
export class Tensor {
  /** Creation order; an input's id is always smaller than its user's. */
  readonly id: number = nextId++;
  /** Dimension sizes. */
  readonly shape: Shape;
  /** Number of elements. */
  readonly size: number;
  /** Element type. */
  readonly dtype: DType;
  /** The layer and the pass that built it, for profiles. */
  readonly scope: Scope = scope;

  /** A node as {@link apply} makes it. */
  constructor(
    /** What computes it. */
    readonly op: Op,
    /** The tensors that it is computed from. */
    readonly inputs: readonly Tensor[],
    /** Settings of the op. */
    readonly attrs: Attrs,
  ) {
    if (typeof op?.shape !== "function" || typeof op.name !== "string") {
      refuse("apply", "op", "an op with a name and a shape rule", op);
    }
    checkList("apply", "inputs", inputs);
    if (typeof attrs !== "object" || !attrs) refuse("apply", "attrs", "an object", attrs);
    inputs.forEach((x, i) => {
      const any = op.view || op.accepts === "any";
      checkTensor(op.name, `input ${i}`, x, any ? undefined : op.accepts?.[i] ?? "f32");
    });
    this.shape = op.shape(inputs, attrs);
    this.size = checkShape(op.name, this.shape);
    this.dtype = op.dtype?.(inputs, attrs) ?? "f32";
    op.below?.(this).forEach((limit, i) => {
      if (limit !== undefined) checkIndices(op.name, `input ${i}`, inputs[i]!, limit);
    });
  }

  /** Number of dimensions. */
  get rank(): number {
    return this.shape.length;
  }

  /** `Tensor relu [4, 6, 3, 3] f32`. */
  toString(): string {
    return `Tensor ${this.op.name} ${formatShape(this.shape)} ${this.dtype}`;
  }

  /** Shown by `console.log`: {@link toString}, and a constant's numbers. */
  [Symbol.for("Deno.customInspect")](): string {
    const data = constantData(this);
    return data ? `${this}\n${printed(data, this.shape)}` : this.toString();
  }

  /** Shown by a notebook: what it is, and a constant's first and last numbers. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    const { op, shape, dtype, scope: { layer } } = this, data = constantData(this);
    const head = htmlTable(["op", "shape", "type", ...layer ? ["layer"] : []], [
      [op.name, formatShape(shape), dtype, ...layer ? [layer] : []],
    ], 4);
    const numbers = data ? printed(data, shape).split("\n") : [];
    const some = numbers.length <= MOST_LINES ? numbers : [
      ...numbers.slice(0, MOST_LINES / 2),
      "...",
      ...numbers.slice(-MOST_LINES / 2),
    ];
    return shownAs(
      [`${this}`, ...some].join("\n"),
      data ? `${head}<pre>${some.join("\n")}</pre>` : head,
    );
  }
}

/** Throws unless argument `name` of `op` is a tensor, of an element type where that is given. */
export function checkTensor(
  op: string,
  name: string,
  value: unknown,
  dtype?: DType,
): asserts value is Tensor {
  if (!(value instanceof Tensor)) refuse(op, name, "a tensor", value);
  if (dtype && value.dtype !== dtype) {
    throw new ShapeError(`${op}: ${name} must be ${dtype}, got ${value}`);
  }
}

/** Throws unless each value of `data`, argument `name` of `op`, is one of `limit` indices. */
export function checkBelow(op: string, name: string, data: TensorData, limit: number): void {
  const at = (data as Uint32Array).findIndex((index) => index >= limit);
  if (at < 0) return;
  throw new ArgumentError(
    `${op}: ${name} must be from 0 to ${limit - 1}, got ${data[at]} at index ${at}`,
  );
}

/** Throws if `x`, argument `name` of `op`, is a constant with a value that is not below `limit`. */
export function checkIndices(op: string, name: string, x: Tensor, limit: number): void {
  const data = constantData(x);
  if (data) checkBelow(op, name, data, limit);
}

/**
 * A node of `op` over `inputs`; the shape is checked here.
 *
 * @throws {ArgumentError} if `op` is no op, `inputs` no list of tensors, or `attrs` no object.
 * @throws {ShapeError} if the op's shape rule throws it, or gives no shape.
 *
 * @example
 * ```ts
 * import { apply, evaluate, type Op, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const Double: Op = { name: "double", shape: ([x]) => x!.shape, expression: () => "a + a" };
 * const y = apply(Double, [tensor([1, 2])], {});
 * assertEquals(await evaluate(y), new Float32Array([2, 4]));
 * ```
 */
export function apply<A extends Attrs>(op: Op<A>, inputs: readonly Tensor[], attrs: A): Tensor {
  return new Tensor(op, inputs, attrs);
}

const ConstantOp: Op<{ shape: Shape; dtype: DType; data: TensorData }> = {
  name: "constant",
  shape: (_, { shape, data }) => {
    checkShape("tensor", shape);
    if (sizeOf(shape) !== data.length) {
      throw new ShapeError(
        `tensor: ${data.length} values do not fill the shape ${formatShape(shape)}`,
      );
    }
    return shape;
  },
  dtype: (_, { dtype }) => dtype,
};

/** Numbers in lists in lists …, all of one length at each depth. */
export type NestedNumbers = number | readonly NestedNumbers[];

/**
 * A constant tensor of the given values, which are copied
 * ({@link https://pytorch.org/docs/stable/generated/torch.tensor.html | PyTorch}). Plain numbers
 * become f32, whole ones too. A typed array's type decides the element type: `Uint32Array`, for
 * labels and indices, is u32, `Uint8Array` and `Uint8ClampedArray` are u8, and those whose values
 * f32 holds exactly (`Float32Array`, `Float16Array`, `Int8Array`, `Int16Array`, `Uint16Array`) are
 * f32.
 *
 * @param data a number, lists of numbers in lists, or a typed array, row-major
 * @param shape dimension sizes; by default those of the lists, `[]` for a number, one dimension for
 * a typed array
 * @throws {ArgumentError} for anything else, such as an `Int32Array`, `Float64Array` or string,
 * naming where it is
 * @throws {ShapeError} for lists of different lengths, no values, or values that do not fill the
 * shape
 *
 * @example
 * ```ts
 * import { tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
 * assertEquals(x.shape, [2, 3]);
 * ```
 */
export function tensor(
  data: ArrayBufferView | NestedNumbers,
  shape?: Shape,
): Tensor {
  if (ArrayBuffer.isView(data)) {
    const copy = copyOf(data);
    return constant(copy, shape === undefined ? [copy.length] : shape);
  }
  if (typeof data !== "number" && !Array.isArray(data)) {
    refuse("tensor", "data", "numbers, lists of them or a typed array", data);
  }
  const values: number[] = [], own: number[] = [];
  unnest(data, values, own, 0, "data");
  return constant(new Float32Array(values), shape === undefined ? own : shape);
}

/** A constant tensor of `data` itself, without a copy: the array must not change any more. */
export function constant(data: TensorData, shape: Shape): Tensor {
  const dtype = data instanceof Float32Array ? "f32" : data instanceof Uint32Array ? "u32" : "u8";
  return apply(ConstantOp, [], { shape, dtype, data });
}

/** A typed array as one of an element type, in memory of its own. */
function copyOf(data: ArrayBufferView): TensorData {
  if (data instanceof Uint32Array) return new Uint32Array(data);
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return new Uint8Array(data);
  if (isExactInF32(data)) return new Float32Array(data);
  throw new ArgumentError(
    `tensor: ${
      shown(data)
    } is neither f32, u32 nor u8; convert it: Float32Array.from(data, Number) ` +
      "for values, Uint32Array.from(data, Number) for indices",
  );
}

/** How deep lists may be nested: one may hold itself. */
const MAX_DEPTH = 64;

/** Puts the numbers of nested lists into `values`, and their sizes into `shape`. */
function unnest(
  list: unknown,
  values: number[],
  shape: number[],
  depth: number,
  path: string,
): void {
  const isList = Array.isArray(list) || ArrayBuffer.isView(list) && isExactInF32(list);
  if (!isList) {
    if (typeof list !== "number") refuse("tensor", path, "a number", list);
    if (depth < shape.length) ragged(path, "is a number", shape[depth]!);
    values.push(list);
    return;
  }
  if (depth === MAX_DEPTH) throw new ShapeError(`tensor: lists are nested over ${depth} deep`);
  const items = list as ArrayLike<unknown>;
  // The first list of a depth says how long all of that depth are; before the first number.
  if (depth === shape.length) {
    if (values.length > 0) ragged(path, `has ${items.length} values`, undefined);
    shape.push(items.length);
  } else if (shape[depth] !== items.length) {
    ragged(path, `has ${items.length} values`, shape[depth]!);
  }
  for (let i = 0; i < items.length; i++) {
    unnest(items[i], values, shape, depth + 1, `${path}[${i}]`);
  }
}

function ragged(path: string, what: string, wanted: number | undefined): never {
  throw new ShapeError(
    `tensor: lists must have one length at each depth: ${path} ${what}, and others ${
      wanted === undefined ? "are numbers" : `have ${wanted}`
    }`,
  );
}

/** The values of a {@link tensor} leaf, or undefined for any other node. */
export function constantData(node: Tensor): TensorData | undefined {
  return node.op === ConstantOp ? node.attrs["data"] as TensorData : undefined;
}

const InputOp: Op<{ shape: Shape; dtype: DType; name: string }> = {
  name: "input",
  shape: (_, { shape }) => (checkShape("input", shape), shape),
  dtype: (_, { dtype }) => dtype,
};

/**
 * A placeholder: its values are given to each run of a plan under `name`, which no other input of
 * the plan may have. `dtype` is f32 by default.
 *
 * @throws {ArgumentError} if `name` is no string, or `dtype` no element type.
 * @throws {ShapeError} if `shape` has a size that is no positive integer.
 *
 * @example
 * ```ts
 * import { evaluate, input, mul } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = mul(input("x", [2]), 3);
 * assertEquals(await evaluate(y, { x: new Float32Array([1, 2]) }), new Float32Array([3, 6]));
 * ```
 */
export function input(name: string, shape: Shape, dtype: DType = "f32"): Tensor {
  checkString("input", "name", name);
  checkDType("input", dtype);
  return apply(InputOp, [], { shape, dtype, name });
}

/** The name of an {@link input} leaf, or undefined for any other node. */
export function inputName(node: Tensor): string | undefined {
  return node.op === InputOp ? node.attrs["name"] as string : undefined;
}

const VariableOp: Op<{ shape: Shape }> = {
  name: "variable",
  shape: (_, { shape }) => (checkVariable("variable", shape), shape),
};

/** Elements that no device holds of one variable. */
const TOO_MANY = 2 ** 32;

/** Throws unless `op` can make a variable of `shape`. */
export function checkVariable(op: string, shape: Shape): void {
  checkShape(op, shape);
  if (sizeOf(shape) < TOO_MANY) return;
  throw new ShapeError(`${op}: ${formatShape(shape)} has more elements than any device holds`);
}

/** Where a variable's elements live on a device; replaced, never changed, when they move. */
export interface VariableStorage {
  /** The buffer, possibly shared with other variables. */
  readonly buffer: GPUBuffer;
  /** Offset of the first element, in bytes. */
  readonly offset: number;
  /** Whether the buffer holds nothing else. */
  readonly exclusive: boolean;
}

/**
 * A tensor whose values persist between runs: a parameter, a running statistic, optimizer state. It
 * is f32. Plans read it like any tensor and change it only by their updates; {@link setVariable}
 * and {@link readVariables} write and read it.
 *
 * @example
 * ```ts
 * import { readVariables, Variable } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const [values] = await readVariables([new Variable([2], [1, 2])]);
 * assertEquals(values, new Float32Array([1, 2]));
 * ```
 */
export class Variable extends Tensor {
  /** Values, or a function that makes them, until a device takes them over; absent means zeros. */
  initial: Float32Array<ArrayBuffer> | (() => Float32Array<ArrayBuffer>) | undefined;
  /**
   * Where the values are once a device holds them.
   * @internal
   */
  storage: VariableStorage | undefined;
  /**
   * The variable that this one is a part of, from element `offset` on; see {@link packVariables}.
   * @internal
   */
  home: { readonly whole: Variable; readonly offset: number } | undefined;
  /**
   * The variables that are parts of this one.
   * @internal
   */
  parts: readonly Variable[] = [];
  /**
   * The variable that holds the values, and its order of axes, if not this one; see
   * {@link storeIn}.
   * @internal
   */
  stored: { readonly variable: Variable; readonly order: readonly number[] } | undefined;

  /**
   * A variable of `shape` holding `initial` values, row-major, which are copied; zeros by default.
   * A function is called whenever the values are needed before a device holds them, so it must
   * return the same ones each time.
   *
   * @throws {ArgumentError} if `initial` has other values than numbers.
   * @throws {ShapeError} if `shape` is no shape, or has more or fewer elements than `initial`.
   */
  constructor(shape: Shape, initial?: Variable["initial"] | readonly number[]) {
    super(VariableOp, [], { shape });
    this.initial = initial === undefined || typeof initial === "function"
      ? initial
      : fillOf(this, toFloats("variable", "initial", initial));
  }
}

/**
 * Has a new variable's values lie in memory with axis `order[i]` as the `i`-th, and returns it. To a
 * plan it is from then on a permutation of `stored.variable`; so a kernel that wants this order need
 * not rearrange the values in every run. For everybody else it makes no difference.
 */
export function storeIn<V extends Variable>(order: readonly number[], variable: V): V {
  const { shape, initial } = variable;
  const values = initial &&
    (() => reorder(typeof initial === "function" ? initial() : initial, shape, order));
  const stored = new Variable(order.map((axis) => shape[axis]!), values);
  return Object.assign(variable, { initial: undefined, stored: { variable: stored, order } });
}

/** A variable of zeros, of the shape of another one and with its axes in the same order in memory. */
export function zerosLike({ shape, stored }: Variable): Variable {
  const zeros = new Variable(shape);
  return stored ? storeIn(stored.order, zeros) : zeros;
}

/** `values`, which must be as many as a variable has elements. */
function fillOf(
  variable: Variable,
  values: Float32Array<ArrayBuffer>,
): Float32Array<ArrayBuffer> {
  if (values.length === variable.size) return values;
  throw new ShapeError(
    `variable: ${values.length} values do not fill the shape ${formatShape(variable.shape)}`,
  );
}

/** Whether `order` has each of `rank` axes once. */
export function isOrder(order: readonly number[], rank: number): boolean {
  if (order.length !== rank) return false;
  for (let axis = 0; axis < rank; axis++) if (!order.includes(axis)) return false;
  return true;
}

/** The order of axes that undoes `order`. */
export function inverseOrder(order: readonly number[]): number[] {
  return order.map((_, axis) => order.indexOf(axis));
}

/** Row-major `values` of `shape` as row-major values with the axes in the given order. */
export function reorder(
  values: Float32Array<ArrayBuffer>,
  shape: Shape,
  order: readonly number[],
): Float32Array<ArrayBuffer> {
  const strides = stridesOf(shape);
  const sizes = order.map((axis) => shape[axis]!), steps = order.map((axis) => strides[axis]!);
  const out = new Float32Array(values.length);
  let at = 0;
  const fill = (axis: number, from: number) => {
    const size = sizes[axis]!, step = steps[axis]!;
    if (axis === sizes.length) out[at++] = values[from]!; // A scalar.
    else if (axis === sizes.length - 1) {
      for (let i = 0; i < size; i++) out[at++] = values[from + i * step]!;
    } else {
      for (let i = 0; i < size; i++) fill(axis + 1, from + i * step);
    }
  };
  fill(0, 0);
  return out;
}

/** Elements that parts of a packed variable are aligned to: WebGPU's 256 bytes. */
const PACK_ALIGNMENT = 64;
/** Most elements of a packed variable: what one storage binding holds on every adapter, 128 MiB. */
const PACK_LIMIT = 2 ** 25;

/**
 * Lays variables one after the other in as few large ones as possible, so that one kernel can update
 * all of them. Their values move along; they stay usable as before.
 */
export function packVariables(variables: readonly Variable[]): Variable[] {
  const groups: { parts: Variable[]; offsets: number[]; size: number }[] = [];
  for (const variable of variables.map((v) => v.stored?.variable ?? v)) {
    const size = Math.ceil(variable.size / PACK_ALIGNMENT) * PACK_ALIGNMENT;
    let group = groups.at(-1);
    if (!group || group.size + size > PACK_LIMIT) {
      groups.push(group = { parts: [], offsets: [], size: 0 });
    }
    group.parts.push(variable);
    group.offsets.push(group.size);
    group.size += size;
  }
  return groups.map(({ parts, offsets, size }) => {
    const whole = new Variable([size]);
    whole.parts = parts;
    parts.forEach((part, i) => part.home = { whole, offset: offsets[i]! });
    return whole;
  });
}

/**
 * An in-place change of variables, run after every reader of their old values. {@link assign} makes
 * one, and so do optimizers. Two updates of one plan cannot have the same target.
 */
export interface Update {
  /** The variables that are written. */
  readonly targets: readonly Variable[];
  /** The new values of the only target; absent if `kernels` compute them. */
  readonly value?: Tensor;
  /** Tensors that `kernels` read: they bind these, then the targets for reading and writing. */
  readonly reads?: readonly Tensor[];
  /** Name in plans and profiles, if there are `kernels`. */
  readonly name?: string;
  /**
   * Dispatches that write the targets, if there is no `value`; not those whose axes lie in another order
   * in memory, as weights of convolutions do.
   */
  readonly kernels?: (target: Target) => KernelSpec[];
  /**
   * Whether `kernels` run as soon as `reads` are computed, and not after everything else; then
   * nothing else may read the targets.
   */
  readonly early?: boolean;
}

/** Throws unless argument `name` of `op` is an update of variables. */
export function checkUpdate(op: string, name: string, update: Update): void {
  checkObject(op, name, update);
  const { targets, value, reads = [], kernels, early } = update;
  checkVariables(op, `${name}.targets`, targets);
  checkList(op, `${name}.reads`, reads);
  reads.forEach((x) => checkTensor(op, `${name}.reads`, x));
  if (value !== undefined) checkTensor(op, `${name}.value`, value);
  else checkFunction(op, `${name}.kernels`, kernels);
  if (early !== undefined) checkBoolean(op, `${name}.early`, early);
  const [target, ...others] = targets;
  if (!target) refuse(op, `${name}.targets`, "one variable or more", targets);
  if (value === undefined) {
    const own = "one whose axes lie in order in memory (assign takes any)";
    targets.forEach((x, i) => x.stored && refuse(op, `${name}.targets[${i}]`, own, x));
    return;
  }
  if (others.length > 0) refuse(op, `${name}.targets`, "one variable, for one value", targets);
  checkFits(op, target, value);
}

/** Throws unless `op` can set a variable to `value`. */
function checkFits(op: string, { shape }: Variable, value: Tensor): void {
  if (sameShape(shape, value.shape) && value.dtype === "f32") return;
  throw new ShapeError(`${op}: ${value} does not fit a variable of shape ${formatShape(shape)}`);
}

/** Throws unless argument `name` of `op` is a list of variables. */
export function checkVariables(
  op: string,
  name: string,
  variables: unknown,
): asserts variables is Variable[] {
  checkList(op, name, variables);
  variables.forEach((x, i) => checkInstance(op, `${name}[${i}]`, x, Variable));
}

/**
 * The values of a variable before a device holds it: its initial ones, or what its function makes.
 *
 * @throws {ArgumentError} if the function makes something else than a Float32Array.
 * @throws {ShapeError} if it makes more or fewer values than the variable has elements.
 */
export function initialValues(variable: Variable): Float32Array<ArrayBuffer> {
  const { initial } = variable;
  if (typeof initial !== "function") return initial ?? new Float32Array(variable.size);
  const values = initial();
  checkInstance("variable", "what initial returns", values, Float32Array);
  return fillOf(variable, values);
}

/**
 * An update that sets `target` to `value`, of the same shape. All else in a run, `value` too, reads
 * the old values.
 *
 * @throws {ArgumentError} if `target` is no variable, or `value` no tensor.
 * @throws {ShapeError} if their shapes differ, or `value` is not f32.
 *
 * @example
 * ```ts
 * import { add, assign, Plan, readVariables, Variable } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const count = new Variable([]);
 * using plan = await Plan.compile({ updates: [assign(count, add(count, 1))] });
 * plan.run();
 * assertEquals(await readVariables([count]), [new Float32Array([1])]);
 * ```
 */
export function assign(target: Variable, value: Tensor): Update {
  checkInstance("assign", "target", target, Variable);
  checkTensor("assign", "value", value);
  checkFits("assign", target, value);
  return { targets: [target], value };
}
