// deno-lint-ignore-file no-import-prefix -- Without a link to it, this folder is no package.
/**
 * Offline stand-in for `@deno/gfm`, for the Markdown that reports are written in: headings, tables,
 * lists, images, emphasis and code in a line. It is over the same npm packages as the real one, and
 * writes the same HTML but for the picture in a heading's anchor. `CSS` is a short style sheet in the
 * manner of GitHub's.
 *
 * @module
 */

import GitHubSlugger from "npm:github-slugger@^2.0";
import { Marked, Renderer, type Tokens } from "npm:marked@^17.0.1";
import sanitizeHtml from "npm:sanitize-html@^2.17.0";

const LINK_ICON =
  '<svg class="octicon octicon-link" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">' +
  '<path fill-rule="evenodd" d="M7 11l-1 1a2 2 0 01-3-3l3-3a2 2 0 013 0M9 5l1-1a2 2 0 013 3l-3 3a2 2 0 01-3 0"></path></svg>';

class GitHubRenderer extends Renderer {
  #slugger = new GitHubSlugger();

  override heading({ tokens, depth, text }: Tokens.Heading): string {
    const slug = this.#slugger.slug(text);
    return `<h${depth} id="${slug}"><a class="anchor" aria-hidden="true" tabindex="-1" ` +
      `href="#${slug}">${LINK_ICON}</a>${this.parser.parseInline(tokens)}</h${depth}>\n`;
  }

  override image({ href, title, text }: Tokens.Image): string {
    return `<img src="${href}" alt="${text}" title="${title ?? ""}" />`;
  }
}

/** Turns GitHub flavored Markdown into HTML that is safe to show. */
export function render(markdown: string): string {
  const html = new Marked().parse(markdown, { gfm: true, renderer: new GitHubRenderer() });
  const heading = ["id"], cell = ["colspan", "rowspan", "align", "width"];
  return sanitizeHtml(html, {
    allowedTags: [...sanitizeHtml.defaults.allowedTags, "img", "svg", "path"],
    allowedAttributes: {
      ...sanitizeHtml.defaults.allowedAttributes,
      img: ["src", "alt", "height", "width", "align", "title"],
      a: ["id", "aria-hidden", "href", "tabindex", "rel", "target", "title"],
      svg: ["viewBox", "width", "height", "aria-hidden", "background"],
      path: ["fill-rule", "d"],
      ...{ h1: heading, h2: heading, h3: heading, h4: heading, h5: heading, h6: heading },
      td: cell,
    },
    allowedClasses: { a: ["anchor"], svg: ["octicon", "octicon-link"] },
    parser: { lowerCaseAttributeNames: false },
    allowProtocolRelative: false,
  });
}

/** The style sheet of `.markdown-body`, light or dark by `data-color-mode`. */
export const CSS: string = `
.markdown-body {
  --fg: #1f2328; --bg: #ffffff; --muted: #59636e; --line: #d1d9e0; --soft: #f6f8fa; --link: #0969da;
  color: var(--fg); background: var(--bg); overflow-wrap: break-word;
  font: 16px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif;
}
.markdown-body[data-color-mode="dark"] {
  --fg: #f0f6fc; --bg: #0d1117; --muted: #9198a1; --line: #3d444d; --soft: #151b23; --link: #4493f8;
}
@media (prefers-color-scheme: dark) {
  .markdown-body[data-color-mode="auto"] {
    --fg: #f0f6fc; --bg: #0d1117; --muted: #9198a1; --line: #3d444d; --soft: #151b23; --link: #4493f8;
  }
}
.markdown-body h1, .markdown-body h2, .markdown-body h3,
.markdown-body h4, .markdown-body h5, .markdown-body h6 {
  margin: 24px 0 16px; font-weight: 600; line-height: 1.25;
}
.markdown-body h1 { font-size: 2em; padding-bottom: .3em; border-bottom: 1px solid var(--line); }
.markdown-body h2 { font-size: 1.5em; padding-bottom: .3em; border-bottom: 1px solid var(--line); }
.markdown-body h3 { font-size: 1.25em; }
.markdown-body p, .markdown-body ul, .markdown-body ol, .markdown-body table,
.markdown-body pre, .markdown-body blockquote { margin: 0 0 16px; }
.markdown-body a { color: var(--link); }
.markdown-body .anchor { float: left; margin-left: -20px; padding-right: 4px; visibility: hidden; }
.markdown-body :is(h1, h2, h3, h4, h5, h6):hover .anchor { visibility: visible; }
.markdown-body img { max-width: 100%; }
.markdown-body code, .markdown-body pre {
  font: 85% ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--soft);
}
.markdown-body code { padding: .2em .4em; border-radius: 6px; }
.markdown-body pre { padding: 16px; overflow: auto; border-radius: 6px; }
.markdown-body pre code { padding: 0; font-size: 100%; }
.markdown-body blockquote { padding: 0 1em; color: var(--muted); border-left: .25em solid var(--line); }
.markdown-body table { border-collapse: collapse; display: block; overflow: auto; }
.markdown-body th, .markdown-body td { padding: 6px 13px; border: 1px solid var(--line); }
.markdown-body tr:nth-child(2n) { background: var(--soft); }
`;
