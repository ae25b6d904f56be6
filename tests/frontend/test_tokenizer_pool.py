"""Texts to ids: what is too long is refused early, what nobody waits for is given up, and the ids are the tokenizer's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from octavo.errors import ValidationError
from octavo.frontend import tokenizer_pool
from octavo.frontend.tokenizer import Tokenizer
from octavo.frontend.tokenizer_pool import MOST_CHARS, TokenizerPool

MAX_MODEL_LEN = 2048


@pytest.fixture
def pool(tokenizer: Tokenizer) -> Iterator[TokenizerPool]:
    pool = TokenizerPool(tokenizer, MAX_MODEL_LEN)
    yield pool
    pool.close()


class Watched:
    """The tokenizer, counting what it is given; holds until it is let go on."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.max_chars_per_token = tokenizer.max_chars_per_token
        self.seen: list[int] = []
        self.threads: set[int] = set()
        self.go_on = threading.Event()
        self.go_on.set()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        self.seen.append(len(text))
        self.threads.add(threading.get_ident())
        assert self.go_on.wait(30)
        return self._tokenizer.encode(text, add_special_tokens)

    def decode(self, token_ids: Any) -> str:
        self.threads.add(threading.get_ident())
        return self._tokenizer.decode(token_ids)


def watched_pool(tokenizer: Tokenizer, max_model_len: int = MAX_MODEL_LEN) -> tuple[Watched, TokenizerPool]:
    watched = Watched(tokenizer)
    return watched, TokenizerPool(watched, max_model_len)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, 1, 1999, 2001, 25_000])
