/**
 * `deno task test:mpi`: training on several ranks that a launcher starts, by each library of MPI
 * that is installed: what one says and writes, what happens if one fails, and that all go on to the
 * same bits.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { shellWord } from "../../lib/check/text.ts";
import { loadCheckpoint } from "../../lib/files/run.ts";
import { readMetrics } from "../../scripts/report/metrics_log.ts";
import { inFolder } from "../folder.ts";
import { draws, report, rounds } from "../soak.ts";
import {
  assertSameBits,
  type Ended,
  look,
  namesIn,
  SETTINGS,
  shell,
  STEPS,
  unfinished,
  until,
} from "../faults/training.ts";
import { commandOf, findLibraries, Job, type Library } from "./launch.ts";

const LIBRARIES = await findLibraries();
/** More epochs than any of these runs comes to. */
const ENDLESS = "--epochs 9000";
/** Seconds in which a job must have ended that lost a rank: a launcher takes a second or two. */
const SOON = 30;
/** What a rank is called, in words of a shell. */
const RANK = "${OMPI_COMM_WORLD_RANK-$PMI_RANK}";

const pause = (milliseconds: number) => new Promise((resume) => setTimeout(resume, milliseconds));

/** How a job ended, which must be soon. */
async function endOf(job: Job): Promise<Ended> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`it goes on: ${job.said}`)), 1000 * SOON);
  try {
    return await Promise.race([job.ended, late.promise]);
  } finally {
    clearTimeout(timer);
    // None of its processes is left, though a launcher need not wait for the last to go.
    const alive = 'for p; do kill -0 "$p" 2>/dev/null && echo "$p"; done; true';
    for (let tries = 0; await shell(alive, ...job.ranks.map(String)) !== ""; tries++) {
      assert(tries < 10 * SOON, `processes are left: ${job.ranks}`);
      await pause(100);
    }
  }
}

/** Runs a job to its end, which must be a good one. */
async function whole(library: Library, ranks: number, words: string, before = ""): Promise<Ended> {
  await using job = new Job(library, ranks, words, { before });
  const ended = await job.ended;
  assertEquals(ended.code, 0, ended.err);
  return ended;
}

/** Starts two ranks, or goes on with them where something of a run is saved. */
function start(library: Library, run: string, more = "", fault = "", before = ""): Job {
  const words = look(run).saved > 0 ? `--resume ${run}` : `${SETTINGS} --out ${run}`;
  return new Job(library, 2, `${fault} ${words} ${ENDLESS} ${more}`, { before });
}

