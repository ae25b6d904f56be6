"""vLLM's name for where sampling parameters are: forwards to `octavo.params`."""

from __future__ import annotations

from typing import Any

from octavo.not_served import NAMES, refusal
from octavo.params import RequestOutputKind, SamplingParams
from octavo.structured_outputs import GuidedDecodingParams, StructuredOutputsParams

__all__ = ["GuidedDecodingParams", "RequestOutputKind", "SamplingParams", "StructuredOutputsParams"]


def __getattr__(name: str) -> Any:
    if name in NAMES:
        raise ImportError(str(refusal(name, NAMES)))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
