/**
 * WebGPU with faults: adapters that are missing or small, devices with little memory or lost at a chosen
 * moment, and a count of the buffers that there are. Not a test.
 */

import { assert } from "@std/assert";

/** Runs `body` with another value of a property of `navigator`, or of something else. */
async function withOther<T>(
  name: string,
  value: unknown,
  body: () => Promise<T>,
  of: object = navigator,
): Promise<T> {
  Object.defineProperty(of, name, { value, configurable: true });
  try {
    return await body();
  } finally {
    Reflect.deleteProperty(of, name);
  }
}

/** Runs `body` where `navigator.gpu` is another one. */
export const withGpu = <T>(gpu: unknown, body: () => Promise<T>): Promise<T> =>
  withOther("gpu", gpu, body);

/** Runs `body` as if this were a browser, with a page that came by https or not. */
export const asInBrowser = <T>(body: () => Promise<T>, secure = true): Promise<T> =>
  withOther(
    "userAgent",
    "Mozilla/5.0 (X11; Linux x86_64)",
    () => withOther("isSecureContext", secure, body, globalThis),
  );

/** An object with some properties replaced; its methods still work. */
export function altered<T extends object>(real: T, changes: Readonly<Record<string, unknown>>): T {
  return new Proxy(real, {
    get(_, name) {
      if (name in changes) return changes[name as string];
      const value = Reflect.get(real, name, real);
      return typeof value === "function" ? value.bind(real) : value;
    },
  });
}

type Limits = Readonly<Record<string, number>>;

/** Like the real `navigator.gpu`, with adapters that are changed. */
export const gpuWith = (change: (adapter: GPUAdapter) => GPUAdapter): GPU => {
  const { gpu } = navigator;
  return altered(gpu, {
    requestAdapter: async () => change((await gpu.requestAdapter())!),
  });
};

/** An adapter with these limits, whose devices reject everything that exceeds them. */
export function small(adapter: GPUAdapter, limits: Limits): GPUAdapter {
  const lower = altered(adapter.limits, limits) as GPUSupportedLimits;
  return altered(adapter, {
    limits: lower,
    requestDevice: async (descriptor: GPUDeviceDescriptor) => {
      for (const [name, value] of Object.entries(descriptor.requiredLimits ?? {})) {
        const most = lower[name as keyof GPUSupportedLimits] as number;
        assert(value! <= most, `${name} of ${value}, more than ${most}`);
      }
      const { requiredFeatures = [] } = descriptor;
      return strict(await adapter.requestDevice({ requiredFeatures }), lower);
    },
  });
}

/** WebGPU itself would not go below its defaults; so this looks at what the device is asked for. */
function strict(gpu: GPUDevice, limits: GPUSupportedLimits): GPUDevice {
  const most = (what: string, value: number, limit: number) =>
    assert(value <= limit, `${what}: ${value}, more than ${limit}`);
  Object.defineProperty(gpu, "limits", { value: limits });
  const { createBuffer, createShaderModule, createBindGroup } = GPUDevice.prototype;
  gpu.createBuffer = (descriptor) => {
    most(`${descriptor.label}`, descriptor.size, limits.maxBufferSize);
    return createBuffer.call(gpu, descriptor);
  };
  gpu.createShaderModule = (descriptor) => {
    const { code, label } = descriptor;
    const threads = Number(code.match(/@workgroup_size\((\d+)\)/)![1]);
    const shared = [...code.matchAll(/var<workgroup> \w+: (?:array<)+(\w+)((?:, \d+>)+);/g)];
    const bytes = shared.map(([, type, counts]) =>
      counts!.match(/\d+/g)!.map(Number).reduce((a, b) => a * b, type === "vec4f" ? 16 : 4)
    );
    assert(shared.length === code.split("var<workgroup>").length - 1, "all sizes are known");
    most(`threads of ${label}`, threads, limits.maxComputeInvocationsPerWorkgroup);
    most(`threads of ${label}`, threads, limits.maxComputeWorkgroupSizeX);
    const buffers = code.split("var<storage").length - 1;
    most(`buffers of ${label}`, buffers, limits.maxStorageBuffersPerShaderStage);
    const sum = bytes.reduce((a, b) => a + b, 0);
    most(`shared memory of ${label}`, sum, limits.maxComputeWorkgroupStorageSize);
    return createShaderModule.call(gpu, descriptor);
  };
  gpu.createBindGroup = (descriptor) => {
    for (const { resource } of descriptor.entries) {
      const { size = 0 } = resource as GPUBufferBinding;
      most("a binding", size, limits.maxStorageBufferBindingSize);
    }
    return createBindGroup.call(gpu, descriptor);
  };
  return gpu;
}

