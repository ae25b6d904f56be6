// Keys that work everywhere on the page.

import { byId } from "./dom.js";

/** @param {{stop: () => boolean, startNew, show: (tab: string) => void, settings, close}} on */
export function wireKeyboard(on) {
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (!on.stop()) on.close();
      return;
    }
    const command = event.altKey && !event.ctrlKey && !event.metaKey ? alt(event.code, on) : plain(event);
    if (!command) return;
    event.preventDefault();
    command();
  });
}

/** By the key's place, for Alt changes what it writes on some systems. */
function alt(code, on) {
  const commands = {
    KeyN: on.startNew,
    KeyS: on.settings,
    Digit1: () => on.show("chat"),
    Digit2: () => on.show("dashboard"),
    Digit3: () => on.show("code"),
  };
  return commands[code];
}

function plain(event) {
  const typing = event.target.closest?.("input, textarea, select");
  if (typing || event.ctrlKey || event.metaKey) return null;
  if (event.key === "/") return () => byId("prompt").focus();
  if (event.key === "?") return () => byId("help").showModal();
  return null;
}
