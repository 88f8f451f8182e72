/**
 * Tensors as graph nodes: a shape, an element type, an op and its inputs. Building one infers and
 * checks its shape and touches no GPU; a plan (`plan.ts`) computes it.
 *
 * Not here: data. Only leaves carry any ({@link tensor}, {@link Variable}).
 *
 * @module
 */

import type { KernelSpec, Target } from "./kernel.ts";
import {
  checkShape,
  formatShape,
  sameShape,
  type Shape,
  ShapeError,
  sizeOf,
  stridesOf,
} from "./shape.ts";

/** Element types. `u8` is storage for data sets only; `u32` serves indices and labels. */
export type DType = "f32" | "u32" | "u8";

/** The typed array of each element type. */
export type TensorData =
  | Float32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>;

/** Plain values an op is parametrised with; they are part of a node's identity. */
export type Attrs = Readonly<Record<string, unknown>>;

/** How an op reads its input through other strides, without moving data. */
export interface StridedView {
  /** First element, counted from the base tensor's start. */
  readonly offset: number;
  /** Step in elements of the base tensor for each dimension of the node's shape; 0 broadcasts. */
  readonly strides: readonly number[];
}

/** What a reduction kernel computes; its one or two inputs may be expressions fused into it. */
export interface ReductionSpec {
  /** Axes of the input that are summed; neighbours of each other, but for axes of size 1. */
  readonly axes: readonly number[];
  /** Partial results for each result, each over ⌈length / chunks⌉ neighbours. */
  readonly chunks: number;
  /** WGSL declarations of the accumulators, of type `T` (`f32` or `vec4f`). */
  readonly init: string;
  /** WGSL statement that takes up `v`, and `w` of a second input, the `n`-th (from 0) of this thread. */
  readonly step: string;
  /** WGSL expressions of the results, each written to its own plane of the output. */
  readonly results: readonly string[];
}

/**
 * An operation: shape rule, kernel and gradient in one place. One of `expression`, `view`,
 * `reduction` and `kernels` says how it is computed, or `lower` does for the cases they leave out
 * (leaves have none).
 */
// deno-lint-ignore no-explicit-any -- each op gives its own attrs type
export interface Op<A extends Attrs = any> {
  /** Name in error messages, plans and profiles. */
  readonly name: string;
  /** Output shape; throws a ShapeError that names the op and the shapes. */
  shape(inputs: readonly Tensor[], attrs: A): Shape;
  /** Element type that each input must have: f32 when absent. Views take what they get. */
  readonly accepts?: readonly DType[];
  /** Output element type; f32 when absent. */
  dtype?(inputs: readonly Tensor[], attrs: A): DType;
  /** Elementwise: a WGSL expression in `a`, `b`, … of type `T` (`f32` or `vec4f`). */
  expression?(attrs: A): string;
  /** A view: strides of the output over the input's base, or null where only a copy will do. */
  view?(input: { shape: Shape } & StridedView, attrs: A): StridedView | null;
  /** A reduction, whose input may be fused into its kernel. */
  reduction?(node: Tensor): ReductionSpec;
  /** Dispatches that compute the output from the inputs. */
  kernels?(node: Tensor, target: Target): KernelSpec[];
  /** The same value in terms of simpler ops, chosen when a plan is made. */
  lower?(node: Tensor, target: Target): Tensor;
  /** The value of the op on `permute(x, order)`, computed from `x` as stored; null if no gain. */
  sink?(x: Tensor, order: readonly number[], attrs: A): Tensor | null;
  /** Gradients for the inputs, as graph nodes; null where an input has none. */
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
export function withScope<T>(inner: Scope, body: () => T): T {
  const outer = scope;
  scope = inner;
  try {
    return body();
  } finally {
    scope = outer;
  }
}

let nextId = 0;

/** An immutable node of a computation graph. Make one with an op, {@link tensor} or {@link input}. */
export class Tensor {
  /** Creation order; an input's id is always smaller than its user's. */
  readonly id: number = nextId++;
  /** Dimension sizes. */
  readonly shape: Shape;
  /** Element type. */
  readonly dtype: DType;
  /** Where it comes from: see {@link withScope}. */
  readonly scope: Scope = scope;

