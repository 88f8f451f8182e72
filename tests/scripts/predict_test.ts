/**
 * `deno task predict` and what prepares its images: files of all kinds, hostile ones, and garments of
 * the test set that are enlarged, turned, padded and inverted.
 */

import { crc32 } from "node:zlib";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  Device,
  encodeStateDict,
  evaluate,
  freeVariables,
  softmax,
  tensor,
} from "@resnette/resnette";
import { type ImagesInMemory, loadFashionMnist } from "@resnette/resnette/data";
import { likeliest, predict } from "@resnette/resnette/train";
import { decodeGrey, ImageError, MAX_IMAGE_BYTES } from "../../lib/files/image.ts";
import { readImageBytes } from "../../scripts/predict/image_file.ts";
import { prepareGarment } from "../../scripts/predict/photo.ts";
import { loadTrained } from "../../lib/files/trained.ts";
import { main } from "../../scripts/predict.ts";
import { call, deno } from "../call.ts";
import { LiveBuffers } from "../faults/gpu.ts";
import { inFolder } from "../folder.ts";
import { smallNet, trainSmall } from "../small_net.ts";

const FIXTURES = "tests/fixtures/images";
const SIZE = 28 * 28;
const tested = await loadFashionMnist("data/fashion-mnist", "test", { limit: 200 });
const image = ({ images }: ImagesInMemory, i: number) => images.subarray(i * SIZE, (i + 1) * SIZE);
const boot = image(tested, 0);

/** A grey picture as a file. */
async function encode(
  pixels: Uint8Array,
  width: number,
  height: number,
  type: "image/png" | "image/jpeg",
): Promise<Uint8Array<ArrayBuffer>> {
  const rgba = new Uint8ClampedArray(4 * width * height).fill(255);
  pixels.forEach((value, i) => rgba.fill(value, 4 * i, 4 * i + 3));
  const canvas = new OffscreenCanvas(width, height);
  const bitmap = await createImageBitmap(new ImageData(rgba, width, height));
  canvas.getContext("bitmaprenderer")!.transferFromImageBitmap(bitmap);
  return await (await canvas.convertToBlob({ type, quality: 0.9 })).bytes();
}

/** How a garment lies on a picture. */
interface Pose {
  readonly width: number;
  readonly height: number;
  /** Pixels of the picture to one of the garment. */
  readonly scale: number;
  /** Degrees by which it is turned. */
  readonly turn: number;
  /** What is black on it, and what is white. */
  readonly levels: readonly [number, number];
}

/** A 28×28 garment in the middle of a picture, interpolated between its pixels. */
function pose(garment: Uint8Array, { width, height, scale, turn, levels }: Pose): Uint8Array {
  const [cos, sin] = [Math.cos(turn * Math.PI / 180), Math.sin(turn * Math.PI / 180)];
  const at = (x: number, y: number) =>
    x < 0 || y < 0 || x > 27 || y > 27 ? 0 : garment[28 * y + x]!;
  return Uint8Array.from({ length: width * height }, (_, i) => {
    const [u, v] = [i % width - width / 2, Math.floor(i / width) - height / 2];
    const x = (cos * u + sin * v) / scale + 13.5, y = (cos * v - sin * u) / scale + 13.5;
    const [left, top] = [Math.floor(x), Math.floor(y)], [a, b] = [x - left, y - top];
    const value = (1 - b) * ((1 - a) * at(left, top) + a * at(left + 1, top)) +
      b * ((1 - a) * at(left, top + 1) + a * at(left + 1, top + 1));
    return levels[0] + value / 255 * (levels[1] - levels[0]);
  });
}

const ON_WHITE: Pose = { width: 200, height: 140, scale: 4, turn: 0, levels: [255, 0] };

/** Mean difference of the pixels. */
const distance = (a: Uint8Array, b: Uint8Array) =>
  a.reduce((sum, value, i) => sum + Math.abs(value - b[i]!), 0) / a.length;

