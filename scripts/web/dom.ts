/**
 * The page's elements.
 *
 * @module
 */

/** The element that `index.html` has under an id. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return element as E;
}

/** A new element with attributes and what is in it. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string>> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Changes an element's text, if it is another one: screen readers read what is set anew. */
export function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes buttons one stop for the keyboard: the arrow keys go from one to the next. */
export function roving(root: HTMLElement): void {
  const buttons = [...root.querySelectorAll("button")];
  buttons.forEach((button, i) => button.tabIndex = i === 0 ? 0 : -1);
  root.onkeydown = (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    if (by === undefined || at < 0) return;
    event.preventDefault();
    buttons[at]!.tabIndex = -1;
    const next = buttons[(at + by + buttons.length) % buttons.length]!;
    next.tabIndex = 0;
    next.focus();
  };
}
