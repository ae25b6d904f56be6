"""GGUF metadata as the config.json and generation_config.json that transformers would have written."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

from octavo.checked import LARGEST_LENGTH, Fields, shown
from octavo.errors import ConfigError
from octavo.sources.gguf_file import GGUFFile, SkippedArray
from octavo.sources.gguf_stop_tokens import stop_token_ids
from octavo.sources.hf_config import (
    LARGEST_HEAD,
    LARGEST_VOCABULARY,
    LARGEST_WIDTH,
    MOST_HEADS,
    MOST_LAYERS,
    MOST_POSITIONS,
    check_sizes,
)

_F32 = 0
_MOST_FACTORS = 4096
_NO_TOKEN = (0xFFFFFFFF, -1)
_FACTORS = ("rope.scaling.factor", "rope.scale_linear")
"""Keys of the factor by which positions are stretched, now and in old files."""


@dataclass(frozen=True)
class _Family:
    """What a GGUF architecture is called in transformers, and what GGUF leaves unsaid about it."""

    architecture: str
    model_type: str
    hidden_act: str = "silu"
    attention_bias: bool = False


_FAMILIES = {
    "llama": _Family("LlamaForCausalLM", "llama"),
    "qwen2": _Family("Qwen2ForCausalLM", "qwen2"),
    "qwen3": _Family("Qwen3ForCausalLM", "qwen3"),
    "phi3": _Family("Phi3ForCausalLM", "phi3"),
    "gemma": _Family("GemmaForCausalLM", "gemma", "gelu_pytorch_tanh"),
    "gemma2": _Family("Gemma2ForCausalLM", "gemma2", "gelu_pytorch_tanh"),
}

_COMMON = {
    "hidden_size": ("embedding_length", LARGEST_WIDTH),
    "intermediate_size": ("feed_forward_length", LARGEST_WIDTH * 8),
    "num_hidden_layers": ("block_count", MOST_LAYERS),
    "num_attention_heads": ("attention.head_count", MOST_HEADS),
    "max_position_embeddings": ("context_length", MOST_POSITIONS),
}
"""Sizes every architecture must have: name in config.json -> name in GGUF, largest value."""

_EPSILON = "attention.layer_norm_rms_epsilon"
_LARGEST = 1e18

_SAMPLING = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}


_SIZED = {
    "model.layers.0.mlp.up_proj.weight": "blk.0.ffn_up.weight",
    "model.layers.0.self_attn.q_proj.weight": "blk.0.attn_q.weight",
    "model.layers.0.self_attn.k_proj.weight": "blk.0.attn_k.weight",
}
"""Tensors whose shapes say how large a layer is, by transformers' name; phi3 has the gate within its ffn_up."""


def model_config(file: GGUFFile) -> dict[str, Any]:
    """The file's metadata as an HF config dict.

    Raises:
        ConfigError: an architecture not known here, a key missing, or a file that is one part of several.

    """
    family = _FAMILIES.get(file.architecture)
    if family is None:
        raise ConfigError(f"{file.path}: GGUF architecture {shown(file.architecture)} is not one of {', '.join(_FAMILIES)}")
    fields = Fields(str(file.path), file.metadata)
    if fields.integer("split.count", 0, LARGEST_LENGTH, 0) > 1:
        raise ConfigError(f"{file.path} is one part of a split GGUF; merge the parts with llama-gguf-split --merge")
    config: dict[str, Any] = {name: _size(file, *limits) for name, limits in _COMMON.items()}
    config["rms_norm_eps"] = fields.number(f"{file.architecture}.{_EPSILON}", 0.0, 1.0, above=True)
    heads = config["num_attention_heads"]
    kv_heads = _size(file, "attention.head_count_kv", MOST_HEADS, heads)
    config |= {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "hidden_act": family.hidden_act,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors and family.model_type == "llama",
        "mlp_bias": "blk.0.ffn_down.bias" in file.tensors,
        "num_key_value_heads": kv_heads,
        "head_dim": _head_dim(file, config["hidden_size"], heads),
        "vocab_size": _vocab_size(file, config["hidden_size"]),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "rope_parameters": _rope_parameters(file),
        "dtype": "bfloat16",
        **_token_ids(file),
    }
    _check_blocks(file, config["num_hidden_layers"])
    fused = "blk.0.attn_qkv.weight" in file.tensors
    stored = {} if fused else {name: file.tensors[own].shape for name, own in _SIZED.items() if own in file.tensors}
    check_sizes(str(file.path), config, family.architecture, stored)
    return config | _extras(file, config)


