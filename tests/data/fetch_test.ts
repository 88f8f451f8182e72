/**
 * Data sets by `fetch`, from a server on this machine: whole, in part, and whatever a server may say
 * instead.
 */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { DataError, type DataErrorCode } from "../../lib/data/error.ts";
import { fetchFashionMnist, fetchFile, type FetchProgress } from "../../lib/data/fetch.ts";
import { FASHION_MNIST_FILES } from "../../lib/data/fashion_mnist.ts";
import { readIdx } from "../../lib/data/idx.ts";
import { checkDeno } from "../../lib/files/open.ts";
import { collectImages } from "../../lib/files/collect.ts";
import { loadDataset } from "../../lib/files/dataset.ts";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import { gzip, idx } from "../idx.ts";

type Bytes = Uint8Array<ArrayBuffer>;

const COUNT = 4000;
/** Pixels that do not pack, so that a part of the file is a part of the images. */
const pixels = new Uint8Array(COUNT * 784);
for (let i = 0, state = 1; i < pixels.length; i++) {
  pixels[i] = (state = Math.imul(state, 1664525) + 1013904223) >>> 24;
}
const marks = Uint8Array.from({ length: COUNT }, (_, i) => i % 10);
const { images: IMAGES, labels: LABELS } = FASHION_MNIST_FILES.test;
const files: Readonly<Record<string, Bytes>> = {
  [IMAGES.name]: await gzip(idx([COUNT, 28, 28], pixels)),
  [LABELS.name]: await gzip(idx([COUNT], marks)),
};

/** Runs with a server of the two files; `instead` may answer for them. */
async function served(
  run: (folder: string, sent: Map<string, number>) => Promise<void>,
  instead: (name: string, file: Bytes | undefined) => Response | undefined = () => undefined,
): Promise<void> {
  const sent = new Map<string, number>();
  const listen = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
  await using server = Deno.serve(listen, ({ url }) => {
    const name = url.slice(url.lastIndexOf("/") + 1), file = files[name];
    const other = instead(name, file);
    if (other) return other;
    if (!file) return new Response("no", { status: 404 });
    let at = 0;
    const body = new ReadableStream({
      pull(controller) {
        if (at >= file.length) return controller.close();
        controller.enqueue(file.subarray(at, at += 2 ** 14));
        sent.set(name, Math.min(at, file.length));
      },
    }, { highWaterMark: 0 });
    return new Response(body, { headers: { "content-length": `${file.length}` } });
  });
  await run(`http://127.0.0.1:${server.addr.port}/data`, sent);
}

/** The error of what must fail, by its code; it names the file. */
async function fault(code: DataErrorCode, file: string, body: () => Promise<unknown>) {
  const error = await assertRejects(body, DataError);
  assertEquals([error.code, error.file], [code, file], error.message);
  return error.message.slice(file.length + 2);
}

Deno.test("a split is got from a folder, and its progress is told, file by file", () =>
  served(async (folder, sent) => {
    const progress: FetchProgress[] = [];
    const data = await fetchFashionMnist(folder, "test", {
      onProgress: (now) => progress.push(now),
    });
    assertEquals([data.count, data.height, data.width], [COUNT, 28, 28]);
    assertEquals([data.images, data.labels], [pixels, marks]);
    for (const { name } of [IMAGES, LABELS]) {
      const told = progress.filter(({ url }) => url === `${folder}/${name}`);
      const size = files[name]!.length;
      assertEquals(told.at(-1), { url: `${folder}/${name}`, received: size, total: size });
      assertEquals(told.map(({ received }) => received).toSorted((a, b) => a - b), [
        ...told.map(({ received }) => received),
      ]);
      assertEquals(sent.get(name), size);
    }
    const again = await fetchFashionMnist(new URL(`${folder}/`), "test", { limit: 3 });
    assertEquals([again.count, again.images], [3, pixels.subarray(0, 3 * 784)]);
    assertEquals(sent.get(IMAGES.name), files[IMAGES.name]!.length);
  }));

Deno.test("with stopEarly, the request ends when so many images have come", async () => {
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  await served(async (folder) => {
    const data = await fetchFashionMnist(folder, "test", { limit: 100, stopEarly: true });
    assertEquals([data.count, data.images], [100, pixels.subarray(0, 100 * 784)]);
    assertEquals(data.labels, marks.subarray(0, 100));
    await closed;
  }, (name, file) => {
    if (name !== IMAGES.name) return undefined;
    // The rest of the file never comes.
    const start = (controller: ReadableStreamDefaultController<Bytes>) =>
      controller.enqueue(file!.subarray(0, 100_000));
    return new Response(new ReadableStream({ start, cancel: () => resolve() }));
  });
  await served(async (folder, sent) => {
    const all = await fetchFashionMnist(folder, "test", { limit: COUNT, stopEarly: true });
    assertEquals([all.count, sent.get(IMAGES.name)], [COUNT, files[IMAGES.name]!.length]);
  });
});

Deno.test("a file that the server unpacks, or packs for the journey, is read as well", async () => {
  const bare = idx([COUNT], marks);
  for (const headers of [{}, { "content-encoding": "gzip" }]) {
    await served(async (folder) => {
      const told: FetchProgress[] = [];
      const { stream, name } = await fetchFile(`${folder}/x`, { onProgress: (x) => told.push(x) });
      assertEquals(await (await readIdx(stream, name)).bytes(), marks);
      // The length is not that of what comes.
      const total = "content-encoding" in headers ? undefined : bare.length;
      assertEquals(told.at(-1), { url: `${folder}/x`, received: bare.length, total });
    }, () => new Response("content-encoding" in headers ? files[LABELS.name] : bare, { headers }));
  }
});

