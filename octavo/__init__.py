"""Octavo: an LLM serving engine.

The names a program imports from `octavo`; each is loaded when it is first used, so `import octavo` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from octavo.version import __version__

if TYPE_CHECKING:
    from octavo.config import EngineArgs as EngineArgs
    from octavo.executor.models.model_registry import ModelRegistry as ModelRegistry
    from octavo.flat_logprobs import FlatLogprobs as FlatLogprobs
    from octavo.frontend.async_llm import AsyncLLM as AsyncLLM
    from octavo.frontend.llm import LLM as LLM
    from octavo.frontend.llm_engine import LLMEngine as LLMEngine
    from octavo.inputs import DataPrompt as DataPrompt
    from octavo.inputs import PromptType as PromptType
    from octavo.inputs import TextPrompt as TextPrompt
    from octavo.inputs import TokensPrompt as TokensPrompt
    from octavo.outputs import CompletionOutput as CompletionOutput
    from octavo.outputs import Logprob as Logprob
    from octavo.outputs import RequestOutput as RequestOutput
    from octavo.params import RequestOutputKind as RequestOutputKind
    from octavo.params import SamplingParams as SamplingParams
    from octavo.pooling_outputs import ClassificationOutput as ClassificationOutput
    from octavo.pooling_outputs import ClassificationRequestOutput as ClassificationRequestOutput
    from octavo.pooling_outputs import EmbeddingOutput as EmbeddingOutput
    from octavo.pooling_outputs import EmbeddingRequestOutput as EmbeddingRequestOutput
    from octavo.pooling_outputs import PoolingOutput as PoolingOutput
    from octavo.pooling_outputs import PoolingRequestOutput as PoolingRequestOutput
    from octavo.pooling_outputs import ScoringOutput as ScoringOutput
    from octavo.pooling_outputs import ScoringRequestOutput as ScoringRequestOutput
    from octavo.pooling_params import PoolingParams as PoolingParams
    from octavo.structured_outputs import GuidedDecodingParams as GuidedDecodingParams
    from octavo.structured_outputs import StructuredOutputsParams as StructuredOutputsParams

    AsyncEngineArgs = EngineArgs
    AsyncLLMEngine = AsyncLLM

_HOMES = {
    "AsyncEngineArgs": ("octavo.config", "EngineArgs"),
    "AsyncLLM": ("octavo.frontend.async_llm", "AsyncLLM"),
    "AsyncLLMEngine": ("octavo.frontend.async_llm", "AsyncLLM"),
    "ClassificationOutput": ("octavo.pooling_outputs", "ClassificationOutput"),
    "ClassificationRequestOutput": ("octavo.pooling_outputs", "ClassificationRequestOutput"),
    "CompletionOutput": ("octavo.outputs", "CompletionOutput"),
    "DataPrompt": ("octavo.inputs", "DataPrompt"),
    "EmbeddingOutput": ("octavo.pooling_outputs", "EmbeddingOutput"),
    "EmbeddingRequestOutput": ("octavo.pooling_outputs", "EmbeddingRequestOutput"),
    "EngineArgs": ("octavo.config", "EngineArgs"),
    "FlatLogprobs": ("octavo.flat_logprobs", "FlatLogprobs"),
    "GuidedDecodingParams": ("octavo.structured_outputs", "GuidedDecodingParams"),
    "LLM": ("octavo.frontend.llm", "LLM"),
    "LLMEngine": ("octavo.frontend.llm_engine", "LLMEngine"),
    "Logprob": ("octavo.outputs", "Logprob"),
    "ModelRegistry": ("octavo.executor.models.model_registry", "ModelRegistry"),
    "PoolingOutput": ("octavo.pooling_outputs", "PoolingOutput"),
    "PoolingParams": ("octavo.pooling_params", "PoolingParams"),
    "PoolingRequestOutput": ("octavo.pooling_outputs", "PoolingRequestOutput"),
    "PromptType": ("octavo.inputs", "PromptType"),
    "RequestOutput": ("octavo.outputs", "RequestOutput"),
    "RequestOutputKind": ("octavo.params", "RequestOutputKind"),
    "SamplingParams": ("octavo.params", "SamplingParams"),
    "ScoringOutput": ("octavo.pooling_outputs", "ScoringOutput"),
    "ScoringRequestOutput": ("octavo.pooling_outputs", "ScoringRequestOutput"),
    "StructuredOutputsParams": ("octavo.structured_outputs", "StructuredOutputsParams"),
    "TextPrompt": ("octavo.inputs", "TextPrompt"),
    "TokensPrompt": ("octavo.inputs", "TokensPrompt"),
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  (the keys are strings)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        from octavo.not_served import NAMES, refusal

        if name in NAMES:  # an ImportError, for an AttributeError's words get lost in `from octavo import ...`
            raise ImportError(str(refusal(name, NAMES)))
        raise AttributeError(f"module 'octavo' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
