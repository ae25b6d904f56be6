"""What can be told of a model from its files' headers: size, parameters, how its weights are stored, what context fits."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.config import EngineConfig
from octavo.errors import ConfigError
from octavo.gguf_file import read_gguf

_ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
_LONGEST_HEADER = 1 << 27


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
    if file_format == "gguf":
        return _of_gguf(Path(path))
    files = sorted(Path(path).glob("*.safetensors")) if file_format == "safetensors" else []
    parameters, types = 0, Counter[str]()
    for file in files:
        for dtype, count in _tensors(file):
            parameters += count
            types[dtype] += count
    size = sum(file.stat().st_size for file in files)
    return ModelFacts(parameters, size, types.most_common(1)[0][0] if types else "none")


def _of_gguf(path: Path) -> ModelFacts:
    from gguf import GGMLQuantizationType

    types = Counter[int]()
    for tensor in read_gguf(path).tensors.values():
        types[tensor.type] += math.prod(tensor.shape)
    common = types.most_common(1)[0][0] if types else None
    name = "none" if common is None else GGMLQuantizationType(common).name
    return ModelFacts(types.total(), path.stat().st_size, name)


def _tensors(path: Path) -> list[tuple[str, int]]:
    """(type, numbers) of each tensor of a .safetensors file."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        return [(str(entry["dtype"]), math.prod(entry["shape"])) for entry in tensors]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged or incomplete: {error}") from error


def kv_bytes_per_token(config: EngineConfig) -> int:
    """Bytes of keys and values that one token takes in all layers."""
    text: dict[str, Any] = config.model.hf_config.get("text_config") or config.model.hf_config
    heads = int(text["num_attention_heads"])
    kv_heads = int(text.get("num_key_value_heads") or heads)
    head_dim = int(text.get("head_dim") or text["hidden_size"] // heads)
    return 2 * int(text["num_hidden_layers"]) * kv_heads * head_dim * _ITEM_SIZES[config.cache.dtype]


def longest_context(config: EngineConfig, available: int) -> int:
    """Tokens of the longest sequence that the KV cache of a CPU would hold.

    Args:
        available: bytes free on the machine, the weights loaded.
    """
    block = config.cache.block_size
    budget = int(available * config.cache.memory_utilization)
    return min(config.model.max_model_len, budget // (kv_bytes_per_token(config) * block) * block)


def weights_in_memory(config: EngineConfig, facts: ModelFacts) -> int:
    """Bytes that the weights take once loaded."""
    if config.model.quantization == "gguf":
        return facts.size
    return facts.parameters * (1 if config.model.quantization == "int8" else _ITEM_SIZES[config.model.dtype])


def scaled(count: int) -> str:
    """134515008 -> 134.5 M"""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)
