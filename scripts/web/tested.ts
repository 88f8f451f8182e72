/**
 * What became of the test images: which class was taken for which, and the worst mistakes.
 *
 * @module
 */

import { make } from "./dom.ts";
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
  if (classes.length > MOST_CLASSES) {
    const right = matrix.reduce((sum, row, k) => sum + row[k]!, 0);
    root.replaceChildren(make("p", {}, `${right} are right, of ${classes.length} classes`));
    return;
  }
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
    const words = make("span", {}, make("del", {}, taken), ` ${sure}`, make("br"), is);
    const label = `${is}, taken for ${taken}, ${sure} sure; look at it`;
    const button = make("button", { type: "button", "aria-label": label, title: label });
    button.append(draw(make("canvas"), mistake), words);
    button.addEventListener("click", () => onChosen(mistake.index));
    return make("li", {}, button);
  }));
}
