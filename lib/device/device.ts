/**
 * The device: requests an adapter, takes over all of its limits, and finds its quirks by trying.
 *
 * @module
 */

import "../check/dispose.ts";
import { checkChoice, checkInstance, checkOptions, checkString } from "../check/arguments.ts";
import { type KernelChoice, type KernelSpec, type Target, wgsl } from "../kernels/kernel.ts";
import { CHOICES } from "../kernels/choice.ts";
import { BufferUsage, MapMode } from "./flags.ts";

/** No adapter, a lost device, no memory, or a command that the device refused. */
export class DeviceError extends Error {
  /** `"DeviceError"`. */
  override name = "DeviceError";
}

/**
 * Limits that a plan can profit from, and the least that the kernels need; if that is 0, each plan
 * checks the limit. Deno's devices have the defaults unless each limit is requested.
 */
const LIMITS = {
  maxStorageBufferBindingSize: 0,
  maxBufferSize: 0,
  /** Adam's kernel: gradients, numbers, parameters and two states. */
  maxStorageBuffersPerShaderStage: 5,
  /** Two blocks of 256 vectors (`kernels/gemm_workgroup.ts`). */
  maxComputeWorkgroupStorageSize: 8192,
  maxComputeInvocationsPerWorkgroup: 128,
  maxComputeWorkgroupSizeX: 128,
  maxComputeWorkgroupsPerDimension: 0,
} as const;
const LIMIT_NAMES = Object.keys(LIMITS) as (keyof typeof LIMITS)[];

/** Buffers that a kernel binds, at most, where an adapter allows a million: a bind group holds 1000. */
const MOST_BUFFERS = 64;

/** Pipelines that are kept for plans to come, at least: two networks' worth, at a fifth of a MB each. */
const PIPELINES = 256;

/** The errors that are caught: WebGPU in Deno does not report those outside a scope. */
const SCOPES = ["out-of-memory", "internal", "validation"] as const;

/** Something that was done, and that the device may refuse. */
export interface Made {
  /** What to do if the device accepts it … */
  readonly kept?: () => void;
  /** … and how to take it back if not, … */
  readonly refused?: () => void;
  /** … which must not be where others have made use of it. */
  readonly used?: () => boolean;
  /** A buffer, and whether there was no memory for it, as soon as that is known. */
  readonly memory?: { readonly buffer: GPUBuffer; short: boolean; readonly known: Promise<void> };
}

/** What was done between two looks at the errors, and these, by scope. */
interface Span {
  readonly made: readonly Made[];
  readonly errors: Promise<readonly (GPUError | null)[]>;
}

/** Settings of {@link Device.request}. */
export interface DeviceOptions {
  /**
   * Kind of kernels for products and convolutions; `"auto"`, the default, suits adapter and shapes.
   */
  readonly choice?: KernelChoice;
  /**
   * Choices for `"auto"` that `tune`, of `@resnette/resnette/measure`, has put into `device.tuned`
   * of an equal device; none by default.
   */
  readonly tuned?: ReadonlyMap<string, string>;
}

/**
 * A WebGPU device, what is known about it, and the pipelines compiled for it. Most programs use
 * {@link defaultDevice} without naming it.
 *
 * @example
 * ```ts
 * import { add, Device, evaluate, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * using device = await Device.request({ choice: "naive" });
 * assertEquals(await evaluate(add(tensor([1]), 1), {}, device), new Float32Array([2]));
 * ```
 */
export class Device {
  /** What kernels may rely on. */
  readonly target: Target;
  /** Buffers for intermediate values, which plans share. */
  readonly workspace: ({ buffer: GPUBuffer; size: number } | undefined)[] = [];
  /** By their source, the latest used last. */
  readonly #pipelines = new Map<string, GPUComputePipeline>();
  /** What was made since the last look. */
  #made: Made[] = [];
  /** What was done before, if nobody has heard yet whether the device accepts it. */
  #untold: Span[] = [];
  /** Ends when what is made for a plan is accepted, or taken back. */
  #turn: Promise<void> = Promise.resolve();
  /** Rejects each promise that waits for the device. */
  readonly #waiting = new Set<(why: DeviceError) => void>();
  #lost: string | undefined;

