/**
 * How the ranks of a run on several processes communicate: the interface, and a counter of what is
 * sent. `files/mpi.ts` (Deno only) implements it by MPI.
 *
 * @module
 */

import { stopwatch } from "../measure/timing.ts";
import { checkFunction, checkNumber, checkObject } from "../check/arguments.ts";

/**
 * The processes that train one network together, as one of them sees them; `Mpi` is one. All ranks
 * must make the same calls in the same order. A call may be made before the one before it is done:
 * they are done one after the other. Do not touch an array while it is in a call. If a rank is
 * lost, calls fail, and the run cannot go on.
 */
export interface Collective {
  /** The number of this process, from 0 on. */
  readonly rank: number;
  /** The number of processes. */
  readonly size: number;
  /** Sums over the ranks, element by element, in place. Every rank gets the same bits. */
  allReduce(values: Float32Array<ArrayBuffer>): Promise<void>;
  /** Replaces the bytes by those of rank 0. */
  broadcast(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Gets the bytes of all ranks, in their order: `receive` is `size` times as long as `send`. */
  allGather(send: Uint8Array<ArrayBuffer>, receive: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Sends each rank its part of `send`, and gets each rank's part for this one, as long. */
  allToAll(send: Uint8Array<ArrayBuffer>, receive: Uint8Array<ArrayBuffer>): Promise<void>;
}

/** The calls of a collective. */
const CALLS = ["allReduce", "broadcast", "allGather", "allToAll"] as const;

/** Throws unless argument `name` of `op` is a collective. */
export function checkCollective(op: string, name: string, collective: Collective): void {
  checkObject(op, name, collective);
  const { rank, size } = collective;
  checkNumber(op, `${name}.size`, size, { integer: true, min: 1, max: MOST_RANKS });
  checkNumber(op, `${name}.rank`, rank, { integer: true, min: 0, max: size - 1 });
  for (const call of CALLS) checkFunction(op, `${name}.${call}`, collective[call]);
}

/** The most ranks that there may be. */
const MOST_RANKS = 65_536;

/** What a rank has sent to the others so far. */
export interface Traffic {
  /** Training steps. */
  readonly steps: number;
  /** Calls of the collective. */
  readonly messages: number;
  /** The least bytes that this rank has sent: for a sum in a ring, about twice what it sums. */
  readonly bytes: number;
  /** Calls that the training had to wait for. */
  readonly waits: number;
  /** Milliseconds that it waited for them. */
  readonly waited: number;
}

/** A collective that counts. */
export class CountingCollective implements Collective {
  readonly rank: number;
  readonly size: number;
  readonly traffic: { -readonly [K in keyof Traffic]: Traffic[K] } = {
    ...{ steps: 0, messages: 0, bytes: 0, waits: 0, waited: 0 },
  };
  readonly #calls: Collective;

  constructor(calls: Collective) {
    this.#calls = calls;
    this.rank = calls.rank;
    this.size = calls.size;
  }

  allReduce(values: Float32Array<ArrayBuffer>): Promise<void> {
    this.#count(2 * this.#others(values.byteLength));
    return this.#calls.allReduce(values);
  }

  broadcast(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#count(this.rank === 0 ? bytes.length : 0);
    return this.#calls.broadcast(bytes);
  }

  allGather(send: Uint8Array<ArrayBuffer>, receive: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#count((this.size - 1) * send.length);
    return this.#calls.allGather(send, receive);
  }

  allToAll(send: Uint8Array<ArrayBuffer>, receive: Uint8Array<ArrayBuffer>): Promise<void> {
    this.#count(this.#others(send.length));
    return this.#calls.allToAll(send, receive);
  }

  /** Waits for a call, and notes how long. */
  async wait(call: Promise<void>): Promise<void> {
    const since = stopwatch(), { traffic } = this;
    let ended = false;
    call.then(() => ended = true, () => {});
    // A call that has ended says so at once.
    await Promise.resolve();
    if (ended) return;
    await call;
    traffic.waits++;
    traffic.waited += since();
  }

  /** What is for the other ranks of so many bytes for all. */
  #others(bytes: number): number {
    return bytes * (this.size - 1) / this.size;
  }

  #count(bytes: number): void {
    this.traffic.messages++;
    this.traffic.bytes += Math.ceil(bytes);
  }
}
