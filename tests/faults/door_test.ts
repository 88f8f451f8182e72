/**
 * Every public function, class and method, called with right arguments and with wrong ones: kinds,
 * ranks, sizes, options, element types. Each call gives an error of the library's own that names the
 * function and the argument, or a result that float64 confirms. 20,000 calls in the suite, 400,000 in a
 * soak.
 */

import { assert, assertEquals } from "@std/assert";
import * as R from "@resnette/resnette";
import { constantData } from "../../lib/graph/tensor.ts";
import { difference, type Nd } from "../ops/nd.ts";
import { draws, report, rounds, SEED } from "../soak.ts";
import { type Any, ENTRIES, type Entry, EXEMPT, known, PUBLIC, spoil } from "./door.ts";

/** The library's own errors. */
const OWN: (new (...args: Any[]) => Error)[] = Object.values(PUBLIC).filter((x) =>
  typeof x === "function" && x.prototype instanceof Error
);
/** What only the inside of an engine, a driver or the library says; or lists of what is undefined. */
const INSIDE =
  /wgsl|shader|undefined is not|reading '|not a function|not iterable|cannot convert|call stack|\bundefined\b.*\bundefined\b|validation/i;
/** Largest difference of a result from float64, relative to the largest value; as in `ops_test.ts`. */
const TOLERANCE = 1e-5;
/** What sums up terms that may cancel out, and their errors do not: the largest input counts as well. */
const SUMS = new Set([
  ...["sum", "mean", "matmul", "linear", "conv2d", "avgPool2d", "globalAvgPool2d"],
  ...["adaptiveAvgPool2d", "upsample", "convTranspose2d"],
  ...["channelMoments", "normalize", "batchNorm", "add", "sub", "gelu"],
]);
/** Elements of the largest result that is computed, and results of a plan. */
const MOST = 4096, OF_A_PLAN = 50;
/** Milliseconds that a call may take. */
const SLOW = 5000;

/** Arguments in a few words. */
function words(value: unknown, depth = 0): string {
  if (typeof value === "function") return `function ${value.name}`;
  if (value instanceof R.Tensor) return `${value}`;
  if (ArrayBuffer.isView(value) || depth > 3) {
    return Deno.inspect(value, { depth: 0, iterableLimit: 3 });
  }
  if (Array.isArray(value)) return `[${Array.from(value, (x) => words(x, depth + 1)).join(", ")}]`;
  if (value instanceof R.Device || value instanceof R.Module) return value.constructor.name;
  if (typeof value === "object" && value && Object.getPrototypeOf(value) === Object.prototype) {
    return `{ ${
      Object.entries(value).map(([key, x]) => `${key}: ${words(x, depth + 1)}`).join(", ")
    } }`;
  }
  return Deno.inspect(value, { depth: 0 });
}

/** What is wrong with an error, if anything is. */
function faultOf(
  error: unknown,
  name: string,
  args: readonly unknown[],
  { names, says }: Entry,
): string | undefined {
  const text = `${error}`.slice(0, 300);
  if (!(error instanceof Error)) return `threw ${text}`;
  const { message } = error, files = args.filter((x) => typeof x === "string" && x !== "");
  const called = [...says ?? [name.split(".").at(-1)!], ...files as string[]];
  const isOwn = OWN.some((kind) => error instanceof kind);
  if (
    !isOwn && !(error.constructor === RangeError && called.some((word) => message.startsWith(word)))
  ) {
    return `threw what is not the library's: ${error.stack?.slice(0, 400)}`;
  }
  if (INSIDE.test(message)) return `speaks of what is inside: ${text}`;
  if (message.length > 700) return `says too much: ${text}`;
  if (!called.some((word) => message.startsWith(word))) return `does not name ${called}: ${text}`;
  if (error instanceof R.ArgumentError && !names.some((name) => message.includes(name))) {
    return `names no argument: ${text}`;
  }
  return undefined;
}

/** Whether all numbers in a result are numbers. */
function numbersIn(value: unknown, depth = 0): boolean {
  if (typeof value === "number") return !Number.isNaN(value);
  if (value instanceof Float32Array) return value.every((x) => !Number.isNaN(x));
  if (typeof value !== "object" || !value || depth > 3 || value instanceof R.Device) return true;
  if (value instanceof R.Tensor) {
    return value.shape.every((size) => Number.isSafeInteger(size) && size > 0);
  }
  if (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype) {
    return Object.values(value).every((x) => numbersIn(x, depth + 1));
  }
  return true;
}

/** A result that is to be computed. */
interface Pending {
  readonly what: string;
  readonly y: R.Tensor;
  readonly expected: Nd;
  /** The largest value of its inputs, of {@link SUMS}; what errors are relative to at least. */
  readonly scale?: number;
}

/** The largest finite value, without its sign. */
function largest(values: ArrayLike<number>): number {
  return Array.from(values, Math.abs).filter(Number.isFinite).reduce((a, b) => Math.max(a, b), 0);
}

/** Computes results, many in a plan; what is wrong with them. */
async function compare(pending: readonly Pending[], each = OF_A_PLAN): Promise<string[]> {
  const faults: string[] = [];
  for (let i = 0; i < pending.length; i += each) {
    const some = pending.slice(i, i + each);
    try {
      const found = await R.evaluate(some.map(({ y }) => y));
      some.forEach(({ what, expected, scale = 0 }, k) => {
        const own = largest(expected.data);
        const relative = difference(found[k]!, expected.data);
        const off = scale > own ? relative * Math.max(own, 1e-30) / scale : relative;
        if (!(off < TOLERANCE)) faults.push(`${what}: is off by ${off}`);
      });
    } catch (error) {
      if (each > 1) faults.push(...await compare(some, 1));
      else faults.push(`${some[0]!.what}: the plan failed: ${error}`);
    }
  }
  return faults;
}

