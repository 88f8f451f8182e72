/**
 * The page of `deno task web`, in a browser, as somebody uses it; and the library in a page without a
 * bundler. For `run.ts`, not a test by itself.
 *
 * What the console says, what the policy refuses, a request to anywhere else, or a word of the shader
 * compiler's fails a test.
 */

import { Buffer } from "node:buffer";
import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import type { BrowserContext as Browser, Page } from "npm:playwright-core@^1.65.0";
import axe from "npm:axe-core@^4.11.0";
import type { AxeResults } from "npm:axe-core@^4.11.0";
import project from "../../deno.json" with { type: "json" };
import { parseSafetensors } from "../../lib/formats/safetensors.ts";
import { decodeStateDict } from "../../lib/formats/state_dict.ts";
import { answer, build, type Built } from "../../scripts/web.ts";
import smallNet from "../../scripts/web/small_net.ts";
import { strip } from "./strip.ts";

/** A test, which throws what went wrong. `step` names what is being done. */
export interface WebTest {
  /** What it is called for. */
  readonly file: string;
  readonly name: string;
  readonly body: (browser: Browser, folder: string, step: Step) => Promise<void>;
}
// deno-lint-ignore no-explicit-any -- what a page's script returns
type Any = any;
type Step = (name: string, body: () => Promise<unknown>) => Promise<void>;

const ROOT = new URL("../../", import.meta.url);
const FIXTURE = new URL("../fixtures/page.safetensors", import.meta.url);
const PHOTO = new URL("../fixtures/images/boot_turned.jpg", import.meta.url);

/** What the page's worker has, so that a test sees and loses its device. */
const PROLOGUE = `
globalThis.tested = { devices: [], said: [], buffers: 0, bytes: 0, reads: 0 };
{
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await requestDevice.apply(this, args);
    tested.devices.push(device);
    return device;
  };
  const { createShaderModule, createBuffer } = GPUDevice.prototype;
  GPUDevice.prototype.createShaderModule = function (descriptor) {
    const shader = createShaderModule.call(this, descriptor);
    shader.getCompilationInfo().then(({ messages }) => {
      for (const { type, message } of messages) tested.said.push("WGSL " + type + ": " + message);
    }, () => {});
    return shader;
  };
  const { destroy } = GPUBuffer.prototype;
  const count = (buffer, sign) => {
    // What is read has a buffer until it is there; on a busy machine there is always one.
    if (buffer.usage & GPUBufferUsage.MAP_READ) return void (tested.reads += sign);
    tested.buffers += sign;
    tested.bytes += sign * buffer.size;
  };
  const gone = new WeakSet();
  GPUDevice.prototype.createBuffer = function (descriptor) {
    const buffer = createBuffer.call(this, descriptor);
    count(buffer, 1);
    return buffer;
  };
  GPUBuffer.prototype.destroy = function () {
    if (!gone.has(this)) count(this, -1);
    gone.add(this);
    destroy.call(this);
  };
}
`;

/** A worker's browser without WebGPU. */
const NO_WEBGPU = 'Object.defineProperty(navigator, "gpu", { value: undefined });\n';

/** In the page: the longest time between two frames, what moved by itself, what the policy refused. */
const METERS = `
globalThis.seen = { longest: 0, moved: 0, refused: [], measure: false };
new PerformanceObserver((list) => {
  for (const { value, hadRecentInput } of list.getEntries()) if (!hadRecentInput) seen.moved += value;
}).observe({ type: "layout-shift", buffered: true });
let last = performance.now();
requestAnimationFrame(function frame(now) {
  if (seen.measure) seen.longest = Math.max(seen.longest, now - last);
  last = now;
  requestAnimationFrame(frame);
});
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  seen.refused.push(violatedDirective + ": " + blockedURI);
});
`;

/**
 * The longest task of the page's thread while `body` runs, in milliseconds of the thread's own time: what
 * else the machine does, such as computing for the page, does not count.
 */
