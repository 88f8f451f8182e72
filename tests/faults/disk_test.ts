/**
 * Disks that are full or may not be written to, and folders that are in use: a run says what to do,
 * keeps what it has saved, leaves nothing half written, and goes on later to the same bits.
 *
 * In the suite the full disk is played, at any operation. The kernel's own refusals come from a
 * limit on the size of files, and from files where folders should be, so nobody needs to be root.
 * (A limit on a whole training run kills Mesa's software adapter, whose memory counts as a file.) A
 * soak has real disks: a small tmpfs and folders mounted read-only.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { CHECKPOINT_FILES } from "@resnette/resnette/train";
import { shellWord } from "../../lib/check/text.ts";
import { loadCheckpoint } from "../../lib/files/run.ts";
import { readMetrics } from "../../scripts/report/metrics_log.ts";
import type { Ended } from "../call.ts";
import { inFolder } from "../folder.ts";
import { draws, report, rounds } from "../soak.ts";
import {
  assertSameBits,
  assertSameEnd,
  commandOf,
  look,
  namesIn,
  SETTINGS,
  shell,
  STEPS,
  train,
  trainWhole,
  unfinished,
} from "./training.ts";

const FULL = "No space left on device (os error 28)";
/** What to do, and the command to go on with. */
const ADVICE = /\. Free some space there, or make it writable; then (.*): deno task train (.*)$/m;

/** What is done to files while `work` runs, told to `refuses`, which may say that the disk is full. */
async function onDisk<T>(refuses: (what: string) => boolean, work: () => Promise<T>): Promise<T> {
  const paths = new WeakMap<Deno.FsFile, string>(), half = new WeakSet<Deno.FsFile>();
  const file = Deno.FsFile.prototype;
  const { open, mkdir, rename } = Deno, { write, sync } = file;
  const check = (what: string) => {
    if (refuses(what)) throw new Error(`${FULL}: ${what}`);
  };
  Deno.open = async (path, options) => {
    const opened = await open(path, options);
    paths.set(opened, `${path}`);
    return opened;
  };
  Deno.mkdir = async (path, options) => {
    check(`mkdir ${path}`);
    await mkdir(path, options);
  };
  Deno.rename = async (from, to) => {
    check(`rename ${from} ${to}`);
    await rename(from, to);
  };
  file.sync = async function () {
    check(`sync ${paths.get(this)}`);
    await sync.call(this);
  };
  file.write = async function (bytes) {
    const what = `write ${paths.get(this)}`;
    if (half.has(this)) check(what);
    if (!refuses(what)) return await write.call(this, bytes);
    // Some of it still fits; the next write is refused.
    half.add(this);
    return await write.call(this, bytes.subarray(0, bytes.length >> 1));
  };
  try {
    return await work();
  } finally {
    Object.assign(Deno, { open, mkdir, rename });
    Object.assign(file, { write, sync });
  }
}

const copy = async (from: string, to: string) => void await shell('cp -R "$1" "$2"', from, to);

/**
 * Asserts that a run was refused to write, for a reason, and kept what it had: in its folder, or in a
 * copy of that. The words of the command to go on with.
 */
async function assertRefused(
  { code, err }: Pick<Ended, "code" | "err">,
  run: string,
  why: string,
  kept = run,
): Promise<string> {
  assertEquals(code, 1, err);
  const last = err.trimEnd().split("\n").at(-1)!;
  assert(last.startsWith(`error: could not write ${run}`), last);
  assertStringIncludes(last, `: ${why}. Free`);
  const [, where, command] = last.match(ADVICE)!;
  await assertKept(kept);
  if (where !== "try again") {
    assertEquals(where, `go on from ${(await loadCheckpoint(kept)).path.replace(kept, run)}`);
  }
  return command!;
}

/** Asserts that every file in a run's folder is whole. */
async function assertKept(run: string): Promise<void> {
  if (namesIn(run).length === 0) return;
  assertEquals(unfinished(run), []);
  for (const name of namesIn(`${run}/checkpoints`)) {
    await loadCheckpoint(`${run}/checkpoints/${name}`);
  }
  assertEquals((await readMetrics(run)).warnings, []);
}

