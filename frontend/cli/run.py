"""`octavo run [MODEL] ["prompt"]`: one command from nothing to an answer, or to a chat."""

from __future__ import annotations

import asyncio
import difflib
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from octavo.config import EngineArgs
from octavo.config.flags import Parser, add_flags, add_foreign
from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.frontend.cli import utf8
from octavo.frontend.cli.config_file import words_from_option
from octavo.frontend.cli.connection import AskingOptions
from octavo.frontend.command_name import command
from octavo.sources.model_source import DEFAULT_MODEL
from octavo.sources.short_names import SHORT_NAMES


@dataclass
class RunOptions(AskingOptions):
    """Options of `octavo run`."""

    port: int = option(8000, "Where to look for a running server that has the model already.")
    system_prompt: str | None = option(None, "First message of the conversation, in the system's role.")


@dataclass(frozen=True)
class Task:
    """What a command line asks for.

    Attributes:
        model: as the user wrote it, None when the default will do.
        prompt: None for a chat.
        engine: words for `octavo serve`, the model's not among them.
        options: the rest.
    """

    model: str | None
    prompt: str | None
    engine: list[str]
    options: RunOptions


def make_parser() -> Parser:
    """The parser of `octavo run`."""
    parser = Parser(
        prog="octavo run",
        usage='octavo run [MODEL] ["PROMPT"] [OPTIONS]',
        description="Answer a prompt, or chat, with a model; with the server on --port if it has the model, else for itself.",
    )
    parser.add_argument("words", nargs="*", metavar="MODEL PROMPT", help="Model as for octavo serve, and what to ask it.")
    add_flags(parser, RunOptions, "run options")
    add_flags(parser, EngineArgs, "engine options (with one of them it runs the model for itself)", without=("seed",))
    add_foreign(parser)
    return parser


def parse(argv: Sequence[str]) -> Task:
    """The task of a command line; exits with a message when it is not understood.

    Raises:
        ConfigError: the first word is neither a model nor a prompt.
    """
    parser = make_parser()
    given = vars(parser.parse_intermixed_args(list(argv)))
    own = {f.name for f in fields(RunOptions)}
    words = given.pop("words")
    options = RunOptions(**{name: given.pop(name) for name in list(given) if name in own})
    model = given.pop("model", None)
    if words and not "".join(words).strip():
        raise ConfigError("the prompt is empty; without one it is a chat")
    if model is None and words and _is_model(words):
        model = words.pop(0)
    prompt = " ".join(words) if words else None
    for text in (prompt, options.system_prompt):
        utf8.checked(text or "", "the command line")
    engine = [word for name, value in given.items() for word in words_from_option(name, value, parser.error)]
    return Task(model, prompt, engine, options)


def _is_model(words: list[str]) -> bool:
    """Whether the first of the words names a model: a short name, something on disk, or a hub id. A text with blanks is a prompt.

    Raises:
        ConfigError: a single word that is none of these; most likely a name that is misspelled.
    """
    word = words[0]
    if word.lower() in SHORT_NAMES or os.path.exists(os.path.expanduser(word)):
        return True
    if any(character.isspace() for character in word):
        return False
    if "/" in word or word.endswith(".gguf"):
        return True
    close = difflib.get_close_matches(word.lower(), SHORT_NAMES, 1)
    hint = f"did you mean {close[0]}?" if close else f"short names are {', '.join(SHORT_NAMES)}."
    raise ConfigError(
        f"there is no model {word!r}: {hint} If it is what to ask: {command()} run smollm2 {shlex.quote(' '.join(words))}"
    )


def main(argv: Sequence[str]) -> int:
    """Answer or chat; returns the exit code."""
    task = parse(argv)
    utf8.write_all()
    prompt = task.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = utf8.read_stdin().strip()
        if not prompt:
            raise ConfigError("standard input holds no prompt")
    from octavo.frontend.cli.own_server import OwnServer

    with asyncio.Runner() as runner:
        if not task.engine and _somebody_listens(task.options.port):
            from octavo.frontend.cli.found_server import find_server

            found = runner.run(find_server(task.options.port, task.model, task.options.key()))
            if found is not None:
                return _talk(runner, found, task, prompt, str(found.address))
        with OwnServer([task.model or DEFAULT_MODEL, *task.engine]) as server:
            code = server.wait_ready()
            if code is not None:
                return code
            return _talk(runner, runner.run(server.client()), task, prompt, "")


def _somebody_listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1.0)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _talk(runner: asyncio.Runner, client: Any, task: Task, prompt: str | None, where: str) -> int:
    from octavo.frontend.cli.chat_session import answer_once, chat_with

    system, sampling = task.options.system_prompt, task.options.sampling()
    try:
        if prompt is None:
            chat_with(client, runner, system, sampling, where)
        else:
            answer_once(client, runner, system, sampling, prompt)
    finally:
        runner.run(client.close())
    return 0
