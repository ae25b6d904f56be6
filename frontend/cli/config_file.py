"""`--config FILE`: options from a YAML or JSON file, beneath those of the command line."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from octavo.config import flag_name
from octavo.frontend.server.options import PROTECTING

Fail = Callable[[str], NoReturn]
"""Ends the command with a message, as `ArgumentParser.error` does."""


def words_from_options(options: dict[str, Any], fail: Fail) -> list[str]:
    """Options of a file (`{"max-model-len": 4096, ...}`) as the words of a command line.

    An option without a value is one left out, unless it protects something: then it is passed on empty, to be refused.
    """
    words: list[str] = []
    for key, value in options.items():
        flag = flag_name(str(key).lstrip("-"))
        if value is None:
            if flag[2:].replace("-", "_") in PROTECTING:
                words.append(f"{flag}=")
        elif isinstance(value, bool):
            words.append(flag if value else "--no-" + flag[2:])
        elif isinstance(value, list):
            words += [flag, *map(str, value)]
        elif isinstance(value, dict):
            words.append(f"{flag}={json.dumps(value)}")
        elif isinstance(value, str | int | float):
            words.append(f"{flag}={value}")
        else:
            fail(f"{key}: a value of type {type(value).__name__} has no command-line form")
    return words


def read_options(path: str, fail: Fail) -> dict[str, Any]:
    """The options in a JSON or YAML file; `fail(message)` when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        fail(f"--config: {error}")
    except UnicodeDecodeError as error:
        fail(f"--config: {path} is not UTF-8 text: {error}")
    options = _json_or_yaml(path, text, fail)
    if not isinstance(options, dict):
        fail(f"--config: {path} must hold an object of options")
    return dict(options)


def _json_or_yaml(path: str, text: str, fail: Fail) -> Any:
    if path.endswith(".json"):
        try:
            return json.loads(text)
        except ValueError as error:
            fail(f"--config: {path}: {error}")
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        fail(f"--config: {path}: {error}")


def parse_with_config(
    parser: argparse.ArgumentParser, argv: Sequence[str], settle: Callable[[argparse.Namespace], None]
) -> argparse.Namespace:
    """Parse `argv`, with the options of `--config FILE` beneath it.

    `settle` is called on what each of the two says, before one is laid over the other.
    """
    given = parser.parse_args(list(argv))
    settle(given)
    path = vars(given).pop("config", None)
    if path is None:
        return given
    beneath = parser.parse_args(words_from_options(read_options(path, parser.error), parser.error))
    settle(beneath)
    return argparse.Namespace(**{**vars(beneath), **vars(given)})
