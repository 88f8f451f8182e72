/**
 * `deno task doctor`: whether this machine can train. Parse, call, print; the work is in
 * `scripts/doctor/look.ts`.
 *
 * @module
 */

import {
  compareRanks,
  type DoctorOptions,
  examine,
  examineRank,
  type Finding,
} from "./doctor/look.ts";
import { VERSION } from "../lib/train/config.ts";
import { allDone, eachOf, runOnRanks } from "./ranks.ts";

const usage = () =>
  `usage: deno task doctor [--json]

Looks at what training needs: Deno, the WebGPU adapter with its driver, limits and features, what it
computes and copies in a second, free memory and disk, the data set, and JSR. Each line says ok, or
what to do: a warning where training is slower or asks for more, an error where it cannot work.
Nothing is changed. It takes some seconds. mpirun -n N, mpiexec -n N or srun before the command also
looks at N processes, of one machine or several, and whether they can train together.

  --json        print one JSON object instead: put it into bug reports
  -h, --help    this text

exit code: 0 no error; 1 at least one; 2 the command line is wrong`;

const MARKS = { ok: "ok", warning: "warning", error: "ERROR" };

/** A finding in one or two lines. */
export function formatFinding({ check, state, found, advice }: Finding): string {
  const line = `${MARKS[state].padEnd(8)} ${check.padEnd(9)} ${found}`;
  return advice === undefined ? line : `${line}\n${" ".repeat(19)}→ ${advice}`;
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @param where other places to look at, for tests
 * @returns the exit code
 */
export async function main(args: string[], where: DoctorOptions = {}): Promise<number> {
  return await runOnRanks(
    args,
    { name: "doctor", usage, switches: ["json"] },
    async ({ on }, mpi) => {
      const findings: Finding[] = [];
      const note = (finding: Finding) => {
        findings.push(finding);
        if (!on.json) console.log(formatFinding(finding));
      };
      const isFirst = mpi.rank === 0;
      const looking = async () => {
        for await (const finding of examine(where)) note(finding);
      };
      // The others wait, and take no time of what is measured.
      await allDone(mpi, isFirst ? looking() : Promise.resolve());
      if (mpi.size > 1) {
        const ranks = compareRanks(await eachOf(mpi, await examineRank(mpi)));
        if (!isFirst) return 0;
        ranks.forEach(note);
      }
      if (on.json) console.log(JSON.stringify({ resnette: VERSION, findings }, null, 2));
      return findings.some(({ state }) => state === "error") ? 1 : 0;
    },
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
