// One answer that is being written: the stream into the message, how fast it came, and how it ended.

import { CallError, streamChat } from "./api.js";
import { number } from "./dom.js";
import { tokensOf } from "./tokens.js";

export class Answer {
  /** @param onChange called after every piece of text */
  constructor(node, onChange) {
    this.node = node;
    this.onChange = onChange;
    this.abort = new AbortController();
    this.began = performance.now();
    this.first = null;
    this.last = null;
    this.pieces = 0;
  }

  stop() {
    this.abort.abort();
  }

  /** Write until the end, a stop, or an error; the message keeps what came. */
  async run(body) {
    const { node } = this;
    node.model = body.model;
    try {
      for await (const event of streamChat(body, this.abort.signal)) this.take(event);
      node.note = this.summary();
    } catch (error) {
      if (error.name === "AbortError") node.note = this.summary("stopped");
      else this.fail(error);
    }
  }

  fail(error) {
    this.node.error = error instanceof CallError ? error.message : `The connection was lost: ${error.message}`;
    this.status = error instanceof CallError ? error.status : 0;
    if (this.pieces) this.node.note = this.summary("broken off");
  }

  take(event) {
    if (event.usage) this.usage = event.usage;
    const choice = event.choices[0];
    if (!choice) return;
    if (choice.finish_reason) this.finish = choice.finish_reason;
    const text = choice.delta?.content ?? "";
    const tokens = tokensOf(choice.logprobs);
    if (!text && !tokens.length) return;
    this.last = performance.now();
    this.first ??= this.last;
    this.pieces += 1;
    this.node.text += text;
    if (tokens.length) (this.node.tokens ??= []).push(...tokens);
    this.onChange();
  }

  /** "42 tokens · 18.3 tokens/s · first token after 0.21 s" */
  summary(how = "") {
    const made = this.usage?.completion_tokens ?? this.node.tokens?.length ?? null;
    const parts = [];
    if (made !== null) parts.push(`${number(made)} token${made === 1 ? "" : "s"}`);
    const seconds = this.first === null ? 0 : (this.last - this.first) / 1000;
    // A stream that was stopped has no count: its events are about as many as its tokens.
    const counted = made ?? this.pieces;
    if (counted > 1 && seconds > 0) parts.push(`${made === null ? "about " : ""}${number((counted - 1) / seconds, 1)} tokens/s`);
    if (this.first !== null) parts.push(`first token after ${number((this.first - this.began) / 1000, 2)} s`);
    if (how) parts.push(how);
    else if (this.finish === "length") parts.push("cut at the longest length");
    else if (this.finish && this.finish !== "stop") parts.push(this.finish);
    return parts.join(" · ");
  }
}
