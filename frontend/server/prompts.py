"""Texts and token ids of a request -> prompts for the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from octavo.errors import ValidationError
from octavo.frontend.server.fields import GenerationFields
from octavo.inputs import PromptType, TokensPrompt

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM

Prompt = str | list[int]


def split_prompts(name: str, value: str | Sequence[str | int | list[int]], most: int) -> list[Prompt]:
    """A field that holds a text, token ids, or several of either, as one prompt each.

    Args:
        name: of the field.
        value: what it holds.
        most: prompts that it may hold.

    Raises:
        ValidationError: none, too many, or a mixture.
    """
    if isinstance(value, str):
        return [value]
    kinds = set(map(type, value))
    if not kinds:
        raise ValidationError(f"{name} must not be empty.", parameter=name, value=[])
    if len(kinds) > 1:
        raise ValidationError(f"{name} must hold texts, or token ids, or lists of token ids, not a mixture.", parameter=name)
    if kinds == {int}:
        return [cast(list[int], value)]
    if len(value) > most:
        raise ValidationError(f"{name} may hold at most {most} prompts, got {len(value)}.", parameter=name)
    return cast(list[Prompt], value)


async def engine_prompts(
    engine: AsyncLLM, body: GenerationFields, prompts: Sequence[Prompt], *, add_special_tokens: bool, max_tokens: int | None
) -> list[PromptType]:
    """Prompts with the request's salt and truncation; long texts are tokenized off the event loop.

    Raises:
        ValidationError: truncate_prompt_tokens is more than the model's context, or a text cannot fit it.
    """
    limit = _truncation(body, engine.max_model_len, max_tokens)
    keep_end = body.truncation_side != "right"
    texts, pool = [prompt for prompt in prompts if isinstance(prompt, str)], engine.input_processor.texts
    if limit is not None:
        texts = [await pool.cut_to_fit(text, keep_end=keep_end) for text in texts]
    encoded = iter(
        await pool.encode_all(texts, add_special_tokens=add_special_tokens, as_prompt=limit is None) if texts else ()
    )
    result: list[PromptType] = []
    for prompt in prompts:
        ids = next(encoded) if isinstance(prompt, str) else prompt
        made = TokensPrompt(prompt_token_ids=ids if limit is None else truncated(ids, limit, keep_end=keep_end))
        if isinstance(prompt, str):
            made["prompt"] = prompt
        if body.cache_salt is not None:
            made["cache_salt"] = body.cache_salt
        result.append(made)
    return result


def truncated(token_ids: list[int], limit: int, *, keep_end: bool = True) -> list[int]:
    """At most `limit` of the ids, from the end or the beginning."""
    if len(token_ids) <= limit:
        return token_ids
    return token_ids[len(token_ids) - limit :] if keep_end else token_ids[:limit]


def _truncation(body: GenerationFields, max_model_len: int, max_tokens: int | None) -> int | None:
    """The tokens that truncate_prompt_tokens leaves of a prompt; None = all."""
    limit = body.truncate_prompt_tokens
    if limit is not None and limit > max_model_len:
        rule = f"must be at most the context of {max_model_len} tokens, got {limit}"
        raise ValidationError(f"truncate_prompt_tokens {rule}.", parameter="truncate_prompt_tokens", value=limit)
    return max(1, max_model_len - max(1, max_tokens or 1)) if limit == -1 else limit
