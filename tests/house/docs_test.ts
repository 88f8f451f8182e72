/**
 * The documentation: examples, which `deno task test` runs, assert what they show; no sentence
 * stands in two places; links, paths and commands exist.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import project from "../../deno.json" with { type: "json" };
import { deno } from "../call.ts";

const ROOT = new URL("../../", import.meta.url);

/** A block that is marked as code that Deno runs, in Markdown or in a comment. */
const EXAMPLE =
  /^[ \t]*(?:\*[ \t]*)?```(?:[cm]?[jt]sx?|javascript|typescript)\b(.*)\n([^]*?)^[ \t*]*```/gm;

/** A comment that only shows a value begins with this. */
const VALUE = /[[{"]|\w+Array\b|(?:-?[\d._]+|true|false|null|undefined|NaN|-?Infinity)$/;

/** What an example must not have, and what to do instead. */
const REFUSED: [RegExp, string][] = [
  [/\bconsole\.assert\(/, "console.assert only prints: use an assertion of @std/assert"],
  [
    // A statement to its end, over lines; the comment follows on its last line or on the next one.
    /\bconsole\.\w+\((?:(?!;\n)[^])*?\);?[ \t]*\n?[ \t]*\/\//,
    "nothing compares what the comment shows: assert it",
  ],
  [
    new RegExp(`^(?!.*\\bassert).*(?:^|[\\s;])// *[=>→-]* *(?:${VALUE.source})`, "m"),
    "nothing compares what the comment shows: assert it",
  ],
];

/** The code of `scripts/examples/`, without its header: `tests/scripts/examples_test.ts` runs it. */
async function runElsewhere(name: string): Promise<string> {
  const text = await Deno.readTextFile(new URL(`scripts/examples/${name}`, ROOT));
  return text.replace(/^\/\*\*[^]*?\*\/\n\n/, "");
}

/**
 * How many examples a text has, and what is wrong with them, by path and line. One that is `elsewhere`
 * is run there.
 */
function check(
  path: string,
  text: string,
  elsewhere?: string,
): { examples: number; faults: string[] } {
  const examples = [...text.matchAll(EXAMPLE)].filter(([, attributes, body]) =>
    !(attributes === " ignore" && body === elsewhere)
  );
  const faults = examples.flatMap(({ index, 1: attributes, 2: body }) => {
    const top = text.slice(0, index).split("\n").length;
    const code = body!.split("\n").map((line) => line.replace(/^[ \t]*\*[ \t]?/, "")).join("\n");
    const at = (line: number, fault: string) => `${path}:${line}: ${fault}`;
    const found = REFUSED.flatMap(([pattern, fault]) => {
      const match = code.match(pattern);
      return match ? [at(top + code.slice(0, match.index).split("\n").length, fault)] : [];
    });
    if (/\bignore\b/.test(attributes!)) found.push(at(top, "it is not run: leave out `ignore`"));
    if (!/(?<![.\w])assert\w*\(|\bthrow\s/.test(code.replace(/\/\/.*/g, ""))) {
      found.push(at(top, "it can't fail: assert what it shows, with @std/assert"));
    }
    return [...new Set(found)];
  });
  return { examples: examples.length, faults };
}

/** Paths of the files that `deno test --doc` reads (`test.include` in `deno.json`). */
async function* documents(folder = ""): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(new URL(folder, ROOT))) {
    const path = folder + name;
    if (!isDirectory && /\.(?:ts|md)$/.test(name)) yield path;
    const inside = folder !== "" || ["lib", "tests"].includes(name);
    if (isDirectory && inside && name !== "node_modules") yield* documents(`${path}/`);
  }
}

/** Paths of the Markdown pages of this repository. */
async function* pages(folder = ""): AsyncGenerator<string> {
  for await (const { name, isDirectory, isFile } of Deno.readDir(new URL(folder || ".", ROOT))) {
    if (isFile && name.endsWith(".md")) yield folder + name;
    if (isDirectory && !/^(\.|runs$|node_modules$)/.test(name)) yield* pages(`${folder}${name}/`);
  }
}

Deno.test("every example in the documentation asserts what it shows", async () => {
  let examples = 0;
  const faults: string[] = [];
  const net = await runElsewhere("net.ts");
  for await (const path of documents()) {
    const found = check(path, await Deno.readTextFile(new URL(path, ROOT)), net);
    examples += found.examples;
    faults.push(...found.faults);
  }
  assert(examples > 50, `only ${examples} examples were found`);
  assertEquals(faults.sort(), []);
});

/** What `deno doc` says of a name that is exported, as far as it is looked at. */
interface Documented {
  readonly name: string;
  readonly declarations: readonly {
    readonly kind: string;
    readonly jsDoc?: { readonly tags?: readonly { readonly kind: string }[] };
    readonly def?: { readonly extends?: string };
  }[];
}

Deno.test("every public function and class has an example", async () => {
  const entries = Object.values(project.exports);
  const { out, err } = await deno(["doc", "--json", ...entries]);
  assert(out !== "", err);
  const nodes = JSON.parse(out).nodes as Record<string, { symbols: readonly Documented[] }>;
  const symbols = Object.values(nodes).flatMap(({ symbols }) => symbols);
  // An error is made by the library, for whoever catches it: the functions' examples throw some.
  const shown = symbols.filter(({ declarations: [first] }) =>
    ["function", "class"].includes(first!.kind) && !/Error$/.test(first!.def?.extends ?? "")
  );
  assert(shown.length > 100, `only ${shown.length} functions and classes were found`);
  const without = shown.filter(({ declarations }) =>
    !declarations.some(({ jsDoc }) => jsDoc?.tags?.some(({ kind }) => kind === "example"))
  );
  assertEquals(without.map(({ name }) => name).sort(), []);
});

Deno.test("an example that compares nothing is refused, by file and line", () => {
  /** Line and first word of each fault, the same in Markdown and in a comment. */
  const faultsOf = (...lines: string[]) => {
    const block = ["```ts", ...lines, "```"];
    const { faults } = check("a.md", ["# A", ...block, ""].join("\n"));
    const comment = ["/**", ...block.map((line) => ` * ${line}`.trimEnd()), " */", ""].join("\n");
    assertEquals(check("a.md", comment).faults, faults);
    return faults.map((fault) => fault.match(/^a\.md:(\d+: \S+)/)![1]).join(", ");
  };
  const asserts = "assertEquals(x, [1]);";
  assertEquals(faultsOf("console.assert(x);"), "3: console.assert, 2: it");
  assertEquals(faultsOf(asserts, "console.assert(x);"), "4: console.assert");
  assertEquals(faultsOf(asserts, "", "console.log(x); // [ 1 ]"), "5: nothing");
  assertEquals(faultsOf("console.log({", "  x,", "}); // what it is", asserts), "3: nothing");
  assertEquals(faultsOf("console.log(x);", "// one", asserts), "3: nothing");
  for (const value of ["[1]", "{ x: 1 }", "-0.5", "=> true", "Float32Array [1]", '"one"', "NaN"]) {
    assertEquals(faultsOf(asserts, `x; // ${value}`), "4: nothing", value);
  }
  assertEquals(faultsOf('import { assertEquals } from "@std/assert";', "// assert(x)"), "2: it");
  const ignored = check("a.ts", " * ```ts ignore\n * assert(x);\n * ```\n");
  assertEquals(ignored.faults, ["a.ts:1: it is not run: leave out `ignore`"]);
  const shown = "```ts ignore\nrun(1);\n```\n";
  assertEquals(check("a.md", shown, "run(1);\n").faults, []);
  assertEquals(check("a.md", shown, "run(2);\n").faults.length, 2);

  assertEquals(faultsOf(asserts), "");
  assertEquals(faultsOf('if (x !== 1) throw new Error("no");'), "");
  assertEquals(faultsOf("console.log(x);", asserts, "// Then the next: 2 of them."), "");
  assertEquals(faultsOf("console.log(x);", "", "// Then the next.", asserts), "");
  assertEquals(faultsOf('const x = "http://[1]"; // white, on black', asserts), "");
  assertEquals(check("a.md", "```sh\ndeno task test # 1\n```\n").examples, 0);
});

Deno.test("the README shows scripts/examples/net.ts to the letter", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", ROOT));
  assertStringIncludes(readme, `\`\`\`ts ignore\n${await runElsewhere("net.ts")}\`\`\`\n`);
});

/** Sentences of Markdown that are long enough to be copied: eight words or more, in lower case. */
function sentences(markdown: string): string[] {
  const prose = markdown.replace(/^```[^]*?^```$/gm, "\n\n");
  return prose.split(/\n\s*\n|^[-#]|\|/m).flatMap((block) =>
    block.replace(/\s+/g, " ").split(/(?<=[.:;?!])\s/)
      .map((sentence) => sentence.toLowerCase().replace(/[.:;?!]$/, "").trim())
      .filter((sentence) => sentence.split(/[^a-z]+/).filter(Boolean).length >= 8)
  );
}

Deno.test("no sentence stands twice in the documentation", async () => {
  const places = new Map<string, string[]>();
  for await (const path of pages()) {
    const found = sentences(await Deno.readTextFile(new URL(path, ROOT)));
    assert(path.endsWith(".zh.md") || found.length > 3, `${path}: its sentences are not found`);
    for (const sentence of found) places.set(sentence, [...places.get(sentence) ?? [], path]);
  }
  assert(places.size > 200, `only ${places.size} sentences were found`);
  assertEquals([...places].filter(([, paths]) => paths.length > 1), []);

  const twice =
    "One two three four five six seven eight. Nine\n\n- one two three\n  four five six " +
    "seven eight: ten";
  assertEquals(sentences(twice), Array(2).fill("one two three four five six seven eight"));
});

/** The headings of Markdown, as links name them. */
const anchors = (markdown: string) =>
  [...markdown.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  );

/** Links and paths in a page that lead nowhere. */
async function lost(page: string): Promise<string[]> {
  const text = await Deno.readTextFile(new URL(page, ROOT));
  const exists = (path: string, from: URL) =>
    Deno.stat(new URL(path, from)).then(() => true, () => false);
  const here = new URL(page, ROOT), faults: string[] = [];
  for (const [, path, anchor] of text.matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)) {
    const target = path === "" ? here : new URL(path!, here);
    const there = await exists(target.href, here) &&
      (!anchor || anchors(await Deno.readTextFile(target)).includes(anchor));
    if (!there) faults.push(`${page}: (${path}${anchor ? `#${anchor}` : ""})`);
  }
  for (const [, path] of text.matchAll(/`((?:[\w.-]+\/)+[\w.-]*\.(?:ts|py|sh|md))`/g)) {
    const places = [ROOT, new URL("lib/", ROOT), here];
    const found = await Promise.all(places.map((place) => exists(path!, place)));
    if (!found.includes(true)) faults.push(`${page}: ${path}`);
  }
  return faults;
}

Deno.test("links and paths in the documentation lead somewhere", async () => {
  const faults: string[] = [];
  for await (const page of pages()) faults.push(...await lost(page));
  assertEquals(faults, []);
});

Deno.test("the commands that the READMEs list are the tasks of deno.json", async () => {
  const wanted = Object.keys(project.tasks).filter((name) => !/^(ok|test:.*)$/.test(name)).sort();
  for (const page of ["README.md", "README.zh.md"]) {
    const text = await Deno.readTextFile(new URL(page, ROOT));
    const [, rows] = text.match(/^\| `deno task …`.*\n\|.*\n((?:\|.*\n)*)/m)!;
    assertEquals(
      [...rows!.matchAll(/^\| `(\S+)`/gm)].map(([, name]) => name!).sort(),
      wanted,
      page,
    );
  }
});
