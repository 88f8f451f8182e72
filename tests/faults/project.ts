/**
 * A copy of this project, which a test may change: its tasks run there as a user starts them, with a
 * model that is done in no time, a few images, and no network but a proxy of the test's. Not a test.
 */

import { dirname } from "node:path";
import { deno, type Ended, wordsOf } from "../call.ts";
import { inFolder, ROOT } from "../folder.ts";

const DATA = "data/fashion-mnist";
/** Where Debian's package has the data set. */
const DEBIAN = "/usr/share/datasets/fashion-mnist";
const TEST_LABELS = "t10k-labels-idx1-ubyte.gz";
/** What of the project a task may need. */
const PARTS = ["lib", "scripts", "mod.ts", "tests/call.ts", "tests/folder.ts", "tests/soak.ts"];
const MORE = [
  "tests/tiny_train.ts",
  "tests/bench",
  "tests/browser",
  "tests/display.ts",
  "tests/fixtures/images/boot_16.png",
  "tests/faults/gpu.ts",
  "tests/faults/training.ts",
  "tests/graph/tensor_test.ts",
  "tests/mpi",
  "tests/ranks.ts",
  "tests/ops",
];

/** The parts of `deno.json` that are about tasks. */
export interface Config {
  readonly tasks: Record<string, { command: string }>;
  readonly permissions: Record<string, Permissions>;
  readonly test: { readonly permissions: Permissions };
}
/** By kind, what is permitted: all, or some; or that, and what is not there for it. */
export type Permissions = Record<string, Permitted | { allow?: Permitted; ignore: Permitted }>;
type Permitted = true | string[];

/** How a task is run. */
export interface Situation {
  /** Its words. */
  readonly words?: string;
  /** Variables of the environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** What is run before the script. */
  readonly preload?: string;
  /** Whether a label file is missing. */
  readonly lacksData?: boolean;
  /** Whether Debian's package is there. */
  readonly debian?: boolean;
  /** Which requests the proxy answers: all of HTTP, or none. */
  readonly proxy?: "http" | "none";
}

/** The copy. */
export interface Project {
  readonly folder: string;
  /** What the proxy was asked for. */
  readonly asked: string[];
  /** Runs a task with the words and permissions of `config`. */
  run(config: Config, task: string, situation: Situation): Promise<Ended>;
}

/** The project's own `deno.json`. */
export async function readConfig(): Promise<Config> {
  return JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
}

async function copy(from: string, to: string): Promise<void> {
  if ((await Deno.stat(from)).isFile) {
    await Deno.mkdir(to.slice(0, to.lastIndexOf("/")), { recursive: true });
    return await Deno.copyFile(from, to);
  }
  await Deno.mkdir(to, { recursive: true });
  for await (const { name } of Deno.readDir(from)) {
    if (name !== "node_modules") await copy(`${from}/${name}`, `${to}/${name}`);
  }
}

/** 64 training images and their labels, as files of the data set. */
async function makeImages(folder: string): Promise<void> {
  const count = 64, pixels = Uint8Array.from({ length: count * 784 }, (_, i) => i * i % 251);
  const files = {
    "train-images-idx3": [[0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28], pixels],
    "train-labels-idx1": [[0, 0, 8, 1, 0, 0, 0, count], pixels.map((x) => x % 10).slice(0, count)],
  } as const;
  for (const [name, [header, values]] of Object.entries(files)) {
    const plain = new Blob([Uint8Array.from(header), values]).stream();
    const packed = plain.pipeThrough(new CompressionStream("gzip"));
    await Deno.writeFile(`${folder}/${name}-ubyte.gz`, packed);
  }
}

/** Deno's folder for caches, and the user's. */
async function cacheFolders(): Promise<{ deno: string; user: string }> {
  const [info, user] = await Promise.all([
    deno(["info", "--json"]),
    deno(["run", "-q", "-P=cache", `${ROOT}scripts/cache_folder.ts`]),
  ]);
  return { deno: JSON.parse(info.out).denoDir, user: dirname(user.out.trim()) };
}

/** Packages, and the bundler, from the user's cache of Deno's, and all else of it new: nothing of this is left there. */
async function denoDir(from: string, to: string): Promise<void> {
  const link =
    'mkdir "$1"; for d in dl npm remote; do [ ! -d "$0/$d" ] || ln -s "$0/$d" "$1"; done';
  const { success } = await new Deno.Command("sh", { args: ["-c", link, from, to] }).output();
  if (!success) throw new Error(`${to} cannot be made`);
}

