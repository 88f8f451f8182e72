/**
 * WebGPU's flags, by its specification. They are globals as well, but TypeScript's library of a
 * browser's names does not have them.
 *
 * @module
 */

/** What a buffer is for: `GPUBufferUsage`. */
export const BufferUsage = {
  MAP_READ: 0x1,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  UNIFORM: 0x40,
  STORAGE: 0x80,
  QUERY_RESOLVE: 0x200,
} as const;

/** How a buffer is mapped: `GPUMapMode`. */
export const MapMode = { READ: 1 } as const;
