/**
 * A document of Markdown and figures, as two files: `report.md`, whose figures lie beside it in
 * `report/`, and `report.html`, which holds all it needs and runs no script.
 *
 * @module
 */

import { CSS, render } from "@deno/gfm";
import { join } from "node:path";
import { writeFileWhole } from "../../lib/files/write.ts";
import { xml } from "./text.ts";

/** A picture of a document. */
export interface Figure {
  /** Its file's name, without `.svg`: small letters and dashes. */
  readonly name: string;
  /** What is to be seen, in Markdown. */
  readonly alt: string;
  /** The picture. */
  readonly svg: string;
  /** In the Markdown, stands for the picture: a drawing in Mermaid. */
  readonly mermaid?: string;
}

/** Parts of a document, from top to bottom: Markdown and figures. */
export type Block = string | Figure;

/** Colours of a picture that stands alone: those of the page it is in, it does not know. */
const ALONE = "<style>.plot{color:#1f2328}@media(prefers-color-scheme:dark){.plot{color:#f0f6fc}}" +
  "</style>";

const image = ({ name, alt }: Figure) => `![${alt}](report/${name}.svg)`;

/** The document as Markdown. */
export function toMarkdown(blocks: readonly Block[]): string {
  const texts = blocks.map((block) =>
    typeof block === "string"
      ? block
      : block.mermaid === undefined
      ? image(block)
      : `\`\`\`mermaid\n${block.mermaid}\n\`\`\``
  );
  return `${texts.join("\n\n")}\n`;
}

/** The document as one HTML file: no script, and nothing that is loaded from elsewhere. */
export function toHtml(title: string, blocks: readonly Block[]): string {
  const figures = new Map<string, string>();
  const texts = blocks.map((block) => {
    if (typeof block === "string") return block;
    figures.set(block.name, block.svg);
    return image(block);
  });
  // The sanitizer lets no charts through, so they take the places of their images afterwards.
  const body = render(texts.join("\n\n")).replace(
    /<img\b[^>]*\bsrc="report\/([a-z-]+)\.svg"[^>]*>/g,
    (found, name) => figures.get(name) ?? found,
  );
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>${xml(title)}</title>
<style>
${CSS}
main { max-width: 980px; margin: 0 auto; padding: 16px; }
.plot { max-width: 100%; height: auto; }
</style>
</head>
<body class="markdown-body" data-color-mode="auto" data-light-theme="light" data-dark-theme="dark">
<main>
${body}
</main>
</body>
</html>
`;
}

/** Writes both files and the figures into a folder, each whole or not at all. */
export async function writeDocument(
  folder: string,
  title: string,
  blocks: readonly Block[],
): Promise<void> {
  const write = (name: string, text: string) =>
    writeFileWhole(join(folder, name), new TextEncoder().encode(text));
  await Deno.mkdir(join(folder, "report"), { recursive: true });
  for (const block of blocks) {
    if (typeof block === "string" || block.mermaid !== undefined) continue;
    await write(`report/${block.name}.svg`, block.svg.replace(/<svg\b[^>]*>/, `$&${ALONE}`));
  }
  await write("report.md", toMarkdown(blocks));
  await write("report.html", toHtml(title, blocks));
}