async function longestTask({ page }: Visit, body: () => Promise<void>): Promise<number> {
  const session = await page.context().newCDPSession(page);
  const events: TraceEvent[] = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...value as never[]));
  const complete = new Promise((resolve) => session.once("Tracing.tracingComplete", resolve));
  const traceConfig = {
    includedCategories: ["disabled-by-default-devtools.timeline"],
    excludedCategories: ["*"],
  };
  await session.send("Tracing.start", { transferMode: "ReportEvents", traceConfig });
  try {
    await body();
  } finally {
    await session.send("Tracing.end");
    await complete;
    await session.detach();
  }
  const mains = events.filter(({ name, args }) =>
    name === "thread_name" && args?.name === "CrRendererMain"
  );
  const isMain = ({ pid, tid }: TraceEvent) =>
    mains.some((main) => main.pid === pid && main.tid === tid);
  const tasks = events.filter((event) => event.name === "RunTask" && isMain(event));
  assert(tasks.length > 100, `only ${tasks.length} tasks were seen`);
  return Math.max(...tasks.map(({ tdur = 0 }) => tdur)) / 1000;
}

/** What Chromium notes of its threads. */
interface TraceEvent {
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  /** Microseconds of the thread's time. */
  readonly tdur?: number;
  readonly args?: { readonly name?: string };
}

/** Bytes of JavaScript in the heaps of the page and its worker, after what is garbage is gone. */
async function heaps({ page }: Visit): Promise<{ page: number; worker: number }> {
  const session = await page.context().newCDPSession(page);
  const { promise, resolve } = Promise.withResolvers<string>();
  session.on("Target.attachedToTarget", ({ sessionId, targetInfo: { type } }) => {
    if (type === "worker") resolve(sessionId);
  });
  const attach = { autoAttach: true, waitForDebuggerOnStart: false, flatten: false };
  await session.send("Target.setAutoAttach", attach);
  const sessionId = await promise,
    answers = new Map<number, (result: { usedSize: number }) => void>();
  session.on("Target.receivedMessageFromTarget", ({ message }) => {
    const { id, result } = JSON.parse(message);
    answers.get(id)?.(result);
  });
  const ask = async (method: string) => {
    const { promise, resolve } = Promise.withResolvers<{ usedSize: number }>();
    const id = answers.size + 1, message = JSON.stringify({ id, method });
    answers.set(id, resolve);
    await session.send("Target.sendMessageToTarget", { sessionId, message });
    return await promise;
  };
  await ask("HeapProfiler.collectGarbage");
  await session.send("HeapProfiler.collectGarbage");
  const worker = (await ask("Runtime.getHeapUsage")).usedSize;
  const own = (await session.send("Runtime.getHeapUsage")).usedSize;
  await session.detach();
  return { page: own, worker };
}

/** Where the page is on its server: it may be put into any folder. */
const FOLDER = "/some/page/";

/** Serves a page that was built, on a port and so an origin of its own. */
function serve(out: string, built: Built, prologue = PROLOGUE) {
  const files = answer(out, built);
  let change = (text: string) => text;
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const url = new URL(request.url);
      if (!url.pathname.startsWith(FOLDER)) return new Response(null, { status: 404 });
      const pathname = url.pathname = url.pathname.slice(FOLDER.length - 1);
      const response = await files(new Request(url, { method: request.method }));
      const isWorker = /^\/worker\.\w+\.js$/.test(pathname);
      if (!isWorker && pathname !== "/" && pathname !== "/service_worker.js") return response;
      const headers = new Headers(response.headers), text = await response.text();
      headers.delete("content-length");
      return new Response(isWorker ? prologue + text : change(text), { headers });
    },
  );
  return {
    origin: `http://localhost:${server.addr.port}`,
    /** Puts another version of the page there, which has another title. */
    async publish(title: string): Promise<void> {
      const keeper = await Deno.readTextFile(`${out}/service_worker.js`);
      const [, version = ""] = keeper.match(/"page":"(\w+)"/)!;
      change = (text) =>
        text.replaceAll(version, "f".repeat(16)).replace("<title>Resnette", `<title>${title}`);
    },
    /** Ends it. */
    close: () => server.shutdown(),
  };
}

