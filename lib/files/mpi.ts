/**
 * MPI for several processes, on one machine or a cluster, through Deno's FFI: Open MPI 4 and 5,
 * MPICH and its kin (Intel MPI, MVAPICH), and whatever has the standard ABI of MPI 5.
 *
 * @module
 */

import {
  checkInstance,
  checkNumber,
  checkOptions,
  checkString,
  refuse,
} from "../check/arguments.ts";
import { brief } from "../check/text.ts";
import type { Collective } from "../train/collective.ts";

/**
 * Why MPI cannot be used. `library`: there is none that can be loaded. `permitted`: Deno may not
 * load it. `launcher`: it does not belong to the launcher, or the launcher is gone. `failed`: a
 * call failed. `late`: the other ranks did not come in time.
 */
export type MpiErrorCode = "library" | "permitted" | "launcher" | "failed" | "late";

/** MPI cannot be used; the message says why and, where it can, what to do. */
export class MpiError extends Error {
  /** `MpiError`. */
  override name = "MpiError";

  /** `path` is the library's, if it is about one. */
  constructor(readonly code: MpiErrorCode, message: string, readonly path?: string) {
    super(message);
  }
}

/** Settings of {@linkcode Mpi.init}. */
export interface MpiOptions {
  /** Absolute path of the library; by default `RESNETTE_MPI`, or one of the usual places. */
  readonly library?: string;
  /** Seconds that a call waits for the other ranks before it fails; 300 by default. */
  readonly timeout?: number;
}

/** Elements of an array, at most: MPI counts in 31 bits. */
const MOST = 2 ** 31 - 1;

/** The longest wait, in seconds: more milliseconds are too many for a timer. */
const LONGEST = 2_000_000;

/**
 * Where libraries lie, by kind: in packages of Debian and Ubuntu, of Fedora and its kin, of Arch and
 * Homebrew, and where they are installed by hand. Deno permits a library by its whole path only.
 */
export const MPI_PLACES = {
  openmpi: [
    "/usr/lib/x86_64-linux-gnu/libmpi.so.40",
    "/usr/lib/aarch64-linux-gnu/libmpi.so.40",
    "/usr/lib64/openmpi/lib/libmpi.so.40",
    "/usr/lib/libmpi.so.40",
    "/usr/local/lib/libmpi.so.40",
    "/usr/local/lib/libmpi.40.dylib",
    "/opt/homebrew/lib/libmpi.40.dylib",
  ],
  mpich: [
    "/usr/lib/x86_64-linux-gnu/libmpich.so.12",
    "/usr/lib/aarch64-linux-gnu/libmpich.so.12",
    "/usr/lib64/mpich/lib/libmpi.so.12",
    "/usr/local/lib/libmpi.so.12",
    "/usr/local/lib/libmpi.12.dylib",
    "/opt/homebrew/lib/libmpi.12.dylib",
  ],
  standard: ["/usr/local/lib/libmpi_abi.so.1"],
} as const;

/** Variables by which launchers say how many processes they started, and the libraries they go with. */
const LAUNCHERS = [
  ["OMPI_COMM_WORLD_SIZE", "mpirun", ["openmpi", "standard"]],
  ["PMI_SIZE", "mpiexec", ["mpich", "standard"]],
  ["SLURM_STEP_NUM_TASKS", "srun", ["openmpi", "mpich", "standard"]],
] as const;

/** The variables that {@linkcode Mpi.init} asks for. */
export const MPI_VARIABLES: readonly string[] = [
  ...LAUNCHERS.map(([variable]) => variable),
  "RESNETTE_MPI",
];

/** Whether a path is whole; there is no MPI here but on systems whose paths begin so. */
const isWhole = (path: string) => path.startsWith("/");

/** What started this process as one of several, if anything did. */
interface Launched {
  readonly by: string;
  readonly size: number;
  readonly places: readonly string[];
}

function launched(): Launched | undefined {
  for (const [variable, by, kinds] of LAUNCHERS) {
    const size = Number(Deno.env.get(variable));
    if (size > 1) return { by, size, places: kinds.flatMap((kind) => MPI_PLACES[kind]) };
  }
  return undefined;
}

/**
 * The functions, with handles of a type: addresses in Open MPI, numbers elsewhere. MPICH's are 32-bit, and
 * no calling convention looks at the rest of the word. (Addresses as numbers would take
 * `Deno.UnsafePointer`, which only those get who may load any library.)
 */
