"""Every set of kernels that runs here, each native one with every instruction set of this processor."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

import octavo.kernels.cpu as cpu
from octavo.kernels import reference

sys.path.insert(0, os.path.dirname(__file__))

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def native_isas() -> list[str]:
    return cpu.available_isas() if cpu.available() else []


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=native_isas() or [pytest.param("none", marks=pytest.mark.skip(reason="built without native kernels"))])
def native(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The native set, on two threads, under each instruction set."""
    isa, threads = cpu.isa(), cpu.num_threads()
    cpu.set_isa(request.param)
    cpu.set_num_threads(min(2, os.cpu_count() or 1))
    yield cpu
    cpu.set_isa(isa)
    cpu.set_num_threads(threads)


@pytest.fixture(params=["reference", *native_isas()])
def kernels(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """Every set: for what holds of the definition itself too."""
    if request.param == "reference":
        yield reference
        return
    isa = cpu.isa()
    cpu.set_isa(request.param)
    yield cpu
    cpu.set_isa(isa)


@pytest.fixture(params=DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(7)
