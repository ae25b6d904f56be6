"""Options of `octavo bench serve`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octavo.config.option import option
from octavo.errors import ConfigError
from octavo.frontend.cli.address import Address, parse_address
from octavo.tools.arrivals import ArrivalOptions
from octavo.tools.client import ENDPOINTS
from octavo.tools.embeddings import BACKEND
from octavo.tools.metrics import LATENCIES, parse_goodput
from octavo.tools.plot import check_plot_path

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")


@dataclass
class BenchServeOptions:
    """Which server, how many requests at once, and what to do with the numbers."""

    backend: str = option("openai", "Kind of endpoint.", choices=tuple(ENDPOINTS))
    base_url: str | None = option(None, "Server: HOST:PORT, with or without http:// and /v1; unset = --host and --port.")
    host: str = option("127.0.0.1", "Address of the server.")
    port: int = option(8000, "Port of the server.")
    endpoint: str | None = option(None, "Path of the endpoint; unset = the backend's usual one.")
    model: str | None = option(None, "Model, also where its tokenizer is found; unset = the first one the server lists.")
    served_model_name: str | None = option(None, "Name that requests use; unset = --model.")
    tokenizer: str | None = option(None, "Hub id, folder or file of the tokenizer; unset = the model's.")
    api_key: str | None = option(None, "Key to send; unset = the environment's OCTAVO_API_KEY.")
    cacert: str | None = option(None, "File with the certificates to trust, for a server with one of its own making.")
    max_concurrency: int | None = option(None, "Requests in flight at most; others wait in the client.")
    sweep_concurrency: str | None = option(None, "Comma-separated values of --max-concurrency: one run for each.")
    sweep_request_rate: str | None = option(None, "Comma-separated values of --request-rate: one run for each.")
    plot: str | None = option(None, "Write latency against load to this .html or .png file; needs a sweep.")
    num_warmups: int = option(0, "Requests sent before the clock starts.")
    ready_check_timeout_sec: float = option(0.0, "Seconds to wait for the server to answer; 0 = it must be there.")
    request_timeout: float = option(21600.0, "Seconds after which a request counts as failed.")
    seed: int = option(0, "Seed of prompts and arrivals.")
    random_batch_size: int = option(1, f"Texts a request, with --backend {BACKEND}; --num-prompts counts texts.")
    ignore_eos: bool | None = option(None, "Generate to the full output length; unset = for data sets of random tokens.")
    temperature: float | None = option(None, "Sent with each request if given.")
    top_p: float | None = option(None, "Sent with each request if given.")
    top_k: int | None = option(None, "Sent with each request if given.")
    min_p: float | None = option(None, "Sent with each request if given.")
    presence_penalty: float | None = option(None, "Sent with each request if given.")
    frequency_penalty: float | None = option(None, "Sent with each request if given.")
    repetition_penalty: float | None = option(None, "Sent with each request if given.")
    logprobs: int | None = option(None, "Logprobs to ask for.")
    extra_body: dict[str, Any] = option({}, "JSON merged into each request's body.")
    header: list[str] = option([], "Headers to send, NAME=VALUE.")
    goodput: list[str] = option([], "Limits in milliseconds, as ttft:200 tpot:50 e2el:3000, for the goodput.")
    percentile_metrics: str | None = option(
        None, "Latencies to print, comma-separated: " + ", ".join(LATENCIES) + "; unset = ttft,tpot,itl, or e2el of embeddings."
    )
    metric_percentiles: str = option("99", "Percentiles to compute, comma-separated.")
    save_result: bool = option(False, "Write the result to a JSON file.")
    save_detailed: bool = option(False, "Write every request's timings and text too.")
    append_result: bool = option(False, "Add to the result file instead of replacing it.")
    result_dir: str | None = option(None, "Folder of the result file; unset = the current one.")
    result_filename: str | None = option(None, "Name of the result file; unset = made of label, rate, model and time.")
    label: str | None = option(None, "Label in the result; unset = the backend.")
    metadata: list[str] = option([], "Facts to put into the result, KEY=VALUE.")
    disable_tqdm: bool = option(False, "No progress bar.")

    def check(self) -> None:
        """Raise ConfigError naming the flag whose value cannot work."""
        self.address()
        if self.max_concurrency is not None and self.max_concurrency < 1:
            raise ConfigError(f"--max-concurrency must be at least 1, got {self.max_concurrency}")
        if self.random_batch_size < 1:
            raise ConfigError(f"--random-batch-size must be at least 1, got {self.random_batch_size}")
        if self.random_batch_size > 1 and self.backend != BACKEND:
            raise ConfigError(f"--random-batch-size is of --backend {BACKEND}, got --backend {self.backend}")
        if self.sweep_concurrency and self.sweep_request_rate:
            raise ConfigError("--sweep-concurrency and --sweep-request-rate exclude each other")
        if self.plot:
            if not (self.sweep_concurrency or self.sweep_request_rate):
                raise ConfigError("--plot needs --sweep-concurrency or --sweep-request-rate")
            check_plot_path(Path(self.plot))
        unknown = [name for name in self.shown() if name not in LATENCIES]
        if unknown:
            raise ConfigError(f"--percentile-metrics may hold {', '.join(LATENCIES)}; got {unknown[0]!r}")
        if not all(0 <= p <= 100 for p in self.percentiles()):
            raise ConfigError(f"--metric-percentiles must lie in [0, 100], got {self.metric_percentiles}")
        parse_goodput(self.goodput)

    def address(self) -> Address:
        """The server. Raises: ConfigError: --base-url or --host is no address."""
        if self.base_url:
            return parse_address(self.base_url, "--base-url")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return parse_address(f"{host}:{self.port}", "--host")

    def url(self) -> str:
        """The server's URL, without /v1."""
        return self.address().root

    def shown(self) -> list[str]:
        chosen = self.percentile_metrics
        if chosen is None:
            chosen = "e2el" if self.backend == BACKEND else "ttft,tpot,itl"
        return [name.strip() for name in chosen.split(",") if name.strip()]

    def percentiles(self) -> list[float]:
        return numbers("--metric-percentiles", self.metric_percentiles)


@dataclass(frozen=True)
class Load:
    """One run's load."""

    arrivals: ArrivalOptions
    max_concurrency: int | None


def loads(options: BenchServeOptions, arrivals: ArrivalOptions) -> list[Load]:
    """The runs to make: one, or one for each value of a sweep."""
    if options.sweep_concurrency:
        values = numbers("--sweep-concurrency", options.sweep_concurrency)
        return [Load(arrivals, max(1, int(value))) for value in values]
    if options.sweep_request_rate:
        values = numbers("--sweep-request-rate", options.sweep_request_rate)
        return [Load(replace(arrivals, request_rate=value), options.max_concurrency) for value in values]
    return [Load(arrivals, options.max_concurrency)]


def pair(flag: str, word: str) -> tuple[str, str]:
    """Split "name=value" into its two parts; ConfigError naming the flag when it is something else."""
    name, equals, value = word.partition("=")
    if not equals:
        raise ConfigError(f"{flag} must look like NAME=VALUE, got {word!r}")
    return name, value


def numbers(flag: str, text: str) -> list[float]:
    """Parse "1,2.5" to [1.0, 2.5]; ConfigError naming the flag when it is something else."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{flag} must be comma-separated numbers, got {text!r}") from None
    if any(math.isnan(value) or value < 0 for value in values):
        raise ConfigError(f"{flag} must hold numbers of at least 0, got {text!r}")
    return values
