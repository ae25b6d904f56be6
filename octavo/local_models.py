"""Models that are on this machine: in the hub's cache, and the default model from its wheel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo import default_model, hub
from octavo.model_source import DEFAULT_MODEL
from octavo.short_names import full_name


@dataclass(frozen=True)
class LocalModel:
    """A model on disk.

    Attributes:
        name: what commands take.
        path: folder, or GGUF file.
        size: bytes on disk.
    """

    name: str
    path: Path
    size: int


def local_models(download_dir: str | None = None) -> list[LocalModel]:
    """All of them, by name; those that somebody has put elsewhere are not known here."""
    found = []
    carried = default_model.cached()
    if carried is not None:
        found.append(LocalModel(DEFAULT_MODEL, carried, carried.stat().st_size))
    for repo in _hub_repos(download_dir):
        newest = max(repo.revisions, key=lambda revision: revision.last_modified, default=None)
        if newest is not None:
            found.append(LocalModel(repo.repo_id, newest.snapshot_path, repo.size_on_disk))
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


def remove(name: str, download_dir: str | None = None) -> int:
    """Remove a downloaded model, all its revisions; returns the bytes that are free now, 0 when it was not there."""
    name, freed = full_name(name), 0
    carried = default_model.cached() if name == DEFAULT_MODEL else None
    if carried is not None:
        freed += carried.stat().st_size
        carried.unlink()
    for repo in _hub_repos(download_dir):
        if repo.repo_id == name.partition(":")[0]:
            freed += repo.size_on_disk
            _cache(download_dir).delete_revisions(*(revision.commit_hash for revision in repo.revisions)).execute()
    return freed


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
