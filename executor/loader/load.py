"""A model with its weights: built, filled part by part from a checkpoint, packed for the kernels."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from octavo.config import EngineConfig
from octavo.errors import ConfigError
from octavo.executor.layers.module import Module
from octavo.executor.layers.weights import Slot
from octavo.executor.loader.checkpoint import Checkpoint
from octavo.executor.loader.dummy import DummyCheckpoint
from octavo.executor.loader.keeping import keep_blocks, keep_values
from octavo.executor.loader.safetensors import SafetensorsCheckpoint
from octavo.executor.models.contract import Model
from octavo.executor.models.registry import build_model
from octavo.sources.safetensors_file import SUPERFLUOUS

logger = logging.getLogger(__name__)

_NAMED = 8
"""Tensor names that an error lists at most."""


def load_model(config: EngineConfig, device: torch.device, progress: Callable[[float], None]) -> Model:
    """Build the model and read its weights.

    One part (embedding, layer, head) is read and packed after the other, so that memory peaks at the model and one layer.
    `octavo.kernels.ops.use` must have been called.

    Args:
        config: the engine's; model, device and seed matter.
        device: where the weights go.
        progress: called with the share that is done, 0 to 1.

    Raises:
        ConfigError: an unknown architecture, a checkpoint that does not fit it (names the tensors) or is damaged, or a model
            for which there is no memory.

    """
    started = time.perf_counter()
    progress(0.0)
    model = _build(config, device)
    parts = list(model.parts())
    slots = [slot for part in parts for slot in part.slots()]
    checkpoint = _open(config, slots)
    _check(config.model.path, slots, checkpoint, tuple(model.unused_weights))
    sizes = {slot.name: slot.target.numel() for slot in slots}
    total, done = sum(sizes.values()), 0
    del slots  # they hold the unpacked memory, which each part is to give back as soon as it is packed
    with _single_threaded_torch(), ThreadPoolExecutor(config.device.num_threads, thread_name_prefix="load") as pool:
        while parts:
            part = parts.pop(0)
            done += sum(sizes[name] for name in _fill(pool, checkpoint, part))
            part.finish()
            progress(done / total)
    logger.info("loaded %s: %.1f million parameters in %.2f s", config.model.name, total / 1e6, time.perf_counter() - started)
    return model


def _build(config: EngineConfig, device: torch.device) -> Model:
    try:
        return build_model(config, device)
    except (MemoryError, RuntimeError) as error:  # torch's own allocator raises the latter
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"there is no memory for a model of the sizes that the configuration of {config.model.name} names, with positions "
            f"for --max-model-len {config.model.max_model_len} tokens: {reason}"
        ) from error


@contextmanager
def _single_threaded_torch() -> Iterator[None]:
    """Torch works in one thread inside each of ours; teams of its own beside them would fight over the processors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _fill(pool: ThreadPoolExecutor, checkpoint: Checkpoint, part: Module) -> list[str]:
    """Read one part's tensors; returns their names."""
    slots = list(part.slots())
    for _ in pool.map(lambda slot: checkpoint.read(slot.name, slot.target), slots):
        pass
    return [slot.name for slot in slots]


def _open(config: EngineConfig, slots: list[Slot]) -> Checkpoint:
    model, dtype = config.model, getattr(torch, config.model.dtype)
    if model.format == "dummy":
        return DummyCheckpoint({slot.name: tuple(slot.target.shape) for slot in slots}, model.seed)
    if model.format == "gguf":
        from octavo.executor.loader.gguf import GGUFCheckpoint

        heads, kv_heads = model.hf_config["num_attention_heads"], model.hf_config["num_key_value_heads"]
        checkpoint = GGUFCheckpoint(Path(model.path), heads, kv_heads)
        if config.device.type == "cpu":
            keep_values(checkpoint, slots, dtype)
            # Products of integers round what they multiply to 8 bits, which a small model's answers can feel: only if asked for.
            integer = model.quantization == "gguf"
            # 16-bit products are too fast to wait for blocks: there these are widened, and bfloat16 packed in 12 bits again.
            if integer or dtype == torch.float32:
                keep_blocks(checkpoint, slots, integer)
        return checkpoint
    if model.quantization == "gguf":
        raise ConfigError(
            f"--quantization gguf takes a GGUF file, and {model.name} is {model.format}; --quantization int8 takes any"
        )
    safetensors = SafetensorsCheckpoint(Path(model.path))
    safetensors.find_parts(slots)
    if config.device.type == "cpu":
        keep_values(safetensors, slots, dtype)
    return safetensors


def _check(path: str, slots: list[Slot], checkpoint: Checkpoint, unused: tuple[str, ...]) -> None:
    """Compare names and shapes before anything is read; names that begin like one of `unused` may be there, too."""
    found = checkpoint.shapes
    wanted = {slot.name: tuple(slot.target.shape) for slot in slots}
    missing = [name for name in wanted if name not in found]
    unexpected = [
        name for name in found if name not in wanted and not name.endswith(SUPERFLUOUS) and not name.startswith(unused)
    ]
    misshaped = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name]) != shape
    ]
    problems = {
        "is missing": missing,
        "does not belong there": unexpected,
        "has another shape than config.json says": misshaped,
    }
    texts = [f"{_listed(names)} {what}" for what, names in problems.items() if names]
    if texts:
        raise ConfigError(f"the weights in {path} do not fit the model: {'; '.join(texts)}")


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
