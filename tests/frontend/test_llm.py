"""LLM over the real engine with a tiny model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octavo import LLM, EngineArgs, SamplingParams
from octavo.errors import EngineDeadError, ValidationError
from octavo.frontend.async_llm import AsyncLLM
from octavo.params import RequestOutputKind

OPTIONS: dict[str, Any] = {
    "dtype": "float32",
    "num_gpu_blocks_override": 256,
    "num_threads": 1,
    "max_num_seqs": 4,
    "max_model_len": 1024,
}
PROMPTS = ["The capital of France is", "Hello", "one two three", "Octavo is a format", "yes", "no"]


@pytest.fixture(scope="module")
def llm(tiny_model_dir: Path) -> Iterator[LLM]:
    with LLM(str(tiny_model_dir), **OPTIONS) as llm:
        yield llm


def greedy(max_tokens: int = 8, **fields: Any) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True, **fields)


def wait_for(condition: Any, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_outputs_come_in_input_order(llm: LLM) -> None:
    outputs = llm.generate(PROMPTS, greedy(), use_tqdm=False)
    assert [o.prompt for o in outputs] == PROMPTS
    alone = [llm.generate(prompt, greedy(), use_tqdm=False)[0] for prompt in PROMPTS]
    assert [o.outputs[0].token_ids for o in outputs] == [o.outputs[0].token_ids for o in alone]
    tokenizer = llm.get_tokenizer()
    assert tokenizer is not None
    for output in outputs:
        prompt, ids = output.prompt_token_ids, output.outputs[0].token_ids
        assert len(ids) == 8
        assert tokenizer.decode(prompt, True) + output.outputs[0].text == tokenizer.decode(prompt + ids, True)


def test_forms_of_prompts_and_one_params_each(llm: LLM) -> None:
    tokenizer = llm.get_tokenizer()
    assert tokenizer is not None
    ids = tokenizer.encode("Hello")
    forms = ["Hello", ids, {"prompt": "Hello"}, {"prompt_token_ids": ids}]
    outputs = llm.generate(forms, [greedy(n) for n in (1, 2, 3, 4)], use_tqdm=False, priority=[3, 2, 1, 0])
    assert [len(o.outputs[0].token_ids) for o in outputs] == [1, 2, 3, 4]
    assert all(o.prompt_token_ids == ids for o in outputs)
    assert len(llm.generate(ids, greedy(), use_tqdm=False)) == 1
    assert llm.generate([], greedy(), use_tqdm=False) == []
    for wrong in ({"sampling_params": [greedy()]}, {"sampling_params": greedy(), "priority": [1, 2, 3]}):
        with pytest.raises(ValueError, match="entries for 2 prompts"):
            llm.generate(["a", "b"], use_tqdm=False, **wrong)


def test_params_are_not_changed_and_defaults_are_the_models(llm: LLM) -> None:
    params = greedy(2)
    llm.generate("Hello", params, use_tqdm=False)
    assert params.output_kind is RequestOutputKind.CUMULATIVE
    assert llm.get_default_sampling_params() == SamplingParams()
    assert len(llm.generate("Hello", use_tqdm=False)[0].outputs[0].token_ids) <= 16


def test_one_bad_prompt_does_not_lose_the_batch(llm: LLM) -> None:
    prompts = ["Hello", [10**6], "yes", "", [5] * 2000]
    outputs = llm.generate(prompts, greedy(3), use_tqdm=False, on_error="return")
    assert [type(o.error).__name__ for o in outputs] == [
        "NoneType",
        "ValidationError",
        "NoneType",
        "ValidationError",
        "ValidationError",
    ]
    assert [len(o.outputs) for o in outputs] == [1, 0, 1, 0, 0]
    assert all(o.finished for o in outputs)
    with pytest.raises(ValidationError, match="vocabulary"):
        llm.generate(prompts, greedy(3), use_tqdm=False)
    with pytest.raises(ValidationError, match="on_error"):
        llm.generate("Hello", on_error="ignore")  # type: ignore[arg-type]
    assert llm._engine.num_unfinished == 0


def test_chat_renders_the_models_template(llm: LLM) -> None:
    conversation = [{"role": "user", "content": "Hello"}]
    [output] = llm.chat(conversation, greedy(), use_tqdm=False)
    assert output.prompt == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    [plain] = llm.generate(output.prompt, greedy(), use_tqdm=False)
    assert output.outputs[0].token_ids == plain.outputs[0].token_ids
    two = llm.chat([conversation, conversation], greedy(), use_tqdm=False)
    assert [o.outputs[0].text for o in two] == [output.outputs[0].text] * 2
    [other] = llm.chat(
        conversation,
        greedy(),
        use_tqdm=False,
        chat_template="{{ x }}: {{ messages[0].content }}",
        chat_template_kwargs={"x": "a"},
    )
    assert other.prompt == "a: Hello"
    [failed] = llm.chat([{"role": "user", "content": 5}], greedy(), use_tqdm=False, on_error="return")
    assert "messages[0].content" in str(failed.error)


def test_seeded_samples_repeat_whatever_else_runs(llm: LLM) -> None:
    params = SamplingParams(n=3, seed=7, max_tokens=6, ignore_eos=True)
    [alone] = llm.generate("Hello", params, use_tqdm=False)
    among = llm.generate([*PROMPTS, "Hello"], params, use_tqdm=False)[-1]
    assert [o.token_ids for o in alone.outputs] == [o.token_ids for o in among.outputs]
    assert len({tuple(o.token_ids) for o in alone.outputs}) == 3


def test_progress_bar_counts_prompts(llm: LLM) -> None:
    seen: dict[str, Any] = {"updates": 0}

    class Bar:
        def __init__(self, total: int, **_: Any) -> None:
            seen["total"] = total

        def set_postfix_str(self, text: str, refresh: bool) -> None:
            seen["text"] = text

        def update(self, number: int) -> None:
            seen["updates"] += number

        def close(self) -> None:
            seen["closed"] = True

    llm.generate(PROMPTS, greedy(2), use_tqdm=Bar)
    assert (seen["total"], seen["updates"], seen["closed"]) == (6, 6, True)
    assert "tok/s" in seen["text"]


def test_prefix_cache_is_used_and_forgotten(llm: LLM) -> None:
    prompt = [5 + i % 500 for i in range(200)]
    llm.generate(prompt, greedy(1), use_tqdm=False)
    assert llm.generate(prompt, greedy(1), use_tqdm=False)[0].num_cached_tokens > 100
    assert llm.reset_prefix_cache()
    assert llm.generate(prompt, greedy(1), use_tqdm=False)[0].num_cached_tokens == 0


def test_ctrl_c_aborts_the_batch_and_leaves_the_engine_usable(llm: LLM) -> None:
    def interrupt() -> None:
        wait_for(lambda: llm._engine.num_unfinished > 0)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["Hello"] * 50, greedy(900), use_tqdm=False)
    assert llm._engine.num_unfinished == 0
    assert len(llm.generate("Hello", greedy(), use_tqdm=False)[0].outputs[0].token_ids) == 8


async def test_works_where_an_event_loop_is_running(llm: LLM) -> None:
    assert len(llm.generate("Hello", greedy(), use_tqdm=False)) == 1


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="no_such_argument"):
        LLM("x", no_such_argument=1)


def test_a_dead_core_raises_or_returns_and_close_cleans_up(tiny_model_dir: Path) -> None:
    llm = LLM.from_engine_args(EngineArgs(model=str(tiny_model_dir), max_core_restarts=0, **OPTIONS))
    pid = llm._engine.ready.pid

    def kill() -> None:
        wait_for(lambda: llm._engine.num_unfinished > 0)
        os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    outputs = llm.generate(["Hello"] * 8, greedy(1000), use_tqdm=False, on_error="return")
    assert any(isinstance(o.error, EngineDeadError) for o in outputs)
    with pytest.raises(EngineDeadError):
        llm.generate("Hello", use_tqdm=False)
    llm.close()
    llm.close()
    with pytest.raises(EngineDeadError, match="closed"):
        llm.generate("Hello", use_tqdm=False)


VARIED: list[SamplingParams] = [
    greedy(300),
    SamplingParams(temperature=0.9, seed=1, max_tokens=250, ignore_eos=True, n=3),
    SamplingParams(
        temperature=1.0, seed=2, max_tokens=250, repetition_penalty=1.2, frequency_penalty=0.5, presence_penalty=0.3
    ),
    greedy(200, logprobs=3, prompt_logprobs=2, repetition_penalty=1.1),
    SamplingParams(temperature=1.1, seed=3, max_tokens=300, min_tokens=120, top_p=0.9, top_k=50, min_p=0.02),
    SamplingParams(temperature=0.7, seed=4, max_tokens=250, bad_words=["the", "and a"], logit_bias={30: 5.0}, stop=["qzq"]),
    greedy(250, allowed_token_ids=list(range(3, 200)), logprob_token_ids=[5, 6, 7], logprobs=3),
    SamplingParams(temperature=1.0, max_tokens=200, seed=5, ignore_eos=True, logprobs=0, flat_logprobs=True),
]


def test_a_batch_outlives_its_cores(llm: LLM) -> None:
    prompts = [PROMPTS[i % len(PROMPTS)] * (1 + i) for i in range(len(VARIED))]

    def results() -> list[Any]:
        outputs = llm.generate(prompts, VARIED, use_tqdm=False)
        return [
            [(o.token_ids, o.text, o.finish_reason, o.stop_reason, list(o.logprobs or [])) for o in one.outputs]
            for one in outputs
        ] + [one.prompt_logprobs for one in outputs]

    expected = results()
    pids = [llm._engine.ready.pid]

    def kill() -> None:
        for _ in range(3):
            wait_for(lambda: not llm._engine.restarting and llm._engine.num_unfinished > 1)
            time.sleep(0.1)
            os.kill(llm._engine.ready.pid, signal.SIGKILL)
            wait_for(lambda: llm._engine.ready.pid != pids[-1], 60.0)
            pids.append(llm._engine.ready.pid)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert results() == expected
    while killer.is_alive():
        assert results() == expected
    assert len(set(pids)) == 4
    os.kill(pids[-1], signal.SIGKILL)
    wait_for(lambda: llm._engine.ready.pid != pids[-1], 60.0)
    assert results() == expected, "a core that dies idle is replaced, too"


SCRIPT = """
import os, sys
from octavo import LLM, SamplingParams
llm = LLM(sys.argv[1], dtype="float32", num_gpu_blocks_override=64, num_threads=1, max_model_len=256)
print("pid", llm._engine.ready.pid)
print("tokens", len(llm.generate("Hello", SamplingParams(max_tokens=4, ignore_eos=True))[0].outputs[0].token_ids))
assert "torch" not in sys.modules and "transformers" not in sys.modules
pid = llm._engine.ready.pid
if sys.argv[2] == "del":
    del llm
    assert not os.path.exists(f"/proc/{pid}"), "the core outlives its LLM"
