"""python -m octavo.frontend.convert_slow_tokenizer SOURCE TARGET

Reads the tokenizer of a folder without tokenizer.json (a SentencePiece model, vocab.json and merges.txt, ...) with
transformers and saves it as tokenizer.json with its settings and chat template in the folder TARGET. Run as a process of
its own by `tokenizer_cache.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(source: Path, target: Path) -> None:
    """Save the tokenizer of the folder `source` into the folder `target`."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(str(source), use_fast=True).save_pretrained(str(target))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
