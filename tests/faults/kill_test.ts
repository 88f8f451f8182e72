/** Runs that are killed or stopped at random moments, again and again, end as if nothing had happened. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Random } from "@resnette/resnette";
import { shellWord } from "../../lib/check/text.ts";
import { loadCheckpoint } from "../../lib/files/run.ts";
import { inFolder } from "../folder.ts";
import { draws, report, rounds } from "../soak.ts";
import {
  assertSameEnd,
  type Ended,
  epochsSaved,
  look,
  namesIn,
  nap,
  type Seen,
  SETTINGS,
  STEPS,
  train,
  Training,
  trainWhole,
  until,
} from "./training.ts";

/** More epochs than any of these runs comes to. */
const ENDLESS = "--epochs 9000";
/** Milliseconds within which a run has begun, and been through some epochs. */
const WHILE = 2000;

/** When something is to happen to a run: at some point of its work, or at any time. */
type Moment = "any" | "preparing" | "training" | "testing" | "saving";

/** Counts what happened when. */
class Tally {
  readonly #counts = new Map<string, number>();

  add(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }

  toString(): string {
    return [...this.#counts].map(([what, count]) => `${count} ${what}`).sort().join(", ");
  }
}

const pause = (milliseconds: number) =>
  new Promise<void>((resume) => setTimeout(resume, milliseconds));

/** Starts a run, or goes on with it where something of it is saved. */
const start = (run: string) =>
  new Training(look(run).saved > 0 ? `--resume ${run}` : `${SETTINGS} ${ENDLESS} --out ${run}`);

/** Waits for a moment of a run that was started when its folder showed `before`. */
async function wait(
  training: Training,
  run: string,
  before: Seen,
  moment: Moment,
  random: Random,
): Promise<void> {
  const goal = before.saved + STEPS * random.below(3);
  const isNew = ({ trained, saved }: Seen) => trained > saved && saved >= goal;
  const moments: Record<Exclude<Moment, "any">, () => boolean> = {
    preparing: () => training.said.includes("training on"),
    training: () => isNew(look(run)) && look(run).trained % STEPS !== 0,
    testing: () => {
      const seen = look(run);
      return isNew(seen) && seen.trained % STEPS === 0 && !seen.tested;
    },
    saving: () => {
      const { partial, saved } = look(run);
      return partial !== undefined && partial !== before.partial && saved >= goal;
    },
  };
  if (moment !== "any") await until(moments[moment]);
  // A checkpoint is written in some five milliseconds: too few for a timer.
  if (moment === "saving") nap(random.below(20) / 10);
  else await pause(random.below(moment === "any" ? WHILE : 30));
}

/** In what the folder shows that a run was killed. */
function killedIn(before: Seen, seen: Seen): string {
  if (seen.partial !== undefined && seen.partial !== before.partial) {
    return `writing a checkpoint (${namesIn(seen.partial).length} files begun)`;
  }
  if (!seen.begun || seen.trained <= before.saved && seen.saved === before.saved) return "start-up";
  if (seen.trained <= seen.saved) return "after saving";
  if (seen.tested) return "before saving";
  return seen.trained % STEPS === 0 ? "testing" : "training";
}

Deno.test("a run that is killed again and again ends with the bits of one that was left alone", () =>
  inFolder(async (folder) => {
    const random = draws(0xdead);
    const run = `${folder}/killed`;
    const tally = new Tally();
    const kills = rounds(3, 20);
    const wanted: Moment[] = ["preparing", "saving", "testing", "any", "training", "any"];
    let written = 0, first = 0;
    for (let kill = 0; kill < kills || written < rounds(1, 5); kill++) {
      assert(kill < 10 * kills, "hardly a kill came while a checkpoint was written");
      const before = look(run);
      await using training = start(run);
      // The last ones, until enough have come in the middle of a checkpoint.
      const moment = kill < kills ? wanted[kill % wanted.length]! : "saving";
      await wait(training, run, before, moment, random);
      if (kill % 4 === 3) {
        // A stop is killed too: while it is written, or takes the place of the last one.
        training.signal("SIGTERM");
        await pause(random.below(60));
      }
      training.signal("SIGKILL");
      const { signal, code, err } = await training.ended;
      assert(signal === "SIGKILL" || kill % 4 === 3 && code === 143, err);
      const seen = look(run);
      assert(seen.saved >= before.saved);
      for (const name of namesIn(`${run}/checkpoints`).filter((name) => /^epoch-\d+$/.test(name))) {
        await loadCheckpoint(`${run}/checkpoints/${name}`);
      }
      if (seen.saved > 0) {
        assertEquals((await loadCheckpoint(run)).checkpoint.run.steps, seen.saved);
      }
      const when = killedIn(before, seen);
      if (when.startsWith("writing")) written++;
      if (seen.saved === 0) first++;
      tally.add(signal ? when : "in vain, as it had stopped");
    }
    // These too can be left, by kills at moments that did not come.
    await Deno.mkdir(`${run}/report`, { recursive: true });
    for (const name of [".resnette-0.tmp", "report/.resnette-1.tmp"]) {
      await Deno.writeTextFile(`${run}/${name}`, "half");
    }
    const epochs = await epochsSaved(run) + 2;
    const whole = `${folder}/whole`, settings = `${SETTINGS} --epochs ${epochs} --out`;
    await trainWhole(
      look(run).saved > 0 ? `--resume ${run} --epochs ${epochs}` : `${settings} ${run}`,
    );
    await trainWhole(`${settings} ${whole}`);
    await assertSameEnd(run, whole, epochs);
    report(`kill: ${tally}; ${first} before the first checkpoint; ${epochs} epochs, same bits`);
  }));

/** Asserts that a signal ended a process as promised, and says when it came. */
async function assertStopped(
  run: string,
  before: Seen,
  signal: Deno.Signal,
  ended: Ended,
): Promise<string> {
  const { code, err } = ended;
  const seen = look(run);
  const expected = signal === "SIGINT" ? 130 : 143;
  assertEquals(code, expected, err);
  if (ended.signal !== null) {
    // Before the command could say how it is to be handled, and so before it did anything.
    assertEquals([seen, ended.out], [before, ""]);
    return "start-up";
  }
  assertMatch(
    err,
    new RegExp(`^${signal}: finishing the step and saving; a second signal stops`, "m"),
  );
  const lastLine = err.trimEnd().split("\n").at(-1)!;
  if (seen.saved === 0) {
    assertEquals(lastLine, "stopped before the first step; nothing is saved");
    assertEquals(namesIn(run), []);
    return "preparing";
  }
  assertEquals(lastLine, `stopped; to go on: deno task train --resume ${shellWord(run)}`);
  const { checkpoint: { run: state } } = await loadCheckpoint(run);
  assertEquals(state.steps, seen.saved);
  assert(seen.trained <= seen.saved, "all that was trained is saved");
  if (!/^saved /m.test(err)) return "preparing";
  const saved = err.lastIndexOf("saved "), came = err.indexOf(`${signal}: `);
  if (came > saved) return "reporting";
  // An epoch that is complete was complete, or nearly so, when the signal came.
  if (state.step === 0) return "saving";
  return state.step === STEPS ? "testing" : "training";
}

Deno.test("a signal saves what has been done, whenever it comes, and the run goes on from there", () =>
  inFolder(async (folder) => {
    const random = draws(0x5161);
    const run = `${folder}/stopped`;
    const tally = new Tally();
    const wanted: Moment[] = ["preparing", "testing", "saving", "training", "any", "any"];
    for (let stop = 0; stop < rounds(4, 24); stop++) {
      const before = look(run);
      await using training = start(run);
      await wait(training, run, before, wanted[stop % wanted.length]!, random);
      const signal = random.below(2) === 0 ? "SIGINT" : "SIGTERM";
      training.signal(signal);
      tally.add(await assertStopped(run, before, signal, await training.ended));
    }
    const epochs = await epochsSaved(run) + 2;
    const whole = `${folder}/whole`;
    await trainWhole(`--resume ${run} --epochs ${epochs}`);
    await trainWhole(`${SETTINGS} --epochs ${epochs} --out ${whole}`);
    await assertSameEnd(run, whole, epochs);
    const stops = namesIn(`${run}/checkpoints`).filter((name) => name.includes("step"));
    assertEquals(stops, [], "those of stops are cleared away");
    report(`signals: ${tally}; ${epochs} epochs, same bits`);
  }));

Deno.test("a folder that another process trains in is refused until that process is no more", () =>
  inFolder(async (folder) => {
    const run = `${folder}/run`, whole = `${folder}/whole`;
    await using training = new Training(`${SETTINGS} ${ENDLESS} --out ${run}`);
    await until(() => look(run).saved > 0);
    for (const words of [`--resume ${run}`, `${SETTINGS} --out ${run}`]) {
      const { code, err } = await train(words);
      assertEquals(code, 1);
      const who = `error: ${run}: another process is training there (process ${training.pid});`;
      assertStringIncludes(err, who);
    }
    training.signal("SIGKILL");
    await training.ended;
    const epochs = await epochsSaved(run) + 1;
    await trainWhole(`--resume ${run} --epochs ${epochs}`);
    await trainWhole(`${SETTINGS} --epochs ${epochs} --out ${whole}`);
    await assertSameEnd(run, whole, epochs);
  }));
