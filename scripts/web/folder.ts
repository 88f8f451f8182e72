/**
 * A folder of one's own images as a data set, split as `deno task train --data` does. The browser
 * decodes; what it cannot decode is left out, and told.
 *
 * @module
 */

import type { ImagesInMemory } from "../../lib/data/dataset.ts";
import { DataError } from "../../lib/data/error.ts";
import { findClasses, type FoundImage } from "../../lib/data/image_folder.ts";
import { isGrey } from "../../lib/files/image.ts";
import { resizeBytes } from "../../lib/ops/resize.ts";
import type { DataSource } from "../../lib/train/checkpoint.ts";
import type { Data } from "./data.ts";
import { GivenFolder } from "./given_folder.ts";
import { FOLDER_SIDE } from "./models.ts";
import { decode } from "./prepare.ts";
import type { FolderFile } from "./protocol.ts";

/** Bytes of a file that mostly say whether it is grey. */
const HEAD_BYTES = 2 ** 16;
/** The share of each class to test with, where the folder does not say. */
const TEST_SHARE = 0.2;
/** The most classes: labels are bytes. */
const MOST_CLASSES = 256;

/**
 * Reads the images of a folder.
 *
 * @throws {DataError} where there are too few, or not two classes of them.
 */
export async function readFolder(
  name: string,
  files: readonly FolderFile[],
  seed: number,
  onRead: (share: number) => void,
  source: DataSource = { kind: "folder", path: name },
): Promise<Data> {
  const folder = new GivenFolder(name, files), testShare = TEST_SHARE;
  const { classes, images, skipped, notes } = await findClasses(folder, await folder.list(""), {
    testShare,
    seed,
  });
  if (classes.length > MOST_CLASSES) {
    const what = `has ${classes.length} classes; here at most ${MOST_CLASSES} are told apart`;
    throw new DataError("too-large", name, what);
  }
  const channels = await areGrey(images) ? 1 : 3, size = channels * FOLDER_SIDE ** 2;
  const parts = [false, true].map((part) => {
    const count = images.filter(({ test }) => test === part).length;
    return { images: new Uint8Array(count * size), labels: new Uint8Array(count), count: 0 };
  });
  for (const [i, { name, file, label, test }] of images.entries()) {
    try {
      const { pixels, height, width } = await decode(file, name, channels);
      const part = parts[Number(test)]!;
      const resized = resizeBytes(pixels, channels, height, width, FOLDER_SIDE, FOLDER_SIDE);
      part.images.set(resized, part.count * size);
      part.labels[part.count++] = label;
    } catch (error) {
      skipped.add("cannot be used", name, (error as Error).message.replace(`${name}: `, ""));
    }
    onRead((i + 1) / images.length);
  }
  const [train, test] = parts.map(({ images, labels, count }, part): ImagesInMemory => {
    if (count === 0) {
      const what = `none of the images to ${part ? "test with" : "train on"} can be read`;
      throw new DataError("no-images", name, what);
    }
    return {
      images: images.subarray(0, count * size),
      labels: labels.subarray(0, count),
      ...{ count, channels, height: FOLDER_SIDE, width: FOLDER_SIDE, classes },
    };
  }) as [ImagesInMemory, ImagesInMemory];
  const data: Data = {
    name,
    source,
    notes: [
      ...notes,
      ...skipped.list().map(({ reason, count, names }) =>
        `${count} skipped, ${reason}: ${names.join(", ")}${count > names.length ? ", …" : ""}`
      ),
    ],
    ...{ train, test },
    // Another seed chooses others to test with, as it does for the command.
    load: async (settings) =>
      settings.seed === seed ? data : await readFolder(name, files, settings.seed, onRead, source),
  };
  return data;
}

/** Whether all of the images are grey, by their headers. */
async function areGrey(images: readonly FoundImage<File>[]): Promise<boolean> {
  for (const { file } of images) {
    const head = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
    if (isGrey(head) === false) return false;
  }
  return true;
}
