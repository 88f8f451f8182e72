/**
 * Results on the test images: which class was taken for which, and the worst mistakes.
 *
 * @module
 */

import { make, roving } from "./dom.ts";
import { draw } from "./pictures.ts";
import type { Mistake } from "./protocol.ts";

/** The most classes of which a matrix is drawn. */
const MOST_CLASSES = 16;

/** A table of how often each class was taken for each. */
export function showConfusion(
  root: HTMLElement,
  matrix: readonly (readonly number[])[],
  classes: readonly string[],
): void {
  if (classes.length > MOST_CLASSES) return showPairs(root, matrix, classes);
  const head = make(
    "tr",
    {},
    make("td"),
    ...classes.map((name) => {
      return make("th", { scope: "col" }, make("span", {}, name));
    }),
  );
  const rows = matrix.map((row, label) => {
    const all = Math.max(1, row.reduce((a, b) => a + b, 0));
    const cells = row.map((count, predicted) => {
      const words = `${classes[label]} taken for ${classes[predicted]}: ${count}`;
      const kind = label === predicted ? "right" : "wrong";
      const cell = make("td", { class: kind, title: words }, count === 0 ? "" : `${count}`);
      // The root lets rare mistakes be seen.
      cell.style.setProperty("--share", Math.sqrt(count / all).toFixed(2));
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, classes[label]!), ...cells);
  });
  const caption = make("caption", {}, "Rows are what it is, columns what it was taken for");
  root.replaceChildren(
    make("table", {}, caption, make("thead", {}, head), make("tbody", {}, ...rows)),
  );
}

/** The pairs of many classes that were confused most. */
function showPairs(
  root: HTMLElement,
  matrix: readonly (readonly number[])[],
  classes: readonly string[],
): void {
  const pairs = matrix.flatMap((row, label) =>
    row.map((count, predicted) => ({ count, label, predicted }))
  ).filter(({ count, label, predicted }) => count > 0 && label !== predicted)
    .sort((a, b) => b.count - a.count).slice(0, MOST_CLASSES);
  const items = pairs.map(({ count, label, predicted }) =>
    make("li", {}, `${classes[label]} taken for ${classes[predicted]}: ${count}`)
  );
  root.replaceChildren(make("ul", { class: "note" }, ...items));
}

/** The mistakes as pictures, each of which can be looked at. */
export function showMistakes(
  root: HTMLElement,
  mistakes: readonly Mistake[],
  classes: readonly string[],
  onChosen: (index: number) => void,
): void {
  root.replaceChildren(...mistakes.map((mistake) => {
    const [is, taken] = [classes[mistake.label]!, classes[mistake.predicted]!];
    const sure = `${Math.round(100 * mistake.probability)}%`;
    const taking = make("span", { class: "hidden" }, ", taken for ");
    const words = make("span", {}, is, taking, make("br"), make("b", {}, `${taken} ${sure}`));
    const title = `${is}, taken for ${taken}, ${sure} sure; look at it`;
    const button = make("button", { type: "button", title });
    button.append(draw(make("canvas"), mistake), words);
    button.addEventListener("click", () => onChosen(mistake.index));
    return make("li", {}, button);
  }));
  roving(root);
}
