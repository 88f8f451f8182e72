/**
 * WGSL for elementwise clusters, copies of views, and reductions with an elementwise cluster fused
 * into their input. Iteration spaces are collapsed first: neighbouring axes that every operand walks
 * alike become one, so that most kernels see one axis or `[rows, channels]`.
 *
 * @module
 */

import {
  type Binding,
  type Finish,
  isWide,
  type KernelSpec,
  perFewThreads,
  perThread,
  PLAIN,
  type Several,
  type Start,
  summing,
  type Target,
} from "../kernels/kernel.ts";
import { type Shape, sizeOf, stridesOf } from "../graph/shape.ts";
import type { DType, Tensor } from "../graph/tensor.ts";
import { isContiguous } from "../ops/view.ts";
import { type InlinedNodes, inMemory, scalar, type Strided, strided } from "./fuse.ts";

/** An axis of a collapsed iteration space, with the step of each operand along it. */
interface Axis {
  readonly size: number;
  readonly steps: readonly number[];
}

/** A kernel and the tensors bound to its inputs, in order. */
export interface GeneratedKernel {
  readonly spec: KernelSpec;
  readonly reads: readonly Tensor[];
}

/** Merges neighbouring axes that all operands walk as one; never across a position in `cuts`. */
function collapse(shape: Shape, operands: readonly (readonly number[])[], cuts: number[] = []) {
  const axes: (Axis & { at: number })[] = [];
  shape.forEach((size, at) => {
    if (size === 1) return;
    const steps = operands.map((strides) => strides[at]!);
    const last = axes.at(-1);
    const cut = cuts.some((c) => last && last.at < c && c <= at);
    if (last && !cut && steps.every((step, i) => last.steps[i] === step * size)) {
      axes[axes.length - 1] = { size: last.size * size, steps, at };
    } else {
      axes.push({ size, steps, at });
    }
  });
  return axes;
}

/** The operands of a cluster, found while its expression is written. */
class Cluster {
  readonly operands: Strided[] = [];
  readonly #ids = new Map<Tensor, number>();
  readonly #names = new Map<Tensor, string>();

  constructor(
    protected shape: Shape,
    readonly inlined: InlinedNodes,
    /** Constants with one element, read from the uniform, so that another value compiles nothing. */
    readonly constants: number[] = [],
    /** WGSL functions that are called. */
    readonly functions = new Set<string>(),
  ) {}

  /** `node`, broadcast to the cluster's shape. */
  protected spread(node: Tensor): Strided {
    const { base, offset, strides } = strided(node), lead = this.shape.length - node.rank;
    return {
      base,
      offset,
      strides: this.shape.map((_, i) =>
        i < lead || node.shape[i - lead] === 1 ? 0 : strides[i - lead]!
      ),
    };
  }

  /** Registers `node`, and names its value. */
  protected operand(node: Tensor): string {
    let id = this.#ids.get(node);
    if (id === undefined) {
      this.#ids.set(node, id = this.operands.length);
      this.operands.push(this.spread(node));
    }
    return `x${id}`;
  }

  /** Registers a constant, and gives the WGSL of its value. */
  #constant(value: number): string {
    let at = this.constants.findIndex((known) => Object.is(known, value));
    if (at < 0) at = this.constants.push(value) - 1;
    return `T(z.k${at})`;
  }

  /** The constants as the numbers of a kernel. */
  get numbers(): Record<string, number> {
    return Object.fromEntries(this.constants.map((value, i) => [`k${i}`, value]));
  }

  /** WGSL declarations of the kernel: the type of its elements, and the functions that are called. */
  declarations(width: 1 | 4): string {
    const types = width === 4
      ? "alias T = vec4f; alias U = vec4u;"
      : "alias T = f32; alias U = u32;";
    return [types, ...this.functions].join("\n");
  }

  /** The name of a node's value in those lines. */
  nameOf(node: Tensor): string {
    return this.#names.get(node)!;
  }

  /** WGSL lines that compute `node` from operand values `x0`, `x1`, … and earlier lines, and its name. */
  write(node: Tensor, own = true): { lines: string[]; value: string } {
    const lines: string[] = [];
    const names = this.#names;
    const visit = (x: Tensor, inside: boolean): string => {
      if (!inside) return this.operand(x);
      let name = names.get(x);
      if (name === undefined) {
        const args = x.inputs.map((input) => {
          const value = scalar(input);
          return value === undefined
            ? visit(input, this.inlined.has(input))
            : this.#constant(value);
        });
        x.op.functions?.forEach((text) => this.functions.add(text));
        const expression = x.op.expression!(x.attrs)
          .replace(/\b[a-d]\b/g, (letter) => args["abcd".indexOf(letter)]!);
        names.set(x, name = `v${names.size}`);
        lines.push(`let ${name} = ${expression};`);
      }
      return name;
    };
    const value = visit(node, own && node.op.expression !== undefined);
    return { lines, value };
  }
}

