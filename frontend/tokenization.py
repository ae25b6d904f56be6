"""`tokenization_kwargs`: how one call wants its prompts tokenized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from octavo.errors import ValidationError
from octavo.frontend.input_processor import InputProcessor
from octavo.inputs import PromptType
from octavo.params import SamplingParams

_KNOWN = ("add_special_tokens", "truncate_prompt_tokens", "truncation_side", "truncation", "max_length")


@dataclass(frozen=True, slots=True)
class Tokenization:
    """What the options ask for.

    Attributes:
        limit: tokens that are kept; None = all, -1 = as many as leave room for the output.
        keep_end: the end is kept, not the beginning.
    """

    add_special_tokens: bool = True
    limit: int | None = None
    keep_end: bool = True


def parse_tokenization(options: Mapping[str, Any], *, add_special_tokens: bool = True) -> Tokenization:
    """Check the options.

    Args:
        options: `add_special_tokens`, `truncate_prompt_tokens` (or `truncation` with `max_length`) and `truncation_side`.
        add_special_tokens: where the options do not say.

    Raises:
        ValidationError: naming the one at fault.
    """
    unknown = [name for name in options if name not in _KNOWN]
    if unknown:
        raise _bad(f"knows no {unknown[0]!r}; known are {', '.join(_KNOWN)}")
    add = options.get("add_special_tokens", add_special_tokens)
    if not isinstance(add, bool):
        raise _bad(f"add_special_tokens must be a bool, got {add!r}")
    side = options.get("truncation_side") or "left"
    if side not in ("left", "right"):
        raise _bad(f"truncation_side must be 'left' or 'right', got {side!r}")
    limit = options.get("truncate_prompt_tokens")
    if limit is None and options.get("truncation"):
        limit = options.get("max_length", -1)
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < -1 or limit == 0):
        raise _bad(f"truncate_prompt_tokens must be a positive integer or -1, got {limit!r}")
    return Tokenization(add, limit, side == "left")


async def tokenized_prompt(
    processor: InputProcessor, prompt: PromptType, options: Mapping[str, Any], params: SamplingParams
) -> PromptType:
    """The prompt as token ids, as one request's options say.

    Raises:
        ValidationError: see `parse_tokenization` and `tokenized`.
    """
    return await tokenized(processor, prompt, parse_tokenization(options), params.max_tokens)


async def tokenized(processor: InputProcessor, prompt: PromptType, how: Tokenization, max_tokens: int | None) -> PromptType:
    """The prompt as token ids, cut as the options say; the rest of a dict stays.

    Raises:
        ValidationError: more tokens are to be kept than the context holds, or the text cannot be tokenized.
    """
    fields: dict[str, Any] = dict(prompt) if isinstance(prompt, Mapping) else {}
    text = prompt if isinstance(prompt, str) else fields.get("prompt")
    ids: Any = fields.get("prompt_token_ids") if isinstance(prompt, str | Mapping) else prompt
    if ids is None and isinstance(text, str):
        pool, cut = processor.texts, text
        if how.limit is not None:
            cut = await pool.cut_to_fit(text, keep_end=how.keep_end)
        ids = await pool.encode(cut, add_special_tokens=how.add_special_tokens, as_prompt=how.limit is None)
    if not isinstance(ids, list | tuple):
        return prompt  # refused where every prompt is checked
    if isinstance(text, str):
        fields["prompt"] = text
    fields["prompt_token_ids"] = _cut(list(ids), how, processor.max_model_len, max_tokens)
    return fields  # type: ignore[return-value]


def _cut(ids: list[int], how: Tokenization, max_model_len: int, max_tokens: int | None) -> list[int]:
    limit = how.limit
    if limit is None:
        return ids
    if limit > max_model_len:
        raise _bad(f"truncate_prompt_tokens must be at most the context of {max_model_len} tokens, got {limit}")
    if limit == -1:
        limit = max(1, max_model_len - max(1, max_tokens or 1))
    return (ids[-limit:] if how.keep_end else ids[:limit]) if len(ids) > limit else ids


def _bad(rule: str) -> ValidationError:
    return ValidationError(f"tokenization_kwargs: {rule}.", parameter="tokenization_kwargs")
