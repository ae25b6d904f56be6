"""What chat and text completions share in showing log-probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from octavo.outputs import Logprob, LogprobsOnePosition, PromptLogprobs

if TYPE_CHECKING:
    from octavo.frontend.tokenizer import Tokenizer

LOWEST = -9999.0
"""Shown for minus infinity, which JSON cannot say."""


class PromptLogprob(msgspec.Struct):
    """One candidate at a position of the prompt."""

    logprob: float
    rank: int | None
    decoded_token: str | None


def shown_logprob(logprob: float) -> float:
    return max(LOWEST, logprob)


class TokenSpelling:
    """How one request wants its tokens written in logprobs.

    Args:
        tokenizer: None where the engine runs without one: then tokens are written as token_id:N.
        as_ids: write every token as token_id:N.
    """

    def __init__(self, tokenizer: Tokenizer | None, as_ids: bool) -> None:
        self._tokenizer = None if as_ids else tokenizer

    def text(self, token_id: int) -> str:
        return f"token_id:{token_id}" if self._tokenizer is None else self._tokenizer.token_text(token_id)

    def bytes(self, token_id: int) -> list[int]:
        """UTF-8 of the token; for a token that is part of a character, that part."""
        if self._tokenizer is None:
            return list(f"token_id:{token_id}".encode())
        return list(self._tokenizer.token_bytes(token_id))


def num_shown(num_top: int, listed_ids: list[int] | None) -> int:
    """How many candidates a position shows: the most likely `num_top` (-1 = all), or all ids that the request lists."""
    return -1 if listed_ids else num_top


def best_first(position: LogprobsOnePosition, count: int) -> list[tuple[int, Logprob]]:
    """The `count` most likely entries of a position; count -1 = all."""
    entries = sorted(position.items(), key=lambda item: -item[1].logprob)
    return entries if count < 0 else entries[:count]


def shown_prompt_logprobs(prompt_logprobs: PromptLogprobs | None) -> list[dict[str, PromptLogprob] | None] | None:
    """Prompt log-probabilities as vLLM shows them: per token a dict from id to entry, None for the first."""
    if prompt_logprobs is None:
        return None
    return [
        None
        if position is None
        else {
            str(token_id): PromptLogprob(shown_logprob(e.logprob), e.rank, e.decoded_token) for token_id, e in position.items()
        }
        for position in prompt_logprobs
    ]
