"""Writes docs/models.md from the registry of models: `python -m octavo.tools.models_docs docs/models.md` (or `make docs`)."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from octavo.executor.models.registry import ARCHITECTURES, built_in
from octavo.sources.layer_windows import SLIDING
from octavo.sources.short_names import SHORT_NAMES

HEADER = """\
# Models

*Made from the registry of models by `make docs`; do not edit.*

These architectures of `config.json` come with Octavo; [a page](adding-a-model.md) adds another. All of them run natively on CPUs in float32,
bfloat16 and float16, and with `--quantization int8`. Each that ends in `ForCausalLM` pools with `--runner pooling`, and is also known as `...Model` (its
body, saved alone) and as `...ForSequenceClassification`; a reranker such as Qwen3's, whose next word is yes or no, is
`--hf-overrides '{"architectures": ["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"]}'`.

| architecture | what it is | sliding windows | page |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [_row(name) for name in sorted(ARCHITECTURES)]
    short = [f"| `{name}` | {full} |" for name, full in SHORT_NAMES.items()]
    return "\n".join([HEADER + "\n".join(rows), "", "## Short names", "", "| name | model |", "|---|---|", *short, ""])


def _row(name: str) -> str:
    module = ARCHITECTURES[name].partition(".")[0]
    summary = (inspect.getdoc(built_in(name)) or "").partition("\n")[0]
    windows = "where config.json asks for them" if name in SLIDING else "none"
    return f"| `{name}` | {summary} | {windows} | `executor/models/{module}.py` |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
