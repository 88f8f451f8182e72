/**
 * Offline stand-in for `@std/streams/limited-bytes-transform-stream`, for limits that are errors.
 *
 * @module
 */

/** Passes on whole chunks; the first beyond the limit is an error. */
export class LimitedBytesTransformStream extends TransformStream<Uint8Array, Uint8Array> {
  /** A stream of at most `size` bytes. */
  constructor(size: number, _options: { error: true }) {
    let sum = 0;
    super({
      transform(chunk, controller) {
        sum += chunk.byteLength;
        if (sum > size) throw new RangeError(`Exceeded byte size limit of '${size}'`);
        controller.enqueue(chunk);
      },
    });
  }
}
