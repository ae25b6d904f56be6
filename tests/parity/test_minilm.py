"""all-MiniLM-L6-v2 with its real weights against sentence-transformers; `make embeddings` fetches both and runs this."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from octavo import LLM

FOLDER = os.environ.get("OCTAVO_MINILM_FOLDER")
LONGEST = 512
pytestmark = pytest.mark.skipif(FOLDER is None, reason="run make embeddings")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """500, of 1 to 512 tokens."""
    assert FOLDER is not None
    draw = random.Random(3)
    words = [word for word in Path(FOLDER, "vocab.txt").read_text(encoding="utf-8").split() if word.isalpha()]
    return [" ".join(draw.choices(words, k=max(1, round(LONGEST * draw.random() ** 2)))) for _ in range(500)]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    assert FOLDER is not None
    with LLM(FOLDER, dtype="float32", max_model_len=LONGEST) as engine:
        yield engine


def embedded(llm: LLM, texts: list[str]) -> npt.NDArray[np.float32]:
    options = {"truncate_prompt_tokens": -1, "truncation_side": "right"}
    outputs = llm.encode(texts, use_tqdm=False, pooling_task="embed", tokenization_kwargs=options)
    return np.stack([output.outputs.data for output in outputs])


def test_vectors_are_those_of_sentence_transformers(llm: LLM, texts: list[str]) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(FOLDER, device="cpu")
    theirs.max_seq_length = LONGEST
    expected = theirs.encode(texts, batch_size=16)
    cosines = (embedded(llm, texts) * expected).sum(1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.99999


def test_a_text_has_its_bits_whatever_is_beside_it(llm: LLM, texts: list[str]) -> None:
    whole = embedded(llm, texts)
    order = random.Random(5).sample(range(len(texts)), len(texts))
    assert np.array_equal(embedded(llm, [texts[i] for i in order]), whole[order])
    for size in (1, 3, 32):
        assert np.array_equal(np.concatenate([embedded(llm, texts[i : i + size]) for i in range(0, 96, size)]), whole[:96])
