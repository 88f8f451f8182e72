/**
 * The commands with images of one's own: a folder of photographs, or IDX files, from training to the
 * report, as a user has them. The trees are made here.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Device } from "@resnette/resnette";
import { type ImageDataset, loadDataset } from "@resnette/resnette/data";
import { likeliest, MODELS, predict } from "@resnette/resnette/train";
import { decodeImage } from "../../lib/files/image.ts";
import { loadTrained } from "../../lib/files/trained.ts";
import { resizeBytes } from "../../lib/ops/resize.ts";
import { colour, grey, png, writeTree } from "../images.ts";
import { inProject, type OwnProject } from "../own_project.ts";
import { idx } from "../idx.ts";
import { tinyNet } from "../tiny_train.ts";

MODELS.set("tiny", tinyNet);

type Bytes = Uint8Array<ArrayBuffer>;

const TINY = "--model tiny --batch-size 12 --lr 0.03";
/** Names of classes, as people have them; in the order of their labels. */
const CLASSES = ["dogs & co", "naïve 猫", "Ωmega"];

/** Planes of pixels that have all values, in an order of their own for each `seed`. */
const noise = (seed: number, length: number) =>
  Uint8Array.from({ length }, (_, i) => (i + 1) * (2 * seed + 31) * 37 >> 3);

/** Photographs of three classes, of some colour each, of any sizes; and what is none. */
function photographs(): Record<string, Bytes | string> {
  const tree: Record<string, Bytes | string> = {
    "dogs & co/bad.png": "no picture",
    "dogs & co/notes.txt": "about dogs",
    "loose.png": grey(1),
  };
  for (let i = 0; i < 12; i++) {
    const pixels = noise(i, 3 * 8 * 12);
    tree[`dogs & co/of 2026/inner/${i}.png`] = i % 4 === 0
      ? grey(20 * i, 8, 12)
      : png(pixels, [8, 12], 3);
    tree[`naïve 猫/${i}.png`] = colour(20 * i, 240, 10, 6 + i, 9);
    tree[`Ωmega/${i}.PNG`] = colour(10, 20 * i, 240, 10, 7);
  }
  return tree;
}

/** The lines of epochs, without their times. */
const epochs = (out: string) =>
  out.split("\n").filter((line) => line.startsWith("epoch ")).map((line) =>
    line.replace(/, time.*/, "")
  );

/** That two runs ended with the same bits, in an epoch of that number. */
async function assertSameEnd({ folder }: OwnProject, a: string, b: string, epoch: number) {
  for (const file of ["model.safetensors", "optimizer.safetensors"]) {
    const [one, other] = await Promise.all(
      [a, b].map((run) =>
        Deno.readFile(`${folder}/runs/${run}/checkpoints/epoch-${epoch}/${file}`)
      ),
    );
    assertEquals(one, other, file);
  }
}

/** The pixels of some images of a data set. */
const pixelsOf = ({ images, height, width, channels = 1 }: ImageDataset, i: number) => {
  const size = channels * height * width;
  return (images as Uint8Array).slice(i * size, (i + 1) * size);
};

/** What the library makes of pixels with the net of a run. */
async function likeliestOf(
  run: string,
  pixels: readonly Uint8Array[],
  [height, width]: readonly [number, number],
) {
  const { net, config, data } = await loadTrained(run);
  const count = pixels.length, channels = pixels[0]!.length / (height * width);
  const images = new Uint8Array(pixels.flatMap((image) => [...image]));
  // Kernels as the command has them for a few images: to the same bits.
  using device = await Device.request({ choice: "naive" });
  const set = { images, count, channels, height, width };
  const rows = await predict(net, set, { ...config, device });
  return rows.map((row) => likeliest(row, data.classes, 3));
}

/** The likeliest classes that a command predicted, by image. */
const predicted = (out: string): { image: string; top: unknown }[] => JSON.parse(out).images;

/** `text` as its bytes in UTF-8 are in a file that is read as Latin-1. */
const inFile = (text: string) => String.fromCharCode(...new TextEncoder().encode(text));
const latin1 = (bytes: Uint8Array) =>
  Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");

/** An entry of an ONNX file's metadata. */
const entry = (key: string, value: string) => {
  const [k, v] = [key, value].map(inFile) as [string, string];
  return `\n${String.fromCharCode(k.length)}${k}\x12${String.fromCharCode(v.length)}${v}`;
};

