/** A device that need not be there, to plan for. Not a test. */

import type { Target } from "../../lib/kernels/kernel.ts";

export const TARGET: Target = {
  choice: "naive",
  subgroupSize: 1,
  subgroupsDirective: false,
  maxStorageBuffers: 8,
  maxWorkgroups: 65535,
  maxBindingBytes: 2 ** 27,
};
