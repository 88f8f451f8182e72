// deno-lint-ignore-file no-import-prefix -- Without a link to it, this folder is no package.
/**
 * Offline stand-in for `@deno/gfm`: `render`, `CSS` and `KATEX_CSS`, over the same two npm packages
 * as the real one, with the same anchors, links and sanitizer.
 *
 * It leaves out syntax highlighting, emoji, alerts, footnotes, `Renderer`, `Marked` and `strip`. Math
 * stays text, so `KATEX_CSS` is empty, and `CSS` is a short style sheet in the manner of GitHub's.
 *
 * @module
 */

import { Marked, Renderer } from "npm:marked@^12.0.2";
// @ts-types="npm:@types/sanitize-html@^2.16.0"
import sanitizeHtml from "npm:sanitize-html@^2.17.0";

/** Options of {@linkcode render}. */
export interface RenderOptions {
  /** What the links are relative to. */
  baseUrl?: string | undefined;
  /** What images and videos are relative to: `baseUrl` by default. */
  mediaBaseUrl?: string | undefined;
  /** Without paragraphs. */
  inline?: boolean;
  /** Let iframes through. */
  allowIframes?: boolean;
  /** Let MathML through. */
  allowMath?: boolean;
  /** Let everything through. */
  disableHtmlSanitization?: boolean;
  /** More classes to let through, by element. */
  allowedClasses?: Record<string, string[] | false | undefined>;
  /** More elements to let through. */
  allowedTags?: string[];
  /** More attributes to let through, by element. */
  allowedAttributes?: Record<string, sanitizeHtml.AllowedAttribute[]>;
  /** A line break is a line break. */
  breaks?: boolean;
}

const LINK_ICON =
  '<svg class="octicon octicon-link" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">' +
  '<path fill-rule="evenodd" d="M7 11l-1 1a2 2 0 01-3-3l3-3a2 2 0 013 0M9 5l1-1a2 2 0 013 3l-3 3a2 2 0 01-3 0"></path></svg>';

const MATH_TAGS = [
  ..."math maction annotation annotation-xml menclose merror mfenced mfrac mi mmultiscripts".split(
    " ",
  ),
  ..."mn mo mover mpadded mphantom mprescripts mroot mrow ms semantics mspace msqrt mstyle".split(
    " ",
  ),
  ..."msub msup msubsup mtable mtd mtext mtr".split(" "),
];

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** Makes GitHub's anchors: lower case, no punctuation, `-1` and so on for a name used again. */
function slugger(): (text: string) => string {
  const used = new Map<string, number>();
  return (text) => {
    const slug = text.toLowerCase().trim().replace(/<[^>]*>/g, "")
      .replace(/[^\p{L}\p{N}\p{M}\s_-]/gu, "").replace(/\s/g, "-");
    const count = used.get(slug) ?? 0;
    used.set(slug, count + 1);
    return count === 0 ? slug : `${slug}-${count}`;
  };
}

function absolute(url: string, base: string | undefined): string | undefined {
  if (base === undefined) return url;
  return URL.parse(url, base)?.href;
}

class GitHubRenderer extends Renderer {
  #slug = slugger();
  #baseUrl: string | undefined;

  constructor(baseUrl: string | undefined) {
    super();
    this.#baseUrl = baseUrl;
  }

  override heading(text: string, level: number, raw: string): string {
    const slug = this.#slug(raw);
    return `<h${level} id="${slug}"><a class="anchor" aria-hidden="true" tabindex="-1" ` +
      `href="#${slug}">${LINK_ICON}</a>${text}</h${level}>`;
  }

  override image(src: string, title: string | null, alt: string): string {
    return `<img src="${src}" alt="${alt}" title="${title ?? ""}" />`;
  }

  override code(code: string): string {
    return `<pre><code class="notranslate">${escape(code)}</code></pre>`;
  }

  override link(href: string, title: string | null | undefined, text: string): string {
    const titled = title ? ` title="${title}"` : "";
    if (href.startsWith("#")) return `<a href="${href}"${titled}>${text}</a>`;
    const url = absolute(href, this.#baseUrl) ?? href;
    return `<a href="${url}"${titled} rel="noopener noreferrer">${text}</a>`;
  }
}

/** Turns GitHub flavored Markdown into HTML that is safe to show. */
export function render(markdown: string, opts: RenderOptions = {}): string {
  const mediaBaseUrl = opts.mediaBaseUrl ?? opts.baseUrl;
  const marked = new Marked();
  const options = {
    gfm: true,
    breaks: opts.breaks ?? false,
    renderer: new GitHubRenderer(opts.baseUrl),
  };
  const html = String(
    opts.inline ? marked.parseInline(markdown, options) : marked.parse(markdown, options),
  );
  if (opts.disableHtmlSanitization) return html;

  function media(tagName: string, attribs: sanitizeHtml.Attributes): sanitizeHtml.Tag {
    const src = attribs.src && absolute(attribs.src, mediaBaseUrl);
    const { src: _, ...rest } = attribs;
    return { tagName, attribs: src ? { src, ...rest } : rest };
  }

  return sanitizeHtml(html, {
    transformTags: { img: media, video: media },
    allowedTags: [
      ...sanitizeHtml.defaults.allowedTags,
      ..."img video svg path circle figure figcaption del details summary input".split(" "),
      ...(opts.allowIframes ? ["iframe"] : []),
      ...(opts.allowMath ? MATH_TAGS : []),
      ...(opts.allowedTags ?? []),
    ],
    allowedAttributes: {
      ...sanitizeHtml.defaults.allowedAttributes,
      img: ["src", "alt", "height", "width", "align", "title"],
      video: "src alt height width autoplay muted loop playsinline poster controls title".split(
        " ",
      ),
      a: ["id", "aria-hidden", "href", "tabindex", "rel", "target", "title"],
      svg: ["viewBox", "width", "height", "aria-hidden", "background"],
      path: ["fill-rule", "d"],
      circle: ["cx", "cy", "r", "stroke", "stroke-width", "fill", "alpha"],
      span: opts.allowMath ? ["aria-hidden", "style"] : [],
      h1: ["id"],
      h2: ["id"],
      h3: ["id"],
      h4: ["id"],
      h5: ["id"],
      h6: ["id"],
      td: ["colspan", "rowspan", "align"],
      th: ["colspan", "rowspan", "align"],
      iframe: ["src", "width", "height"],
      input: ["checked", "disabled", { name: "type", values: ["checkbox"] }],
      math: ["xmlns"],
      annotation: ["encoding"],
      details: ["open"],
      ...opts.allowedAttributes,
    },
    allowedClasses: {
      a: ["anchor"],
      code: ["notranslate"],
      svg: ["octicon", "octicon-link"],
      ...Object.fromEntries(
        Object.entries(opts.allowedClasses ?? {}).filter(([, classes]) => classes !== undefined),
      ) as Record<string, string[] | false>,
    },
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

/** The style sheet of formulas: empty here. */
export const KATEX_CSS: string = "";
