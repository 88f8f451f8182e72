/**
 * Prints the folder that `deno task tune` writes in and `deno task train` reads. So the task `tune`
 * in `deno.json` can permit that folder and no other. If the environment names none, or one that a
 * list of permissions cannot name, it prints a folder in `runs` that nothing makes: the permission
 * then changes nothing.
 *
 * @module
 */

import { cacheFolder } from "../lib/files/tuned.ts";

console.log(cacheFolder() ?? "runs/no-cache");
