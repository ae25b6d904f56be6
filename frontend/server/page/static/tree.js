// A conversation: a tree of messages, of which one path is shown. Editing and retrying add branches; nothing is overwritten.

/** Ids that are unlikely to meet; crypto.randomUUID is missing on pages without TLS. */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation() {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, system: "", nodes: {}, chosen: {} };
}

const ROOT = "root";

/** Messages that follow `parent` (null: that begin the conversation), oldest first. */
export function childrenOf(conversation, parent) {
  return Object.values(conversation.nodes)
    .filter((node) => node.parent === parent)
    .sort((a, b) => a.created - b.created);
}

/** The child that is shown: the one chosen last. What is no child is not: a walk from child to child always ends. */
function shownChild(conversation, parent) {
  const node = conversation.nodes[conversation.chosen[parent ?? ROOT]];
  return node?.parent === parent ? node : null;
}

/** The messages that are shown, first to last. */
export function pathOf(conversation) {
  const path = [];
  for (let node = shownChild(conversation, null); node; node = shownChild(conversation, node.id)) {
    path.push(node);
  }
  return path;
}

/** The messages that lead to a node, the node itself left out. */
export function before(conversation, node) {
  const path = [];
  for (let at = conversation.nodes[node.parent]; at; at = conversation.nodes[at.parent]) path.unshift(at);
  return path;
}

/** Add a message below `parent` and show it. */
export function addNode(conversation, parent, role, text) {
  const siblings = childrenOf(conversation, parent);
  const last = siblings.length ? siblings[siblings.length - 1].created : 0;
  const node = { id: newId(), parent, role, text, created: Math.max(Date.now(), last + 1) };
  conversation.nodes[node.id] = node;
  choose(conversation, node);
  conversation.updated = Date.now();
  if (!conversation.title && role === "user") conversation.title = titleOf(text);
  return node;
}

/** Show this node among its siblings. */
export function choose(conversation, node) {
  conversation.chosen[node.parent ?? ROOT] = node.id;
}

function titleOf(text) {
  const line = text.trim().split("\n", 1)[0].replace(/\s+/g, " ");
  return line.length > 60 ? `${line.slice(0, 57)}...` : line;
}

/** What the model is sent for an answer that stands at `node`. */
export function messagesFor(conversation, node) {
  const system = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  const said = before(conversation, node).filter((one) => one.role === "user" || one.text);
  return [...system, ...said.map((one) => ({ role: one.role, content: one.text }))];
}
