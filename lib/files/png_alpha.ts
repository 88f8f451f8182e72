/**
 * Reads the transparency of PNG files whose pixels the platform hands out without it: grey ones,
 * and those of 16 bits a channel. The platform decodes and checks the rest.
 *
 * @module
 */

/** Passes of an interlaced PNG: the first column and row, and the steps from one to the next. */
const ADAM7 = [
  ...[[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2]],
  [0, 1, 1, 2],
] as const;
/** The type of a chunk of pixels: `IDAT`. */
const PIXELS = 0x49444154;

/**
 * The alpha `[height, width]` of a PNG of kind 4 or 6, 0 transparent to 255.
 *
 * @throws {Error} if its pixels end before the picture does
 */
export async function alphaOf(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const width = view.getUint32(16), height = view.getUint32(20);
  const size = view.getUint8(24) / 8, each = size * (view.getUint8(25) === 4 ? 2 : 4);
  const passes = (view.getUint8(28) === 0 ? [[0, 0, 1, 1] as const] : ADAM7)
    .map(([x, y, dx, dy]) => {
      return {
        x,
        y,
        dx,
        dy,
        columns: Math.ceil((width - x) / dx),
        rows: Math.ceil((height - y) / dy),
      };
    }).filter(({ columns, rows }) => columns > 0 && rows > 0);
  const lines = passes.reduce((sum, { columns, rows }) => sum + rows * (1 + columns * each), 0);
  const data = await unpack(pixelsOf(bytes, view), lines);

  const alpha = new Uint8Array(width * height);
  let at = 0;
  for (const { x, y, dx, dy, columns, rows } of passes) {
    let above = new Uint8Array(columns * each);
    for (let row = 0; row < rows; row++) {
      const filter = data[at]!, line = data.subarray(at + 1, at += 1 + columns * each);
      unfilter(filter, line, above, each);
      above = line;
      const first = (y + row * dy) * width + x;
      for (let column = 0; column < columns; column++) {
        const last = (column + 1) * each - size;
        const deep = size === 1 ? 257 * line[last]! : 256 * line[last]! + line[last + 1]!;
        alpha[first + column * dx] = Math.round(deep / 257);
      }
    }
  }
  return alpha;
}

/** The packed pixels. */
function pixelsOf(bytes: Uint8Array<ArrayBuffer>, view: DataView): Blob {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 8; at + 12 <= bytes.length;) {
    const end = at + 8 + view.getUint32(at);
    if (view.getUint32(at + 4) === PIXELS) parts.push(bytes.subarray(at + 8, end));
    at = end + 4;
  }
  return new Blob(parts);
}

/** The first `length` bytes of what is packed; no more is unpacked. */
async function unpack(packed: Blob, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const data = new Uint8Array(length);
  let filled = 0;
  for await (const part of packed.stream().pipeThrough(new DecompressionStream("deflate"))) {
    const wanted = part.subarray(0, length - filled);
    data.set(wanted, filled);
    filled += wanted.length;
    if (filled === length) return data;
  }
  throw new Error("its pixels end before the picture does");
}

/** Undoes what was done to a line so that it packs well (PNG, 9.2). */
function unfilter(filter: number, line: Uint8Array, above: Uint8Array, each: number): void {
  for (let i = 0; i < line.length && filter > 0; i++) {
    const left = i < each ? 0 : line[i - each]!, up = above[i]!;
    const corner = i < each ? 0 : above[i - each]!;
    if (filter === 1) line[i]! += left;
    else if (filter === 2) line[i]! += up;
    else if (filter === 3) line[i]! += (left + up) >> 1;
    else {
      const [a, b, c] = [left, up, corner].map((x) => Math.abs(left + up - corner - x)) as [
        number,
        number,
        number,
      ];
      line[i]! += a <= b && a <= c ? left : b <= c ? up : corner;
    }
  }
}
