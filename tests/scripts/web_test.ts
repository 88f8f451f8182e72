/**
 * `deno task web`: the folder that it makes, how large that is, and what is served of it. What the page
 * does, `deno task test:browser` sees.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { answer, build, HEADERS, main, POLICY } from "../../scripts/web.ts";
import { call, deno } from "../call.ts";
import { inFolder, ROOT } from "../folder.ts";

/** The most that may come over the wire, without data, in bytes. */
const MOST = 200_000;

Deno.test("deno task web makes a page of static files, by its permissions, of less than 200 kB", async () => {
  await Deno.mkdir("runs/tmp", { recursive: true });
  const out = await Deno.makeTempDir({ dir: "runs/tmp" });
  try {
    const { code, out: said, err } = await deno(["task", "-q", "web", "--build", "--out", out]);
    assertEquals([code, err], [0, ""]);
    const [, packed] = said.match(/^runs\/tmp\/.*: .* kB, ([\d.]+) kB gzipped, without data$/m)!;
    assert(Number(packed) * 1000 < MOST, `${packed} kB are too much`);
    const names = (await Array.fromAsync(Deno.readDir(out), ({ name }) => name)).sort();
    const plain = names.map((name) => name.replace(/\.[0-9a-f]{16}\./, ".HASH."));
    assertEquals(plain, [
      ...["data", "icon.HASH.svg", "index.html", "main.HASH.js", "service_worker.js"],
      ...["style.HASH.css", "worker.HASH.js"],
    ]);
    const sizes = [...said.matchAll(/^([\w.]+): .* kB, ([\d.]+) kB gzipped$/gm)];
    assertEquals(sizes.map(([, name]) => name!).sort(), names.filter((name) => name !== "data"));
    const data = (await Array.fromAsync(Deno.readDir(`${out}/data`), ({ name }) => name)).sort();
    assertEquals(data, [
      ...["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
      ...["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"],
    ]);
  } finally {
    await Deno.remove(out, { recursive: true });
  }
});

Deno.test("the page can be made where a folder's name has a space", () =>
  inFolder(async (folder) => {
    const link = `${folder}/a b`;
    await new Deno.Command("sh", { args: ["-c", 'ln -s "$0" "$1"', ROOT, link] }).output();
    const words = [`${link}/scripts/web.ts`, "--build", "--out", `${folder}/out`];
    const { code, err } = await deno(["run", "-q", "-A", ...words]);
    assertEquals([code, err], [0, ""]);
  }));

Deno.test("the page loads nothing from elsewhere, and runs nothing that is in it", () =>
  inFolder(async (folder) => {
    const { files } = await build(folder);
    const index = await Deno.readTextFile(`${folder}/index.html`);
    const csp = index.match(/<meta http-equiv="content-security-policy" content="([^"]*)">/)![1]!;
    assertEquals(csp.replaceAll("&#39;", "'"), POLICY);
    assertStringIncludes(HEADERS["content-security-policy"]!, POLICY);
    for (const [directive, wanted] of [["default-src", "'none'"], ["script-src", "'self'"]]) {
      assertMatch(POLICY, new RegExp(`\\b${directive} ${wanted}(;|$)`));
    }
    assert(!/unsafe|https?:|\*/.test(POLICY), POLICY);
    assert(!/\s(on\w+|style)=|<script(?![^>]* src=)|<style|javascript:/.test(index));
    const loaded = index.matchAll(/<(?!a\b)\w[^>]*\s(?:src|href)="([^"]+)"/g);
    const urls = [...loaded].map(([, url]) => url!);
    assert(urls.length > 2);
    assertEquals(urls.filter((url) => !files.has(url)), []);
  }));

