/**
 * Resizing against Pillow's own output, bit for bit. The fixture is made by
 * `tests/reference/make_resize.py`; nothing here is approximate.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { evaluate, rotate, tensor } from "@resnette/resnette";
import { PRECISION_BITS, resampleTable, resizeBytes } from "../../lib/ops/resize.ts";
import { parseSafetensors } from "../../lib/formats/safetensors.ts";

const FIXTURE = new URL("../fixtures/resize_pil.safetensors", import.meta.url);

Deno.test("resizing gives Pillow's bytes, enlarging and shrinking, square and not", async (t) => {
  const { tensors } = parseSafetensors(await Deno.readFile(FIXTURE), "resize_pil.safetensors");
  let cases = 0;
  for (const [name, output] of tensors) {
    const source = /^out_\d+x\d+_of_(.*)$/.exec(name)?.[1];
    if (source === undefined) continue;
    const input = tensors.get(`in_${source}`)!;
    const [count, outHeight, outWidth] = output.shape as [number, number, number];
    const [, height, width] = input.shape as [number, number, number];
    cases++;
    await t.step(name, () => {
      const images = input.data.subarray(0, count * height * width);
      const resized = resizeBytes(images, count, height, width, outHeight, outWidth);
      assertEquals(resized, output.data.slice());
    });
  }
  assertEquals(cases, 20);
});

Deno.test("images are turned as Pillow turns them, but for roundings", async () => {
  const { tensors } = parseSafetensors(await Deno.readFile(FIXTURE), "resize_pil.safetensors");
  const { data, shape: [count, height, width] } = tensors.get("unturned")!;
  const x = tensor(Float32Array.from(data), [count!, 1, height!, width!]);
  let cases = 0;
  for (const [name, output] of tensors) {
    const angle = Number(/^turned_(.*)$/.exec(name)?.[1]) * Math.PI / 180;
    if (Number.isNaN(angle)) continue;
    cases++;
    const turns = Array.from({ length: count! }, () => [Math.cos(angle), Math.sin(angle)]);
    const found = await evaluate(rotate(x, tensor(turns))) as Float32Array;
    const differ = found.filter((value, i) => value !== output.data[i]);
    const worst = found.reduce(
      (most, value, i) => Math.max(most, Math.abs(value - output.data[i]!)),
      0,
    );
    // A sum that is an integer may come out just below it.
    assert(
      worst <= 1 && differ.length < 0.02 * found.length,
      `${name}: ${differ.length}, ${worst}`,
    );
  }
  assertEquals(cases, 6);
});

Deno.test("a resample table's windows lie inside the input and its sums fit i32", () => {
  const sizes = [1, 2, 3, 5, 20, 28, 96, 131, 224, 1000];
  for (const inSize of sizes) {
    for (const outSize of sizes) {
      const { starts, taps, coefficients } = resampleTable(inSize, outSize);
      assertEquals([starts.length, coefficients.length], [outSize, outSize * taps]);
      for (let i = 0; i < outSize; i++) {
        const row = coefficients.subarray(i * taps, (i + 1) * taps);
        const sum = row.reduce((a, b) => a + b, 0);
        const ok = starts[i]! >= 0 && starts[i]! + taps <= inSize && row.every((c) => c >= 0) &&
          Math.abs(sum - 2 ** PRECISION_BITS) <= taps / 2 && 255 * sum + 2 ** 21 < 2 ** 31;
        assertEquals(ok, true, `${inSize} to ${outSize}, output ${i}: ${row}`);
      }
    }
  }
});

Deno.test("enlarging 28 to 96 reads two inputs for each output, and no change reads one", () => {
  assertEquals(resampleTable(28, 96).taps, 2);
  assertEquals(resampleTable(28, 28).taps, 1);
});

Deno.test("an image whose size stays is copied, not aliased", () => {
  const image = new Uint8Array([1, 2, 3, 4]);
  const same = resizeBytes(image, 1, 2, 2, 2, 2);
  assertEquals(same, image);
  assertEquals(same === image, false);
});

Deno.test("sizes that make no sense are refused", () => {
  assertThrows(() => resampleTable(0, 4), RangeError, "size 0");
  assertThrows(() => resampleTable(4, 2.5), RangeError, "size 2.5");
  assertThrows(() => resizeBytes(new Uint8Array(4), 1, 2, 2, -1, 4), RangeError, "size -1");
  assertThrows(
    () => resizeBytes(new Uint8Array(5), 1, 2, 2, 4, 4),
    RangeError,
    "5 bytes are not [1, 2, 2]",
  );
});
