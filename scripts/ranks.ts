/**
 * Runs a command on several processes, started by `mpirun`, `mpiexec` or `srun`; a process alone
 * needs none of it. Rank 0 speaks for all, and an error of any rank ends all.
 *
 * @module
 */

import { Mpi, MpiError } from "../lib/files/mpi.ts";
import type { Collective } from "../lib/train/collective.ts";
import { broadcastBytes, gatherTexts, RankError } from "../lib/train/ranks.ts";
import project from "../deno.json" with { type: "json" };
import { type Command, type ErrorKind, type Flags, messageOf, runCommand } from "./cli.ts";

/**
 * Milliseconds that another rank leaves to rank 0: what is wrong with all of them is told by that one,
 * which ends them.
 */
const GRACE = 1000;

/** Runs a command with the other ranks; see {@linkcode runCommand}. */
export async function runOnRanks<V extends string, S extends string>(
  args: string[],
  command: Command<V, S>,
  run: (flags: Flags<V, S>, mpi: Mpi) => Promise<number>,
  known: readonly ErrorKind[] = [],
): Promise<number> {
  const all = [...known, MpiError, RankError];
  let mpi: Mpi;
  try {
    mpi = await Mpi.init();
  } catch (error) {
    const { words: _, ...rest } = command;
    return await runCommand([], rest, () => Promise.reject(advised(error, command.name)), all);
  }
  if (mpi.size === 1) return await runCommand(args, command, (flags) => run(flags, mpi), all);
  const { rank, host } = mpi;
  let failed = false;
  const code = await runCommand(
    args,
    command,
    async (flags) => {
      try {
        return await run(flags, mpi);
      } catch (error) {
        failed = true;
        throw error;
      }
    },
    all,
    rank === 0 ? undefined : {
      result: () => {},
      error: async (text) => {
        // What is wrong with the words is wrong with those of all.
        if (!failed) return;
        await new Promise((resume) => setTimeout(resume, GRACE));
        const who = `rank ${rank} on ${host}: `;
        console.error(text.includes(who) ? text : who + text);
      },
    },
  );
  if (failed) await mpi.abort(code);
  try {
    await mpi.finalize();
  } catch (error) {
    if (!(error instanceof MpiError)) throw error;
    console.error(`error: ${error.message}`);
    await mpi.abort(code || 1);
  }
  return code;
}

/** An error, with how to run a task that is to load another library than those that it may load. */
function advised(error: unknown, name: string): unknown {
  if (!(error instanceof MpiError) || error.code !== "permitted") return error;
  const tasks: Readonly<Record<string, { readonly command: string }>> = project.tasks;
  const command = tasks[name]!.command.replace(" -P=", ` --allow-ffi=${error.path} -P=`);
  return new MpiError(error.code, `${error.message}. Instead of deno task ${name}: ${command}`);
}

/** Ends all ranks, as this one was told to: the others may not have been. */
export async function endAll(mpi: Mpi, code: number): Promise<never> {
  if (mpi.rank > 0) await new Promise((resume) => setTimeout(resume, GRACE));
  return await mpi.abort(code);
}

/** Ranks, and what this one's machine is called. */
type Ranks = Collective & Pick<Mpi, "host">;

/** What rank 0 has, on all ranks: anything that JSON can say. */
export async function shared<T>(mpi: Collective, own: () => T | Promise<T>): Promise<T> {
  if (mpi.size === 1) return await own();
  const text = mpi.rank === 0 ? JSON.stringify(await own() ?? null) : "";
  const bytes = await broadcastBytes(mpi, new TextEncoder().encode(text));
  return JSON.parse(new TextDecoder().decode(bytes)) ?? undefined;
}

/** Something of each rank, in their order. */
export async function eachOf<T>(mpi: Collective, own: T): Promise<T[]> {
  return (await gatherTexts(mpi, JSON.stringify(own))).map((text) => JSON.parse(text));
}

/** How often ranks tell each other that they still work, in milliseconds. */
const BEAT = 1000;

/**
 * What `work` comes to, once all ranks have done theirs, however long that takes. If it fails on one of
 * them, all fail.
 */
export async function allDone<T>(mpi: Ranks, work: Promise<T>): Promise<T> {
  if (mpi.size === 1) return await work;
  let state: { done: boolean; error?: string } = { done: false };
  const end = work.then(
    () => state = { done: true },
    (error) =>
      state = { done: true, error: `rank ${mpi.rank} on ${mpi.host}: ${messageOf(error)}` },
  );
  while (true) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, BEAT);
    await Promise.race([end, promise]);
    clearTimeout(timer);
    const states = await eachOf(mpi, state);
    const failed = states.find(({ error }) => error !== undefined);
    if (!failed && !states.every(({ done }) => done)) continue;
    if (!failed || state.error !== undefined) return await work;
    throw new RankError(failed.error!);
  }
}
