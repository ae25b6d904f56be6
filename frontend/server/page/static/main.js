// Puts the parts together: tabs, theme, panels, and what one part tells another.

import { getJson } from "./api.js";
import { Chat } from "./chat.js";
import { Controls } from "./controls.js";
import { Dashboard } from "./dashboard.js";
import { byId } from "./dom.js";
import { wireKeyboard } from "./keyboard.js";
import { remember } from "./local.js";
import { Sidebar } from "./sidebar.js";
import { drawSnippets } from "./snippets.js";
import { Startup } from "./startup.js";
import { Store } from "./store.js";
import { hideTip } from "./tokens.js";

const TABS = ["chat", "dashboard", "code"];
const store = new Store((words) => {
  byId("sidebar-note").textContent = words;
});
const dashboard = new Dashboard();
let keyNeeded = false;

const controls = new Controls({
  onKey: () => loadModels(),
  onModel: () => drawModel(),
  onSystem: (text) => chat.setSystem(text),
  onTokens: () => chat.draw(),
});
const chat = new Chat({
  store,
  controls,
  onChange: () => sidebar.draw(chat.conversation.id),
  onRefused: () => refuse("This server asks for an API key. Enter it in the settings."),
});
const sidebar = new Sidebar({
  store,
  onNew: () => {
    show("chat");
    chat.startNew();
    closeSidebar();
  },
  onOpen: (conversation) => {
    show("chat");
    chat.show(conversation);
    sidebar.draw(conversation.id);
    closeSidebar();
  },
  onGone: (id) => {
    if (chat.conversation.id === id) chat.startNew();
    else sidebar.draw(chat.conversation.id);
  },
});

function show(tab) {
  hideTip();
  for (const name of TABS) {
    byId(name).hidden = name !== tab;
    const button = byId(`tab-${name}`);
    button.setAttribute("aria-selected", String(name === tab));
    button.tabIndex = name === tab ? 0 : -1;
  }
  if (tab === "dashboard") dashboard.start();
}

function wireTabs() {
  for (const name of TABS) {
    byId(`tab-${name}`).addEventListener("click", () => show(name));
    byId(`tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length];
      show(next);
      byId(`tab-${next}`).focus();
    });
  }
}

function refuse(words) {
  byId("notice").textContent = words;
  byId("notice").hidden = !words;
  if (words) controls.askForKey();
}

/** Show which model is talked to. */
function drawModel() {
  byId("model-name").textContent = controls.model;
  document.title = `${controls.model} · Octavo`;
  drawSnippets(controls.model, keyNeeded);
}

/** The names of the models; they need the key, and so this is where a wrong one shows. */
async function loadModels() {
  try {
    const { data } = await getJson("v1/models");
    controls.setModels(data.map((model) => model.id));
    drawModel();
    refuse("");
    chat.setReady(true);
  } catch (error) {
    chat.setReady(false);
    if (error.status === 401) refuse("This server asks for an API key. Enter it in the settings.");
  }
}

function onState(state) {
  keyNeeded = state.key_needed;
  if (state.ready) loadModels();
  else chat.setReady(false);
}

function closeSidebar() {
  document.body.classList.remove("sidebar-open");
  byId("toggle-sidebar").setAttribute("aria-expanded", "false");
}

function toggleSidebar() {
  const open = document.body.classList.toggle("sidebar-open");
  byId("toggle-sidebar").setAttribute("aria-expanded", String(open));
  if (open) byId("new-chat").focus();
}

function toggleSettings() {
  const panel = byId("settings");
  panel.hidden = !panel.hidden;
  byId("toggle-settings").setAttribute("aria-expanded", String(!panel.hidden));
  if (!panel.hidden) byId("system").focus();
}

/** Close what lies over the chat. */
function close() {
  if (!byId("token-tip").hidden) hideTip();
  else if (document.body.classList.contains("sidebar-open")) closeSidebar();
  else if (!byId("settings").hidden) toggleSettings();
}

function turnTheme() {
  const system = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const next = (document.documentElement.dataset.theme ?? system) === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  remember("octavo.theme", next);
}

wireTabs();
byId("toggle-theme").addEventListener("click", turnTheme);
byId("toggle-settings").addEventListener("click", toggleSettings);
byId("close-settings").addEventListener("click", toggleSettings);
byId("toggle-sidebar").addEventListener("click", toggleSidebar);
byId("backdrop").addEventListener("click", closeSidebar);
byId("show-help").addEventListener("click", () => byId("help").showModal());
wireKeyboard({
  stop: () => chat.stop(),
  startNew: () => sidebar.onNew(),
  show,
  settings: toggleSettings,
  close,
});
drawSnippets("default", false);
await store.open();
const [latest] = store.list();
if (latest) chat.show(latest);
else chat.startNew();
sidebar.draw(chat.conversation.id);
new Startup(onState);
document.documentElement.dataset.loaded = "true";
