"""Files of a model from the model hub, through huggingface_hub and its cache."""

from __future__ import annotations

import fnmatch
import io
import logging
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo import envs, progress
from octavo.errors import ConfigError

logger = logging.getLogger(__name__)

_PROBE_SECONDS = 4.0
_CONFIG_FILES = ["*.json", "*.jinja", "tokenizer*", "*.model", "vocab.txt", "merges.txt"]
_REPO_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


class HubUnavailableError(ConfigError):
    """The hub cannot be asked (or may not be), and its cache does not hold the model."""


@dataclass(frozen=True)
class Wanted:
    """What to get from the hub; the fields are `find_model`'s arguments."""

    name: str
    revision: str | None = None
    load_format: str = "auto"
    token: str | None = None
    download_dir: str | None = None
    weights: bool = True

    @property
    def repo(self) -> str:
        return self.name.partition(":")[0]

    @property
    def gguf_pattern(self) -> str | None:
        """Pattern of the GGUF file that is wanted, None when it is safetensors."""
        quantization = self.name.partition(":")[2]
        if quantization:
            return f"*{quantization}*.gguf"
        return "*.gguf" if self.load_format == "gguf" else None

    @property
    def patterns(self) -> list[str]:
        return [*_CONFIG_FILES, "*.safetensors"] if self.weights else _CONFIG_FILES


def is_path_like(name: str) -> bool:
    """Whether a name can only mean a local path: hub ids have at most one slash and no odd characters."""
    return name.endswith(".gguf") or _REPO_ID.fullmatch(name.partition(":")[0]) is None


def cached(want: Wanted) -> Path | None:
    """Snapshot of the model in the hub's local cache, None when it is not there whole. Asks no network."""
    try:
        folder = _snapshot(want, local_files_only=True)
        return _pick_gguf(want, folder) if want.gguf_pattern else folder if _is_whole(folder, want) else None
    except (OSError, ConfigError):  # not cached at all, or not the file that is wanted
        return None


def download(want: Wanted) -> Path:
    """Folder (or GGUF file) of the model, brought up to date from the hub, or from its cache when the hub is out of reach.

    Raises:
        HubUnavailableError: the hub cannot be asked and the cache lacks the model.
        ConfigError: there is no such model or revision, it is gated, or it has no usable file.

    """
    from huggingface_hub import errors

    reason = _why_unreachable()
    if reason:
        return _from_cache(want, reason)
    try:
        return _download(want)
    except errors.GatedRepoError as error:
        raise ConfigError(
            f"model {want.repo!r} is gated: accept its terms on the hub, then give --hf-token or HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ConfigError(
            f"the hub has no model {want.repo!r}, or it is private and needs --hf-token; nor is it a local path"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ConfigError(f"model {want.repo!r} has no revision {want.revision!r} (--revision)") from error
    # What the hub answered and what the network did (the HTTP library's base error, whichever library it is), and the disk.
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        return _from_cache(want, f"downloading failed: {error}")


def _from_cache(want: Wanted, reason: str) -> Path:
    found = cached(want)
    if found is None:
        raise HubUnavailableError(f"model {want.name!r} is neither a local path nor in the hub's cache, and {reason}")
    logger.warning("using the hub's cached copy of %s: %s", want.name, reason)
    return found


def _download(want: Wanted) -> Path:
    from huggingface_hub import hf_hub_download, list_repo_files

    if want.gguf_pattern:
        files = list_repo_files(want.repo, revision=want.revision, token=want.token)
        file = _only_match(want, files)
        return Path(
            hf_hub_download(
                want.repo, file, revision=want.revision, token=want.token, cache_dir=want.download_dir, **_drawing()
            )
        )
    return _snapshot(want, local_files_only=False)


def _snapshot(want: Wanted, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        want.repo,
        revision=want.revision,
        token=want.token,
        cache_dir=want.download_dir,
        allow_patterns=None if want.gguf_pattern else want.patterns,
        ignore_patterns=["*/*", "consolidated*.safetensors"],
        local_files_only=local_files_only,
        **_drawing(),
    )
    return Path(folder)


def _drawing() -> dict[str, Any]:
    """Arguments that say what the hub library is to draw progress with: bars of its own where nobody else draws."""
    if not progress.has_listener():
        return {}
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Told(tqdm):
        """Draws nothing, and tells how much of the largest file is there."""

        largest = 0

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            """As tqdm has it."""
            drawn: bool | None = super().update(n)
            if self.unit == "B" and self.total and self.total >= Told.largest:
                Told.largest = self.total
                progress.tell("downloading the model", self.n / self.total)
            return drawn

    return {"tqdm_class": Told}


def _is_whole(folder: Path, want: Wanted) -> bool:
    return (folder / "config.json").is_file() and (not want.weights or any(folder.glob("*.safetensors")))


def _pick_gguf(want: Wanted, folder: Path) -> Path:
    return folder / _only_match(want, (p.relative_to(folder).as_posix() for p in folder.rglob("*.gguf")))


def _only_match(want: Wanted, files: Iterable[str]) -> str:
    ggufs = sorted(f for f in files if f.endswith(".gguf"))
    found = [f for f in ggufs if fnmatch.fnmatch(f.lower(), str(want.gguf_pattern).lower())]
    if len(found) != 1:
        problem = "has no such GGUF file" if not found else "has several such GGUF files"
        raise ConfigError(
            f"{want.name!r} {problem}; name one as {want.repo}:QUANTIZATION. It has: {', '.join(ggufs) or 'none'}"
        )
    return found[0]


def _why_unreachable() -> str | None:
    """None when the hub answers, else what to tell the user; gives up after a few seconds.

    huggingface_hub would retry for much longer, and name resolution knows no timeout at all: hence the thread.
    """
    from huggingface_hub import constants

    if envs.OFFLINE or constants.HF_HUB_OFFLINE:
        return "OCTAVO_OFFLINE (or HF_HUB_OFFLINE) forbids asking the hub"
    result = [f"{constants.ENDPOINT} did not answer within {_PROBE_SECONDS:g} seconds"]
    probe = threading.Thread(target=_probe, args=(constants.ENDPOINT, result), daemon=True)
    probe.start()
    probe.join(_PROBE_SECONDS)
    return result[0] or None


def _probe(endpoint: str, result: list[str]) -> None:
    """Write "" into result[0] when `endpoint` answers anything at all, else the reason."""
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "octavo"})  # noqa: S310 - HF_ENDPOINT
        urllib.request.urlopen(request, timeout=_PROBE_SECONDS).close()  # noqa: S310
        result[0] = ""
    except urllib.error.HTTPError:
        result[0] = ""
    except OSError as error:
        result[0] = f"{endpoint} cannot be reached ({getattr(error, 'reason', error)})"