/** The input's shape in an ONNX file, after the number of images. */
const shape = (...sides: number[]) =>
  sides.map((side) => `\n\x02\x08${String.fromCharCode(side)}`).join("");

Deno.test("a folder of photographs: trained on, kept, evaluated, predicted, reported on, exported", (t) =>
  inProject(async (project) => {
    const { folder } = project;
    writeTree(`${folder}/photos`, photographs());
    // So slow that there are mistakes.
    const tiny = TINY.replace("0.03", "0.001");
    const settings = `${tiny} --resize 8x12 --mean 0.5 --std 0.2,0.3,0.4 --data photos`;
    const lines = (cached: boolean) =>
      [
        "photos: 3 classes: dogs & co 12, naïve 猫 12, Ωmega 12",
        "photos: 29 images to train on and 7 to test with, RGB, from 6×9 to 17×9, resized to 8×12" +
        (cached ? ", from the cache" : ""),
        "warning: photos: 1 skipped, in no class's folder: loose.png",
        "warning: photos: 1 skipped, not .jpg, .jpeg, .png or .webp: dogs & co/notes.txt",
        "warning: photos: 1 skipped, cannot be used: dogs & co/bad.png: is not a PNG, JPEG or WebP " +
        "file",
        "",
      ].join("\n");
    const first = await project.done("train", `${settings} --epochs 2 --out runs/a`);
    await t.step("what was found is said first, and what was left out", () => {
      assertStringIncludes(first.err, `\n${lines(false)}runs/a: 29 training and 7 test images, 3 `);
      assertEquals(project.names("data/cache").length, 1);
      assertMatch(project.names("data/cache")[0]!, /^photos-[0-9a-f]{12}$/);
    });
    await t.step("a second run takes what was decoded, and ends with the same bits", async () => {
      const second = await project.done("train", `${settings} --epochs 2 --out runs/b`);
      assertStringIncludes(second.err, lines(true));
      assert(!second.err.includes("decoded "), second.err);
      assertEquals(epochs(second.out), epochs(first.out));
      await assertSameEnd(project, "a", "b", 2);
    });
    const evaluated = await project.done("eval", "runs/a --json");
    const { accuracy, classes, confusion, resize } = JSON.parse(evaluated.out);
    await t.step("eval is of the images that the run was tested with", async () => {
      assertStringIncludes(evaluated.err, lines(true));
      assertStringIncludes(evaluated.err, "7 test images at 8×12");
      const [, last] = epochs(first.out);
      assertStringIncludes(last!, `test acc ${accuracy.toFixed(3)}`);
      assertEquals(resize, [8, 12]);
      const rows = classes.map((row: { class: string; images: number }) => [row.class, row.images]);
      const counts = confusion.map((row: number[]) => row.reduce((a, b) => a + b));
      assertEquals(rows, CLASSES.map((name, label) => [name, counts[label]]));
      const { out } = await project.done("eval", "runs/a");
      for (const name of CLASSES) assertEquals(out.split(` ${name} `).length, 3, out);
    });
    await t.step("predict has the library's probabilities for the same pixels", async () => {
      const exact = noise(3, 3 * 8 * 12), larger = noise(5, 3 * 20 * 31), white = noise(9, 96);
      const tree = {
        "a photo.png": png(exact, [8, 12], 3),
        "large.png": png(larger, [20, 31], 3),
        "grey.png": png(white, [8, 12]),
      };
      writeTree(folder, tree);
      const words = ["runs/a", ...Object.keys(tree), "--json"];
      const found = predicted((await project.done("predict", words)).out);
      const pixels = [
        exact,
        resizeBytes(larger, 3, 20, 31, 8, 12),
        new Uint8Array([...white, ...white, ...white]),
      ];
      const expected = await likeliestOf(`${folder}/runs/a`, pixels, [8, 12]);
      assertEquals(found, Object.keys(tree).map((image, i) => ({ image, top: expected[i] })));
      const { out } = await project.done("predict", ["runs/a", "large.png"]);
      const text = expected[1]!.map((x) => `${x.class} ${x.probability.toFixed(3)}`).join(", ");
      assertEquals(out, `large.png: ${text}\n`);
      await project.fails(
        "predict",
        ["runs/a", "large.png", "--invert", "no"],
        2,
        "IDX files only",
      );
    });
    await t.step("the report shows the photographs in their colours", async () => {
      await project.done("report", "runs/a");
      const svg = await Deno.readTextFile(`${folder}/runs/a/report/mistakes.svg`);
      using data = await loadDataset(`${folder}/photos`, { resize: [8, 12] });
      const found = [...svg.matchAll(/base64,([^"]+)".*?>#(\d+): ([^<]+)</gs)];
      assertEquals(found.length, Math.round(7 * (1 - accuracy)));
      assert(found.length > 0, "no mistakes to be seen");
      for (const [, base64, number, name] of found) {
        const { pixels, width, height } = await decodeImage(
          Uint8Array.fromBase64(base64!),
          "mistake",
          { channels: 3 },
        );
        const i = Number(number);
        assertEquals([width, height, pixels], [12, 8, pixelsOf(data.test, i)]);
        assertEquals(name, CLASSES[data.test.labels[i]!]!.replace("&", "&amp;"));
      }
      const isColoured = found.some(([, , number]) => {
        const pixels = pixelsOf(data.test, Number(number));
        return pixels.slice(0, 96).some((red, i) => red !== pixels[i + 96]);
      });
      assert(isColoured, "all mistakes are grey");
    });
    await t.step("ONNX has three channels, both sides, and says how images are made", async () => {
      const { out } = await project.done("export", "runs/a --to onnx --out runs/a.onnx");
      assertMatch(out, /^runs\/a\.onnx \(\d\.\d MB\)\n$/);
      const file = latin1(await Deno.readFile(`${folder}/runs/a.onnx`));
      assertStringIncludes(file, shape(3, 8, 12));
      assertStringIncludes(file, entry("classes", JSON.stringify(CLASSES)));
      assertStringIncludes(file, entry("mean", "[0.5]"));
      assertStringIncludes(file, entry("std", "[0.2,0.3,0.4]"));
      assertStringIncludes(file, "RGB from 0 (black) to 1, resized to 8");
    });
    await t.step(
      "a file alone is tested on images that are given, which name its classes",
      async () => {
        await project.done("export", "runs/a --to safetensors --out runs/a.safetensors");
        const words = "runs/a.safetensors --resize 8x12";
        await project.fails(
          "eval",
          words,
          2,
          "not known what images this was trained on; give --data",
        );
        const { out } = await project.done("eval", `${words} --data photos --json`);
        assertEquals(JSON.parse(out).images, 7);
        assertEquals(JSON.parse(out).classes.map((row: { class: string }) => row.class), CLASSES);
      },
    );
    await t.step("images that were moved are found by --data, and others are refused", async () => {
      await Deno.rename(`${folder}/photos`, `${folder}/moved`);
      const gone =
        "photos: there is no such file or folder, and no IDX files whose names begin so; " +
        "--data PATH says where the images lie";
      await project.fails("eval", "runs/a", 1, `error: ${gone}\n`);
      await project.fails("train", "--resume runs/a --epochs 3", 1, gone);
      const again = await project.done("eval", "runs/a --data moved --json");
      assertEquals(JSON.parse(again.out), JSON.parse(evaluated.out));
      const { err } = await project.done("report", "runs/a");
      assertStringIncludes(err, `warning: no pictures of mistakes: ${gone}\n`);
      const there = await project.done("report", "runs/a --data moved");
      assert(!there.err.includes("no pictures"), there.err);
      writeTree(`${folder}/other`, {
        "cats/1.png": colour(1, 2, 3),
        "cats/2.png": colour(1, 2, 3),
        "naïve 猫/1.png": colour(1, 2, 3),
        "Ωmega/1.png": colour(1, 2, 3),
      });
      await project.fails(
        "eval",
        "runs/a --data other",
        2,
        "other has the 3 classes cats, naïve 猫, Ωmega, but the network was trained on the 3 classes " +
          `${CLASSES.join(", ")}; give its own data set as --data`,
      );
      await project.fails("train", "--resume runs/a --epochs 3 --data other", 1, "another run");
      // What is there has changed: decoded anew.
      writeTree(`${folder}/moved`, { "Ωmega/new.png": colour(1, 2, 3) });
      await project.fails("train", "--resume runs/a --epochs 3 --data moved", 1, "another run");
    });
  }));

Deno.test("a run on photographs that is stopped and moved ends with the bits of one that was not", () =>
  inProject(async (project) => {
    const { folder } = project;
    writeTree(`${folder}/photos`, photographs());
    const settings = `${TINY} --resize 8 --augment flip,crop,rotate,jitter --std 0.3 --seed 5`;
    const stopped = await project.stop(
      "train",
      `${settings} --data photos --epochs 9000 --out runs/stopped`,
      "SIGINT",
      "saved runs/stopped/checkpoints/epoch-2",
    );
    assertEquals(stopped.code, 130, stopped.err);
    assertStringIncludes(stopped.err, "to go on: deno task train --resume runs/stopped\n");
    await Deno.rename(`${folder}/photos`, `${folder}/elsewhere`);
    const number = epochs(stopped.out).length + 2;
    const words = `--epochs ${number} --data elsewhere`;
    const rest = await project.done("train", `--resume runs/stopped ${words}`);
    const whole = await project.done("train", `${settings} ${words} --out runs/whole`);
    assertEquals([...epochs(stopped.out), ...epochs(rest.out)], epochs(whole.out));
    await assertSameEnd(project, "stopped", "whole", number);
    await project.fails(
      "train",
      "--resume runs/whole --augment flip",
      2,
      "--augment flip contradicts the run in runs/whole/checkpoints/epoch-",
    );
  }));

Deno.test("Ctrl-C while images are decoded leaves no half cache, and no run", () =>
  inProject(async (project) => {
    const { folder } = project;
    // The same file by other names: long to read and decode, quick to make.
    const image = png(noise(1, 3 * 1200 * 1200), [1200, 1200], 3), long = new Uint8Array(2e7);
    long.set(image);
    writeTree(`${folder}/photos`, { ".one.png": long });
    for (const name of ["a", "b"]) {
      Deno.mkdirSync(`${folder}/photos/${name}`);
      for (let i = 0; i < 150; i++) {
        Deno.linkSync(`${folder}/photos/.one.png`, `${folder}/photos/${name}/${i}.png`);
      }
    }
    const words = `${TINY} --data photos --resize 96 --epochs 1`;
    for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
      const { err, ...ended } = await project.stop("train", words, signal, "decoded 1 of 300");
      assertEquals([ended.code, ended.out.includes("epoch")], [code, false], err);
      assertStringIncludes(err, "stopped before the first step; nothing is saved\n");
      assert(!err.includes("2 classes"), "it came too late");
      assertEquals([project.names("data/cache"), project.names("runs")], [[], []]);
    }
  }));

Deno.test("folders of train and test images are what is trained on and tested with", () =>
  inProject(async (project) => {
    const tree: Record<string, Bytes> = {};
    for (let i = 0; i < 10; i++) {
      tree[`train/a/${i}.png`] = grey(10 * i, 5, 4);
      tree[`train/b/${i}.png`] = grey(250 - 10 * i, 5, 4);
    }
    for (let i = 0; i < 3; i++) tree[`test/b/${i}.png`] = grey(7 * i, 5, 4);
    writeTree(`${project.folder}/set`, tree);
    const words = `${TINY} --data set --resize 4 --epochs 1`;
    const { err } = await project.done("train", `${words} --out runs/a`);
    assertStringIncludes(
      err,
      "set: 2 classes: a 10, b 13\n" +
        "set: 20 images to train on and 3 to test with, grey, of 5×4, resized to 4×4\n",
    );
    const { out } = await project.done("eval", "runs/a --json");
    const { images, confusion } = JSON.parse(out);
    assertEquals([images, confusion[0]], [3, [0, 0]]);
    await project.done("export", "runs/a --to onnx --out runs/a.onnx");
    const onnx = latin1(await Deno.readFile(`${project.folder}/runs/a.onnx`));
    assertStringIncludes(onnx, shape(1, 4, 4));
    assertStringIncludes(onnx, "grey from 0 (black) to 1, resized to 4");
    // Grey as three equal channels, by the same files: another cache.
    const rgb = await project.done("train", `${words} --channels 3 --out runs/b`);
    assertStringIncludes(rgb.err, "3 to test with, RGB, of 5×4, resized to 4×4\n");
    const file = await Deno.readFile(
      `${project.folder}/runs/b/checkpoints/epoch-1/model.safetensors`,
    );
    assertStringIncludes(latin1(file), '"shape":[16,3,5,5]');
    await project.done("export", "runs/b --to onnx --out runs/b.onnx");
    const three = latin1(await Deno.readFile(`${project.folder}/runs/b.onnx`));
    assertStringIncludes(three, shape(3, 4, 4));
  }));

Deno.test("a share of a folder is tested with: which, the seed says, in all commands", () =>
  inProject(async (project) => {
    const { folder } = project;
    writeTree(`${folder}/photos`, photographs());
    const path = `${folder}/runs/a/predictions.json`;
    const words =
      `${TINY} --data photos --resize 8 --epochs 1 --test-share 0.5 --seed 3 --mean 0.4 --std 0.2,0.5,1`;
    const { err } = await project.done("train", `${words} --out runs/a`);
    assertStringIncludes(err, "photos: 18 images to train on and 18 to test with");
    const tested = JSON.parse(await Deno.readTextFile(path));
    const probabilities = async (seed: number) => {
      const { net, config } = await loadTrained(`${folder}/runs/a`);
      using data = await loadDataset(`${folder}/photos`, { resize: 8, testShare: 0.5, seed });
      const rows = await predict(net, data.test, config);
      return rows.map((row) => Number(Math.max(...row).toFixed(4)));
    };
    const found = tested.probability.map((p: number) => Number(p.toFixed(4)));
    assertEquals(found, await probabilities(3));
    assert(`${found}` !== `${await probabilities(4)}`, "every seed chooses the same");
    await Deno.remove(path);
    await project.done("report", "runs/a --evaluate");
    assertEquals(JSON.parse(await Deno.readTextFile(path)), tested);
    await project.fails(
      "train",
      "--resume runs/a --test-share 0.2",
      2,
      "--test-share 0.2 contradicts the run in runs/a/checkpoints/epoch-1, which has 0.5",
    );
    await project.fails("train", "--test-share 0.5", 2, "--test-share is for --data only");
    await project.fails("train", `${words} --test-share 1`, 2, "--test-share is given twice");
    await project.fails(
      "train",
      "--data photos --test-share 1",
      2,
      'must be a number above 0 and below 1, got "1"',
    );
  }));

/** Digits of 10×8, as bright bars on black: so many, of three classes. */
function digits(count: number): { images: Uint8Array[]; labels: number[] } {
  const labels = Array.from({ length: count }, (_, i) => i % 3);
  const images = labels.map((label, i) => {
    const image = new Uint8Array(80);
    for (let row = 2; row < 8; row++) image.fill(150 + i, 8 * row + label, 8 * row + label + 3);
    return image;
  });
  return { images, labels };
}

/** Such digits as MNIST has them. */
function mnist(): Record<string, Bytes> {
  return Object.fromEntries([["train", 30], ["t10k", 9]].flatMap(([part, n]) => {
    const { images, labels } = digits(Number(n));
    return [
      [`${part}-images-idx3-ubyte`, idx([labels.length, 10, 8], images.flatMap((x) => [...x]))],
      [`${part}-labels-idx1-ubyte`, idx([labels.length], labels)],
    ];
  }));
}

Deno.test("IDX files: trained on, evaluated, and photographs of such things predicted", (t) =>
  inProject(async (project) => {
    const { folder } = project;
    writeTree(`${folder}/digits`, mnist());
    const words = `${TINY} --data digits --resize 12 --epochs 2`;
    const { err, out } = await project.done("train", `${words} --out runs/a`);
    assertStringIncludes(
      err,
      "digits: 3 classes: 0 13, 1 13, 2 13\n" +
        "digits: 30 images to train on and 9 to test with, grey, of 10×8\n",
    );
    const { accuracy } = JSON.parse((await project.done("eval", "runs/a --json")).out);
    assertStringIncludes(epochs(out)[1]!, `test acc ${accuracy.toFixed(3)}`);

    const [image] = digits(1).images, dark = image!.map((value) => 255 - value);
    // Twice as large, with a margin that is cut off again, on light ground.
    const photo = new Uint8Array(40 * 50).fill(255);
    for (let y = 0; y < 20; y++) {
      for (let x = 0; x < 16; x++) {
        photo[50 * (y + 11) + x + 20] = dark[8 * (y >> 1) + (x >> 1)]!;
      }
    }
    writeTree(folder, {
      "light.png": png(image!, [10, 8]),
      "dark.png": png(dark, [10, 8]),
      "rgb.png": png([...dark, ...dark, ...dark], [10, 8], 3),
      "photo.png": png(photo, [40, 50]),
    });
    const [expected] = await likeliestOf(`${folder}/runs/a`, [image!], [10, 8]);
    const [others] = await likeliestOf(`${folder}/runs/a`, [dark], [10, 8]);
    assert(JSON.stringify(expected) !== JSON.stringify(others));
    const tops = async (run: string, words: string) => {
      const { out } = await project.done("predict", `${run} ${words} --json`);
      return predicted(out).map(({ top }) => top);
    };
    await t.step("inverted by itself, when it is told to, or not", async () => {
      assertEquals(await tops("runs/a", "light.png dark.png rgb.png"), [
        expected,
        expected,
        expected,
      ]);
      assertEquals(await tops("runs/a", "dark.png light.png --invert no"), [others, expected]);
      assertEquals(await tops("runs/a", "dark.png light.png --invert yes"), [expected, others]);
    });
    await t.step("a photograph is cut out and put in the middle of black", async () => {
      const { out } = await project.done("predict", "runs/a photo.png --json");
      const [found] = JSON.parse(out).images;
      assertEquals([found.inverted, found.box], [true, { x: 20, y: 15, width: 6, height: 12 }]);
      assertEquals(found.top.length, 3);
    });
    await t.step("as three channels", async () => {
      const rgb = await project.done(
        "train",
        `${words} --channels 3 --mean 0.1,0.2,0.3 --out runs/b`,
      );
      assertStringIncludes(rgb.err, "9 to test with, RGB, of 10×8\n");
      const { out } = await project.done("eval", "runs/b --json");
      assertStringIncludes(epochs(rgb.out)[1]!, `test acc ${JSON.parse(out).accuracy.toFixed(3)}`);
      const [same] = await likeliestOf(`${folder}/runs/b`, [image!], [10, 8]);
      assertEquals(await tops("runs/b", "light.png dark.png rgb.png"), [same, same, same]);
      await project.done("export", "runs/b --to onnx --out runs/b.onnx");
      const file = latin1(await Deno.readFile(`${folder}/runs/b.onnx`));
      assertStringIncludes(file, shape(3, 12, 12));
      assertStringIncludes(file, entry("mean", "[0.1,0.2,0.3]"));
      assertStringIncludes(file, "RGB from 0 (black) to 1, resized from 10");
    });
    await t.step("what is wrong is about these files, not about Fashion-MNIST", async () => {
      const path = `${folder}/digits/t10k-images-idx3-ubyte`;
      await Deno.writeFile(path, (await Deno.readFile(path)).slice(0, -3));
      const ended = await project.run("eval", "runs/a");
      assertEquals([ended.code, ended.err.includes("Fashion")], [1, false], ended.err);
      assertStringIncludes(ended.err, "error: digits/t10k-images-idx3-ubyte: ");
      await Deno.remove(path);
      await project.fails("eval", "runs/a", 1, `error: digits/t10k-images-idx3-ubyte`);
    });
  }));

Deno.test("settings that do not fit the images are refused in words", () =>
  inProject(async (project) => {
    writeTree(`${project.folder}/photos`, photographs());
    const { folder } = project;
    writeTree(`${folder}/grey`, { "a/1.png": grey(1), "a/2.png": grey(1), "b/1.png": grey(1) });
    const rgb = `${TINY} --resize 8 --data photos`, one = `${TINY} --resize 8 --data grey`;
    const three = "numbers, but the images have 3 channels; give one number, or 3";
    await project.fails("train", `${rgb} --mean 1,2`, 2, `--mean 1,2: has 2 ${three}`);
    await project.fails("train", `${one} --channels 3 --std 1,2`, 2, `--std 1,2: has 2 ${three}`);
    await project.fails(
      "train",
      `${one} --mean 1,2,3`,
      2,
      "--mean 1,2,3: has 3 numbers, but the images have one channel; give one number",
    );
    await project.fails("train", `${rgb} --std 0.1,0`, 2, "--std must be a finite number above 0");
    await project.fails(
      "train",
      `${rgb} --channels 2`,
      2,
      "--channels must be 1 (grey) or 3 (RGB)",
    );
    await project.fails(
      "train",
      `${TINY} --resize 8 --data photos/Ωmega`,
      1,
      "error: photos/Ωmega: has 12 images, but none in a folder that is a class; put .jpg, .jpeg, " +
        ".png or .webp files into a folder for each class\n",
    );
    await project.fails(
      "train",
      "--data nowhere",
      1,
      "error: nowhere: there is no such file or folder, and no IDX files whose names begin so; ",
    );
    assertEquals(project.names("runs"), []);
  }));

Deno.test("ten thousand classes are trained on, and what is printed of them stays short", () =>
  inProject(async (project) => {
    const { folder } = project;
    writeTree(`${folder}/many`, { ".one.png": grey(7, 1, 1) });
    for (const part of ["train", "test"]) {
      for (let i = 0; i < 10_000; i++) {
        if (part === "test" && i % 100 > 0) continue;
        const path = `${folder}/many/${part}/class ${i}`;
        Deno.mkdirSync(path, { recursive: true });
        Deno.linkSync(`${folder}/many/.one.png`, `${path}/1.png`);
      }
    }
    const words = `${TINY} --data many --resize 2 --epochs 1 --limit 50 --out runs/a`;
    const { err } = await project.done("train", words);
    assertStringIncludes(err, "many: 10000 classes: class 0, class 1, class 10, class 100, ");
    assertStringIncludes(err, "many: 50 images to train on and 100 to test with, grey, of 1×1");
    assert(err.split("\n").every((line) => line.length < 300), err);
    const { out } = await project.done("eval", "runs/a");
    assertStringIncludes(out, "the 100 worst of 10000 classes\n");
    assertStringIncludes(out, "the pairs that were confused most\n");
    const lines = out.split("\n");
    assert(lines.length < 130 && lines.every((line) => line.length < 100), out);
    const json = JSON.parse((await project.done("eval", "runs/a --json")).out);
    assertEquals([json.classes.length, json.confusion], [10_000, undefined]);
    await project.done("report", "runs/a");
    const report = await Deno.readTextFile(`${folder}/runs/a/report.md`);
    assertStringIncludes(report, "These are the 100 worst classes.");
    assert(report.length < 30_000, `${report.length}`);
  }));

Deno.test("names that a terminal would obey are printed as words", () =>
  inProject(async (project) => {
    const { folder } = project, hostile = "two\nlines\x1b[31m\u202e";
    const tree: Record<string, Bytes | string> = { [`photos/${hostile}/bad\x1b.png`]: "none" };
    for (let i = 0; i < 6; i++) {
      tree[`photos/${hostile}/${i}.png`] = colour(10 * i, 0, 0);
      tree[`photos/__proto__/${i}.png`] = colour(0, 0, 10 * i);
    }
    writeTree(folder, tree);
    writeTree(`${folder}/none`, {
      [`a/${hostile}.png`]: "none",
      "a/z.png": "none",
      "b/1.png": "none",
    });
    const words = `${TINY} --resize 4 --epochs 1 --data`;
    const trained = await project.done("train", `${words} photos --out runs/a`);
    assertStringIncludes(trained.err, "photos: 2 classes: __proto__ 6, two lines [31m  6\n");
    assertStringIncludes(trained.err, "cannot be used: two lines [31m /bad .png: is not a PNG");
    const evaluated = await project.done("eval", "runs/a");
    assertStringIncludes(evaluated.out, "\n1 two lines [31m ");
    const json = JSON.parse((await project.done("eval", "runs/a --json")).out);
    assertEquals(json.classes.map((row: { class: string }) => row.class), ["__proto__", hostile]);
    const found = await project.done("predict", "runs/a photos/__proto__/1.png");
    assertEquals(found.out.split("\n").length, 2, found.out);
    const refused = await project.run("train", `${words} none`);
    assertStringIncludes(
      refused.err,
      "error: none: none of its 3 images can be read; a/two\nlines [31m ",
    );
    const bad = `photos/${hostile}/bad\x1b.png`;
    const unusable = await project.run("predict", ["runs/a", bad]);
    assertEquals(unusable.code, 1);
    assertStringIncludes(unusable.err, "error: photos/two lines [31m /bad .png: is not a PNG");
    const state = `${folder}/runs/a/checkpoints/epoch-1/run.json`;
    const text = await Deno.readTextFile(state);
    await Deno.writeTextFile(state, text.replace('"step": 0', '"step": "\x9b31m"'));
    const damaged = await project.done("report", "runs/a");
    assertStringIncludes(
      damaged.err,
      "warning: runs/a/checkpoints/epoch-1/run.json: step must be ",
    );
    for (const { out, err } of [trained, evaluated, found, refused, unusable, damaged]) {
      assertMatch(out + err, /^(?:[^\p{Cc}\p{Cf}]|\n)*$/u);
    }
  }));