Deno.test("images of the test set are prepared to what they are, and inverted to what they were", () => {
  for (let i = 0; i < tested.count; i++) {
    const pixels = image(tested, i), negative = pixels.map((value) => 255 - value);
    const same = prepareGarment({ pixels, width: 28, height: 28 });
    assertEquals([same.inverted, same.pixels], [false, pixels]);
    const back = prepareGarment({ pixels: negative, width: 28, height: 28 });
    assertEquals([back.inverted, back.pixels], [true, pixels]);
    const kept = prepareGarment({ pixels: negative, width: 28, height: 28 }, { invert: "no" });
    assertEquals([kept.inverted, kept.pixels], [false, negative]);
  }
});

Deno.test("a garment is found, cut out, centred, and put on black", () => {
  const pixels = pose(boot, { ...ON_WHITE, levels: [230, 20] });
  const { inverted, box, pixels: out } = prepareGarment({ pixels, width: 200, height: 140 });
  assert(inverted && box.width > 100 && box.width < 120 && box.height < 80, JSON.stringify(box));
  assert(distance(out, boot) < 12, `${distance(out, boot)}`);
  assertEquals([out[0], out[27], out[SIZE - 1]], [0, 0, 0]);
  const plain = prepareGarment({ pixels: new Uint8Array(600).fill(9), width: 60, height: 10 });
  assertEquals(plain.box, { x: 0, y: 0, width: 60, height: 10 });
  assertEquals([...new Set(plain.pixels)], [0]);
  const thin = prepareGarment({ pixels: new Uint8Array([255]), width: 1, height: 1 });
  assertEquals([thin.inverted, thin.pixels.length], [true, SIZE]);
});

Deno.test("a thing is made as large as things are in the data set, and of its images' size", () => {
  const pixels = new Uint8Array(100 * 60).fill(255);
  for (let y = 20; y < 60; y++) pixels.fill(0, y * 60 + 30, y * 60 + 40);
  const picture = { pixels, width: 60, height: 100 };
  const { pixels: out } = prepareGarment(picture, { fill: 20 / 28 });
  const rows = Array.from({ length: 28 }, (_, y) => out.subarray(28 * y, 28 * y + 28));
  const bright = rows.map((row) => row.reduce((n, value) => n + Number(value > 0), 0));
  assertEquals(bright, [0, 0, 0, 0, ...new Array(20).fill(5), 0, 0, 0, 0]);
  const wide = prepareGarment(picture, { size: [8, 30] });
  assertEquals(wide.pixels.length, 240);
  assertEquals(wide.pixels.reduce((n, value) => n + Number(value > 0), 0), 16);
});

Deno.test("PNG, JPEG and WebP are read: colour, EXIF, transparency, palettes, 16 bits", async () => {
  // Some differ a little for what their formats lose, the turned one for its lossy edges.
  const files = { tint: "webp", turned: "jpg", alpha: "png", palette: "png", "16": "png" };
  for (const [name, ending] of Object.entries(files)) {
    const path = `${FIXTURES}/boot_${name}.${ending}`;
    const grey = await decodeGrey(await Deno.readFile(path), path);
    const { pixels, inverted } = prepareGarment(grey);
    assertEquals(inverted, ["tint", "turned", "alpha"].includes(name), path);
    assert(distance(pixels, boot) < 6, `${path}: ${distance(pixels, boot)}`);
  }
  for (const type of ["image/png", "image/jpeg"] as const) {
    const { pixels, width, height } = await decodeGrey(await encode(boot, 28, 28, type), type);
    assertEquals([width, height], [28, 28]);
    assert(distance(pixels, boot) <= (type === "image/png" ? 0 : 6), type);
  }
});

/** The fixture with bytes changed from `at` on. */
async function changed(name: string, at: number, ...bytes: number[]) {
  const file = await Deno.readFile(`${FIXTURES}/${name}`);
  file.set(bytes, at);
  return file;
}

