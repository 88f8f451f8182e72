/**
 * Images that are damaged or lie: the data set's four files, and photographs. Mutants, 42,000 in a
 * soak, are read as what they hold, or are errors with a message; bombs are errors before they go off.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Random } from "@resnette/resnette";
import { verifyFile } from "../../lib/files/download.ts";
import { DataError } from "../../lib/data/error.ts";
import { FASHION_MNIST_FILES, type Split } from "../../lib/data/fashion_mnist.ts";
import { type ImageDataset, readImageDataset } from "../../lib/data/dataset.ts";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import type { ByteStream } from "../../lib/data/gzip.ts";
import { decodeGrey, ImageError } from "../../lib/files/image.ts";
import { prepareGarment } from "../../scripts/predict/photo.ts";
import { inFolder } from "../folder.ts";
import { type Bytes, collectGarbage, concat, damage, fuzz, pick, reasonOf } from "../mutants.ts";
import { rounds } from "../soak.ts";

const SIZE = 28 * 28, IMAGES = 6;
const ascii = (text: string): Bytes => new TextEncoder().encode(text);
const pack = async (stream: ByteStream, format: CompressionFormat = "gzip"): Promise<Bytes> =>
  await new Response(stream.pipeThrough(new CompressionStream(format))).bytes();
const packed = (bytes: Bytes, format?: CompressionFormat) =>
  pack(new Blob([bytes]).stream(), format);

/** Big-endian, four bytes each. */
function words(...values: number[]): Bytes {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => view.setUint32(4 * i, value));
  return new Uint8Array(view.buffer);
}

/** One damage, or some. */
function damaged(random: Random, bytes: Bytes, other: Bytes): Bytes {
  let result = damage(random, bytes, other);
  while (random.below(3) === 0) result = damage(random, result, other);
  return result;
}

/** A few images and their labels: as IDX, and packed. */
const pixels = new Uint8Array(IMAGES * SIZE).map((_, i) => i % 28 < 9 ? 0 : (i * i) >> 4);
const first = (count: number) => ({
  images: concat(words(0x0803, count, 28, 28), pixels.subarray(0, count * SIZE)),
  labels: concat(words(0x0801, count), [9, 0, 3, 7, 1, 1].slice(0, count)),
});
const IDX = first(IMAGES);
const GZ = { images: await packed(IDX.images), labels: await packed(IDX.labels) };
type Files = Record<keyof typeof IDX, Bytes>;

/** What two unpacked files say; undefined if they must be an error. */
function expected({ images, labels }: Files, limit = Infinity): Partial<ImageDataset> | undefined {
  if (images.length < 16 || labels.length < 8) return undefined;
  const count = new DataView(images.buffer).getUint32(4), kept = Math.min(count, limit);
  const header = concat(words(0x0803, count, 28, 28), words(0x0801, count));
  const given = concat(images.slice(0, 16), labels.slice(0, 8));
  const fits = given.every((byte, i) => byte === header[i]) && count > 0 &&
    images.length === 16 + count * SIZE && labels.length === 8 + count;
  const data = { images: images.slice(16, 16 + kept * SIZE), labels: labels.slice(8, 8 + kept) };
  return fits && data.labels.every((label) => label < 10) ? { ...data, count: kept } : undefined;
}

/** A source in pieces of `size` bytes, that tells how it ended and what it took meanwhile. */
function source(bytes: Bytes, size: number) {
  const state = { pulled: 0, closed: false, rss: 0 };
  const stream: ByteStream = new ReadableStream({
    pull(to) {
      state.rss = Math.max(state.rss, Deno.memoryUsage().rss);
      if (state.pulled >= bytes.length) {
        state.closed = true;
        return to.close();
      }
      to.enqueue(bytes.slice(state.pulled, state.pulled + size));
      state.pulled += size;
    },
    cancel: () => void (state.closed = true),
  }, { highWaterMark: 0 });
  return { stream, state };
}

/** Reads a split from streams, and looks whether they are closed then. */
async function readStreams(
  files: Files,
  split: Split,
  size: number,
  limited: { limit?: number },
): Promise<ImageDataset> {
  const [images, labels] = [source(files.images, size), source(files.labels, size)];
  const names = FASHION_MNIST_FILES[split];
  try {
    return await readImageDataset(
      { stream: images.stream, name: names.images.name },
      { stream: labels.stream, name: names.labels.name },
      { classes: new Array(10).fill("a class"), size: [28, 28], ...limited },
    );
  } finally {
    assert(images.state.closed && labels.state.closed, "a source is still open");
  }
}

