/**
 * onnxruntime's part of `deno task bench:peers`, forward only; see `../job.ts`. A fifth word of the
 * command line says which: `webgpu` and `wasm` are onnxruntime-web, `node` is the native library.
 *
 * @module
 */

import type { InferenceSession, Tensor } from "onnxruntime-web";
import { adapterName, FILES, type Job, measure, type Run } from "../job.ts";

const kind = Deno.args[4] as "webgpu" | "wasm" | "node";

/** The library, loaded before the clock starts. */
const ort = kind === "node"
  ? (await import("onnxruntime-node")).default as unknown as typeof import("onnxruntime-web")
  : kind === "wasm"
  ? await import("onnxruntime-web")
  : await import("onnxruntime-web/webgpu");

async function start({ folder, threads, shape, pixels }: Job): Promise<Run> {
  const options: InferenceSession.SessionOptions = {};
  if (kind === "node") {
    Object.assign(options, { executionProviders: ["cpu"], intraOpNumThreads: threads });
  } else {
    options.executionProviders = [kind];
    ort.env.wasm.numThreads = kind === "wasm" ? threads : 1;
  }
  const adapter = kind === "webgpu" ? await adapterName() : `the CPU, ${threads} threads`;
  const model = await Deno.readFile(`${folder}/${FILES.onnx}`);
  const session = await ort.InferenceSession.create(model, options);
  const images: Tensor = new ort.Tensor("float32", pixels, shape);
  const step = async () => {
    const { logits } = await session.run({ images });
    return await logits!.getData() as Float32Array;
  };
  const { common, web, node } = ort.env.versions;
  return { version: (kind === "node" ? node : web) ?? common, adapter, step };
}

await measure(start);
