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
      if (shown < shape[0]! && shape[1]! > 1) {
        words.append(make("small", {}, `${shown} of ${shape[0]} maps`));
      }
      return make("li", {}, words, this.#rows[i]!.canvas);
    }));
  }
}

/** Maps beside each other, with a pixel in between. */
function drawMaps(canvas: HTMLCanvasElement, { maps, shown, height, width }: LayerView): void {
  const all = shown * (width + 1) - 1;
  if (canvas.width !== all || canvas.height !== height) {
    [canvas.width, canvas.height] = [all, height];
    canvas.classList.toggle("flat", height === 1);
  }
  const image = new ImageData(all, height), pixels = new Uint32Array(image.data.buffer);
  for (let map = 0; map < shown; map++) {
    for (let y = 0; y < height; y++) {
      let from = (map * height + y) * width, to = y * all + map * (width + 1);
      for (let x = 0; x < width; x++) pixels[to++] = grey(maps[from++]!);
    }
  }
  canvas.getContext("2d")!.putImageData(image, 0, 0);
}

/** A pixel of a canvas, as all machines that have browsers hold it. */
const grey = (value: number) => 0xff000000 | value * 0x010101;
