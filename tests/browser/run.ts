/**
 * `deno task test:browser [FILE…]`: runs tests in a browser, whose shader compiler refuses what
 * Deno's lets pass. The files are those of ops, kernels and plans, and those against PyTorch, which
 * `deno task test` runs, too; a FILE (`ops/ops`) takes that one alone. All that the shader compiler
 * says, error or warning, and all that the page's console says but a log, fails the test. The tests
 * in `web.ts` (`web/use`) are about the page of `deno task web`.
 *
 * The browser is Debian's Chromium, whose WebGPU computes on the CPU; `--browser PATH` takes
 * another (which the task may not start: `deno run -A tests/browser/run.ts --browser PATH`). Files
 * of tests get the project's files, types stripped, by the pipe that the browser is driven by; the
 * page of `deno task web` comes from a server on this machine, as it needs a service worker.
 */

import { Buffer } from "node:buffer";
import project from "../../deno.json" with { type: "json" };
import { strip } from "./strip.ts";

/** The page's message about a test that ended. */
export interface Report {
  readonly test: string;
  readonly steps: number;
  readonly ms: number;
  /** What went wrong; empty if it passed. */
  readonly wrong: readonly string[];
}

/** Files of `tests/` that need only what the page has of Deno, `_test.ts` left out. */
const FILES = [
  "graph/tensor",
  "plan/random_graphs",
  "plan/memory",
  "plan/updates",
  "ops/ops",
  "ops/golden",
  "nn/optim_golden",
  "nn/resnet_golden",
  "kernels/choice",
];

/** The tests of pages, in `web.ts`. */
const WEB = ["web/portable", "web/advice", "web/use", "web/looks"];

const CHROMIUM = "/usr/lib/chromium/chromium";
const ROOT = new URL("../../", import.meta.url);
/** Nothing is listening there: each request of the page is answered here. */
const ORIGIN = "http://localhost/";
/** Seconds in which a file's tests must be done: a compiler may hang. */
const TIME = 600;

/** What the packages' names mean to the page: this one, and stand-ins, as it has no way to JSR. */
function importMap(): Record<string, string> {
  const own = Object.entries(project.exports)
    .map(([name, path]) => [project.name + name.slice(1), path.slice(1)]);
  return { ...Object.fromEntries(own), "@std/assert": "/scripts/offline/assert/mod.ts" };
}

/** What the browser gets for a path: an empty page, a folder's listing, or a file of the project. */
async function serve(path: string): Promise<{ contentType: string; body: string | Buffer }> {
  if (path === "/") {
    const imports = JSON.stringify({ imports: importMap() });
    const body = `<!doctype html><script type="importmap">${imports}</script>`;
    return { contentType: "text/html", body };
  }
  const url = new URL(`.${path}`, ROOT);
  if (path.endsWith("/")) {
    const body = JSON.stringify(await Array.fromAsync(Deno.readDir(url)));
    return { contentType: "application/json", body };
  }
  if (path.endsWith(".ts")) {
    const body = strip(await Deno.readTextFile(url));
    return { contentType: "text/javascript", body };
  }
  const body = Buffer.from(await Deno.readFile(url));
  return { contentType: "application/octet-stream", body };
}

/** Starts the browser, which keeps its things in `folder`. */
async function start(executablePath: string, folder: string) {
  const { chromium } = await import("npm:playwright-core@^1.65.0");
  return await chromium.launchPersistentContext(`${folder}/profile`, {
    executablePath,
    artifactsDir: `${folder}/artifacts`,
    // What `headless` starts is a browser of another name. On Linux, WebGPU has to be asked for.
    headless: false,
    args: ["--headless=new", "--enable-unsafe-webgpu", "--use-fake-device-for-media-stream"],
    ignoreDefaultArgs: ["--disable-gpu"],
  });
}

type Browser = Awaited<ReturnType<typeof start>>;

/** An empty page, which gets the files of the project; `refused` is called for each that it cannot get. */
async function open(browser: Browser, refused: (why: string) => void) {
  const page = await browser.newPage();
  await page.route("**/*", async (route) => {
    const { pathname } = new URL(route.request().url());
    const answer = await serve(pathname).catch((error) => {
      refused(`${pathname} cannot be served: ${error}`);
      return { status: 404 };
    });
    await route.fulfill(answer);
  });
  await page.goto(ORIGIN);
  return page;
}

