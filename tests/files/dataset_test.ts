/**
 * Data sets from paths: folders of images in each layout, good and bad; the cache; IDX files of each
 * kind. The trees are made here.
 */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { ArgumentError } from "@resnette/resnette";
import {
  DataError,
  type ImageDataset,
  loadDataset,
  type LoadedDataset,
  type LoadOptions,
} from "@resnette/resnette/data";
import { deno } from "../call.ts";
import { inFolder } from "../folder.ts";
import { gzip, idx } from "../idx.ts";
import { colour, grey, png, writeTree } from "../images.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** All images of a part. */
async function pixelsOf({ images, count }: ImageDataset): Promise<number[]> {
  const all = Uint32Array.from({ length: count }, (_, i) => i);
  return [...typeof images === "function" ? await images(all) : images];
}

/** A folder, and its data set in memory. */
async function load(folder: string, options: LoadOptions = {}): Promise<LoadedDataset> {
  return await loadDataset(folder, { resize: 1, ...options });
}

/** What a folder is refused for. */
async function refused(
  path: string,
  code: string,
  message: string,
  options: LoadOptions = {},
): Promise<void> {
  const error = await assertRejects(() => load(path, options), DataError);
  assertEquals(error.code as string, code, error.message);
  assertStringIncludes(error.message, message);
  assert(error.message.startsWith(path), error.message);
}

Deno.test("train and test folders are read in torchvision's order, with classes by their names", () =>
  inFolder(async (folder) => {
    writeTree(folder, {
      "train/b/2.png": grey(3),
      "train/b/10.PNG": grey(2),
      "train/b/a-b/1.png": grey(4),
      "train/b/a/z.Png": grey(5),
      "train/b/a/b/1.png": grey(6),
      "train/B/☃.png": grey(1),
      "train/Ünï ☃/x.png": grey(7),
      "train/none/.hidden.png": grey(9),
      "train/none/.folder/1.png": grey(9),
      "train/loose.png": grey(9),
      "train/b/notes.txt": "not read",
      "test/b/1.png": grey(8),
      "test/Ünï ☃/1.png": grey(9),
      "valid/b/1.png": grey(99),
      "README.md": "",
    });
    const { train, test, summary } = await load(folder);
    assertEquals(train.classes, ["B", "b", "Ünï ☃"]);
    // Folders in the order of their whole paths: b, b/a, b/a-b, b/a/b.
    assertEquals(await pixelsOf(train), [1, 2, 3, 5, 4, 6, 7]);
    assertEquals([...train.labels], [0, 1, 1, 1, 1, 1, 2]);
    assertEquals([await pixelsOf(test), [...test.labels]], [[8, 9], [1, 2]]);
    assertEquals([train.channels, train.height, train.width], [1, 1, 1]);
    assertEquals(summary, {
      kind: "folder",
      classes: ["B", "b", "Ünï ☃"],
      train: 7,
      test: 2,
      channels: 1,
      size: [1, 1],
      smallest: [2, 2],
      largest: [2, 2],
      cached: false,
      file: undefined,
      notes: ["valid not used: test is the test part"],
      skipped: [
        {
          reason: "not .jpg, .jpeg, .png or .webp",
          count: 2,
          names: ["README.md", "train/b/notes.txt"],
        },
        { reason: "in no class's folder", count: 1, names: ["train/loose.png"] },
        { reason: "a folder without images", count: 1, names: ["train/none"] },
      ],
    });
  }));

Deno.test("the test part may be called val, valid or validation", async (t) => {
  for (const name of ["test", "val", "valid", "validation"]) {
    await t.step(name, () =>
      inFolder(async (folder) => {
        writeTree(folder, {
          "train/a/1.png": grey(1),
          "train/b/1.png": grey(2),
          [`${name}/b/1.png`]: grey(3),
        });
        const { test, summary } = await load(folder);
        assertEquals([await pixelsOf(test), [...test.labels]], [[3], [1]]);
        assertEquals(summary.notes, []);
      }));
  }
  await t.step("one without classes is passed over", () =>
    inFolder(async (folder) => {
      writeTree(folder, {
        "train/a/1.png": grey(1),
        "train/b/1.png": grey(2),
        "test/1.png": grey(3),
        "valid/a/1.png": grey(4),
        "validation/a/1.png": grey(5),
      });
      const { test, summary } = await load(folder);
      assertEquals([await pixelsOf(test), [...test.labels]], [[4], [0]]);
      assertEquals(summary.notes, ["test, validation not used: valid is the test part"]);
    }));
});

