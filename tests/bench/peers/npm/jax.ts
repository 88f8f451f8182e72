/**
 * jax-js's part of `deno task bench:peers`; see `../job.ts`. Its functions consume their arguments:
 * `x.ref` is a reference to keep.
 *
 * @module
 */

import {
  blockUntilReady,
  defaultDevice,
  init,
  jit,
  lax,
  nn,
  numpy as np,
  valueAndGrad,
} from "@jax-js/jax";
import config from "./deno.json" with { type: "json" };
import { adapterName, type Job, measure, type Run } from "../job.ts";

const { imports } = config;
const [EPS, MOMENTUM] = [1e-5, 0.1];
const [LR, B1, B2, ADAM_EPS] = [1e-3, 0.9, 0.999, 1e-8];

/** Arrays by state-dict key. */
type Arrays = Record<string, np.Array>;

async function start({ phase, shape, pixels, labels, weights }: Job): Promise<Run> {
  if (!(await init("webgpu")).includes("webgpu")) throw new Error("no WebGPU adapter");
  defaultDevice("webgpu");
  const about = {
    version: imports["@jax-js/jax"].split("@").at(-1)!,
    adapter: await adapterName(),
  };
  const upload = (keep: (key: string) => boolean): Arrays =>
    Object.fromEntries(
      [...weights].filter(([key]) => keep(key))
        .map(([key, { shape, data }]) => [key, np.array(data).reshape([...shape])]),
    );
  const isRunning = (key: string) => key.includes(".running_");
  const x = np.array(pixels).reshape([...shape]);
  const classes = nn.oneHot(np.array(Int32Array.from(labels)), 10);

  /** Logits, and in training the statistics of each batch norm; consumes `x` only. */
  const forward = (p: Arrays, running: Arrays | undefined, x: np.Array) => {
    const statistics: Arrays = {};
    const perChannel = (key: string) => p[key]!.ref.reshape([1, -1, 1, 1]);
    const conv = (x: np.Array, key: string, stride: number, padding: number) => {
      const sides: [number, number] = [padding, padding];
      return lax.conv(x, p[`${key}.weight`]!.ref, [stride, stride], [sides, sides])
        .add(perChannel(`${key}.bias`));
    };
    const norm = (x: np.Array, key: string) => {
      const [meanKey, varianceKey] = [`${key}.running_mean`, `${key}.running_var`];
      let centred: np.Array, variance: np.Array;
      if (running) {
        centred = x.sub(running[meanKey]!.ref.reshape([1, -1, 1, 1]));
        variance = running[varianceKey]!.ref.reshape([1, -1, 1, 1]);
      } else {
        const [axes, keepdims] = [[0, 2, 3], true];
        const count = x.size / x.shape[1]!;
        const mean = np.mean(x.ref, axes, { keepdims });
        statistics[meanKey] = lax.stopGradient(mean.ref).ravel();
        centred = x.sub(mean);
        variance = np.mean(np.square(centred.ref), axes, { keepdims });
        statistics[varianceKey] = lax.stopGradient(variance.ref).ravel()
          .mul(count / (count - 1));
      }
      return centred.div(np.sqrt(variance.add(EPS)))
        .mul(perChannel(`${key}.weight`)).add(perChannel(`${key}.bias`));
    };
    const residual = (x: np.Array, key: string) => {
      const shortcut = `${key}.conv3.weight` in p;
      const stride = shortcut ? 2 : 1;
      let y = nn.relu(norm(conv(x.ref, `${key}.conv1`, stride, 1), `${key}.b1`));
      y = norm(conv(y, `${key}.conv2`, 1, 1), `${key}.b2`);
      return nn.relu(y.add(shortcut ? conv(x, `${key}.conv3`, stride, 0) : x));
    };
    let y = nn.relu(norm(conv(x, "0", 2, 3), "1"));
    y = np.pad(y, [[0, 0], [0, 0], [1, 1], [1, 1]]); // zeros will do after a ReLU
    y = lax.reduceWindow(y, np.max, [3, 3], [2, 2]);
    for (let block = 1; block <= 4; block++) {
      for (let i = 0; i < 2; i++) y = residual(y, `resnet_block${block}.${i}`);
    }
    const logits = np.matmul(np.mean(y, [2, 3]), p["fc.1.weight"]!.ref.transpose())
      .add(p["fc.1.bias"]!.ref);
    return { logits, statistics };
  };

  if (phase === "forward") {
    const all = upload(() => true);
    const predict = jit((p: Arrays, x: np.Array) => forward(p, p, x).logits);
    const step = async () => {
      const given = Object.fromEntries(Object.entries(all).map(([key, value]) => [key, value.ref]));
      return await predict(given, x.ref).data() as Float32Array;
    };
    return { ...about, step };
  }

  const lossOf = (p: Arrays, x: np.Array, classes: np.Array): [np.Array, Arrays] => {
    const { logits, statistics } = forward(p, undefined, x);
    const likelihoods = nn.logSoftmax(logits).mul(classes).sum(-1);
    return [np.mean(likelihoods).neg(), statistics];
  };
  const update = jit((
    p: Arrays,
    m: Arrays,
    v: Arrays,
    running: Arrays,
    factors: np.Array,
    x: np.Array,
    classes: np.Array,
  ) => {
    const [[loss, statistics], grads] = valueAndGrad(lossOf, { hasAux: true })(p, x, classes);
    const next = { p: {} as Arrays, m: {} as Arrays, v: {} as Arrays, running: {} as Arrays, loss };
    const [size, correction] = np.split(factors, 2) as [np.Array, np.Array];
    for (const key in p) {
      const g = (grads as Arrays)[key]!;
      const mean = m[key]!.mul(B1).add(g.ref.mul(1 - B1));
      const square = v[key]!.mul(B2).add(np.square(g).mul(1 - B2));
      const denominator = np.sqrt(square.ref).div(correction.ref).add(ADAM_EPS);
      next.p[key] = p[key]!.sub(mean.ref.mul(size.ref).div(denominator));
      next.m[key] = mean;
      next.v[key] = square;
    }
    size.dispose();
    correction.dispose();
    for (const key in running) {
      next.running[key] = running[key]!.mul(1 - MOMENTUM).add(statistics[key]!.mul(MOMENTUM));
    }
    return next;
  });
  const zeros = (): Arrays =>
    Object.fromEntries(
      [...weights].filter(([key]) => !isRunning(key))
        .map(([key, { shape }]) => [key, np.zeros([...shape])]),
    );
  let state = {
    p: upload((key) => !isRunning(key)),
    m: zeros(),
    v: zeros(),
    running: upload(isRunning),
  };
  let t = 0;
  const step = async () => {
    t++;
    const factors = np.array([LR / (1 - B1 ** t), Math.sqrt(1 - B2 ** t)]);
    const { p, m, v, running } = state;
    const { loss, ...next } = update(p, m, v, running, factors, x.ref, classes.ref);
    state = next;
    await blockUntilReady(state);
    return (await loss.data())[0]!;
  };
  return { ...about, step };
}

await measure(start);
