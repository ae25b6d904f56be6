"""`octavo bench throughput`: how many tokens a second the engine gives offline, all requests at once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octavo.config import EngineArgs
from octavo.config.flags import Parser, add_flags, add_foreign, split
from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.params import SamplingParams
from octavo.tools.datasets import BenchRequest, DatasetOptions, load_requests
from octavo.tools.tokenization import BenchTokenizer


@dataclass
class ThroughputOptions:
    """How the requests are run and where the numbers go."""

    n: int = option(1, "Sequences for each prompt.")
    num_warmups: int = option(0, "Requests run before the clock starts.")
    disable_detokenize: bool = option(False, "Token ids only, no text.")
    output_json: str | None = option(None, "Write the numbers to this file.")
    disable_tqdm: bool = option(False, "No progress bar.")


def make_parser() -> Parser:
    """The parser of `octavo bench throughput`."""
    parser = Parser(
        prog="octavo bench throughput",
        usage="octavo bench throughput [OPTIONS]",
        description="Measure how many tokens a second the engine gives offline.",
    )
    add_flags(parser, ThroughputOptions, "benchmark options")
    add_flags(parser, DatasetOptions, "data set options")
    add_flags(parser, EngineArgs, "engine options")
    add_foreign(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; returns the exit code."""
    given = make_parser().parse_args(list(argv))
    engine, options, dataset = split(given, EngineArgs, ThroughputOptions, DatasetOptions)
    dataset.setdefault("prompt_format", "ids")
    bench(EngineArgs.from_kwargs(**engine), ThroughputOptions(**options), DatasetOptions(**dataset))
    return 0


def bench(engine_args: EngineArgs, options: ThroughputOptions, dataset: DatasetOptions) -> dict[str, Any]:
    """Run the requests, print the throughput, write the file; returns the numbers."""
    from octavo.frontend.llm import LLM

    if options.n < 1:
        raise ConfigError(f"--n must be at least 1, got {options.n}")
    tokenizer = BenchTokenizer.load(engine_args.tokenizer or engine_args.model)
    requests = load_requests(dataset, tokenizer, engine_args.seed)
    with LLM.from_engine_args(engine_args) as llm:
        if options.num_warmups > 0:
            _run(llm, _other_requests(dataset, tokenizer, engine_args.seed, options.num_warmups), dataset, options)
        numbers = measured(*_run(llm, requests, dataset, options))
    print(
        f"Throughput: {numbers['requests_per_second']:.2f} requests/s, {numbers['tokens_per_second']:.2f} total tokens/s, "
        f"{numbers['output_tokens_per_second']:.2f} output tokens/s"
    )
    if options.output_json:
        Path(options.output_json).write_text(json.dumps(numbers, indent=4) + "\n")
    return numbers


def measured(elapsed: float, prompt_tokens: int, output_tokens: int, num_requests: int) -> dict[str, Any]:
    """The numbers of a run of `elapsed` seconds."""
    total = prompt_tokens + output_tokens
    return {
        "elapsed_time": elapsed,
        "num_requests": num_requests,
        "total_num_tokens": total,
        "total_output_tokens": output_tokens,
        "requests_per_second": num_requests / elapsed,
        "tokens_per_second": total / elapsed,
        "output_tokens_per_second": output_tokens / elapsed,
    }


def _run(
    llm: Any, requests: list[BenchRequest], dataset: DatasetOptions, options: ThroughputOptions
) -> tuple[float, int, int, int]:
    """Seconds, prompt tokens, output tokens and number of requests of one `generate` over all requests."""
    prompts = [request.token_ids if request.prompt is None else request.prompt for request in requests]
    params = [
        SamplingParams(
            n=options.n,
            temperature=1.0,
            max_tokens=request.output_len,
            ignore_eos=dataset.ignore_eos,
            detokenize=not options.disable_detokenize,
        )
        for request in requests
    ]
    start = time.perf_counter()
    outputs = llm.generate(prompts, params, use_tqdm=not options.disable_tqdm)
    elapsed = time.perf_counter() - start
    prompt_tokens = sum(len(output.prompt_token_ids) for output in outputs)
    output_tokens = sum(len(sequence.token_ids) for output in outputs for sequence in output.outputs)
    return elapsed, prompt_tokens, output_tokens, len(requests)


def _other_requests(dataset: DatasetOptions, tokenizer: BenchTokenizer, seed: int, count: int) -> list[BenchRequest]:
    """Requests of the same kind for warming up; not the measured ones, which must not be in the prefix cache."""
    return load_requests(replace(dataset, num_prompts=count), tokenizer, seed - 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
