/**
 * From a rewritten graph to a list of dispatches: what runs, in which order, over which tensors.
 *
 * @module
 */

import { bytesOf } from "../device/buffers.ts";
import { formatShape, sizeOf } from "../graph/shape.ts";
import { type KernelSpec, PLAIN, type Start, type Target } from "../kernels/kernel.ts";
import { asStored, packOffsets } from "../ops/pack.ts";
import { isContiguous } from "../ops/view.ts";
import {
  apply,
  constantData,
  inputName,
  inScope,
  type Op,
  type Scope,
  type Tensor,
  type Update,
  Variable,
} from "../graph/tensor.ts";
import {
  elementwiseKernel,
  operandsOf,
  reductionKernel,
  type Result,
  startedKernels,
} from "./codegen.ts";
import {
  fuse,
  inlinedFor,
  type InlinedNodes,
  inMemory,
  isLeaf,
  isStarted,
  readsOf,
} from "./fuse.ts";
import { type Finished, finishes } from "./finish.ts";
import { join, type Joint, wholeOf } from "./join.ts";
import { rewrite } from "./rewrite.ts";

/**
 * A graph that cannot be a plan, or not on this device; or a run whose inputs do not fit the plan.
 */
export class PlanError extends Error {
  /** `"PlanError"`. */
  override name = "PlanError";
  /** If a tensor is too large for the device: the largest first dimension that it could have. */
  readonly largest: number | undefined;

  /** An error with a message, and maybe the largest first dimension that fits. */
  constructor(message: string, largest?: number) {
    super(message);
    this.largest = largest;
  }
}

/** One dispatch of a plan. */
export interface Step {
  /** Name in tables, profiles and driver messages. */
  readonly name: string;
  /** The tensor computed, or the first variable updated. */
  readonly node: Tensor;
  /** The layer and pass of that tensor; those of what is fused into its kernel do not count. */
  readonly scope: Scope;
  /** The kernel. */
  readonly spec: KernelSpec;
  /** Tensors bound for reading, in the kernel's order. */
  readonly reads: readonly Tensor[];
  /** Tensors bound for writing, in the kernel's order. */
  readonly writes: readonly Tensor[];
}

/** A tensor's place inside a packed one. */
export interface Part {
  /** The packed tensor. */
  readonly whole: Tensor;
  /** Offset in elements. */
  readonly offset: number;
}

/** All that is needed to lay out memory and compile pipelines. */
export interface Steps {
  /** Dispatches, in order; updates last. */
  readonly steps: readonly Step[];
  /** For each output asked for, the tensor in memory that holds it. */
  readonly outputs: readonly Tensor[];
  /** Tensors that live inside packed ones. */
  readonly parts: ReadonlyMap<Tensor, Part>;
}

/** An assignment to a variable as one to the variable that holds its values. */
function storedUpdate({ value, ...update }: Update): Update {
  const [own] = update.targets as [Variable];
  if (!value || !own.stored) return { ...update, ...value && { value } };
  return { targets: [own.stored.variable], value: asStored(own, value) };
}

/** The value of an assignment, so that its kernel writes to the variable. */
const Assign: Op = { name: "assign", shape: ([x]) => x!.shape, expression: () => "a" };
const copyOf = (x: Tensor, attrs = {}) => inScope(x.scope, () => apply(Assign, [x], attrs));

/** Throws if two updates write the same memory: one of them would be lost. */
function checkTargets(updates: readonly Update[]): void {
  const written = new Set<Variable>();
  for (const target of updates.flatMap(({ targets }) => targets)) {
    const whole = wholeOf(target), parts = target.parts;
    if ([target, whole, ...parts].some((x) => written.has(x))) {
      throw new PlanError(
        `plan: ${target} is updated twice in one plan, and one of the updates would be lost; ` +
          "put both into one",
      );
    }
    written.add(target);
  }
}

/** Throws if what updates changed early is read by others, who might see the value from before or after. */
function checkEarly(early: ReadonlySet<Update>, steps: readonly Step[]): void {
  const changed = new Set([...early].flatMap(({ targets }) => targets.map(wholeOf)));
  const read = changed.size === 0
    ? undefined
    : steps.flatMap(({ reads }) => reads).find((x) =>
      x instanceof Variable && changed.has(wholeOf(x))
    );
  if (read) {
    throw new PlanError(`plan: ${read} is updated early, and read; update it after all else`);
  }
}

