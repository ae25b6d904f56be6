"""The default model's real file, read here and read by transformers."""

from __future__ import annotations

from pathlib import Path

import torch

from octavo.executor.loader.gguf import GGUFCheckpoint


def test_smollm2_equals_transformers_reading(smollm2: str) -> None:
    from transformers import AutoModelForCausalLM

    path = Path(smollm2)
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).state_dict()
    checkpoint = GGUFCheckpoint(path, 9, 3)
    assert set(checkpoint.shapes) == set(theirs) - {"lm_head.weight"}
    for name, shape in checkpoint.shapes.items():
        target = torch.empty(shape)
        checkpoint.read(name, target)
        assert torch.equal(target, theirs[name]), name
