/** `deno task doctor`: what it looks at, what it says to do, and how it ends. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Finding } from "../../scripts/doctor/look.ts";
import { formatFinding, main } from "../../scripts/doctor.ts";
import { call, deno } from "../call.ts";
import { inFolder } from "../folder.ts";

const NO_ADAPTER = { DENO_WEBGPU_BACKEND: "vulkan", VK_DRIVER_FILES: "/dev/null" };
const CHECKS = [
  "Deno",
  "adapter",
  "driver",
  "limits",
  "features",
  "speed",
  "memory",
  "disk",
  "data",
];

Deno.test("deno task doctor tells programs all they may want to know, with its permissions", async () => {
  const { code, out, err } = await deno(["task", "-q", "doctor", "--json"]);
  assertEquals([code, err], [0, ""]);
  const { resnette, findings }: { resnette: string; findings: Finding[] } = JSON.parse(out);
  assertMatch(resnette, /^\d+\.\d+\.\d+$/);
  assertEquals(findings.map(({ check }) => check), [...CHECKS, "JSR"]);
  for (const { check, state, found, advice, facts } of findings) {
    assert(found !== "" && !found.startsWith("cannot be told"), `${check}: ${found}`);
    assertEquals(advice !== undefined, state !== "ok", `${check} is ${state}: ${advice}`);
    if (check !== "JSR") assert(facts, `${check} has no facts`);
  }
  const facts = Object.fromEntries(findings.map(({ check, facts }) => [check, facts!]));
  assertEquals(facts["Deno"]!["deno"], Deno.version.deno);
  assert(facts["speed"]!["gflops"] as number > 0.1 && facts["speed"]!["gbs"] as number > 0.1);
  assert(facts["limits"]!["maxBufferSize"] as number >= 2 ** 28);
  assert(facts["memory"]!["available"] as number > 0 && facts["disk"]!["available"] as number > 0);
  assertEquals(facts["data"], { train: 60_000, test: 10_000 });
});

Deno.test("deno task doctor exits 1 where there is no adapter, and says what to install", async () => {
  const { code, out } = await deno(["task", "-q", "doctor"], { env: NO_ADAPTER });
  assertEquals(code, 1, out);
  assertMatch(
    out,
    /^ERROR {4}adapter {3}none, DENO_.*=vulkan, VK_.*=\/dev\/null\n {19}→ install a Vulkan driver/m,
  );
  assertMatch(out, /^ok {7}Deno {6}2\./m);
  assertEquals(out.match(/^ERROR/gm)!.length, 1);
});

Deno.test("missing data are a warning, damaged ones an error, JSR out of reach a warning", () =>
  inFolder(async (folder) => {
    await using server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {} },
      ({ url }) => new Response(null, { status: url.endsWith("/there") ? 200 : 503 }),
    );
    const origin = `http://127.0.0.1:${server.addr.port}`;
    const look = async (path: string) => {
      const where = { data: folder, jsr: `${origin}/${path}` };
      const { code, out } = await call((args) => main(args, where), ["--json"]);
      const { findings }: { findings: Finding[] } = JSON.parse(out);
      const of = (check: string) => findings.find((finding) => finding.check === check)!;
      return { code, data: of("data"), jsr: of("JSR") };
    };
    const missing = await look("there");
    assertEquals([missing.code, missing.data.state, missing.jsr.state], [0, "warning", "ok"]);
    assertStringIncludes(missing.data.advice!, "deno task data");
    for (const part of ["train", "t10k"]) {
      for (const kind of ["images-idx3", "labels-idx1"]) {
        await Deno.writeTextFile(`${folder}/${part}-${kind}-ubyte.gz`, "not gzip");
      }
    }
    const damaged = await look("down");
    assertEquals([damaged.code, damaged.data.state, damaged.jsr.state], [1, "error", "warning"]);
    assertStringIncludes(damaged.data.advice!, "deno task data --verify");
    assertStringIncludes(damaged.jsr.found, "answers 503");
  }));

Deno.test("a finding is a line, and a second one with what to do", () => {
  const finding: Finding = { check: "disk", state: "ok", found: "3 GiB free here" };
  assertEquals(formatFinding(finding), "ok       disk      3 GiB free here");
  assertEquals(
    formatFinding({ ...finding, state: "warning", advice: "remove some" }),
    `warning  disk      3 GiB free here\n${" ".repeat(19)}→ remove some`,
  );
});

Deno.test("a wrong command line of deno task doctor exits 2, and --help 0", async () => {
  for (const words of [["--fix"], ["now"]]) {
    const { code, out, err } = await call(main, words);
    assertEquals([code, out], [2, ""]);
    assertStringIncludes(err, `error: unknown: ${words[0]}`);
  }
  const { code, out } = await call(main, ["--help"]);
  assertEquals(code, 0);
  assert(out.startsWith("usage: deno task doctor [--json]"));
  assert(out.split("\n").every((line) => line.length <= 100));
});