  private constructor(
    /** The WebGPU device. */
    readonly gpu: GPUDevice,
    /** The adapter it came from. */
    readonly info: GPUAdapterInfo,
    target: Target,
    /** Choices of kernels, by problem, that plans compiled from now on use: `tune` adds to them. */
    readonly tuned: Map<string, string>,
  ) {
    this.target = { ...target, tuned };
    gpu.lost.then(({ reason, message }) => this.#lose(`${reason || "unknown"}: ${message}`));
    this.#watch();
  }

  /**
   * Asks for the fastest adapter and a device on it, with the adapter's full limits.
   *
   * @throws {ArgumentError} for an option that cannot be.
   * @throws {DeviceError} if there is no adapter, or it cannot run the kernels or gives no device.
   */
  static async request(options: DeviceOptions = {}): Promise<Device> {
    checkOptions("Device.request", options, ["choice", "tuned"]);
    const { choice = "auto", tuned } = options;
    checkChoice("Device.request", "choice", choice, CHOICES);
    if (tuned !== undefined) {
      checkInstance("Device.request", "tuned", tuned, Map);
      for (const word of [...tuned].flat()) checkString("Device.request", "tuned", word);
    }
    const adapter = await requestAdapter();
    checkLimits(adapter);
    let gpu: GPUDevice | undefined;
    try {
      gpu = await requestDevice(adapter);
      const { limits } = gpu;
      const target: Target = {
        choice,
        subgroupSize: 1,
        subgroupsDirective: false,
        maxStorageBuffers: Math.min(limits.maxStorageBuffersPerShaderStage, MOST_BUFFERS),
        maxWorkgroups: limits.maxComputeWorkgroupsPerDimension,
        maxBindingBytes: Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize),
        ...await findSubgroups(gpu, adapter.info),
      };
      return new Device(gpu, adapter.info, target, new Map(tuned));
    } catch (cause) {
      gpu?.destroy();
      throw new DeviceError(
        `${adapterName(adapter.info)} gives no device: ${(cause as Error).message}; ${other()}`,
        { cause },
      );
    }
  }

  /** Whether the adapter computes on the CPU. */
  get software(): boolean {
    return this.info.isFallbackAdapter || /llvmpipe|swiftshader|lavapipe/i.test(this.description);
  }

  /** The adapter's name for itself. */
  get description(): string {
    return adapterName(this.info);
  }

  /** The adapter in words: `llvmpipe (LLVM 15.0.6, 256 bits), a software adapter, …`. */
  toString(): string {
    const { subgroupSize, maxBindingBytes } = this.target;
    return [
      this.description,
      this.software ? "a software adapter (it computes on the CPU)" : "a GPU",
      subgroupSize > 1 ? `subgroups of ${subgroupSize}` : "no subgroups",
      `${Math.floor(maxBindingBytes / 2 ** 20)} MiB per buffer`,
    ].join(", ");
  }

