"""Weights that are quantized while they are loaded, whatever file they come from."""

from __future__ import annotations

from typing import Any, Literal

import torch

from octavo.executor.layers.linear import PLAIN, LinearMethod
from octavo.kernels import ops


class Int8Method:
    """Weights with a scale a row, activations with a scale a row found as they come; see `ops.pack_int8`.

    The embedding's table is quantized only where the head uses it too.
    """

    def pack(self, weight: torch.Tensor, bias: torch.Tensor | None, gated: bool = False) -> Any:
        return ops.pack_int8(weight, bias, gated)


def linear_method(quantization: Literal["int8", "gguf"] | None) -> LinearMethod:
    """What a model's products are made with; see `ModelConfig.quantization`."""
    return Int8Method() if quantization == "int8" else PLAIN
