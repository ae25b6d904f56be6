"""`/pooling`: what comes in and what goes out."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from octavo.frontend.server.body import BodyType, Refused
from octavo.frontend.server.pooling.fields import REFUSED, WITHOUT_EFFECT, EncodedInputFields


class PoolingRequest(EncodedInputFields, kw_only=True):
    """Body of a pooling request: `input`, `messages`, or `data` for a plugin."""

    data: Any | UnsetType = UNSET
    """Whatever the plugin makes of it."""
    task: str | None = None
    """What to make of the hidden states; unset = of each token, where the model can."""
    io_processor: str | None = None
    """Which of the server's plugins; unset = the default."""
    pooling_params: dict[str, Any] | None = None
    """For a plugin: more of `PoolingParams`."""
    sampling_params: dict[str, Any] | None = None
    """For a plugin with `task` "generate": of `SamplingParams`."""


POOLING_BODY = BodyType(
    PoolingRequest,
    refused={**REFUSED, "dimensions": Refused("dimensions is currently not supported here; use /v1/embeddings")},
    without_effect=WITHOUT_EFFECT,
)


class PooledData(msgspec.Struct):
    """What became of one input: numbers, or for each token numbers."""

    index: int
    data: str | msgspec.Raw
    object: str = "pooling"
