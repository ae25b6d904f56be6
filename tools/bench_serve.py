"""`octavo bench serve`: load a running OpenAI-compatible server and measure what its clients see."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from tqdm import tqdm

from octavo.config.flags import Parser, add_flags, split
from octavo.errors import ConfigError
from octavo.frontend.cli.reaching import why_unreachable
from octavo.frontend.cli.terminal_text import printable
from octavo.tools.arrivals import ArrivalOptions, arrival_times
from octavo.tools.bench_serve_options import SAMPLING, BenchServeOptions, Load, loads, pair
from octavo.tools.client import ENDPOINTS, RequestResult, Target, list_models, make_session, send, server_version
from octavo.tools.datasets import BenchRequest, DatasetOptions, load_requests
from octavo.tools.embeddings import BACKEND, EmbeddingTarget, batches
from octavo.tools.measured import circumstances
from octavo.tools.metrics import BenchMetrics, parse_goodput, summarize
from octavo.tools.plot import write_plot
from octavo.tools.report import result_document, result_path, save, table
from octavo.tools.tokenization import BenchTokenizer


def make_parser() -> Parser:
    """The parser of `octavo bench serve`."""
    parser = Parser(
        prog="octavo bench serve",
        usage="octavo bench serve [OPTIONS]",
        description="Load a running OpenAI-compatible server and measure latency and throughput.",
    )
    add_flags(parser, BenchServeOptions, "server and report options")
    add_flags(parser, DatasetOptions, "data set options")
    add_flags(parser, ArrivalOptions, "arrival options")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; the exit code is 1 when no request succeeded."""
    given = make_parser().parse_args(list(argv))
    serve, dataset, arrivals = split(given, BenchServeOptions, DatasetOptions, ArrivalOptions)
    options = BenchServeOptions(**serve)
    runs = _run_loop(bench(options, DatasetOptions(**dataset), ArrivalOptions(**arrivals)))
    return 0 if all(run["completed"] for run in runs) else 1


async def bench(options: BenchServeOptions, dataset: DatasetOptions, arrivals: ArrivalOptions) -> list[dict[str, Any]]:
    """Make the runs, print their tables, write files; returns the JSON results."""
    options.check()
    arrivals.check()
    dataset.check()
    if dataset.prompt_format == "ids" and options.backend == "openai-chat":
        raise ConfigError("--prompt-format ids does not go with --backend openai-chat: a chat message is text")
    async with make_session(options.request_timeout, options.address(), options.cacert) as session:
        target, tokenizer_name = await _find_target(session, options, dataset)
        tokenizer = BenchTokenizer.load(tokenizer_name)
        if options.num_warmups > 0:
            # Prompts of their own: measured ones must not be in the server's prefix cache.
            few = replace(dataset, num_prompts=options.num_warmups)
            await _warm_up(session, target, _requests(options, few, tokenizer, options.seed - 1), options)
        runs: list[dict[str, Any]] = []
        for index, load in enumerate(loads(options, arrivals)):
            requests = _requests(options, dataset, tokenizer, options.seed + index)
            run = await _one_run(session, target, requests, load, options)
            run |= {"tokenizer_id": tokenizer_name, "num_prompts": len(requests)}
            runs.append(run)
            _save(run, options, first=len(runs) == 1)
        work = await _measured_work(session, target, options, dataset, runs)
    if options.plot:
        load_key = "max_concurrency" if options.sweep_concurrency else "request_rate"
        write_plot(Path(options.plot), runs, load_key, {**work, **circumstances()})
        print(f"Plot written to {options.plot}")
    return runs


def _requests(options: BenchServeOptions, dataset: DatasetOptions, tokenizer: BenchTokenizer, seed: int) -> list[BenchRequest]:
    requests = load_requests(dataset, tokenizer, seed)
    return batches(requests, options.random_batch_size) if options.backend == BACKEND else requests


async def _measured_work(
    session: aiohttp.ClientSession,
    target: Target,
    options: BenchServeOptions,
    dataset: DatasetOptions,
    runs: Sequence[dict[str, Any]],
) -> dict[str, str]:
    """Facts about the runs, for the page."""
    answered = sum(run["completed"] for run in runs) or 1
    lengths = [sum(run[f"total_{way}_tokens"] for run in runs) / answered for way in ("input", "output")]
    return {
        "work": f"{runs[0]['num_prompts']} requests a run, data set {dataset.dataset_name}, "
        f"on average {lengths[0]:.0f} prompt and {lengths[1]:.0f} output tokens",
        "seed": f"{options.seed} for the first run, one more for each further one",
        "server": f"{options.address()}, {await server_version(session, options.url(), _headers(options))}",
        "endpoint and model": f"{target.url.removeprefix(options.url())}, {target.model}",
        **{name.replace("_", " "): text for name, text in (pair("--metadata", word) for word in options.metadata)},
    }