  /**
   * Compiles those of some kernels that are not known yet, beside each other and, in a browser, beside
   * what it draws. What is refused is so again, and told, by {@link Device.pipelines}.
   * @internal
   */
  async compileAhead(kernels: Iterable<readonly [spec: KernelSpec, label: string]>): Promise<void> {
    // Deno compiles while it is asked, one after the other.
    if (inDeno()) return;
    const { gpu } = this, known = this.#pipelines;
    const wanted = new Map(
      Array.from(kernels, ([spec, label]) => [wgsl(spec, this.target), label]),
    );
    const missing = [...wanted].filter(([code]) => !known.has(code));
    if (missing.length === 0) return;
    gpu.pushErrorScope("validation");
    const pending = missing.map(async ([code, label]) => {
      known.set(code, await gpu.createComputePipelineAsync(this.#descriptor(code, label)));
    });
    const all = [popScope(gpu), ...pending];
    await this.settled("plan", () => Promise.allSettled(all));
  }

  /** The compute pipeline of a kernel; `label` stands in the driver's error messages. */
  pipeline(spec: KernelSpec, label: string): GPUComputePipeline {
    return this.pipelines([[spec, label]])[0]!;
  }

  /**
   * The same for all kernels of a plan, which stay, however many: a plan for another batch has them too.
   * @internal
   */
  pipelines(kernels: Iterable<readonly [spec: KernelSpec, label: string]>): GPUComputePipeline[] {
    const known = this.#pipelines, own = new Set<string>();
    const pipelines = Array.from(kernels, ([spec, label]) => {
      const code = wgsl(spec, this.target);
      const pipeline = known.get(code) ??
        this.gpu.createComputePipeline(this.#descriptor(code, label));
      if (!known.delete(code)) this.made({ refused: () => known.delete(code) });
      known.set(code, pipeline);
      own.add(code);
      return pipeline;
    });
    for (const code of known.keys()) {
      if (known.size <= Math.max(PIPELINES, own.size)) break;
      known.delete(code);
    }
    return pipelines;
  }

  #descriptor(code: string, label: string): GPUComputePipelineDescriptor {
    const module = this.gpu.createShaderModule({ label, code });
    return { label, layout: "auto", compute: { module, entryPoint: "main" } };
  }

  /**
   * A buffer; it is destroyed again if the device has no memory for it, or refuses the work that it is
   * made for. `more` is what that is to do besides.
   */
  createBuffer(
    descriptor: GPUBufferDescriptor,
    more: { kept?: () => void; refused?: () => void; used?: () => boolean } = {},
  ): GPUBuffer {
    this.gpu.pushErrorScope("out-of-memory");
    const buffer = this.gpu.createBuffer(descriptor);
    const known = popScope(this.gpu).then((error) => void (memory.short = error !== null));
    const memory = { buffer, short: false, known };
    const refused = () => {
      more.refused?.();
      buffer.destroy();
    };
    this.made({ ...more, refused, memory });
    return buffer;
  }

  /**
   * Notes what the work in hand has changed: `checked` says whether the device accepts it.
   * @internal
   */
  made(change: Made): void {
    this.#made.push(change);
  }

  /**
   * Does `work` once what was given here before is done: if the device refuses that, it is taken back,
   * and nobody else may have made use of it.
   * @internal
   */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.then(() => {}, () => {});
    return result;
  }

  /**
   * Runs `body` and throws the device's errors of that time, or since the last such look: Deno
   * reports them nowhere else. Everything that was made meanwhile is then taken back; of what was made
   * before, that for which there was no memory. `what` names the work in the message.
   *
   * @throws {DeviceError} if the device refused something, has no memory for it, or was lost.
   */
  async checked<T>(what: string, body: () => T): Promise<T> {
    this.check();
    this.#untold.push(this.#look());
    let result: T;
    try {
      result = body();
    } catch (error) {
      settle(this.#look().made, true);
      throw error;
    }
    try {
      await this.#tell(what, this.#look());
    } catch (error) {
      await this.#hear();
      throw error;
    }
    return result;
  }

  /** Throws the errors of the work in hand, or else those before it; those of others are told later. */
  async #tell(what: string, own: Span): Promise<void> {
    const untold = this.#untold.splice(0), told: Span[] = [];
    let refused = true;
    try {
      await refuse(what, own);
      for (let before; (before = untold.shift());) {
        told.push(before);
        await refuse(`${what}, because of what was submitted before`, before);
      }
      this.check();
      refused = false;
    } finally {
      settle(own.made, refused);
      told.forEach(({ made }) => settle(made, false));
      this.#untold.unshift(...untold);
    }
  }

  /**
   * The result of `work`, which a lost device may never finish; `what` names it in the message.
   *
   * @throws {DeviceError} if it fails, or the device is lost.
   */
  async settled<T>(what: string, work: () => Promise<T>): Promise<T> {
    this.check();
    const { promise, reject } = Promise.withResolvers<never>();
    this.#waiting.add(reject);
    try {
      return await Promise.race([work(), promise]);
    } catch (cause) {
      await this.#hear();
      throw new DeviceError(`${what}: ${(cause as Error).message}`, { cause });
    } finally {
      this.#waiting.delete(reject);
    }
  }

  /**
   * Resolves when everything that was submitted has run.
   *
   * @throws {DeviceError} if the device refused some of it, or was lost.
   */
  async finished(): Promise<void> {
    await this.settled("run", () => this.gpu.queue.onSubmittedWorkDone());
    await this.checked("run", () => {});
  }

  /**
   * Checks that the device is still there.
   *
   * @throws {DeviceError} if it was lost.
   */
  check(): void {
    if (this.#lost) throw new DeviceError(this.#lost);
  }

  /** Frees everything the device holds, variables' values too; what is waiting for it fails. */
  [Symbol.dispose](): void {
    this.#lose("destroyed: it was disposed of");
    this.gpu.destroy();
    this.#pipelines.clear();
    this.workspace.length = 0;
  }

  #lose(why: string): void {
    this.#lost ??=
      `the device was lost (${why}), and with it all that was on it; request another ` +
      "one, and go on there from a checkpoint or anew";
    this.#waiting.forEach((reject) => reject(new DeviceError(this.#lost)));
  }

  /** Throws if the device was lost, which Deno reports some time after the work that failed. */
  async #hear(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, 50);
    await Promise.race([this.gpu.lost, promise]);
    clearTimeout(timer);
    this.check();
  }

