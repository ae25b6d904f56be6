"""Every op twice, by the kernels in use and by the reference, until the first one that differs: OCTAVO_CHECK_OPS."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Of the largest magnitude in the result; other types 5e-2."""
_CHANGES = {"rope_and_cache": ("q", "k"), "add_rms_norm": ("residual",), "sample": ("peaks",), "sample_linear": ("peaks",)}
"""Arguments that ops write to, by name; chosen tokens may differ where logits are equal."""
_CACHES = ("k_cache", "v_cache")
_PACKS = ("pack_linear", "pack_int8", "pack_blocks")


class OpDiffersError(RuntimeError):
    """An op gives something else than its reference."""


class Both:
    """A weight as the kernels in use have it, and as the reference has it."""

    def __init__(self, fast: Any, reference: Any) -> None:
        self.fast, self.reference = fast, reference


def checked_set(fast: SimpleNamespace, reference: Any, names: Mapping[str, tuple[str, ...]]) -> SimpleNamespace:
    """Ops that run both ways.

    Args:
        fast: the kernels to check.
        names: of each op the names of its arguments, in order.
    """
    shadows = _ShadowCaches()
    checked = SimpleNamespace()
    for name, arguments in names.items():
        both = getattr(fast, name), getattr(reference, name)
        if name == "native_program":
            run: Callable[..., Any] = lambda *_: (None, "")  # noqa: E731
        elif name in _PACKS:
            run = functools.partial(_pack, *both)
        else:
            run = functools.partial(_run, name, arguments, *both, shadows)
        setattr(checked, name, run)
    return checked


def _pack(fast: Callable[..., Any], reference: Callable[..., Any], weight: Any, *rest: Any) -> Both:
    kept = weight.clone() if isinstance(weight, torch.Tensor) else weight
    return Both(fast(weight, *rest), reference(kept, *rest))


def _run(
    name: str,
    names: tuple[str, ...],
    fast: Callable[..., Any],
    reference: Callable[..., Any],
    shadows: _ShadowCaches,
    *args: Any,
) -> Any:
    arguments = dict(zip(names, args, strict=False))
    others = {key: shadows.of(value) if key in _CACHES else _copy(value) for key, value in arguments.items()}
    result = fast(*(_weights(value, "fast") for value in arguments.values()))
    expected = reference(*(_weights(value, "reference") for value in others.values()))
    for number, (actual, right) in enumerate(zip(_tensors(result), _tensors(expected), strict=True)):
        _compare(f"result {number} of {name}", actual, right)
    for key in _CHANGES.get(name, ()):
        _compare(f"{key} after {name}", arguments[key], others[key])
    return result


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _weights(value: Any, which: str) -> Any:
    if isinstance(value, Both):
        return getattr(value, which)
    return tuple(_weights(one, which) for one in value) if isinstance(value, (tuple, list)) else value


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    for one in result if isinstance(result, tuple) else (result,):
        if isinstance(one, torch.Tensor):
            yield one


def _compare(what: str, actual: torch.Tensor, expected: torch.Tensor) -> None:
    if actual.shape != expected.shape:
        raise OpDiffersError(f"{what} has the shape {list(actual.shape)}, and of the reference {list(expected.shape)}")
    a, e = actual.double(), expected.double()
    same = a.isfinite() == e.isfinite()
    largest = float(e[e.isfinite()].abs().max()) if bool(e.isfinite().any()) else 0.0
    allowed = _TOLERANCE.get(expected.dtype, 5e-2) * (largest + 1e-6)
    off = (a - e).abs().where(a.isfinite() & e.isfinite(), 0.0)
    difference = float(off.max()) if off.numel() else 0.0
    if not bool(same.all()) or difference > allowed:
        raise OpDiffersError(
            f"{what} differs from the reference by {difference:.3g}, where {allowed:.3g} is allowed "
            f"({int((~same).sum())} values are finite in one alone)"
        )


class _ShadowCaches:
    """For each cache one that the reference writes, whose numbers lie in the reference's order."""

    def __init__(self) -> None:
        self._caches: dict[int, torch.Tensor] = {}

    def of(self, cache: torch.Tensor) -> torch.Tensor:
        key = cache.data_ptr()
        if key not in self._caches or self._caches[key].shape != cache.shape:
            self._caches[key] = torch.zeros(cache.shape, dtype=cache.dtype)
        return self._caches[key]
