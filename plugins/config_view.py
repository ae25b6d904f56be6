"""The configuration as a plugin sees it: read only, with vLLM's names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from octavo.config.structs import EngineConfig, ModelConfig
from octavo.sources.hf_config import text_config


class View:
    """Named values that can be read and not set.

    Args:
        name: what errors call it.
        values: by name; a function without arguments is called when its name is read.
        methods: what can be called.
    """

    def __init__(self, name: str, values: Mapping[str, Any], methods: Mapping[str, Callable[..., Any]] | None = None) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_methods", dict(methods or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        values, methods = object.__getattribute__(self, "_values"), object.__getattribute__(self, "_methods")
        if name in methods:
            return methods[name]
        if name not in values:
            where = object.__getattribute__(self, "_name")
            raise AttributeError(f"{where} has no {name!r} here; it has {', '.join(sorted({*values, *methods}))}")
        value = values[name]
        return value() if isinstance(value, _Late) else value

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{self._name} cannot be changed by a plugin")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self._name} cannot be changed by a plugin")

    def __dir__(self) -> list[str]:
        return sorted({*self._values, *self._methods})

    def __repr__(self) -> str:
        return f"<{self._name}: {', '.join(dir(self))}>"


class HFConfig(View):
    """config.json by attribute, as transformers has it: `hf_config.hidden_size`, `hf_config.text_config.hidden_size`.

    Every value is a copy.
    """

    def __init__(self, values: Mapping[str, Any], name: str = "hf_config") -> None:
        super().__init__(name, values, {"to_dict": self._to_dict, "get": self._get, "get_text_config": self._text})

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if isinstance(value, Mapping) and name.endswith("_config"):
            return HFConfig(value, name)
        return value if callable(value) else copy.deepcopy(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def _to_dict(self) -> dict[str, Any]:
        copied: dict[str, Any] = copy.deepcopy(object.__getattribute__(self, "_values"))
        return copied

    def _get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name) if name in self else default

    def _text(self, *_: Any, **__: Any) -> HFConfig:
        return HFConfig(text_config(self._to_dict(), "config.json"))


class _Late:
    """A value that is worked out when it is read: torch is not imported for a plugin that does not ask."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work

    def __call__(self) -> Any:
        return self._work()


def vllm_config(config: EngineConfig) -> View:
    """The whole configuration, as a plugin's constructor gets it."""
    cache, scheduler = config.cache, config.scheduler
    return View(
        "vllm_config",
        {
            "model_config": model_view(config.model),
            "cache_config": View(
                "cache_config",
                {
                    "block_size": cache.block_size,
                    "cache_dtype": cache.dtype,
                    "enable_prefix_caching": cache.enable_prefix_caching,
                    "gpu_memory_utilization": cache.memory_utilization,
                },
            ),
            "scheduler_config": View(
                "scheduler_config",
                {
                    "max_num_seqs": scheduler.max_num_seqs,
                    "max_num_batched_tokens": scheduler.max_num_batched_tokens,
                    "max_model_len": config.model.max_model_len,
                    "enable_chunked_prefill": scheduler.enable_chunked_prefill,
                    "policy": scheduler.policy,
                },
            ),
            "device_config": View("device_config", {"device_type": config.device.type, "device": config.device.type}),
            "parallel_config": View(
                "parallel_config",
                {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "data_parallel_size": 1, "world_size": 1},
            ),
            "lora_config": None,
            "speculative_config": None,
            "quant_config": None,
            "additional_config": {},
        },
    )


def model_view(model: ModelConfig) -> View:
    """`vllm_config.model_config`; `model` and `tokenizer` are folders on this machine, or what the user wrote."""
    hf_config = HFConfig(model.hf_config)
    text = hf_config.get_text_config()
    return View(
        "model_config",
        {
            "model": model.path or model.name,
            "tokenizer": model.tokenizer_path,
            "served_model_name": model.served_model_names[0] if model.served_model_names else model.name,
            "hf_config": hf_config,
            "hf_text_config": text,
            "architecture": model.architecture,
            "architectures": [model.architecture],
            "dtype": _Late(lambda: _torch_dtype(model.dtype)),
            "max_model_len": model.max_model_len,
            "seed": model.seed,
            "skip_tokenizer_init": model.skip_tokenizer_init,
            "quantization": model.quantization,
            "trust_remote_code": False,
            "revision": None,
            "tokenizer_revision": None,
            "tokenizer_mode": "auto",
            "multimodal_config": None,
        },
        {"get_vocab_size": lambda: model.vocab_size, "get_hidden_size": lambda: text.hidden_size},
    )


def _torch_dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)
