"""Whether the files with the weights are whole and those that the configuration describes, found out before they are read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from octavo.errors import ConfigError
from octavo.sources.hf_config import BUILT_IN, check_sizes
from octavo.sources.model_source import ModelFiles
from octavo.sources.safetensors_file import check_readable, read_tensors

_LAYER = re.compile(r"model\.layers\.(\d{1,9})\.")
_LONGEST_METHOD = 64


def check_weights(files: ModelFiles, text: Mapping[str, Any], architecture: str, where: str) -> None:
    """Check a folder's safetensors files against the sizes in its configuration (a GGUF file's header was checked when read).

    Args:
        files: the model's.
        text: config.json or its text_config, checked.
        architecture: what it names.
        where: its file, for errors.

    Raises:
        ConfigError: the checkpoint is quantized, a file is damaged or cut off, or its tensors are of another model.

    """
    if files.format != "safetensors":
        return
    _refuse_quantized(where, text.get("quantization_config") or files.config.get("quantization_config"))
    tensors = read_tensors(Path(files.path))
    check_readable(tensors)
    if architecture in BUILT_IN:
        _check_layers(where, text["num_hidden_layers"], tensors)
        check_sizes(where, text, architecture, {name: tensor.shape for name, tensor in tensors.items()})


def _check_layers(where: str, layers: int, names: Iterable[str]) -> None:
    found = max((int(match[1]) + 1 for name in names if (match := _LAYER.match(name))), default=layers)
    if found < layers:
        raise ConfigError(f"{where}: num_hidden_layers must be at most the {found} of the weights, got {layers}")


def _refuse_quantized(where: str, quantization: Any) -> None:
    """Raises: ConfigError: the checkpoint is quantized."""
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        named = method if isinstance(method, str) and len(method) < _LONGEST_METHOD else "an unknown method"
        raise ConfigError(f"{where}: quantized with {named}, which is not supported; use unquantized weights or GGUF")
