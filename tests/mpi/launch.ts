/** Libraries of MPI, and jobs that their launchers start. Not a test. */

import { assert } from "@std/assert";
import { shellWord } from "../../lib/check/text.ts";
import { wordsOf } from "../call.ts";
import { Training } from "../faults/training.ts";
import { ROOT } from "../folder.ts";

/** A library of MPI, and what starts processes with it. */
export interface Library {
  readonly name: string;
  readonly launcher: string;
  readonly path: string;
}

/** What Debian's packages have. */
const DEBIAN = {
  openmpi: { name: "Open MPI", launcher: "mpirun.openmpi", file: "libmpi.so.40" },
  mpich: { name: "MPICH", launcher: "mpirun.mpich", file: "libmpich.so.12" },
} as const;

const isFile = (path: string) => Deno.stat(path).then((info) => info.isFile, () => false);

/** Those of Debian's packages, or the one that `RESNETTE_MPI` names, with the launcher beside it. */
export async function findLibraries(): Promise<Library[]> {
  const path = Deno.env.get("RESNETTE_MPI");
  if (path) {
    const launcher = path.replace(/\/lib\w*\/[^/]+$/, "/bin/mpirun");
    assert(await isFile(launcher), `no ${launcher}, which goes with RESNETTE_MPI=${path}`);
    return [{ name: path, launcher, path }];
  }
  const missing: string[] = [], found: Library[] = [];
  for (const [name, { file, ...library }] of Object.entries(DEBIAN)) {
    const path = `/usr/lib/${Deno.build.arch}-linux-gnu/${file}`;
    if (await isFile(path)) found.push({ ...library, path });
    else missing.push(name === "openmpi" ? "openmpi-bin" : name);
  }
  assert(
    missing.length === 0,
    `no MPI to test with; on Debian, as root, type: apt-get update && apt-get install -y ` +
      `--no-install-recommends ${missing.join(" ")}`,
  );
  return found;
}

/**
 * What Open MPI is told. It would keep each rank to a core of its own, which waits by asking all the
 * time; and it refuses root, and more ranks than cores.
 */
const OPEN_MPI = "--bind-to none --oversubscribe --allow-run-as-root --mca mpi_yield_when_idle 1";

/** A command for a shell that starts a script as so many ranks, with what `deno task train` may do. */
export function commandOf(
  { launcher, path }: Library,
  ranks: number,
  script: string,
  { before = "", may = "" } = {},
): string {
  const isOpen = /libmpi\.so\.40/.test(path), prefix = launcher.replace(/\/bin\/mpirun$/, "");
  const where = isOpen && prefix !== launcher ? `OPAL_PREFIX=${prefix} ` : "";
  const permit = may || (prefix === launcher ? "" : `--allow-ffi=${path}`);
  return `env ${where}${launcher} ${isOpen ? OPEN_MPI : ""} -n ${ranks} ${before} ` +
    `deno run -q ${permit} -P=train --no-prompt --no-code-cache ` +
    wordsOf(script).map(shellWord).join(" ");
}

const RANK = `${ROOT}tests/mpi/rank.ts`;

/** `deno task train` as several ranks. */
export class Job extends Training {
  constructor(
    library: Library,
    ranks: number,
    words: string,
    more: { readonly before?: string; readonly may?: string } = {},
    script = RANK,
  ) {
    super("", "", commandOf(library, ranks, `${script} ${words}`, more));
  }

  /** The processes of its ranks, in their order, as they have said. */
  get ranks(): number[] {
    const said = [...this.said.matchAll(/^rank (\d+) of \d+ is process (\d+),/gm)];
    return said.map(([, rank, pid]) => [Number(rank), Number(pid)] as const)
      .sort(([a], [b]) => a - b).map(([, pid]) => pid);
  }
}
