"""What can be told of a model from its files' headers: size, parameters, how its weights are stored, what context fits."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from octavo.cache_groups import BlockDemand, CacheSpec, plan_layout
from octavo.config import EngineConfig
from octavo.config.early_checks import bytes_per_block
from octavo.sources.ggml_types import BLOCKS
from octavo.sources.gguf_file import read_gguf
from octavo.sources.hf_config import cache_specs, text_config
from octavo.sources.safetensors_file import read_tensors

_ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class ModelFacts:
    """A model on disk.

    Attributes:
        parameters: numbers in its weights; 0 where there are no weights.
        size: bytes of its weight files.
        weights: the type that most of them are stored in, as its format calls it.
    """

    parameters: int
    size: int
    weights: str


def model_facts(path: str, file_format: str) -> ModelFacts:
    """Read the headers of a model's weight files.

    Args:
        path, file_format: as `ModelFiles` has them.

    Raises:
        ConfigError: a file is damaged.
    """
    types = Counter[str]()
    if file_format == "gguf":
        for tensor in read_gguf(path).tensors.values():
            types[BLOCKS[tensor.type][0]] += math.prod(tensor.shape)
        size = Path(path).stat().st_size
    elif file_format == "safetensors":
        tensors = read_tensors(Path(path)).values()
        for stored in tensors:
            types[stored.dtype] += math.prod(stored.shape)
        size = sum(file.stat().st_size for file in {stored.file for stored in tensors})
    else:
        size = 0
    return ModelFacts(types.total(), size, types.most_common(1)[0][0] if types else "none")


def kv_bytes_per_token(config: EngineConfig) -> int:
    """Bytes of keys and values of one token in all layers, for an architecture that comes with Octavo.

    Layers with a sliding window keep a token only as long as it lies in the window.
    """
    return sum(spec.size for spec in _specs(config)) * _ITEM_SIZES[config.cache.dtype]


def _specs(config: EngineConfig) -> list[CacheSpec]:
    return cache_specs(text_config(config.model.hf_config, config.model.name), config.model.architecture)


def longest_context(config: EngineConfig, available: int) -> int:
    """Tokens of the longest sequence that the KV cache of a CPU would hold.

    Args:
        config: of an architecture that comes with Octavo.
        available: bytes free on the machine, the weights loaded.
    """
    layout = plan_layout(_specs(config), config.cache.block_size, config.model.max_model_len)
    num_blocks = int(available * config.cache.memory_utilization) // bytes_per_block(config.cache, layout)
    demand = BlockDemand(layout.groups, config.cache.block_size)
    return demand.longest(num_blocks, config.scheduler.max_chunk, config.model.max_model_len)


def weights_in_memory(config: EngineConfig, facts: ModelFacts) -> int:
    """Bytes that the weights take once loaded: where a CPU computes in float32, no more than in their files."""
    if config.model.quantization == "int8":
        return facts.parameters
    widened = facts.parameters * _ITEM_SIZES[config.model.dtype]
    stay = config.device.type == "cpu" and config.model.dtype == "float32"
    return min(facts.size, widened) if stay or config.model.quantization == "gguf" else widened


def scaled(count: int) -> str:
    """134515008 -> 134.5 M"""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)
