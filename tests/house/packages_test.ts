/**
 * What this project relies on in `@std/cli`, `@std/streams`, `@std/assert` and `@deno/gfm`. The same
 * tests hold for the real packages and for the stand-ins of `scripts/offline`, which have what the
 * project uses and nothing else.
 */

import { CSS, render } from "@deno/gfm";
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { parseArgs } from "@std/cli/parse-args";
import { ProgressBar } from "@std/cli/unstable-progress-bar";
import { LimitedBytesTransformStream } from "@std/streams/limited-bytes-transform-stream";
import { toBytes } from "@std/streams/to-bytes";
import project from "../../deno.json" with { type: "json" };
import { deno } from "../call.ts";
import { inFolder } from "../folder.ts";

/**
 * What the project imports from where: each was compared with its stand-in, type, errors and edges.
 * What comes to it has to be compared first, and tested below.
 */
const COMPARED: Readonly<Record<string, readonly string[]>> = {
  "@deno/gfm": ["CSS", "render"],
  "@std/assert": [
    "assert",
    "assertAlmostEquals",
    "assertEquals",
    "assertInstanceOf",
    "assertMatch",
    "assertNotEquals",
    "assertRejects",
    "assertStrictEquals",
    "assertStringIncludes",
    "assertThrows",
  ],
  "@std/cli/parse-args": ["parseArgs"],
  "@std/cli/unstable-progress-bar": ["ProgressBar"],
  "@std/streams/limited-bytes-transform-stream": ["LimitedBytesTransformStream"],
  "@std/streams/to-bytes": ["toBytes"],
};

const ROOT = new URL("../..", import.meta.url);
const STAND_INS = new URL("scripts/offline/", ROOT);
const read = (url: URL) => Deno.readTextFile(url);
const sorted = (names: Iterable<string>) => [...names].sort();

/** The project's own modules and documents, except those that compare. */
async function* sources(folder: URL): AsyncGenerator<URL> {
  for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
    if (/^\.|^(fixtures|node_modules|offline|packages\w*_test\.ts|runs)$/.test(name)) continue;
    if (isDirectory) yield* sources(new URL(`${name}/`, folder));
    else if (isFile && /\.(ts|md)$/.test(name)) yield new URL(name, folder);
  }
}