"""


@pytest.mark.parametrize("ending", ["del", "exit"])
def test_a_plain_script_needs_no_main_guard_and_leaves_nothing(tiny_model_dir: Path, tmp_path: Path, ending: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tiny_model_dir), ending], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tokens 4" in done.stdout
    pid = int(done.stdout.split("pid ")[1].split()[0])
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3])


FORKING = """
import os, sys, time
from octavo import LLM, SamplingParams
from octavo.errors import EngineDeadError
llm = LLM(sys.argv[1], dtype="float32", num_gpu_blocks_override=64, num_threads=1, max_model_len=256)

def tokens():
    return llm.generate("Hello", SamplingParams(max_tokens=4, temperature=0, ignore_eos=True), use_tqdm=False)[0].outputs[0].token_ids

def forked(what):
    child = os.fork()
    if child:
        return child
    try:
        what()
    except EngineDeadError as error:
        print("child:", error, flush=True)
    sys.exit(7)

def use():
    tokens()

def leave():
    with llm:
        pass

def drop():
    global llm
    del llm

before = tokens()
sleeper = os.fork()
if not sleeper:
    time.sleep(600)
    os._exit(0)
for what in (lambda: None, use, leave, drop):
    child = forked(what)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert tokens() == before
core = llm._engine._client._process
llm.close()
assert core.exit_code == 0, "the core ends by itself though a child of its parent lives on"
os.kill(sleeper, 9)
print("done", flush=True)
"""


def test_a_forked_child_that_ends_leaves_its_parents_engine_alone(tiny_model_dir: Path, tmp_path: Path) -> None:
    script = tmp_path / "forking.py"
    script.write_text(FORKING)
    done = subprocess.run(
        [sys.executable, str(script), str(tiny_model_dir)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")
    assert "is a forked child; make an engine of its own here" in done.stdout


async def test_async_engine_streams_and_frees_what_is_left(tiny_model_dir: Path) -> None:
    async with AsyncLLM.from_engine_args(EngineArgs(model=str(tiny_model_dir), disable_log_stats=True, **OPTIONS)) as engine:
        params = greedy(500, output_kind=RequestOutputKind.DELTA)
        generator = engine.generate("Hello", params, "r")
        first = await anext(generator)
        assert len(first.outputs[0].token_ids) >= 1
        await generator.aclose()
        stats = await engine.core_stats()
        for _ in range(100):
            if stats["num_running"] == 0:
                break
            stats = await engine.core_stats()
        assert stats["num_running"] == stats["num_waiting"] == 0
        assert await engine.reset_prefix_cache()
        await engine.check_health()
    with pytest.raises(EngineDeadError):
        await engine.check_health()
