// Whether the server is ready: asked often while it starts, now and then afterwards.

import { BASE } from "./api.js";
import { byId } from "./dom.js";

const SOON = 500;
const LATER = 5000;
const STEPS = {
  process: "starting the engine",
  imports: "loading the libraries",
  device: "looking at the device",
  weights: "reading the weights",
  kv_cache: "setting up the KV cache",
  warm_up: "warming up",
};

export class Startup {
  /** @param onState called with the server's state whenever readiness or the need of a key changes */
  constructor(onState) {
    this.onState = onState;
    this.known = "";
    this.turn();
  }

  async turn() {
    const state = document.hidden && this.ready ? null : await ask();
    if (state) this.take(state);
    setTimeout(() => this.turn(), this.ready ? LATER : SOON);
  }

  take(state) {
    this.ready = state.ready;
    this.draw(state);
    const known = `${state.ready} ${state.key_needed}`;
    if (known === this.known) return;
    this.known = known;
    this.onState(state);
  }

  draw(state) {
    const dot = byId("state");
    dot.className = state.ready ? "good" : state.phase === "starting" ? "wait" : "bad";
    dot.textContent = state.ready ? "Ready" : sentence(state);
    const bar = byId("startup");
    bar.hidden = state.ready || state.phase !== "starting";
    if (bar.hidden) return;
    byId("startup-words").textContent = `The model is loading: ${STEPS[state.step] ?? state.step ?? "starting"} …`;
    byId("startup-bar").value = state.fraction ?? 0;
  }
}

function sentence(state) {
  if (state.phase === "starting") return "Loading";
  if (state.phase === "draining") return "Shutting down";
  const why = state.why ?? "Not ready";
  return why[0].toUpperCase() + why.slice(1);
}

async function ask() {
  try {
    const response = await fetch(`${BASE}startup`, { cache: "no-store" });
    return await response.json();
  } catch {
    return { phase: "gone", ready: false, why: "No answer from the server", key_needed: false };
  }
}
