/**
 * Prints the folder that `deno task tune` writes in and `deno task train` reads, for `deno.json` to
 * permit that one and no other. If the environment names none, or one that a list of permissions
 * cannot name, it prints a folder in `runs` that nothing makes, so the permission changes nothing.
 *
 * @module
 */

import { cacheFolder } from "../lib/files/tuned.ts";

console.log(cacheFolder() ?? "runs/no-cache");
