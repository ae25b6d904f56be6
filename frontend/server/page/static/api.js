// Calls to the server this page came from: its address, the key, JSON answers and streams of events.

import { recall, remember } from "./local.js";

/** Where the server is, with the path that a proxy may have put before it; ends with a slash. */
export const BASE = new URL("../", import.meta.url).href;

const KEY = "octavo.key";

export class CallError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function apiKey() {
  return recall(KEY) ?? "";
}

export function setApiKey(key) {
  remember(KEY, key || null);
}

/** A response that is known to be good. Throws CallError with the server's own words. */
async function call(path, options = {}) {
  const key = apiKey();
  const headers = { ...(key ? { Authorization: `Bearer ${key}` } : {}), ...options.headers };
  const request = { ...options, headers, credentials: "same-origin" };
  let response;
  try {
    response = await fetch(BASE + path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError(0, "The server does not answer. Is it still running?");
  }
  if (!response.ok) throw new CallError(response.status, await complaint(response));
  return response;
}

async function complaint(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

export async function getJson(path) {
  return (await call(path)).json();
}

export async function getText(path) {
  return (await call(path)).text();
}

/** Decoded events of a streamed chat completion, one by one. `signal` ends it. */
export async function* streamChat(body, signal) {
  const response = await call("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new CallError(event.error.code ?? 500, event.error.message);
    yield event;
  }
  throw new CallError(0, "The connection was closed before the answer was complete.");
}

/** The data of server-sent events. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const raw of lines) {
      const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line === "" && data.length) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}