/** Elements that one result of a reduction takes up, at most: its kernel counts them in u32. */
const MOST_TERMS = 2 ** 31;

/** Throws if a reduction, whose input need not be in memory, has more terms than can be counted. */
function checkTerms(nodes: readonly Tensor[]): void {
  for (const node of nodes) {
    const axes = node.op.reduction?.(node, node.attrs).axes ?? [], [x] = node.inputs;
    const terms = sizeOf(axes.map((axis) => x!.shape[axis]!));
    if (terms <= MOST_TERMS) continue;
    const what = `${node.op.name} of ${formatShape(x!.shape)}`;
    throw new PlanError(
      `plan: ${what} takes ${terms} elements together, more than ${MOST_TERMS}; ` +
        "take one axis after the other",
    );
  }
}

/** Orders the computation of `outputs` and `updates`. */
export function stepsOf(
  outputs: readonly Tensor[],
  updates: readonly Update[],
  target: Target,
): Steps {
  updates = updates.map(storedUpdate);
  checkTargets(updates);
  // Equal nodes become one: the variable among its attributes keeps a value apart from other values and
  // from their operands, which would get no kernel.
  const assigned = updates.map(({ value, targets: [own] }) => value && copyOf(value, { own }));
  const given = updates.map(({ reads = [] }) => reads);
  const roots = rewrite(
    [...outputs, ...assigned.filter((x) => x !== undefined), ...given.flat()],
    target,
  );
  // An output shows the value that the run used: for a variable, a copy from before its update.
  const shown = (x: Tensor) => updates.length > 0 && inMemory(x) instanceof Variable;
  const results = roots.splice(0, outputs.length).map((x) => shown(x) ? copyOf(x) : x);
  const values = assigned.map((x) => x && roots.shift()!);
  const pinned = new Set(results.map(inMemory));
  const changed = new Set(updates.flatMap(({ targets }) => targets.map(wholeOf)));
  const changes = (x: Tensor) => x instanceof Variable && changed.has(wholeOf(x));
  // Kernels of an update read what it was before all updates, and no memory that they write.
  const before = (x: Tensor) => changes(inMemory(x)) ? copyOf(x) : withCopies(x, pinned);
  const reads = given.map((list) => list.map(() => before(roots.shift()!)));

  // The kernel of an assignment may read its own target, element by element, but no other memory
  // that an update changes. A value that needs more is computed before all updates instead.
  const early: Tensor[] = [];
  const fuseAll = () =>
    fuse(
      [...results, ...reads.flat(), ...early, ...values.filter((x) => x !== undefined)],
      target,
    );
  let fusion = fuseAll();
  /** Has values that need it computed before all updates; whether there were any. */
  const keep = () => {
    const known = early.length;
    values.forEach((value, i) => {
      const own = updates[i]!.targets[0]!;
      const unsafe = value &&
        operandsOf(value, fusion.inlined).some((x) =>
          changes(x.base) && !(x.base === own && x.offset === 0 && isContiguous(value.shape, x))
        );
      if (!unsafe) return;
      // A variable is in memory already: to keep its value, copy it.
      const x = value.inputs[0]!;
      const kept = inMemory(x) instanceof Variable ? copyOf(x) : x;
      values[i] = copyOf(kept);
      early.push(kept);
    });
    return early.length > known;
  };
  // What is stored now leaves room in the kernels of other values, which may read more than before.
  while (keep()) fusion = fuseAll();

  const { stored, inlined } = fusion, isValue = new Set(values);
  checkTerms(stored);
  const finished = finishes(fusion, isValue, target);
  const inner = new Set([...finished.values()].map(({ inner }) => inner));
  const computed = packedEarly(
    stored.filter((node) => !isLeaf(node) && !isValue.has(node) && !inner.has(node)),
    new Set(updates.flatMap(({ early }, i) => early ? reads[i]! : [])),
    inlined,
  );
  const assigns = updates.flatMap(({ targets: [own] }, i) =>
    values[i] ? [{ node: values[i], own }] : []
  );
  const needed = new Set([...pinned, ...reads.flat().map(inMemory)]);
  const jobs = [...computed.map((node) => ({ node })), ...assigns];
  const joints = join(jobs, needed, inlined, target, finished);
  const steps: Step[] = [];
  const parts = new Map<Tensor, Part>();
  const beside = pairsOf(computed), second = new Set(beside.values());
  const updateSteps = ({ name = "update", targets: writes, kernels }: Update, i: number) => {
    const given = reads[i]!, [own] = writes as [Variable];
    const { scope } = given[0] ?? own;
    return kernels!(target).map((spec): Step => (
      { name, node: own, scope, spec, reads: given.map(inMemory), writes }
    ));
  };
  const there = new Set<Tensor>(), made = new Set<Update>();
  const makeEarly = () =>
    updates.forEach((update, i) => {
      if (!update.early || update.value || made.has(update)) return;
      if (!reads[i]!.map(inMemory).every((x) => isLeaf(x) || there.has(x))) return;
      steps.push(...updateSteps(update, i));
      made.add(update);
    });
  for (const node of computed) {
    const ends = finished.get(node);
    if (ends) steps.push(...finishedSteps(node, ends, inlined));
    const offsets = packOffsets(node), joint = joints.get(node);
    if (joint && !second.has(node)) {
      steps.push(
        ...joint.kernel
          ? [jointStep(joint, inlined)]
          : offsets
          ? packSteps(node, offsets, { steps, pinned, parts, target })
          : nodeSteps(
            node,
            inlinedFor(node, fusion, target.maxStorageBuffers),
            target,
            beside.get(node),
          ),
      );
    }
    there.add(node);
    makeEarly();
  }
  updates.forEach((update, i) => {
    const [own] = update.targets as [Variable];
    const value = values[i];
    if (value) {
      const joint = joints.get(value);
      if (joint?.kernel) steps.push(jointStep(joint, inlined));
      else if (joint) {
        const { spec, reads } = elementwiseKernel(value, inlined, target, own);
        const { scope } = value;
        steps.push({ name: "assign", node: own, scope, spec, reads, writes: [own] });
      }
    } else if (!made.has(update)) steps.push(...updateSteps(update, i));
  });
  checkEarly(made, steps);
  return { steps, outputs: results.map(inMemory), parts };
}