const symbolsOf = <T extends "pointer" | "usize">(handle: T) => ({
  MPI_Init_thread: call("pointer", "pointer", "i32", "buffer"),
  MPI_Finalize: call(),
  MPI_Abort: call(handle, "i32"),
  MPI_Allreduce: call("usize", "buffer", "i32", handle, handle, handle),
  MPI_Bcast: call("buffer", "i32", handle, "i32", handle),
  MPI_Allgather: call("buffer", "i32", handle, "buffer", "i32", handle, handle),
  MPI_Alltoall: call("buffer", "i32", handle, "buffer", "i32", handle, handle),
  MPI_Comm_rank: { parameters: [handle, "buffer"], result: "i32" },
  MPI_Comm_size: { parameters: [handle, "buffer"], result: "i32" },
  MPI_Comm_set_errhandler: { parameters: [handle, handle], result: "i32" },
  MPI_Error_string: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  MPI_Get_library_version: { parameters: ["buffer", "buffer"], result: "i32" },
  MPI_Get_processor_name: { parameters: ["buffer", "buffer"], result: "i32" },
  // Of MPI 5; in a library of another ABI it says so.
  MPI_Abi_get_version: { parameters: ["buffer", "buffer"], result: "i32", optional: true },
  // Open MPI's handles are the addresses of these.
  ompi_mpi_comm_world: { type: "pointer", optional: true },
  ompi_mpi_byte: { type: "pointer", optional: true },
  ompi_mpi_float: { type: "pointer", optional: true },
  ompi_mpi_op_sum: { type: "pointer", optional: true },
  ompi_mpi_errors_return: { type: "pointer", optional: true },
} as const);

/** A function that waits for other ranks, on a thread of its own. */
const call = <const P extends Deno.NativeType[]>(...parameters: P) =>
  ({ parameters, result: "i32", nonblocking: true }) as const;

/** What `mpi.h` defines. */
interface Constants {
  readonly world: Handle;
  readonly byte: Handle;
  readonly float: Handle;
  readonly sum: Handle;
  readonly errorsReturn: Handle;
  readonly inPlace: bigint;
  readonly serialized: number;
}
/** Of either type: a library's functions and constants go together. */
type Handle = never;

const MPICH = {
  world: 0x44000000,
  byte: 0x4c00010d,
  float: 0x4c00040a,
  sum: 0x58000003,
  errorsReturn: 0x54000001,
  inPlace: 2n ** 64n - 1n,
  serialized: 2,
};
const MPI_5 = {
  world: 0x101,
  byte: 0x247,
  float: 0x210,
  sum: 0x21,
  errorsReturn: 0x143,
  inPlace: 1n,
  serialized: 2048,
};

/** A library that is loaded. */
interface Library {
  readonly symbols: ReturnType<
    typeof Deno.dlopen<ReturnType<typeof symbolsOf<"usize">>>
  >["symbols"];
  readonly constants: Constants;
}

/** Loads a library, and finds out which of the three it is. */
function load(path: string): Library {
  const { symbols } = Deno.dlopen(path, symbolsOf("usize"));
  if (symbols.ompi_mpi_comm_world !== null) {
    const { symbols } = Deno.dlopen(path, symbolsOf("pointer"));
    const constants = {
      world: symbols.ompi_mpi_comm_world,
      byte: symbols.ompi_mpi_byte,
      float: symbols.ompi_mpi_float,
      sum: symbols.ompi_mpi_op_sum,
      errorsReturn: symbols.ompi_mpi_errors_return,
      inPlace: 1n,
      serialized: 2,
    };
    return { symbols: symbols as never, constants: constants as Constants };
  }
  const major = new Int32Array(1);
  symbols.MPI_Abi_get_version?.(major, new Int32Array(1));
  return { symbols, constants: (major[0]! > 0 ? MPI_5 : MPICH) as Constants };
}

/** A library that may be loaded and can be; the message of the error says what to do. */
function find(given: string | undefined, { by, size, places }: Launched): [string, Library] {
  const failures: string[] = [], refused: string[] = [];
  for (const path of given === undefined ? places : [given]) {
    // Nobody is asked: behind a launcher, nobody could answer.
    if (Deno.permissions.querySync({ name: "ffi", path }).state !== "granted") {
      refused.push(path);
      continue;
    }
    try {
      return [path, load(path)];
    } catch (error) {
      failures.push((error as Error).message.replace(/^Could not open library: /, ""));
    }
  }
  const which = `this is one of ${size} processes that ${by} started`;
  if (failures.length === 0) {
    const some = given ?? refused.find((path) => path.includes(Deno.build.arch)) ?? refused[0]!;
    throw new MpiError(
      "permitted",
      `${which}, but Deno may not load a library of MPI; permit it by its path, as ` +
        `--allow-ffi=${some}`,
      some,
    );
  }
  const broken = failures.find((text) => !/no such file/i.test(text));
  throw new MpiError(
    "library",
    given === undefined && broken === undefined
      ? `${which}, but its library of MPI is in none of the usual places (${
        brief(places.join(", "), 400)
      }); install it on this machine, or say where it is: RESNETTE_MPI=/…/libmpi.so`
      : `${which}, but its library of MPI cannot be loaded: ${broken ?? failures[0]}`,
    given,
  );
}

