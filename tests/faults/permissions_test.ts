/**
 * What tasks may do. Each task runs with the permissions that `deno.json` lists for it, and without
 * any one of them. Then it says what it was refused, or does without. So nothing is listed that is
 * not needed.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { FASHION_MNIST_URLS } from "../../lib/files/download.ts";
import { MPI_PLACES, MPI_VARIABLES } from "../../lib/files/mpi.ts";
import type { Ended } from "../call.ts";
import { draws, report, rounds } from "../soak.ts";
import { type Config, inProject, type Permissions, type Project, readConfig } from "./project.ts";
import { PROBE, type Row, TASKS } from "./tasks.ts";

/** One thing that a task may do. */
interface Grant {
  /** The set of `deno.json` that has it. */
  readonly set: string;
  readonly kind: string;
  readonly what: string;
}

/** What a set permits of a kind. */
function permitted(set: Permissions, kind: string): string[] {
  const entry = set[kind] ?? [];
  const list = entry === true || Array.isArray(entry) ? entry : entry.allow ?? [];
  return list === true ? ["everything"] : list;
}

/** What a task may do, in the order of `deno.json`. */
function grantsOf({ tasks, permissions, test }: Config, task: string): Grant[] {
  const { command } = tasks[task]!;
  assert(!/\s(-A|--allow-)|--allow-\w+"/.test(command), `${task} lists what it may do`);
  const sets: Record<string, Permissions> = { ...permissions, test: test.permissions };
  const grants: Grant[] = [];
  for (const [, set = "test"] of command.matchAll(/\bdeno (?:run|test)\b[^&]*? -P(?:=(\S+))?/g)) {
    for (const kind of Object.keys(sets[set]!)) {
      for (const what of permitted(sets[set]!, kind)) grants.push({ set, kind, what });
    }
  }
  const { set } = grants.at(-1) ?? { set: task };
  for (const [, kind, words] of command.matchAll(/"--allow-(\w+)=([^"]*)"/g)) {
    // A flag takes the place of the set's list.
    const list = words!.split(",").filter((word) => word !== "$CACHE");
    assertEquals(list, permitted(sets[set]!, kind!), `${task} --allow-${kind}`);
    grants.push({ set, kind: kind!, what: "$CACHE" });
  }
  return grants;
}

/** As a case is called. */
const nameOf = ({ set, kind, what }: Grant) => `${set === "cache" ? "cache: " : ""}${kind} ${what}`;

/** The same tasks without one permission. */
function without(config: Config, task: string, { set, kind, what }: Grant): Config {
  const copy = structuredClone(config);
  const permissions = set === "test" ? copy.test.permissions : copy.permissions[set]!;
  const entry = permissions[kind]!;
  const left = permitted(permissions, kind).filter((one) => one !== what && one !== "everything");
  if (typeof entry === "object" && "ignore" in entry) entry.allow = left;
  else if (left.length > 0) permissions[kind] = left;
  else delete permissions[kind];
  copy.tasks[task]!.command = copy.tasks[task]!.command.replace(
    new RegExp(`"--allow-${kind}=([^"]*)" `),
    (_, words: string) => {
      const left = words.split(",").filter((word) => word !== what);
      return left.length > 0 ? `"--allow-${kind}=${left}" ` : "";
    },
  );
  assert(
    JSON.stringify(copy) !== JSON.stringify(config),
    `${task} is left without ${kind} ${what}`,
  );
  return copy;
}

/** What Deno says when it refuses. */
function refused({ kind, what }: Grant): RegExp {
  if (what === "everything") return new RegExp(`Requires ${kind} access to`);
  const path = kind === "read" || kind === "write" ? `[^"]*` : "";
  return new RegExp(
    `Requires ${kind} access to "${path}${RegExp.escape(what === "$CACHE" ? "/resnette" : what)}`,
  );
}

/** All that it printed. */
const textOf = ({ err, out }: Ended) => err + out;

/** Runs a task as it is, which must work; what is needed for later ones stays. */
async function whole({ folder, run }: Project, config: Config, task: string, row: Row) {
  const ended = await run(config, task, row);
  assertEquals(ended.code, row.code ?? 0, `${task}: ${textOf(ended)}`);
  assertMatch(textOf(ended), row.says, task);
  if (task === "train") await Deno.rename(`${folder}/runs/new`, `${folder}/runs/first`);
  if (task !== "tune") return;
  // Two choices, wherever a variable says that they are.
  const [, path] = ended.err.match(/^saved (.*)$/m)!;
  const file = JSON.parse(await Deno.readTextFile(path!));
  const choices = { "product 1 16x32x64": "register 4x1", "product 1 1x1x1": "of no use" };
  const mac = Deno.build.os === "darwin";
  for (const place of ["cache", mac ? "home/Library/Caches" : "home/.cache", "local"]) {
    await Deno.mkdir(`${folder}/${place}/resnette`, { recursive: true });
    const copy = `${folder}/${place}/resnette/${path!.split("/").at(-1)}`;
    await Deno.writeTextFile(copy, JSON.stringify({ ...file, choices }));
  }
}

