"""What the parity tests share."""

from __future__ import annotations

from typing import Any

import pytest
from parity import smollm2_reference

from octavo.kernels import ops


@pytest.fixture(scope="module", autouse=True)
def _best_kernels() -> None:
    """Tests before may have chosen others, which need not give the same bits alone and in a batch."""
    ops.use(device="cpu")


@pytest.fixture(scope="session")
def transformers_smollm2(smollm2: str) -> tuple[Any, Any]:
    """(tokenizer, float32 model) of the default model as transformers reads it."""
    return smollm2_reference.load(smollm2)
