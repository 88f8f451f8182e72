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

export { ArgumentError } from "./lib/check.ts";
export { formatShape, type Pair, type Shape, ShapeError, sizeOf } from "./lib/shape.ts";
export * from "./lib/device.ts";
export { bytesOf, createBuffer, freeVariables, readVariables, setVariable } from "./lib/buffers.ts";
export {
  arrays,
  type Binding,
  type KernelSpec,
  perThread,
  type Schedule,
  type Target,
  type Tuned,
} from "./lib/kernel.ts";
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
} from "./lib/tensor.ts";
export {
  add,
  div,
  exp,
  isFinite,
  log,
  mul,
  neg,
  type Operand,
  relu,
  sqrt,
  square,
  sub,
  where,
} from "./lib/ops/elementwise.ts";
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
export { grad } from "./lib/grad.ts";
export { evaluate, type Feeds, Plan, PlanError, type PlanOptions } from "./lib/plan.ts";
export type { Part, Step } from "./lib/plan/steps.ts";
export type { Convolution, Problem, Product } from "./lib/schedule.ts";
export * from "./lib/random.ts";
export * from "./lib/metrics.ts";
export * from "./lib/safetensors.ts";
export * from "./lib/data/error.ts";
export { type ByteStream, gunzip } from "./lib/data/gzip.ts";
export * from "./lib/data/idx.ts";
export * from "./lib/data/fashion_mnist.ts";
export * from "./lib/data/photo.ts";
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
export * from "./lib/models/resnet.ts";
export * from "./lib/optim.ts";
export * from "./lib/summary.ts";
export * from "./lib/onnx.ts";
export { DeviceDataset, evaluateAccuracy, type Progress, type Watch } from "./lib/evaluate.ts";
export * from "./lib/predict.ts";
export * from "./lib/train_config.ts";
export { learningRate } from "./lib/recipe.ts";
export * from "./lib/tune.ts";
export type { TimingOptions } from "./lib/timing.ts";
export * from "./lib/ceiling.ts";
export * from "./lib/profile.ts";
export * from "./lib/train.ts";
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
} from "./lib/checkpoint.ts";