Deno.test("one folder is split by the seed: each class by itself, none left without training images", () =>
  inFolder(async (folder) => {
    const counts = [1, 2, 3, 10, 40];
    const files: Record<string, Bytes> = {};
    counts.forEach((count, label) => {
      for (let i = 0; i < count; i++) files[`c${label}/${i}.png`] = grey(50 * label + i);
    });
    // A class may be called so.
    files["train/1.png"] = grey(255);
    writeTree(folder, files);
    const split = async (options: LoadOptions = {}) => {
      const { train, test } = await load(folder, options);
      const [a, b] = [await pixelsOf(train), await pixelsOf(test)];
      assertEquals(new Set([...a, ...b]).size, 57);
      assertEquals(a.length + b.length, 57, "no image is in both");
      for (const [{ labels }, values] of [[train, a], [test, b]] as const) {
        assertEquals([...labels], values.map((value) => Math.floor(value / 50)));
      }
      const ofClass = counts.map((_, label) =>
        b.filter((x) => Math.floor(x / 50) === label).length
      );
      return { test: b, ofClass };
    };
    const first = await split();
    assertEquals(first.ofClass, [0, 1, 1, 2, 8]);
    assertEquals(await split(), first);
    const other = await split({ seed: 1 });
    assertEquals(other.ofClass, first.ofClass);
    assert(`${other.test}` !== `${first.test}`, "another seed tests with other images");
    assertEquals((await split({ testShare: 0.9 })).ofClass, [0, 1, 2, 9, 36]);
    // As train takes them: anything above 0 and below 1.
    for (const testShare of [0.001, 1e-9]) {
      assertEquals((await split({ testShare })).ofClass, [0, 1, 1, 1, 1]);
    }
    for (const testShare of [0, 1, NaN]) {
      await assertRejects(() => split({ testShare }), ArgumentError, "testShare must be");
    }
    writeTree(folder, { "c3/new.png": grey(199) });
    const { test } = await load(folder);
    const of4 = (values: number[]) => values.filter((x) => x >= 200);
    assertEquals(of4(await pixelsOf(test)), of4(first.test), "more of one class changes no other");
  }));

Deno.test("links within the folder are followed, others refused; pipes are never opened", () =>
  inFolder(async (outside) => {
    const folder = `${outside}/set`;
    writeTree(outside, {
      "secret/1.png": grey(66),
      "set/a/1.png": grey(1),
      "set/a/in/2.png": grey(2),
      "set/b/1.png": grey(3),
      "set/b/2.png": grey(4),
    });
    const commands = [`mkfifo '${folder}/a/6.png'`];
    const link = (to: string, name: string) =>
      void commands.push(`ln -s '${to}' '${folder}/${name}'`);
    link("../b/2.png", "a/3.png");
    link(`${outside}/secret/1.png`, "a/4.png");
    link("../../secret", "a/out");
    link("..", "a/in/up");
    link("nowhere.png", "a/5.png");
    link("../secret", "c");
    link("b", "d");
    // Deno may make links only where it may write everywhere.
    const made = await new Deno.Command("sh", { args: ["-c", commands.join(" && ")] }).output();
    assert(made.success, new TextDecoder().decode(made.stderr));
    const { train, test, summary } = await load(folder, { testShare: 0.001 });
    const all = [...await pixelsOf(train), ...await pixelsOf(test)].sort();
    assertEquals(all, [1, 2, 3, 3, 4, 4, 4].sort());
    assertEquals(summary.classes, ["a", "b", "d"]);
    const skipped = Object.fromEntries(
      summary.skipped.map(({ reason, names }) => [reason, names]),
    );
    assertEquals(skipped, {
      "a link that leaves the folder": ["c", "a/4.png", "a/out"],
      "a link to nothing": ["a/5.png"],
      "neither a file nor a folder": ["a/6.png"],
      // `up` is the folder of the class, which has been read.
      "a folder seen before, by a link": ["a/in/up"],
    });
  }));

