"""What can be found wrong with a plugin's class before a request comes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from octavo.plugins import typed
from octavo.plugins.io_processor import IOProcessor, overrides

_TRANSITION = ("merge_pooling_params", "merge_sampling_params")


def problems(cls: type) -> list[str]:
    """Sentences, each a reason why the class cannot serve; [] when there is none."""
    return list(_problems(cls))


def _problems(cls: type) -> Iterator[str]:
    if not issubclass(cls, IOProcessor):
        yield f"{cls.__name__} is no subclass of IOProcessor"
        return
    abstract: frozenset[str] = getattr(cls, "__abstractmethods__", frozenset())
    if abstract:
        yield f"{cls.__name__} lacks {', '.join(sorted(abstract))}"
    if generation(cls) == "" and typed.declared_types(cls)[0] is None:
        yield f"{cls.__name__} has neither parse_data nor parse_request, and declares no IOProcessor[Input, Output]"
    for name in ("pre_process", "post_process", "parse_data", "parse_request", "output_to_response"):
        if inspect.iscoroutinefunction(getattr(cls, name)):
            yield f"{cls.__name__}.{name} must not be async{_twin(name)}"
    for name in ("pre_process_async", "post_process_async"):
        if not inspect.iscoroutinefunction(getattr(cls, name)):
            yield f"{cls.__name__}.{name} must be async"


def _twin(name: str) -> str:
    return f"; its asynchronous form is {name}_async" if name.endswith("_process") else ""


def generation(cls: type) -> str:
    """By its way to read a request: "latest", "transition" or "first"; "" when it leaves that to its declared type."""
    if overrides(cls, "parse_data"):
        return "latest"
    if not overrides(cls, "parse_request"):
        return ""
    return "transition" if any(overrides(cls, name) for name in _TRANSITION) else "first"
