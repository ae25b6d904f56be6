"""GGUF files: quantized tensors, read as the blocks they are, or widened to the model's type meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np
import torch

from octavo.errors import ConfigError
from octavo.executor.loader.gguf_blocks import dequantize
from octavo.kernels.blocks import BLOCK_KINDS, BlockKind
from octavo.sources.ggml_types import BLOCKS
from octavo.sources.gguf_file import GGUFFile, GGUFTensor, read_gguf

_SLAB = 1 << 18
"""Values dequantized at once: their float32 form stays in a core's cache until it is converted."""

_HALVES = {"BF16": torch.bfloat16, "F16": torch.float16}
"""Types of 16 bits."""

_PERMUTED = {"llama"}
"""Architectures whose q and k rows are stored in the order that llama.cpp's interleaved rotation wants."""

_NORM_PLUS_ONE = {"gemma", "gemma2"}
"""Architectures whose norm weights are stored with 1 added."""

_IN_CONFIG = {"rope_freqs", "rope_factors_long", "rope_factors_short"}
"""Tensors that `octavo.sources.gguf_config` has put into the configuration."""

_OUTSIDE = ("model.embed_tokens", "model.norm", "lm_head")
_SPLIT = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
_FUSED = ("self_attn.qkv_proj", "mlp.gate_up_proj")
_LAYER = (
    "self_attn.o_proj", "self_attn.q_norm", "self_attn.k_norm", "mlp.down_proj", "input_layernorm", "post_attention_layernorm",
    "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip


class GGUFCheckpoint:
    """A single GGUF file under transformers' tensor names."""

    def __init__(self, path: Path, num_heads: int, num_kv_heads: int) -> None:
        """Raises: ConfigError: not a GGUF file, damaged, or of an architecture that the gguf package does not know."""
        self._file = read_gguf(path)
        self._heads = {"q_proj": num_heads, "k_proj": num_kv_heads}
        self._tensors = dict(_named(self._file))
        for tensor in self._tensors.values():
            self._block(tensor)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor there is."""
        return {name: tensor.shape for name, tensor in self._tensors.items()}

    def stored_dtype(self, name: str) -> torch.dtype | None:
        """See `keep_values`."""
        tensor = self._tensors.get(name)
        return None if tensor is None else _HALVES.get(self._block(tensor)[0].name)

    def block_kind(self, name: str) -> BlockKind | None:
        """A tensor's kind of blocks, None where the kernels do not know it."""
        tensor = self._tensors.get(name)
        return None if tensor is None else BLOCK_KINDS.get(self._block(tensor)[0].name)

    def read(self, name: str, target: torch.Tensor) -> None:
        """See `Checkpoint.read`; a uint8 target takes the tensor's blocks."""
        tensor = self._tensors[name]
        projection = name.split(".")[-2]
        read = self._read_blocks if target.dtype == torch.uint8 else self._dequantize
        if self._file.architecture in _PERMUTED and projection in self._heads:
            rows = torch.empty_like(target)
            read(tensor, rows.view(-1))
            target.copy_(_rows_in_halves(rows, self._heads[projection]))
            return
        read(tensor, target.view(-1))
        if self._file.architecture in _NORM_PLUS_ONE and name.endswith("norm.weight"):
            target -= 1

    def _read_blocks(self, tensor: GGUFTensor, target: torch.Tensor) -> None:
        """Write a tensor's bytes into flat `target`."""
        with self._file.path.open("rb") as file:
            file.seek(tensor.offset)
            if file.readinto(target.numpy().data) != target.numel():
                raise ConfigError(f"{self._file.path} ended while it was read; is it still being written?")

    def _dequantize(self, tensor: GGUFTensor, target: torch.Tensor) -> None:
        """Write a tensor's values in order into flat `target`."""
        kind, values, size = self._block(tensor)
        count = math.prod(tensor.shape) // values
        step = _SLAB // values
        slab = torch.empty(min(step, count), values)
        for first in range(0, count, step):
            last = min(first + step, count)
            # Read, not mapped: mapped pages would count against the process beside the model.
            packed = np.fromfile(self._file.path, np.uint8, (last - first) * size, offset=tensor.offset + first * size)
            dequantize(torch.from_numpy(packed).view(-1, size), kind, slab[: last - first])
            target[first * values : last * values] = slab[: last - first].view(-1)

    def _block(self, tensor: GGUFTensor) -> tuple[gguf.GGMLQuantizationType, int, int]:
        """Type of a tensor, values a block, bytes a block."""
        name, values, size = BLOCKS[tensor.type]
        try:
            return gguf.GGMLQuantizationType[name], values, size
        except KeyError:
            raise ConfigError(
                f"{self._file.path}: {tensor.name} is of type {name}, which the installed gguf package does not know"
            ) from None


def _rows_in_halves(stored: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head from pairs (2i, 2i + 1) back to halves (i, i + D / 2)."""
    pairs = stored.view(heads, stored.shape[0] // heads // 2, 2, *stored.shape[1:])
    return pairs.transpose(1, 2).reshape(stored.shape)


def _named(file: GGUFFile) -> Iterator[tuple[str, GGUFTensor]]:
    """The file's tensors under transformers' names; what has none there keeps its own."""
    names = _names(file)
    for tensor in file.tensors.values():
        stem, _, suffix = tensor.name.rpartition(".")
        if stem not in _IN_CONFIG:
            yield f"{names.get(stem, stem)}.{suffix}", tensor


def _names(file: GGUFFile) -> dict[str, str]:
    """GGUF's name of each tensor (without ".weight") -> transformers'."""
    architecture = next((a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == file.architecture), None)
    if architecture is None:
        raise ConfigError(f"{file.path}: the gguf package does not know architecture {file.architecture!r}")
    layers = int(file.get("block_count"))
    mapped = gguf.get_tensor_name_map(architecture, layers)
    wanted = list(_OUTSIDE)
    inside = _FUSED if "blk.0.attn_qkv.weight" in file.tensors else _SPLIT
    wanted += [f"model.layers.{i}.{name}" for i in range(layers) for name in (*inside, *_LAYER)]
    return {stored: name for name in wanted if (stored := mapped.get_name(name))}
