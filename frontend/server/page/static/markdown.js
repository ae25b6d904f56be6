// Markdown -> DOM, block by block, so that a growing text redraws only its last block.

import { copyFrom, h } from "./dom.js";
import { inline } from "./inline.js";

const FENCE = /^( {0,3})(`{3,}|~{3,}(?!~))([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s|$)/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)/;
const CELL_RULE = /^:?-+:?$/;
const DEEPEST = 8;
const MOST_COLUMNS = 32;
const MOST_ROWS = 500;
/** A larger table is shown as the text it is: a browser lays out cells in more than linear time. */

/** Draw `text` into `container`; blocks that have not changed since the last call are left as they are. */
export function render(container, text) {
  const blocks = split(text);
  const known = container.blocks ?? [];
  let same = 0;
  while (same < known.length && same < blocks.length && known[same].source === blocks[same].source) same += 1;
  while (container.childNodes.length > same) container.lastChild.remove();
  for (const block of blocks.slice(same)) container.append(draw(block, 0));
  container.blocks = blocks;
}

/** The blocks of a text: {kind, lines, source}. */
function split(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [kind, end] = blockAt(lines, at);
    const taken = lines.slice(at, end);
    blocks.push({ kind, lines: taken, source: `${kind}\n${taken.join("\n")}` });
    at = end;
  }
  return blocks;
}

/** Kind of the block that begins at a line, and the line after it. */
function blockAt(lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return ["code", fenceEnd(lines, at, fence[2])];
  if (HEADING.test(line)) return ["heading", at + 1];
  if (RULE.test(line)) return ["rule", at + 1];
  if (QUOTE.test(line)) return ["quote", runEnd(lines, at, (one) => QUOTE.test(one))];
  if (ITEM.test(line)) return ["list", listEnd(lines, at)];
  if (isTable(lines, at)) return ["table", runEnd(lines, at, (one) => one.includes("|"))];
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !interrupts(lines, end)) end += 1;
  return ["paragraph", end];
}

function interrupts(lines, at) {
  const line = lines[at];
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line) || isTable(lines, at);
}

function isTable(lines, at) {
  return lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("|") && cells(lines[at + 1]).every((cell) => CELL_RULE.test(cell));
}

function fenceEnd(lines, at, mark) {
  for (let end = at + 1; end < lines.length; end += 1) {
    const closing = lines[end].trim();
    if (closing.length >= mark.length && closing === mark[0].repeat(closing.length)) return end + 1;
  }
  return lines.length;
}

function runEnd(lines, at, belongs) {
  let end = at;
  while (end < lines.length && belongs(lines[end])) end += 1;
  return end;
}

function listEnd(lines, at) {
  let end = at + 1;
  while (end < lines.length) {
    const line = lines[end];
    if (!line.trim()) {
      const next = lines[end + 1] ?? "";
      if (!ITEM.test(next) && !/^\s{2,}\S/.test(next)) return end;
    } else if (!/^\s/.test(line) && !ITEM.test(line) && interrupts(lines, end)) {
      return end;
    }
    end += 1;
  }
  return end;
}

function draw(block, depth) {
  const { kind, lines } = block;
  if (depth > DEEPEST) return h("p", { text: lines.join("\n") });
  if (kind === "code") return codeBlock(lines);
  if (kind === "rule") return h("hr");
  if (kind === "heading") return heading(lines[0]);
  if (kind === "quote") return h("blockquote", {}, ...drawAll(lines.map((line) => line.replace(QUOTE, "")), depth + 1));
  if (kind === "list") return list(lines, depth);
  if (kind === "table") return table(lines);
  return h("p", {}, ...inline(lines.map((line) => line.trimStart()).join("\n")));
}

function drawAll(lines, depth) {
  return split(lines.join("\n")).map((block) => draw(block, depth));
}

/** The page has headings of its own above: an answer's begin at the third level. */
function heading(line) {
  const [begin, marks] = HEADING.exec(line);
  let words = line.slice(begin.length).trim();
  while (words.endsWith("#")) words = words.slice(0, -1);
  return h(`h${Math.min(6, marks.length + 2)}`, {}, ...inline(words.trim()));
}

function codeBlock(lines) {
  const [, indent, mark, info] = FENCE.exec(lines[0]);
  const [language] = info.trim().split(/\s/, 1);
  const last = lines.length > 1 && lines[lines.length - 1].trim().startsWith(mark) ? -1 : undefined;
  const text = lines.slice(1, last).map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line)).join("\n");
  const copy = h("button", { type: "button", class: "copy-code", "data-word": "Copy", "aria-label": "Copy code", text: "Copy" });
  copy.addEventListener("click", () => copyFrom(copy, text));
  const bar = h("div", { class: "code-bar" }, h("span", { text: language.slice(0, 30) || "text" }), copy);
  const label = language ? `Code in ${language.slice(0, 30)}` : "Code";
  return h("div", { class: "code" }, bar, h("pre", { tabindex: "0", role: "group", "aria-label": label }, h("code", { text })));
}

function list(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const ordered = /\d/.test(first[2]);
  const base = first[1].length;
  const items = [];
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (found && found[1].length <= base + 1) {
      items.push({ width: found[0].length, lines: [line.slice(found[0].length)] });
    } else {
      const item = items[items.length - 1];
      const blank = /^\s*/.exec(line)[0].length;
      item.lines.push(line.slice(Math.min(blank, item.width)));
    }
  }
  const start = ordered && Number.parseInt(first[2], 10) !== 1 ? Number.parseInt(first[2], 10) : null;
  return h(ordered ? "ol" : "ul", { start }, ...items.map((item) => listItem(item.lines, depth + 1)));
}

function listItem(lines, depth) {
  const task = /^\[([ xX])\]\s+/.exec(lines[0]);
  const rest = task ? [lines[0].slice(task[0].length), ...lines.slice(1)] : lines;
  const loose = lines.some((line, at) => !line.trim() && at < lines.length - 1);
  const drawn = drawAll(rest, depth);
  // A short item's words need no paragraph around them.
  const children = loose ? drawn : drawn.flatMap((child) => (child.tagName === "P" ? [...child.childNodes] : [child]));
  if (!task) return h("li", {}, ...children);
  const done = task[1] !== " ";
  return h("li", { class: "task" }, h("span", { role: "img", "aria-label": done ? "done" : "to do", text: done ? "☑ " : "☐ " }), ...children);
}

function table(lines) {
  const head = cells(lines[0]);
  const rows = lines.slice(2).map(cells);
  if (head.length > MOST_COLUMNS || rows.length > MOST_ROWS) {
    return h("pre", { tabindex: "0", class: "plain" }, h("code", { text: lines.join("\n") }));
  }
  const sides = cells(lines[1]).map((rule) => (rule.endsWith(":") ? (rule.startsWith(":") ? "center" : "right") : null));
  const cell = (tag, words, column) => h(tag, { class: sides[column] ?? null }, ...inline(words));
  const row = (tag, words) => h("tr", {}, ...head.map((_, column) => cell(tag, words[column] ?? "", column)));
  const made = h("table", {}, h("thead", {}, row("th", head)), h("tbody", {}, ...rows.map((words) => row("td", words))));
  return h("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, made);
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split(/(?<!\\)\|/).map((words) => words.trim().replace(/\\\|/g, "|"));
}
