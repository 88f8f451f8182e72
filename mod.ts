/**
 * Resnette trains neural networks on the GPU, in Deno and in the browser. Here is what a network is
 * made of: tensors as graph nodes, reverse-mode gradients, plans that replay a graph in one submit,
 * layers, optimizers, and ResNets. Data sets are in `@resnette/resnette/data`, the training loop is
 * in `/train`, what measures speed in `/measure`, and what joins several processes in `/mpi`.
 *
 * Names, arguments and defaults are PyTorch's, in camelCase, and ops take f32 tensors, unless they
 * say otherwise. What does not fit is an error where the graph is built: an {@link ArgumentError}
 * for a wrong argument, a {@link ShapeError} for a shape, an axis or an element type.
 *
 * @example A residual block on random images
 * ```ts
 * import { evaluate, Random, Residual, tensor } from "@resnette/resnette";
 * import { assertEquals } from "@std/assert";
 *
 * const block = new Residual(3, 6, { use1x1conv: true, stride: 2 });
 * const x = tensor(new Random(1).uniform(new Float32Array(4 * 3 * 6 * 6)), [4, 3, 6, 6]);
 * const y = block.forward(x);
 * assertEquals(y.shape, [4, 6, 3, 3]);
 * assertEquals((await evaluate(y)).length, 216);
 * ```
 *
 * @module
 */

// Tensors.
export {
  assign,
  type DType,
  input,
  type NestedNumbers,
  Tensor,
  tensor,
  type TensorData,
  type Update,
  Variable,
} from "./lib/graph/tensor.ts";
export { type Pair, type Shape, ShapeError } from "./lib/graph/shape.ts";
export { ArgumentError } from "./lib/check/arguments.ts";
export { Random, type RandomState } from "./lib/graph/random.ts";

// Ops.
export * from "./lib/ops/activation.ts";
export * from "./lib/ops/compare.ts";
export * from "./lib/ops/cross_entropy.ts";
export * from "./lib/ops/dropout.ts";
export * from "./lib/ops/elementwise.ts";
export * from "./lib/ops/indexing.ts";
export * from "./lib/ops/layer_norm.ts";
export * from "./lib/ops/losses.ts";
export * from "./lib/ops/slice.ts";
export * from "./lib/ops/statistics.ts";
export {
  broadcastTo,
  flatten,
  permute,
  reshape,
  select,
  squeeze,
  unsqueeze,
} from "./lib/ops/view.ts";
export { mean, type ReduceOptions, sum } from "./lib/ops/reduce.ts";
export { linear, matmul } from "./lib/ops/matmul.ts";
export {
  conv2d,
  type ConvOptions,
  convTranspose2d,
  type ConvTransposeOptions,
} from "./lib/ops/conv.ts";
export {
  avgPool2d,
  type AvgPoolOptions,
  globalAvgPool2d,
  maxPool2d,
  type PoolOptions,
} from "./lib/ops/pool.ts";
export {
  adaptiveAvgPool2d,
  type OutputSize,
  upsample,
  type UpsampleOptions,
} from "./lib/ops/resample.ts";
export { batchNorm, channelMoments, normalize } from "./lib/ops/norm.ts";
export {
  argmax,
  argmin,
  type AxisOptions,
  correctCount,
  logSoftmax,
  oneHot,
  softmax,
} from "./lib/ops/classification.ts";
export { cropFlip, gather, resizeBilinear, rotate } from "./lib/ops/data.ts";
export { grad } from "./lib/ops/grad.ts";

// Computing.
export {
  evaluate,
  type Feeds,
  item,
  Plan,
  PlanError,
  type PlanOptions,
  toList,
} from "./lib/plan/plan.ts";
export type { Step } from "./lib/plan/steps.ts";
export { defaultDevice, Device, DeviceError, type DeviceOptions } from "./lib/device/device.ts";
export { freeVariables, readVariables, setVariable } from "./lib/device/buffers.ts";

// Networks.
export {
  collectUpdates,
  Module,
  ModuleList,
  noteRunning,
  noteUpdate,
  Parameter,
  type StateDict,
  UnsavedBuffer,
} from "./lib/nn/module.ts";
export {
  AdaptiveAvgPool2d,
  AvgPool2d,
  Conv2d,
  type Conv2dOptions,
  ConvTranspose2d,
  type ConvTranspose2dOptions,
  Flatten,
  GlobalAvgPool2d,
  type Layer,
  Linear,
  type LinearOptions,
  MaxPool2d,
  ReLU,
  Sequential,
  Upsample,
} from "./lib/nn/layers.ts";
export { ELU, GELU, LeakyReLU, Sigmoid, SiLU, Softplus, Tanh } from "./lib/nn/activations.ts";
export {
  BatchNorm,
  BatchNorm1d,
  BatchNorm2d,
  type BatchNormOptions,
  GroupNorm,
  LayerNorm,
  type NormOptions,
} from "./lib/nn/normalization.ts";
export { Embedding } from "./lib/nn/embedding.ts";
export { Dropout, Dropout2d } from "./lib/nn/dropout.ts";
export { constantParameter, manualSeed, normalParameter, uniformParameter } from "./lib/nn/init.ts";
export {
  Adam,
  type AdamOptions,
  AdamW,
  type GroupSettings,
  Optimizer,
  type OptimizerOptions,
  type ParameterGroup,
  RMSprop,
  type RMSpropOptions,
  SGD,
  type SGDOptions,
} from "./lib/nn/optim.ts";
export { clipGradNorm, clipGradValue } from "./lib/nn/clip_grad.ts";
export {
  cosineAnnealingLR,
  exponentialLR,
  linearLR,
  type LinearLROptions,
  multiStepLR,
  oneCycleLR,
  type OneCycleLROptions,
  type Schedule,
  sequentialLR,
  stepLR,
} from "./lib/nn/schedules.ts";
export {
  type BlockOptions,
  Bottleneck,
  Residual,
  resnet101,
  resnet152,
  resnet18,
  resnet34,
  resnet50,
  resnetBlock,
  type ResNetOptions,
} from "./lib/nn/resnet.ts";
export { formatSummary, type LayerSummary, runLayers, summarize } from "./lib/nn/summary.ts";

// Networks as files.
export {
  asFloat32Array,
  parseSafetensors,
  SafetensorsError,
  type SafetensorsFile,
  type SafetensorsInput,
  type SafetensorsTensor,
  serializeSafetensors,
} from "./lib/formats/safetensors.ts";
export { decodeStateDict, encodeStateDict } from "./lib/formats/state_dict.ts";
export { encodeOnnx, OnnxError, type OnnxOptions } from "./lib/formats/onnx.ts";

// Ops of one's own.
export {
  apply,
  type Attrs,
  type Op,
  type ReductionSpec,
  type StridedView,
} from "./lib/graph/tensor.ts";
export {
  arrays,
  type Binding,
  type Finish,
  type KernelChoice,
  type KernelSpec,
  perThread,
  type Start,
  type Target,
} from "./lib/kernels/kernel.ts";
