/**
 * What this project relies on in `@std/assert`: the same holds for the real package and for its
 * stand-in in `scripts/offline` (`packages_test.ts` has the others).
 */

import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";

/** An object that holds itself. */
function loop(n: number): Record<string, unknown> {
  const x: Record<string, unknown> = { n };
  return Object.assign(x, { x });
}

Deno.test("assertEquals compares deeply", () => {
  const equal: [unknown, unknown][] = [
    [{ a: [1, { b: NaN }], c: -0 }, { c: 0, a: [1, { b: NaN }] }],
    [Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
    [new Float32Array([NaN, -0]), new Float32Array([NaN, 0])],
    [
      new Map([["a", { b: [1] }], ["c", { b: [] }]]),
      new Map([["c", { b: [] }], ["a", { b: [1] }]]),
    ],
    [new Set(["a", NaN]), new Set([NaN, "a"])],
    [new Array(2), []],
    [loop(1), loop(1)],
  ];
  for (const [a, b] of equal) {
    assertEquals(a, b);
    assertThrows(() => assertNotEquals(a, b), Error, "Expected actual: ");
  }
  const different: [unknown, unknown][] = [
    [loop(1), loop(2)],
    [{ a: undefined }, {}],
    [{ a: undefined }, { b: undefined }],
    [[undefined], new Array(1)],
    [[1, 2], [1]],
    [{ 0: 1 }, [1]],
    [new Float32Array([1, 2]), new Float32Array([1, 3])],
    [new Float32Array([1]), new Float32Array([1, 0])],
    [new Float32Array([1]), new Float64Array([1])],
    [new Float32Array([1]), [1]],
    ["1", 1],
    [1n, 1],
    [null, undefined],
    [null, {}],
    [() => 1, () => 1],
    [{ [Symbol.iterator]: 1 }, {}],
    [new Set([1, 2]), new Set([1, 3])],
    [new Set([1]), new Map([[1, 1]])],
    [new Map([["a", 1]]), new Map([["a", 2]])],
    [new Map([["a", undefined]]), new Map([["b", undefined]])],
    [new Map([["a", { b: 1 }]]), new Map([["a", { b: 2 }]])],
  ];
  for (const [a, b] of different) {
    assertNotEquals(a, b);
    assertThrows(() => assertEquals(a, b), Error, "Values are not equal.\n");
    assertThrows(() => assertEquals(a, b, "why"), Error, "Values are not equal: why\n");
  }
});

Deno.test("assertions say what they found", async () => {
  const bad = () => {
    throw new RangeError("out of \x1b[31mrange");
  };
  const nothing = () => {};
  const failures: [assertion: () => unknown, message: string][] = [
    [() => assert(0), ""],
    [() => assert("", "why"), "why"],
    [() => assertNotEquals(1, 1), "Expected actual: 1 not to be: 1."],
    [() => assertNotEquals("a", "a", "why"), 'Expected actual: "a" not to be: "a": why'],
    [
      () => assertAlmostEquals(1, 1.5),
      'Expected actual: "1" to be close to "1.5e+0": delta "5e-1" is greater than "1.5e-7".',
    ],
    [
      () => assertAlmostEquals(1, NaN, 2, "why"),
      'Expected actual: "1" to be close to "NaN": delta "NaN" is greater than "2": why',
    ],
    [
      () => assertInstanceOf([], Map),
      'Expected object to be an instance of "Map" but was "Array".',
    ],
    [
      () => assertInstanceOf(null, Map, "why"),
      'Expected object to be an instance of "Map" but was "null": why',
    ],
    [
      () => assertInstanceOf(Map, Map),
      'Expected object to be an instance of "Map" but was not an instanced object.',
    ],
    [() => assertMatch("a", /b/i), 'Expected actual: "a" to match: "/b/i".'],
    [() => assertMatch("a", /b/, "why"), 'Expected actual: "a" to match: "/b/": why'],
    [() => assertStringIncludes("a", "b"), 'Expected actual: "a" to contain: "b".'],
    [() => assertStringIncludes("a", "b", "why"), 'Expected actual: "a" to contain: "b": why'],
    [() => assertThrows(nothing), "Expected function to throw."],
    [() => assertThrows(nothing, Error, "x", "why"), "Expected function to throw: why"],
    [
      () => assertThrows(bad, TypeError),
      'Expected error to be instance of "TypeError", but was "RangeError".',
    ],
    [
      () => assertThrows(bad, RangeError, "reach", "why"),
      'Expected error message to include "reach", but got "out of \\u001b[31mrange": why',
    ],
  ];
  for (const [assertion, message] of failures) {
    const { name, message: found } = assertThrows(assertion, Error);
    assertEquals([name, found], ["AssertionError", message]);
  }
  assertThrows(
    () => assertStrictEquals(1, 2, "why"),
    Error,
    "Values are not strictly equal: why\n",
  );
  assertThrows(
    () => assertStrictEquals([1], [1]),
    Error,
    "Values have the same structure but are not reference-equal.",
  );
  assertThrows(() => assertStrictEquals(0, -0), Error);

  const wrong: [assertion: () => Promise<unknown>, message: string][] = [
    [() => assertRejects(() => Promise.resolve()), "Expected function to reject."],
    [
      () => assertRejects(() => Promise.reject(1), Error),
      "A non-Error object was rejected.",
    ],
    [
      () => assertRejects(() => Promise.reject(new RangeError("a")), TypeError),
      'Expected error to be instance of "TypeError", but was "RangeError".',
    ],
    [
      () => assertRejects(() => Promise.reject(new Error("a")), Error, "b"),
      'Expected error message to include "b", but got "a".',
    ],
    [() => assertRejects(bad), "Function throws when expected to reject."],
  ];
  for (const [assertion, message] of wrong) {
    const { name, message: found } = await assertRejects(assertion, Error);
    assertEquals([name, found], ["AssertionError", message]);
  }
});

Deno.test("assertions let pass what holds, and return what was thrown", async () => {
  const error = new RangeError("out of \x1b[31mrange");
  const bad = () => {
    throw error;
  };
  assert([]);
  assertStrictEquals(NaN, NaN);
  assertAlmostEquals(1 + 9e-8, 1);
  assertAlmostEquals(Infinity, Infinity);
  assertAlmostEquals(-1, 1, 2);
  assertInstanceOf(error, Error);
  assertMatch("ab", /b$/);
  assertStringIncludes("ab", "");
  assertStrictEquals(assertThrows(bad, Error, "of range"), error);
  assertStrictEquals(assertThrows(bad, RangeError, ""), error);
  assertStrictEquals(assertThrows(bad), error);
  assertStrictEquals(await assertRejects(() => Promise.reject(error), RangeError, "out"), error);
  assertEquals(await assertRejects(() => Promise.reject(1)), 1);
});
