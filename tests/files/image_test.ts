/**
 * Image files as pixels, against Pillow's own, bit for bit (`tests/reference/make_resize.py`). Damaged
 * ones are in `tests/faults/images_test.ts`.
 */

import { assertEquals } from "@std/assert";
import { decodeGrey, decodeImage, isGrey } from "../../lib/files/image.ts";
import { parseSafetensors } from "../../lib/formats/safetensors.ts";
import { resizeBytes } from "../../lib/ops/resize.ts";

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
