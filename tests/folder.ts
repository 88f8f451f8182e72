/** The folder of the project, and one for a test. */

import { fileURLToPath } from "node:url";

/** The path of the project's folder, with a slash at its end. A URL would have %20 for a space. */
export const ROOT = fileURLToPath(new URL("../", import.meta.url));

/** Runs `use` with a new folder, removed afterwards. */
export async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "resnette_" });
  try {
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