/** The text that a call writes, in no more than 8192 bytes. */
function textOf(write: (text: Uint8Array<ArrayBuffer>, length: Int32Array<ArrayBuffer>) => void) {
  const text = new Uint8Array(8192), length = new Int32Array(1);
  write(text, length);
  return new TextDecoder().decode(text.subarray(0, length[0]!)).replace(/\0.*$/s, "").trim();
}

/** What {@linkcode Mpi} is made of where there are several processes. */
interface Connection extends Library {
  readonly launched: Launched;
  /** The process that started this one. */
  readonly parent: number;
}

/**
 * The processes that `mpirun`, `mpiexec` or `srun` started, as one of them sees them. A process
 * that was started alone needs no library: it is rank 0 of 1.
 *
 * Calls run one after the other, each on a thread of its own, so timers and signals go on. A call
 * fails if the other ranks do not come within {@linkcode Mpi.timeout} seconds, or if the process is
 * gone that started this one. All later calls then fail too, and {@linkcode Mpi.abort} ends what is
 * left. An error that nobody catches is printed and ends all ranks.
 *
 * @example Run by `mpirun -n 4 deno run …`, or alone
 * ```ts
 * import { Mpi } from "@resnette/resnette/mpi";
 * import { Flatten, Linear, Sequential } from "@resnette/resnette";
 * import { trainConfig, Trainer } from "@resnette/resnette/train";
 * import { assertEquals } from "@std/assert";
 *
 * const mpi = await Mpi.init();
 * const images = new Uint8Array([0, 255, 255, 0]), labels = new Uint8Array([0, 1]);
 * const data = { images, labels, count: 2, height: 1, width: 2, classes: ["right", "left"] };
 * const config = trainConfig({ batchSize: 2, resize: 2, epochs: 1 });
 * const net = new Sequential(new Flatten(), new Linear(4, 2));
 * using trainer = await Trainer.create({ config, train: data, test: data, net, collective: mpi });
 * await trainer.epoch();
 * if (mpi.rank === 0) assertEquals(trainer.history.length, 1);
 * await mpi.finalize();
 * ```
 */
export class Mpi implements Collective {
  static #started: Promise<Mpi> | undefined;

  /** The number of this process, from 0 on. */
  readonly rank: number = 0;
  /** The number of processes. */
  readonly size: number = 1;
  /** The library's name and version, `Open MPI v4.1.4`; empty for a process alone. */
  readonly library: string = "";
  /** The library's name for this machine; empty for a process alone. */
  readonly host: string = "";
  /** Seconds that a call waits for the other ranks before it fails. */
  timeout: number;
  readonly #connection: Connection | undefined;
  /** The call that was made last, once it is done. */
  #last: Promise<unknown> = Promise.resolve();
  /** What the call that runs works on: Deno does not keep the memory of such a call. */
  #held: readonly ArrayBufferView[] = [];
  /** Why no more calls can be made. */
  #broken: Error | undefined;
  /** Whether the library has been left, or is about to be. */
  #leaves = false;

  private constructor(timeout: number, connection?: Connection, path = "") {
    this.timeout = timeout;
    this.#connection = connection;
    if (!connection) return;
    const { symbols, constants: { world }, launched: { by, size: launched } } = connection;
    const rank = new Int32Array(1), size = new Int32Array(1);
    symbols.MPI_Comm_rank(world, rank);
    symbols.MPI_Comm_size(world, size);
    this.rank = rank[0]!;
    this.size = size[0]!;
    this.library = textOf((text, length) => symbols.MPI_Get_library_version(text, length))
      .split(/[\n,]/)[0]!.replace(/\s+/g, " ").replace("Version: ", "").trim();
    this.host = textOf((text, length) => symbols.MPI_Get_processor_name(text, length));
    if (this.size !== launched) {
      throw new MpiError(
        "launcher",
        `${by} started ${launched} processes, but ${path} (${this.library}) knows of ${this.size}: ` +
          "it is not the library of that launcher. Use both of one MPI: RESNETTE_MPI=/…/libmpi.so " +
          "names the library" + (by === "srun" ? ", srun --mpi=list the kinds that srun has" : ""),
        path,
      );
    }
  }