/**
 * Whether all operands can be read four neighbours at a time along the last axis, or repeat along it.
 * One tensor must not be read both ways: that would take two bindings.
 */
function vectorizes(axes: readonly Axis[], operands: readonly Strided[]): boolean {
  const last = axes.at(-1);
  return last !== undefined && last.size % 4 === 0 &&
    operands.every(({ base, offset }, i) =>
      operands.every((other, k) => other.base !== base || last.steps[k] === last.steps[i]) &&
      (last.steps[i] === 0 ||
        last.steps[i] === 1 && offset % 4 === 0 &&
          axes.slice(0, -1).every((axis) => axis.steps[i]! % 4 === 0))
    );
}

/** WGSL type of one element of a tensor, or of four neighbours. Bytes are read as words. */
function elementType(dtype: DType, vector: boolean): Binding["type"] {
  if (dtype === "f32") return vector ? "vec4f" : "f32";
  return vector ? "vec4u" : "u32";
}

/**
 * Numbers that a kernel reads from its uniform `z` instead of having them in its WGSL, so that kernels
 * which differ only in sizes share a pipeline: a driver takes a tenth of a second to compile one.
 */
class Sizes {
  readonly fields: Record<string, number> = {};

  /** WGSL of the number. */
  take(value: number): string {
    const name = `n${Object.keys(this.fields).length}`;
    this.fields[name] = value;
    return `z.${name}`;
  }
}

/** WGSL bindings and loads for operands over an iteration space. */
class Loads {
  readonly bindings: Binding[] = [];
  readonly reads: Tensor[] = [];
  readonly #names: string[];

  constructor(
    readonly axes: readonly Axis[],
    readonly operands: readonly Strided[],
    readonly width: 1 | 4,
    readonly numbers: Sizes,
    own?: { base: Tensor; name: string },
  ) {
    this.#names = operands.map(({ base }, i) => {
      if (own && base === own.base) return own.name;
      const type = elementType(base.dtype, this.#vector(i));
      let at = this.reads.indexOf(base);
      if (at < 0) {
        at = this.reads.push(base) - 1;
        this.bindings.push({ name: `b${at}`, type });
      }
      return `b${at}`;
    });
  }

  #vector(i: number): boolean {
    return this.width === 4 && this.axes.at(-1)!.steps[i] === 1;
  }

  /** WGSL of operand `i` in memory at the given WGSL index of each axis. */
  at(i: number, index: readonly string[]): string {
    const { offset } = this.operands[i]!;
    const unit = this.#vector(i) ? 4 : 1;
    const terms = this.axes.flatMap(({ steps }, axis) => {
      const step = steps[i]! / (axis === this.axes.length - 1 ? 1 : unit);
      if (step === 0) return [];
      return [step === 1 ? index[axis]! : `${index[axis]} * ${this.numbers.take(step)}`];
    });
    if (offset > 0) terms.push(this.numbers.take(offset / unit));
    if (terms.length === 0) terms.push("0u");
    return `${this.#names[i]}[${terms.join(" + ")}]`;
  }

  /** WGSL line that loads operand `i` there. */
  load(i: number, index: readonly string[]): string {
    const { base } = this.operands[i]!, value = this.at(i, index);
    const repeated = this.width === 4 && !this.#vector(i);
    return `let x${i} = ${repeated ? `${elementType(base.dtype, true)}(${value})` : value};`;
  }
}

