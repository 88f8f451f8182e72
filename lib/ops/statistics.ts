/**
 * Reductions over any axes, other than sums and means. All throw an ArgumentError for what is no
 * tensor or no setting, and a ShapeError for axes that do not fit. Everything here is public.
 *
 * @module
 */

import { checkNumber } from "../check/arguments.ts";
import { isNaNOf } from "../kernels/kernel.ts";
import { reduceShape, ShapeError } from "../graph/shape.ts";
import { apply, inverseOrder, type Op, type Tensor } from "../graph/tensor.ts";
import { equal, stopGradient } from "./compare.ts";
import { add, div, exp, isFinite, log, mul, square, sub, where } from "./elementwise.ts";
import { grad } from "./grad.ts";
import { checkReduction, mean, reduced, type ReduceOptions, reducing, sum } from "./reduce.ts";
import { flip, pad, slice } from "./slice.ts";
import { permute, reshape } from "./view.ts";

/** An op that takes the best element; its gradient is shared by those that are equal to it. */
const extreme = (name: string, better: string): Op =>
  reducing(
    name,
    {
      sums: [],
      init: "var best = T(0.0); var first = true;",
      step: `best = select(best, v, (${better} | ${isNaNOf("v", "T")}) & !${isNaNOf("best", "T")});
      if (first) { best = v; first = false; }`,
      results: ["best"],
    },
    (g, y, [x], { axes }) => {
      const hits = equal(x!, y), count = sum(hits, axes as number[], { keepDims: true });
      // NaN is equal to nothing: 0 / 0, which is NaN for all elements.
      return [div(where(hits, g, 0), count)];
    },
  );
const Max = extreme("max", "(v > best)");
const Min = extreme("min", "(v < best)");

/**
 * The largest element over `axes`, all of them by default; axes and options are those of
 * {@link sum}. NaN is larger than any number, and makes the gradient NaN. Equal ones share the
 * gradient. {@link argmax} gives the index
 * ({@link https://pytorch.org/docs/stable/generated/torch.amax.html | PyTorch's amax}).
 *
 * @example
 * ```ts
 * import { evaluate, max, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(max(tensor([[1, 5], [3, 2]]), [1])), new Float32Array([5, 3]));
 * ```
 */
export function max(x: Tensor, axes?: readonly number[], options: ReduceOptions = {}): Tensor {
  return reduced(Max, x, axes, options);
}

/**
 * The smallest element over `axes`, otherwise like {@link max}. NaN is smaller than any number
 * ({@link https://pytorch.org/docs/stable/generated/torch.amin.html | PyTorch's amin}).
 *
 * @example
 * ```ts
 * import { evaluate, min, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(min(tensor([[1, 5], [3, 2]]), [1])), new Float32Array([1, 2]));
 * ```
 */
export function min(x: Tensor, axes?: readonly number[], options: ReduceOptions = {}): Tensor {
  return reduced(Min, x, axes, options);
}

const PRODUCT = {
  sums: [],
  init: "var product = T(1.0);",
  step: "product *= v;",
  results: ["product"],
};
const Prod: Op = reducing(
  "prod",
  PRODUCT,
  (g, _, [x], { axes }) => [mul(g, apply(ProdOthers, [x!], { axes }))],
);

/** Of each element, the product of the others over the axes. */
const ProdOthers: Op<{ axes: readonly number[] }> = {
  name: "prodOthers",
  shape: ([x]) => x!.shape,
  lower: ({ inputs }, _, { axes }) => {
    const [x] = inputs as [Tensor], y = apply(Prod, [x], { axes });
    // y / x, but where there is one zero, which gets the product of the rest.
    const zeros = sum(equal(x, 0), axes, { keepDims: true });
    const rest = apply(Prod, [where(x, x, 1)], { axes });
    return where(zeros, where(x, 0, where(sub(zeros, 1), 0, rest)), div(y, x));
  },
  // Cases that are told apart by zeros lose the gradient between them. From both ends there are none.
  vjp: (u, _, [x], { axes }) => grad(othersFromEnds(x!, axes), [x!], u),
};

