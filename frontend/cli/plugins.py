"""`octavo plugins list|check|new`: the IO Processor plugins on this machine, and a package for a new one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from octavo.config.flags import Parser, add_flags
from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.frontend.cli.terminal_text import printable_line
from octavo.frontend.command_name import command
from octavo.suggestions import did_you_mean

ACTIONS = {
    "list": "Plugins that are installed.",
    "check": "Load a plugin, and say what it is and whether it can serve.",
    "new": "Write a package with a plugin of that name and its tests.",
}


@dataclass
class PluginsOptions:
    """Options of `octavo plugins`."""

    output_dir: str = option(".", "Folder in which a new package's folder is made.")


def main(argv: Sequence[str]) -> int:
    """Do what is asked; returns the exit code."""
    parser = make_parser()
    given = vars(parser.parse_intermixed_args(list(argv)))
    action, name = given.pop("action"), given.pop("name")
    if action not in ACTIONS:
        parser.error(f"there is no action {action!r}{did_you_mean(action, ACTIONS)}; actions: {', '.join(ACTIONS)}")
    if (name is None) != (action == "list"):
        parser.error(f"{action} {'takes no' if action == 'list' else 'needs a'} NAME")
    options = PluginsOptions(**given)
    try:
        print(_list() if action == "list" else _check(name) if action == "check" else _new(name, Path(options.output_dir)))
    except ConfigError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    return 0


def make_parser() -> Parser:
    """The command's parser."""
    parser = Parser(
        prog="octavo plugins",
        usage="octavo plugins list | check NAME | new NAME [OPTIONS]",
        description="\n".join(f"{name}: {text}" for name, text in ACTIONS.items()),
    )
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("name", nargs="?", metavar="NAME", help="Name of an IO Processor plugin.")
    add_flags(parser, PluginsOptions, "options")
    return parser


def _list() -> str:
    from octavo.plugins.discovery import installed

    plugins = installed()
    if not plugins:
        return f"no IO Processor plugins are installed; write one with: {command()} plugins new NAME"
    rows = [("NAME", "PACKAGE", "WRITTEN FOR", "")]
    for name, plugin in sorted(plugins.items()):
        written_for = plugin.entry.group.partition(".")[0]
        rows.append((name, plugin.package, written_for, "" if plugin.allowed else "left out by OCTAVO_PLUGINS"))
    cells = [tuple(map(printable_line, row)) for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def _check(name: str) -> str:
    from octavo.plugins import typed
    from octavo.plugins.checks import generation
    from octavo.plugins.discovery import installed, load

    cls = load(name)
    given, returned = typed.declared_types(cls)
    facts = {
        "plugin": name,
        "package": installed()[name].package,
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "interface": generation(cls) or "typed",
        "input": _shown(given),
        "output": _shown(returned),
    }
    return "\n".join(f"{label:<10} {printable_line(text)}" for label, text in facts.items()) + f"\n{name} can serve."


def _shown(declared: Any) -> str:
    from octavo.plugins import typed

    schema = typed.schema(declared)
    return "not declared" if schema is None else msgspec.json.encode(schema).decode()


def _new(name: str, parent: Path) -> str:
    from octavo.plugins.scaffold import new_package

    files = new_package(name, parent)
    lines = [f"wrote {file}" for file in files]
    folder = files[0].parent
    return "\n".join([*lines, "", f"next: pip install -e {folder} && pytest {folder} && {command()} plugins check {name}"])
