/** Random programs: many of the random graphs, each with its gradients against float64. */

import { assert } from "@std/assert";
import { TOLERANCE, worstOf } from "../plan/random_graphs.ts";
import { draws, report, rounds } from "../soak.ts";

/** Graphs of a plan. */
const EACH = 10;

Deno.test("random programs and their gradients agree with float64", async () => {
  const random = draws(77), count = rounds(20, 5000), wrong: string[] = [];
  let worst = 0;
  for (let i = 0; i < count; i += EACH) {
    const { off, seed } = await worstOf(random.below(2 ** 31), EACH);
    worst = Math.max(worst, off);
    if (!(off < TOLERANCE)) wrong.push(`graph ${seed} is off by ${off}`);
  }
  report(`${count} random programs, the worst off by ${worst.toExponential(1)}`);
  assert(wrong.length === 0, wrong.join("\n"));
});