Deno.test("files that are no images are named and counted, and the others are read", () =>
  inFolder(async (folder) => {
    const whole = colour(10, 20, 30, 40, 40), huge = whole.slice();
    new DataView(huge.buffer).setUint32(16, 60_000);
    new DataView(huge.buffer).setUint32(20, 60_000);
    writeTree(folder, {
      "train/a/1.png": whole,
      "train/a/2.png": whole.slice(0, 60),
      "train/a/3.png": "",
      "train/a/4.jpg": "<html>",
      "train/a/5.png": huge,
      "train/a/6.png": colour(1, 1, 1),
      "train/b/1.jpeg": await Deno.readFile("tests/fixtures/images/boot_turned.jpg"),
      "test/a/1.webp": await Deno.readFile("tests/fixtures/images/boot_tint.webp"),
      "test/b/1.png": "x",
      "test/b/2.png": grey(4, 3, 500),
    });
    const progress: string[] = [];
    const { train, test, summary } = await load(folder, {
      onProgress: ({ done, of }) => void progress.push(`${done}/${of}`),
    });
    assertEquals(progress, Array.from({ length: 10 }, (_, i) => `${i + 1}/10`));
    assertEquals([...train.labels, ...test.labels], [0, 0, 1, 0, 1]);
    assertEquals((await pixelsOf(train)).slice(0, 6), [10, 20, 30, 1, 1, 1]);
    assertEquals((await pixelsOf(test)).slice(3), [4, 4, 4]);
    assertEquals([summary.smallest, summary.largest, summary.channels], [[2, 2], [100, 130], 3]);
    const { reason, count, names } = summary.skipped[0]!;
    assertEquals([reason, count, summary.skipped.length], ["cannot be used", 5, 1]);
    assertEquals(names, [
      "train/a/2.png: is damaged: the file ends before its picture does",
      "train/a/3.png: is not a PNG, JPEG or WebP file",
      "train/a/4.jpg: is not a PNG, JPEG or WebP file",
      "train/a/5.png: 60000×60000 pixels are more than the 67108864 that are decoded",
      "test/b/1.png: is not a PNG, JPEG or WebP file",
    ]);

    writeTree(folder, { "train/b/1.jpeg": "gone", "test/b/2.png": "gone" });
    await refused(folder, "no-images", 'no image of the class "b" can be read; train/b/1.jpeg is');
  }).then(() =>
    inFolder(async (folder) => {
      writeTree(folder, { "a/1.png": "", "a/2.png": "", "b/1.png": "" });
      await refused(folder, "no-images", "none of its 3 images can be read; a/1.png is not a PNG");
    })
  ));

Deno.test("what is no data set is refused, for what it lacks", async (t) => {
  const cases: [
    what: string,
    files: Record<string, Bytes | string>,
    code: string,
    message: string,
  ][] = [
    ["an empty folder", {}, "no-images", "has no images; put .jpg, .jpeg, .png or .webp files"],
    [
      "images and no class",
      { "1.png": grey(1) },
      "no-images",
      "has 1 images, but none in a folder",
    ],
    ["folders of texts", { "a/1.txt": "", "b/1.txt": "" }, "no-images", "has no images"],
    ["one class", { "a/1.png": grey(1), "a/2.png": grey(1) }, "one-class", 'one class only, "a"'],
    [
      "an image of each",
      { "a/1.png": grey(1), "b/1.png": grey(1) },
      "no-test-images",
      "has one image",
    ],
    [
      "train alone",
      { "train/a/1.png": grey(1), "train/b/1.png": grey(1) },
      "no-test-images",
      "has train/, but no images to test with: neither test/, val/, valid/, validation/",
    ],
    [
      "an empty test part",
      { "train/a/1.png": grey(1), "train/b/1.png": grey(1), "test/1.png": grey(1) },
      "no-test-images",
      "has no images in a folder for each class",
    ],
    [
      "a class more in the test part",
      { "train/a/1.png": grey(1), "train/b/1.png": grey(1), "val/c/1.png": grey(1) },
      "unknown-class",
      "/val: has 1 classes that ",
    ],
  ];
  for (const [what, files, code, message] of cases) {
    await t.step(what, () =>
      inFolder(async (folder) => {
        writeTree(folder, files);
        await refused(folder, code, message);
      }));
  }
  await t.step("a file, and nothing", () =>
    inFolder(async (folder) => {
      writeTree(folder, { "a.png": grey(1) });
      await refused(`${folder}/a.png`, "not-a-folder", "is a file; give the folder");
      await refused(`${folder}/b`, "missing-file", "there is no such file or folder");
      await refused(`${folder}/none/b`, "missing-file", "there is no such file or folder");
    }));
  await t.step("no size", () =>
    inFolder(async (folder) => {
      writeTree(folder, { "a/1.png": grey(1), "a/2.png": grey(1), "b/1.png": grey(1) });
      const text = "loadDataset: resize must be given for a folder of images";
      await assertRejects(() => loadDataset(folder), ArgumentError, text);
    }));
  await t.step("more than memory has room for, and no cache", () =>
    inFolder(async (folder) => {
      writeTree(folder, { "a/1.png": grey(1), "a/2.png": grey(1), "b/1.png": grey(1) });
      const text = "its 3 images need 108 bytes, and memory allows 107; give a folder as cache";
      await refused(folder, "too-large", text, { resize: 6, memory: 107 });
      (await load(folder, { resize: 6, memory: 108 }))[Symbol.dispose]();
    }));
});

