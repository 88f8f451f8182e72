/**
 * The order of the layers, read from the imports of `lib/` and from the table in `lib/README.md`;
 * `Deno.` only in `lib/files/`; and what else no source may say.
 */

import { assert, assertEquals } from "@std/assert";

const ROOT = new URL("../../", import.meta.url);

/** Files that import each other in a circle, and why they may. */
const CYCLES: { files: string[]; why: string }[] = [
  {
    files: ["ops/elementwise.ts", "ops/expression.ts", "ops/reduce.ts", "ops/view.ts"],
    why: "the gradients of each are written in the others, and run when a graph is built",
  },
];

/** An import of another file of `lib/`, or of a package. */
interface Import {
  readonly from: string;
  /** Whether nothing of it is left when it runs. */
  readonly typeOnly: boolean;
}

interface Source {
  readonly text: string;
  /** The text without comments, in which examples may do anything. */
  readonly code: string;
  readonly imports: readonly Import[];
}

/** Paths of the TypeScript files below `folder`, relative to it. */
async function filesBelow(folder: URL): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (name === "node_modules") continue;
    if (isDirectory) {
      const inside = await filesBelow(new URL(`${name}/`, folder));
      found.push(...inside.map((path) => `${name}/${path}`));
    } else if (name.endsWith(".ts")) found.push(name);
  }
  return found.sort();
}

async function read(path: string): Promise<Source> {
  const text = await Deno.readTextFile(new URL(`lib/${path}`, ROOT));
  const code = text.replace(/\/\*[^]*?\*\//g, "").replace(/(^|\s)\/\/.*/g, "");
  const statements = code.matchAll(
    /\b(?:import|export)\s+(type\s)?(?:[^;"()]*?\sfrom\s+)?"([^"]+)"/g,
  );
  const imports = [...statements].map(([, type, from]) => ({
    from: from!.startsWith(".") ? new URL(from!, `lib:/${path}`).pathname.slice(1) : from!,
    typeOnly: type !== undefined,
  }));
  const dynamic = code.match(/\bimport\s*\(/);
  assert(!dynamic, `lib/${path} imports when it runs, which this test cannot follow`);
  assert(/^\/\*\*/.test(text), `lib/${path} does not begin with a comment that says what it is`);
  return { text, code, imports };
}

const sources = new Map<string, Source>();
for (const path of await filesBelow(new URL("lib/", ROOT))) sources.set(path, await read(path));

/** The folders of `lib/` that the table lists, in its order. */
const folders = [...(await Deno.readTextFile(new URL("lib/README.md", ROOT)))
  .matchAll(/^\| `([^`|]+\/)` +\|/gm)].map(([, folder]) => folder!);

/** The folder that a file of `lib/` lies in. */
const folderOf = (path: string) => path.slice(0, path.indexOf("/") + 1);

Deno.test("the table of layers lists the folders of lib/, and no file lies outside of them", () => {
  assert(folders.length > 10, "the table in lib/README.md is not found");
  assertEquals(folders.toSorted(), [...new Set([...sources.keys()].map(folderOf))].sort());
});

Deno.test("a file imports only from its own layer and those above it", () => {
  for (const [path, { imports }] of sources) {
    for (const { from } of imports) {
      if (from.startsWith("node:")) continue;
      assert(sources.has(from), `lib/${path} imports ${from}, which is not in lib/`);
      assert(
        folders.indexOf(folderOf(from)) <= folders.indexOf(folderOf(path)),
        `lib/${path} imports ${from}, which is a layer below it`,
      );
    }
  }
});

/** Circles of imports: sets of files that reach each other, each sorted. */
function cycles(counts: (found: Import) => boolean): string[][] {
  const reach = new Map<string, Set<string>>();
  for (const path of sources.keys()) {
    const seen = new Set<string>();
    const pending = [path];
    while (pending.length > 0) {
      for (const found of sources.get(pending.pop()!)?.imports ?? []) {
        if (!counts(found) || seen.has(found.from)) continue;
        seen.add(found.from);
        pending.push(found.from);
      }
    }
    reach.set(path, seen);
  }
  const groups = [...sources.keys()].filter((path) => reach.get(path)!.has(path))
    .map((path) =>
      [...sources.keys()].filter((other) =>
        reach.get(path)!.has(other) && reach.get(other)?.has(path)
      )
    );
  return [...new Map(groups.map((group) => [group.join(), group])).values()];
}

Deno.test("no files import each other in a circle, but those that are known to", () => {
  assertEquals(cycles(() => true), CYCLES.map(({ files }) => files));
  assertEquals(
    cycles(({ typeOnly }) => !typeOnly),
    CYCLES.filter(({ why }) => !why.startsWith("types only")).map(({ files }) => files),
  );
});

Deno.test("only lib/files/ needs Deno", () => {
  for (const [path, { code, imports }] of sources) {
    const used = code.match(/(?<!["\w.])Deno\.\w+/)?.[0] ??
      imports.find(({ from }) => from.startsWith("node:"))?.from;
    assert(!used || path.startsWith("files/"), `lib/${path} uses ${used}: only lib/files/ may`);
  }
});

Deno.test("only lib/files/ disposes of things by syntax that not every browser knows", () => {
  for (const [path, { code }] of sources) {
    const used = code.match(/\busing \w+ (?:=|of)|\b(?:Async)?DisposableStack\b/)?.[0];
    assert(!used || path.startsWith("files/"), `lib/${path} says ${used}: use try and finally`);
  }
});

Deno.test("lib/ has one clock, and one reader of JSON", () => {
  const owners = { "performance.now": "measure/timing.ts", "JSON.parse": "check/json.ts" };
  for (const [word, owner] of Object.entries(owners)) {
    const users = [...sources].filter(([, { code }]) => code.includes(word));
    assertEquals(users.map(([path]) => path), [owner], `what says ${word}`);
  }
});

Deno.test("no path is that of a URL, which has %20 for a space", async () => {
  for (const folder of ["lib/", "scripts/", "tests/"].map((name) => new URL(name, ROOT))) {
    for (const path of await filesBelow(folder)) {
      const text = await Deno.readTextFile(new URL(path, folder));
      const found = text.match(/\bnew URL\([^;]*?\bimport\.meta\.url\)\.pathname/)?.[0];
      assert(!found, `${path} says ${found}: tests have ROOT of tests/folder.ts`);
    }
  }
});

Deno.test("lib/ knows of no task", () => {
  for (const [path, { text }] of sources) {
    assert(
      !text.includes("deno task"),
      `lib/${path} speaks of a task: the advice is scripts/cli.ts's`,
    );
  }
});

Deno.test("whatever entry a page imports, a browser can load it", async () => {
  const { exports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  const pending: string[] = [];
  for (const entry of Object.values<string>(exports)) {
    const text = await Deno.readTextFile(new URL(entry, ROOT));
    for (const [, from] of text.matchAll(/^(?:export .*|}) from "(.*)";/gm)) {
      pending.push(new URL(from!, new URL(entry, ROOT)).href.slice(`${ROOT}lib/`.length));
    }
  }
  assert(pending.length > 30);
  const seen = new Set<string>();
  while (pending.length > 0) {
    const path = pending.pop()!;
    if (seen.has(path)) continue;
    seen.add(path);
    for (const { from, typeOnly } of sources.get(path)!.imports) {
      if (typeOnly) continue;
      assert(sources.has(from), `an entry loads lib/${path}, which imports ${from}`);
      pending.push(from);
    }
  }
});
