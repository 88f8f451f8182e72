/**
 * The data readers on good files: Fashion-MNIST itself if it is there, and small files made here.
 * Damaged ones are in `faults_test.ts`, the network in `tests/files/download_test.ts`.
 */

import { gzipSync } from "node:zlib";
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { copyFile, ensureFashionMnist, verifyFile } from "../../lib/files/download.ts";
import { FASHION_MNIST_CLASSES, FASHION_MNIST_FILES } from "../../lib/data/fashion_mnist.ts";
import { collectImages } from "../../lib/files/collect.ts";
import { loadDataset } from "../../lib/files/dataset.ts";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import { type ByteStream, gunzip } from "../../lib/data/gzip.ts";
import { readIdx } from "../../lib/data/idx.ts";
import { readImageDataset, showDataset } from "../../lib/data/dataset.ts";
import { gzip, idx } from "../idx.ts";
import { encodePng } from "../../lib/data/png.ts";
import { displayOf } from "../display.ts";
import { inFolder, ROOT } from "../folder.ts";

const DIR = `${ROOT}data/fashion-mnist`;

/** A pull-based stream of `bytes` in chunks of `size`, which counts what was pulled. */
function counted(bytes: Uint8Array<ArrayBuffer>, size: number) {
  const count = { pulled: 0, cancelled: false };
  const stream: ByteStream = new ReadableStream({
    pull(controller) {
      if (count.pulled >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(count.pulled, count.pulled + size));
      count.pulled += size;
    },
    cancel() {
      count.cancelled = true;
    },
  }, { highWaterMark: 0 });
  return { stream, count };
}

/** Bytes that do not compress, so that packed and unpacked sizes are alike. */
function noise(length: number): Uint8Array<ArrayBuffer> {
  let state = 1;
  return Uint8Array.from({ length }, () => (state = Math.imul(state, 1664525) + 1013904223) >>> 24);
}

Deno.test("the 60,000 training images load, with their labels, well under a second", async () => {
  const start = performance.now();
  const data = await loadFashionMnist(DIR, "train");
  const ms = performance.now() - start;
  assertEquals([data.count, data.height, data.width], [60_000, 28, 28]);
  assertEquals([data.images.length, data.labels.length], [60_000 * 784, 60_000]);
  const counts = new Array<number>(10).fill(0);
  for (const label of data.labels) counts[label]!++;
  assertEquals(counts, new Array(10).fill(6000));
  // Three times the usual, for a busy machine.
  assert(ms < 1000, `took ${ms.toFixed(0)} ms`);
});

Deno.test("the first test image is an ankle boot, and limit keeps only the first images", async () => {
  const data = await loadFashionMnist(DIR, "test", { limit: 3 });
  assertEquals([data.count, data.images.length, data.labels.length], [3, 3 * 784, 3]);
  assertEquals([...data.labels].map((label) => data.classes[label]), [
    "Ankle boot",
    "Pullover",
    "Trouser",
  ]);
  const all = await loadFashionMnist(DIR, "test");
  assertEquals(all.count, 10_000);
  assertEquals(all.images.subarray(0, 3 * 784), data.images);
  assertEquals(FASHION_MNIST_CLASSES.length, 10);
});

Deno.test("records come in batches of whole records, the last one smaller", async () => {
  const payload = noise(10 * 6);
  const packed = await gzip(idx([10, 2, 3], payload));
  for (const chunk of [1, 7, 1000]) {
    const reader = await readIdx(counted(packed, chunk).stream, "ten.gz");
    assertEquals([reader.shape, reader.count, reader.recordBytes], [[10, 2, 3], 10, 6]);
    const batches = await Array.fromAsync(reader.batches(4));
    assertEquals(batches.map((batch) => batch.length), [24, 24, 12]);
    assertEquals(new Uint8Array(batches.flatMap((batch) => [...batch])), payload);
  }
});

Deno.test("the whole payload, or its beginning, comes as one array", async () => {
  const payload = noise(50_000);
  const packed = await gzip(idx([500, 100], payload));
  const read = async (limit?: number) =>
    await (await readIdx(counted(packed, 4096).stream, "a.gz")).bytes(limit);
  assertEquals(await read(), payload);
  assertEquals(await read(3), payload.slice(0, 300));
  assertEquals(await read(9999), payload);
});

