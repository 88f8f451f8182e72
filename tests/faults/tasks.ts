/**
 * How each task of `deno.json` is tried: a small run of it, and for each thing that it may do, a
 * situation in which that matters, and how it shows. Not a test.
 */

import { MPI_PLACES, MPI_VARIABLES } from "../../lib/files/mpi.ts";
import type { Situation } from "./project.ts";

/** What is to be seen of a permission, in a situation in which it matters. */
export interface Case extends Situation {
  /** What the task says with it; what its whole run does, if it is not said here. */
  readonly with?: RegExp;
  /** What it says without it; a refusal if it fails. */
  readonly without?: RegExp;
  /** How it ends with it and without it. */
  readonly codes?: readonly [number, number];
}

/** A task: a run of it, what that says, and what is to be seen of each permission. */
export interface Row extends Situation {
  readonly says: RegExp;
  /** What a refusal says beside Deno's own words. */
  readonly hint?: RegExp;
  readonly cases: Readonly<Record<string, Case>>;
  /** How it ends. */
  readonly code?: number;
  /** Whether it takes so long that only a soak has the time. */
  readonly long?: boolean;
}

const DEBIAN = "/usr/share/datasets/fashion-mnist";
const HOSTS = ["fashion-mnist.s3-website.eu-central-1.amazonaws.com", "raw.githubusercontent.com"];
const NO_ADAPTER = {
  DENO_WEBGPU_BACKEND: "vulkan",
  VK_DRIVER_FILES: "/dev/null",
  VK_ICD_FILENAMES: "/dev/null",
};
/** A folder of images that the project has. */
const PHOTOS = "photos";
const TINY = "--model tiny --batch-size 32 --resize 28";

/** Where data come from: a server, and another one if that has none. */
const DOWNLOADS: Readonly<Record<string, Case>> = {
  [`net ${HOSTS[0]}:80`]: {
    lacksData: true,
    without: /http:\/\/fashion-mnist\S+: Requires net access to "fashion-mnist\.s3[^"]*:80"/,
  },
  [`net ${HOSTS[1]}:443`]: {
    lacksData: true,
    proxy: "none",
    codes: [1, 1],
    with: /https:\/\/raw\S+: (?!Requires)/,
    without: /https:\/\/raw\S+: Requires net access to "raw\.githubusercontent\.com:443"/,
  },
};

/** The variables that name the folder of caches: each alone. */
const ELSEWHERE: Readonly<Record<string, Situation>> = {
  XDG_CACHE_HOME: {},
  HOME: { env: { XDG_CACHE_HOME: "" } },
  LOCALAPPDATA: {
    env: { XDG_CACHE_HOME: "" },
    preload: 'Object.assign(Deno, { build: { ...Deno.build, os: "windows" } });',
  },
};

/** Each of these variables, for the script that uses the folder, and for one that only prints it. */
function cacheCases(
  seen: Pick<Case, "with" | "without" | "codes">,
  sets: readonly string[] = [""],
): Record<string, Case> {
  return Object.fromEntries(
    Object.entries(ELSEWHERE).flatMap(([name, situation]) =>
      sets.map((set) => [`${set}env ${name}`, { ...situation, ...seen }])
    ),
  );
}

/** What is asked to find out whether there are other ranks, and then which library connects them. */
function rankCases(): Record<string, Case> {
  const launched = (RESNETTE_MPI: string): Case => ({
    env: { OMPI_COMM_WORLD_SIZE: "2", RESNETTE_MPI },
    codes: [1, 1],
    with: /one of 2 processes .*(may not load|cannot be loaded)|knows of 1: it is not the library/,
  });
  return {
    ...Object.fromEntries(MPI_VARIABLES.map((name) => [`env ${name}`, {}])),
    "env RESNETTE_MPI": launched("/nowhere/libmpi.so"),
    ...Object.fromEntries(
      Object.values(MPI_PLACES).flat().map((path) => [`ffi ${path}`, {
        ...launched(path),
        with: /one of 2 processes .*cannot be loaded|knows of 1: it is not the library/,
        without:
          /Deno may not load a library of MPI.* Instead of deno task \w+: deno run -q .*--allow-ffi=/,
      }]),
    ),
  };
}

/** What packages ask for colours, which Deno would keep from them. */
function colorCases(seen: Pick<Case, "with" | "without" | "codes">): Record<string, Case> {
  const tty = 'import process from "node:process"; process.stdout.isTTY = true;';
  return {
    "env CI": { env: { NO_COLOR: "" }, ...seen },
    "env TERM": { env: { NO_COLOR: "" }, preload: tty, ...seen },
  };
}

