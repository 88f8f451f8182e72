/**
 * Image files as pixels, against Pillow's own, bit for bit (`tests/reference/make_resize.py`). Damaged
 * ones are in `tests/faults/images_test.ts`.
 */

import { assertEquals, assertRejects } from "@std/assert";
import { decodeGrey, decodeImage, ImageError, isGrey } from "../../lib/files/image.ts";
import { parseSafetensors } from "../../lib/formats/safetensors.ts";
import { resizeBytes } from "../../lib/ops/resize.ts";
import { pngOf } from "../images.ts";

const FIXTURE = new URL("../fixtures/resize_pil.safetensors", import.meta.url);
const photo = (name: string) => Deno.readFile(`tests/fixtures/images/boot_${name}`);

Deno.test("PNG files in RGB and resized have Pillow's bytes, up and down, square and not", async (t) => {
  const { tensors } = parseSafetensors(await Deno.readFile(FIXTURE), "resize_pil.safetensors");
  let cases = 0;
  for (const [name, output] of tensors) {
    const mode = /^rgb_\d+x\d+_of_(.*)$/.exec(name)?.[1];
    if (mode === undefined) continue;
    cases++;
    await t.step(name, async () => {
      const [channels, outHeight, outWidth] = output.shape as [number, number, number];
      const file = tensors.get(`png_${mode}`)!.data.slice();
      assertEquals(isGrey(file), mode === "L");
      const { pixels, height, width } = await decodeImage(file, name, { channels });
      const resized = resizeBytes(pixels, channels, height, width, outHeight, outWidth);
      assertEquals(resized, output.data.slice());
    });
  }
  assertEquals(cases, 15);
});

Deno.test("grey and RGB of one file agree, turned and on white alike", async () => {
  for (const name of ["16.png", "alpha.png", "palette.png", "tint.webp", "turned.jpg"]) {
    const bytes = await photo(name);
    const grey = await decodeGrey(bytes, name);
    const { pixels, width, height } = await decodeImage(bytes, name, { channels: 3 });
    assertEquals([width, height, pixels.length], [grey.width, grey.height, 3 * width * height]);
    const plane = width * height;
    const isColoured = pixels.subarray(0, plane).some((red, i) => red !== pixels[i + 2 * plane]);
    assertEquals(isColoured, name === "tint.webp", name);
    for (let i = 0; i < plane; i++) {
      const [r, g, b] = [pixels[i]!, pixels[i + plane]!, pixels[i + 2 * plane]!];
      const luma = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
      if (Math.abs(luma - grey.pixels[i]!) > (name === "alpha.png" ? 1 : 0)) {
        throw new Error(`${name}: pixel ${i} is ${grey.pixels[i]}, of [${r}, ${g}, ${b}]`);
      }
    }
  }
});

Deno.test("grey PNG files with transparency lie on white, as numpy lays Pillow's", async () => {
  const { tensors } = parseSafetensors(await Deno.readFile(FIXTURE), "resize_pil.safetensors");
  for (const mode of ["LA", "LA_slope"]) {
    const { pixels } = await decodeGrey(tensors.get(`png_${mode}`)!.data.slice(), mode);
    const wanted = tensors.get(`white_${mode}`)!.data;
    // A half may be rounded up here and down there.
    const off = pixels.filter((value, i) => Math.abs(value - wanted[i]!) > 1).length;
    const same = pixels.filter((value, i) => value === wanted[i]).length;
    assertEquals([off, same > 0.99 * pixels.length], [0, true], `${mode}: ${same}`);
  }
});