Deno.test("what is imported from the packages was compared with the stand-ins", async () => {
  const used = new Map<string, Set<string>>();
  for await (const url of sources(ROOT)) {
    const text = (await read(url)).replace(/^ \* ?/gm, "");
    const statements = text.matchAll(
      /\b(?:import|export)\b\s*(?:type\s*)?([^;"'`()]*?)(?:\bfrom\s*|\()?["']((?:jsr:|@std\/|@deno\/)[^"']*)["']/g,
    );
    for (const [, what = "", from = ""] of statements) {
      const names = used.get(from) ?? new Set();
      used.set(from, names);
      for (const name of what.replace(/[{}]/g, "").split(",")) {
        const [imported = ""] = name.trim().replace(/^type /, "").split(/\s/);
        if (imported !== "") names.add(imported);
      }
    }
  }
  assertEquals(
    Object.fromEntries(sorted(used.keys()).map((from) => [from, sorted(used.get(from)!)])),
    COMPARED,
  );
});

Deno.test("a stand-in exports what was compared, and nothing else", async () => {
  const exported: Record<string, string[]> = {};
  const names: string[] = [];
  for await (const { name: folder } of Deno.readDir(STAND_INS)) {
    if (folder.endsWith(".lock")) continue;
    const at = new URL(`${folder}/`, STAND_INS);
    const { name, exports, ...rest } = JSON.parse(await read(new URL("deno.json", at)));
    assertEquals(rest, {});
    names.push(name);
    const files: Record<string, string> = typeof exports === "string" ? { ".": exports } : exports;
    for (const [path, file] of Object.entries(files)) {
      const all = [...(await read(new URL(file, at))).matchAll(/^export\b.*/gm)].map(String);
      const declared = all.map((line) =>
        line.match(/^export (?:async )?(?:class|const|function|interface|type) (\w+)/)?.[1] ?? line
      );
      exported[name + path.slice(1)] = sorted(new Set(declared));
    }
  }
  assertEquals(exported, COMPARED);
  assertEquals(sorted(names), sorted(Object.keys(project.imports)));
});

/** Names of the packages of npm that the modules of these folders import. */
async function npmOf(...folders: string[]): Promise<string[]> {
  const used = new Set<string>();
  for (const folder of folders) {
    for await (const url of sources(new URL(folder, ROOT))) {
      for (const [, name = ""] of (await read(url)).matchAll(/"npm:(@?[\w./-]+)@/g)) used.add(name);
    }
  }
  return sorted(used);
}

Deno.test("the stand-ins' locks pin all packages of npm, by their contents", async () => {
  const [run, tests] = await Promise.all(["deno", "tests"].map(async (name) => {
    const lock: {
      specifiers: Record<string, string>;
      npm: Record<string, { integrity: string }>;
    } = JSON.parse(await read(new URL(`${name}.lock`, STAND_INS)));
    for (const { integrity } of Object.values(lock.npm)) assertMatch(integrity, /^sha512-.{86}==$/);
    const names = Object.keys(lock.specifiers).map((name) => name.replace(/^npm:(.+)@.*/, "$1"));
    return { ...lock, names: sorted(names) };
  }));
  // What only tests import is in a lock of its own: where a module needs a package, Deno gets all
  // of the lock that it is given.
  const used = await npmOf("lib/", "scripts/", "scripts/offline/");
  assert(used.includes("echarts") && used.includes("marked"));
  assertEquals(run!.names, used);
  assertEquals(tests!.names, sorted(new Set([...used, ...await npmOf("tests/")])));
  for (const [name, { integrity }] of Object.entries(run!.npm)) {
    assertEquals(tests!.npm[name]?.integrity, integrity, name);
  }
});

Deno.test("a task gets no package but what it runs", async () => {
  // `deno task` gets all of the project's lock before anything runs, whatever the task.
  assertEquals(project.lock, false);
  const given = Object.entries(project.tasks).flatMap(([task, { command }]) => {
    const [, lock] = command.match(/ --lock=\.links\/(\w+)\.lock /) ?? [];
    return lock === undefined ? [] : [`${task}: ${lock}`];
  });
  assertEquals(given, [
    "train: deno",
    "report: deno",
    "test: tests",
    "test:browser: tests",
    "test:mpi: tests",
    "test:soak: tests",
    "ok: tests",
  ]);
  await inFolder(async (folder) => {
    const { code } = await deno(["task", "-q", "shapes", "--help"], { env: { DENO_DIR: folder } });
    assertEquals([code, await Array.fromAsync(Deno.readDir(`${folder}/npm`))], [0, []]);
  });
});

Deno.test("what gets and replaces packages names no host to get them from", async () => {
  const scripts = new URL("scripts/bootstrap.sh", ROOT);
  const locks = ["deno.lock", "tests.lock"].map((name) => new URL(name, STAND_INS));
  for (const url of [scripts, ...locks, new URL("deno.json", ROOT)]) {
    assert(!/\bhttps?:\/\//.test(await read(url)), url.pathname);
  }
});

/** Calls it as `scripts/cli.ts` does; also returns what `unknown` was called with. */
function parse(...args: string[]): [flags: Record<string, unknown>, unknown: unknown[]] {
  const unknown: unknown[] = [];
  const flags: Record<string, unknown> = parseArgs(args, {
    string: ["out", "lr"],
    collect: ["out", "lr"],
    boolean: ["help", "json", "no-tuned"],
    alias: { help: "h" },
    unknown: (arg: string, key?: string) => {
      unknown.push(key === undefined ? arg : [arg, key]);
      return false;
    },
  });
  return [flags, unknown];
}

Deno.test("parseArgs reads declared flags, and hands all else to the callback", () => {
  const none = { out: [], lr: [], help: false, h: false, json: false, "no-tuned": false, _: [] };
  const lines: [args: string[], flags: Record<string, unknown>, unknown?: unknown[]][] = [
    [[], {}],
    [["--out", "a", "--lr", "0.1", "--json"], { out: ["a"], lr: ["0.1"], json: true }],
    [["--lr=1", "--lr", "2"], { lr: ["1", "2"] }],
    [["--out="], { out: [""] }],
    [["--out=a=b c\nd"], { out: ["a=b c\nd"] }],
    [["--out"], { out: [""] }],
    [["--out", "--json"], { out: [""], json: true }],
    [["--lr", "-1"], { lr: [""] }, [["-1", "1"]]],
    [["--lr", ""], { lr: [""] }, [""]],
    [["--json", "word", "7"], { json: true }, ["word", "7"]],
    [["--json", "false"], {}],
    [["--json", "true"], { json: true }],
    [["--json=false"], {}],
    [["--json=maybe"], { json: true }],
    [["--no-tuned"], { "no-tuned": true }],
    [["--no-json"], {}, [["--no-json", "no-json"]]],
    // Quirks that `scripts/cli.ts` looks after.
    [["--no-out=a"], { out: ["a"] }],
    [["-h="], { help: "", h: "" }],
    [["-h5"], { help: 5, h: 5 }],
    [["-h"], { help: true, h: true }],
    [["-hx"], { help: true, h: true }, [["-hx", "x"]]],
    [["-x", "1", "a"], {}, [["-x", "x"], "a"]],
    [["-xy=2"], {}, [["-xy=2", "x"]]],
    [["--bogus", "a", "b"], {}, [["--bogus", "bogus"], "b"]],
    [["--bogus="], {}, [["--bogus=", "bogus"]]],
    [["--out.x=1"], {}, [["--out.x=1", "out.x"]]],
    [["--__proto__=1"], {}, [["--__proto__=1", "__proto__"]]],
    [["-", "a"], {}, ["-", "a"]],
    [["a", "--", "--json", "7"], { _: ["--json", "7"] }, ["a"]],
  ];
  for (const [args, flags, unknown = []] of lines) {
    assertEquals(parse(...args), [{ ...none, ...flags }, unknown], args.join(" "));
  }
});

Deno.test("parseArgs takes names as strings, and no array of a type parameter", () => {
  const rest = { alias: {}, unknown: () => false as const };
  const typed = <V extends string>(names: readonly V[]) => {
    // @ts-expect-error: `V` is no `Extract<V, string>`.
    parseArgs([], { ...rest, boolean: [], collect: [], string: [...names] });
    // @ts-expect-error: likewise.
    parseArgs([], { ...rest, boolean: [], string: [], collect: [...names] });
    // @ts-expect-error: likewise.
    parseArgs([], { ...rest, string: [], collect: [], boolean: [...names] });
  };
  typed(["a"]);
  const names: readonly string[] = ["a"];
  const flags: Record<string, unknown> = parseArgs(["--a=1"], {
    ...rest,
    string: names,
    collect: names,
    boolean: ["b", ...names.slice(1)],
  });
  assertEquals(flags, { a: ["1"], b: false, _: [] });
});

Deno.test("ProgressBar writes its line now and every second, and takes it away", async () => {
  const look = { clear: true, fillChar: "█", emptyChar: "░", barLength: 4 } as const;
  async function written(max: number, value: number): Promise<string> {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const formatter = ({ progressBar }: { progressBar: string }) => `[${progressBar}]`;
    const bar = new ProgressBar({ ...look, writable, max, formatter });
    assert(writable.locked);
    bar.value = value;
    let text = "", stopped: Promise<void> | undefined;
    for await (const part of readable.pipeThrough(new TextDecoderStream())) {
      text += part;
      if (text.split("]").length === 3) stopped ??= bar.stop().then(() => writable.close());
    }
    await stopped;
    return text;
  }
  const shown = (first: string, second: string) => `\r\x1b[K[${first}]\r\x1b[K[${second}]\r\x1b[K`;
  assertEquals(
    await Promise.all([written(8, 7), written(8, 99), written(8, -1), written(0, 0)]),
    [shown("░░░░", "███░"), shown("░░░░", "████"), shown("░░░░", "░░░░"), shown("", "")],
  );

  const writable = new WritableStream<Uint8Array>({ start: (end) => end.error(new Error("gone")) });
  await new ProgressBar({ ...look, writable, max: 1, formatter: () => "" }).stop();
});

/** Chunks of these lengths, counting up from 0. */
function chunks(...lengths: number[]): ReadableStream<Uint8Array> {
  let next = 0;
  return ReadableStream.from(lengths.map((n) => Uint8Array.from({ length: n }, () => next++)));
}

Deno.test("byte streams limit and collect", async () => {
  const limit = () => new LimitedBytesTransformStream(6, { error: true });
  assertEquals(
    await toBytes(chunks(3, 3, 0).pipeThrough(limit())),
    new Uint8Array([0, 1, 2, 3, 4, 5]),
  );
  const over = chunks(3, 3, 1).pipeThrough(limit()).getReader();
  assertEquals((await over.read()).value, new Uint8Array([0, 1, 2]));
  assertEquals((await over.read()).value, new Uint8Array([3, 4, 5]));
  await assertRejects(() => over.read(), RangeError, "Exceeded byte size limit of '6'");
  assertEquals(await toBytes(chunks()), new Uint8Array());
});

Deno.test("gfm renders what reports are written in, and lets no script through", () => {
  const html = render(
    [
      "# A *run*, \\*b\\*",
      "Test **0.9**, `a < b`, \\<script\\>, 'it' & \"that\"",
      "| Loss | Time |\n| --- | ---: |\n| 1 | 2 s |",
      "- a\n- b",
      "## A run, b",
      "![by step](report/loss.svg)",
      '<script>alert("x")</script>\n\n<img src=x onerror=y>',
    ].join("\n\n"),
  );
  const anchor = (id: string) =>
    `id="${id}"><a class="anchor" aria-hidden="true" tabindex="-1" href="#${id}"><svg></a>`;
  assertEquals(html.replace(/<svg class="octicon octicon-link".*?<\/svg>/g, "<svg>").split(/\n+/), [
    `<h1 ${anchor("a-run-b")}A <em>run</em>, *b*</h1>`,
    "<p>Test <strong>0.9</strong>, <code>a &lt; b</code>, &lt;script&gt;, 'it' &amp; \"that\"</p>",
    "<table>",
    "<thead>",
    "<tr>",
    "<th>Loss</th>",
    "<th>Time</th>",
    "</tr>",
    "</thead>",
    "<tbody><tr>",
    "<td>1</td>",
    '<td align="right">2 s</td>',
    "</tr>",
    "</tbody></table>",
    "<ul>",
    "<li>a</li>",
    "<li>b</li>",
    "</ul>",
    `<h2 ${anchor("a-run-b-1")}A run, b</h2>`,
    '<p><img src="report/loss.svg" alt="by step" /></p>',
    '<img src="x" />',
  ]);
  for (const selector of [".markdown-body", "[data-color-mode"]) {
    assertStringIncludes(CSS, selector);
  }
});
