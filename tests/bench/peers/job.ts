/**
 * What the subprocesses of `peers.ts` share: the job they are given, how it is timed, and the one
 * line of JSON they answer with. Nothing of Resnette but the reader of safetensors, so that a peer's
 * memory is its own.
 *
 * @module
 */

import process from "node:process";
import { asFloat32Array, parseSafetensors } from "../../../lib/formats/safetensors.ts";

/** A training step, or a pass forward in eval mode; each runs in a process of its own. */
export type Phase = "train" | "forward";

/** The names of the files in a job's folder. */
export const FILES = {
  batch: "batch.safetensors",
  weights: "weights.safetensors",
  onnx: "model.onnx",
} as const;

/** A state dict's entry. */
export interface Weight {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

/** What a peer is to do. */
export interface Job {
  readonly folder: string;
  readonly phase: Phase;
  /** Timed steps at least, after the first. */
  readonly steps: number;
  /** Threads of a library that computes on the CPU. */
  readonly threads: number;
  /** `[N, 1, H, W]`. */
  readonly shape: readonly [number, number, number, number];
  readonly pixels: Float32Array<ArrayBuffer>;
  readonly labels: Uint32Array<ArrayBuffer>;
  /** By the notebook's state-dict keys. */
  readonly weights: ReadonlyMap<string, Weight>;
}

/** What a library made of the job; `measure` calls `step` again and again. */
export interface Run {
  /** Version of the library. */
  readonly version: string;
  /** Where it computed. */
  readonly adapter: string;
  /** Does the work once and waits for it: the loss before the step, or the logits `[N, 10]`. */
  step(): Promise<number | ArrayLike<number>>;
}

/** The answer of a subprocess. */
export interface Answer {
  readonly version: string;
  readonly adapter: string;
  /** Seconds from the loaded library to the end of the first step. */
  readonly warmup: number;
  /** Milliseconds of each further step. */
  readonly times: readonly number[];
  /** Cores kept busy meanwhile; on a software adapter, too few mean that the machine was busy. */
  readonly cores: number;
  /** The process's greatest resident set, in bytes. */
  readonly memory: number;
  /** Of each step, first included; empty when not training. */
  readonly losses: readonly number[];
  /** Of the first pass; empty when training. */
  readonly logits: readonly number[];
}

/** Quick libraries go on until they have been timed for this long, ms. */
const LEAST_MS = 5000;

/** Reads the job from the command line: FOLDER PHASE STEPS THREADS. */
async function readJob([folder, phase, steps, threads]: readonly string[]): Promise<Job> {
  const read = async (name: string) =>
    parseSafetensors(await Deno.readFile(`${folder}/${name}`), name).tensors;
  const batch = await read(FILES.batch);
  const images = batch.get("images")!;
  const [n = 0, c = 0, h = 0, w = 0] = images.shape;
  const weights = [...await read(FILES.weights)]
    .filter(([, { dtype }]) => dtype === "F32") // without num_batches_tracked
    .map(([key, tensor]) => [key, { shape: tensor.shape, data: asFloat32Array(tensor, key) }]);
  return {
    folder: folder!,
    phase: phase as Phase,
    steps: Number(steps),
    threads: Number(threads),
    shape: [n, c, h, w],
    pixels: asFloat32Array(images),
    labels: Uint32Array.from(new BigInt64Array(batch.get("labels")!.data.slice().buffer), Number),
    weights: new Map(weights as [string, Weight][]),
  };
}

/** What the adapter calls itself that a library gets if it asks. */
export async function adapterName(): Promise<string> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Error("no WebGPU adapter");
  const { description, vendor, device } = adapter.info;
  return description || `${vendor} ${device}`.trim() || "unnamed";
}

/** Milliseconds of computing by this process, on all cores. */
function cpuTime(): number {
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  return (userCPUTime + systemCPUTime) / 1000;
}

/** Reads the job, times what `start` makes of it, and prints the {@link Answer}. */
export async function measure(start: (job: Job) => Promise<Run>): Promise<void> {
  const job = await readJob(Deno.args);
  const losses: number[] = [], logits: number[] = [], times: number[] = [];
  const begin = performance.now();
  const run = await start(job);
  const note = (result: number | ArrayLike<number>) => {
    if (typeof result === "number") losses.push(result);
    else if (logits.length === 0) logits.push(...Array.from(result));
  };
  note(await run.step());
  const busy = cpuTime();
  const first = performance.now();
  for (let last = first; times.length < job.steps || last - first < LEAST_MS;) {
    note(await run.step());
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  const cores = (cpuTime() - busy) / (performance.now() - first);
  const answer: Answer = {
    version: run.version,
    adapter: run.adapter,
    warmup: (first - begin) / 1000,
    times,
    cores,
    memory: process.resourceUsage().maxRSS * 1024,
    losses,
    logits,
  };
  console.log(JSON.stringify(answer));
  Deno.exit(0); // whatever the library still holds
}
