/** What a notebook shows of a value. */

import { assert, assertEquals } from "@std/assert";

/** Elements that are shown, and what their attributes may be. */
const ELEMENT =
  /^<(?:\/?(?:table|tr|th|td|div|code|pre|details|summary)|img|br)( (?:open|style="[\w:,.; ()-]*"|width="\d+"|alt="[^"<>]*"|src="data:image\/(?:png|svg\+xml);base64,[\w+/=]*"))*>$/;

/** Its text and its HTML, which must be harmless: elements in order, no handler, nothing from elsewhere. */
export async function displayOf(value: unknown): Promise<{ text: string; html: string }> {
  const show = (value as Record<symbol, () => unknown>)[Symbol.for("Jupyter.display")]!;
  const media = await show.call(value) as Record<string, string>;
  assertEquals(Object.keys(media), ["text/plain", "text/html"]);
  const { "text/plain": text, "text/html": html } = media as { [type: string]: string };
  const open: string[] = [];
  for (const [tag] of html!.matchAll(/<[^>]*>/g)) {
    assert(ELEMENT.test(tag), tag);
    const name = tag.match(/\w+/)![0];
    if (tag.startsWith("</")) assertEquals(open.pop(), name, html);
    else if (name !== "img" && name !== "br") open.push(name);
  }
  assertEquals(open, []);
  return { text: text!, html: html! };
}
