"""The progress bar of a batch: none before the batch is known to be valid, all of it afterwards."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from octavo.frontend.loop_thread import LoopThread
from octavo.frontend.progress_bar import BatchBar
from octavo.outputs import CompletionOutput, RequestOutput


class Bar:
    """What tqdm is to BatchBar."""

    made: ClassVar[list[Bar]] = []

    def __init__(self, **options: Any) -> None:
        self.options, self.done, self.closed = options, 0, False
        Bar.made.append(self)

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.text = text

    def update(self, number: int) -> None:
        self.done += number

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def no_bars() -> None:
    Bar.made.clear()


OUTPUT = RequestOutput("0", "x", [1, 2, 3], [CompletionOutput(0, "y", [4, 5])], finished=True)


def test_an_error_shows_no_bar() -> None:
    with pytest.raises(ValueError), BatchBar(2, Bar):
        raise ValueError
    assert not Bar.made


def test_a_quick_batch_shows_its_bar_at_the_end() -> None:
    with BatchBar(2, Bar) as bar:
        bar.update(OUTPUT)
        bar.update(OUTPUT)
        assert not Bar.made
    [drawn] = Bar.made
    assert (drawn.options["total"], drawn.done, drawn.closed) == (2, 2, True)
    assert drawn.text.startswith("input ")


def test_a_bar_that_is_shown_counts_what_came_before() -> None:
    with BatchBar(3, Bar) as bar:
        bar.update(OUTPUT)
        bar.show()
        bar.show()
        bar.update(OUTPUT)
        assert [drawn.done for drawn in Bar.made] == [2]


@pytest.mark.parametrize("wanted", [False, True])
def test_no_bar_without_prompts_or_when_not_wanted(wanted: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with BatchBar(0 if wanted else 2, wanted) as bar:
        bar.show()
    assert capsys.readouterr().err == ""


def test_the_waiting_thread_is_told_once_the_coroutine_runs_on() -> None:
    async def fail() -> None:
        raise ValueError("at once")

    async def work(started: asyncio.Event) -> int:
        await started.wait()
        return 7

    told: list[int] = []
    thread = LoopThread("test")
    try:
        with pytest.raises(ValueError, match="at once"):
            thread.call(fail(), lambda: told.append(1))
        assert not told
        started = asyncio.Event()
        assert thread.call(work(started), lambda: (told.append(1), thread._loop.call_soon_threadsafe(started.set))[0]) == 7
        assert told == [1]
    finally:
        thread.close()
