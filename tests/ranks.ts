/** Ranks played in one process, for tests of what several do together. Not a test. */

import { assertEquals } from "@std/assert";
import type { Collective } from "@resnette/resnette/train";

type Call = Exclude<keyof Collective, "rank" | "size">;
type Arrays = readonly (Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>)[];

/** What all ranks have to call before any of them goes on. */
interface Meeting {
  readonly call: Call;
  /** Of each rank that has come. */
  readonly arrays: Map<number, Arrays>;
  readonly done: PromiseWithResolvers<void>;
}

/** What the calls do, once the arrays of all ranks are there. */
const CALLS: Readonly<Record<Call, (all: readonly Arrays[]) => void>> = {
  allReduce(all) {
    const sums = all.map(([x]) => x!).reduce((a, b) => a.map((v, i) => v + b[i]!) as typeof a);
    all.forEach(([x]) => x!.set(sums));
  },
  broadcast: (all) => all.slice(1).forEach(([x]) => x!.set(all[0]![0]!)),
  allGather(all) {
    const size = all[0]![0]!.length;
    all.forEach(([, to]) => all.forEach(([from], r) => to!.set(from!, r * size)));
  },
  allToAll(all) {
    const size = all[0]![0]!.length / all.length;
    all.forEach(([, to], r) =>
      all.forEach(([from], k) => to!.set(from!.subarray(r * size, (r + 1) * size), k * size))
    );
  },
};

/** What `body` gives for each rank. If it fails on one, the others' calls fail as well. */
export async function together<T>(
  size: number,
  body: (collective: Collective) => Promise<T>,
): Promise<T[]> {
  const meetings: Meeting[] = [];
  let failure: { readonly error: unknown } | undefined;
  const fail = (error: unknown) => {
    failure ??= { error };
    meetings.forEach(({ done }) => done.reject(new Error("another rank failed")));
  };
  const collectiveOf = (rank: number): Collective => {
    let next = 0;
    const meet = (call: Call, ...arrays: Arrays): Promise<void> => {
      if (failure) return Promise.reject(new Error("another rank failed"));
      const place = next++;
      const meeting = meetings[place] ??= {
        ...{ call, arrays: new Map(), done: Promise.withResolvers<void>() },
      };
      meeting.done.promise.catch(() => {});
      meeting.arrays.set(rank, arrays);
      if (meeting.arrays.size < size) return meeting.done.promise;
      const all = Array.from({ length: size }, (_, r) => meeting.arrays.get(r)!);
      try {
        assertEquals(call, meeting.call, "ranks make different calls");
        for (const own of all) {
          assertEquals(own.map(({ length }) => length), arrays.map(({ length }) => length), call);
        }
        CALLS[call](all);
        meeting.arrays.clear();
        meeting.done.resolve();
      } catch (error) {
        fail(error);
      }
      return meeting.done.promise;
    };
    return {
      ...{ rank, size },
      allReduce: (values) => meet("allReduce", values),
      broadcast: (bytes) => meet("broadcast", bytes),
      allGather: (send, receive) => meet("allGather", send, receive),
      allToAll: (send, receive) => meet("allToAll", send, receive),
    };
  };
  const results = Array.from({ length: size }, (_, rank) => body(collectiveOf(rank)));
  results.forEach((result) => result.catch(fail));
  const ended = await Promise.allSettled(results);
  if (failure) throw failure.error;
  return ended.map((result) => (result as PromiseFulfilledResult<T>).value);
}

/** One of two ranks, for timing: what the other sends is the same, or nothing, and takes no time. */
export const twin: Collective = {
  ...{ rank: 0, size: 2 },
  allReduce: () => Promise.resolve(),
  broadcast: () => Promise.resolve(),
  allGather: (send, receive) => {
    receive.set(send);
    receive.set(send, send.length);
    return Promise.resolve();
  },
  allToAll: (send, receive) => {
    receive.set(send);
    return Promise.resolve();
  },
};
