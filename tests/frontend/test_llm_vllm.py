"""What scripts written for vLLM do with LLM, over the real engine with a tiny model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, FlatLogprobs, RequestOutput, SamplingParams
from octavo.errors import EngineDeadError, ValidationError
from octavo.metrics import Counter, Histogram, Metric

OPTIONS: dict[str, Any] = {
    "dtype": "float32",
    "num_gpu_blocks_override": 256,
    "block_size": 16,
    "num_threads": 1,
    "max_num_seqs": 4,
    "max_model_len": 1024,
    "disable_log_stats": False,
}


@pytest.fixture(scope="module")
def llm(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTAVO_PROFILER_DIR", str(tmp_path_factory.mktemp("traces")))
        with LLM(str(tiny_model_dir), **OPTIONS) as llm:
            yield llm


def greedy(max_tokens: int = 8, **fields: Any) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True, **fields)


def series(llm: LLM, name: str) -> Metric:
    return next(metric for metric in llm.get_metrics() if metric.name == "octavo:" + name)


def ids_of(outputs: list[RequestOutput]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


def test_tokens_of_a_step_are_counted_as_vllm_counts_them(tiny_model_dir: Path) -> None:
    """With steps scheduled ahead, and prompts in chunks: every prompt and generated token once."""
    for changes in ({}, {"async_scheduling": False, "max_num_batched_tokens": 8}):
        with LLM(str(tiny_model_dir), **{**OPTIONS, **changes}) as llm:
            llm.generate([[5 + i] * 9 for i in range(10)], greedy(10), use_tqdm=False)
            steps = series(llm, "iteration_tokens_total")
            assert isinstance(steps, Histogram)
            assert steps.sum == 10 * (9 + 10)
            assert 10 <= steps.count <= 100


def test_metrics_are_plain_objects(llm: LLM, tiny_model_dir: Path) -> None:
    llm.generate("Hello", greedy(3), use_tqdm=False)
    generated = series(llm, "generation_tokens")
    assert isinstance(generated, Counter)
    assert generated.value >= 3
    assert generated.labels["model_name"] == str(tiny_model_dir)
    assert series(llm, "cache_config_info").labels["num_gpu_blocks"] == "256"


def test_list_lengths_raise_the_validation_error(llm: LLM) -> None:
    wrong: list[dict[str, Any]] = [
        {"priority": []},
        {"priority": [1]},
        {"sampling_params": [greedy()]},
        {"sampling_params": []},
    ]
    for options in wrong:
        with pytest.raises(ValidationError, match="entries for 2 prompts") as caught:
            llm.generate(["a", "b"], use_tqdm=False, **options)
        assert caught.value.parameter == next(iter(options))


def test_the_tokenizer_is_transformers(llm: LLM) -> None:
    tokenizer = llm.get_tokenizer()
    assert tokenizer is not None
    assert tokenizer is llm.get_tokenizer()
    assert len(tokenizer.get_vocab()) == 576
    ids = tokenizer("Hello world").input_ids
    assert ids == llm.generate("Hello world", greedy(1), use_tqdm=False)[0].prompt_token_ids
    conversation = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert llm.chat(conversation, greedy(1), use_tqdm=False)[0].prompt == text
    assert tokenizer.convert_ids_to_tokens([2]) == ["<|im_end|>"]


def test_listed_logprobs_come_beside_the_sampled_token(llm: LLM) -> None:
    listed = [7, 8, 9]
    for logprobs in (None, 0, 1, 3, 20):
        [output] = llm.generate("Hello", greedy(4, logprobs=logprobs, logprob_token_ids=listed), use_tqdm=False)
        completion = output.outputs[0]
        assert completion.logprobs is not None
        for token, position in zip(completion.token_ids, completion.logprobs, strict=True):
            assert set(position) == {token, *listed}
            assert position[token].rank == 1
    [output] = llm.generate("Hello", greedy(4, logprob_token_ids=listed, flat_logprobs=True), use_tqdm=False)
    assert isinstance(output.outputs[0].logprobs, FlatLogprobs)
    assert output.outputs[0].logprobs == completion.logprobs


def test_how_prompts_are_tokenized(llm: LLM) -> None:
    text = "one two three four five six"
    [plain] = llm.generate(text, greedy(1), use_tqdm=False)
    ids = plain.prompt_token_ids
    for how, expected in (
        ({"truncate_prompt_tokens": 3}, ids[-3:]),
        ({"truncate_prompt_tokens": 3, "truncation_side": "right"}, ids[:3]),
        ({"truncation": True, "max_length": 4}, ids[-4:]),
        ({"truncate_prompt_tokens": -1}, ids),
        ({"add_special_tokens": False}, ids),
    ):
        [output] = llm.generate(text, greedy(1), use_tqdm=False, tokenization_kwargs=how)
        assert (output.prompt_token_ids, output.prompt) == (expected, text)
    [output] = llm.generate({"prompt_token_ids": [5] * 2000}, greedy(9), tokenization_kwargs={"truncate_prompt_tokens": -1})
    assert len(output.prompt_token_ids) == 1024 - 9
    [output] = llm.chat([{"role": "user", "content": text}], greedy(1), tokenization_kwargs={"truncate_prompt_tokens": 2})
    assert len(output.prompt_token_ids) == 2
    for wrong in (
        {"padding": True},
        {"truncate_prompt_tokens": 0},
        {"truncation_side": "up"},
        {"truncate_prompt_tokens": 5000},
    ):
        with pytest.raises(ValidationError, match="tokenization_kwargs"):
            llm.generate(text, greedy(1), use_tqdm=False, tokenization_kwargs=wrong)
    with pytest.raises(ValidationError, match="A prompt must be"):
        llm.generate([5.5], greedy(1), use_tqdm=False, tokenization_kwargs={"add_special_tokens": False})  # type: ignore[list-item]


def test_enqueued_prompts_wait_for_completion(llm: LLM) -> None:
    expected = llm.generate(["Hello", "yes"], greedy(5), use_tqdm=False)
    conversation = [{"role": "user", "content": "Hi"}]
    expected += llm.chat(conversation, greedy(5), use_tqdm=False, chat_template="{{ x }}", chat_template_kwargs={"x": "a b"})
    ids = llm.enqueue(["Hello", "yes"], greedy(5))
    ids += llm.enqueue_chat(conversation, greedy(5), chat_template="{{ x }}", chat_template_kwargs={"x": "a b"})
    outputs = llm.wait_for_completion(use_tqdm=False)
    assert [output.request_id for output in outputs] == ids
    assert ids_of(outputs) == ids_of(expected)
    assert llm.wait_for_completion(use_tqdm=False) == []
    llm.enqueue(["Hello", [10**6]], greedy(5))
    with pytest.raises(ValidationError, match="vocabulary"):
        llm.wait_for_completion(use_tqdm=False)
    assert llm._engine.num_unfinished == 0
    for refused in (llm.generate, llm.enqueue):
        with pytest.raises(ValidationError, match="lora_request is not supported"):
            refused("a", lora_request=object())  # type: ignore[operator]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_sleep_and_wake_up(llm: LLM, level: int) -> None:
    before = llm.generate(["Hello", "yes"], greedy(), use_tqdm=False)
    llm.sleep(level)
    assert llm.is_sleeping() is (level > 0)
    llm.enqueue(["Hello", "yes"], greedy())
    assert llm._engine.num_unfinished in (0, 1, 2)
    if level:
        llm.wake_up(["weights"])
        llm.wake_up(["kv_cache", "scheduling"])
    else:
        llm.wake_up(["scheduling"])
    assert not llm.is_sleeping()
    assert ids_of(llm.wait_for_completion(use_tqdm=False)) == ids_of(before)


def test_memory_of_the_cache_goes_alone(llm: LLM) -> None:
    before = llm.generate("Hello", greedy(), use_tqdm=False)
    llm.release_kv_cache_memory()
    sleeping = {m.labels["sleep_state"]: m.value for m in llm.get_metrics() if m.name == "octavo:engine_sleep_state"}  # type: ignore[attr-defined]
    assert sleeping == {"awake": 0, "weights_offloaded": 1, "discard_all": 0}
    llm.wake_up()
    assert ids_of(llm.generate("Hello", greedy(), use_tqdm=False)) == ids_of(before)
    with pytest.raises(ValidationError, match="tags may hold"):
        llm.wake_up(["everything"])
    with pytest.raises(ValidationError, match="level must be"):
        llm.sleep(7)


def test_workers_are_called_by_name(llm: LLM, tmp_path: Path) -> None:
    [facts] = llm.collective_rpc("describe")
    assert (facts["num_blocks"], facts["max_model_len"]) == (256, 1024)
    with pytest.raises(ValidationError, match="no method 'exec'"):
        llm.collective_rpc("exec", args=("1",))
    with pytest.raises(ValidationError, match=r"collective_rpc takes no code: .* nothing is pickled"):
        llm.collective_rpc(lambda worker: worker)
    with pytest.raises(ValidationError, match="nothing is pickled"):
        llm.apply_model(print)  # type: ignore[attr-defined]
    llm.start_profile("mine")
    llm.generate("Hello", greedy(2), use_tqdm=False)
    [path] = llm.stop_profile()
    assert json.loads(Path(path).read_text())["traceEvents"]
    with pytest.raises(ValidationError, match="no profile is running"):
        llm.stop_profile()
    assert llm.get_world_size() == 1
    assert llm.reset_prefix_cache(reset_running_requests=True) is True
    llm.reset_mm_cache()


def test_the_configuration_says_the_length_that_is_served(tiny_model_dir: Path) -> None:
    options = {**OPTIONS, "max_model_len": None, "num_gpu_blocks_override": 8, "disable_log_stats": True}
    with LLM(str(tiny_model_dir), **options) as llm:
        assert llm.config.model.max_model_len == 8 * 16
        with pytest.raises(ValidationError, match="disable_log_stats=False"):
            llm.get_metrics()
    for closed in (llm.wake_up, lambda: llm.enqueue("a"), llm.wait_for_completion):
        with pytest.raises(EngineDeadError):
            closed()
