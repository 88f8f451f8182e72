/**
 * Random graphs of views, sums, products and elementwise ops, with their gradients, against float64:
 * for what comes of ops meeting each other in ways that no one thought of. Not a test.
 */

import { assertEquals } from "@std/assert";
import * as R from "@resnette/resnette";
import { inputName } from "../../lib/graph/tensor.ts";
import type { Tensor, TensorData } from "@resnette/resnette";
import * as N from "../ops/nd.ts";
import type { Nd } from "../ops/nd.ts";
import { channelMoments, matmul, softmax } from "../ops/reference.ts";
import { type OpCase, TABLE } from "../ops/table.ts";

/**
 * Ops without a gradient, that are not defined for all numbers, make large ones of small ones, or
 * divide by a deviation that may be nearly zero.
 */
const PARTIAL = new Set(
  `batchNorm binaryCrossEntropy div exp gather groupNorm isFinite layerNorm log normalize pow prod sqrt
   square`.split(/\s+/),
);
/** The other elementwise ops of the op table: differentiable almost everywhere. */
const ELEMENTWISE = TABLE.filter(({ op, scalar }) => scalar && !PARTIAL.has(op));

/** How far a result or a gradient may be off. */
export const TOLERANCE = 1e-4;
/** Most elements of a row's input, so that float64 keeps up. */
const MOST = 400;
/** Whether gradients go through a call, to all of its inputs that are f32. */
function differentiable({ inputs, wrt, compute, tolerance }: OpCase): boolean {
  if (wrt || tolerance || inputs.some(({ shape }) => sizeOf(shape) > MOST)) return false;
  const x = inputs.map(({ shape, dtype, values }, i) =>
    dtype === "f32"
      ? R.input(`${i}`, shape)
      : R.tensor(values(new R.Random(i), sizeOf(shape)), [...shape])
  );
  const y = compute(...x);
  return y.dtype === "f32" && y.size <= MOST;
}
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
/** All calls of the op table that a graph can have anywhere. */
const CALLS = TABLE.filter((row) => !PARTIAL.has(row.op) && differentiable(row));

/** A tensor and its float64 value, as a function of the values of the inputs. */
interface Node {
  readonly tensor: Tensor;
  readonly value: (inputs: readonly Nd[]) => Nd;
}

const INPUTS = [[2, 3, 4], [3, 4], [4], [2, 1, 4], [], [4, 4], [8, 3]];
const OPS = 14;

/** How each node's values are off in the last digits of f32; 0 for not at all. */
let shaken = 0;
/** The ways of that which are tried. */
const SHAKES = [1, 2, 3];

/** The most that a number changes with the last digits of f32, in float64. */
function sway(of: () => number): number {
  const still = of();
  return Math.max(...SHAKES.map((way) => {
    shaken = way;
    const moved = Math.abs(of() - still);
    shaken = 0;
    return moved;
  }));
}

/** A node whose value is `f` of the values of `nodes`, computed once for each set of inputs. */
function node(tensor: Tensor, nodes: readonly Node[], f: (...x: Nd[]) => Nd): Node {
  let known: [readonly Nd[], Nd] | undefined;
  return {
    tensor,
    value: (inputs) => {
      if (known?.[0] !== inputs) {
        const y = f(...nodes.map((n) => n.value(inputs)));
        if (shaken > 0) {
          y.data.forEach((e, k) => y.data[k] = e * (1 + ((7 * k + 5 * shaken) % 11 - 5) * 3e-8));
        }
        known = [inputs, y];
      }
      return known![1];
    },
  };
}

/** `from` in another shape: its elements again and again, or as many of them as fit. */
function fitted(from: Node, shape: readonly number[]): Node {
  const { size } = from.tensor, wanted = sizeOf(shape), times = Math.ceil(wanted / size);
  const again = R.broadcastTo(R.reshape(from.tensor, [1, size]), [times, size]);
  const cut = R.slice(R.reshape(again, [times * size]), [[0, wanted]]);
  return node(
    R.reshape(cut, [...shape]),
    [from],
    (x) => N.nd(shape, (_, flat) => x.data[flat % size]!),
  );
}