Deno.test("transparency of 16 bits, of each filter and interlaced lies on white", async () => {
  const [height, width] = [11, 13];
  /** Alpha and grey at a place, as 16 bits. */
  const at = (y: number, x: number) => ({ value: 20_000 + 257 * x, alpha: 257 * (y * 20 + x) });
  /** Lines of a pass, with a filter for each, or one for all. */
  const lines = (kind: 4 | 6, size: 1 | 2, filter: number, steps = [0, 0, 1, 1]) => {
    const [x0, y0, dx, dy] = steps as [number, number, number, number];
    const all: number[] = [];
    let above: number[] = [];
    for (let y = y0; y < height; y += dy) {
      const line: number[] = [];
      for (let x = x0; x < width; x += dx) {
        const { value, alpha } = at(y, x);
        for (const sample of [...new Array(kind === 4 ? 1 : 3).fill(value), alpha]) {
          line.push(sample >> 8, ...size === 2 ? [sample & 255] : []);
        }
      }
      if (line.length === 0) return all;
      const each = size * (kind === 4 ? 2 : 4);
      const filtered = line.map((byte, i) => {
        const left = line[i - each] ?? 0, up = above[i] ?? 0, corner = above[i - each] ?? 0;
        const near = [left, up, corner].toSorted((p, q) =>
          Math.abs(left + up - corner - p) - Math.abs(left + up - corner - q)
        )[0]!;
        return byte - [0, left, up, (left + up) >> 1, near][filter]! & 255;
      });
      all.push(filter, ...filtered);
      above = line;
    }
    return all;
  };
  const passes = [
    ...[[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2]],
    [0, 1, 1, 2],
  ];
  for (const [kind, size] of [[4, 1], [4, 2], [6, 2]] as const) {
    for (const filter of [0, 1, 2, 3, 4]) {
      for (const interlaced of [0, 1]) {
        const data = interlaced
          ? passes.flatMap((steps) => lines(kind, size, filter, steps))
          : lines(kind, size, filter);
        const file = pngOf(Uint8Array.from(data), [height, width], [
          8 * size,
          kind,
          0,
          0,
          interlaced,
        ]);
        const { pixels } = await decodeGrey(file, "a.png");
        for (let y = 0; y < height; y++) {
          for (let x = 0; x < width; x++) {
            const { value, alpha } = at(y, x);
            const share = size === 1 ? (alpha >> 8) / 255 : alpha / 65_535;
            const wanted = (value / 256) * share + 255 * (1 - share);
            const found = pixels[y * width + x]!;
            // Values of 16 bits go through a JPEG.
            if (Math.abs(found - wanted) > (size === 1 ? 1 : 3)) {
              const what = `kind ${kind} of ${8 * size} bits, filter ${filter}, ${interlaced}`;
              throw new Error(`${what}: ${found} at ${y}, ${x}, not ${wanted}`);
            }
          }
        }
      }
    }
  }
  const whole = pngOf(Uint8Array.from(lines(4, 1, 0)), [height, width], [8, 4, 0, 0, 0]);
  const short = pngOf(Uint8Array.from(lines(4, 1, 0)), [height + 1, width], [8, 4, 0, 0, 0]);
  assertEquals((await decodeGrey(whole, "a.png")).height, height);
  await assertRejects(() => decodeGrey(short, "a.png"), ImageError, "a.png: cannot be decoded: ");
});

Deno.test("whether a file is grey is told by its header, and its first bytes may do", async () => {
  const kinds = { "16.png": true, "palette.png": true, "tint.webp": false, "alpha.png": false };
  for (const [name, grey] of Object.entries(kinds)) assertEquals(isGrey(await photo(name)), grey);
  const jpeg = await photo("turned.jpg");
  assertEquals(isGrey(jpeg), true);
  const frame = jpeg.findIndex((byte, i) => byte === 0xff && jpeg[i + 1] === 0xc0);
  assertEquals(isGrey(jpeg.slice(0, frame)), undefined);
  assertEquals(isGrey(jpeg.slice(0, frame + 20)), true);
  jpeg[frame + 9] = 3;
  assertEquals(isGrey(jpeg), false);
  assertEquals([isGrey(new Uint8Array()), isGrey(new Uint8Array(100))], [undefined, undefined]);
});
