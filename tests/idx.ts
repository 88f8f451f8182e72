/** IDX files, packed or not. Not a test. */

type Bytes = Uint8Array<ArrayBuffer>;

/** An IDX file of unsigned bytes, not yet packed. */
export function idx(shape: readonly number[], payload: ArrayLike<number>): Bytes {
  const file = new Uint8Array(4 + 4 * shape.length + payload.length);
  const view = new DataView(file.buffer);
  view.setUint32(0, 0x0800 + shape.length);
  shape.forEach((size, i) => view.setUint32(4 + 4 * i, size));
  file.set(payload, 4 + 4 * shape.length);
  return file;
}

/** Bytes as a gzip file. */
export async function gzip(bytes: Bytes): Promise<Bytes> {
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return await new Response(packed).bytes();
}
