/**
 * Offline stand-in for `@std/streams/byte-slice-stream`, complete.
 *
 * @module
 */

/** Passes on the bytes from `start` to `end`, both counted from zero and both included. */
export class ByteSliceStream extends TransformStream<Uint8Array, Uint8Array> {
  /** A slice from `start` (0 or more) to `end`. */
  constructor(start = 0, end: number = Infinity) {
    let position = 0;
    super({
      start() {
        if (start < 0) {
          throw new RangeError(
            `Cannot construct ByteSliceStream as start must be >= 0: received ${start}`,
          );
        }
      },
      transform(chunk, controller) {
        const first = position;
        position += chunk.byteLength;
        if (position > start) {
          controller.enqueue(chunk.slice(Math.max(start - first, 0), end + 1 - first));
          if (position > end) controller.terminate();
        }
      },
    });
  }
}
