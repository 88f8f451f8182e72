/**
 * Plans: a graph compiled once into a list of dispatches over buffers assigned by liveness, then
 * replayed with one submit per run.
 *
 * @module
 */

import {
  type BufferRange,
  bytesOf,
  changesOf,
  createBuffer,
  growWorkspace,
  holdConstant,
  noteChange,
  readBuffers,
  releaseConstant,
  variableStorage,
  write,
} from "../device/buffers.ts";
import { checkInstance, checkOptions, refuse, shown } from "../check/arguments.ts";
import { htmlTable, shownAs } from "../check/display.ts";
import { brief, table } from "../check/text.ts";
import { defaultDevice, Device } from "../device/device.ts";
import { BufferUsage } from "../device/flags.ts";
import { uniformOf } from "../kernels/kernel.ts";
import { assignSlots } from "./memory.ts";
import { inMemory } from "./fuse.ts";
import { wholeOf } from "./join.ts";
import {
  type Fixed,
  fixedSteps,
  inputsOf,
  oversized,
  type Part,
  PlanError,
  type Step,
  stepsOf,
} from "./steps.ts";
import { checkList, formatShape, type Shape, ShapeError, sizeOf } from "../graph/shape.ts";
import {
  checkBelow,
  checkTensor,
  checkUpdate,
  constantData,
  type DType,
  inputName,
  type NestedNumbers,
  Tensor,
  type TensorData,
  type Update,
  Variable,
  type VariableStorage,
} from "../graph/tensor.ts";

export { PlanError };

/** Alignment of uniform bindings in bytes: what WebGPU asks of every adapter at most. */
const UNIFORM_ALIGNMENT = 256;

/** What a plan computes, and where. */
export interface PlanOptions {
  /** Tensors whose values can be read after a run; none by default. */
  readonly outputs?: readonly Tensor[];
  /** In-place changes, made after everything else in each run; none by default. */
  readonly updates?: readonly Update[];
  /** Where to run; the default device if absent. */
  readonly device?: Device;
}

/** Values for the inputs of a plan, by name: typed arrays of their element types, row-major. */
export type Feeds = Readonly<Record<string, TensorData>>;

/** Values of f32 tensors are Float32Arrays, of u32 tensors Uint32Arrays. */
export function typedArray(dtype: DType, bytes: ArrayBuffer): TensorData {
  if (dtype === "f32") return new Float32Array(bytes);
  return dtype === "u32" ? new Uint32Array(bytes) : new Uint8Array(bytes);
}

/**
 * A compiled graph, for the shapes that its tensors have. Make one with {@link Plan.compile};
 * `using plan = …`, or `plan[Symbol.dispose]()`, frees it.
 *
 * @example
 * ```ts
 * import { input, Plan, square } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * using plan = await Plan.compile({ outputs: [square(input("x", [2]))] });
 * for (const k of [1, 2, 3]) {
 *   plan.run({ x: new Float32Array([k, -k]) });
 *   assertEquals(await plan.read(), [new Float32Array([k * k, k * k])]);
 * }
 * ```
 */
export class Plan {
  readonly #inputs: ReadonlyMap<string, { node: Tensor; buffer: GPUBuffer }>;
  /** For each input of indices, how many records there are, by how many of its elements it is. */
  readonly #limits: ReadonlyMap<string, ReadonlyMap<number, number>>;
  readonly #owned: readonly GPUBuffer[];
  readonly #pipelines: readonly GPUComputePipeline[];
  /** The uniforms of all kernels, each at its own multiple of the stride. */
  readonly #sizes: GPUBuffer;
  readonly #stride: number;
  readonly #constants: ReadonlyMap<Tensor, GPUBuffer>;
  readonly #variables: readonly Variable[];
  /** Variables that the steps write. */
  readonly #written: readonly Variable[];
  /** The variables' buffers when the fixed steps ran last, and how often these had changed. */
  #fixedFor: readonly (GPUBuffer | number)[] | undefined;
  /** Where intermediate values live: the device's, but for plans that run in parts. */
  readonly #workspace: Device["workspace"];
  #groups: GPUBindGroup[] = [];
  #bound: (GPUBuffer | VariableStorage | undefined)[] = [];
  #disposed = false;

