/**
 * Describes the device that the browser gives.
 *
 * @module
 */

import type { Device } from "../../lib/device/device.ts";

/** Names that are not written as words are. */
const NAMES: Readonly<Record<string, string>> = {
  nvidia: "NVIDIA",
  amd: "AMD",
  arm: "Arm",
  rdna: "RDNA",
  swiftshader: "SwiftShader",
};
/** Milliseconds after which a loss has been told. */
const TOLD_AFTER = 100;

/** An adapter's name, as people write it: `NVIDIA Ampere`. */
export function nameOf(info: GPUAdapterInfo): string {
  const { description, vendor, architecture, isFallbackAdapter } = info;
  const capital = (word: string) =>
    NAMES[word] ?? word.replace(/^./, (letter) => letter.toUpperCase());
  const words = `${vendor} ${architecture}`.split(/[ -]/).filter(Boolean);
  return description || words.map(capital).join(" ") ||
    (isFallbackAdapter ? "A software adapter" : "A GPU"); // Firefox tells no name.
}

/** Whether a device is lost, which may be told a little after the work that failed. */
export async function isLost({ gpu }: Device): Promise<boolean> {
  const later = new Promise<false>((resolve) => setTimeout(() => resolve(false), TOLD_AFTER));
  return await Promise.race([gpu.lost.then(() => true), later]);
}
