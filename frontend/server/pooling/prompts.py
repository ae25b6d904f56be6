"""Inputs of a pooling request -> prompts for the engine: tokenized once for all of them, checked before one is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from octavo.errors import ValidationError
from octavo.frontend.cut_tokenization import encode_within
from octavo.frontend.server.chat.prompt import check_template_rules, render
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.pooling.fields import InputFields, PoolingFields
from octavo.frontend.server.prompts import Prompt, split_prompts, truncated
from octavo.frontend.text_checks import check_text_length
from octavo.inputs import TokensPrompt

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

MAX_INPUTS = 2048
"""Texts of one request, as OpenAI allows."""


@dataclass(slots=True)
class Inputs:
    """What a request wants pooled.

    Attributes:
        names: what errors call each, as "input[3]".
        prompts: for the engine.
    """

    names: list[str]
    prompts: list[TokensPrompt]

    @property
    def num_tokens(self) -> int:
        """Of all prompts."""
        return sum(len(prompt["prompt_token_ids"]) for prompt in self.prompts)


async def pooled_inputs(engine: AsyncLLM, options: ServerOptions, body: InputFields) -> Inputs:
    """The prompts of a request with `input` or `messages`.

    Raises:
        ValidationError: naming the field or item at fault.
    """
    if (body.input is None) == (body.messages is None):
        raise ValidationError("give either input or messages.", parameter="input")
    if body.messages is not None:
        return await _conversations(engine, options, body, body.messages)
    value = body.input if body.input is not None else ""
    inputs = await engine.input_processor.texts.run(len(value), split_prompts, "input", value, MAX_INPUTS)
    single = isinstance(value, str) or (len(inputs) == 1 and inputs[0] is value)
    names = ["input"] if single else [f"input[{index}]" for index in range(len(inputs))]
    return await tokenized_inputs(engine, body, inputs, names, add_special_tokens=body.add_special_tokens is not False)


async def tokenized_inputs(
    engine: AsyncLLM,
    body: PoolingFields,
    inputs: Sequence[Prompt],
    names: list[str],
    *,
    add_special_tokens: bool = True,
    at_most: int | None = None,
) -> Inputs:
    """Texts and token ids as prompts, cut as the request says.

    Args:
        names: what errors call each input.
        add_special_tokens: add to texts what the tokenizer adds to a prompt.
        at_most: tokens that are kept, where the request leaves more.

    Raises:
        ValidationError: naming the input that is empty, too long, or no token ids of the model.
    """
    limit, keep_end = truncation(body, engine.max_model_len), body.truncation_side == "left"
    limit = min((one for one in (limit, at_most) if one is not None), default=None)
    pool = engine.input_processor.texts
    texts = [text for text in inputs if isinstance(text, str)]
    names_of_texts = [name for name, text in zip(names, inputs) if isinstance(text, str)]
    if limit is None:
        encoded = await pool.encode_all(texts, add_special_tokens=add_special_tokens, names=names_of_texts)
    else:
        texts = [await pool.cut_to_fit(text, keep_end=keep_end) for text in texts]
        cut = partial(encode_within, limit=limit, keep_end=keep_end, add_special_tokens=add_special_tokens)
        encoded = await pool.convert_all(texts, cut, names_of_texts, as_prompt=False)
    remaining = iter(encoded)
    all_ids = [next(remaining) if isinstance(one, str) else one for one in inputs]
    if limit is not None:
        all_ids = [truncated(ids, limit, keep_end=keep_end) for ids in all_ids]
    await pool.run(sum(map(len, all_ids)), check_ids_and_lengths, engine, names, all_ids)
    return Inputs(names, [token_prompt(ids, body) for ids in all_ids])


def token_prompt(token_ids: list[int], body: PoolingFields, type_ids: list[int] | None = None) -> TokensPrompt:
    """Token ids with the request's salt; `type_ids` say of each which text of a pair it is of."""
    made = TokensPrompt(prompt_token_ids=token_ids)
    if type_ids is not None:
        made["token_type_ids"] = type_ids
    if body.cache_salt is not None:
        made["cache_salt"] = body.cache_salt
    return made


def truncation(body: PoolingFields, max_model_len: int) -> int | None:
    """The tokens that truncate_prompt_tokens leaves of a prompt; None = all.

    Raises:
        ValidationError: naming the field.
    """
    limit = body.truncate_prompt_tokens
    if limit is None or 0 < limit <= max_model_len:
        return limit
    if limit == -1:
        return max_model_len
    rule = f"must be from 1 to the context of {max_model_len} tokens, or -1 for that, got {limit}"
    raise ValidationError(f"truncate_prompt_tokens {rule}.", parameter="truncate_prompt_tokens", value=limit)


def check_ids_and_lengths(engine: AsyncLLM, names: list[str], all_ids: list[list[int]]) -> None:
    """Refuse a prompt that is empty, too long, or no token ids of the model.

    Raises:
        ValidationError: naming it.
    """
    for name, ids in zip(names, all_ids, strict=True):
        if not ids:
            raise ValidationError(f"{name} must not be empty.", parameter=name, value=ids)
        check_text_length(len(ids), engine.max_model_len, name)
        engine.input_processor.check_ids(name, ids)


@dataclass
class _Template:
    """How a pooling request has its conversations rendered: as they are, unless it asks for a turn to begin."""

    add_generation_prompt: bool | None
    continue_final_message: bool | None
    chat_template: str | None
    chat_template_kwargs: dict[str, Any] | None
    documents: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    reasoning_effort: str | None = None


async def _conversations(
    engine: AsyncLLM, options: ServerOptions, body: InputFields, messages: list[dict[str, Any] | list[dict[str, Any]]]
) -> Inputs:
    """One conversation, or several, as prompts."""
    template = _Template(
        bool(body.add_generation_prompt), body.continue_final_message, body.chat_template, body.chat_template_kwargs
    )
    check_template_rules(template, options)
    names, conversations = _split_conversations(messages)
    texts: list[Prompt] = []
    for name, conversation in zip(names, conversations, strict=True):
        with _within(name):
            texts.append(await render(engine, options, template, conversation))
    return await tokenized_inputs(engine, body, texts, names, add_special_tokens=bool(body.add_special_tokens))


@contextmanager
def _within(name: str) -> Iterator[None]:
    """Let errors of the block name a message as one of this conversation."""
    try:
        yield
    except ValidationError as error:
        if error.parameter is not None and error.parameter.startswith("messages"):
            error.parameter = name + error.parameter.removeprefix("messages")
        raise


def _split_conversations(messages: list[dict[str, Any] | list[dict[str, Any]]]) -> tuple[list[str], list[list[dict[str, Any]]]]:
    kinds = set(map(type, messages))
    if kinds == {dict}:
        return ["messages"], [messages]  # type: ignore[list-item]
    if kinds != {list}:
        message = "messages must hold one conversation's messages, or lists of them, and not be empty."
        raise ValidationError(message, parameter="messages")
    if len(messages) > MAX_INPUTS:
        message = f"messages may hold at most {MAX_INPUTS} conversations, got {len(messages)}."
        raise ValidationError(message, parameter="messages", value=len(messages))
    return [f"messages[{index}]" for index in range(len(messages))], messages  # type: ignore[return-value]
