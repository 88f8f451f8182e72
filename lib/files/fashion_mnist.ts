/**
 * Fashion-MNIST from a folder.
 *
 * @module
 */

import { checkChoice, checkOptions, checkString, refuse } from "../check/arguments.ts";
import type { ImagesInMemory, NamedStream } from "../data/dataset.ts";
import {
  type DataFile,
  FASHION_MNIST_FILES,
  readFashionMnist,
  type Split,
} from "../data/fashion_mnist.ts";
import { checkDeno, findFile, openFile } from "./open.ts";

/**
 * Loads one split of Fashion-MNIST from a folder. Its files may be gzipped, as they are published,
 * or unpacked and without `.gz` in their names, as torchvision keeps them. The 60,000 training
 * images take about a quarter of a second. **Deno only.**
 *
 * It checks gzip's checksums, but not that the files are the published ones: in a clone of this
 * library, `scripts/data.ts --verify` does.
 *
 * @param dir the folder with the files
 * @param split `"train"` or `"test"`
 * @param options `limit`: keep only the first `limit` images
 * @returns images `[count, 28, 28]`, labels `[count]`
 * @throws {DataError} `missing-file`, `read-failed`, and see {@linkcode readFashionMnist}
 * @throws {ArgumentError} if an argument or option is of another kind
 * @throws {RangeError} if `limit` is not a positive integer
 *
 * @example
 * ```ts
 * import { loadFashionMnist } from "@resnette/resnette/data";
 * import { assertEquals } from "@std/assert";
 *
 * const test = await loadFashionMnist("data/fashion-mnist", "test", { limit: 100 });
 * assertEquals(test.count, 100);
 * assertEquals(test.classes[test.labels[0]!], "Ankle boot");
 * ```
 */
export async function loadFashionMnist(
  dir: string,
  split: Split,
  options: { limit?: number } = {},
): Promise<ImagesInMemory> {
  checkString("loadFashionMnist", "dir", dir);
  if (dir === "") refuse("loadFashionMnist", "dir", "a folder's path", dir);
  checkChoice("loadFashionMnist", "split", split, Object.keys(FASHION_MNIST_FILES));
  checkOptions("loadFashionMnist", options, ["limit"]);
  checkDeno("loadFashionMnist", "fetchFashionMnist gets the files from a server");
  const files = FASHION_MNIST_FILES[split];
  const open = async ({ name }: DataFile): Promise<NamedStream> => {
    const path = await findFile(dir, name);
    return { stream: await openFile(path), name: path };
  };
  const images = await open(files.images);
  let labels: NamedStream;
  try {
    labels = await open(files.labels);
  } catch (error) {
    await images.stream.cancel();
    throw error;
  }
  return await readFashionMnist(split, images, labels, options);
}
