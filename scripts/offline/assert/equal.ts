/**
 * Deep equality as the real `assertEquals` has it (`0` equals `-0`, `NaN` equals `NaN`, a missing
 * property differs from one that is `undefined`), of what tests here compare: arrays, plain objects,
 * typed arrays and maps. It refuses objects of other classes, as it was not compared for them.
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
    if (x instanceof Map) {
      const other = y as Map<unknown, unknown>;
      return x.size === other.size &&
        [...x].every(([key, value]) => other.has(key) && same(value, other.get(key)));
    }
    if (kindOf(x) !== Object.prototype && !(Array.isArray(x) && kindOf(x) === Array.prototype)) {
      const name = x.constructor?.name;
      throw new TypeError(`the stand-in of assertEquals does not compare objects of ${name}`);
    }
    // As in the real one, the length of an array does not count, so one of holes equals none.
    const keys = new Set([...listed(x), ...listed(y)]);
    return Object.keys(x).length === Object.keys(y).length &&
      [...keys].every((key) => key in x === key in y && same((x as Bag)[key], (y as Bag)[key]));
  }

  return same(a, b);
}
