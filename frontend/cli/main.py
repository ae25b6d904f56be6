"""The `octavo` command: finds the subcommand, and imports nothing else than that."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from octavo.version import __version__


class Command(NamedTuple):
    """A subcommand: the module whose `main(argv) -> exit code` runs it, and one line of help."""

    module: str
    help: str


EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE: whoever read our output has left, as `head` does."""

COMMANDS = {
    "run": Command("octavo.frontend.cli.run", "Answer a prompt or chat, in one command."),
    "serve": Command("octavo.frontend.cli.serve", "Start the HTTP server."),
    "chat": Command("octavo.frontend.cli.chat", "Chat with a running server."),
    "complete": Command("octavo.frontend.cli.complete", "Complete a text with a running server."),
    "models": Command("octavo.frontend.cli.models", "List, download, show or remove models."),
    "plugins": Command("octavo.frontend.cli.plugins", "List, check or write IO Processor plugins."),
    "bench": Command("octavo.frontend.cli.bench", "Measure a server or the engine."),
}


def usage() -> str:
    """What `octavo --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: octavo COMMAND [OPTIONS]",
            "",
            "Octavo, an LLM serving engine.",
            "",
            "commands:",
            *lines,
            "",
            "options:",
            "  -h, --help  Show this text; octavo COMMAND --help shows a command's own options.",
            "  --version   Show the version.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own) and return the exit code."""
    try:
        try:
            return _main(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] in ("--version", "-v", "version"):
        print(__version__)
        return 0
    if words[0] not in COMMANDS:
        from octavo.suggestions import did_you_mean

        hint = did_you_mean(words[0], COMMANDS)
        print(f"octavo: there is no command {words[0]!r}{hint}; commands: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return _run(COMMANDS[words[0]], words[1:])


def _run(command: Command, words: list[str]) -> int:
    from octavo.errors import OctavoError
    from octavo.frontend.cli.terminal_text import printable

    try:
        return int(importlib.import_module(command.module).main(words))
    except OctavoError as error:
        print(f"octavo: error: {printable(str(error))}", file=sys.stderr)
        return 1


def _forget_output() -> None:
    """What standard output still holds has no reader; the interpreter would try to write it, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
