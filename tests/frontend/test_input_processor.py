"""Prompt and parameters in, checked ids and a SamplingSpec out."""

from __future__ import annotations

from typing import Any

import pytest
from fake_core import make_config

from octavo.errors import ValidationError
from octavo.frontend.fan_out import FanOut, child_seed
from octavo.frontend.input_processor import InputProcessor, ProcessedInput, default_sampling_fields, default_sampling_params
from octavo.frontend.tokenizer import Tokenizer
from octavo.params import SamplingParams


def processor(tokenizer: Tokenizer | None, max_model_len: int = 128, **config: Any) -> InputProcessor:
    return InputProcessor(make_config(**config), tokenizer, max_model_len)


async def process(
    tokenizer: Tokenizer | None, prompt: Any = "Hello", config: dict[str, Any] | None = None, **params: Any
) -> ProcessedInput:
    return await processor(tokenizer, **(config or {})).process(prompt, SamplingParams(**params))


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Hello", "Hello"),
        ({"prompt": "Hello"}, "Hello"),
        ({"prompt_token_ids": [5, 6], "prompt": "given"}, "given"),
        ([5, 6], None),
        ((5, 6), None),
    ],
)
async def test_forms_of_prompts(tokenizer: Tokenizer, prompt: Any, text: str | None) -> None:
    result = await process(tokenizer, prompt)
    assert result.prompt == text
    given = isinstance(prompt, dict) and "prompt_token_ids" in prompt
    assert result.prompt_token_ids == ([5, 6] if given or not isinstance(prompt, str | dict) else tokenizer.encode("Hello"))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "must not be empty"),
        ([], "must not be empty"),
        ([5, 576], "576, which is out of the vocabulary"),
        ([5, -1], "-1, which is out"),
        ([5, True], "integers"),
        ([5, "x"], "integers"),
        ([5, 1.0], "integers"),
        ({"prompt_token_ids": "abc"}, "wrong type"),
        ({"prompt": 5}, "wrong type"),
        ({"prompt": "a", "multi_modal": 1}, "Unknown keys"),
        ({}, "must have"),
        ({"prompt": "a", "cache_salt": ""}, "cache_salt"),
        (5, "must be a string"),
        (None, "must be a string"),
        ([5] * 128, "maximum context length is 128 tokens, but the prompt has 128"),
        ("the " * 2000, "maximum context length"),
        ("x" * 1_000_000, "maximum context length is 128 tokens, so prompt may have at most 1664 characters; it has 1000000"),
    ],
)
async def test_bad_prompts_say_what_is_wrong(tokenizer: Tokenizer, prompt: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        await process(tokenizer, prompt)


async def test_a_text_that_cannot_fit_is_not_tokenized(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tokenizer, "encode", lambda *_: pytest.fail("tokenized"))
    with pytest.raises(ValidationError, match="at most 1664 characters") as caught:
        await process(tokenizer, "x" * 1_000_000)
    assert caught.value.code == "context_length_exceeded"


async def test_long_texts_are_tokenized_like_short_ones(tokenizer: Tokenizer) -> None:
    text = "The quick brown fox " * 500
    assert await processor(tokenizer, 8000).texts.encode(text) == tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("params", "parameter"),
    [
        ({"stop_token_ids": [576]}, "stop_token_ids"),
        ({"allowed_token_ids": [1000]}, "allowed_token_ids"),
        ({"logit_bias": {576: 1.0}}, "logit_bias"),
        ({"logprob_token_ids": [576]}, "logprob_token_ids"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"bad_words": ["w"] * 129}, "bad_words"),
        ({"bad_words": [f"word{i}" for i in range(100)]}, "bad_words"),
    ],
)
async def test_bad_parameters_name_themselves(tokenizer: Tokenizer, params: dict[str, Any], parameter: str) -> None:
    with pytest.raises(ValidationError) as caught:
        await process(tokenizer, **params)
    assert caught.value.parameter == parameter


