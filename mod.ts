/**
 * Resnette trains ResNets on WebGPU, in Deno and in the browser: tensors as graph nodes, reverse-mode
 * gradients, plans that replay a graph in one submit, and the ResNet of the notebook.
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

export { ArgumentError } from "./lib/check/arguments.ts";
export { formatShape, type Pair, type Shape, ShapeError, sizeOf } from "./lib/graph/shape.ts";
export * from "./lib/device/device.ts";
export {
  bytesOf,
  createBuffer,
  freeVariables,
  readVariables,
  setVariable,
} from "./lib/device/buffers.ts";
export {
  arrays,
  type Binding,
  type KernelChoice,
  type KernelSpec,
  perThread,
  type Target,
  type Tuned,
} from "./lib/kernels/kernel.ts";
export {
  apply,
  assign,
  type Attrs,
  constantData,
  currentScope,
  type DType,
  initialValues,
  input,
  inputName,
  type NestedNumbers,
  type Op,
  packVariables,
  type Pass,
  type ReductionSpec,
  type Scope,
  type StridedView,
  Tensor,
  tensor,
  type TensorData,
  type Update,
  Variable,
  type VariableStorage,
  withScope,
} from "./lib/graph/tensor.ts";
export * from "./lib/ops/elementwise.ts";
export { broadcastTo, flatten, permute, reshape, select } from "./lib/ops/view.ts";
export { mean, sum, sumTo } from "./lib/ops/reduce.ts";
export { linear, matmul } from "./lib/ops/matmul.ts";
export * from "./lib/ops/conv.ts";
export { avgPool2d, globalAvgPool2d, maxPool2d, type PoolOptions } from "./lib/ops/pool.ts";
export * from "./lib/ops/norm.ts";
export {
  argmax,
  correctCount,
  crossEntropy,
  type CrossEntropyOptions,
  logSoftmax,
  oneHot,
  softmax,
} from "./lib/ops/loss.ts";
export { cropFlip, gather, resizeBilinear } from "./lib/ops/data.ts";
export { grad } from "./lib/ops/grad.ts";
export { evaluate, type Feeds, Plan, PlanError, type PlanOptions } from "./lib/plan/plan.ts";
export type { Part, Step } from "./lib/plan/steps.ts";
export type { Convolution, Problem, Product } from "./lib/kernels/choice.ts";
export * from "./lib/graph/random.ts";
export * from "./lib/train/metrics.ts";
export * from "./lib/formats/safetensors.ts";
export * from "./lib/data/error.ts";
export { type ByteStream, gunzip } from "./lib/data/gzip.ts";
export * from "./lib/data/idx.ts";
export * from "./lib/data/fashion_mnist.ts";
export {
  type ImageDataset,
  type NamedStream,
  readImageDataset,
  type ReadOptions,
} from "./lib/data/dataset.ts";
export * from "./lib/files/fashion_mnist.ts";
export {
  collectCalls,
  collectUpdates,
  Module,
  type ModuleCall,
  ModuleList,
  noteUpdate,
  Parameter,
  type StateDict,
} from "./lib/nn/module.ts";
export * from "./lib/nn/init.ts";
export * from "./lib/nn/layers.ts";
export * from "./lib/nn/resnet.ts";
export * from "./lib/nn/optim.ts";
export * from "./lib/nn/summary.ts";
export * from "./lib/formats/onnx.ts";
export {
  DeviceDataset,
  evaluateAccuracy,
  type Progress,
  type Watch,
} from "./lib/train/evaluator.ts";
export * from "./lib/train/predict.ts";
export * from "./lib/train/config.ts";
export { learningRate } from "./lib/train/recipe.ts";
export * from "./lib/measure/tune.ts";
export type { TimingOptions } from "./lib/measure/timing.ts";
export * from "./lib/measure/ceiling.ts";
export * from "./lib/measure/profile.ts";
export * from "./lib/train/trainer.ts";
export {
  type Checkpoint,
  CHECKPOINT_FILES,
  CheckpointError,
  type CheckpointFiles,
  decodeCheckpoint,
  decodeStateDict,
  encodeCheckpoint,
  encodeStateDict,
  MAX_RUN_BYTES,
  MAX_TENSOR_BYTES,
  type RunState,
} from "./lib/train/checkpoint.ts";
