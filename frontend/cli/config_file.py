"""`--config FILE`: options from a YAML or JSON file, beneath those of the command line."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from octavo.config.flags import Parser
from octavo.config.option import flag_name
from octavo.errors import ConfigError
from octavo.frontend.server.options import PROTECTING

Fail = Callable[[str], NoReturn]
"""Ends the command with a message, as `ArgumentParser.error` does."""


def words_from_option(key: str, value: Any, fail: Fail) -> list[str]:
    """An option of a file (`max-model-len: 4096`) as the words of a command line.

    An option without a value is one left out, unless it protects something: then it is passed on empty, to be refused.
    """
    flag = flag_name(key.lstrip("-"))
    if value is None:
        return [f"{flag}="] if _field_of(key) in PROTECTING else []
    if isinstance(value, bool):
        return [flag if value else "--no-" + flag[2:]]
    try:
        if isinstance(value, list):
            return [flag, *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)]
        if isinstance(value, dict):
            return [f"{flag}={json.dumps(value)}"]
    except (TypeError, ValueError) as error:
        # YAML has dates, and objects that hold themselves.
        fail(f"the value has no form in JSON: {error}")
    except RecursionError:
        fail("the value is nested too deep")
    if not isinstance(value, str | int | float):
        fail(f"a value of type {type(value).__name__} has no command-line form")
    return [f"{flag}={value}"]


def _field_of(key: str) -> str:
    return key.lstrip("-").partition(".")[0].replace("-", "_")


def read_options(path: str, fail: Fail) -> dict[str, Any]:
    """The options in a JSON or YAML file; `fail(message)` when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        fail(f"--config {path}: {error.strerror or error}")
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
            fail(f"--config {path} is no JSON: {error}")
        except RecursionError:
            fail(f"--config: {path} is nested too deep")
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        fail(f"--config {path} is no YAML: {place}{error.problem or error.context}")
    except (yaml.YAMLError, ValueError) as error:
        fail(f"--config {path} is no YAML: {' '.join(str(error).split())}")
    except RecursionError:
        fail(f"--config: {path} is nested too deep")


class FileKeys:
    """Which options came from the file, to name it in errors that are found later."""

    def __init__(self) -> None:
        self._path = ""
        self._keys: dict[str, str] = {}

    def read_from(self, path: str, keys: dict[str, str]) -> None:
        """The options by field, and the keys that the file has for them."""
        self._path, self._keys = path, keys

    @contextmanager
    def named(self) -> Iterator[None]:
        """A ConfigError of the block that is about an option of the file says which file and key it is."""
        try:
            yield
        except ConfigError as error:
            flags = (flag[2:].replace("-", "_") for flag in re.findall(r"--[a-z][a-z0-9-]*", str(error)))
            keys = [self._keys[field] for field in dict.fromkeys(flags) if field in self._keys]
            if not keys:
                raise
            raise ConfigError(f"{error} ({', '.join(keys)} in {self._path})") from error


def parse_with_config(
    parser: Parser, argv: Sequence[str], settle: Callable[[argparse.Namespace], None], origin: FileKeys
) -> argparse.Namespace:
    """Parse `argv`, with the options of `--config FILE` beneath it.

    Args:
        parser: has `--config`.
        argv: the command line.
        settle: called on what each of the two says, before one is laid over the other.
        origin: told which options of the file hold.
    """
    given = parser.parse_args(list(argv))
    settle(given)
    path = vars(given).pop("config", None)
    if path is None:
        return given
    beneath = argparse.Namespace()
    keys: dict[str, str] = {}
    for key, value in read_options(path, parser.error).items():
        with parser.reading(f"--config {path}: {key}"):
            if _field_of(str(key)) == "config":
                parser.error("a file of options names no other one; put its options in here, or give --config the other file")
            words = words_from_option(str(key), value, parser.error)
            if isinstance(value, list) and not parser.takes_many(words[0]):
                parser.error(f"takes one value, got a list of {len(value)}")
            parser.parse_args(words, beneath)
        keys[_field_of(str(key))] = str(key)
    settle(beneath)
    origin.read_from(path, {field: key for field, key in keys.items() if field not in vars(given)})
    return argparse.Namespace(**{**vars(beneath), **vars(given)})
