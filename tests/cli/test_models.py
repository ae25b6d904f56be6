"""`octavo models` and short names: what is on this machine, and whether it fits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from terminal import COMMAND

from octavo.cache_groups import specs_of_windows
from octavo.config import EngineArgs
from octavo.frontend.cli.models import shown_bytes
from octavo.sources.hf_config import known_architectures
from octavo.sources.model_facts import longest_context, model_facts, weights_in_memory
from octavo.sources.model_source import DEFAULT_MODEL
from octavo.sources.short_names import SHORT_NAMES, full_name, names_of, short_name_of


@pytest.fixture
def machine(tmp_path: Path, tiny_model_dir: Path) -> dict[str, str]:
    """A machine with one model in its hub cache, and no network."""
    snapshots = tmp_path / "hub" / "models--owner--tiny" / "snapshots"
    snapshots.mkdir(parents=True)
    blobs = snapshots.parent / "blobs"
    blobs.mkdir()
    (snapshots / ("a" * 40)).mkdir()
    for index, file in enumerate(sorted(tiny_model_dir.iterdir())):
        blob = blobs / f"{index:040d}"
        blob.write_bytes(file.read_bytes())
        (snapshots / ("a" * 40) / file.name).symlink_to(blob)
    refs = snapshots.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40)
    cache = tmp_path / "cache"
    return {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "OCTAVO_CACHE_DIR": str(cache), "OCTAVO_OFFLINE": "1"}


def models(machine: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "models", *words]
    return subprocess.run(command, env=machine, capture_output=True, text=True, timeout=120, check=False)


def test_list_show_and_remove(machine: dict[str, str]) -> None:
    listed = models(machine, "list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "SHORT", "NAME", "SIZE"]
    assert listed[1].startswith("owner/tiny ")
    shown = models(machine, "show", "owner/tiny")
    assert shown.returncode == 0, shown.stderr
    rows = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert rows["architecture"] == "LlamaForCausalLM"
    assert rows["path"].endswith("a" * 40)
    assert rows["weights"].startswith("F32, computed in ")
    assert " tokens now (" in rows["fits"]
    removed = models(machine, "rm", "owner/tiny")
    assert removed.stdout.startswith("removed owner/tiny, ")
    assert "no models yet" in models(machine, "list").stdout
    assert not list((Path(machine["HF_HUB_CACHE"]) / "models--owner--tiny").rglob("0*"))


def test_the_default_model_from_its_wheel(machine: dict[str, str], smollm2: str) -> None:
    kept = Path(machine["OCTAVO_CACHE_DIR"]) / "models" / Path(smollm2).name
    kept.parent.mkdir(parents=True)
    kept.symlink_to(smollm2)
    assert models(machine, "list").stdout.splitlines()[1].split() == [DEFAULT_MODEL, "smollm2", "93.8", "MiB"]
    shown = models(machine, "show", "smollm2").stdout
    assert "134.5 M" in shown
    assert "Q4_" in shown
    assert models(machine, "pull", "smollm2").stdout.strip() == str(kept)
    assert models(machine, "rm", "smollm2").returncode == 0
    assert not kept.exists()
    assert Path(smollm2).exists()


def test_a_model_of_no_bytes_is_removed(machine: dict[str, str]) -> None:
    folder = Path(machine["HF_HUB_CACHE"]) / "models--owner--empty"
    (folder / "snapshots" / ("b" * 40)).mkdir(parents=True)
    assert models(machine, "rm", "owner/empty").stdout == "removed owner/empty, 0 bytes\n"
    assert not folder.exists()


@pytest.mark.parametrize("repo", ["tiny", "stopped"])
def test_an_interrupted_download_is_listed_and_removed(machine: dict[str, str], repo: str) -> None:
    """Before its first file has come, and after."""
    folder = Path(machine["HF_HUB_CACHE"]) / f"models--owner--{repo}"
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / "0123.incomplete").write_bytes(bytes(3 << 20))
    listed = models(machine, "list").stdout.splitlines()
    (line,) = [line for line in listed if line.startswith(f"owner/{repo} ")]
    assert line.endswith(" MiB, download unfinished")
    assert models(machine, "rm", f"owner/{repo}").stdout.startswith(f"removed owner/{repo}, 3.")
    assert not folder.exists()


def test_a_link_in_the_cache_is_not_a_download(machine: dict[str, str], tmp_path: Path) -> None:
    folder = Path(machine["HF_HUB_CACHE"]) / "models--owner--tiny"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    done = models(machine, "rm", "owner/tiny")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{folder} is a link to {tmp_path / 'elsewhere'}" in done.stderr
    assert folder.is_symlink()
    assert "owner/tiny" in models(machine, "list").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "qwen3"], "octavo models pull qwen3"),
        (["rm", "qwen3"], "'qwen3' has not been downloaded"),
        (["rm", "."], "only what was downloaded"),
        (["pull", "qwen3"], "OCTAVO_OFFLINE"),
    ],
)
def test_what_is_not_there(machine: dict[str, str], words: list[str], message: str) -> None:
    done = models(machine, *words)
    assert done.returncode == 1
    assert done.stderr.startswith("octavo: error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"), [(["list", "x"], "takes no MODEL"), (["show"], "needs a MODEL"), (["eat"], "eat")]
)
def test_command_lines_that_make_no_sense(machine: dict[str, str], words: list[str], message: str) -> None:
    done = models(machine, *words)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("available", [1 << 18, 1 << 20, 3 << 20, 1 << 30])
@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"block_size": 16},
        {"gpu_memory_utilization": 0.7},
        {"kv_cache_dtype": "bfloat16"},
        {"hf_overrides": {"architectures": ["MistralForCausalLM"], "sliding_window": 100}, "max_num_batched_tokens": 64},
    ],
)
def test_the_longest_context_is_what_the_core_makes_of_the_same_memory(
    tiny_model_dir: Path, available: int, flags: dict[str, object]
) -> None:
    from octavo.executor.kv_cache import plan_kv_cache

    config = EngineArgs(model=str(tiny_model_dir), device="cpu", max_num_seqs=1, **flags).create_engine_config()  # type: ignore[arg-type]
    hf = config.model.hf_config
    window = 100 if hf["architectures"] == ["MistralForCausalLM"] else 0
    specs = specs_of_windows(hf["num_key_value_heads"], hf["head_dim"], [window] * hf["num_hidden_layers"])
    assert longest_context(config, available) == plan_kv_cache(config, specs, available).max_model_len


def test_facts_of_a_checkpoint(tiny_model_dir: Path) -> None:
    from safetensors import safe_open

    numbers = 0
    for file in tiny_model_dir.glob("*.safetensors"):
        with safe_open(file, "np") as tensors:
            numbers += sum(tensors.get_tensor(name).size for name in tensors.keys())  # noqa: SIM118
    facts = model_facts(str(tiny_model_dir), "safetensors")
    assert facts.parameters == numbers
    assert facts.size > 0
    config = EngineArgs(model=str(tiny_model_dir), dtype="bfloat16").create_engine_config()
    assert weights_in_memory(config, facts) == 2 * numbers
    assert model_facts(str(tiny_model_dir), "dummy").parameters == 0


def test_short_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert full_name("smollm2") == full_name("SmolLM2") == DEFAULT_MODEL
    assert names_of("smollm2") == (DEFAULT_MODEL, "smollm2")
    assert names_of(DEFAULT_MODEL) == (DEFAULT_MODEL,)
    assert short_name_of(DEFAULT_MODEL) == "smollm2"
    assert all("/" in full and "/" not in short for short, full in SHORT_NAMES.items())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    assert full_name("smollm2") == "smollm2", "a folder of that name is meant"


def test_every_short_name_is_of_an_architecture_that_is_served() -> None:
    """The families, as their names tell."""
    served = " ".join(known_architectures()).lower()
    for name in SHORT_NAMES:
        family = {"smollm2": "llama", "tinyllama": "llama", "llama3.2": "llama", "qwen2.5": "qwen2", "phi4-mini": "phi3"}
        base = name.partition(":")[0]
        assert family.get(base, base) in served, name


def test_a_size_for_people() -> None:
    sizes = [shown_bytes(n) for n in (0, 1023, 1024, 3 << 20, 5 << 30)]
    assert sizes == ["0 bytes", "1023 bytes", "1.0 KiB", "3.0 MiB", "5.0 GiB"]
