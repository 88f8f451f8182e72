/**
 * The device: an adapter asked for, its limits taken over whole, its quirks found by trying.
 *
 * @module
 */

import { type KernelSpec, type Schedule, type Target, wgsl } from "./kernel.ts";

/** No adapter, a lost device, or a command that the device refused; the message says what to do. */
export class DeviceError extends Error {
  /** `"DeviceError"`. */
  override name = "DeviceError";
}

/** Limits a plan can profit from; Deno's devices have the defaults unless each is asked for. */
const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** What to change about a device. */
export interface DeviceOptions {
  /** How matrix products are computed; `auto` suits the adapter. */
  readonly schedule?: Schedule;
  /** Choices measured earlier (`tune.ts`), used with the schedule `auto`. */
  readonly tuned?: ReadonlyMap<string, string>;
}

/** A WebGPU device, its facts, and the pipelines compiled for it. */
export class Device {
  /** What kernels may rely on. */
  readonly target: Target;
  /** Buffers that plans share for intermediate values; see `buffers.ts`. */
  readonly workspace: { buffer: GPUBuffer; size: number }[] = [];
  readonly #pipelines = new Map<string, GPUComputePipeline>();
  #lost: string | undefined;

  private constructor(
    /** The WebGPU device. */
    readonly gpu: GPUDevice,
    /** The adapter it came from. */
    readonly info: GPUAdapterInfo,
    target: Target,
    /** Schedules that the plans compiled from now on use, by problem: `tune` adds to them. */
    readonly tuned: Map<string, string>,
  ) {
    this.target = { ...target, tuned };
    gpu.lost.then(({ reason, message }) => {
      this.#lost = `the device was lost (${reason || "unknown"}): ${message}`;
    });
  }

