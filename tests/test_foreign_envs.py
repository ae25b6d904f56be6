"""Environment variables of other stacks: read in the place of ours, or reported with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from octavo import envs
from octavo.config import EngineArgs
from octavo.config.foreign_envs import READ_AS, WITHOUT_EFFECT, core_environment, report_lines
from octavo.errors import ConfigError
from octavo.frontend.server.options import ServerOptions

NAMED = """
VLLM_IMAGE_FETCH_TIMEOUT VLLM_ENGINE_ITERATION_TIMEOUT_S ASCEND_RT_VISIBLE_DEVICES PYTORCH_NPU_ALLOC_CONF HCCL_OP_EXPANSION_MODE
USE_PFA_HIGH_PRECISION_MODE USE_IFA_HIGH_PRECISION_MODE USE_PREFIX_HIGH_PRECISION_MODE INFER_MODE PTA_TORCHAIR_DECODE_GEAR_ENABLE
PTA_TORCHAIR_DECODE_GEAR_LIST EAGLE_USE_SAFE_AI_LAB_STYLE ENABLE_SPEC_METRIC VLLM_API_KEY VLLM_HOST_IP VLLM_PORT
VLLM_LOGGING_LEVEL VLLM_LOG_STATS_INTERVAL VLLM_CPU_KVCACHE_SPACE VLLM_CPU_OMP_THREADS_BIND VLLM_CPU_NUM_OF_RESERVED_CPU
VLLM_TARGET_DEVICE VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB VLLM_PLUGINS VLLM_SERVER_DEV_MODE VLLM_ALLOW_RUNTIME_LORA_UPDATING
VLLM_ALLOW_LONG_MAX_MODEL_LEN VLLM_BATCH_INVARIANT VLLM_MAX_STOP_STRINGS VLLM_MAX_N_SEQUENCES VLLM_MAX_COMPLETION_PROMPTS
VLLM_REGEX_COMPILATION_TIMEOUT_S VLLM_ENGINE_READY_TIMEOUT_S VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS VLLM_HTTP_TIMEOUT_KEEP_ALIVE
VLLM_ENABLE_V1_MULTIPROCESSING VLLM_WORKER_MULTIPROC_METHOD VLLM_USE_MODELSCOPE VLLM_NO_USAGE_STATS VLLM_DO_NOT_TRACK
VLLM_CACHE_ROOT VLLM_CONFIG_ROOT VLLM_ENABLE_RESPONSES_API_STORE VLLM_ENABLE_COHERE_API VLLM_SKIP_MODEL_NAME_VALIDATION
"""


@pytest.mark.parametrize("name", NAMED.split())
def test_each_is_read_or_reported_in_one_line_without_its_value(name: str) -> None:
    assert (name in READ_AS) is not (name in WITHOUT_EFFECT)
    [line] = report_lines({name: "the-secret"})
    assert line.startswith((f"{name} is read as ", f"{name} has no effect: "))
    assert "the-secret" not in line


def test_unknown_ones_share_a_line() -> None:
    assert list(report_lines({"VLLM_Z": "1", "VLLM_A": "2", "PATH": "x"})) == [
        "unknown here, and without effect: VLLM_A, VLLM_Z"
    ]


@pytest.mark.parametrize(
    ("theirs", "text", "ours", "value"),
    [
        ("VLLM_API_KEY", "k", "API_KEY", "k"),
        ("VLLM_LOGGING_LEVEL", "DEBUG", "LOG_LEVEL", "debug"),
        ("VLLM_LOGGING_LEVEL", "CRITICAL", "LOG_LEVEL", "error"),
        ("VLLM_LOG_STATS_INTERVAL", "3", "LOG_STATS_INTERVAL", 3.0),
        ("VLLM_SERVER_DEV_MODE", "1", "SERVER_DEV_MODE", True),
        ("VLLM_ENGINE_READY_TIMEOUT_S", "90", "START_TIMEOUT", 90.0),
        ("VLLM_ENGINE_ITERATION_TIMEOUT_S", "600", "STEP_TIMEOUT", 600.0),
        ("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "60", "STEP_TIMEOUT", 60.0),
        ("VLLM_TORCH_PROFILER_DIR", "/traces", "PROFILER_DIR", Path("/traces")),
    ],
)
def test_what_stands_for_one_of_ours(theirs: str, text: str, ours: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_" + ours, raising=False)
    monkeypatch.setenv(theirs, text)
    assert envs.get(ours) == value
    assert list(report_lines({theirs: text, "OCTAVO_" + ours: "x"})) == [f"{theirs} is ignored: OCTAVO_{ours} is set"]
    monkeypatch.setenv("OCTAVO_" + ours, "0" if ours in ("SERVER_DEV_MODE", "STEP_TIMEOUT") else "warning")
    if ours in ("API_KEY", "LOG_LEVEL", "SERVER_DEV_MODE"):
        assert envs.get(ours) != value, "ours goes first"


def test_errors_name_the_variable_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_STEP_TIMEOUT", raising=False)
    monkeypatch.setenv("VLLM_ENGINE_ITERATION_TIMEOUT_S", "soon")
    with pytest.raises(ConfigError, match="VLLM_ENGINE_ITERATION_TIMEOUT_S='soon'"):
        envs.get("STEP_TIMEOUT")
    monkeypatch.delenv("OCTAVO_API_KEY", raising=False)
    monkeypatch.setenv("VLLM_API_KEY", "")
    with pytest.raises(ConfigError, match="VLLM_API_KEY must not be empty"):
        ServerOptions().check()


def test_a_key_from_the_environment_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_API_KEY", raising=False)
    monkeypatch.setenv("VLLM_API_KEY", "k")
    ring = ServerOptions().key_ring()
    assert ring.accepts("k")
    assert not ring.accepts("other")


def test_the_core_sees_the_devices_and_the_allocators_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    assert core_environment() == dict(os.environ)
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("PYTORCH_NPU_ALLOC_CONF", "base_addr_aligned_kb:16,expandable_segments:True")
    seen = core_environment()
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["PYTORCH_CUDA_ALLOC_CONF"]) == ("0,1", "expandable_segments:True")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "")
    seen = core_environment()
    assert seen["CUDA_VISIBLE_DEVICES"] == "3"
    assert "PYTORCH_CUDA_ALLOC_CONF" not in seen


def test_the_caches_size(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = EngineArgs(model=str(tiny_model_dir), device="cpu")
    for text, size in (("2", 2 * 1024**3), ("0", None)):
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", text)
        assert args.create_engine_config().cache.memory_bytes == size
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    args.kv_cache_memory_bytes = "5M"
    assert args.create_engine_config().cache.memory_bytes == 5 * 1024**2
    args.kv_cache_memory_bytes = None
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "much")
    with pytest.raises(ConfigError, match="VLLM_CPU_KVCACHE_SPACE='much'"):
        args.create_engine_config()