  /** Begins to catch errors, and never stops: work is submitted at any time. */
  #watch(): void {
    SCOPES.forEach((scope) => this.gpu.pushErrorScope(scope));
  }

  /** What was done since the last look. */
  #look(): Span {
    const made = this.#made, errors = Promise.all(SCOPES.map(() => popScope(this.gpu)));
    this.#made = [];
    this.#watch();
    return { made, errors };
  }
}

/** The error of the innermost scope; null if the device is lost. */
async function popScope(gpu: GPUDevice): Promise<GPUError | null> {
  return await gpu.popErrorScope().catch(() => null);
}

/** What to do if memory is short. */
const LESS = "take a smaller batch or smaller images, or dispose of what is not needed any more";

/** Throws for the first buffer that there was no memory for, or else one of the errors. */
async function refuse(what: string, { made, errors }: Span): Promise<void> {
  const all = made.flatMap(({ memory }) => memory ?? []);
  await Promise.all(all.map(({ known }) => known));
  let before = 0;
  for (const { buffer: { label, size }, short } of all) {
    if (short) {
      const others = before > 0 ? `, after ${before} for what comes before it` : "";
      throw new DeviceError(
        `${what}: the device is out of memory: it has no ${size} bytes for ${label}${others}; ${LESS}`,
      );
    }
    before += size;
  }
  const [invalid, internal, memory] = await errors;
  if (memory) throw new DeviceError(`${what}: the device is out of memory; ${LESS}`);
  if (invalid) throw new DeviceError(`${what}: ${invalid.message}`);
  if (internal) throw new DeviceError(`${what}: the driver failed: ${internal.message || "?"}`);
}

/** Ends what was made, the latest first: where it was `refused` as a whole, or each by itself. */
function settle(made: readonly Made[], refused: boolean): void {
  for (const { kept, refused: takeBack, used, memory } of made.toReversed()) {
    if (memory?.short || refused && !used?.()) takeBack?.();
    else kept?.();
  }
}

/** The name of an adapter. */
function adapterName({ description, vendor, architecture, device }: GPUAdapterInfo): string {
  return description || [vendor, architecture, device].filter(Boolean).join(" ") || "unnamed";
}

/** What to do if an adapter is missing or cannot be used, in Deno or in a browser. */
const advice = (forDeno: string, forBrowser: () => string) => inDeno() ? forDeno : forBrowser();

/** Whether this is no browser. */
const inDeno = () => navigator.userAgent.startsWith("Deno/");

/** What to do if there is an adapter, and another one is needed. */
const other = () =>
  advice(
    "install its newest driver, or choose another adapter (on Linux, VK_DRIVER_FILES names the " +
      "Vulkan driver; without one, Deno takes OpenGL)",
    () => "take another browser, or update this one and the GPU's driver",
  );

/** What a browser without an adapter lacks: WebGPU, or only a GPU that it may use. */
function missing(): string {
  const { isSecureContext: secure } = globalThis as { isSecureContext?: boolean };
  if (secure === false) {
    return "browsers have it only on pages that come by https, or from localhost";
  }
  return navigator.gpu
    ? "this browser has WebGPU, but no GPU for it: turn hardware acceleration on in its settings, " +
      "update the GPU's driver, or take another browser"
    : "this browser has no WebGPU: update it, or take another one";
}

async function requestAdapter(): Promise<GPUAdapter> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (adapter) return adapter;
  const what = "install a Vulkan driver (on Debian, the software one: " +
    "apt-get install mesa-vulkan-drivers); in a clone of Resnette, " +
    "`sh scripts/bootstrap.sh TASK` does it";
  throw new DeviceError(`no WebGPU adapter: ${advice(what, missing)}`);
}

/** Throws when the kernels cannot run within an adapter's limits. */
function checkLimits({ limits, info }: GPUAdapter): void {
  const short = LIMIT_NAMES.filter((name) => limits[name] < LIMITS[name])
    .map((name) => `its ${name} is ${limits[name]}, and ${LIMITS[name]} is needed`);
  if (short.length === 0) return;
  throw new DeviceError(
    `${adapterName(info)} cannot run the kernels: ${short.join("; ")}; ${other()}`,
  );
}

