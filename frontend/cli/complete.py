"""`octavo complete PROMPT`: one completion from a running server, printed while it comes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.config.flags import Parser, add_flags
from octavo.config.option import option
from octavo.frontend.cli import utf8
from octavo.frontend.cli.connection import ConnectionOptions
from octavo.frontend.cli.terminal_text import printable


@dataclass
class CompleteOptions(ConnectionOptions):
    """Options of `octavo complete`."""

    max_tokens: int | None = option(256, "Longest continuation in tokens.")
    quick: str | None = option(None, "The prompt; unset = the words of the command line, or else standard input.", flag="-q")


def parse(argv: Sequence[str]) -> CompleteOptions:
    """The options a command line asks for, the prompt in `quick`."""
    usage = "octavo complete [OPTIONS] [PROMPT ...]"
    parser = Parser(prog="octavo complete", usage=usage, description="Complete a text with a running server.")
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="Text to continue.")
    add_flags(parser, CompleteOptions, "completion options")
    given = vars(parser.parse_args(list(argv)))
    words = given.pop("prompt")
    if words:
        given["quick"] = " ".join(words)
    return CompleteOptions(**given)


async def complete(options: CompleteOptions, prompt: str) -> None:
    """Print what the server adds to `prompt`; to a file or a pipe as it is.

    Raises:
        OctavoError: the server refused or cannot be reached.
    """
    from octavo.frontend.cli.client import Client
    from octavo.frontend.cli.starting import wait_until_started

    client = Client(options.address(), options.model_name, options.key(), options.cacert)
    for_person = sys.stdout.isatty()
    try:
        await wait_until_started(client)
        async for text in client.stream_completion(prompt, options.sampling()):
            sys.stdout.write(printable(text) if for_person else text)
            sys.stdout.flush()
        sys.stdout.write("\n")
        if client.pace.finish_reason == "length" and sys.stderr.isatty():
            print(f"[stopped after {client.pace.tokens} tokens; --max-tokens allows more]", file=sys.stderr)
    finally:
        await client.close()


def main(argv: Sequence[str]) -> int:
    """Complete one prompt; returns the exit code."""
    options = parse(argv)
    prompt = utf8.checked(options.quick, "the prompt") if options.quick is not None else utf8.read_stdin()
    utf8.write_all()
    asyncio.run(complete(options, prompt))
    return 0
