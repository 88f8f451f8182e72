/**
 * Tests that a run's files are written whole or not at all. A crash of the machine is not tested.
 */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { removeUnfinished, WriteError, writeFileWhole } from "../../lib/files/write.ts";
import { inFolder } from "../folder.ts";

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
}

Deno.test("a file is written, overwritten shorter, and nothing else is left beside it", () =>
  inFolder(async (folder) => {
    const path = `${folder}/${"n".repeat(250)}`;
    const large = crypto.getRandomValues(new Uint8Array(65536));
    for (const content of [large, new Uint8Array([1, 2, 3]), new Uint8Array(0)]) {
      await writeFileWhole(path, content);
      assertEquals(await Deno.readFile(path), content);
    }
    assertEquals(names(folder), ["n".repeat(250)]);
  }));

Deno.test("only the viewed part of a buffer is written", () =>
  inFolder(async (folder) => {
    await writeFileWhole(`${folder}/a`, new Uint8Array([1, 2, 3, 4]).subarray(1, 3));
    assertEquals(await Deno.readFile(`${folder}/a`), new Uint8Array([2, 3]));
  }));

Deno.test("writers of one path do not mix their bytes", () =>
  inFolder(async (folder) => {
    const path = `${folder}/a`;
    const contents = Array.from({ length: 8 }, (_, i) => new Uint8Array(1_000_000).fill(i));
    await Promise.all(contents.map((content) => writeFileWhole(path, content)));
    const read = await Deno.readFile(path);
    assertEquals(read.length, 1_000_000);
    assert(read.every((byte) => byte === read[0]));
    assertEquals(names(folder), ["a"]);
  }));

Deno.test("what killed writers left is cleared away, and nothing else", () =>
  inFolder(async (folder) => {
    // As a killed process leaves it: everything but the rename.
    const rename = Deno.rename;
    const { promise, resolve } = Promise.withResolvers<void>();
    Deno.rename = () => {
      resolve();
      return new Promise(() => {});
    };
    void writeFileWhole(`${folder}/a`, new Uint8Array(9));
    await promise;
    Deno.rename = rename;
    assertEquals(names(folder).length, 1);
    const others = [".resnette-notes.txt", "a", "x.resnette-0.tmp"];
    for (const name of others) await Deno.writeTextFile(`${folder}/${name}`, "");
    await removeUnfinished(folder);
    assertEquals(names(folder), others);
    await removeUnfinished(`${folder}/missing`);
  }));

Deno.test("a folder that cannot hold the file fails, naming the path", () =>
  inFolder(async (folder) => {
    // A read-only folder would not stop root; a parent that is a file stops everyone.
    await Deno.writeTextFile(`${folder}/file`, "old");
    for (const path of [`${folder}/file/a`, `${folder}/missing/a`]) {
      const error = await assertRejects(
        () => writeFileWhole(path, new Uint8Array(1)),
        WriteError,
      );
      assertMatch(error.message, new RegExp(`^could not write ${path}: .* \\(os error \\d+\\)$`));
      assert(error.cause instanceof Error);
      // What is made of it about a folder, say, keeps the reason.
      const outer = new WriteError("b", error);
      assertEquals(outer.message, error.message.replace(path, "b"));
      assertEquals(outer.cause, error.cause);
    }
    assertEquals(await Deno.readTextFile(`${folder}/file`), "old");
    assertEquals(names(folder), ["file"]);
  }));

Deno.test("a path that is a folder fails and leaves nothing beside it", () =>
  inFolder(async (folder) => {
    await Deno.mkdir(`${folder}/a`);
    await Deno.writeTextFile(`${folder}/a/inside`, "old");
    await assertRejects(() => writeFileWhole(`${folder}/a`, new Uint8Array(1)), Error, folder);
    assertEquals(names(folder), ["a"]);
    assertEquals(names(`${folder}/a`), ["inside"]);
  }));

Deno.test("a failure at any step leaves the old file as it was and nothing beside it", async (t) => {
  const file = Deno.FsFile.prototype;
  const full = () => Promise.reject(new Error("No space left on device"));
  let writes = 0;
  const steps: [string, () => () => void][] = [
    ["the second write, after a short first one", () => {
      const write = file.write;
      file.write = function (bytes: Uint8Array) {
        return writes++ === 0 ? write.call(this, bytes.subarray(0, 10)) : full();
      };
      return () => file.write = write;
    }],
    ["the flush to disk", () => {
      const sync = file.sync;
      file.sync = full;
      return () => file.sync = sync;
    }],
    ["the rename", () => {
      const rename = Deno.rename;
      Deno.rename = full;
      return () => Deno.rename = rename;
    }],
  ];
  for (const [what, breakStep] of steps) {
    await t.step(what, () =>
      inFolder(async (folder) => {
        const path = `${folder}/a`;
        await Deno.writeTextFile(path, "old");
        const repair = breakStep();
        try {
          await assertRejects(
            () => writeFileWhole(path, new Uint8Array(100)),
            Error,
            `could not write ${path}: No space left on device`,
          );
        } finally {
          repair();
        }
        assertEquals(await Deno.readTextFile(path), "old");
        assertEquals(names(folder), ["a"]);
        await writeFileWhole(path, new Uint8Array([1]));
        assertEquals(await Deno.readFile(path), new Uint8Array([1]));
      }));
  }
  assertEquals(writes, 2);
});