  private constructor(
    /** Where the plan runs. */
    readonly device: Device,
    /** The dispatches, in order. */
    readonly steps: readonly Step[],
    /** For each output asked for: the tensor in memory that holds it, and its shape. */
    readonly outputs: readonly { node: Tensor; shape: readonly number[] }[],
    /**
     * Where tensors live: in buffers of the plan's own, in workspace slots, or inside packed tensors.
     * @internal
     */
    readonly placed: {
      readonly pinned: ReadonlyMap<Tensor, GPUBuffer>;
      readonly slotOf: ReadonlyMap<Tensor, number>;
      readonly slotSizes: readonly number[];
      readonly parts: ReadonlyMap<Tensor, Part>;
    },
    inputs: ReadonlyMap<string, Tensor>,
    /**
     * What is computed only when a variable has changed.
     * @internal
     */
    readonly fixed: Fixed,
    workspace: Device["workspace"],
  ) {
    this.#workspace = workspace;
    this.#inputs = new Map([...inputs].map(([name, node]) => [name, {
      node,
      buffer: placed.pinned.get(node)!,
    }]));
    this.#limits = limitsOf(steps);
    const uniforms = steps.map(({ spec }) => uniformOf(spec));
    const longest = uniforms.reduce((most, { byteLength }) => Math.max(most, byteLength), 1);
    this.#stride = Math.ceil(longest / UNIFORM_ALIGNMENT) * UNIFORM_ALIGNMENT;
    this.#sizes = device.createBuffer({
      size: (steps.length + 1) * this.#stride,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
      label: "sizes of kernels",
    });
    const sizes = new Uint32Array(this.#sizes.size / 4);
    uniforms.forEach((words, i) => sizes.set(words, i * this.#stride / 4));
    write(device, this.#sizes, 0, sizes);
    this.#owned = [...placed.pinned.values(), this.#sizes];
    const bound = new Set(steps.flatMap(({ reads, writes }) => [...reads, ...writes]));
    this.#variables = [...bound].filter((x) => x instanceof Variable);
    this.#written = [...new Set(steps.flatMap(({ writes }) => writes))].filter((x) =>
      x instanceof Variable
    );
    const given = new Set([...bound, ...outputs.map(({ node }) => node)]);
    this.#constants = new Map(
      [...given].filter(constantData).map((node) => [node, holdConstant(device, node)]),
    );
    this.#pipelines = device.pipelines(labelled(steps));
  }

  /**
   * Compiles `outputs` and `updates` for a device: memory, pipelines, bind groups.
   *
   * @param options what is computed, and where
   * @param workspace buffers for intermediate values; by default those of the device, which plans
   * share
   * @throws {ArgumentError} for an option that cannot be.
   * @throws {ShapeError} if the value of an update does not fit its variable.
   * @throws {PlanError} if a tensor exceeds what one buffer of the device holds, two inputs have
   * the same name, or two updates the same target.
   * @throws {DeviceError} if there is no device, or it refuses a kernel or is out of memory.
   *
   * @example
   * ```ts
   * import { input, mul, Plan } from "@resnette/resnette";
   * import { assertEquals } from "@std/assert";
   *
   * using plan = await Plan.compile({ outputs: [mul(input("x", [3]), 2)] });
   * plan.run({ x: new Float32Array([1, 2, 3]) });
   * assertEquals(await plan.read(), [new Float32Array([2, 4, 6])]);
   * ```
   */
  static async compile(options: PlanOptions, workspace?: Device["workspace"]): Promise<Plan> {
    checkOptions("plan", options, ["outputs", "updates", "device"]);
    const { outputs = [], updates = [], device = await defaultDevice() } = options;
    checkInstance("plan", "device", device, Device);
    checkList("plan", "outputs", outputs);
    outputs.forEach((x, i) => checkTensor("plan", `outputs[${i}]`, x));
    checkUpdates(updates);
    const order = stepsOf(outputs, updates, device.target);
    const { steps, parts } = order;
    const inputs = inputsOf(steps, order.outputs);
    const bytes = (node: Tensor) => bytesOf(node.dtype, node.size);
    const fixed = fixedSteps(order);
    const kept = new Set<Tensor>([
      ...inputs.values(),
      ...fixed.kept,
      ...order.outputs.filter((x) => !(x instanceof Variable) && !constantData(x)),
      ...[...parts.values()].map((part) => part.whole),
    ]);
    const over = oversized(order, device.target);
    if (over) {
      const wayOut = over.largest
        ? `its first dimension can be at most ${over.largest}`
        : "take a smaller network";
      throw new PlanError(`plan: tensor ${over.what}; ${wayOut}`, over.largest);
    }
    for (const { name, node, spec } of steps) {
      if (spec.workgroups.every((count) => count <= device.target.maxWorkgroups)) continue;
      throw new PlanError(
        `plan: ${name} ${formatShape(node.shape)} needs ${
          spec.workgroups.join(" × ")
        } workgroups, ` +
          `more than this adapter's ${device.target.maxWorkgroups} along one axis; make it smaller`,
      );
    }
    const managed = (x: Tensor) => !kept.has(x) && !parts.has(x) && !(x instanceof Variable);
    const { slotOf, sizes } = assignSlots(steps, managed, bytes);
    await device.compileAhead(labelled(steps));
    return await device.inTurn(() =>
      device.checked("plan", () => {
        const pinned = new Map([...kept].map((x) => [x, createBuffer(device, bytes(x), `${x}`)]));
        const results = order.outputs.map((node, i) => ({ node, shape: outputs[i]!.shape }));
        const plan = new Plan(
          device,
          steps,
          results,
          { pinned, slotOf, slotSizes: sizes, parts },
          inputs,
          fixed,
          workspace ?? device.workspace,
        );
        plan.#bind();
        return plan;
      })
    );
  }

  /**
   * Runs the plan once, in one submit, without waiting for it: {@link Plan.read} waits. All inputs
   * are given in each run, and their values are copied.
   *
   * @throws {PlanError} if an input is missing, unknown, or of another type or size, or if the plan
   * was disposed.
   * @throws {ArgumentError} if an index or a label is out of range.
   * @throws {DeviceError} if the device was lost.
   */
  run(feeds: Feeds = {}): void {
    this.#feed(feeds);
    const encoder = this.device.gpu.createCommandEncoder();
    const fixedFor = this.#fixedNow(), known = this.#fixedFor;
    const isFixed = known !== undefined && fixedFor.every((x, i) => x === known[i]);
    this.#encode(
      encoder,
      [...this.steps.keys()].filter((i) => !isFixed || !this.fixed.steps.has(i)),
    );
    this.device.gpu.queue.submit([encoder.finish()]);
    this.#fixedFor = fixedFor;
    this.#noteChanges(true);
  }

  /**
   * A run in parts, which the caller submits in their order, with nothing between that uses the
   * workspace: part `k` ends before the step `ends[k]`, and with what `after` encodes behind it.
   * @internal
   */
  runParts(
    feeds: Feeds,
    ends: readonly number[],
    after: (encoder: GPUCommandEncoder, part: number) => void,
  ): GPUCommandBuffer[] {
    this.#feed(feeds);
    this.#noteChanges(true);
    return ends.map((end, k) => {
      const encoder = this.device.gpu.createCommandEncoder(), first = ends[k - 1] ?? 0;
      const steps = Array.from({ length: end - first }, (_, i) => first + i);
      this.#encode(encoder, steps);
      after(encoder, k);
      return encoder.finish();
    });
  }

  /** Writes the values of the inputs. */
  #feed(feeds: Feeds): void {
    this.#ready();
    if (typeof feeds !== "object" || !feeds) refuse("run", "feeds", "an object", feeds);
    for (const name of Object.keys(feeds)) {
      if (!this.#inputs.has(name)) throw new PlanError(`run: the plan has no input "${name}"`);
    }
    for (const [name, { node, buffer }] of this.#inputs) {
      const data = Object.hasOwn(feeds, name) ? feeds[name] : undefined;
      if (data === undefined) throw new PlanError(`run: input "${name}", ${node}, is not given`);
      const wanted = typedArray(node.dtype, new ArrayBuffer(0)).constructor;
      if (data?.constructor !== wanted || data.length !== node.size) {
        throw new PlanError(
          `run: input "${name}", ${node}, wants a ${wanted.name} of ${node.size}, got ${
            shown(data)
          }`,
        );
      }
      this.#limits.get(name)?.forEach((limit, size) =>
        checkBelow("run", `input "${name}"`, data.subarray(0, size) as TensorData, limit)
      );
      write(this.device, buffer, 0, data);
    }
  }

  /** The buffers of the variables that fixed steps read, and how often they have changed. */
  #fixedNow(): (GPUBuffer | number)[] {
    return this.fixed.variables.flatMap((x) => {
      const { buffer } = variableStorage(this.device, x);
      return [buffer, changesOf(buffer)];
    });
  }

  /** Notes that the variables which the steps write change: now, or whenever this is submitted. */
  #noteChanges(submitted: boolean): void {
    for (const x of this.#written) {
      noteChange(variableStorage(this.device, x).buffer, submitted);
    }
  }

  /**
   * Encodes a run as one pass, `times` over (once by default), or only its step `step`, as a
   * profile does. Inputs are those of the latest run; a step alone reads the values that the steps
   * before it left.
   *
   * @throws {PlanError} if the plan was disposed.
   * @throws {DeviceError} if the device was lost.
   */
  encode(
    encoder: GPUCommandEncoder,
    { step, times = 1, ...descriptor }: GPUComputePassDescriptor & {
      step?: number;
      times?: number;
    } = {},
  ): void {
    this.#ready();
    const indices = step === undefined ? [...this.steps.keys()] : [step];
    this.#noteChanges(false);
    this.#encode(encoder, indices, descriptor, times);
  }

  /** Encodes a pass of some steps, once it is ready. */
  #encode(
    encoder: GPUCommandEncoder,
    steps: readonly number[],
    descriptor?: GPUComputePassDescriptor,
    times = 1,
  ): void {
    const pass = encoder.beginComputePass(descriptor);
    let set: GPUComputePipeline | undefined;
    for (let k = 0; k < times; k++) {
      for (const i of steps) {
        const pipeline = this.#pipelines[i]!;
        if (pipeline !== set) pass.setPipeline(set = pipeline);
        pass.setBindGroup(0, this.#groups[i]!);
        pass.dispatchWorkgroups(...this.steps[i]!.spec.workgroups);
      }
    }
    pass.end();
  }

  /**
   * Values of the outputs in the latest run, in the order of `outputs`, each row-major in a typed
   * array; of a variable, those before its update.
   *
   * @throws {PlanError} if the plan was disposed.
   * @throws {DeviceError} if the device refused the run, or was lost.
   */
  async read(): Promise<TensorData[]> {
    this.#use();
    const ranges = this.outputs.map(({ node }) => this.#range(node));
    const values = await readBuffers(this.device, ranges);
    return this.outputs.map(({ node, shape }, i) =>
      // The tensor in memory may be longer than the output: whole words, or a whole of slices.
      typedArray(node.dtype, values[i]!).subarray(0, sizeOf(shape)) as TensorData
    );
  }

  /**
   * The number in the first output of the latest run, which has one element, such as a loss.
   *
   * @throws {ShapeError} if there is no output, or the first has more elements than one.
   * @throws {DeviceError} if the device refused the run, or was lost.
   *
   * @example
   * ```ts
   * import { mean, Plan, tensor } from "@resnette/resnette";
   * import { assertEquals } from "@std/assert";
   *
   * using plan = await Plan.compile({ outputs: [mean(tensor([1, 2, 6]))] });
   * plan.run();
   * assertEquals(await plan.item(), 3);
   * ```
   */
  async item(): Promise<number> {
    const [first] = this.outputs;
    if (!first || sizeOf(first.shape) !== 1) {
      const has = first ? `the first is ${formatShape(first.shape)}` : "the plan has none";
      throw new ShapeError(`item: wants an output of one element, and ${has}`);
    }
    return (await this.read())[0]![0]!;
  }

  /**
   * Resolves when everything submitted to the device so far has run.
   *
   * @throws {DeviceError} if the device refused some of it, or was lost.
   */
  async finished(): Promise<void> {
    await this.device.finished();
  }

  /** Floating-point operations of one run. */
  get flops(): number {
    return this.steps.reduce((sum, { spec }) => sum + (spec.flops ?? 0), 0);
  }

  /** Bytes of workspace and of buffers of its own; variables and constants are not counted. */
  get bytes(): number {
    const own = this.#owned.reduce((sum, buffer) => sum + buffer.size, 0);
    return this.placed.slotSizes.reduce((sum, size) => sum + size, own);
  }

  /** A table of the dispatches: name, shape, bytes moved, floating-point operations. */
  toString(): string {
    const lines = table(this.#rows(), (column) => column === 0 || column > 2);
    return lines ? `${lines}\n${this.#total()}` : this.#total();
  }

  /** Shown by a notebook: the same. */
  [Symbol.for("Jupyter.display")](): Record<string, string> {
    const heads = ["", "kernel", "shape", "bytes", "operations"];
    const rows = htmlTable(heads, this.#rows(), 3);
    const total = `<summary>${this.#total()}</summary>`;
    return shownAs(`${this}`, `<details>${total}${rows}</details>`);
  }

  #rows(): string[][] {
    return this.steps.map(({ name, node, spec, reads, writes }, k) => {
      const moved = [...reads, ...writes].reduce((sum, x) => sum + bytesOf(x.dtype, x.size), 0);
      return [
        `${k}`,
        brief(name, 39),
        formatShape(node.shape),
        `${(moved / 1e6).toFixed(3)} MB`,
        `${((spec.flops ?? 0) / 1e6).toFixed(3)} MFLOP`,
      ];
    });
  }

  #total(): string {
    return `${this.steps.length} dispatches, ${(this.flops / 1e9).toFixed(3)} GFLOP, ` +
      `${(this.bytes / 1e6).toFixed(1)} MB of buffers`;
  }

  /**
   * Frees the plan's own buffers, and constants that no other plan uses. The shared workspace stays
   * for other plans.
   */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#owned.forEach((buffer) => buffer.destroy());
    this.#constants.forEach((_, node) => releaseConstant(this.device, node));
  }

  #use(): void {
    if (this.#disposed) throw new PlanError("this plan was disposed; compile a new one");
    this.device.check();
  }

  /** Makes the bind groups again if they must be. */
  #ready(): void {
    this.#use();
    if (this.#moved()) this.#bind();
  }

  /** Where a tensor's elements are now. */
  #range(node: Tensor): BufferRange {
    const bytes = bytesOf(node.dtype, node.size);
    if (node instanceof Variable) {
      const { buffer, offset } = variableStorage(this.device, node);
      return { buffer, offset, bytes };
    }
    const { pinned, slotOf, parts } = this.placed;
    const part = parts.get(node);
    if (part) return { buffer: pinned.get(part.whole)!, offset: part.offset * 4, bytes };
    const buffer = this.#constants.get(node) ?? pinned.get(node) ??
      this.#workspace[slotOf.get(node)!]!.buffer;
    return { buffer, offset: 0, bytes };
  }

  /** What may have moved since the bind groups were made: workspace buffers and variables. */
  #places(): (GPUBuffer | VariableStorage | undefined)[] {
    const used = this.placed.slotSizes.map((_, slot) => this.#workspace[slot]?.buffer);
    return [...used, ...this.#variables.map((x) => variableStorage(this.device, x))];
  }

  #moved(): boolean {
    return this.#places().some((place, i) => place !== this.#bound[i]);
  }

  #bind(): void {
    checkApart(this.steps);
    growWorkspace(this.device, this.placed.slotSizes, this.#workspace);
    this.#bound = this.#places();
    // Where there was no memory for the workspace, nothing was computed.
    this.#fixedFor = undefined;
    this.#groups = this.steps.map(({ spec, reads, writes }, i) => {
      const ranges = [...reads, ...writes].map((node) => this.#range(node));
      if (spec.sizes || spec.numbers) {
        ranges.push({ buffer: this.#sizes, offset: i * this.#stride, bytes: this.#stride });
      }
      return this.device.gpu.createBindGroup({
        layout: this.#pipelines[i]!.getBindGroupLayout(0),
        entries: ranges.map(({ buffer, offset, bytes }, binding) => ({
          binding,
          resource: { buffer, offset, size: bytes },
        })),
      });
    });
  }
}

