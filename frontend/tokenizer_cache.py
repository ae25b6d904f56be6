"""Tokenizers in other forms than tokenizer.json: converted once, and kept in the cache directory.

GGUF files by our own tables (`gguf_tokenizer/`). What a folder may hold instead by transformers, in a child process that
keeps it (seconds to import, hundreds of MB) out of the process that serves.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from octavo import envs
from octavo.errors import ConfigError
from octavo.frontend.gguf_tokenizer.convert import convert_gguf, warn_of_unknown
from octavo.sources.cache_folder import writing_into
from octavo.sources.gguf_file import GGUFFile, read_gguf

logger = logging.getLogger(__name__)

_FORMAT = "2"
"""Part of every key: raise it when converted tokenizers of before are not good any more."""
_SLOW_FILES = ("tokenizer.model", "spiece.model", "vocab.json", "merges.txt", "vocab.txt", "tiktoken.model")
_SETTINGS_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json")
_CONVERT_SECONDS = 300.0


def converted_tokenizer(source: Path) -> Path:
    """Folder with tokenizer.json made from a GGUF file, or from a folder that has only another kind of tokenizer.

    Raises:
        ConfigError: there is nothing to convert, or the conversion failed.
    """
    header = read_gguf(source) if source.is_file() else None
    if header is not None:
        warn_of_unknown(header)
    key = _folder_key(source) if header is None else _header_key(header)
    target = Path(envs.CACHE_DIR) / "tokenizers" / key
    if not (target / "tokenizer.json").is_file():
        logger.info("Converting the tokenizer of %s (once; kept in %s)", source, target.parent)
        with writing_into(target.parent):
            _convert_into(target, partial(_run_child, source) if header is None else partial(convert_gguf, header))
    return target


def _header_key(header: GGUFFile) -> str:
    # The vocabulary is part of the header; the weights behind it may be gigabytes.
    digest = hashlib.blake2b(_FORMAT.encode(), digest_size=16)
    size = min((tensor.offset for tensor in header.tensors.values()), default=header.path.stat().st_size)
    with header.path.open("rb") as file:
        digest.update(file.read(size))
    return digest.hexdigest()


def _folder_key(source: Path) -> str:
    digest = hashlib.blake2b(_FORMAT.encode(), digest_size=16)
    names = [name for name in _SLOW_FILES if (source / name).is_file()]
    if not names:
        raise ConfigError(f"no tokenizer in {source}; name one with --tokenizer or use --skip-tokenizer-init")
    for name in [*names, *(name for name in _SETTINGS_FILES if (source / name).is_file())]:
        digest.update(f"{name} {(source / name).stat().st_size} ".encode())
        digest.update((source / name).read_bytes())
    return digest.hexdigest()


def _convert_into(target: Path, convert: Callable[[Path], None]) -> None:
    """Convert into a scratch folder and rename it: whole or not at all, also with two processes at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".converting-"))
    try:
        convert(scratch)
        try:
            scratch.rename(target)
        except OSError:
            if not (target / "tokenizer.json").is_file():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_child(source: Path, scratch: Path) -> None:
    command = [sys.executable, "-m", "octavo.frontend.convert_slow_tokenizer", str(source), str(scratch)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_CONVERT_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"converting the tokenizer of {source} took more than {_CONVERT_SECONDS:g} s") from None
    if done.returncode != 0 or not (scratch / "tokenizer.json").is_file():
        lines = done.stderr.strip().splitlines()
        raise ConfigError(f"cannot convert the tokenizer of {source}: {lines[-1] if lines else f'exit code {done.returncode}'}")