/** A finding of doctor's, and that it cannot be told. */
const finding = (found: RegExp, kind: string): Case => ({
  with: found,
  without: new RegExp(`cannot be told: Requires ${kind} access to .*\n.*→ deno task doctor`),
});

export const TASKS: Readonly<Record<string, Row | undefined>> = {
  // First, as train reads what it writes.
  tune: {
    words: "--model tiny --batch-size 1 --resize 28 --budget 0.01",
    says: /^saved .*tuned-.*\.json$/m,
    cases: {
      "read $CACHE": {},
      "write $CACHE": {},
      ...cacheCases({ without: /^error: (there is no folder|Requires write access to)/m }, [
        "cache: ",
        "",
      ]),
    },
  },
  train: {
    words: `${TINY} --epochs 1 --limit 64 --test-limit 64 --out runs/new`,
    says: /^saved runs\/new\/checkpoints\/epoch-1$/m,
    hint: /may not do that|cannot be downloaded/,
    cases: {
      "read everything": {},
      "write data/cache": {
        words: `${TINY} --epochs 1 --data ${PHOTOS} --out runs/new`,
        without: /could not write data\/cache/,
      },
      "write data/fashion-mnist": { lacksData: true },
      "write runs": {},
      ...DOWNLOADS,
      ...cacheCases({ with: /^2 choices by/m, codes: [0, 0] }),
      ...colorCases({
        codes: [0, 0],
        with: /^(?![^]*no report)[^]*^saved/m,
        without: /^warning: no report \(Requires env access to "(CI|TERM)"/m,
      }),
      ...rankCases(),
    },
  },
  data: {
    says: /^data\/fashion-mnist: all 4 files are there/m,
    cases: {
      "read data/fashion-mnist": {},
      "write data/fashion-mnist": { lacksData: true },
      [`read ${DEBIAN}`]: {
        lacksData: true,
        debian: true,
        proxy: "none",
        without: /cannot be downloaded: .*apt-get install dataset-fashion-mnist/,
      },
      ...DOWNLOADS,
    },
  },
  shapes: { words: "--model tiny --size 28", says: /^fc output shape: \[1, 10\]$/m, cases: {} },
  eval: {
    words: "runs/first --limit 64 --batch-size 32",
    says: /^test acc 0\.\d+ \(\d+ of 64\)$/m,
    cases: {
      "read everything": {},
      "write data/cache": {
        words: `runs/first --data ${PHOTOS}`,
        codes: [2, 1],
        with: /has the 2 classes boots, more boots/,
        without: /could not write data\/cache/,
      },
      ...rankCases(),
    },
  },
  predict: {
    words: "runs/first tests/fixtures/images/boot_16.png",
    says: /boot_16\.png: .* 0\.\d+/,
    cases: { "read everything": {} },
  },
  export: {
    words: "runs/first --to onnx --out runs/net.onnx",
    says: /^runs\/net\.onnx \(/m,
    cases: { "read everything": {}, "write runs": {} },
  },
  report: {
    words: "runs/first --out runs/new",
    says: /^runs\/new\/report\.html$/m,
    cases: {
      "read everything": {},
      "write data/cache": {
        words: `runs/first --data ${PHOTOS} --out runs/new`,
        codes: [0, 1],
        with: /no pictures of mistakes: .* has the 2 classes boots, more boots/,
        without: /could not write data\/cache/,
      },
      "write runs": {},
      ...colorCases({}),
    },
  },
  web: {
    words: "--build --out runs/new",
    says: /^runs\/new: .* kB gzipped, without data$/m,
    hint: /./,
    long: true, // Only where the bundler can be had.
    cases: {
      [`read ${DEBIAN}`]: {
        lacksData: true,
        debian: true,
        codes: [0, 0],
        with: /^(?![^]*warning)[^]*without data/,
        without: /^warning: 1 of the 4 files/m,
      },
      "read data/fashion-mnist": {
        codes: [0, 0],
        with: /^(?![^]*warning)[^]*without data/,
        without: /^warning: 4 of the 4 files/m,
      },
      "read lib": {},
      "read mod.ts": {},
      "read runs": {},
      "read scripts": {},
      "write runs": {},
      "net 127.0.0.1": {
        words: "--port 0 --out runs/new",
        preload: `const { serve } = Deno;
          Deno.serve = (...words) => {
            const server = serve(...words);
            server.shutdown();
            return server;
          };`,
        with: /^http:\/\/localhost:\d+\/ /m,
      },
    },
  },
  doctor: {
    // That it ends with 0 if there is one, `doctor_test.ts` sees.
    env: NO_ADAPTER,
    code: 1,
    says: /^ok +Deno[^]*^(ok|warning) +JSR +jsr/m,
    cases: {
      "read data": finding(/^ok +disk/m, "read"),
      "net jsr.io:443": finding(/JSR +jsr\.io (can|answers)/, "net"),
      "sys statfs": finding(/^(ok|warning) +disk +[\d.]+ GiB/m, "sys"),
      "sys systemMemoryInfo": finding(/memory +[\d.]+ GiB/m, "sys"),
      ...Object.fromEntries(
        Object.entries(NO_ADAPTER).map(([name, value]) => [`env ${name}`, {
          with: new RegExp(`adapter +none.* ${name}=${value}`),
          without: /adapter +none, /,
        }]),
      ),
      ...rankCases(),
    },
  },
  profile: {
    words: "--model tiny --batch-size 1 --resize 28 --trace runs/new.json",
    says: /^wrote runs\/new\.json$/m,
    cases: { "write runs": {} },
  },
  bench: {
    words: "--quick --filter reading",
    says: /^reading .* MB\/s$/m,
    cases: { "read data/fashion-mnist": {} },
  },
  "bench:peers": {
    // A Python that fails: so it ends with 1 after our own part.
    words: "--only torch --python false --batch-size 2 --resize 32 --steps 1",
    says: /^Resnette, forward: first/m,
    hint: /./,
    code: 1,
    long: true,
    cases: {
      "read data/fashion-mnist": {},
      "read tests/bench/peers/npm/node_modules": {
        // It looks for the packages before it fails, as no memory holds such images.
        words: "--only tfjs --resize 999999",
        with: /RangeError|allocation/,
        without: /Requires read access/,
      },
      "write runs": {},
      "run everything": {},
    },
  },
  "test:browser": {
    words: "graph/tensor",
    says: /^\d+ passed, 0 failed$/m,
    hint: /./,
    long: true, // Only where Chromium is installed.
    cases: {
      "read /usr/lib/chromium/chromium": {},
      "read data/fashion-mnist": { words: "web/portable" },
      "read lib": {},
      "read mod.ts": {},
      "read runs": { words: "web/advice" },
      "read scripts": {},
      "read tests": {},
      "write runs": {},
      "net 127.0.0.1": { words: "web/advice" },
      "sys homedir": {},
      "sys osRelease": {},
      "run /usr/lib/chromium/chromium": {},
    },
  },
  "test:mpi": {
    words: "--filter differ",
    says: /^ok \| 2 passed .*\| 0 failed/m,
    hint: /./,
    long: true, // Only where there are libraries of MPI.
    cases: {
      "read everything": {},
      "write runs": { without: /Requires write access to/ },
      "run sh": {},
      ...Object.fromEntries(["RESNETTE_MPI", "SEED", "SOAK"].map((name) => [`env ${name}`, {}])),
    },
  },
  test: testRow("tests/faults/probe_test.ts"),
  "test:soak": { ...testRow(""), long: true },
  ok: undefined, // It starts no script of ours.
};

/** A test that does all that tests do. */
export const PROBE = `import process from "node:process";
import { Mpi } from "@resnette/resnette/mpi";
import { deno } from "../call.ts";
import { inFolder } from "../folder.ts";
import { report } from "../soak.ts";

Deno.test("probe", () => inFolder(async (folder) => {
  process.stdout.isTTY = Deno.args.includes("tty");
  await import("@deno/gfm");
  await Deno.writeTextFile(folder + "/a", await Deno.readTextFile("mod.ts"));
  await using server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    () => new Response("answer"),
  );
  await (await fetch("http://127.0.0.1:" + server.addr.port)).text();
  await deno(["--version"]);
  await Mpi.init();
  await new Deno.Command("sh", { args: ["-c", "true"] }).output();
  report("probed");
}));
`;

function testRow(words: string): Row {
  // Nothing starts several of them.
  const ranks = MPI_VARIABLES.filter((name) => name !== "RESNETTE_MPI");
  const needs = [...ranks, "SEED", "SOAK"].map((name) => [`env ${name}`, {}] as const);
  return {
    words,
    env: { NO_COLOR: "" },
    says: / 1 passed \| 0 failed/,
    hint: /./,
    cases: {
      "read everything": {},
      "write runs": { without: /Requires write access to/ },
      "net 127.0.0.1": {},
      "run deno": {},
      "run sh": {},
      ...Object.fromEntries(needs),
      "env CI": {},
      "env TERM": { words: `${words} -- tty` },
    },
  };
}
