/**
 * What the ranks of a run that is spread over several processes do together. Here is only what they
 * are asked for; `files/mpi.ts` (Deno only) does it by MPI.
 *
 * @module
 */

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
