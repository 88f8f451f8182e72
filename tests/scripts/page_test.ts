/**
 * What the page does without a browser: the split of a folder, the command that it shows, weights from a
 * file, its advice, and the pixels of a canvas. `tests/browser/web.ts` drives the page itself.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { encodeStateDict, Linear, resnet18, Sequential } from "@resnette/resnette";
import { DataError, loadFashionMnist } from "@resnette/resnette/data";
import { formatEpoch, trainConfig, Trainer } from "@resnette/resnette/train";
import { findClasses, type FoundImages } from "../../lib/data/image_folder.ts";
import { inChannels, planesOf } from "../../lib/data/pixels.ts";
import { findImages } from "../../lib/files/image_folder.ts";
import { adviceFor } from "../../scripts/web/advice.ts";
import { trainCommand } from "../../scripts/web/command.ts";
import { GivenFolder } from "../../scripts/web/given_folder.ts";
import { configOf } from "../../scripts/web/models.ts";
import { type Settings, SMALL_NET } from "../../scripts/web/protocol.ts";
import smallNet from "../../scripts/web/small_net.ts";
import { loadWeights } from "../../scripts/web/weights.ts";
import { main } from "../../scripts/train.ts";
import { call } from "../call.ts";
import { inFolder } from "../folder.ts";
import { writeTree } from "../images.ts";

const SETTINGS: Settings = {
  ...{ model: SMALL_NET, limit: 64, testLimit: 32, batchSize: 24, lr: 0.01 },
  ...{ optimizer: "sgd", epochs: 2, seed: 3 },
};

Deno.test("the command that the page shows prints the page's digits", async () => {
  const config = configOf(SETTINGS, false);
  const [train, test] = [
    await loadFashionMnist("data/fashion-mnist", "train", { limit: 64 }),
    await loadFashionMnist("data/fashion-mnist", "test", { limit: 32 }),
  ];
  using trainer = await Trainer.create({ config, train, test });
  while (!trainer.done) await trainer.epoch();
  const digits = (line: string) => line.replace(/, time.*/, "");
  const lines = trainer.history.map(formatEpoch).map(digits);
  await inFolder(async (folder) => {
    const [words, rest] = trainCommand(config, { out: `${folder}/run` }).split("deno task train ");
    assertEquals(words, "");
    const { out, code } = await call(main, rest!);
    assertEquals(code, 0);
    assertEquals(out.trim().split("\n").slice(1).map(digits), lines);
  });
});

Deno.test("a command names what is not the default, and own images", () => {
  const config = configOf({ ...SETTINGS, model: "resnet18", optimizer: "adam", lr: 1e-3 }, true);
  assertEquals(
    trainCommand(config, { data: "photos" }),
    "deno task train --no-tuned --model resnet18 --epochs 2 --batch-size 24 --resize 64 --seed 3 " +
      "--data photos",
  );
  const [, own] = trainCommand(config, { data: "my 'photos'; echo", init: "a b.safetensors" })
    .split(" --data ");
  // As a shell takes it, one word each.
  assertEquals(own, String.raw`'my '\''photos'\''; echo' --init 'a b.safetensors'`);
  assertEquals(config, trainConfig({ batchSize: 24, epochs: 2, seed: 3, resize: 64 }));
});

/** A folder of files as a page is given it. */
const given = (name: string, files: readonly string[]) =>
  new GivenFolder(name, files.map((path) => ({ path, file: new File(["x"], path) })));

/** Names, labels and parts of what was found. */
const plain = ({ classes, images, skipped, notes }: FoundImages<unknown>) => ({
  ...{ classes, notes, skipped: skipped.list() },
  images: images.map(({ name, label, test }) => [name, label, test]),
});

