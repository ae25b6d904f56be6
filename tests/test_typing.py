"""A user's script is type-checked against the installed package as editors see it: real types, nothing is Any."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import octavo

ROOT = Path(__file__).parent.parent
ROOMS = ("core", "executor", "frontend", "kernels", "plugins", "tools")

SCRIPT = """
from octavo import LLM, AsyncLLM, EngineArgs, RequestOutput, SamplingParams

llm = LLM("model", max_model_len=512)
params = SamplingParams(temperature=0.5, max_tokens=8)
outputs = llm.generate(["Hello"], params)
reveal_type(llm)
reveal_type(outputs)
reveal_type(outputs[0].outputs[0].text)
reveal_type(params.temperature)
reveal_type(AsyncLLM.from_engine_args(EngineArgs(model="model")))
llm.generate(5)
SamplingParams(temperature="hot")
"""
CONFIG = """[mypy]
strict = True
follow_imports = silent
[mypy-torch.*,transformers.*,sympy.*,aiohttp.*,numpy.*,triton.*]
follow_imports = skip
"""


def test_a_users_script_sees_the_types(tmp_path: Path) -> None:
    """Run outside the checkout, with mypy told only which interpreter has the package."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--python-executable", sys.executable, "--no-error-summary", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    revealed = re.findall(r'note: Revealed type is "(.*)"', done.stdout)
    assert revealed == [
        "octavo.frontend.llm.LLM", "list[octavo.outputs.RequestOutput]", "str", "float", "octavo.frontend.async_llm.AsyncLLM",
    ], done.stdout + done.stderr  # fmt: skip
    errors = re.findall(r"script.py:(\d+): error: .*\[(.*)\]", done.stdout)
    assert errors == [("12", "arg-type"), ("13", "arg-type")], done.stdout


def test_the_rooms_are_linked_into_the_package() -> None:
    """Type checkers and wheels find the package in one folder."""
    for room in ROOMS:
        assert (ROOT / "octavo" / room).resolve() == ROOT / room
    assert (ROOT / "octavo" / "py.typed").is_file()


def test_dir_shows_the_api() -> None:
    assert set(octavo.__all__) <= set(dir(octavo))
    public = [name for name in dir(octavo) if not name.startswith("_")]
    assert sorted(set(octavo.__all__) - {"__version__"}) == public