/**
 * Throws if variables that a step reads, and one that it writes, have come to lie in one buffer since the
 * plan was compiled: WebGPU refuses that.
 */
function checkApart(steps: readonly Step[]): void {
  for (const { reads, writes } of steps) {
    const written = new Set(writes.filter((x) => x instanceof Variable).map(wholeOf));
    const read = reads.find((x) => x instanceof Variable && written.has(wholeOf(x)));
    if (!read) continue;
    throw new PlanError(
      `plan: ${read} now lies beside a variable that is made of it, since an optimizer has both; ` +
        "compile the plan again",
    );
  }
}

/** The kernels of steps, with what they are called in a driver's messages. */
const labelled = (steps: readonly Step[]) =>
  steps.map(({ spec, name, node, scope: { layer } }) =>
    [spec, `${name} ${formatShape(node.shape)}${layer && ` of ${layer}`}`] as const
  );

/** Throws unless `updates` is a list of updates of variables. */
function checkUpdates(updates: readonly Update[]): void {
  checkList("plan", "updates", updates);
  updates.forEach((update, i) => checkUpdate("plan", `updates[${i}]`, update));
}

/**
 * For each input of indices, how many records there are: the fewest, if several ops read it. By the size
 * of what they read, its first elements.
 */
function limitsOf(steps: readonly Step[]): Map<string, Map<number, number>> {
  const limits = new Map<string, Map<number, number>>();
  for (const { node } of steps) {
    node.op.below?.(node).forEach((limit, i) => {
      const x = node.inputs[i]!, name = inputName(inMemory(x));
      if (limit === undefined || name === undefined) return;
      const known = limits.get(name) ?? new Map<number, number>();
      limits.set(name, known.set(x.size, Math.min(known.get(x.size) ?? Infinity, limit)));
    });
  }
  return limits;
}

