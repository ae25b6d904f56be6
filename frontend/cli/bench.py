"""`octavo bench serve|throughput|latency|step|perplexity`: hands over to the load tester in `tools/`.

The tools are found by name at run time, so that no room depends on them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from octavo.suggestions import did_you_mean

BENCHMARKS = {
    "serve": "Load a running OpenAI-compatible server and measure latency and throughput.",
    "throughput": "Measure how many tokens a second the engine gives offline.",
    "latency": "Measure how long one batch takes offline.",
    "step": "Measure where the time of a step goes.",
    "perplexity": "Measure how well a model predicts a text.",
}


def usage() -> str:
    """What `octavo bench --help` prints."""
    width = max(map(len, BENCHMARKS))
    lines = [f"  {name:<{width}}  {text}" for name, text in BENCHMARKS.items()]
    return "\n".join(["usage: octavo bench BENCHMARK [OPTIONS]", "", "benchmarks:", *lines])


def main(argv: Sequence[str]) -> int:
    """Run a benchmark; returns the exit code."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    if words[0] not in BENCHMARKS:
        hint = did_you_mean(words[0], BENCHMARKS)
        print(f"octavo bench: there is no benchmark {words[0]!r}{hint}; benchmarks: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"octavo.tools.bench_{words[0]}").main(words[1:]))
