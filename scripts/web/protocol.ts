/**
 * The messages between the page and its worker. The worker has the device, the net and the data;
 * the page has everything that is seen. Each is a bundle of its own, and this file is what they
 * share.
 *
 * @module
 */

import type { EpochResult, TrainConfig } from "../../lib/train/config.ts";
import type { Progress } from "../../lib/train/evaluator.ts";

/** The small net: its file, which is its name in a checkpoint of `deno task train --net` too. */
export const SMALL_NET = "scripts/web/small_net.ts";

/** What the form sets; the rest of the configuration follows from it and the data. */
export type Settings = Pick<
  TrainConfig,
  "model" | "limit" | "testLimit" | "batchSize" | "lr" | "optimizer" | "epochs" | "seed"
>;

/** A picture for the net to look at. */
export type Picture =
  /** One of the images to test with. */
  | { readonly kind: "test"; readonly index: number }
  /** What was drawn, or is before the camera. */
  | { readonly kind: "pixels"; readonly image: ImageData }
  /** A file, which the worker decodes. */
  | { readonly kind: "file"; readonly file: File };

/** A file of a folder that was dropped, and its path from that folder on. */
export interface FolderFile {
  /** `cats/1.jpg`. */
  readonly path: string;
  /** The file. */
  readonly file: File;
}

/** What the page asks for. */
export type ToWorker =
  /** Once, first: find a device and what was kept, and read the data. */
  | { readonly type: "open"; readonly settings: Settings }
  /** A new run, at its start; the one before is given up, and no longer kept. */
  | { readonly type: "begin"; readonly settings: Settings }
  /** Train, from where the run stands. */
  | { readonly type: "run" }
  /** Stop after the step that is under way. */
  | { readonly type: "pause" }
  /** Keep the run as it stands: the page may be closed. */
  | { readonly type: "keep" }
  /** Predict this picture, now and as the net changes. */
  | { readonly type: "look"; readonly picture: Picture }
  /** Whether the feature maps are in view. */
  | { readonly type: "inside"; readonly shown: boolean }
  /** Take over the weights of a safetensors file. */
  | { readonly type: "load"; readonly file: File }
  /** Hand out the weights as a file. */
  | { readonly type: "download" }
  /** Train on Fashion-MNIST again. */
  | { readonly type: "fashion-mnist"; readonly settings: Settings }
  /** Train on the images of a folder. */
  | {
    readonly type: "folder";
    readonly name: string;
    readonly files: readonly FolderFile[];
    readonly settings: Settings;
  };

/** Pixels, 0 black to 255 white, `[channels, height, width]`. */
export interface Pixels {
  /** The values. */
  readonly pixels: Uint8Array<ArrayBuffer>;
  /** 1 for grey, 3 for RGB. */
  readonly channels: number;
  /** Rows. */
  readonly height: number;
  /** Columns. */
  readonly width: number;
}

/** An image of the data set, with its class. */
export interface Labelled extends Pixels {
  /** Its place among the images to test with. */
  readonly index: number;
  /** Its class. */
  readonly label: number;
}

/** A test image that the net took for something else. */
export interface Mistake extends Labelled {
  /** What it was taken for. */
  readonly predicted: number;
  /** How sure the net was. */
  readonly probability: number;
}

/** What a layer makes of the picture. */
export interface LayerView {
  /** `resnet_block1`. */
  readonly name: string;
  /** `Conv2d`. */
  readonly kind: string;
  /** Without the batch: `[64, 16, 16]`. */
  readonly shape: readonly number[];
  /** Trained values. */
  readonly parameters: number;
  /** Maps of some of its channels, one after the other, 0 the least to 255 the most of the layer. */
  readonly maps: Uint8Array<ArrayBuffer>;
  /** How many channels that is; a layer without rows and columns is one map of all its values. */
  readonly shown: number;
  /** Rows of a map. */
  readonly height: number;
  /** Columns of a map. */
  readonly width: number;
}

/** What the worker does. */
export type Phase =
  | "starting"
  | "reading"
  | "ready"
  | "compiling"
  | "training"
  | "testing"
  | "paused"
  | "done"
  | "recovering"
  | "failed";

/** What the worker tells. */
export type FromWorker =
  /** The device. */
  | {
    readonly type: "device";
    /** Its name: `NVIDIA Ampere`. */
    readonly name: string;
    /** All that the library has to say of it. */
    readonly words: string;
    /** Whether it computes on the CPU. */
    readonly software: boolean;
  }
  /** There is none, for this reason. */
  | { readonly type: "no-device"; readonly reason: string }
  /** What it is doing. */
  | { readonly type: "phase"; readonly phase: Phase }
  /** Which share of the images that are waited for has come. */
  | { readonly type: "reading"; readonly share: number }
  /** The data are there. */
  | {
    readonly type: "data";
    readonly name: string;
    /** Whether it is a folder of one's own. */
    readonly own: boolean;
    readonly classes: readonly string[];
    readonly train: number;
    readonly test: number;
    readonly samples: readonly Labelled[];
    /** What else there is to say, such as what was skipped. */
    readonly notes: readonly string[];
  }
  /** A run stands here: at its start, or where it was kept. */
  | {
    readonly type: "begun";
    readonly settings: Settings;
    readonly parameters: number;
    readonly size: readonly [height: number, width: number];
    readonly history: readonly EpochResult[];
    /** What the command prints of them. */
    readonly lines: readonly string[];
    readonly steps: number;
    readonly stepsPerEpoch: number;
    readonly command: string;
    /** When it was kept, in milliseconds; undefined for a new run. */
    readonly kept?: number;
  }
  /** How far an epoch has come. */
  | { readonly type: "progress"; readonly progress: Progress; readonly steps: number }
  /** An epoch is complete. */
  | { readonly type: "epoch"; readonly result: EpochResult; readonly line: string }
  /** The loss of the first step of the run. */
  | { readonly type: "first-loss"; readonly loss: number }
  /** What became of the test images. */
  | {
    readonly type: "tested";
    readonly matrix: readonly (readonly number[])[];
    readonly accuracy: number;
    readonly mistakes: readonly Mistake[];
  }
  /** What the net sees of the picture. */
  | { readonly type: "seen"; readonly seen: Pixels; readonly label?: number }
  /** The probability of each class. */
  | { readonly type: "likely"; readonly probabilities: Float32Array<ArrayBuffer> }
  /** What the layers make of it. */
  | { readonly type: "layers"; readonly layers: readonly LayerView[] }
  /** The run was kept in the browser. */
  | { readonly type: "kept"; readonly time: number; readonly steps: number }
  /** Weights were taken over. */
  | { readonly type: "loaded"; readonly words: readonly string[] }
  /** A file to hand out. */
  | { readonly type: "file"; readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> }
  /** The device was lost, and another one found: the run goes on from a step before. */
  | { readonly type: "recovered"; readonly steps: number }
  /** Something did not work; the rest goes on. */
  | { readonly type: "problem"; readonly message: string };
