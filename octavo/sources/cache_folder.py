"""Writing into the folder of what was downloaded or converted, OCTAVO_CACHE_DIR."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from octavo import envs
from octavo.errors import ConfigError


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """The block writes into a folder under OCTAVO_CACHE_DIR.

    Raises:
        ConfigError: it cannot: the disk is full, say.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{envs.PREFIX}CACHE_DIR: cannot write into {folder}: {error}") from error
