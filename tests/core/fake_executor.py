"""An executor that computes nothing but checks everything.

Its "KV cache" keeps, for every slot of every block, a hash of all tokens up to there, computed from the slot before - as
real keys and values depend on all that precedes them. A block that was shared wrongly, lost, reused too early or computed
twice shows as a difference between what the cache holds and what the request's own tokens give.

A step runs only when its result is asked for (and then all before it), so nothing the core changes after `submit` may
matter.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from core_configs import FULL

from octavo.cache_groups import CacheGroup
from octavo.config import EngineConfig
from octavo.executor.base import Executor
from octavo.executor.step import NewRequest, StepInput, StepOutput, ints
from octavo.wire.logprobs import TokenLogprobs
from octavo.wire.sampling_spec import SamplingSpec


def chain(previous: int, token: int) -> int:
    """Hash of a sequence from the hash of all but its last token."""
    return int.from_bytes(hashlib.blake2b(f"{previous},{token}".encode(), digest_size=8).digest(), "little")


def next_token(content: int, seed: int, vocab_size: int) -> int:
    return chain(content, -1 - seed) % vocab_size


def expected_tokens(prompt: list[int], count: int, seed: int, vocab_size: int) -> list[int]:
    """What a request must get, whatever happens around it."""
    content = 0
    for token in prompt:
        content = chain(content, token)
    tokens = []
    for _ in range(count):
        tokens.append(next_token(content, seed, vocab_size))
        content = chain(content, tokens[-1])
    return tokens


def next_allowed(token: int, allowed: Sequence[int], vocab_size: int) -> int:
    """The first allowed token from this one on, and round to 0."""
    return min(allowed, key=lambda other: (other - token) % vocab_size)


@dataclass
class Row:
    """The worker's mirror of a request."""

    sequence_id: str
    tokens: list[int]
    num_prompt_tokens: int
    max_tokens: int
    num_computed: int
    tables: list[list[int]]
    """A block table for each cache group."""
    seed: int
    prompt_logprobs: bool
    logprobs: bool
    pooled: bool


@dataclass
class Ledger:
    """What the tests look at afterwards."""

    submitted: list[StepInput] = field(default_factory=list)
    steps: list[StepInput] = field(default_factory=list)
    """Those that were run."""
    joined: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    num_prompt_tokens_computed: int = 0
    violations: list[AssertionError] = field(default_factory=list)
    """What the core did wrong. Checked at the end: to the core they look like any failing step."""


class LazyFuture(Future[StepOutput]):
    """Runs the executor up to its step when asked."""

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__()
        self._run = run

    def result(self, timeout: float | None = None) -> StepOutput:
        self._run()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._run()
        return super().exception(timeout)


