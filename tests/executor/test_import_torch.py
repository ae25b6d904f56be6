"""Torch imported the quick way is torch: what was left out comes when it is asked for."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not importlib.metadata.version("torch").startswith("2.13."), reason="other versions of torch are imported whole"
)

_CODE = """
import gc, sys
from octavo.executor.import_torch import import_torch
import_torch()
import torch
import octavo.executor.worker, octavo.executor.loader
assert gc.isenabled()
assert "torch._decomp" not in sys.modules and "torch._meta_registrations" not in sys.modules
left_out = torch._meta_registrations
{use}
assert "torch._decomp" in sys.modules and sys.modules["torch._meta_registrations"].meta_mm
"""


def run(use: str) -> None:
    done = subprocess.run([sys.executable, "-c", _CODE.format(use=use)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_asks_for_a_name_gets_it() -> None:
    run("assert left_out.meta_mm and left_out.meta_mm is torch._meta_registrations.meta_mm")


def test_what_compiles_imports_it() -> None:
    run("assert torch.equal(torch.compile(lambda x: x.sin() + 1, backend='aot_eager')(torch.zeros(3)), torch.ones(3))")
