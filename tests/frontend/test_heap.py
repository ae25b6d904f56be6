"""Memory goes back after large work: once, a little later, however much of it there was."""

from __future__ import annotations

import threading

import pytest

from octavo.frontend import heap
from octavo.frontend.tokenizer import Tokenizer
from octavo.frontend.tokenizer_pool import TokenizerPool


def test_much_work_is_tidied_up_after_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tidied = threading.Semaphore(0)
    monkeypatch.setattr(heap, "_DELAY", 0.2)
    monkeypatch.setattr(heap, "trim", tidied.release)
    for _ in range(100):
        heap.tidy_soon()
    assert tidied.acquire(timeout=20)
    assert not tidied.acquire(timeout=0.3)
    heap.tidy_soon()
    assert tidied.acquire(timeout=20), "and again after later work"


def test_lists_are_emptied_one_object_at_a_time() -> None:
    first, second = [[1], [2], [3]], [[4]]
    held = first[0]
    heap.let_go(first, second)
    assert (first, second, held) == ([], [], [1])


def test_trimming_works_or_says_that_it_cannot() -> None:
    assert heap.trim() in (True, False)


async def test_long_texts_are_tidied_up_after(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(heap, "tidy_soon", lambda: calls.append(1))
    pool = TokenizerPool(tokenizer, 2048)
    await pool.encode("word " * 5000, as_prompt=False)
    assert not calls
    await pool.encode("word " * 60_000, as_prompt=False)
    await pool.decode([5] * 300_000)
    assert len(calls) == 2
    pool.close()
