/**
 * Finds the problems of a graph, products and convolutions, that `kernels/choice.ts` chooses
 * kernels for; and makes a graph of one problem alone, to time it.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { grad } from "../ops/grad.ts";
import { conv2d, CONV_WEIGHT_ORDER } from "../ops/conv.ts";
import { matmul } from "../ops/matmul.ts";
import { permute } from "../ops/view.ts";
import { stepsOf } from "../plan/steps.ts";
import { Random } from "../graph/random.ts";
import {
  candidates,
  isProduct,
  parseProblem,
  type Problem,
  resultPixels,
} from "../kernels/choice.ts";
import { sizeOf } from "../graph/shape.ts";
import { currentScope, inverseOrder, type Tensor, Variable } from "../graph/tensor.ts";

/** Problems by key, each with the layers that have it. */
export type Problems = Map<string, { problem: Problem; layers: Set<string> }>;

/** The problems that have a choice in a plan of `roots` for the device as it is tuned now. */
export function problemsOf(device: Device, roots: readonly Tensor[]): Problems {
  const found: Problems = new Map();
  const get = (key: string) => {
    const entry = found.get(key) ?? { problem: parseProblem(key), layers: new Set<string>() };
    found.set(key, entry);
    entry.layers.add(currentScope().layer);
    return device.tuned.get(key);
  };
  stepsOf(roots, [], { ...device.target, tuned: { get } });
  for (const [key, { problem }] of found) {
    if (candidates(device.target, problem).length < 2) found.delete(key);
  }
  return found;
}

/** Values to compute with: some random ones, over and over. */
function values(size: number): Float32Array<ArrayBuffer> {
  const block = new Random(0).uniform(new Float32Array(Math.min(size, 2 ** 14)), -1, 1);
  const filled = new Float32Array(size);
  for (let i = 0; i < size; i += block.length) filled.set(block.subarray(0, size - i), i);
  return filled;
}

/** A graph that is one problem and nothing else, and the variables that it reads. */
export function graphOf(problem: Problem): { result: Tensor; leaves: Variable[] } {
  const leaf = (...shape: number[]) => new Variable(shape, () => values(sizeOf(shape)));
  if (isProduct(problem)) {
    const { kind, layers, rows, inner, columns } = problem, transposeA = kind === "productT";
    const a = transposeA ? leaf(layers, inner, rows) : leaf(layers, rows, inner);
    const b = leaf(layers, inner, columns);
    return { result: matmul(a, b, { transposeA }), leaves: [a, b] };
  }
  const { kind, n, pixels, c, o, kernel, stride, padding, dilation } = problem;
  const x = leaf(n, ...pixels, c), w = leaf(...kernel, c, o);
  const g = leaf(n, ...resultPixels(problem), o);
  const nchw = (v: Tensor) => permute(v, [0, 3, 1, 2]),
    nhwc = (v: Tensor) => permute(v, [0, 2, 3, 1]);
  const image = nchw(x), weight = permute(w, inverseOrder(CONV_WEIGHT_ORDER));
  const y = conv2d(image, weight, undefined, {
    stride: [...stride] as [number, number],
    padding: [...padding] as [number, number],
    dilation: [...dilation] as [number, number],
  });
  const leaves = [x, w, g];
  if (kind === "forward") return { result: nhwc(y), leaves };
  const wrt = kind === "inputGrad" ? image : weight;
  const [gradient] = grad(y, [wrt], nchw(g));
  return {
    result: kind === "inputGrad" ? nhwc(gradient!) : permute(gradient!, CONV_WEIGHT_ORDER),
    leaves,
  };
}
