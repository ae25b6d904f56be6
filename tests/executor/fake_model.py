"""A fake model whose logits are an exact function of the whole context, read back through the paged cache; and helpers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch

from octavo.cache_groups import CacheSpec, plan_layout
from octavo.config import CacheConfig, DeviceConfig, EngineConfig, ModelConfig, SchedulerConfig
from octavo.executor.attention import AttentionMetadata, KVCache
from octavo.executor.kv_cache import allocate_kv_cache
from octavo.executor.model_runner import ModelRunner
from octavo.executor.step import NewRequest, StepInput, StepOutput, ints
from octavo.kernels import ops
from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.pooling_spec import PoolingSpec
from octavo.wire.sampling_spec import SamplingSpec

VOCAB = 97
BLOCK_SIZE = 4
PRIME = 8388593
CPU = torch.device("cpu")


def spec(temperature: float = 0.0, seed: int = 0, **fields: object) -> SamplingSpec:
    """Greedy unless a temperature is given."""
    return SamplingSpec(1000, seed, temperature, **fields)  # type: ignore[arg-type]


def make_config(**changes: object) -> EngineConfig:
    """A small configuration; `changes` replace fields of any of its parts."""
    parts = (
        ModelConfig(
            name="fake",
            path="",
            format="dummy",
            hf_config={},
            architecture="Fake",
            dtype="float32",
            max_model_len=256,
            fit_max_model_len=False,
            vocab_size=VOCAB,
            eos_token_ids=(2,),
            generation_config={},
            tokenizer_path="",
            served_model_names=("fake",),
        ),
        CacheConfig(BLOCK_SIZE, "float32", 0.9, memory_bytes=None, num_blocks=256, enable_prefix_caching=True),
        SchedulerConfig(
            max_num_seqs=16,
            max_num_batched_tokens=512,
            enable_chunked_prefill=True,
            long_prefill_token_threshold=0,
            policy="fcfs",
            async_scheduling=True,
            max_num_queued_reqs=0,
            max_num_queued_tokens=None,
            stream_interval=1,
        ),
        DeviceConfig("cpu", num_threads=1, executor="uni"),
    )
    return EngineConfig(*(_changed(part, changes) for part in parts))


def _changed(part: Any, changes: dict[str, object]) -> Any:
    return msgspec.structs.replace(part, **{name: value for name, value in changes.items() if hasattr(part, name)})


def context_hash(tokens: Iterable[int]) -> int:
    value = 17
    for token in tokens:
        value = (value * 131 + token + 1) % PRIME
    return value


def fake_logits(hashes: torch.Tensor, vocab: int = VOCAB) -> torch.Tensor:
    """float [R] of exact integers -> float32 [R, vocab], spread over about [-4, 4] and without ties."""
    ids = torch.arange(1, vocab + 1, dtype=torch.int64)
    mixed = (hashes.long().unsqueeze(1) * (ids * 7919 + 13) + ids * ids * 104729) % PRIME
    return (mixed.float() / PRIME - 0.5) * 8


class FakeModel:
    """Writes each token to the cache by slot and hashes what the block table then gives back for each position."""

    row_inputs = ()
    unused_weights = ()

    def check_inputs(self, inputs: dict[str, torch.Tensor], num_tokens: int) -> None:
        pass

    def __init__(self, vocab: int = VOCAB) -> None:
        self.cache_specs = [CacheSpec("full", 1, 2)]
        self.vocab = vocab
        self.most_logits_rows = 0
        self.broken_hashes: set[int] = set()
        self.fail_next = False
        self.num_tokens: list[int] = []

    def forward(
        self, input_ids: torch.Tensor, positions: torch.Tensor, kv_caches: list[KVCache], attn: AttentionMetadata
    ) -> torch.Tensor:
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("device lost")
        keys, _ = kv_caches[0]
        block_size = keys.shape[2]
        self.num_tokens.append(len(input_ids))
        (slot_mapping,), (block_tables,) = attn.slot_mapping, attn.block_tables
        assert input_ids.dtype == positions.dtype == slot_mapping.dtype == torch.int64
        for token, position, slot in zip(input_ids.tolist(), positions.tolist(), slot_mapping.tolist(), strict=True):
            keys[slot // block_size, 0, slot % block_size] = torch.tensor([float(token), float(position)])
        hidden, starts = [], attn.query_starts.tolist()
        for r, length in enumerate(attn.seq_lens.tolist()):
            entries = keys[block_tables[r].long(), 0].reshape(-1, 2)[:length]
            assert entries[:, 1].tolist() == list(range(length)), "the block table gives back other positions"
            context = entries[:, 0].long().tolist()
            first = length - (starts[r + 1] - starts[r])
            hidden += [context_hash(context[: position + 1]) for position in range(first, length)]
        return torch.tensor(hidden, dtype=torch.float32).unsqueeze(1)

    def activation_bytes(self, num_tokens: int) -> int:
        return 0

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        self.most_logits_rows = max(self.most_logits_rows, len(hidden))
        logits = fake_logits(hidden[:, 0], self.vocab)
        for i, value in enumerate(hidden[:, 0].tolist()):
            if int(value) in self.broken_hashes:
                logits[i] = float("nan")
        return logits

    def sample(self, hidden: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
        ops.sample(self.compute_logits(hidden), draws, tokens, peaks)


def logits_after(tokens: list[int]) -> torch.Tensor:
    """float32 [VOCAB]: what the fake model says after `tokens`."""
    return fake_logits(torch.tensor([context_hash(tokens)]))[0]


def greedy_tokens(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(logits_after(tokens).argmax()))
    return tokens[len(prompt) :]


def make_runner(model: FakeModel | None = None, **changes: object) -> ModelRunner:
    torch.set_num_threads(1)
    ops.use("reference")
    config = make_config(**changes)
    model = model or FakeModel()
    assert config.cache.num_blocks is not None
    layout = plan_layout(model.cache_specs, config.cache.block_size, config.model.max_model_len)
    caches = allocate_kv_cache(layout, torch.float32, config.cache.num_blocks, CPU)
    caches[0][0].fill_(float("nan"))
    return ModelRunner(config, model, caches, layout, CPU, config.model.max_model_len)


@dataclass
class Named:
    """A step's output by the names of requests."""

    sampled: dict[str, list[int]]
    logprobs: dict[str, TokenLogprobs]
    prompt_logprobs: dict[str, TokenLogprobs]
    pooled: dict[str, np.ndarray]
    errors: dict[str, str]

    @classmethod
    def of(cls, output: StepOutput, names: dict[int, str]) -> Named:
        parts = (output.tokens_of(), output.logprobs, output.prompt_logprobs, output.pooled, output.errors)
        return cls(*({names[row]: value for row, value in part.items()} for part in parts))  # type: ignore[attr-defined]