Deno.test("at every operation on files, each checkpoint is whole", () =>
  inFolder(async (folder) => {
    const run = `${folder}/run`, seen: string[] = [], broken: string[] = [];
    const watch = (what: string) => {
      seen.push(what);
      for (const name of namesIn(`${run}/checkpoints`)) {
        const files = name.startsWith("epoch-") && namesIn(`${run}/checkpoints/${name}`);
        if (files && files.join() !== CHECKPOINT_FILES.join()) broken.push(`${what}: ${files}`);
      }
      return false;
    };
    await onDisk(watch, () => trainWhole(`${SETTINGS} --epochs 3 --out ${run}`));
    assertEquals(broken, []);
    // A folder, three files, each by way of another name, and the folder's own.
    const operations = seen.filter((what) => what.includes(".partial-"));
    assertEquals(operations.length, 3 * (1 + 3 * 3 + 1));
    assertEquals(operations.map((what) => what.split(" ")[0]).slice(-4), [
      "write",
      "sync",
      "rename",
      "rename",
    ]);
  }));

/** The operation that finds a disk full, and how often it succeeds before, at most. */
const PLACES: readonly [what: RegExp, before: number][] = [
  [/\.partial-/, 11],
  [/^write .*\/lock$/, 1],
  [/^write .*\/metrics\.jsonl$/, 5],
  [/^write .*\/\.resnette-[^/]+$/, 12],
  [/^(mkdir|rename) .*report/, 12],
];

Deno.test("a disk that is full costs no checkpoint, and the run goes on when there is space", () =>
  inFolder(async (folder) => {
    const random = draws(0xd15c);
    const settings = `${SETTINGS.replace("sgd --momentum 0.8", "adam")}`;
    await trainWhole(`${settings} --epochs 1 --out ${folder}/base`);
    await trainWhole(`${settings} --epochs 2 --out ${folder}/whole`);
    let refused = 0, unharmed = 0;
    for (let round = 0; round < rounds(4, 40); round++) {
      const fresh = round % 4 === 2, run = `${folder}/${round}`;
      if (!fresh) await copy(`${folder}/base`, run);
      const [place, before] = PLACES[round < 4 ? round % 2 : random.below(PLACES.length)]!;
      let [left, full] = [random.below(before), false];
      const ended = await onDisk(
        (what) => full ||= place.test(what) && left-- === 0,
        () => train(fresh ? `${settings} --epochs 2 --out ${run}` : `--resume ${run} --epochs 2`),
      );
      if (ended.code === 0) {
        // It was full only when all was saved, or nearly never.
        if (full) assertMatch(ended.err, new RegExp(`^warning: no report \\(.*${run}`, "m"));
        await assertKept(run);
        await assertSameBits(run, `${folder}/whole`, 2);
        unharmed++;
      } else {
        await trainWhole(await assertRefused(ended, run, FULL));
        await assertSameEnd(run, `${folder}/whole`, 2);
        refused++;
      }
      await Deno.remove(run, { recursive: true });
    }
    report(`full disk, played: ${refused} runs refused and resumed, ${unharmed} not harmed`);
  }));

Deno.test("a file that the kernel cuts short makes no checkpoint", () =>
  inFolder(async (folder) => {
    const run = `${folder}/run`;
    await trainWhole(`${SETTINGS} --epochs 1 --out ${run}`);
    const code = `
      import "./tests/tiny_train.ts";
      import { loadCheckpoint, RunDirectory } from "./lib/files/run.ts";
      const { checkpoint } = await loadCheckpoint(Deno.args[0]);
      using run = await RunDirectory.open(Deno.args[0], { fresh: false });
      const steps = checkpoint.run.steps + 1;
      const later = { ...checkpoint, run: { ...checkpoint.run, step: 1, steps } };
      console.log(await run.save(later).catch((error) => \`\${error.name}: \${error.message}\`));`;
    const within = `trap '' XFSZ; ulimit -f "$3"; exec deno eval -q "$1" "$2"`;
    const save = async (blocks: number) => (await shell(within, code, run, `${blocks}`)).trimEnd();
    const path = `${run}/checkpoints/epoch-2-step-1`;
    // Blocks are of 512 bytes: the file that is cut is a safetensors one.
    for (let round = 0; round < rounds(1, 6); round++) {
      assertEquals(
        await save(round + 1),
        `WriteError: could not write ${path}: File too large (os error 27)`,
      );
      assertEquals(namesIn(`${run}/checkpoints`), ["epoch-1"]);
      await assertKept(run);
    }
    assertEquals(await save(1000), path);
    assertEquals((await loadCheckpoint(run)).checkpoint.run.steps, STEPS + 1);
  }));

