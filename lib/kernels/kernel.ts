/**
 * Kernels: a WGSL body with named bindings, and pieces to write one with. A device makes a compute
 * pipeline of it, and caches that by its source.
 *
 * @module
 */

import {
  checkChoice,
  checkNumber,
  checkObject,
  checkOptions,
  checkString,
  checkValues,
  refuse,
} from "../check/arguments.ts";

/**
 * Kinds of kernels for products and convolutions. `auto` picks by adapter and shape. `naive` has a
 * thread for each result, and is the reference. `register` has tiles in a thread's registers; the
 * threads of a `subgroup` or a `workgroup` share theirs. `winograd` transforms 3×3 convolutions of
 * stride 1, and is `auto` for the rest.
 */
export type KernelChoice = "auto" | "naive" | "register" | "subgroup" | "workgroup" | "winograd";

/** Names of candidates by the keys of the problems that they were measured to be best for. */
export type Tuned = Pick<ReadonlyMap<string, string>, "get">;

/** What a kernel may rely on; taken from the device when a plan is compiled. */
export interface Target {
  /** Lanes of a subgroup when they are fixed and usable, else 1. */
  readonly subgroupSize: number;
  /** Whether the shader must say `enable subgroups;` (browsers) or must not (Deno). */
  readonly subgroupsDirective: boolean;
  /** Kind of kernels for products and convolutions. */
  readonly choice: KernelChoice;
  /** Choices that were measured, by the keys of their problems; rules decide the rest. */
  readonly tuned?: Tuned;
  /** Storage buffers one kernel can bind. */
  readonly maxStorageBuffers: number;
  /** Workgroups along one dimension of a dispatch. */
  readonly maxWorkgroups: number;
  /** Bytes of one storage binding. */
  readonly maxBindingBytes: number;
}

/**
 * Whether a target runs so many threads at once that they wait for each other's loads: a GPU. Software
 * adapters have fixed subgroups of a few lanes. Tests see the kernels of GPUs by `"workgroup"`.
 */
export const isWide = ({ choice, subgroupSize }: Target): boolean =>
  choice === "workgroup" || subgroupSize === 1 || subgroupSize > 16;

/** One binding: a WGSL name and the element type of its runtime-sized array. */
export interface Binding {
  /** Name in the WGSL body. */
  readonly name: string;
  /** Element type of the array. */
  readonly type: "f32" | "vec4f" | "u32" | "vec4u";
  /** Whether the kernel writes it, as it does its output. */
  readonly write?: boolean;
}

/** The element types of bindings. */
const TYPES: readonly Binding["type"][] = ["f32", "vec4f", "u32", "vec4u"];

/**
 * Bindings of a kernel by name, in the order given: the op's inputs, then its output, which is
 * written.
 *
 * @throws {ArgumentError} for a type that there is not.
 *
 * @example
 * ```ts
 * import { arrays } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const [x, y] = arrays({ x: "f32", y: "f32" });
 * assertEquals([x!.write, y!.write], [false, true]);
 * ```
 */
export function arrays(types: Readonly<Record<string, Binding["type"]>>): Binding[] {
  checkObject("arrays", "types", types);
  const entries = Object.entries(types);
  entries.forEach(([name, type]) => checkChoice("arrays", `types.${name}`, type, TYPES));
  return entries.map(([name, type], i) => ({ name, type, write: i === entries.length - 1 }));
}

/**
 * How a kernel stores its results in `y`, element by element: the planner may put the ops that
 * follow in the graph into it. Columns are those of the last axis; they and places in `y` are
 * counted in elements of the binding `y`.
 */
export interface Finish {
  /** WGSL that loads what belongs to a column into names that end in `suffix`. */
  load(column: string, suffix?: string): string;
  /** WGSL that stores the result `value` of that column at place `at`. */
  store(at: string, value: string, suffix?: string): string;
}

/** Results are stored as they are. */
export const PLAIN: Finish = {
  load: () => "",
  store: (at, value) => `y[${at}] = ${value};`,
};

/**
 * How a kernel gets the elements of its first input: the planner may put the ops before it in the
 * graph into it. Columns and places are counted as in {@link Finish}, in elements of that input's
 * binding.
 */
export interface Start {
  /** WGSL that loads what belongs to a column. */
  load(column: string): string;
  /** WGSL of the element at place `at`. */
  value(at: string): string;
}

/** The input is bound as `x`, and read as it is. */
export const READ: Start = { load: () => "", value: (at) => `x[${at}]` };

