/** Learning-rate schedules against PyTorch's, step by step. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import * as r from "@resnette/resnette";
import { readFixture } from "../fixture.ts";

const { ArgumentError } = r;

const SCHEDULES = {
  stepLR: r.stepLR,
  multiStepLR: r.multiStepLR,
  exponentialLR: r.exponentialLR,
  cosineAnnealingLR: r.cosineAnnealingLR,
  linearLR: r.linearLR,
  oneCycleLR: r.oneCycleLR,
};

type Name = keyof typeof SCHEDULES;
type Args = readonly [lr: number, options: object];
type Case =
  | { readonly name: Name; readonly args: Args }
  | {
    readonly name: "sequentialLR";
    readonly args: readonly [number, readonly [Name, object][], readonly number[]];
  };

const make = (name: Name, [lr, options]: Args) =>
  (SCHEDULES[name] as (lr: number, options: object) => r.Schedule)(lr, options);

Deno.test("every rate of every schedule is PyTorch's", async (t) => {
  const { metadata } = await readFixture("optim.safetensors");
  const cases: (Case & { readonly lrs: number[] })[] = JSON.parse(metadata["rates"]!);
  assertEquals(
    new Set(cases.map(({ name }) => name)),
    new Set([...Object.keys(SCHEDULES), "sequentialLR"]),
  );
  for (const { lrs, ...given } of cases) {
    await t.step(`${given.name} ${JSON.stringify(given.args)}`, () => {
      let rate: r.Schedule;
      if (given.name === "sequentialLR") {
        const [lr, schedules, milestones] = given.args;
        rate = r.sequentialLR(
          schedules.map(([name, options]) => make(name, [lr, options])),
          milestones,
        );
      } else rate = make(given.name, given.args);
      assertEquals(lrs.length, 20);
      lrs.forEach((lr, step) => {
        const off = Math.abs(rate(step) - lr);
        assert(off <= 1e-12 * given.args[0], `step ${step}: ${rate(step)}, not ${lr}`);
      });
    });
  }
});

Deno.test("the ends of a schedule are exact", () => {
  const warmup = r.linearLR(0.1, { startFactor: 0.3, totalIters: 7 });
  assertEquals([7, 8, 1000].map(warmup), [0.1, 0.1, 0.1]);
  assertEquals(r.cosineAnnealingLR(0.1, { TMax: 9 })(0), 0.1);
  assertEquals(r.oneCycleLR(0.1, { totalSteps: 10 })(2), 0.1);
});

Deno.test("what a schedule cannot be is an error in words", () => {
  const refused = (make: () => unknown, ...words: string[]) => {
    const { message } = assertThrows(make, ArgumentError);
    for (const word of words) assert(message.includes(word), message);
  };
  refused(() => r.stepLR(-1, { stepSize: 2 }), "stepLR: lr", "-1");
  refused(() => r.stepLR(1, { stepSize: 0 }), "stepLR: stepSize", "0");
  refused(() => r.multiStepLR(1, { milestones: [3, 2] }), "milestones[1]", "at least 3");
  refused(() => r.linearLR(1, { startFactor: 2 }), "linearLR: startFactor", "2");
  refused(() => r.linearLR(1, { totalIter: 2 } as object), 'no option "totalIter"', "totalIters");
  refused(() => r.oneCycleLR(1, { totalSteps: 3 })(3), "oneCycleLR: step", "totalSteps", "3");
  refused(() => r.exponentialLR(1, { gamma: 0.5 })(0.5), "exponentialLR: step", "0.5");
  refused(() => r.sequentialLR([r.linearLR(1)], [3]), "sequentialLR", "milestones", "1 and 1");
});
