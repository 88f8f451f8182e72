/**
 * `deno task bench:peers`: the same network, weights and batch under Resnette and under other
 * libraries, each in processes of its own; checks that they compute the same and compares their speed.
 *
 * @module
 */

import { table } from "../../lib/check/text.ts";
import { type Flags, runCommand, UsageError } from "../../scripts/cli.ts";
import type { Answer, Phase } from "./peers/job.ts";
import { prepare } from "./peers/prepare.ts";

const FOLDER = "tests/bench/peers";
const NPM = `${FOLDER}/npm`;
const MODULES = `${NPM}/node_modules`;

/** How a library is started. */
interface Peer {
  /** As it stands in the table. */
  readonly title: string;
  readonly phases: readonly Phase[];
  readonly script: string;
  /** What else `deno run` needs to know. */
  readonly flags?: readonly string[];
  /** What it reads besides the job. */
  readonly reads?: string;
  /** What the script wants to know besides the job. */
  readonly words?: readonly string[];
}

const BOTH: readonly Phase[] = ["train", "forward"];
/** Only packages that are installed are loaded. */
const FROM_NPM = ["--cached-only", `--config=${NPM}/deno.json`];
const ONNX: Pick<Peer, "phases" | "script"> = {
  phases: ["forward"],
  script: `${NPM}/onnxruntime.ts`,
};

const PEERS: Readonly<Record<string, Peer>> = {
  resnette: {
    title: "Resnette",
    phases: BOTH,
    script: `${FOLDER}/resnette.ts`,
    flags: ["--config=deno.json"],
  },
  tfjs: { title: "TensorFlow.js", phases: BOTH, script: `${NPM}/tfjs.ts`, flags: FROM_NPM },
  jax: { title: "jax-js", phases: BOTH, script: `${NPM}/jax.ts`, flags: FROM_NPM },
  "ort-webgpu": {
    ...ONNX,
    title: "onnxruntime-web",
    flags: FROM_NPM,
    reads: MODULES, // its WebAssembly
    words: ["webgpu"],
  },
  "ort-wasm": {
    ...ONNX,
    title: "onnxruntime-web (wasm)",
    flags: FROM_NPM,
    reads: MODULES,
    words: ["wasm"],
  },
  "ort-node": {
    ...ONNX,
    title: "onnxruntime-node",
    flags: [...FROM_NPM, `--allow-ffi=${MODULES}`],
    words: ["node"],
  },
  torch: { title: "PyTorch", phases: BOTH, script: "tests/bench/torch_baseline.py" },
};

const OTHERS = Object.keys(PEERS).slice(1);

/**
 * How far others may be from Resnette. The first loss and the logits come from one pass forward, in
 * which float32 leaves some 1e-6; a wrong padding, ε or variance shows from 1e-3 on. Adam's first step
 * is the learning rate times the gradient's *sign*, so rounding that turns a tiny gradient is felt in
 * the second loss: PyTorch and Resnette differ by 1e-3 there, while a wrong gradient changes it by half.
 */
const TOLERANCES = { loss: 1e-4, logits: 1e-4, second: 2e-2 };

const usage = `usage: deno task bench:peers [options]

Trains and evaluates the notebook's ResNet-18 with Resnette and with other libraries: the same
weights, the same batch, cross-entropy, Adam at 0.001. The tables go to stdout, progress to stderr.

  --batch-size N    images of a step (32)
  --resize N        images are N×N (96)
  --steps N         timed steps after the first, at least; quick libraries take 5 seconds (3)
  --threads N       threads of the libraries that compute on the CPU (2)
  --only NAME,...   compare with these only: ${OTHERS.join(", ")} (all)
  --python PATH     a Python with PyTorch and safetensors; without it, torch is left out
  --keep            keep the weights and the batch, and say where
  --json            print everything measured as JSON
  -h, --help        this text

exit code: 0 all agree; 1 a library failed or disagrees; 2 the command line is wrong, or the peers
are not installed`;

interface Options {
  readonly batchSize: number;
  readonly resize: number;
  readonly steps: number;
  readonly threads: number;
  readonly names: readonly string[];
  readonly python: string | undefined;
  readonly keep: boolean;
  readonly json: boolean;
}

