// The settings panel: key, model, system prompt, sampling. Kept in this browser; the system prompt belongs to the conversation.

import { apiKey, setApiKey } from "./api.js";
import { byId, h } from "./dom.js";
import { recallObject, remember } from "./local.js";

const KEPT = "octavo.settings";
const FIELDS = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: "any", help: "0 = always the likeliest token" },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: "any", help: "smallest set of tokens with this probability" },
  { name: "top_k", label: "Top k", min: 0, step: 1, help: "the k likeliest tokens; 0 = all" },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: "any", help: "share of the likeliest token's probability" },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0.01, max: 2, step: "any", help: "above 1 = repeat less" },
  { name: "max_tokens", label: "Longest answer", min: 1, step: 1, help: "tokens" },
  { name: "seed", label: "Seed", min: 0, step: 1, help: "the same seed, the same answer" },
];

export class Controls {
  /** @param {{onKey: () => void, onSystem: (text: string) => void, onModel: () => void}} on */
  constructor(on) {
    this.kept = recallObject(KEPT);
    this.on = on;
    this.drawFields();
    this.wireKey();
    byId("system").addEventListener("input", (event) => on.onSystem(event.target.value));
    byId("reset-settings").addEventListener("click", () => this.reset());
    const tokens = byId("show-tokens");
    tokens.checked = Boolean(this.kept.tokens);
    tokens.addEventListener("change", () => {
      this.keep("tokens", tokens.checked);
      on.onTokens();
    });
    byId("model").addEventListener("change", (event) => {
      this.keep("model", event.target.value);
      on.onModel();
    });
  }

  drawFields() {
    for (const { name, label, help, ...limits } of FIELDS) {
      const input = h("input", { id: `set-${name}`, type: "number", inputmode: "decimal", placeholder: "default", ...limits });
      input.setAttribute("aria-describedby", `help-${name}`);
      input.value = this.kept[name] ?? "";
      input.addEventListener("input", () => this.keep(name, input.validity.valid && input.value !== "" ? Number(input.value) : undefined));
      const words = h("label", { for: `set-${name}` }, label, h("small", { id: `help-${name}`, text: help }));
      byId("sampling").append(h("div", { class: "field" }, words, input));
    }
    const stop = byId("set-stop");
    stop.value = this.kept.stop ?? "";
    stop.addEventListener("input", () => this.keep("stop", stop.value || undefined));
  }

  wireKey() {
    const field = byId("key");
    field.value = apiKey();
    field.addEventListener("change", () => {
      setApiKey(field.value.trim());
      this.on.onKey();
    });
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      field.dispatchEvent(new Event("change"));
    });
  }

  keep(name, value) {
    if (value === undefined) delete this.kept[name];
    else this.kept[name] = value;
    remember(KEPT, JSON.stringify(this.kept));
  }

  reset() {
    for (const { name } of FIELDS) {
      this.keep(name, undefined);
      byId(`set-${name}`).value = "";
    }
    this.keep("stop", undefined);
    byId("set-stop").value = "";
  }

  get showTokens() {
    return byId("show-tokens").checked;
  }

  get model() {
    return byId("model").value;
  }

  setModels(names) {
    const wanted = names.includes(this.kept.model) ? this.kept.model : names[0];
    byId("model").replaceChildren(...names.map((name) => h("option", { value: name, text: name, selected: name === wanted })));
  }

  /** What a request is sent beside its messages; what is left open is the model's default. */
  request() {
    const body = { model: this.model };
    for (const { name } of FIELDS) if (this.kept[name] !== undefined) body[name] = this.kept[name];
    const stops = (this.kept.stop ?? "").split("\n").filter(Boolean);
    if (stops.length) body.stop = stops;
    if (this.showTokens) Object.assign(body, { logprobs: true, top_logprobs: 5 });
    return body;
  }

  askForKey() {
    byId("settings").hidden = false;
    byId("key").focus();
  }
}
