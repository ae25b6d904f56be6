"""Which plugins are found, which are let in, and what is said of those that cannot serve."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dist_info import write_dist_info

from octavo.config import EngineArgs
from octavo.config.io_processors import names_of
from octavo.errors import ConfigError
from octavo.plugins import vllm_modules
from octavo.plugins.discovery import check_installed, installed, load

pytestmark = pytest.mark.usefixtures("packages")


def test_both_groups_are_found() -> None:
    found = installed()
    assert found["document"].package == "plugins_for_octavo 1.0"
    assert found["first"].package == "plugins_for_vllm 1.0"
    assert load("document").__name__ == "DocumentProcessor"
    assert load("generating").__name__ == "GenerateProcessor", "an entry point may give the class itself"
    assert load("struct") is load("struct")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "documnet",
            r"requires the 'documnet' IO Processor plugin but it is not installed \(did you mean document\?\). Available",
        ),
        (
            "broken",
            r"'broken' \(plugins_for_octavo 1.0\) cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("unavailable", "says that it is not available here"),
        ("no_plugin", "cannot serve: Sum is no subclass of IOProcessor"),
    ],
)
def test_what_cannot_be_loaded_says_why(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(name)


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.plugins.discovery.entry_points", lambda **_: [])
    with pytest.raises(ConfigError, match=r"No IOProcessor plugins installed but one is required \(x\)."):
        check_installed(["x"])
    check_installed([])


@pytest.mark.parametrize("variable", ["OCTAVO_PLUGINS", "VLLM_PLUGINS"])
def test_the_environment_leaves_plugins_out(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "document, struct")
    check_installed(["document", "struct"])
    with pytest.raises(ConfigError, match=f"the IO Processor plugin 'first' is left out by {variable}"):
        load("first")


def test_octavos_variable_goes_before_vllms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "document")
    monkeypatch.setenv("OCTAVO_PLUGINS", "")
    assert not any(plugin.allowed for plugin in installed().values())


def test_octavos_group_goes_before_vllms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dist_info(tmp_path, "twice", {"octavo.io_processor_plugins": {"first": "typed_plugin:struct"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("first").__name__ == "StructProcessor"


@pytest.mark.parametrize(
    ("value", "names"), [(None, ()), ("", ()), ("a", ("a",)), ("b, a,b", ("b", "a")), (["a", "b"], ("a", "b"))]
)
def test_names(value: object, names: tuple[str, ...]) -> None:
    assert names_of(value, "config.json") == names


@pytest.mark.parametrize("value", [5, {"a": 1}, ["a", 5]])
def test_what_is_no_name(value: object) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: io_processor_plugin must be a name"):
        names_of(value, "config.json")


def test_the_argument_goes_before_config_json(tiny_model_dir: Path) -> None:
    def plugins(**options: object) -> tuple[str, ...]:
        return EngineArgs(model=str(tiny_model_dir), **options).create_engine_config().io_processor.plugins  # type: ignore[arg-type]

    of_model = {"io_processor_plugin": "of_model"}
    assert plugins() == ()
    assert plugins(hf_overrides=of_model) == ("of_model",)
    assert plugins(hf_overrides=of_model, io_processor_plugin="of_user,other") == ("of_user", "other")
    assert plugins(hf_overrides=of_model, io_processor_plugin="") == (), "the empty name is none"


def test_bad_options_are_named(tiny_model_dir: Path) -> None:
    for options, words in (
        ({"io_processor_workers": -1}, "--io-processor-workers must be at least 0"),
        ({"io_processor_timeout": float("nan")}, "--io-processor-timeout must be at least 0.001"),
        ({"io_processor_timeout": 0}, "--io-processor-timeout must be at least 0.001"),
        ({"io_processor_memory": "lots"}, "--io-processor-memory must be a positive number"),
        ({"io_processor_max_prompts": 0}, "--io-processor-max-prompts must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            EngineArgs(model=str(tiny_model_dir), **options).create_engine_config()  # type: ignore[arg-type]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_vllms_modules_are_octavos() -> None:
    """Every name of the table is there, and is what it says; nothing else is found."""
    code = """
import importlib, sys
from octavo.plugins import vllm_modules
assert "vllm" not in sys.modules
assert vllm_modules.provide() and vllm_modules.provide()
for module, names in vllm_modules.TABLE.items():
    loaded = importlib.import_module(module)
    for name, home in names.items():
        where, _, other = home.partition(":")
        assert getattr(loaded, name) is getattr(importlib.import_module(where), other or name), (module, name)
from vllm.plugins.io_processors.interface import IOProcessor
import octavo.plugins.io_processor
assert IOProcessor is octavo.plugins.io_processor.IOProcessor
from packaging.version import parse
import vllm
assert parse(vllm.__version__) > parse("0.16.0")
for statement in ("import vllm.model_executor", "from vllm.config import CacheConfig", "from vllm import Nothing"):
    try:
        exec(statement)
    except ImportError as error:
        print(error)
"""
    lines = run(code).splitlines()
    assert len(lines) == 3
    assert lines[0] == "No module named 'vllm.model_executor'"


def test_an_installed_vllm_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("__version__ = '9'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "from octavo.plugins import vllm_modules; print(vllm_modules.provide()); import vllm; print(vllm.__version__)"
    assert run(code).split() == ["False", "9"]


def test_a_module_that_is_not_there_is_explained() -> None:
    error = ModuleNotFoundError("No module named 'vllm.platforms'", name="vllm.platforms")
    assert "docs/plugins.md" in vllm_modules.explain(error)
    assert vllm_modules.explain(ModuleNotFoundError("no", name="rasterio")) == ""


def test_the_docs_list_vllms_modules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    for module, names in vllm_modules.TABLE.items():
        if names:
            assert f"| `{module}` | {', '.join(f'`{name}`' for name in names)} |" in page