Deno.test("metrics and reports that cannot be written cost a warning each, and no training", () =>
  inFolder(async (folder) => {
    const run = `${folder}/run`, whole = `${folder}/whole`;
    await trainWhole(`${SETTINGS} --epochs 4 --out ${whole}`);
    // A folder where a file is to be, and a disk that refuses some of a file's lines.
    await Deno.mkdir(`${run}/predictions.json`, { recursive: true });
    const { code, err } = await onDisk(
      (what) => /^write .*metrics\.jsonl$/.test(what) && look(run).saved > 0,
      () => train(`${SETTINGS} --epochs 3 --out ${run}`),
    );
    assertEquals(code, 0, err);
    const metrics = `could not write ${run}/metrics.jsonl: ${FULL}`;
    const tested = `could not write ${run}/predictions.json: Is a directory (os error 21)`;
    assertEquals(err.split("\n").filter((line) => line.startsWith("warning: ")), [
      `warning: no report (${tested}); to have one later: deno task report ${shellWord(run)}`,
      `warning: ${metrics}; training goes on, and the file will lack some lines`,
    ]);
    for (const epochs of [1, 2, 3]) await assertSameBits(run, whole, epochs);
    await assertKept(run);
    const { steps, epochs } = await readMetrics(run);
    assertEquals([steps.at(-1)!.steps, epochs.length], [STEPS, 1]);

    await Deno.remove(`${run}/predictions.json`);
    await trainWhole(`--resume ${run} --epochs 4`);
    await assertKept(run);
    assertStringIncludes(await Deno.readTextFile(`${run}/report.md`), "After epoch 4 of 4");

    // A line that is refused is in the next one.
    let refused = 0;
    const next = `${folder}/next`;
    await onDisk(
      (what) => /^write .*metrics\.jsonl$/.test(what) && refused++ < 2,
      () => trainWhole(`${SETTINGS} --epochs 4 --out ${next}`),
    );
    await assertSameEnd(next, whole, 4);
  }));

Deno.test("a folder that may not be written to is named, at the start and later", () =>
  inFolder(async (folder) => {
    const run = `${folder}/run`, file = `${folder}/file`;
    await Deno.writeTextFile(file, "");
    const words = `${SETTINGS} --epochs 3 --out ${shellWord(`${file}/run`)}`;
    const why = "Not a directory (os error 20)";
    assertEquals(await assertRefused(await train(words), `${file}/run`, why), words);

    // A file takes the folder's place while it trains.
    let gone = false;
    const aside = `${folder}/aside`;
    const ended = await onDisk(() => {
      if (gone || look(run).saved < 2 * STEPS) return false;
      gone = true;
      Deno.renameSync(`${run}/checkpoints`, aside);
      Deno.writeTextFileSync(`${run}/checkpoints`, "");
      return false;
    }, () => train(`${SETTINGS} --epochs 9000 --out ${run}`));
    const restore = async () => {
      await Deno.remove(`${run}/checkpoints`);
      await Deno.rename(aside, `${run}/checkpoints`);
    };
    assertEquals([ended.code, gone], [1, true], ended.err);
    await restore();
    assertEquals(await assertRefused(ended, run, why), `--resume ${shellWord(run)}`);
    await trainWhole(`--resume ${run} --epochs 3`);
    await trainWhole(`${SETTINGS} --epochs 3 --out ${folder}/whole`);
    await assertSameEnd(run, `${folder}/whole`, 3);
  }));

/** Runs a script that may mount disks that only it sees: as root, or as a user in a namespace. */
const mounting = async (script: string) =>
  await shell(
    `if [ "$(id -u)" = 0 ]; then f=-m; else f=-rm; fi; exec unshare $f sh -c "$1"`,
    script,
  );

/** What a command that was run by a script left in a folder. */
async function endedIn(folder: string): Promise<Pick<Ended, "code" | "err">> {
  const read = (name: string) => Deno.readTextFile(`${folder}/${name}`);
  return { code: Number(await read("code")), err: await read("err") };
}

/** A script that runs the command and leaves in a folder how it ended. */
const noting = (words: string, folder: string) => {
  const [out, err, code] = ["out", "err", "code"].map((name) => shellWord(`${folder}/${name}`));
  return `code=0; ${commandOf(words)} >${out} 2>${err} || code=$?; echo $code >${code}`;
};

