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
 * read. The largest come first: of the slots that are free for so long, each takes the one with the
 * least time left over on both sides, or a new one. So a slot is as large as its first tensor, and
 * those of all plans are sorted alike.
 */
export function assignSlots(
  steps: readonly Access[],
  managed: (node: Tensor) => boolean,
  bytes: (node: Tensor) => number,
): Slots {
  const spans = new Map<Tensor, Span>();
  steps.forEach(({ reads, writes }, i) => {
    for (const node of writes) {
      if (managed(node) && !spans.has(node)) spans.set(node, { first: i, last: i });
    }
    for (const node of [...reads, ...writes]) {
      const span = spans.get(node);
      if (span) span.last = i;
    }
  });
  const slotOf = new Map<Tensor, number>();
  const sizes: number[] = [], taken: Span[][] = [];
  const largest = [...spans].sort(([a], [b]) => bytes(b) - bytes(a));
  for (const [node, span] of largest) {
    let best = taken.length, least = Infinity;
    taken.forEach((spans, slot) => {
      const left = timeLeft(spans, span, steps.length);
      if (left < least) [best, least] = [slot, left];
    });
    if (best === taken.length) sizes.push(bytes(node));
    (taken[best] ??= []).push(span);
    slotOf.set(node, best);
  }
  return { slotOf, sizes };
}

/** The steps from a tensor's first write to its last read. */
interface Span {
  readonly first: number;
  last: number;
}

/** Steps between a span and those `taken` before and behind it, of so many; infinity if they meet. */
function timeLeft(taken: readonly Span[], { first, last }: Span, steps: number): number {
  let before = -1, behind = steps;
  for (const other of taken) {
    if (other.last < first) before = Math.max(before, other.last);
    else if (other.first > last) behind = Math.min(behind, other.first);
    else return Infinity;
  }
  return first - before + behind - last;
}