/** One dispatch of a kernel; {@link perThread} makes one. */
export interface KernelSpec {
  /** Arrays that the body uses: the op's inputs in order, then its output; see {@link arrays}. */
  readonly bindings: readonly Binding[];
  /** WGSL without the binding declarations; its entry point is `main`. */
  readonly body: string;
  /**
   * Integers that the body reads as `z.NAME`, u32. Kernels that differ only in these are compiled
   * once.
   */
  readonly sizes?: Readonly<Record<string, number>>;
  /** The same for f32 numbers. */
  readonly numbers?: Readonly<Record<string, number>>;
  /** Grid of workgroups. */
  readonly workgroups: readonly [number, number, number];
  /** Whether the body uses subgroup functions. */
  readonly subgroups?: boolean;
  /** Floating-point operations, for plans and profiles. */
  readonly flops?: number;
}

/** Kernels that become one dispatch, at most: what differs between them is chosen among so many. */
const MOST_TOGETHER = 16;

/**
 * Kernels over the same tensors in fewer dispatches, in any order: neighbours of the same WGSL become
 * one, each a part of the third axis of its grid, which has the sizes in which they differ, and those
 * that are called `apart`, so that kernels which differ in fewer have the same WGSL.
 */
export function together(
  specs: readonly KernelSpec[],
  target: Target,
  apart: readonly string[] = [],
): KernelSpec[] {
  const groups = Object.values(Object.groupBy(specs, ({ body }) => body)) as KernelSpec[][];
  return groups.flatMap((all) => {
    const layers = all[0]!.workgroups[2];
    const most = Math.min(MOST_TOGETHER, Math.floor(target.maxWorkgroups / layers));
    return Array.from(
      { length: Math.ceil(all.length / most) },
      (_, i) => joined(all.slice(i * most, (i + 1) * most), apart),
    );
  });
}