def step_of(
    step_id: int,
    counts: dict[int, int],
    joined: Sequence[NewRequest] = (),
    left: Sequence[int] = (),
    new_blocks: dict[int, list[list[int]]] | None = None,
) -> StepInput:
    """A step in which rows compute so many tokens."""
    blocks = new_blocks or {}
    return StepInput(
        step_id, ints(list(left)), list(joined), ints(list(counts)), ints(list(counts.values())), sum(counts.values()),
        ints(list(blocks)), list(blocks.values()),
    )  # fmt: skip


class Driver:
    """A minimal core: hands out rows and blocks, chunks prompts, feeds steps; keeps what came out by request."""

    def __init__(self, runner: ModelRunner, num_blocks: int = 256) -> None:
        self.runner = runner
        self.free = list(range(num_blocks - 1, -1, -1))
        self.blocks: dict[str, list[int]] = {}
        self.known: dict[str, list[int]] = {}
        self.num_prompt: dict[str, int] = {}
        self.computed: dict[str, int] = {}
        self.expected: dict[str, int] = {}
        self.specs: dict[str, SamplingSpec | PoolingSpec] = {}
        self.outputs: dict[str, list[int]] = {}
        self.steps: list[Named] = []
        self.rows: dict[str, int] = {}
        self._free_rows = list(range(15, -1, -1))
        self._joining: list[str] = []
        self._names: list[dict[int, str]] = []
        """Of each step whose result has not come yet, whose the rows are."""
        self._leaving: list[int] = []

    def join(self, request_id: str, prompt: list[int], work: SamplingSpec | PoolingSpec) -> None:
        self.known[request_id], self.num_prompt[request_id], self.specs[request_id] = list(prompt), len(prompt), work
        self.outputs[request_id] = []
        self._rejoin(request_id)

    def preempt(self, request_id: str) -> None:
        """Free its blocks; it joins again with the next step, everything to be computed anew."""
        self.leave(request_id)
        self._rejoin(request_id)

    def leave(self, request_id: str) -> None:
        row = self.rows.pop(request_id)
        self._leaving.append(row)
        self._free_rows.append(row)
        self.free += self.blocks.pop(request_id)

    def make_step(self, counts: dict[str, int]) -> StepInput:
        """A step of at most counts[id] tokens each; tokens still in flight count as known."""
        joined, new_blocks, num_tokens = [], {}, {}
        for request_id, count in counts.items():
            count = min(count, self.expected[request_id] - self.computed[request_id])
            self.computed[request_id] += count
            num_tokens[request_id] = count
            missing = -(-self.computed[request_id] // BLOCK_SIZE) - len(self.blocks[request_id])
            fresh = [self.free.pop() for _ in range(missing)]
            self.blocks[request_id] += fresh
            if request_id in self._joining:
                joined.append(self._new_request(request_id))
                self._joining.remove(request_id)
            elif fresh:
                new_blocks[self.rows[request_id]] = [fresh]
            if self.computed[request_id] == self.expected[request_id]:
                self.expected[request_id] += 1
        left, self._leaving = self._leaving, []
        by_row = {self.rows[request_id]: count for request_id, count in num_tokens.items()}
        step = step_of(len(self.steps), by_row, joined, left, new_blocks)
        self._names.append({row: request_id for request_id, row in self.rows.items()})
        return step

    def take(self, output: StepOutput) -> Named:
        """Steps come back in the order in which they were made."""
        named = Named.of(output, self._names.pop(0))
        for request_id, tokens in named.sampled.items():
            self.known[request_id] += tokens
            self.outputs[request_id] += tokens
        self.steps.append(named)
        return named

    def forget_steps(self) -> None:
        """Results that have not come yet are not looked at."""
        self._names.clear()

    def step(self, counts: dict[str, int]) -> Named:
        step = self.make_step(counts)
        try:
            return self.take(self.runner.execute(step))
        except RuntimeError:
            self._names.pop(0)
            raise

    def run(self, count: int, chunk: int = 10_000) -> None:
        """Step everyone until all have at least `count` outputs."""
        while lagging := [r for r in self.blocks if len(self.outputs[r]) < count]:
            self.step(dict.fromkeys(lagging, chunk))

    def _rejoin(self, request_id: str) -> None:
        self.rows[request_id] = self._free_rows.pop()
        self.blocks[request_id], self.computed[request_id] = [], 0
        self.expected[request_id] = len(self.known[request_id])
        self._joining.append(request_id)

    def _new_request(self, request_id: str) -> NewRequest:
        work = self.specs[request_id]
        sampling, pooling = (None, work) if isinstance(work, PoolingSpec) else (work, None)
        return NewRequest(
            self.rows[request_id], request_id, list(self.known[request_id]), self.num_prompt[request_id], 0,
            [list(self.blocks[request_id])], sampling, pooling,
        )  # fmt: skip