Deno.test("nothing is read ahead: a batch costs the source about a batch", async () => {
  const packed = await gzip(idx([1000, 1000], noise(1_000_000)));
  const { stream, count } = counted(packed, 4096);
  const reader = await readIdx(stream, "noise.gz");
  assert(count.pulled <= 3 * 4096, `the header cost ${count.pulled} bytes`);
  const batches = reader.batches(10).getReader();
  await batches.read();
  await new Promise((resolve) => setTimeout(resolve, 20)); // the pipe settles: it holds a chunk more
  assert(count.pulled <= 10_000 + 10 * 4096, `the first batch cost ${count.pulled} bytes`);
  const before = count.pulled;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals(count.pulled, before);
  await batches.cancel();
  await new Promise((resolve) => setTimeout(resolve, 20)); // a pipe passes it on in its own time
  assertEquals(count.cancelled, true);
});

Deno.test("a file given up is closed, and cannot be read twice", async () => {
  const packed = await gzip(idx([4], noise(4)));
  const { stream, count } = counted(packed, 5);
  const reader = await readIdx(stream, "four.gz");
  await reader.cancel();
  assertEquals(count.cancelled, true);
  assertThrows(() => reader.batches(1), TypeError, "four.gz: was already read");
  await assertRejects(() => reader.bytes(), TypeError, "four.gz: was already read");
});

Deno.test("limits and batch sizes that make no sense are refused", async () => {
  const packed = await gzip(idx([4], noise(4)));
  const reader = await readIdx(counted(packed, 5).stream, "four.gz");
  assertThrows(() => reader.batches(0), RangeError, "four.gz: batches of 0 records");
  await assertRejects(() => reader.bytes(1.5), RangeError, "four.gz: limit is 1.5");
  await reader.cancel();
});

Deno.test("gunzip hands out what was packed, whatever the chunks", async () => {
  const bytes = noise(30_000);
  const packed = await gzip(bytes);
  for (const chunk of [1, 2, 8191, 8192, 8193, 1e6]) {
    const { stream } = counted(packed, chunk);
    assertEquals(await new Response(gunzip(stream, "a.gz")).bytes(), bytes);
  }
});

const concat = (...parts: Uint8Array[]) => new Uint8Array(parts.flatMap((part) => [...part]));

/** The member's name, in its header, as gzip(1) puts it there. */
function named(member: Uint8Array, name: string): Uint8Array {
  const head = member.slice(0, 10);
  head[3] = 8;
  return concat(head, new TextEncoder().encode(`${name}\0`), member.slice(10));
}

Deno.test("a gzip of several members, and zeros after the last, is read as gzip(1) reads it", async () => {
  const stored = (bytes: Uint8Array) => new Uint8Array(gzipSync(bytes, { level: 0 }));
  const pack = (bytes: Uint8Array) => new Uint8Array(gzipSync(bytes));
  const text = new TextEncoder().encode("a text, ".repeat(500)), none = new Uint8Array(0);
  // Lengths that end with zero bytes, as does what a member of that length ends with.
  const even = noise(65_536), zeros = new Uint8Array(512);
  const inner = concat(pack(text), pack(none), stored(text)); // members within a member
  const files: [parts: Uint8Array[], members: Uint8Array[]][] = [
    [[text], [pack(text)]],
    [[text, even, text], [pack(text), stored(even), named(pack(text), "text.txt")]],
    [[none, zeros, none], [pack(none), stored(zeros), pack(none)]],
    [[none], [named(pack(none), "odd")]],
    [[none], [named(stored(none), "nothing")]],
    [[inner, inner], [stored(inner), pack(inner)]],
    [[zeros, even], [pack(zeros), pack(even)]],
    [Array(300).fill(none), Array(300).fill(pack(none))],
  ];
  for (const [k, [parts, members]] of files.entries()) {
    const whole = concat(...parts), joined = concat(...members);
    for (const padding of [0, 1, 2, 3, 4, 5, 8, 9, 63, 64, 65, 200, 20_000]) {
      const file = concat(joined, new Uint8Array(padding));
      const sizes = padding < 10 ? [1, 2, 3, 1000, 8191, 8192, 8193, 1e6] : [700, 1e6];
      for (const size of file.length > 30_000 ? sizes.slice(-3) : sizes) {
        const { stream } = counted(file, size);
        const bytes = await new Response(gunzip(stream, `${k}`)).bytes();
        assertEquals(bytes.length, whole.length, `file ${k}, ${padding} zeros, chunks of ${size}`);
        assertEquals(bytes.every((byte, i) => byte === whole[i]), true);
      }
    }
  }
});

