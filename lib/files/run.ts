/**
 * The folder of a training run.
 *
 *     RUN/lock                        held by the process that trains
 *     RUN/checkpoints/epoch-1/        after epoch 1
 *     RUN/checkpoints/epoch-2-step-37/  after 37 steps of epoch 2: where a run was stopped
 *
 * A checkpoint's folder is written under another name and renamed when it is whole. Checkpoints of
 * stops are removed once there is a later one.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import {
  type Checkpoint,
  CHECKPOINT_FILES,
  CheckpointError,
  type CheckpointFiles,
  decodeCheckpoint,
  encodeCheckpoint,
  MAX_RUN_BYTES,
  MAX_TENSOR_BYTES,
  type RunState,
} from "../train/checkpoint.ts";
import { foreignFormat } from "../formats/foreign.ts";
import { takeLock } from "./lock.ts";
import { kindOf } from "./open.ts";
import { removeUnfinished, WriteError, writeFileWhole } from "./write.ts";

/** A checkpoint's folder and where in the run it was made. */
interface Found {
  readonly path: string;
  /** Complete epochs. */
  readonly epochs: number;
  /** Steps of the next epoch. */
  readonly step: number;
}

const folderName = ({ history, step }: RunState) =>
  step === 0 ? `epoch-${history.length}` : `epoch-${history.length + 1}-step-${step}`;

function parseName(path: string): Found | undefined {
  const match = basename(path).match(/^epoch-([1-9]\d{0,8})(?:-step-([1-9]\d{0,8}))?$/);
  if (!match) return undefined;
  const epoch = Number(match[1]), step = Number(match[2] ?? 0);
  return { path, epochs: step > 0 ? epoch - 1 : epoch, step };
}

/** Checkpoints of a run, latest first. */
async function findCheckpoints(run: string): Promise<Found[]> {
  const found: Found[] = [];
  const folder = join(run, "checkpoints");
  if (!await kindOf(folder)) return [];
  for await (const { name, isDirectory, isSymlink } of Deno.readDir(folder)) {
    const checkpoint = parseName(join(folder, name));
    if (!checkpoint) continue;
    // Some lie on another disk.
    const isThere = isDirectory || isSymlink && await kindOf(checkpoint.path) === "folder";
    if (isThere) found.push(checkpoint);
  }
  return found.sort((a, b) => b.epochs - a.epochs || b.step - a.step);
}

/** What {@linkcode loadCheckpoint} found. */
export interface LoadedCheckpoint {
  /** The checkpoint. */
  readonly checkpoint: Checkpoint;
  /** Its folder. */
  readonly path: string;
  /** The run's folder, where the checkpoint lies in one and is its latest: it can go on there. */
  readonly run: string | undefined;
}

/**
 * Reads a checkpoint: the one in the folder `path`, or the latest of the run whose folder it is.
 *
 * @throws {CheckpointError} when there is none, or when it is damaged; the message names the file.
 */
export async function loadCheckpoint(path: string): Promise<LoadedCheckpoint> {
  if (await kindOf(join(path, "checkpoints")) === "folder") {
    const [latest] = await findCheckpoints(path);
    if (!latest) throw new CheckpointError(`${path}: this run has no checkpoint yet`);
    return { checkpoint: await readCheckpoint(latest.path), path: latest.path, run: path };
  }
  if (await kindOf(join(path, "run.json")) !== "file") {
    const kind = await kindOf(path);
    const what = kind === undefined
      ? "there is no such folder"
      : kind === "file"
      ? await whatFileIs(path)
      : "is neither a run's folder (it has no checkpoints/) nor a checkpoint's (it has no run.json)";
    throw new CheckpointError(`${path}: ${what}`);
  }
  const checkpoint = await readCheckpoint(path);
  const folder = dirname(resolve(path));
  const run = dirname(folder);
  const [latest] = basename(folder) === "checkpoints" ? await findCheckpoints(run) : [];
  const isLatest = latest !== undefined && basename(latest.path) === basename(resolve(path));
  return { checkpoint, path, run: isLatest ? run : undefined };
}

/** What is wrong with a file as a run to go on with. */
async function whatFileIs(path: string): Promise<string> {
  const bytes = new Uint8Array(128);
  using file = await Deno.open(path);
  const foreign = foreignFormat(bytes.subarray(0, await file.read(bytes) ?? 0));
  return "is a file; a run goes on from its own folder, or from a checkpoint's" +
    (foreign === undefined ? "" : `; ${foreign}`);
}

async function readCheckpoint(folder: string): Promise<Checkpoint> {
  const files: Partial<CheckpointFiles> = {};
  for (const name of CHECKPOINT_FILES) {
    const max = name === "run.json" ? MAX_RUN_BYTES : MAX_TENSOR_BYTES;
    files[name] = await readBounded(join(folder, name), max);
  }
  return await decodeCheckpoint(files as CheckpointFiles, folder);
}

/**
 * Whether the weights at a path are a file, or a checkpoint's or a run's folder.
 *
 * @throws {CheckpointError} where there is neither.
 */
export async function kindOfWeights(path: string): Promise<"file" | "folder"> {
  const kind = await kindOf(path);
  if (kind === undefined) throw new CheckpointError(`${path}: there is no such file or folder`);
  return kind;
}

