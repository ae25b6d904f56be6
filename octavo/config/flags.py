"""Command-line flags made from dataclasses whose fields come from `octavo.config.option`.

Nothing about an option is written twice: name, type, default, help and choices are the field's. Only what the user gave
ends up in the namespace, so defaults stay where they belong and a file (`--config`) can lie under the command line.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from octavo.config.foreign_args import FOREIGN_ARGS, ForeignArg, own_value
from octavo.config.option import flag_name
from octavo.errors import ConfigError
from octavo.strict_json import DEEPEST, parse_object
from octavo.suggestions import did_you_mean

ON, OFF = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
"""Values of a switch, as text."""


@dataclasses.dataclass(frozen=True)
class Flag:
    """One option as the command line and the docs show it."""

    field: str
    names: tuple[str, ...]
    kind: str
    """One of bool, int, float, str, "number or text", list, json."""
    default: Any
    help: str
    choices: tuple[str, ...]

    @property
    def metavar(self) -> str:
        return {"int": "N", "float": "X", "json": "JSON", "number or text": "N", "list": "ITEM"}.get(self.kind, "TEXT")

    @property
    def shown_default(self) -> str:
        """The default as a user would write it; "" when unset."""
        if self.default is None or self.default == "" or (self.kind in ("list", "json") and not self.default):
            return ""
        if self.kind == "bool":
            return "on" if self.default else "off"
        return " ".join(map(str, self.default)) if self.kind == "list" else str(self.default)


def flags_of(cls: type) -> list[Flag]:
    """The flags of a dataclass, in the order of its fields."""
    hints = typing.get_type_hints(cls)
    return [_flag_of(field, hints[field.name]) for field in dataclasses.fields(cls)]


def _flag_of(field: dataclasses.Field[Any], hint: Any) -> Flag:
    other = field.metadata["flag"]
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return Flag(
        field=field.name,
        names=(flag_name(field.name), *((other,) if other else ())),
        kind=_kind(field.name, hint),
        default=default,
        help=field.metadata["help"],
        choices=tuple(field.metadata["choices"]),
    )


def _kind(name: str, hint: Any) -> str:
    members = set(typing.get_args(hint)) if isinstance(hint, types.UnionType) else {hint}
    members.discard(types.NoneType)
    bases = {typing.get_origin(member) or member for member in members}
    for wanted, kind in (({bool}, "bool"), ({int}, "int"), ({float}, "float"), ({str}, "str"), ({int, str}, "number or text")):
        if bases == wanted:
            return kind
    if bases == {list}:
        return "list"
    if bases == {dict}:
        return "json"
    raise TypeError(f"field {name}: no command-line form for the type {hint}")


class Parser(argparse.ArgumentParser):
    """argparse with `_` for `-` in flags, values for switches, dotted keys for JSON flags and no guessing of abbreviations."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self._source = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it, on the normalized words."""
        words = normalized(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._without_switch_values(words), namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it; of a flag that is not known, the nearest known one is named."""
        return self._known(*self.parse_known_args(args, namespace))

    def parse_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it; of a flag that is not known, the nearest known one is named."""
        return self._known(*self.parse_known_intermixed_args(args, namespace))

    def _known(self, given: argparse.Namespace, unknown: Sequence[str]) -> argparse.Namespace:
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}")
        return given

    @contextmanager
    def reading(self, source: str) -> Iterator[None]:
        """Errors of the block name where the words came from."""
        self._source = f"{source}: "
        try:
            yield
        finally:
            self._source = ""

    def takes_many(self, flag: str) -> bool:
        """Whether a flag takes more than one value; one that is not known may."""
        action = self._option_string_actions.get(flag)
        return action is None or action.nargs is not None

    def error(self, message: str) -> NoReturn:
        """As argparse does it; says where the words came from if it was not the command line."""
        if message.endswith("expected one argument"):
            message += " (a value that begins with - is written --flag=-1)"
        super().error(self._source + message)

    def _meant(self, unknown: Sequence[str]) -> str:
        known = [name for action in self._actions if action.help != argparse.SUPPRESS for name in action.option_strings]
        hints = (did_you_mean(word.partition("=")[0], known) for word in unknown if word.startswith("-"))
        return next(filter(None, hints), "")

    def _without_switch_values(self, words: Sequence[str]) -> list[str]:
        """`--x=true` and `--x true` are `--x`, `--x false` is `--no-x`.

        A following word is left alone where any word may stand for itself, say a prompt's.
        """
        positional = [action for action in self._actions if not action.option_strings]
        free = len(positional) > 1 or any(action.nargs in ("*", "+", argparse.REMAINDER) for action in positional)
        result: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                return [*result, word, *rest]
            name, equals, value = word.partition("=")
            action = self._option_string_actions.get(name)
            if not isinstance(action, argparse.BooleanOptionalAction):
                result.append(word)
                continue
            if not equals and not free and rest and rest[0].lower() in (*ON, *OFF):
                equals, value = "=", rest.pop(0)
            result.append(self._switch(action, name, value) if equals else name)
        return result

    def _switch(self, action: argparse.Action, name: str, value: str) -> str:
        if value.lower() not in (*ON, *OFF):
            self.error(f"argument {'/'.join(action.option_strings)}: a switch takes true or false, got {value!r}")
        on = (value.lower() in ON) is not name.startswith("--no-")
        return next(
            spelled for spelled in action.option_strings if spelled.startswith("--") and spelled.startswith("--no-") is not on
        )


