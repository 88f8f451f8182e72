/**
 * Curves over the steps of a run, as SVG. Colours and strokes are the style sheet's.
 *
 * @module
 */

import { make } from "./dom.ts";

/** A curve. */
export interface Curve {
  /** What the style sheet calls it. */
  readonly name: string;
  /** Whether its points are few, and to be seen. */
  readonly dots?: boolean;
}

/** Points of a curve from which on every second one is left out. */
const MOST_POINTS = 1200;
/** What the axis goes to while there is nothing: a loss of ten classes that are guessed. */
const USUAL = 2.3;
/** The side of the drawing, which is stretched to its place. */
const SIDE = 1000;
const SVG = "http://www.w3.org/2000/svg";

/** Some curves in one frame. */
export class Chart {
  readonly #points = new Map<string, [step: number, value: number][]>();
  readonly #paths = new Map<string, SVGPathElement>();
  readonly #marks = new Map<string, SVGPathElement>();
  readonly #grid = document.createElementNS(SVG, "path");
  readonly #labels = make("div", { class: "labels", "aria-hidden": "true" });
  readonly #steps = make("div", { class: "steps", "aria-hidden": "true" });
  readonly #svg = document.createElementNS(SVG, "svg");
  /** The last step of the axis. */
  #end = 1;
  #drawing = 0;
  /** The axes that are drawn. */
  #drawn = "";

  /** In `root`; `top` is the largest value, or undefined for whatever there is. */
  constructor(
    root: HTMLElement,
    readonly title: string,
    readonly curves: readonly Curve[],
    readonly top?: number,
  ) {
    const svg = this.#svg;
    svg.setAttribute("viewBox", `0 0 ${SIDE} ${SIDE}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    this.#grid.setAttribute("class", "grid");
    svg.append(this.#grid);
    for (const { name, dots } of curves) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", `curve ${name}`);
      svg.append(path);
      this.#paths.set(name, path);
      if (!dots) continue;
      const marks = document.createElementNS(SVG, "path");
      marks.setAttribute("class", `curve ${name} dots`);
      svg.append(marks);
      this.#marks.set(name, marks);
    }
    root.replaceChildren(this.#labels, svg, this.#steps);
    this.clear(1);
  }

  /** No points, and an axis of so many steps. */
  clear(end: number): void {
    this.curves.forEach(({ name }) => this.#points.set(name, []));
    this.#end = end;
    this.#draw();
  }

  /** One point more. */
  add(curve: string, step: number, value: number): void {
    if (!Number.isFinite(value)) return;
    const points = this.#points.get(curve)!;
    points.push([step, value]);
    if (points.length > MOST_POINTS) this.#points.set(curve, points.filter((_, i) => i % 2 === 1));
    this.#draw();
  }

  /** Draws before the next frame, once. */
  #draw(): void {
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#render();
    });
  }

  #render(): void {
    const values = [...this.#points.values()].flat();
    const most = this.top ?? (Math.max(0, ...values.map(([, value]) => value)) || USUAL);
    const end = Math.max(this.#end, ...values.map(([step]) => step));
    const tick = niceTick(most), top = this.top ?? Math.ceil(most / tick) * tick;
    const ticks = Array.from({ length: Math.floor(top / tick + 1e-6) + 1 }, (_, i) => i * tick);
    const x = (step: number) => (SIDE * step / end).toFixed(1);
    const y = (value: number) => (SIDE * (1 - value / top)).toFixed(1);
    this.#axes(ticks, tick, end, y);
    for (const { name } of this.curves) {
      const points = this.#points.get(name)!;
      const line = points.map(([step, value], i) => `${i ? "L" : "M"}${x(step)} ${y(value)}`);
      this.#paths.get(name)!.setAttribute("d", line.join(""));
      // A line of no length is drawn as its round ends.
      const dots = points.map(([step, value]) => `M${x(step)} ${y(value)}h0`);
      this.#marks.get(name)?.setAttribute("d", dots.join(""));
    }
    const last = this.curves.flatMap(({ name }) => {
      const value = this.#points.get(name)!.at(-1)?.[1];
      return value === undefined ? [] : [`${name} ${value.toFixed(3)}`];
    });
    this.#svg.setAttribute("aria-label", `${this.title}: ${last.join(", ") || "nothing yet"}`);
  }

  /** The grid and its numbers, if they are other ones than before. */
  #axes(
    ticks: readonly number[],
    tick: number,
    end: number,
    y: (value: number) => string,
  ): void {
    const key = `${ticks} ${end}`;
    if (this.#drawn === key) return;
    this.#drawn = key;
    this.#grid.setAttribute("d", ticks.map((value) => `M0 ${y(value)}H${SIDE}`).join(""));
    const digits = tick < 0.1 ? 2 : tick < 1 ? 1 : 0;
    const words = ticks.map((value) =>
      this.top === 1 ? `${Math.round(100 * value)}%` : value.toFixed(digits)
    );
    this.#labels.replaceChildren(...words.toReversed().map((word) => make("span", {}, word)));
    const steps = `${end.toLocaleString("en")} steps`;
    this.#steps.replaceChildren(make("span", {}, "0"), make("span", {}, steps));
  }
}

/** 1, 2 or 5 times a power of ten, a fifth to a half of `most`. */
function niceTick(most: number): number {
  const rough = most / 4, power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((k) => k * power).find((tick) => tick >= rough * 0.999)!;
}
