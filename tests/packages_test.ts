/**
 * What this project relies on in `@std/cli`, `@std/streams`, `@std/assert` and `@deno/gfm`. The same
 * tests hold for the real packages and for the stand-ins of `scripts/offline`.
 */

import { CSS, render } from "@deno/gfm";
import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { parseArgs } from "@std/cli/parse-args";
import { ProgressBar } from "@std/cli/unstable-progress-bar";
import { ByteSliceStream } from "@std/streams/byte-slice-stream";
import { LimitedBytesTransformStream } from "@std/streams/limited-bytes-transform-stream";
import { toBytes } from "@std/streams/to-bytes";
import { FixedChunkStream } from "@std/streams/unstable-fixed-chunk-stream";

Deno.test("parseArgs reads declared flags, and types what it returns", () => {
  const flags = parseArgs(["--epochs", "3", "-h", "--only=a", "--only=b", "--no-bar", "rest"], {
    string: ["epochs", "out", "only"],
    boolean: ["help", "bar", "quiet"],
    collect: ["only"],
    negatable: ["bar"],
    alias: { help: "h" },
    default: { epochs: "10", bar: true },
  });
  const epochs: string = flags.epochs;
  const out: string | undefined = flags.out;
  const only: string[] = flags.only;
  const help: boolean = flags.help;
  assertEquals({ epochs, out, only, help }, {
    epochs: "3",
    out: undefined,
    only: ["a", "b"],
    help: true,
  });
  assertEquals([flags.h, flags.bar, flags.quiet, flags._], [true, false, false, ["rest"]]);
  assertEquals(parseArgs([], { string: ["lr"], default: { lr: "0.05" } }).lr, "0.05");
});

Deno.test("parseArgs guesses the types of undeclared flags", () => {
  assertEquals(parseArgs(["--lr", "1e-3", "--name=x", "-n5", "-abc", "-f", "g", "7"]), {
    lr: 0.001,
    name: "x",
    n: 5,
    a: true,
    b: true,
    c: true,
    f: "g",
    _: [7],
  });
  assertEquals(parseArgs(["a", "--", "--b"], { "--": true }), { _: ["a"], "--": ["--b"] });
  assertEquals(parseArgs(["a", "--", "--b"]), { _: ["a", "--b"] });
  assertEquals(parseArgs(["--on", "false", "--off=false"], { boolean: ["on", "off"] }), {
    on: false,
    off: false,
    _: [],
  });
  assertEquals(parseArgs(["--x", "1", "run", "--y"], { stopEarly: true }), {
    x: 1,
    _: ["run", "--y"],
  });
});

Deno.test("parseArgs hands unknown arguments to the callback, and leaves them out", () => {
  const seen: unknown[] = [];
  const flags = parseArgs(["--known", "1", "--unknown=2", "word"], {
    string: ["known"],
    unknown: (arg, key, value) => {
      seen.push([arg, key, value]);
      return false;
    },
  });
  assertEquals(seen, [["--unknown=2", "unknown", "2"], ["word", undefined, undefined]]);
  assertEquals(flags, { known: "1", _: [] });
});

Deno.test("ProgressBar writes its line again and again on the stream it is given", async () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const text = new Response(readable).text();
  const options = { max: 2048, writable, barLength: 4, keepOpen: false, interval: 60_000 };
  const bar = new ProgressBar(options);
  bar.value = 1024;
  await bar.stop();
  assertEquals(
    await text,
    "\r\x1b[K[00:00] [----] [0.00/2.00 KiB]\r\x1b[K[00:00] [##--] [1.00/2.00 KiB]\n",
  );

  const custom = new TransformStream<Uint8Array, Uint8Array>();
  const customText = new Response(custom.readable).text();
  const cleared = new ProgressBar({
    max: 10,
    writable: custom.writable,
    keepOpen: false,
    clear: true,
    formatter: ({ value, max }) => `${value} of ${max}`,
  });
  await cleared.stop();
  assertEquals(await customText, "\r\x1b[K0 of 10\r\x1b[K");
});

