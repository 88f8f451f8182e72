/**
 * The nets of the page, by their names in checkpoints and on the command line.
 *
 * @module
 */

import { MODELS } from "../../lib/train/config.ts";
import { SMALL_NET } from "./protocol.ts";
import smallNet from "./small_net.ts";

MODELS.set(SMALL_NET, smallNet);

/** Rows and columns of the images for a net. */
export const sizeFor = (model: string): number => model === SMALL_NET ? 28 : 32;
