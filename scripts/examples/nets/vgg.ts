/**
 * VGG-11 (Simonyan & Zisserman 2014) as Dive into Deep Learning has it, for grey images. `ratio`
 * divides its channels; the book takes 8.
 *
 *     deno run scripts/examples/nets/vgg.ts
 */

import * as r from "@resnette/resnette";

/** 3×3 convolutions, each with ReLU, then a max pool that halves the size. */
function block(convs: number, inChannels: number, outChannels: number): r.Sequential {
  const layers = new r.Sequential();
  for (let i = 0; i < convs; i++) {
    layers.add(
      new r.Conv2d(i === 0 ? inChannels : outChannels, outChannels, { kernelSize: 3, padding: 1 }),
    );
    layers.add(new r.ReLU());
  }
  return layers.add(new r.MaxPool2d({ kernelSize: 2 }));
}

/** `[N, 1, size, size]` → `[N, 10]`; `size` is a multiple of 32. */
export function vgg11({ ratio = 1, size = 224 } = {}): r.Sequential {
  const net = new r.Sequential(), hidden = 4096 / ratio;
  let channels = 1;
  [[1, 64], [1, 128], [2, 256], [2, 512], [2, 512]].forEach(([convs, full], i) => {
    const out = full! / ratio;
    net.add(block(convs!, channels, out), `vgg_block_${i + 1}`);
    channels = out;
  });
  const fc = new r.Sequential(
    new r.Flatten(),
    new r.Linear(channels * (size / 32) ** 2, hidden),
    new r.ReLU(),
    new r.Dropout(0.5),
    new r.Linear(hidden, hidden),
    new r.ReLU(),
    new r.Dropout(0.5),
    new r.Linear(hidden, 10),
  );
  return net.add(fc, "fc");
}

if (import.meta.main) console.log(r.formatSummary(r.summarize(vgg11(), [1, 1, 224, 224])));
