"""What transformers answers to the prompts: kept in a file, as computing it takes minutes.

Run to make the file anew: `python tests/parity/smollm2_reference.py`. The tests recompute a few of the answers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("smollm2_reference.json")
NUM_TOKENS = 64


def stored() -> list[list[int]]:
    """The answers' tokens, greedy in float32, one list for each of `prompts.PROMPTS`."""
    answers: list[list[int]] = json.loads(FILE.read_text())
    return answers


def load(gguf: str) -> tuple[Any, Any]:
    """Tokenizer and float32 model from a GGUF file, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    path = Path(gguf)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)
    return tokenizer, AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


def compute(tokenizer: Any, model: Any, prompts: list[str], num_tokens: int = NUM_TOKENS) -> list[list[int]]:
    """Tokens from transformers, made now: `generate` on each prompt alone."""
    import torch

    answers = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, do_sample=False)
        answers.append(out[0, ids.shape[1] :].tolist())
    return answers


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from parity.prompts import PROMPTS

    from octavo.sources.model_source import DEFAULT_MODEL, find_model

    rows = [json.dumps(answer) for answer in compute(*load(find_model(DEFAULT_MODEL).path), PROMPTS)]
    FILE.write_text("[\n" + ",\n".join(rows) + "\n]\n")
