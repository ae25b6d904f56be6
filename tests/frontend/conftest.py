"""Fixtures of the frontend's tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import tiny_models

from octavo.frontend.tokenizer import Tokenizer

sys.path.insert(0, os.path.dirname(__file__))


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The tiny model's tokenizer: byte-level BPE, 576 tokens, <|im_end|> = 2 as EOS."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tiny_models.make_tokenizer(folder)
    return Tokenizer.from_folder(folder)
