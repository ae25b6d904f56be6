"""Importing torch in two thirds of its time: without what no engine needs, and without the collector."""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

_SPIN_COUNT = "1000"
"""Turns that an idle OpenMP thread spins before it sleeps: GNU's own number for busy machines. Its other default, 300,000,
is milliseconds, taken from the native kernels' threads, the core and the frontend."""

_DEFERRED = "torch._meta_registrations"
"""What operators make of tensors without memory, for torch.compile and torch.export: with the decompositions it imports,
0.6 s and 18 MB. Torch imports it only for what it registers. One of those registrations counts without a compiler, too: see
`_complete_generator`."""

_DEFERRABLE = "2.13."
"""Versions of torch known to start without it; others are imported whole."""


class _Deferred(ModuleType):
    """Stands for a module while torch is imported; asked for anything, it loads the module after all."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


class _LatePart(MetaPathFinder):
    """Finds nothing, but brings in what was left out before the first further module of torch is imported.

    The rest of torch counts on it: torch.compile would fall over a circular import.
    """

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name.startswith("torch."):
            sys.meta_path.remove(self)
            if name != _DEFERRED:
                importlib.import_module(_DEFERRED)


def import_torch() -> None:
    """Import torch, with OpenMP threads that do not spin for long unless the user said how they are to wait."""
    if "torch" in sys.modules:
        return
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
    # Nothing that an import makes is garbage: looking for some takes a tenth of the time.
    gc.disable()
    try:
        if importlib.metadata.version("torch").startswith(_DEFERRABLE):
            _import_without_late_part()
        else:
            importlib.import_module("torch")
    finally:
        gc.enable()


def _import_without_late_part() -> None:
    stand_in = sys.modules[_DEFERRED] = _Deferred(_DEFERRED)
    try:
        importlib.import_module("torch")
        _complete_generator()
    finally:
        if sys.modules.get(_DEFERRED) is stand_in:
            del sys.modules[_DEFERRED]
            sys.meta_path.insert(0, _LatePart())


def _complete_generator() -> None:
    """Give torch.Generator its metaclass, without which it cannot be called; the part left out would have done it.

    Giving it again, when that part comes, changes nothing.
    """
    opaque = importlib.import_module("torch._opaque_base")
    sys.modules["torch"]._C._set_generator_metaclass(opaque.OpaqueBaseMeta)
