/**
 * What each rank must see of the calls of {@linkcode Mpi}; throws if it sees something else. Not a
 * test.
 */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { Mpi, MpiError } from "@resnette/resnette/mpi";

const mpi = await Mpi.init({ timeout: 60 }), { rank, size } = mpi;
assertStrictEquals(await Mpi.init(), mpi);
assert(size > 1 && mpi.host !== "" && mpi.library !== "");

// More than fits into any buffer of a library's, and nothing at all.
for (const length of [0, 1, 1000, 300_001]) {
  const values = Float32Array.from({ length }, (_, i) => rank + i % 7);
  await mpi.allReduce(values);
  const sum = size * (size - 1) / 2;
  assert(values.every((x, i) => x === sum + size * (i % 7)), `allReduce of ${length}`);

  const bytes = Uint8Array.from({ length }, (_, i) => rank === 0 ? i % 251 : 255);
  await mpi.broadcast(bytes);
  assert(bytes.every((x, i) => x === i % 251), `broadcast of ${length}`);

  const all = new Uint8Array(size * length);
  await mpi.allGather(new Uint8Array(length).fill(rank + 1), all);
  assert(all.every((x, i) => x === Math.floor(i / length) + 1), `allGather of ${length}`);

  const send = Uint8Array.from(all, (_, i) => 10 * rank + Math.floor(i / length));
  await mpi.allToAll(send, all);
  assert(all.every((x, i) => x === 10 * Math.floor(i / length) + rank), `allToAll of ${length}`);
}

// A part of a buffer is a part, and calls that are made at once are done in turn, as all ranks do.
const buffer = new Float32Array(12).fill(1);
await Promise.all([
  ...[0, 4, 8].map((i) => mpi.allReduce(buffer.subarray(i, i + 2))),
  mpi.broadcast(new Uint8Array(buffer.buffer, 8, 4)),
]);
assertEquals([...buffer], [size, size, 1, 1, size, size, 1, 1, size, size, 1, 1]);

// Sums of numbers that are rounded are the same bits on all ranks.
const rounded = Float32Array.from({ length: 5000 }, (_, i) => Math.sin(i + 100 * rank));
await mpi.allReduce(rounded);
const own = new Uint8Array(rounded.buffer), others = new Uint8Array(size * own.length);
await mpi.allGather(own, others);
for (let i = 0; i < others.length; i++) assert(others[i] === own[i % own.length], "the same bits");

// Memory that nobody else holds any more is kept for a call that runs.
const churn = setInterval(() => new Float32Array(1_000_000).fill(-1), 1);
for (let i = 0; i < 20; i++) {
  const values = new Float32Array(200_000).fill(rank);
  await mpi.allReduce(values);
  assertEquals(values[i], size * (size - 1) / 2);
}
clearInterval(churn);

await mpi.finalize();
await assertRejects(() => mpi.allReduce(new Float32Array(1)), MpiError, "left the others already");
console.log(`rank ${rank} of ${size} saw what it must, by ${mpi.library}`);
