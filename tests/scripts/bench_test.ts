/** `deno task bench`: everything that it measures can be measured. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { main } from "../bench/bench.ts";
import { call, deno } from "../call.ts";

Deno.test("deno task bench --quick measures every line, with the task's permissions", async () => {
  const { code, out, err } = await deno(["task", "-q", "bench", "--quick", "--json"]);
  assertEquals(code, 0, err);
  const { adapter, quick, ceiling, found } = JSON.parse(out);
  assert(adapter && quick && ceiling.gflops > 0 && ceiling.gbs > 0, out);
  const names: string[] = found.map(({ name }: { name: string }) => name);
  for (
    const word of ["matmul", "input gradient", "forward", "host's part", "planning", "reading"]
  ) {
    assert(names.some((name) => name.includes(word)), `${word}: ${names}`);
  }
  for (const { name, ms } of found) assert(ms > 0, `${name} took ${ms} ms`);
  for (const net of ["resnet18", "densenet121", "mobilenet_v2", "vit"]) {
    const { counts } = found.find(({ name }: { name: string }) =>
      name.startsWith(`${net} training`)
    );
    assert(counts.dispatches > counts.kernels && counts.kernels > 1, `${net}: ${counts.kernels}`);
    assert(counts.moved > 1e7, `${net} moves ${counts.moved} bytes`);
  }
});

Deno.test("deno task bench prints a line for each measurement, and explains itself", async () => {
  const { code, out } = await call(main, ["--quick", "--filter", "matmul [36"]);
  assertEquals(code, 0);
  assertMatch(out, /^ceilings .*\n\nmatmul \[36, .* ms .* GFLOP\/s +\d+%\n$/m);
  assertStringIncludes((await call(main, "--help")).out, "usage: deno task bench");
  assertEquals((await call(main, "--slow")).code, 2);
});