/** What `METERS` has seen. */
interface Seen {
  readonly refused: readonly string[];
  readonly moved: number;
}

/** The largest cumulative layout shift that counts as good. */
const MOVES = 0.1;

/** A page, and all that is wrong with what it says and asks for. */
class Visit {
  readonly wrong: string[] = [];
  #counted = 0;

  private constructor(readonly page: Page, readonly origin: string) {
    page.on("console", (message) => {
      if (message.type() !== "log") this.wrong.push(`${message.type()}: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.wrong.push(`uncaught: ${error.stack ?? error.message}`));
    page.context().on("request", (request) => {
      this.#counted++;
      const url = request.url();
      if (!url.startsWith(`${origin}${FOLDER}`) && !/^(blob|data):/.test(url)) {
        this.wrong.push(`asks for ${url}`);
      }
    });
  }

  static async open(browser: Browser, origin: string): Promise<Visit> {
    const page = await browser.newPage(), visit = new Visit(page, origin);
    await page.addInitScript({ content: METERS });
    await page.goto(`${origin}${FOLDER}`);
    return visit;
  }

  /** The words in an element. */
  async text(id: string): Promise<string> {
    return (await this.page.locator(`#${id}`).textContent() ?? "").trim();
  }

  /** Waits until the page is in one of these phases. */
  async phase(phases: readonly string[], seconds = 60): Promise<void> {
    const selector = phases.map((phase) => `body[data-phase=${phase}]`).join(", ");
    await this.page.locator(selector).waitFor({ timeout: seconds * 1000 }).catch(async () => {
      throw new Error(
        `not ${phases} in ${seconds} s, but "${await this.text("phase")}", and "${await this.text(
          "problem",
        )}"`,
      );
    });
  }

  /** Waits until the words in an element are like that; them. */
  async until(id: string, like: RegExp, seconds = 60): Promise<string> {
    const end = Date.now() + seconds * 1000;
    for (;;) {
      const text = await this.text(id);
      if (like.test(text)) return text;
      if (Date.now() > end) throw new Error(`#${id} says "${text}", not ${like}`);
      await this.page.waitForTimeout(100);
    }
  }

  /** Something of the worker's, by an expression of `tested`. */
  async worker<T>(expression: string): Promise<T> {
    return await this.page.workers()[0]!.evaluate(expression) as T;
  }

  /** Closes the page; throws if something was wrong all along. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { refused, moved } = await this.page.evaluate("seen") as Seen;
    const said = await this.worker<string[]>("tested.said").catch(() => []);
    await this.page.close();
    assert(this.#counted > 0);
    const all = [...this.wrong, ...said, ...refused.map((what) => `the policy refused ${what}`)];
    assertEquals(all, []);
    assert(moved < MOVES, `what is on the page has moved by itself, by ${moved}`);
  }
}

/** Steps that have been trained, by the page's words. */
const stepsOf = (words: string): number => Number(words.match(/after step (\d+)/)?.[1] ?? NaN);

/** How often memory is looked at, before it is compared. */
const LOOKS_AT_MEMORY = 10;

/** Steps that have been trained, by what is drawn. */
const trained = async ({ page }: Visit): Promise<number> =>
  Number(await page.evaluate("document.body.dataset.steps"));

/** Percents of the bars, in order. */
async function bars(visit: Visit): Promise<number[]> {
  const texts = await visit.page.locator("#bars .value").allTextContents();
  return texts.map((text) => parseFloat(text) / 100);
}

/** Draws a pair of trousers. */
async function drawTrousers({ page }: Visit): Promise<void> {
  const box = (await page.locator("#sketch").boundingBox())!;
  const at = (x: number, y: number) => [box.x + x * box.width, box.y + y * box.height] as const;
  for (const x of [0.38, 0.43, 0.57, 0.62]) {
    await page.mouse.move(...at(x, 0.12));
    await page.mouse.down();
    await page.mouse.move(...at(x, 0.9), { steps: 8 });
    await page.mouse.up();
  }
}

/** What is on the paper of a canvas, as a hash of its pixels. */
const pixelsOf = async (visit: Visit, id: string) =>
  await visit.page.evaluate(`document.getElementById("${id}").toDataURL()`) as string;

/** Presses Tab until an element has the focus: so that it can be had without a mouse. */
async function tabTo({ page }: Visit, id: string): Promise<void> {
  for (let presses = 0; presses < 100; presses++) {
    if (await page.evaluate(`document.activeElement.id === "${id}"`)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`no Tab leads to #${id}`);
}

/** In the page: drops a folder that cannot be read, and words; whether the page took them. */
const DROPS = `(() => {
  const drop = (dataTransfer) => {
    const event = new Event("drop", { bubbles: true, cancelable: true });
    Object.defineProperty(event, "dataTransfer", { value: dataTransfer });
    document.getElementById("lr").dispatchEvent(event);
    return event.defaultPrevented;
  };
  const readEntries = (_, refuse) => refuse(new Error("no permission"));
  const folder = { isDirectory: true, name: "photos", createReader: () => ({ readEntries }) };
  const items = [{ webkitGetAsEntry: () => folder }];
  return [drop({ types: ["Files"], items, files: [] }), drop({ types: ["text/plain"], items: [] })];
})()`;

/** In the page: chooses a folder of two classes, each of two images. */
const CHOOSES = `(async () => {
  const canvas = new OffscreenCanvas(8, 8), folder = document.getElementById("folder");
  canvas.getContext("2d");
  const blob = await canvas.convertToBlob();
  const files = ["boots/1.png", "boots/2.png", "shoes/1.png", "shoes/2.png"].map((path) =>
    Object.defineProperty(new File([blob], path.slice(6)), "webkitRelativePath", {
      value: "photos/" + path,
    })
  );
  Object.defineProperty(folder, "files", { value: files, configurable: true });
  folder.dispatchEvent(new Event("change"));
  delete folder.files;
})()`;

async function usedAsSomebodyDoes(browser: Browser, folder: string, step: Step): Promise<void> {
  const out = `${folder}/web`, site = serve(out, await build(out));
  await using visit = await Visit.open(browser, site.origin);
  const { page } = visit;
  let steps = 0, bytes: Uint8Array<ArrayBuffer>;

  await step("it says what it computes on", async () => {
    await visit.phase(["ready"]);
    assertMatch(await visit.text("adapter-words"), /swiftshader.*on the CPU/i);
    assert(await page.locator("#advice").isHidden());
  });

  await step("it trains until 70% are right, by keyboard, and no frame is late", async () => {
    await tabTo(visit, "images");
    await page.keyboard.press("Home");
    await tabTo(visit, "batch-size");
    await page.keyboard.press("Home");
    await page.locator("#epochs").fill("100");
    await visit.until("data-words", /1,000 images to train on/);
    await visit.phase(["ready"]);
    await tabTo(visit, "run");
    await page.keyboard.press("Enter");
    await visit.phase(["training"]);
    const longest = await longestTask(visit, async () => {
      await page.evaluate("seen.measure = true");
      await visit.until("test-accuracy", /^[7-9]\d\.\d%|100/, 150);
    });
    const frames = await page.evaluate("seen.longest") as number;
    console.log(
      `  the longest task takes ${longest.toFixed()} ms, the longest time between two frames is ` +
        `${frames.toFixed()} ms`,
    );
    assert(longest < 200, `a task of ${longest} ms`);
  });

  await step("memory stays as it is for 500 steps", async () => {
    const look = async () => {
      const { buffers, bytes, reads } = await visit.worker<
        Record<"buffers" | "bytes" | "reads", number>
      >("tested");
      return { buffers, bytes, reads, ...await heaps(visit), steps: await trained(visit) };
    };
    /** The least of some looks: in between, something is read or kept. */
    const memory = async () => {
      let least = await look();
      for (let looks = 1; looks < LOOKS_AT_MEMORY; looks++) {
        await page.waitForTimeout(100);
        const now = await look();
        least = {
          buffers: Math.min(least.buffers, now.buffers),
          bytes: Math.min(least.bytes, now.bytes),
          reads: Math.min(least.reads, now.reads),
          page: Math.min(least.page, now.page),
          worker: Math.min(least.worker, now.worker),
          steps: least.steps,
        };
      }
      return least;
    };
    const before = await memory();
    while (await trained(visit) < before.steps + 500) await page.waitForTimeout(500);
    const after = await memory();
    console.log(`  ${JSON.stringify(before)}, then ${JSON.stringify(after)}`);
    assert(after.buffers <= before.buffers && after.bytes <= before.bytes && after.reads < 4);
    for (const heap of ["page", "worker"] as const) {
      const grown = (after[heap] - before[heap]) / 1e6;
      assert(grown < 2, `the ${heap}'s heap has grown by ${grown} MB`);
    }
    await tabTo(visit, "pause");
    await page.keyboard.press("Space");
    await visit.phase(["paused"]);
    steps = stepsOf(await visit.until("kept", /after step \d+/));
    assert(steps > 500);
  });

  await step("it shows which were wrong, and what the layers see", async () => {
    const cells = await page.locator("#confusion td.right, #confusion td.wrong").allTextContents();
    assertEquals(cells.map(Number).reduce((a, b) => a + b), 500);
    assert(await page.locator("#mistakes li").count() > 0);
    await page.locator("#inside-title").scrollIntoViewIfNeeded();
    await page.locator("#layers li").first().waitFor();
    const words = await page.locator("#layers").innerText();
    assertMatch(words, /Conv2d[^]*16×28×28[^]*BatchNorm2d[^]*32×14×14[^]*Linear[^]*10/);
  });

  await step("it predicts what is drawn", async () => {
    await page.locator("#clear").click();
    const before = await pixelsOf(visit, "seen");
    await drawTrousers(visit);
    const answer = await visit.until("answer", /^Trouser, \d/);
    const all = await bars(visit);
    assertAlmostEquals(all.reduce((a, b) => a + b), 1, 0.02);
    assert(all[1] === Math.max(...all), `${answer}, but ${all}`);
    assert(await pixelsOf(visit, "seen") !== before);
  });

  await step("the weights that it hands out are those of the net", async () => {
    const coming = page.waitForEvent("download");
    await page.locator("#download").click();
    const download = await coming;
    assertMatch(download.suggestedFilename(), /\.safetensors$/);
    bytes = await Deno.readFile(await download.path() as string);
    const { tensors } = parseSafetensors(bytes);
    const net = smallNet(), own = [...(await net.stateDict()).keys()];
    assertEquals([...tensors.keys()].sort(), own.sort());
    net.loadStateDict(decodeStateDict(bytes, download.suggestedFilename()));
  });

  await step("a device that is lost is replaced, and the run goes on", async () => {
    await page.locator("#run").click();
    await visit.phase(["training"]);
    await visit.worker("tested.devices.at(-1).destroy()");
    await visit.until("problem", /lost/);
    await visit.phase(["training"]);
    assertEquals(await visit.worker("tested.devices.length"), 2);
    await visit.until("kept", /after step \d+/);
    await page.locator("#pause").click();
    await visit.phase(["paused"]);
    await page.waitForTimeout(300);
    const now = stepsOf(await visit.text("kept"));
    assert(now >= steps, `${now} steps are kept, and were ${steps}`);
    steps = now;
  });

  await step("after a reload it goes on where it was", async () => {
    const accuracy = await visit.text("test-accuracy");
    await page.reload();
    await visit.phase(["paused"]);
    assertEquals(stepsOf(await visit.text("kept")), steps);
    assertEquals(await visit.text("test-accuracy"), accuracy);
    await page.locator("#run").click();
    await visit.until("kept", new RegExp(`after step (?!${steps}\\b)`), 90);
    await page.locator("#pause").click();
    await visit.phase(["paused", "done"]);
  });

  await step("a checkpoint of PyTorch's gives PyTorch's probabilities", async () => {
    const file = await Deno.readFile(FIXTURE), { metadata } = parseSafetensors(file);
    const theirs: number[] = JSON.parse(metadata["probabilities"]!);
    const mimeType = "application/octet-stream";
    await page.locator("#weights").setInputFiles({
      name: "page.safetensors",
      mimeType,
      buffer: Buffer.from(file),
    });
    await page.locator("#loaded li").first().waitFor();
    await page.locator("#samples button").first().scrollIntoViewIfNeeded();
    // The first of those to test with is the first ankle boot.
    await page.locator("#samples button[aria-label='Ankle boot']").first().click();
    await visit.until("answer", /^Ankle boot/);
    (await bars(visit)).forEach((ours, i) => assertAlmostEquals(ours, theirs[i]!, 0.006));
  });

  await step("it takes a photo, and what is before the camera", async () => {
    const buffer = Buffer.from(await Deno.readFile(PHOTO));
    await page.locator("#photo").setInputFiles({ name: "b.jpg", mimeType: "image/jpeg", buffer });
    const boot = await pixelsOf(visit, "seen");
    await visit.until("answer", /^Ankle boot/);
    await browser.grantPermissions(["camera"], { origin: site.origin });
    await page.locator("#camera").click();
    for (let tries = 0; await pixelsOf(visit, "seen") === boot; tries++) {
      assert(tries < 100, "the camera shows nothing");
      await page.waitForTimeout(100);
    }
    await drawTrousers(visit);
    await page.locator("#camera[aria-pressed=false]").waitFor();
  });

  await step("a drop that cannot be read is told, and words are the field's", async () => {
    assertEquals(await page.evaluate(DROPS), [true, false]);
    await visit.until("problem", /^What was dropped cannot be read: no permission$/);
  });

  await step("after a folder, it takes as much of Fashion-MNIST as before", async () => {
    await page.evaluate(CHOOSES);
    await visit.until("data-words", /^photos: 2 images to train on, 2 to test with/);
    await visit.phase(["ready"]);
    await page.locator("#fashion").click();
    await visit.until("data-words", /^Fashion-MNIST: 1,000 images to train on/);
    await visit.phase(["ready"]);
  });

  await step("a page that has changed is seen at once", async () => {
    await site.publish("Changed");
    await page.reload();
    assertMatch(await page.title(), /^Changed/);
    await visit.phase(["ready"]);
    // The other version, and only that, is what is kept from then on.
    for (let tries = 0;; tries++) {
      const kept = (await page.evaluate("caches.keys()") as string[]).filter((x) =>
        / page /.test(x)
      );
      if (kept.length === 1 && /f{16}$/.test(kept[0]!)) break;
      assert(tries < 100, `${kept} are kept`);
      await page.waitForTimeout(100);
    }
  });

  await step("without a network it is all there", async () => {
    await site.close();
    await page.reload();
    assertMatch(await page.title(), /^Changed/);
    await visit.phase(["ready"]);
    await page.locator("#run").click();
    await visit.until("first-loss", /^\d\.\d+/);
    await page.locator("#pause").click();
    await visit.phase(["paused"]);
  });
}

/** The library's modules as JSR's mirror for npm has them: JavaScript, beside each other. */
async function mirrored(path: string): Promise<string> {
  const code = strip(await Deno.readTextFile(new URL(path.replace(/\.js$/, ".ts"), ROOT)));
  return code.replace(/(\bfrom |\bimport )"(\.[^"]*)\.ts"/g, '$1"$2.js"');
}

/** Widths of a phone, a tablet and a desk, and how the page is to look there. */
const LOOKS = [[390, 844, "light"], [820, 1180, "dark"], [1440, 900, "light"]] as const;

/** In the page: bars whose numbers cannot be read, as they are beyond an edge. */
const CUT_OFF = `[...document.querySelectorAll("#bars li")]
  .filter((row) => row.scrollWidth > row.clientWidth ||
    row.getBoundingClientRect().right > row.parentElement.getBoundingClientRect().right + 1)
  .map((row) => row.textContent)`;

async function looksWell(browser: Browser, folder: string, step: Step): Promise<void> {
  const out = `${folder}/web`, site = serve(out, await build(out));
  await using visit = await Visit.open(browser, site.origin);
  const { page } = visit, size = page.viewportSize()!;
  await visit.phase(["ready"]);
  await page.selectOption("#images", "0");
  await visit.until("data-words", /1,000 images/);
  await visit.phase(["ready"]);
  await page.locator("#run").click();
  await visit.until("test-accuracy", /%/, 150);
  await page.locator("#pause").click();
  await visit.phase(["paused"]);
  await page.evaluate(axe.source);
  await Deno.mkdir("runs/screenshots", { recursive: true });
  for (const [width, height, colorScheme] of LOOKS) {
    await step(`${width} pixels wide, ${colorScheme}`, async () => {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme });
      await page.locator("#layers li").first().waitFor();
      await page.waitForTimeout(500);
      const wide = await page.evaluate("document.documentElement.scrollWidth") as number;
      assert(wide <= width, `what is on it is ${wide} wide`);
      assertEquals(await page.evaluate(CUT_OFF), []);
      await page.screenshot({ path: `runs/screenshots/web-${width}.png`, fullPage: true });
      const { violations } = await page.evaluate("axe.run()") as AxeResults;
      const found = violations.flatMap(({ id, help, nodes }) =>
        nodes.map(({ target, failureSummary }) => `${id}: ${help}: ${target}: ${failureSummary}`)
      );
      assertEquals(found, []);
    });
  }
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme: null });
  await site.close();
}

