"""`octavo chat`: a conversation in the terminal with a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.config.flags import Parser, add_flags
from octavo.config.option import option
from octavo.frontend.cli import utf8
from octavo.frontend.cli.connection import ConnectionOptions


@dataclass
class ChatOptions(ConnectionOptions):
    """Options of `octavo chat`."""

    system_prompt: str | None = option(None, "First message of the conversation, in the system's role.")
    quick: str | None = option(None, "Send one message, print the answer and leave.", flag="-q")


def parse(argv: Sequence[str]) -> ChatOptions:
    """The options a command line asks for."""
    parser = Parser(prog="octavo chat", usage="octavo chat [OPTIONS] [MESSAGE ...]", description="Chat with a running server.")
    parser.add_argument("message", nargs="*", metavar="MESSAGE", help="The same as -q MESSAGE.")
    add_flags(parser, ChatOptions, "chat options")
    given = vars(parser.parse_intermixed_args(list(argv)))
    words = given.pop("message")
    if words:
        given["quick"] = " ".join(words)
    return ChatOptions(**given)


def main(argv: Sequence[str]) -> int:
    """Chat until the user leaves; returns the exit code."""
    options = parse(argv)
    for text in (options.quick, options.system_prompt):
        utf8.checked(text or "", "the command line")
    utf8.write_all()
    from octavo.frontend.cli.chat_session import answer_once, chat_with
    from octavo.frontend.cli.client import Client
    from octavo.frontend.cli.starting import wait_until_started

    address = options.address()

    async def make_client() -> Client:
        return Client(address, options.model_name, options.key(), options.cacert)

    with asyncio.Runner() as runner:
        client = runner.run(make_client())
        try:
            runner.run(wait_until_started(client))
            if options.quick is not None:
                answer_once(client, runner, options.system_prompt, options.sampling(), options.quick)
            else:
                chat_with(client, runner, options.system_prompt, options.sampling(), str(address))
        finally:
            runner.run(client.close())
    return 0