/** A description of this browser's WebGPU adapter; undefined if it has none. */
async function adapterOf(browser: Browser): Promise<string | undefined> {
  const page = await open(browser, console.error);
  const found = await page.evaluate(async () => {
    const adapter = await navigator.gpu?.requestAdapter();
    if (!adapter) return undefined;
    const { vendor, architecture, description } = adapter.info;
    return `${navigator.userAgent.match(/Chrom[^ ]*/)}, ${vendor} ${architecture} ${description}`;
  });
  await page.close();
  return found?.trim();
}

const seconds = (ms: number) => ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

/** Tells about a test that ended; whether it passed. */
function tell({ test, steps, ms, wrong }: Report): boolean {
  const inside = steps > 0 ? `${steps} steps, ` : "";
  console.log(`${test} ... ${wrong.length === 0 ? "ok" : "FAILED"} (${inside}${seconds(ms)})`);
  for (const what of wrong) console.log(`  ${what.replaceAll("\n", "\n  ")}`);
  return wrong.length === 0;
}

/** Runs the tests of a file in a page of its own; for each, whether it passed. */
async function runFile(browser: Browser, file: string): Promise<boolean[]> {
  const passed: boolean[] = [];
  let said: string[] = [];
  const told = ({ wrong, ...rest }: Report) => {
    passed.push(tell({ ...rest, wrong: [...wrong, ...said] }));
    said = [];
  };

  console.log(`\n${file}`);
  const page = await open(browser, (why) => said.push(why));
  page.on("console", (message) => {
    if (message.type() === "log") console.log(`  ${message.text()}`);
    else said.push(`${message.type()} on the console: ${message.text()}`);
  });
  page.on("pageerror", (error) => said.push(`uncaught: ${error.stack ?? error.message}`));
  await page.exposeFunction("report", told);
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`it is not done after ${TIME} s`)), TIME * 1000);
  const work = `import("/tests/browser/page.ts").then(({ runFile }) => runFile("/${file}"))`;
  await Promise.race([page.evaluate(work), late])
    .catch((error) => said.push(String(error)))
    .finally(() => clearTimeout(timer));
  if (passed.length + said.length === 0) said.push("it has no test");
  if (said.length > 0) told({ test: "it ends and says no more", steps: 0, ms: 0, wrong: [] });
  await page.close();
  return passed;
}

/** Runs a test of pages; whether it passed. */
async function runWeb(browser: Browser, file: string, folder: string): Promise<boolean> {
  const { WEB_TESTS } = await import("./web.ts");
  const { name, body } = WEB_TESTS.find((test) => test.file === file)!;
  let steps = 0, doing = "";
  const begin = performance.now(), wrong: string[] = [];
  console.log(`\n${file}`);
  const step = async (what: string, run: () => Promise<unknown>) => {
    const start = performance.now();
    doing = `${what}: `;
    await run();
    steps++;
    console.log(`  ${what} (${seconds(performance.now() - start)})`);
    doing = "";
  };
  await body(browser, folder, step).catch((error) =>
    wrong.push(doing + (error instanceof Error ? error.stack ?? error.message : String(error)))
  );
  return tell({ test: name, steps, ms: performance.now() - begin, wrong });
}

/** Runs the tests of these files; the exit status. */
async function run(executable: string, files: readonly string[], folder: string): Promise<number> {
  await using browser = await start(executable, folder);
  const adapter = await adapterOf(browser);
  if (!adapter) {
    console.error(`${executable} has no WebGPU adapter; its page chrome://gpu may say why`);
    return 1;
  }
  console.log(adapter);
  const passed: boolean[] = [];
  for (const file of files) {
    if (WEB.includes(file)) passed.push(await runWeb(browser, file, folder));
    else passed.push(...await runFile(browser, `tests/${file}_test.ts`));
  }
  const count = passed.filter(Boolean).length, failed = passed.length - count;
  console.log(`\n${count} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

async function main(args: readonly string[]): Promise<number> {
  const words = [...args], at = words.indexOf("--browser");
  const [, executable = CHROMIUM] = at < 0 ? [] : words.splice(at, 2);
  const all = [...FILES, ...WEB], unknown = words.find((word) => !all.includes(word));
  if (unknown !== undefined) {
    console.error(`there is no ${unknown} among ${all.join(", ")}`);
    return 2;
  }
  try {
    await Deno.stat(executable);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.error(
      `no browser at ${executable}; on Debian, as root, type: ` +
        "apt-get update && apt-get install -y --no-install-recommends chromium",
    );
    return 1;
  }
  await Deno.mkdir("runs/tmp", { recursive: true });
  const folder = await Deno.makeTempDir({ dir: "runs/tmp", prefix: "browser-" });
  try {
    return await run(executable, words.length > 0 ? words : all, folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