/** Runs `use` with a copy of the project. */
export async function inProject(use: (project: Project) => Promise<void>): Promise<void> {
  const caches = await cacheFolders();
  await inFolder(async (folder) => {
    for (const path of [DATA, "tests", "runs"]) {
      await Deno.mkdir(`${folder}/${path}`, { recursive: true });
    }
    for (const path of [...PARTS, ...MORE]) await copy(`${ROOT}${path}`, `${folder}/${path}`);
    await copy(`${ROOT}.links`, `${folder}/.links`).catch(() => {}); // JSR can be reached.
    await denoDir(caches.deno, `${folder}/deno`);
    await makeImages(`${folder}/${DATA}`);
    await Deno.copyFile(
      `${ROOT}${DATA}/t10k-images-idx3-ubyte.gz`,
      `${folder}/${DATA}/t10k-images-idx3-ubyte.gz`,
    );
    const download = `${folder}/lib/files/download.ts`;
    const source = await Deno.readTextFile(download);
    await Deno.writeTextFile(download, source.replace(DEBIAN, folder + DEBIAN));

    const asked: string[] = [];
    let proxied: Situation["proxy"] = "http";
    const answer = async ({ method, url }: Request) => {
      asked.push(`${method} ${url}`);
      const file = url.slice(url.lastIndexOf("/") + 1);
      const serves = method === "GET" && proxied === "http" && /^[a-z0-9-]+\.gz$/.test(file);
      if (!serves) return new Response(null, { status: 503 });
      return new Response(await Deno.readFile(`${ROOT}${DATA}/${file}`));
    };
    const listen = { port: 0, hostname: "127.0.0.1", onListen: () => {} };
    await using server = Deno.serve(listen, answer);
    const proxy = `http://127.0.0.1:${server.addr.port}`;
    const env = {
      DENO_DIR: `${folder}/deno`,
      DENO_NO_PROMPT: "1",
      FORCE_COLOR: "",
      HOME: `${folder}/home`,
      LOCALAPPDATA: `${folder}/local`,
      HTTPS_PROXY: proxy,
      HTTP_PROXY: proxy,
      MESA_SHADER_CACHE_DIR: caches.user,
      NO_COLOR: "1",
      NO_PROXY: "",
      XDG_CACHE_HOME: `${folder}/cache`,
    };

    const run = async (config: Config, task: string, situation: Situation) => {
      const { words = "", preload = "", lacksData = false, debian = false } = situation;
      proxied = situation.proxy ?? "http";
      asked.length = 0;
      const own = structuredClone(config);
      for (const one of Object.values(own.tasks)) {
        one.command = one.command
          .replaceAll("deno run -q ", "deno run -q --preload preload.ts ")
          .replace(/deno test (-q )?/, "deno test $1--no-check ")
          .replace("scripts/train.ts", "tests/tiny_train.ts");
      }
      // `tests/tiny_train.ts` is no preload for itself.
      const tiny = task === "train" ? "" : 'import "./tests/tiny_train.ts";\n';
      await Deno.writeTextFile(`${folder}/preload.ts`, tiny + preload);
      const text = JSON.stringify(own).replaceAll(DEBIAN, folder + DEBIAN);
      await Deno.writeTextFile(`${folder}/deno.json`, text);
      const labels = `${folder}/${DATA}/${TEST_LABELS}`;
      if (lacksData) await Deno.remove(labels).catch(() => {});
      else await Deno.copyFile(`${ROOT}${DATA}/${TEST_LABELS}`, labels);
      await Deno.remove(`${folder}${DEBIAN}`, { recursive: true }).catch(() => {});
      if (debian) {
        await Deno.mkdir(`${folder}${DEBIAN}`, { recursive: true });
        await Deno.copyFile(`${ROOT}${DATA}/${TEST_LABELS}`, `${folder}${DEBIAN}/${TEST_LABELS}`);
      }
      await Deno.remove(`${folder}/runs/new`, { recursive: true }).catch(() => {});
      const args = ["task", "-q", "--config", `${folder}/deno.json`, task, ...wordsOf(words)];
      return await deno(args, { env: { ...env, ...situation.env } });
    };
    await use({ folder, asked, run });
  });
}
