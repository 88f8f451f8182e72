/**
 * A network in evaluation mode as an ONNX file, which other runtimes load.
 *
 * The network's graph is built for two sizes of a batch: where shapes differ, they have the batch
 * in them. Then the graph is followed from the logits back. The output of a layer in {@link LAYERS}
 * becomes that layer's operator; otherwise, ops become operators by {@link OPS}. So a block needs
 * no code of its own here, only layers and ops that are known. Initializers have their state-dict
 * keys, nodes their layers' paths.
 *
 * The format is protobuf; field numbers are those of `onnx.proto`
 * (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). ONNX is only written, and not for
 * training. Batch norms are not folded: other runtimes do that when they load the file.
 *
 * @module
 */

import {
  AdaptiveAvgPool2d,
  AvgPool2d,
  Conv2d,
  ConvTranspose2d,
  Flatten,
  GlobalAvgPool2d,
  Linear,
  MaxPool2d,
  ReLU,
  Upsample,
} from "../nn/layers.ts";
import { type BatchNorm, BatchNorm1d, BatchNorm2d } from "../nn/normalization.ts";
import { collectCalls, evaluating, Module, type ModuleCall, type StateDict } from "../nn/module.ts";
import { ELU, LeakyReLU } from "../nn/activations.ts";
import { sigmoid, tanh } from "../ops/activation.ts";
import { clamp, maximum, minimum } from "../ops/compare.ts";
import {
  abs,
  add,
  cos,
  div,
  erf,
  exp,
  floor,
  log,
  mul,
  neg,
  pow,
  relu,
  round,
  sign,
  sin,
  softplus,
  sqrt,
  square,
  sub,
} from "../ops/elementwise.ts";
import { logSoftmax } from "../ops/classification.ts";
import { matmul } from "../ops/matmul.ts";
import { sum } from "../ops/reduce.ts";
import { concat, slice } from "../ops/slice.ts";
import { broadcastTo, permute, reshape, select } from "../ops/view.ts";
import { checkAvgPool, checkPool, type PoolAttrs } from "../ops/pool.ts";
import { nearestPixel } from "../ops/resample.ts";
import { checkInstance, checkObject, checkOptions, checkString } from "../check/arguments.ts";
import { checkShape } from "../graph/shape.ts";
import { constantData, input, type Op, type Tensor, Variable } from "../graph/tensor.ts";

/** A network that has no ONNX form here; the message names the layer and the op. */
export class OnnxError extends Error {
  /** `OnnxError`. */
  override name = "OnnxError";
}

/**
 * The operator set: the oldest in which all that is written here is as it is today (batch norms
 * changed last). A runtime reads those older than itself, so the more of them can read the file.
 */
const OPSET = 15;
/** The file format that goes with it. */
const IR_VERSION = 8;
/** Values of `AttributeProto.AttributeType` and `TensorProto.DataType`. */
const FLOAT_ATTRIBUTE = 1,
  INT_ATTRIBUTE = 2,
  STRING_ATTRIBUTE = 3,
  INTS_ATTRIBUTE = 7,
  FLOAT_DATA = 1,
  INT64_DATA = 7;

/** A message of protobuf's wire format: fields one after the other. */
class Message {
  readonly #parts: Uint8Array[] = [];

  /** A whole number ≥ 0. */
  int(field: number, value: number): this {
    return this.#varint(field * 8).#varint(value);
  }

  /** A 32-bit float. */
  float(field: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    this.#varint(field * 8 + 5).#parts.push(bytes);
    return this;
  }

  /** Text, bytes or a message. */
  bytes(field: number, value: string | Uint8Array | Message): this {
    const parts = value instanceof Message
      ? value.#parts
      : [typeof value === "string" ? new TextEncoder().encode(value) : value];
    this.#varint(field * 8 + 2).#varint(length(parts)).#parts.push(...parts);
    return this;
  }