/** WGSL lines that split `flat` into an index for each of `sizes`, named by `name`. */
function split(
  sizes: readonly number[],
  flat: string,
  name: (axis: number) => string,
  numbers: Sizes,
): string[] {
  return sizes.map((size, axis) => {
    const last = axis === sizes.length - 1;
    const quotient = last ? flat : `${flat} / ${numbers.take(sizeOf(sizes.slice(axis + 1)))}`;
    return `let ${name(axis)} = ${
      axis === 0 ? quotient : `(${quotient}) % ${numbers.take(size)}`
    };`;
  });
}

const indent = (lines: readonly string[], by = 2) =>
  lines.map((line) => " ".repeat(by) + line).join("\n");

/** Rows that one thread takes, so that it loads what all of them share only once. */
function rowsPerThread(rows: number, threads: number): number {
  return [8, 4, 2].find((n) => rows % n === 0 && threads / n >= 4096) ?? 1;
}

/**
 * The kernel of an elementwise node with everything inlined into it, or of a copy of a view.
 * With `own`, the variable that the result goes to: it is read and written through one binding.
 */
export function elementwiseKernel(
  node: Tensor,
  inlined: InlinedNodes,
  target: Target,
  own?: Tensor,
): GeneratedKernel {
  const cluster = new Cluster(node.shape, inlined);
  const { lines, value } = cluster.write(node);
  const { operands } = cluster;
  let axes: readonly Axis[] = collapse(node.shape, [
    ...operands.map((x) => x.strides),
    stridesOf(node.shape),
  ]);
  if (axes.length === 0) axes = [{ size: 1, steps: operands.map(() => 0) }];
  const width = vectorizes(axes, operands) ? 4 : 1;
  const numbers = new Sizes();
  const loads = new Loads(axes, operands, width, numbers, own && { base: own, name: "y" });
  const sizes = axes.map((axis, i) => i === axes.length - 1 ? axis.size / width : axis.size);
  const columns = sizes.at(-1)!, rows = sizeOf(sizes.slice(0, -1));

  const shared = operands.map((_, i) =>
    axes.length > 1 && axes.slice(0, -1).every((axis) => axis.steps[i] === 0)
  );
  const each = shared.includes(true) ? rowsPerThread(rows, rows * columns) : 1;
  const index = [...sizes.slice(0, -1).map((_, axis) => `i${axis}`), "column"];
  const body = [
    ...split(sizes.slice(0, -1), "row", (axis) => `i${axis}`, numbers),
    ...operands.flatMap((_, i) => shared[i] ? [] : [loads.load(i, index)]),
    ...lines,
    `y[${rows === 1 ? "column" : "row * z.columns + column"}] = ${value};`,
  ];
  const type = elementType(node.dtype, width === 4);
  const spec = perThread(
    [...loads.bindings, { name: "y", type, write: true }],
    rows * columns / each,
    target,
    (rows === 1 ? "  let column = i;\n" : "  let column = i % z.columns;\n") +
      indent(operands.flatMap((_, i) => shared[i] ? [loads.load(i, index)] : [])) +
      (rows === 1 ? `\n${indent(body)}` : `
  let first = i / z.columns * z.each;
  for (var row = first; row < first + z.each; row++) {
${indent(body, 4)}
  }`),
    {
      declarations: cluster.declarations(width),
      sizes: { columns, each, ...numbers.fields },
      numbers: cluster.numbers,
    },
  );
  return { spec: { ...spec, flops: node.size * lines.length }, reads: loads.reads };
}

/** The tensors, as strides, that an elementwise node's kernel reads. */
export function operandsOf(node: Tensor, inlined: InlinedNodes): readonly Strided[] {
  const cluster = new Cluster(node.shape, inlined);
  cluster.write(node);
  return cluster.operands;
}

/** Fields of a kernel's uniform, under their key, if there are any. */
const some = (fields: Readonly<Record<string, number>>, key: "sizes" | "numbers") =>
  Object.keys(fields).length > 0 && { [key]: fields };

/** The kernels of a node that finish with another one, and the tensors bound to their inputs. */
export interface FinishedKernels {
  readonly specs: readonly KernelSpec[];
  readonly reads: readonly Tensor[];
}

/**
 * The kernels of `inner`, which compute the elementwise `node`, with everything inlined into it, of each
 * element before they store it; null where an operand has another shape than `inner`, and is
 * no vector of its columns or a single number.
 */
