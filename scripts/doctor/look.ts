/**
 * Looks whether this machine has what training needs, and says what to do if it has not. No check
 * changes anything.
 *
 * @module
 */

import { statfs } from "node:fs/promises";
import { measureCeiling } from "../../lib/measure/ceiling.ts";
import { DataError } from "../../lib/data/error.ts";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import { adviceOn } from "../cli.ts";
import { Device, DeviceError } from "../../lib/device/device.ts";
import type { Mpi } from "../../lib/files/mpi.ts";
import { VERSION } from "../../lib/train/config.ts";

/** What a check found. */
export interface Finding {
  /** What was looked at. */
  readonly check: string;
  /** `error` if training cannot work, `warning` if it works worse than it could. */
  readonly state: "ok" | "warning" | "error";
  /** What was found. */
  readonly found: string;
  /** What to do about it; absent where all is well. */
  readonly advice?: string;
  /** The same for programs. */
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** Where to look. */
export interface DoctorOptions {
  /** The data set's folder. */
  readonly data?: string;
  /** A file that JSR has. */
  readonly jsr?: string;
}

/** What ResNet-18 takes to train at 96×96 in batches of 128. */
const MEMORY = 2.2e9;
/** Eight checkpoints of ResNet-18. */
const DISK = 1e9;
/** How the message begins if there is no adapter. */
const NONE = "no WebGPU adapter: ";

/** What WebGPU promises of every adapter. */
const BINDING = 2 ** 27;

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
const say = (error: unknown) => error instanceof Error ? error.message : String(error);

function checkDeno(): Finding {
  const { deno, v8 } = Deno.version;
  const [major = 0, minor = 0] = deno.split(".").map(Number);
  const recent = major > 2 || major === 2 && minor >= 9;
  return {
    check: "Deno",
    state: recent ? "ok" : "error",
    found: `${deno} on ${Deno.build.os} ${Deno.build.arch}`,
    ...!recent && { advice: "2.9 is needed: deno upgrade" },
    facts: { deno, v8, os: Deno.build.os, arch: Deno.build.arch },
  };
}

/** `NAME=VALUE` of a variable of the environment, if it may be read and is set. */
function variable(name: string): string[] {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  const value = state === "granted" ? Deno.env.get(name) : undefined;
  return value ? [`${name}=${value}`] : [];
}

/** The variables that choose a driver. */
const driverVariables = () =>
  ["DENO_WEBGPU_BACKEND", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"].flatMap(variable);

function checkAdapter(device: Device): Finding[] {
  const { info, gpu, target, software } = device;
  const { vendor, architecture, device: id, description } = info;
  const chosen = driverVariables();
  const names = Object.keys(Object.getPrototypeOf(gpu.limits)) as (keyof GPUSupportedLimits)[];
  const limits = Object.fromEntries(names.map((name) => [name, gpu.limits[name]]));
  const { maxBindingBytes, subgroupSize } = target;
  const features: string[] = [...gpu.features].sort();
  return [
    {
      check: "adapter",
      state: software ? "warning" : "ok",
      found: device.description + (software ? ", which computes on the CPU" : ""),
      ...software &&
        { advice: "for a GPU, install its Vulkan driver, and see vulkaninfo --summary" },
      facts: { description, software },
    },
    {
      check: "driver",
      state: "ok",
      found: [`vendor ${vendor || "?"}`, architecture, `device ${id || "?"}`, ...chosen]
        .filter(Boolean).join(", "),
      facts: { vendor, architecture, device: id, chosen },
    },
    {
      check: "limits",
      state: maxBindingBytes < BINDING ? "warning" : "ok",
      found: `${Math.floor(maxBindingBytes / 2 ** 20)} MiB a binding, ` +
        `${gpu.limits.maxComputeWorkgroupStorageSize / 1024} KiB a workgroup, ` +
        `${gpu.limits.maxComputeInvocationsPerWorkgroup} threads a workgroup`,
      ...maxBindingBytes < BINDING && { advice: "train with a smaller --batch-size" },
      facts: limits,
    },
    {
      check: "features",
      state: "ok",
      found: [
        subgroupSize > 1 ? `subgroups of ${subgroupSize}` : "no subgroups",
        features.includes("timestamp-query") ? "timestamps" : "no timestamps",
      ].join(", "),
      facts: { subgroupSize, features },
    },
  ];
}

async function checkSpeed(device: Device): Promise<Finding> {
  try {
    const { gflops, gbs } = await measureCeiling(device);
    const found = `${gflops.toFixed(0)} GFLOP/s of multiply-adds, ${gbs.toFixed(1)} GB/s of copies`;
    return { check: "speed", state: "ok", found, facts: { gflops, gbs } };
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return {
      check: "speed",
      state: "error",
      found: `the adapter does not compute: ${error.message}`,
      advice: "install a newer driver",
    };
  }
}

async function checkDevice(): Promise<Finding[]> {
  try {
    using device = await Device.request();
    return [...checkAdapter(device), await checkSpeed(device)];
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    return [{
      check: "adapter",
      state: "error",
      found: [error.message.startsWith(NONE) ? "none" : "none of use", ...driverVariables()]
        .join(", "),
      advice: error.message.replace(NONE, ""),
    }];
  }
}

function checkMemory(): Finding {
  const { available, total } = Deno.systemMemoryInfo();
  const enough = available >= MEMORY;
  return {
    check: "memory",
    state: enough ? "ok" : "warning",
    found: `${gib(available)} of ${gib(total)} free`,
    ...!enough && {
      advice:
        "ResNet-18 takes 2.2 GB at 96×96 in batches of 128: close other programs, or train with " +
        "a smaller --batch-size",
    },
    facts: { available, total },
  };
}

async function checkDisk(): Promise<Finding> {
  // Not this folder: the task may read `data` only.
  const { bavail, bsize } = await statfs("data");
  const available = bavail * bsize, enough = available >= DISK;
  return {
    check: "disk",
    state: enough ? "ok" : "warning",
    found: `${gib(available)} free here`,
    ...!enough && {
      advice: "each checkpoint of ResNet-18 takes 130 MB: remove old ones in runs/",
    },
    facts: { available },
  };
}

async function checkData(folder: string): Promise<Finding> {
  const check = "data";
  try {
    const train = await loadFashionMnist(folder, "train");
    const test = await loadFashionMnist(folder, "test");
    const found = `${train.count} training and ${test.count} test images in ${folder}`;
    return { check, state: "ok", found, facts: { train: train.count, test: test.count } };
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    const { code, message: found, cause } = error;
    if (cause instanceof Deno.errors.NotCapable) throw cause;
    return {
      check,
      state: code === "missing-file" ? "warning" : "error",
      found,
      advice: adviceOn(error) ?? "make the file readable",
      facts: { code },
    };
  }
}

async function checkJsr(url: string): Promise<Finding> {
  const check = "JSR", host = new URL(url).host;
  let found = `${host} cannot be reached`;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5000) });
    await response.body?.cancel();
    if (response.ok) return { check, state: "ok", found: `${host} can be reached` };
    found = `${host} answers ${response.status}`;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
    found += `: ${say(error)}`;
  }
  return {
    check,
    state: "warning",
    found,
    advice: "this does not matter if packages are cached or .links has stand-ins; " +
      "sh scripts/bootstrap.sh TASK sets these up",
  };
}

