/**
 * Graph rewriting before a plan is laid out: ops are lowered to simpler ones, equal nodes become
 * one, and permutations are moved towards the outputs until they meet their inverse and vanish.
 * That last rule is the whole of layout: convolutions take and give channels-last tensors, and
 * everything between them then works on that layout too.
 *
 * @module
 */

import { topological } from "../ops/grad.ts";
import type { Target } from "../kernels/kernel.ts";
import { BroadcastTo, permute, permuteOrder, Reshape, reshape } from "../ops/view.ts";
import { broadcastShapes, sameShape, type Shape, sizeOf } from "../graph/shape.ts";
import {
  apply,
  type Attrs,
  constantData,
  inScope,
  inverseOrder,
  type Tensor,
  Variable,
} from "../graph/tensor.ts";

/** Texts that tell ops and attributes apart, for one rewriting. */
class Keys {
  readonly #identities = new Map<unknown, number>();
  /** Texts of attributes, which never change. */
  readonly #known = new Map<Attrs, string>();

  /** A number for an op, a function or an object, which is equal to itself only. */
  identity(of: unknown): number {
    const known = this.#identities.get(of) ?? this.#identities.size;
    this.#identities.set(of, known);
    return known;
  }

  /** A text that two sets of attributes share only if they are equal to the bit. */
  of(attrs: Attrs): string {
    let key = this.#known.get(attrs);
    if (key === undefined) this.#known.set(attrs, key = this.#value(attrs));
    return key;
  }

  #value(value: unknown): string {
    if (typeof value === "number") return Object.is(value, -0) ? "-0" : `${value}`;
    if (typeof value === "string") return JSON.stringify(value);
    if (value === null || typeof value === "boolean" || value === undefined) return `${value}`;
    if (Array.isArray(value)) {
      let key = "[";
      for (const item of value) key += `${this.#value(item)},`;
      return `${key}]`;
    }
    if (typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
      let key = "{";
      for (const [name, item] of Object.entries(value)) {
        key += `${JSON.stringify(name)}:${this.#value(item)},`;
      }
      return `${key}}`;
    }
    return `#${this.identity(value)}`;
  }
}

/**
 * Nodes of equal value to `roots`, in their order, in terms of ops that have kernels. A replacement
 * keeps the scope of its node; equal nodes get the scope of the first one.
 */
export function rewrite(roots: readonly Tensor[], target: Target): Tensor[] {
  const done = new Map<Tensor, Tensor>();
  const known = new Map<string, Tensor>();
  const keys = new Keys();

  /** The first node seen that has this op, attributes and inputs. */
  function intern(node: Tensor): Tensor {
    const data = constantData(node);
    if (node.inputs.length === 0 && !(data && data.length === 1)) return node;
    const value = data &&
      (data instanceof Float32Array ? new Uint32Array(data.slice().buffer)[0] : data[0]);
    const key = data
      ? `${node.dtype} ${node.shape} ${value}`
      : `#${keys.identity(node.op)} ${keys.of(node.attrs)} ${node.inputs.map((x) => x.id)}`;
    const same = known.get(key);
    if (!same) known.set(key, node);
    return same ?? node;
  }

  function visit(node: Tensor): Tensor {
    const seen = done.get(node);
    if (seen) return seen;
    const inputs = node.inputs.map(visit);
    const moved = inputs.some((x, i) => x !== node.inputs[i]);
    const fresh = intern(
      moved ? inScope(node.scope, () => apply(node.op, inputs, node.attrs)) : node,
    );
    const next = done.get(fresh) ?? inScope(fresh.scope, () => simpler(fresh, target));
    const result = next === fresh ? fresh : visit(next);
    done.set(node, result);
    done.set(fresh, result);
    return result;
  }

  // Inputs first, so that the recursion stays shallow however deep the graph is.
  topological(roots).forEach(visit);
  return roots.map(visit);
}

/** One rule applied to `node`, whose inputs are simplified already; `node` itself if none fits. */
function simpler(node: Tensor, target: Target): Tensor {
  if (node instanceof Variable && node.stored) {
    return permute(node.stored.variable, inverseOrder(node.stored.order));
  }
  return simplerView(node) ?? simplerElementwise(node) ?? sunkReduction(node) ??
    node.op.lower?.(node, target, node.attrs) ?? node;
}

function simplerView(node: Tensor): Tensor | null {
  const [x] = node.inputs as [Tensor];
  const order = permuteOrder(node);
  if (order) {
    const inner = permuteOrder(x);
    if (inner) return permute(x.inputs[0]!, order.map((axis) => inner[axis]!));
    // Moving only axes of size 1 moves no element.
    const moved = order.filter((axis) => x.shape[axis] !== 1);
    if (moved.every((axis, i) => i === 0 || axis > moved[i - 1]!)) return reshape(x, node.shape);
  } else if (node.op === Reshape) {
    if (sameShape(x.shape, node.shape)) return x;
    if (x.op === node.op) return reshape(x.inputs[0]!, node.shape);
  }
  return null;
}

/**
 * The op of an elementwise node over its inputs in another form, which gives `shape`; null if its shape
 * rule, which may be a user's, does not take them like that.
 */
function over(node: Tensor, inputs: readonly Tensor[], shape: Shape): Tensor | null {
  try {
    const other = apply(node.op, inputs, node.attrs);
    return sameShape(other.shape, shape) ? other : null;
  } catch {
    return null;
  }
}

function simplerElementwise(node: Tensor): Tensor | null {
  if (!node.op.expression) return null;
  const { shape, inputs } = node;
  // A broadcast input broadcasts by itself where another input has the full shape.
  const plain = inputs.map((x) => x.op === BroadcastTo ? x.inputs[0]! : x);
  if (plain.some((x, i) => x !== inputs[i])) {
    const spread = plain.map((x) => x.shape).reduce((a, b) => broadcastShapes("rewrite", a, b));
    const other = sameShape(spread, shape) ? over(node, plain, shape) : null;
    if (other) return other;
  }
  const full = inputs.filter((x) => sameShape(x.shape, shape));
  const order = full[0] && permuteOrder(full[0]);
  if (!order || !full.every((x) => sameShape(permuteOrder(x) ?? [], order))) return null;
  const inverse = inverseOrder(order);
  const stored = inputs.map((x) => {
    if (sizeOf(x.shape) === 1) return reshape(x, []);
    const padded = reshape(x, [...new Array(shape.length - x.rank).fill(1), ...x.shape]);
    return permute(padded, inverse);
  });
  const other = over(node, stored, full[0]!.inputs[0]!.shape);
  return other && permute(other, order);
}

function sunkReduction(node: Tensor): Tensor | null {
  const order = node.op.sink && permuteOrder(node.inputs[0]!);
  return order ? node.op.sink!(node.inputs[0]!.inputs[0]!, order, node.attrs) : null;
}
