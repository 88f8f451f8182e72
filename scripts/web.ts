/**
 * `deno task web`: builds the page of `scripts/web/` as a folder of static files, and serves it on
 * this machine.
 *
 * All files but the page itself and its service worker have a hash of their contents in their
 * names.
 *
 * @module
 */

import { xml } from "../lib/check/text.ts";
import { FASHION_MNIST_FILES } from "../lib/data/fashion_mnist.ts";
import { DataError } from "../lib/data/error.ts";
import { FASHION_MNIST_DEBIAN_DIR } from "../lib/files/download.ts";
import { isThere } from "../lib/files/open.ts";
import { type Flags, runCommand, UsageError } from "./cli.ts";
import { Stop } from "./stop.ts";

const USAGE = `usage: deno task web [--build] [--out FOLDER] [--port N]

Makes a page that trains in the browser: a folder of static files, which any web server can serve as
they are. Then serves it on this machine, until Ctrl-C.

  --build         make the files, and serve nothing
  --out FOLDER    where to put them, in runs/ (runs/web)
  --port N        port on this machine; 0 takes one that is free (8000)
  -h, --help      this text

The files of Fashion-MNIST are copied from data/fashion-mnist (\`deno task data\`) or from Debian's
package. The page needs https, or localhost, for WebGPU. Deno gets the bundler, esbuild, from npm at
first use.

exit code: 0 done; 1 it cannot be made or served; 2 the command line is wrong; 130 stopped by Ctrl-C,
143 by SIGTERM`;

/** What is wrong with the page, or lacks for it. */
class BuildError extends Error {
  override name = "BuildError";
}

/** The page's sources. */
const SOURCES = new URL("web/", import.meta.url);

/** Where the files of Fashion-MNIST may be. */
const DATA = ["data/fashion-mnist", FASHION_MNIST_DEBIAN_DIR];

const TYPES: Readonly<Record<string, string>> = {
  css: "text/css; charset=utf-8",
  gz: "application/gzip",
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
};

/**
 * What the page may load: its own files. Pictures are made in it, too, and the camera is its own. It is
 * in the page, for all servers; a server can add what only a header can say.
 */
export const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "worker-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob: data:",
  "media-src 'self' blob:",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** The headers that a server should send with all files. */
export const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": `${POLICY}; frame-ancestors 'none'`,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(self), geolocation=(), microphone=()",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

type Bytes = Uint8Array<ArrayBuffer>;

const encode = (text: string): Bytes => new TextEncoder().encode(text);
const decode = (bytes: Bytes): string => new TextDecoder().decode(bytes);

/** A file with its hash in its name. */
const HASHED = /\.[0-9a-f]{16}\.\w+$/;

/** The first digits of a hash. */
async function hash(bytes: Bytes): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes), 0, 8).toHex();
}

/** Bytes that a server sends, if it packs what it sends. */
async function packedSize(bytes: Bytes): Promise<number> {
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return (await new Response(packed).bytes()).length;
}

/** Modules of the page as one script. */
async function bundle(name: string, format: "esm" | "iife" = "esm"): Promise<string> {
  const entry = `${import.meta.dirname}/web/${name}.ts`; // A URL would have %20 for a space.
  let result: Deno.bundle.Result;
  try {
    result = await Deno.bundle({
      entrypoints: [entry],
      outputPath: `${name}.js`,
      format,
      minify: true,
      keepNames: true, // Layers and errors are called as their classes are.
      platform: "browser",
      write: false,
    });
  } catch (cause) {
    throw new BuildError(
      `the bundler, esbuild, cannot be had: ${
        (cause as Error).message
      }. Deno gets it from npm at ` +
        "first use, and keeps it: run this once where npm can be reached",
      { cause },
    );
  }
  const text = result.outputFiles?.find(({ path }) => path.endsWith(".js"))?.text();
  if (!result.success || text === undefined) {
    const why = result.errors.map(({ text }) => text).join("; ");
    throw new BuildError(`scripts/web/${name}.ts cannot be bundled: ${why}`);
  }
  return text;
}

/** Puts `to` in the place of the one `from` of a text. */
function replace(text: string, from: string, to: string): string {
  const parts = text.split(from);
  if (parts.length !== 2) throw new BuildError(`there are ${parts.length - 1} of ${from}, not 1`);
  return parts.join(to);
}

/** The page's files by name, without data; `dataHash` tells data from others. */
async function pageFiles(dataHash: string): Promise<Map<string, Bytes>> {
  const files = new Map<string, Bytes>();
  /** Adds a file under a name with its hash, which is returned. */
  const add = async (name: string, bytes: Bytes): Promise<string> => {
    const hashed = name.replace(/(?=\.\w+$)/, `.${await hash(bytes)}`);
    files.set(hashed, bytes);
    return hashed;
  };
  const read = (name: string) => Deno.readFile(new URL(name, SOURCES));
  const worker = await add("worker.js", encode(await bundle("worker")));
  const main = replace(await bundle("main"), '"worker.js"', `"${worker}"`);
  let index = decode(await read("index.html"));
  const parts = { "main.js": encode(main), "style.css": await read("style.css") };
  for (const [name, bytes] of Object.entries({ ...parts, "icon.svg": await read("icon.svg") })) {
    index = replace(index, `"${name}"`, `"${await add(name, bytes)}"`);
  }
  const page = await hash(encode(index));
  const head = `<meta http-equiv="content-security-policy" content="${xml(POLICY)}">\n` +
    `<meta name="version" content="${page}">`;
  index = replace(index, '<meta charset="utf-8">', `<meta charset="utf-8">\n${head}`);
  const build = JSON.stringify({ page, files: [...files.keys()], data: dataHash });
  const keeper = `const BUILD=${build};${await bundle("service_worker", "iife")}`;
  return new Map([
    ["index.html", encode(index)],
    ...files,
    ["service_worker.js", encode(keeper)],
  ]);
}