export function finishedKernels(
  node: Tensor,
  inner: Tensor,
  inlined: InlinedNodes,
  target: Target,
): FinishedKernels | null {
  const kernels = (finish: Finish) => inner.op.kernels!(inner, target, inner.attrs, finish);
  const width = kernels(PLAIN)[0]!.bindings.at(-1)!.type === "vec4f" ? 4 : 1;
  const { shape } = node;
  if (shape.at(-1) !== inner.shape.at(-1) || node.size !== inner.size) return null;
  const cluster = new Cluster(shape, inlined);
  const { lines, value } = cluster.write(node);
  const around = elementsOf(cluster, shape, width, inner);
  if (!around) return null;
  const { bindings, reads, loads, own } = around;
  const finish: Finish = {
    load: loads,
    store: (at, result, suffix = "") => {
      const values = ["to", result, ...own.map((name) => name + suffix)].join(", ");
      return `{ let to = ${at}; y[to] = finished(${values}); }`;
    },
  };
  const extended = extending(cluster, around, "finished", ["result: T"], { lines, value });
  const specs = kernels(finish).map((spec) => ({
    ...extended(spec, node.size),
    bindings: [...spec.bindings.slice(0, -1), ...bindings, spec.bindings.at(-1)!],
  }));
  return { specs, reads: [...inner.inputs.map(inMemory), ...reads] };
}

/**
 * The `kernels` of a node that compute its first input, which is inlined, of each element as they load it;
 * null where an operand has another shape than that, and is no vector of its columns or a single number.
 */
export function startedKernels(
  node: Tensor,
  inlined: InlinedNodes,
  kernels: (start?: Start) => KernelSpec[],
): FinishedKernels | null {
  const [x] = node.inputs as [Tensor];
  const width = kernels()[0]!.bindings[0]!.type === "vec4f" ? 4 : 1;
  const cluster = new Cluster(x.shape, inlined);
  const { lines, value } = cluster.write(x);
  const around = elementsOf(cluster, x.shape, width);
  if (!around) return null;
  const { bindings, reads, loads, own } = around;
  const start: Start = { load: loads, value: (at) => `started(${[at, ...own].join(", ")})` };
  const extended = extending(cluster, around, "started", [], { lines, value });
  const specs = kernels(start).map((spec) => ({
    ...extended(spec, x.size),
    bindings: [...bindings, ...spec.bindings.slice(1)],
  }));
  return { specs, reads: [...reads, ...node.inputs.slice(1).map(inMemory)] };
}

/** How a kernel gets the operands of a cluster, element by element. */
type Around = NonNullable<ReturnType<typeof elementsOf>>;

/** Extends kernels by a WGSL function of a place, the parameters `more`, and what is loaded by column. */
function extending(
  cluster: Cluster,
  { byPlace, parameters, numbers, width }: Around,
  name: string,
  more: readonly string[],
  { lines, value }: { readonly lines: readonly string[]; readonly value: string },
) {
  const declarations = `${cluster.declarations(width)}
fn ${name}(${["at: u32", ...more, ...parameters].join(", ")}) -> T {
${indent([...byPlace, ...lines])}
  return ${value};
}`;
  /** A kernel with it, which calls it for so many elements. */
  return (spec: KernelSpec, elements: number): KernelSpec => ({
    ...spec,
    body: `${declarations}\n${spec.body}`,
    ...some({ ...spec.sizes, ...numbers.fields }, "sizes"),
    ...some({ ...spec.numbers, ...cluster.numbers }, "numbers"),
    flops: (spec.flops ?? 0) + elements * lines.length,
  });
}

/**
 * How a kernel over elements of `shape`, of so many at once, gets the operands of a cluster, but for
 * the one that it has as `result`; null where one is neither of that shape, nor a vector of its columns,
 * nor a single number.
 */
