/**
 * The table of measured kernels, as a file in the user's folder for caches: one for each adapter,
 * runtime (`navigator.userAgent`, which is all that a program sees of the shader compiler) and
 * version of the library. What is read is checked for its form only: `kernels/choice.ts` ignores
 * entries that do not fit, so a bad file makes a run slow at worst.
 *
 * @module
 */

import { isAbsolute, join } from "node:path";
import { any, count, entries, parseJson, record, string } from "../check/json.ts";
import type { Device } from "../device/device.ts";
import { writeFileWhole } from "./write.ts";
import { VERSION } from "../train/config.ts";

/**
 * The format of the file; another number is not read. What was stored as 1 had been measured without
 * candidates of Winograd, and without the rule's choice where that was one of them.
 */
const FORMAT = 2;
/** Largest file that is read. */
const MAX_BYTES = 2 ** 20;
/** Entries that are kept, and characters of one. */
const MAX_ENTRIES = 4096, MAX_LENGTH = 200;

const FILE = record({
  format: count(FORMAT, FORMAT),
  origin: any,
  choices: entries(string(MAX_LENGTH), { max: MAX_ENTRIES, longest: MAX_LENGTH }),
});

/** A file of measured choices that cannot be used. */
export class TunedError extends Error {
  /** `TunedError`. */
  override name = "TunedError";
}

/** What choices depend on. */
function origin({ info, target }: Device): Record<string, string | number> {
  const { vendor, architecture, device, description } = info;
  const { subgroupSize } = target;
  return {
    ...{ vendor, architecture, device, description, subgroupSize },
    runtime: navigator.userAgent,
    version: VERSION,
  };
}

/** A variable of the environment; undefined where it is unset, or may not be asked for. */
function variable(name: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) || undefined : undefined;
}

/**
 * The user's folder for this project's caches; undefined where the environment does not say, or names
 * one that a task cannot permit by its name: Deno takes a comma in `--allow-read=…` for the end of a
 * path, and a task's shell makes one space of all white space. Either would permit another folder.
 */
export function cacheFolder(): string | undefined {
  const { os } = Deno.build, home = variable("HOME");
  const inHome = home && join(home, os === "darwin" ? "Library/Caches" : ".cache");
  const places = [variable("XDG_CACHE_HOME"), os === "windows" ? variable("LOCALAPPDATA") : inHome];
  // The specification wants relative paths ignored.
  const place = places.find((path) => path && isAbsolute(path));
  return place && !/[,\p{Cc}]|[^\S ]|\s\s/u.test(place) ? join(place, "resnette") : undefined;
}

/** The file for a device: `tuned-llvmpipe-llvm-15-0-6-256-bits-0123456789ab.json`. */
export async function tunedPath(device: Device, folder: string): Promise<string> {
  const name = device.description.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 60);
  const bytes = new TextEncoder().encode(JSON.stringify(origin(device)));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  return join(folder, `tuned-${name.replace(/^-|-$/g, "")}-${digest.slice(0, 12)}.json`);
}

/** Whether this process may read a path; it is never asked for. */
function readable(path: string): boolean {
  return Deno.permissions.querySync({ name: "read", path }).state === "granted";
}

/**
 * The choices stored for a device; none where there is no file, or no permission to read it.
 *
 * @throws {TunedError} when the file is damaged; {@link writeTuned} writes a new one.
 */
export async function readTuned(
  device: Device,
  folder: string | undefined = cacheFolder(),
): Promise<Map<string, string>> {
  const path = folder && await tunedPath(device, folder);
  if (!path || !readable(path)) return new Map();
  try {
    const { isFile, size } = await Deno.stat(path);
    if (!isFile || size > MAX_BYTES) throw new Error(`it is no file of at most ${MAX_BYTES} bytes`);
    const file = parseJson(await Deno.readFile(path), FILE);
    if (JSON.stringify(file.origin) !== JSON.stringify(origin(device))) {
      throw new Error("it is of another adapter or version");
    }
    return new Map(file.choices);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return new Map();
    throw new TunedError(
      `${path}: not a table of choices, so it is ignored: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** Stores the choices of a device, whole or not at all, and returns the file's path. */
export async function writeTuned(device: Device, folder: string): Promise<string> {
  const path = await tunedPath(device, folder);
  const choices = Object.fromEntries([...device.tuned].slice(-MAX_ENTRIES));
  const json = JSON.stringify({ format: FORMAT, origin: origin(device), choices }, null, 2);
  await Deno.mkdir(folder, { recursive: true });
  await writeFileWhole(path, new TextEncoder().encode(`${json}\n`));
  return path;
}
