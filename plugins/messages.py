"""What goes over HTTP to and from a plugin: `IOProcessorRequest` and `IOProcessorResponse`, with vLLM's names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class IOProcessorRequest(msgspec.Struct, Generic[T], kw_only=True):
    """The body of `POST /pooling` in the form for plugins."""

    data: T
    """Whatever the plugin makes of it."""
    data_format: str | None = None
    """Offline prompts may have one."""
    model: str | None = None
    task: str = "plugin"
    """"plugin" pools; "generate" has the model generate."""
    io_processor: str | None = None
    """Which of the server's plugins; None = the default."""
    user: str | None = None
    priority: int = 0
    request_id: str | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: str | None = None
    dimensions: int | None = None
    use_activation: bool | None = None
    padding: bool | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    cache_salt: str | None = None
    encoding_format: str = "float"
    embed_dtype: str = "float32"
    endianness: str = "native"

    def model_dump(self) -> dict[str, Any]:
        """The fields as a dict, as a pydantic model gives them."""
        return msgspec.structs.asdict(self)


@dataclass
class UsageInfo:
    """Counts of tokens, for plugins that answer with them; a dataclass, which pydantic models may have as a field."""

    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int | None = 0


def _now() -> int:
    return int(time.time())


class IOProcessorResponse(msgspec.Struct, Generic[T], kw_only=True):
    """The answer of `POST /pooling` in the form for plugins."""

    request_id: str | None = None
    """None = the request's."""
    created_at: int = msgspec.field(default_factory=_now)
    """Unix seconds."""
    data: T

    def model_dump(self) -> dict[str, Any]:
        """The fields as a dict, as a pydantic model gives them."""
        return msgspec.structs.asdict(self)


def data_of(request: Any) -> Any:
    """What a request is about: its `data`, or the value of a dict's "data"."""
    if isinstance(request, Mapping):
        return request.get("data", request)
    return getattr(request, "data", request)
