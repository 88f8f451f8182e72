/**
 * How long the tests that break things go on: briefly in the suite, for long in `deno task test:soak`
 * (`SOAK=1`). What they break is drawn from a seed, which they print: always 1 in the suite, another
 * one each time in a soak, and `SEED` if that is set.
 */

import { Random } from "@resnette/resnette";

const soak = Deno.env.get("SOAK") === "1";
const given = Deno.env.get("SEED");
const drawn = soak ? crypto.getRandomValues(new Uint32Array(1))[0]! : 1;

/** The source of the draws. */
export const SEED = given === undefined ? drawn : Number(given);

console.log(`seed ${SEED}`);

/** The first in the suite, the second in a soak. */
export function rounds(suite: number, long: number): number {
  return soak ? long : suite;
}

/** Draws for one test: the same numbers for the same seed, whichever tests run. */
export function draws(stream: number): Random {
  return new Random(SEED, stream);
}

/** Prints what was done, with the seed that does it again. */
export function report(what: string): void {
  console.log(`${what}; seed ${SEED}`);
}
