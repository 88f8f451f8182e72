/**
 * Offline stand-in for `@std/streams/unstable-fixed-chunk-stream`, all of it.
 *
 * @module
 */

/** Cuts a stream of bytes anew, into chunks of one size; the last may be shorter. */
export class FixedChunkStream extends TransformStream<Uint8Array, Uint8Array> {
  /** Chunks of `size` bytes, each in a buffer of its own. */
  constructor(size: number) {
    let chunk = new Uint8Array(size);
    let filled = 0;
    super({
      transform(bytes, controller) {
        for (let at = 0; at < bytes.length;) {
          const part = bytes.subarray(at, at + size - filled);
          chunk.set(part, filled);
          filled += part.length;
          at += part.length;
          if (filled === size) {
            controller.enqueue(chunk);
            chunk = new Uint8Array(size);
            filled = 0;
          }
        }
      },
      flush(controller) {
        if (filled > 0) controller.enqueue(chunk.slice(0, filled));
      },
    });
  }
}