/** The files of Fashion-MNIST that are there, by name. */
async function dataFiles(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const { images, labels } of Object.values(FASHION_MNIST_FILES)) {
    for (const { name } of [images, labels]) {
      for (const folder of DATA) {
        if (!found.has(name) && await isThere(`${folder}/${name}`)) {
          found.set(name, `${folder}/${name}`);
        }
      }
    }
  }
  return found;
}

/** What a build has made. */
export interface Built {
  /** Names in the folder, without data: size, and size when packed. */
  readonly files: ReadonlyMap<string, { readonly bytes: number; readonly packed: number }>;
  /** Names of the data in the folder's `data/`. */
  readonly data: readonly string[];
}

/**
 * Makes the page in a folder, and removes what an earlier build has left there.
 *
 * @param out the folder
 * @throws {BuildError} where the bundler cannot be had, or the page's parts do not fit together
 */
export async function build(out: string): Promise<Built> {
  const data = await dataFiles();
  const contents = new Map<string, Bytes>();
  for (const [name, path] of data) contents.set(name, await Deno.readFile(path));
  const hashes = await Promise.all([...contents.values()].map(hash));
  const files = await pageFiles(await hash(encode(hashes.join())));
  await Deno.mkdir(`${out}/data`, { recursive: true });
  for await (const { name } of Deno.readDir(out)) {
    if (HASHED.test(name) && !files.has(name)) await Deno.remove(`${out}/${name}`);
  }
  for (const [name, bytes] of files) await Deno.writeFile(`${out}/${name}`, bytes);
  for (const [name, bytes] of contents) await Deno.writeFile(`${out}/data/${name}`, bytes);
  const sizes = await Promise.all(
    [...files].map(async ([name, bytes]) =>
      [name, { bytes: bytes.length, packed: await packedSize(bytes) }] as const
    ),
  );
  return { files: new Map(sizes), data: [...data.keys()] };
}

/** Answers with the files of a folder, and nothing else. */
export function answer(
  out: string,
  { files, data }: Built,
): (request: Request) => Promise<Response> {
  const known = new Set([...files.keys(), ...data.map((name) => `data/${name}`)]);
  return async ({ method, url }) => {
    const name = new URL(url).pathname.slice(1) || "index.html";
    if (!known.has(name)) return new Response("not found", { status: 404, headers: HEADERS });
    if (method !== "GET" && method !== "HEAD") {
      return new Response(null, { status: 405, headers: HEADERS });
    }
    const type = TYPES[name.slice(name.lastIndexOf(".") + 1)]!;
    const file = await Deno.open(`${out}/${name}`);
    const { size } = await file.stat();
    const headers = {
      ...HEADERS,
      "cache-control": HASHED.test(name) ? "max-age=31536000, immutable" : "no-cache",
      "content-length": `${size}`,
      "content-type": type,
    };
    if (method === "GET") return new Response(file.readable, { headers });
    file.close();
    return new Response(null, { headers });
  };
}

/** Serves a folder until the signal. */
async function serve(out: string, built: Built, port: number): Promise<number> {
  using stop = new Stop(() => {}, () => "");
  const options = { hostname: "127.0.0.1", port, signal: stop.signal };
  const server = Deno.serve({
    ...options,
    onListen: ({ port }) => console.log(`http://localhost:${port}/ (Ctrl-C ends it)`),
  }, answer(out, built));
  await server.finished;
  return stop.code;
}

/** Sizes for people. */
const kB = (bytes: number) => `${(bytes / 1000).toFixed(1)} kB`;

async function run({ values, on }: Flags<"out" | "port", "build">): Promise<number> {
  const { out = "runs/web", port = "8000" } = values;
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) {
    throw new UsageError(`--port must be a number from 0 to 65535, got "${port}"`);
  }
  const built = await build(out);
  let bytes = 0, packed = 0;
  for (const [name, size] of built.files) {
    console.log(`${name}: ${kB(size.bytes)}, ${kB(size.packed)} gzipped`);
    bytes += size.bytes;
    packed += size.packed;
  }
  console.log(`${out}: ${kB(bytes)}, ${kB(packed)} gzipped, without data`);
  if (built.data.length < 4) {
    console.error(
      `warning: ${
        4 - built.data.length
      } of the 4 files of Fashion-MNIST are missing, so the page ` +
        "can only train on your own images; `deno task data` gets them",
    );
  }
  return on.build ? 0 : await serve(out, built, Number(port));
}

/**
 * Runs the command.
 *
 * @param args the command line's words
 * @returns the exit code
 */
export async function main(args: string[]): Promise<number> {
  return await runCommand(
    args,
    { name: "web", usage: () => USAGE, values: ["out", "port"], switches: ["build"] },
    run,
    [BuildError, DataError],
  );
}

if (import.meta.main) Deno.exit(await main(Deno.args));
