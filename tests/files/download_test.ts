/**
 * Getting files, against a server on this machine: download, resume, refusal, fallback, copy; and the
 * command `deno task data` around it. Nothing here touches the network beyond 127.0.0.1.
 */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import {
  copyFile,
  downloadFile,
  ensureFashionMnist,
  type EnsureOptions,
  verifyFile,
} from "../../lib/files/download.ts";
import { WriteError } from "../../lib/files/write.ts";
import { DataError } from "../../lib/data/error.ts";
import type { DataFile } from "../../lib/data/fashion_mnist.ts";
import { main } from "../../scripts/data.ts";
import { inFolder, ROOT } from "../folder.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A file of 100,000 hard-to-pack bytes. */
const raw = new Uint8Array(100_000);
for (let i = 0, state = 7; i < raw.length; i++) {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  raw[i] = state >>> 24;
}
const packed: Bytes = await new Response(
  new Blob([raw]).stream().pipeThrough(new CompressionStream("gzip")),
).bytes();
const FILE: DataFile = {
  name: "a.gz",
  sha256: createHash("sha256").update(raw).digest("hex"),
  bytes: raw.length,
};
/** Nothing listens there. */
const CLOSED = "http://127.0.0.1:1/";

/** Runs with a server; `seen` gets each request's path and range. */
async function served(
  answer: (request: Request) => Response | Promise<Response>,
  run: (url: string, seen: string[]) => Promise<void>,
): Promise<void> {
  const seen: string[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    seen.push(`${new URL(request.url).pathname} ${request.headers.get("range") ?? "whole"}`);
    return answer(request);
  });
  try {
    await run(`http://127.0.0.1:${server.addr.port}/`, seen);
  } finally {
    await server.shutdown();
  }
}

/** A server that knows ranges. */
function ranged(bytes: Bytes): (request: Request) => Response {
  return (request) => {
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "")?.[1] ?? NaN);
    if (Number.isNaN(start)) return new Response(bytes);
    if (start >= bytes.length) return new Response("no", { status: 416 });
    return new Response(bytes.slice(start), {
      status: 206,
      headers: { "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` },
    });
  };
}

const names = async (dir: string) =>
  (await Array.fromAsync(Deno.readDir(dir), ({ name }) => name)).sort();

Deno.test("a file is downloaded, checked and put in place, and progress is told", async () => {
  await inFolder(async (dir) => {
    await served(ranged(packed), async (url, seen) => {
      const progress: [number, number | undefined][] = [];
      const from = await downloadFile(FILE, dir, {
        urls: [url],
        onProgress: ({ received, total }) => void progress.push([received, total]),
      });
      assertEquals([from, seen], [`${url}a.gz`, ["/a.gz whole"]]);
      assertEquals(progress.at(-1), [packed.length, packed.length]);
      assertEquals(await Deno.readFile(`${dir}/a.gz`), packed);
      assertEquals(await names(dir), ["a.gz"]);
    });
  });
});

Deno.test("an interrupted download is resumed where it stopped", async () => {
  await inFolder(async (dir) => {
    await Deno.writeFile(`${dir}/a.gz.part`, packed.slice(0, 40_000));
    await served(ranged(packed), async (url, seen) => {
      await downloadFile(FILE, dir, { urls: [url] });
      assertEquals(seen, ["/a.gz bytes=40000-"]);
      assertEquals(await Deno.readFile(`${dir}/a.gz`), packed);
    });
  });
});

Deno.test("a download that only lacked its check is not fetched again", async () => {
  await inFolder(async (dir) => {
    await Deno.writeFile(`${dir}/a.gz.part`, packed);
    await served(ranged(packed), async (url, seen) => {
      await downloadFile(FILE, dir, { urls: [url] });
      assertEquals(seen, [`/a.gz bytes=${packed.length}-`]);
      assertEquals(await names(dir), ["a.gz"]);
    });
  });
});