/** Lets a device run out of memory after `most` bytes more than it has now, until the result is disposed. */
export function limitMemory(gpu: GPUDevice, most: number): Disposable {
  const scopes: { filter: GPUErrorFilter; full: boolean }[] = [];
  const sizes = new WeakMap<GPUBuffer, number>();
  let used = 0;
  const { createBuffer, pushErrorScope, popErrorScope } = GPUDevice.prototype;
  const { destroy } = GPUBuffer.prototype;
  // Scopes that are open already; earlier errors are not ours.
  const own = { createBuffer, pushErrorScope, popErrorScope };
  own.pushErrorScope = (filter) => {
    scopes.push({ filter, full: false });
    pushErrorScope.call(gpu, filter);
  };
  own.popErrorScope = async () => {
    const full = scopes.pop()?.full;
    const error = await popErrorScope.call(gpu);
    return full ? new GPUOutOfMemoryError("not enough memory left") : error;
  };
  own.createBuffer = (descriptor) => {
    if (used + descriptor.size <= most) {
      const buffer = createBuffer.call(gpu, descriptor);
      used += descriptor.size;
      sizes.set(buffer, descriptor.size);
      return buffer;
    }
    const scope = scopes.findLast(({ filter }) => filter === "out-of-memory");
    if (scope) scope.full = true;
    // What a driver leaves then is a buffer that is invalid: of no usage, here.
    pushErrorScope.call(gpu, "validation");
    const invalid = createBuffer.call(gpu, { ...descriptor, usage: 0 });
    popErrorScope.call(gpu);
    return invalid;
  };
  GPUBuffer.prototype.destroy = function () {
    used -= sizes.get(this) ?? 0;
    sizes.delete(this);
    destroy.call(this);
  };
  Object.assign(gpu, own);
  return {
    [Symbol.dispose]: () => {
      Object.keys(own).forEach((name) => Reflect.deleteProperty(gpu, name));
      GPUBuffer.prototype.destroy = destroy;
    },
  };
}

/** Tells the number of each thing that is submitted to a device from now on, counted from 1, before it is. */
export function onSubmit(gpu: GPUDevice, tell: (number: number) => void): Disposable {
  const { queue } = gpu;
  let submits = 0;
  queue.submit = (commands) => {
    tell(++submits);
    GPUQueue.prototype.submit.call(queue, commands);
  };
  return { [Symbol.dispose]: () => void Reflect.deleteProperty(queue, "submit") };
}

/** Buffers of all devices that were made and not destroyed since the count began. */
export class LiveBuffers implements Disposable {
  readonly #sizes = new Map<GPUBuffer, number>();
  readonly #createBuffer = GPUDevice.prototype.createBuffer;
  readonly #destroy = GPUBuffer.prototype.destroy;
  readonly #destroyDevice = GPUDevice.prototype.destroy;

  constructor() {
    const sizes = this.#sizes, owners = new WeakMap<GPUBuffer, GPUDevice>();
    const create = this.#createBuffer, destroy = this.#destroy, end = this.#destroyDevice;
    GPUDevice.prototype.createBuffer = function (descriptor) {
      const buffer = create.call(this, descriptor);
      sizes.set(buffer, descriptor.size);
      owners.set(buffer, this);
      return buffer;
    };
    GPUBuffer.prototype.destroy = function () {
      sizes.delete(this);
      destroy.call(this);
    };
    GPUDevice.prototype.destroy = function () {
      for (const buffer of sizes.keys()) if (owners.get(buffer) === this) sizes.delete(buffer);
      end.call(this);
    };
  }

  /** How many there are, and their bytes. */
  get now(): { count: number; bytes: number } {
    return {
      count: this.#sizes.size,
      bytes: this.#sizes.values().reduce((sum, size) => sum + size, 0),
    };
  }

  /** Their names, with their bytes. */
  get names(): string[] {
    return [...this.#sizes].map(([{ label }, size]) => `${label}: ${size}`);
  }

  [Symbol.dispose](): void {
    GPUDevice.prototype.createBuffer = this.#createBuffer;
    GPUBuffer.prototype.destroy = this.#destroy;
    GPUDevice.prototype.destroy = this.#destroyDevice;
  }
}