for (const library of LIBRARIES) {
  const test = (name: string, body: (folder: string, t: Deno.TestContext) => Promise<void>) =>
    Deno.test(`${library.name}: ${name}`, (t) => inFolder((folder) => body(folder, t)));

  test("the calls do what they say, on three ranks", async () => {
    const out = await shell(commandOf(library, 3, "tests/mpi/calls.ts"));
    assertEquals(out.match(/^rank [012] of 3 saw what it must/gm)?.length, 3, out);
  });

  test("one speaks and writes, and the report says ranks, hosts and traffic", async (folder) => {
    const run = `${folder}/run`;
    const { out, err } = await whole(library, 2, `${SETTINGS} --epochs 2 --out ${run}`);
    assertMatch(
      out,
      /^training on [^\n]*; 2 ranks, 2 on [\w.-]+, by (Open MPI|MPICH)[^\n]*\n(epoch [12], loss [^\n]*\n){2}$/,
    );
    assertEquals(err.match(/^saved /gm)?.length, 2, err);
    assertMatch(err, /^to the other ranks, a step: \d+\.\d messages, 0\.\d\d MB; \d+\.\d waits,/m);
    assertEquals(namesIn(`${run}/checkpoints`), ["epoch-1", "epoch-2"]);
    const { run: first, epochs } = await readMetrics(run);
    assertEquals(first!.ranks!.hosts.length, 2);
    assertEquals(epochs[1]!.traffic!.steps, 2 * STEPS);
    const page = await Deno.readTextFile(`${run}/report.md`);
    assertMatch(page, /^\| ranks \| 2 ranks, 2 on .*, by (Open MPI|MPICH).* \|$/m);
    assertMatch(page, /^\| messages to other ranks, a step \| [\d.]+, [\d.]+ MB \|$/m);

    const words = `tests/tiny_train.ts eval ${run} --limit 120 --batch-size 24`;
    const [alone, together] = [
      await shell(commandOf(library, 1, words)),
      await shell(commandOf(library, 2, words)),
    ];
    assertMatch(together, /^test acc 0\.\d+ \(\d+ of 120\)$/m);
    assertEquals(together, alone);
  });

  test("a rank without images gets them, and a run goes on, on fewer and on more ranks", async (folder) => {
    const run = `${folder}/run`, nowhere = `${folder}/nowhere`;
    await Deno.mkdir(nowhere);
    const elsewhere = `sh -c 'test ${RANK} = 0 || cd "${nowhere}"; exec "$@"' sh`;
    const { err } = await whole(library, 2, `${SETTINGS} --epochs 1 --out ${run}`, elsewhere);
    assertStringIncludes(err, "sending the images to 1 rank that has none");
    await assertSameBits(run, await undisturbed(), 1);
    const { out } = await whole(library, 1, `--resume ${run} --epochs 2`);
    assertMatch(out, /^training on [^;]*\nepoch 2, loss \d/);
    const more = await whole(library, 3, `--resume ${run} --epochs 3 --broadcast`);
    assertMatch(more.out, /; 3 ranks, .*\nepoch 3, loss \d/);
    assertStringIncludes(more.err, "sending the images to all ranks");
    assertEquals((await loadCheckpoint(run)).checkpoint.run.steps, 3 * STEPS);
  });

  test("whatever ends a rank ends all, and they go on to the same bits", async (folder, t) => {
    const run = `${folder}/run`, random = draws(0xdead), when: string[] = [];
    const RESUME = `mpirun -n 2 deno task train --resume ${shellWord(run)}`;
    /** Waits until a job has saved something, and a while. */
    const isOn = async (job: Job, before: number) => {
      await until(() => job.ranks.length === 2 && look(run).saved > before);
      await pause(random.below(500));
    };
    const ends = (name: string, body: (before: number) => Promise<void>) =>
      t.step(name, async () => {
        const { saved } = look(run);
        await body(saved);
        const after = look(run);
        assert(after.saved >= saved);
        if (after.saved > 0) await loadCheckpoint(run);
        when.push(`${name} after ${after.trained} steps`);
      });

    for (let kill = 0; kill < rounds(3, 20); kill++) {
      const victim = kill % 2, isEarly = kill % 5 === 2;
      await ends(`rank ${victim} is killed`, async (before) => {
        await using job = start(library, run);
        if (isEarly) await until(() => job.ranks.length === 2);
        else await isOn(job, before);
        if (rounds(0, 1)) await pause(random.below(2000));
        await shell('kill -9 "$1"', `${job.ranks[victim]}`);
        const { code, err } = await endOf(job);
        assert(code !== 0, err);
        if (!isEarly) assertStringIncludes(err, `if a rank is lost, go on by: ${RESUME}`);
      });
    }
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      await ends(`${signal} for all`, async (before) => {
        await using job = start(library, run);
        await isOn(job, before);
        await shell('s=$1; shift; kill "-$s" "$@"', signal.slice(3), ...job.ranks.map(String));
        const { code, err } = await endOf(job);
        assertEquals(code, signal === "SIGINT" ? 130 : 143, err);
        assertStringIncludes(err, `stopped; to go on: ${RESUME}`);
      });
    }
    for (const victim of [0, 1]) {
      await ends(`rank ${victim} hangs`, async (before) => {
        await using job = start(library, run, "--timeout 3");
        await isOn(job, before);
        await shell('kill -STOP "$1"', `${job.ranks[victim]}`);
        const { code, err } = await endOf(job);
        assert(code !== 0, err);
        assertMatch(err, new RegExp(`error: rank ${1 - victim} on .*: \\w+ waited 3 seconds`));
        assertMatch(err, new RegExp(`to go on from .*epoch-\\d+: ${RESUME}`));
      });
    }
    const faults = {
      "lost=40":
        /^rank 1 on .*: error: the device was lost .*; to go on from .*: mpirun -n 2 deno task/m,
      "full=5": /^error: .*No space left on device.*; then go on from .*: mpirun -n 2 deno task/m,
      "uncaught=900": /^Error: of rank 1$/m,
    };
    for (const [fault, words] of Object.entries(faults)) {
      await ends(fault, async () => {
        await using job = start(library, run, "", fault);
        const { code, err } = await endOf(job);
        assert(code !== 0, err);
        assertMatch(err, words, fault);
      });
    }
    await ends("what started rank 1 is killed", async (before) => {
      // A shell in between, as `deno task` is.
      await using job = start(library, run, "", "", "sh -c '\"$@\"; exit' sh");
      await isOn(job, before);
      await shell('kill -9 "$(sed -n "s/^PPid:[^0-9]*//p" "/proc/$1/status")"', `${job.ranks[1]}`);
      const { code, err } = await endOf(job);
      assert(code !== 0, err);
    });

    const epochs = (await loadCheckpoint(run)).checkpoint.run.history.length + 1;
    await whole(library, 2, `--resume ${run} --epochs ${epochs}`);
    await assertSameBits(run, await undisturbed(epochs), epochs);
    assertEquals(unfinished(run), []);
    report(`${library.name}: ${when.join(", ")}; ${epochs} epochs, same bits`);
  });

  test("ranks that differ are told apart, and none trains", async (folder) => {
    const seed = `sh -c '"$@" --seed ${RANK}' sh`, words = `${SETTINGS} --out ${folder}/run`;
    await using job = new Job(library, 2, words, { before: seed });
    const { code, err } = await endOf(job);
    assertEquals(code, 1, err);
    assertMatch(err, /error: .*the ranks must not differ, but rank 1 has .*seed 1, not 0/);
    assertEquals(namesIn(`${folder}/run/checkpoints`), []);
  });
}