Deno.test("a server that knows no ranges sends the whole file again", async () => {
  await inFolder(async (dir) => {
    await Deno.writeFile(`${dir}/a.gz.part`, packed.slice(0, 40_000));
    await served(() => new Response(packed), async (url) => {
      await downloadFile(FILE, dir, { urls: [url] });
      assertEquals(await Deno.readFile(`${dir}/a.gz`), packed);
    });
  });
});

Deno.test("two that get the same files at once get them once, one after the other", async () => {
  await inFolder(async (root) => {
    const dir = `${root}/new`, lines: string[] = [];
    const slowly = (request: Request) => {
      const whole = ranged(packed)(request), { status, headers } = whole;
      const slow = new TransformStream<Bytes, Bytes>({
        async transform(bytes, out) {
          for (let at = 0; at < bytes.length; at += 10_000) {
            out.enqueue(bytes.slice(at, at + 10_000));
            await new Promise((resolve) => setTimeout(resolve, 30));
          }
        },
      });
      return new Response(whole.body!.pipeThrough(slow), { status, headers });
    };
    await served(slowly, async (url, seen) => {
      const options = { files: [FILE], urls: [url], fallback: `${root}/none` };
      const log = (line: string) => void lines.push(line);
      const first = ensureFashionMnist(dir, options);
      await new Promise((resolve) => setTimeout(resolve, 100));
      const second = ensureFashionMnist(dir, { ...options, log });
      assertEquals(await first, { kept: [], fetched: ["a.gz"] });
      assertEquals(await second, { kept: ["a.gz"], fetched: [] });
      assertEquals(lines, [`${dir}: another process is getting files there; waiting for it`]);
      assertEquals(seen, ["/a.gz whole"]);
      assertEquals(await Deno.readFile(`${dir}/a.gz`), packed);
      assertEquals(await names(dir), ["a.gz"]);
    });
  });
});

Deno.test("leftovers that were wrong are dropped and the file is fetched whole", async () => {
  await inFolder(async (dir) => {
    await Deno.writeFile(`${dir}/a.gz.part`, new Uint8Array(40_000));
    await served(ranged(packed), async (url, seen) => {
      await downloadFile(FILE, dir, { urls: [url] });
      assertEquals(seen, ["/a.gz bytes=40000-", "/a.gz whole"]);
      assertEquals(await Deno.readFile(`${dir}/a.gz`), packed);
    });
  });
});

Deno.test("a connection that breaks leaves what came, and the next URL goes on from there", async () => {
  await inFolder(async (dir) => {
    const broken = () => {
      let sent = false;
      return new Response(
        new ReadableStream({
          async pull(controller) {
            if (sent) {
              await new Promise((resolve) => setTimeout(resolve, 50));
              throw "broken on purpose (this line belongs to the test)";
            }
            sent = true;
            controller.enqueue(packed.slice(0, 30_000));
          },
        }),
      );
    };
    // Two servers, of which the first breaks off.
    await served(broken, async (first) => {
      await served(ranged(packed), async (second, seen) => {
        assertEquals(await downloadFile(FILE, dir, { urls: [first, second] }), `${second}a.gz`);
        assertEquals(seen, ["/a.gz bytes=30000-"]);
        assertEquals(await Deno.readFile(`${dir}/a.gz`), packed);
      });
    });
  });
});

Deno.test("what cannot be written is no server's fault, and no other one is asked", async () => {
  await inFolder(async (dir) => {
    await Deno.mkdir(`${dir}/a.gz.part`);
    await served(ranged(packed), async (url, seen) => {
      const urls = [url, url];
      const error = await assertRejects(() => downloadFile(FILE, dir, { urls }), WriteError);
      assertStringIncludes(error.message, `could not write ${dir}/a.gz.part: Is a directory`);
      assertEquals(seen.length, 1);
    });
  });
});