Deno.test("files that are no images, damaged or too large are refused before they are decoded", async () => {
  const jpeg = await Deno.readFile(`${FIXTURES}/boot_turned.jpg`);
  const frame = jpeg.findIndex((byte, i) => byte === 0xff && jpeg[i + 1] === 0xc0);
  const png = await Deno.readFile(`${FIXTURES}/boot_alpha.png`);
  const faults: [name: string, bytes: Uint8Array<ArrayBuffer>, message: string][] = [
    ["empty", new Uint8Array(), "is not a PNG, JPEG or WebP file"],
    ["text", new TextEncoder().encode("a picture"), "is not a PNG, JPEG or WebP file"],
    ["GIF", new TextEncoder().encode("GIF89a\x01\x00\x01\x00"), "is not a PNG"],
    ["20 bytes", png.slice(0, 20), "the file ends within its header"],
    ["half a PNG", png.slice(0, 400), "is damaged: the file ends before its picture does"],
    ["half a JPEG header", jpeg.slice(0, 40), "its header has no size"],
    ["no width", await changed("boot_alpha.png", 16, 0, 0, 0, 0), "its header has no size"],
    [
      "4,294,967,295 columns",
      await changed("boot_alpha.png", 16, 255, 255, 255, 255),
      "4294967295×84 pixels are more than the 67108864",
    ],
    ["65,535²", await changed("boot_turned.jpg", frame + 5, 255, 255, 255, 255), "65535×65535"],
    ["16,383²", await changed("boot_tint.webp", 26, 255, 63, 255, 63), "16383×16383 pixels"],
  ];
  for (const [name, bytes, message] of faults) {
    const error = await assertRejects(() => decodeGrey(bytes, "a.png"), ImageError);
    assert(error.message.startsWith("a.png: "), error.message);
    assertStringIncludes(error.message, message, name);
  }
  let sent = 0;
  const endless = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull: (to) => (sent += 2 ** 20, to.enqueue(new Uint8Array(2 ** 20))),
  });
  await assertRejects(() => readImageBytes(endless, "-"), ImageError, "longer than the 64 MiB");
  assert(sent < 2 * MAX_IMAGE_BYTES);
});

Deno.test("pictures that are cut off are refused, wherever that is, and bytes after them are not", async () => {
  for await (const { name } of Deno.readDir(FIXTURES)) {
    const file = await Deno.readFile(`${FIXTURES}/${name}`);
    const lengths = [Math.ceil(2 * file.length / 3), file.length - 1, file.length - 2];
    for (let length = 400; length < file.length; length += 13) lengths.push(length);
    for (const length of lengths) {
      await assertRejects(
        () => decodeGrey(file.slice(0, length), name),
        ImageError,
        `${name}: is damaged: the file ends before its picture does`,
        `${name}, ${length} bytes`,
      );
    }
    const longer = new Uint8Array(file.length + 99);
    longer.set(file);
    assertEquals(await decodeGrey(longer, name), await decodeGrey(file, name));
  }
  // A thumbnail in a JPEG has an end of its own.
  const jpeg = await Deno.readFile(`${FIXTURES}/boot_turned.jpg`);
  const inside = [0xff, 0xe1, 0, 8, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xd9];
  const thumbed = new Uint8Array([...jpeg.slice(0, 2), ...inside, ...jpeg.slice(2)]);
  assertEquals(await decodeGrey(thumbed, "a"), await decodeGrey(jpeg, "a"));
  await assertRejects(
    () => decodeGrey(thumbed.slice(0, -2), "a.jpg"),
    ImageError,
    "a.jpg: is dama",
  );
});

/** An EXIF note of nothing but an orientation, with either order of bytes. */
function exif(orientation: number, little: boolean): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(26));
  const words = [[0, little ? 0x4949 : 0x4d4d], [2, 42], [8, 1], [10, 0x112], [12, 3]];
  for (const [at, word] of words) view.setUint16(at!, word!, little);
  view.setUint32(4, 8, little);
  view.setUint32(14, 1, little);
  view.setUint16(18, orientation, little);
  return new Uint8Array(view.buffer);
}

/** A PNG with a chunk more, at `at`. */
function withChunk(png: Uint8Array, at: number, type: string, data: Uint8Array) {
  const chunk = new Uint8Array(12 + data.length), view = new DataView(chunk.buffer);
  view.setUint32(0, data.length);
  chunk.set(new TextEncoder().encode(type), 4);
  chunk.set(data, 8);
  view.setUint32(8 + data.length, crc32(chunk.subarray(4, -4)));
  return new Uint8Array([...png.slice(0, at), ...chunk, ...png.slice(at)]);
}

