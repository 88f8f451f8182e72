/**
 * Resnette in a project of someone else: in a folder outside of this one, with a `deno.json` of its own.
 * Nothing may be fetched for it (`--cached-only`), so the network and JSR make no difference.
 */

import { assert, assertEquals } from "@std/assert";
import { relative } from "node:path";
import project from "../../deno.json" with { type: "json" };
import { deno } from "../call.ts";
import { inFolder, ROOT } from "../folder.ts";

const { name, version, exports } = project;

/** A net that is trained for some steps, with names of all entries. */
const net = (from: (entry: string) => string) => `
import { Adam, crossEntropy, Flatten, grad, Linear, Plan, Sequential, tensor } from "${from(".")}";
import type { ImageDataset } from "${from("./data")}";
import { DeviceDataset, trainConfig } from "${from("./train")}";
import { costsBy } from "${from("./measure")}";

const data: ImageDataset = {
  images: Uint8Array.of(255, 0, 0, 0, 0, 0, 0, 255),
  labels: Uint8Array.of(0, 1),
  count: 2,
  height: 2,
  width: 2,
  classes: ["a", "b"],
};
const { x, labels } = new DeviceDataset(data).batch(tensor(new Uint32Array([0, 1])), { resize: 2 });
const net = new Sequential(new Flatten(), new Linear(4, 2));
const adam = new Adam(net.parameters(), { lr: trainConfig().lr * 100 });
const loss = crossEntropy(net.call(x), labels);
const updates = adam.updates(grad(loss, net.parameters()));
using plan = await Plan.compile({ outputs: [loss], updates });
const losses: number[] = [];
for (let step = 0; step < 20; step++) {
  plan.run(adam.nextStep());
  losses.push((await plan.read())[0]![0]!);
}
console.log(losses[19]! < losses[0]! / 2, costsBy([], () => "").size);
`;

/** Runs a script of the shell; what it prints. */
async function sh(script: string, ...args: string[]): Promise<string> {
  // Where there is no TMPDIR, it is a folder outside of this project.
  const { success, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-euc", script, "sh", ...args],
    env: { TMPDIR: "" },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  assert(success, text(stderr));
  return text(stdout);
}

/** Checks and runs the net in a folder outside, whose `deno.json` is made for the way to this one. */
async function elsewhere(
  config: (root: string) => unknown,
  from: (entry: string, root: string) => string,
): Promise<void> {
  const cwd = await sh('cd "$(mktemp -d)" && pwd -P');
  try {
    assert(!`${cwd}/`.startsWith(ROOT), `${cwd} is inside of the project`);
    const root = relative(cwd, ROOT);
    await inFolder(async (folder) => {
      await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(config(root)));
      await Deno.writeTextFile(`${folder}/net.ts`, net((entry) => from(entry, root)));
      await sh('cp "$1"/* "$2"', folder, cwd);
    });
    const strict = await deno(["check", "-q", "--no-lock", "--cached-only", "net.ts"], { cwd });
    assertEquals([strict.code, strict.out + strict.err], [0, ""]);
    const ran = await deno(["run", "-q", "--no-prompt", "--no-lock", "--cached-only", "net.ts"], {
      cwd,
    });
    assertEquals([ran.code, ran.out, ran.err], [0, "true 0\n", ""]);
    assertEquals(await sh('ls "$1"', cwd), "deno.json\nnet.ts");
  } finally {
    await sh('rm -r "$1"', cwd);
  }
}

const byName = (entry: string) => name + entry.slice(1);
const byPath = (entry: string, root: string) =>
  `${root}/${exports[entry as keyof typeof exports].slice(2)}`;
const jsr = { [name]: `jsr:${name}@^${version}` };

Deno.test("a project elsewhere imports this one by path", () => elsewhere(() => ({}), byPath));

Deno.test("a project elsewhere has this one in its import map", async () => {
  await elsewhere((root) => ({ imports: { [name]: `${root}/mod.ts` } }), byName);
});

Deno.test("a project for pages, with a browser's types, imports this one by path", async () => {
  const { default: { compilerOptions: { lib } } } = await import("../../scripts/web/deno.json", {
    with: { type: "json" },
  });
  assert(lib.includes("dom") && !lib.some((name) => /window|worker/.test(name)));
  const strict = project.compilerOptions;
  await elsewhere(() => ({ compilerOptions: { ...strict, lib } }), byPath);
});

Deno.test("a project elsewhere links this one, whether or not it was added from JSR", async () => {
  await elsewhere((root) => ({ links: [root] }), byName);
  await elsewhere((root) => ({ imports: jsr, links: [root] }), byName);
});

Deno.test("JSR would take this version as it is", async () => {
  const { code, err } = await deno(["publish", "-q", "--dry-run", "--allow-dirty", "--no-check"]);
  assertEquals(code, 0, err);
});
