"""Small layers over pooled vectors, in float32: what classifiers are made of."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from octavo.executor.layers.module import Module
from octavo.executor.layers.weights import Slot


class VectorLinear(Module):
    """y = x W^T + b of float32 vectors [N, in_features], a few at a time."""

    def __init__(self, name: str, in_features: int, out_features: int, device: torch.device, bias: bool = True) -> None:
        self.name = name
        self.weight = torch.empty(out_features, in_features, device=device)
        self.bias = torch.empty(out_features, device=device) if bias else None

    def slots(self) -> Iterator[Slot]:
        """Weight and bias."""
        yield Slot(f"{self.name}.weight", self.weight)
        if self.bias is not None:
            yield Slot(f"{self.name}.bias", self.bias)

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """[N, in_features] -> [N, out_features]; each vector by itself, so that the others do not change its bits."""
        return torch.stack([torch.nn.functional.linear(vector, self.weight, self.bias) for vector in vectors])
