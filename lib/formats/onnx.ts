/**
 * A network in evaluation mode as an ONNX file, which other runtimes load.
 *
 * The network is run once without computing anything. Its layers are noted, and the graph is followed
 * from the logits back: a layer's output becomes that layer's ONNX operator, and the few ops that join
 * layers become operators too. So a block needs no code of its own here, only layers that are known.
 * Initializers have their state-dict keys, nodes their layers' paths.
 *
 * The format is protobuf; field numbers are those of `onnx.proto`
 * (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). ONNX is written and not read, without
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
import { BatchNorm1d, BatchNorm2d } from "../nn/normalization.ts";
import { collectCalls, evaluating, Module, type ModuleCall, type StateDict } from "../nn/module.ts";
import { Add, Relu } from "../ops/expression.ts";
import { checkAvgPool, checkPool, type PoolAttrs } from "../ops/pool.ts";
import { checkInstance, checkObject, checkOptions, checkString } from "../check/arguments.ts";
import { checkShape } from "../graph/shape.ts";
import { input, type Op, type Tensor, type Variable } from "../graph/tensor.ts";

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
  FLOAT_DATA = 1;

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
  /** Numbers; none for an input that is left out. */
  readonly constants?: readonly Float32Array<ArrayBuffer>[];
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

/** A factor in single precision that makes `to` pixels of `from`, however a runtime multiplies. */
function factorFor(from: number, to: number, wanted: number): number {
  const [factor] = Float32Array.of(wanted) as unknown as [number];
  return Math.floor(factor * from) === to ? factor : factor * (1 + 2 ** -23);
}

/** How a layer is written, given what it got and what it returned; a text if it cannot be, and why. */
type Writer = (layer: Module, x: Tensor, y: Tensor) => Operator | string;

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
  [BatchNorm2d, (layer) => {
    const { weight, bias, runningMean, runningVar, eps } = layer as BatchNorm2d;
    return {
      type: "BatchNormalization",
      variables: [weight, bias, runningMean, runningVar],
      attributes: { epsilon: { float: eps } },
    };
  }],
  [Linear, (layer) => {
    const { weight, bias } = layer as Linear;
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
    const factors = [2, 3].map((axis) => {
      const [from, to] = [x.shape[axis]!, y.shape[axis]!];
      const given = typeof scaleFactor === "object" ? scaleFactor[axis - 2] : scaleFactor;
      return factorFor(from, to, given ?? to / from);
    });
    const linear = alignCorners ? "align_corners" : "half_pixel";
    return {
      type: "Resize",
      constants: [new Float32Array(), Float32Array.of(1, 1, ...factors)],
      attributes: {
        mode: { text: mode === "nearest" ? mode : "linear" },
        coordinate_transformation_mode: { text: mode === "nearest" ? "asymmetric" : linear },
        nearest_mode: { text: "floor" },
      },
    };
  }],
  [ReLU, () => ({ type: "Relu" })],
  [GlobalAvgPool2d, () => ({ type: "GlobalAveragePool" })],
  [Flatten, () => ({ type: "Flatten" })],
]);

/** The ops between layers; they broadcast as ONNX does. */
const OPS: ReadonlyMap<Op, string> = new Map([[Add, "Add"], [Relu, "Relu"]]);

/** Nodes and initializers, written as the graph is followed. */
class Graph {
  readonly nodes: Message[] = [];
  readonly initializers = new Map<string, Message>();
  readonly #values = new Map<Tensor, string>();
  readonly #names: Set<string>;
  /** The call of a known layer that gave a tensor. */
  readonly #calls = new Map<Tensor, ModuleCall>();
  readonly #keys: ReadonlyMap<Variable, string>;

  constructor(net: Module, calls: readonly ModuleCall[], readonly state: StateDict) {
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
    const call = this.#calls.get(tensor);
    const { layer } = tensor.scope, { name: op } = tensor.op;
    const written = call
      ? LAYERS.get(call.module.constructor)!(call.module, call.x, call.y)
      : { type: OPS.get(tensor.op) };
    if (typeof written === "string") {
      throw new OnnxError(
        `onnx: layer ${layer}, a ${
          call!.module.constructor.name
        }, ${written}: ONNX has no operator ` +
          "for that",
      );
    }
    const { type, variables = [], constants = [], attributes = {} } = written as Operator;
    if (!type) {
      throw new OnnxError(
        `onnx: ${layer ? `layer ${layer}` : "the network"} has a ${op} that no known layer made; ` +
          `known are ${
            [...LAYERS.keys()].map((kind) => (kind as typeof Conv2d).name).join(", ")
          } ` +
          `and, between them, ${[...OPS.keys()].map(({ name }) => name).join(", ")}`,
      );
    }
    const inputs = (call ? [call.x] : tensor.inputs).map((x) => this.value(x));
    const name = this.#unused(call ? layer : [layer, op].filter(Boolean).join("."));
    const message = new Message();
    for (const value of inputs) message.bytes(1, value);
    for (const variable of variables) if (variable) message.bytes(1, this.#initializer(variable));
    constants.forEach((data, i) => {
      const key = data.length > 0 ? this.#unused(`${name}.${i}`) : "";
      if (key) this.#write(key, [data.length], data);
      message.bytes(1, key);
    });
    message.bytes(2, output ?? name).bytes(3, name).bytes(4, type);
    for (const [key, value] of Object.entries(attributes)) message.bytes(5, attribute(key, value));
    this.nodes.push(message);
    return output ?? name;
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

  #initializer(variable: Variable): string {
    const key = this.#keys.get(variable)!, { shape, data } = this.state.get(key)!;
    this.#write(key, shape, data);
    return key;
  }

  #write(key: string, shape: readonly number[], data: Float32Array): void {
    const message = new Message();
    for (const size of shape) message.int(1, size);
    message.int(2, FLOAT_DATA).bytes(8, key)
      .bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    this.initializers.set(key, message);
  }
}

/** Settings of an ONNX file. */
export interface OnnxOptions {
  /** Sizes of an image, `[C, H, W]`; the batch may have any. */
  readonly shape: readonly [channels: number, height: number, width: number];
  /** A description of the images. */
  readonly images?: string;
  /** Further facts, by name: ONNX's `metadata_props`. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** The version of the library that wrote it. */
  readonly version?: string;
}

/**
 * A network in evaluation mode as an ONNX file: input `images` `[N, C, H, W]`, output `logits`, for any
 * batch size N. It has opset 15 and IR version 8 (ONNX 1.10), which onnxruntime reads since 1.10.
 *
 * @throws {ArgumentError} if an argument or option is of another kind.
 * @throws {OnnxError} if an op has no counterpart, naming its layer.
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
  const x = input("images", [1, ...shape]);
  const { result: logits, calls } = evaluating(net, () => collectCalls(() => net.call(x)));
  const graph = new Graph(net, calls, await net.stateDict());
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