  /** Asks for an adapter and a device on it, with the adapter's full limits. */
  static async request({ schedule = "auto", tuned }: DeviceOptions = {}): Promise<Device> {
    const ask = () => navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
    const adapter = await ask();
    if (!adapter) {
      throw new DeviceError(
        "no WebGPU adapter: install a Vulkan driver (on Debian, the software one: " +
          "apt-get install mesa-vulkan-drivers) or run `sh scripts/bootstrap.sh TASK`",
      );
    }
    const requiredLimits = Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]]));
    const features: GPUFeatureName[] = adapter.features.has("timestamp-query")
      ? ["timestamp-query"]
      : [];
    // Deno grants subgroups without listing them; so ask, and ask again without.
    const gpu = await adapter
      .requestDevice({
        requiredLimits,
        requiredFeatures: [...features, "subgroups" as GPUFeatureName],
      })
      .catch(async () =>
        (await ask())!.requestDevice({ requiredLimits, requiredFeatures: features })
      );
    const { limits } = gpu;
    const base: Target = {
      schedule,
      subgroupSize: 1,
      subgroupsDirective: false,
      maxStorageBuffers: limits.maxStorageBuffersPerShaderStage,
      maxWorkgroups: limits.maxComputeWorkgroupsPerDimension,
      maxBindingBytes: Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize),
    };
    const target = { ...base, ...await findSubgroups(gpu, adapter.info) };
    return new Device(gpu, adapter.info, target, new Map(tuned));
  }

  /** Whether the adapter computes on the CPU. */
  get software(): boolean {
    return this.info.isFallbackAdapter || /llvmpipe|swiftshader|lavapipe/i.test(this.description);
  }

  /** The adapter's name for itself. */
  get description(): string {
    const { description, vendor, architecture, device } = this.info;
    return description || [vendor, architecture, device].filter(Boolean).join(" ") || "unnamed";
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

  /** The compute pipeline of a kernel; `label` stands in the driver's error messages. */
  pipeline(spec: KernelSpec, label: string): GPUComputePipeline {
    const code = wgsl(spec, this.target);
    let pipeline = this.#pipelines.get(code);
    if (!pipeline) {
      pipeline = this.gpu.createComputePipeline({
        label,
        layout: "auto",
        compute: { module: this.gpu.createShaderModule({ label, code }), entryPoint: "main" },
      });
      this.#pipelines.set(code, pipeline);
    }
    return pipeline;
  }

  /**
   * Runs `body` and throws what the device refused meanwhile: Deno reports such errors nowhere else.
   * `what` names the work in the message.
   */
  async checked<T>(what: string, body: () => T): Promise<T> {
    this.check();
    this.gpu.pushErrorScope("out-of-memory");
    this.gpu.pushErrorScope("validation");
    let result: T;
    let errors: (GPUError | null)[];
    try {
      result = body();
    } finally {
      errors = await Promise.all([this.gpu.popErrorScope(), this.gpu.popErrorScope()]);
    }
    this.check();
    const [invalid, memory] = errors;
    if (invalid) throw new DeviceError(`${what}: ${invalid.message}`);
    if (memory) {
      throw new DeviceError(`${what}: the device is out of memory; try a smaller batch`);
    }
    return result;
  }

  /** Throws when the device was lost. */
  check(): void {
    if (this.#lost) throw new DeviceError(this.#lost);
  }

  /** Frees everything the device holds. */
  [Symbol.dispose](): void {
    this.gpu.destroy();
  }
}

/**
 * Size of a subgroup, when it is the same for all kernels and numbers its lanes in the order of the
 * threads; and whether shaders must say `enable subgroups;`. Found by running a kernel, since
 * adapters do not tell all of that; where they tell that the size varies from kernel to kernel, as
 * on Intel's, there is none to rely on.
 */
async function findSubgroups(
  gpu: GPUDevice,
  info: GPUAdapterInfo,
): Promise<Partial<Pick<Target, "subgroupSize" | "subgroupsDirective">>> {
  if (!gpu.features.has("subgroups" as GPUFeatureName)) return {};
  const { subgroupMinSize: least, subgroupMaxSize: most } = info as Partial<GPUAdapterInfo>;
  if (least !== most) return {};
  const threads = 128;
  for (const subgroupsDirective of [false, true]) {
    const code = `${subgroupsDirective ? "enable subgroups;" : ""}
@group(0) @binding(0) var<storage, read_write> y: array<vec2u>;
@compute @workgroup_size(${threads})
fn main(@builtin(local_invocation_index) i: u32, @builtin(subgroup_size) size: u32,
        @builtin(subgroup_invocation_id) lane: u32) {
  y[i] = vec2u(size, subgroupBroadcast(lane, 0u) + lane);
}`;
    gpu.pushErrorScope("validation");
    const module = gpu.createShaderModule({ code });
    const pipeline = gpu.createComputePipeline({
      layout: "auto",
      compute: { module, entryPoint: "main" },
    });
    if (await gpu.popErrorScope()) continue;
    const { COPY_SRC, COPY_DST, MAP_READ, STORAGE } = GPUBufferUsage;
    const y = gpu.createBuffer({ size: threads * 8, usage: STORAGE | COPY_SRC });
    const copy = gpu.createBuffer({ size: threads * 8, usage: COPY_DST | MAP_READ });
    const encoder = gpu.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    const layout = pipeline.getBindGroupLayout(0);
    pass.setBindGroup(
      0,
      gpu.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: y } }] }),
    );
    pass.dispatchWorkgroups(1);
    pass.end();
    encoder.copyBufferToBuffer(y, 0, copy, 0, threads * 8);
    gpu.queue.submit([encoder.finish()]);
    await copy.mapAsync(GPUMapMode.READ);
    const values = new Uint32Array(copy.getMappedRange().slice(0));
    y.destroy();
    copy.destroy();
    const size = values[0]!;
    const regular = values.every((v, i) => v === (i % 2 === 0 ? size : (i >> 1) % size));
    return regular ? { subgroupSize: size, subgroupsDirective } : {};
  }
  return {};
}

let shared: Promise<Device> | undefined;

/** The device that everything uses unless told otherwise; requested once. */
export function defaultDevice(): Promise<Device> {
  shared ??= Device.request();
  shared.catch(() => shared = undefined);
  return shared;
}
