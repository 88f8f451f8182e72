/**
 * TensorFlow.js's part of `deno task bench:peers`; see `../job.ts`. Its layout is NHWC.
 *
 * @module
 */

import * as tf from "@tensorflow/tfjs";
import "@tensorflow/tfjs-backend-webgpu";
import { adapterName, type Job, measure, type Run } from "../job.ts";

const [EPS, MOMENTUM] = [1e-5, 0.1];

async function start({ phase, shape, pixels, labels, weights }: Job): Promise<Run> {
  if (!await tf.setBackend("webgpu")) throw new Error("the WebGPU backend does not start");
  const about = { version: tf.version_core, adapter: await adapterName() };

  const variables = new Map([...weights].map(([key, { shape, data }]) => {
    const value = tf.tensor(data, [...shape]);
    const order = shape.length === 4 ? [2, 3, 1, 0] : shape.length === 2 ? [1, 0] : [0];
    return [key, tf.variable(value.transpose(order), !key.includes("running_"), key)];
  }));
  const weight = <R extends tf.Tensor>(key: string) => variables.get(key)! as tf.Tensor as R;
  const [n, , h, w] = shape;
  const x = tf.tensor4d(pixels, [n, h, w, 1]); // one channel: NCHW is NHWC
  const classes = tf.oneHot(tf.tensor1d(Int32Array.from(labels), "int32"), 10);

  const training = phase === "train";
  const conv = (x: tf.Tensor4D, key: string, stride: number, padding: number) =>
    tf.conv2d(x, weight<tf.Tensor4D>(`${key}.weight`), stride, padding)
      .add<tf.Tensor4D>(weight(`${key}.bias`));
  const statistics: [key: string, value: tf.Tensor1D][] = [];
  const norm = (x: tf.Tensor4D, key: string) => {
    let mean = weight<tf.Tensor1D>(`${key}.running_mean`);
    let variance = weight<tf.Tensor1D>(`${key}.running_var`);
    if (training) {
      const moments = tf.moments(x, [0, 1, 2]);
      [mean, variance] = [moments.mean as tf.Tensor1D, moments.variance as tf.Tensor1D];
      const count = x.size / mean.size;
      const unbiased = variance.mul<tf.Tensor1D>(count / (count - 1));
      statistics.push(
        [`${key}.running_mean`, tf.keep(mean.clone())],
        [`${key}.running_var`, tf.keep(unbiased)],
      );
    }
    const [beta, gamma] = [
      weight<tf.Tensor1D>(`${key}.bias`),
      weight<tf.Tensor1D>(`${key}.weight`),
    ];
    return tf.batchNorm4d(x, mean, variance, beta, gamma, EPS);
  };
  const residual = (x: tf.Tensor4D, key: string) => {
    const shortcut = variables.has(`${key}.conv3.weight`);
    const stride = shortcut ? 2 : 1;
    let y = tf.relu(norm(conv(x, `${key}.conv1`, stride, 1), `${key}.b1`));
    y = norm(conv(y, `${key}.conv2`, 1, 1), `${key}.b2`);
    return tf.relu(y.add<tf.Tensor4D>(shortcut ? conv(x, `${key}.conv3`, stride, 0) : x));
  };
  const forward = () => {
    let y = tf.relu(norm(conv(x, "0", 2, 3), "1"));
    y = tf.maxPool(y, 3, 2, 1);
    for (let block = 1; block <= 4; block++) {
      for (let i = 0; i < 2; i++) y = residual(y, `resnet_block${block}.${i}`);
    }
    return y.mean<tf.Tensor2D>([1, 2]).matMul(weight<tf.Tensor2D>("fc.1.weight"))
      .add<tf.Tensor2D>(weight("fc.1.bias"));
  };

  if (!training) {
    const step = async () => {
      const logits = tf.tidy(forward);
      const values = await logits.data();
      logits.dispose();
      return values;
    };
    return { ...about, step };
  }
  const optimizer = tf.train.adam(1e-3, 0.9, 0.999, 1e-8);
  const step = async () => {
    const loss = optimizer.minimize(
      () => tf.losses.softmaxCrossEntropy(classes, forward()),
      true,
    )!;
    tf.tidy(() => {
      for (const [key, value] of statistics.splice(0)) {
        const running = variables.get(key)!;
        running.assign(running.mul(1 - MOMENTUM).add(value.mul(MOMENTUM)));
        value.dispose();
      }
    });
    const [value] = await loss.data(); // also waits for all the rest, which was queued before
    loss.dispose();
    return value!;
  };
  return { ...about, step };
}

await measure(start);
