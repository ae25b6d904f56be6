"""Where a step's time goes: functions of live objects replaced by timed ones, and the forward pass by operation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from octavo.executor.layers.embedding import TokenEmbedding
from octavo.executor.layers.linear import Product
from octavo.kernels import ops

_LABELS = {
    "embedding": "embedding",
    "rms_norm": "norm",
    "add_rms_norm": "norm",
    "rope_and_cache": "rope",
    "paged_attention": "attention",
    "silu_and_mul": "activation",
    "gelu_and_mul": "activation",
}
"""Operations of a forward pass beside the matrix products, and what they are called in the table."""


@runtime_checkable
class ForwardTimings(Protocol):
    """A forward pass that times itself, as native ones do that run many layers in one call."""

    def profile(self, enable: bool, /) -> object:
        """Begin or end keeping times."""

    def timings(self) -> dict[str, float]:
        """Seconds by operation since the last call."""


class StepClock:
    """Gathers seconds by name, from any thread as long as no two use one name at a time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._undo: list[Callable[[], None]] = []

    def add(self, name: str, seconds: float) -> None:
        """Count `seconds` to `name`."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """What has gathered since the last call."""
        taken, self._seconds = self._seconds, {}
        return taken

    def wrap(self, owner: Any, attribute: str, name: str | Callable[..., str]) -> None:
        """Time the calls of `owner.attribute` until `restore`.

        Args:
            name: what to count the time to, or a function of the call's arguments that says so.
        """
        function = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.add(name if isinstance(name, str) else name(*args, **kwargs), time.perf_counter() - start)

        was_own = attribute in vars(owner)
        setattr(owner, attribute, timed)
        self._undo.append(lambda: setattr(owner, attribute, function) if was_own else delattr(owner, attribute))

    def restore(self) -> None:
        """Put back what was wrapped."""
        while self._undo:
            self._undo.pop()()


class ForwardClock:
    """A model's time by operation: what it says itself where it keeps an account, and what the kernel set's functions take.

    Attributes:
        weight_bytes: of the matrix products, what one pass reads of each kind in all layers.
        weight_values: how many numbers those are.
    """

    def __init__(self, model: Any) -> None:
        products = dict(_products(model))
        self.weight_bytes: dict[str, int] = {}
        self.weight_values: dict[str, int] = {}
        for label, packed in products.values():
            self.weight_bytes[label] = self.weight_bytes.get(label, 0) + _bytes(packed)
            self.weight_values[label] = self.weight_values.get(label, 0) + _values(packed)
        self._clock = StepClock()
        # The set behind the door: some layers hold the door's functions themselves.
        for op, label in _LABELS.items():
            self._clock.wrap(ops._set, op, label)
        for op in ("linear", "sample_linear"):
            self._clock.wrap(
                ops._set, op, lambda _x, packed, *_: products[id(packed)][0] if id(packed) in products else "linear"
            )
        self._native = next((part for part in (model, *vars(model).values()) if isinstance(part, ForwardTimings)), None)
        if self._native is not None:
            self._native.profile(True)

    def take(self) -> dict[str, float]:
        """Seconds by operation since the last call."""
        if self._native is not None:
            for name, seconds in self._native.timings().items():
                self._clock.add(name, seconds)
        return self._clock.take()

    def close(self) -> None:
        """Leave model and kernels as they were."""
        self._clock.restore()
        if self._native is not None:
            self._native.profile(False)


def _products(model: Any) -> Iterator[tuple[int, tuple[str, Any]]]:
    """(identity of the packed weight, (name of the product, packed weight)) of every matrix of a model."""
    for name, part in _parts(model, set()):
        if isinstance(part, Product):
            yield id(part.packed), ("head" if name == "own" else name, part.packed)
        elif isinstance(part, TokenEmbedding) and part.tied:
            yield id(part.table), ("head", part.table)


def _parts(owner: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """All of Octavo's own objects that a model is made of, with the attributes they are found in."""
    for name, value in vars(owner).items():
        for part in value if isinstance(value, list) else [value]:
            if type(part).__module__.startswith("octavo.executor") and hasattr(part, "__dict__") and id(part) not in seen:
                seen.add(id(part))
                yield name, part
                yield from _parts(part, seen)


def _bytes(packed: Any) -> int:
    """Memory of the tensors in a packed weight."""
    if isinstance(packed, torch.Tensor):
        return packed.nbytes
    if isinstance(packed, list | tuple):
        return sum(map(_bytes, packed))
    return sum(_bytes(getattr(packed, field.name)) for field in fields(packed)) if is_dataclass(packed) else 0


def _values(packed: Any) -> int:
    """Numbers in a packed weight [n, k]; 0 where the kernel set does not say."""
    if isinstance(packed, torch.Tensor):
        return packed.numel()
    return int(getattr(packed, "n", 0)) * int(getattr(packed, "k", 0))
