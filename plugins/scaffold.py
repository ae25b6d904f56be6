"""A new plugin's package: few files that install, serve and have tests that pass."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template

from octavo.errors import ConfigError
from octavo.plugins.discovery import GROUP

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=68"]
build-backend = "setuptools.build_meta"

[project]
name = "$name"
version = "0.1.0"
description = "An IO Processor plugin for Octavo"
requires-python = ">=3.11"

[project.entry-points."$group"]
$name = "$module:register"

[tool.setuptools]
packages = ["$module"]
"""

_INIT = '''\
"""An IO Processor plugin; Octavo finds it by the entry point in pyproject.toml."""


def register() -> str:
    """Where the plugin's class is; not imported before it is asked for."""
    return "$module.plugin.$cls"
'''

_PLUGIN = '''\
"""A text in, the mean of its lines' embeddings out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from octavo import PoolingParams
from octavo.plugins.io_processor import IOProcessor


class Input(msgspec.Struct, forbid_unknown_fields=True):
    """What clients send as `data`; anything else is answered with 422 and the place that does not fit."""

    text: str
    least_words: int = 1
    """Lines with fewer are left out."""


class Output(msgspec.Struct):
    """What clients get as `data`."""

    embedding: list[float]
    num_lines: int


class $cls(IOProcessor[Input, Output]):
    """One prompt for each line."""

    def pre_process(self, prompt: Input, request_id: str | None = None, **kwargs: Any) -> list[str]:
        lines = [line for line in prompt.text.splitlines() if len(line.split()) >= prompt.least_words]
        if not lines:
            raise ValueError("text has no line with enough words")
        return lines

    def validate_or_generate_params(self, params: PoolingParams | None = None) -> PoolingParams:
        return params or PoolingParams(task="embed")

    def post_process(self, model_output: Sequence[Any], request_id: str | None = None, **kwargs: Any) -> Output:
        rows = [output.outputs.data.tolist() for output in model_output]
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        return Output(embedding=mean, num_lines=len(rows))
'''

_TEST = '''\
"""The plugin without an engine; `octavo serve MODEL --io-processor-plugin $name` has one."""

import numpy as np
import pytest
from $module.plugin import $cls

from octavo.errors import PluginInputError, ValidationError
from octavo.plugins.trial import Trial


def embed(prompt: str) -> np.ndarray:
    """In the model's place: number of words and of characters."""
    return np.array([len(prompt.split()), len(prompt)], dtype=np.float32)


def test_a_text_becomes_the_mean_of_its_lines() -> None:
    answer = Trial($cls, embed).ask({"text": "one two\\nthree four five six\\n"})
    assert answer["data"] == {"embedding": [3.0, 13.0], "num_lines": 2}


def test_short_lines_are_left_out() -> None:
    trial = Trial($cls, embed)
    trial.ask({"text": "one\\ntwo three", "least_words": 2})
    assert trial.prompts == ["two three"]


def test_bad_data_is_refused_by_its_place() -> None:
    with pytest.raises(PluginInputError) as caught:
        Trial($cls, embed).ask({"text": 5})
    assert caught.value.parameter == "data.text"


def test_a_text_without_lines_is_refused() -> None:
    with pytest.raises(ValidationError, match="no line with enough words"):
        Trial($cls, embed).ask({"text": ""})
'''

_README = """\
# $name

An IO Processor plugin for Octavo.

    pip install -e .
    pytest
    octavo plugins check $name
    octavo serve MODEL --io-processor-plugin $name
    curl http://localhost:8000/pooling -H 'Content-Type: application/json' \\
      -d '{"task": "plugin", "data": {"text": "First line.\\nSecond line."}}'
"""

_FILES = {
    "pyproject.toml": _PYPROJECT,
    "README.md": _README,
    "$module/__init__.py": _INIT,
    "$module/plugin.py": _PLUGIN,
    "tests/test_plugin.py": _TEST,
}
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


def new_package(name: str, parent: Path) -> list[Path]:
    """Write a package that registers a plugin `name`, in a new folder of that name.

    Returns:
        The files.

    Raises:
        ConfigError: the name is none for a package, or the folder exists.
    """
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(module):
        raise ConfigError(f"a plugin's name must be lower-case words with - or _ between, got {name!r}")
    folder = parent / name
    if folder.exists():
        raise ConfigError(f"{folder} exists already")
    cls = "".join(part.capitalize() for part in module.split("_")) + "Processor"
    words = {"name": name, "module": module, "cls": cls, "group": GROUP}
    written = []
    for path, text in _FILES.items():
        file = folder / Template(path).substitute(words)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(words), encoding="utf-8")
        written.append(file)
    return written
