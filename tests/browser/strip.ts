/** TypeScript as browsers take it. Not a test. */

import { stripTypeScriptTypes } from "node:module";

/** A module without its types; with its lines where they were, if they need only be left out. */
export function strip(module: string): string {
  try {
    return stripTypeScriptTypes(module);
  } catch {
    return stripTypeScriptTypes(module, { mode: "transform" });
  }
}