Deno.test("ten thousand classes are as good as two, and of limits all classes have a share", () =>
  inFolder(async (folder) => {
    writeTree(folder, { ".one.png": grey(7, 1, 1) });
    for (let i = 0; i < 10_000; i++) {
      Deno.mkdirSync(`${folder}/${i}`);
      // The same file by other names, which is much faster.
      for (const name of ["1", "2"]) {
        Deno.linkSync(`${folder}/.one.png`, `${folder}/${i}/${name}.png`);
      }
    }
    const { train, test, summary } = await load(folder, { limit: 300, testLimit: 20 });
    assertEquals([train.count, test.count, summary.classes.length], [300, 20, 10_000]);
    assertEquals(summary.classes.slice(0, 3), ["0", "1", "10"]);
    assert(train.labels instanceof Uint16Array && test.labels instanceof Uint16Array);
    // Chosen anywhere: far from the first 300.
    assert(train.labels.at(-1)! > 9000 && train.labels[0]! < 1000, `${train.labels}`);
    const again = await load(folder, { limit: 300, testLimit: 20 });
    assertEquals(again.train.labels, train.labels);
    const other = await load(folder, { limit: 300, testLimit: 20, seed: 5 });
    assert(`${other.train.labels}` !== `${train.labels}`);
  }));

Deno.test("images are grey where all files are, by their headers; and as is said", () =>
  inFolder(async (folder) => {
    const boot = (name: string) => Deno.readFile(`tests/fixtures/images/boot_${name}`);
    writeTree(folder, {
      "a/1.png": grey(100),
      "a/2.png": await boot("palette.png"),
      "a/3.png": await boot("16.png"),
      "b/1.jpg": await boot("turned.jpg"),
      "b/2.jpg": "no image",
    });
    const all = await load(folder);
    assertEquals([all.summary.channels, all.train.channels], [1, 1]);
    const rgb = await load(folder, { channels: 3 });
    assertEquals(rgb.train.channels, 3);
    const [one, three] = [await pixelsOf(all.train), await pixelsOf(rgb.train)];
    assertEquals(three, one.flatMap((value) => [value, value, value]));
    writeTree(folder, { "b/3.png": colour(255, 0, 0) });
    assertEquals((await load(folder)).summary.channels, 3);
    const made = await load(folder, { channels: 1, testShare: 0.001 });
    assertEquals(made.train.channels, 1);
    const values = [...await pixelsOf(made.train), ...await pixelsOf(made.test)];
    assert(values.includes(76), "red is 76 in grey");
  }));

/** Pixels that differ from image to image. */
const noise = (i: number, count: number) =>
  Array.from({ length: count }, (_, k) => Math.imul(i * 7919 + k * 104729, 2654435761) >>> 24);

/** A set of 60 images of several sizes, three of which are damaged. */
function sixty(folder: string): void {
  const files: Record<string, Bytes> = {};
  for (let i = 0; i < 60; i++) {
    const height = 5 + i % 4, width = 4 + i % 7;
    const bytes = png(noise(i, 3 * height * width), [height, width], 3);
    files[`${["a", "b", "c"][i % 3]}/${i}.png`] = i % 25 === 7 ? bytes.slice(0, -20) : bytes;
  }
  writeTree(folder, files);
}

const same = async (a: LoadedDataset, b: LoadedDataset) => {
  for (const part of ["train", "test"] as const) {
    assertEquals(await pixelsOf(a[part]), await pixelsOf(b[part]));
    assertEquals(a[part].labels, b[part].labels);
  }
  const { cached: _a, file: _b, ...first } = a.summary,
    { cached: _c, file: _d, ...other } = b.summary;
  assertEquals(first, other);
};

Deno.test("any number of workers, a cache, and images left on the disk give the same data set", () =>
  inFolder(async (root) => {
    const folder = `${root}/set`, cache = `${root}/cache`;
    sixty(folder);
    const options = { resize: [6, 5] as const };
    const one = await loadDataset(folder, { ...options, workers: 1 });
    assertEquals([one.train.count, one.test.count, one.train.channels], [45, 12, 3]);
    assertEquals([one.train.height, one.train.width], [6, 5]);
    assertEquals(one.summary.skipped[0]!.count, 3);
    await same(one, await loadDataset(folder, { ...options, workers: 3 }));
    const made = await loadDataset(folder, { ...options, cache, workers: 2 });
    await same(one, made);
    const again = await loadDataset(folder, { ...options, cache });
    await same(one, again);
    assertEquals([made.summary.cached, again.summary.cached], [false, true]);

    const held = one.train.images as Bytes;
    {
      using left = await loadDataset(folder, { ...options, cache, memory: 1000 });
      assertEquals(typeof left.train.images, "function");
      assertStringIncludes(left.summary.file!, `${cache}/set-`);
      await same(one, left);
      const read = left.train.images as (indices: Uint32Array) => Promise<Bytes>;
      const indices = Uint32Array.of(44, 0, 1, 2, 2, 17, 5);
      const bytes = 3 * 6 * 5;
      const wanted = [...indices].flatMap((i) => [...held.subarray(i * bytes, (i + 1) * bytes)]);
      assertEquals([...await read(indices)], wanted);
      assertEquals((await read(new Uint32Array())).length, 0);
      await assertRejects(() => read(Uint32Array.of(45)), RangeError, "there is no image 45 of 45");
      left[Symbol.dispose]();
      await assertRejects(() => read(indices), DataError, "was closed");
    }
  }));