async function withoutWebGpu(browser: Browser, folder: string): Promise<void> {
  const out = `${folder}/web`, site = serve(out, await build(out), NO_WEBGPU);
  await using visit = await Visit.open(browser, site.origin);
  assertMatch(await visit.until("advice-reason", /./), /^no WebGPU adapter: this browser has no/);
  assert(await visit.page.locator("#advice").isVisible());
  const words = await visit.page.locator("#advice").innerText();
  assert(!/apt-get|deno|driver.*install/i.test(words), words);
  await site.close();
}

/** In a page of another time, whose `Symbol` has nothing to dispose of. */
const OLDER = `
const now = Symbol;
globalThis.Symbol = Object.assign((words) => now(words), { prototype: now.prototype });
for (const name of Object.getOwnPropertyNames(now)) {
  if (/^(dispose|asyncDispose|length|name|prototype)$/.test(name)) continue;
  Object.defineProperty(Symbol, name, { value: now[name] });
}
delete globalThis.DisposableStack;
delete globalThis.AsyncDisposableStack;
`;

/** A script of somebody's page, by the names of the entries. */
const SCRIPT = `(async () => {
  const r = await import("@resnette/resnette");
  const { FASHION_MNIST_CLASSES, fetchFashionMnist, loadFashionMnist } =
    await import("@resnette/resnette/data");
  const { DeviceDataset, evaluateAccuracy, predict, trainConfig } =
    await import("@resnette/resnette/train");
  const { costsBy, profilePlan } = await import("@resnette/resnette/measure");
  const heard = [];
  const data = await fetchFashionMnist("data", "test", {
    limit: 64,
    stopEarly: true,
    onProgress: ({ received, total }) => heard.push(received <= total),
  });
  const net = new r.Sequential(new r.Flatten(), new r.Linear(784, 10));
  const adam = new r.Adam(net.parameters(), { lr: trainConfig().lr });
  const { x, labels } = new DeviceDataset(data).batch(r.input("indices", [64], "u32"));
  const loss = r.crossEntropy(net.call(x), labels);
  const plan = await r.Plan.compile({ outputs: [loss], updates: adam.minimize(loss) });
  const losses = [], indices = Uint32Array.from(data.labels.keys());
  for (let i = 0; i < 20; i++) {
    plan.run({ indices, ...adam.nextStep() });
    losses.push(await plan.item());
  }
  const { steps } = await profilePlan(plan, { indices, ...adam.nextStep() }, { runs: 1 });
  plan[Symbol.dispose]();
  const bytes = await r.encodeStateDict(await net.stateDict());
  net.loadStateDict(r.decodeStateDict(bytes, "net"));
  const refused = await loadFashionMnist("data", "test").catch(({ message }) => message);
  Object.defineProperty(navigator, "gpu", { value: undefined });
  return {
    count: data.count,
    boot: FASHION_MNIST_CLASSES[data.labels[0]],
    heard: heard.length > 0 && heard.every(Boolean),
    learnt: losses[19] < losses[0] / 2,
    accuracy: await evaluateAccuracy(net, data),
    rows: (await predict(net, data)).length,
    costs: costsBy(steps, ({ name }) => name).size,
    symbols: [Symbol.dispose, Symbol.asyncDispose].map(String),
    refused,
    none: await r.Device.request().catch(({ message }) => message),
  };
})()`;