def generation_config(file: GGUFFile) -> dict[str, Any]:
    """Special tokens, and the sampling defaults that newer files carry. Raises: ConfigError: a token id is none."""
    named = {name: _token_id(file, name) for name in ("eos", "eot", "eom")}
    config = _token_ids(file) | {"eos_token_id": stop_token_ids(file, named)}
    for name, key in _SAMPLING.items():
        if (value := file.metadata.get(f"general.sampling.{key}")) is not None:
            config[name] = value
    return config


def _size(file: GGUFFile, key: str, most: int, default: int | None = None) -> int:
    """A size that GGUF may also give layer by layer; the layers must then agree."""
    full = f"{file.architecture}.{key}"
    value = file.metadata.get(full)
    if isinstance(value, list) and value:
        if any(one != value[0] for one in value):
            raise ConfigError(f"{file.path}: {full} differs between layers, which is not supported")
        value = value[0]
    if value is None and default is None:
        raise ConfigError(f"{file.path}: metadata lacks {full}")
    return int(Fields(str(file.path), {full: value}).integer(full, 1, most, default))


def _number(file: GGUFFile, key: str, default: float) -> float:
    """A positive number among the architecture's keys."""
    return float(Fields(str(file.path), file.metadata).number(f"{file.architecture}.{key}", 0.0, _LARGEST, default, above=True))


