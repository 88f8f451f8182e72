/**
 * The binding to MPI without any: what libraries of the three ABIs are asked, played by functions in
 * place of theirs, and what is said where a call fails or never ends. `tests/mpi/` has real ones.
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import type { Mpi as MpiClass, MpiOptions } from "@resnette/resnette/mpi";

type Module = typeof import("../../lib/files/mpi.ts");
type Symbols = Record<string, unknown>;

/** Calls of a library, by name, with their arguments. */
type Calls = [name: string, ...args: unknown[]][];

/** What a played library has that others have not, and how it answers. */
interface Played {
  /** Symbols that are there. */
  readonly has?: Symbols;
  /** Answers of functions, if not 0 at once. */
  readonly answers?: Readonly<Record<string, () => unknown>>;
  /** How many processes it knows of. */
  readonly size?: number;
  /** What threads it takes calls from, where it is asked for `wanted`. */
  readonly threads?: (wanted: number) => number;
}

let number = 0;

/** Runs `use` in a process that is one of two, with a library that is played. */
async function inRank(
  { has = {}, answers = {}, size = 2, threads = (wanted) => wanted }: Played,
  options: MpiOptions,
  use: (init: () => Promise<MpiClass>, calls: Calls, module: Module) => Promise<void>,
): Promise<void> {
  const calls: Calls = [];
  const text = (words: string) => (to: Uint8Array, length: Int32Array) => {
    length[0] = new TextEncoder().encodeInto(words, to).written;
  };
  const tell: Readonly<Record<string, (...args: never[]) => void>> = {
    MPI_Init_thread: (_: null, __: null, wanted: number, given: Int32Array) => {
      given[0] = threads(wanted);
    },
    MPI_Comm_rank: (_: unknown, rank: Int32Array) => void (rank[0] = 1),
    MPI_Comm_size: (_: unknown, found: Int32Array) => void (found[0] = size),
    MPI_Get_library_version: text("Played Version:  1.2\nmore"),
    MPI_Get_processor_name: text("here"),
    MPI_Error_string: (_: number, to: Uint8Array, length: Int32Array) =>
      text("no peer\0")(to, length),
  };
  const dlopen = (path: string, wanted: Record<string, { optional?: boolean }>) => {
    calls.push(["dlopen", path]);
    const symbols = Object.fromEntries(
      Object.entries(wanted).map(([name, { optional }]) => {
        if (optional) return [name, has[name] ?? null];
        return [name, (...args: never[]) => {
          calls.push([name, ...args]);
          tell[name]?.(...args);
          return answers[name]?.() ?? 0;
        }];
      }),
    );
    return { symbols, close() {} };
  };
  const real = { dlopen: Deno.dlopen, query: Deno.permissions.querySync, addEventListener };
  // What it does at the end of its process is not for the end of this one.
  globalThis.addEventListener = () => {};
  Object.assign(Deno, { dlopen });
  Deno.permissions.querySync = () => ({ state: "granted" }) as Deno.PermissionStatus;
  Deno.env.set("OMPI_COMM_WORLD_SIZE", "2");
  try {
    const module: Module = await import(`../../lib/files/mpi.ts?${number++}`);
    const init = () => module.Mpi.init({ library: "/played/libmpi.so", ...options });
    await use(init, calls, module);
  } finally {
    Object.assign(Deno, { dlopen: real.dlopen });
    globalThis.addEventListener = real.addEventListener;
    Deno.permissions.querySync = real.query;
    Deno.env.delete("OMPI_COMM_WORLD_SIZE");
  }
}

/** Arguments of the last call of a function. */
const lastOf = (calls: Calls, name: string) =>
  calls.findLast(([called]) => called === name)!.slice(1);

const OPEN_MPI = Object.fromEntries(
  ["comm_world", "byte", "float", "op_sum", "errors_return"]
    .map((name) => [`ompi_mpi_${name}`, { address: name }]),
);
const MPI_5 = {
  MPI_Abi_get_version: (major: Int32Array) => void (major[0] = 1),
};
/** MPICH 5 has the function in its own ABI as well, where it says so. */
const MPICH = { MPI_Abi_get_version: (major: Int32Array) => void (major[0] = -1) };

