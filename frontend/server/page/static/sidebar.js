// The list of conversations: open, rename, delete; export and import.

import { announce, byId, h, iconButton } from "./dom.js";

export class Sidebar {
  /** @param {{store, onOpen: (conversation) => void, onGone: (id) => void, onNew: () => void}} parts */
  constructor(parts) {
    Object.assign(this, parts);
    byId("new-chat").addEventListener("click", () => this.onNew());
    byId("export").addEventListener("click", () => this.export());
    byId("import").addEventListener("click", () => byId("import-file").click());
    byId("import-file").addEventListener("change", (event) => this.import(event.target));
  }

  draw(current) {
    this.current = current;
    const rows = this.store.list().map((one) => this.row(one, one.id === current));
    const nothing = rows.length ? [] : [h("li", { class: "nothing", text: "Conversations stay in this browser." })];
    byId("conversations").replaceChildren(...rows, ...nothing);
  }

  row(conversation, shown) {
    const title = conversation.title || "Untitled";
    const open = h("button", { type: "button", class: "open", "aria-current": shown ? "true" : null, text: title, title });
    open.addEventListener("click", () => this.onOpen(conversation));
    open.addEventListener("dblclick", () => this.rename(conversation, open));
    open.addEventListener("keydown", (event) => {
      if (event.key === "F2") this.rename(conversation, open);
    });
    const remove = iconButton("trash", `Delete ${title}`, () => this.remove(conversation), "delete");
    return h("li", { class: shown ? "shown" : null }, open, remove);
  }

  rename(conversation, button) {
    const field = h("input", { "aria-label": "Name of the conversation", maxlength: "100" });
    field.value = conversation.title;
    let done = false;
    const end = (keep) => {
      if (done) return;
      done = true;
      if (keep && field.value.trim()) conversation.title = field.value.trim();
      this.store.save(conversation);
      this.draw(this.current);
    };
    field.addEventListener("blur", () => end(true));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
      event.stopPropagation();
    });
    button.replaceWith(field);
    field.select();
  }

  async remove(conversation) {
    if (!window.confirm(`Delete "${conversation.title || "Untitled"}"? It cannot be brought back.`)) return;
    await this.store.remove(conversation.id);
    this.onGone(conversation.id);
  }

  export() {
    const url = URL.createObjectURL(new Blob([this.store.exported()], { type: "application/json" }));
    const day = new Date().toISOString().slice(0, 10);
    h("a", { href: url, download: `octavo-conversations-${day}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }

  async import(input) {
    const [file] = input.files;
    if (!file) return;
    try {
      const found = await this.store.imported(file);
      const words = `Imported ${found.length} conversation${found.length === 1 ? "" : "s"}`;
      this.say(words);
      if (found.length) this.onOpen(found[0]);
    } catch (error) {
      this.say(`Not imported: ${error.message}.`);
    }
    input.value = "";
  }

  say(words) {
    byId("sidebar-note").textContent = words;
    announce(words);
  }
}