/** {@link ProdOthers} as products of all that come before, and of all that come behind. */
function othersFromEnds(x: Tensor, axes: readonly number[]): Tensor {
  const order = [...[...x.shape.keys()].filter((axis) => !axes.includes(axis)), ...axes];
  const sizes = order.map((axis) => x.shape[axis]!);
  const n = axes.reduce((size, axis) => size * x.shape[axis]!, 1);
  const line = reshape(permute(x, order), [x.size / n, n]);
  const moved = (y: Tensor, by: number) => slice(pad(y, [by, 0], { value: 1 }), [null, [0, n]]);
  const before = (line: Tensor) => {
    let y = moved(line, 1);
    for (let step = 1; step < n; step *= 2) y = mul(y, moved(y, step));
    return y;
  };
  const others = mul(before(line), flip(before(flip(line, [1])), [1]));
  return permute(reshape(others, sizes), inverseOrder(order));
}

/**
 * The product over `axes`, all of them by default; axes and options are those of {@link sum}
 * ({@link https://pytorch.org/docs/stable/generated/torch.prod.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, prod, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(prod(tensor([[1, 5], [3, 2]]), [0])), new Float32Array([3, 10]));
 * ```
 */
export function prod(x: Tensor, axes?: readonly number[], options: ReduceOptions = {}): Tensor {
  return reduced(Prod, x, axes, options);
}

/** Settings of {@link variance}. */
export interface VarianceOptions extends ReduceOptions {
  /**
   * What is taken from the number of elements, by which the squares are divided: 1, the default,
   * gives the unbiased estimate, 0 the biased one.
   */
  readonly correction?: number;
}

/**
 * The variance over `axes`, all of them by default, by default unbiased; axes and options are those
 * of {@link sum} and `correction`
 * ({@link https://pytorch.org/docs/stable/generated/torch.var.html | PyTorch's var}).
 *
 * @throws {ShapeError} if there are no more elements than `correction`, where PyTorch only warns.
 *
 * @example
 * ```ts
 * import { evaluate, tensor, variance } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await evaluate(variance(tensor([1, 2, 3]))), new Float32Array([1]));
 * ```
 */
export function variance(
  x: Tensor,
  axes?: readonly number[],
  options: VarianceOptions = {},
): Tensor {
  const { axes: over, keepDims } = checkReduction("variance", x, axes, options, ["correction"]);
  const { correction = 1 } = options;
  checkNumber("variance", "correction", correction, { min: 0 });
  const centred = sub(x, mean(x, over, { keepDims: true }));
  const sums = sum(square(centred), over, { keepDims });
  const count = x.size / sums.size;
  if (!(count > correction)) {
    throw new ShapeError(`variance: needs more than ${correction} elements, got ${count}`);
  }
  return mul(sums, 1 / (count - correction));
}

/**
 * `log Σ e^x` over `axes`, all of them by default, without overflow; axes and options are those of
 * {@link sum}
 * ({@link https://pytorch.org/docs/stable/generated/torch.logsumexp.html | PyTorch}).
 *
 * @example
 * ```ts
 * import { evaluate, logSumExp, tensor } from "@resnette/resnette";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * const [y] = await evaluate(logSumExp(tensor([1000, 1000])));
 * assertAlmostEquals(y!, 1000 + Math.LN2, 1e-4);
 * ```
 */
export function logSumExp(
  x: Tensor,
  axes?: readonly number[],
  options: ReduceOptions = {},
): Tensor {
  const { axes: over, keepDims } = checkReduction("logSumExp", x, axes, options);
  const top = max(x, over, { keepDims: true });
  // An infinite one would be subtracted from itself.
  const shift = stopGradient(where(isFinite(top), top, 0));
  const y = add(log(sum(exp(sub(x, shift)), over, { keepDims: true })), shift);
  return keepDims ? y : reshape(y, reduceShape(x.shape, over, false));
}