Deno.test("each ABI gets its own handles and constants", async () => {
  const { ompi_mpi_comm_world: world, ompi_mpi_float: float, ompi_mpi_op_sum: sum } = OPEN_MPI;
  const abis = [
    [OPEN_MPI, [1n, world, float, sum, OPEN_MPI["ompi_mpi_byte"]], 2],
    [MPI_5, [1n, 0x101, 0x210, 0x21, 0x247], 2048],
    [MPICH, [2n ** 64n - 1n, 0x44000000, 0x4c00040a, 0x58000003, 0x4c00010d], 2],
    [{}, [2n ** 64n - 1n, 0x44000000, 0x4c00040a, 0x58000003, 0x4c00010d], 2],
  ] as const;
  for (const [has, [inPlace, world, float, sum, byte], serialized] of abis) {
    await inRank({ has }, {}, async (init, calls) => {
      const mpi = await init();
      assertEquals([mpi.rank, mpi.size, mpi.library, mpi.host], [1, 2, "Played 1.2", "here"]);
      assertEquals(lastOf(calls, "MPI_Init_thread")[2], serialized);
      assertEquals(lastOf(calls, "MPI_Comm_set_errhandler")[0], world);
      const values = new Float32Array(3), bytes = new Uint8Array(4), all = new Uint8Array(8);
      await mpi.allReduce(values);
      assertEquals(lastOf(calls, "MPI_Allreduce"), [inPlace, values, 3, float, sum, world]);
      await mpi.broadcast(bytes);
      assertEquals(lastOf(calls, "MPI_Bcast"), [bytes, 4, byte, 0, world]);
      await mpi.allGather(bytes, all);
      assertEquals(lastOf(calls, "MPI_Allgather"), [bytes, 4, byte, all, 4, byte, world]);
      await mpi.allToAll(all, new Uint8Array(8));
      assertEquals(lastOf(calls, "MPI_Alltoall"), [all, 4, byte, all, 4, byte, world]);
      await mpi.finalize();
      assertEquals(calls.at(-1), ["MPI_Finalize"]);
      assertStrictEquals(await init(), mpi);
    });
  }
});

Deno.test("calls are made one after the other, and what fails once fails for good", async () => {
  const first = Promise.withResolvers<number>();
  let made = 0;
  const answers = { MPI_Bcast: () => ++made === 1 ? first.promise : 15 };
  await inRank({ answers }, {}, async (init, calls, { MpiError }) => {
    const mpi = await init(), bytes = new Uint8Array(1);
    const done = [mpi.broadcast(bytes), mpi.broadcast(bytes), mpi.allReduce(new Float32Array(1))];
    await new Promise((resume) => setTimeout(resume, 20));
    assertEquals(made, 1);
    first.resolve(0);
    const [one, ...others] = await Promise.allSettled(done);
    assertEquals([one!.status, made], ["fulfilled", 2]);
    for (const other of others) {
      assert(other.status === "rejected");
      assertInstanceOf(other.reason, MpiError);
      assertEquals(other.reason.message, "rank 1 on here: broadcast failed: no peer");
    }
    assert(calls.every(([name]) => name !== "MPI_Allreduce"));
    await assertRejects(() => mpi.finalize(), MpiError, "no peer");
  });
});

Deno.test("no call waits for longer than it may, nor where nobody is there to wait for", async () => {
  const never = () => new Promise(() => {});
  await inRank(
    { answers: { MPI_Allreduce: never } },
    { timeout: 0.1 },
    async (init, _, { MpiError }) => {
      const mpi = await init();
      const late = await assertRejects(() => mpi.allReduce(new Float32Array(1)), MpiError);
      assertEquals((late as InstanceType<typeof MpiError>).code, "late");
      assertMatch(
        (late as Error).message,
        /^rank 1 on here: allReduce waited 0\.1 seconds for the other/,
      );
      await assertRejects(() => mpi.broadcast(new Uint8Array(1)), MpiError, "waited");
    },
  );
  await inRank(
    { answers: { MPI_Init_thread: never } },
    { timeout: 0.1 },
    async (init, _, { MpiError }) => {
      await assertRejects(init, MpiError, "MPI_Init waited 0.1 seconds");
    },
  );
});

Deno.test("a library that does not fit is refused, with what to do", async () => {
  await inRank({ size: 1 }, {}, async (init, _, { MpiError }) => {
    const error = await assertRejects(init, MpiError) as Error;
    assertMatch(
      error.message,
      /mpirun started 2 processes, but \/played\/libmpi\.so \(Played 1\.2\) knows of 1/,
    );
    assertMatch(error.message, /RESNETTE_MPI=/);
  });
  await inRank({ threads: () => 1 }, {}, async (init, _, { MpiError }) => {
    await assertRejects(
      init,
      MpiError,
      "/played/libmpi.so does not take calls from several threads",
    );
  });
});