  /**
   * Connects to the processes that were started with this one; all of them must call it. Later
   * calls give the same object. A process that was started alone loads no library.
   *
   * @throws {ArgumentError} for an invalid option.
   * @throws {MpiError} if there is no library, Deno may not load it, it does not belong to the
   * launcher, or the others do not come in time.
   *
   * @example
   * ```ts
   * import { Mpi } from "@resnette/resnette/mpi";
   * import { assert } from "@std/assert";
   *
   * const { rank, size } = await Mpi.init({ timeout: 60 });
   * assert(rank < size);
   * ```
   */
  static async init(options: MpiOptions = {}): Promise<Mpi> {
    checkOptions("Mpi.init", options, ["library", "timeout"]);
    const { library, timeout = 300 } = options;
    if (library !== undefined) {
      checkString("Mpi.init", "library", library);
      if (!isWhole(library)) refuse("Mpi.init", "library", "a whole path", library);
    }
    checkNumber("Mpi.init", "timeout", timeout, { min: 0.1, max: LONGEST });
    return await (Mpi.#started ??= Mpi.#init(library, timeout));
  }

  static async #init(library: string | undefined, timeout: number): Promise<Mpi> {
    const started = launched();
    if (!started) return new Mpi(timeout);
    const named = library ?? (Deno.env.get("RESNETTE_MPI") || undefined);
    if (named !== undefined && !isWhole(named)) {
      const what = `RESNETTE_MPI must be the whole path of a library, got ${JSON.stringify(named)}`;
      throw new MpiError("library", what, named);
    }
    const [path, { symbols, constants }] = find(named, started), parent = Deno.ppid;
    const { serialized, world, errorsReturn } = constants;
    const provided = new Int32Array(1);
    await watched(
      "MPI_Init",
      { timeout, parent },
      symbols.MPI_Init_thread(null, null, serialized, provided),
    );
    if (provided[0]! < serialized) {
      throw new MpiError("library", `${path} does not take calls from several threads`, path);
    }
    // Else it ends the process, without a word of ours.
    symbols.MPI_Comm_set_errhandler(world, errorsReturn);
    const mpi = new Mpi(timeout, { symbols, constants, launched: started, parent }, path);
    // Deno unloads the library at its end, and Open MPI, whose threads still run, dies of that.
    addEventListener("unload", () => Deno.exit());
    const fail = (event: Event, error: unknown) => {
      event.preventDefault();
      console.error(error);
      mpi.abort(1);
    };
    addEventListener("error", (event) => fail(event, event.error));
    addEventListener("unhandledrejection", (event) => fail(event, event.reason));
    return mpi;
  }

