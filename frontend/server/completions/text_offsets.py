"""Where the text of each token begins in a choice's text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from octavo.frontend.detokenizer import Detokenizer
from octavo.params import SamplingParams

if TYPE_CHECKING:
    from octavo.frontend.tokenizer import Tokenizer


class TextOffsets:
    """Follows a sequence token by token, as its text is made: the spelling of single tokens does not add up to it.

    Several tokens may make one character (then all of them begin where it begins), a special token may have no text, and a
    space at the very start may be dropped.
    """

    def __init__(self, tokenizer: Tokenizer, detokenizer: Detokenizer, start: int = 0) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = detokenizer
        self._length = start
        self._held = b""
        """Bytes of tokens whose text is not made yet."""

    def next(self, token_id: int) -> int:
        """Characters before the text of the next token."""
        before = self._length + _num_whole_characters(self._held)
        text = self._detokenizer.push(token_id)
        self._length += len(text)
        data = self._tokenizer.token_bytes(token_id)
        # A space without text was dropped at the start, not held.
        self._held = b"" if text or data == b" " else self._held + data
        own = data.decode("utf-8", "replace")
        # With its own text at the end of what came, it is known where that begins, whatever came before it.
        return self._length - len(own) if own and text.endswith(own) and _is_whole(data) else before


def completion_offsets(
    tokenizer: Tokenizer, prompt_token_ids: Sequence[int], params: SamplingParams, start: int
) -> TextOffsets:
    """Of the tokens after a prompt; `start` is how much text is shown before theirs."""
    detokenizer = tokenizer.detokenizers.new(prompt_token_ids, params.skip_special_tokens, params.spaces_between_special_tokens)
    return TextOffsets(tokenizer, detokenizer, start)


def prompt_offsets(tokenizer: Tokenizer, token_ids: Sequence[int], text: str) -> list[int]:
    """Of a prompt's own tokens in its text: special tokens that were put before it have no place in it."""
    added = 0
    while added < len(token_ids) and token_ids[added] in tokenizer.all_special_ids:
        if text.startswith(tokenizer.token_text(token_ids[added])):
            break
        added += 1
    offsets = TextOffsets(tokenizer, tokenizer.detokenizers.new([], skip_special_tokens=False))
    return [0] * added + [offsets.next(token_id) for token_id in token_ids[added:]]


def _num_whole_characters(data: bytes) -> int:
    return len(data.decode("utf-8", "ignore"))


def _is_whole(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
