/** Data sets of images that come one by one. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { ArgumentError } from "@resnette/resnette";
import {
  collectImages,
  type CollectOptions,
  DataError,
  type ImageItem,
} from "@resnette/resnette/data";
import { colour, grey } from "../images.ts";

type Bytes = Uint8Array<ArrayBuffer>;
const pixels = (...values: number[]) => ({ pixels: Uint8Array.from(values), height: 1, width: 2 });

Deno.test("files, their bytes and pixels become one set, from a list or a stream, in its order", async () => {
  const items: ImageItem[] = [
    { image: grey(5, 1, 2), label: "b" },
    { image: new Blob([grey(6, 1, 2)]), label: "a" },
    { image: pixels(7, 8), label: "é" },
  ];
  const wanted = {
    images: Uint8Array.of(5, 5, 6, 6, 7, 8),
    labels: Uint8Array.of(1, 0, 2),
    ...{ count: 3, height: 1, width: 2, channels: 1, classes: ["a", "b", "é"] },
  };
  assertEquals(await collectImages(items), wanted);
  assertEquals(await collectImages(ReadableStream.from(items)), wanted);
  const classes = ["é", "b", "never", "a"];
  const named = await collectImages(items.values(), { classes });
  assertEquals([[...named.labels], named.classes], [[1, 3, 0], classes]);
  const numbered = await collectImages(items.map((item, i) => ({ ...item, label: 300 - i })));
  assertEquals([[...numbered.labels], numbered.classes.length], [[300, 299, 298], 301]);
  assert(numbered.labels instanceof Uint16Array);
});

Deno.test("images take the size and the channels that are asked for, or those of the first", async () => {
  const items: ImageItem[] = [
    { image: colour(255, 0, 0, 4, 4), label: 0 },
    { image: grey(9, 2, 6), label: 1 },
    { image: { pixels: Uint8Array.of(1, 2, 3), height: 1, width: 1, channels: 3 }, label: 1 },
  ];
  const rgb = await collectImages(items, { size: 1 });
  assertEquals([rgb.channels, [...rgb.images as Bytes]], [3, [255, 0, 0, 9, 9, 9, 1, 2, 3]]);
  const made = await collectImages(items, { size: [1, 2], channels: 1 });
  assertEquals([made.height, made.width, made.channels], [1, 2, 1]);
  assertEquals([...made.images as Bytes], [76, 76, 9, 9, 2, 2]);
  const many = await collectImages(
    Array.from({ length: 1000 }, (_, i) => ({ image: pixels(i, i >> 8), label: i % 2 })),
  );
  assertEquals((many.images as Bytes).length, 2000);
  assertEquals((many.images as Bytes).buffer.byteLength, 2000);
  assertEquals([...(many.images as Bytes).subarray(1998)], [999 & 255, 999 >> 8]);
});

Deno.test("what is no image, or of no class, is refused by its number", async () => {
  const ab = (image: unknown, label: unknown = "b") =>
    [{ image: pixels(1, 2), label: "a" }, { image, label }] as ImageItem[];
  const data: [items: ImageItem[], code: string, message: string, options?: CollectOptions][] = [
    [[], "no-images", "items: there are none"],
    [ab(new Blob(["x"])), "read-failed", "items[1].image: is not a PNG, JPEG or WebP file"],
    [ab(grey(1, 1, 2).slice(0, -9)), "read-failed", "items[1].image: is damaged"],
    [ab(grey(1)), "wrong-shape", "items[1].image: has 2×2 pixels, but the first image has 1×2"],
    [ab(colour(1, 2, 3, 1, 2)), "wrong-shape", "items[1].image: is in RGB, but the first image"],
    [
      ab({ ...pixels(1), height: 2 }),
      "wrong-shape",
      "items[1].image.pixels: has 1 values; [1, 2, 2]",
    ],
    [ab(pixels(1, 2), "a"), "one-class", "items: are of one class only"],
    [ab(pixels(1, 2)), "label-range", 'items[1].label: is "b", which is none', {
      classes: ["a", "c"],
    }],
  ];
  for (const [items, code, message, options] of data) {
    const error = await assertRejects(() => collectImages(items, options), DataError);
    assertEquals([error.code as string, error.message.slice(0, 15)], [code, "collectImages: "]);
    assert(error.message.includes(message), error.message);
  }
  const wrong: [items: unknown, message: string, options?: unknown][] = [
    [3, "items must be images and labels to go through"],
    ["text", "items must be images and labels to go through"],
    [[3], "items[0] must be an object"],
    [ab("file.png"), "items[1].image must be a Blob or Uint8Array of a file, or { pixels"],
    [ab({ ...pixels(1, 2), channels: 4 }), "items[1].image.channels must be 1 for grey or 3"],
    [ab({ ...pixels(1, 2), pixels: [1, 2] }), "items[1].image.pixels must be a Uint8Array"],
    [ab(pixels(1, 2), 1), "items[1].label must be a string, as the first label is, got 1"],
    [ab(pixels(1, 2), null), "items[1].label must be a string"],
    [[{ image: pixels(1, 2), label: -1 }], "items[0].label must be an integer, at least 0"],
    [ab(pixels(1, 2)), "classes[1] must be another name", { classes: ["a", "a"] }],
    [ab(pixels(1, 2)), "size[1] must be an integer", { size: [1, 1.5] }],
    [ab(pixels(1, 2)), "channels must be 1 for grey or 3 for RGB", { channels: 2 }],
    [ab(pixels(1, 2)), 'there is no option "resize"', { resize: 2 }],
  ];
  for (const [items, message, options] of wrong) {
    const call = () => collectImages(items as ImageItem[], options as CollectOptions);
    const error = await assertRejects(call, ArgumentError);
    assert(error.message.startsWith("collectImages: "), error.message);
    assert(error.message.includes(message), error.message);
  }
});
