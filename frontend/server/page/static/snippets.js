// Code that talks to this server, with its address and model filled in.

import { BASE } from "./api.js";
import { byId, copyFrom, h } from "./dom.js";

const QUESTION = "What is the capital of France?";

function curl(model, keyed) {
  const body = JSON.stringify({ model, messages: [{ role: "user", content: QUESTION }] });
  const key = keyed ? ' \\\n  -H "Authorization: Bearer $OCTAVO_API_KEY"' : "";
  return `curl ${BASE}v1/chat/completions \\\n  -H "Content-Type: application/json"${key} \\\n  -d '${body.replaceAll("'", "'\\''")}'`;
}

function python(model, keyed) {
  return `${keyed ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${BASE}v1", api_key=${keyed ? 'os.environ["OCTAVO_API_KEY"]' : '"unused"'})
stream = client.chat.completions.create(
    model=${JSON.stringify(model)},
    messages=[{"role": "user", "content": "${QUESTION}"}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()`;
}

function javascript(model, keyed) {
  const key = keyed ? '\n    Authorization: `Bearer ${process.env.OCTAVO_API_KEY}`,' : "";
  return `const response = await fetch("${BASE}v1/chat/completions", {
  method: "POST",
  headers: {
    "Content-Type": "application/json",${key}
  },
  body: JSON.stringify({
    model: ${JSON.stringify(model)},
    messages: [{ role: "user", content: "${QUESTION}" }],
  }),
});
const answer = await response.json();
console.log(answer.choices[0].message.content);`;
}

/** Draw them all. `keyed`: the server asks for a key, which the code takes from the environment. */
export function drawSnippets(model, keyed) {
  const all = [
    ["curl", curl(model, keyed)],
    ["Python", python(model, keyed)],
    ["JavaScript", javascript(model, keyed)],
  ];
  byId("snippets").replaceChildren(...all.map(([name, text]) => snippet(name, text)));
  byId("base-url").textContent = `${BASE}v1`;
}

function snippet(name, text) {
  const copy = h("button", { type: "button", class: "copy-code", "data-word": "Copy", "aria-label": `Copy the ${name} code`, text: "Copy" });
  copy.addEventListener("click", () => copyFrom(copy, text));
  const bar = h("div", { class: "code-bar" }, h("span", { text: name }), copy);
  const code = h("pre", { tabindex: "0", role: "group", "aria-label": `${name} code` }, h("code", { text }));
  return h("div", { class: "code", "data-language": name }, bar, code);
}
