/**
 * A network as a picture: its layers from top to bottom, each with the shape of its output. As Mermaid
 * for Markdown, and as SVG where no script runs.
 *
 * @module
 */

import { formatShape } from "../../lib/graph/shape.ts";
import type { LayerSummary } from "../../lib/nn/summary.ts";
import { plain, whole, xml } from "./text.ts";

/** Whether a layer is drawn as a frame around those it calls, which run one after the other. */
const isChain = ({ kind, layers }: LayerSummary) => kind === "Sequential" && layers.length > 0;

/** What is written about a layer. */
function wordsOf({ name, kind, shape, parameters }: LayerSummary): [string, string] {
  const counted = parameters > 0 ? `, ${whole(parameters)} parameters` : "";
  return [`${name}: ${kind}`, `${formatShape(shape)}${counted}`];
}

/** As Mermaid's text, in which quotes and the like are entities. */
const mermaid = (text: string) =>
  plain(text).replace(/["&#;<>`]/g, (char) => `#${char.charCodeAt(0)};`);

/** A flow chart in Mermaid, without the fence around it. */
export function networkMermaid(net: LayerSummary, input: string): string {
  const lines = ["flowchart TD", `  x(["input ${mermaid(input)}"])`];
  let before = "x", count = 0;
  const links: string[] = [];
  const visit = (layer: LayerSummary, indent: string) => {
    const id = `n${count++}`;
    if (isChain(layer)) {
      lines.push(`${indent}subgraph ${id}["${mermaid(layer.name)}"]`);
      layer.layers.forEach((inner) => visit(inner, `${indent}  `));
      lines.push(`${indent}end`);
    } else {
      lines.push(`${indent}${id}["${wordsOf(layer).map(mermaid).join("<br>")}"]`);
      links.push(`  ${before} --> ${id}`);
      before = id;
    }
  };
  net.layers.forEach((layer) => visit(layer, "  "));
  return [...lines, ...links].join("\n");
}

const WIDTH = 420;
const BOX = { height: 40, gap: 18, padding: 12, title: 20 };

/** The same picture as SVG. */
export function networkSvg(net: LayerSummary, input: string): string {
  const parts: string[] = [];
  let y = 1, previous: number | undefined;
  const box = (inset: number, words: readonly string[], round: number) => {
    if (previous !== undefined) {
      parts.push(
        `<path d="M${WIDTH / 2} ${previous}V${
          y - 1
        }m-4-6l4 6l4-6" fill="none" stroke="currentColor"/>`,
      );
    }
    parts.push(
      `<rect x="${40 + inset}" y="${y}" width="${WIDTH - 80 - 2 * inset}" height="${BOX.height}" ` +
        `rx="${round}" fill="#2f81f7" fill-opacity=".15" stroke="#2f81f7"/>`,
      ...words.map((line, i) =>
        `<text x="${WIDTH / 2}" y="${y + BOX.height / 2 + 5 + (i - (words.length - 1) / 2) * 16}">${
          xml(line)
        }</text>`
      ),
    );
    previous = y + BOX.height;
    y = previous + BOX.gap;
  };
  const visit = (layer: LayerSummary, inset: number) => {
    if (!isChain(layer)) return box(inset, wordsOf(layer), 4);
    const top = y;
    const at = parts.push("") - 1; // The frame, once its height is known, below what it frames.
    y += BOX.title + BOX.padding;
    layer.layers.forEach((inner) => visit(inner, inset + BOX.padding));
    y += BOX.padding - BOX.gap;
    parts[at] = `<rect x="${40 + inset}" y="${top}" width="${WIDTH - 80 - 2 * inset}" ` +
      `height="${y - top}" rx="6" fill="none" stroke="currentColor" stroke-opacity=".5"/>` +
      `<text x="${40 + inset + 8}" y="${top + 16}" style="text-anchor:start">${
        xml(layer.name)
      }</text>`;
    y += BOX.gap;
  };
  box(0, [`input ${input}`], 20);
  net.layers.forEach((layer) => visit(layer, 0));
  const height = y - BOX.gap + 1;
  return `<svg class="plot" role="img" aria-label="the network" xmlns="http://www.w3.org/2000/svg" ` +
    `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}">\n` +
    `<g font-family="sans-serif" font-size="12" text-anchor="middle" fill="currentColor">\n` +
    `${parts.join("\n")}\n</g>\n</svg>`;
}