/**
 * Values of a tensor, row-major in an array of its type ({@link toList} gives lists), or of several
 * tensors at once. It compiles a plan, runs it once and disposes of it; to compute the same again
 * and again, keep a {@link Plan}.
 *
 * @param x a tensor, or a list of them
 * @param feeds values of the inputs that they depend on, by name
 * @param device where to compute; {@link defaultDevice} if absent
 * @throws {ArgumentError} if `x` is no tensor, or an index or a label is out of range.
 * @throws {PlanError} if an input is missing, or a tensor exceeds a buffer of the device.
 * @throws {DeviceError} if there is no device, or it is lost or out of memory.
 *
 * @example
 * ```ts
 * import { add, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const y = add(tensor([1, 2]), 10);
 * assertEquals(await evaluate(y), new Float32Array([11, 12]));
 * ```
 */
export async function evaluate(x: Tensor, feeds?: Feeds, device?: Device): Promise<TensorData>;
/** Values of several tensors, in order: one plan for all. */
export async function evaluate(
  x: readonly Tensor[],
  feeds?: Feeds,
  device?: Device,
): Promise<TensorData[]>;
export async function evaluate(
  x: Tensor | readonly Tensor[],
  feeds: Feeds = {},
  device?: Device,
): Promise<TensorData | TensorData[]> {
  const outputs = x instanceof Tensor ? [x] : x;
  if (!Array.isArray(outputs)) refuse("evaluate", "x", "a tensor or a list of them", x);
  if (device !== undefined) checkInstance("evaluate", "device", device, Device);
  const plan = await Plan.compile({ outputs, ...device && { device } });
  try {
    plan.run(feeds);
    const values = await plan.read();
    return x instanceof Tensor ? values[0]! : values;
  } finally {
    plan[Symbol.dispose]();
  }
}

