"""Faults of a plugin's class that are found before a request comes."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.plugins.checks import generation, problems
from octavo.plugins.io_processor import IOProcessor


def cls(base: Any = IOProcessor, **methods: Any) -> type:
    return type("Plugin", (base,), methods)


async def _async(self: Any, *_: Any, **__: Any) -> Any:
    return self


def _sync(self: Any, *_: Any, **__: Any) -> Any:
    return self


BOTH = {"pre_process": _sync, "post_process": _sync}


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (cls(object), "is no subclass of IOProcessor"),
        (cls(parse_data=_sync), "lacks post_process, pre_process"),
        (cls(**BOTH), "has neither parse_data nor parse_request, and declares no IOProcessor[Input, Output]"),
        (
            cls(**{**BOTH, "pre_process": _async}, parse_data=_sync),
            "pre_process must not be async; its asynchronous form is pre_process_async",
        ),
        (cls(**BOTH, parse_data=_async), "Plugin.parse_data must not be async"),
        (cls(**BOTH, parse_data=_sync, post_process_async=_sync), "post_process_async must be async"),
    ],
)
def test_faults(plugin: type, words: str) -> None:
    (problem,) = problems(plugin)
    assert words in problem


class Typed(IOProcessor[dict[str, int], int]):
    pre_process = _sync  # type: ignore[assignment]
    post_process = _sync  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("plugin", "name"),
    [
        (Typed, ""),
        (cls(**BOTH, parse_data=_sync), "latest"),
        (cls(**BOTH, parse_data=_sync, parse_request=_sync), "latest"),
        (cls(**BOTH, parse_request=_sync, merge_pooling_params=_sync), "transition"),
        (cls(**BOTH, parse_request=_sync), "first"),
    ],
)
def test_generations(plugin: type, name: str) -> None:
    assert not problems(plugin)
    assert generation(plugin) == name
