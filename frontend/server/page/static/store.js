// Conversations in this browser (IndexedDB), and their export and import as a file.

import { newId } from "./tree.js";

const DATABASE = "octavo";
const TABLE = "conversations";
const FORMAT = "octavo-conversations";
const LARGEST_IMPORT = 64 * 1024 * 1024;

export class Store {
  /** All conversations by id. @param onTrouble told in words when the browser does not keep them */
  constructor(onTrouble) {
    this.conversations = new Map();
    this.onTrouble = onTrouble;
  }

  async open() {
    try {
      this.database = await openDatabase();
      for (const one of await this.#run("readonly", (table) => table.getAll())) this.conversations.set(one.id, one);
    } catch (error) {
      this.#complain(error);
    }
  }

  /** Newest first. */
  list() {
    return [...this.conversations.values()].sort((a, b) => b.updated - a.updated);
  }

  async save(conversation) {
    this.conversations.set(conversation.id, conversation);
    await this.#write((table) => table.put(conversation));
  }

  async remove(id) {
    this.conversations.delete(id);
    await this.#write((table) => table.delete(id));
  }

  exported() {
    return JSON.stringify({ format: FORMAT, version: 1, conversations: this.list() });
  }

  /** Add a file's conversations and return them. Throws an Error that says what is wrong with the file. */
  async imported(file) {
    if (file.size > LARGEST_IMPORT) throw new Error("the file is larger than 64 MiB");
    let data;
    try {
      data = JSON.parse(await file.text());
    } catch {
      throw new Error("the file is not JSON");
    }
    if (data?.format !== FORMAT || !Array.isArray(data.conversations)) {
      throw new Error("the file holds no conversations of this page");
    }
    const found = data.conversations.map(checked);
    for (const one of found) await this.save(one);
    return found;
  }

  /** A chat goes on where the browser refuses to store it; the reader is told. */
  async #write(action) {
    if (!this.database) return;
    try {
      await this.#run("readwrite", action);
    } catch (error) {
      this.#complain(error);
    }
  }

  #complain(error) {
    this.onTrouble(`This browser does not keep the conversations: ${error?.message ?? "it gives no reason"}`);
  }

  #run(mode, action) {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(TABLE, mode);
      const request = action(transaction.objectStore(TABLE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error ?? new Error("the browser refused to store"));
    });
  }
}

function openDatabase() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** A conversation of known shape, under an id of its own: the file may come from anywhere. */
function checked(raw) {
  if (typeof raw !== "object" || raw === null || typeof raw.nodes !== "object" || raw.nodes === null) {
    throw new Error("a conversation in the file has no messages");
  }
  const ids = new Map(Object.keys(raw.nodes).map((id) => [id, newId()]));
  const nodes = {};
  for (const [old, node] of Object.entries(raw.nodes)) {
    if (!["user", "assistant"].includes(node?.role) || typeof node.text !== "string") {
      throw new Error("a message in the file has no role or no text");
    }
    if (node.parent !== null && !ids.has(node.parent)) throw new Error("a message in the file follows one that is missing");
    const id = ids.get(old);
    nodes[id] = { id, parent: ids.get(node.parent) ?? null, role: node.role, text: node.text, created: time(node.created) };
    if (Array.isArray(node.tokens)) nodes[id].tokens = node.tokens.map(checkedToken);
    if (typeof node.note === "string") nodes[id].note = node.note;
    if (typeof node.model === "string") nodes[id].model = node.model;
  }
  checkNoCircle(nodes);
  const chosen = {};
  for (const [parent, child] of Object.entries(raw.chosen ?? {})) {
    const known = ids.has(parent) || parent === "root";
    const above = ids.get(parent) ?? null;
    if (known && nodes[ids.get(child)]?.parent === above) chosen[above ?? "root"] = ids.get(child);
  }
  const text = (value) => (typeof value === "string" ? value : "");
  return { id: newId(), title: text(raw.title), system: text(raw.system), created: time(raw.created), updated: Date.now(), nodes, chosen };
}

function checkedToken(token) {
  const [text, logprob, rivals] = Array.isArray(token) ? token : [];
  if (typeof text !== "string" || typeof logprob !== "number" || !Array.isArray(rivals)) {
    throw new Error("a token in the file has no text or no probability");
  }
  return [text, logprob, rivals.slice(0, 20).map(checkedRival)];
}

function checkedRival(rival) {
  const [word, value] = Array.isArray(rival) ? rival : [];
  if (typeof word !== "string" || typeof value !== "number") {
    throw new Error("what a token in the file might have been has no text or no probability");
  }
  return [word, value];
}

/** Every message leads back to a first one. */
function checkNoCircle(nodes) {
  const good = new Set([null]);
  for (const node of Object.values(nodes)) {
    const trail = [];
    const seen = new Set();
    let at = node;
    while (at && !good.has(at.id)) {
      if (seen.has(at.id)) throw new Error("the messages in the file follow each other in a circle");
      seen.add(at.id);
      trail.push(at.id);
      at = nodes[at.parent];
    }
    trail.forEach((id) => good.add(id));
  }
}

function time(value) {
  return Number.isFinite(value) ? value : Date.now();
}