/** The steps of a node that kernels of another finish with, in that one's layer. */
function finishedSteps(node: Tensor, { inner, specs, reads }: Finished, inlined: InlinedNodes) {
  const name = `${inner.op.name} + ${nameOf(node, inlined)}`, { scope } = inner;
  return specs.map((spec): Step => ({ name, node, scope, spec, reads, writes: [node] }));
}

/** The step of several results: its names are those of all. */
function jointStep({ results, kernel }: Joint, inlined: InlinedNodes): Step {
  const [{ node, own }] = results as [Result];
  const names = results.map(({ node, own }) => own ? "assign" : nameOf(node, inlined));
  const stored = results.filter(({ bare }) => !bare);
  return {
    ...{ name: [...new Set(names)].join(" + "), node: own ?? node, scope: node.scope },
    ...{ ...kernel!, writes: stored.map(({ node, own }) => own ?? node) },
  };
}

/** Whether an input of a pack has memory of its own, which may as well be in the pack. */
const isOwnMemory = (x: Tensor, pinned: ReadonlySet<Tensor>) => {
  const base = inMemory(x);
  return !isLeaf(base) && !pinned.has(base) && base.size === x.size;
};

/** `nodes` in their order, but the packs `wanted` early, and copies in them, right behind what they read. */
function packedEarly(
  nodes: readonly Tensor[],
  wanted: ReadonlySet<Tensor>,
  inlined: InlinedNodes,
): readonly Tensor[] {
  const packs = nodes.filter((node) => wanted.has(node) && packOffsets(node));
  if (packs.length === 0) return nodes;
  const place = new Map(nodes.map((node, i) => [node, i]));
  const move = (node: Tensor) => {
    const before = [...readsOf(node, inlined)].map((x) => place.get(x) ?? -1);
    place.set(node, Math.max(...before) + 0.25);
  };
  for (const pack of packs) {
    pack.inputs.filter((x) => x.op === Assign && place.has(x)).forEach(move);
    move(pack);
  }
  return nodes.toSorted((a, b) => place.get(a)! - place.get(b)!);
}

