/**
 * How the ranks of a run on several processes communicate: the interface, and a counter of what is
 * sent. `files/mpi.ts` (Deno only) implements it by MPI.
 *
 * @module
 */

import { stopwatch } from "../measure/timing.ts";
import { checkFunction, checkNumber, checkObject } from "../check/arguments.ts";

/**
 * Processes that train one network together, as one of them, the `rank`, sees them. All make the same
 * calls in the same order. A call may be made before the last one is done: they are done one after the
 * other. Nobody touches an array that is in a call. A call fails where a rank is lost; then the run is.
 */
export interface Collective {
  /** The number of this process, from 0 on. */
  readonly rank: number;
  /** How many processes there are. */
  readonly size: number;
  /** Sums over the ranks, element by element, in place. Every rank gets the same bits. */
  allReduce(values: Float32Array<ArrayBuffer>): Promise<void>;
  /** The bytes of rank 0, in place. */
  broadcast(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** The bytes of all ranks, one after the other: `receive` is `size` times as long as `send`. */
  allGather(send: Uint8Array<ArrayBuffer>, receive: Uint8Array<ArrayBuffer>): Promise<void>;
  /** To each rank its part of `send`, and from each its part for this one: both are as long. */
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

/** What ranks had to say to each other until now, as one of them saw it. */
export interface Traffic {
  /** Steps that they made together. */
  readonly steps: number;
  /** Calls of the collective. */
  readonly messages: number;
  /** Bytes that this rank had to send in these, at least: in a ring, for a sum, twice what it sums. */
  readonly bytes: number;
  /** Calls that the training had to wait for, as they had not ended when it needed them. */
  readonly waits: number;
  /** Milliseconds that it waited so. */
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
