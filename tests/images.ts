/** Image files and folders of them, for tests. */

import { dirname } from "node:path";
import { crc32, deflateSync } from "node:zlib";

type Bytes = Uint8Array<ArrayBuffer>;

/** A PNG file of 8 bits, grey or RGB, of pixels `[channels, height, width]`. */
export function png(
  pixels: ArrayLike<number>,
  [height, width]: readonly [number, number],
  channels = 1,
): Bytes {
  const lines = new Uint8Array(height * (1 + channels * width)), plane = height * width;
  for (let i = 0; i < channels * plane; i++) {
    const at = i % plane, row = Math.floor(at / width), column = at % width;
    const to = row * (1 + channels * width) + 1 + channels * column + Math.floor(i / plane);
    lines[to] = pixels[i]!;
  }
  return pngOf(lines, [height, width], [8, channels === 1 ? 0 : 2, 0, 0, 0]);
}

/** A PNG file of filtered lines; bits, kind and so on as its header has them. */
export function pngOf(
  lines: Uint8Array,
  [height, width]: readonly [number, number],
  kind: readonly number[],
): Bytes {
  const chunk = (type: string, data: Uint8Array) => {
    const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
    view.setUint32(0, data.length);
    bytes.set(new TextEncoder().encode(type), 4);
    bytes.set(data, 8);
    view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
    return bytes;
  };
  const header = new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0, ...kind]);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  return new Uint8Array([
    ...[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a],
    ...chunk("IHDR", header),
    ...chunk("IDAT", deflateSync(lines)),
    ...chunk("IEND", new Uint8Array()),
  ]);
}

/** A grey PNG of one value. */
export const grey = (value: number, height = 2, width = 2): Bytes =>
  png(new Array(height * width).fill(value), [height, width]);

/** An RGB PNG of one colour. */
export const colour = (r: number, g: number, b: number, height = 2, width = 2): Bytes => {
  const plane = (value: number) => new Array(height * width).fill(value);
  return png([...plane(r), ...plane(g), ...plane(b)], [height, width], 3);
};

/** Writes files, and makes their folders. */
export function writeTree(folder: string, files: Readonly<Record<string, Bytes | string>>): void {
  for (const [name, content] of Object.entries(files)) {
    const path = `${folder}/${name}`;
    Deno.mkdirSync(dirname(path), { recursive: true });
    Deno.writeFileSync(
      path,
      typeof content === "string" ? new TextEncoder().encode(content) : content,
    );
  }
}