Deno.test("a run's checkpoints may lie on another disk", () =>
  inFolder(async (folder) => {
    const run = `${folder}/run`;
    await shell('mkdir "$1" "$2" && ln -s "$2" "$1/checkpoints"', run, `${folder}/other`);
    await trainWhole(`${SETTINGS} --epochs 1 --out ${run}`);
    await trainWhole(`--resume ${run} --epochs 2`);
    assertEquals(namesIn(`${folder}/other`), ["epoch-1", "epoch-2"]);
  }));

// These need root, or namespaces for everybody, which is why the suite plays them above.
if (rounds(0, 1) > 0) {
  Deno.test("a small disk that is really full costs no checkpoint", () =>
    inFolder(async (folder) => {
      const random = draws(0x7f5);
      await trainWhole(`${SETTINGS} --epochs 3 --out ${folder}/whole`);
      const disk = `${folder}/disk`, run = `${disk}/run`;
      let refused = 0, begun = 0, unharmed = 0;
      for (let round = 0; round < 10; round++) {
        // Kilobytes: less than a checkpoint or two, and less than a report.
        const left = 4 * random.below(round % 4 === 3 ? 80 : 7), seen = `${folder}/${round}`;
        for (const path of [disk, seen]) await Deno.mkdir(path, { recursive: true });
        await mounting(`set -e
          disk=${shellWord(disk)}; seen=${shellWord(seen)}
          mount -t tmpfs -o size=2m none "$disk"
          ${commandOf(`${SETTINGS} --epochs 1 --out ${run}`)}
          free=$(df -k --output=avail "$disk" | tail -n 1)
          head -c $(((free - ${left}) * 1024)) /dev/zero >"$disk/ballast"
          ${noting(`--resume ${run} --epochs 3`, seen)}
          cp -R "$disk/run" "$seen/full"
          rm "$disk/ballast"
          ${commandOf(`--resume ${run} --epochs 3`)}
          cp -R "$disk/run" "$seen/done"`);
        const ended = await endedIn(seen);
        await assertKept(`${seen}/full`);
        if (ended.code === 0) {
          await assertSameBits(`${seen}/full`, `${folder}/whole`, 3);
          unharmed++;
        } else {
          await assertRefused(ended, run, FULL, `${seen}/full`);
          await assertSameEnd(`${seen}/done`, `${folder}/whole`, 3);
          if (look(`${seen}/full`).saved > STEPS) begun++;
          refused++;
        }
      }
      report(
        `full tmpfs: ${refused} runs refused and resumed (${begun} after a later checkpoint), ` +
          `${unharmed} not harmed`,
      );
    }));

  Deno.test("a folder that is mounted read-only is named, at the start and later", () =>
    inFolder(async (folder) => {
      const run = `${folder}/run`, early = `${folder}/early`, late = `${folder}/late`;
      for (const path of [early, late]) await Deno.mkdir(path);
      await trainWhole(`${SETTINGS} --epochs 1 --out ${run}`);
      const readOnly = (path: string) => {
        const word = shellWord(path);
        return `mount --bind ${word} ${word}; mount -o remount,bind,ro ${word}`;
      };
      await mounting(`set -e
        ${readOnly(run)}
        ${noting(`--resume ${run} --epochs 2`, early)}
        umount ${shellWord(run)}
        (${noting(`--resume ${run} --epochs 9000`, late)}) &
        while [ ! -d ${shellWord(`${run}/checkpoints/epoch-3`)} ]; do sleep 0.02; done
        ${readOnly(`${run}/checkpoints`)}
        wait`);
      const why = "Read-only file system (os error 30)";
      const again = await assertRefused(await endedIn(early), run, why, `${folder}/none`);
      assertEquals(again, `--resume ${shellWord(run)} --epochs 2`);
      const ended = await endedIn(late);
      assertEquals(ended.code, 1, ended.err);
      assertStringIncludes(ended.err, `: ${why}. Free`);
      const epochs = look(run).saved / STEPS;
      assertStringIncludes(ended.err, `then go on from ${run}/checkpoints/epoch-${epochs}: `);
      await trainWhole(`--resume ${run} --epochs ${epochs + 1}`);
      await trainWhole(`${SETTINGS} --epochs ${epochs + 1} --out ${folder}/whole`);
      await assertSameEnd(run, `${folder}/whole`, epochs + 1);
      report(`read-only mount: refused at the start, and after epoch ${epochs}`);
    }));
}
