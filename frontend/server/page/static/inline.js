// Markdown inside a paragraph: emphasis, code, links. Makes text nodes and a few known elements; nothing is ever HTML.
// A text may be made to take long: every search here has a bound, or is not repeated once it has found nothing.

import { h } from "./dom.js";

const DEEPEST = 6;
const LONGEST = 50000;
const LONGEST_LABEL = 1000;
const MARKS = [
  ["***", (inner) => h("strong", {}, h("em", {}, ...inner))],
  ["**", (inner) => h("strong", {}, ...inner)],
  ["__", (inner) => h("strong", {}, ...inner)],
  ["~~", (inner) => h("del", {}, ...inner)],
  ["*", (inner) => h("em", {}, ...inner)],
  ["_", (inner) => h("em", {}, ...inner)],
];
const SPECIAL = /[\\`*_~![<\n]|https?:\/\//g;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const ANGLED_URL = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/y;
const BARE_URL = /https?:\/\/[^\s<>"'`]+/y;
const LINK_REST = /\((<[^<>\n]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)(?:\s+(?:"[^"\n]*"|'[^'\n]*'))?\s*\)/y;
const WORD = /[\p{L}\p{N}]/u;

/** DOM nodes of a paragraph's text. */
export function inline(text, depth = 0) {
  if (depth > DEEPEST || text.length > LONGEST) return [document.createTextNode(text)];
  return new Scanner(text, depth).run();
}

class Scanner {
  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
    this.nodes = [];
    this.plain = "";
    this.missing = new Set();
  }

  run() {
    let at = 0;
    while (at < this.text.length) {
      SPECIAL.lastIndex = at;
      const found = SPECIAL.exec(this.text);
      const next = found ? found.index : this.text.length;
      this.plain += this.text.slice(at, next);
      if (!found) break;
      at = this.special(next);
    }
    this.flush();
    return this.nodes;
  }

  /** Handle what begins at `at`; returns where to go on. */
  special(at) {
    const sign = this.text[at];
    const end =
      (sign === "\\" && this.escape(at)) ||
      (sign === "\n" && this.lineEnd(at)) ||
      (sign === "`" && this.code(at)) ||
      ((sign === "[" || sign === "!") && this.link(at)) ||
      (sign === "<" && this.angled(at)) ||
      (sign === "h" && this.bareUrl(at)) ||
      ("*_~".includes(sign) && this.emphasis(at));
    if (end) return end;
    this.plain += sign;
    return at + 1;
  }

  escape(at) {
    const next = this.text[at + 1];
    if (next === "\n") return this.lineEnd(at + 1, true);
    if (next === undefined || !PUNCTUATION.test(next)) return 0;
    this.plain += next;
    return at + 2;
  }

  /** A line's end is a break: models mean it so. */
  lineEnd(at) {
    this.plain = this.plain.trimEnd();
    this.push(h("br"));
    return at + 1;
  }

  code(at) {
    let run = 1;
    while (this.text[at + run] === "`") run += 1;
    const fence = "`".repeat(run);
    const end = this.find(fence, at + run);
    if (end < 0) {
      this.plain += fence;
      return at + run;
    }
    const inner = this.text.slice(at + run, end).replace(/\n/g, " ");
    const padded = inner.startsWith(" ") && inner.endsWith(" ") && inner.trim();
    this.push(h("code", { text: padded ? inner.slice(1, -1) : inner }));
    return end + run;
  }

  emphasis(at) {
    for (const [mark, make] of MARKS) {
      if (!this.text.startsWith(mark, at)) continue;
      const begin = at + mark.length;
      const after = this.text[begin];
      if (after === undefined || /\s/.test(after)) continue;
      if (mark[0] === "_" && at > 0 && WORD.test(this.text[at - 1])) continue;
      const end = this.closing(mark, begin);
      if (end < 0) continue;
      this.push(make(inline(this.text.slice(begin, end), this.depth + 1)));
      return end + mark.length;
    }
    let run = 1;
    while (this.text[at + run] === this.text[at]) run += 1;
    this.plain += this.text.slice(at, at + run);
    return at + run;
  }

  closing(mark, from) {
    for (let end = this.find(mark, from + 1), tries = 0; end >= 0 && tries < 50; end = this.find(mark, end + 1), tries += 1) {
      const space = /\s/.test(this.text[end - 1]);
      const longer = mark.length === 1 && (this.text[end + 1] === mark || this.text[end - 1] === mark);
      const inWord = mark[0] === "_" && WORD.test(this.text[end + mark.length] ?? " ");
      if (!space && !longer && !inWord) return end;
    }
    return -1;
  }

  /** Where `mark` comes next; what is not found once is not looked for again. */
  find(mark, from) {
    if (this.missing.has(mark)) return -1;
    const end = this.text.indexOf(mark, from);
    if (end < 0) this.missing.add(mark);
    return end;
  }

  /** `[words](address)`; an image becomes a link, for loading it would tell somebody that it was read. */
  link(at) {
    const image = this.text[at] === "!";
    const open = image ? at + 1 : at;
    if (this.text[open] !== "[") return 0;
    const length = this.text.slice(open + 1, open + LONGEST_LABEL).indexOf("](");
    if (length < 0) return 0;
    const words = this.text.slice(open + 1, open + 1 + length);
    LINK_REST.lastIndex = open + 2 + length;
    const found = LINK_REST.exec(this.text);
    if (!found) return 0;
    const label = image ? [document.createTextNode(words || "image")] : inline(words, DEEPEST);
    this.push(linkTo(found[1].replace(/^<|>$/g, ""), label));
    return LINK_REST.lastIndex;
  }

  angled(at) {
    ANGLED_URL.lastIndex = at;
    const found = ANGLED_URL.exec(this.text);
    if (!found) return 0;
    this.push(linkTo(found[1], [document.createTextNode(found[1])]));
    return ANGLED_URL.lastIndex;
  }

  bareUrl(at) {
    BARE_URL.lastIndex = at;
    const found = BARE_URL.exec(this.text);
    if (!found || (at > 0 && WORD.test(this.text[at - 1]))) return 0;
    let end = found[0].length;
    while (".,;:!?*_~".includes(found[0][end - 1])) end -= 1;
    let url = found[0].slice(0, end);
    if (url.endsWith(")") && !url.includes("(")) url = url.slice(0, -1);
    this.push(linkTo(url, [document.createTextNode(url)]));
    return at + url.length;
  }

  push(node) {
    this.flush();
    this.nodes.push(node);
  }

  flush() {
    if (this.plain) this.nodes.push(document.createTextNode(this.plain));
    this.plain = "";
  }
}

/** A link to another site in a tab of its own; an address of any other kind stays text. */
function linkTo(address, label) {
  let url;
  try {
    url = new URL(address);
  } catch {
    url = null;
  }
  if (!url || !["http:", "https:", "mailto:"].includes(url.protocol)) return h("span", { title: address.slice(0, 200) }, ...label);
  const props = { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow", title: url.href.slice(0, 200) };
  return h("a", props, ...label);
}
