"""What a user says: `EngineArgs`, made from keyword arguments or a command line."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Any

from octavo.config.check import check
from octavo.config.foreign_args import FOREIGN_ARGS, check_foreign, own_value
from octavo.config.options import EngineOptions
from octavo.config.resolve import engine_config
from octavo.config.structs import EngineConfig
from octavo.suggestions import did_you_mean


@dataclass
class EngineArgs(EngineOptions):
    """Options of the engine, with vLLM's names where it has the option too."""

    @classmethod
    def from_kwargs(cls, **kwargs: Any) -> EngineArgs:
        """Make one from keyword arguments, vLLM's without effect here included.

        Raises:
            TypeError: an unknown name.
            ConfigError: a value that this version cannot honour.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        given = {}
        for name, value in kwargs.items():
            if name in known:
                given[name] = own_value(name, value)
            elif name in FOREIGN_ARGS:
                check_foreign(name, value)
            else:
                raise TypeError(f"unknown engine argument {name!r}{did_you_mean(name, known)}")
        return cls(**given)

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser, async_args_only: bool = False) -> argparse.ArgumentParser:
        """Add a flag for every field to a program's own parser, with the fields' defaults; vLLM's flags are accepted too.

        Args:
            parser: changed, and returned.
            async_args_only: add nothing: no option here is only an AsyncLLM's.
        """
        from octavo.config.flags import add_flags, add_foreign

        if not async_args_only:
            add_flags(parser, EngineArgs, "engine options", with_defaults=True)
            add_foreign(parser)
        return parser

    @classmethod
    def from_cli_args(cls, args: argparse.Namespace) -> EngineArgs:
        """Make one from parsed arguments; what is no engine argument is the program's own and left alone.

        Raises:
            ConfigError: a value that this version cannot honour.
        """
        known = {*FOREIGN_ARGS, *(f.name for f in dataclasses.fields(cls))}
        return cls.from_kwargs(**{name: value for name, value in vars(args).items() if name in known})

    def create_engine_config(self) -> EngineConfig:
        """Resolve the model's files (downloading if need be) and every default.

        Raises:
            ConfigError: naming the flag to change.
        """
        return engine_config(self)

    def check(self) -> None:
        """What can be known before the model's files are.

        Raises:
            ConfigError: naming the flag to change.
        """
        check(self)