const methodsOf = (name: string, kind: Any): string[] =>
  [kind, kind.prototype].flatMap((of) =>
    Object.getOwnPropertyNames(of).filter((key) => {
      const { value } = Object.getOwnPropertyDescriptor(of, key)!;
      return typeof value === "function" && !["constructor", "toString"].includes(key);
    }).map((key) => `${name}.${key}`)
  );

Deno.test("every public function, class and method is called, or there is a reason not to", () => {
  const all = Object.entries(PUBLIC).flatMap(([name, value]) => {
    if (typeof value !== "function") return [];
    const isError = value.prototype instanceof Error;
    const isClass = /^class/.test(Function.prototype.toString.call(value));
    return isClass && !isError ? [name, ...methodsOf(name, value)] : isError ? [] : [name];
  });
  const missing = all.filter((name) => !(name in ENTRIES) && !(name in EXEMPT));
  assertEquals(missing, [], "without an entry in tests/faults/door.ts");
  const isThere = (name: string) => {
    const [of, method] = name.split("."), value = PUBLIC[of!];
    return method === undefined ? value : value[method] ?? value.prototype[method];
  };
  const gone = [...Object.keys(ENTRIES), ...Object.keys(EXEMPT)].filter((name) => !isThere(name));
  assertEquals(gone, [], "entries for what is not there");
  assertEquals(Object.keys(EXEMPT).filter((name) => name in ENTRIES), []);
});

Deno.test("whatever arguments are, a call gives an error in words or what float64 confirms", async () => {
  const only = Deno.args; // for some of them: deno test … -- NAME …
  const entries = Object.entries(ENTRIES).map(([name, entry], k) => ({ name, entry, k }))
    .filter(({ name }) => only.length === 0 || only.includes(name));
  const shares = entries.reduce((sum, { entry: { share = 1 } }) => sum + share, 0);
  const calls = only.length ? 150 * only.length : rounds(20_000, 400_000),
    start = performance.now();
  const pending: Pending[] = [], faults: string[] = [];
  const most = rounds(2000, 40_000);
  let refused = 0, returned = 0, candidates = 0;
  for (const { name, entry, k } of entries) {
    const times = Math.max(4, Math.ceil(calls * (entry.share ?? 1) / shares));
    let taken = 0;
    for (let n = 0; n < times; n++) {
      const random = draws(2 ** 30 + k * 2 ** 20 + n);
      const right = !entry.spoiltOnly && n % 8 === 0;
      const args = right ? entry.args(random) : spoil(random, entry.args(random));
      const what = `${name}, call ${n} of seed ${SEED}: (${
        args.map((x) => words(x)).join(", ").slice(0, 400)
      })`;
      const note = (fault: string) => faults.push(`${what}: ${fault}`);
      if (entry.skip?.(...args)) continue;
      const began = performance.now();
      let result: Any;
      try {
        result = await (entry.call ?? PUBLIC[name])(...args);
        returned++;
      } catch (error) {
        refused++;
        const fault = right ? `refused: ${error}` : faultOf(error, name, args, entry);
        if (fault) note(fault);
        continue;
      } finally {
        const took = performance.now() - began;
        if (took > SLOW) note(`took ${took.toFixed()} ms`);
      }
      if (entry.spoiltOnly) note("was taken");
      try {
        if (!entry.mayBeNaN && !numbersIn(result)) note(`returned ${words(result)}`);
        if (!entry.reference) {
          const known = await entry.check?.(result, args);
          if (Array.isArray(known)) pending.push(...known.map((pair) => ({ what, ...pair })));
          continue;
        }
        const found: R.Tensor[] = Array.isArray(result) ? result : [result];
        if (found.some(({ size }) => size > MOST)) continue;
        if (args.some((x) => x instanceof R.Tensor && !constantData(x))) continue;
        const expected = [entry.reference(...args.map(known))].flat() as Nd[];
        const scales = SUMS.has(name)
          ? args.map((x) => x instanceof R.Tensor ? largest(constantData(x)!) : 0)
          : [0];
        found.forEach((y, i) => {
          assertEquals(y.shape, expected[i]!.shape);
          candidates++;
          if (taken < most / 40) {
            taken++;
            pending.push({ what, y, expected: expected[i]!, scale: Math.max(...scales) });
          }
        });
      } catch (error) {
        note(`returned ${words(result)}, but: ${(error as Error).message || error}`);
      }
    }
  }
  const built = (performance.now() - start) / 1000;
  faults.push(...await compare(pending));
  report(
    `the door: ${refused + returned} calls of ${entries.length} functions, ${refused} refused in ` +
      `words and ${returned} returned, in ${built.toFixed()} s; ${pending.length} of ${candidates} ` +
      `tensors computed in ${((performance.now() - start) / 1000 - built).toFixed()} s`,
  );
  // One of each sort.
  const sorts = Map.groupBy(
    faults,
    (fault) =>
      fault.replace(/, call.*\): /s, ": ").replace(/, (?:got|is|has) .*/s, "").replace(/\d+/g, "0")
        .slice(0, 90),
  );
  const shown = [...sorts.values()].map((all) => `${all.length} × ${all[0]}`).join("\n");
  assert(faults.length === 0, `${faults.length} faults\n${shown}`);
});
