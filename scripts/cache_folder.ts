/**
 * Prints the folder that `deno task tune` writes in and `deno task train` reads, for `deno.json` to
 * permit that one and no other. Where the environment names none, or one that a list of permissions
 * cannot name: a folder of `runs` that nothing makes, which changes nothing.
 *
 * @module
 */

import { cacheFolder } from "../lib/files/tuned.ts";

console.log(cacheFolder() ?? "runs/no-cache");