function elementsOf(cluster: Cluster, shape: Shape, width: 1 | 4, result?: Tensor) {
  const axis = shape.length - 1;
  const numbers = new Sizes(), bindings: Binding[] = [], reads: Tensor[] = [];
  /** WGSL of operands: loads by place, loads by column, and the parameters of these. */
  const byPlace: string[] = [], byColumn: ((column: string) => string)[] = [];
  const columnTypes: string[] = [];
  for (const [i, { base, offset, strides }] of cluster.operands.entries()) {
    const flat = isContiguous(shape, { offset, strides });
    if (base === result) {
      if (!flat || offset > 0) return null;
      byPlace.push(`let x${i} = result;`);
      continue;
    }
    const still = strides.every((step, k) => step === 0 || shape[k] === 1);
    const row = !flat && !still &&
      strides.every((step, k) => k === axis ? step === 1 : step === 0 || shape[k] === 1);
    const vector = width === 4 && (flat || row);
    if (!flat && !still && !row || vector && offset % 4 !== 0 || base.dtype === "u8") return null;
    const type = elementType(base.dtype, vector);
    let at = reads.indexOf(base);
    if (at < 0) {
      at = reads.push(base) - 1;
      bindings.push({ name: `f${at}`, type });
    } else if (bindings[at]!.type !== type) return null;
    const start = offset > 0 ? ` + ${numbers.take(offset / (vector ? 4 : 1))}` : "";
    if (flat) {
      byPlace.push(`let x${i} = f${at}[at${start}];`);
    } else {
      const whole = elementType(base.dtype, width === 4);
      byPlace.push(`let x${i} = own${columnTypes.length};`);
      columnTypes.push(whole);
      byColumn.push((column) => `${whole}(f${at}[${row ? column : "0u"}${start}])`);
    }
  }
  const own = columnTypes.map((_, k) => `own${k}`);
  return {
    ...{ bindings, reads, numbers, own, byPlace, width },
    /** WGSL that loads what belongs to a column. */
    loads: (column: string, suffix = "") =>
      byColumn.map((load, k) => `let ${own[k]}${suffix} = ${load(column)};`).join(" "),
    parameters: own.map((name, k) => `${name}: ${columnTypes[k]}`),
  };
}

/** Loads that a thread of a GPU has on the way at a time, and terms that these are for, at most. */
const IN_FLIGHT = 8, MOST_TERMS = 4;

/**
 * So many terms of a reduction at a time that their loads, lines of which `loading` consists, are on the
 * way together; then they are taken up one after the other. Undefined where one term has too many.
 */
function inFlight(loading: readonly string[], taking: readonly string[]): Several | undefined {
  const loads = loading.filter((line) => line.startsWith("let x")).length;
  const count = [MOST_TERMS, 2].find((count) => count * loads <= IN_FLIGHT);
  if (count === undefined) return undefined;
  const terms = Array.from({ length: count }, (_, k) => k), names = /\b(?:r\d*|x\d+)\b/g;
  const loaded = loading.map((line) => line.match(/^let (\w+)/)![1]!);
  const body = [
    ...terms.flatMap((k) => [
      `let rk${k} = r + ${k}u;`,
      ...loading.map((line) => line.replace(names, `$&k${k}`)),
    ]),
    ...terms.map((k) =>
      ["{", ...["r", ...loaded].map((name) => `let ${name} = ${name}k${k};`), ...taking, "}"].join(
        " ",
      )
    ),
  ];
  return { count, body: indent(body, 8) };
}

/** What a reduction's kernel computes besides it. */
export interface Company {
  /** Further results, from those of the reduction. */
  readonly also?: readonly Result[];
  /** Whether only these read what is reduced to, so that it needs no memory. */
  readonly bare?: boolean | undefined;
  /** A node of the input's shape, inlined into the kernel, which is stored on the way. */
  readonly along?: Tensor | undefined;
}