async def _one_run(
    session: aiohttp.ClientSession, target: Target, requests: list[BenchRequest], load: Load, options: BenchServeOptions
) -> dict[str, Any]:
    times = arrival_times(load.arrivals, len(requests), options.seed)
    bar = tqdm(total=len(requests), unit="req", disable=options.disable_tqdm or not sys.stderr.isatty())
    with bar:
        start = time.perf_counter()
        results = await drive(session, target, requests, times, load.max_concurrency, bar)
        duration = time.perf_counter() - start
    metrics = summarize(results, duration, percentiles=options.percentiles(), goodput=parse_goodput(options.goodput) or None)
    facts = _facts(options, target, load)
    print(table(metrics, options.shown(), facts))
    _print_errors(results, metrics)
    return result_document(metrics, facts, results if options.save_detailed else ())


async def drive(
    session: aiohttp.ClientSession,
    target: Target,
    requests: Sequence[BenchRequest],
    times: Sequence[float],
    max_concurrency: int | None,
    bar: Any = None,
) -> list[RequestResult]:
    """Send each request at its time, at most `max_concurrency` at once; results in the order of the requests."""
    gate = asyncio.Semaphore(max_concurrency) if max_concurrency else nullcontext()
    start = time.perf_counter()

    async def one(request: BenchRequest) -> RequestResult:
        scheduled = time.perf_counter()
        async with gate:
            result = await send(session, target, request)
        result.scheduled = scheduled
        if bar is not None:
            bar.update()
        return result

    tasks = []
    for request, when in zip(requests, times, strict=True):
        delay = start + when - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(one(request)))
    return list(await asyncio.gather(*tasks))


async def _find_target(
    session: aiohttp.ClientSession, options: BenchServeOptions, dataset: DatasetOptions
) -> tuple[Target, str]:
    """What to send requests to, and the name of the tokenizer."""
    headers = _headers(options)
    listed = await _models(session, options, headers)
    model = options.model or str(listed.get("root") or listed.get("id") or "")
    name = options.served_model_name or options.model or str(listed.get("id") or "")
    if not name:
        raise ConfigError(f"{options.url()}/v1/models names no model; give --model")
    extra = {key: getattr(options, key) for key in (*SAMPLING, "logprobs") if getattr(options, key) is not None}
    ignore_eos = dataset.ignore_eos if options.ignore_eos is None else options.ignore_eos
    kind = EmbeddingTarget if options.backend == BACKEND else Target
    target = kind(
        url=options.url() + (options.endpoint or ENDPOINTS[options.backend]),
        chat=options.backend == "openai-chat",
        model=name,
        headers=headers,
        extra_body={**extra, **options.extra_body},
        ignore_eos=ignore_eos,
    )
    return target, options.tokenizer or model


async def _models(session: aiohttp.ClientSession, options: BenchServeOptions, headers: dict[str, str]) -> dict[str, Any]:
    """The first model the server lists, waiting for the server if asked; {} when it lists none."""
    deadline = time.monotonic() + options.ready_check_timeout_sec
    while True:
        try:
            models = await list_models(session, options.url(), headers)
            return models[0] if models else {}
        except aiohttp.ClientResponseError as error:
            if error.status == 503 and time.monotonic() < deadline:  # it is there, and starts
                await asyncio.sleep(0.2)
                continue
            if options.model:
                return {}
            raise ConfigError(f"{options.url()}/v1/models: {error.status} {error.message}") from None
        except (aiohttp.ClientError, OSError) as error:
            if time.monotonic() >= deadline:
                raise ConfigError(why_unreachable(options.address(), error)) from None
            await asyncio.sleep(0.2)


async def _warm_up(
    session: aiohttp.ClientSession, target: Target, requests: list[BenchRequest], options: BenchServeOptions
) -> None:
    print(f"Warming up with {len(requests)} requests...")
    results = await drive(session, target, requests, [0.0] * len(requests), options.max_concurrency)
    failed = [result for result in results if not result.success]
    if failed:
        raise ConfigError(f"a warm-up request failed: {failed[0].error}")


def _facts(options: BenchServeOptions, target: Target, load: Load) -> dict[str, Any]:
    arrivals = load.arrivals
    facts: dict[str, Any] = {
        "backend": options.backend,
        "label": options.label,
        "model_id": target.model,
        "request_rate": arrivals.request_rate,
        "burstiness": arrivals.burstiness,
        "max_concurrency": load.max_concurrency,
    }
    if arrivals.ramp_up_strategy:
        facts |= {key: getattr(arrivals, key) for key in ("ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps")}
    return {**facts, **dict(pair("--metadata", word) for word in options.metadata)}


def _print_errors(results: list[RequestResult], metrics: BenchMetrics) -> None:
    if metrics.failed:
        first = next(result.error for result in results if not result.success)
        print(f"{metrics.failed} requests failed; the first: {printable(str(first))}", file=sys.stderr)


def _save(run: dict[str, Any], options: BenchServeOptions, *, first: bool) -> None:
    if not (options.save_result or options.save_detailed or options.append_result):
        return
    path = result_path(run, options.result_dir, options.result_filename)
    save(run, path, append=options.append_result or (not first and options.result_filename is not None))
    print(f"Result written to {path}")


def _headers(options: BenchServeOptions) -> dict[str, str]:
    from octavo import envs

    key = options.api_key or envs.get("API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {**headers, **dict(pair("--header", word) for word in options.header)}


def _run_loop(work: Coroutine[Any, Any, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
