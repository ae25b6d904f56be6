"""The default model's real file, read here and read by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from octavo.executor.loader.gguf import GGUFCheckpoint


@pytest.mark.timeout(600)
def test_smollm2_equals_transformers_reading(smollm2: str, transformers_smollm2: tuple[Any, Any]) -> None:
    theirs = transformers_smollm2[1].state_dict()
    checkpoint = GGUFCheckpoint(Path(smollm2), 9, 3)
    assert set(checkpoint.shapes) == set(theirs) - {"lm_head.weight"}
    for name, shape in checkpoint.shapes.items():
        target = torch.empty(shape)
        checkpoint.read(name, target)
        assert torch.equal(target, theirs[name]), name
