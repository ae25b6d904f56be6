"""What a step can carry beside tokens: pooling, drafts, masks, copies of blocks, an encoder's work; each through the real runner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from fake_model import CPU, VOCAB, Driver, FakeModel, greedy_tokens, make_config, make_runner, spec, step_of
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import tiny_hf
from parity.paged import load
from parity.test_other_models import WHISPER, build, filled

from octavo.cache_groups import plan_layout
from octavo.executor.attention import AttentionMetadata
from octavo.executor.kv_cache import allocate_kv_cache
from octavo.executor.model_runner import ModelRunner
from octavo.executor.models.registry import Keys
from octavo.executor.models.whisper import WhisperDecoder
from octavo.executor.step import BlockCopies, Drafts, EncoderItem, Masks, NewRequest, StepOutput, ints
from octavo.kernels import ops
from octavo.wire.pooling_spec import PoolingSpec
from octavo.wire.sampling_spec import SamplingSpec

PROMPT = [1, 2, 3, 4, 5, 6, 7]


def joined(row: int, prompt: list[int], blocks: list[int], sampling: SamplingSpec | None = None) -> NewRequest:
    return NewRequest(row, f"r{row}", prompt, len(prompt), 0, [blocks], sampling or spec())


# ---- pooling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("kind", ["last", "mean", "cls", "all"])
def test_pooled_hidden_states_of_a_real_model(kind: str, chunk: int, tmp_path: Path) -> None:
    """Chunked or not, beside a request that generates, whose tokens stay."""
    tiny_hf.make(tmp_path, "LlamaForCausalLM", num_hidden_layers=2)
    model = load(tmp_path)
    layout = plan_layout(model.cache_specs, 8, 128)
    config = make_config(block_size=8, max_model_len=128, vocab_size=160)
    texts = {row: tiny_hf.token_ids(length, seed=length) for row, length in ((1, 11), (2, 1), (3, 30))}

    def runner() -> ModelRunner:
        return ModelRunner(config, model, allocate_kv_cache(layout, torch.float32, 32, CPU), layout, CPU, 128)

    def generated(alone: bool) -> tuple[list[int], dict[int, np.ndarray]]:
        one = runner()
        new = [joined(0, texts[1], list(range(16, 24)))]
        if not alone:
            new += [
                NewRequest(row, str(row), text, len(text), 0, [[4 * row + i for i in range(-4, 0)]], None, PoolingSpec((kind,)))  # type: ignore[arg-type]
                for row, text in texts.items()
            ]
        lengths = {request.row: len(request.token_ids) for request in new}
        tokens: list[int] = []
        pooled: dict[int, np.ndarray] = {}
        for number in range(45):
            counts = {row: min(chunk, left) for row, left in lengths.items() if left}
            output = one.execute(step_of(number, counts, new if number == 0 else []))
            for row, count in counts.items():
                lengths[row] -= count
            sampled = output.tokens_of().get(0, [])
            assert set(output.rows) <= {0}
            tokens += sampled
            lengths[0] += len(sampled)
            pooled |= output.pooled
            if len(tokens) > 5 and not any(lengths[row] for row in lengths if row):
                break
        return tokens, pooled

    tokens, pooled = generated(alone=False)
    assert generated(alone=True)[0][: len(tokens)] == tokens[: len(generated(alone=True)[0])]
    for row, text in texts.items():
        hidden = hidden_states(model, text)
        expected = {"last": hidden[-1], "cls": hidden[0], "mean": hidden.double().mean(0).float(), "all": hidden}[kind]
        assert pooled[row].dtype == np.float32
        torch.testing.assert_close(torch.from_numpy(pooled[row]), expected, rtol=1e-5, atol=1e-5)


def hidden_states(model: object, text: list[int]) -> torch.Tensor:
    """After the final norm, of a text alone."""
    layout = plan_layout(model.cache_specs, 8, 128)  # type: ignore[attr-defined]
    caches = allocate_kv_cache(layout, torch.float32, 32, CPU)
    positions = torch.arange(len(text))
    lengths = torch.tensor([len(text)], dtype=torch.int32)
    groups = tuple(place.group for place in layout.places)
    table = torch.arange(16, dtype=torch.int32).view(1, -1)
    attn = AttentionMetadata(
        torch.tensor([0, len(text)], dtype=torch.int32), lengths, lengths * 0, (table,), (positions,), groups
    )
    return model.forward(torch.tensor(text), positions, caches, attn)  # type: ignore[attr-defined]


# ---- drafts ------------------------------------------------------------------------------------------------------------


def with_drafts(driver: Driver, drafts: dict[str, list[int]], counts: dict[str, int], masks: Masks | None = None) -> StepOutput:
    """A step in which some requests verify drafts; the driver's books are kept."""
    step = driver.make_step(counts)
    for name, some in drafts.items():
        missing = -(-(len(driver.known[name]) + len(some)) // 4) - len(driver.blocks[name])
        if missing > 0:
            driver.blocks[name] += (fresh := [driver.free.pop() for _ in range(missing)])
            step.grown.append(driver.rows[name])
            step.new_blocks.append([fresh])
    step.drafts = Drafts.of({driver.rows[name]: some for name, some in drafts.items()}) if drafts else None
    step.masks = masks
    output = driver.runner.execute(step)
    named = driver.take(output)
    for name, tokens in named.sampled.items():
        driver.computed[name] = len(driver.known[name]) - 1
        driver.expected[name] = len(driver.known[name])
        assert tokens
    return output


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_drafts_change_how_many_tokens_come_not_which(data: st.DataObject) -> None:
    """Right, wrong and half right ones, greedy and drawn, beside a request without any."""
    samplings = {"a": spec(), "b": spec(0.8, seed=3), "c": spec(1.0, seed=4, top_k=7), "d": spec()}
    plain = Driver(make_runner())
    for name, sampling in samplings.items():
        plain.join(name, PROMPT, sampling)
    plain.run(40)
    driver = Driver(make_runner())
    for name, sampling in samplings.items():
        driver.join(name, PROMPT, sampling)
    driver.step(dict.fromkeys(samplings, 100))
    most = 1
    for _ in range(8):
        drafts = {}
        for name in data.draw(st.lists(st.sampled_from("abc"), unique=True, min_size=1)):
            right = plain.outputs[name][len(driver.outputs[name]) :][: data.draw(st.integers(1, 4))]
            wrong_from = data.draw(st.integers(0, len(right)))
            drafts[name] = right[:wrong_from] + [(token + 1) % VOCAB for token in right[wrong_from:]]
        output = with_drafts(driver, drafts, dict.fromkeys(samplings, 1))
        assert output.counts is not None
        most = max(most, *output.counts)
        for name, some in drafts.items():
            right = plain.outputs[name][: len(driver.outputs[name])]
            assert driver.outputs[name] == right
            assert len(driver.steps[-1].sampled[name]) <= len(some) + 1
    for name in samplings:
        assert driver.outputs[name] == plain.outputs[name][: len(driver.outputs[name])]


def test_all_drafts_accepted_and_all_rejected() -> None:
    driver = Driver(make_runner())
    driver.join("a", PROMPT, spec())
    expected = greedy_tokens(PROMPT, 20)
    driver.step({"a": 100})
    assert list(with_drafts(driver, {"a": expected[1:5]}, {"a": 1}).token_ids) == expected[1:6]
    assert list(with_drafts(driver, {"a": [96, 95, 94]}, {"a": 1}).token_ids) == expected[6:7]
    assert list(with_drafts(driver, {"a": [expected[7], 96]}, {"a": 1}).token_ids) == expected[7:9]
    driver.run(20)
    assert driver.outputs["a"][:20] == expected


NEIGHBOURS = {
    "plain": (spec(), None),
    "drawn": (spec(0.9, seed=8, top_k=9), None),
    "allowed ids": (spec(allowed_token_ids=(5, 6)), None),
    "bias": (spec(logit_bias={50: 100.0}), None),
    "penalty": (spec(presence_penalty=-50.0), None),
    "logprobs": (spec(logprobs=2), None),
    "mask": (spec(), (9, 40)),
}


@pytest.mark.parametrize("case", NEIGHBOURS)
def test_a_row_beside_one_with_drafts_keeps_what_it_is_sampled_with(case: str) -> None:
    sampling, allowed = NEIGHBOURS[case]

    def streams(drafts: list[int]) -> tuple[Driver, list[list[int]]]:
        """Three steps; in each `drafts` wrong tokens are proposed for a, so that it gets one token either way."""
        driver = Driver(make_runner())
        for name, work in {"b": sampling, "a": spec(), "c": spec()}.items():
            driver.join(name, PROMPT, work)
        driver.step(dict.fromkeys("bac", 100))
        for number in drafts:
            right = greedy_tokens(driver.known["a"], 1)[0]
            masks = Masks(ints([driver.rows["b"]]), bits(*allowed)[None]) if allowed else None
            with_drafts(driver, {"a": [(right + 1) % VOCAB] * number} if number else {}, dict.fromkeys("bac", 1), masks)
        return driver, [driver.outputs[name] for name in "bac"]

    (plain, expected), (drafted, ours) = streams([0, 0, 0]), streams([1, 3, 2])
    assert ours == expected
    for ours_step, plain_step in zip(drafted.steps, plain.steps, strict=True):
        assert ours_step.logprobs.keys() == plain_step.logprobs.keys()
        for name, scores in plain_step.logprobs.items():
            assert ours_step.logprobs[name].token_ids.tolist() == scores.token_ids.tolist()
            assert ours_step.logprobs[name].logprobs.tolist() == scores.logprobs.tolist()
    if allowed:
        assert set(ours[0][1:]) <= set(allowed)


def test_drafts_and_a_mask_of_one_row_are_refused() -> None:
    driver = Driver(make_runner())
    driver.join("a", PROMPT, spec())
    driver.step({"a": 100})
    with pytest.raises(ValueError, match="request a has drafts and a mask"):
        with_drafts(driver, {"a": [3]}, {"a": 1}, Masks(ints([driver.rows["a"]]), bits(3)[None]))


def test_broken_logits_behind_a_wrong_draft_do_not_matter() -> None:
    model = FakeModel()
    driver = Driver(make_runner(model))
    driver.join("a", PROMPT, spec())
    driver.step({"a": 100})
    from fake_model import context_hash

    model.broken_hashes = {context_hash([*driver.known["a"], 96])}
    output = with_drafts(driver, {"a": [96]}, {"a": 1})
    assert not output.errors
    assert driver.outputs["a"] == greedy_tokens(PROMPT, 2)


# ---- masks -------------------------------------------------------------------------------------------------------------


def bits(*allowed: int) -> np.ndarray:
    words = np.zeros(-(-VOCAB // 32), np.uint32)
    for token in allowed:
        words[token // 32] |= np.uint32(1 << token % 32)
    return words.view(np.int32)


def test_a_mask_forbids_all_but_what_it_names() -> None:
    driver = Driver(make_runner())
    for name, sampling in {"a": spec(), "b": spec(1.0, seed=5), "c": spec(), "d": spec(logprobs=2)}.items():
        driver.join(name, PROMPT, sampling)
    step = driver.make_step(dict.fromkeys("abcd", 100))
    rows = [driver.rows[name] for name in "abd"]
    step.masks = Masks(ints(rows), np.stack([bits(96), bits(31, 32, 64), bits(0, 40)]))
    named = driver.take(driver.runner.execute(step))
    assert named.sampled["a"] == [96]
    assert named.sampled["b"][0] in (31, 32, 64)
    assert named.sampled["c"] == greedy_tokens(PROMPT, 1)
    assert named.sampled["d"][0] in (0, 40)
    free = Driver(make_runner())
    free.join("d", PROMPT, spec(logprobs=2))
    raw = free.step({"d": 100}).logprobs["d"]
    assert named.logprobs["d"].token_ids[0, 1:].tolist() == raw.token_ids[0, 1:].tolist(), (
        "raw scores are those before the mask"
    )


def test_a_mask_that_forbids_everything_is_that_requests_error() -> None:
    driver = Driver(make_runner())
    for name in "ab":
        driver.join(name, PROMPT, spec())
    step = driver.make_step({"a": 100, "b": 100})
    step.masks = Masks(ints([driver.rows["a"]]), bits()[None])
    named = driver.take(driver.runner.execute(step))
    assert "forbid every token" in named.errors["a"]
    assert named.sampled["b"] == greedy_tokens(PROMPT, 1)


def test_rows_without_masks_cost_no_logits() -> None:
    model = FakeModel()
    called = []
    model.sample = lambda *args: called.append(FakeModel.sample(model, *args))  # type: ignore[method-assign]
    driver = Driver(make_runner(model))
    driver.join("a", PROMPT, spec())
    driver.run(3)
    assert len(called) == 3


# ---- copies of blocks --------------------------------------------------------------------------------------------------


def test_a_fork_goes_on_in_a_copy_of_the_last_block() -> None:
    """Both write into their own last block from then on."""
    runner = make_runner()
    prompt = PROMPT[:6]
    tokens = list(runner.execute(step_of(0, {0: 6}, [joined(0, prompt, [3, 4])])).token_ids)
    tokens += runner.execute(step_of(1, {0: 1})).token_ids
    fork = NewRequest(5, "fork", [*prompt, tokens[0], 50], 6, 7, [[3, 9]], spec())
    step = step_of(2, {0: 1, 5: 1}, [fork])
    step.copies = BlockCopies(ints([0]), ints([4]), ints([9]))
    outputs = runner.execute(step).tokens_of()
    mine, theirs = tokens + outputs[0], outputs[5]
    for number in range(3, 6):
        new = {0: [[10]], 5: [[11]]} if number == 3 else None
        outputs = runner.execute(step_of(number, {0: 1, 5: 1}, new_blocks=new)).tokens_of()
        mine += outputs[0]
        theirs += outputs[5]
    assert mine == greedy_tokens(prompt, len(mine))
    assert theirs == greedy_tokens([*prompt, tokens[0], 50], len(theirs))


# ---- an encoder --------------------------------------------------------------------------------------------------------


class Whisper(WhisperDecoder):
    """The decoder, with an encoder that takes features as they are."""

    def encode(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return inputs["features"]


def test_an_encoders_work_comes_before_the_decoders(tmp_path: Path) -> None:
    """Two sounds in one step, each heard by its own row."""
    ops.use(device="cpu")
    transformers.set_seed(1)
    reference = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**WHISPER)).float().eval()
    reference.save_pretrained(tmp_path)
    model = Whisper(Keys(reference.config.to_dict()), build())
    filled(model, tmp_path)
    layout = plan_layout(model.cache_specs, 8, 64)
    config = make_config(block_size=8, max_model_len=64, vocab_size=160)
    runner = ModelRunner(config, model, allocate_kv_cache(layout, torch.float32, 64, CPU), layout, CPU, 64)
    sounds = {0: torch.randn(40, 48), 3: torch.randn(7, 48)}
    prompts = {0: [3, 9, 11], 3: [3]}
    fresh = iter(range(64))
    requests = []
    for row, prompt in prompts.items():
        lengths = [len(sounds[row]) if group.spec.kind == "cross" else 24 for group in layout.groups]
        tables = [[next(fresh) for _ in range(-(-length // 8))] for length in lengths]
        requests.append(NewRequest(row, str(row), prompt, len(prompt), 0, tables, spec(), None, len(sounds[row])))
    step = step_of(0, {row: len(prompt) for row, prompt in prompts.items()}, requests)
    step.encode = [EncoderItem(row, {"features": sound.numpy()}) for row, sound in sounds.items()]
    ours = {row: list(prompt) for row, prompt in prompts.items()}
    for number in range(10):
        for row, new in runner.execute(step).tokens_of().items():
            ours[row] += new
        step = step_of(number + 1, dict.fromkeys(prompts, 1))
    for row, sound in sounds.items():
        given = transformers.modeling_outputs.BaseModelOutput(sound.unsqueeze(0))
        expected = list(prompts[row])
        for _ in range(10):
            with torch.no_grad():
                expected.append(
                    int(reference(encoder_outputs=given, decoder_input_ids=torch.tensor([expected])).logits[0, -1].argmax())
                )
        assert ours[row] == expected


def test_a_model_without_an_encoder_says_so() -> None:
    runner = make_runner()
    step = step_of(0, {0: 2}, [joined(0, [1, 2], [0])])
    step.encode = [EncoderItem(0, {"features": np.zeros((2, 4), np.float32)})]
    with pytest.raises(TypeError, match="FakeModel has no encoder"):
        runner.execute(step)