/** A pack with copies of those inputs that cannot be computed in it; any other node as it is. */
function withCopies(node: Tensor, pinned: ReadonlySet<Tensor>): Tensor {
  if (!packOffsets(node)) return node;
  const bases = node.inputs.map(inMemory);
  const inputs = node.inputs.map((x, i) =>
    isOwnMemory(x, pinned) && bases.indexOf(bases[i]!) === i ? x : copyOf(x)
  );
  return inScope(node.scope, () => apply(node.op, inputs, node.attrs));
}

/**
 * Puts the inputs of a pack in their places: computed there, or copied. An input is computed there
 * when its memory is free to choose, and no kernel would have to read and write the pack at once,
 * which WebGPU refuses.
 */
function packSteps(
  node: Tensor,
  offsets: readonly number[],
  { steps, pinned, parts, target }: {
    steps: readonly Step[];
    pinned: ReadonlySet<Tensor>;
    parts: Map<Tensor, Part>;
    target: Target;
  },
): Step[] {
  const bases = node.inputs.map(inMemory);
  const free = new Set(
    bases.filter((x, i) => isOwnMemory(node.inputs[i]!, pinned) && !parts.has(x)),
  );
  for (const step of steps) {
    if (step.reads.some((x) => free.has(x))) step.writes.forEach((x) => free.delete(x));
  }
  return node.inputs.flatMap((x, i) => {
    const place = { whole: node, offset: offsets[i]! };
    if (free.has(bases[i]!)) {
      parts.set(bases[i]!, place);
      return [];
    }
    const copy = copyOf(x);
    parts.set(copy, place);
    const { spec, reads } = elementwiseKernel(copy, new Map(), target);
    return [{ name: "copy", node: copy, scope: copy.scope, spec, reads, writes: [copy] }];
  });
}

/** For nodes of which kernels compute another one's result too, that one. */
function pairsOf(nodes: readonly Tensor[]): Map<Tensor, Tensor> {
  const pairs = new Map<Tensor, Tensor>();
  for (const node of nodes) {
    const first = node.op.beside &&
      nodes.find(({ op, inputs, attrs }) =>
        op === node.op.beside!.op && attrs === node.attrs &&
        inputs.every((x, i) => x === node.inputs[i])
      );
    if (first) pairs.set(first, node);
  }
  return pairs;
}

/** The steps of a node, and of the one `beside` it. */
function nodeSteps(
  node: Tensor,
  inlined: InlinedNodes,
  target: Target,
  beside?: Tensor,
): Step[] {
  const { scope } = node;
  if (node.op.reduction || node.op.expression || node.op.view) {
    const generate = node.op.reduction ? reductionKernel : elementwiseKernel;
    const name = nameOf(node, inlined);
    return [{ name, node, scope, writes: [node], ...generate(node, inlined, target) }];
  }
  if (!node.op.kernels) throw new PlanError(`plan: ${node.op.name} has no kernel`);
  const kernels = (start?: Start) =>
    inScope(
      scope,
      () =>
        beside
          ? beside.op.beside!.kernels(beside, target, beside.attrs, start)
          : node.op.kernels!(node, target, node.attrs, PLAIN, start),
    );
  const { specs, reads } = isStarted(node, inlined)
    ? startedKernels(node, inlined, kernels)!
    : { specs: kernels(), reads: node.inputs.map(inMemory) };
  const name = nameOf(node, inlined) + (beside ? ` + ${beside.op.name}` : "");
  const writes = [node, ...beside ? [beside] : []];
  return specs.map((spec): Step => ({ name, node, scope, spec, reads, writes }));
}

/** The names of a node and of all that is fused into it: `relu(add(mul(sub)))`. */
function nameOf(node: Tensor, inlined: InlinedNodes): string {
  const inner = [...new Set(node.inputs.filter((x) => inlined.has(x)))];
  const names = inner.map((x) => nameOf(x, inlined)).join(",");
  return names ? `${node.op.name}(${names})` : node.op.name;
}

/** What a plan computes only when a variable has changed. */
export interface Fixed {
  /** Numbers of the steps. */
  readonly steps: ReadonlySet<number>;
  /** Results of theirs that other steps read, which are kept from run to run. */
  readonly kept: ReadonlySet<Tensor>;
  /** The variables that they read. */
  readonly variables: readonly Variable[];
}

/** Bytes that are kept, at most, for each byte of the variables: training has as many of each. */
const KEPT = 4;
/** How many times as much a plan may move as the steps that are spared, to be worth the memory. */
const SHARE = 10;