Deno.test("a PNG is turned as its EXIF says, as Pillow's exif_transpose and a JPEG are", async () => {
  type Picture = { pixels: Uint8Array; width: number; height: number };
  const of = (picture: Picture, width: number, at: (x: number, y: number) => number) => {
    const pixels = picture.pixels.map((_, i) =>
      picture.pixels[at(i % width, Math.floor(i / width))]!
    );
    return { pixels, width, height: pixels.length / width };
  };
  const mirror = (p: Picture) => of(p, p.width, (x, y) => y * p.width + p.width - 1 - x);
  const flip = (p: Picture) => of(p, p.width, (x, y) => (p.height - 1 - y) * p.width + x);
  const transpose = (p: Picture) => of(p, p.height, (x, y) => x * p.width + y);
  const ways: ((p: Picture) => Picture)[] = [
    (p) => p,
    mirror,
    (p) => mirror(flip(p)),
    flip,
    transpose,
    (p) => mirror(transpose(p)), // clockwise by a right angle
    (p) => mirror(flip(transpose(p))),
    (p) => flip(transpose(p)),
  ];
  const jpeg = await Deno.readFile(`${FIXTURES}/boot_turned.jpg`);
  const tag = jpeg.findIndex((_, i) => jpeg[i] === 1 && jpeg[i + 1] === 0x12 && jpeg[i + 3] === 3);
  assertEquals([jpeg[tag + 8], jpeg[tag + 9]], [0, 6]);
  const lying = async (orientation: number) => {
    const file = jpeg.slice();
    file[tag + 9] = orientation;
    return await decodeGrey(file, "a.jpg");
  };
  const asIs = await lying(1);
  for (const [i, way] of ways.entries()) {
    assertEquals(await lying(i + 1), way(asIs), `JPEG ${i + 1}`);
  }

  for (const name of ["boot_alpha.png", "boot_palette.png", "boot_16.png"]) {
    const png = await Deno.readFile(`${FIXTURES}/${name}`);
    const plain = await decodeGrey(png, name);
    for (const [i, way] of ways.entries()) {
      for (const at of [33, png.length - 12]) { // before the pixels, and after them
        for (const little of [true, false]) {
          const file = withChunk(png, at, "eXIf", exif(i + 1, little));
          assertEquals(await decodeGrey(file, name), way(plain), `${name} ${i + 1}`);
        }
      }
    }
    const odd: [string, Uint8Array][] = [
      ["orientation 0", exif(0, true)],
      ["orientation 9", exif(9, true)],
      ["nothing", new Uint8Array(0)],
      ["a header only", exif(6, true).slice(0, 8)],
      ["cut off", exif(6, true).slice(0, 20)],
      ["an offset to nowhere", exif(6, true).fill(255, 4, 8)],
      ["no TIFF", exif(6, true).fill(65)],
    ];
    for (const [what, note] of odd) {
      assertEquals(await decodeGrey(withChunk(png, 33, "eXIf", note), name), plain, what);
    }
    const prefixed = new Uint8Array([...new TextEncoder().encode("Exif\0\0"), ...exif(6, false)]);
    assertEquals(await decodeGrey(withChunk(png, 33, "eXIf", prefixed), name), ways[5]!(plain));
    const bad = withChunk(png, 33, "eXIf", exif(6, true));
    bad[33 + 8 + 18]! ^= 1;
    await assertRejects(() => decodeGrey(bad, name), ImageError, "is damaged: its EXIF note is");
  }
});

Deno.test("the likeliest classes come first, and the smaller label of equals", () => {
  const top = likeliest(new Float32Array([0.25, 0.5, 0.25]), ["a", "b", "c"], 2);
  assertEquals(top, [
    { class: "b", label: 1, probability: 0.5 },
    { class: "a", label: 0, probability: 0.25 },
  ]);
});