/** Whether a file has the bytes that are asked for. */
async function isVerified(path: string, bytes: Bytes): Promise<boolean> {
  const sha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  try {
    await verifyFile(path, { name: "a file", sha256, bytes: bytes.length });
    return true;
  } catch (error) {
    reasonOf(error, [DataError], `${path}: `);
    return false;
  }
}

Deno.test("mutants of the data set's files are the images that they hold, or refused", () =>
  inFolder((folder) =>
    fuzz("data files", {
      ...{ stream: 1, count: rounds(700, 30_000) },
      ...{ milliseconds: 2000, megabytes: 150 },
    }, async (random, n) => {
      const split = pick(random, ["train", "test"] as const);
      const [part, other] = pick(random, [["images", "labels"], ["labels", "images"]] as const);
      const limited = random.below(4) === 0 ? { limit: 1 + random.below(IMAGES) } : {};
      // Damaged before it is packed, or after: then gzip's checksum vouches for the old bytes.
      const idx = { ...IDX }, gz = { ...GZ }, inside = random.below(2) === 0;
      if (inside) idx[part] = damaged(random, idx[part], idx[other]);
      // Sometimes both are of another number, which fits but may be none.
      if (inside && random.below(8) === 0) Object.assign(idx, first(random.below(IMAGES + 1)));
      if (inside) gz[other] = await packed(idx[other]);
      gz[part] = inside ? await packed(idx[part]) : damaged(random, gz[part], gz[other]);
      const right = expected(idx, limited.limit);
      const names = FASHION_MNIST_FILES[split], onDisk = n % 8 === 0;
      if (onDisk) {
        const path = `${folder}/${names[part].name}`;
        await Deno.writeFile(path, gz[part]);
        await Deno.writeFile(`${folder}/${names[other].name}`, gz[other]);
        const same = idx[part].length === IDX[part].length &&
          idx[part].every((byte, i) => byte === IDX[part][i]);
        const verified = await isVerified(path, IDX[part]);
        assert(inside ? verified === same : true, `sha256 is ${verified}, same bytes ${same}`);
      }
      try {
        const { images, labels, count } = onDisk
          ? await loadFashionMnist(folder, split, limited)
          : await readStreams(gz, split, pick(random, [7, 100, 1e6]), limited);
        assert(right, "read, though they are none");
        assertEquals({ images, labels, count }, right);
        return undefined;
      } catch (error) {
        if (inside) assertEquals(right, undefined, `refused: ${error}`);
        const start = split === "train" ? "train-" : "t10k-";
        return reasonOf(error, [DataError], onDisk ? `${folder}/${start}` : start);
      }
    })
  ));

Deno.test("the data set's files are refused wherever they are cut off; a flipped bit changes nothing that is read", async () => {
  for (const part of ["images", "labels"] as const) {
    for (let length = 0; length < GZ[part].length; length++) {
      const cut = { ...GZ, [part]: GZ[part].slice(0, length) };
      const error = await assertRejects(() => readStreams(cut, "test", 64, {}), DataError);
      assertEquals(error.code, "gzip-truncated", `${part} after ${length} bytes: ${error}`);
    }
  }
  const right = expected(IDX);
  let read = 0;
  for (let bit = 0; bit < 8 * GZ.labels.length; bit++) {
    const labels = GZ.labels.slice();
    labels[bit >> 3]! ^= 1 << bit % 8;
    const data = await readStreams({ ...GZ, labels }, "test", 64, {}).catch((error) => error);
    if (data instanceof DataError) continue;
    assertEquals({ images: data.images, labels: data.labels, count: data.count }, right);
    read++;
  }
  // The header's: time, system and the like; and what fills the last byte of the data.
  assert(read < 60, `${read} flipped bits are not noticed`);
});

/** 128 MiB of zeros behind a header, packed into some 130 KB. */
async function bomb(...header: number[]): Promise<Bytes> {
  let left = 128;
  const zeros: ByteStream = new ReadableStream({
    start: (to) => to.enqueue(words(...header)),
    pull: (to) => left-- > 0 ? to.enqueue(new Uint8Array(2 ** 20)) : to.close(),
  });
  return await pack(zeros);
}

