"""`octavo plugins`: what is installed, what is wrong with it, and a package to begin with whose tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dist_info import write_dist_info

from octavo.frontend.cli.main import main

pytestmark = pytest.mark.usefixtures("packages")


def test_list_and_check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_PLUGINS", "struct,broken")
    assert main(["plugins", "list"]) == 0
    out = capsys.readouterr().out
    assert "NAME" in out
    assert "first        plugins_for_vllm 1.0    vllm         left out by OCTAVO_PLUGINS" in out
    assert main(["plugins", "check", "struct"]) == 0
    out = capsys.readouterr().out
    assert "typed_plugin.StructProcessor" in out
    assert '"minimum":0' in out
    assert out.endswith("struct can serve.\n")
    assert main(["plugins", "check", "broken"]) == 1
    assert "No module named 'no_such_module'" in capsys.readouterr().err


def test_a_new_package_passes_its_tests_and_can_serve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["plugins", "new", "my-plugin", "--output-dir", str(tmp_path)]) == 0
    folder = tmp_path / "my-plugin"
    assert "octavo plugins check my-plugin" in capsys.readouterr().out
    path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    write_dist_info(tmp_path / "site", "my_plugin", {"octavo.io_processor_plugins": {"my-plugin": "my_plugin:register"}})
    assert 'my-plugin = "my_plugin:register"' in (folder / "pyproject.toml").read_text()
    for one in (folder, tmp_path / "site"):
        monkeypatch.syspath_prepend(str(one))
    assert main(["plugins", "check", "my-plugin"]) == 0
    assert "my_plugin.plugin.MyPluginProcessor" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["My", "../up", "a b", "class", "5th", ""])
def test_bad_names_write_nothing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "new", name, "--output-dir", str(tmp_path)]) == 1
    assert "lower-case words" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    assert main(["plugins", "new", "mine", "--output-dir", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())