def _head_dim(file: GGUFFile, hidden: int, heads: int) -> int:
    if file.get("attention.key_length") is None and hidden % heads:
        raise ConfigError(
            f"{file.path}: {file.architecture}.embedding_length must be a multiple of attention.head_count, {heads}, got {hidden}"
        )
    return _size(file, "attention.key_length", LARGEST_HEAD, hidden // heads)


def _vocab_size(file: GGUFFile, hidden: int) -> int:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is not None:
        if len(embedding.shape) != 2 or embedding.shape[1] != hidden or embedding.shape[0] > LARGEST_VOCABULARY:
            raise ConfigError(
                f"{file.path}: token_embd.weight must be of shape [vocabulary up to {LARGEST_VOCABULARY}, "
                f"{file.architecture}.embedding_length = {hidden}], is {list(embedding.shape)}"
            )
        return embedding.shape[0]
    tokens = file.metadata.get("tokenizer.ggml.tokens", [])
    length = tokens.length if isinstance(tokens, SkippedArray) else len(tokens) if isinstance(tokens, list) else 0
    return _size(file, "vocab_size", LARGEST_VOCABULARY, length)


def _check_blocks(file: GGUFFile, layers: int) -> None:
    """The number of layers decides how much is built: it must be that of the tensors, where there are any."""
    numbers = {parts[1] for name in file.tensors if len(parts := name.split(".")) > 2 and parts[0] == "blk"}
    if numbers and numbers != {str(number) for number in range(layers)}:
        raise ConfigError(f"{file.path}: {file.architecture}.block_count is {layers}, its tensors are of {len(numbers)} blocks")


def _token_id(file: GGUFFile, name: str) -> int | None:
    """A special token's id; None where there is none, which some files write as the largest number."""
    key = f"tokenizer.ggml.{name}_token_id"
    if file.metadata.get(key) in _NO_TOKEN:
        return None
    token: int | None = Fields(str(file.path), file.metadata).integer(key, 0, LARGEST_VOCABULARY, None)
    return token


def _token_ids(file: GGUFFile) -> dict[str, Any]:
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    found = {name: _token_id(file, key) for name, key in names.items()}
    return {name: token for name, token in found.items() if token is not None}


def _rope_parameters(file: GGUFFile) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_theta": _number(file, "rope.freq_base", 10000.0), "rope_type": "default"}
    kind, factor = _rope_scaling(file)
    if "rope_factors_long.weight" in file.tensors:
        rope |= {
            "rope_type": "longrope",
            "long_factor": _floats(file, "rope_factors_long.weight"),
            "short_factor": _floats(file, "rope_factors_short.weight"),
            "attention_factor": _number(file, "rope.scaling.attn_factor", 1.0),
        }
    elif "rope_freqs.weight" in file.tensors and kind in ("none", "linear"):
        # Llama 3's scaling, already worked out to one divisor a frequency: longrope with one set of factors.
        factors = [value * factor for value in _floats(file, "rope_freqs.weight")]
        rope |= {"rope_type": "longrope", "long_factor": factors, "short_factor": factors, "attention_factor": 1.0}
    elif kind in ("linear", "yarn"):
        rope |= {"rope_type": kind, "factor": factor}
        betas = {name: f"rope.scaling.yarn_{name}" for name in ("beta_fast", "beta_slow")}
        rope |= {name: _number(file, key, 1.0) for name, key in betas.items() if file.get(key) is not None}
    elif kind != "none":
        raise ConfigError(f"{file.path}: rope scaling {shown(kind)} is not supported, which must be none, linear or yarn here")
    original = file.get("rope.scaling.original_context_length")
    if original:
        rope["original_max_position_embeddings"] = _size(file, "rope.scaling.original_context_length", MOST_POSITIONS)
    return rope


def _rope_scaling(file: GGUFFile) -> tuple[Any, float]:
    """Type and factor. A factor alone is a linear one, as the key of old files says by its name; none at all, or 0, is 1."""
    key = next((key for key in _FACTORS if file.get(key)), None)
    factor = 1.0 if key is None else _number(file, key, 1.0)
    kind = file.get("rope.scaling.type", "none" if factor == 1.0 else "linear")
    return kind, 1.0 if kind == "none" else factor


def _extras(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    """Keys of single architectures."""
    extras: dict[str, Any] = {}
    rotated = _size(file, "rope.dimension_count", LARGEST_HEAD, config["head_dim"])
    if rotated > config["head_dim"] or rotated % 2:
        key = f"{file.architecture}.rope.dimension_count"
        raise ConfigError(f"{file.path}: {key} must be even and at most the head's size, {config['head_dim']}, got {rotated}")
    if rotated != config["head_dim"]:
        extras["partial_rotary_factor"] = rotated / config["head_dim"]
    if file.get("attention.sliding_window"):
        extras["sliding_window"] = _size(file, "attention.sliding_window", LARGEST_LENGTH)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if file.get(name):
            extras[name] = _number(file, name, 1.0)
    if config["model_type"] == "gemma2":
        # Not in GGUF. The 27B model (46 layers) scales by hidden_size / heads, its siblings by the head dimension.
        by_width = config["num_hidden_layers"] == 46
        extras["query_pre_attn_scalar"] = (
            config["hidden_size"] // config["num_attention_heads"] if by_width else config["head_dim"]
        )
    return extras


def _floats(file: GGUFFile, name: str) -> list[float]:
    tensor = file.tensors.get(name)
    if tensor is None or tensor.type != _F32 or len(tensor.shape) != 1 or tensor.shape[0] > _MOST_FACTORS:
        raise ConfigError(f"{file.path}: {name} must be there, float32, of one dimension of up to {_MOST_FACTORS}")
    values = array("f")
    with file.path.open("rb") as data:
        data.seek(tensor.offset)
        values.fromfile(data, tensor.shape[0])
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ConfigError(f"{file.path}: {name} must hold finite numbers above 0")
    return values.tolist()
