// Elements from plain data. Text becomes text nodes, never HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: class, text, on (listeners by event), anything else is an attribute; false and null leave one out. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same in SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The element with this id; the page is broken without it. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element #${id}`);
  return found;
}

const PATHS = {
  menu: "M4 6h16M4 12h16M4 18h16",
  plus: "M12 5v14M5 12h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v10H9zM5 15V5h10",
  retry: "M4 12a8 8 0 1 0 2.6-5.9M4 4v4h4",
  edit: "M4 20h4L19 9l-4-4L4 16z",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M13 4.5v5M9 14.5v5",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
};

/** A line icon, hidden from screen readers: the button around it has the name. */
export function icon(name) {
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: PATHS[name] }));
}

/** A button that shows an icon, and its name to those who point at it or cannot see it. */
export function iconButton(name, label, onClick, extra = "") {
  const props = { type: "button", class: `icon-button ${extra}`.trim(), "aria-label": label, title: label, on: { click: onClick } };
  return h("button", props, icon(name));
}

/** Put text on the clipboard and say so on the button for a moment. */
export async function copyFrom(button, text) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyBySelection(text);
  }
  announce(done ? "Copied" : "The browser does not let the page copy");
  if (!done) return;
  const before = [...button.childNodes];
  button.replaceChildren(button.dataset.word ? document.createTextNode("Copied") : icon("check"));
  setTimeout(() => button.replaceChildren(...before), 1200);
}

/** Pages without TLS have no clipboard of their own: select and copy as a person would. */
function copyBySelection(text) {
  const area = h("textarea", { class: "hidden-label", "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}

/** Tell screen readers. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** A number as people write it. */
export function number(value, digits = 0) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
