/** Locks between processes, which are those of files that are open, also within one. */

import { assert, assertEquals } from "@std/assert";
import { isAt, takeLock } from "../../lib/files/lock.ts";
import { inFolder } from "../folder.ts";

Deno.test("a lock whose file goes while another one waits for it is of the file that is there", () =>
  inFolder(async (folder) => {
    const path = `${folder}/new/lock`, first = (await takeLock(path))!;
    assert(await isAt(first, path));
    assertEquals(await takeLock(path), undefined);
    const waiting = takeLock(path, { wait: true });
    await new Promise((resolve) => setTimeout(resolve, 50));
    Deno.removeSync(path);
    Deno.removeSync(`${folder}/new`);
    assert(!await isAt(first, path));
    first.close();
    using second = await waiting;
    assert(await isAt(second!, path));
    assertEquals(await takeLock(path), undefined);
  }));
