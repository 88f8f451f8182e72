/**
 * Offline stand-in for `@std/streams`: `ByteSliceStream`, `LimitedBytesTransformStream` and
 * `toBytes`, and `FixedChunkStream` under its own `unstable-…` entry. Nothing else of the package.
 *
 * @module
 */

export * from "./byte_slice_stream.ts";
export * from "./limited_bytes_transform_stream.ts";
export * from "./to_bytes.ts";
