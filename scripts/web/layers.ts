/**
 * The layers of the net: their shapes, and what they make of the picture.
 *
 * @module
 */

import { make } from "./dom.ts";
import type { LayerView } from "./protocol.ts";

/** The list of layers. */
export class Layers {
  #rows: { readonly key: string; readonly canvas: HTMLCanvasElement }[] = [];

  constructor(readonly root: HTMLElement) {}

  /** Shows them; rows stay where they are if the net is the same. */
  show(layers: readonly LayerView[]): void {
    const keys = layers.map(({ name, kind, shape }) => `${name} ${kind} ${shape}`);
    if (`${keys}` !== `${this.#rows.map(({ key }) => key)}`) this.#make(layers, keys);
    layers.forEach((layer, i) => drawMaps(this.#rows[i]!.canvas, layer));
  }

  #make(layers: readonly LayerView[], keys: readonly string[]): void {
    this.#rows = keys.map((key) => ({ key, canvas: make("canvas", { "aria-hidden": "true" }) }));
    this.root.replaceChildren(...layers.map(({ name, kind, shape, parameters, shown }, i) => {
      const words = make("p", {}, make("b", {}, name), ` ${kind} `);
      words.append(make("span", { class: "shape" }, shape.join("×")));
      if (parameters > 0) {
        words.append(make("small", {}, `${parameters.toLocaleString("en")} parameters`));
      }
      if (shape.length === 3 && shown < shape[0]!) {
        words.append(make("small", {}, `the first ${shown} maps`));
      }
      return make("li", {}, words, this.#rows[i]!.canvas);
    }));
  }
}

/** Maps beside each other, with a pixel in between. */
function drawMaps(canvas: HTMLCanvasElement, { maps, shown, height, width }: LayerView): void {
  const columns = Math.min(shown, 8), rows = Math.ceil(shown / columns), gap = shown > 1 ? 1 : 0;
  const [w, h] = [columns * (width + gap) - gap, rows * (height + gap) - gap];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const image = new ImageData(w, h);
  for (let map = 0; map < shown; map++) {
    const left = (map % columns) * (width + gap), top = Math.floor(map / columns) * (height + gap);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const value = maps[(map * height + y) * width + x]!;
        image.data.set([value, value, value, 255], 4 * ((top + y) * w + left + x));
      }
    }
  }
  canvas.getContext("2d")!.putImageData(image, 0, 0);
}