  /** The message's bytes. */
  encode(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length(this.#parts));
    let at = 0;
    for (const part of this.#parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  #varint(value: number): this {
    const bytes: number[] = [];
    for (; value > 127; value = Math.floor(value / 128)) bytes.push(value % 128 + 128);
    this.#parts.push(Uint8Array.of(...bytes, value));
    return this;
  }
}

const length = (parts: readonly Uint8Array[]) => parts.reduce((sum, part) => sum + part.length, 0);

/** An attribute of an operator: whole numbers, or one of `{ int }`, `{ float }` and `{ text }`. */
type Attribute =
  | readonly number[]
  | { readonly int: number }
  | { readonly float: number }
  | { readonly text: string };

function attribute(name: string, value: Attribute): Message {
  const message = new Message().bytes(1, name);
  if ("float" in value) return message.float(2, value.float).int(20, FLOAT_ATTRIBUTE);
  if ("text" in value) return message.bytes(4, value.text).int(20, STRING_ATTRIBUTE);
  if ("int" in value) return message.int(3, value.int).int(20, INT_ATTRIBUTE);
  for (const item of value) message.int(8, item);
  return message.int(20, INTS_ATTRIBUTE);
}

/** The graph's input or output: f32, of given sizes or, by name, any. */
function valueInfo(name: string, sizes: readonly (number | string)[], doc: string): Message {
  const shape = new Message();
  for (const size of sizes) {
    const dimension = new Message();
    shape.bytes(1, typeof size === "number" ? dimension.int(1, size) : dimension.bytes(2, size));
  }
  const tensor = new Message().int(1, FLOAT_DATA).bytes(2, shape);
  return new Message().bytes(1, name).bytes(2, new Message().bytes(1, tensor)).bytes(3, doc);
}

/** An operator: its type, the variables and numbers after its first input, and its attributes. */
interface Operator {
  readonly type: string;
  /** Numbers; none for an input that is left out. Whole ones are a list, or one of them. */
  readonly constants?: readonly (Float32Array<ArrayBuffer> | readonly number[] | number)[];
  /** What it reads instead of the node's inputs. */
  readonly inputs?: readonly Tensor[];
  readonly variables?: readonly (Variable | undefined)[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
}

/** `pads`: above, left, below, right. */
const around = (padding: readonly number[]) => [...padding, ...padding];

/**
 * The windows of a pool. Those that may end outside end in more padding, since `ceil_mode` is not the
 * same in all runtimes; `beyond` tells whether any does.
 */
function poolWindows({ kernel, stride, padding }: PoolAttrs, x: Tensor, y: Tensor) {
  const ends = [0, 1].map((axis) => {
    const last = (y.shape[2 + axis]! - 1) * stride[axis]! - padding[axis]!;
    return Math.max(padding[axis]!, last + kernel[axis]! - x.shape[2 + axis]!);
  });
  return {
    attributes: { kernel_shape: kernel, strides: stride, pads: [...padding, ...ends] },
    beyond: ends.some((end, axis) => end > padding[axis]!),
  };
}

/** The numbers of single precision next to a positive one, the nearest first. */
function* near(value: number): Generator<number> {
  const float = Float32Array.of(value), bits = new Int32Array(float.buffer), [middle] = bits;
  for (const step of [0, 1, -1, 2, -2, 3, -3, 4, -4]) {
    bits[0] = middle! + step;
    yield float[0]!;
  }
}

/**
 * A factor in single precision that makes `to` pixels of `from`, in that precision and in double, since
 * runtimes count in either; and that leads from each of them to its `pixel`, where they are not mixed.
 */
function factorFor(
  from: number,
  to: number,
  wanted: number,
  pixel?: (i: number) => number,
): number | undefined {
  return [...near(wanted)].find((factor) => {
    const made = factor * from;
    if (Math.floor(made) !== to || Math.floor(Math.fround(made)) !== to) return false;
    for (let i = 0; pixel && i < to; i++) {
      if (Math.min(Math.floor(Math.fround(i / factor)), from - 1) !== pixel(i)) return false;
    }
    return true;
  });
}

/**
 * How a layer is written, given what it got and what it returned; a text if it cannot be, and why;
 * undefined if it is by the ops that it is made of.
 */
type Writer = (layer: Module, x: Tensor, y: Tensor) => Operator | string | undefined;

const batchNorm: Writer = (layer) => {
  const { weight, bias, runningMean, runningVar, eps } = layer as BatchNorm;
  if (!weight || !runningMean) return undefined;
  return {
    type: "BatchNormalization",
    variables: [weight, bias, runningMean, runningVar],
    attributes: { epsilon: { float: eps } },
  };
};

/** How layers are written. A class derived from one of them may compute anything: it is not known. */
const LAYERS: ReadonlyMap<unknown, Writer> = new Map<unknown, Writer>([
  [Conv2d, (layer) => {
    const { weight, bias, kernelSize, stride, padding, dilation, groups } = layer as Conv2d;
    const zeros = kernelSize.map((taps, axis) => dilation[axis]! * (taps - 1));
    const attributes = {
      kernel_shape: kernelSize,
      strides: stride,
      pads: padding === "same"
        ? [...zeros.map((n) => Math.floor(n / 2)), ...zeros.map((n) => Math.ceil(n / 2))]
        : around(padding),
      ...dilation.some((step) => step > 1) && { dilations: dilation },
      ...groups > 1 && { group: { int: groups } },
    };
    return { type: "Conv", variables: [weight, bias], attributes };
  }],
  [ConvTranspose2d, (layer) => {
    const { weight, bias, kernelSize, stride, padding, ...rest } = layer as ConvTranspose2d;
    const attributes = {
      kernel_shape: kernelSize,
      strides: stride,
      pads: around(padding),
      output_padding: rest.outputPadding,
      dilations: rest.dilation,
      group: { int: rest.groups },
    };
    return { type: "ConvTranspose", variables: [weight, bias], attributes };
  }],
  [BatchNorm1d, batchNorm],
  [BatchNorm2d, batchNorm],
  [Linear, (layer, x) => {
    const { weight, bias } = layer as Linear;
    if (x.rank !== 2) return undefined;
    return { type: "Gemm", variables: [weight, bias], attributes: { transB: { int: 1 } } };
  }],
  [MaxPool2d, (layer, x, y) => {
    const attrs = checkPool("MaxPool2d", (layer as MaxPool2d).options);
    return { type: "MaxPool", attributes: poolWindows(attrs, x, y).attributes };
  }],
  [AvgPool2d, (layer, x, y) => {
    const { countIncludePad, ...attrs } = checkAvgPool("AvgPool2d", (layer as AvgPool2d).options);
    const { attributes, beyond } = poolWindows(attrs, x, y);
    const counted = countIncludePad && attrs.padding.some((size) => size > 0);
    if (counted && beyond) return "counts the padding, but not what is beyond it";
    const int = counted ? 1 : 0;
    return { type: "AveragePool", attributes: { ...attributes, count_include_pad: { int } } };
  }],
  [AdaptiveAvgPool2d, (_, x, y) => {
    const [from, to] = [x.shape.slice(2), y.shape.slice(2)];
    if (to.every((size) => size === 1)) return { type: "GlobalAveragePool" };
    const kernel = from.map((size, axis) => size / to[axis]!);
    if (!kernel.every(Number.isInteger)) return `takes means of unequal blocks, ${from} to ${to}`;
    return { type: "AveragePool", attributes: { kernel_shape: kernel, strides: kernel } };
  }],
  [Upsample, (layer, x, y) => {
    const { scaleFactor, mode = "nearest", alignCorners } = (layer as Upsample).options;
    const [down, across] = [2, 3].map((axis) => {
      const [from, to] = [x.shape[axis]!, y.shape[axis]!];
      const given = typeof scaleFactor === "object" ? scaleFactor[axis - 2] : scaleFactor;
      const scale = given === undefined ? from / to : 1 / given;
      const pixel = (i: number) => nearestPixel(scale, from, i);
      return factorFor(from, to, given ?? to / from, mode === "nearest" ? pixel : undefined);
    });
    if (down === undefined || across === undefined) {
      return "takes pixels that no factor of single precision leads to";
    }
    const linear = alignCorners ? "align_corners" : "half_pixel";
    return {
      type: "Resize",
      constants: [new Float32Array(), Float32Array.of(1, 1, down, across)],
      attributes: {
        mode: { text: mode === "nearest" ? mode : "linear" },
        coordinate_transformation_mode: { text: mode === "nearest" ? "asymmetric" : linear },
        nearest_mode: { text: "floor" },
      },
    };
  }],
  [ELU, (layer) => {
    const { alpha = 1 } = (layer as ELU).options;
    return { type: "Elu", attributes: { alpha: { float: alpha } } };
  }],
  [LeakyReLU, (layer) => {
    const { negativeSlope = 0.01 } = (layer as LeakyReLU).options;
    return { type: "LeakyRelu", attributes: { alpha: { float: negativeSlope } } };
  }],
  [ReLU, () => ({ type: "Relu" })],
  [GlobalAvgPool2d, () => ({ type: "GlobalAveragePool" })],
  [Flatten, () => ({ type: "Flatten" })],
]);

/** Two sizes of a batch, and neither is 1: what is broadcast to a batch of one is not broadcast. */
const BATCHES = [2, 3] as const;

/** How an op is written, given a node of it and the same node for another size of the batch. */
type OpWriter = (node: Tensor, twin: Tensor) => Operator | string;

/** The op of what `f` makes of matrices. */
const opOf = (f: (x: Tensor) => Tensor): Op => f(input("x", [2, 2])).op;

/** The sizes of a result, -1 for the one that is the batch's. */
function sizesOf({ shape }: Tensor, twin: Tensor): number[] | undefined {
  const sizes = shape.map((size, axis) => size === twin.shape[axis] ? size : -1);
  return sizes.filter((size) => size < 0).length > 1 ? undefined : sizes;
}

/** Ops that are operators as they are; both broadcast alike. */
const PLAIN: [string, (x: Tensor) => Tensor][] = [
  ["Abs", abs],
  ["Add", (x) => add(x, x)],
  ["Clip", (x) => clamp(x, { min: 0 })],
  ["Cos", cos],
  ["Div", (x) => div(x, x)],
  ["Erf", erf],
  ["Exp", exp],
  ["Floor", floor],
  ["Log", log],
  ["MatMul", (x) => matmul(x, x)],
  ["Max", (x) => maximum(x, x)],
  ["Min", (x) => minimum(x, x)],
  ["Mul", (x) => mul(x, x)],
  ["Neg", neg],
  ["Pow", (x) => pow(x, x)],
  ["Relu", relu],
  ["Round", round],
  ["Sigmoid", sigmoid],
  ["Sign", sign],
  ["Sin", sin],
  ["Softplus", softplus],
  ["Sqrt", sqrt],
  ["Sub", (x) => sub(x, x)],
  ["Tanh", tanh],
];

/** How ops are written that no known layer made. */
const OPS: ReadonlyMap<Op, OpWriter> = new Map<Op, OpWriter>([
  ...PLAIN.map(([type, f]): [Op, OpWriter] => [opOf(f), () => ({ type })]),
  [opOf(square), ({ inputs: [x] }) => ({ type: "Mul", inputs: [x!, x!] })],
  [opOf(logSoftmax), ({ rank }) => ({
    type: "LogSoftmax",
    attributes: { axis: { int: rank - 1 } },
  })],
  [opOf((x) => sum(x, [0], { keepDims: true })), ({ attrs }) => ({
    type: "ReduceSum",
    constants: [attrs["axes"] as number[]],
  })],
  [opOf((x) => concat([x, x])), ({ attrs }) => ({
    type: "Concat",
    attributes: { axis: { int: attrs["axis"] as number } },
  })],
  [opOf((x) => permute(x, [1, 0])), ({ attrs }) => ({
    type: "Transpose",
    attributes: { perm: attrs["order"] as number[] },
  })],
  [
    opOf((x) => select(x, 0)),
    ({ attrs }, twin) =>
      attrs["index"] === twin.attrs["index"]
        ? { type: "Gather", constants: [attrs["index"] as number] }
        : "takes a part of a batch",
  ],
  [opOf((x) => reshape(x, [4])), (node, twin) => {
    // A list of no sizes would be an input that is left out.
    if (node.rank === 0) return { type: "Squeeze" };
    const sizes = sizesOf(node, twin);
    return sizes
      ? { type: "Reshape", constants: [sizes] }
      : "has a shape with the batch in it twice";
  }],
  [opOf((x) => slice(x, [[1]])), (node, twin) => {
    const { starts, steps } = node.attrs as Record<string, number[]>, [x] = node.inputs;
    const axes = [...node.shape.keys()].filter((axis) =>
      starts![axis] !== 0 || steps![axis] !== 1 || node.shape[axis] !== x!.shape[axis]
    );
    const { starts: others } = twin.attrs as Record<string, number[]>;
    const differs = (axis: number) =>
      node.shape[axis] !== twin.shape[axis] || starts![axis] !== others![axis];
    if (axes.some(differs)) {
      return "takes a part of a batch";
    }
    const ends = axes.map((axis) => {
      const end = starts![axis]! + node.shape[axis]! * steps![axis]!;
      return end < 0 ? -(2 ** 31) : end; // -1 would be the last
    });
    const [first, apart] = [starts, steps].map((list) => axes.map((axis) => list![axis]!));
    return { type: "Slice", constants: [first!, ends, axes, apart!] };
  }],
  [opOf((x) => broadcastTo(x, [1, 2, 2])), (node, twin) => {
    const [x] = node.inputs, lead = node.rank - x!.rank;
    // A side that is not broadcast stays as it is, which is said by a 1.
    const sizes = sizesOf(node, twin)?.map((size, axis) =>
      size < 0 && x!.shape[axis - lead] === node.shape[axis] ? 1 : size
    );
    if (!sizes) return "has a shape with the batch in it twice";
    const isMultiple = sizes.some((size, axis) => size < 0 && node.shape[axis] !== BATCHES[0]);
    return isMultiple
      ? "fills several times the batch's size"
      : { type: "Expand", constants: [sizes] };
  }],
]);

/** Nodes and initializers, written as the graph is followed. */
class Graph {
  readonly nodes: Message[] = [];
  readonly initializers = new Map<string, Message>();
  readonly #values = new Map<Tensor, string>();
  readonly #names: Set<string>;
  /** The call of a known layer that gave a tensor. */
  readonly #calls = new Map<Tensor, ModuleCall>();
  readonly #keys: ReadonlyMap<Variable, string>;
  /** Each node's twin in the graph for another batch. */
  readonly #twins = new Map<Tensor, Tensor>();

  constructor(
    net: Module,
    calls: readonly ModuleCall[],
    readonly state: StateDict,
    result: Tensor,
    twin: Tensor,
  ) {
    this.#pair(result, twin);
    // Of a variable with several names the first is the initializer's, which is written once.
    this.#keys = new Map(net.namedVariables().reverse().map(([key, variable]) => [variable, key]));
    this.#names = new Set(this.#keys.values());
    const note = (call: ModuleCall) => {
      // A layer that returns its input writes no operator.
      if (LAYERS.has(call.module.constructor) && call.x !== call.y) this.#calls.set(call.y, call);
      call.calls.forEach(note);
    };
    calls.forEach(note);
  }

  #pair(node: Tensor, twin: Tensor): void {
    if (this.#twins.has(node)) return;
    if (node.op.name !== twin.op.name || node.inputs.length !== twin.inputs.length) {
      throw new OnnxError("onnx: the network's graph changes with the size of the batch");
    }
    this.#twins.set(node, twin);
    node.inputs.forEach((x, i) => this.#pair(x, twin.inputs[i]!));
  }

  /** Gives a tensor its name. */
  name(tensor: Tensor, name: string): void {
    this.#values.set(tensor, name);
    this.#names.add(name);
  }

  /** Writes the nodes that compute a tensor, and returns the value's name. */
  value(tensor: Tensor): string {
    const known = this.#values.get(tensor);
    if (known !== undefined) return known;
    const name = this.#node(tensor);
    this.#values.set(tensor, name);
    return name;
  }

  /** Writes the node that computes a tensor, its output called `output` or like itself. */
  #node(tensor: Tensor, output?: string): string {
    const { layer } = tensor.scope, { name: op } = tensor.op;
    const where = layer ? `layer ${layer}` : "the network";
    if (tensor instanceof Variable) return this.#initializer(tensor, where);
    const data = constantData(tensor), twin = this.#twins.get(tensor)!;
    if (data instanceof Float32Array) {
      const other = constantData(twin) as Float32Array;
      if (data.length !== other.length || !data.every((x, i) => Object.is(x, other[i]))) {
        throw new OnnxError(`onnx: ${where} has numbers that change with the size of the batch`);
      }
      const key = this.#unused([layer, "constant"].filter(Boolean).join("."));
      this.#write(key, tensor.shape, data);
      return key;
    }
    const call = this.#calls.get(tensor), kind = call?.module.constructor;
    const ofLayer = call && LAYERS.get(kind)!(call.module, call.x, call.y);
    const written = ofLayer ?? OPS.get(tensor.op)?.(tensor, twin);
    if (typeof written === "string") {
      const what = ofLayer ? `, a ${kind!.name}, ${written}` : `'s ${op} ${written}`;
      throw new OnnxError(`onnx: ${where}${what}: ONNX has no operator for that`);
    }
    if (!written) {
      throw new OnnxError(
        `onnx: ${where} has a ${op} that no known layer made; known are the layers ${
          [...LAYERS.keys()].map((kind) => (kind as typeof Conv2d).name).join(", ")
        } and the ops ${[...OPS.keys()].map(({ name }) => name).join(", ")}`,
      );
    }
    const { type, variables = [], constants = [], attributes = {}, inputs = tensor.inputs } =
      written;
    const values = (ofLayer ? [call!.x] : inputs).map((x) => this.value(x));
    const name = this.#unused(ofLayer ? layer : [layer, op].filter(Boolean).join("."));
    const message = new Message();
    for (const value of values) message.bytes(1, value);
    for (const variable of variables) {
      if (variable) message.bytes(1, this.#initializer(variable, where));
    }
    constants.forEach((given, i) => {
      if (type === "Expand") {
        message.bytes(1, this.#sizes(name, given as number[]));
        return;
      }
      const data = given instanceof Float32Array
        ? given
        : BigInt64Array.from([given].flat(), BigInt);
      const key = data.length > 0 ? this.#unused(`${name}.${i}`) : "";
      if (key) this.#write(key, typeof given === "number" ? [] : [data.length], data);
      message.bytes(1, key);
    });
    message.bytes(2, output ?? name).bytes(3, name).bytes(4, type);
    for (const [key, value] of Object.entries(attributes)) message.bytes(5, attribute(key, value));
    this.nodes.push(message);
    return output ?? name;
  }

  /** Writes the sizes of a shape as numbers, the batch's, -1, read from the images; their name. */
  #sizes(name: string, sizes: readonly number[]): string {
    const whole = this.#unused(`${name}.shape`);
    const write = (key: string, sizes: readonly number[]) => {
      this.#write(key, [sizes.length], BigInt64Array.from(sizes, BigInt));
      return key;
    };
    const at = sizes.indexOf(-1);
    if (at < 0) return write(whole, sizes);
    const batch = this.#unused(`${name}.batch`);
    const node = (
      type: string,
      inputs: readonly string[],
      output: string,
      more: [string, number][],
    ) => {
      const message = new Message();
      for (const input of inputs) message.bytes(1, input);
      message.bytes(2, output).bytes(3, output).bytes(4, type);
      for (const [key, int] of more) message.bytes(5, attribute(key, { int }));
      this.nodes.push(message);
    };
    node("Shape", ["images"], batch, [["start", 0], ["end", 1]]);
    const parts = [
      ...at > 0 ? [write(this.#unused(`${whole}.0`), sizes.slice(0, at))] : [],
      batch,
      ...at + 1 < sizes.length ? [write(this.#unused(`${whole}.1`), sizes.slice(at + 1))] : [],
    ];
    node("Concat", parts, whole, [["axis", 0]]);
    return whole;
  }

  /** Writes the node whose output is the graph's. */
  output(tensor: Tensor, name: string): void {
    this.#names.add(name);
    this.#node(tensor, name);
  }

  #unused(name: string): string {
    let unused = name;
    for (let i = 1; this.#names.has(unused); i++) unused = `${name}_${i}`;
    this.#names.add(unused);
    return unused;
  }

  #initializer(variable: Variable, where: string): string {
    const key = this.#keys.get(variable);
    if (key === undefined) {
      throw new OnnxError(`onnx: ${where} reads a variable that is not in the state dict`);
    }
    const { shape, data } = this.state.get(key)!;
    this.#write(key, shape, data);
    return key;
  }

  #write(
    key: string,
    shape: readonly number[],
    data: Float32Array<ArrayBuffer> | BigInt64Array<ArrayBuffer>,
  ): void {
    const message = new Message();
    for (const size of shape) message.int(1, size);
    message.int(2, data instanceof Float32Array ? FLOAT_DATA : INT64_DATA).bytes(8, key)
      .bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    this.initializers.set(key, message);
  }
}

/** Settings of an ONNX file. */
export interface OnnxOptions {
  /** Sizes of an image, `[C, H, W]`. The file takes batches of any size. */
  readonly shape: readonly [channels: number, height: number, width: number];
  /** A description of the input, for people: how images are prepared, say. None by default. */
  readonly images?: string;
  /** Further texts by name, for ONNX's `metadata_props`; none by default. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Version of the writing program, for ONNX's `producer_version`; empty by default. */
  readonly version?: string;
}

/**
 * Writes a network in evaluation mode as an ONNX file. Its input is `images`, `[N, C, H, W]` for
 * any batch size N, and its output is `logits`. It has opset 15 and IR version 8 (ONNX 1.10), which
 * onnxruntime reads since 1.10. Weights keep their state-dict keys, and nodes are named after their
 * layers.
 *
 * @throws {ArgumentError} if an argument or option is of another kind.
 * @throws {ShapeError} if images of this shape do not fit the network.
 * @throws {OnnxError} if something cannot be written as ONNX; the message names the layer and the
 * op.
 *
 * @example
 * ```ts
 * import { encodeOnnx, Flatten, Linear, Sequential } from "@resnette/resnette";
 * import { assertStringIncludes } from "@std/assert";
 *
 * const net = new Sequential(new Flatten(), new Linear(4, 2));
 * const file = await encodeOnnx(net, { shape: [1, 2, 2] });
 * assertStringIncludes(new TextDecoder().decode(file), "1.weight");
 * ```
 */
export async function encodeOnnx(
  net: Module,
  options: OnnxOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  checkInstance("encodeOnnx", "net", net, Module);
  checkOptions("encodeOnnx", options, ["shape", "images", "metadata", "version"]);
  const { shape, images = "", metadata = {}, version = "" } = options;
  checkShape("encodeOnnx", shape);
  checkString("encodeOnnx", "images", images);
  checkString("encodeOnnx", "version", version);
  checkObject("encodeOnnx", "metadata", metadata);
  for (const [key, value] of Object.entries(metadata)) {
    checkString("encodeOnnx", `metadata.${key}`, value);
  }
  const [x, other] = BATCHES.map((n) => input("images", [n, ...shape])) as [Tensor, Tensor];
  const { result: logits, calls } = evaluating(net, () => collectCalls(() => net.call(x)));
  const twin = evaluating(net, () => net.call(other));
  const graph = new Graph(net, calls, await net.stateDict(), logits, twin);
  graph.name(x, "images");
  graph.output(logits, "logits");

  const message = new Message();
  for (const node of graph.nodes) message.bytes(1, node);
  message.bytes(2, "resnette");
  for (const initializer of graph.initializers.values()) message.bytes(5, initializer);
  message.bytes(11, valueInfo("images", ["N", ...shape], images));
  message.bytes(12, valueInfo("logits", ["N", ...logits.shape.slice(1)], "before softmax"));
  const model = new Message().int(1, IR_VERSION).bytes(2, "resnette").bytes(3, version)
    .bytes(7, message).bytes(8, new Message().bytes(1, "").int(2, OPSET));
  for (const [key, value] of Object.entries(metadata)) {
    model.bytes(14, new Message().bytes(1, key).bytes(2, value));
  }
  return model.encode();
}
