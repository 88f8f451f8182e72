/**
 * Makes the files of a report on one run, or on several.
 *
 * @module
 */

import { comparisonOf } from "./compare.ts";
import { writeDocument } from "./document.ts";
import { reportOn } from "./one.ts";
import type { Reported } from "./run.ts";
import { plain } from "./text.ts";

/** Writes `report.md` and `report.html` into the run's folder, or into another. */
export async function writeReport(run: Reported, folder: string = run.folder): Promise<void> {
  await writeDocument(folder, plain(run.name), await reportOn(run));
}

/** Writes the same files about several runs into a folder. */
export async function writeComparison(runs: readonly Reported[], folder: string): Promise<void> {
  const title = runs.map(({ name }) => plain(name)).join(", ");
  await writeDocument(folder, title, comparisonOf(runs));
}