Deno.test("bombs and claims of gigabytes cost what the data set may have, and no more", async (t) => {
  const claims = await packed(concat(words(0x0803, 12_755_102, 28, 28), new Uint8Array(1000)));
  const cases: [what: string, files: Partial<Files>, message: RegExp, most: number][] = [
    ["10 GB in 1 KB", { images: claims }, /images.* claims 12755102 records, more than the/, 1e6],
    [
      "10 GB of images",
      { images: await bomb(0x0803, 12_755_102, 28, 28) },
      /images.* claims 12755102 records, more than the 60000/,
      20e6,
    ],
    ["4 GB of labels", { labels: await bomb(0x0801, 2 ** 32 - 1) }, /claims 4294967295 rec/, 20e6],
    ["nothing but zeros", { images: await bomb() }, /is not an IDX file/, 20e6],
    [
      "as many images as there can be, and then some",
      { images: await bomb(0x0803, 60_000, 28, 28), labels: await packed(words(0x0801, 60_000)) },
      /images.* holds more than the 60000 records of 28×28 its header claims/,
      48e6 + 20e6,
    ],
  ];
  for (const [what, files, message, most] of cases) {
    await t.step(what, async () => {
      const images = source(files.images ?? GZ.images, 4096);
      const labels = source(files.labels ?? GZ.labels, 4096);
      const names = FASHION_MNIST_FILES.train;
      const before = Deno.memoryUsage().rss, start = performance.now();
      const error = await assertRejects(() =>
        readImageDataset(
          { stream: images.stream, name: names.images.name },
          { stream: labels.stream, name: names.labels.name },
          { classes: ["one"], size: [28, 28], most: 60_000 },
        ), DataError);
      const seconds = (performance.now() - start) / 1000;
      assert(message.test(error.message), error.message);
      const grown = Math.max(images.state.rss, labels.state.rss, Deno.memoryUsage().rss) - before;
      assert(grown < most, `memory grew by ${grown} bytes`);
      assert(images.state.pulled + labels.state.pulled < 100_000, "read on after it was clear");
      assert(seconds < 5, `took ${seconds} s`);
    });
  }
  await t.step("from a folder", () =>
    inFolder(async (folder) => {
      const { images, labels } = FASHION_MNIST_FILES.test;
      await Deno.writeFile(`${folder}/${images.name}`, claims);
      await Deno.writeFile(`${folder}/${labels.name}`, GZ.labels);
      const message = `${folder}/${images.name}: claims 12755102 records, more than the 10000`;
      await assertRejects(() => loadFashionMnist(folder, "test"), DataError, message);
    }));
});

// Photographs.

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** A PNG's chunk, with its checksum. */
function chunk(type: Bytes, data: Bytes): Bytes {
  const sum = concat(type, data).reduce((crc, byte) => CRC[(crc ^ byte) & 255]! ^ (crc >>> 8), -1);
  return concat(words(data.length), type, data, words(~sum));
}

/** A PNG whose chunks are damaged and have right checksums. */
function damagedPng(random: Random, png: Bytes, other: Bytes): Bytes {
  const chunks: [type: Bytes, data: Bytes][] = [];
  const view = new DataView(png.buffer, png.byteOffset);
  for (let at = 8; at < png.length;) {
    const end = at + 8 + view.getUint32(at);
    chunks.push([png.slice(at + 4, at + 8), png.slice(at + 8, end)]);
    at = end + 4;
  }
  const i = random.below(chunks.length), j = random.below(chunks.length);
  const [type, data] = chunks[i]!;
  const kind = random.below(6);
  if (kind === 0) chunks.splice(j, 0, [type, damage(random, data, other)]);
  else if (kind === 1) chunks.splice(i, 1);
  else if (kind === 2) {
    chunks[i] = [
      ascii(pick(random, ["IHDR", "PLTE", "tRNS", "eXIf", "iCCP", "acTL", "fcTL"])),
      data,
    ];
  } else chunks[i] = [type, damage(random, data, other)];
  return concat(png.slice(0, 8), ...chunks.map((parts) => chunk(...parts)));
}

