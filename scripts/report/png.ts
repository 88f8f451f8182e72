/**
 * Grey images as PNG files: 8 bits, one band, no filter.
 *
 * @module
 */

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? n >>> 1 ^ 0xedb88320 : n >>> 1;
  return n;
});

/** Length, type, data, checksum. */
function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(data.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  let crc = ~0;
  for (const byte of bytes.subarray(4, -4)) crc = CRC[(crc ^ byte) & 255]! ^ crc >>> 8;
  view.setUint32(data.length + 8, ~crc);
  return bytes;
}

/** A PNG of `pixels` `[height, width]`, 0 black to 255 white. */
export async function encodePng(
  pixels: Uint8Array,
  height: number,
  width: number,
): Promise<Uint8Array> {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header[8] = 8; // Bits; the other four are zero: grey, deflate, filters by row, not interlaced.
  const rows = new Uint8Array(height * (width + 1)); // Each row begins with its filter: none.
  for (let y = 0; y < height; y++) {
    rows.set(pixels.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  }
  const zlib = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const parts = [
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    chunk("IHDR", header),
    chunk("IDAT", new Uint8Array(await new Response(zlib).arrayBuffer())),
    chunk("IEND", new Uint8Array()),
  ];
  return new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
}
