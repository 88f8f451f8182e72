/**
 * The page of `deno task web`, in a browser, as somebody uses it; and the library in a page without a
 * bundler. For `run.ts`, not a test by itself.
 *
 * What the console says, what the policy refuses, a request to anywhere else, or a word of the shader
 * compiler's fails a test.
 */

import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import type { BrowserContext, CDPSession, Page } from "npm:playwright-core@^1.65.0";
import project from "../../deno.json" with { type: "json" };
import { parseSafetensors } from "../../lib/formats/safetensors.ts";
import { decodeStateDict } from "../../lib/formats/state_dict.ts";
import { answer, build, type Built } from "../../scripts/web.ts";
import smallNet from "../../scripts/web/small_net.ts";
import { strip } from "./strip.ts";

/** A test: it throws, or says what went wrong. `step` names what is being done. */
export interface WebTest {
  readonly name: string;
  readonly body: (browser: BrowserContext, folder: string, step: Step) => Promise<void>;
}
type Step = (name: string, body: () => Promise<unknown>) => Promise<void>;

const ROOT = new URL("../../", import.meta.url);
const FIXTURE = new URL("../fixtures/page.safetensors", import.meta.url);

/** What the page's worker has, so that a test sees and loses its device. */
const PROLOGUE = `
globalThis.tested = { devices: [], said: [], buffers: 0, bytes: 0 };
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

/** In the page: the longest time between two frames, and what the policy refused. */
const METERS = `
globalThis.seen = { longest: 0, refused: [], measure: false };
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

/** Serves a page that was built, on a port and so an origin of its own. */
function serve(out: string, built: Built) {
  const files = answer(out, built);
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const response = await files(request);
      if (!/\/worker\.\w+\.js$/.test(request.url)) return response;
      const { status, headers } = response, all = new Headers(headers);
      all.delete("content-length");
      return new Response(PROLOGUE + await response.text(), { status, headers: all });
    },
  );
  return { origin: `http://localhost:${server.addr.port}`, close: () => server.shutdown() };
}

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
      if (!url.startsWith(`${origin}/`) && !/^(blob|data):/.test(url)) {
        this.wrong.push(`asks for ${url}`);
      }
    });
  }

  static async open(browser: BrowserContext, origin: string): Promise<Visit> {
    const page = await browser.newPage(), visit = new Visit(page, origin);
    await page.addInitScript({ content: METERS });
    await page.goto(`${origin}/`);
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

  /** What is wrong with it all; then the page is closed. */
  async close(): Promise<string[]> {
    const { refused } = await this.page.evaluate("seen") as { refused: string[] };
    const said = await this.worker<string[]>("tested.said").catch(() => []);
    await this.page.close();
    assert(this.#counted > 0);
    return [...this.wrong, ...said, ...refused.map((what) => `the policy refused ${what}`)];
  }
}

/** Steps that have been trained, by the page's words. */
const stepsOf = (words: string): number => Number(words.match(/after step (\d+)/)?.[1] ?? NaN);

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

async function usedAsSomebodyDoes(
  browser: BrowserContext,
  folder: string,
  step: Step,
): Promise<void> {
  const out = `${folder}/web`, site = serve(out, await build(out));
  const visit = await Visit.open(browser, site.origin), { page } = visit;
  let steps = 0;
  try {
    await step("it says what it computes on", async () => {
      await visit.phase(["ready"]);
      assertMatch(await visit.text("adapter"), /swiftshader.*a software adapter/i);
      assert(await page.locator("#advice").isHidden());
    });
    await step(
      "it trains until 70% are right, by keyboard alone, and no frame is late",
      async () => {
        await page.locator("#images").focus();
        await page.keyboard.press("Home");
        await visit.until("data-words", /1,000 images to train on/);
        await visit.phase(["ready"]);
        await page.locator("#run").focus();
        await page.keyboard.press("Enter");
        await visit.phase(["training"]);
        await page.evaluate("seen.measure = true");
        await visit.until("test-accuracy", /^[7-9]\d\.\d%|100/, 150);
        const longest = await page.evaluate("seen.longest") as number;
        console.log(`  the longest time between two frames is ${longest.toFixed()} ms`);
        assert(longest < 200, `${longest} ms between two frames`);
        await page.locator("#pause").focus();
        await page.keyboard.press("Space");
        await visit.phase(["paused"]);
      },
    );
  } finally {
    await site.close();
  }
  const wrong = await visit.close();
  assertEquals(wrong, []);
}

/** The library's modules as JSR's mirror for npm has them: JavaScript, beside each other. */
async function mirrored(path: string): Promise<string> {
  const code = strip(await Deno.readTextFile(new URL(path.replace(/\.js$/, ".ts"), ROOT)));
  return code.replace(/(\bfrom |\bimport )"(\.[^"]*)\.ts"/g, '$1"$2.js"');
}

export const WEB_TESTS: readonly WebTest[] = [
  { name: "the page, as somebody uses it", body: usedAsSomebodyDoes },
];