const COUNTS = ["batch-size", "resize", "steps", "threads"] as const;
const COMMAND = {
  name: "bench:peers",
  usage: () => usage,
  values: [...COUNTS, "only", "python"],
  switches: ["keep", "json"],
} as const;

function optionsOf(
  { values, on }: Flags<typeof COMMAND["values"][number], typeof COMMAND["switches"][number]>,
): Options {
  const count = (name: typeof COUNTS[number], otherwise: number) => {
    const word = values[name];
    if (word === undefined) return otherwise;
    if (!/^[1-9]\d*$/.test(word)) {
      throw new UsageError(`--${name} must be a whole number from 1 on`);
    }
    return Number(word);
  };
  const { python } = values;
  const only = values.only?.split(",");
  const wrong = only?.find((name) => !OTHERS.includes(name));
  if (wrong !== undefined) {
    throw new UsageError(`--only: there is no "${wrong}"; there are ${OTHERS.join(", ")}`);
  }
  if (only?.includes("torch") && !python) throw new UsageError("--only torch needs --python PATH");
  const wanted = only ?? OTHERS.filter((name) => name !== "torch" || python);
  return {
    batchSize: count("batch-size", 32),
    resize: count("resize", 96),
    steps: count("steps", 3),
    threads: count("threads", 2),
    names: ["resnette", ...OTHERS.filter((name) => wanted.includes(name))],
    python,
    ...on,
  };
}

/** Throws if the packages are not installed. */
async function checkInstalled(names: readonly string[]): Promise<void> {
  if (!names.some((name) => PEERS[name]!.script.startsWith(NPM))) return;
  try {
    await Deno.stat(MODULES);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new UsageError(
      `the peers are not installed; to get them (750 MB, into ${MODULES}):\n\n` +
        `  (cd ${NPM} && deno install)`,
    );
  }
}

/** One phase of one library, in a process that may read the job and little else. */
async function run(name: string, phase: Phase, folder: string, options: Options): Promise<Answer> {
  const { script, flags = [], reads, words = [] } = PEERS[name]!;
  const isPython = name === "torch";
  const mayRead = `--allow-read=${reads ? `${folder},${reads}` : folder}`;
  const process = new Deno.Command(isPython ? options.python! : Deno.execPath(), {
    args: [
      ...isPython ? [] : ["run", "--quiet", "--no-prompt", ...flags, mayRead],
      script,
      ...[folder, phase, options.steps, options.threads, ...words].map(String),
    ],
    // The driver's cache of compiled kernels starts empty for each library, where it is Mesa's.
    env: { MESA_SHADER_CACHE_DIR: `${folder}/cache-${name}` },
    stdout: "piped",
    stderr: "piped",
  });
  const { code, stdout, stderr } = await process.output();
  const decoder = new TextDecoder();
  const line = decoder.decode(stdout).trim().split("\n").at(-1)!;
  if (code !== 0 || !line.startsWith("{")) {
    throw new Error(`exit code ${code}\n${decoder.decode(stderr).trim()}`);
  }
  return JSON.parse(line);
}

/** What a library's answers come to. */
interface Row {
  readonly name: string;
  readonly title: string;
  readonly version: string;
  readonly adapter: string;
  readonly train?: Answer;
  readonly forward?: Answer;
}

/** One number in which two libraries should agree. */
interface Check {
  readonly name: string;
  readonly what: keyof typeof TOLERANCES;
  /** Relative: to the loss, or to the largest logit. */
  readonly difference: number;
}

const largest = (values: readonly number[]) => Math.max(...values.map(Math.abs));

/** How far each library is from Resnette. */
function compare([ours, ...others]: readonly Row[]): Check[] {
  return others.flatMap(({ name, train, forward }) => {
    const loss = (step: number) => {
      const [a, b] = [ours!.train!.losses[step]!, train!.losses[step]!];
      return Math.abs(a - b) / Math.abs(a);
    };
    const logits = () => {
      const [a, b] = [ours!.forward!.logits, forward!.logits];
      if (a.length !== b.length) return NaN;
      return largest(a.map((value, i) => value - b[i]!)) / largest(a);
    };
    const checks: Check[] = [];
    if (train) checks.push({ name, what: "loss", difference: loss(0) });
    if (train) checks.push({ name, what: "second", difference: loss(1) });
    if (forward) checks.push({ name, what: "logits", difference: logits() });
    return checks;
  });
}