  /**
   * Sums over the ranks, element by element, in place. All ranks get the same bits.
   *
   * @throws {MpiError} if a rank is lost, or does not come in time.
   */
  async allReduce(values: Float32Array<ArrayBuffer>): Promise<void> {
    checkInstance("Mpi.allReduce", "values", values, Float32Array);
    return await this.#call("allReduce", [values], ({ symbols, constants }) => {
      const { world, float, sum, inPlace } = constants;
      return symbols.MPI_Allreduce(inPlace, values, values.length, float, sum, world);
    });
  }

  /**
   * Replaces the bytes by those of rank 0; all ranks must give as many.
   *
   * @throws {MpiError} if a rank is lost, or does not come in time.
   */
  async broadcast(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    checkInstance("Mpi.broadcast", "bytes", bytes, Uint8Array);
    return await this.#call("broadcast", [bytes], ({ symbols, constants: { world, byte } }) => {
      return symbols.MPI_Bcast(bytes, bytes.length, byte, 0, world);
    });
  }

  /**
   * Gets the bytes of all ranks, in their order: `receive` is `size` times as long as `send`.
   *
   * @throws {ArgumentError} if `receive` has another length.
   * @throws {MpiError} if a rank is lost, or does not come in time.
   */
  async allGather(send: Uint8Array<ArrayBuffer>, receive: Uint8Array<ArrayBuffer>): Promise<void> {
    checkInstance("Mpi.allGather", "send", send, Uint8Array);
    checkInstance("Mpi.allGather", "receive", receive, Uint8Array);
    const { length } = send, all = this.size * length;
    if (receive.length !== all) refuse("Mpi.allGather", "receive", `of ${all} bytes`, receive);
    if (!this.#connection) receive.set(send);
    return await this.#call(
      "allGather",
      [send, receive],
      ({ symbols, constants: { world, byte } }) => {
        return symbols.MPI_Allgather(send, length, byte, receive, length, byte, world);
      },
    );
  }

  /**
   * Sends each rank its part of `send`, and gets each rank's part for this one. Both are equally
   * long, and have equal parts.
   *
   * @throws {ArgumentError} if the lengths differ, or cannot be divided by `size`.
   * @throws {MpiError} if a rank is lost, or does not come in time.
   */
  async allToAll(send: Uint8Array<ArrayBuffer>, receive: Uint8Array<ArrayBuffer>): Promise<void> {
    checkInstance("Mpi.allToAll", "send", send, Uint8Array);
    checkInstance("Mpi.allToAll", "receive", receive, Uint8Array);
    const { length } = send, part = length / this.size;
    if (receive.length !== length) refuse("Mpi.allToAll", "receive", `of ${length} bytes`, receive);
    if (!Number.isInteger(part)) {
      refuse("Mpi.allToAll", "send", `of as many bytes for each of ${this.size} ranks`, send);
    }
    if (!this.#connection) receive.set(send);
    return await this.#call(
      "allToAll",
      [send, receive],
      ({ symbols, constants: { world, byte } }) => {
        return symbols.MPI_Alltoall(send, part, byte, receive, part, byte, world);
      },
    );
  }

  /**
   * Leaves the other ranks in order: it waits until all do the same. No call can be made after it.
   *
   * @throws {MpiError} if a rank does not come in time.
   */
  async finalize(): Promise<void> {
    await this.#call("finalize", [], ({ symbols }) => {
      this.#leaves = true;
      return symbols.MPI_Finalize();
    });
    this.#broken ??= new MpiError("failed", "MPI: this process has left the others already");
  }

  /**
   * Ends all ranks and this process, within seconds. Call it after an error that the others do not
   * know of, as they would wait for this one.
   *
   * @param code the exit code, from 1 to 255
   */
  async abort(code: number): Promise<never> {
    checkNumber("Mpi.abort", "code", code, { integer: true, min: 1, max: 255 });
    const { symbols, constants } = this.#leaves ? {} : this.#connection ?? {};
    // A launcher may throw away what it has not passed on when it is told to end all.
    if (symbols) await new Promise((resume) => setTimeout(resume, 500));
    // A library may wait for a call that waits for others. Where the process ends so, its launcher sees it.
    setTimeout(() => Deno.exit(code), symbols ? 3000 : 0);
    await symbols?.MPI_Abort(constants!.world, code);
    return await new Promise<never>(() => {});
  }

  /** A call of this rank, in words. */
  #words(name: string): string {
    return `rank ${this.rank} on ${this.host}: ${name}`;
  }

  /** Makes a call once those before it are done. An error of one is an error of all that follow. */
  #call(
    name: string,
    arrays: readonly (Float32Array | Uint8Array)[],
    make: (connection: Connection) => Promise<number>,
  ): Promise<void> {
    const long = arrays.find(({ length }) => length > MOST);
    if (long) refuse(`Mpi.${name}`, "arrays", `of at most ${MOST} elements`, long);
    const connection = this.#connection;
    const done = this.#last.then(async () => {
      if (this.#broken) throw this.#broken;
      if (!connection) return;
      const { symbols } = connection;
      this.#held = arrays;
      try {
        const bounds = { timeout: this.timeout, parent: connection.parent };
        const code = await watched(this.#words(name), bounds, make(connection));
        this.#held = [];
        if (code === 0) return;
        const words = textOf((text, length) => symbols.MPI_Error_string(code, text, length));
        throw new MpiError("failed", `${this.#words(name)} failed: ${words}`);
      } catch (error) {
        throw this.#broken = error as Error;
      }
    });
    this.#last = done.catch(() => {});
    return done;
  }
}

/**
 * What a call returns, unless it does not within so many seconds, or what started this process is gone.
 * Seconds in which this process stood still do not count: then the others may have stood still as well.
 */
async function watched(
  name: string,
  { timeout, parent }: { readonly timeout: number; readonly parent: number },
  call: Promise<number>,
): Promise<number> {
  const { promise, reject } = Promise.withResolvers<never>();
  const tick = Math.min(1, timeout);
  let seconds = 0;
  const timer = setInterval(() => {
    seconds += tick;
    if (Deno.ppid !== parent) {
      reject(new MpiError("launcher", `${name}: what started this process is gone`));
    } else if (seconds >= timeout) {
      const why = "one of them hangs, needs longer, or cannot be reached";
      reject(new MpiError("late", `${name} waited ${timeout} seconds for the other ranks: ${why}`));
    }
  }, 1000 * tick);
  try {
    return await Promise.race([call, promise]);
  } finally {
    clearInterval(timer);
  }
}