def add_flags(
    parser: argparse.ArgumentParser, cls: type, title: str, *, with_defaults: bool = False, without: Sequence[str] = ()
) -> None:
    """Add one group with every flag of a dataclass, those of the fields `without` excepted.

    Only flags that are given reach the namespace, unless it is to hold the defaults of the others too.
    """
    group = parser.add_argument_group(title)
    for flag in (flag for flag in flags_of(cls) if flag.field not in without):
        _add_flag(group, flag, flag.default if with_defaults else argparse.SUPPRESS)


def _add_flag(group: Any, flag: Flag, default: Any) -> None:
    common: dict[str, Any] = {"dest": flag.field, "default": default, "help": _help_text(flag)}
    if flag.kind == "bool":
        group.add_argument(*flag.names, action=argparse.BooleanOptionalAction, **common)
    elif flag.kind == "list":
        group.add_argument(*flag.names, nargs="*", action="extend", metavar=flag.metavar, **common)
    elif flag.kind == "json":
        group.add_argument(*flag.names, type=_json_object, action=_Merge, metavar=flag.metavar, **common)
    elif flag.choices:
        group.add_argument(*flag.names, type=_own_value_of(flag.field), choices=flag.choices, **common)
    else:
        parse = {"int": _whole_number, "float": _number, "number or text": _number_or_text}.get(flag.kind, str)
        group.add_argument(*flag.names, type=parse, metavar=flag.metavar, **common)


def _help_text(flag: Flag) -> str:
    text = flag.help.replace("%", "%%")
    return f"{text} (default: {flag.shown_default.replace('%', '%%')})" if flag.shown_default else text


class _Merge(argparse.Action):
    """Lay each JSON object over those given before."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:  # noqa: ARG002
        setattr(namespace, self.dest, merged(getattr(namespace, self.dest, {}), values))


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, objects merged key by key and lists joined."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = _joined(result.get(key), value)
    return result


def _joined(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return merged(old, new)
    return old + new if isinstance(old, list) and isinstance(new, list) else new


def _json_object(text: str) -> dict[str, Any]:
    try:
        return parse_object(text.encode("utf-8", "surrogateescape"), "the value")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _own_value_of(field: str) -> Callable[[str], str]:
    """Parses a value of vLLM's into one of this version's, or says why there is none."""

    def parse(text: str) -> str:
        try:
            return str(own_value(field, text))
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text[:100]!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text[:100]!r}") from None


def _number_or_text(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def add_foreign(parser: argparse.ArgumentParser, table: Mapping[str, ForeignArg] = FOREIGN_ARGS) -> None:
    """Accept, without showing them, vLLM's flags that are no options here; `check_foreign` says what becomes of each."""
    for name, arg in table.items():
        options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
        names = (flag_name(name), *_SHORT.get(name, ()))
        if arg.switch:
            parser.add_argument(*names, action=argparse.BooleanOptionalAction, **options)
        elif arg.many:
            parser.add_argument(*names, type=_any_value, nargs="*", action="extend", **options)
        else:
            parser.add_argument(*names, type=_any_value, **options)


_SHORT = {
    "tensor_parallel_size": ("-tp",), "pipeline_parallel_size": ("-pp",), "data_parallel_size": ("-dp",),
    "decode_context_parallel_size": ("-dcp",), "prefill_context_parallel_size": ("-pcp",), "compilation_config": ("-cc",),
    "optimization_level": ("-O",), "enable_expert_parallel": ("-ep",), "speculative_config": ("-sc",),
    "data_parallel_size_local": ("-dpl",), "data_parallel_start_rank": ("-dpr",), "data_parallel_rank": ("-dpn",),
    "data_parallel_address": ("-dpa",), "data_parallel_rpc_port": ("-dpp",), "data_parallel_backend": ("-dpb",),
    "nnodes": ("-n",), "node_rank": ("-r",),
}  # fmt: skip
"""vLLM's short spellings."""


def _any_value(text: str) -> Any:
    """JSON where it is JSON, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def normalized(argv: Sequence[str]) -> list[str]:
    """Spell flags the way the parser knows them.

    `--max_model_len 8` becomes `--max-model-len 8`; `--hf-overrides.rope.factor 2` becomes
    `--hf-overrides={"rope": {"factor": 2}}`, and with `.key+` the value is put into a list. A word with a space before any
    `=` is no flag but a value, say another program's arguments.
    """
    result: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            return [*result, word, *words]
        flag, equals, value = word.partition("=")
        name, dot, path = flag.partition(".")
        if dot and _DOTTED.fullmatch(flag):
            text = value if equals else next(words, "")
            name = name.replace("_", "-")
            result.append(f"{name}={json.dumps(_nested(name, path, text))}")
        elif word.startswith("--") and " " not in flag:
            result.append(name.replace("_", "-") + dot + path + equals + value)
        else:
            result.append(word)
    return result


_DOTTED = re.compile(r"--?[A-Za-z][\w-]*\.[^\s]+")
"""A JSON flag, its short spelling too (`-cc.level`), with one of its keys."""


def _nested(name: str, path: str, text: str) -> dict[str, Any]:
    if path.count(".") >= DEEPEST:
        raise ConfigError(f"{name} is nested deeper than {DEEPEST} levels")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ConfigError(f"{name} is nested deeper than {DEEPEST} levels") from None
    except ValueError:
        value = text
    if path.endswith("+"):
        path, value = path[:-1], [value]
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def split(given: argparse.Namespace, *classes: type) -> list[dict[str, Any]]:
    """The given values of each dataclass's fields; what belongs to none of them goes to the first."""
    values = dict(vars(given))
    parts = [{f.name: values.pop(f.name) for f in dataclasses.fields(cls) if f.name in values} for cls in classes[1:]]
    return [values, *parts]
