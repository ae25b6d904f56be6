"""The one way from text to token ids and back: bounded before it begins, off the event loop, given up with its caller.

A tokenizer reads a text to its end, however long, and nobody can stop it. So a text that cannot fit the model's context is
refused by its length; one that is suspiciously long for it is counted in pieces first, and whoever leaves meanwhile ends the
count. Long texts have a thread of their own, for others not to wait for them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cached_property, partial
from typing import ParamSpec, TypeVar

from octavo.errors import ValidationError
from octavo.frontend import heap
from octavo.frontend.text_checks import CONTEXT_LENGTH_EXCEEDED, check_text_length, check_unicode
from octavo.frontend.tokenizer import Tokenizer

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=Sized)

Convert = Callable[[Tokenizer, str, str], S]
"""Tokenizer, text and what errors call the text -> what becomes of it, as long as it has tokens."""

MOST_CHARS = 1_000_000
"""Characters (or ids) of a text that need not fit the context, where that holds less."""
_AT_ONCE = 2000
"""Characters or ids that are converted on the spot (about 1 µs each); more go to a thread."""
_LONG = 256_000
"""Characters or ids of work for the thread of long texts."""
_THREADS = 3
_PIECE = 64_000
"""Characters between two looks at whether anybody still waits."""
_USUAL_CHARS_PER_TOKEN = 4
_CUT_SURPLUS = 1.1
"""Cutting a text into pieces makes a few tokens more; never a tenth more."""


class CancelledWorkError(Exception):
    """Nobody waits for the result any more."""


class TokenizerPool:
    """A model's tokenizer, shared by every request.

    Args:
        tokenizer: None with skip_tokenizer_init: all that needs one is refused then.
        max_model_len: tokens the model's context holds.
    """

    def __init__(self, tokenizer: Tokenizer | None, max_model_len: int) -> None:
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._closed = threading.Event()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="octavo-tokenizer")
        self._long_thread = ThreadPoolExecutor(1, thread_name_prefix="octavo-long-text")

    def need_tokenizer(self, parameter: str) -> Tokenizer:
        """The tokenizer.

        Raises:
            ValidationError: there is none.
        """
        if self._tokenizer is None:
            message = f"{parameter} needs a tokenizer, and this engine runs with skip_tokenizer_init: send token ids."
            raise ValidationError(message, parameter=parameter)
        return self._tokenizer

    async def encode(
        self, text: str, *, add_special_tokens: bool = True, parameter: str = "prompt", as_prompt: bool = True
    ) -> list[int]:
        """Token ids of one text.

        Args:
            text: any text.
            add_special_tokens: add what the tokenizer adds to a prompt.
            parameter: what errors call the text.
            as_prompt: the ids are to be a prompt: refuse early what has far more of them than the context holds.

        Raises:
            ValidationError: there is no tokenizer; the text cannot fit the context, or is longer than both that and MOST_CHARS.
        """
        [ids] = await self.encode_all([text], add_special_tokens=add_special_tokens, parameter=parameter, as_prompt=as_prompt)
        return ids

    async def encode_all(
        self,
        texts: Sequence[str],
        *,
        add_special_tokens: bool = True,
        parameter: str = "prompt",
        as_prompt: bool = True,
        names: Sequence[str] | None = None,
    ) -> list[list[int]]:
        """Token ids of several texts, each as `encode` gives them; `names` is what errors call each, where they do not share a name."""
        encode = partial(_encoded, add_special_tokens=add_special_tokens)
        return await self.convert_all(texts, encode, names or [parameter] * len(texts), as_prompt=as_prompt)

    async def convert_all(self, texts: Sequence[str], convert: Convert[S], names: Sequence[str], *, as_prompt: bool) -> list[S]:
        """What `convert` makes of each text and its name, once in order for all texts.

        Raises:
            ValidationError: as `encode`, naming the text at fault; and what `convert` raises.
        """
        if not texts:
            return []
        tokenizer = self.need_tokenizer(names[0])
        if sum(map(len, texts)) <= _AT_ONCE:
            return [convert(tokenizer, text, name) for text, name in zip(texts, names, strict=True)]
        longest = max(range(len(texts)), key=lambda index: len(texts[index]))
        await self._check_length(len(texts[longest]), names[longest], "characters", as_prompt)
        results: list[S] = []
        for batch in _batches(texts):
            # One job after the other: those of other requests come between.
            named = list(zip(batch, names[len(results) :]))
            work = partial(self._convert_batch, tokenizer, named, convert, as_prompt)
            results += await self._cancellable(sum(map(len, batch)), work)
        return results

    def _convert_batch(
        self,
        tokenizer: Tokenizer,
        named: list[tuple[str, str]],
        convert: Convert[S],
        as_prompt: bool,
        check: Callable[[], None],
    ) -> list[S]:
        """In a thread. A prompt too long for the context is the end of it: the texts behind it are not looked at."""
        results = []
        for text, name in named:
            check()
            if as_prompt:
                self._check_count(tokenizer, text, name, check)
            result = convert(tokenizer, text, name)
            if as_prompt and len(named) > 1:
                check_text_length(len(result), self._max_model_len, name)
            results.append(result)
        return results

    async def cut_to_fit(self, text: str, *, keep_end: bool) -> str:
        """The part of a text that all of the context's tokens can come from, however long the text: for who truncates."""
        if len(text) <= self._max_model_len or self._tokenizer is None:
            return text
        limit = await self._limit()
        return text[-limit:] if keep_end else text[:limit]

    async def check_text(self, text: str, parameter: str = "prompt") -> None:
        """Refuse a text that cannot fit the context, by its length.

        Raises:
            ValidationError: naming `parameter`.
        """
        check_unicode(parameter, text)
        if len(text) > _AT_ONCE:
            await self._check_length(len(text), parameter, "characters", as_prompt=True)

    async def decode(self, token_ids: Sequence[int], *, parameter: str = "prompt") -> str:
        """Text of token ids, special tokens included.

        Raises:
            ValidationError: there is no tokenizer, or there are more ids than any text that is accepted has.
        """
        tokenizer = self.need_tokenizer(parameter)
        if len(token_ids) > _AT_ONCE:
            await self._check_length(len(token_ids), parameter, "token ids", as_prompt=False)
        return await self.run(len(token_ids), tokenizer.decode, token_ids)

    async def run(self, size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns; in a thread when it has more to do than the event loop should.

        Args:
            size: characters or ids it goes over.
            work: a function that may run in any thread.
        """
        if size <= _AT_ONCE:
            return work(*args, **kwargs)
        result = await asyncio.get_running_loop().run_in_executor(self._executor(size), lambda: work(*args, **kwargs))
        if size > _LONG:
            heap.tidy_soon()
        return result

    def close(self) -> None:
        """End the threads; what they are working on is not waited for."""
        self._closed.set()
        for pool in (self._threads, self._long_thread):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _limit(self) -> int:
        """`_most_chars`, off the event loop the first time."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: self._most_chars)

    @cached_property
    def _most_chars(self) -> int:
        """Characters of the longest text whose ids the context can hold; looks at the whole vocabulary."""
        return self._max_model_len * self.need_tokenizer("prompt").max_chars_per_token

    async def _check_length(self, length: int, parameter: str, what: str, as_prompt: bool) -> None:
        if length <= self._max_model_len or (not as_prompt and length <= MOST_CHARS):
            return
        limit = await self._limit()
        if as_prompt and length > limit:
            message = (
                f"This model's maximum context length is {self._max_model_len} tokens, so {parameter} may have at most {limit} "
                f"{what}; it has {length}."
            )
            raise ValidationError(message, parameter=parameter, value=length, code=CONTEXT_LENGTH_EXCEEDED)
        if length > max(limit, MOST_CHARS):
            message = f"{parameter} may have at most {max(limit, MOST_CHARS)} {what}, got {length}."
            raise ValidationError(message, parameter=parameter, value=length)

    def _check_count(self, tokenizer: Tokenizer, text: str, parameter: str, check: Callable[[], None]) -> None:
        """Refuse a text that is clearly too long, before all of it has been tokenized.

        The pieces' tokens are not those of the whole, so they only decide this; what passes is tokenized as a whole.
        """
        if len(text) <= max(_PIECE, _USUAL_CHARS_PER_TOKEN * self._max_model_len):
            return
        count = 0
        for piece in _pieces(text):
            check()
            count += len(_encoded(tokenizer, piece, parameter, False))
            if count > self._max_model_len * _CUT_SURPLUS + len(text) // _PIECE:
                message = (
                    f"This model's maximum context length is {self._max_model_len} tokens, but {parameter} has more: "
                    f"its {len(text)} characters begin with {count} tokens."
                )
                raise ValidationError(message, parameter=parameter, value=len(text), code=CONTEXT_LENGTH_EXCEEDED)

    async def _cancellable(self, size: int, work: Callable[[Callable[[], None]], T]) -> T:
        """Run `work` in a thread; its argument raises once the caller has left."""
        left = threading.Event()

        def check() -> None:
            if left.is_set() or self._closed.is_set():
                raise CancelledWorkError

        future = asyncio.get_running_loop().run_in_executor(self._executor(size), work, check)
        try:
            return await future
        except asyncio.CancelledError:
            left.set()
            raise
        finally:
            if size > _LONG:
                heap.tidy_soon()

    def _executor(self, size: int) -> Executor:
        return self._long_thread if size > _LONG else self._threads


def _encoded(tokenizer: Tokenizer, text: str, parameter: str, add_special_tokens: bool) -> list[int]:
    """Raises ValidationError for what is no Unicode: the library says only that it is no text."""
    try:
        return tokenizer.encode(text, add_special_tokens)
    except TypeError:
        check_unicode(parameter, text)
        raise


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in order, in lists that come to about `_LONG` characters; a longer text is alone."""
    batch: list[str] = []
    total = 0
    for text in texts:
        if batch and total + len(text) > _LONG:
            yield batch
            batch, total = [], 0
        batch.append(text)
        total += len(text)
    yield batch


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of about `_PIECE` characters, cut at blanks where there are any."""
    start = 0
    while start < len(text):
        end = start + _PIECE
        if end < len(text):
            blank = text.rfind(" ", start + _PIECE // 2, end)
            end = blank if blank > 0 else end
        yield text[start:end]
        start = end
