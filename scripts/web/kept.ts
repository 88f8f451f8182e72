/**
 * Keeps a run in the browser: the three files of a checkpoint, and the name of the file of weights
 * that it began with, in the page's own file system. There are two folders, and one stays while the
 * other is written. So if the page is closed meanwhile, the checkpoint before is still there. Without
 * such a file system, the run is kept until the page is closed.
 *
 * @module
 */

import {
  type Checkpoint,
  CHECKPOINT_FILES,
  type CheckpointFiles,
  decodeCheckpoint,
  encodeCheckpoint,
} from "../../lib/train/checkpoint.ts";

/** The folders. */
const FOLDERS = ["run-a", "run-b"] as const;
/** The file with the name of the weights that a run began with; empty if that was by its seed. */
const INIT = "init.txt";
/** What a tab holds while it writes, and the milliseconds that another one waits for it. */
const LOCK = "resnette kept", PATIENCE = 10_000;

/** A run that was kept. */
export interface KeptRun {
  /** Where it stands. */
  readonly checkpoint: Checkpoint;
  /** When that was, in milliseconds. */
  readonly time: number;
  /** The name of the file of weights that it began with; undefined if it began by its seed. */
  readonly init?: string | undefined;
}

/** The one run that is kept. */
export class Kept {
  /** What was kept last, where nothing can be written. */
  #memory: KeptRun | undefined;
  /** The folder that was written last. */
  #latest: typeof FOLDERS[number] | undefined;

  #saving: Promise<unknown> = Promise.resolve();

  private constructor(readonly root: FileSystemDirectoryHandle | undefined) {}

  /** Opens the page's file system. */
  static async open(): Promise<Kept> {
    try {
      return new Kept(await navigator.storage.getDirectory());
    } catch {
      return new Kept(undefined); // As in a private window.
    }
  }

  /** Whether it is still there after a reload. */
  get lasts(): boolean {
    return this.root !== undefined;
  }

  /** Keeps a run, and no other, once what was to be kept before is; the time. */
  save(checkpoint: Checkpoint, init?: string): Promise<number> {
    const saved = this.#saving.then(() => this.#save(checkpoint, init));
    this.#saving = saved.catch(() => {});
    return saved;
  }

  async #save(checkpoint: Checkpoint, init?: string): Promise<number> {
    const time = Date.now();
    if (!this.root) {
      this.#memory = { checkpoint, time, init };
      return time;
    }
    const text = new TextEncoder().encode(init);
    const files = { ...await encodeCheckpoint(checkpoint), [INIT]: text };
    await alone(() => this.#write(files));
    return time;
  }

  /** Writes the folder that was not written last. */
  async #write(files: CheckpointFiles & { [INIT]: Uint8Array<ArrayBuffer> }): Promise<void> {
    const name = FOLDERS[this.#latest === FOLDERS[0] ? 1 : 0];
    const folder = await this.root!.getDirectoryHandle(name, { create: true });
    // The last of them vouches for the others.
    for (const file of [INIT, ...CHECKPOINT_FILES] as const) {
      await write(folder, file, files[file]);
    }
    this.#latest = name;
  }

  /** The run that was kept last; undefined where there is none, or none that is whole. */
  async load(): Promise<KeptRun | undefined> {
    if (!this.root) return this.#memory;
    const runs = await Promise.all(FOLDERS.map((name) => this.#read(name)));
    const [latest] = runs.filter((run) => run !== undefined).sort((a, b) => b.time - a.time);
    this.#latest = latest?.folder;
    return latest;
  }

  /** Keeps nothing any more. */
  async clear(): Promise<void> {
    this.#memory = this.#latest = undefined;
    const { root } = this;
    if (!root) return;
    await alone(async () => {
      for (const name of FOLDERS) await root.removeEntry(name, { recursive: true }).catch(() => {});
    }).catch(() => {});
  }

  async #read(name: typeof FOLDERS[number]) {
    try {
      const folder = await this.root!.getDirectoryHandle(name);
      const files: Partial<CheckpointFiles> = {};
      let time = 0;
      for (const file of CHECKPOINT_FILES) {
        const found = await (await folder.getFileHandle(file)).getFile();
        files[file] = new Uint8Array(await found.arrayBuffer());
        time = found.lastModified;
      }
      return {
        checkpoint: await decodeCheckpoint(files as CheckpointFiles, name),
        time,
        init: await textOf(folder, INIT) || undefined,
        folder: name,
      };
    } catch {
      return undefined; // It is not there, or was not written to its end.
    }
  }
}

/** The text of a file; none where there is no such file. */
async function textOf(folder: FileSystemDirectoryHandle, name: string): Promise<string> {
  try {
    return await (await (await folder.getFileHandle(name)).getFile()).text();
  } catch {
    return "";
  }
}

/** Does something with the files while no other tab does: they have the same ones. */
async function alone(work: () => Promise<void>): Promise<void> {
  const { locks } = navigator as { readonly locks?: LockManager };
  if (!locks) return await work();
  const late = new AbortController(), why = new Error("another tab is writing for long");
  const timer = setTimeout(() => late.abort(why), PATIENCE);
  try {
    await locks.request(LOCK, { signal: late.signal }, work);
  } finally {
    clearTimeout(timer);
  }
}

/** A file that is open to a worker: the page's types do not know it. */
interface OpenFile {
  truncate(size: number): void;
  write(bytes: Uint8Array<ArrayBuffer>, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** Writes a file of a folder, in the one way that all browsers have, and only in workers. */
async function write(
  folder: FileSystemDirectoryHandle,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const handle = await folder.getFileHandle(name, { create: true }) as unknown as {
    createSyncAccessHandle(): Promise<OpenFile>;
  };
  const file = await handle.createSyncAccessHandle();
  try {
    file.truncate(0);
    const written = file.write(bytes, { at: 0 });
    if (written < bytes.length) {
      throw new Error(`only ${written} of ${bytes.length} bytes of ${name} could be written`);
    }
    file.flush();
  } finally {
    file.close();
  }
}