  /** Use an op's function instead. */
  constructor(
    readonly op: Op,
    readonly inputs: readonly Tensor[],
    readonly attrs: Attrs,
  ) {
    inputs.forEach((x, i) => {
      const wanted = op.accepts?.[i] ?? "f32";
      if (!op.view && x.dtype !== wanted) {
        throw new ShapeError(`${op.name}: input ${i} must be ${wanted}, got ${x}`);
      }
    });
    this.shape = op.shape(inputs, attrs);
    this.dtype = op.dtype?.(inputs, attrs) ?? "f32";
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** Number of dimensions. */
  get rank(): number {
    return this.shape.length;
  }

  /** `Tensor relu [4, 6, 3, 3] f32`. */
  toString(): string {
    return `Tensor ${this.op.name} ${formatShape(this.shape)} ${this.dtype}`;
  }

  /** Shown by `console.log`. */
  [Symbol.for("Deno.customInspect")](): string {
    return this.toString();
  }
}

/** A node of `op` over `inputs`; the shape is checked here. */
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

/**
 * A constant tensor of the given values, row-major; the element type follows the array
 * (plain numbers are f32).
 *
 * @example
 * ```ts
 * import { tensor } from "@resnette/resnette";
 *
 * const x = tensor([1, 2, 3, 4, 5, 6], [2, 3]);
 * console.log(x.shape); // [ 2, 3 ]
 * ```
 */
export function tensor(data: TensorData | readonly number[] | number, shape?: Shape): Tensor {
  if (typeof data === "number") data = [data], shape ??= [];
  const array = ArrayBuffer.isView(data) ? data : new Float32Array(data);
  const dtype = array instanceof Float32Array ? "f32" : array instanceof Uint32Array ? "u32" : "u8";
  return apply(ConstantOp, [], { shape: shape ?? [array.length], dtype, data: array });
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

/** A placeholder: its values are given to each run of a plan under `name`. */
export function input(name: string, shape: Shape, dtype: DType = "f32"): Tensor {
  return apply(InputOp, [], { shape, dtype, name });
}

/** The name of an {@link input} leaf, or undefined for any other node. */
export function inputName(node: Tensor): string | undefined {
  return node.op === InputOp ? node.attrs["name"] as string : undefined;
}

const VariableOp: Op<{ shape: Shape }> = {
  name: "variable",
  shape: (_, { shape }) => (checkShape("variable", shape), shape),
};

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
 * A tensor whose values persist between runs: a parameter, a running statistic, optimizer state.
 * f32. Plans read it like any tensor and change it only through their updates.
 */
export class Variable extends Tensor {
  /** Values, or how to make them, until a device takes them over; absent means zeros. */
  initial: Float32Array<ArrayBuffer> | (() => Float32Array<ArrayBuffer>) | undefined;
  /** Where the values are once a device holds them. */
  storage: VariableStorage | undefined;
  /** The variable that this one is a part of, from element `offset` on; see {@link packVariables}. */
  home: { readonly whole: Variable; readonly offset: number } | undefined;
  /** The variables that are parts of this one. */
  parts: readonly Variable[] = [];

  /**
   * The variable that really holds the values, with its axes in another order; undefined for a
   * variable that holds them itself. Plans work on that one, so that a kernel that wants this order
   * need not rearrange the values in every run.
   */
  readonly stored: Variable | undefined;
  /** Of a variable that is the `stored` one of another: its axis `i` is the other's `order[i]`. */
  order: readonly number[] | undefined;

  /**
   * A variable of `shape` holding `initial` values, row-major; zeros by default. With `order`, axis
   * `order[i]` is the `i`-th in memory; for everybody but the planner that makes no difference.
   */
  constructor(shape: Shape, initial?: Variable["initial"], order?: readonly number[]) {
    super(VariableOp, [], { shape });
    if (initial && typeof initial !== "function" && initial.length !== this.size) {
      throw new ShapeError(
        `variable: ${initial.length} values do not fill the shape ${formatShape(shape)}`,
      );
    }
    if (order) {
      const values = initial &&
        (() => reorder(typeof initial === "function" ? initial() : initial, shape, order));
      this.stored = new Variable(order.map((axis) => shape[axis]!), values);
      this.stored.order = order;
    } else {
      this.initial = initial;
    }
  }
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
    if (axis === sizes.length - 1) {
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
  for (const variable of variables.map((v) => v.stored ?? v)) {
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

/** An in-place change of variables, run after every reader of their old values. */
export interface Update {
  /** The variables that are written. */
  readonly targets: readonly Variable[];
  /** Computes the new values: either one tensor for one target … */
  readonly value?: Tensor;
  /** … or a kernel over `reads`, then `targets` bound for reading and writing. */
  readonly reads?: readonly Tensor[];
  /** Name in plans and profiles, for updates with a kernel. */
  readonly name?: string;
  /** The kernel of such an update. */
  readonly kernels?: (target: Target) => KernelSpec[];
}

/** The values a variable has before any device holds it; made, where there is a recipe for them. */
export function initialValues(variable: Variable): Float32Array<ArrayBuffer> {
  const { initial } = variable;
  return typeof initial === "function" ? initial() : initial ?? new Float32Array(variable.size);
}

/** An update that sets `target` to `value`, of the same shape. */
export function assign(target: Variable, value: Tensor): Update {
  if (!sameShape(target.shape, value.shape) || value.dtype !== "f32") {
    throw new ShapeError(
      `assign: ${value} does not fit a variable of shape ${formatShape(target.shape)}`,
    );
  }
  return { targets: [target], value };
}
