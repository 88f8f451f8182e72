/**
 * The nets of the page, by their names in checkpoints and on the command line.
 *
 * @module
 */

import { MODELS, type TrainConfig, trainConfig } from "../../lib/train/config.ts";
import { type Settings, SMALL_NET } from "./protocol.ts";
import smallNet from "./small_net.ts";

MODELS.set(SMALL_NET, smallNet);

/** Rows and columns that images of a folder of one's own are resized to. */
export const FOLDER_SIDE = 64;

/** A run's configuration: what the form sets, and what follows from that and the data. */
export function configOf(settings: Settings, isOwn: boolean): TrainConfig {
  return trainConfig({
    ...settings,
    ...isOwn && { limit: null, testLimit: null },
    resize: isOwn ? FOLDER_SIDE : settings.model === SMALL_NET ? 28 : 32,
  });
}

/** A net in words. */
export const titleOf = (model: string): string => model === SMALL_NET ? "small net" : model;