Deno.test("workers that fail, or cannot start, end the loading with the image's name", async (t) => {
  const { Worker } = globalThis;
  const modules = {
    "fail": `let n = 0; onmessage = () => { if (++n === 3) throw new Error("too much"); };`,
    "cannot start": `throw new Error("too early");`,
  };
  for (const [what, code] of Object.entries(modules)) {
    await t.step(what, () =>
      inFolder(async (folder) => {
        sixty(folder);
        globalThis.Worker = class extends Worker {
          constructor() {
            super(`data:text/javascript,${encodeURIComponent(code)}`, { type: "module" });
          }
        };
        const late = Promise.withResolvers<never>();
        const timer = setTimeout(() => late.reject(new Error("it waits for ever")), 20_000);
        try {
          const loading = load(folder, { workers: 2 });
          const failed = () => Promise.race([loading, late.promise]);
          const { code, message } = await assertRejects(failed, DataError);
          assertEquals(code, "read-failed");
          assertMatch(message, /^[abc]\/\d+\.png: the worker that decodes it failed: .*too \w+/);
        } finally {
          clearTimeout(timer);
          globalThis.Worker = Worker;
        }
      }));
  }
});

Deno.test("without a permission for the workers' module, this thread decodes", () =>
  inFolder(async (folder) => {
    sixty(folder);
    const url = new URL("../../lib/files/dataset.ts", import.meta.url).href;
    const code = `import { loadDataset } from ${JSON.stringify(url)};
      const { train } = await loadDataset(${JSON.stringify(folder)}, { resize: 3, workers: 4 });
      console.log(train.count, train.images.reduce((a, b) => a + b));`;
    const script = `${folder}/script.ts`;
    await Deno.writeTextFile(script, code);
    const run = ["run", "--no-prompt", "--no-check", "--no-lock"];
    const alone = await deno([...run, `--allow-read=${folder}`, script]);
    assertEquals(alone.err, "");
    assert(alone.out.startsWith("45 "), alone.out);
    assertEquals((await deno([...run, "--allow-read", script])).out, alone.out);
  }));

/** The one cache in a folder. */
function cacheIn(folder: string): string {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name);
  assertEquals(names.length, 1, `${names}`);
  return `${folder}/${names[0]}`;
}

/** Runs with each way to open a file noted. */
async function opened(run: () => Promise<unknown>): Promise<string[]> {
  const { readFile, readFileSync, open, openSync } = Deno;
  const paths: string[] = [];
  // deno-lint-ignore no-explicit-any -- they are put in their places for a while
  const noting = (call: any) => (path: string, ...rest: unknown[]) => {
    paths.push(path);
    return call(path, ...rest);
  };
  const all = { readFile, readFileSync, open, openSync };
  try {
    for (const [name, call] of Object.entries(all)) Object.assign(Deno, { [name]: noting(call) });
    await run();
  } finally {
    Object.assign(Deno, all);
  }
  return paths;
}

Deno.test("a cache is used while nothing changed, and no image is opened; then it is made again", () =>
  inFolder(async (root) => {
    const folder = `${root}/set`, cache = `${root}/cache`;
    sixty(folder);
    const set = async (options: LoadOptions = {}) => await load(folder, { cache, ...options });
    const images = (paths: string[]) => paths.filter((path) => path.endsWith(".png")).length;
    const first = await set();
    const hit = await opened(async () => await same(first, await set()));
    assertEquals([hit.length > 0, images(hit)], [true, 0], `${hit}`);
    const path = cacheIn(cache);
    // The split is made of what is there.
    const seeded = await opened(async () => {
      const { train } = await set({ seed: 3, testShare: 0.5 });
      assert(`${train.labels}` !== `${first.train.labels}`);
    });
    assertEquals(images(seeded), 0);
    assertEquals(cacheIn(cache), path);

    const changes: [what: string, change: () => void][] = [
      ["the time", () => Deno.utimeSync(`${folder}/a/0.png`, 1e9, 1e9)],
      ["a file more", () => writeTree(folder, { "a/more.png": colour(1, 2, 3) })],
      ["a file less", () => Deno.removeSync(`${folder}/a/more.png`)],
      ["a name", () => Deno.renameSync(`${folder}/a/0.png`, `${folder}/a/00.png`)],
    ];
    for (const [what, change] of changes) {
      change();
      const changed = await set();
      assertEquals(changed.summary.cached, false, what);
      await same(changed, await load(folder));
      assertEquals(cacheIn(cache), path, what);
      assertEquals((await set()).summary.cached, true, what);
    }
    for (const other of [{ resize: 2 }, { channels: 1 as const }, { limit: 9 }]) {
      assertEquals((await set(other)).summary.cached, false);
      assertEquals((await set(other)).summary.cached, true);
    }
    assertEquals([...Deno.readDirSync(cache)].length, 4);
    assertEquals((await set()).summary.cached, true);
  }));

