"""`text_offset` of completions: where a token's bytes begin in the text, in characters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tokenizers_zoo as zoo

from octavo.frontend.server.completions.logprobs import completion_logprobs
from octavo.frontend.server.completions.text_offsets import completion_offsets, prompt_offsets
from octavo.frontend.server.logprobs import TokenSpelling
from octavo.frontend.tokenizer import Tokenizer
from octavo.outputs import Logprob
from octavo.params import SamplingParams

KINDS = pytest.mark.parametrize(
    "kind", [zoo.byte_level, zoo.byte_fallback, zoo.byte_fallback_no_strip], ids=lambda k: k.__name__
)
TEXTS = pytest.mark.parametrize(
    "text", ["The capital of France", "👩‍👩‍👧🚀 emoji 𝒳", "ꙮ\u0001ꙮ and é", "你好，世界 x", "  two  spaces\n\n", "🙂"]
)


def expected(tokenizer: Tokenizer, token_ids: list[int], text: str, dropped: int) -> list[int]:
    """By bytes: the character that holds the first byte of the token. `dropped` bytes at the start are not in the text."""
    data, at, offsets = text.encode(), -dropped, []
    for token_id in token_ids:
        offsets.append(len(data[: max(0, at)].decode("utf-8", "ignore")))
        at += len(tokenizer.token_bytes(token_id))
    return offsets


@KINDS
@TEXTS
def test_a_prompt(kind: Callable[[], Tokenizer], text: str) -> None:
    tokenizer = kind()
    ids = tokenizer.encode(text, add_special_tokens=False)
    dropped = sum(len(tokenizer.token_bytes(i)) for i in ids) - len(text.encode())
    assert dropped == (kind is zoo.byte_fallback)
    assert prompt_offsets(tokenizer, ids, text) == expected(tokenizer, ids, text, dropped)


@KINDS
@TEXTS
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_what_follows_a_prompt(kind: Callable[[], Tokenizer], text: str, cut: int) -> None:
    """In whatever pieces the tokens come: the state goes from one to the next."""
    tokenizer = kind()
    prompt = tokenizer.encode("Once upon", add_special_tokens=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    shown = tokenizer.decode([*prompt, *ids]).removeprefix("Once upon")
    offsets = completion_offsets(tokenizer, prompt, SamplingParams(), cut)
    assert [offsets.next(i) for i in ids] == [cut + at for at in expected(tokenizer, ids, shown, 0)]


def test_special_tokens_have_no_text_or_their_spelling() -> None:
    tokenizer = zoo.byte_level()
    [end] = tokenizer.encode("<|im_end|>")
    a = tokenizer.encode("a")[0]
    hidden = completion_offsets(tokenizer, [], SamplingParams(), 0)
    assert [hidden.next(i) for i in (a, end, a, a)] == [0, 1, 1, 2]
    written = completion_offsets(tokenizer, [], SamplingParams(skip_special_tokens=False), 0)
    assert [written.next(i) for i in (a, end, a, a)] == [0, 1, 11, 12]


def test_a_bos_that_was_added_has_no_place_in_the_prompt() -> None:
    tokenizer = zoo.byte_fallback()
    bos = tokenizer.token_to_id("<s>")
    assert bos is not None
    ids = tokenizer.encode("ab c", add_special_tokens=False)
    assert prompt_offsets(tokenizer, [bos, *ids], "ab c") == [0, *prompt_offsets(tokenizer, ids, "ab c")]
    typed = prompt_offsets(tokenizer, [bos, *ids], "<s> ab c")
    assert typed[:2] == [0, len("<s>")]


def test_candidates_spelled_alike_keep_their_entries() -> None:
    """Bytes that are parts of characters are all spelled U+FFFD."""
    tokenizer = zoo.byte_level()
    parts = [i for i in range(tokenizer.vocab_size) if tokenizer.token_text(i) == "\ufffd"][:3]
    a = tokenizer.encode("a")[0]
    position = {parts[2]: Logprob(-3.0), parts[0]: Logprob(-1.0), a: Logprob(-1.5), parts[1]: Logprob(-2.0)}
    spelling = TokenSpelling(tokenizer, as_ids=False)
    shown = completion_logprobs([parts[2]], [position], [0], 4, spelling)
    assert shown.top_logprobs == [{f"token_id:{parts[0]}": -1.0, "a": -1.5, f"token_id:{parts[1]}": -2.0, "\ufffd": -3.0}], (
        "the token that is there has the plain spelling"
    )
    shown = completion_logprobs([a], [position], [0], 4, spelling)
    assert shown.top_logprobs == [{"\ufffd": -1.0, "a": -1.5, f"token_id:{parts[1]}": -2.0, f"token_id:{parts[2]}": -3.0}]