Deno.test("300 images are uploaded once to be predicted, and nothing of them stays", async () => {
  using device = await Device.request();
  const data = await loadFashionMnist("data/fashion-mnist", "test", { limit: 300 });
  const net = smallNet();
  const live = new LiveBuffers();
  // What is written at once: the images are by far the most of it, as the net's values come first.
  const x = tensor(Float32Array.from(data.images, (value) => value / 255), [300, 1, 28, 28]);
  const expected = await evaluate(softmax(net.eval().call(x)), {}, device) as Float32Array;
  net.train();
  const before = live.names;
  let uploaded = 0, plans = 0;
  const { queue } = device.gpu, createBuffer = device.createBuffer;
  queue.writeBuffer = (buffer, offset, bytes, from, size) => {
    uploaded += size ?? bytes.byteLength;
    GPUQueue.prototype.writeBuffer.call(queue, buffer, offset, bytes, from, size);
  };
  device.createBuffer = (descriptor) => {
    plans += Number(descriptor.label === "sizes of kernels");
    return createBuffer.call(device, descriptor);
  };
  const rows = await predict(net, data, { resize: 28, device });
  live[Symbol.dispose]();
  assertEquals([rows.length, rows[0]!.length, plans], [300, 10, 2]);
  assert(uploaded < 1.1 * data.images.length, `${uploaded} bytes of ${data.images.length}`);
  const flat = rows.flatMap((row) => [...row]);
  const worst = flat.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
  assert(worst < 1e-5, `they differ by ${worst}`);
  assertEquals(net.modules().every((module) => module.training), true);
  const left = live.names.filter((name) => !name.startsWith("workspace"));
  assertEquals(left.sort(), before.filter((name) => !name.startsWith("workspace")).sort());
  freeVariables(net.namedVariables().map(([, variable]) => variable));
});

