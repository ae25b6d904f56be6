"""Compares Octavo with other OpenAI-compatible servers on the same work: `python -m octavo.tools.compare_peers`.

One server runs at a time. In each round every server is started, asked for a first token, warmed up, given each work in
turn, and ended; then comes the next server, then the next round. What drifts on the machine drifts for all of them.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from tqdm import tqdm

from octavo.config.flags import Parser, add_flags
from octavo.errors import OctavoError
from octavo.tools.bar_chart import write_comparison
from octavo.tools.bench_serve import drive
from octavo.tools.client import ENDPOINTS, Target, make_session
from octavo.tools.compare_options import WARM_UP_OUTPUT_LEN, CompareOptions, Contender, Work
from octavo.tools.compare_report import START, Comparison, Sample, number
from octavo.tools.datasets import BenchRequest, DatasetOptions, load_requests
from octavo.tools.metrics import summarize
from octavo.tools.server_process import ServerError, ServerProcess
from octavo.tools.tokenization import BenchTokenizer

MIB = 1 << 20
Prompts = Callable[[Work, int, bool], list[BenchRequest]]
"""(work, round, for warming up) -> its requests."""


def make_parser() -> Parser:
    """The parser of the command."""
    parser = Parser(
        prog="compare_peers",
        usage="python -m octavo.tools.compare_peers [OPTIONS]",
        description="Measure Octavo and other OpenAI-compatible servers, one at a time, on the same work; print medians and ratios.",
    )
    add_flags(parser, CompareOptions, "options")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the comparison; the exit code is 1 when a server failed or left a request unanswered."""
    options = CompareOptions(**vars(make_parser().parse_args(list(argv))))
    # Who ends us ends the server too: both signals unwind the stack.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return compare(options)
    except OctavoError as error:
        print(f"compare_peers: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compare_peers: interrupted; the server has been ended", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def compare(options: CompareOptions) -> int:
    """Measure, print the table, write the files; returns the exit code."""
    options.check()
    works = options.works()
    prompts = make_prompts(options, works)
    folder = nullcontext(options.log_dir) if options.log_dir else tempfile.TemporaryDirectory(prefix="octavo-compare-")
    with folder as log_dir:
        Path(log_dir).mkdir(parents=True, exist_ok=True)
        run = _Run(options, works, prompts, Path(log_dir))
        run.measure()
    names = [contender.name for contender in options.contenders()]
    comparison = Comparison(names, [str(work) for work in works], run.samples)
    _report(comparison, run, options)
    return 1 if run.faults else 0


def make_prompts(options: CompareOptions, works: Sequence[Work]) -> Prompts:
    """One set of prompts for every server, others in every round and for every work: none is in a server's prefix cache."""
    tokenizer = BenchTokenizer.load(options.tokenizer or options.model)
    made: dict[tuple[Work, int, bool], list[BenchRequest]] = {}

    def prompts(work: Work, round_index: int, warm_up: bool) -> list[BenchRequest]:
        key = (work, round_index, warm_up)
        if key not in made:
            count, output_len = work.num_prompts, work.output_len
            if warm_up:
                count = work.concurrency if options.num_warmups is None else options.num_warmups
                output_len = min(output_len, WARM_UP_OUTPUT_LEN)
            # No two keys share a seed.
            seed = ((options.seed * options.rounds + round_index) * len(works) + works.index(work)) * 2 + warm_up
            dataset = DatasetOptions(num_prompts=max(count, 1), input_len=work.input_len, output_len=output_len)
            made[key] = load_requests(dataset, tokenizer, seed)[:count]
        return made[key]

    return prompts


@dataclass
class _Run:
    """The measurement under way.

    Attributes:
        samples: what has been measured.
        faults: what went wrong, in words.
    """

    options: CompareOptions
    works: list[Work]
    prompts: Prompts
    log_dir: Path
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def measure(self) -> None:
        """All rounds of all servers; one that fails is left out from then on."""
        contenders = self.options.contenders()
        everything = range(self.options.rounds)
        turns = [everything] if self.options.keep else [range(index, index + 1) for index in everything]
        for rounds in turns:
            for contender in list(contenders):
                try:
                    self._one_start(contender, rounds)
                except ServerError as error:
                    contenders.remove(contender)
                    self._fault(f"{error}\n{contender.name} is left out from here on")

    def _one_start(self, contender: Contender, rounds: range) -> None:
        log = self.log_dir / f"{contender.name.replace('/', '_')}-{rounds[0] + 1}.log"
        with ServerProcess(contender.name, contender.command, log) as server:
            asyncio.run(self._load(server, rounds))

    async def _load(self, server: ServerProcess, rounds: range) -> None:
        async with make_session(self.options.request_timeout) as session:
            with self._bar(f"{server.name}: starting", bar_format="{desc} {elapsed}") as bar:
                model, first_token = await server.wait_ready(
                    session, self.options.served_model_name, self.options.ready_timeout, bar.refresh
                )
            start = {"first_token_s": first_token, "idle_mib": server.memory() / MIB}
            target = Target(
                server.url + ENDPOINTS["openai"],
                chat=False,
                model=model,
                extra_body={"temperature": self.options.temperature},
                ignore_eos=True,
            )
            for round_index in rounds:
                for work in self.works:
                    await self._one_work(session, server, target, work, round_index)
        start["peak_mib"] = server.peak_memory() / MIB
        self._keep(Sample(server.name, START, rounds[0], start))

    async def _one_work(
        self, session: aiohttp.ClientSession, server: ServerProcess, target: Target, work: Work, round_index: int
    ) -> None:
        warm_up, requests = (self.prompts(work, round_index, warm) for warm in (True, False))
        await drive(session, target, warm_up, [0.0] * len(warm_up), work.concurrency)
        title = f"{server.name}: round {round_index + 1}/{self.options.rounds}, {work}"
        with self._bar(title, total=len(requests), unit="req") as bar:
            start = time.perf_counter()
            results = await drive(session, target, requests, [0.0] * len(requests), work.concurrency, bar)
            metrics = summarize(results, time.perf_counter() - start)
        server.check_alive()
        if metrics.failed:
            error = next(result.error for result in results if not result.success)
            self._fault(f"{title}: {metrics.failed} requests failed, the first: {error}")
        elif metrics.total_output_tokens != work.num_output_tokens:
            self._fault(
                f"{title}: {metrics.total_output_tokens} output tokens instead of {work.num_output_tokens} (does the server "
                "know ignore_eos?): its work is not the same"
            )
        if metrics.completed:
            self._keep(Sample(server.name, str(work), round_index, metrics.as_dict()))

    def _keep(self, sample: Sample) -> None:
        self.samples.append(sample)
        numbers = (f"{metric.label} {number(sample.numbers[metric.key])}" for metric in Comparison.metrics(sample.work))
        tqdm.write(f"{sample.server}, round {sample.round + 1}, {sample.work}: {', '.join(numbers)}", file=sys.stderr)

    def _fault(self, text: str) -> None:
        self.faults.append(text)
        tqdm.write(text, file=sys.stderr)

    def _bar(self, title: str, **options: Any) -> Any:
        return tqdm(desc=title, leave=False, disable=self.options.disable_tqdm or not sys.stderr.isatty(), **options)


def _report(comparison: Comparison, run: _Run, options: CompareOptions) -> None:
    print(comparison.table())
    if options.plot:
        write_comparison(Path(options.plot), comparison, f"{options.model}: {' and '.join(comparison.servers)}")
        print(f"Plot written to {options.plot}")
    if options.json:
        document = {
            "date": datetime.now().strftime("%Y%m%d-%H%M%S"),
            **options.facts(),
            "summary": comparison.medians(),
            "samples": [asdict(sample) for sample in comparison.samples],
            "faults": run.faults,
        }
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"Numbers written to {options.json}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
