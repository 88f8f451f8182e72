/** A few random graphs; `tests/faults/graphs_test.ts` tries many. */

import { assert } from "@std/assert";
import { TOLERANCE, worstOf } from "./random_graphs.ts";

Deno.test("random graphs and their gradients agree with float64", async () => {
  const { off, seed } = await worstOf(190, 6);
  assert(off < TOLERANCE, `graph ${seed} is off by ${off}`);
});