Deno.test("a trained network knows garments that are enlarged, turned, padded and inverted", (t) =>
  inFolder(async (folder) => {
    const [, accuracy] = await trainSmall(folder + "/run", { limit: 3000, epochs: 2 });
    assert(accuracy! > 0.65, `${accuracy}`);
    const { net, config: { resize } } = await loadTrained(`${folder}/run`);
    const right = async (images: Uint8Array<ArrayBuffer>) => {
      const set = { images, count: tested.count, height: 28, width: 28 };
      const rows = await predict(net, set, { resize });
      const found = rows.map((row) => likeliest(row, tested.classes, 1)[0]!.label);
      return found.filter((label, i) => label === tested.labels[i]).length / tested.count;
    };
    const plain = await right(tested.images);
    const poses: Record<string, Pose> = {
      "dark on white": ON_WHITE,
      "bright on black": { ...ON_WHITE, levels: [0, 255] },
      "turned to the left, pale": { ...ON_WHITE, turn: -5, levels: [240, 60] },
      "turned to the right, tall": {
        width: 110,
        height: 180,
        scale: 2.7,
        turn: 5,
        levels: [250, 10],
      },
    };
    for (const [name, how] of Object.entries(poses)) {
      await t.step(name, async () => {
        const images = new Uint8Array(tested.images.length);
        for (let i = 0; i < tested.count; i++) {
          const { width, height } = how;
          const type = i % 2 === 0 ? "image/png" : "image/jpeg";
          const file = await encode(pose(image(tested, i), how), width, height, type);
          images.set(prepareGarment(await decodeGrey(file, name)).pixels, i * SIZE);
        }
        const share = await right(images);
        // A turned one fits into a larger box, and so becomes smaller than the network knows it.
        const least = plain - (how.turn === 0 ? 0.06 : 0.15);
        assert(share > least, `${share} of these are right, and ${plain} of the originals`);
      });
    }

    await t.step("deno task predict prints three classes for each file", async () => {
      await Deno.writeFile(
        `${folder}/boot.jpg`,
        await encode(pose(boot, ON_WHITE), 200, 140, "image/jpeg"),
      );
      const files = [`${folder}/boot.jpg`, `${FIXTURES}/boot_tint.webp`, `${FIXTURES}/boot_16.png`];
      const { code, out, err } = await call(main, [`${folder}/run`, ...files]);
      assertEquals([code, err], [0, ""]);
      const lines = out.trimEnd().split("\n");
      assertEquals(lines.length, 3);
      lines.forEach((line, i) => {
        const [, path, names] = line.match(/^(.*): (\S.* [01]\.\d{3}, .* 0\.\d{3}, .* 0\.\d{3})$/)!;
        assertEquals(path, files[i]);
        const shares = names!.match(/\d\.\d{3}/g)!.map(Number);
        assert(shares[0]! >= shares[1]! && shares[1]! >= shares[2]!, line);
        assert(/^(Ankle boot|Sneaker|Sandal) /.test(names!), line);
      });
    });
    await t.step("a file that cannot be used is named, the others are predicted", async () => {
      const inFile = "README.md/a.png";
      const files = [`${folder}/none.png`, `${FIXTURES}/boot_16.png`, "README.md", "tests", inFile];
      const words = [`${folder}/run`, ...files, "--json", "--invert", "yes"];
      const { code, out, err } = await call(main, words);
      assertEquals(code, 1);
      const { images } = JSON.parse(out);
      assertEquals(images.length, 5);
      assertEquals(images[0], { image: files[0], error: `${files[0]}: there is no such file` });
      assertEquals([images[1].image, images[1].inverted, images[1].top.length], [
        files[1],
        true,
        3,
      ]);
      assertStringIncludes(images[2].error, "README.md: is not a PNG, JPEG or WebP file");
      assertStringIncludes(images[3].error, "tests: cannot be read");
      assertStringIncludes(images[4].error, `${inFile}: Not a directory`);
      assertEquals(err.match(/^error: /gm)!.length, 4);
    });
    await t.step("standard input, with the task's permissions", async () => {
      const args = ["run", "-q", "--allow-read", "--no-prompt", "tests/small_net.ts", "predict"];
      const input = await Deno.readFile(`${FIXTURES}/boot_turned.jpg`);
      for (const words of [[], ["-"]]) {
        const { code, out, err } = await deno([...args, `${folder}/run`, ...words], { input });
        assertEquals([code, err], [0, ""]);
        assert(/^-: (Ankle boot|Sneaker|Sandal) [01]\.\d{3}, /.test(out), out);
      }
      const { code, err } = await deno([...args, `${folder}/run`]);
      assertEquals([code, err], [1, "error: standard input: is not a PNG, JPEG or WebP file\n"]);
    });
  }));

Deno.test("a network whose weights are not finite predicts nothing, and says so", () =>
  inFolder(async (folder) => {
    const path = `${folder}/net.safetensors`, picture = `${FIXTURES}/boot_16.png`;
    const state = await smallNet().stateDict();
    state.get("fc.1.bias")!.data.fill(NaN);
    await Deno.writeFile(path, encodeStateDict(state));
    const { code, out, err } = await call(main, [path, picture]);
    assertEquals([code, out], [1, ""]);
    assertEquals(err, `error: ${picture}: the network gives numbers that are not finite\n`);
  }));

Deno.test("a wrong command line of deno task predict exits 2, no checkpoint 1, and --help 0", async () => {
  const wrong: [words: string[], message: string][] = [
    [[], "CHECKPOINT is missing"],
    [["a", "b.png", "--invert", "maybe"], '--invert must be one of: auto, yes, no, got "maybe"'],
    [["a", "-", "-"], "- is given twice"],
    [["a", "--resize", "x"], "--resize must be an integer"],
    [["a", "--top", "5"], "unknown: --top"],
  ];
  for (const [words, message] of wrong) {
    const { code, out, err } = await call(main, words);
    assertEquals([code, out], [2, ""], `${words}`);
    assertStringIncludes(err, `error: ${message}`);
  }
  const none = await call(main, ["none", "b.png"]);
  assertEquals([none.code, none.err], [1, "error: none: there is no such file or folder\n"]);
  const { code, out } = await call(main, ["-h"]);
  assertEquals(code, 0);
  assert(out.startsWith("usage: deno task predict CHECKPOINT"));
  assert(out.split("\n").every((line) => line.length <= 100));
});
