"""python -m octavo.frontend.convert_gguf_tokenizer SOURCE TARGET

Reads the tokenizer of a GGUF file (or of a folder without tokenizer.json) with transformers and saves it as
tokenizer.json with its settings and chat template in the folder TARGET. Run as a process of its own by
`tokenizer_cache.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(source: Path, target: Path) -> None:
    """Save the tokenizer of `source` into the folder `target`."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if source.is_file():
        # The file alone says what its tokenizer is; to find a class for it, AutoTokenizer would read all metadata once
        # more, in ten times the time.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(source.parent), gguf_file=source.name)
    else:
        tokenizer = AutoTokenizer.from_pretrained(str(source), use_fast=True)
    tokenizer.save_pretrained(str(target))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
