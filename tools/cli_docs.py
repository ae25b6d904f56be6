"""Writes docs/cli.md from the flags themselves: `python -m octavo.tools.cli_docs docs/cli.md` (or `make docs`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from octavo import envs
from octavo.config import EngineArgs
from octavo.config.flags import Flag, flags_of
from octavo.config.foreign_envs import READ_AS, WITHOUT_EFFECT
from octavo.frontend.cli.chat import ChatOptions
from octavo.frontend.cli.complete import CompleteOptions
from octavo.frontend.cli.main import COMMANDS
from octavo.frontend.cli.models import ModelsOptions
from octavo.frontend.cli.plugins import PluginsOptions
from octavo.frontend.cli.run import RunOptions
from octavo.frontend.server.options import ServerOptions
from octavo.sources.short_names import SHORT_NAMES
from octavo.tools.arrivals import ArrivalOptions
from octavo.tools.bench_latency import LatencyOptions
from octavo.tools.bench_perplexity import PerplexityOptions
from octavo.tools.bench_serve_options import BenchServeOptions
from octavo.tools.bench_step import StepOptions
from octavo.tools.bench_throughput import ThroughputOptions
from octavo.tools.compare_options import CompareOptions
from octavo.tools.datasets import DatasetOptions

HEADER = """\
# The command line

*Made from the options' own definitions by `make docs`; do not edit.*

A switch `--x` has a twin `--no-x`, and takes a value, too: `--x=false`, `--x false`. `_` in a flag is the same as `-`. A flag of type JSON takes one JSON object, or its keys
one by one: `--hf-overrides.rope_scaling.factor 2`, and `--flag.key+ value` adds to a list. `octavo serve --config FILE` reads
options from a YAML or JSON file; the command line goes first.
"""

FOREIGN = """\
## vLLM's flags