Deno.test("whatever a server says instead of the files is told in words", async (t) => {
  const html = { headers: { "content-type": "text/html; charset=utf-8" } };
  const damaged = (change: (file: Bytes) => Bytes) => (name: string, file: Bytes | undefined) =>
    name === IMAGES.name ? new Response(change(file!)) : undefined;
  const flipped = (file: Bytes) => file.map((byte, i) => i === file.length - 5 ? ~byte : byte);
  const cases: [DataErrorCode, string, Parameters<typeof served>[1]][] = [
    ["missing-file", "the server has no such file", () => new Response(null, { status: 404 })],
    ["missing-file", "the server has no such file", () => new Response("", { status: 410 })],
    ["bad-response", "the server answers 500", () => new Response("no", { status: 500 })],
    ["bad-response", "the server answers 403", () => new Response("no", { ...html, status: 403 })],
    ["bad-response", "a web page; give the URL", () => new Response("<p>Log in</p>", html)],
    ["bad-response", "the server sends nothing", () => new Response(null, { status: 204 })],
    ["not-gzip", "looks like a web page", () => new Response("<!doctype html>")],
    ["not-gzip", "is not a gzip file", () => new Response("PK\x03\x04")],
    ["gzip-truncated", "is empty", () => new Response(new Uint8Array(0))],
    ["gzip-truncated", "ends inside its gzip stream", damaged((file) => file.slice(0, -9))],
    ["gzip-corrupt", "do not match its gzip checksum", damaged(flipped)],
    [
      "wrong-shape",
      "has dimensions",
      (name) => name === IMAGES.name ? new Response(files[LABELS.name]) : undefined,
    ],
  ];
  for (const [code, says, instead] of cases) {
    await t.step(says, () =>
      served(async (folder) => {
        const error = await assertRejects(() => fetchFashionMnist(folder, "test"), DataError);
        assertEquals(error.code, code, error.message);
        assert([IMAGES, LABELS].some(({ name }) => error.file === `${folder}/${name}`), error.file);
        assertStringIncludes(error.message, says);
      }, instead));
  }
  await t.step(
    "an error at the end of a file is not seen with stopEarly",
    () =>
      served(async (folder) => {
        const some = await fetchFashionMnist(folder, "test", { limit: 9, stopEarly: true });
        assertEquals(some.images, pixels.subarray(0, 9 * 784));
      }, damaged(flipped)),
  );
  await t.step("no server", async () => {
    const url = "http://127.0.0.1:1/a.gz";
    assertStringIncludes(await fault("unreachable", url, () => fetchFile(url)), "be reached");
  });
  await t.step("a connection that breaks", async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const url = `http://127.0.0.1:${listener.addr.port}/a.gz`;
    const broken = (async () => {
      using connection = await listener.accept();
      await connection.read(new Uint8Array(9999));
      const head = new TextEncoder().encode("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n");
      for (const part of [head, files[IMAGES.name]!.subarray(0, 1000)]) {
        await connection.write(part);
      }
    })();
    const { stream } = await fetchFile(url);
    assertStringIncludes(
      await fault("read-failed", url, async () => await (await readIdx(stream, url)).bytes()),
      "be read",
    );
    await broken;
  });
});

Deno.test("a request ends by its signal, before it is answered and while it is read", async () => {
  const why = new Error("enough");
  await served(async (folder) => {
    const early = AbortSignal.abort(why);
    assertEquals(await assertRejects(() => fetchFile(`${folder}/x`, { signal: early })), why);
    const late = new AbortController();
    const reading = fetchFashionMnist(folder, "test", {
      signal: late.signal,
      onProgress: () => late.abort(why),
    });
    assertEquals(await assertRejects(() => reading), why);
  });
});

Deno.test("URLs that are none, and what is no folder, are refused", async () => {
  for (const url of ["", "data", 3, undefined]) {
    await assertRejects(
      () => fetchFile(url as string),
      TypeError,
      typeof url === "string"
        ? "fetchFile: url must be a whole URL, with https://"
        : "fetchFile: url",
    );
  }
  Object.assign(globalThis, { location: { href: "http://127.0.0.1:1/page/" } });
  try {
    // Where there is a page, URLs are relative to it.
    await fault("unreachable", "http://127.0.0.1:1/page/a.gz", () => fetchFile("a.gz"));
  } finally {
    delete (globalThis as { location?: unknown }).location;
  }
});

Deno.test("where there is no Deno, what opens files says what a page may do instead", async () => {
  const { Deno: own } = globalThis;
  const image = new Uint8Array(await own.readFile("tests/fixtures/images/boot_16.png"));
  const items = ["a", "b"].map((label) => ({ image, label }));
  Reflect.deleteProperty(globalThis, "Deno");
  try {
    const calls: [() => Promise<unknown>, string, string][] = [
      [() => loadFashionMnist("data", "test"), "loadFashionMnist", "fetchFashionMnist gets"],
      [() => loadDataset("data"), "loadDataset", "fetchFile and readImageDataset"],
      [() => collectImages(items), "collectImages: items[0].image", "{ pixels, height, width }"],
    ];
    for (const [call, name, instead] of calls) {
      const said = await fault("read-failed", name, call);
      assertStringIncludes(said, "needs Deno, which is not here");
      assertStringIncludes(said, instead);
    }
    assertThrows(() => checkDeno("x", "y"), DataError, "x: needs Deno");
  } finally {
    Object.assign(globalThis, { Deno: own });
  }
});