class FakeExecutor(Executor):
    """See the module. `fail_steps` raise; `fail_rows` maps step ids to how many rows report an error of their own."""

    def __init__(self, config: EngineConfig, step_seconds: float = 0.0, groups: tuple[CacheGroup, ...] = FULL) -> None:
        super().__init__(config)
        self.groups = groups
        self.block_size = config.cache.block_size
        self.step_seconds = step_seconds
        self.ledger = Ledger()
        self.fail_steps: set[int] = set()
        self.fail_rows: dict[int, int] = {}
        self.failed: dict[int, str] = {}
        """Rows whose requests cannot go on, and why: answered with an error until they leave."""
        self._blind = False
        self._blind_until = -1
        """Steps submitted before a failure was known read what the failed one did not write; they compute nonsense, and
        nothing of it may be found later."""
        self.healthy = True
        self._store: dict[tuple[int, int], tuple[int, int]] = {}
        """(block, offset) -> (group, content): groups share their blocks."""
        self._rows: dict[int, Row] = {}
        self._queue: list[tuple[StepInput, LazyFuture]] = []
        self._allowed: dict[int, npt.NDArray[np.int32]] = {}
        """Masks of the step that runs, by row."""
        self.last_step = -1
        self.released: set[str] = set()

    def start(self, progress: Callable[[str, float], None]) -> None:
        progress("weights", 0.0)
        progress("weights", 1.0)
        progress("kv cache", 1.0)

    @property
    def num_blocks(self) -> int:
        return self.config.cache.num_blocks or 64

    @property
    def cache_groups(self) -> tuple[CacheGroup, ...]:
        return self.groups

    def submit(self, step: StepInput) -> Future[StepOutput]:
        future = LazyFuture(lambda: self._run_until(step.step_id))
        self._queue.append((step, future))
        self.ledger.submitted.append(step)
        try:
            self._check_step(step)
        except AssertionError as error:
            self.ledger.violations.append(error)
            raise
        return future

    def release(self, weights: bool) -> None:
        self.released = {"kv_cache", *(["weights"] if weights else [])}
        self._store.clear()

    def restore_weights(self) -> None:
        self.released.remove("weights")

    def restore_kv_cache(self) -> None:
        assert "weights" not in self.released
        self.released.remove("kv_cache")

    def call_workers(self, method: str, args: list[object], kwargs: dict[str, object]) -> list[object]:
        assert not self._queue, "a step is in flight"
        return [[method, args, kwargs]]

    def check_health(self) -> None:
        if not self.healthy:
            raise RuntimeError("the device is on fire")

    def shutdown(self) -> None:
        self._queue.clear()

    def _check_step(self, step: StepInput) -> None:
        limits = self.config.scheduler
        assert step.step_id == self.last_step + 1
        assert not self.released, "asleep"
        self.last_step = step.step_id
        assert 0 < step.total_num_tokens <= limits.max_num_batched_tokens
        assert sum(step.num_tokens) + (sum(step.drafts.counts) if step.drafts else 0) == step.total_num_tokens
        assert min(step.num_tokens) >= 1
        assert len(step.rows) == len(step.num_tokens) <= limits.max_num_seqs
        assert len(set(step.rows)) == len(step.rows), "a row computes twice"
        assert all(0 <= row < limits.max_num_seqs for row in step.rows)

    def _run_until(self, step_id: int) -> None:
        while self._queue and self._queue[0][0].step_id <= step_id:
            step, future = self._queue.pop(0)
            try:
                future.set_result(self._run(step))
            except Exception as error:
                if isinstance(error, AssertionError):
                    self.ledger.violations.append(error)
                self._blind_until = self.last_step
                self.failed.update(dict.fromkeys(step.rows, "an earlier step failed"))
                future.set_exception(error)

    def _run(self, step: StepInput) -> StepOutput:
        if self.step_seconds:
            time.sleep(self.step_seconds)
        self._blind = step.step_id <= self._blind_until
        self._apply(step)
        if step.step_id in self.fail_steps:
            raise RuntimeError(f"step {step.step_id} was told to fail")
        output = StepOutput(step.step_id, ints(), ints(), ints() if step.drafts else None)
        failing = step.rows[: self.fail_rows.get(step.step_id, 0)]
        drafts = step.drafts.by_row() if step.drafts else {}
        self._allowed = {} if step.masks is None else dict(zip(step.masks.rows, step.masks.bits, strict=True))
        for row, count in zip(step.rows, step.num_tokens, strict=True):
            # One that fails has written its keys and values all the same.
            mine = StepOutput(step.step_id, ints(), ints()) if row in failing else output
            if row not in self.failed:
                self._compute(row, self._rows[row], count, list(drafts.get(row, ())), mine)
            if row in failing:
                self.failed.setdefault(row, "this row was told to fail")
            if row in self.failed:
                output.errors[row] = self.failed[row]
        return output

    def _apply(self, step: StepInput) -> None:
        ledger = self.ledger
        ledger.steps.append(step)
        for row in step.left:
            mirror = self._rows.pop(row, None)
            assert mirror is not None or self._blind_until >= 0, f"row {row} left, but nobody was there"
            self.failed.pop(row, None)
            if mirror is not None:
                ledger.left.append(mirror.sequence_id)
        for new in step.joined:
            assert new.row not in self._rows, f"{new.sequence_id} joins in a row that is taken"
            assert new.row not in self.failed
            self._rows[new.row] = self._row(new)
            ledger.joined.append(new.sequence_id)
        for row, blocks in zip(step.grown, step.new_blocks, strict=True):
            if row in self.failed and row not in self._rows:
                continue
            for table, new_blocks in zip(self._rows[row].tables, blocks, strict=True):
                table.extend(new_blocks)
        assert len(self._rows) <= self.config.scheduler.max_num_seqs
        for row in step.rows:
            tables = self._rows[row].tables if row not in self.failed else []
            blocks = [
                block for group, table in enumerate(tables) for block in table[self._first_seen(group, self._rows[row]) :]
            ]
            assert len(set(blocks)) == len(blocks)

    def _row(self, new: NewRequest) -> Row:
        sampling = new.sampling or SamplingSpec(1, 0)
        tables = [list(table) for table in new.block_ids]
        return Row(
            new.sequence_id, list(new.token_ids), new.num_prompt_tokens, sampling.max_tokens, new.num_computed_tokens, tables,
            sampling.seed, sampling.prompt_logprobs is not None, sampling.logprobs is not None, new.sampling is None,
        )  # fmt: skip

    def _compute(self, number: int, row: Row, count: int, drafts: list[int], output: StepOutput) -> None:
        name = row.sequence_id
        known = len(row.tokens)
        row.tokens += drafts
        start, end = row.num_computed, row.num_computed + count + len(drafts)
        assert end <= len(row.tokens), f"{name}: asked to compute token {end} of {len(row.tokens)}"
        for table in row.tables:
            assert end <= len(table) * self.block_size, f"{name}: no block for token {end}"
        content = self._read_context(name, row, start)
        contents = []
        for position in range(start, end):
            content = chain(content, row.tokens[position])
            contents.append(content)
            for group, table in enumerate(row.tables):
                self._store[self._slot(table, position)] = group, content
        row.num_computed = end
        scored = range(start + 1, min(end + 1, row.num_prompt_tokens))
        self.ledger.num_prompt_tokens_computed += max(0, min(end, row.num_prompt_tokens) - start)
        if row.prompt_logprobs and scored:
            output.prompt_logprobs[number] = _logprobs([row.tokens[p] for p in scored], list(scored))
        if end == len(row.tokens):
            if row.pooled:
                output.pooled[number] = np.array([content % 1000], np.float32)
                return
            self._sample(number, row, known, contents[known - 1 - start :], drafts, output)

    def _sample(self, number: int, row: Row, known: int, contents: list[int], drafts: list[int], output: StepOutput) -> None:
        """The next token, or where there are drafts as many as these foresee, and one more."""
        new = []
        for content, draft in zip(contents, [*drafts, None], strict=True):
            new.append(self._choose(number, next_token(content, row.seed, self.config.model.vocab_size)))
            if new[-1] != draft:
                break
        row.tokens[known:] = new
        row.num_computed = len(row.tokens) - 1
        most = min(row.num_prompt_tokens + row.max_tokens, self.config.model.max_model_len)
        assert row.num_computed < most, f"{row.sequence_id}: past its end"
        output.rows.append(number)
        output.token_ids.extend(new)
        if output.counts is not None:
            output.counts.append(len(new))
        if row.logprobs:
            output.logprobs[number] = _logprobs(new, [known])

    def _choose(self, number: int, token: int) -> int:
        """The token, or the next one that the row's mask allows."""
        if number not in self._allowed:
            return token
        vocab_size = self.config.model.vocab_size
        allowed = np.unpackbits(self._allowed[number].view(np.uint8), bitorder="little")[:vocab_size]
        return next_allowed(token, np.flatnonzero(allowed).tolist(), vocab_size)

    def _read_context(self, key: str, row: Row, length: int) -> int:
        """Hash of the first `length` tokens as the cache has it, every slot that the next one sees compared with what it should
        hold."""
        contents = list(itertools.accumulate(row.tokens[:length], chain, initial=0))
        found = contents[-1]
        for group, table in enumerate(row.tables):
            for position in range(self._first_seen(group, row) * self.block_size, length):
                if position < length - (self.groups[group].spec.window or length + 1) + 1:
                    continue
                stored = self._store.get(self._slot(table, position), (-1, -1))
                assert stored == (group, contents[position + 1]) or self._blind, f"{key}: wrong content at position {position}"
                found = stored[1]
        return found

    def _first_seen(self, group: int, row: Row) -> int:
        """First column that the row's next token sees."""
        window = self.groups[group].spec.window
        return max(0, row.num_computed - window + 1) // self.block_size if window else 0

    def _slot(self, table: list[int], position: int) -> tuple[int, int]:
        return table[position // self.block_size], position % self.block_size


def _logprobs(tokens: list[int], positions: list[int]) -> TokenLogprobs:
    """One column; the position serves as the rank, so that order can be checked."""
    return TokenLogprobs(
        np.array(tokens, np.int32)[:, None], -np.array(positions, np.float32)[:, None], np.array(positions, np.int32)
    )
