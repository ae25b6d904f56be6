// The token view: an answer as the tokens it was made of, each with its probability and what else it might have been.

import { byId, h, number } from "./dom.js";

/** What is kept of a streamed event's logprobs: [text, logprob, [[rival, logprob], ...]]. */
export function tokensOf(logprobs) {
  const content = logprobs?.content ?? [];
  return content.map((one) => [one.token, one.logprob, one.top_logprobs.map((rival) => [rival.token, rival.logprob])]);
}

/** Draw tokens into `container`; those drawn already stay. */
export function renderTokens(container, tokens) {
  if (!container.drawn) {
    container.drawn = 0;
    container.addEventListener("mouseover", (event) => show(event.target, tokens));
    container.addEventListener("mouseleave", hideTip);
    container.addEventListener("focusin", (event) => show(event.target, tokens));
    container.addEventListener("focusout", hideTip);
    container.addEventListener("click", (event) => show(event.target, tokens));
    container.addEventListener("keydown", move);
  }
  for (; container.drawn < tokens.length; container.drawn += 1) {
    const [text, logprob] = tokens[container.drawn];
    const props = { class: `token ${shade(logprob)}`, "data-index": container.drawn, tabindex: container.drawn ? "-1" : "0", text: visible(text) };
    container.append(h("span", { ...props, role: "button", "aria-label": spoken(text, logprob) }));
  }
}

/** Five shades, from certain to surprising. */
function shade(logprob) {
  const chance = Math.exp(logprob);
  if (chance > 0.9) return "p5";
  if (chance > 0.6) return "p4";
  if (chance > 0.3) return "p3";
  if (chance > 0.1) return "p2";
  return "p1";
}

function visible(text) {
  return text.replace(/\n/g, "↵\n") || "∅";
}

function spoken(text, logprob) {
  return `${text.trim() || "blank"}, ${percent(logprob)}`;
}

export function percent(logprob) {
  const value = 100 * Math.exp(logprob);
  if (value >= 99.95) return "100 %";
  return value < 0.1 ? "< 0.1 %" : `${number(value, 1)} %`;
}

function show(target, tokens) {
  const token = target.closest?.(".token");
  if (!token) return;
  const [text, logprob, rivals] = tokens[Number(token.dataset.index)];
  const others = rivals.filter(([word]) => word !== text);
  const tip = byId("token-tip");
  const rows = [row(text, logprob, true), ...others.map(([word, value]) => row(word, value, false))];
  tip.replaceChildren(h("table", {}, h("caption", { text: others.length ? "This token, and what else it might have been" : "This token" }), h("tbody", {}, ...rows)));
  tip.hidden = false;
  token.setAttribute("aria-describedby", "token-tip");
  place(tip, token.getBoundingClientRect());
}

function row(text, logprob, chosen) {
  const meter = h("meter", { min: "0", max: "1", value: Math.exp(logprob).toFixed(4), "aria-hidden": "true" });
  const word = h("td", {}, h("code", { text: JSON.stringify(text) }));
  return h("tr", { class: chosen ? "chosen" : null }, word, h("td", {}, meter), h("td", { class: "right", text: percent(logprob) }));
}

/** Below the token, or above where there is no room, and inside the window. */
function place(tip, token) {
  const size = tip.getBoundingClientRect();
  const below = token.bottom + 6;
  const top = below + size.height < window.innerHeight ? below : Math.max(4, token.top - size.height - 6);
  tip.style.top = `${top}px`;
  tip.style.left = `${Math.max(8, Math.min(token.left, window.innerWidth - size.width - 8))}px`;
}

/** Nothing is pointed at any more. */
export function hideTip() {
  byId("token-tip").hidden = true;
}

/** Arrow keys go from token to token. */
function move(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (event.key === "Escape") hideTip();
  if (!step || !event.target.classList.contains("token")) return;
  const next = step > 0 ? event.target.nextElementSibling : event.target.previousElementSibling;
  if (!next) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