Deno.test("a file that could not be read is tried again, although nothing of it changed", () =>
  inFolder(async (root) => {
    const folder = `${root}/set`, cache = `${root}/cache`, file = `${folder}/c/8.png`;
    sixty(folder);
    // As of a disk that is away for a while: it is back as it was.
    const lacking = await load(folder, {
      ...{ cache, workers: 1 },
      onProgress: ({ done }) => {
        if (done === 1) Deno.renameSync(file, `${root}/8.png`);
      },
    });
    assertEquals(lacking.train.count + lacking.test.count, 56);
    assertStringIncludes(`${lacking.summary.skipped[0]!.names}`, "c/8.png: cannot be read: ");
    const { index } = JSON.parse(Deno.readTextFileSync(`${cacheIn(cache)}/index.json`));
    const unread = index.unreadable.map(({ unread }: { unread: boolean }) => unread);
    assertEquals(unread.toSorted(), [false, false, false, true], "three are damaged");
    Deno.renameSync(`${root}/8.png`, file);
    const again = await load(folder, { cache });
    assertEquals(again.summary.cached, false);
    await same(again, await load(folder));
    assertEquals((await load(folder, { cache })).summary.cached, true);
  }));

Deno.test("a damaged cache is never believed", () =>
  inFolder(async (root) => {
    const folder = `${root}/set`, cache = `${root}/cache`;
    sixty(folder);
    const first = await load(folder, { cache }), path = cacheIn(cache);
    const index = Deno.readTextFileSync(`${path}/index.json`);
    const bin = Deno.readFileSync(`${path}/images.bin`);
    const flipped = bin.slice();
    flipped[bin.length >> 1]! ^= 1;
    const put = (name: string, bytes: Bytes) => Deno.writeFileSync(`${path}/${name}`, bytes);
    const text = (edit: (text: string) => string) =>
      Deno.writeTextFileSync(`${path}/index.json`, edit(index));
    const damages: [what: string, damage: () => void][] = [
      ["a byte less", () => put("images.bin", bin.slice(0, -1))],
      ["a byte more", () => put("images.bin", new Uint8Array([...bin, 0]))],
      ["no images", () => Deno.removeSync(`${path}/images.bin`)],
      ["a flipped bit", () => put("images.bin", flipped)],
      ["no index", () => Deno.removeSync(`${path}/index.json`)],
      ["half an index", () => text((index) => index.slice(0, index.length / 2))],
      ["an index of something else", () => text(() => '{"format":1}')],
      ["an older format", () => text((index) => index.replace('"format":2', '"format":1'))],
      ["another count", () => text((index) => index.replace('"count":57', '"count":56'))],
      ["another reason", () => text((index) => index.replace("is damaged", "is fine"))],
      ["a file in its place", () => {
        Deno.removeSync(path, { recursive: true });
        Deno.writeTextFileSync(path, "a file");
      }],
    ];
    for (const [what, damage] of damages) {
      damage();
      const again = await load(folder, { cache });
      assertEquals(again.summary.cached, false, what);
      await same(first, again);
      assertEquals(cacheIn(cache), path, what);
      assertEquals((await load(folder, { cache })).summary.cached, true, what);
    }

    // What is read later is checked then.
    put("images.bin", flipped);
    using left = await load(folder, { cache, memory: 10 });
    assertEquals(left.summary.cached, true);
    const error = await assertRejects(async () => {
      await pixelsOf(left.train);
      await pixelsOf(left.test);
    }, DataError);
    assertEquals([error.code, error.file], ["checksum", `${path}/images.bin`]);
    assertStringIncludes(error.message, "is damaged; remove its folder, and it is made again");
    Deno.truncateSync(`${path}/images.bin`, 100);
    await assertRejects(() => pixelsOf(left.train), DataError, "cannot be read");
  }));