/** What a check finds, or that it cannot look. */
async function attempt(check: string, look: () => Finding | Promise<Finding>): Promise<Finding> {
  try {
    return await look();
  } catch (error) {
    const refused = error instanceof Deno.errors.NotCapable;
    return {
      check,
      state: "warning",
      found: `cannot be told: ${say(error)}`,
      ...refused && { advice: "deno task doctor is permitted to look" },
    };
  }
}

/** Looks at everything, one after the other: the rates are measured while nothing else runs. */
export async function* examine(
  { data = "data/fashion-mnist", jsr = "https://jsr.io/@std/cli/meta.json" }: DoctorOptions = {},
): AsyncGenerator<Finding> {
  yield checkDeno();
  yield* await checkDevice();
  yield await attempt("memory", checkMemory);
  yield await attempt("disk", checkDisk);
  yield await attempt("data", () => checkData(data));
  yield await attempt("JSR", () => checkJsr(jsr));
}

/** What is to be known of a process that trains with others. */
interface Rank {
  /** Its machine. */
  readonly host: string;
  /** Bytes that are free there, and all. */
  readonly memory: readonly [available: number, total: number];
  /** What must be the same on all: the adapter, or why there is none, and versions. */
  readonly same: Readonly<Record<"adapter" | "MPI" | "Deno" | "Resnette", string>>;
  /** Whether it has an adapter. */
  readonly computes: boolean;
  /** Cores that it may use. */
  readonly cores: number;
}

/** Looks at this process as one of several. */
export async function examineRank({ host, library }: Mpi): Promise<Rank> {
  let adapter: string, computes = true;
  try {
    using device = await Device.request();
    adapter = device.description;
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    adapter = error.message;
    computes = false;
  }
  const { available, total } = Deno.systemMemoryInfo();
  const same = { adapter, MPI: library, Deno: Deno.version.deno, Resnette: VERSION };
  const { hardwareConcurrency: cores } = navigator;
  return { host, memory: [available, total], same, computes, cores };
}

/** What there is to say of each of several processes, and whether they can train together. */
export function compareRanks(ranks: readonly Rank[]): Finding[] {
  const first = ranks[0]!;
  return ranks.map((rank, number) => {
    const { host, memory: [available, total], same, computes, cores } = rank;
    const names = Object.keys(same) as (keyof typeof same)[];
    const differs = names.filter((name) => same[name] !== first.same[name])
      .map((name) => `${name} ${same[name]}, not ${first.same[name]}`);
    const memory = `${gib(available)} of ${gib(total)} free`;
    const found = [
      `on ${host}: ${same.adapter}`,
      memory,
      `${cores} core${cores > 1 ? "s" : ""}`,
      same.MPI,
    ].join(", ");
    const finding = { check: `rank ${number}`, found, facts: { ...rank } };
    if (!computes) {
      return { ...finding, state: "error", advice: "each rank needs an adapter on its machine" };
    }
    if (differs.length > 0) {
      const advice = `all ranks must have the same; unlike rank 0 it has ${differs.join("; ")}`;
      return { ...finding, state: "error", advice };
    }
    if (cores === 1) {
      const advice = "if its machine has more than one core: mpirun --bind-to none";
      return { ...finding, state: "warning", advice };
    }
    return { ...finding, state: "ok" };
  });
}
