/**
 * Fusion: which nodes get memory and a kernel of their own, and which are expressions inside the
 * kernels of their users. An elementwise node is inlined when that moves fewer bytes: its inputs are
 * then read once for each user, instead of once plus one write and one read for each user.
 *
 * @module
 */

import { isWide, type Target } from "../kernels/kernel.ts";
import { topological } from "../ops/grad.ts";
import { isContiguous } from "../ops/view.ts";
import { sameShape, stridesOf } from "../graph/shape.ts";
import {
  constantData,
  inputName,
  type StridedView,
  type Tensor,
  Variable,
} from "../graph/tensor.ts";

/** A node seen as strides over a tensor that has memory. */
export interface Strided extends StridedView {
  /** The tensor in memory. */
  readonly base: Tensor;
}

/** Follows views down to a tensor in memory, or to a view that strides cannot express. */
export function strided(node: Tensor): Strided {
  if (!node.op.view) return { base: node, offset: 0, strides: stridesOf(node.shape) };
  const x = node.inputs[0]!;
  const inner = strided(x);
  const view = node.op.view({ shape: x.shape, ...inner }, node.attrs);
  if (view) return { base: inner.base, ...view };
  const copy = { offset: 0, strides: stridesOf(x.shape) };
  return { base: x, ...node.op.view({ shape: x.shape, ...copy }, node.attrs)! };
}

/** The tensor whose memory holds exactly the elements of `node` from its start: maybe a copy. */
export function inMemory(node: Tensor): Tensor {
  const view = strided(node);
  return view.offset === 0 && isContiguous(node.shape, view) ? view.base : node;
}

/** The value of a constant with one element, which elementwise kernels read from their uniform. */
export function scalar(node: Tensor): number | undefined {
  const data = node.dtype === "f32" ? constantData(node) : undefined;
  return data?.length === 1 ? data[0] : undefined;
}

/** An inlined node: the tensors that the kernels around it read for it, and its operations. */
interface Inlined {
  readonly leaves: ReadonlySet<Tensor>;
  readonly operations: number;
}

/** Elementwise nodes that exist only inside their users' kernels. */
export type InlinedNodes = ReadonlyMap<Tensor, Inlined>;

/** Operations of one kernel, at most: a longer chain is cut, before its shader takes long to compile. */
export const MAX_OPERATIONS = 48;

/** A tensor that is so many times smaller than another counts for nothing beside it. */
const VECTOR = 64;

/** The tensors that a node's kernel reads, and the operations it makes for one result. */
function inlining(node: Tensor, inlined: InlinedNodes): Inlined {
  const leaves = new Set<Tensor>();
  let operations = 1;
  if (node.op.view) {
    leaves.add(strided(node).base);
  } else if (!takesExpressions(node)) {
    wholeInputs(node, inlined).forEach((x) => leaves.add(inMemory(x)));
    const first = isStarted(node, inlined) ? inlined.get(node.inputs[0]!)! : undefined;
    first?.leaves.forEach((leaf) => leaves.add(leaf));
    operations += first?.operations ?? 0;
  } else {
    node.inputs.forEach((x) => {
      const inner = inlined.get(x);
      if (inner) {
        inner.leaves.forEach((leaf) => leaves.add(leaf));
        operations += inner.operations;
      } else if (!node.op.expression || scalar(x) === undefined) {
        leaves.add(strided(x).base);
      }
    });
  }
  return { leaves, operations };
}

/** The tensors in memory that the kernel of a stored node reads. */
export function readsOf(node: Tensor, inlined: InlinedNodes): ReadonlySet<Tensor> {
  return inlining(node, inlined).leaves;
}

/** Whether a node's kernel can compute its inputs from expressions. */
function takesExpressions(node: Tensor): boolean {
  return node.op.expression !== undefined || node.op.reduction !== undefined;
}

/** Whether the kernels of a stored node compute its first input as they load it. */
export function isStarted(node: Tensor, inlined: { has(x: Tensor): boolean }): boolean {
  return node.op.starts === true && inlined.has(node.inputs[0]!);
}

/** The inputs of a node whose kernels take no expressions that these read from memory. */
const wholeInputs = (node: Tensor, inlined: { has(x: Tensor): boolean }) =>
  isStarted(node, inlined) ? node.inputs.slice(1) : node.inputs;