Deno.test("an IDX file that is not packed is read as well, from memory and from a folder", async (t) => {
  const payload = noise(10 * 6), bare = idx([10, 2, 3], payload);
  for (const size of [1, 2, 7, 1000]) {
    const { stream, count } = counted(bare, size);
    const reader = await readIdx(stream, "ten");
    assertEquals([reader.shape, await reader.bytes()], [[10, 2, 3], payload]);
    assert(!count.cancelled);
  }
  await assertRejects(
    async () => await (await readIdx(counted(bare.slice(0, -1), 7).stream, "ten")).bytes(),
    Error,
    "ten: ends after 59 of 60 bytes",
  );
  await inFolder(async (folder) => {
    const { images, labels } = FASHION_MNIST_FILES.test;
    const pixels = noise(3 * 784);
    await Deno.writeFile(`${folder}/${images.name.replace(".gz", "")}`, idx([3, 28, 28], pixels));
    await Deno.writeFile(
      `${folder}/${labels.name}`,
      await gzip(idx([3], new Uint8Array([9, 2, 1]))),
    );
    const read = await loadFashionMnist(folder, "test");
    assertEquals([read.images, [...read.labels]], [pixels, [9, 2, 1]]);
    // Where both are there, the published form is the one.
    await Deno.writeFile(
      `${folder}/${images.name}`,
      await gzip(idx([3, 28, 28], pixels.map(() => 5))),
    );
    assertEquals((await loadFashionMnist(folder, "test")).images[0], 5);
    await Deno.remove(`${folder}/${images.name}`);
    await Deno.writeTextFile(`${folder}/${images.name.replace(".gz", "")}`, "neither");
    const error = await assertRejects(
      () => loadFashionMnist(folder, "test"),
      Error,
      "idx3-ubyte: ",
    );
    assertEquals((error as { code?: string }).code, "not-gzip");
  });
  await t.step("the published labels, unpacked", () =>
    inFolder(async (folder) => {
      const file = FASHION_MNIST_FILES.test.labels, bare = file.name.replace(".gz", "");
      const packed = await Deno.readFile(`${DIR}/${file.name}`);
      await Deno.mkdir(`${folder}/from`);
      await Deno.mkdir(`${folder}/to`);
      const whole = await new Response(gunzip(counted(packed, 4096).stream, "a.gz")).bytes();
      await Deno.writeFile(`${folder}/from/${bare}`, whole);
      await verifyFile(`${folder}/from/${bare}`, file);
      assertEquals(
        await copyFile(file, `${folder}/from`, `${folder}/to`),
        `${folder}/to/${bare}`,
      );
      const options = { verify: true, files: [file], urls: [], from: `${folder}/from` };
      assertEquals(await ensureFashionMnist(`${folder}/to`, options), {
        kept: [file.name],
        fetched: [],
      });
      whole[20]! ^= 1;
      await Deno.writeFile(`${folder}/to/${bare}`, whole);
      const lines: string[] = [];
      const log = (line: string) => void lines.push(line);
      const again = await ensureFashionMnist(`${folder}/to`, { ...options, log });
      assertEquals(again, { kept: [], fetched: [file.name] });
      assert(lines[0]!.includes(`${bare}: holds other data than the published`), lines[0]!);
      await verifyFile(`${folder}/to/${bare}`, file);
    }));
});

