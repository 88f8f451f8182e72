/**
 * The command that does what the page does, in a clone of the project.
 *
 * @module
 */

import { flagOf, pathWord } from "../../lib/check/text.ts";
import {
  CONFIG_NAMES,
  DEFAULT_CONFIG,
  sameSetting,
  settingText,
  type TrainConfig,
} from "../../lib/train/config.ts";
import { SMALL_NET } from "./protocol.ts";

/** `deno task train` with settings, and the other flags that it takes, as a shell takes them. */
export function trainCommand(
  config: TrainConfig,
  others: Readonly<Record<string, string | undefined>> = {},
): string {
  const settings = CONFIG_NAMES
    .filter((name) => name !== "model" && !sameSetting(config[name], DEFAULT_CONFIG[name]))
    .map((name) => `${flagOf(name)} ${settingText(name, config[name])}`);
  const net = config.model === SMALL_NET ? `--net ${SMALL_NET}` : `--model ${config.model}`;
  const more = Object.entries(others).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name} ${pathWord(value)}`]
  );
  return ["deno task train --no-tuned", net, ...settings, ...more].join(" ");
}
