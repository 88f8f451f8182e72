/**
 * Finishing: a kernel that writes each of its results once does the elementwise work of its only
 * reader before it stores them, and so spares a write and a read of them all: bias, batch norm by
 * running statistics, ReLU and residual after a convolution, and in the backward pass the sum of two
 * gradients.
 *
 * @module
 */

import { isWide, PLAIN, type Target } from "../kernels/kernel.ts";
import type { Tensor } from "../graph/tensor.ts";
import { type FinishedKernels, finishedKernels } from "./codegen.ts";
import { type Fusion, inlinedFor, type InlinedNodes, isStarted, reading } from "./fuse.ts";

/** A node with kernels that finish with another one. */
export interface Finished extends FinishedKernels {
  /** The node, which needs no memory. */
  readonly inner: Tensor;
}

/**
 * The elementwise nodes that kernels of others finish with, but for those that are `apart`; of several
 * operands that could, it is the one whose kernel is quickest to compile.
 */
export function finishes(
  fusion: Fusion,
  apart: ReadonlySet<Tensor | undefined>,
  target: Target,
): Map<Tensor, Finished> {
  const { stored, inlined, needed } = fusion;
  const within = new Map<Tensor, InlinedNodes>(
    stored.map((node) => [node, inlinedFor(node, fusion, target.maxStorageBuffers)]),
  );
  const readers = new Map<Tensor, number>();
  for (const node of stored) {
    const leaves = new Set([
      ...reading(node, inlined).leaves,
      ...reading(node, within.get(node)!).leaves,
    ]);
    leaves.forEach((leaf) => readers.set(leaf, (readers.get(leaf) ?? 0) + 1));
  }
  const found = new Map<Tensor, Finished>();
  for (const node of stored) {
    if (apart.has(node) || !node.op.expression || node.dtype !== "f32") continue;
    const own = within.get(node)!;
    const all = [...reading(node, own).leaves].flatMap((inner) => {
      if (!inner.op.finishes || needed.has(inner) || readers.get(inner) !== 1) return [];
      if (isStarted(inner, inlined)) return [];
      const kernels = finishedKernels(node, inner, own, target);
      return kernels ? [{ inner, ...kernels }] : [];
    });
    const length = ({ specs }: Finished) => specs[0]!.body.length;
    const fitting = all.filter(({ specs }) =>
      specs.length === 1 && specs[0]!.bindings.length <= target.maxStorageBuffers
    );
    fitting.sort((a, b) => length(a) - length(b));
    if (fitting[0]) found.set(node, fitting[0]);
  }
  return isWide(target) ? found : withoutTwins(found, stored, target);
}

/**
 * Those whose kernel is not needed as it is elsewhere in the plan: a driver that compiles for the CPU may
 * take seconds for another one of these, which is more than a few of them spare.
 */
function withoutTwins(
  found: ReadonlyMap<Tensor, Finished>,
  stored: readonly Tensor[],
  target: Target,
): Map<Tensor, Finished> {
  if (found.size === 0) return new Map();
  const plain = (node: Tensor) => node.op.kernels!(node, target, node.attrs, PLAIN)[0]!.body;
  const inner = new Set([...found.values()].map(({ inner }) => inner));
  const others = new Set(
    stored.filter((node) => node.op.finishes && !inner.has(node)).map(plain),
  );
  return new Map([...found].filter(([, { inner }]) => !others.has(plain(inner))));
}