/** A device with all of the adapter's limits, and with subgroups and timestamps if it has them. */
async function requestDevice(adapter: GPUAdapter): Promise<GPUDevice> {
  const { limits, features } = adapter;
  const requiredLimits = Object.fromEntries(LIMIT_NAMES.map((name) => [name, limits[name]]));
  const timestamps: GPUFeatureName[] = features.has("timestamp-query") ? ["timestamp-query"] : [];
  const ask = (from: GPUAdapter, ...more: GPUFeatureName[]) =>
    from.requestDevice({ requiredLimits, requiredFeatures: [...timestamps, ...more] });
  // Deno grants subgroups without listing them; so ask, and ask again without.
  return await ask(adapter, "subgroups" as GPUFeatureName)
    .catch(async () => ask(await requestAdapter()));
}

/**
 * Size of a subgroup, when it is the same for all kernels and numbers its lanes in the order of the
 * threads; and whether shaders say `enable subgroups;`, which WebGPU wants and Deno rejects. Found by
 * running a kernel, because adapters do not report all of that. If they report that the size varies
 * from kernel to kernel, as on Intel's, there is no size to rely on.
 */
async function findSubgroups(
  gpu: GPUDevice,
  info: GPUAdapterInfo,
): Promise<Partial<Pick<Target, "subgroupSize" | "subgroupsDirective">>> {
  if (!gpu.features.has("subgroups" as GPUFeatureName)) return {};
  const { subgroupMinSize: least, subgroupMaxSize: most } = info as Partial<GPUAdapterInfo>;
  if (least !== most) return {};
  const threads = Math.min(128, gpu.limits.maxComputeInvocationsPerWorkgroup);
  for (const subgroupsDirective of [true, false]) {
    const code = `${subgroupsDirective ? "enable subgroups;" : ""}
@group(0) @binding(0) var<storage, read_write> y: array<vec2u>;
@compute @workgroup_size(${threads})
fn main(@builtin(local_invocation_index) i: u32, @builtin(subgroup_size) size: u32,
        @builtin(subgroup_invocation_id) lane: u32) {
  y[i] = vec2u(size, subgroupBroadcast(lane, 0u) + lane);
}`;
    gpu.pushErrorScope("validation");
    const compute = { module: gpu.createShaderModule({ code }), entryPoint: "main" };
    const pipeline = gpu.createComputePipeline({ layout: "auto", compute });
    if (await gpu.popErrorScope()) continue;
    const { COPY_SRC, COPY_DST, MAP_READ, STORAGE } = BufferUsage;
    const y = gpu.createBuffer({ size: threads * 8, usage: STORAGE | COPY_SRC });
    const copy = gpu.createBuffer({ size: threads * 8, usage: COPY_DST | MAP_READ });
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    const layout = pipeline.getBindGroupLayout(0);
    const entries = [{ binding: 0, resource: { buffer: y } }];
    pass.setBindGroup(0, gpu.createBindGroup({ layout, entries }));
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(y, 0, copy, 0, threads * 8);
    gpu.queue.submit([encoder.finish()]);
    await copy.mapAsync(MapMode.READ);
    const values = new Uint32Array(copy.getMappedRange().slice(0));
    y.destroy();
    copy.destroy();
    const size = values[0]!;
    const regular = size <= threads &&
      values.every((v, i) => v === (i % 2 === 0 ? size : (i >> 1) % size));
    return regular ? { subgroupSize: size, subgroupsDirective } : {};
  }
  return {};
}

let shared: Promise<Device> | undefined;

/**
 * The device that is used if none is given; requested once, and again after it was lost.
 *
 * @throws {DeviceError} if there is no adapter, or none that can run the kernels.
 *
 * @example
 * ```ts
 * import { defaultDevice, Plan, tensor } from "@resnette/resnette";
 * import { assertStrictEquals } from "@std/assert";
 *
 * using plan = await Plan.compile({ outputs: [tensor([1])] });
 * assertStrictEquals(plan.device, await defaultDevice());
 * ```
 */
export function defaultDevice(): Promise<Device> {
  if (!shared) {
    const asked = shared = Device.request();
    const forget = () => {
      if (shared === asked) shared = undefined;
    };
    asked.then(({ gpu }) => gpu.lost.then(forget), forget);
  }
  return shared;
}
