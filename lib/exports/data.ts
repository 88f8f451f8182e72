/**
 * Data sets of images: from a folder (`loadDataset`, Deno only), from a server
 * (`fetchFashionMnist`), from streams of IDX files (`readImageDataset`), or from images of your own
 * (`collectImages`). All that is read is checked.
 *
 * @example Fashion-MNIST, from a folder
 * ```ts
 * import { FASHION_MNIST_CLASSES, loadFashionMnist } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const { count, labels } = await loadFashionMnist("data/fashion-mnist", "test", { limit: 2 });
 * assertEquals(count, 2);
 * assertEquals(FASHION_MNIST_CLASSES[labels[0]!], "Ankle boot");
 * ```
 *
 * @module
 */

// Data sets.
export {
  type ImageDataset,
  type ImagesInMemory,
  type NamedStream,
  readImageDataset,
  type ReadImages,
  type ReadOptions,
} from "../data/dataset.ts";
export {
  type DataFile,
  FASHION_MNIST_CLASSES,
  FASHION_MNIST_FILES,
  readFashionMnist,
  type Split,
} from "../data/fashion_mnist.ts";
export { loadFashionMnist } from "../files/fashion_mnist.ts";
export { loadDataset } from "../files/dataset.ts";
export type { DatasetSummary, LoadedDataset, LoadOptions } from "../files/loaded.ts";
export type { Skipped } from "../data/image_folder.ts";
export {
  collectImages,
  type CollectOptions,
  type ImageItem,
  type PixelImage,
} from "../files/collect.ts";

// Files.
export {
  fetchFashionMnist,
  fetchFile,
  type FetchImagesOptions,
  type FetchOptions,
  type FetchProgress,
} from "../data/fetch.ts";
export { type ByteStream, gunzip } from "../data/gzip.ts";
export { type IdxOptions, IdxStream, readIdx } from "../data/idx.ts";
export { DataError, type DataErrorCode } from "../data/error.ts";
export { WriteError } from "../files/write.ts";
