/**
 * Offline stand-in for `@std/streams/to-bytes`, all of it.
 *
 * @module
 */

/** All the bytes of a stream. */
export function toBytes(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Response(stream).bytes();
}
