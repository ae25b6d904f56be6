"""What stands behind pooling: dense layers, a classifier, and the activation that a request asks for. In float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from octavo.errors import ConfigError
from octavo.executor.loader.safetensors import SafetensorsCheckpoint
from octavo.executor.pooler import Pooled
from octavo.pooling_config import ClassActivation, DenseActivation, DenseConfig, PoolingConfig
from octavo.wire.pooling_spec import PoolingSpec

_ACTIVATIONS: dict[DenseActivation, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda x: x,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "sigmoid": torch.sigmoid,
}
_CLASS_ACTIVATIONS: dict[ClassActivation, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda x: x,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: torch.softmax(x, dim=-1),
}
_SMALLEST_NORM = 1e-12
"""A vector of zeros stays one."""


@runtime_checkable
class Classifier(Protocol):
    """A model with a classifier behind its hidden states."""

    def classify(self, vectors: torch.Tensor) -> torch.Tensor:
        """Pooled vectors float32 [N, H] -> logits float32 [N, labels]."""


class PoolingHead:
    """Finishes pooled vectors as a request wants it.

    Args:
        config: the model's; None where it only generates, and nothing stands behind pooling.
        model: asked for logits where it is a `Classifier`.
    """

    def __init__(self, config: PoolingConfig | None, model: Any) -> None:
        self._dense = [_Dense(one) for one in config.dense] if config is not None else []
        self._activation = _CLASS_ACTIVATIONS[config.activation] if config is not None else _CLASS_ACTIVATIONS["identity"]
        self._model = model if isinstance(model, Classifier) else None

    def finish(self, pooled: Pooled, spec: PoolingSpec) -> Pooled:
        """The result, [D] or [tokens, D], of what pooling gave, [H] or [tokens, H].

        Raises:
            TypeError: a classification is wanted of a model without a classifier.
        """
        if spec.head == "none":
            return pooled
        rows = torch.from_numpy(np.atleast_2d(pooled))
        rows = self._classified(rows, spec) if spec.head == "classify" else self._embedded(rows, spec)
        return rows.numpy().reshape(*pooled.shape[:-1], -1)

    def _embedded(self, rows: torch.Tensor, spec: PoolingSpec) -> torch.Tensor:
        for dense in self._dense if spec.kinds != ("all",) else ():
            rows = dense(rows)
        if spec.dimensions is not None:
            rows = rows[:, : spec.dimensions]
        if spec.activate:
            rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(_SMALLEST_NORM)
        return rows.contiguous()

    def _classified(self, rows: torch.Tensor, spec: PoolingSpec) -> torch.Tensor:
        if self._model is None:
            raise TypeError("the model has no classifier")
        logits = self._model.classify(rows)
        return self._activation(logits) if spec.activate else logits


class _Dense:
    """A layer of a sentence-transformers folder."""

    def __init__(self, config: DenseConfig) -> None:
        checkpoint = SafetensorsCheckpoint(Path(config.folder))
        self._weight = _read(checkpoint, config.folder, "linear.weight", (config.out_features, config.in_features))
        self._bias = _read(checkpoint, config.folder, "linear.bias", (config.out_features,)) if config.bias else None
        self._activation = _ACTIVATIONS[config.activation]

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        return self._activation(torch.nn.functional.linear(rows, self._weight, self._bias))


def _read(checkpoint: SafetensorsCheckpoint, folder: str, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    found = checkpoint.shapes.get(name)
    if found != shape:
        what = "is missing" if found is None else f"is {list(found)}, not {list(shape)} as its config.json says"
        raise ConfigError(f"{folder}: {name} {what}")
    target = torch.empty(shape)
    checkpoint.read(name, target)
    return target