Deno.test("a notebook shows images of a data set with their classes, and nobody else sees a difference", async () => {
  const classes = ["<b>\"&'", "bag\n"];
  const read = async (count: number) => {
    const pixels = Uint8Array.from({ length: 6 * count }, (_, i) => i);
    const labels = Uint8Array.from({ length: count }, (_, i) => 2 * i < count ? 0 : 1);
    const stream = (file: Uint8Array<ArrayBuffer>) => new Blob([file]).stream();
    return await readImageDataset(
      { stream: stream(idx([count, 2, 3], pixels)), name: "images" },
      { stream: stream(idx([count], labels)), name: "labels" },
      { classes },
    );
  };
  const data = await read(100), plain = { ...data };
  assertEquals(data, plain);
  assertEquals(Reflect.ownKeys(plain), ["images", "labels", "count", "height", "width", "classes"]);
  assertEquals(JSON.stringify(data), JSON.stringify(plain));
  assertEquals(structuredClone(data), plain);

  const { text, html } = await displayOf(data);
  assertEquals(text, `100 images of 2×3, grey; 2 classes: ${classes.join(", ")}`);
  const words = [...html.matchAll(/<br>([^<]*)</g)].map(([, words]) => words);
  // As many of the one class as of the other, though those of the first come first.
  assertEquals(words, [...Array(12).fill("&lt;b&gt;&quot;&amp;&#39;"), ...Array(12).fill("bag ")]);
  const png = async (i: number) =>
    (await encodePng(data.images.slice(6 * i, 6 * i + 6), 2, 3)).toBase64();
  assertStringIncludes(html, await png(0));
  assertStringIncludes(html, await png(Math.floor(23 * 100 / 24)));
  assertEquals((await displayOf(await read(1))).text.slice(0, 14), "1 image of 2×3");
});

Deno.test("a notebook shows images that are RGB, read when needed, large, or not to be had", async () => {
  const size = { count: 2, height: 1, width: 2, channels: 3 }, classes = ["a", "b"];
  const labels = Uint32Array.of(0, 1), pixels = Uint8Array.of(255, 0, 0, 255, 9, 9);
  const images = Uint8Array.of(1, 2, 3, 4, 5, 6, ...pixels);
  const show = async (data: Parameters<typeof showDataset>[0]) =>
    (await showDataset(data))["text/html"]!;
  const rgb = await show({ ...size, images, labels, classes });
  assertStringIncludes(rgb, (await encodePng(pixels, 1, 2, 3)).toBase64());
  const asked: number[] = [];
  const read = (indices: Uint32Array) => {
    asked.push(...indices);
    return Promise.resolve(images);
  };
  assertEquals(await show({ ...size, images: read, labels, classes }), rgb);
  assertEquals(asked, [0, 1]);
  const fails = () => Promise.reject(new Error("gone"));
  const line = "2 images of 1×2, RGB; 2 classes: a, b";
  assertEquals(await show({ ...size, images: fails, labels, classes }), `<div>${line}</div>`);

  const [height, width] = [150, 200];
  const large = new Uint8Array(height * width).map((_, i) => i % 251);
  const html = await show({ count: 1, height, width, images: large, labels, classes });
  const png = Uint8Array.fromBase64(html.match(/base64,([^"]*)/)![1]!);
  const header = new DataView(png.buffer);
  assertEquals([header.getUint32(16), header.getUint32(20)], [96, 72]);
});

Deno.test("a notebook shows data sets of every kind: IDX files, class folders, images one by one", () =>
  inFolder(async (folder) => {
    const pixels = Uint8Array.from({ length: 3 * 16 }, (_, i) => 5 * i);
    const png = await encodePng(pixels, 4, 4, 3), base64 = png.toBase64();
    for (const part of ["train", "test"]) {
      for (const name of ["<b>", "dog"]) {
        await Deno.mkdir(`${folder}/set/${part}/${name}`, { recursive: true });
        await Deno.writeFile(`${folder}/set/${part}/${name}/a.png`, png);
      }
    }
    const text = "2 images of 4×4, RGB; 2 classes: <b>, dog";
    for (const memory of [2 ** 20, 0]) { // Held in memory, or read from the cache.
      using data = await loadDataset(`${folder}/set`, {
        resize: 4,
        cache: `${folder}/cache`,
        memory,
      });
      assertEquals(typeof data.train.images, memory > 0 ? "object" : "function");
      for (const set of [data.train, data.test]) {
        const shown = await displayOf(set);
        assertEquals(shown.text, text);
        assertEquals(shown.html.split(base64).length, 3, "each image");
      }
    }
    const items = ["<b>", "dog"].map((label) => ({ image: png, label }));
    const collected = await displayOf(await collectImages(items));
    assertEquals([collected.text, collected.html.split(base64).length], [text, 3]);
    using idx = await loadDataset(DIR, { limit: 5, testLimit: 3 });
    assertMatch((await displayOf(idx.train)).text, /^5 images of 28×28, grey; 10 classes: T-shirt/);
    assertMatch(
      (await displayOf(idx.test)).html,
      /<br>Ankle boot<[^]*<br>Pullover<[^]*<br>Trouser</,
    );
  }));