/** Bindings that a node's results may need: its own, and that of an op which is computed beside it. */
const bindingsOfResults = (node: Tensor) => node.op.starts ? 2 : 1;

/** Whether kernels that load elements by place and by column can load all operands of an expression. */
function isByElement(node: Tensor, within: { has(x: Tensor): boolean }): boolean {
  const { shape } = node, axis = shape.length - 1, seen = new Set<Tensor>([node]);
  // One tensor must not be read in two ways: that would take two bindings.
  const ways = new Map<Tensor, string>();
  const agrees = (base: Tensor, way: string) =>
    (ways.get(base) ?? ways.set(base, way).get(base)) === way;
  const fits = (x: Tensor): boolean => {
    if (seen.has(x) || scalar(x) !== undefined) return true;
    if (within.has(x)) {
      seen.add(x);
      return x.inputs.every(fits);
    }
    const { base, offset, strides } = strided(x), lead = shape.length - x.rank;
    if (base.dtype !== "f32" || offset % 4 !== 0) return false;
    if (sameShape(x.shape, shape)) {
      return offset === 0 && isContiguous(shape, { offset, strides }) && agrees(base, "place");
    }
    return x.shape.every((dim, i) => dim === 1 || i + lead === axis && strides[i] === 1) &&
      agrees(base, x.size === 1 ? "number" : "column");
  };
  return node.inputs.every(fits);
}

/**
 * The elementwise nodes that kernels may compute as they load them: f32, read only by such kernels and
 * by expressions of the same shape, and not `apart`. Of kernels that are alike all must have such an
 * input where the CPU computes: its driver takes long to compile another one.
 */
function startable(
  nodes: readonly Tensor[],
  apart: ReadonlySet<Tensor>,
  users: ReadonlyMap<Tensor, readonly Tensor[]>,
  target: Target,
): ReadonlySet<Tensor> {
  /** Whether x, the only reader of which leads to `node`, is computed by a kernel that can finish. */
  const ends = (node: Tensor): boolean =>
    node.inputs.some((x) =>
      users.get(x)!.length === 1 && !apart.has(x) &&
      (x.op.finishes === true || x.op.expression !== undefined && ends(x))
    );
  const fits = (x: Tensor) =>
    x.op.expression !== undefined && x.dtype === "f32" && !apart.has(x) && !ends(x) &&
    users.get(x)!.every((user) =>
      user.op.starts === true && user.inputs.lastIndexOf(x) === 0 ||
      takesExpressions(user) && sameShape(user.op.expression ? user.shape : x.shape, x.shape)
    );
  const kernels = Map.groupBy(
    nodes.filter((node) => node.op.starts),
    (node) => `${node.op.name} ${JSON.stringify(node.attrs)}`,
  );
  const found = new Set<Tensor>();
  for (const alike of kernels.values()) {
    const inputs = alike.map((node) => node.inputs[0]!);
    if (isWide(target) || inputs.every(fits)) inputs.filter(fits).forEach((x) => found.add(x));
  }
  return found;
}

/** The result of fusion. */
export interface Fusion {
  /** Nodes that get memory, in an order that computes inputs first; leaves of the graph included. */
  readonly stored: readonly Tensor[];
  /** Elementwise nodes that do not. */
  readonly inlined: InlinedNodes;
  /** Nodes that are asked for, or read by kernels that take no expressions. */
  readonly needed: ReadonlySet<Tensor>;
}

/** Decides for the graph below `roots`, which all get memory. */
export function fuse(roots: readonly Tensor[], target: Target): Fusion {
  const nodes = topological(roots);
  const users = new Map<Tensor, Tensor[]>(nodes.map((node) => [node, []]));
  for (const node of nodes) new Set(node.inputs).forEach((x) => users.get(x)!.push(node));
  const kept = new Set(roots.map(inMemory));

  // Where one of the inputs that kernels of a kind start with is stored after all, so are the others.
  const apart = new Set(kept);
  let inlined: InlinedNodes;
  for (;;) {
    const starts = startable(nodes, apart, users, target);
    inlined = inlinedBelow(nodes, { kept, users, starts, maxBuffers: target.maxStorageBuffers });
    const others = [...starts].filter((x) => !inlined.has(x));
    if (others.length === 0) break;
    others.forEach((x) => apart.add(x));
  }

  const stored = new Set<Tensor>();
  const pending = [...kept];
  while (pending.length > 0) {
    const node = pending.pop()!;
    if (stored.has(node)) continue;
    stored.add(node);
    pending.push(...inlining(node, inlined).leaves);
  }
  const whole = [...stored].filter((node) => !node.op.view && !takesExpressions(node));
  const needed = new Set([
    ...kept,
    ...whole.flatMap((node) => wholeInputs(node, inlined).map(inMemory)),
  ]);
  return { stored: [...stored].sort((a, b) => a.id - b.id), inlined, needed };
}

