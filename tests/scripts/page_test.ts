/**
 * What the page does without a browser: the split of a folder, the command that it shows, weights from a
 * file, its advice, the pixels of a canvas, its worker and what it keeps. `tests/browser/web.ts` drives the
 * page itself.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  decodeStateDict,
  Device,
  encodeStateDict,
  Linear,
  type Module,
  resnet18,
  Sequential,
} from "@resnette/resnette";
import { DataError, loadFashionMnist } from "@resnette/resnette/data";
import { type Checkpoint, formatEpoch, trainConfig, Trainer } from "@resnette/resnette/train";
import { findClasses, type FoundImages } from "../../lib/data/image_folder.ts";
import { inChannels, planesOf } from "../../lib/data/pixels.ts";
import { findImages } from "../../lib/files/image_folder.ts";
import { buildModel } from "../../lib/train/trainer.ts";
import { adviceFor } from "../../scripts/web/advice.ts";
import { trainCommand } from "../../scripts/web/command.ts";
import { GivenFolder } from "../../scripts/web/given_folder.ts";
import { configOf } from "../../scripts/web/models.ts";
import {
  type FromWorker,
  type Phase,
  type Settings,
  SMALL_NET,
  type ToWorker,
} from "../../scripts/web/protocol.ts";
import smallNet from "../../scripts/web/small_net.ts";
import { loadWeights } from "../../scripts/web/weights.ts";
import { main } from "../../scripts/train.ts";
import { call } from "../call.ts";
import { inFolder } from "../folder.ts";
import { writeTree } from "../images.ts";

/** A module that a page's types are for: not those of this file. */
const pageModule = (name: string) =>
  import(new URL(`../../scripts/web/${name}.ts`, import.meta.url).href);

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
  const small = smallNet(), loaded = await loadWeights(await fileOf(small), 10, 0);
  assertEquals([loaded.model, loaded.channels, loaded.whole], [SMALL_NET, 1, true]);
  assertEquals(await loaded.net.stateDict(), await small.stateDict());

  const imagenet = resnet18({ variant: "torchvision", numClasses: 6 });
  const tuned = await loadWeights(await fileOf(imagenet), 4, 5);
  assertEquals([tuned.model, tuned.channels, tuned.whole], ["torchvision-resnet18", 3, false]);
  assertMatch(tuned.words.join("\n"), /fc\.weight is \[6, 512\] there and \[4, 512\] here/);
  // As in `deno task train --init`.
  const own = buildModel(trainConfig({ model: tuned.model, seed: 5 }), {
    channels: 3,
    classes: ["a", "b", "c", "d"],
  });
  const layer = async (net: Module) => (await net.stateDict()).get("fc.weight");
  assertEquals(await layer(tuned.net), await layer(own));

  const other = await fileOf(new Sequential(new Linear(3, 2)));
  const error = await assertRejects(() => loadWeights(other, 10, 0), Error);
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