[vllm.md](vllm.md) says of each flag of vLLM's whether it is served, accepted without effect, or refused.
"""

SECTIONS: list[tuple[str, str, list[tuple[str, type]]]] = [
    (
        "octavo serve [MODEL]",
        "Starts the HTTP server (see [server.md](server.md)). Without MODEL it serves the default model.",
        [("Server options", ServerOptions), ("Engine options", EngineArgs)],
    ),
    (
        "octavo run [MODEL] [PROMPT]",
        (
            "Answers a prompt, or chats where there is none. MODEL is a hub id, a path or a short name; without it the default model"
            " is meant. It asks the server on `--port` if that has the model, and else runs the model itself for as long as it takes."
            " Without a terminal the prompt is read from standard input. Takes the engine options of `octavo serve` too."
        ),
        [("", RunOptions)],
    ),
    (
        "octavo models",
        (
            "`octavo models list`, `pull MODEL`, `show MODEL` and `rm MODEL`: models on this machine. `show` says where a model is, its"
            " size, architecture, parameters, how its weights are stored, and the longest context that fits this machine's memory."
        ),
        [("", ModelsOptions)],
    ),
    (
        "octavo plugins",
        (
            "`octavo plugins list`, `check NAME` and `new NAME`: IO Processor plugins ([plugins.md](plugins.md)). `check` loads one and says"
            " what it is; `new` writes a package with a plugin and tests that pass."
        ),
        [("", PluginsOptions)],
    ),
    (
        "octavo chat",
        (
            "A conversation in the terminal with a running server. A paste is one message; a line that ends in `\\` goes on in the"
            ' next, and `"""` begins and ends a message of more lines. `/help` lists the commands (`/retry`, `/set`, `/save` and others);'
            " a word with a slash that is none of them is part of a message. Ctrl-C stops an answer, and leaves where none is coming."
        ),
        [("", ChatOptions)],
    ),
    (
        "octavo complete [PROMPT ...]",
        "Prints what a running server adds to a text from the command line or standard input.",
        [("", CompleteOptions)],
    ),
    (
        "octavo bench serve",
        "Loads a running OpenAI-compatible server and measures what its clients see (see [performance.md](performance.md)).",
        [("Server and report", BenchServeOptions), ("Data set", DatasetOptions), ("Arrivals", ArrivalOptions)],
    ),
    (
        "octavo bench throughput",
        (
            "Measures how many tokens a second the engine gives offline. Takes the data set options of `octavo bench serve`"
            " (`--prompt-format` is ids here) and the engine options of `octavo serve` too."
        ),
        [("", ThroughputOptions)],
    ),
    (
        "octavo bench latency",
        (
            "Measures how long one batch takes offline, without prefix caching unless `--enable-prefix-caching` is given."
            " Takes the engine options of `octavo serve` too."
        ),
        [("", LatencyOptions)],
    ),
    (
        "octavo bench step",
        (
            "Measures where the time of decode and prefill steps goes, or with `--sweep` tokens a second against the batch size"
            " (see [performance.md](performance.md)). Takes the engine options of `octavo serve` too."
        ),
        [("", StepOptions)],
    ),
    (
        "python -m octavo.tools.compare_peers",
        "Measures Octavo and other servers on the same work, one at a time (see [performance.md](performance.md)).",
        [("", CompareOptions)],
    ),
    (
        "octavo bench perplexity",
        (
            "Measures how well a model predicts a text, through the same engine and kernels that serve it: what a quantization"
            " costs. Takes the engine options of `octavo serve` too."
        ),
        [("", PerplexityOptions)],
    ),
]


def page() -> str:
    """The whole of docs/cli.md."""
    commands = "\n".join(f"- `octavo {name}`: {command.help}" for name, command in COMMANDS.items())
    parts = [HEADER, commands + "\n"]
    for title, text, tables in SECTIONS:
        parts.append(f"## `{title}`\n\n{text}\n")
        for heading, cls in tables:
            parts.append((f"### {heading}\n\n" if heading else "") + table(flags_of(cls)))
    return "\n".join([*parts, short_names(), FOREIGN, environment()])


def table(flags: Sequence[Flag]) -> str:
    """A table of flags: names, type or choices, default, help."""
    lines = ["| Flag | Type | Default | Meaning |", "|---|---|---|---|"]
    for flag in flags:
        names = ", ".join(f"`{name}`" for name in flag.names)
        kind = {"bool": "switch", "list": "list", "json": "JSON"}.get(flag.kind, flag.kind)
        kind = ", ".join(flag.choices) if flag.choices else kind
        default = f"`{flag.shown_default}`" if flag.shown_default else ""
        lines.append(f"| {names} | {kind} | {default} | {escaped(flag.help)} |")
    return "\n".join(lines) + "\n"


def short_names() -> str:
    """The section on short names."""
    rows = [f"| `{short}` | {full} |" for short, full in SHORT_NAMES.items()]
    return "\n".join(["## Short names\n", "Wherever a model is named.\n", "| Name | Model |", "|---|---|", *rows]) + "\n"


def environment() -> str:
    """The section on environment variables."""
    lines = ["## Environment variables\n", "| Variable | Meaning |", "|---|---|"]
    lines += [f"| `{envs.PREFIX}{name}` | {escaped(variable.doc)} |" for name, variable in envs.TABLE.items()]
    lines += [
        "\n### Variables of vLLM's and of Ascend's stack\n",
        "The server says at its start what becomes of each that is set.\n",
    ]
    lines += ["| Variable | What becomes of it |", "|---|---|"]
    lines += [f"| `{name}` | read as `{own}`, unless that is set |" for name, own in READ_AS.items()]
    lines += [f"| `{name}` | no effect: {escaped(why)} |" for name, why in WITHOUT_EFFECT.items()]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that does not end a table's cell."""
    return text.replace("|", "\\|")


def main(argv: Sequence[str]) -> int:
    """Write the page to the path given."""
    Path(argv[0]).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
