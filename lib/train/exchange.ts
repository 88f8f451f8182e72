/**
 * A step that ranks make together. Each computes the gradients of its part of the batch; they are
 * summed over the ranks, and all make the same update with the sums. So all hold the same bits
 * after it.
 *
 * Gradients travel in buckets while the device computes the rest of the backward pass. For that,
 * the pass is submitted in parts, each of which ends with a bucket's gradients in a staging buffer.
 * All memory that this takes is taken once.
 *
 * @module
 */

import { freeVariables, variableStorage, write } from "../device/buffers.ts";
import type { Device } from "../device/device.ts";
import { BufferUsage, MapMode } from "../device/flags.ts";
import { packVariables, type Tensor, type Update, Variable, zerosLike } from "../graph/tensor.ts";
import type { Feeds, Plan } from "../plan/plan.ts";
import type { CountingCollective } from "./collective.ts";
import { HalfSums } from "./compress.ts";
import { GradientSums } from "./gradients.ts";

/** Bytes after which a bucket is closed: small for the first, so that it leaves early, as in PyTorch. */
export const BUCKET_BYTES = { first: 2 ** 20, others: 25 * 2 ** 20 };

/** Gradients that travel together. */
interface Bucket {
  /** Which parameters', in their order. */
  readonly from: number;
  readonly to: number;
  /** Sums on the device over this rank's micro-batches, in one pack. */
  readonly gradients: GradientSums;
  /** What they become: sums over the ranks, on the host. */
  readonly sums: Float32Array<ArrayBuffer>;
  readonly reduce: (values: Float32Array<ArrayBuffer>) => Promise<void>;
  /** Where the sums go on the device. */
  readonly target: { readonly whole: Variable; readonly offset: number };
}

/** What all ranks know after a step. */
export interface StepResult {
  /** Mean loss of the batch. */
  readonly loss: number;
  /** Right answers in it. */
  readonly correct: number;
  /** Whether some rank wants to stop. */
  readonly stop: boolean;
}

/** Numbers of a rank before its statistics: images, whether it wants to stop, loss, right answers. */
const HEAD = 4;

/** The gradients and running statistics of a run with several ranks, and how they travel. */
export class Exchange implements Disposable {
  /** Gradients, summed over the ranks, of each parameter; packed as an optimizer packs these. */
  readonly gradients: readonly Variable[];
  /** This rank's part of the loss of a step. */
  readonly loss: Variable = new Variable([]);
  /** This rank's right answers in a step. */
  readonly correct: Variable = new Variable([]);
  readonly #device: Device;
  readonly #collective: CountingCollective;
  readonly #buckets: readonly Bucket[];
  #statistics: readonly Variable[] | undefined;
  #packs: readonly Variable[] = [];
  /** Of each rank, images, wish to stop, loss, right answers and statistics; and what is sent of it. */
  #values = new Float32Array();
  #own = new Float32Array();
  #staging: readonly GPUBuffer[] | undefined;
  #disposed = false;
  readonly #ends = new WeakMap<Plan, readonly number[]>();

  constructor(
    parameters: readonly Variable[],
    { device, collective, compress }: {
      readonly device: Device;
      readonly collective: CountingCollective;
      readonly compress: "none" | "f16";
    },
  ) {
    this.#device = device;
    this.#collective = collective;
    this.gradients = parameters.map(zerosLike);
    packVariables(this.gradients);
    const homes = this.gradients.map((x) => (x.stored?.variable ?? x).home!);
    const buckets: Bucket[] = [];
    // The last layers' gradients are there first.
    for (let to = parameters.length, from = to; from-- > 0;) {
      const { whole, offset } = homes[from]!;
      const end = homes[to - 1]!.offset + parameters[to - 1]!.size;
      const full = 4 * (end - offset) >=
        (buckets.length === 0 ? BUCKET_BYTES.first : BUCKET_BYTES.others);
      if (!full && from > 0 && homes[from - 1]!.whole === whole) continue;
      const gradients = new GradientSums(parameters.slice(from, to));
      const { size } = gradients.packs[0]!;
      const half = compress === "f16" && new HalfSums(collective, size);
      buckets.push({
        ...{ from, to, gradients, sums: new Float32Array(size), target: homes[from]! },
        reduce: (values) => half ? half.allReduce(values) : collective.allReduce(values),
      });
      to = from;
    }
    this.#buckets = buckets;
  }

  /** How many buckets there are. */
  get buckets(): number {
    return this.#buckets.length;
  }

