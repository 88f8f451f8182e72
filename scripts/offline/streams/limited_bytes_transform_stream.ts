/**
 * Offline stand-in for `@std/streams/limited-bytes-transform-stream`, complete.
 *
 * @module
 */

/** Options of {@linkcode LimitedBytesTransformStream}. */
export interface LimitedBytesTransformStreamOptions {
  /** Fail with a `RangeError` at the first chunk beyond the limit, rather than end there. */
  error?: boolean;
}

/** Passes on whole chunks while their sum is within a limit. */
export class LimitedBytesTransformStream extends TransformStream<Uint8Array, Uint8Array> {
  /** A stream of at most `size` bytes. */
  constructor(size: number, options: LimitedBytesTransformStreamOptions = { error: false }) {
    let sum = 0;
    super({
      transform(chunk, controller) {
        if (sum + chunk.byteLength <= size) {
          sum += chunk.byteLength;
          controller.enqueue(chunk);
        } else if (options.error) {
          throw new RangeError(`Exceeded byte size limit of '${size}'`);
        } else {
          controller.terminate();
        }
      },
    });
  }
}