Deno.test("when it is stopped, it stops, and leaves nothing", async (t) => {
  for (const workers of [1, 3]) {
    await t.step(`${workers} workers`, () =>
      inFolder(async (root) => {
        const folder = `${root}/set`, cache = `${root}/cache`;
        sixty(folder);
        const stop = new AbortController(), reason = new Error("enough");
        let last = 0;
        const error = await assertRejects(() =>
          load(folder, {
            ...{ cache, workers, signal: stop.signal },
            onProgress: ({ done }) => {
              last = done;
              if (done === 20) stop.abort(reason);
            },
          })
        );
        assertEquals([error, last], [reason, 20]);
        assertEquals([...Deno.readDirSync(cache)], []);
        const none = await assertRejects(() => load(folder, { signal: AbortSignal.abort(reason) }));
        assertEquals(none, reason);
        const { signal } = new AbortController();
        assertEquals((await load(folder, { cache, signal })).train.count, 45);
      }));
  }
});

Deno.test("what a killed process left is removed, and what another is writing stays", () =>
  inFolder(async (root) => {
    const folder = `${root}/set`, cache = `${root}/cache`;
    sixty(folder);
    writeTree(cache, { ".partial-dead/images.bin": "half", ".partial-alive/images.bin": "more" });
    using alive = Deno.openSync(`${cache}/.partial-alive/images.bin`, { write: true });
    alive.lockSync(true);
    await load(folder, { cache });
    const names = [...Deno.readDirSync(cache)].map(({ name }) => name).sort();
    assertEquals([names.length, names[0]], [2, ".partial-alive"]);
  }));

Deno.test("a cache that another process takes for a killed one's, as it has no lock yet, is begun anew", () =>
  inFolder(async (root) => {
    const folder = `${root}/set`, cache = `${root}/cache`, { prototype } = Deno.FsFile;
    sixty(folder);
    const { lock } = prototype;
    let begun = 0;
    prototype.lock = function (exclusive) {
      if (begun++ === 0) Deno.removeSync(cache, { recursive: true });
      return lock.call(this, exclusive);
    };
    try {
      assertEquals((await load(folder, { cache })).train.count, 45);
    } finally {
      prototype.lock = lock;
    }
    assertEquals(begun, 2);
    assertEquals((await load(folder, { cache })).summary.cached, true);
  }));

// IDX files.

/** Six images of 2×3 to train on and two to test with, whose pixels count up. */
const PIXELS = Array.from({ length: 36 }, (_, i) => i);
function idxSet(prefix: string, test: string, labels: number[]): Record<string, Bytes> {
  return {
    [`${prefix}train-images-idx3-ubyte`]: idx([6, 2, 3], PIXELS),
    [`${prefix}train-labels-idx1-ubyte`]: idx([6], labels),
    [`${prefix}${test}-images-idx3-ubyte`]: idx([2, 2, 3], PIXELS.slice(0, 12)),
    [`${prefix}${test}-labels-idx1-ubyte`]: idx([2], labels.slice(0, 2)),
  };
}

Deno.test("MNIST's files are read, packed or not, under each of their names", async (t) => {
  const set = idxSet("", "t10k", [3, 0, 1, 2, 3, 0]);
  const packed: Record<string, Bytes> = {};
  for (const [name, bytes] of Object.entries(set)) packed[`${name}.gz`] = await gzip(bytes);
  const dotted = Object.fromEntries(
    Object.entries(set).map(([name, bytes]) => [name.replace(/-(idx\d)/, ".$1"), bytes]),
  );
  for (const [what, files] of Object.entries({ set, packed, dotted })) {
    await t.step(what, () =>
      inFolder(async (folder) => {
        writeTree(folder, files);
        const { train, test, summary } = await loadDataset(folder);
        assertEquals([await pixelsOf(train), [...train.labels]], [PIXELS, [3, 0, 1, 2, 3, 0]]);
        assertEquals([await pixelsOf(test), [...test.labels]], [PIXELS.slice(0, 12), [3, 0]]);
        assertEquals([train.height, train.width, train.channels], [2, 3, 1]);
        assertEquals(summary.classes, ["0", "1", "2", "3"]);
        assertEquals([summary.kind, summary.size, summary.notes], ["idx", [2, 3], []]);
        // Of what is left out the classes stay.
        const few = await loadDataset(folder, { limit: 3, testLimit: 1, channels: 3 });
        assertEquals([few.train.count, few.test.count, few.train.channels], [3, 1, 3]);
        assertEquals(few.summary.classes.length, 4);
        const first = PIXELS.slice(0, 6);
        assertEquals((await pixelsOf(few.train)).slice(0, 18), [...first, ...first, ...first]);
        writeTree(folder, { "classes.txt": "zéro\r\none\ntwo\nthree\n\n" });
        const named = await loadDataset(folder);
        assertEquals(named.summary.classes, ["zéro", "one", "two", "three"]);
      }));
  }
});