/** Of `nodes`, in an order that computes inputs first, those that are inlined. */
function inlinedBelow(
  nodes: readonly Tensor[],
  { kept, users, starts, maxBuffers }: {
    kept: ReadonlySet<Tensor>;
    users: ReadonlyMap<Tensor, readonly Tensor[]>;
    starts: ReadonlySet<Tensor>;
    maxBuffers: number;
  },
): InlinedNodes {
  const inlined = new Map<Tensor, Inlined>();
  for (const node of nodes) {
    const readers = users.get(node)!;
    if (!node.op.expression || kept.has(node) || readers.length === 0) continue;
    const fits = starts.has(node)
      ? isByElement(node, inlined)
      : readers.every((user) =>
        takesExpressions(user) &&
        sameShape(user.op.expression ? user.shape : node.shape, node.shape)
      );
    if (!fits) continue;
    const own = inlining(node, inlined);
    const large = [...own.leaves].filter((leaf) => leaf.size >= node.size).length;
    if (large * readers.length > large + 1 + readers.length) continue;
    inlined.set(node, own);
    const tooMuch = readers.some((user) => {
      const { leaves, operations } = inlining(user, inlined);
      return leaves.size + bindingsOfResults(user) > maxBuffers || operations > MAX_OPERATIONS;
    });
    if (tooMuch) inlined.delete(node);
  }
  return inlined;
}

/** The tensors that a node's kernel reads if it computes those `within` itself, and how many it does. */
export function reading(node: Tensor, within: { has(x: Tensor): boolean }) {
  const leaves = new Set<Tensor>(), seen = new Set<Tensor>();
  const visit = (user: Tensor) => {
    const whole = user.op.view || takesExpressions(user) ? [] : wholeInputs(user, within);
    whole.forEach((x) => leaves.add(inMemory(x)));
    user.inputs.forEach((x) => {
      if (whole.includes(x)) return;
      if (!within.has(x)) {
        if (!user.op.expression || scalar(x) === undefined) leaves.add(strided(x).base);
      } else if (!seen.has(x)) {
        seen.add(x);
        visit(x);
      }
    });
  };
  visit(node);
  return { leaves, operations: seen.size + 1 };
}

/**
 * What the kernel of a stored node computes by itself: what is `inlined` everywhere; and of the stored
 * nodes that others need, those of its own shape that are made of what it reads anyway and of vectors.
 * To read them would cost more. The ReLU after a batch norm is such a node for the batch norm's gradient.
 */
export function inlinedFor(
  node: Tensor,
  { inlined, needed }: Fusion,
  maxBuffers: number,
): InlinedNodes {
  const started = isStarted(node, inlined);
  if (!takesExpressions(node) && !started) return inlined;
  const { shape, size } = node.op.expression ? node : node.inputs[0]!;
  const results = bindingsOfResults(node);
  let all = inlined, { leaves } = reading(node, inlined);
  for (const leaf of leaves) {
    if (!leaf.op.expression || !needed.has(leaf) || !sameShape(leaf.shape, shape)) continue;
    if (started && node.inputs.some((x, i) => i > 0 && inMemory(x) === leaf)) continue;
    const cheap = [...readsOf(leaf, inlined)].every((x) =>
      leaves.has(x) && x !== leaf || VECTOR * x.size <= size
    );
    const more = new Map([...all, [leaf, inlining(leaf, inlined)]]), next = reading(node, more);
    const fits = !next.leaves.has(leaf) && next.leaves.size + results <= maxBuffers &&
      next.operations <= MAX_OPERATIONS && (!started || isByElement(node.inputs[0]!, more));
    if (cheap && fits) [all, leaves] = [more, next.leaves];
  }
  return all;
}

/** Whether a node is a leaf of the graph, given and not computed. */
export function isLeaf(node: Tensor): boolean {
  return node instanceof Variable || constantData(node) !== undefined ||
    inputName(node) !== undefined;
}
