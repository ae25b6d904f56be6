"""vLLM's modules for packages that were written for it: `vllm.plugins.io_processors.interface` and what such packages import beside.

Each name is another name of something of Octavo's, so that a plugin's `IOProcessor` is the one it is held against. The modules
exist from the first load of a plugin on, in processes that load one, and only where vLLM itself is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

VERSION = "0.32.0"
"""`vllm.__version__`: whose interface this is. Packages choose by it how they call."""

_MESSAGES = dict.fromkeys(("IOProcessorRequest", "IOProcessorResponse"), "octavo.plugins.messages")
_INPUTS = dict.fromkeys(("PromptType", "TextPrompt", "TokensPrompt", "DataPrompt"), "octavo.inputs")
_POOLED = (
    "PoolingOutput", "PoolingRequestOutput", "EmbeddingOutput", "EmbeddingRequestOutput", "ClassificationOutput",
    "ClassificationRequestOutput", "ScoringOutput", "ScoringRequestOutput",
)  # fmt: skip
_OUTPUTS = {
    **dict.fromkeys(("RequestOutput", "CompletionOutput"), "octavo.outputs"),
    **dict.fromkeys(_POOLED, "octavo.pooling_outputs"),
}
_RENDERER = {"BaseRenderer": "octavo.plugins.renderer:Renderer"}
_ARGS = dict.fromkeys(("EngineArgs", "AsyncEngineArgs"), "octavo")
_USAGE = {"UsageInfo": "octavo.plugins.messages", "OpenAIBaseModel": "pydantic:BaseModel"}

TABLE: dict[str, dict[str, str]] = {
    "vllm": {
        **dict.fromkeys(("LLM", "AsyncLLMEngine", "SamplingParams", "PoolingParams", *_ARGS, *_INPUTS, *_OUTPUTS), "octavo"),
    },
    "vllm.config": {
        "VllmConfig": "octavo.plugins.config_view:View",
        "ModelConfig": "octavo.plugins.config_view:View",
    },
    "vllm.engine": {},
    "vllm.engine.arg_utils": _ARGS,
    "vllm.entrypoints": {},
    "vllm.entrypoints.llm": {"LLM": "octavo"},
    "vllm.entrypoints.openai": {},
    "vllm.entrypoints.openai.engine": {},
    "vllm.entrypoints.openai.engine.protocol": _USAGE,
    "vllm.entrypoints.openai.protocol": {**_MESSAGES, **_USAGE},
    "vllm.entrypoints.pooling": {},
    "vllm.entrypoints.pooling.pooling": {},
    "vllm.entrypoints.pooling.pooling.protocol": _MESSAGES,
    "vllm.exceptions": {"VLLMValidationError": "octavo.exceptions"},
    "vllm.inputs": _INPUTS,
    "vllm.inputs.data": _INPUTS,
    "vllm.logger": {"init_logger": "logging:getLogger"},
    "vllm.outputs": _OUTPUTS,
    "vllm.plugins": {"IO_PROCESSOR_PLUGINS_GROUP": "octavo.plugins.discovery:VLLM_GROUP"},
    "vllm.plugins.io_processors": {},
    "vllm.plugins.io_processors.interface": dict.fromkeys(
        ("IOProcessor", "IOProcessorInput", "IOProcessorOutput"), "octavo.plugins.io_processor"
    ),
    "vllm.pooling_params": {"PoolingParams": "octavo.pooling_params"},
    "vllm.renderers": _RENDERER,
    "vllm.renderers.base": _RENDERER,
    "vllm.sampling_params": dict.fromkeys(("SamplingParams", "RequestOutputKind"), "octavo.params"),
    "vllm.v1": {},
    "vllm.v1.engine": {},
    "vllm.v1.engine.async_llm": {"AsyncLLM": "octavo"},
}
"""Module -> name -> where it is: a module, and after a colon its name there where that is another."""

logger = logging.getLogger(__name__)


def provide() -> bool:
    """Have vLLM's modules be importable in this process; False where vLLM is installed, whose own modules they then are."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return True
    if "vllm" in sys.modules or importlib.util.find_spec("vllm") is not None:
        return False
    sys.meta_path.append(_Finder())
    logger.debug("vLLM's modules for plugins are Octavo's in this process")
    return True


def explain(error: BaseException) -> str:
    """What to say behind an ImportError about a module of vLLM's; "" for any other error."""
    missing = getattr(error, "name", None) or ""
    if not isinstance(error, ImportError) or missing.split(".")[0] != "vllm":
        return ""
    return "; of vLLM's modules there are those that plugins use, which docs/plugins.md lists"


class _Finder(MetaPathFinder):
    """Finds the modules of the table, and no other: an import that this version has no answer for fails as it would anywhere."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname not in TABLE:
            return None
        return ModuleSpec(fullname, _Loader(), origin="octavo.plugins.vllm_modules", is_package=True)


class _Loader(Loader):
    """Makes a module whose names are looked up when they are used."""

    def exec_module(self, module: ModuleType) -> None:
        table = TABLE[module.__name__]

        def find(name: str) -> Any:
            if name not in table:
                raise AttributeError(f"Octavo has no {module.__name__}.{name} for plugins")
            home, _, other = table[name].partition(":")
            return getattr(importlib.import_module(home), other or name)

        module.__getattr__ = find  # type: ignore[method-assign]
        module.__all__ = sorted(table)  # type: ignore[attr-defined]
        if module.__name__ == "vllm":
            module.__version__ = VERSION  # type: ignore[attr-defined]
