/** Paths, held against `node:path`. */

import { assertEquals } from "@std/assert";
import { posix } from "node:path";
import { basename, dirname, join } from "../../lib/files/paths.ts";

Deno.test({
  name: "paths are cut and joined as node:path does",
  ignore: Deno.build.os === "windows",
  fn() {
    const paths = [
      "a",
      "/a",
      "a/b",
      "/a/b/",
      "./a.b",
      "a/b//",
      "../x/y z",
      "/",
      "☃/é.png",
      "a\\b/c",
    ];
    for (const path of paths) {
      assertEquals(basename(path), posix.basename(path), path);
      assertEquals(dirname(path), posix.dirname(path), path);
    }
    for (const folder of ["a", "/", "a/", "/a/b", ".."]) {
      assertEquals(join(folder, "x"), posix.join(folder, "x"));
      assertEquals(join(folder, "x", "", "y"), posix.join(folder, "x", "y"));
      assertEquals(join(folder, ""), folder);
    }
  },
});
