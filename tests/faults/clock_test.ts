/**
 * A clock that steps back. Durations are measured by one that cannot (`performance.now`), and files
 * that are named by the clock take no other's place.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { readMetrics } from "../../scripts/report/metrics_log.ts";
import { inFolder } from "../folder.ts";
import { draws, report, rounds } from "../soak.ts";
import { assertSameEnd, SETTINGS, train, trainWhole } from "./training.ts";

const HOUR = 3_600_000;
/** The time at which every run of this process begins, in 2001. */
const START = 1e12 + 1000 * (Deno.pid % 1e6);
/** The folder of such a run. */
const NAME = `${new Date(START).toISOString().slice(0, 19).replaceAll(":", "-")}-tiny`;

/** Runs `work` with a clock that goes back an hour each time that it is read; how often that was. */
async function withClock(work: () => Promise<void>): Promise<number> {
  const RealDate = Date;
  let reads = 0;
  const now = () => START - HOUR * reads++;
  class SteppingDate extends RealDate {
    constructor(...given: unknown[]) {
      super(...(given.length > 0 ? given : [now()]) as [number]);
    }
    static override now = now;
  }
  globalThis.Date = SteppingDate as DateConstructor;
  try {
    await work();
  } finally {
    globalThis.Date = RealDate;
  }
  return reads;
}

/** Asserts that what is said and noted of times is what they were. */
async function assertTimes(run: string, said: string): Promise<void> {
  assertEquals(said.match(/(?<![\w])-\d.*/g), null, "nothing is negative");
  const { steps, epochs, warnings } = await readMetrics(run);
  assertEquals(warnings, []);
  for (const { seconds } of epochs) assert(seconds > 0 && seconds < 60, `${seconds} seconds`);
  for (const { imagesPerSecond: rate } of steps) assert(rate > 1 && rate < 1e6, `${rate} images/s`);
  const times = [...steps, ...epochs].map(({ time }) => Date.parse(time));
  assert(Math.max(...times) - Math.min(...times) >= HOUR, "the clock has stepped");
}

Deno.test("a clock that steps back changes no duration, and no run takes another's folder", () =>
  inFolder(async (folder) => {
    const random = draws(0xc10c);
    const first = `runs/${NAME}`, second = `${first}-2`;
    const remove = async () => {
      for (const path of [first, second]) {
        await Deno.remove(path, { recursive: true }).catch(() => {});
      }
    };
    let reads = 0;
    await remove();
    try {
      for (let round = 0; round < rounds(1, 5); round++) {
        const before = 2 + random.below(2), after = before + 1 + random.below(2);
        const whole = `${folder}/${round}`;
        await trainWhole(`${SETTINGS} --epochs ${after} --out ${whole}`);
        for (const run of [first, second]) {
          reads += await withClock(async () => {
            const { code, out, err } = await train(`${SETTINGS} --epochs ${before}`);
            assertEquals(code, 0, err);
            assertMatch(err, new RegExp(`^${run}: `, "m"));
            await assertTimes(run, out + err);
          });
        }
        // The later a checkpoint is, the older it looks.
        for (let epoch = 1; epoch <= before; epoch++) {
          const time = (START - epoch * HOUR) / 1000;
          await Deno.utime(`${first}/checkpoints/epoch-${epoch}`, time, time);
        }
        reads += await withClock(async () => {
          const { code, out, err } = await train(`--resume ${first} --epochs ${after}`);
          assertEquals(code, 0, err);
          assertMatch(out.split("\n")[1]!, new RegExp(`^epoch ${before + 1}, `));
          await assertTimes(first, out + err);
        });
        await assertSameEnd(first, whole, after);
        await trainWhole(`--resume ${second} --epochs ${after}`);
        await assertSameEnd(second, whole, after);
        await remove();
      }
    } finally {
      await remove();
    }
    report(`clock: ${reads} steps back`);
  }));
