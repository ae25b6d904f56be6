"""What can be known of options before anything is downloaded or loaded: paths, devices, sizes of the KV cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from octavo import envs
from octavo.cache_groups import BlockDemand, CacheLayout, plan_layout
from octavo.errors import ConfigError
from octavo.sources.hf_config import BUILT_IN, cache_specs, text_config

if TYPE_CHECKING:
    from octavo.config import CacheConfig, ModelConfig, SchedulerConfig

_ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
_CUDA_DEVICES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg")
"""One of them is there where a driver for NVIDIA's devices is: on servers, on Jetsons, under WSL."""


def check_generation_config(folder: str) -> None:
    """Raises: ConfigError: --generation-config names a folder without one."""
    if folder not in ("auto", "octavo") and not (Path(folder) / "generation_config.json").is_file():
        raise ConfigError(f"--generation-config: no file {Path(folder) / 'generation_config.json'}")


def check_folders(download_dir: str | None) -> None:
    """Raises: ConfigError: one of the folders that were named is none and cannot be made."""
    if download_dir is not None:
        _check_folder("--download-dir", Path(download_dir))
    if envs.PREFIX + "CACHE_DIR" in os.environ:
        _check_folder(envs.PREFIX + "CACHE_DIR", Path(envs.CACHE_DIR))


def check_converted_tokenizers() -> None:
    """Raises: ConfigError: there is no folder, and none can be made, where converted tokenizers are kept."""
    _check_folder(envs.PREFIX + "CACHE_DIR", Path(envs.CACHE_DIR) / "tokenizers")


def _check_folder(name: str, folder: Path) -> None:
    existing = next((path for path in (folder, *folder.absolute().parents) if os.path.lexists(path)), Path("/"))
    if not existing.is_dir():
        raise ConfigError(f"{name}: {folder} cannot be a folder, for {existing} is none")
    # What is there already may be all that is needed: then it need not be writable.
    if existing != folder and not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{name}: folder {folder} cannot be made, for {existing} is not writable")


def check_device(device: str) -> None:
    """Raises: ConfigError: --device cuda where no driver is."""
    if device == "cuda" and not any(os.path.exists(path) for path in _CUDA_DEVICES):
        raise ConfigError("--device cuda: this machine has no NVIDIA driver; use --device cpu")


def check_cache_size(model: ModelConfig, cache: CacheConfig, scheduler: SchedulerConfig, on_cpu: bool) -> None:
    """Check a KV cache whose size was given exactly, for an architecture that comes with Octavo.

    Args:
        model: length of a sequence, and what each layer keeps.
        cache: what was given.
        scheduler: how much of a sequence a step computes.
        on_cpu: whether it will lie in this machine's memory.

    Raises:
        ConfigError: it is larger than the memory, or does not hold one sequence of the length asked for.

    """
    if model.architecture not in BUILT_IN or (cache.num_blocks is None and cache.memory_bytes is None):
        return
    specs = cache_specs(text_config(model.hf_config, model.name), model.architecture)
    layout = plan_layout(specs, cache.block_size, model.max_model_len)
    block_bytes = bytes_per_block(cache, layout)
    num_blocks = (cache.memory_bytes or 0) // block_bytes if cache.num_blocks is None else cache.num_blocks
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if on_cpu and num_blocks * block_bytes > most:
        raise ConfigError(
            f"a KV cache of {shown_bytes(num_blocks * block_bytes)} is more than the {shown_bytes(most)} of this machine: lower "
            f"{_exact_flag(cache)}"
        )
    checked_length(model, cache, scheduler, layout, num_blocks)


def bytes_per_block(cache: CacheConfig, layout: CacheLayout) -> int:
    """Bytes of one block."""
    return layout.numbers_per_block * _ITEMSIZE[cache.dtype]


def checked_length(
    model: ModelConfig, cache: CacheConfig, scheduler: SchedulerConfig, layout: CacheLayout, num_blocks: int
) -> int:
    """Longest sequence that a cache of so many blocks holds.

    Raises:
        ConfigError: it is less than the length that was asked for.

    """
    wanted, demand = model.max_model_len, BlockDemand(layout.groups, cache.block_size)
    fits = demand.longest(num_blocks, scheduler.max_chunk, wanted)
    if fits == wanted:
        return wanted
    if model.fit_max_model_len and fits:
        return fits
    blocks, block_bytes = demand.most(wanted, scheduler.max_chunk), bytes_per_block(cache, layout)
    lower = f"lower --max-model-len to {fits} or less, or " if fits else ""
    raise ConfigError(
        f"the KV cache has room for {fits} tokens, one sequence of --max-model-len {wanted} needs "
        f"{shown_bytes(blocks * block_bytes)}: {lower}raise {_exact_flag(cache)} to "
        f"{blocks if cache.num_blocks is not None else blocks * block_bytes} or more"
    )


def shown_bytes(num_bytes: int) -> str:
    """A size for people."""
    return f"{num_bytes / (1 << 30):.2f} GiB" if num_bytes >= 1 << 30 else f"{num_bytes / (1 << 20):.1f} MiB"


def _exact_flag(cache: CacheConfig) -> str:
    return "--num-gpu-blocks-override" if cache.num_blocks is not None else "--kv-cache-memory-bytes"
