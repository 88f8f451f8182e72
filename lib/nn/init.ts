/**
 * Initial values of parameters, as PyTorch's layers draw them by default, from a seeded generator:
 * the same seed gives the same weights on every machine.
 *
 * @module
 */

import { checkNumber } from "../check/arguments.ts";
import { Random, type RandomState } from "../graph/random.ts";
import type { Shape } from "../graph/shape.ts";
import { sizeOf } from "../graph/shape.ts";
import { checkVariable } from "../graph/tensor.ts";
import { Parameter } from "./module.ts";

let generator = new Random(0);

/**
 * Seeds the generator of the layers' first weights, and of the dropouts that are made after it. The
 * seed is 0 until then. PyTorch's `manual_seed` gives other numbers.
 *
 * @throws {ArgumentError} if the seed is no integer in 0..2^53-1.
 *
 * @example
 * ```ts
 * import { Linear, manualSeed } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * manualSeed(7);
 * const first = await new Linear(3, 2).stateDict();
 * manualSeed(7);
 * assertEquals(await new Linear(3, 2).stateDict(), first);
 * ```
 */
export function manualSeed(seed: number): void {
  checkNumber("manualSeed", "seed", seed, { integer: true, min: 0 });
  generator = new Random(seed);
}

/** Where the next `words` of the generator begin, which are used up. */
function draw(words: number): RandomState {
  const { state } = generator;
  generator.position += words;
  return state;
}

/**
 * A parameter drawn from U(-1/√fanIn, 1/√fanIn), the distribution of PyTorch's default,
 * `kaiming_uniform_(a=√5)`. The values are made when they are first needed.
 *
 * @throws {ArgumentError} if `fanIn` is less than 1.
 * @throws {ShapeError} if `shape` has a size that is no positive integer.
 *
 * @example
 * ```ts
 * import { readVariables, uniformParameter } from "@resnette/resnette";
 * import { assert } from "@std/assert";
 *
 * const [values] = await readVariables([uniformParameter([5, 4], 4)]);
 * assert(values!.every((x) => Math.abs(x) <= 1 / 2));
 * ```
 */
export function uniformParameter(shape: Shape, fanIn: number): Parameter {
  checkVariable("uniformParameter", shape);
  checkNumber("uniformParameter", "fanIn", fanIn, { min: 1 });
  const state = draw(sizeOf(shape));
  const bound = 1 / Math.sqrt(fanIn);
  return new Parameter(
    shape,
    () => Random.fromState(state).uniform(new Float32Array(sizeOf(shape)), -bound, bound),
  );
}

/**
 * A parameter drawn from the normal distribution N(0, std²), like PyTorch's `normal_`. The values
 * are made when they are first needed.
 *
 * @throws {ArgumentError} if `std` is negative or not finite.
 * @throws {ShapeError} if `shape` has a size that is no positive integer.
 *
 * @example
 * ```ts
 * import { normalParameter, readVariables } from "@resnette/resnette";
 * import { assert } from "@std/assert";
 *
 * const [values] = await readVariables([normalParameter([1000], 0.02)]);
 * assert(values!.every((x) => Math.abs(x) < 0.2));
 * ```
 */
export function normalParameter(shape: Shape, std: number): Parameter {
  checkVariable("normalParameter", shape);
  checkNumber("normalParameter", "std", std, { min: 0 });
  const state = draw(2 * Math.ceil(sizeOf(shape) / 2));
  return new Parameter(
    shape,
    () => Random.fromState(state).normal(new Float32Array(sizeOf(shape)), 0, std),
  );
}

/** A seed for a layer that draws as it runs, from the generator that is seeded by {@link manualSeed}. */
export function layerSeed(): number {
  return Random.fromState(draw(1)).nextUint32();
}

/**
 * A parameter filled with `value`, like PyTorch's `constant_`.
 *
 * @throws {ArgumentError} if the value is not finite.
 * @throws {ShapeError} if `shape` has a size that is no positive integer.
 *
 * @example
 * ```ts
 * import { constantParameter, readVariables } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(await readVariables([constantParameter([2], 1)]), [new Float32Array([1, 1])]);
 * ```
 */
export function constantParameter(shape: Shape, value: number): Parameter {
  checkVariable("constantParameter", shape);
  checkNumber("constantParameter", "value", value);
  return new Parameter(shape, () => new Float32Array(sizeOf(shape)).fill(value));
}
