/**
 * What commands do together on several processes, played in one. `tests/mpi/` has real ones.
 */

import { assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { type Collective, RankError } from "@resnette/resnette/train";
import { compareRanks } from "../../scripts/doctor/look.ts";
import { allDone, eachOf, shared } from "../../scripts/ranks.ts";
import { perStep, ranksText } from "../../scripts/report/text.ts";
import { together } from "../ranks.ts";

const named = (collective: Collective) => ({ ...collective, host: `host-${collective.rank}` });
const pause = (milliseconds: number) => new Promise((resume) => setTimeout(resume, milliseconds));

Deno.test("ranks share what rank 0 has, and tell each other what they have", async () => {
  const asked: number[] = [];
  const found = await together(3, async (ranks) => {
    const { rank } = ranks;
    const one = await shared(ranks, () => {
      asked.push(rank);
      return { path: "ä", steps: [1, 2] };
    });
    return [one, await shared(ranks, () => undefined), await eachOf(ranks, `of ${rank}`)];
  });
  const all = [{ path: "ä", steps: [1, 2] }, undefined, ["of 0", "of 1", "of 2"]];
  assertEquals(found, [all, all, all]);
  assertEquals(asked, [0]);
});

Deno.test("ranks wait for the slowest, and all fail where one does", async () => {
  const start = performance.now();
  const found = await together(
    2,
    (ranks) => allDone(named(ranks), pause(ranks.rank * 1500).then(() => ranks.rank)),
  );
  assertEquals(found, [0, 1]);
  if (performance.now() - start < 1500) throw new Error("one did not wait");

  const errors = await together(3, async (ranks) => {
    const work = ranks.rank === 1 ? Promise.reject(new Error("no disk")) : pause(30);
    return await assertRejects(() => allDone(named(ranks), work)) as Error;
  });
  assertEquals(errors[1]!.message, "no disk");
  for (const rank of [0, 2]) {
    assertInstanceOf(errors[rank], RankError);
    assertEquals(errors[rank]!.message, "rank 1 on host-1: no disk");
  }
});

Deno.test("doctor tells what ranks cannot train together, and what to do", () => {
  const rank = {
    host: "a",
    memory: [2 ** 30, 2 ** 31],
    computes: true,
    cores: 8,
    same: { adapter: "G", MPI: "M 1", Deno: "2.9.0", Resnette: "1" },
  } as const;
  const findings = compareRanks([
    rank,
    { ...rank, host: "b" },
    { ...rank, host: "c", same: { ...rank.same, adapter: "H", Deno: "2.9.1" } },
    { ...rank, host: "d", cores: 1 },
    { ...rank, host: "e", same: { ...rank.same, adapter: "none" }, computes: false },
  ]);
  assertEquals(findings.map(({ check, state, advice }) => [check, state, advice]), [
    ["rank 0", "ok", undefined],
    ["rank 1", "ok", undefined],
    [
      "rank 2",
      "error",
      "all ranks must have the same; unlike rank 0 it has adapter H, not G; Deno 2.9.1, not 2.9.0",
    ],
    ["rank 3", "warning", "if its machine has more than one core: mpirun --bind-to none"],
    ["rank 4", "error", "each rank needs an adapter on its machine"],
  ]);
  assertEquals(findings[1]!.found, "on b: G, 1.0 GiB of 2.0 GiB free, 8 cores, M 1");
});

Deno.test("ranks are counted by machine, and their traffic by step", () => {
  assertEquals(ranksText(["a", "b", "a"]), "3 ranks, 2 on a and 1 on b");
  const traffic = { steps: 4, messages: 10, bytes: 2e7, waits: 3, waited: 8.4 };
  assertEquals(perStep(traffic), {
    messages: "2.5",
    megabytes: "5.00",
    waits: "0.8",
    milliseconds: "2.1",
  });
});
