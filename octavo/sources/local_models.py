"""Models that are on this machine: in the hub's cache, and the default model from its wheel."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.errors import ConfigError
from octavo.sources import default_model, hub
from octavo.sources.model_source import DEFAULT_MODEL
from octavo.sources.short_names import full_name

_PREFIX = "models--"
"""How the hub's cache names the folders of models; an owner's slash is "--" in them."""
_UNFINISHED = "blobs/*.incomplete"


@dataclass(frozen=True)
class LocalModel:
    """A model on disk.

    Attributes:
        name: what commands take.
        path: folder, or GGUF file.
        size: bytes on disk.
        finished: False when a download of it was interrupted.
    """

    name: str
    path: Path
    size: int
    finished: bool = True


def local_models(download_dir: str | None = None) -> list[LocalModel]:
    """All of them, by name; those that somebody has put elsewhere are not known here."""
    found = []
    carried = default_model.cached()
    if carried is not None:
        found.append(LocalModel(DEFAULT_MODEL, carried, carried.stat().st_size))
    for repo in _hub_repos(download_dir):
        newest = max(repo.revisions, key=lambda revision: revision.last_modified, default=None)
        if newest is not None:
            size, finished = repo.size_on_disk + _unfinished_bytes(repo.repo_path), not any(repo.repo_path.glob(_UNFINISHED))
            found.append(LocalModel(repo.repo_id, newest.snapshot_path, size, finished))
    found += _unfinished({model.name for model in found}, download_dir)
    return sorted(found, key=lambda model: (model.name.lower(), str(model.path)))


def find_local(name: str, download_dir: str | None = None) -> Path | None:
    """Where a model is on this machine, None when it would have to be downloaded."""
    name = full_name(name)
    path = Path(name).expanduser()
    if path.exists():
        return path
    if hub.is_path_like(name):
        return None
    carried = default_model.cached() if name == DEFAULT_MODEL else None
    return carried or hub.cached(hub.Wanted(name, download_dir=download_dir))


def remove(name: str, download_dir: str | None = None) -> int | None:
    """Remove a downloaded model, all its revisions and what an interrupted download has left.

    Returns:
        The bytes that are free now, None when it was not there.

    Raises:
        ConfigError: it is there and cannot be removed.
    """
    name = full_name(name)
    freed = _remove_from_hub_cache(name.partition(":")[0], download_dir)
    carried = default_model.cached() if name == DEFAULT_MODEL else None
    if carried is not None:
        freed = (freed or 0) + carried.stat().st_size
        carried.unlink()
    return freed


def _remove_from_hub_cache(repo_id: str, download_dir: str | None) -> int | None:
    folder = _cache_dir(download_dir) / (_PREFIX + repo_id.replace("/", "--"))
    if folder.is_symlink():
        raise ConfigError(f"{folder} is a link to {folder.readlink()}, not a download; remove what it leads to, and the link")
    if not folder.is_dir():
        return None
    freed = _unfinished_bytes(folder)
    for repo in _hub_repos(download_dir):
        if repo.repo_id == repo_id and repo.revisions:
            freed += repo.size_on_disk
            _cache(download_dir).delete_revisions(*(revision.commit_hash for revision in repo.revisions)).execute()
            break
    else:  # no revision is whole: the hub library has no name for what is there
        freed = _bytes_in(folder)
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be removed: {error.strerror or error}") from None
    return freed


def _unfinished(listed: set[str], download_dir: str | None) -> list[LocalModel]:
    """What interrupted downloads have left of models that are not `listed`, having no revision at all."""
    models = []
    for folder in _cache_dir(download_dir).glob(_PREFIX + "*"):
        name = folder.name.removeprefix(_PREFIX).replace("--", "/")
        if name not in listed and folder.is_dir() and any(folder.glob("blobs/*")):
            models.append(LocalModel(name, folder, _bytes_in(folder), finished=False))
    return models


def _unfinished_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob(_UNFINISHED))


def _bytes_in(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def _cache_dir(download_dir: str | None) -> Path:
    from huggingface_hub import constants

    return Path(download_dir or constants.HF_HUB_CACHE).expanduser()


def _hub_repos(download_dir: str | None) -> list[Any]:
    """The models in the hub library's cache, as it describes them."""
    cache = _cache(download_dir)
    return [] if cache is None else [repo for repo in cache.repos if repo.repo_type == "model"]


def _cache(download_dir: str | None) -> Any:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return scan_cache_dir(download_dir)
    except CacheNotFound:  # nothing was ever downloaded
        return None