/** A call of the op table, over nodes in the shapes that it takes. */
function called(nodes: readonly Node[], random: R.Random): Node {
  const { inputs, compute, reference } = CALLS[random.below(CALLS.length)]!;
  const x = inputs.map(({ shape, dtype, values }): Node => {
    if (dtype === "f32") return fitted(nodes[random.below(nodes.length)]!, shape);
    const data = values(random, sizeOf(shape)), known = N.nd(shape, [...data]);
    return { tensor: R.tensor(data, [...shape]), value: () => known };
  });
  return node(compute(...x.map(({ tensor }) => tensor)), x, reference);
}

/** One more node over `nodes`, or nothing if the op drawn does not fit the tensors drawn. */
function grow(nodes: readonly Node[], random: R.Random): Node | undefined {
  const pick = <T>(from: readonly T[]) => from[random.below(from.length)]!;
  const a = pick(nodes), b = pick(nodes), x = a.tensor, { shape, rank } = x;
  const axes = shape.map((_, axis) => axis);
  const broadcasts = [...shape].reverse().every((dim, i) => {
    const other = b.tensor.shape.at(-1 - i) ?? 1;
    return dim === other || dim === 1 || other === 1;
  });
  const binary = (op: (a: Tensor, b: Tensor) => Tensor, f: (a: number, b: number) => number) =>
    broadcasts ? node(op(x, b.tensor), [a, b], (p, q) => N.map(f, p, q)) : undefined;
  switch (random.below(18)) {
    case 0:
      return binary(R.add, (p, q) => p + q);
    case 1:
    case 2:
    case 4: {
      const { compute, scalar, inputs } = pick(ELEMENTWISE);
      return inputs.length === 2
        ? binary(compute, scalar!)
        : node(compute(x), [a], (p) => N.map(scalar!, p));
    }
    case 3: // Keeps numbers small, too.
      return binary(
        (p, q) => R.div(p, R.add(R.square(q), 1)),
        (p, q) => p / (q * q + 1),
      );
    case 5:
      return node(R.exp(R.neg(R.square(x))), [a], (p) => N.map((v) => Math.exp(-v * v), p));
    case 6: {
      const order = [...axes].sort(() => random.below(2) - 0.5);
      return node(R.permute(x, order), [a], (p) => N.permute(p, order));
    }
    case 7: { // A new axis of size 1, one less of them, or two axes as one.
      const at = random.below(rank + 1);
      const to = pick([
        shape.toSpliced(at, 0, 1),
        shape.filter((dim) => dim !== 1),
        at + 1 < rank ? shape.toSpliced(at, 2, shape[at]! * shape[at + 1]!) : [x.size],
      ]);
      return node(R.reshape(x, to), [a], (p) => N.reshape(p, to));
    }
    case 8: {
      if (rank === 0) return undefined;
      const index = random.below(shape[0]!);
      return node(R.select(x, index), [a], (p) => N.select(p, index));
    }
    case 9: {
      const to = [2, ...shape.map((dim) => dim === 1 ? 3 : dim)];
      return x.size > 100
        ? undefined
        : node(R.broadcastTo(x, to), [a], (p) => N.broadcastTo(p, to));
    }
    case 10: {
      const over = axes.filter(() => random.below(2)), keepDims = random.below(2) === 1;
      return node(R.mean(x, over, { keepDims }), [a], (p) => N.mean(p, over, keepDims));
    }
    case 11: {
      const fits = rank >= 2 && b.tensor.rank === rank && shape.at(-1) === b.tensor.shape.at(-2) &&
        shape.slice(0, -2).every((dim, axis) => dim === b.tensor.shape[axis]);
      return fits ? node(R.matmul(x, b.tensor), [a, b], matmul) : undefined;
    }
    case 14:
    case 15:
    case 16:
    case 17:
      return called(nodes, random);
    case 12:
      return rank === 0 ? undefined : node(R.softmax(x), [a], softmax);
    default:
      return rank < 2 ? undefined : node(R.channelMoments(x), [a], channelMoments);
  }
}

