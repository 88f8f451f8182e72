/**
 * Offline stand-in for `@std/assert/equal`: deep equality, as the real one has it (`0` equals `-0`,
 * `NaN` equals `NaN`, a missing property differs from one that is `undefined`).
 *
 * It refuses weak collections. It is stricter than the real one in one point: two `ArrayBuffer`s are
 * compared byte by byte.
 *
 * @module
 */

type Bag = Record<PropertyKey, unknown>;

function sameConstructor(a: object, b: object): boolean {
  // An object without a prototype counts as a plain one.
  return (a.constructor ?? Object) === (b.constructor ?? Object);
}

function ownKeys(value: object): PropertyKey[] {
  return Reflect.ownKeys(value).filter((key) =>
    Object.prototype.propertyIsEnumerable.call(value, key)
  );
}

/** Whether two values are deeply equal. */
export function equal(a: unknown, b: unknown): boolean {
  // Pairs under comparison, so that objects that contain themselves end.
  const open = new Map<object, object>();

  function sameNumbers(x: ArrayLike<unknown>, y: ArrayLike<unknown>): boolean {
    if (x.length !== y.length) return false;
    for (let i = 0; i < x.length; i++) {
      if (x[i] !== y[i] && !(Number.isNaN(x[i]) && Number.isNaN(y[i]))) return false;
    }
    return true;
  }

  function sameEntries(x: Map<unknown, unknown>, y: Map<unknown, unknown>): boolean {
    if (x.size !== y.size) return false;
    const left = new Map(y);
    for (const [key, value] of x) {
      if (left.has(key) && same(value, left.get(key))) {
        left.delete(key);
        continue;
      }
      // A key that is an object need not be the same object.
      const match = [...left].find(([k, v]) => same(key, k) && same(value, v));
      if (match === undefined) return false;
      left.delete(match[0]);
    }
    return true;
  }

  function same(x: unknown, y: unknown): boolean {
    if (x === y || Object.is(x, y)) return true;
    if (typeof x !== "object" || typeof y !== "object" || x === null || y === null) return false;
    if (!sameConstructor(x, y)) return false;
    if (x instanceof RegExp || x instanceof URL) return String(x) === String(y);
    if (x instanceof Date) return Object.is(x.getTime(), (y as Date).getTime());
    if (x instanceof ArrayBuffer) {
      return sameNumbers(new Uint8Array(x), new Uint8Array(y as ArrayBuffer));
    }
    if (ArrayBuffer.isView(x) && !(x instanceof DataView)) {
      return sameNumbers(x as unknown as ArrayLike<unknown>, y as unknown as ArrayLike<unknown>);
    }
    if (open.get(x) === y) return true;
    open.set(x, y);
    try {
      return sameContents(x, y);
    } finally {
      // Compared again later, they are equal only if they were found to be.
      open.delete(x);
    }
  }

  function sameContents(x: object, y: object): boolean {
    if (x instanceof Map) return sameEntries(x, y as Map<unknown, unknown>);
    if (x instanceof Set) {
      return sameEntries(new Map(x.entries()), new Map((y as Set<unknown>).entries()));
    }
    const keys = ownKeys(x);
    return keys.length === ownKeys(y).length &&
      keys.every((key) => Object.hasOwn(y, key) && same((x as Bag)[key], (y as Bag)[key]));
  }

  return same(a, b);
}
