"""A core client whose outputs a test writes itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from octavo.config import CacheConfig, DeviceConfig, EngineConfig, ModelConfig, SchedulerConfig
from octavo.errors import EngineDeadError
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.tokenizer import Tokenizer
from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.messages import (
    CoreOutputs,
    EngineRequest,
    Event,
    EventKind,
    FinishReason,
    NewTokens,
    Ready,
    RequestUpdate,
    Vocabulary,
)

Script = Callable[[EngineRequest], Iterable[int]]
"""Token ids that the core "generates" for a request; it ends with max_tokens, or an EOS or stop id."""


def make_config(path: str = "", **changes: Any) -> EngineConfig:
    """A config for a tiny model; `changes` go to the part that has such a field."""
    parts: dict[str, dict[str, Any]] = {
        "model": {
            "name": "tiny", "path": path, "format": "dummy", "hf_config": {}, "architecture": "LlamaForCausalLM",
            "dtype": "float32", "max_model_len": 2048, "fit_max_model_len": False, "vocab_size": 576, "eos_token_ids": (2,),
            "generation_config": {}, "tokenizer_path": path, "served_model_names": ("tiny",),
        },
        "cache": {
            "block_size": 16, "dtype": "float32", "memory_utilization": 0.1, "memory_bytes": None, "num_blocks": 64,
            "enable_prefix_caching": True,
        },
        "scheduler": {
            "max_num_seqs": 8, "max_num_batched_tokens": 64, "enable_chunked_prefill": True, "long_prefill_token_threshold": 0,
            "policy": "fcfs", "async_scheduling": True, "max_num_queued_reqs": 0, "max_num_queued_tokens": None,
            "stream_interval": 1,
        },
    }  # fmt: skip
    classes = {"model": ModelConfig, "cache": CacheConfig, "scheduler": SchedulerConfig}
    log_stats = changes.pop("log_stats", False)
    for name, value in changes.items():
        part = next(part for part, cls in classes.items() if name in cls.__struct_fields__)
        parts[part][name] = value
    return EngineConfig(
        model=ModelConfig(**parts["model"]),
        cache=CacheConfig(**parts["cache"]),
        scheduler=SchedulerConfig(**parts["scheduler"]),
        device=DeviceConfig(type="cpu", num_threads=1, executor="uni"),
        log_stats=log_stats,
    )


def logprob_rows(token_ids: Sequence[int], k: int) -> TokenLogprobs:
    """Row for each token: itself at -0.5 (rank 2), then ids 0..k-1 from -0.1 down."""
    ids = np.array([[token, *range(k)] for token in token_ids], dtype=np.int32).reshape(len(token_ids), 1 + k)
    values = np.array([[-0.5, *(-0.1 * (i + 1) for i in range(k))]] * len(token_ids), dtype=np.float32).reshape(ids.shape)
    return TokenLogprobs(token_ids=ids, logprobs=values, ranks=np.full(len(token_ids), 2, dtype=np.int32))


class FakeCoreClient:
    """Generates `script(request)`, one token a request and step, for as many requests as fit.

    Attributes:
        added, aborted: what the frontend sent.
        owned: it may be replaced; each successor knows its predecessor.
        on_start: called when a successor is to be ready. on_step: called before a step, with the ids of those in it.
        running: set to an event to hold the steps back until it is set.
    """

    def __init__(self, script: Script, *, max_num_seqs: int = 8, step_seconds: float = 0.0) -> None:
        self.added: list[EngineRequest] = []
        self.aborted: list[str] = []
        self.calls: list[str] = []
        self.ready: Ready | None = None
        self.hold: asyncio.Event | None = None
        self.dead = False
        self.closed = False
        self.has_outputs = False
        self.backlog = 0
        # as a core that may be replaced, see `successor`
        self.owned = False
        self.exit_code: int | None = None
        self.failure: str | None = None
        self.death = "the fake core is gone"
        self.command = ("no", "process")
        self.predecessor: FakeCoreClient | None = None
        self.on_start: Callable[[FakeCoreClient], None] | None = None
        self.on_step: Callable[[FakeCoreClient, set[str]], None] | None = None
        self._script = script
        self._max_num_seqs = max_num_seqs
        self._step_seconds = step_seconds
        self._waiting: list[EngineRequest] = []
        self._running: dict[str, tuple[EngineRequest, list[int], list[int]]] = {}
        self._wake = asyncio.Event()

    def add(self, request: EngineRequest, vocabulary: Vocabulary | None = None) -> None:
        if self.dead:
            raise EngineDeadError
        self.added.append(request)
        self._waiting.append(request)
        self._wake.set()

    def abort(self, request_ids: list[str]) -> None:
        self.aborted += request_ids
        for request_id in request_ids:
            self._running.pop(request_id, None)
        self._waiting = [r for r in self._waiting if r.request_id not in request_ids]

    def kill(self, exit_code: int = -9) -> None:
        self.dead, self.exit_code = True, exit_code
        self._wake.set()

    def successor(self) -> FakeCoreClient:
        other = FakeCoreClient(self._script, max_num_seqs=self._max_num_seqs, step_seconds=self._step_seconds)
        other.owned, other.predecessor = True, self
        other.on_start, other.on_step = self.on_start, self.on_step
        return other

    def spawn(self, core: object = None) -> None:
        pass

    async def start_up(self, timeout: float) -> Ready:  # noqa: ASYNC109
        await asyncio.sleep(0)
        if self.on_start is not None:
            self.on_start(self)
        return Ready(wire_version=1, pid=1, num_blocks=64, block_size=16, max_model_len=2048, phases={})

    def close(self, timeout: float = 5.0) -> None:
        self.closed = True
        self.dead = True

    async def call(self, method: str, *args: Any, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
        self.calls.append(method)
        return {"num_running": len(self._running)} if method == "stats" else True

    async def outputs(self) -> CoreOutputs:
        while not (self._waiting or self._running) or (self.hold is not None and not self.hold.is_set()):
            if self.dead:
                raise EngineDeadError
            self._wake.clear()
            if self.hold is not None and (self._waiting or self._running):
                await asyncio.wait(
                    [asyncio.ensure_future(self.hold.wait()), asyncio.ensure_future(self._wake.wait())],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            else:
                await self._wake.wait()
        if self.dead:
            raise EngineDeadError
        await asyncio.sleep(self._step_seconds)
        if self.on_step is not None:
            self.on_step(
                self, {r.request_id for r in self._waiting[: self._max_num_seqs - len(self._running)]} | set(self._running)
            )
            if self.dead:
                raise EngineDeadError
        return self._step()

    def _step(self) -> CoreOutputs:
        now = time.monotonic()
        updates = [self._start(now) for _ in range(min(len(self._waiting), self._max_num_seqs - len(self._running)))]
        started = {update.request_id: update for update in updates}
        for request_id, (request, todo, done) in list(self._running.items()):
            update = started.get(request_id) or RequestUpdate(request_id)
            if request_id not in started:
                updates.append(update)
            self._token(update, request, todo, done)
        plain = [u for u in updates if u == RequestUpdate(u.request_id, u.new_token_ids)]
        tokens = NewTokens([u.request_id for u in plain], [u.new_token_ids[0] for u in plain])
        return CoreOutputs([u for u in updates if u not in plain], now, tokens=tokens)

    def _start(self, now: float) -> RequestUpdate:
        request = self._waiting.pop(0)
        done = list(request.output_token_ids)
        self._running[request.request_id] = request, list(self._script(request))[len(done) :], done
        update = RequestUpdate(request.request_id, events=[Event(EventKind.QUEUED, now), Event(EventKind.SCHEDULED, now)])
        if request.sampling.prompt_logprobs is not None:
            owed = request.prompt_token_ids[1 + request.num_prompt_logprobs :]
            update.prompt_logprobs = logprob_rows(owed, request.sampling.prompt_logprobs)
        return update

    def _token(self, update: RequestUpdate, request: EngineRequest, todo: list[int], done: list[int]) -> None:
        token, spec = todo.pop(0), request.sampling
        done.append(token)
        update.new_token_ids = [token]
        if spec.logprobs is not None:
            update.logprobs = logprob_rows([token], spec.logprobs)
        past_minimum = len(done) >= spec.min_tokens
        if past_minimum and token in spec.eos_token_ids:
            update.finish_reason = FinishReason.STOP
        elif past_minimum and token in spec.stop_token_ids:
            update.finish_reason, update.stop_reason = FinishReason.STOP, token
        elif len(done) >= spec.max_tokens or not todo:
            update.finish_reason = FinishReason.LENGTH
        if update.finish_reason is not None:
            del self._running[request.request_id]


def make_engine(tokenizer: Tokenizer | None, client: FakeCoreClient, **config: Any) -> AsyncLLM:
    """An AsyncLLM over a fake core."""
    stat_loggers = config.pop("stat_loggers", ())
    max_model_len = config.get("max_model_len", 2048)
    ready = Ready(wire_version=1, pid=0, num_blocks=64, block_size=16, max_model_len=max_model_len, phases={})
    return AsyncLLM(make_config(**config), client, tokenizer, ready, stat_loggers)  # type: ignore[arg-type]