function median(times: readonly number[]): number {
  const sorted = [...times].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** How fast they are, what they run on and take, and how far they are from Resnette, as three tables. */
function tables(rows: readonly Row[], checks: readonly Check[], batch: number): string {
  const digits = (value: number) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
  const rate = (answer: Answer) => batch * 1000 / median(answer.times);
  const ratio = (a?: Answer, b?: Answer) => a && b ? `${digits(rate(a) / rate(b))}×` : "";
  const [ours] = rows;
  const speeds = rows.map(({ title, train, forward }) => [
    title,
    train ? Math.round(median(train.times)).toString() : "",
    train ? digits(rate(train)) : "",
    ratio(ours!.train, train),
    forward ? digits(rate(forward)) : "",
    ratio(ours!.forward, forward),
    digits((train ?? forward)!.warmup),
  ]);
  const machines = rows.map(({ title, version, adapter, train, forward }) => [
    title,
    version,
    adapter === ours!.adapter ? "WebGPU" : adapter,
    digits((train ?? forward)!.memory / 1e6),
    (train ?? forward)!.cores.toFixed(1),
  ]);
  const agreement = rows.map(({ name, title, train }) => {
    const off = (what: Check["what"]) => {
      const check = checks.find((check) => check.name === name && check.what === what);
      return check ? check.difference.toExponential(0) : "";
    };
    const loss = train ? train.losses[0]!.toFixed(5) : "";
    return [title, loss, off("loss"), off("second"), off("logits")];
  });
  return [
    table([
      ["library", "step, ms", "trained/s", "we are", "forward/s", "we are", "first, s"],
      ...speeds,
    ]),
    table([["library", "version", "computes on", "MB", "cores"], ...machines], (i) => i > 2),
    table([["library", "loss", "loss off", "2nd off", "logits off"], ...agreement]),
  ].join("\n\n");
}

/** Runs all, prints the tables, and returns the exit code. */
async function bench(options: Options): Promise<number> {
  await checkInstalled(options.names);
  await Deno.mkdir("runs", { recursive: true });
  const folder = await Deno.makeTempDir({ dir: "runs", prefix: "peers-" });
  const rows: Row[] = [], failed: string[] = [];
  try {
    const { batchSize, resize, names } = options;
    console.error(`batch: ${await prepare(folder, batchSize, resize)}, ${resize}×${resize}`);
    for (const name of names) {
      const { title, phases } = PEERS[name]!;
      const answers: { train?: Answer; forward?: Answer } = {};
      try {
        for (const phase of phases) {
          const answer = answers[phase] = await run(name, phase, folder, options);
          const { warmup, times, cores } = answer;
          console.error(
            `${title}, ${phase}: first ${warmup.toFixed(1)} s, ` +
              `then ${median(times).toFixed(0)} ms (median of ${times.length}), ${
                cores.toFixed(1)
              } cores`,
          );
        }
        const { version, adapter } = (answers.train ?? answers.forward)!;
        rows.push({ name, title, version, adapter, ...answers });
      } catch (error) {
        console.error(`${title} failed: ${(error as Error).message}`);
        if (name === "resnette") return 1; // nothing to compare with
        failed.push(name);
      }
    }
    const checks = compare(rows);
    const wrong = checks.filter(({ what, difference }) => !(difference <= TOLERANCES[what]));
    if (options.json) {
      console.log(JSON.stringify({ batchSize, resize, rows, checks, failed }, null, 2));
    } else {
      console.log(`\n${tables(rows, checks, batchSize)}\n`);
      console.log(
        `WebGPU is ${rows[0]!.adapter}; batches of ${batchSize}, ${resize}×${resize};\n` +
          `"we are" is Resnette's images/s over theirs`,
      );
    }
    for (const { name, what, difference } of wrong) {
      console.error(
        `${name} disagrees: ${what} is off by ${difference}, allowed ${TOLERANCES[what]}`,
      );
    }
    return wrong.length + failed.length > 0 ? 1 : 0;
  } finally {
    if (options.keep) console.error(`kept: ${folder}`);
    else await Deno.remove(folder, { recursive: true });
  }
}

/** Runs the command; returns the exit code. */
export async function main(args: string[]): Promise<number> {
  return await runCommand(args, COMMAND, async (flags) => await bench(optionsOf(flags)));
}

if (import.meta.main) Deno.exit(await main(Deno.args));