/** A canvas for pictures of one grey: that of their file's first byte. */
class GreyCanvas {
  #grey = 0;
  getContext = () => this;
  drawImage({ grey }: { readonly grey: number }): void {
    this.#grey = grey;
  }
  getImageData(_x: number, _y: number, width: number, height: number) {
    const data = new Uint8ClampedArray(4 * width * height).fill(this.#grey);
    return { width, height, data: data.map((grey, i) => i % 4 === 3 ? 255 : grey) };
  }
}

/** What a worker does, with pictures of one grey, and without the files of Fashion-MNIST. */
async function inWorker(body: (worker: Worked) => Promise<void>): Promise<void> {
  const { createImageBitmap, OffscreenCanvas } = globalThis, { request } = Device;
  const told: FromWorker[] = [], devices: Device[] = [];
  const { Session } = await pageModule("session");
  const session = new Session((message: FromWorker) => told.push(message));
  const ask: Worked["ask"] = async (message, type, is = () => true) => {
    const from = told.length, end = Date.now() + 60_000;
    session.handle(message);
    for (;;) {
      const found = told.slice(from).find((x) => x.type === type && is(x as never));
      if (found) return found as never;
      const said = JSON.stringify(told.slice(from).map((x) => x.type === "problem" ? x : x.type));
      assert(Date.now() < end, `no ${type}, but ${said}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  Object.assign(globalThis, {
    createImageBitmap: async (file: Blob) => {
      const [grey] = new Uint8Array(await file.arrayBuffer());
      if (grey === undefined) throw new Error("there is nothing in it");
      return { width: 8, height: 8, grey, close: () => {} };
    },
    OffscreenCanvas: GreyCanvas,
  });
  Device.request = async (options) => {
    const device = await request.call(Device, options);
    devices.push(device);
    return device;
  };
  try {
    const last: Worked["last"] = (type) => told.findLast((x) => x.type === type) as never;
    await body({ ask, last, devices });
  } finally {
    Object.assign(globalThis, { createImageBitmap, OffscreenCanvas });
    Device.request = request;
  }
}

/** A worker: `ask` has it do something, and waits until it tells that. */
interface Worked {
  ask<T extends FromWorker["type"]>(
    message: ToWorker,
    type: T,
    is?: (told: FromWorker & { type: T }) => boolean,
  ): Promise<FromWorker & { type: T }>;
  /** What it told last of a type. */
  last<T extends FromWorker["type"]>(type: T): FromWorker & { type: T };
  readonly devices: readonly Device[];
}

const isPhase = (wanted: Phase) => ({ phase }: { readonly phase: Phase }) => phase === wanted;

/** Two classes of five images, each of its own grey. */
const PHOTOS = ["dark", "light"].flatMap((name, label) =>
  [0, 1, 2, 3, 4].map((i) => {
    const path = `${name}/${i}.png`, grey = 100 * label + 10 * i;
    return { path, grey, file: new File([Uint8Array.of(grey)], path) };
  })
);
const FOLDER = { type: "folder", name: "photos", files: PHOTOS } as const;

Deno.test("where other images cannot be had, the run before is still there", () =>
  inWorker(async ({ ask, last }) => {
    await ask({ type: "open", settings: SETTINGS }, "phase", isPhase("failed"));
    const file = await fileOf(smallNet());
    for (const message of [{ type: "download" }, { type: "load", file }] as const) {
      const { message: words } = await ask(message, "problem");
      assertMatch(words, /^There is no net yet, as there are no images/);
    }
    await ask({ ...FOLDER, settings: SETTINGS }, "phase", isPhase("ready"));
    await ask({ type: "fashion-mnist", settings: SETTINGS }, "phase", isPhase("ready"));
    await ask({ ...FOLDER, files: [], settings: SETTINGS }, "phase", isPhase("ready"));
    await ask({ type: "begin", settings: { ...SETTINGS, lr: 0 } }, "phase", isPhase("ready"));
    await ask({ type: "run" }, "phase", isPhase("done"));
    const { matrix } = last("tested");
    assertEquals(matrix.flat().reduce((a, b) => a + b), 2);
  }));

Deno.test("which images of a folder are tested with follows the seed, as in the command", () =>
  inWorker(async ({ ask, last }) => {
    await ask({ type: "open", settings: SETTINGS }, "phase", isPhase("failed"));
    const greys = new Map(PHOTOS.map(({ path, grey }) => [path, grey]));
    for (const seed of [3, 4, 5, 6]) {
      const settings = { ...SETTINGS, seed };
      const message = seed === 3 ? { ...FOLDER, settings } : { type: "begin", settings } as const;
      await ask(message, "phase", isPhase("ready"));
      const folder = given("photos", [...greys.keys()]);
      const { images } = await findClasses(folder, await folder.list(""), { testShare: 0.2, seed });
      const { samples } = last("data");
      assertEquals(
        samples.map(({ pixels }) => pixels[0]),
        images.filter(({ test }) => test).map(({ name }) => greys.get(name)),
        `seed ${seed}`,
      );
    }
  }));

Deno.test("where a device is lost before the first step, the weights of a file are still there", () =>
  inWorker(async ({ ask, last, devices }) => {
    await ask({ type: "open", settings: SETTINGS }, "phase", isPhase("failed"));
    await ask({ ...FOLDER, settings: SETTINGS }, "phase", isPhase("ready"));
    const file = await fileOf(smallNet());
    const { words } = await ask({ type: "load", file }, "loaded");
    assertMatch(words.join("\n"), /it begins anew/);
    const before = await ask({ type: "download" }, "file");
    // A picture that cannot be decoded any more is no reason to give the run up.
    const picture = { kind: "file", file: new File([], "empty.jpg") } as const;
    await ask({ type: "look", picture }, "problem");
    devices[0]!.gpu.destroy();
    const { steps } = await ask({ type: "keep" }, "recovered"), { command } = last("begun");
    assertEquals(steps, 0);
    assertMatch(command, / --init net\.safetensors$/);
    const after = await ask({ type: "download" }, "file");
    assertEquals(
      decodeStateDict(after.bytes, "after"),
      decodeStateDict(before.bytes, "before"),
    );
  }));

Deno.test("a camera that is asked for twice, or stopped before it is there, is let go of", async () => {
  const coming: PromiseWithResolvers<unknown>[] = [], left: number[] = [];
  const getUserMedia = () => {
    coming.push(Promise.withResolvers());
    return coming.at(-1)!.promise;
  };
  const come = (i: number) =>
    coming[i]!.resolve({ getTracks: () => [{ stop: () => left.push(i) }] });
  Object.defineProperty(navigator, "mediaDevices", { value: { getUserMedia }, configurable: true });
  const video = { srcObject: null, play: () => Promise.resolve() };
  const { Camera } = await pageModule("camera");
  const camera = new Camera(video, () => {});
  try {
    const both = [camera.start(), camera.start()];
    come(0);
    come(1);
    await Promise.all(both);
    assertEquals([left, camera.on], [[0], true]);
    camera.stop();
    assertEquals([left, camera.on, video.srcObject], [[0, 1], false, null]);
    const late = camera.start();
    camera.stop();
    come(2);
    await late;
    assertEquals([left, camera.on], [[0, 1, 2], false]);
  } finally {
    camera.stop();
    Reflect.deleteProperty(navigator, "mediaDevices");
  }
});

/** A browser's files as its workers have them; `waits` are milliseconds until the next ones are open. */
class Disk {
  readonly #folders = new Map<string, Map<string, Uint8Array<ArrayBuffer>>>();
  readonly #times = new Map<Uint8Array, number>();
  /** Bytes that a file takes. */
  room = Infinity;
  waits: number[] = [];

  getDirectoryHandle(name: string, { create = false } = {}) {
    const folder = this.#folders.get(name);
    if (!folder && !create) return Promise.reject(new Error("it is not there"));
    const files = folder ?? new Map<string, Uint8Array<ArrayBuffer>>();
    this.#folders.set(name, files);
    return Promise.resolve({
      getFileHandle: (name: string) => Promise.resolve(this.#file(files, name)),
    });
  }

  #file(files: Map<string, Uint8Array<ArrayBuffer>>, name: string) {
    return {
      getFile: () => {
        const bytes = files.get(name);
        if (!bytes) return Promise.reject(new Error("it is not there"));
        return Promise.resolve(new File([bytes], name, { lastModified: this.#times.get(bytes)! }));
      },
      createSyncAccessHandle: async () => {
        await new Promise((resolve) => setTimeout(resolve, this.waits.shift() ?? 0));
        return {
          truncate: () => {},
          write: (bytes: Uint8Array<ArrayBuffer>) => {
            const written = bytes.slice(0, this.room);
            files.set(name, written);
            this.#times.set(written, 1000 + this.#times.size);
            return written.length;
          },
          flush: () => {},
          close: () => {},
        };
      },
    };
  }
}

/** One after the other, as tabs hold a lock. */
class Locks {
  #last: Promise<unknown> = Promise.resolve();
  request(_name: string, _options: unknown, work: () => Promise<unknown>): Promise<unknown> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }
}

const checkpointAt = (steps: number): Checkpoint => ({
  run: {
    ...{
      version: "0.1.0",
      adapter: "a GPU",
      config: trainConfig(),
      history: [],
      step: steps,
      steps,
    },
    data: { kind: "other", path: null, classes: ["a", "b"], channels: 1, height: 8, width: 8 },
    ...{ images: { train: 60_000, test: 10_000 }, shuffle: { seed: 0, stream: 1, position: 0 } },
    ...{ sums: { loss: 1, correct: 1 }, seconds: 1 },
  },
  model: new Map([["weight", { shape: [1], data: Float32Array.of(steps) }]]),
  optimizer: new Map([["momentum_buffer.weight", { shape: [1], data: Float32Array.of(-steps) }]]),
});

/** Gives pages a disk, as that of a browser. */
async function withDisk(body: (disk: Disk) => Promise<void>): Promise<void> {
  const disk = new Disk(), storage = { getDirectory: () => Promise.resolve(disk) };
  Object.defineProperty(navigator, "storage", { value: storage, configurable: true });
  Object.defineProperty(navigator, "locks", { value: new Locks(), configurable: true });
  try {
    await body(disk);
  } finally {
    Reflect.deleteProperty(navigator, "storage");
    Reflect.deleteProperty(navigator, "locks");
  }
}

/** What a tab keeps its runs with. */
const openKept = async () => await (await pageModule("kept")).Kept.open();

/** After how many steps the run stands that is kept. */
const keptSteps = async () => (await (await openKept()).load())?.checkpoint.run.steps;

Deno.test("two tabs that keep their runs at once do not mix them", () =>
  withDisk(async (disk) => {
    const tabs = [await openKept(), await openKept()];
    // One's last file would come after all of the other's.
    disk.waits = [0, 0, 0, 0, 0, 10, 100, 0];
    await Promise.all(tabs.map((tab, i) => tab.save(checkpointAt(1 + i))));
    const steps = await keptSteps();
    assert(steps === 1 || steps === 2, `${steps} is kept`);
  }));

Deno.test("a run that does not fit the disk is not said to be kept, and the one before is", () =>
  withDisk(async (disk) => {
    const kept = await openKept();
    await kept.save(checkpointAt(1));
    disk.room = 50;
    for (const steps of [2, 3]) {
      const words = /^only 50 of \d+ bytes of model\.safetensors could be written$/;
      const { message } = await assertRejects(() => kept.save(checkpointAt(steps)), Error);
      assertMatch(message, words);
      assertEquals(await keptSteps(), 1);
    }
    disk.room = Infinity;
    await kept.save(checkpointAt(4));
    assertEquals(await keptSteps(), 4);
  }));

Deno.test("a run that began with the weights of a file is told to have, after a reload too", () =>
  withDisk(async () => {
    const begin = async ({ ask }: Worked) => {
      await ask({ type: "open", settings: SETTINGS }, "phase", isPhase("failed"));
      return await ask({ ...FOLDER, settings: SETTINGS }, "begun");
    };
    await inWorker(async (worker) => {
      assert(!(await begin(worker)).command.includes("--init"));
      await worker.ask({ type: "load", file: await fileOf(smallNet()) }, "loaded");
      await worker.ask({ type: "run" }, "phase", isPhase("done"));
    });
    await inWorker(async (worker) => {
      const { steps, command } = await begin(worker);
      assertEquals(steps, 2);
      assertMatch(command, / --init net\.safetensors$/);
      await worker.ask({ type: "begin", settings: SETTINGS }, "phase", isPhase("ready"));
      assert(!worker.last("begun").command.includes("--init"));
    });
  }));

Deno.test("a page that comes slowly is not cut off", async () => {
  const { fetch, setTimeout } = globalThis, { timeout } = AbortSignal;
  // The service worker is patient for 50 ms instead of 5 s.
  AbortSignal.timeout = (ms) => timeout.call(AbortSignal, ms / 100);
  Object.assign(globalThis, {
    BUILD: { page: "0", files: [], data: "0" },
    registration: { scope: "http://localhost/" },
    setTimeout: (body: () => void, ms: number) => setTimeout(body, ms / 100),
    fetch: (_: Request, { signal }: { readonly signal: AbortSignal }) =>
      Promise.resolve(
        new Response(
          new ReadableStream({
            start(controller) {
              signal.addEventListener("abort", () => controller.error(signal.reason));
              setTimeout(() => {
                if (signal.aborted) return;
                controller.enqueue(new TextEncoder().encode("all of it"));
                controller.close();
              }, 200);
            },
          }),
        ),
      ),
  });
  try {
    await pageModule("service_worker");
    const { promise, resolve } = Promise.withResolvers<Response>();
    const asked = { request: new Request("http://localhost/"), respondWith: resolve };
    dispatchEvent(Object.assign(new Event("fetch"), asked));
    assertEquals(await (await promise).text(), "all of it");
  } finally {
    AbortSignal.timeout = timeout;
    Object.assign(globalThis, { fetch, setTimeout });
    for (const name of ["BUILD", "registration"]) Reflect.deleteProperty(globalThis, name);
  }
});

Deno.test("a service worker that does not come is not waited for", async () => {
  const { setTimeout } = globalThis;
  const none = new Promise(() => {});
  const serviceWorker = { register: () => none, addEventListener: () => {} };
  Object.defineProperty(navigator, "serviceWorker", { value: serviceWorker, configurable: true });
  // The page is patient for 30 ms instead of 3 s.
  Object.assign(globalThis, {
    setTimeout: (body: () => void, ms: number) => setTimeout(body, ms / 100),
  });
  try {
    const { promise, resolve } = Promise.withResolvers<string>();
    const timer = setTimeout(() => resolve("late"), 2000);
    const { workOffline } = await pageModule("offline");
    assertEquals(await Promise.race([workOffline(), promise]), undefined);
    clearTimeout(timer);
  } finally {
    Object.assign(globalThis, { setTimeout });
    Reflect.deleteProperty(navigator, "serviceWorker");
  }
});