async function withoutBundler(browser: Browser): Promise<void> {
  await using page = await browser.newPage();
  const wrong: string[] = [];
  page.on("console", (message) => wrong.push(message.text()));
  page.on("pageerror", ({ message }) => wrong.push(message));
  const imports = Object.fromEntries(
    Object.entries(project.exports).map((
      [entry, path],
    ) => [project.name + entry.slice(1), path.slice(1).replace(/\.ts$/, ".js")]),
  );
  const html = `<!doctype html><link rel="icon" href="data:,"><script type="importmap">${
    JSON.stringify({ imports })
  }</script>`;
  await page.addInitScript({ content: OLDER });
  await page.route("**/*", async (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname === "/") return await route.fulfill({ contentType: "text/html", body: html });
    if (pathname.startsWith("/data/")) {
      const body = Buffer.from(
        await Deno.readFile(new URL(`data/fashion-mnist/${pathname.slice(6)}`, ROOT)),
      );
      return await route.fulfill({ contentType: "application/gzip", body });
    }
    await route.fulfill({ contentType: "text/javascript", body: await mirrored(`.${pathname}`) });
  });
  await page.goto("http://localhost/");
  assertEquals(await page.evaluate(`"dispose" in Symbol`), false);
  const { accuracy, refused, none, costs, ...found } = await page.evaluate(SCRIPT) as Any;
  assertEquals(found, {
    count: 64,
    boot: "Ankle boot",
    heard: true,
    learnt: true,
    rows: 64,
    symbols: ["Symbol(Symbol.dispose)", "Symbol(Symbol.asyncDispose)"],
  });
  assert(accuracy > 0.5 && costs > 1);
  assertMatch(refused, /^loadFashionMnist: needs Deno, .* fetchFashionMnist/);
  assertMatch(none, /^no WebGPU adapter: this browser has no WebGPU/);
  assertEquals(wrong, []);
}

export const WEB_TESTS: readonly WebTest[] = [
  {
    file: "web/portable",
    name: "the portable entries load in a page without a bundler",
    body: withoutBundler,
  },
  {
    file: "web/advice",
    name: "where there is no WebGPU, the page says what to do in a browser",
    body: withoutWebGpu,
  },
  { file: "web/use", name: "the page, as somebody uses it", body: usedAsSomebodyDoes },
  { file: "web/looks", name: "the page on a phone, a tablet and a desk", body: looksWell },
];
