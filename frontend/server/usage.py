"""Token counts of a request, as OpenAI reports them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from octavo.outputs import RequestOutput


class PromptTokensDetails(msgspec.Struct):
    """Where prompt tokens came from."""

    cached_tokens: int
    created_cache_tokens: int
    multimodal_tokens: None = None


class Usage(msgspec.Struct):
    """The `usage` of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | UnsetType = UNSET


@dataclass(slots=True)
class UsageCounter:
    """Counts as outputs pass; a prompt counts once, however many sequences it gets."""

    with_details: bool
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def add_prompt(self, output: RequestOutput) -> None:
        self.prompt_tokens += len(output.prompt_token_ids)
        self.cached_tokens += output.num_cached_tokens

    def usage(self) -> Usage:
        details = (
            PromptTokensDetails(self.cached_tokens, self.prompt_tokens - self.cached_tokens) if self.with_details else UNSET
        )
        total = self.prompt_tokens + self.completion_tokens
        return Usage(self.prompt_tokens, self.completion_tokens, total, details)
