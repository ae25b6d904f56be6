"""Writes docs/vllm.md from the tables of what is not served: `python -m octavo.tools.vllm_docs docs/vllm.md` (or `make docs`)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from octavo import not_served
from octavo.config.foreign_args import FOREIGN_ARGS, FOREIGN_VALUES
from octavo.config.foreign_flags import FOREIGN_FLAGS, SERVED_FLAGS
from octavo.config.option import flag_name

HEADER = """\
# Coming from vLLM

*The lists are made from `octavo/not_served.py`, `octavo/config/foreign_args.py` and `octavo/config/foreign_flags.py` by `make docs`; do not edit.*

Scripts and clients written for vLLM run with `octavo` in the place of `vllm`: `LLM`, `AsyncLLM`, `LLMEngine`, `EngineArgs`,
`SamplingParams` and the outputs have vLLM's names, defaults and ranges, the server its endpoints, fields, null fields and metrics (under
`octavo:`). What is not there is refused with one sentence, never ignored.

- `LLM(...)` and `octavo serve` take vLLM's arguments; below are those that change nothing (logged once) and those that are refused unless
  they ask for nothing. `python -m octavo.entrypoints.openai.api_server` and `python -m octavo.entrypoints.api_server` are `octavo serve`.
- vLLM's environment variables are read, or reported at the start: [cli.md](cli.md) lists them.
- `--metrics-prefix vllm` gives the metrics vLLM's names, for dashboards made for it.
- Request bodies take what pydantic's lax mode takes: numbers and switches as text, switches as 0 and 1.
- `LLM.get_tokenizer()` gives the tokenizer of transformers, loaded when first asked for.
- `sleep(level)`: 0 pauses, 1 gives the KV cache's memory back (on a GPU the weights', too), 2 both. `wake_up()` loads the weights again by
  itself, and with `mode="keep"` requests go on where they were.
- `reset_prefix_cache()` works at any time and returns true: running requests keep the blocks they hold.
- `collective_rpc(name)` calls what the workers know by name (`describe`, `memory`, `start_profile`, `stop_profile`). The engine's core is a
  process of its own and nothing is pickled between processes, so code is refused.
- `start_profile()` writes into `OCTAVO_PROFILER_DIR`.
- `LLM.get_metrics()` needs `LLM(..., disable_log_stats=False)`.
- `/sleep`, `/pause`, `/reset_prefix_cache`, `/collective_rpc` and the like need `OCTAVO_SERVER_DEV_MODE=1`.
- A generation config may set `temperature`, `top_p`, `top_k`, `min_p`, the three penalties, `max_new_tokens` and `skip_special_tokens`;
  `--override-generation-config` refuses other keys.
- The request headers `X-Session-ID`, `X-Vllm-Priority`, `X-data-parallel-rank`, `traceparent` and `endpoint-load-metrics-format` are not read.
"""

SECTIONS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("Names of the package", not_served.NAMES),
    ("Methods of `LLM`", not_served.LLM_METHODS),
    ("Methods of `AsyncLLM`", not_served.ASYNC_LLM_METHODS),
    ("Methods of `LLMEngine`", not_served.LLM_ENGINE_METHODS),
    ("Arguments of `generate` and its kind", not_served.ARGUMENTS),
    ("Fields of `SamplingParams`", not_served.SAMPLING_FIELDS),
    ("Keys of a prompt", not_served.PROMPT_KEYS),
    ("Routes", not_served.ROUTES),
    ("Metrics", not_served.METRICS),
)


def page() -> str:
    """The whole page."""
    parts = [HEADER, flags(), "## What is not there\n"]
    for title, table in SECTIONS:
        parts.append(f"### {title}\n\n{rows(table)}")
    return "\n".join(parts)


def flags() -> str:
    """The section on flags: served, accepted without effect, refused."""
    foreign = {**FOREIGN_ARGS, **FOREIGN_FLAGS}
    accepted = {flag_name(name): arg.why for name, arg in foreign.items() if arg.only is None}
    refused = {flag_name(name): arg.why for name, arg in foreign.items() if arg.only is not None}
    values = {f"{flag_name(field)} {value}": why for field, table in FOREIGN_VALUES.items() for value, why in table.items()}
    return "\n".join(
        [
            "## Flags of `vllm serve`\n",
            "Flags that older versions had are among them.\n",
            "### Served\n",
            "They do what they do in vLLM; [cli.md](cli.md) describes each.\n",
            ", ".join(f"`--{name}`" for name in SERVED_FLAGS) + ".\n",
            "### Accepted without effect\n",
            rows(by_reason(accepted)),
            "### Refused, unless the value asks for nothing\n",
            rows(by_reason({**refused, **values})),
        ]
    )


def by_reason(table: Mapping[str, str]) -> dict[str, str]:
    """A table with equal reasons together, in the order in which they first come."""
    order = {why: place for place, why in enumerate(dict.fromkeys(table.values()))}
    return dict(sorted(table.items(), key=lambda entry: order[entry[1]]))


def rows(table: Mapping[str, str]) -> str:
    """A table of a sentence for each group of names."""
    lines = ["| name | why |", "|---|---|"]
    for why, entries in groupby(table.items(), key=lambda entry: entry[1]):
        names = ", ".join(f"`{name}`" for name, _ in entries)
        lines.append(f"| {names} | {why} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
