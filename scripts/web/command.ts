/**
 * The command that does what the page does, in a clone of the project.
 *
 * @module
 */

import {
  CONFIG_NAMES,
  DEFAULT_CONFIG,
  sameSetting,
  settingText,
  type TrainConfig,
} from "../../lib/train/config.ts";
import { SMALL_NET } from "./protocol.ts";

/** `--batch-size` of `batchSize`. */
const flagOf = (name: string) => `--${name.replace(/[A-Z]/g, (x) => `-${x.toLowerCase()}`)}`;

/** `deno task train` with settings, and the other words that it takes. */
export function trainCommand(config: TrainConfig, others: readonly string[] = []): string {
  const settings = CONFIG_NAMES
    .filter((name) => name !== "model" && !sameSetting(config[name], DEFAULT_CONFIG[name]))
    .map((name) => `${flagOf(name)} ${settingText(name, config[name])}`);
  const net = config.model === SMALL_NET ? `--net ${SMALL_NET}` : `--model ${config.model}`;
  return ["deno task train --no-tuned", net, ...settings, ...others].join(" ");
}