const PHOTOS: Bytes[] = [];
for (const name of ["16.png", "alpha.png", "palette.png", "tint.webp", "turned.jpg"]) {
  PHOTOS.push(await Deno.readFile(`tests/fixtures/images/boot_${name}`));
}

Deno.test("mutants of photographs are made ready, or refused", () =>
  fuzz("photographs", {
    ...{ stream: 2, count: rounds(300, 12_000) },
    ...{ milliseconds: 8000, megabytes: 1500 },
  }, async (random) => {
    const photo = pick(random, PHOTOS), other = pick(random, PHOTOS);
    const structured = photo[1] === 0x50 && random.below(3) > 0;
    const file = structured ? damagedPng(random, photo, other) : damaged(random, photo, other);
    try {
      const { pixels, width, height } = await decodeGrey(file, "a.png");
      assertEquals(pixels.length, width * height);
      const { pixels: ready, box } = prepareGarment({ pixels, width, height });
      assertEquals(ready.length, SIZE);
      assert(
        box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height,
      );
      return undefined;
    } catch (error) {
      return reasonOf(error, [ImageError], "a.png: ");
    }
  }));

Deno.test("of a photograph that was read nothing stays in memory", async () => {
  const SIDE = 600, DECODED = 80;
  const scanlines = new Uint8Array(SIDE * (1 + 3 * SIDE));
  const png = concat(
    PHOTOS[0]!.slice(0, 8),
    chunk(ascii("IHDR"), concat(words(SIDE, SIDE), [8, 2, 0, 0, 0])),
    chunk(ascii("IDAT"), await packed(scanlines, "deflate")),
    chunk(ascii("IEND"), new Uint8Array()),
  );
  const decode = async (times: number) => {
    for (let i = 0; i < times; i++) {
      assertEquals((await decodeGrey(png, "a.png")).width, SIDE);
      if (i % 4 === 3) await collectGarbage();
    }
    return Deno.memoryUsage().rss;
  };
  const before = await decode(20), grown = await decode(DECODED) - before;
  assert(grown < DECODED * scanlines.length / 3, `memory grew by ${grown} bytes`);
});

Deno.test("a photograph that hides how large it is is refused before it is decoded", async () => {
  const [deep, png, , , jpeg] = PHOTOS as [Bytes, Bytes, Bytes, Bytes, Bytes];
  const start = jpeg.findIndex((byte, i) => byte === 0xff && jpeg[i + 1] === 0xc0);
  const frame = jpeg.slice(start, start + 2 + jpeg[start + 3]!);
  const sized = (width: number, height: number) => {
    const bytes = frame.slice();
    new DataView(bytes.buffer).setUint32(5, height * 2 ** 16 + width);
    return bytes;
  };
  const hidden = (mark: number) => {
    // After this mark, some readers expect a length, others not: those see the large frame.
    const comment = concat([0xff, 0xfe, 0xff, 0xf0], new Uint8Array(0xffee));
    const before = concat([0xff, 0xd8, 0xff, mark], sized(12_288, 12_288));
    comment.set(concat(sized(1, 1), [0xff, 0xda]), 4 + 0xffc0 - before.length);
    return concat(before, comment, jpeg.slice(2, start), jpeg.slice(start + frame.length));
  };
  const profile = concat(ascii("a name"), [0, 0], await packed(new Uint8Array(2 ** 27), "deflate"));
  const deeper = deep.slice();
  new DataView(deeper.buffer).setUint32(16, 8192);
  new DataView(deeper.buffer).setUint32(20, 2049);
  const cases: [Bytes, string][] = [
    ...[0x00, 0x01, 0xd0, 0xd8, 0xd9].map((mark) =>
      [hidden(mark), "has no size"] as [Bytes, string]
    ),
    [
      concat(png.slice(0, 33), chunk(ascii("iCCP"), profile), png.slice(33)),
      "its colour profile has",
    ],
    [deeper, "8192×2049 pixels of 16 bits are more than the 16777216 that are decoded"],
  ];
  const before = Deno.memoryUsage().rss;
  for (const [bytes, message] of cases) {
    const error = await assertRejects(() => decodeGrey(bytes, "a.png"), ImageError, message);
    assert(error.message.startsWith("a.png: "));
  }
  const grown = Deno.memoryUsage().rss - before;
  assert(grown < 20e6, `memory grew by ${grown} bytes`);
});