/** Runs a task with and without a permission, in a situation in which it matters. */
async function check(project: Project, config: Config, task: string, grant: Grant): Promise<void> {
  const row = TASKS[task]!, { cases: _, ...situation } = row;
  const one = row.cases[nameOf(grant)]!;
  const [yes, no] = one.codes ?? [row.code ?? 0, 1];
  const about = `${task} without ${nameOf(grant)}`;
  const says = one.with ?? row.says;
  if (Object.keys(one).length > 0) {
    const ended = await project.run(config, task, { ...situation, ...one });
    assertEquals(ended.code, yes, `control for ${about}: ${textOf(ended)}`);
    assertMatch(textOf(ended), says, `control for ${about}`);
  }
  const ended = await project.run(without(config, task, grant), task, { ...situation, ...one });
  const text = textOf(ended);
  assertEquals(ended.code, no, `${about}: ${text}`);
  assert(!says.test(text), `${about}: ${text}`);
  if (one.without) assertMatch(text, one.without, about);
  else if (no !== 0) {
    assertMatch(text, refused(grant), about);
    assertMatch(text, row.hint ?? new RegExp(`The task \`${task}\` may not do that`), about);
  }
  const { command } = config.tasks[task]!;
  if (/ scripts\/\w+\.ts$/.test(command)) {
    assert(!/^\s+at |Uncaught/m.test(text), `${about}: ${text}`);
  }
}

Deno.test("every task has a row here, with a case for each thing that it may do", async () => {
  const config = await readConfig();
  assertEquals(Object.keys(TASKS).sort(), Object.keys(config.tasks).sort());
  const used = new Set<string>();
  for (const [task, row] of Object.entries(TASKS)) {
    const grants = grantsOf(config, task);
    assertEquals(grants.map(nameOf).sort(), Object.keys(row?.cases ?? {}).sort(), task);
    for (const { set } of grants) used.add(set);
  }
  assertEquals([...used].sort(), [...Object.keys(config.permissions), "test"].sort());
});

/** The table of `SECURITY.md`: by task, what it may do, as `KIND WHAT`. */
async function readTable(): Promise<Map<string, string[]>> {
  const text = await Deno.readTextFile(new URL("../../SECURITY.md", import.meta.url));
  const names: Record<string, string[]> = {
    CACHE: ["$CACHE"],
    LIBRARIES: Object.values(MPI_PLACES).flat(),
    RANKS: MPI_VARIABLES.filter((name) => name !== "RESNETTE_MPI"),
    HOSTS: FASHION_MNIST_URLS.map((url) => {
      const { hostname, protocol } = new URL(url);
      return `${hostname}:${protocol === "https:" ? 443 : 80}`;
    }),
  };
  const legend = /([A-Z]{4,}) (?:is )?((?:`[^`]+`(?:, )?)+)/g;
  for (const [, name, list] of text.replace(/\s+/g, " ").matchAll(legend)) {
    names[name!] = list!.match(/[^`, ]+/g)!;
  }
  const rows = [...text.matchAll(/^\|(.*)\|$/gm)].map(([, row]) =>
    row!.split("|").map((cell) => cell.trim())
  );
  assertEquals(rows[0], ["task", "reads", "writes", "reaches", "sees", "loads", "starts"]);
  return new Map(
    rows.slice(2).map(([task, ...cells]) => {
      const may = cells.flatMap((cell, column) => {
        const kind = ["read", "write", "net", "env", "ffi", "run"][column]!;
        const list = cell.split(", ").filter(Boolean).flatMap((word) => names[word] ?? [word]);
        // What is seen of the system is not spelled like a variable.
        return list.map((what) => `${kind === "env" && /[a-z]/.test(what) ? "sys" : kind} ${what}`);
      });
      return [task!, may.sort()];
    }),
  );
}

Deno.test("SECURITY.md says what deno.json lists", async () => {
  const config = await readConfig();
  const listed = (task: string) => {
    const may = grantsOf(config, task).map(({ kind, what }) => `${kind} ${what}`);
    return [...new Set(may)].sort();
  };
  assertEquals(listed("test:soak"), listed("test"));
  const others = Object.keys(config.tasks).filter((task) => task !== "test:soak");
  const may = others.map((task) => [task, listed(task)] as const)
    .filter(([, list]) => list.length > 0);
  assertEquals([...await readTable()].sort(), may.sort());
});

Deno.test("tasks run with what deno.json lists, and each of it is needed", () =>
  inProject(async (project) => {
    const config = await readConfig();
    await Deno.mkdir(`${project.folder}/tests/faults`, { recursive: true });
    await Deno.writeTextFile(`${project.folder}/tests/faults/probe_test.ts`, PROBE);
    await Deno.mkdir(`${project.folder}/tests/bench/peers/npm/node_modules`);
    for (const name of ["boots", "more boots"]) {
      await Deno.mkdir(`${project.folder}/photos/${name}`, { recursive: true });
      for (const image of ["boot_16.png", "boot_palette.png"]) {
        const from = new URL(`../fixtures/images/${image}`, import.meta.url);
        await Deno.copyFile(from, `${project.folder}/photos/${name}/${image}`);
      }
    }
    const tasks = Object.entries(TASKS).flatMap(([task, row]) =>
      row && (!row.long || rounds(0, 1)) ? [[task, row] as const] : []
    );
    for (const [task, row] of tasks) await whole(project, config, task, row);
    const all = tasks.flatMap(([task]) => grantsOf(config, task).map((grant) => ({ task, grant })));
    const drawn = [...draws(31).permutation(all.length)].map((i) => all[i]!);
    // In the suite, a task's first that is drawn, for some tasks.
    const isFirst = ({ task }: typeof drawn[number], i: number) =>
      drawn.findIndex((other) => other.task === task) === i;
    const some = drawn.filter(isFirst).slice(0, 6);
    const taken = rounds(0, 1) ? drawn : some;
    for (const { task, grant } of taken) await check(project, config, task, grant);
    report(
      `${tasks.length} tasks ran with what they list; ${taken.length} of ${all.length} ` +
        "permissions were taken away one at a time, and missed",
    );
  }));