async def test_ids_are_the_tokenizers_own(pool: TokenizerPool, tokenizer: Tokenizer, length: int) -> None:
    text = ("The quick <|im_end|> brown\n\n fox  " * (length // 10 + 1))[:length]
    assert await pool.encode(text, as_prompt=False) == tokenizer.encode(text)
    assert await pool.encode(text, add_special_tokens=False, as_prompt=False) == tokenizer.encode(text, False)
    ids = tokenizer.encode(text)
    assert await pool.decode(ids) == tokenizer.decode(ids)


async def test_several_texts_keep_their_order(pool: TokenizerPool, tokenizer: Tokenizer) -> None:
    texts = [f"text number {i} " * (1 + i % 700) for i in range(900)]
    assert await pool.encode_all(texts, as_prompt=False) == [tokenizer.encode(text) for text in texts]


async def test_only_short_texts_are_converted_on_the_loop(tokenizer: Tokenizer) -> None:
    here = threading.get_ident()
    watched, pool = watched_pool(tokenizer)
    await pool.encode("short")
    assert watched.threads == {here}
    for work in (pool.encode("x" * 3000), pool.encode_all(["x" * 30] * 100), pool.decode([5] * 3000)):
        watched.threads.clear()
        await work
        assert here not in watched.threads
    pool.close()


async def test_what_cannot_fit_is_refused_before_it_is_tokenized(tokenizer: Tokenizer) -> None:
    watched, pool = watched_pool(tokenizer)
    most = MAX_MODEL_LEN * tokenizer.max_chars_per_token
    with pytest.raises(ValidationError, match=f"at most {most} characters; it has {most + 1}") as caught:
        await pool.encode("x" * (most + 1), parameter="messages")
    assert (caught.value.parameter, caught.value.code) == ("messages", "context_length_exceeded")
    assert watched.seen == []
    with pytest.raises(ValidationError, match=f"at most {MOST_CHARS} characters, got {MOST_CHARS + 1}"):
        await pool.encode("x" * (MOST_CHARS + 1), as_prompt=False)
    with pytest.raises(ValidationError, match=f"at most {MOST_CHARS} token ids"):
        await pool.decode([5] * (MOST_CHARS + 1))
    assert watched.seen == []
    pool.close()


async def test_what_has_far_too_many_tokens_is_refused_by_its_beginning(tokenizer: Tokenizer) -> None:
    watched, pool = watched_pool(tokenizer, 60_000)
    text = "x y z " * 100_000
    with pytest.raises(ValidationError, match=r"maximum context length is 60000 tokens.* begin with \d+ tokens") as caught:
        await pool.encode(text)
    assert caught.value.code == "context_length_exceeded"
    assert sum(watched.seen) < len(text) // 2
    assert max(watched.seen) <= 64_000
    assert len(await pool.encode(text, as_prompt=False)) > 60_000
    pool.close()


async def test_a_dense_text_that_fits_is_accepted(tokenizer: Tokenizer) -> None:
    """One whose tokens are long: its characters alone do not say that it is too long."""
    text = "<|im_end|>" * 30_000
    ids = tokenizer.encode(text)
    pool = TokenizerPool(tokenizer, len(ids))
    assert len(text) > 4 * len(ids)
    assert await pool.encode(text) == ids
    pool.close()


async def test_work_of_who_left_is_given_up(tokenizer: Tokenizer) -> None:
    """In the midst of a count, and before it begins."""
    watched, pool = watched_pool(tokenizer, 300_000)
    watched.go_on.clear()
    text = "word " * 400_000
    running = asyncio.create_task(pool.encode(text))
    await until(lambda: len(watched.seen) == 1)
    waiting = [asyncio.create_task(pool.encode(text)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in (running, *waiting):
        task.cancel()
    await asyncio.gather(running, *waiting, return_exceptions=True)
    watched.go_on.set()
    assert await pool.encode("word " * 60_000) == tokenizer.encode("word " * 60_000)
    assert len(watched.seen) == 2, "one piece of the text that was left, and the last text"
    pool.close()


async def test_a_long_text_does_not_keep_others_waiting(tokenizer: Tokenizer) -> None:
    watched, pool = watched_pool(tokenizer, 300_000)
    watched.go_on.clear()
    long = [asyncio.create_task(pool.encode("word " * 60_000)) for _ in range(8)]
    await until(lambda: len(watched.seen) == 1)
    assert len(await pool.run(3000, tokenizer.encode, "word " * 600)) > 0
    watched.go_on.set()
    await asyncio.gather(*long)
    pool.close()


async def test_the_pieces_of_a_text_are_the_text() -> None:
    for text in ("", "a", "ab " * 100_000, "x" * 200_000, " " * 130_000, "x" * 63_999 + " y" * 40_000):
        pieces = list(tokenizer_pool._pieces(text))
        assert "".join(pieces) == text
        assert all(0 < len(piece) <= 64_000 for piece in pieces)


async def test_who_truncates_may_send_more(pool: TokenizerPool, tokenizer: Tokenizer) -> None:
    text = " ".join(map(str, range(200_000)))
    for keep_end in (True, False):
        cut = await pool.cut_to_fit(text, keep_end=keep_end)
        assert len(cut) == MAX_MODEL_LEN * tokenizer.max_chars_per_token
        assert text.endswith(cut) if keep_end else text.startswith(cut)
    assert await pool.cut_to_fit("short", keep_end=True) == "short"


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  (nobody announces it)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("text", ["\ud83d", "a" * 3000 + "\ud83d"])
async def test_what_is_no_unicode_is_refused(pool: TokenizerPool, text: str) -> None:
    with pytest.raises(ValidationError, match="not valid Unicode") as caught:
        await pool.encode(text)
    assert caught.value.parameter == "prompt"


async def test_the_first_prompt_too_many_for_the_context_is_the_last_that_is_looked_at(tokenizer: Tokenizer) -> None:
    watched, pool = watched_pool(tokenizer)
    texts = ["fine " * 10, *["word " * MAX_MODEL_LEN] * 50]
    with pytest.raises(ValidationError, match="maximum context length") as caught:
        await pool.encode_all(texts)
    assert caught.value.code == "context_length_exceeded"
    assert watched.seen == [len(texts[0]), len(texts[1])]
    assert len(await pool.encode_all(texts[:3], as_prompt=False)) == 3
    pool.close()