/**
 * The number in a tensor of one element, computed as {@link evaluate} does
 * ({@link https://pytorch.org/docs/stable/generated/torch.Tensor.item.html | PyTorch}).
 *
 * @throws {ShapeError} if `x` has more elements than one.
 *
 * @example
 * ```ts
 * import { item, mean, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await item(mean(tensor([1, 2, 6]))), 3);
 * ```
 */
export async function item(x: Tensor, feeds?: Feeds, device?: Device): Promise<number> {
  checkTensor("item", "x", x);
  if (x.size !== 1) throw new ShapeError(`item: wants a tensor of one element, got ${x}`);
  return (await evaluate(x, feeds, device))[0]!;
}

/**
 * The numbers of a tensor in nested lists, one depth for each dimension, computed as
 * {@link evaluate} does; of a scalar, the number
 * ({@link https://pytorch.org/docs/stable/generated/torch.Tensor.tolist.html | PyTorch's tolist}).
 *
 * @example
 * ```ts
 * import { mul, tensor, toList } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await toList(mul(tensor([[1, 2], [3, 4]]), 10)), [[10, 20], [30, 40]]);
 * ```
 */
export async function toList(x: Tensor, feeds?: Feeds, device?: Device): Promise<NestedNumbers> {
  checkTensor("toList", "x", x);
  return nested(await evaluate(x, feeds, device), x.shape);
}

/** Row-major values in lists of the sizes of `shape`. */
function nested(values: TensorData, [size, ...rest]: Shape): NestedNumbers {
  if (size === undefined) return values[0]!;
  if (rest.length === 0) return [...values];
  const each = values.length / size;
  return Array.from(
    { length: size },
    (_, i) => nested(values.slice(i * each, (i + 1) * each), rest),
  );
}
