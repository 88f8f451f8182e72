/**
 * Joining: kernels that do little by themselves become one with several results. A reduction, or a
 * small elementwise kernel, takes up later nodes that are elementwise, have as many elements as its
 * result, and wait for nothing else: a dispatch costs more than what they do. So the work of a
 * batch norm on its channels is one kernel, behind the sums that it needs. And a reduction of a
 * tensor that an elementwise kernel stores is computed in that kernel, which saves reading the
 * tensor.
 *
 * @module
 */

import type { Target } from "../kernels/kernel.ts";
import { sameShape } from "../graph/shape.ts";
import { type Tensor, Variable } from "../graph/tensor.ts";
import {
  type FinishedKernels,
  type GeneratedKernel,
  jointKernel,
  reductionKernel,
  type Result,
} from "./codegen.ts";
import { type InlinedNodes, MAX_OPERATIONS, reading, readsOf } from "./fuse.ts";

/** Elements of a result, at most: larger ones cost more than a dispatch, and memory while they wait. */
const MAX_SIZE = 2 ** 16;
/** Buffers that a kernel binds at most, whatever the adapter allows: all have the same WGSL so. */
const MAX_BUFFERS = 16;
/** How many times smaller a reduction's results are than a tensor that is reduced on the way. */
const LEAST_SHARE = 16;

/** What is computed by one dispatch. */
export interface Joint {
  /** Its results, in the order in which the kernel writes them. */
  readonly results: readonly Result[];
  /** The kernel, if there are several results. */
  readonly kernel?: GeneratedKernel;
}

/** The variable whose memory a variable lies in. */
export const wholeOf = (variable: Variable): Variable => variable.home?.whole ?? variable;

/** Elements of each result of a node that can take up others, or 0. */
function sizeOfResults(node: Tensor): number {
  if (node.dtype !== "f32") return 0;
  if (node.op.expression) return node.size;
  const spec = node.op.reduction?.(node, node.attrs);
  return spec?.chunks === 1 ? node.size / spec.results.length : 0;
}

/**
 * `jobs`, in an order that computes operands first, in fewer dispatches: for each dispatch, the job at
 * whose place it is, but for those `finished` by kernels of others. `needed` are the tensors that
 * others read.
 */
export function join(
  jobs: readonly Result[],
  needed: ReadonlySet<Tensor>,
  inlined: InlinedNodes,
  target: Target,
  finished: ReadonlyMap<Tensor, FinishedKernels>,
): Map<Tensor, Joint> {
  const most = Math.min(target.maxStorageBuffers, MAX_BUFFERS);
  const reads = jobs.map(({ node }) => finished.get(node)?.reads ?? [...readsOf(node, inlined)]);
  const place = new Map<Tensor, number>();
  const readers = new Map<Tensor, number[]>();
  /** Variables, as wholes, that others than their own updates read. */
  const read = new Set<Variable>();
  const note = (x: Tensor) => x instanceof Variable && read.add(wholeOf(x));
  jobs.forEach(({ node, own }, i) => {
    if (!own) place.set(node, i);
    for (const x of reads[i]!) {
      const known = readers.get(x);
      if (known) known.push(i);
      else readers.set(x, [i]);
      if (x !== own) note(x);
    }
  });
  needed.forEach(note);
  const isFree = ({ own }: Result) => !own || !read.has(wholeOf(own as Variable));
  const taken = new Set<number>();
  /** Whether job `j` can run where job `i` is, behind what is `inside` the same kernel. */
  const fitsAt = (j: number, i: number, inside: ReadonlySet<Tensor>) =>
    !taken.has(j) && !finished.has(jobs[j]!.node) && isFree(jobs[j]!) &&
    reads[j]!.every((x) => inside.has(x) || (place.get(x) ?? -1) < i);

  /** The kernel of some jobs, of which what no one else reads is not stored; null where none fits. */
  function kernelOf(group: readonly number[], bareHead: boolean, along?: Tensor): Joint | null {
    const inside = new Set(group);
    const results: Result[] = group.map((i, k) => {
      const { node, own } = jobs[i]!;
      const isInner = readers.get(node)?.every((reader) => inside.has(reader)) === true;
      return { node, own, bare: !own && !needed.has(node) && (k === 0 && bareHead || isInner) };
    });
    const [{ node, bare }, ...also] = results as [Result, ...Result[]];
    const within = along ? new Map([...inlined, [along, undefined]]) : inlined;
    const kernel = node.op.reduction
      ? reductionKernel(node, within as InlinedNodes, target, { also, bare, along })
      : jointKernel(results, inlined, target);
    if (!kernel || kernel.spec.bindings.length > most) return null;
    return { results: along ? [...results, { node: along }] : results, kernel };
  }

  /** The first reduction of a stored elementwise node that can be made while that is stored. */
  function reductionOf(i: number): number | undefined {
    const { node, own } = jobs[i]!, inside = new Set([node]);
    if (!node.op.expression || own || node.dtype !== "f32") return undefined;
    return readers.get(node)?.find((j) => {
      const reduction = jobs[j]!.node;
      if (!reduction.op.reduction || LEAST_SHARE * reduction.size > node.size) return false;
      if (!sameShape(reduction.inputs[0]!.shape, node.shape) || !fitsAt(j, i, inside)) return false;
      const within = { has: (x: Tensor) => x === node || inlined.has(x) };
      const { leaves, operations } = reading(reduction, within);
      return !leaves.has(node) && operations <= MAX_OPERATIONS && kernelOf([j], false, node);
    });
  }

  const joints = new Map<Tensor, Joint>();
  jobs.forEach((job, i) => {
    if (taken.has(i) || finished.has(job.node)) return;
    const reduction = reductionOf(i), head = reduction ?? i;
    const along = reduction === undefined ? undefined : job.node;
    taken.add(head);
    const size = isFree(jobs[head]!) ? sizeOfResults(jobs[head]!.node) : 0;
    /** The head and the jobs that can join it, each of which makes a `good` group. */
    const gathered = (good: (group: readonly number[]) => unknown) => {
      const group = [head], inside = new Set([jobs[head]!.node]);
      if (size === 0 || size > MAX_SIZE) return group;
      for (let j = i + 1; j < jobs.length; j++) {
        const { node } = jobs[j]!;
        const fits = node.size === size && node.op.expression && node.dtype === "f32" &&
          fitsAt(j, i, inside) && good([...group, j]);
        if (!fits) continue;
        group.push(j);
        inside.add(node);
      }
      return group;
    };
    // As a rule all fit; else one after the other is tried.
    let group = gathered(() => true);
    let joint = along || group.length > 1 ? kernelOf(group, false, along) : null;
    if (!joint && group.length > 1) {
      group = gathered((group) => kernelOf(group, true, along));
      const least = along ? 0 : 1;
      while (group.length > least && !(joint = kernelOf(group, false, along))) group.pop();
    }
    group.forEach((j) => {
      taken.add(j);
      if (!jobs[j]!.own) place.set(jobs[j]!.node, i);
    });
    joints.set(job.node, joint ?? { results: [job] });
  });
  return joints;
}