Deno.test("another build takes the place of the one before, and of nothing else", () =>
  inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/main.0123456789abcdef.js`, "old");
    await Deno.writeTextFile(`${folder}/notes.js`, "mine");
    const first = await build(folder), again = await build(folder);
    assertEquals([...first.files], [...again.files]);
    const names = (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
    assertEquals(names, [...first.files.keys(), "data", "notes.js"].sort());
    const keeper = await Deno.readTextFile(`${folder}/service_worker.js`);
    const { files, page, data } = JSON.parse(keeper.match(/^const BUILD=(\{.*?\});/)![1]!);
    assertEquals(
      ["index.html", ...files, "service_worker.js"],
      [...first.files.keys()],
    );
    assertStringIncludes(await Deno.readTextFile(`${folder}/index.html`), page);
    assertMatch(data, /^[0-9a-f]{16}$/);
  }));

Deno.test("what is served has its type and the policy; what was not built is not there", () =>
  inFolder(async (folder) => {
    const built = await build(folder), get = answer(folder, built);
    const ask = (path: string, method = "GET") =>
      get(new Request(`http://127.0.0.1/${path}`, { method }));
    const types: Record<string, RegExp> = {
      css: /^text\/css/,
      gz: /^application\/gzip$/,
      html: /^text\/html/,
      js: /^text\/javascript/,
      svg: /^image\/svg\+xml$/,
    };
    const names = [...built.files.keys(), ...built.data.map((name) => `data/${name}`), ""];
    for (const name of names) {
      const { status, headers, body } = await ask(name);
      const file = name || "index.html";
      assertEquals(status, 200, name);
      assertMatch(headers.get("content-type")!, types[file.split(".").at(-1)!]!);
      for (const [key, value] of Object.entries(HEADERS)) assertEquals(headers.get(key), value);
      const bytes = await new Response(body).bytes();
      assertEquals(headers.get("content-length"), `${bytes.length}`);
      assertEquals(bytes, await Deno.readFile(`${folder}/${file}`));
      const kept = /\.[0-9a-f]{16}\./.test(name);
      assertEquals(headers.get("cache-control"), kept ? "max-age=31536000, immutable" : "no-cache");
      const head = await ask(name, "HEAD");
      assertEquals([head.status, await head.bytes()], [200, new Uint8Array(0)]);
    }
    await Deno.writeTextFile(`${folder}/secret.js`, "1");
    for (const path of ["secret.js", "../deno.json", "%2e%2e/deno.json", "data", "data/", "x"]) {
      assertEquals((await ask(path)).status, 404, path);
    }
    assertEquals((await ask("", "POST")).status, 405);
  }));

Deno.test("deno task web serves until it is told to end", async () => {
  await Deno.mkdir("runs/tmp", { recursive: true });
  const out = await Deno.makeTempDir({ dir: "runs/tmp" });
  const args = ["run", "-q", "-P=web", "scripts/web.ts", "--port", "0"];
  await using child = new Deno.Command("deno", {
    args: [...args, "--out", out],
    env: { NO_COLOR: "1" },
    stdout: "piped",
  }).spawn();
  try {
    let said = "", url: string | undefined;
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      url = (said += text).match(/^http:\/\/localhost:(\d+)\/ /m)?.[1];
      if (url !== undefined) break;
    }
    const response = await fetch(`http://127.0.0.1:${url}/`);
    assertStringIncludes(await response.text(), "<title>Resnette");
    child.kill("SIGINT");
    assertEquals((await child.status).code, 130);
  } finally {
    await Deno.remove(out, { recursive: true });
  }
});

Deno.test("a wrong command line is told", async () => {
  const { code, out } = await call(main, "--help");
  assertEquals(code, 0);
  for (const flag of ["--build", "--out FOLDER", "--port N"]) assertStringIncludes(out, flag);
  for (
    const [words, why] of [
      ["--port x", '--port must be a number from 0 to 65535, got "x"'],
      ["--port 65536", "--port must be a number"],
      ["--serve", "unknown: --serve"],
      ["runs", "unknown: runs"],
    ] as const
  ) {
    const { code, err } = await call(main, words);
    assertEquals(code, 2);
    assertStringIncludes(err, `error: ${why}`);
  }
  const { code: refused, err } = await deno([
    ...["task", "-q", "web", "--build", "--out", "elsewhere"],
  ]);
  assertEquals(refused, 1);
  assertStringIncludes(err, "The task `web` may not do that; it may only write in runs/");
});

Deno.test("where the bundler cannot be had, it says what to do", () =>
  inFolder(async (folder) => {
    // Another folder for Deno's caches, with the packages of JSR, and a registry that does not answer.
    const { denoDir } = JSON.parse((await deno(["info", "--json"])).out);
    const link = '[ ! -d "$0/remote" ] || ln -s "$0/remote" "$1"';
    await new Deno.Command("sh", { args: ["-c", link, denoDir, folder] }).output();
    const { code, err } = await deno(["task", "-q", "web", "--build", "--out", "runs/tmp/none"], {
      env: { DENO_DIR: folder, NPM_CONFIG_REGISTRY: "http://127.0.0.1:1" },
    });
    assertEquals(code, 1);
    assertMatch(err, /^error: the bundler, esbuild, cannot be had: .*npm can be reached$/m);
  }));