/** A graph with its inputs: results and gradients to compute, and what they should be. */
export function build(seed: number) {
  const random = new R.Random(seed, 3);
  const values = INPUTS.map((shape) => {
    const size = shape.reduce((a, b) => a * b, 1);
    return N.nd(shape, random.uniform(new Float32Array(size), -1, 1));
  });
  const inputs = INPUTS.map((shape, i): Node => ({
    tensor: R.input(`${seed}.${i}`, shape),
    value: (x) => x[i]!,
  }));
  const nodes = [...inputs];
  while (nodes.length < inputs.length + OPS) {
    // Half of the nodes build on recent ones, so that graphs get deep.
    const from = random.below(2) ? nodes : nodes.slice(-4);
    const next = grow(from, random);
    if (next) nodes.push(next);
  }
  const results = [nodes.at(-1)!, nodes.at(-2)!, nodes.at(-3)!, nodes.at(-6)!];
  const loss = results.map(({ tensor }) => R.mean(R.square(R.sub(tensor, 0.3)))).reduce((a, b) =>
    R.add(a, b)
  );
  const lossOf = (x: readonly Nd[]) =>
    results.reduce((total, { value }) => {
      const y = value(x);
      return total + N.mean(N.map((v) => (v - 0.3) ** 2, y), N.axesOf(y)).data[0]!;
    }, 0);
  const outputs = [
    ...results.map(({ tensor }) => tensor),
    ...R.grad(loss, inputs.map(({ tensor }) => tensor)),
  ];
  return { values, results, outputs, lossOf };
}

/** Compares what was found for the graph of `seed`; the largest error. */
function check(
  { values, results, lossOf }: ReturnType<typeof build>,
  found: readonly TensorData[],
): number {
  // Where float64 sways with such roundings, as behind a norm of nearly equal numbers, f32 must too.
  const errors = results.map(({ value }, i) => {
    const y = value(values).data;
    const off = N.difference(found[i]!, y);
    if (off < TOLERANCE) return off;
    const far = (x: ArrayLike<number>) => Math.max(...y.map((e, k) => Math.abs(x[k]! - e)));
    const own = sway(() => far(value([...values]).data));
    return Math.max(0, far(found[i]!) - 20 * own) / Math.max(...y.map(Math.abs), 1e-3);
  });
  /** Of all gradients: the terms of a small one may be as large as those of the others. */
  const largest = Math.max(
    ...values.map((_, at) => {
      const g = found[results.length + at]!;
      return Math.hypot(...g) / Math.sqrt(g.length);
    }),
  );
  values.forEach((x, at) => {
    const g = found[results.length + at]!;
    assertEquals(g.length, x.data.length);
    const v = new R.Random(at).uniform(new Float32Array(g.length), -1, 1);
    const moved = (h: number) =>
      lossOf(
        values.map((y, i) => i === at ? N.nd(y.shape, y.data.map((e, k) => e + h * v[k]!)) : y),
      );
    const slopeOf = () => (moved(1e-6) - moved(-1e-6)) / 2e-6;
    const projected = v.reduce((total, e, k) => total + e * g[k]!, 0);
    const scale = Math.max(largest * Math.hypot(...v), 1e-3);
    const off = Math.abs(projected - slopeOf());
    errors.push(
      off / scale < TOLERANCE ? off / scale : Math.max(0, off - 20 * sway(slopeOf)) / scale,
    );
  });
  return Math.max(...errors.map((e) => Number.isNaN(e) ? Infinity : e));
}

/** Names of the inputs that `x` is computed from. */
function leavesOf(x: Tensor): string[] {
  const seen = new Set<Tensor>(), pending = [x];
  while (pending.length > 0) {
    const next = pending.pop()!;
    if (!seen.has(next)) pending.push(...next.inputs);
    seen.add(next);
  }
  return [...seen].map((n) => inputName(n)).filter((name) => name !== undefined);
}

/** Computes the graphs of `count` seeds from `first` on in one plan; the largest error, and its seed. */
export async function worstOf(
  first: number,
  count: number,
): Promise<{ off: number; seed: number }> {
  const graphs = Array.from({ length: count }, (_, i) => build(first + i));
  const feeds: Record<string, TensorData> = {};
  for (const { values, outputs } of graphs) {
    for (const name of outputs.flatMap(leavesOf)) {
      feeds[name] = new Float32Array(values[Number(name.split(".")[1])]!.data);
    }
  }
  const found = await R.evaluate(graphs.flatMap(({ outputs }) => outputs), feeds);
  const errors = graphs.map((graph) => check(graph, found.splice(0, graph.outputs.length)));
  const off = Math.max(...errors);
  return { off, seed: first + errors.indexOf(off) };
}