/** Chunks of these lengths, counting up from 0. */
function chunks(...lengths: number[]): ReadableStream<Uint8Array> {
  let next = 0;
  return ReadableStream.from(lengths.map((n) => Uint8Array.from({ length: n }, () => next++)));
}

Deno.test("byte streams slice, limit and cut anew", async () => {
  const sliced = chunks(3, 3, 3).pipeThrough(new ByteSliceStream(2, 6));
  assertEquals(await toBytes(sliced), new Uint8Array([2, 3, 4, 5, 6]));
  assertThrows(() => new ByteSliceStream(-1), RangeError, "start must be >= 0");

  const limited = chunks(3, 3, 3).pipeThrough(new LimitedBytesTransformStream(7));
  assertEquals(await toBytes(limited), new Uint8Array([0, 1, 2, 3, 4, 5]));
  const strict = new LimitedBytesTransformStream(7, { error: true });
  const message = "Exceeded byte size limit of '7'";
  await assertRejects(() => toBytes(chunks(3, 3, 3).pipeThrough(strict)), RangeError, message);

  for (const lengths of [[3, 3, 4], [10], [1, 8, 1], [4, 4, 2], [0, 10]]) {
    const cut = await Array.fromAsync(chunks(...lengths).pipeThrough(new FixedChunkStream(4)));
    assertEquals(cut.map((chunk) => [...chunk]), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]);
  }
});

Deno.test("assertEquals compares deeply", () => {
  assertEquals({ a: [1, { b: NaN }], c: -0 }, { a: [1, { b: NaN }], c: 0 });
  assertEquals(new Map([["a", new Set([1])]]), new Map([["a", new Set([1])]]));
  const loop = (n: number) => {
    const x: Record<string, unknown> = { n };
    return Object.assign(x, { x });
  };
  assertEquals(loop(1), loop(1));
  const pairs: [unknown, unknown][] = [
    [loop(1), loop(2)],
    [{ a: undefined }, {}],
    [[1, 2], [1]],
    [new Float32Array([1, 2]), new Float32Array([1, 3])],
    [new Float32Array([1]), new Float64Array([1])],
    [new Date(0), new Date(1)],
    [/a/, /a/g],
    ["1", 1],
    [null, {}],
    [new Set([1, 2]), new Set([1, 3])],
    [new Map([["a", 1]]), new Map([["a", 2]])],
    [new Map([["a", { b: 1 }]]), new Map([["a", { b: 2 }]])],
    [new Set([{ a: 1 }]), new Set([{ a: 2 }])],
  ];
  for (const [a, b] of pairs) {
    assertNotEquals(a, b);
    assertThrows(() => assertEquals(a, b), Error, "Values are not equal");
  }
});

Deno.test("assertThrows and assertRejects want the class and the message", async () => {
  const bad = () => {
    throw new RangeError("out of range");
  };
  assertEquals(assertThrows(bad, RangeError, "range").message, "out of range");
  assertThrows(() => assertThrows(bad, TypeError), Error, 'instance of "TypeError"');
  assertThrows(() => assertThrows(bad, RangeError, "reach"), Error, 'to include "reach"');
  assertThrows(() => assertThrows(() => {}), Error, "Expected function to throw");
  await assertRejects(() => Promise.reject(new TypeError("no")), TypeError, "no");
  await assertRejects(
    () => assertRejects(() => Promise.resolve(1)),
    Error,
    "Expected function to reject",
  );
});

Deno.test("gfm renders tables, anchors and images, and lets no script through", () => {
  const html = render(
    '# Loss\n\n|a|b|\n|:-|-:|\n|1|2|\n\n![plot](plot.png)\n\n<script>alert("x")</script>\n',
    { baseUrl: "https://example.com/run/" },
  );
  assertStringIncludes(html, '<h1 id="loss">');
  assertStringIncludes(html, '<td align="right">2</td>');
  assertStringIncludes(html, 'src="https://example.com/run/plot.png"');
  assert(!html.includes("<script"), html);
  assertStringIncludes(CSS, ".markdown-body");
});
