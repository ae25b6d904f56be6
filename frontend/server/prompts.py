"""Texts and token ids of a request -> prompts for the engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from octavo.errors import ValidationError
from octavo.frontend.server.fields import GenerationFields
from octavo.inputs import PromptType, TextPrompt, TokensPrompt

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM
    from octavo.frontend.tokenizer import Tokenizer

QUICK_INPUT = 4096
"""Characters or tokens that are converted on the spot; more go to a thread, so that no stream waits for them."""


def tokenizer_of(engine: AsyncLLM) -> Tokenizer:
    """The engine's tokenizer.

    Raises:
        ValidationError: it runs without one.
    """
    tokenizer: Tokenizer | None = engine.tokenizer
    if tokenizer is None:
        raise ValidationError(
            "the server runs without a tokenizer (--skip-tokenizer-init): send token ids.", parameter="prompt"
        )
    return tokenizer


async def tokenize(engine: AsyncLLM, text: str, add_special_tokens: bool) -> list[int]:
    """Token ids of a text, however long, without holding up the event loop."""
    tokenizer = tokenizer_of(engine)
    if len(text) <= QUICK_INPUT:
        return tokenizer.encode(text, add_special_tokens)
    threads = engine.input_processor.threads
    return await asyncio.get_running_loop().run_in_executor(threads, tokenizer.encode, text, add_special_tokens)


async def detokenize(engine: AsyncLLM, token_ids: list[int]) -> str:
    """Text of token ids, special tokens included."""
    tokenizer = tokenizer_of(engine)
    if len(token_ids) <= QUICK_INPUT:
        return tokenizer.decode(token_ids)
    return await asyncio.get_running_loop().run_in_executor(engine.input_processor.threads, tokenizer.decode, token_ids)


async def engine_prompt(
    engine: AsyncLLM, body: GenerationFields, prompt: str | list[int], *, add_special_tokens: bool, max_tokens: int | None
) -> PromptType:
    """One prompt with the request's salt and truncation.

    The engine tokenizes a plain text itself; only what it has no option for is done here.

    Raises:
        ValidationError: truncate_prompt_tokens is more than the model's context.
    """
    if isinstance(prompt, str) and add_special_tokens and body.truncate_prompt_tokens is None:
        return _salted(TextPrompt(prompt=prompt), body)
    if isinstance(prompt, str):
        ids = await tokenize(engine, prompt, add_special_tokens)
        return _salted(
            TokensPrompt(prompt_token_ids=truncated(ids, body, engine.max_model_len, max_tokens), prompt=prompt), body
        )
    return _salted(TokensPrompt(prompt_token_ids=truncated(prompt, body, engine.max_model_len, max_tokens)), body)


def truncated(token_ids: list[int], body: GenerationFields, max_model_len: int, max_tokens: int | None) -> list[int]:
    """What truncate_prompt_tokens leaves; by default the end is kept."""
    limit = body.truncate_prompt_tokens
    if limit is None:
        return token_ids
    if limit > max_model_len:
        rule = f"must be at most the context of {max_model_len} tokens, got {limit}"
        raise ValidationError(f"truncate_prompt_tokens {rule}.", parameter="truncate_prompt_tokens", value=limit)
    if limit == -1:
        limit = max(1, max_model_len - max(1, max_tokens or 1))
    if len(token_ids) <= limit:
        return token_ids
    return token_ids[:limit] if body.truncation_side == "right" else token_ids[len(token_ids) - limit :]


def _salted(prompt: TextPrompt | TokensPrompt, body: GenerationFields) -> PromptType:
    if body.cache_salt is not None:
        prompt["cache_salt"] = body.cache_salt
    return prompt
