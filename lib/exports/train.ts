/**
 * Training: settings, the training loop, on several processes too, evaluation, predictions, metrics
 * and checkpoints.
 *
 * @example Settings, and the learning rate that they give
 * ```ts
 * import { learningRate, trainConfig } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const config = trainConfig({ epochs: 4, schedule: "cosine", lr: 0.1 });
 * assertEquals(config.batchSize, 128);
 * assertEquals(learningRate(config, 0, 10), 0.1);
 * ```
 *
 * @module
 */

// Settings.
export {
  AUGMENTATIONS,
  COMPRESSIONS,
  ConfigError,
  DEFAULT_CONFIG,
  type ModelBuilder,
  MODELS,
  OPTIMIZERS,
  SCHEDULES,
  type TrainConfig,
  trainConfig,
  VERSION,
} from "../train/config.ts";
export { learningRate } from "../train/recipe.ts";

// The loop.
export { type EpochResult, formatEpoch } from "../train/config.ts";
export {
  NonFiniteError,
  SingleImageError,
  Trainer,
  type TrainerOptions,
} from "../train/trainer.ts";
export { DeviceDataset, type Preprocessing } from "../train/device_dataset.ts";
export { evaluateAccuracy, type Progress, type Watch } from "../train/evaluator.ts";

// Several processes.
export type { Collective, Traffic } from "../train/collective.ts";
export {
  broadcastBytes,
  broadcastCheckpoint,
  broadcastDataset,
  gatherTexts,
  RankError,
} from "../train/ranks.ts";

// Predictions and metrics.
export { type Images, likeliest, type Likely, predict } from "../train/predict.ts";
export {
  type ClassMetrics,
  classMetrics,
  confidentMistakes,
  type Confusion,
  confusionMatrix,
  type Predictions,
  worstConfusions,
} from "../train/metrics.ts";

// Checkpoints.
export {
  type Checkpoint,
  CHECKPOINT_FILES,
  CheckpointError,
  type CheckpointFiles,
  type DataSource,
  decodeCheckpoint,
  encodeCheckpoint,
  type RunState,
  type TrainedOn,
} from "../train/checkpoint.ts";
