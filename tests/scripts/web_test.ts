/**
 * `deno task web`: the folder that it makes, what it serves, and how much that is. What the page does is
 * in `tests/browser/web.ts`.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { answer, build, HEADERS, POLICY } from "../../scripts/web.ts";
import { deno, Process } from "../call.ts";
import { inFolder } from "../folder.ts";
