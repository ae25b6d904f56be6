"""A conversation -> the prompt the model sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from octavo.errors import ValidationError
from octavo.frontend.server.chat.protocol import ChatMessage, ChatRequest
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.prompts import engine_prompt, tokenizer_of
from octavo.inputs import PromptType

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "thinking": "thinking", "refusal": "refusal"}
"""Type of a content part -> the key that holds its text."""


class TemplateFields(Protocol):
    """The fields of a request that decide how its conversation is rendered."""

    messages: list[ChatMessage] | None
    add_generation_prompt: bool | None
    continue_final_message: bool | None
    chat_template: str | None
    chat_template_kwargs: dict[str, Any] | None
    documents: list[dict[str, Any]] | None
    tools: list[dict[str, Any]] | None
    reasoning_effort: str | None


async def chat_prompt(engine: AsyncLLM, body: ChatRequest) -> PromptType:
    """The tokens that a chat request's conversation becomes.

    Raises:
        ValidationError: the model has no template, or it refuses the conversation.
    """
    text = await render(engine, body, body.messages)
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    return await engine_prompt(engine, body, text, add_special_tokens=bool(body.add_special_tokens), max_tokens=limit)


async def render(engine: AsyncLLM, body: TemplateFields, messages: list[ChatMessage]) -> str:
    """The text that a conversation becomes."""
    tokenizer = tokenizer_of(engine)
    generation_prompt = body.add_generation_prompt is not False and not body.continue_final_message
    return tokenizer.apply_chat_template(
        [_plain(message) for message in messages],
        add_generation_prompt=generation_prompt,
        continue_final_message=bool(body.continue_final_message),
    )


def check_template_rules(body: TemplateFields, options: ServerOptions) -> None:
    """Rules between the fields that decide how a conversation is rendered.

    Raises:
        ValidationError: naming the field.
    """
    if not body.messages:
        raise ValidationError("messages must hold at least one message.", parameter="messages", value=[])
    if body.add_generation_prompt and body.continue_final_message:
        raise ValidationError(
            "continue_final_message and add_generation_prompt cannot both be true.", parameter="continue_final_message"
        )
    own = "chat_template" in (body.chat_template_kwargs or {})
    if (body.chat_template is not None or own) and not options.trust_request_chat_template:
        name = "chat_template_kwargs" if own else "chat_template"
        rule = "cannot bring a template: the server runs without --trust-request-chat-template"
        raise ValidationError(f"{name} {rule}.", parameter=name)


def text_of(message: ChatMessage) -> str:
    """A message's text; parts are joined by line breaks, as chat templates for text expect.

    Raises:
        ValidationError: a part is no text.
    """
    if isinstance(message.content, str):
        return message.content
    return "\n".join(_part_text(part) for part in message.content or [])


def _part_text(part: str | dict[str, Any]) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text")
    key = _TEXT_PARTS.get(kind) if isinstance(kind, str) else None
    if key is None:
        raise ValidationError(
            f"messages: content of type {str(kind)[:40]!r} is not supported: the model takes text only.", parameter="messages"
        )
    text = part.get(key)
    if not isinstance(text, str):
        raise ValidationError(f"messages: a content part of type {kind!r} needs the string {key!r}.", parameter="messages")
    return text


def _plain(message: ChatMessage) -> dict[str, Any]:
    """The message as chat templates see it: without what was not given."""
    plain: dict[str, Any] = {"role": message.role, "content": text_of(message)}
    for name in ("name", "tool_calls", "tool_call_id"):
        if (value := getattr(message, name)) is not None:
            plain[name] = value
    reasoning = message.reasoning if message.reasoning is not None else message.reasoning_content
    return plain if reasoning is None else {**plain, "reasoning": reasoning, "reasoning_content": reasoning}