Deno.test("a folder that is dropped on the page is split as one on the disk", async () => {
  const numbers = [...Array(7).keys()];
  const split = ["b", "a", "a/inner"].flatMap((name) => numbers.map((i) => `${name}/${i}.png`));
  const trees = {
    split: [...split, "notes.txt", "a/.hidden.png", ".git/x.png", "loose.jpg", "empty/readme.md"],
    parts: ["train/x/1.jpg", "train/y/2.webp", "val/y/3.jpg", "val/x/4.png", "more/x/5.png"],
  };
  const options = { testShare: 0.2, seed: 5 };
  await inFolder(async (folder) => {
    for (const [name, files] of Object.entries(trees)) {
      writeTree(`${folder}/${name}`, Object.fromEntries(files.map((path) => [path, "x"])));
      const dropped = given(name, files);
      const found = await findClasses(dropped, await dropped.list(""), options);
      assertEquals(plain(found), plain(await findImages(`${folder}/${name}`, options)));
      assert(found.images.some(({ test }) => test) && found.images.some(({ test }) => !test));
    }
  });
});

Deno.test("a folder without classes is refused by its name", async () => {
  const one = given("photos", ["cats/1.jpg"]), none = given("photos", ["1.jpg", "2.jpg"]);
  for (const [folder, code] of [[one, "one-class"], [none, "no-images"]] as const) {
    const error = await assertRejects(
      async () => await findClasses(folder, await folder.list(""), { testShare: 0.2, seed: 0 }),
      DataError,
    );
    assertEquals(error.code, code);
    assertMatch(error.message, /^photos: /);
  }
});

/** A safetensors file of a net. */
const fileOf = async (net: Sequential) =>
  new File([encodeStateDict(await net.stateDict())], "net.safetensors");

Deno.test("a file's net is told by its keys, and what has other classes begins anew", async () => {
  const small = smallNet(), loaded = await loadWeights(await fileOf(small), 10);
  assertEquals([loaded.model, loaded.channels, loaded.whole], [SMALL_NET, 1, true]);
  assertEquals(await loaded.net.stateDict(), await small.stateDict());

  const imagenet = resnet18({ variant: "torchvision", numClasses: 6 });
  const tuned = await loadWeights(await fileOf(imagenet), 4);
  assertEquals([tuned.model, tuned.channels, tuned.whole], ["torchvision-resnet18", 3, false]);
  assertMatch(tuned.words.join("\n"), /fc\.weight is \[6, 512\] there and \[4, 512\] here/);

  const other = await fileOf(new Sequential(new Linear(3, 2)));
  const error = await assertRejects(() => loadWeights(other, 10), Error);
  assertMatch(
    error.message,
    /^net\.safetensors: no net of this page has its 2 tensors \(0\.weight/,
  );
});

Deno.test("a canvas's pixels are planes on white, grey as Pillow's", () => {
  const data = Uint8ClampedArray.of(255, 0, 0, 255, 0, 0, 0, 0, 10, 20, 30, 128, 7, 7, 7, 255);
  const canvas = { data, width: 2, height: 2 };
  assertEquals(planesOf(canvas, 1).pixels, Uint8Array.of(76, 255, 136, 7));
  const { pixels } = planesOf(canvas, 3);
  assertEquals(pixels, Uint8Array.of(255, 255, 132, 7, 0, 255, 137, 7, 0, 255, 142, 7));
  assertEquals(inChannels(pixels, 3, 1)[0], 76);
});

Deno.test("advice is for the browser, and says what it lacks", () => {
  const chrome =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36";
  const advice = (userAgent: string, secure = true, hasWebGPU = false) =>
    adviceFor({ userAgent, secure, hasWebGPU }).join("\n");
  assertMatch(advice(chrome), /^Chrome has WebGPU from version 113/);
  assertMatch(advice(chrome), /chrome:\/\/flags\/#enable-unsafe-webgpu/);
  assertMatch(advice(chrome, true, true), /^Open chrome:\/\/settings\/system/);
  assertMatch(advice(`${chrome} Edg/140.0.0.0`), /edge:\/\/settings\/system/);
  assertMatch(advice(chrome, false), /^This page came over plain http/);
  assertMatch(advice("Mozilla/5.0 (Windows NT 10.0; rv:140.0) Firefox/140.0"), /about:config/);
  assertMatch(advice("Mozilla/5.0 (Macintosh) Version/18.0 Safari/605.1.15"), /macOS 26/);
});
