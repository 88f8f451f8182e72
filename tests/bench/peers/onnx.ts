/**
 * A network in eval mode as an ONNX file (opset 17, any batch size): what onnxruntime runs in
 * `deno task bench:peers`. The format is protobuf; field numbers are those of `onnx.proto`
 * (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
 *
 * @module
 */

import {
  BatchNorm2d,
  Conv2d,
  Flatten,
  GlobalAvgPool2d,
  Linear,
  MaxPool2d,
  type Module,
  ReLU,
  Residual,
  Sequential,
  type StateDict,
} from "@resnette/resnette";

/** The wire format of protobuf: fields one after the other. */
class Message {
  readonly #parts: Uint8Array[] = [];

  /** A whole number ≥ 0. */
  int(field: number, value: number): this {
    return this.#varint(field << 3).#varint(value);
  }

  /** A 32-bit float. */
  float(field: number, value: number): this {
    this.#varint(field << 3 | 5).#parts.push(new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }

  /** Text, bytes or a message. */
  bytes(field: number, value: string | Uint8Array | Message): this {
    const bytes = typeof value === "string"
      ? new TextEncoder().encode(value)
      : value instanceof Message
      ? value.encode()
      : value;
    this.#varint(field << 3 | 2).#varint(bytes.length).#parts.push(bytes);
    return this;
  }

  /** The message's bytes. */
  encode(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#parts.reduce((sum, { length }) => sum + length, 0));
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

/** Values of `AttributeProto.AttributeType` and `TensorProto.DataType`. */
const [FLOAT_ATTRIBUTE, INT_ATTRIBUTE, INTS_ATTRIBUTE, FLOAT_DATA] = [1, 2, 7, 1];

/** An attribute: a list of whole numbers, or `{ float }`, or `{ int }`. */
type Attribute = readonly number[] | { readonly float: number } | { readonly int: number };

function attribute(name: string, value: Attribute): Message {
  const message = new Message().bytes(1, name);
  if ("float" in value) return message.float(2, value.float).int(20, FLOAT_ATTRIBUTE);
  if ("int" in value) return message.int(3, value.int).int(20, INT_ATTRIBUTE);
  for (const item of value) message.int(8, item);
  return message.int(20, INTS_ATTRIBUTE);
}

/** A graph's input or output: f32, of given sizes or, by name, any. */
function valueInfo(name: string, shape: readonly (number | string)[]): Message {
  const sizes = new Message();
  for (const size of shape) {
    const dimension = new Message();
    sizes.bytes(1, typeof size === "number" ? dimension.int(1, size) : dimension.bytes(2, size));
  }
  const tensor = new Message().int(1, FLOAT_DATA).bytes(2, sizes);
  return new Message().bytes(1, name).bytes(2, new Message().bytes(1, tensor));
}

/** Nodes and initializers of a graph, written as the network is walked. */
class Graph {
  readonly nodes: Message[] = [];
  readonly initializers: Message[] = [];

  constructor(readonly state: StateDict) {}

  /** Appends a node, whose output has its name. */
  node(
    type: string,
    name: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, Attribute>> = {},
  ): string {
    const message = new Message();
    for (const input of inputs) message.bytes(1, input);
    message.bytes(2, name).bytes(3, name).bytes(4, type);
    for (const [key, value] of Object.entries(attributes)) message.bytes(5, attribute(key, value));
    this.nodes.push(message);
    return name;
  }

  /** The initializers of a layer, by their state-dict keys. */
  weights(layer: string, names: readonly string[]): string[] {
    return names.map((name) => {
      const key = `${layer}.${name}`;
      const entry = this.state.get(key);
      if (!entry) throw new Error(`onnx: the state dict has no ${key}`);
      const { shape, data } = entry;
      const message = new Message();
      for (const size of shape) message.int(1, size);
      message.int(2, FLOAT_DATA).bytes(8, key)
        .bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      this.initializers.push(message);
      return key;
    });
  }

  /** Appends a module that is named `name`, and everything in it; the name of its output. */
  module(module: Module, name: string, x: string): string {
    if (module instanceof Sequential) {
      const prefix = name && `${name}.`;
      return module.namedChildren()
        .reduce((value, [child, layer]) => this.module(layer, prefix + child, value), x);
    }
    if (module instanceof Residual) {
      const { conv1, conv2, conv3, b1, b2 } = module;
      let y = this.module(b1, `${name}.b1`, this.module(conv1, `${name}.conv1`, x));
      y = this.node("Relu", `${name}.relu1`, [y]);
      y = this.module(b2, `${name}.b2`, this.module(conv2, `${name}.conv2`, y));
      const shortcut = conv3 ? this.module(conv3, `${name}.conv3`, x) : x;
      return this.node("Relu", name, [this.node("Add", `${name}.add`, [y, shortcut])]);
    }
    if (module instanceof Conv2d) {
      const names = module.bias ? ["weight", "bias"] : ["weight"];
      return this.node("Conv", name, [x, ...this.weights(name, names)], {
        kernel_shape: module.kernelSize,
        strides: module.stride,
        pads: [...module.padding, ...module.padding],
      });
    }
    if (module instanceof BatchNorm2d) {
      const weights = this.weights(name, ["weight", "bias", "running_mean", "running_var"]);
      return this.node("BatchNormalization", name, [x, ...weights], {
        epsilon: { float: module.eps },
      });
    }
    if (module instanceof Linear) {
      const weights = this.weights(name, ["weight", "bias"]);
      return this.node("Gemm", name, [x, ...weights], { transB: { int: 1 } });
    }
    if (module instanceof MaxPool2d) {
      const both = (value: number | readonly number[]) =>
        typeof value === "number" ? [value, value] : value;
      const { kernelSize, stride = kernelSize, padding = 0 } = module.options;
      return this.node("MaxPool", name, [x], {
        kernel_shape: both(kernelSize),
        strides: both(stride),
        pads: [...both(padding), ...both(padding)],
      });
    }
    if (module instanceof ReLU) return this.node("Relu", name, [x]);
    if (module instanceof GlobalAvgPool2d) return this.node("GlobalAveragePool", name, [x]);
    if (module instanceof Flatten) return this.node("Flatten", name, [x]);
    throw new Error(`onnx: ${name || "the network"} is a ${module.constructor.name}: unknown`);
  }
}

/**
 * The network in eval mode as an ONNX file.
 *
 * @param net What the layers are.
 * @param state Its values.
 * @param shape Of one image, `[C, H, W]`; the batch may have any size.
 * @returns the file: input `images`, output `logits`
 */
export function encodeOnnx(
  net: Module,
  state: StateDict,
  shape: readonly [number, number, number],
): Uint8Array<ArrayBuffer> {
  const graph = new Graph(state);
  const logits = graph.module(net, "", "images");
  graph.node("Identity", "logits", [logits]);
  const message = new Message();
  for (const node of graph.nodes) message.bytes(1, node);
  message.bytes(2, "resnette");
  for (const initializer of graph.initializers) message.bytes(5, initializer);
  message.bytes(11, valueInfo("images", ["N", ...shape]));
  message.bytes(12, valueInfo("logits", ["N", "classes"]));
  const irVersion = 8, opset = 17;
  return new Message().int(1, irVersion).bytes(2, "resnette").bytes(7, message)
    .bytes(8, new Message().bytes(1, "").int(2, opset)).encode();
}
