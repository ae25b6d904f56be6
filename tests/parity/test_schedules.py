"""Every architecture through the real core and executor: whatever the schedule, the tokens are transformers'."""

from __future__ import annotations

import itertools
import queue
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import tiny_hf
from parity.paged import engine_config
from parity.test_architectures import CASES

from octavo.cache_groups import BlockDemand, plan_layout
from octavo.core.core_io import Inbox
from octavo.core.engine_core import EngineCore
from octavo.executor.choice import make_executor
from octavo.sources.hf_config import cache_specs
from octavo.wire.messages import WIRE_VERSION, CoreMessage, CoreOutputs, EngineRequest, EventKind, Hello, RequestUpdate
from octavo.wire.sampling_spec import SamplingSpec

NUM_TOKENS = 24
PROMPTS = [tiny_hf.token_ids(length, seed=length) for length in (1, 5, 16, 23, 31, 40, 40, 58)]
# Two that begin alike, so that one finds the other's blocks.
PROMPTS.append(PROMPTS[-1][:48] + tiny_hf.token_ids(4, seed=99))
ALONE = (0, 3, len(PROMPTS) - 1)
"""Prompts that also run alone."""

SCHEDULES: dict[str, dict[str, Any]] = {
    "all at once": {},
    "chunks of 16": {"max_num_batched_tokens": 16, "max_num_seqs": 16},
    "without prefix cache": {"enable_prefix_caching": False},
    "one step at a time": {"async_scheduling": False},
    "preempted": {"spare_blocks": 4},
}
MAX_LEN, BLOCK_SIZE = 96, 8
PREEMPTED_EVERY = 9
"""Steps after which everyone is preempted, where windows leave so much room that nobody else would be."""


class Client:
    """Sends prompts to a core in this process and gathers what it answers."""

    def __init__(self, path: Path, spare_blocks: int | None = None, **options: Any) -> None:
        """`spare_blocks`: how many more there are than the longest sequence needs."""
        options = {"num_threads": 1, "block_size": BLOCK_SIZE, "max_model_len": MAX_LEN, **options}
        config = engine_config(path, **options)
        layout = plan_layout(cache_specs(config.model.hf_config, config.model.architecture), BLOCK_SIZE, MAX_LEN)
        self._preempts = spare_blocks is not None and any(group.spec.kind == "window" for group in layout.groups)
        if spare_blocks is not None:
            needed = BlockDemand(layout.groups, BLOCK_SIZE).most(MAX_LEN, config.scheduler.max_chunk)
            config = engine_config(path, num_gpu_blocks_override=needed + spare_blocks * len(layout.groups), **options)
        self.executor = make_executor(config)
        self.executor.start(lambda _phase, _fraction: None)
        self._inbox: Inbox = queue.SimpleQueue()
        self.core = EngineCore(config, self.executor, self._inbox, self._receive)
        self.num_held_last = 0
        """KV blocks that requests held shortly before the last one ended."""
        self._updates: dict[str, list[RequestUpdate]] = {}
        self._inbox.put((b"client", Hello(WIRE_VERSION)))

    def generate(self, prompts: list[list[int]]) -> list[list[int]]:
        self._updates = {str(i): [] for i in range(len(prompts))}
        for i, prompt in enumerate(prompts):
            sampling = SamplingSpec(max_tokens=NUM_TOKENS, seed=0, temperature=0.0)
            self._inbox.put((b"client", EngineRequest(str(i), list(prompt), sampling, arrival_time=0.0)))
        self.core.take_messages(wait=False)
        kv = self.core.scheduler.kv
        for number in itertools.count(1):
            if self.core.idle:
                break
            self.num_held_last = kv.num_blocks - kv.num_free_blocks or self.num_held_last
            self.core.step()
            if self._preempts and number % PREEMPTED_EVERY == 0:
                self.core.settle()
                self.core.scheduler.preempt_all()
        self.core.scheduler.check_integrity()
        return [[t for update in updates for t in update.new_token_ids] for updates in self._updates.values()]

    @property
    def num_preemptions(self) -> int:
        events = [event for updates in self._updates.values() for update in updates for event in update.events]
        return sum(event.kind is EventKind.PREEMPTED for event in events)

    @property
    def num_cached_tokens(self) -> int:
        return sum(update.num_cached_tokens for updates in self._updates.values() for update in updates)

    def _receive(self, identity: bytes, message: CoreMessage) -> None:
        assert isinstance(message, CoreOutputs)
        for update in message.all_updates():
            assert update.error is None
            self._updates[update.request_id].append(update)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[int]]]:
    """A model's folder and what transformers answers to each prompt alone."""
    torch.set_num_threads(1)
    architecture, changes = CASES[request.param]
    path = tmp_path_factory.mktemp("model")
    reference = tiny_hf.make(path, architecture, **changes)
    return path, [tiny_hf.greedy(reference, prompt, NUM_TOKENS) for prompt in PROMPTS]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_same_tokens(case: tuple[Path, list[list[int]]], schedule: str) -> None:
    path, expected = case
    client = Client(path, **SCHEDULES[schedule])
    try:
        assert client.generate(PROMPTS) == expected
        assert (client.num_preemptions > 0) == (schedule == "preempted")
        assert client.generate(PROMPTS) == expected
        if schedule == "without prefix cache":
            assert client.num_cached_tokens == 0
        elif schedule != "preempted":
            assert client.num_cached_tokens >= 150
        assert [client.generate([PROMPTS[i]])[0] for i in ALONE] == [expected[i] for i in ALONE]
    finally:
        client.executor.shutdown()


def test_long_prompts_through_short_windows(tmp_path: Path) -> None:
    """Blocks leave the windows while prompts are computed in chunks and others write into them; hits find what is left."""
    options = {"head_dim": 16, "sliding_window": 50, "num_hidden_layers": 6, "max_position_embeddings": 512}
    reference = tiny_hf.make(tmp_path, "Gemma3ForCausalLM", **options)
    prompts = [tiny_hf.token_ids(length, seed=length) for length in (430, 330, 130)]
    expected = [tiny_hf.greedy(reference, prompt, NUM_TOKENS) for prompt in prompts]
    client = Client(tmp_path, max_model_len=500, max_num_batched_tokens=64, max_num_seqs=4, kv_cache_memory_bytes=4 << 20)
    try:
        assert client.generate(prompts) == expected
        assert client.generate(prompts) == expected
        assert client.num_cached_tokens > 800
        assert client.generate(prompts[:1]) == expected[:1]
        whole_length = 6 * (430 + NUM_TOKENS) // BLOCK_SIZE
        assert client.num_held_last < 0.35 * whole_length, "a block is of one layer"
    finally:
        client.executor.shutdown()
