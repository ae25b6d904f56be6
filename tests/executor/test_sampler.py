"""The sampler against a naive implementation, row by row in plain Python; its randomness; its logprobs."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from fake_model import CPU, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_sums

from octavo.cache_groups import CacheGroup, CacheSpec
from octavo.executor.input_batch import InputBatch
from octavo.executor.logprobs import TokenLogprobs
from octavo.executor.rng import keys_of, uniforms
from octavo.executor.sampler import Sampled, Sampler
from octavo.executor.step import NewRequest
from octavo.kernels import ops
from octavo.wire.sampling_spec import SamplingSpec

V = 23
INF = math.inf


@pytest.fixture(autouse=True)
def reference_kernels() -> None:
    torch.set_num_threads(1)
    ops.use("reference")


class GivenLogits:
    """A head whose hidden states are the logits."""

    def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden

    def sample(self, hidden: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor, peaks: torch.Tensor) -> None:
        ops.sample(hidden, draws, tokens, peaks)


class Rows:
    """A sampler with requests in it: (prompt, output, spec) each."""

    def __init__(self, requests: list[tuple[list[int], list[int], SamplingSpec]], mode: str = "raw_logprobs") -> None:
        self.batch = InputBatch(len(requests) + 3, 64, 4, (CacheGroup(CacheSpec("full", 1, 8), (0,)),))
        self.sampler = Sampler(self.batch, GivenLogits(), mode, CPU)  # type: ignore[arg-type]
        self.rows = []
        for i, (prompt, output, sampling) in enumerate(requests):
            self.batch.add(NewRequest(i, f"r{i}", prompt + output, len(prompt), 0, [[]], sampling))
            self.sampler.add(i, sampling)
            self.rows.append(i)

    def sample(self, logits: torch.Tensor, which: list[int] | None = None) -> Sampled:
        rows = np.asarray(self.rows if which is None else [self.rows[i] for i in which])
        sampled = self.sampler.sample(logits.clone(), rows)
        self.batch.token_ids[rows, self.batch.num_tokens[rows]] = sampled.tokens
        self.batch.num_tokens[rows] += 1
        return sampled


# ---- naive implementation --------------------------------------------------------------------------------------------


def naive_changed(logits: list[float], prompt: list[int], output: list[int], s: SamplingSpec) -> list[float]:
    """Logits of one row after filters and penalties."""
    x = list(logits)
    if s.allowed_token_ids is not None:
        x = [v if t in s.allowed_token_ids else -INF for t, v in enumerate(x)]
    for sequence in s.bad_token_sequences:
        before = list(sequence[:-1])
        if len(before) <= len(output) and output[len(output) - len(before) :] == before:
            x[sequence[-1]] = -INF
    if len(output) < s.min_tokens:
        for t in s.eos_token_ids + s.stop_token_ids:
            x[t] = -INF
    for t, bias in (s.logit_bias or {}).items():
        x[t] += bias
    counts = Counter(output)
    for t in set(prompt) | set(output):
        x[t] = x[t] / s.repetition_penalty if x[t] > 0 else x[t] * s.repetition_penalty
    for t, count in counts.items():
        x[t] -= s.frequency_penalty * count + s.presence_penalty
    return x


def naive_narrowed(x: list[float], s: SamplingSpec) -> list[float]:
    """Then temperature, min-p, top-k, top-p."""
    if s.greedy:
        return x
    x = [v / s.temperature for v in x]
    x = [v if math.exp(v - max(x)) >= s.min_p else -INF for v in x]
    order = sorted(range(V), key=lambda t: (-x[t], t))
    kept = order[: s.top_k] if s.top_k else order
    weights = [math.exp(x[t] - x[order[0]]) for t in kept]
    total, reached, best = sum(weights), 0.0, []
    for t, weight in zip(kept, weights, strict=True):
        if reached < s.top_p * total or s.top_p == 1:
            best.append(t)
        reached += weight
    return [v if t in best else -INF for t, v in enumerate(x)]


def naive_token(x: list[float], s: SamplingSpec, position: int) -> int:
    if s.greedy:
        return x.index(max(x))
    u = float(uniforms(keys_of(np.array([s.seed], np.uint64)), np.array([position]))[0])
    weights = [math.exp(v - max(x)) for v in x]
    target, reached = u * sum(weights), 0.0
    for t, weight in enumerate(weights):
        reached += weight
        if reached > target:
            return t
    return max(t for t in range(V) if weights[t])


TOKENS = st.integers(0, V - 1)
SPECS = st.builds(
    SamplingSpec,
    max_tokens=st.just(99),
    seed=st.integers(0, 2**64 - 1),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_p=st.sampled_from([1.0, 0.9, 0.4]),
    top_k=st.sampled_from([0, 1, 4, 99]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    presence_penalty=st.sampled_from([0.0, 0.0, 1.1, -0.6]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.7, -1.3]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.4, 0.6]),
    min_tokens=st.sampled_from([0, 0, 2, 5]),
    eos_token_ids=st.sampled_from([(), (2,), (2, 5)]),
    stop_token_ids=st.sampled_from([(), (5, 7)]),
    logit_bias=st.none() | st.dictionaries(TOKENS, st.sampled_from([-100.0, -1.5, 3.0]), max_size=4),
    allowed_token_ids=st.none() | st.none() | st.sampled_from([(0, 1, 2, 3, 4, 5, 6, 7, 8, 21, 22)]),
    bad_token_sequences=st.lists(st.lists(TOKENS, min_size=1, max_size=3).map(tuple), max_size=4).map(tuple),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.lists(TOKENS, min_size=1, max_size=8), st.lists(TOKENS, max_size=8), SPECS), min_size=1, max_size=6),
    st.integers(0, 10_000),
)
def test_every_parameter_equals_naive(requests: list[tuple[list[int], list[int], SamplingSpec]], seed: int) -> None:
    rows = Rows(requests)
    outputs = [list(output) for _, output, _ in requests]
    generator = torch.Generator().manual_seed(seed)
    for step in range(4):
        which = [i for i in range(len(requests)) if (seed + i + step) % 4] or [0]
        logits = torch.randn(len(which), V, generator=generator) * 3
        sampled = rows.sample(logits, which)
        for i, n in enumerate(which):
            prompt, _, sampling = requests[n]
            changed = naive_changed(logits[i].tolist(), prompt, outputs[n], sampling)
            if max(changed) == -INF:
                assert "forbid every token" in sampled.errors[i]
            else:
                narrowed = naive_narrowed(changed, sampling)
                assert sampled.tokens[i] == naive_token(narrowed, sampling, len(outputs[n]))
            outputs[n].append(int(sampled.tokens[i]))


def check_scores(scores: TokenLogprobs, row: list[float], token: int, k: int, *, normalized: bool) -> None:
    shift = math.log(sum(math.exp(v) for v in row)) if normalized else 0.0
    order = sorted(range(V), key=lambda t: (-row[t], t))
    assert scores.token_ids.tolist() == [[token, *order[:k]]]
    expected = torch.tensor([row[t] - shift for t in [token, *order[:k]]], dtype=torch.float64).float()
    # A share of the sum of exponentials is a difference of logarithms; before that, the row's largest is taken off.
    largest = max(abs(value) for value in row if math.isfinite(value))
    assert_sums(torch.from_numpy(scores.logprobs[0].copy()), expected, V, 1.0 + largest)
    assert scores.ranks.tolist() == [1 + sum(v > row[token] for v in row)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(TOKENS, min_size=1, max_size=5),
            st.lists(TOKENS, max_size=5),
            SPECS,
            st.sampled_from([None, 0, 2, V]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["raw_logprobs", "processed_logprobs", "raw_logits", "processed_logits"]),
    st.integers(0, 10_000),
)
def test_logprobs_of_every_mode_equal_naive(requests: list[tuple], mode: str, seed: int) -> None:
    specs = [replaced(s, logprobs=k, bad_token_sequences=()) for *_, s, k in requests]
    rows = Rows([(p, o, s) for (p, o, *_), s in zip(requests, specs, strict=True)], mode)
    logits = torch.randn(len(requests), V, generator=torch.Generator().manual_seed(seed)) * 3
    sampled = rows.sample(logits)
    assert set(sampled.logprobs) == {i for i, s in enumerate(specs) if s.logprobs is not None}
    for i, scores in sampled.logprobs.items():
        prompt, output, *_ = requests[i]
        row = logits[i].tolist()
        if mode.startswith("processed"):
            row = naive_narrowed(naive_changed(row, prompt, output, specs[i]), specs[i])
        check_scores(scores, row, int(sampled.tokens[i]), specs[i].logprobs or 0, normalized=mode.endswith("logprobs"))


def replaced(sampling: SamplingSpec, **changes: object) -> SamplingSpec:
    import msgspec

    return msgspec.structs.replace(sampling, **changes)


@pytest.mark.parametrize("mode", ["raw_logprobs", "raw_logits"])
def test_listed_ids_are_scored_instead_of_the_best(mode: str) -> None:
    listed = spec(logprobs=3, logprob_token_ids=(7, 0, 11))
    rows = Rows([([1], [], spec()), ([1], [], listed), ([1], [], spec(logprobs=2))], mode)
    logits = torch.randn(3, V, generator=torch.Generator().manual_seed(1))
    sampled = rows.sample(logits)
    assert set(sampled.logprobs) == {1, 2}
    scores, token = sampled.logprobs[1], int(sampled.tokens[1])
    expected = torch.log_softmax(logits[1], 0) if mode == "raw_logprobs" else logits[1]
    assert scores.token_ids.tolist() == [[token, 7, 0, 11]]
    assert_sums(torch.from_numpy(scores.logprobs[0].copy()), expected[[token, 7, 0, 11]], V, 1.0 + float(logits[1].abs().max()))
    assert scores.ranks.tolist() == [1]
    check_scores(sampled.logprobs[2], logits[2].tolist(), int(sampled.tokens[2]), 2, normalized=mode == "raw_logprobs")


def test_whole_vocabulary_is_scored_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    top_logprobs = ops.top_logprobs

    def spy(logits: torch.Tensor, chosen: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        sizes.append((len(logits), k))
        return top_logprobs(logits, chosen, k)

    monkeypatch.setattr(ops, "top_logprobs", spy)
    rows = Rows([([1], [], spec(logprobs=k)) for k in (300, 5, 300, 2)])
    sampled = rows.sample(torch.randn(4, 300))
    assert sizes == [(2, 5), (1, 300), (1, 300)]
    assert [scores.token_ids.shape for _, scores in sorted(sampled.logprobs.items())] == [(1, 301), (1, 6), (1, 301), (1, 3)]


# ---- randomness ------------------------------------------------------------------------------------------------------


def test_draws_follow_the_distribution() -> None:
    logits = torch.linspace(-2, 2, V).repeat(256, 1)
    rows = Rows([([1], [], spec(1.0, seed=seed * 7919)) for seed in range(256)])
    counts = np.zeros(V)
    for _ in range(40):
        counts += np.bincount(rows.sample(logits).tokens, minlength=V)
    expected = torch.softmax(logits[0].double(), 0).numpy() * counts.sum()
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 48.3, "one in a thousand for 22 degrees of freedom; the seeds are fixed"


def test_uniforms_are_even_and_unrelated() -> None:
    seeds = np.repeat(np.arange(200, dtype=np.uint64), 100)
    positions = np.tile(np.arange(100), 200)
    drawn = uniforms(keys_of(seeds), positions).reshape(200, 100)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert len(np.unique(drawn)) == drawn.size
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 43.8
    for shift in (1, 2):
        assert abs(np.corrcoef(drawn[:, :-shift].ravel(), drawn[:, shift:].ravel())[0, 1]) < 0.03
        assert abs(np.corrcoef(drawn[:-shift].ravel(), drawn[shift:].ravel())[0, 1]) < 0.03
    assert uniforms(keys_of(np.array([2**64 - 1], np.uint64)), np.array([2**31]))[0] < 1


def test_samples_depend_on_seed_and_position_alone() -> None:
    logits = torch.randn(12, 1, V)
    sampling = spec(1.0, seed=123456789, top_p=0.95, presence_penalty=0.5)
    alone = Rows([([1, 2], [], sampling)])
    expected = [int(alone.sample(row).tokens[0]) for row in logits]
    others = [([3], [4] * i, spec(0.5 * i, seed=i, logprobs=i, top_k=i)) for i in range(4)]
    crowd = Rows([*others, ([1, 2], [], sampling)])
    actual = []
    for i, row in enumerate(logits):
        which = [4] if i % 3 == 0 else [4, 1] if i % 3 == 1 else [0, 1, 2, 3, 4]
        sampled = crowd.sample(torch.cat([row if n == 4 else torch.randn(1, V) for n in which]), which)
        actual.append(int(sampled.tokens[which.index(4)]))
    assert actual == expected
    resumed = Rows([([1, 2], expected[:7], sampling)])
    assert [int(resumed.sample(row).tokens[0]) for row in logits[7:]] == expected[7:]


def test_a_left_row_leaves_nothing_behind() -> None:
    busy = spec(
        1.0, frequency_penalty=2.0, logit_bias={3: 100.0}, allowed_token_ids=(3,), min_tokens=9, eos_token_ids=(1,),
        bad_token_sequences=((2,),), logprobs=4, logprob_token_ids=(1, 2, 3, 4),
    )  # fmt: skip
    rows = Rows([([1], [2], busy)])
    assert rows.sample(torch.zeros(1, V)).tokens.tolist() == [3]
    rows.batch.remove(0)
    rows.sampler.remove(0)
    rows.batch.add(NewRequest(0, "x", [1], 1, 0, [[]], spec()))
    rows.sampler.add(0, spec())
    logits = torch.randn(1, V)
    sampled = rows.sampler.sample(logits.clone(), np.array([0]))
    assert sampled.tokens.tolist() == [int(logits.argmax())]
    assert not sampled.logprobs


def test_a_row_taken_over_is_drawn_by_its_new_request() -> None:
    """Also where the step's rows are the same array as before, for which parameters are kept."""
    first, second = spec(1.0, seed=11), spec(0.7, seed=12, top_k=3)
    rows = Rows([([1], [], first), ([2, 3], [], spec())])
    which, logits = np.asarray(rows.rows), torch.randn(2, V)
    rows.sampler.sample(logits.clone(), which)
    rows.batch.remove(0)
    rows.sampler.remove(0)
    rows.batch.add(NewRequest(0, "x", [1, 2, 3], 2, 0, [[]], second))
    rows.sampler.add(0, second)
    for step in range(8):
        tokens = rows.sampler.sample(logits.clone(), which).tokens
        assert tokens[0] == naive_token(naive_narrowed(logits[0].tolist(), second), second, 1 + step)
        assert tokens[1] == int(logits[1].argmax())
        rows.batch.num_tokens[which] += 1


def test_a_request_that_left_takes_no_part() -> None:
    rows = Rows([([1], [], spec(1.0, seed=i)) for i in range(3)])
    logits = torch.randn(3, V)
    expected = rows.sampler.sample(logits.clone(), np.asarray(rows.rows)).tokens.copy()
    rows.batch.remove(1)
    rows.sampler.remove(rows.rows[1])
    rest = rows.sampler.sample(logits[[0, 2]], np.asarray([rows.rows[0], rows.rows[2]])).tokens
    assert rest.tolist() == expected[[0, 2]].tolist()


def test_one_nan_among_random_rows_is_that_rows_error() -> None:
    rows = Rows([([1], [], spec(1.0, seed=i)) for i in range(3)])
    logits = torch.randn(3, V)
    expected = Rows([([1], [], spec(1.0, seed=i)) for i in range(3)]).sample(logits).tokens
    logits[1, 5] = math.nan
    sampled = rows.sample(logits)
    assert list(sampled.errors) == [1]
    assert sampled.tokens[[0, 2]].tolist() == expected[[0, 2]].tolist()
