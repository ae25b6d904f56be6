"""`octavo models list|pull|show|rm`: the models on this machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.config import EngineArgs, EngineConfig
from octavo.config.flags import Parser, add_flags
from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.frontend.cli.terminal_text import printable_line
from octavo.frontend.command_name import command
from octavo.sources.hf_config import BUILT_IN
from octavo.sources.model_source import find_model
from octavo.sources.short_names import SHORT_NAMES, full_name, meant_short_name, short_name_of
from octavo.suggestions import did_you_mean

if TYPE_CHECKING:
    from octavo.sources.local_models import LocalModel

ACTIONS = {
    "list": "Models on this machine; with --short-names those that have a short name, too.",
    "pull": "Download a model.",
    "show": "What a model on this machine is, and the longest context that fits.",
    "rm": "Remove a downloaded model.",
}


@dataclass
class ModelsOptions:
    """Options of `octavo models`."""

    download_dir: str | None = option(None, "Where files from the hub are kept; unset = the hub library's own cache.")
    hf_token: str | None = option(None, "Token for the model hub.")
    revision: str | None = option(None, "Branch, tag or commit to pull.")
    short_names: bool = option(False, "List the short names and what they stand for.")


def main(argv: Sequence[str]) -> int:
    """Do what is asked; returns the exit code."""
    parser = Parser(
        prog="octavo models",
        usage="octavo models list | pull MODEL | show MODEL | rm MODEL [OPTIONS]",
        description="\n".join(f"{name}: {text}" for name, text in ACTIONS.items()),
    )
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("model", nargs="?", metavar="MODEL", help="Hub id, short name, or path.")
    add_flags(parser, ModelsOptions, "options")
    given = vars(parser.parse_intermixed_args(list(argv)))
    action, model = given.pop("action"), given.pop("model")
    if action not in ACTIONS:
        parser.error(f"there is no action {action!r}{did_you_mean(action, ACTIONS)}; actions: {', '.join(ACTIONS)}")
    if (model is None) != (action == "list"):
        parser.error(f"{action} {'takes no' if action == 'list' else 'needs a'} MODEL")
    options = ModelsOptions(**given)
    if action == "list":
        print(_short_names() if options.short_names else _list(options))
    else:
        {"pull": _pull, "show": _show, "rm": _remove}[action](model, options)
    return 0


def _list(options: ModelsOptions) -> str:
    from octavo.sources.local_models import local_models

    models = local_models(options.download_dir)
    if not models:
        return f"no models yet; get one with: {command()} models pull smollm2"
    rows = [(model.name, short_name_of(model.name), _size(model)) for model in models]
    return _table(("NAME", "SHORT NAME", "SIZE"), rows)


def _size(model: LocalModel) -> str:
    return shown_bytes(model.size) + ("" if model.finished else ", download unfinished")


def _short_names() -> str:
    return _table(("SHORT NAME", "MODEL"), list(SHORT_NAMES.items()))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    rows = [tuple(map(printable_line, row)) for row in rows]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join(line.rstrip() for line in lines)


def _pull(name: str, options: ModelsOptions) -> None:
    from contextlib import nullcontext

    from octavo import progress
    from octavo.frontend.server.status_line import StatusLine

    line = StatusLine(sys.stderr) if sys.stderr.isatty() else None

    def show(what: str, fraction: float) -> None:
        if line is not None:
            line.show(f"{name}: {what} {fraction:.0%}")

    with progress.told_to(show) if line is not None else nullcontext():
        files = find_model(name, revision=options.revision, token=options.hf_token, download_dir=options.download_dir)
    if line is not None:
        line.show("")
    print(files.path)


def _show(name: str, options: ModelsOptions) -> None:
    config = _config(name, options)
    rows = [("name", full_name(name)), *_facts(config)]
    print("\n".join(f"{label:<14} {printable_line(text)}" for label, text in rows))


def _config(name: str, options: ModelsOptions) -> EngineConfig:
    from octavo.sources.local_models import find_local

    path = find_local(name, options.download_dir)
    if path is None:
        raise ConfigError(
            f"{name!r} is not on this machine{meant_short_name(name)}; get it with: {command()} models pull {name}"
        )
    return EngineArgs(model=str(path)).create_engine_config()


def _facts(config: EngineConfig) -> list[tuple[str, str]]:
    from octavo.sources.model_facts import model_facts, scaled

    model = config.model
    facts = model_facts(model.path, model.format)
    rows = [
        ("path", model.path),
        ("size", shown_bytes(facts.size)),
        ("architecture", model.architecture),
        ("parameters", scaled(facts.parameters)),
        ("weights", f"{facts.weights}, computed in {model.dtype} on this machine"),
        ("context", f"{model.max_model_len} tokens, as the model was made"),
    ]
    return [*rows, ("fits", _fitting(config))]


def _fitting(config: EngineConfig) -> str:
    from octavo.available_memory import available_host_bytes
    from octavo.sources.model_facts import kv_bytes_per_token, longest_context, model_facts, weights_in_memory

    if config.device.type != "cpu":
        return f"depends on what is free on the GPU; {command()} serve says it when it starts"
    if config.model.architecture not in BUILT_IN:
        return "known when it starts: its architecture is a plugin's"
    weights = weights_in_memory(config, model_facts(config.model.path, config.model.format))
    left = available_host_bytes() - weights
    if left <= 0:
        return f"not: its weights take {shown_bytes(weights)}, {shown_bytes(left + weights)} are free"
    per_token = shown_bytes(kv_bytes_per_token(config))
    share = config.cache.memory_utilization
    return f"{longest_context(config, left)} tokens now ({per_token} a token, {share:.0%} of {shown_bytes(left)} free)"


def _remove(name: str, options: ModelsOptions) -> None:
    from octavo.sources.local_models import remove

    if Path(name).expanduser().exists() and full_name(name) == name:
        raise ConfigError(f"{name} is a file or folder of yours; this removes only what was downloaded")
    freed = remove(name, options.download_dir)
    if freed is None:
        raise ConfigError(f"{name!r} has not been downloaded{meant_short_name(name)}; {command()} models list shows what has")
    print(f"removed {full_name(name)}, {shown_bytes(freed)}")


def shown_bytes(count: int) -> str:
    """97517568 -> 93.0 MiB"""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
