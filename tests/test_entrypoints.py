"""vLLM's module paths: thin files that forward, when they are used, to what one table says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import octavo
from octavo import entrypoints

FOLDER = Path(entrypoints.__file__).parent


def test_every_module_is_in_the_table() -> None:
    files = {path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.py") if path.name != "__init__.py"}
    modules = {"octavo.entrypoints." + name.replace("/", ".") for name in files}
    assert modules == entrypoints.COMMANDS.keys() | entrypoints.HOMES.keys()


@pytest.mark.parametrize("module", entrypoints.COMMANDS)
def test_a_command_is_octavos(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: octavo {entrypoints.COMMANDS[module]}")
    done = subprocess.run([sys.executable, "-m", module, "--prot"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "(did you mean --port?)" in done.stderr


def test_names_are_forwarded_when_they_are_used() -> None:
    code = "import sys, octavo.entrypoints.llm as m; assert 'octavo.frontend' not in sys.modules; print(m.LLM.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == octavo.LLM.__module__, done.stderr
    from octavo.entrypoints import llm

    with pytest.raises(AttributeError, match=r"octavo\.entrypoints\.llm.*'Nothing'"):
        _ = llm.Nothing
