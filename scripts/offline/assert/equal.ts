/**
 * Deep equality as the real `assertEquals` has it (`0` equals `-0`, `NaN` equals `NaN`, a missing
 * property differs from one that is `undefined`), of what tests here compare: arrays, plain objects,
 * typed arrays, maps and sets. It refuses all else, as it was not compared for it.
 *
 * @module
 */

type Bag = Record<PropertyKey, unknown>;

const TypedArray = Object.getPrototypeOf(Uint8Array);

/** What an object is an instance of: one without a prototype counts as a plain one. */
const kindOf = (value: object): unknown => Object.getPrototypeOf(value) ?? Object.prototype;

/** An object's own enumerable keys. */
const listed = (value: object): PropertyKey[] =>
  Reflect.ownKeys(value).filter((key) => Object.prototype.propertyIsEnumerable.call(value, key));

const refusal = (what: string) =>
  new TypeError(`the stand-in of assertEquals does not compare ${what}: see scripts/offline`);

/** Whether two values are deeply equal. */
export function equal(a: unknown, b: unknown): boolean {
  // Pairs under comparison, so that objects that contain themselves end.
  const open = new Map<object, object>();

  function same(x: unknown, y: unknown): boolean {
    if (x === y || Object.is(x, y)) return true;
    if (typeof x !== "object" || typeof y !== "object" || x === null || y === null) return false;
    if (kindOf(x) !== kindOf(y)) return false;
    if (x instanceof TypedArray) return sameNumbers(x as Uint8Array, y as Uint8Array);
    if (open.get(x) === y) return true;
    open.set(x, y);
    try {
      return sameContents(x, y);
    } finally {
      // Compared again later, they are equal only if they were found to be.
      open.delete(x);
    }
  }

  function sameNumbers(x: ArrayLike<unknown>, y: ArrayLike<unknown>): boolean {
    if (x.length !== y.length) return false;
    for (let i = 0; i < x.length; i++) {
      if (x[i] !== y[i] && !Object.is(x[i], y[i])) return false;
    }
    return true;
  }

  function sameContents(x: object, y: object): boolean {
    if (x instanceof Map || x instanceof Set) {
      const entries = (all: object) => new Map((all as Map<unknown, unknown>).entries());
      const left = entries(x), right = entries(y);
      return left.size === right.size && [...left].every(([key, value]) => {
        if (typeof key === "object" && key !== null) throw refusal("maps and sets of objects");
        return right.has(key) && same(value, right.get(key));
      });
    }
    if (kindOf(x) !== Object.prototype && kindOf(x) !== Array.prototype) {
      throw refusal(`objects of ${x.constructor?.name}`);
    }
    // As in the real one, the length of an array does not count, so one of holes equals none.
    const keys = new Set([...listed(x), ...listed(y)]);
    return Object.keys(x).length === Object.keys(y).length &&
      [...keys].every((key) => key in x === key in y && same((x as Bag)[key], (y as Bag)[key]));
  }

  return same(a, b);
}
