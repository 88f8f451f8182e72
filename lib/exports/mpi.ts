/**
 * Several processes by MPI, on one machine or several. Deno only.
 *
 * @example A sum over all processes that `mpirun` started; alone, over one
 * ```ts
 * import { Mpi } from "@resnette/resnette/mpi";
 * import { assertEquals } from "@std/assert";
 *
 * const mpi = await Mpi.init();
 * const values = new Float32Array([1, 2]);
 * await mpi.allReduce(values);
 * assertEquals(values, new Float32Array([mpi.size, 2 * mpi.size]));
 * ```
 *
 * @module
 */

export { Mpi, MpiError, type MpiErrorCode, type MpiOptions } from "../files/mpi.ts";
