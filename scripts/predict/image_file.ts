/**
 * Reads an image file of a command line, or standard input, as bytes; `lib/files/image.ts` decodes
 * them.
 *
 * @module
 */

import { LimitedBytesTransformStream } from "@std/streams/limited-bytes-transform-stream";
import { toBytes } from "@std/streams/to-bytes";
import { ImageError, MAX_IMAGE_BYTES } from "../../lib/files/image.ts";

/**
 * The bytes of a stream, which must not be more than {@linkcode MAX_IMAGE_BYTES}.
 *
 * @throws {ImageError} if they are, or the stream fails.
 */
export async function readImageBytes(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  name: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const limit = new LimitedBytesTransformStream(MAX_IMAGE_BYTES, { error: true });
  try {
    return await toBytes(stream.pipeThrough(limit)) as Uint8Array<ArrayBuffer>;
  } catch (cause) {
    const why = cause instanceof RangeError
      ? `is longer than the ${MAX_IMAGE_BYTES / 2 ** 20} MiB that are read`
      : `cannot be read: ${cause instanceof Error ? cause.message : cause}`;
    throw new ImageError(`${name}: ${why}`, { cause });
  }
}
