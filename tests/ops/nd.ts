/**
 * Float64 arrays and each elementwise op, view and sum on them, by plain loops over every index. It is
 * the reference of the op tests and shares no code with the library, not even its shape rules.
 */

/** Row-major numbers under a shape. */
export interface Nd {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

const product = (sizes: readonly number[]) => sizes.reduce((a, b) => a * b, 1);

/** `data`, or what it makes of each position, as an array of `shape`. */
export function nd(
  shape: readonly number[],
  data: ArrayLike<number> | ((index: readonly number[], flat: number) => number),
): Nd {
  const values = new Float64Array(product(shape));
  if (typeof data !== "function") {
    if (data.length !== values.length) throw new Error(`${data.length} values for [${shape}]`);
    values.set(data);
    return { shape, data: values };
  }
  const index = shape.map(() => 0);
  for (let flat = 0; flat < values.length; flat++) {
    values[flat] = data(index, flat);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis]! === shape[axis]; axis--) {
      index[axis] = 0;
    }
  }
  return { shape, data: values };
}

/** The element at `index`; an axis of size 1 answers to every index (broadcasting). */
export function at(x: Nd, index: readonly number[]): number {
  const lead = index.length - x.shape.length;
  let flat = 0;
  x.shape.forEach((size, axis) => flat = flat * size + (size === 1 ? 0 : index[axis + lead]!));
  return x.data[flat]!;
}

/** NumPy's broadcast shape. */
function joint(shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from(
    { length: rank },
    (_, i) => Math.max(...shapes.map((shape) => shape[i - rank + shape.length] ?? 1)),
  );
}

/** `f` of the elements of `xs`, with broadcasting. */
export function map(f: (...values: number[]) => number, ...xs: Nd[]): Nd {
  return nd(joint(xs.map((x) => x.shape)), (index) => f(...xs.map((x) => at(x, index))));
}

/** A number as a scalar array. */
export const scalar = (value: number): Nd => nd([], [value]);

/** The same numbers under another shape. */
export const reshape = (x: Nd, shape: readonly number[]): Nd => nd(shape, x.data);

/** Axis `i` of the result is axis `order[i]` of `x`. */
export function permute(x: Nd, order: readonly number[]): Nd {
  return nd(
    order.map((axis) => x.shape[axis]!),
    (index) => at(x, x.shape.map((_, axis) => index[order.indexOf(axis)]!)),
  );
}

/** `x` repeated to fill `shape`. */
export const broadcastTo = (x: Nd, shape: readonly number[]): Nd =>
  nd(shape, (index) => at(x, index));

/** The slice at `position` along the first axis. */
export function select(x: Nd, position: number): Nd {
  const shape = x.shape.slice(1), size = product(shape);
  return nd(shape, x.data.subarray(position * size, (position + 1) * size));
}

/** Elements over `axes` put together two by two. */
export function fold(
  x: Nd,
  axes: readonly number[],
  keepDims: boolean,
  join: (a: number, b: number) => number,
): Nd {
  const kept = x.shape.map((size, axis) => axes.includes(axis) ? 1 : size);
  const total = nd(kept, () => 0), begun = new Set<number>();
  nd(x.shape, (index, flat) => {
    let to = 0;
    kept.forEach((size, axis) => to = to * size + (size === 1 ? 0 : index[axis]!));
    const v = x.data[flat]!;
    total.data[to] = begun.has(to) ? join(total.data[to]!, v) : v;
    begun.add(to);
    return 0;
  });
  return keepDims ? total : reshape(total, x.shape.filter((_, axis) => !axes.includes(axis)));
}

/** Sum over `axes`, given as they are in `x`. */
export function sum(x: Nd, axes: readonly number[], keepDims = false): Nd {
  return fold(x, axes, keepDims, (a, b) => a + b);
}

/** Mean over `axes`, given as they are in `x`. */
export function mean(x: Nd, axes: readonly number[], keepDims = false): Nd {
  const total = sum(x, axes, keepDims);
  return map((v) => v * total.data.length / x.data.length, total);
}

/** All axes of `x`. */
export const axesOf = (x: Nd): number[] => x.shape.map((_, axis) => axis);

/** Largest difference relative to the largest expected value; infinite where only one is NaN. */
export function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let worst = 0, scale = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!, b = expected[i]!;
    if (Number.isFinite(b)) scale = Math.max(scale, Math.abs(b));
    if (Object.is(a, b)) continue;
    const d = Math.abs(a - b);
    worst = Math.max(worst, Number.isNaN(d) ? Infinity : d);
  }
  return worst === 0 ? 0 : worst / Math.max(scale, 1e-30);
}

/** With `value` added before and behind each axis. */
export function padded(x: Nd, pads: readonly (readonly [number, number])[], value: number): Nd {
  const shape = x.shape.map((size, axis) => pads[axis]![0] + size + pads[axis]![1]);
  return nd(shape, (index) => {
    const inside = index.map((i, axis) => i - pads[axis]![0]);
    const fits = inside.every((i, axis) => i >= 0 && i < x.shape[axis]!);
    return fits ? at(x, inside) : value;
  });
}

/** One after the other along an axis. */
export function concat(xs: readonly Nd[], axis: number): Nd {
  const total = xs.reduce((sum, x) => sum + x.shape[axis]!, 0);
  return nd(xs[0]!.shape.with(axis, total), (index) => {
    let k = 0, i = index[axis]!;
    while (i >= xs[k]!.shape[axis]!) i -= xs[k++]!.shape[axis]!;
    return at(xs[k]!, [...index].with(axis, i));
  });
}