Deno.test("wrong answers are refused, each for its reason, and leave nothing behind", async (t) => {
  const other = await new Response(
    new Blob(["other"]).stream().pipeThrough(new CompressionStream("gzip")),
  ).bytes();
  const endless = () =>
    new ReadableStream<Bytes>({ pull: (controller) => controller.enqueue(new Uint8Array(65536)) });
  const cases: [string, () => Response, string, string][] = [
    [
      "other data",
      () => new Response(other),
      "checksum",
      "other data than the published ones (5 bytes",
    ],
    ["a web page", () => new Response("<html>"), "not-gzip", "looks like a web page"],
    ["404", () => new Response("no", { status: 404 }), "bad-response", "answered 404"],
    [
      "half of it",
      () => new Response(packed.slice(0, 50_000)),
      "gzip-truncated",
      "after 50000 bytes",
    ],
    ["no end", () => new Response(endless()), "bad-response", "more than the file can be"],
  ];
  for (const [name, answer, code, text] of cases) {
    await t.step(name, async () => {
      await inFolder(async (dir) => {
        await served(answer, async (url) => {
          const error = await assertRejects(
            () => downloadFile(FILE, dir, { urls: [url] }),
            DataError,
          );
          assertEquals([error.code as string, error.file], [code, `${dir}/a.gz`]);
          assertStringIncludes(error.message, text);
          assertStringIncludes(error.message, "apt-get install dataset-fashion-mnist");
          assertStringIncludes(error.message, `${url}a.gz`);
          assertEquals(await names(dir), []);
        });
      });
    });
  }
});

Deno.test("a server that falls silent is given up", async () => {
  await inFolder(async (dir) => {
    let release = () => {};
    const silence = new Promise<void>((resolve) => release = resolve);
    await served(async () => {
      await silence;
      return new Response("late");
    }, async (url) => {
      const options = { urls: [url], stallMs: 100 };
      const error = await assertRejects(() => downloadFile(FILE, dir, options), DataError);
      assertEquals(error.code, "unreachable");
      assertStringIncludes(error.message, "no answer in 100 ms");
      release();
    });
  });
});

Deno.test("where there is no network, the installed package serves, with the same check", async () => {
  await inFolder(async (root) => {
    const [dir, fallback] = [`${root}/to`, `${root}/package`];
    await Deno.mkdir(fallback);
    await Deno.writeFile(`${fallback}/a.gz`, packed);
    const lines: string[] = [];
    const options = { files: [FILE], urls: [CLOSED], fallback };
    const result = await ensureFashionMnist(dir, {
      ...options,
      log: (line) => void lines.push(line),
    });
    assertEquals(result, { kept: [], fetched: ["a.gz"] });
    assertStringIncludes(lines.join("\n"), `copied from ${fallback}, sha256 is right`);
    assertEquals(await names(dir), ["a.gz"]);
    // Once it is there, nothing is done.
    assertEquals(await ensureFashionMnist(dir, options), { kept: ["a.gz"], fetched: [] });
  });
});

Deno.test("where nothing serves, the error says what was tried and what to type", async () => {
  await inFolder(async (dir) => {
    const options = { files: [FILE], urls: [CLOSED], fallback: `${dir}/none` };
    const error = await assertRejects(() => ensureFashionMnist(dir, options), DataError);
    assertEquals(error.code, "unreachable");
    for (const text of [`${CLOSED}a.gz`, "apt-get install dataset-fashion-mnist", "`from`"]) {
      assertStringIncludes(error.message, text);
    }
  });
});

Deno.test("verify replaces a file that is wrong, and only then", async () => {
  await inFolder(async (dir) => {
    await Deno.writeFile(`${dir}/a.gz`, packed.slice(0, 100));
    await served(ranged(packed), async (url, seen) => {
      const options = { files: [FILE], urls: [url], fallback: `${dir}/none` };
      assertEquals(await ensureFashionMnist(dir, options), { kept: ["a.gz"], fetched: [] });
      const verify = () => ensureFashionMnist(dir, { ...options, verify: true });
      assertEquals(await verify(), { kept: [], fetched: ["a.gz"] });
      assertEquals(await verify(), { kept: ["a.gz"], fetched: [] });
      assertEquals(seen.length, 1);
    });
  });
});

