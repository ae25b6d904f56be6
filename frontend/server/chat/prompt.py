"""A conversation -> the prompt the model sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from octavo.errors import ValidationError
from octavo.frontend.server.chat.protocol import ChatRequest
from octavo.frontend.server.options import NOT_TEMPLATE_KWARGS, ServerOptions
from octavo.frontend.server.prompts import engine_prompts
from octavo.frontend.text_checks import CONTEXT_LENGTH_EXCEEDED
from octavo.inputs import PromptType

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

_MAX_KWARGS = 1000


class TemplateFields(Protocol):
    """The fields of a request that decide how its conversation is rendered."""

    add_generation_prompt: bool | None
    continue_final_message: bool | None
    chat_template: str | None
    chat_template_kwargs: dict[str, Any] | None
    documents: list[dict[str, Any]] | None
    tools: list[dict[str, Any]] | None

    @property
    def reasoning_effort(self) -> str | None: ...


async def chat_prompt(engine: AsyncLLM, options: ServerOptions, body: ChatRequest, max_tokens: int | None) -> PromptType:
    """The prompt that a chat request's conversation becomes.

    Raises:
        ValidationError: the model has no template, or it refuses the conversation.
    """
    text = await render(engine, options, body, body.messages)
    add = bool(body.add_special_tokens)
    [prompt] = await engine_prompts(engine, body, [text], add_special_tokens=add, max_tokens=max_tokens)
    return prompt


async def render(engine: AsyncLLM, options: ServerOptions, body: TemplateFields, messages: list[dict[str, Any]]) -> str:
    """The text that a conversation becomes.

    Raises:
        ValidationError: the model has no template, the template refuses the conversation, or it cannot fit the context.
    """
    if len(messages) > engine.max_model_len:
        message = (
            f"This model's maximum context length is {engine.max_model_len} tokens, but there are {len(messages)} messages."
        )
        raise ValidationError(message, parameter="messages", value=len(messages), code=CONTEXT_LENGTH_EXCEEDED)
    effort = {} if body.reasoning_effort is None else {"reasoning_effort": body.reasoning_effort}
    variables = {**options.default_chat_template_kwargs, **effort, **(body.chat_template_kwargs or {})}
    return await engine.render_chat(
        messages,
        chat_template=body.chat_template,
        add_generation_prompt=body.add_generation_prompt is not False and not body.continue_final_message,
        continue_final_message=bool(body.continue_final_message),
        tools=body.tools,
        documents=body.documents,
        content_format=options.chat_template_content_format,
        **variables,
    )


def check_template_rules(body: TemplateFields, options: ServerOptions) -> None:
    """Rules between the fields that decide how a conversation is rendered.

    Raises:
        ValidationError: naming the field.
    """
    if body.add_generation_prompt and body.continue_final_message:
        raise ValidationError(
            "continue_final_message and add_generation_prompt cannot both be true.", parameter="continue_final_message"
        )
    if body.chat_template is not None and not options.trust_request_chat_template:
        rule = "cannot come with a request: the server runs without --trust-request-chat-template"
        raise ValidationError(f"chat_template {rule}.", parameter="chat_template")
    if len(body.chat_template_kwargs or {}) > _MAX_KWARGS:
        message = f"chat_template_kwargs may hold at most {_MAX_KWARGS} names."
        raise ValidationError(message, parameter="chat_template_kwargs")
    misplaced = NOT_TEMPLATE_KWARGS & (body.chat_template_kwargs or {}).keys()
    if misplaced:
        message = f"chat_template_kwargs may not hold {', '.join(sorted(misplaced))}."
        raise ValidationError(message, parameter="chat_template_kwargs")


def text_of(message: dict[str, Any]) -> str:
    """A message's text, parts joined by line breaks; for a message that `render` has accepted."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)
