/**
 * Joining: small kernels become one with several results, since a dispatch costs more than what they
 * do. The work of a batch norm on its channels is one kernel this way, behind the sums that it needs.
 * A kernel with one thread for each element of its results, a reduction or an elementwise one, takes
 * up those after it that are elementwise over as many elements and wait for nothing else.
 *
 * @module
 */

import type { Target } from "../kernels/kernel.ts";
import { type Tensor, Variable } from "../graph/tensor.ts";
import { type GeneratedKernel, jointKernel, reductionKernel, type Result } from "./codegen.ts";
import { type InlinedNodes, readsOf } from "./fuse.ts";

/** Elements of a result, at most: larger ones cost more than a dispatch, and memory while they wait. */
const MAX_SIZE = 2 ** 16;
/** Buffers that a kernel binds at most, whatever the adapter allows: all have the same WGSL so. */
const MAX_BUFFERS = 16;

/** What is computed by one dispatch. */
export interface Joint {
  /** The first of its results is the one that takes up the others. */
  readonly results: readonly Result[];
  /** The kernel, if there are several results. */
  readonly kernel?: GeneratedKernel;
}

/** The variable whose memory a variable lies in. */
export const wholeOf = (variable: Variable): Variable => variable.home?.whole ?? variable;

/** Elements of one result of a node that can take up others, or 0. */
function sizeOfResults({ op, size, attrs, dtype }: Tensor, node: Tensor): number {
  if (dtype !== "f32") return 0;
  if (op.expression) return size;
  const spec = op.reduction?.(node, attrs);
  return spec?.chunks === 1 ? size / spec.results.length : 0;
}

/**
 * `jobs`, in an order that computes operands first, in fewer dispatches: each is where its first job
 * was. `needed` are the tensors that others read.
 */
export function join(
  jobs: readonly Result[],
  needed: ReadonlySet<Tensor>,
  inlined: InlinedNodes,
  target: Target,
): Joint[] {
  const most = Math.min(target.maxStorageBuffers, MAX_BUFFERS);
  const reads = jobs.map(({ node }) => [...readsOf(node, inlined)]);
  const place = new Map<Tensor, number>();
  const readers = new Map<Tensor, number[]>();
  const count = new Map<Variable, number>();
  const note = (x: Tensor) => {
    if (x instanceof Variable) count.set(wholeOf(x), (count.get(wholeOf(x)) ?? 0) + 1);
  };
  jobs.forEach(({ node, own }, i) => {
    if (!own) place.set(node, i);
    for (const x of reads[i]!) {
      readers.set(x, [...readers.get(x) ?? [], i]);
      if (x !== own) note(x);
    }
  });
  needed.forEach(note);

  /** The kernel of some jobs, of which what no one else reads is not stored; null where none fits. */
  const kernelOf = (group: readonly number[], bareHead: boolean): Joint | null => {
    const inside = new Set(group);
    const results = group.map((i, k) => {
      const { node, own } = jobs[i]!;
      const bare = !own && !needed.has(node) &&
        (k === 0 && bareHead || readers.get(node)?.every((reader) => inside.has(reader)));
      return { node, own, bare: bare === true };
    });
    const [head, ...also] = results as [Result, ...Result[]];
    const kernel = head.node.op.reduction
      ? reductionKernel(head.node, inlined, target, also, head.bare === true)
      : jointKernel(results, inlined, target);
    return kernel && kernel.spec.bindings.length <= most ? { results, kernel } : null;
  };

  const taken = new Set<number>();
  return jobs.flatMap((head, i) => {
    if (taken.has(i)) return [];
    const size = sizeOfResults(head.node, head.node), group = [i];
    const inside = new Set([head.node]);
    const movable = (j: number) => !jobs[j]!.own || !count.has(wholeOf(jobs[j]!.own as Variable));
    if (size > 0 && size <= MAX_SIZE && movable(i)) {
      for (let j = i + 1; j < jobs.length; j++) {
        const { node } = jobs[j]!;
        const fits = node.size === size && node.op.expression && node.dtype === "f32" &&
          !taken.has(j) && movable(j) &&
          reads[j]!.every((x) => inside.has(x) || (place.get(x) ?? -1) < i) &&
          kernelOf([...group, j], true);
        if (!fits) continue;
        group.push(j);
        inside.add(node);
      }
    }
    let joint: Joint | null = null;
    while (group.length > 1 && !(joint = kernelOf(group, false))) group.pop();
    group.slice(1).forEach((j) => {
      taken.add(j);
      if (!jobs[j]!.own) place.set(jobs[j]!.node, i);
    });
    return [joint ?? { results: [head] }];
  });
}