Deno.test("a copy is refused where the original is wrong or missing", async () => {
  await inFolder(async (root) => {
    const [from, dir] = [`${root}/from`, `${root}/to`];
    await Deno.mkdir(from);
    await Deno.mkdir(dir);
    const refused = async (code: string) => {
      const error = await assertRejects(() => copyFile(FILE, from, dir), DataError);
      assertEquals([error.code as string, error.file], [code, `${from}/a.gz`]);
      assertEquals(await names(dir), []);
    };
    await refused("missing-file");
    await Deno.writeFile(`${from}/a.gz`, packed.slice(0, -1));
    await refused("gzip-truncated");
    await Deno.writeFile(`${from}/a.gz`, packed);
    await copyFile(FILE, from, dir);
    assertEquals(await Deno.readFile(`${dir}/a.gz`), packed);
  });
});

Deno.test("a file that unpacks to more than it should is refused before it is unpacked", async () => {
  await inFolder(async (dir) => {
    const zeros = new Blob([new Uint8Array(50_000_000)]).stream();
    const bomb = await new Response(zeros.pipeThrough(new CompressionStream("gzip"))).bytes();
    await Deno.writeFile(`${dir}/a.gz`, bomb);
    const check = () => verifyFile(`${dir}/a.gz`, FILE);
    assertEquals(
      (await assertRejects(check, DataError, "more than 100000 bytes")).code,
      "checksum",
    );
  });
});

/** Runs the command, with what it printed. */
async function command(
  args: string[],
  where: EnsureOptions = {},
): Promise<[code: number, out: string, err: string]> {
  const { log, error } = console;
  const out: string[] = [], err: string[] = [];
  console.log = (line: string) => void out.push(line);
  console.error = (line: string) => void err.push(line);
  try {
    return [await main(args, where), out.join("\n"), err.join("\n")];
  } finally {
    Object.assign(console, { log, error });
  }
}

Deno.test("the command refuses what it does not know with exit code 2, and explains itself", async () => {
  for (
    const args of [["--dirr", "x"], ["extra"], ["-x"], ["--no-verify"], ["--dir"], ["--from", ""]]
  ) {
    const [code, out, err] = await command(args);
    assertEquals([code, out], [2, ""], args.join(" "));
    assertStringIncludes(err, "usage: deno task data");
  }
  for (const flag of ["--help", "-h"]) {
    const [code, out] = await command([flag]);
    assertEquals([code, out.startsWith("usage: deno task data")], [0, true]);
  }
});

Deno.test("the command copies the real files, checks them, and then has nothing to do", async () => {
  await inFolder(async (dir) => {
    const [code, out] = await command(["--dir", dir, "--from", `${ROOT}data/fashion-mnist`]);
    assertEquals([code, out.split("\n").length], [0, 5]);
    assert(out.endsWith("all 4 files are there (4 fetched, 0 kept)"), out);
    const again = await command(["--dir", dir]);
    assertEquals(again, [0, `${dir}: all 4 files are there (nothing to do)`, ""]);
    const checked = await command(["--dir", dir, "--verify"]);
    assertEquals([checked[0], checked[1].match(/sha256 is right/g)?.length], [0, 4]);
    const failed = await command(["--dir", `${dir}/new`, "--from", `${dir}/none`]);
    assertEquals([failed[0], failed[1]], [1, ""]);
    assertStringIncludes(
      failed[2],
      "there is no such file; get Fashion-MNIST with `deno task data`",
    );
  });
});

Deno.test("the command downloads, and where it cannot it says so and gives exit code 1", async () => {
  await inFolder(async (dir) => {
    const where = { files: [FILE], urls: [CLOSED], fallback: `${dir}/none` };
    const [code, out, err] = await command(["--dir", dir], where);
    assertEquals([code, out], [1, ""]);
    assertStringIncludes(err, "error: ");
    assertStringIncludes(err, "apt-get install dataset-fashion-mnist");
    assertStringIncludes(err, "deno run -A scripts/data.ts --from FOLDER");
    await served(ranged(packed), async (url) => {
      const [code, out, err] = await command(["--dir", dir], { ...where, urls: [url] });
      assertEquals([code, err], [0, ""]);
      assertStringIncludes(out, `downloaded from ${url}a.gz, sha256 is right`);
    });
  });
});
