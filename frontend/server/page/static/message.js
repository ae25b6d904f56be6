// How one message looks: its text, tokens or editor, and what can be done with it.

import { copyFrom, h, iconButton } from "./dom.js";
import { render } from "./markdown.js";
import { renderTokens } from "./tokens.js";

export class MessageView {
  /**
   * @param node the message
   * @param {{position: number, siblings: number, writing: boolean, tokens: boolean}} shown
   * @param {{retry, edit, turn}} on what its buttons do
   */
  constructor(node, shown, on) {
    this.node = node;
    this.shown = shown;
    this.on = on;
    this.body = h("div", { class: "body" });
    this.foot = h("div", { class: "foot" });
    const speaker = node.role === "user" ? "You" : node.model || "Model";
    const name = h("h2", { class: "hidden-label", text: `${speaker} said` });
    this.element = h("article", { class: `message ${node.role}`, "data-id": node.id }, name, this.body, this.foot);
    this.draw();
  }

  /** Draw text and foot as the message stands. */
  draw() {
    const { node, shown } = this;
    this.element.classList.toggle("writing", shown.writing);
    if (node.role === "user") this.body.textContent = node.text;
    else if (shown.tokens && node.tokens) this.drawTokens();
    else render(this.body, node.text);
    this.drawFoot();
  }

  /** The answer is written to its end. */
  end() {
    this.shown.writing = false;
    this.draw();
  }

  drawTokens() {
    this.body.classList.add("tokens");
    renderTokens(this.body, this.node.tokens);
  }

  drawFoot() {
    const { node, shown } = this;
    const parts = [];
    if (node.error) parts.push(h("p", { class: "error", role: "alert", text: node.error }));
    if (!shown.writing) parts.push(this.actions());
    if (node.note) parts.push(h("span", { class: "note", text: node.note }));
    this.foot.replaceChildren(...parts);
  }

  actions() {
    const { node, on } = this;
    const buttons = [];
    if (this.shown.siblings > 1) buttons.push(this.branches());
    const copy = iconButton("copy", "Copy", () => copyFrom(copy, node.text), "copy");
    buttons.push(copy);
    if (node.role === "user") buttons.push(iconButton("edit", "Edit", () => this.edit(), "edit"));
    else buttons.push(iconButton("retry", "Retry", () => on.retry(node), "retry"));
    return h("div", { class: "actions" }, ...buttons);
  }

  branches() {
    const { position, siblings } = this.shown;
    const back = iconButton("left", "Earlier branch", () => this.on.turn(this.node, -1), "earlier");
    const forth = iconButton("right", "Later branch", () => this.on.turn(this.node, 1), "later");
    back.disabled = position === 0;
    forth.disabled = position === siblings - 1;
    return h("span", { class: "branches" }, back, h("span", { text: `${position + 1}/${siblings}` }), forth);
  }

  /** Put an editor in place of the text; sending makes a branch. */
  edit() {
    const field = h("textarea", { "aria-label": "Edit your message", rows: Math.min(12, this.node.text.split("\n").length + 1) });
    field.value = this.node.text;
    const send = () => field.value.trim() && this.on.edit(this.node, field.value);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        this.draw();
        this.element.querySelector(".edit")?.focus();
      }
    });
    const cancel = h("button", { type: "button", text: "Cancel", on: { click: () => this.draw() } });
    const submit = h("button", { type: "button", class: "primary", text: "Send", on: { click: send } });
    this.body.replaceChildren(h("div", { class: "editor" }, field, h("div", { class: "row" }, cancel, submit)));
    this.foot.replaceChildren();
    field.focus();
  }
}