async def test_too_many_logprobs_has_the_known_text(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValidationError, match=r"Requested sample logprobs of 25, which is greater than max allowed: 20"):
        await process(tokenizer, logprobs=25)


async def test_defaults_are_resolved(tokenizer: Tokenizer) -> None:
    result = await process(tokenizer, [5] * 100, max_tokens=None)
    assert result.spec.max_tokens == 28
    assert (await process(tokenizer, [5] * 100, max_tokens=50, min_tokens=40)).spec.max_tokens == 28
    assert (await process(tokenizer, [5] * 100, max_tokens=50, min_tokens=40)).spec.min_tokens == 28
    assert result.spec.eos_token_ids == (2,)
    assert (await process(tokenizer, ignore_eos=True)).spec.eos_token_ids == ()
    seeds = {(await process(tokenizer)).spec.seed for _ in range(5)}
    assert len(seeds) == 5
    assert (await process(tokenizer, seed=-5)).spec.seed == 2**64 - 5
    assert (await process(tokenizer, logprobs=-1, config={"max_logprobs": -1})).spec.logprobs == 576
    assert (await process(tokenizer, logprob_token_ids=[7, 8])).spec.logprobs == 2


async def test_prompt_logprobs_read_no_cached_prefix(tokenizer: Tokenizer) -> None:
    assert (await process(tokenizer, prompt_logprobs=1)).spec.skip_reading_prefix_cache
    assert not (await process(tokenizer)).spec.skip_reading_prefix_cache
    assert not (await process(tokenizer, prompt_logprobs=1, skip_reading_prefix_cache=False)).spec.skip_reading_prefix_cache


async def test_eos_of_model_and_tokenizer(tokenizer: Tokenizer) -> None:
    assert (await process(tokenizer, config={"eos_token_ids": (0, 2, 9999)})).spec.eos_token_ids == (0, 2)
    assert (await process(tokenizer, config={"eos_token_ids": ()})).spec.eos_token_ids == (2,)


async def test_bad_words_with_and_without_a_space(tokenizer: Tokenizer) -> None:
    result = await process(tokenizer, bad_words=["Paris", " Paris", "the"])
    expected = [tuple(tokenizer.encode(text)) for text in ("Paris", " Paris", "the", " the")]
    assert list(result.spec.bad_token_sequences) == expected


async def test_without_tokenizer_only_ids(tokenizer: Tokenizer) -> None:
    assert (await process(None, [5, 6])).prompt_token_ids == [5, 6]
    for prompt, params in (("Hello", {}), ([5], {"stop": "x"}), ([5], {"bad_words": ["x"]})):
        with pytest.raises(ValidationError, match="skip_tokenizer_init"):
            await process(None, prompt, **params)


def test_generation_config_gives_the_defaults() -> None:
    config = make_config(
        generation_config={"temperature": 0.6, "top_k": 40, "max_new_tokens": 99, "do_sample": True, "top_p": None}
    )
    assert default_sampling_fields(config) == {"temperature": 0.6, "top_k": 40, "max_tokens": 99}
    assert default_sampling_params(config) == SamplingParams(temperature=0.6, top_k=40, max_tokens=99)
    assert default_sampling_params(make_config()) == SamplingParams()


async def test_sequences_of_one_request(tokenizer: Tokenizer) -> None:
    processed = await process(tokenizer, n=3, seed=1, prompt_logprobs=2)
    fan_out = FanOut("id", processed, 1.5, 7)
    made = [fan_out.next()[1] for _ in range(3)]
    assert fan_out.exhausted
    assert [r.request_id for r in made] == ["id-0", "id-1", "id-2"]
    assert [r.sampling.seed for r in made] == [1, child_seed(1, 1), child_seed(1, 2)]
    assert [r.sampling.prompt_logprobs for r in made] == [2, None, None]
    assert [r.sampling.skip_reading_prefix_cache for r in made] == [True, False, False]
    assert all(r.priority == 7 and r.arrival_time == 1.5 for r in made)
    assert not {child_seed(1, i) for i in range(1, 50)} & {child_seed(2, i) for i in range(1, 50)}
