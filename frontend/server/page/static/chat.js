// The chat: a conversation's shown path, the composer, and the answers that are being written.

import { Answer } from "./answer.js";
import { announce, byId, h, icon } from "./dom.js";
import { MessageView } from "./message.js";
import { hideTip } from "./tokens.js";
import { addNode, childrenOf, choose, messagesFor, newConversation, pathOf } from "./tree.js";

const SAVE_INTERVAL = 1000;
const NEAR_END = 80;
const IDEAS = [
  "Explain what a KV cache is, in three sentences.",
  "Write a Python function that reverses the words of a text.",
  "Make a table of the planets and their moons.",
  "Suggest five names for a small robot.",
];

export class Chat {
  /** @param {{store, controls, onChange: () => void, onRefused: () => void}} parts */
  constructor(parts) {
    Object.assign(this, parts);
    this.running = new Map();
    this.views = new Map();
    this.ready = false;
    this.field = byId("prompt");
    this.list = byId("messages");
    this.send = byId("send");
    this.wire();
  }

  wire() {
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.answer) this.answer.stop();
      else this.ask();
    });
    this.field.addEventListener("input", () => this.fit());
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        if (!this.answer) this.ask();
      } else if (event.key === "ArrowUp" && !this.field.value) {
        this.editLast();
      }
    });
    window.addEventListener("pagehide", () => this.running.forEach((_, id) => this.saveOf(id)));
  }

  /** Let the field grow with its text. */
  fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
    this.drawSend();
  }

  show(conversation) {
    this.conversation = conversation;
    byId("system").value = conversation.system;
    this.draw();
    this.scroll();
  }

  startNew() {
    this.show(newConversation());
    this.field.focus();
    this.onChange();
  }

  setSystem(text) {
    this.conversation.system = text;
    if (Object.keys(this.conversation.nodes).length) this.store.save(this.conversation);
  }

  setReady(ready) {
    this.ready = ready;
    this.drawSend();
  }

  /** The answer that is being written in this conversation. */
  get answer() {
    const path = this.conversation ? pathOf(this.conversation) : [];
    return this.running.get(path[path.length - 1]?.id)?.answer ?? null;
  }

  /** End the answer that is being written; whether there was one. */
  stop() {
    const { answer } = this;
    answer?.stop();
    return answer !== null;
  }

  draw() {
    hideTip();
    const path = pathOf(this.conversation);
    this.views = new Map(path.map((node) => [node.id, this.view(node)]));
    const empty = path.length ? [] : [this.welcome()];
    this.list.replaceChildren(...empty, ...[...this.views.values()].map((view) => view.element));
    this.drawSend();
  }

  view(node) {
    const siblings = childrenOf(this.conversation, node.parent).filter((one) => one.role === node.role);
    const shown = {
      position: siblings.indexOf(node),
      siblings: siblings.length,
      writing: this.running.has(node.id),
      tokens: this.controls.showTokens,
    };
    return new MessageView(node, shown, {
      retry: (one) => this.retry(one),
      edit: (one, text) => this.branch(one, text),
      turn: (one, step) => this.turn(one, step),
    });
  }

  welcome() {
    const idea = (text) => h("button", { type: "button", class: "idea", text, on: { click: () => this.ask(text) } });
    const words = h("p", { text: "Ask something, or begin with one of these." });
    return h("div", { class: "welcome" }, h("h2", { text: "What shall we talk about?" }), words, h("div", { class: "ideas" }, ...IDEAS.map(idea)));
  }

  drawSend() {
    const writing = Boolean(this.answer);
    this.send.replaceChildren(icon(writing ? "stop" : "send"));
    this.send.setAttribute("aria-label", writing ? "Stop" : "Send");
    this.send.title = writing ? "Stop (Esc)" : "Send (Enter)";
    this.send.disabled = !writing && (!this.ready || !this.field.value.trim());
  }

  ask(text = this.field.value) {
    if (!text.trim() || !this.ready || this.answer) return;
    const path = pathOf(this.conversation);
    const said = addNode(this.conversation, path[path.length - 1]?.id ?? null, "user", text);
    this.field.value = "";
    this.fit();
    this.reply(said);
  }

  retry(node) {
    this.stop();
    this.reply(this.conversation.nodes[node.parent]);
  }

  branch(node, text) {
    this.stop();
    this.reply(addNode(this.conversation, node.parent, "user", text));
  }

  turn(node, step) {
    const siblings = childrenOf(this.conversation, node.parent).filter((one) => one.role === node.role);
    choose(this.conversation, siblings[siblings.indexOf(node) + step]);
    this.store.save(this.conversation);
    this.draw();
    this.list.querySelector(`[data-id="${siblings[siblings.indexOf(node) + step].id}"] .branches button:enabled`)?.focus();
  }

  editLast() {
    const last = [...this.views.values()].filter((view) => view.node.role === "user").pop();
    if (!this.answer) last?.edit();
  }

  /** Write an answer below a message. */
  async reply(said) {
    const { conversation } = this;
    const node = addNode(conversation, said.id, "assistant", "");
    const answer = new Answer(node, () => this.onPiece(node));
    this.running.set(node.id, { answer, conversation });
    this.store.save(conversation);
    this.draw();
    this.scroll();
    this.onChange();
    announce("The answer begins");
    await answer.run({ ...this.controls.request(), messages: messagesFor(conversation, node) });
    this.running.delete(node.id);
    await this.store.save(conversation);
    this.onEnd(node, answer);
  }

  onEnd(node, answer) {
    const following = this.nearEnd();
    const view = this.views.get(node.id);
    if (view) view.end();
    if (following) this.scroll();
    this.drawSend();
    announce(node.error ? `Error: ${node.error}` : `The answer is complete: ${node.note}`);
    if (answer.status === 401) this.onRefused();
  }

  /** Text has come: draw at the next frame, save once a second. */
  onPiece(node) {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      const following = this.nearEnd();
      this.running.forEach((_, id) => this.views.get(id)?.draw());
      if (following) this.scroll();
    });
    const now = performance.now();
    const run = this.running.get(node.id);
    if (run && now - (run.saved ?? 0) > SAVE_INTERVAL) {
      run.saved = now;
      this.saveOf(node.id);
    }
  }

  saveOf(id) {
    this.store.save(this.running.get(id).conversation);
  }

  nearEnd() {
    const box = byId("scroller");
    return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
  }

  scroll() {
    const box = byId("scroller");
    box.scrollTop = box.scrollHeight;
  }
}
