/**
 * A bar for each class: how likely the picture is one.
 *
 * @module
 */

import { make, setText } from "./dom.ts";

/** The bars of a list. */
export class Bars {
  #rows: { readonly row: HTMLElement; readonly value: HTMLElement }[] = [];

  constructor(readonly root: HTMLElement) {}

  /** A bar for each of these classes. */
  name(classes: readonly string[]): void {
    this.#rows = classes.map((name) => {
      const value = make("span", { class: "value" }, "–");
      const bar = make("span", { class: "bar", "aria-hidden": "true" });
      const row = make("li", {}, make("span", { class: "name", title: name }, name), bar, value);
      return { row, value };
    });
    this.root.replaceChildren(...this.#rows.map(({ row }) => row));
  }

  /** The probabilities; `label` is what it really is, if that is known. */
  show(probabilities: ArrayLike<number>, label?: number): void {
    const best = likeliestOf(probabilities);
    for (const [i, { row, value }] of this.#rows.entries()) {
      const p = probabilities[i] ?? 0;
      row.style.setProperty("--p", p.toFixed(4));
      row.classList.toggle("best", i === best);
      row.classList.toggle("label", i === label);
      setText(value, `${(100 * p).toFixed(p < 0.1 ? 1 : 0)}%`);
    }
  }
}

/** The class of the largest probability. */
export function likeliestOf(probabilities: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < probabilities.length; i++) {
    if (probabilities[i]! > probabilities[best]!) best = i;
  }
  return best;
}
