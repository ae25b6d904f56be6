"""A whole engine in one process, driven step by step: scheduler, executor, sockets, frontend, server-sent events.

Every part is the one that serves; only the loops around them are ours, so that a step can be taken and timed alone. Core and
frontend, processes of their own in a server, share one here.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, cast

from octavo.config import EngineArgs, EngineConfig
from octavo.core.client import CoreClient
from octavo.core.core_io import CoreIO
from octavo.core.engine_core import EngineCore
from octavo.core.transport import Addresses, make_socket_directory, remove_socket_directory
from octavo.errors import ConfigError
from octavo.executor.choice import make_executor
from octavo.executor.uniproc import UniprocExecutor
from octavo.frontend.async_llm import AsyncLLM
from octavo.frontend.metrics import PrometheusStats
from octavo.frontend.server.completions.choices import ChoiceMaker
from octavo.frontend.server.completions.protocol import CompletionRequest
from octavo.frontend.server.completions.stream import CompletionStream
from octavo.frontend.server.generation import Generation, token_spelling
from octavo.frontend.server.options import ServerOptions
from octavo.frontend.server.record import RequestRecord
from octavo.frontend.server.state import ServerState
from octavo.frontend.tokenizer import load_tokenizer
from octavo.inputs import TokensPrompt
from octavo.outputs import RequestOutput
from octavo.params import RequestOutputKind, SamplingParams
from octavo.tools.step_clock import ForwardClock, StepClock
from octavo.wire.messages import WIRE_VERSION, CoreMessage, CoreOutputs, Ready


class _EventSink:
    """Takes a stream's outputs as the server's own sink does: all but the first, and at once."""

    def __init__(self, encoder: CompletionStream, count: Callable[[], None]) -> None:
        self._encoder = encoder
        self._count = count
        self.opened = False

    def ready(self) -> bool:
        return self.opened

    def put(self, output: RequestOutput) -> None:
        self._encoder.chunk(0, output)
        self._count()


class StepEngine:
    """An engine that does nothing by itself. Used by one thread.

    Attributes:
        core: its `max_in_flight` says whether steps overlap.
    """

    def __init__(self, engine_args: EngineArgs) -> None:
        self.model_name = engine_args.model
        self.config: EngineConfig = engine_args.create_engine_config()
        if self.config.scheduler.stream_interval != 1:
            raise ConfigError("--stream-interval must be 1 here: every step's tokens are waited for")
        self._loop = asyncio.new_event_loop()
        self._streams: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._expected = self._delivered = 0
        self._sent_at = self._received_at = self._delivered_at = 0.0
        with ExitStack() as opened:
            self._executor = cast(UniprocExecutor, make_executor(self.config))
            opened.callback(self._executor.shutdown)
            self._executor.start(lambda _phase, _fraction: None)
            addresses = make_socket_directory()
            opened.callback(remove_socket_directory, addresses)
            self._io = CoreIO(addresses)
            self._io.start()
            opened.callback(self._io.close)
            self.core = EngineCore(self.config, self._executor, self._io.inbox, self._send)
            client = self._connected(addresses)
            opened.callback(client.close)
            self._llm = self._frontend(client)
            opened.callback(self._close_frontend)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    def _close_frontend(self) -> None:
        self._loop.run_until_complete(self._cancel_streams())
        self._llm.shutdown()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def random_prompts(self, count: int, length: int, seed: int) -> list[list[int]]:
        """`count` prompts of `length` random tokens."""
        rng = random.Random(seed)  # noqa: S311
        return [[rng.randrange(self.config.model.vocab_size) for _ in range(length)] for _ in range(count)]

    # ---- requests -------------------------------------------------------------------------------------------------

    def start(self, prompts: Sequence[list[int]], temperature: float) -> None:
        """Begin to stream from each prompt; returns when the core has all of them."""
        self._expected = self._delivered = 0
        self._streams = [self._loop.create_task(self._stream(i, prompt, temperature)) for i, prompt in enumerate(prompts)]
        for stream in self._streams:
            stream.add_done_callback(lambda _: self._news.set())
        scheduler = self.core.scheduler
        while self._llm.num_unfinished < len(prompts):
            self._loop.run_until_complete(asyncio.sleep(0))
        while scheduler.num_running + scheduler.num_waiting < len(prompts):
            self.core.take_messages(wait=True)

    def stop(self) -> None:
        """End all streams; returns when the core has forgotten them."""
        self._loop.run_until_complete(self._cancel_streams())
        while self.core.scheduler.has_requests:
            self.core.take_messages(wait=True)
        while not self.core.idle:
            self.core.step()

    async def _cancel_streams(self) -> None:
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        self._streams = []

    async def _stream(self, number: int, prompt: list[int], temperature: float) -> None:
        """What the server does with a streamed completion, up to the socket."""
        options = self._state.options
        body = CompletionRequest(prompt=list(prompt), stream=True)
        params = SamplingParams(
            temperature=temperature,
            max_tokens=self.core.max_model_len - len(prompt),
            ignore_eos=True,
            output_kind=RequestOutputKind.DELTA,
        )
        record = RequestRecord(f"step-{number}")
        inputs = TokensPrompt(prompt_token_ids=prompt)
        generation = Generation(self._state, record, "cmpl-", body, self.model_name, [inputs], params)
        maker = ChoiceMaker(body, params, self._llm.tokenizer, token_spelling(body, self._llm, options), [], 1)
        encoder = CompletionStream(body, generation, options, maker)
        sink = _EventSink(encoder, self._count_event)
        async for index, output in generation.outputs(self._llm, sink):
            encoder.chunk(index, output)
            sink.opened = True
            self._count_event()

    def _count_event(self) -> None:
        self._delivered_at = time.perf_counter()
        self._delivered += 1
        if self._delivered >= self._expected:
            self._news.set()

    @property
    def num_delivered(self) -> int:
        """Tokens that have become events since `start`."""
        return self._delivered

    def context_bytes(self, length: int) -> int:
        """Bytes of the KV cache that one sequence's next token attends to, when it has so many."""
        runner: Any = self._executor._worker._runner
        values = sum(
            min(length, spec.window or length) * spec.num_vectors * spec.num_kv_heads * spec.head_dim
            for spec in runner._model.cache_specs
        )
        return values * int(runner._kv_caches[0][0].element_size())

    @property
    def num_scheduled_tokens(self) -> int:
        """Tokens that the step scheduled last computes."""
        return self.core.scheduler.counters.num_scheduled_tokens

    # ---- steps ----------------------------------------------------------------------------------------------------

    def step(self, clock: StepClock | None = None) -> float:
        """One turn of the core's loop, and all it leads to at the frontend; returns its seconds.

        Args:
            clock: gets the seconds of the message's way ("IPC") and of the frontend.
        """
        before = self._expected
        start = time.perf_counter()
        self.core.take_messages(wait=False)
        self.core.step()
        if self._expected == before:
            return time.perf_counter() - start
        self._loop.run_until_complete(self._all_delivered())
        if clock is not None:
            clock.add("IPC", self._received_at - self._sent_at)
            clock.add("frontend", self._delivered_at - self._received_at)
        return self._delivered_at - start

    async def _all_delivered(self) -> None:
        """Wait until every token that the core has sent has become an event."""
        while self._delivered < self._expected:
            self._news.clear()
            await self._news.wait()
            for stream in self._streams:
                if stream.done():
                    stream.result()
                    raise ConfigError("a stream ended before the measurement: raise --max-model-len or lower --context-len")

    def watch(self, clock: StepClock) -> ForwardClock:
        """Have `clock` time the parts of every step from now on, and the result the forward pass's operations."""
        runner: Any = self._executor._worker._runner
        clock.wrap(self.core.scheduler, "schedule", "schedule")
        clock.wrap(self.core.scheduler.results, "process", "output")
        clock.wrap(runner, "_update_batch", "prepare")
        clock.wrap(runner._layout, "arrange", "prepare")
        clock.wrap(runner._model, "forward", "layers")
        clock.wrap(runner._model, "compute_logits", "head")
        clock.wrap(runner, "_sample", "head and sample")
        return ForwardClock(runner._model)

    # ---- the two ends of the wire ---------------------------------------------------------------------------------

    def _send(self, identity: bytes, message: CoreMessage) -> None:
        if isinstance(message, CoreOutputs):
            self._expected += len(message.tokens.request_ids)
            self._expected += sum(bool(update.new_token_ids) for update in message.updates)
            self._sent_at = time.perf_counter()
        self._io.send(identity, message)

    def _connected(self, addresses: Addresses) -> CoreClient:
        client = CoreClient(self.config)
        client.attach(addresses)
        ready = Ready(
            WIRE_VERSION, os.getpid(), self._executor.num_blocks, self.config.cache.block_size, self.core.max_model_len, {}
        )
        self._io.announce(ready)
        client.wait_ready()
        outputs = client.outputs

        async def noted_outputs() -> CoreOutputs:
            message = await outputs()
            self._received_at = time.perf_counter()
            return message

        client.outputs = noted_outputs  # type: ignore[method-assign]
        return client

    def _frontend(self, client: CoreClient) -> AsyncLLM:
        metrics = PrometheusStats()
        self._state = ServerState(ServerOptions(), metrics)
        tokenizer = None if self.config.model.skip_tokenizer_init else load_tokenizer(self.config.model)
        llm = AsyncLLM(self.config, client, tokenizer, client.wait_ready(), [metrics])
        self._state.started(llm)
        return llm
