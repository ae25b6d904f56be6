"""`octavo serve [MODEL]`: the HTTP server."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from octavo.config import EngineArgs
from octavo.config.flags import Parser, add_flags, add_foreign, split
from octavo.config.foreign_args import check_foreign
from octavo.config.foreign_flags import FOREIGN_FLAGS
from octavo.core.waiting_core import WaitingCore
from octavo.frontend.cli.config_file import FileKeys, parse_with_config
from octavo.frontend.server.logs import choose_log
from octavo.frontend.server.options import ServerOptions


def make_parser() -> Parser:
    """The parser of `octavo serve`."""
    parser = Parser(
        prog="octavo serve",
        usage="octavo serve [MODEL] [OPTIONS]",
        description="Serve a model over HTTP with the OpenAI API.",
        epilog="Keys of a JSON flag can be set one by one: --hf-overrides.rope_scaling.factor 2",
    )
    parser.add_argument("model_tag", nargs="?", metavar="MODEL", default=argparse.SUPPRESS, help="The same as --model.")
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help="File with options (YAML or JSON).")
    add_flags(parser, ServerOptions, "server options")
    add_flags(parser, EngineArgs, "engine options")
    add_foreign(parser)
    add_foreign(parser, FOREIGN_FLAGS)
    return parser


def parse(argv: Sequence[str], origin: FileKeys | None = None) -> tuple[EngineArgs, ServerOptions]:
    """The options that a command line asks for; exits with a message when it is not understood.

    Args:
        argv: the words behind `octavo serve`.
        origin: told which options came from a file.

    Raises:
        ConfigError: a flag asks for what this version has not.
    """
    parser = make_parser()
    origin = origin or FileKeys()

    def settle_model(given: argparse.Namespace) -> None:
        model = vars(given).pop("model_tag", None)
        if model is not None and getattr(given, "model", model) != model:
            parser.error(f"MODEL is {model!r} but --model is {given.model!r}; give one of them")
        if model is not None:
            given.model = model

    given = parse_with_config(parser, argv, settle_model, origin)
    engine, server = split(given, EngineArgs, ServerOptions)
    with origin.named():
        for name in [name for name in FOREIGN_FLAGS if name in engine]:
            check_foreign(name, engine.pop(name), FOREIGN_FLAGS)
        return EngineArgs.from_kwargs(**engine), ServerOptions(**server)


def main(argv: Sequence[str]) -> int:
    """Serve until stopped; returns the exit code."""
    origin = FileKeys()
    engine_args, options = parse(argv, origin)
    environment = choose_log(options)
    with origin.named(), WaitingCore(environment=environment) as core:  # imports torch while this process imports the server
        from octavo.frontend.server.run import run_server

        return run_server(engine_args, options, core)