/** A run of two ranks that nothing happens to: its folder, where it has the state after so many epochs. */
async function undisturbed(epochs = 1): Promise<string> {
  const folder = reference ??= await Deno.makeTempDir({ prefix: "resnette_" });
  if (look(folder).saved < epochs * STEPS) {
    const words = look(folder).saved > 0 ? `--resume ${folder}` : `${SETTINGS} --out ${folder}`;
    await whole(LIBRARIES[0]!, 2, `${words} --epochs ${epochs + 5}`);
  }
  return folder;
}
let reference: string | undefined;
Deno.test.afterAll(async () => {
  if (reference !== undefined) await Deno.remove(reference, { recursive: true });
});

Deno.test("what cannot work is told with what to do", async () => {
  const [first] = LIBRARIES, other = LIBRARIES.at(-1)!;
  const fails = async (library: Library, given: string, may = "") => {
    const before = `env RESNETTE_MPI=${given}`;
    await using job = new Job(library, 2, SETTINGS, { before, may }, "scripts/train.ts");
    const { code, err } = await endOf(job);
    assert(code !== 0, err);
    return err;
  };
  const nowhere = "/nowhere/libmpi.so", permit = `--allow-ffi=${nowhere}`;
  assertStringIncludes(
    await fails(first!, nowhere),
    `Deno may not load a library of MPI; permit it by its path, as ${permit}. ` +
      `Instead of deno task train: deno run -q ${permit} -P=train --lock=.links/deno.lock scripts/train.ts`,
  );
  assertMatch(await fails(first!, nowhere, permit), /cannot be loaded: .*\/nowhere\/libmpi\.so/);
  assertMatch(await fails(first!, "libmpi.so"), /must be the whole path of a library/);
  if (other === first) return;
  for (const [library, wrong] of [[first!, other], [other, first!]] as const) {
    const words = /started 2 processes, but .* knows of 1: it is not the library of that launcher/;
    assertMatch(await fails(library, wrong.path), words);
  }
});