/** The kernel of a reduction node, its input computed from what is inlined into it. */
export function reductionKernel(
  node: Tensor,
  inlined: InlinedNodes,
  target: Target,
): GeneratedKernel;
/** … and of more; null where that does not fit. Results are first those of the reduction. */
export function reductionKernel(
  node: Tensor,
  inlined: InlinedNodes,
  target: Target,
  company: Company,
): GeneratedKernel | null;
export function reductionKernel(
  node: Tensor,
  inlined: InlinedNodes,
  target: Target,
  { also = [], bare = false, along }: Company = {},
): GeneratedKernel | null {
  const input = node.inputs[0]!;
  const { axes: reduced, chunks, sums, init = "", step, results, sizes: given } = node.op
    .reduction!(node, node.attrs);
  const cluster = new Cluster(input.shape, inlined);
  const written = node.inputs.map((x) => cluster.write(x, inlined.has(x)));
  const lines = written.flatMap(({ lines }) => lines);
  const values = written.map(({ value }, i) => `let ${"vw"[i]} = ${value};`);
  const first = reduced[0] ?? 0, end = (reduced.at(-1) ?? -1) + 1;
  const { operands } = cluster, loaded = operands.length;
  if (along) operands.push({ base: along, offset: 0, strides: stridesOf(along.shape) });
  const all = collapse(input.shape, operands.map((x) => x.strides), [first, end]);
  const outer = all.filter(({ at }) => at < first);
  const middle = all.filter(({ at }) => at >= first && at < end);
  const inner = all.filter(({ at }) => at >= end);
  const width = inner.length > 0 && vectorizes(all, operands) ? 4 : 1;
  const numbers = new Sizes();
  const loads = new Loads(all, operands, width, numbers, along && { base: along, name: "e" });
  const sizes = (axes: readonly Axis[]) => axes.map((axis) => axis.size);
  const kept = sizes([...outer, ...inner]);
  if (inner.length > 0) kept[kept.length - 1]! /= width;
  const threads = sizeOf(kept), length = sizeOf(sizes(middle)), each = Math.ceil(length / chunks);
  const index = [
    ...outer.map((_, k) => `o${k}`),
    ...middle.map((_, k) => `r${k}`),
    ...inner.map((_, k) => `o${outer.length + k}`),
  ];
  const type = elementType(node.dtype, width === 4);
  // Operands that are the same for all terms of a thread are loaded before the loop.
  const loadsWhere = (inLoop: boolean) =>
    operands.slice(0, loaded).flatMap((_, i) =>
      middle.some((axis) => axis.steps[i] !== 0) === inLoop ? [loads.load(i, index)] : []
    );
  const further = new Further(cluster, loads.bindings, loads.reads, width, numbers);
  further.give(node, results.map((_, k) => `p${k}`));
  if (!further.take(also)) return null;
  const before = [...split(kept, "at", (k) => `o${k}`, numbers), ...loadsWhere(false)];
  const loading = [...split(sizes(middle), "r", (k) => `r${k}`, numbers), ...loadsWhere(true)];
  const taking = [
    ...lines,
    ...along ? [`${loads.at(loaded, index)} = ${cluster.nameOf(along)};`] : [],
    values.join(" "),
    step,
  ];
  const several = isWide(target) ? inFlight(loading, taking) : undefined;
  const spec = perFewThreads(
    [
      ...loads.bindings,
      ...bare ? [] : [{ name: "y", type, write: true } as const],
      ...further.writes,
      ...along ? [{ name: "e", type, write: true } as const] : [],
    ],
    threads * chunks,
    target,
    `  let chunk = i / z.threads; let at = i % z.threads;
${indent(before)}
  ${sums.map((name) => `var ${name} = T(0.0);`).join(" ")} ${init}
  let end = min(chunk * z.each + z.each, z.length);
${
      summing(
        sums,
        "T",
        { index: "r", from: "chunk * z.each", end: "end", most: each, several },
        indent([...loading, ...taking], 8),
      )
    }
${
      indent([
        ...results.map((result, k) => `let p${k} = ${result};`),
        ...bare ? [] : results.map((_, k) => `y[i + ${k}u * z.count] = p${k};`),
        ...further.lines(),
      ])
    }`,
    {
      declarations: cluster.declarations(width),
      sizes: { threads, each, length, ...given, ...numbers.fields },
      numbers: cluster.numbers,
    },
  );
  const flops = input.size * (lines.length + 1) + further.flops;
  return { spec: { ...spec, flops }, reads: loads.reads };
}

/** One of the results of a kernel. */
export interface Result {
  readonly node: Tensor;
  /** The variable that it goes to, if any: it is read and written through one binding. */
  readonly own?: Tensor | undefined;
  /** Whether only results of the same kernel read it, so that it needs no memory. */
  readonly bare?: boolean;
}

/**
 * Further results of a kernel, element `i` of each from element `i` of its operands: of tensors in
 * memory, or of what the kernel has in `give`n names. They take over the kernel's constants, bindings
 * and sizes.
 */