  /**
   * Notes which running statistics the plan of a micro-batch updates. They are the same ones for batches
   * of all sizes; from now on they lie side by side.
   */
  track(updates: readonly Update[]): void {
    if (this.#statistics) return;
    this.#statistics = updates.flatMap(({ targets }) => targets);
    this.#packs = packVariables(this.#statistics);
    const length = HEAD + this.#packs.reduce((sum, { size }) => sum + size, 0);
    this.#own = new Float32Array(length);
    this.#values = new Float32Array(length * this.#collective.size);
  }

  /** Makes the staging buffers, once it is known what is updated. */
  async prepare(): Promise<void> {
    if (this.#staging) return;
    const staging = await this.#device.checked("gradients", () => this.#makeStaging());
    // Somebody else may have been here meanwhile.
    if (this.#disposed || this.#staging) staging.forEach((buffer) => buffer.destroy());
    else this.#staging = staging;
  }

  /** The updates of a micro-batch that add its gradients, one for each parameter. */
  updates(grads: readonly Tensor[], inputs: Record<"share" | "first", Tensor>): Update[] {
    return this.#buckets.flatMap(({ from, to, gradients }) =>
      gradients.updates(grads.slice(from, to), inputs, { early: true })
    );
  }

  /**
   * Runs the plan of this rank's last micro-batch, if it has images, while buckets travel; then gradients
   * and statistics are those of all ranks.
   */
  async step(
    last: { readonly plan: Plan; readonly feeds: Feeds } | undefined,
    { images, stop }: { readonly images: number; readonly stop: () => boolean },
  ): Promise<StepResult> {
    const device = this.#device, collective = this.#collective, buckets = this.#buckets;
    const own = this.#own.fill(0);
    /** The messages, one after the other on every rank. */
    const sent: Promise<void>[] = [];
    const send = (message: () => Promise<void>) => {
      const before = sent.at(-1) ?? Promise.resolve(), call = before.then(message);
      // Whoever waits for it hears of it.
      call.catch(() => {});
      sent.push(call);
    };
    const staging = this.#staging!;
    const commands = last?.plan.runParts(
      last.feeds,
      this.#endsOf(last.plan),
      (encoder, part) => this.#copy(encoder, part),
    );
    const submit = (part: number) => device.gpu.queue.submit(commands!.slice(part, part + 1));
    if (commands) submit(0);
    for (const [k, { sums, reduce }] of buckets.entries()) {
      if (this.#disposed) throw new Error("these gradients were disposed of");
      if (commands) {
        // Deno waits here for all that was submitted; so the next part is submitted after this.
        const mapped = staging[k]!.mapAsync(MapMode.READ);
        if (k + 1 < commands.length) submit(k + 1);
        await device.settled("gradients", () => mapped);
        const values = new Float32Array(staging[k]!.getMappedRange());
        sums.set(values.subarray(0, sums.length));
        if (k === buckets.length - 1) own.set(values.subarray(sums.length), 2);
        staging[k]!.unmap();
      } else sums.fill(0);
      send(() => reduce(sums));
      // The message is under way before the host waits again; the device has work meanwhile.
      if (commands && k + 1 < buckets.length) await new Promise((done) => setTimeout(done));
    }
    own[0] = images;
    send(() => {
      own[1] = Number(stop());
      const bytes = (x: Float32Array<ArrayBuffer>) => new Uint8Array(x.buffer);
      return collective.allGather(bytes(own), bytes(this.#values));
    });
    for (const [k, { sums, target: { whole, offset } }] of buckets.entries()) {
      await collective.wait(sent[k]!);
      const { buffer } = variableStorage(device, whole);
      write(device, buffer, 4 * offset, sums);
    }
    await collective.wait(sent.at(-1)!);
    collective.traffic.steps++;
    return this.#together();
  }

  /** What the ranks' numbers come to; running statistics become their means, weighted by images. */
  #together(): StepResult {
    const own = this.#own, { length } = own, { size } = this.#collective;
    const of = (k: number) => Array.from({ length: size }, (_, r) => this.#values[r * length + k]!);
    const images = of(0), all = images.reduce((a, b) => a + b);
    const sum = (k: number) => of(k).reduce((a, b) => a + b);
    for (let k = HEAD; k < length; k++) {
      // Doubles hold these products exactly, so a mean of equal values is that value.
      let mean = 0;
      for (let r = 0; r < size; r++) {
        if (images[r]! > 0) mean += images[r]! * this.#values[r * length + k]!;
      }
      own[k] = mean / all;
    }
    let at = HEAD;
    for (const whole of this.#packs) {
      // A scalar counts, batches or draws: that is rank 0's, which always has as many as any.
      for (const { shape, home } of whole.parts) {
        if (shape.length === 0) own[at + home!.offset] = this.#values[at + home!.offset]!;
      }
      const { buffer } = variableStorage(this.#device, whole);
      write(this.#device, buffer, 0, own.subarray(at, at += whole.size));
    }
    return { loss: sum(2), correct: sum(3), stop: sum(1) > 0 };
  }

  #makeStaging(): GPUBuffer[] {
    const usage = BufferUsage.COPY_DST | BufferUsage.MAP_READ;
    return this.#buckets.map(({ sums }, k) => {
      const more = k === this.#buckets.length - 1 ? this.#own.length - 2 : 0;
      const size = 4 * (sums.length + more);
      return this.#device.createBuffer({ size, usage, label: `gradients to send, ${k}` });
    });
  }

  /** Copies a bucket to its staging buffer; behind the last one loss, right answers and statistics. */
  #copy(encoder: GPUCommandEncoder, part: number): void {
    let at = 0;
    const copy = (variable: Variable) => {
      const { buffer, offset } = variableStorage(this.#device, variable), bytes = 4 * variable.size;
      encoder.copyBufferToBuffer(buffer, offset, this.#staging![part]!, at, bytes);
      at += bytes;
    };
    copy(this.#buckets[part]!.gradients.packs[0]!);
    if (part === this.#buckets.length - 1) [this.loss, this.correct, ...this.#packs].forEach(copy);
  }

  /** Where the parts of a plan end: with the step that completes a bucket. */
  #endsOf(plan: Plan): readonly number[] {
    const known = this.#ends.get(plan);
    if (known) return known;
    let end = 0;
    const ends = this.#buckets.map(({ gradients: { packs: [pack] } }) => {
      const last = plan.steps.findLastIndex(({ writes }) => writes.includes(pack!));
      return end = Math.max(end, last + 1);
    });
    ends[ends.length - 1] = plan.steps.length;
    this.#ends.set(plan, ends);
    return ends;
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#buckets.forEach(({ gradients }) => gradients[Symbol.dispose]());
    this.#staging?.forEach((buffer) => buffer.destroy());
    freeVariables([...this.gradients, this.loss, this.correct]);
  }
}