Deno.test("Fashion-MNIST is known by its labels", async () => {
  const { summary } = await loadDataset("data/fashion-mnist", { limit: 1, testLimit: 1 });
  assertEquals([summary.classes[9], summary.train, summary.size], ["Ankle boot", 1, [28, 28]]);
});

Deno.test("EMNIST is turned upright, and its mapping names the classes", () =>
  inFolder(async (folder) => {
    writeTree(folder, {
      ...idxSet("emnist-letters-", "test", [2, 1, 26, 1, 2, 1]),
      ...idxSet("emnist-digits-", "test", [1, 0, 1, 0, 1, 0]),
      "emnist-letters-mapping.txt": "1 65 97\n26 90 122\n2 66 98\n",
      "emnist-digits-mapping.txt": "0 48\n1 49\n",
    });
    const { train, test, summary } = await loadDataset(`${folder}/emnist-letters`);
    assertEquals(summary.classes, ["Aa", "Bb", "Zz"]);
    assertEquals([...train.labels, ...test.labels], [1, 0, 2, 0, 1, 0, 1, 0]);
    assertEquals([train.height, train.width], [3, 2]);
    assertEquals((await pixelsOf(train)).slice(0, 12), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    assertEquals(summary.notes, [
      "labels 1 to 26 became 0 to 2",
      "EMNIST's images lie on their side: they were turned upright",
    ]);
    const digits = await loadDataset(`${folder}/emnist-digits`);
    assertEquals([digits.summary.classes, digits.summary.notes.length], [["0", "1"], 1]);

    const both = "has the files of 2 data sets: emnist-digits, emnist-letters; give one of them, " +
      `such as ${folder}/emnist-digits`;
    await refused(folder, "several-sets", both);
    await refused(`${folder}/emnist`, "several-sets", both);
    await refused(`${folder}/mnist`, "missing-file", "no IDX files whose names begin so");
    writeTree(folder, { "emnist-letters-mapping.txt": "1 65\n2 66\n" });
    await refused(`${folder}/emnist-letters`, "label-range", "label 2 is 26, which");
    for (
      const bad of [
        "1 65\n1 66\n",
        "1 65\n2\n",
        "1 65\n2 65\n",
        "1 65\n",
        "a b\n1 2",
        "300 1\n1 2",
        "1 65\n2 55296\n",
      ]
    ) {
      writeTree(folder, { "emnist-letters-mapping.txt": bad });
      await refused(`${folder}/emnist-letters`, "bad-classes", "emnist-letters-mapping.txt");
    }
  }));

Deno.test("IDX files that do not fit each other, or anything, are refused", () =>
  inFolder(async (folder) => {
    const set = idxSet("", "t10k", [3, 0, 1, 2, 3, 0]);
    const files = (change: Record<string, Bytes | string>) =>
      writeTree(folder, { ...set, ...change });
    files({});
    await refused(folder, "too-large", "need 48 bytes, and memory allows 47", { memory: 47 });
    assertEquals((await load(folder, { memory: 42, limit: 5 })).train.count, 5);
    Deno.removeSync(`${folder}/t10k-labels-idx1-ubyte`);
    await refused(folder, "missing-file", "t10k-labels-idx1-ubyte.gz: there is no such file");
    files({ "t10k-images-idx3-ubyte": idx([2, 3, 2], PIXELS.slice(0, 12)) });
    await refused(folder, "wrong-shape", "has images of 3×2, but those to train on are of 2×3");
    files({ "t10k-labels-idx1-ubyte": idx([3], [1, 2, 3]) });
    await refused(folder, "count-mismatch", "holds 3 labels for the 2 images");
    files({ "train-labels-idx1-ubyte": idx([6], new Array(6).fill(0)) });
    files({
      "train-labels-idx1-ubyte": idx([6], new Array(6).fill(0)),
      "t10k-labels-idx1-ubyte": idx([2], [0, 0]),
    });
    await refused(folder, "one-class", "all labels are 0");
    const lists: [text: string, message: string, code?: string][] = [
      ["a\nb\na\nc", 'line 3 names "a" again'],
      ["a\n\nb\nc", "line 2 is empty"],
      [`a\n${"b".repeat(1001)}\nc\nd`, "line 2 has more than 1000 characters"],
      ["a", "names 1 classes; there must be 2 to 256"],
      ["a\nb\nc", "label 0 is 3, but there are 3 classes", "label-range"],
      ["x".repeat(70_000), "its 70000 bytes are more than 65536"],
    ];
    files({});
    for (const [text, message, code = "bad-classes"] of lists) {
      writeTree(folder, { "classes.txt": text });
      await refused(folder, code, message);
    }
    Deno.writeFileSync(`${folder}/classes.txt`, new Uint8Array([0xff, 10, 65]));
    await refused(folder, "bad-classes", "cannot be read");
  }));
