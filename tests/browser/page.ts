/**
 * Runs files of tests in a page, for `run.ts`. The page has what these files use of `Deno`, and asks
 * what the shader compiler has to say of each shader: any word of it fails the test. Not a test.
 */

import type { Report } from "./run.ts";

/** Tells `run.ts`, which puts it here. */
declare const report: (report: Report) => Promise<void>;

type Step = (name: string, body: Body) => Promise<boolean>;
type Body = (t: { readonly step: Step }) => unknown;

const tests: { readonly name: string; readonly body: Body }[] = [];

/** A file of the project, which `run.ts` serves. */
async function file(url: string | URL): Promise<Response> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response;
}

/** What JSON has no words for, in some that it has. */
const plain = (_: string, value: unknown) =>
  ArrayBuffer.isView(value)
    ? [...value as Float32Array]
    : typeof value === "bigint" || typeof value === "number" && !Number.isFinite(value)
    ? String(value)
    : value;

Object.assign(globalThis, {
  Deno: {
    test: (name: string, body: Body) => void tests.push({ name, body }),
    readFile: async (url: string | URL) => new Uint8Array(await (await file(url)).arrayBuffer()),
    readDir: async function* (url: string | URL) {
      yield* await (await file(url)).json();
    },
    inspect: (value: unknown) => JSON.stringify(value, plain) ?? String(value),
  },
});

/** What the compiler said, or is about to say, since the last look. */
let said: Promise<readonly string[]>[] = [];

const { createShaderModule } = GPUDevice.prototype;
GPUDevice.prototype.createShaderModule = function (descriptor) {
  const shader = createShaderModule.call(this, descriptor), { code, label } = descriptor;
  const line = (number: number) => code.split("\n")[number - 1]?.trim() ?? "";
  said.push(
    shader.getCompilationInfo().then(({ messages }) =>
      messages.map(({ type, message, lineNum }) =>
        `WGSL ${type} in ${label || "a shader"}: ${message}, in: ${line(lineNum)}`
      )
    ),
  );
  return shader;
};

/** The errors in `body`, one entry for each; `count` is called for each step. */
async function run(body: Body, count: () => void): Promise<string[]> {
  const wrong: string[] = [];
  const step: Step = async (name, body) => {
    count();
    const inside = await run(body, count);
    wrong.push(...inside.map((what) => `${name}: ${what}`));
    return inside.length === 0;
  };
  try {
    await body({ step });
  } catch (error) {
    wrong.push(error instanceof Error ? error.stack ?? String(error) : String(error));
  }
  const before = said;
  said = [];
  return [...wrong, ...new Set((await Promise.all(before)).flat())];
}

/** Runs the tests of a file, and reports each. */
export async function runFile(path: string): Promise<void> {
  await import(path);
  for (const { name, body } of tests) {
    let steps = 0;
    const begin = performance.now();
    const wrong = await run(body, () => steps++);
    await report({ test: name, steps, ms: performance.now() - begin, wrong });
  }
}
