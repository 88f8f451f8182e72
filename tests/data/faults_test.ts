/**
 * The data readers on damaged, wrong and hostile files. Each fault must give its own code, a message
 * that names the file, a closed source, and must cost bounded time and memory.
 */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { DataError, type DataErrorCode } from "../../lib/data/error.ts";
import { loadFashionMnist } from "../../lib/files/fashion_mnist.ts";
import { readImageDataset } from "../../lib/data/dataset.ts";
import { openFile } from "../../lib/files/open.ts";
import { type ByteStream, gunzip } from "../../lib/data/gzip.ts";
import { gzip } from "../idx.ts";
import { type IdxOptions, readIdx } from "../../lib/data/idx.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** Big-endian u32s, then bytes. */
function words(header: number[], payload: ArrayLike<number> = []): Bytes {
  const file = new Uint8Array(4 * header.length + payload.length);
  const view = new DataView(file.buffer);
  header.forEach((word, i) => view.setUint32(4 * i, word));
  file.set(payload, 4 * header.length);
  return file;
}

function concat(...parts: Bytes[]): Bytes {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** A pull-based source in chunks of `size` that tells how it ended. */
function source(bytes: Bytes, size = 4096) {
  const state = { pulled: 0, closed: false };
  const stream: ByteStream = new ReadableStream({
    pull(controller) {
      if (state.pulled >= bytes.length) {
        state.closed = true;
        return controller.close();
      }
      controller.enqueue(bytes.slice(state.pulled, state.pulled + size));
      state.pulled += size;
    },
    cancel() {
      state.closed = true;
    },
  }, { highWaterMark: 0 });
  return { stream, state };
}

/** Reads a file to its end, expecting a fault; three chunk sizes must agree on it. */
async function fails(code: DataErrorCode, file: Bytes, text: string, options: IdxOptions = {}) {
  for (const size of [1 << 20, 4096, 13]) {
    const { stream, state } = source(file, size);
    const error = await assertRejects(async () => {
      await (await readIdx(stream, "the/file.gz", options)).bytes();
    }, DataError);
    assertEquals([error.code, error.file], [code, "the/file.gz"], error.message);
    assertStringIncludes(error.message, "the/file.gz: ");
    assertStringIncludes(error.message, text);
    assertEquals(state.closed, true, "the source stays open");
  }
}

const payload = Uint8Array.from({ length: 6000 }, (_, i) => (i * i) >> 3);
const good = words([0x0803, 10, 20, 30], payload);
const packed = await gzip(good);

Deno.test("a file that is not gzip is refused by its first bytes", async (t) => {
  await t.step(
    "text",
    () => fails("not-gzip", new TextEncoder().encode("hello"), "not a gzip file"),
  );
  await t.step("a web page", () => {
    return fails("not-gzip", new TextEncoder().encode("<html>not found</html>"), "like a web page");
  });
  await t.step("an unpacked IDX file, where gzip is asked for", async () => {
    const { stream, state } = source(good);
    const error = await assertRejects(
      () => new Response(gunzip(stream, "a.gz")).bytes(),
      DataError,
    );
    assertEquals([error.code, error.file, state.closed], ["not-gzip", "a.gz", true]);
    assertStringIncludes(error.message, "looks like a decompressed IDX file");
  });
  await t.step("gzip of another method", () => {
    const other = packed.slice();
    other[2] = 7;
    return fails("not-gzip", other, "not a gzip file");
  });
});

Deno.test("a truncated gzip file is told from a corrupt one", async (t) => {
  await t.step("empty", () => fails("gzip-truncated", new Uint8Array(0), "is empty"));
  for (const length of [1, 2, 3, 9, 18, 30, 500, packed.length - 8, packed.length - 1]) {
    await t.step(`after ${length} bytes`, () => {
      return fails("gzip-truncated", packed.slice(0, length), `after ${length} bytes`);
    });
  }
});

Deno.test("a corrupt gzip stream is refused, though its data came out", async (t) => {
  await t.step("a wrong checksum", () => {
    const bad = packed.slice();
    bad[bad.length - 8]! ^= 1;
    return fails("gzip-corrupt", bad, "checksum");
  });
  await t.step("a flipped bit that decodes to another length", async () => {
    const bad = packed.slice();
    let found = 0;
    for (let at = 100; at < 400; at++) {
      bad[at]! ^= 4;
      const { stream } = source(bad);
      const error = await assertRejects(async () => await (await readIdx(stream, "a.gz")).bytes());
      assertInstanceOf(error, DataError);
      if (error.code === "gzip-corrupt") found++;
      // Some make a longer payload or an earlier end of the stream, which shows first.
      else {assertEquals(
          ["payload-long", "gzip-trailing"].includes(error.code),
          true,
          error.message,
        );}
      bad[at]! ^= 4;
    }
    assert(found > 250, `${found} of 300`);
  });
  await t.step("bad codes", async () => {
    const bad = packed.slice();
    bad.fill(0xff, 200, 260);
    const { stream } = source(bad);
    const error = await assertRejects(async () => await (await readIdx(stream, "a.gz")).bytes());
    assertInstanceOf(error, DataError);
    assertEquals(error.code, "gzip-corrupt");
  });
});

Deno.test("bytes after the gzip stream are refused, but for another member and zeros", async (t) => {
  const zeros = (count: number) => new Uint8Array(count);
  const text = new TextEncoder().encode("more");
  const trailing: [name: string, rest: Bytes][] = [
    ["one byte", text.slice(0, 1)],
    ["a byte as another member begins", packed.slice(0, 1)],
    ["20,000 bytes", zeros(20_000).fill(7)],
    ["zeros, and then a byte", concat(zeros(20_000), text)],
    ["a few zeros, and then another member", concat(zeros(3), packed)],
  ];
  for (const [name, rest] of trailing) {
    await t.step(name, () => fails("gzip-trailing", concat(packed, rest), "after"));
  }
  await t.step("another member: its data are bytes too many", () => {
    return fails("payload-long", concat(packed, packed), "more than the 10 records");
  });
  await t.step("after nothing, a byte and zeros", async () => {
    await fails(
      "gzip-trailing",
      concat(await gzip(zeros(0)), text.slice(0, 1), zeros(10)),
      "after",
    );
  });
  // Two members that are one file, and the second one damaged, or the first.
  const [first, second] = [await gzip(good.slice(0, 1500)), await gzip(good.slice(1500))];
  for (const length of [3, 9, 12, 500, second.length - 8, second.length - 1]) {
    await t.step(`a second member cut after ${length} bytes`, () => {
      const cut = concat(first, second.slice(0, length));
      return fails("gzip-truncated", cut, `after ${cut.length} bytes`);
    });
  }
  for (const at of [first.length - 8, first.length + second.length - 8]) {
    await t.step(`a wrong checksum at ${at}`, () => {
      const bad = concat(first, second);
      bad[at]! ^= 1;
      return fails("gzip-corrupt", bad, "checksum");
    });
  }
  for (const rest of [second, zeros(9)]) {
    await t.step(`a wrong length, and then ${rest.length} bytes`, () => {
      const bad = concat(rest === second ? first : packed, rest);
      bad[bad.length - rest.length - 4]! ^= 1;
      return fails("gzip-corrupt", bad, "holds a corrupt gzip stream");
    });
  }
  await t.step("100 MB of zeros, which are looked at and not kept", async () => {
    let sent = 0;
    const before = Deno.memoryUsage().rss, many = zeros(1 << 20);
    const stream: ByteStream = new ReadableStream({
      start: (to) => to.enqueue(packed),
      pull: (to) => sent++ < 100 ? to.enqueue(many) : to.close(),
    }, { highWaterMark: 0 });
    assertEquals(await new Response(gunzip(stream, "a.gz")).bytes(), good);
    assert(Deno.memoryUsage().rss - before < 50e6, "took more than 50 MB");
  });
});

Deno.test("a wrong header is refused before any payload is read", async (t) => {
  const pack = async (...header: number[]) => await gzip(words(header, payload));
  await t.step("wrong magic", async () => {
    await fails("wrong-magic", await pack(0x89504e47, 1, 2, 3), "begins with 89504e47");
    await fails("wrong-magic", await pack(0x0800), "begins with 00000800");
  });
  await t.step("unsupported type", async () => {
    await fails("unsupported-type", await pack(0x0d03, 10, 20, 30), "type f32");
    await fails("unsupported-type", await pack(0x4203, 10, 20, 30), "type 0x42");
  });
  await t.step("wrong dimensions", async () => {
    const shape = [undefined, 28, 28];
    await fails("wrong-shape", packed, "[10, 20, 30], expected [any, 28, 28]", { shape });
    await fails("wrong-shape", packed, "expected [any]", { shape: [undefined] });
    await fails("wrong-shape", await pack(0x0802, 0, 5), "no data");
  });
  await t.step("ends inside the header", async () => {
    await fails("header-truncated", await gzip(words([0x0803, 10])), "after 8 bytes");
    await fails("header-truncated", await gzip(new Uint8Array(0)), "after 0 bytes");
  });
});

Deno.test("a payload that is not what the header claims is refused", async (t) => {
  const short = words([0x0803, 10, 20, 30], payload.slice(0, 5999));
  await t.step("shorter", async () => {
    await fails(
      "payload-short",
      await gzip(short),
      "5999 of 6000 bytes; its header claims 10 records of 20×30",
    );
  });
  const longer = words([0x0803, 10, 20, 30], concat(payload, new Uint8Array(600)));
  await t.step("a record more", async () => {
    await fails("payload-long", await gzip(longer), "more than the 10 records of 20×30");
  });
  await t.step("some bytes more", async () => {
    await fails(
      "payload-trailing",
      await gzip(longer.slice(0, -1)),
      "599 bytes after the 10 records",
    );
  });
});

Deno.test("a header that claims gigabytes costs what the file holds", async (t) => {
  const claims = async (code: DataErrorCode, ...header: number[]) => {
    const file = await gzip(words(header, new Uint8Array(1000)));
    const before = Deno.memoryUsage().rss;
    const start = performance.now();
    await fails(code, file, "claims");
    assert(performance.now() - start < 1000, "took more than a second");
    assert(Deno.memoryUsage().rss - before < 100e6, "took more than 100 MB");
  };
  await t.step("10 GB", () => claims("payload-short", 0x0803, 12_755_102, 28, 28));
  await t.step("one record of 4 GB", () => claims("payload-short", 0x0802, 1, 0xffffffff));
  await t.step("more than can be counted", () => claims("too-large", 0x0803, 1e9, 1e9, 1e9));
  await t.step("255 dimensions", () => claims("too-large", 0x08ff, ...new Array(255).fill(1e9)));
});

Deno.test("a gzip bomb is unpacked no further than its header's size", async () => {
  // 256 MB of zeros behind a header that claims three bytes: 250 KB packed.
  let sent = 0;
  const zeros: ByteStream = new ReadableStream({
    pull(controller) {
      if (sent++ === 0) controller.enqueue(words([0x0801, 3]));
      else if (sent > 256) controller.close();
      else controller.enqueue(new Uint8Array(1 << 20));
    },
  });
  const bomb = await new Response(zeros.pipeThrough(new CompressionStream("gzip"))).bytes();
  assert(bomb.length > 200_000, `the bomb has ${bomb.length} bytes`);
  const { stream, state } = source(bomb);
  const before = Deno.memoryUsage().rss;
  const error = await assertRejects(
    async () => await (await readIdx(stream, "bomb.gz")).bytes(),
    DataError,
  );
  assertEquals([error.code, state.closed], ["payload-long", true]);
  assert(state.pulled < 50_000, `${state.pulled} bytes were read`);
  assert(Deno.memoryUsage().rss - before < 100e6, "took more than 100 MB");
});

Deno.test("batches fail at the end where the payload is short: what came was provisional", async () => {
  const file = await gzip(words([0x0802, 100, 10], new Uint8Array(995)));
  const reader = await readIdx(source(file).stream, "short.gz");
  const sizes: number[] = [];
  const error = await assertRejects(async () => {
    for await (const batch of reader.batches(40)) sizes.push(batch.length);
  }, DataError);
  assertEquals([error.code, sizes], ["payload-short", [400, 400]]);
});

Deno.test("a source that fails is named, with its own error as the cause", async () => {
  const broken: ByteStream = new ReadableStream({
    pull() {
      throw new Error("disk on fire");
    },
  });
  const error = await assertRejects(
    () => readIdx(broken, "a.gz"),
    DataError,
    "a.gz: cannot be read: disk on fire",
  );
  assertEquals(error.code, "read-failed");
});

/** A data set of `[count, 1, 1]` images and these labels, with how its sources ended. */
async function dataset(count: number, labels: number[]) {
  const images = source(await gzip(words([0x0803, count, 1, 1], new Uint8Array(count))), 3);
  const marks = source(await gzip(words([0x0801, labels.length], labels)), 3);
  const read = () =>
    readImageDataset(
      { stream: images.stream, name: "images.gz" },
      { stream: marks.stream, name: "labels.gz" },
      { classes: ["a", "b"] },
    );
  return { read, closed: () => images.state.closed && marks.state.closed };
}

Deno.test("images and labels that do not belong together are refused", async (t) => {
  await t.step("a label out of range", async () => {
    const { read } = await dataset(3, [0, 1, 2]);
    const error = await assertRejects(
      read,
      DataError,
      "labels.gz: label 2 is 2, but there are 2 classes",
    );
    assertEquals(error.code, "label-range");
  });
  await t.step("different lengths", async () => {
    const { read, closed } = await dataset(3, [0, 1]);
    const error = await assertRejects(
      read,
      DataError,
      "labels.gz: holds 2 labels for the 3 images of images.gz",
    );
    assertEquals([error.code, closed()], ["count-mismatch", true]);
  });
  await t.step("and those that do are read", async () => {
    const { read, closed } = await dataset(3, [0, 1, 0]);
    assertEquals((await read()).count, 3);
    assertEquals(closed(), true);
  });
});

Deno.test("files that cannot be opened say what to do, and leave nothing open", async (t) => {
  const dir = await Deno.makeTempDir();
  try {
    await t.step("missing", async () => {
      const error = await assertRejects(
        () => loadFashionMnist(dir, "train"),
        DataError,
        "there is no such file",
      );
      assertEquals([error.code, error.file], ["missing-file", `${dir}/train-images-idx3-ubyte.gz`]);
    });
    await t.step("only one of the two is missing", async () => {
      await Deno.writeFile(`${dir}/t10k-images-idx3-ubyte.gz`, packed);
      const error = await assertRejects(() => loadFashionMnist(dir, "test"), DataError);
      assertEquals([error.code, error.file], ["missing-file", `${dir}/t10k-labels-idx1-ubyte.gz`]);
    });
    await t.step("a folder", async () => {
      const error = await assertRejects(
        async () => await readIdx(await openFile(dir), dir),
        DataError,
      );
      assertEquals([error.code, error.file], ["read-failed", dir]);
    });
    await t.step("images of another size", async () => {
      await Deno.writeFile(
        `${dir}/t10k-labels-idx1-ubyte.gz`,
        await gzip(words([0x0801, 10], payload.slice(0, 10))),
      );
      await assertRejects(() => loadFashionMnist(dir, "test"), DataError, "expected [any, 28, 28]");
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
