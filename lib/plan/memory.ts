/**
 * Memory by liveness: tensors that are not needed at the same time share a workspace buffer.
 *
 * @module
 */

import type { Tensor } from "../graph/tensor.ts";

/** The tensors that a step reads and writes. */
export interface Access {
  /** Tensors read. */
  readonly reads: readonly Tensor[];
  /** Tensors written for the first time. */
  readonly writes: readonly Tensor[];
}

/** A workspace slot for each tensor, and how large the slots have to be. */
export interface Slots {
  /** Slot number of each tensor. */
  readonly slotOf: ReadonlyMap<Tensor, number>;
  /** Bytes of each slot. */
  readonly sizes: readonly number[];
}

/**
 * Gives each tensor that is written by some step a slot of its own from its first write to its last
 * read. A free slot is taken when one is large enough (the smallest such), else the largest free one
 * grows, else there is a new one.
 */
export function assignSlots(
  steps: readonly Access[],
  managed: (node: Tensor) => boolean,
  bytes: (node: Tensor) => number,
): Slots {
  const lastUse = new Map<Tensor, number>();
  steps.forEach(({ reads, writes }, i) => [...reads, ...writes].forEach((x) => lastUse.set(x, i)));
  const slotOf = new Map<Tensor, number>();
  const sizes: number[] = [];
  const free: number[] = [];
  steps.forEach(({ reads, writes }, i) => {
    for (const node of writes) {
      if (!managed(node) || slotOf.has(node)) continue;
      const size = bytes(node);
      free.sort((a, b) => sizes[a]! - sizes[b]!);
      const fit = free.findIndex((slot) => sizes[slot]! >= size);
      const taken = free.splice(fit >= 0 ? fit : free.length - 1, 1)[0] ?? sizes.push(size) - 1;
      sizes[taken] = Math.max(sizes[taken]!, size);
      slotOf.set(node, taken);
    }
    for (const node of new Set([...reads, ...writes])) {
      if (lastUse.get(node) === i && slotOf.has(node)) free.push(slotOf.get(node)!);
    }
  });
  return { slotOf, sizes };
}
