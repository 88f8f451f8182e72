/**
 * Kernels: a WGSL body with named bindings becomes a compute pipeline, cached by its source.
 *
 * @module
 */

/** Names of the ways to compute a product; `auto` picks by adapter and shape (`schedule.ts`). */
export type Schedule = "auto" | "naive" | "register" | "subgroup" | "workgroup" | "winograd";

/** Names of schedules by the keys of the problems that they were measured to be best for. */
export type Tuned = Pick<ReadonlyMap<string, string>, "get">;

/** What a kernel may rely on; taken from the device when a plan is compiled. */
export interface Target {
  /** Lanes of a subgroup when they are fixed and usable, else 1. */
  readonly subgroupSize: number;
  /** Whether the shader must say `enable subgroups;` (browsers) or must not (Deno). */
  readonly subgroupsDirective: boolean;
  /** How matrix products are computed. */
  readonly schedule: Schedule;
  /** Choices that were measured, by the keys of their problems (`schedule.ts`); rules decide the rest. */
  readonly tuned?: Tuned;
  /** Storage buffers one kernel can bind. */
  readonly maxStorageBuffers: number;
  /** Workgroups along one dimension of a dispatch. */
  readonly maxWorkgroups: number;
  /** Bytes of one storage binding. */
  readonly maxBindingBytes: number;
}

/** One binding: a WGSL name and the element type of its runtime-sized array. */
export interface Binding {
  /** Name in the WGSL body. */
  readonly name: string;
  /** Element type of the array. */
  readonly type: "f32" | "vec4f" | "u32" | "vec4u";
  /** Whether the kernel writes it; the last binding always is. */
  readonly write?: boolean;
}

/** Bindings by name, in the order given; the last one is written. */
export function arrays(types: Readonly<Record<string, Binding["type"]>>): Binding[] {
  const entries = Object.entries(types);
  return entries.map(([name, type], i) => ({ name, type, write: i === entries.length - 1 }));
}

/** One dispatch: bindings are the op's inputs in order, then its output. */
export interface KernelSpec {
  /** Arrays the body uses: inputs, then outputs. */
  readonly bindings: readonly Binding[];
  /** WGSL without the binding declarations; its entry point is `main`. */
  readonly body: string;
  /** Integers that the body reads as `z.NAME`, u32: what differs between uses of one pipeline. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Grid of workgroups. */
  readonly workgroups: readonly [number, number, number];
  /** Whether the body uses subgroup functions. */
  readonly subgroups?: boolean;
  /** Floating-point operations, for plans and profiles. */
  readonly flops?: number;
}

/** The complete WGSL module of a kernel. */
export function wgsl(spec: KernelSpec, target: Target): string {
  const declarations = spec.bindings.map(({ name, type, write }, i) =>
    `@group(0) @binding(${i}) var<storage, ${
      write ? "read_write" : "read"
    }> ${name}: array<${type}>;`
  );
  const { sizes } = spec;
  if (sizes) {
    const fields = Object.keys(sizes).map((name) => `${name}: u32`).join(", ");
    declarations.push(
      `struct Sizes { ${fields} }`,
      `@group(0) @binding(${spec.bindings.length}) var<uniform> z: Sizes;`,
    );
  }
  const enable = spec.subgroups && target.subgroupsDirective ? "enable subgroups;\n" : "";
  return `${enable}${declarations.join("\n")}\n${spec.body}`;
}

/** Threads of a workgroup in kernels with one thread per result. */
const WORKGROUP = 64;

/**
 * A grid for `threads` threads in workgroups of {@link WORKGROUP}, folded into two dimensions where
 * one is too short. The body gets its number from {@link THREAD_INDEX}.
 */
function grid(threads: number, target: Target): [number, number, number] {
  const groups = Math.ceil(threads / WORKGROUP);
  const x = Math.min(groups, target.maxWorkgroups);
  return [x, Math.ceil(groups / x), 1];
}

/** WGSL parameters of `main` for {@link THREAD_INDEX}. */
const THREAD_PARAMS = `@builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32`;

/** WGSL expression: number of this thread in a {@link grid}. */
const THREAD_INDEX = `(group.y * groups.x + group.x) * ${WORKGROUP}u + local`;

/**
 * A kernel with one thread for each of `threads` results, its number in `i`. With `sizes`, the number
 * of threads is one of them, `z.count`, and the WGSL serves any.
 */
export function perThread(
  bindings: readonly Binding[],
  threads: number,
  target: Target,
  statements: string,
  { declarations = "", sizes }: {
    declarations?: string;
    sizes?: Readonly<Record<string, number>>;
  } = {},
): KernelSpec {
  const body = `${declarations}
@compute @workgroup_size(${WORKGROUP})
fn main(${THREAD_PARAMS}) {
  let i = ${THREAD_INDEX};
  if (i >= ${sizes ? "z.count" : `${threads}u`}) { return; }
${statements}
}`;
  const counted = sizes && { sizes: { count: threads, ...sizes } };
  return { bindings, body, workgroups: grid(threads, target), ...counted };
}