/**
 * The steps that depend on constants and on variables which the plan does not update, such as the
 * transforms of kernels in evaluation; none if they are all, if they are a small part of the work, as
 * with large batches, or if their results take too much memory.
 */
export function fixedSteps({ steps, outputs, parts }: Steps): Fixed {
  const changed = new Set<Tensor>();
  for (const { writes } of steps) {
    writes.forEach((x) => x instanceof Variable && changed.add(wholeOf(x)));
  }
  /** Whether all that has been written to a tensor is fixed. */
  const known = new Map<Tensor, boolean>();
  const isFixed = (x: Tensor) =>
    x instanceof Variable
      ? !changed.has(wholeOf(x))
      : constantData(x) !== undefined || known.get(x) === true;
  for (const { reads, writes } of steps) {
    const all = reads.every(isFixed);
    for (const x of writes) {
      known.set(x, all && known.get(x) !== false && !(x instanceof Variable) && !parts.has(x));
    }
  }
  const fixed = new Set(
    [...steps.keys()].filter((i) => steps[i]!.writes.every((x) => known.get(x) === true)),
  );
  const results = new Set([...fixed].flatMap((i) => steps[i]!.writes));
  const others = steps.filter((_, i) => !fixed.has(i)).flatMap(({ reads }) => reads);
  const kept = new Set([...others, ...outputs].filter((x) => results.has(x)));
  const read = new Set([...fixed].flatMap((i) => steps[i]!.reads));
  const variables = [...read].filter((x) => x instanceof Variable);
  const bytes = (all: Iterable<Tensor>) =>
    [...all].reduce((sum, { dtype, size }) => sum + bytesOf(dtype, size), 0);
  const moved = (all: readonly Step[]) =>
    bytes(all.flatMap(({ reads, writes }) => [...reads, ...writes]));
  const small = SHARE * moved(steps.filter((_, i) => fixed.has(i))) < moved(steps);
  if (others.length === 0 || small || bytes(kept) > KEPT * bytes(variables)) {
    return { steps: new Set(), kept: new Set(), variables: [] };
  }
  return { steps: fixed, kept, variables };
}

/** Inputs that the steps read, by name. */
export function inputsOf(steps: readonly Step[], outputs: readonly Tensor[]): Map<string, Tensor> {
  const found = new Map<string, Tensor>();
  for (const node of [...steps.flatMap((step) => step.reads), ...outputs]) {
    const name = inputName(node);
    if (name === undefined) continue;
    const same = found.get(name);
    if (same && same !== node) throw new PlanError(`plan: two inputs are named "${name}"`);
    found.set(name, node);
  }
  return found;
}

/**
 * Of the tensors that steps need in memory, the one to make smaller for a device, undefined if all fit:
 * `what` it is, how many `times` the limit its bytes are, and the `largest` first dimension that fits
 * (undefined for a variable, which has no batch).
 */
export function oversized(
  { steps, outputs, parts }: Steps,
  { maxBindingBytes: limit }: Target,
): { what: string; times: number; largest: number | undefined } | undefined {
  const bytes = (x: Tensor) => bytesOf(x.dtype, x.size);
  const nodes = [
    ...steps.flatMap(({ reads, writes }) => [...reads, ...writes]),
    ...outputs,
    ...[...parts.values()].map(({ whole }) => whole),
  ];
  // What can be made smaller is the batch: the first dimension of the inputs.
  const batches = new Set(nodes.filter((x) => inputName(x)).map((x) => x.shape[0]));
  const rank = (x: Tensor) =>
    x instanceof Variable ? Infinity : (batches.has(x.shape[0]) ? 2 ** 40 : 1) * each(x);
  const each = (x: Tensor) => bytes(x) / x.shape[0]!;
  const worst = nodes.filter((x) => bytes(x) > limit).reduce<Tensor | undefined>(
    (most, x) => most && rank(most) >= rank(x) ? most : x,
    undefined,
  );
  return worst && {
    what:
      `${worst.op.name} ${formatShape(worst.shape)} takes ${bytes(worst)} bytes, more than this ` +
      `adapter's maxStorageBufferBindingSize of ${limit}`,
    times: bytes(worst) / limit,
    largest: worst instanceof Variable ? undefined : Math.floor(limit / each(worst)),
  };
}
