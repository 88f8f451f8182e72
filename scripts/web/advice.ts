/**
 * What to do where a browser has no WebGPU.
 *
 * @module
 */

/** What is known of a browser. */
export interface Browser {
  /** What it calls itself. */
  readonly userAgent: string;
  /** Whether the page came over https, or from this machine. */
  readonly secure: boolean;
  /** Whether it has WebGPU, but nothing to use it with. */
  readonly hasWebGPU: boolean;
}

/** Advice for a browser, what helps most often first. */
export function adviceFor({ userAgent, secure, hasWebGPU }: Browser): string[] {
  const advice: string[] = [];
  if (!secure) {
    advice.push(
      "This page came over plain http. Browsers have WebGPU only over https, or on localhost: " +
        "open it there.",
    );
  }
  const linux = /Linux/.test(userAgent) && !/Android/.test(userAgent);
  if (/Firefox\//.test(userAgent)) {
    advice.push(
      "Firefox has WebGPU on Windows from version 141 on, and on Macs with Apple silicon from 145 " +
        "on: update it. Elsewhere, open about:config, set dom.webgpu.enabled to true, and restart.",
    );
  } else if (/Chrom(e|ium)\//.test(userAgent)) {
    const [name, scheme] = /Edg\//.test(userAgent) ? ["Edge", "edge"] : ["Chrome", "chrome"];
    if (!hasWebGPU && secure) {
      advice.push(`${name} has WebGPU from version 113 on, on Android from 121 on: update it.`);
    }
    advice.push(
      `Open ${scheme}://settings/system, turn on graphics acceleration, and restart. ` +
        `${scheme}://gpu says whether WebGPU is there, and why not.`,
    );
    if (linux) {
      advice.push(
        `On Linux, ${name} may have to be asked for it: open ` +
          `${scheme}://flags/#enable-unsafe-webgpu, enable it, and restart.`,
      );
    }
  } else if (/Safari\//.test(userAgent)) {
    advice.push(
      "Safari has WebGPU from version 26 on: on iPhones and iPads with iOS and iPadOS 26, and on " +
        "Macs with macOS 26. Update the system.",
      "Safari 18 has it behind a switch: Feature Flags, in the settings for developers, WebGPU.",
    );
  }
  advice.push(
    "The newest versions of Chrome, Edge, Safari and Firefox have WebGPU on most machines whose " +
      "GPU is younger than ten years. Try another browser, or another machine.",
  );
  return advice;
}
