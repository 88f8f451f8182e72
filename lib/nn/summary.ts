/**
 * The layers of a network: output shapes, parameters, multiply-accumulates, activation bytes. All
 * of it is read off the graph, without a device. The notebook's trace, {@link runLayers}, does run
 * the layers.
 *
 * Time, memory in use and the optimizer's state depend on the plan, and are not estimated here.
 *
 * @module
 */

import { checkInstance, checkNumber, checkObject, checkString } from "../check/arguments.ts";
import { table } from "../check/text.ts";
import { Device } from "../device/device.ts";
import { collectCalls, evaluating, Module, type ModuleCall } from "./module.ts";
import { evaluate } from "../plan/plan.ts";
import { checkList, checkShape, formatShape, type Shape } from "../graph/shape.ts";
import { checkTensor, input, type Tensor, tensor } from "../graph/tensor.ts";

/** A call of a module in a forward pass. Its numbers include the layers inside the module. */
export interface LayerSummary {
  /** Its name in the module that calls it; empty for the network itself. */
  readonly name: string;
  /** Its class: `Conv2d`. */
  readonly kind: string;
  /** Shape of its output. */
  readonly shape: Shape;
  /** Number of values of all its parameters, frozen ones too. */
  readonly parameters: number;
  /**
   * Multiply-accumulates of convolutions and matrix products. Biases, normalisation, pooling,
   * additions and activations are not counted; padding counts like any other input.
   */
  readonly macs: number;
  /**
   * Bytes, as f32, of the outputs of the layers that call no other layers. What a block computes
   * between its layers is not counted, such as the ReLUs and the addition of a residual block.
   */
  readonly activationBytes: number;
  /** The calls that it makes of other modules, in order. */
  readonly layers: readonly LayerSummary[];
}

/** Multiply-accumulates between the inputs and the output of a call. */
function macsOf({ x, others, y }: ModuleCall): number {
  const seen = new Set([x, ...others]);
  const pending = [y];
  let macs = 0;
  while (pending.length > 0) {
    const node = pending.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    macs += node.op.macs?.(node) ?? 0;
    pending.push(...node.inputs);
  }
  return macs;
}

function summaryOf(call: ModuleCall, name: string): LayerSummary {
  const { module, y, calls } = call;
  const names = new Map(module.namedChildren().map(([key, child]) => [child, key]));
  const layers = calls.map((inner) => summaryOf(inner, names.get(inner.module) ?? ""));
  return {
    name,
    kind: module.constructor.name,
    shape: y.shape,
    parameters: module.parameters().reduce((sum, { size }) => sum + size, 0),
    macs: macsOf(call),
    activationBytes: layers.length > 0
      ? layers.reduce((sum, { activationBytes }) => sum + activationBytes, 0)
      : 4 * y.size,
    layers,
  };
}

/**
 * What the layers of `net` compute for an input of `shape` (`[N, C, H, W]` for a convolutional
 * net), in evaluation mode. It needs no device.
 *
 * @throws {ArgumentError} if `net` is no module or `shape` no list.
 * @throws {ShapeError} when the shape does not fit the network.
 *
 * @example
 * ```ts
 * import { resnet18, summarize } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const { parameters, layers } = summarize(resnet18(), [1, 1, 224, 224]);
 * assertEquals(parameters, 11_178_378);
 * assertEquals(layers[5]!.name, "resnet_block2");
 * assertEquals(layers[5]!.shape, [1, 128, 28, 28]);
 * ```
 */
export function summarize(net: Module, shape: Shape): LayerSummary {
  checkInstance("summarize", "net", net, Module);
  checkShape("summarize", shape);
  const x = input("x", shape);
  const { calls } = evaluating(net, () => collectCalls(() => net.call(x)));
  return summaryOf(calls[0]!, "");
}

/**
 * Runs the direct children of `net` one after the other, each on the output of the one before, and
 * yields each child's name and output. The net stays in the mode that it is in, training or
 * evaluation. Without a `device` it takes the default one.
 *
 * @throws {ArgumentError} if an argument is of another kind.
 * @throws {ShapeError} if `x` does not fit the first child, or an output the next one.
 *
 * @example
 * ```ts
 * import { Random, Residual, runLayers, Sequential, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const net = new Sequential(new Residual(3, 6, { use1x1conv: true, stride: 2 }));
 * const x = tensor(new Random(0).uniform(new Float32Array(4 * 3 * 6 * 6)), [4, 3, 6, 6]);
 * const shapes: Record<string, readonly number[]> = {};
 * for await (const [name, y] of runLayers(net, x)) shapes[name] = y.shape;
 * assertEquals(shapes, { "0": [4, 6, 3, 3] });
 * ```
 */
export async function* runLayers(
  net: Module,
  x: Tensor,
  device?: Device,
): AsyncGenerator<[name: string, output: Tensor]> {
  checkInstance("runLayers", "net", net, Module);
  checkTensor("runLayers", "x", x);
  if (device !== undefined) checkInstance("runLayers", "device", device, Device);
  for (const [name, layer] of net.namedChildren()) {
    const y = layer.call(x);
    x = tensor(await evaluate(y, {}, device), y.shape);
    yield [name, x];
  }
}

/** Three digits and a unit: `118M`. */
function short(n: number): string {
  for (const unit of ["", "k", "M", "G", "T"]) {
    if (n < 999.5) return (unit ? n.toPrecision(3) : String(n)) + unit;
    n /= 1000;
  }
  return `${n.toPrecision(3)}P`;
}

const exact = (n: number) => n.toLocaleString("en-US");

/** Throws unless argument `name` of formatSummary is a summary. */
function checkSummary(name: string, summary: LayerSummary): void {
  checkObject("formatSummary", name, summary);
  for (const key of ["parameters", "macs", "activationBytes"] as const) {
    checkNumber("formatSummary", `${name}.${key}`, summary[key], { integer: true, min: 0 });
  }
  for (const key of ["name", "kind"] as const) {
    checkString("formatSummary", `${name}.${key}`, summary[key]);
  }
  checkList("formatSummary", `${name}.shape`, summary.shape);
  checkList("formatSummary", `${name}.layers`, summary.layers);
  summary.layers.forEach((layer, i) => checkSummary(`${name}.layers[${i}]`, layer));
}

/**
 * A summary as a table: each layer is indented below the module that calls it, and the totals come
 * last.
 *
 * @throws {ArgumentError} if it is no summary.
 *
 * @example
 * ```ts
 * import { formatSummary, Linear, Sequential, summarize } from "@resnette/resnette";
 * import { assertStringIncludes } from "@std/assert";
 *
 * const table = formatSummary(summarize(new Sequential(new Linear(784, 10)), [1, 784]));
 * assertStringIncludes(table, "7,850");
 * ```
 */
export function formatSummary(summary: LayerSummary): string {
  checkSummary("summary", summary);
  const { layers, parameters, macs, activationBytes } = summary;
  const rows = [["layer", "kind", "output shape", "parameters", "MACs", "bytes"]];
  const visit = (layer: LayerSummary, depth: number) => {
    rows.push([
      "  ".repeat(depth) + layer.name,
      layer.kind,
      formatShape(layer.shape),
      exact(layer.parameters),
      short(layer.macs),
      short(layer.activationBytes),
    ]);
    layer.layers.forEach((inner) => visit(inner, depth + 1));
  };
  layers.forEach((layer) => visit(layer, 0));
  return [
    table(rows, (column) => column > 2),
    `total: ${exact(parameters)} parameters, ${exact(macs)} MACs,`,
    `       ${exact(activationBytes)} bytes of activations`,
  ].join("\n");
}