/**
 * The bytes of a file, which must not be more than `max`.
 *
 * @throws {CheckpointError} where they are, or there is no such file.
 */
export async function readBounded(path: string, max: number): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const { size, isFile } = await Deno.stat(path);
    if (!isFile) throw new CheckpointError(`${path}: is not a file`);
    if (size > max) throw new CheckpointError(`${path}: ${size} bytes are more than ${max}`);
    return await Deno.readFile(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    const why = cause instanceof Deno.errors.NotFound
      ? "there is no such file; the checkpoint is not complete"
      : `cannot be read: ${cause instanceof Error ? cause.message : cause}`;
    throw new CheckpointError(`${path}: ${why}`, { cause });
  }
}

/** A folder for a run, which another run or process has. */
export class FolderTakenError extends CheckpointError {
  /** `FolderTakenError`. */
  override name = "FolderTakenError";

  /** Of a folder that has a run in it, or that a process trains in. */
  constructor(readonly path: string, readonly by: "run" | "process", what: string) {
    super(`${path}: ${what}`);
  }
}

/** A run's folder, held by this process. */
export class RunDirectory implements Disposable {
  readonly #file: Deno.FsFile;

  private constructor(
    /** The folder. */
    readonly path: string,
    lock: Deno.FsFile,
  ) {
    this.#file = lock;
  }

  /**
   * Takes a run's folder, and makes it where there is none.
   *
   * @throws {CheckpointError} when another process has it, or when it is to be `fresh` but is not.
   * @throws {WriteError} when it may not be written to, or the disk is full.
   */
  static async open(path: string, { fresh }: { fresh: boolean }): Promise<RunDirectory> {
    const run = new RunDirectory(path, await RunDirectory.#lock(path));
    try {
      if (fresh && (await findCheckpoints(path)).length > 0) {
        const what = "there is a run already; go on with it, or give another folder";
        throw new FolderTakenError(path, "run", what);
      }
      await run.#begin();
      return run;
    } catch (error) {
      run[Symbol.dispose]();
      throw error;
    }
  }

  /** The lock's file, locked. */
  static async #lock(path: string): Promise<Deno.FsFile> {
    const name = join(path, "lock");
    let lock: Deno.FsFile | undefined;
    try {
      lock = await takeLock(name);
      if (lock) await Deno.mkdir(join(path, "checkpoints"), { recursive: true });
    } catch (cause) {
      lock?.close();
      throw new WriteError(path, cause);
    }
    if (lock) return lock;
    const holder = await Deno.readTextFile(name).catch(() => "");
    const who = holder.trim().slice(0, 100) || "its number is unknown";
    const what =
      `another process is training there (${who}); wait for it, stop it, or give another`;
    throw new FolderTakenError(path, "process", `${what} folder`);
  }

  /** Says who has the folder, and removes what a killed process left half written. */
  async #begin(): Promise<void> {
    try {
      await this.#file.truncate();
      await this.#file.write(new TextEncoder().encode(`process ${Deno.pid}\n`));
      await removeUnfinished(this.path);
      await removeUnfinished(join(this.path, "report"));
      const folder = join(this.path, "checkpoints");
      for (const { name } of await Array.fromAsync(Deno.readDir(folder))) {
        if (!name.startsWith(".partial-")) continue;
        await Deno.remove(join(folder, name), { recursive: true });
      }
    } catch (cause) {
      throw new WriteError(this.path, cause);
    }
  }

  /**
   * Writes a checkpoint, whole or not at all.
   *
   * @returns its folder.
   * @throws {WriteError} when it cannot be written; those before it are as they were.
   */
  async save(checkpoint: Checkpoint): Promise<string> {
    const folder = join(this.path, "checkpoints");
    const path = join(folder, folderName(checkpoint.run));
    const files = await encodeCheckpoint(checkpoint);
    const partial = join(folder, `.partial-${crypto.randomUUID()}`);
    try {
      if (await kindOf(path)) throw new CheckpointError(`${path}: is there already`);
      await Deno.mkdir(partial);
      for (const name of CHECKPOINT_FILES) await writeFileWhole(join(partial, name), files[name]);
      await Deno.rename(partial, path);
    } catch (error) {
      await Deno.remove(partial, { recursive: true }).catch(() => {});
      throw error instanceof CheckpointError ? error : new WriteError(path, error);
    }
    // The checkpoint is safe: an old stop that cannot be removed is one folder too many, no more.
    await this.#removeOldStops().catch(() => {});
    return path;
  }

  async #removeOldStops(): Promise<void> {
    for (const { path, step } of (await findCheckpoints(this.path)).slice(1)) {
      if (step > 0) await Deno.remove(path, { recursive: true });
    }
  }

  /** Lets the folder go, and removes it where nothing was saved. */
  [Symbol.dispose](): void {
    const checkpoints = join(this.path, "checkpoints");
    // A link to another disk is removed as if it were empty, so it is not tried.
    const isFolder = (path: string) => Deno.lstatSync(path).isDirectory;
    try {
      if (isFolder(checkpoints)) {
        for (const path of [checkpoints, join(this.path, "lock")]) Deno.removeSync(path);
        if (isFolder(this.path)) Deno.removeSync(this.path);
      }
    } catch {
      // There is something in it: as it should be.
    }
    this.#file.close();
  }
}
