"""Embed a document without a server: python offline.py MODEL FILE (after `pip install -e .` here)."""

from __future__ import annotations

import sys
from pathlib import Path

from octavo import LLM


def main(model: str, file: str) -> None:
    """Print the embedding's beginning."""
    with LLM(model, runner="pooling", io_processor_plugin="long_document") as llm:
        data = {"text": Path(file).read_text(encoding="utf-8"), "chunk_tokens": 64, "overlap": 16}
        (output,) = llm.encode({"data": data}, pooling_task="plugin")
        answer = output.outputs
        print(f"{answer.num_chunks} chunks, {answer.num_tokens} tokens: {answer.embedding[:4]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
