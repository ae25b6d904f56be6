"""Environment variables of vLLM's and of Ascend's stack: read in the place of ours, or without effect for a reason.

Those that stand for one of Octavo's own are in `envs.TABLE`, beside it. A variable that gets an effect loses its line here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping

from octavo import envs
from octavo.errors import ConfigError

logger = logging.getLogger(__name__)

DEVICES = ("ASCEND_RT_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
ALLOCATOR = ("PYTORCH_NPU_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
CACHE_SIZE = "VLLM_CPU_KVCACHE_SPACE"

READ_AS: dict[str, str] = {
    **{other: envs.PREFIX + name for name, variable in envs.TABLE.items() for other in variable.others},
    DEVICES[0]: DEVICES[1],
    ALLOCATOR[0]: ALLOCATOR[1],
    CACHE_SIZE: "--kv-cache-memory-bytes",
}
"""Variables that have the effect of another, or of a flag; what stands here goes first."""

_NO_MEDIA = "this version has no multimodal models (prompts are text)"
_FLOAT32 = "attention's softmax and sums are always in float32"
_NO_GRAPHS = "this version has no graph mode that compiles (INFER_MODE and its gears)"
_NO_DRAFTS = "this version has no speculative decoding"
_ONE_DEVICE = "this version has no parallelism over devices (it runs on one)"
_OWN_PROCESS = "the core is always a process of its own"

WITHOUT_EFFECT: dict[str, str] = {
    "VLLM_PORT": "it is no port for clients in vLLM either; use --port",
    "VLLM_HOST_IP": "there is one host; use --host for the address to listen on",
    "VLLM_CPU_OMP_THREADS_BIND": "threads are not bound; use --num-threads, and taskset for the processors",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "use --num-threads",
    "VLLM_TARGET_DEVICE": "use --device",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "use --keep-alive-timeout",
    "VLLM_BATCH_INVARIANT": "use OCTAVO_KERNELS and OCTAVO_CPU_ISA to fix the kernels",
    "VLLM_ATTENTION_BACKEND": "kernels are chosen by the processor (OCTAVO_KERNELS, OCTAVO_CPU_ISA)",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "a longer context needs --hf-overrides",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "this version has no LoRA adapters",
    "VLLM_REGEX_COMPILATION_TIMEOUT_S": "patterns are compiled within limits of size",
    **dict.fromkeys(
        ("VLLM_MAX_STOP_STRINGS", "VLLM_MAX_N_SEQUENCES", "VLLM_MAX_COMPLETION_PROMPTS"), "the limits of requests are fixed"
    ),
    **dict.fromkeys(("VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT"), "use OCTAVO_CACHE_DIR"),
    "VLLM_USE_MODELSCOPE": "this version has no other hub than Hugging Face's",
    **dict.fromkeys(("VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK"), "no usage statistics are sent in any case"),
    **dict.fromkeys(("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_WORKER_MULTIPROC_METHOD"), _OWN_PROCESS),
    "VLLM_USE_V1": "there is one engine",
    "VLLM_ENABLE_RESPONSES_API_STORE": "this version has no /v1/responses",
    "VLLM_ENABLE_COHERE_API": "this version has no Cohere API",
    "VLLM_SKIP_MODEL_NAME_VALIDATION": "name the model as clients do with --served-model-name",
    **dict.fromkeys(
        (
            "VLLM_IMAGE_FETCH_TIMEOUT", "VLLM_VIDEO_FETCH_TIMEOUT", "VLLM_AUDIO_FETCH_TIMEOUT", "VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB",
            "VLLM_MEDIA_LOADING_THREAD_COUNT", "VLLM_MEDIA_CACHE", "VLLM_MEDIA_CACHE_MAX_SIZE_MB", "VLLM_MEDIA_CACHE_TTL_HOURS",
            "VLLM_MEDIA_FETCH_MAX_RETRIES", "VLLM_MEDIA_URL_ALLOW_REDIRECTS", "VLLM_MAX_IMAGE_PIXELS",
            "VLLM_MAX_AUDIO_CLIP_FILESIZE_MB", "VLLM_MAX_AUDIO_DECODE_DURATION_S", "VLLM_VIDEO_LOADER_BACKEND",
        ),
        _NO_MEDIA,
    ),
    "HCCL_OP_EXPANSION_MODE": _ONE_DEVICE,
    **dict.fromkeys(("USE_PFA_HIGH_PRECISION_MODE", "USE_IFA_HIGH_PRECISION_MODE", "USE_PREFIX_HIGH_PRECISION_MODE"), _FLOAT32),
    **dict.fromkeys(("INFER_MODE", "PTA_TORCHAIR_DECODE_GEAR_ENABLE", "PTA_TORCHAIR_DECODE_GEAR_LIST"), _NO_GRAPHS),
    **dict.fromkeys(("EAGLE_USE_SAFE_AI_LAB_STYLE", "ENABLE_SPEC_METRIC"), _NO_DRAFTS),
}  # fmt: skip


def report() -> None:
    """Write one line to the log for each of these variables that is set; never their values, which may be keys."""
    for line in report_lines(os.environ):
        logger.info("%s", line)


def report_lines(environment: Mapping[str, str]) -> Iterator[str]:
    """What becomes of the variables of others that are set."""
    for name, own in READ_AS.items():
        if name in environment:
            yield f"{name} is ignored: {own} is set" if own in environment else f"{name} is read as {own}"
    for name, why in WITHOUT_EFFECT.items():
        if name in environment:
            yield f"{name} has no effect: {why}"
    known = READ_AS.keys() | WITHOUT_EFFECT.keys()
    unknown = sorted(name for name in environment if name.startswith("VLLM_") and name not in known)
    if unknown:
        yield f"unknown here, and without effect: {', '.join(unknown)}"


def core_environment() -> dict[str, str]:
    """The environment of the process that runs the model: what others call the devices and the allocator's settings is translated."""
    environment = dict(os.environ)
    devices = environment.get(DEVICES[0])
    if devices is not None:
        environment.setdefault(DEVICES[1], devices)
    # The rest of an NPU's settings would be an error to CUDA's allocator.
    settings = [part for part in environment.get(ALLOCATOR[0], "").split(",") if part.startswith("expandable_segments:")]
    if settings and "PYTORCH_ALLOC_CONF" not in environment:
        environment.setdefault(ALLOCATOR[1], ",".join(settings))
    return environment


def cache_bytes() -> int | None:
    """Size of the KV cache by VLLM_CPU_KVCACHE_SPACE (GiB); None where it is unset or 0.

    Raises:
        ConfigError: it is no whole number.
    """
    text = os.environ.get(CACHE_SIZE, "0").strip()
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"environment variable {CACHE_SIZE}={text!r}: allowed are whole numbers of GiB")
    return int(text) * 1024**3 or None