/** {@link together} of kernels that have the same WGSL. */
function joined(specs: readonly KernelSpec[], apart: readonly string[]): KernelSpec {
  const [first] = specs as [KernelSpec], sizes = specs.map(({ sizes = {} }) => sizes);
  if (specs.length === 1) return first;
  const [all] = sizes as [Readonly<Record<string, number>>], layers = first.workgroups[2];
  const own = Object.keys(all).filter((name) =>
    apart.includes(name) || sizes.some((of) => of[name] !== all[name])
  );
  const common = Object.entries(all).filter(([name]) => !own.includes(name));
  const phase = (i: number) => `Phase(${own.map((name) => `z.${name}_${i}`).join(", ")})`;
  const choices = specs.map((_, i) => i === 0 ? "" : `if (i == ${i}u) { return ${phase(i)}; }`);
  const body = first.body.replace(
    /\bz\.(\w+)/g,
    (whole, name) => own.includes(name) ? `phase.${name}` : whole,
  ).replace(/\bgroup\.z\b/g, "(group.z % z.layers)")
    .replace(/(fn main\([^{]*\{)/, "$1\n  let phase = phaseOf(group.z / z.layers);");
  return {
    ...first,
    body: `struct Phase { ${own.map((name) => `${name}: u32`).join(", ")} }
fn phaseOf(i: u32) -> Phase {
  ${choices.join(" ")}
  return ${phase(0)};
}
${body}`,
    sizes: {
      ...Object.fromEntries(common),
      layers,
      ...Object.fromEntries(
        sizes.flatMap((of, i) => own.map((name) => [`${name}_${i}`, of[name]!] as const)),
      ),
    },
    workgroups: [
      Math.max(...specs.map(({ workgroups: [x] }) => x)),
      Math.max(...specs.map(({ workgroups: [, y] }) => y)),
      layers * specs.length,
    ],
    flops: specs.reduce((sum, { flops = 0 }) => sum + flops, 0),
  };
}

/** Words of the uniform `z`: the sizes, then the bits of the numbers. */
export function uniformOf({ sizes = {}, numbers = {} }: KernelSpec): Uint32Array<ArrayBuffer> {
  const floats = Object.values(numbers);
  return Uint32Array.of(
    ...Object.values(sizes),
    ...new Uint32Array(Float32Array.from(floats).buffer),
  );
}

/** The complete WGSL module of a kernel. */
export function wgsl(spec: KernelSpec, target: Target): string {
  const declarations = spec.bindings.map(({ name, type, write }, i) =>
    `@group(0) @binding(${i}) var<storage, ${
      write ? "read_write" : "read"
    }> ${name}: array<${type}>;`
  );
  const { sizes = {}, numbers = {} } = spec;
  const fields = [
    ...Object.keys(sizes).map((name) => `${name}: u32`),
    ...Object.keys(numbers).map((name) => `${name}: f32`),
  ];
  if (fields.length > 0) {
    declarations.push(
      `struct Sizes { ${fields.join(", ")} }`,
      `@group(0) @binding(${spec.bindings.length}) var<uniform> z: Sizes;`,
    );
  }
  const enable = spec.subgroups && target.subgroupsDirective ? "enable subgroups;\n" : "";
  return `${enable}${declarations.join("\n")}\n${spec.body}`;
}

/** Terms that are added one after the other before their sum goes to the next level. */
const RUN = 16;
/** Sums that the last level may have to add one after the other, before there is another level. */
export const LAST_RUN = 80;

/** Several terms of a sum, which a thread takes up at a time. */
export interface Several {
  /** How many; they divide {@link RUN}. */
  readonly count: number;
  /** WGSL that takes up those from the index on. */
  readonly body: string;
}

/**
 * WGSL of a loop over `index`, from `from` up to `end` (u32), which are at most `most` apart; its `body`
 * adds to variables that are declared and 0, the `sums` of type `type`. Each {@link RUN} terms are
 * summed on their own, each {@link RUN} of these sums again, and so on: so rounding errors hardly grow
 * with the number of terms (pairwise summation; Higham 1993, "The accuracy of floating point
 * summation"). With `several`, as many terms as can be are taken up at a time.
 */
export function summing(
  sums: readonly string[],
  type: string,
  { index, from, end, most, several }: {
    index: string;
    from: string;
    end: string;
    most: number;
    several?: Several | undefined;
  },
  body: string,
): string {
  let levels = 0;
  while (most > LAST_RUN * RUN ** levels) levels++;
  const each = (line: (sum: string) => string) => sums.map(line).join(" ");
  const name = (of: string, level: number) => level === 0 ? of : `${of}_${level}`;
  const loop = (level: number): string => {
    const i = name(index, level), above = name(index, level + 1), step = RUN ** level;
    const [first, last] = level === levels
      ? [from, end]
      : [above, `min(${above} + ${RUN * step}u, ${end})`];
    if (level === 0) {
      const start = `var ${i} = ${first};`;
      const rest = (start: string) => `  for (${start} ${i} < ${last}; ${i} += 1u) {\n${body}\n  }`;
      return several
        ? `  { ${start} for (; ${i} + ${several.count}u <= ${last}; ${i} += ${several.count}u) {
${several.body}
  }
${rest(";")} }`
        : rest(start);
    }
    return `  for (var ${i} = ${first}; ${i} < ${last}; ${i} += ${step}u) {
${loop(level - 1)}
${
      each((s) => {
        const below = name(s, level - 1);
        return `${name(s, level)} += ${below}; ${below} = ${type}(0.0);`;
      })
    }
  }`;
  };
  const above = Array.from({ length: levels }, (_, k) => k + 1);
  return `  ${each((s) => above.map((k) => `var ${name(s, k)} = ${type}(0.0);`).join(" "))}
${loop(levels)}
  ${levels === 0 ? "" : each((s) => `${s} = ${name(s, levels)};`)}`;
}

/** WGSL types of the bits of floats; `T` and `U` are those of an elementwise expression. */
const BITS = { f32: "u32", vec4f: "vec4u", T: "U" } as const;

/** WGSL: whether `v`, of type `type`, is NaN; by its bits, since drivers fold `v != v` away. */
export function isNaNOf(v: string, type: keyof typeof BITS = "f32"): string {
  const bits = BITS[type];
  return `((bitcast<${bits}>(${v}) & ${bits}(0x7fffffffu)) > ${bits}(0x7f800000u))`;
}

/**
 * WGSL: whether `v`, of type `type`, is negative or -0, and not NaN; by its bits, since drivers make a
 * maximum of `select(v, 0, v <= 0)`, which drops NaN.
 */
export function isNegativeOf(v: string, type: keyof typeof BITS = "f32"): string {
  const bits = BITS[type];
  return `((bitcast<${bits}>(${v}) - ${bits}(0x80000000u)) <= ${bits}(0x7f800000u))`;
}

/** A word, as an unsigned integer or a signed one. */
const WORD = { integer: true, min: -(2 ** 31), below: 2 ** 32 } as const;

/**
 * Threads of a workgroup in kernels with one thread per result. Some GPUs have places for no more than 16
 * workgroups on a core, which take so many threads to fill it.
 */
const workgroupSize = (target: Target) => isWide(target) ? 128 : FEW;
/** The same on software adapters, and where there are so few threads that each core should get some. */
const FEW = 64;

/** A grid for so many workgroups, folded into two dimensions where one is too short. */
function grid(groups: number, target: Target): [number, number, number] {
  const x = Math.min(groups, target.maxWorkgroups);
  return [x, Math.ceil(groups / x), 1];
}

/**
 * A kernel with one thread for each of `threads` results.
 *
 * @param bindings as {@link arrays} makes them
 * @param threads how many threads there are
 * @param target what `kernels` of the op was called with
 * @param statements WGSL that each thread runs; `i` is its number, u32, and `group`, `groups` and
 * `local` are taken
 * @param options WGSL `declarations`, such as functions, to stand before; and `sizes` and
 * `numbers`, as in {@link KernelSpec}. With `sizes`, the number of threads is one of them,
 * `z.count`, so the same WGSL serves any number
 * @throws {ArgumentError} if an argument has another type, or `threads` is no positive integer.
 *
 * @example
 * ```ts
 * import { apply, arrays, evaluate, type Op, perThread, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const Reverse: Op = {
 *   name: "reverse",
 *   shape: ([x]) => x!.shape,
 *   kernels: ({ size }, target) => [
 *     perThread(arrays({ x: "f32", y: "f32" }), size, target, `  y[i] = x[${size - 1}u - i];`),
 *   ],
 * };
 * assertEquals(await evaluate(apply(Reverse, [tensor([1, 2])], {})), new Float32Array([2, 1]));
 * ```
 */
export function perThread(
  bindings: readonly Binding[],
  threads: number,
  target: Target,
  statements: string,
  options: {
    declarations?: string;
    sizes?: Readonly<Record<string, number>>;
    numbers?: Readonly<Record<string, number>>;
  } = {},
): KernelSpec {
  if (!Array.isArray(bindings)) refuse("perThread", "bindings", "a list", bindings);
  for (const binding of bindings as readonly Binding[]) {
    checkObject("perThread", "bindings", binding as unknown);
    checkString("perThread", "bindings.name", binding.name as unknown);
    checkChoice("perThread", "bindings.type", binding.type, TYPES);
  }
  checkNumber("perThread", "threads", threads, { integer: true, min: 1 });
  checkObject("perThread", "target", target);
  const { maxWorkgroups } = target;
  checkNumber("perThread", "target.maxWorkgroups", maxWorkgroups, { integer: true, min: 1 });
  checkString("perThread", "statements", statements);
  checkOptions("perThread", options, ["declarations", "sizes", "numbers"]);
  const { declarations, sizes, numbers } = options;
  if (declarations !== undefined) checkString("perThread", "declarations", declarations);
  if (sizes !== undefined) checkValues("perThread", "sizes", sizes, WORD);
  if (numbers !== undefined) checkValues("perThread", "numbers", numbers);
  return inGroups(workgroupSize(target), bindings, threads, target, statements, options);
}

/** {@link perThread}, for few threads, whose arguments are right. */
export const perFewThreads: typeof perThread = (...args) => inGroups(FEW, ...args);

/** {@link perThread} in workgroups of `size` threads. */
function inGroups(
  size: number,
  ...[bindings, threads, target, statements, options = {}]: Parameters<typeof perThread>
): KernelSpec {
  const { declarations = "", sizes, numbers } = options;
  const body = `${declarations}
@compute @workgroup_size(${size})
fn main(@builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = (group.y * groups.x + group.x) * ${size}u + local;
  if (i >= ${sizes ? "z.count" : `${threads}u`}) { return; }
${statements}
}`;
  return {
    bindings,
    body,
    workgroups: grid(Math.ceil(threads / size), target),
    ...sizes && { sizes: { count: threads, ...sizes } },
    ...numbers && { numbers },
  };
}

/** Two sizes: rows and columns, as a rule. */
export type Two = readonly [number, number];

/** Element type of kernels over rows of `size` numbers, and how many numbers it holds. */
export const vectorOf = (size: number) =>
  size % 4 === 0 ? ["vec4f", 4] as const : ["f32", 1] as const;

/** So many pieces of WGSL, one for each number from 0 on. */
export const times = (count: number, piece: (i: number) => string, separator = "\n"): string =>
  Array.from({ length: count }, (_, i) => piece(i)).join(separator);