class Further extends Cluster {
  /** Bindings of the results. */
  readonly writes: Binding[] = [];
  readonly #loads: string[] = [];
  readonly #body: string[] = [];
  readonly #stores: string[] = [];
  readonly #values = new Map<Tensor, readonly string[]>();
  readonly #loaded = new Map<string, string>();
  #own: { readonly base: Tensor; readonly name: string } | undefined;
  #fits = true;
  /** Operations of all results. */
  flops = 0;

  constructor(
    head: Cluster,
    readonly bindings: Binding[],
    readonly reads: Tensor[],
    readonly width: 1 | 4,
    readonly sizes: Sizes,
  ) {
    super([], head.inlined, head.constants, head.functions);
  }

  /** Names of the values of a tensor's planes. */
  give(node: Tensor, names: readonly string[]): void {
    this.#values.set(node, names);
  }

  /** Adds results; false if one cannot be had this way. */
  take(results: readonly Result[]): boolean {
    for (const { node, own, bare } of results) {
      const name = `also${this.writes.length}`;
      if (!bare) {
        this.writes.push({ name, type: elementType(node.dtype, this.width === 4), write: true });
      }
      this.shape = node.shape;
      this.#own = own && { base: own, name };
      const { lines, value } = this.write(node);
      this.#body.push(...lines);
      if (!bare) this.#stores.push(`${name}[i] = ${value};`);
      this.give(node, [value]);
      this.flops += node.size * lines.length;
    }
    return this.#fits;
  }

  /** WGSL: all is read before anything is written. */
  lines(): string[] {
    return [...this.#loads, ...this.#body, ...this.#stores];
  }

  protected override operand(node: Tensor): string {
    const { base, offset, strides } = this.spread(node), { shape, width } = this;
    const size = sizeOf(shape), flat = isContiguous(shape, { offset, strides });
    const planes = this.#values.get(base);
    if (planes) {
      const plane = flat && offset % size === 0 ? planes[offset / size] : undefined;
      if (plane === undefined) this.#fits = false;
      return plane ?? "T(0.0)";
    }
    const repeated = !flat && shape.every((dim, i) => dim === 1 || strides[i] === 0);
    const step = flat ? width : 1;
    if (!flat && !repeated || offset % step !== 0) this.#fits = false;
    const key = `${base.id} ${offset} ${flat}`;
    const known = this.#loaded.get(key) ?? `f${this.#loaded.size}`;
    if (this.#loaded.has(key)) return known;
    this.#loaded.set(key, known);
    const from = this.#own?.base === base ? this.#own.name : this.#bound(base, flat);
    const at = [...flat ? ["i"] : [], ...offset > 0 ? [this.sizes.take(offset / step)] : []];
    const value = `${from}[${at.join(" + ") || "0u"}]`;
    this.#loads.push(`let ${known} = ${flat ? value : `T(${value})`};`);
    return known;
  }

  /** The binding of a tensor that is read by vectors or not, for which there can be only one. */
  #bound(base: Tensor, flat: boolean): string {
    const type = elementType(base.dtype, flat && this.width === 4);
    let at = this.reads.indexOf(base);
    if (at < 0) {
      at = this.reads.push(base) - 1;
      this.bindings.push({ name: `b${at}`, type });
    }
    const { name, type: bound } = this.bindings[at]!;
    if (bound !== type || base.dtype !== "f32") this.#fits = false;
    return name;
  }
}

/** The kernel of elementwise nodes of one size, each thread an element of all; null where none fits. */
export function jointKernel(
  results: readonly Result[],
  inlined: InlinedNodes,
  target: Target,
): GeneratedKernel | null {
  const { size } = results[0]!.node, width = size % 4 === 0 ? 4 : 1;
  const numbers = new Sizes(), head = new Cluster([], inlined);
  const all = new Further(head, [], [], width, numbers);
  if (!all.take(results)) return null;
  const spec = perThread(
    [...all.bindings, ...all.writes],
    size / width,
    target,
    indent(all.lines()),
    {
      declarations: head.declarations(width),
      sizes: numbers.fields,
      numbers: head.numbers,
    },
  );
  return { spec: { ...spec, flops: all.flops }, reads: all.reads };
}
