"""What the parity tests share."""

from __future__ import annotations

from typing import Any

import pytest
from parity import smollm2_reference


@pytest.fixture(scope="session")
def transformers_smollm2(smollm2: str) -> tuple[Any, Any]:
    """(tokenizer, float32 model) of the default model as transformers reads it."""
    return smollm2_reference.load(smollm2)
