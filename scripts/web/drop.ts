/**
 * Files and folders that are dropped on the page.
 *
 * @module
 */

import type { FolderFile } from "./protocol.ts";

/** What was dropped: one file, or a folder with all that is in it. */
export type Dropped =
  | { readonly kind: "file"; readonly file: File }
  | { readonly kind: "folder"; readonly name: string; readonly files: readonly FolderFile[] };

/** What a drop brings; undefined if it is neither a file nor a folder. */
export async function dropped(data: DataTransfer): Promise<Dropped | undefined> {
  // The items are gone once this function has waited for something.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((x) => x !== null);
  const folder = entries.find((entry) => entry.isDirectory);
  if (folder) {
    const files: FolderFile[] = [];
    await collect(folder as FileSystemDirectoryEntry, "", files);
    return { kind: "folder", name: folder.name, files };
  }
  const [file] = data.files;
  return file && { kind: "file", file };
}

/** All files of a folder that was chosen in a dialog. */
export function chosen(list: FileList): Dropped | undefined {
  const [first] = list;
  if (!first) return undefined;
  const files = [...list].map((file) => {
    const path = file.webkitRelativePath;
    return { path: path.slice(path.indexOf("/") + 1), file };
  });
  return { kind: "folder", name: first.webkitRelativePath.split("/")[0]!, files };
}

/** All files below a folder, whose path is `path`. */
async function collect(
  folder: FileSystemDirectoryEntry,
  path: string,
  files: FolderFile[],
): Promise<void> {
  const reader = folder.createReader();
  for (;;) {
    // It hands out some at a time.
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject)
    );
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (entry.name.startsWith(".")) continue;
      const name = `${path}${entry.name}`;
      if (entry.isDirectory) await collect(entry as FileSystemDirectoryEntry, `${name}/`, files);
      else {
        const file = await new Promise<File>((resolve, reject) =>
          (entry as FileSystemFileEntry).file(resolve, reject)
        );
        files.push({ path: name, file });
      }
    }
  }
}
