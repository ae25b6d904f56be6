"""GGUF metadata as the config.json and generation_config.json that transformers would have written."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import Any

from octavo.errors import ConfigError
from octavo.gguf_file import GGUFFile, SkippedArray
from octavo.gguf_stop_tokens import stop_token_ids

_F32 = 0


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
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}
"""Keys every architecture must have: name in config.json -> name in GGUF."""

_SAMPLING = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}


def model_config(file: GGUFFile) -> dict[str, Any]:
    """The file's metadata as an HF config dict.

    Raises:
        ConfigError: an architecture not known here, a key missing, or a file that is one part of several.

    """
    family = _FAMILIES.get(file.architecture)
    if family is None:
        raise ConfigError(f"{file.path}: GGUF architecture {file.architecture!r} is not one of {', '.join(_FAMILIES)}")
    if file.metadata.get("split.count", 0) > 1:
        raise ConfigError(f"{file.path} is one part of a split GGUF; merge the parts with llama-gguf-split --merge")
    config = {name: _scalar(file, key) for name, key in _COMMON.items()}
    heads = config["num_attention_heads"]
    config |= {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "hidden_act": family.hidden_act,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors and family.model_type == "llama",
        "mlp_bias": "blk.0.ffn_down.bias" in file.tensors,
        "num_key_value_heads": _scalar(file, "attention.head_count_kv", heads),
        "head_dim": file.get("attention.key_length", config["hidden_size"] // heads),
        "vocab_size": _vocab_size(file),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "rope_parameters": _rope_parameters(file),
        "dtype": "bfloat16",
        **_token_ids(file),
    }
    return config | _extras(file, config)


def generation_config(file: GGUFFile) -> dict[str, Any]:
    """Special tokens, and the sampling defaults that newer files carry."""
    config = _token_ids(file) | {"eos_token_id": stop_token_ids(file)}
    for name, key in _SAMPLING.items():
        if (value := file.metadata.get(f"general.sampling.{key}")) is not None:
            config[name] = value
    return config


def _scalar(file: GGUFFile, key: str, default: Any = None) -> Any:
    """A number that GGUF may also give layer by layer; the layers must then agree."""
    value = file.get(key, default)
    if isinstance(value, list):
        if len(set(value)) != 1:
            raise ConfigError(f"{file.path}: {file.architecture}.{key} differs between layers, which is not supported")
        value = value[0]
    if value is None:
        raise ConfigError(f"{file.path}: metadata lacks {file.architecture}.{key}")
    return value


def _vocab_size(file: GGUFFile) -> int:
    embedding = file.tensors.get("token_embd.weight")
    if embedding is not None:
        return embedding.shape[0]
    tokens = file.metadata.get("tokenizer.ggml.tokens", [])
    return int(file.get("vocab_size") or (tokens.length if isinstance(tokens, SkippedArray) else len(tokens)))


def _token_ids(file: GGUFFile) -> dict[str, Any]:
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    found = {name: file.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in names.items()}
    return {name: token for name, token in found.items() if token is not None}


def _rope_parameters(file: GGUFFile) -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_theta": file.get("rope.freq_base", 10000.0), "rope_type": "default"}
    kind = file.get("rope.scaling.type", "none")
    if "rope_factors_long.weight" in file.tensors:
        rope |= {
            "rope_type": "longrope",
            "long_factor": _floats(file, "rope_factors_long.weight"),
            "short_factor": _floats(file, "rope_factors_short.weight"),
            "attention_factor": file.get("rope.scaling.attn_factor", 1.0),
        }
    elif "rope_freqs.weight" in file.tensors:
        # Llama 3's scaling, already worked out to one divisor a frequency: longrope with one set of factors.
        factors = _floats(file, "rope_freqs.weight")
        rope |= {"rope_type": "longrope", "long_factor": factors, "short_factor": factors, "attention_factor": 1.0}
    elif kind in ("linear", "yarn"):
        rope |= {"rope_type": kind, "factor": file.get("rope.scaling.factor", 1.0)}
    elif kind != "none":
        raise ConfigError(f"{file.path}: rope scaling {kind!r} is not supported")
    if original := file.get("rope.scaling.original_context_length"):
        rope["original_max_position_embeddings"] = original
    return rope


def _extras(file: GGUFFile, config: dict[str, Any]) -> dict[str, Any]:
    """Keys of single architectures."""
    extras: dict[str, Any] = {}
    rotated = file.get("rope.dimension_count", config["head_dim"])
    if rotated != config["head_dim"]:
        extras["partial_rotary_factor"] = rotated / config["head_dim"]
    if window := file.get("attention.sliding_window"):
        extras["sliding_window"] = window
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if cap := file.get(name):
            extras[name] = cap
    if config["model_type"] == "gemma2":
        # Not in GGUF. The 27B model (46 layers) scales by hidden_size / heads, its siblings by the head dimension.
        by_width = config["num_hidden_layers"] == 46
        extras["query_pre_attn_scalar"] = (
            config["hidden_size"] // config["num_attention_heads"] if by_width else config["head_dim"]
        )
    return extras


def _floats(file: GGUFFile, name: str) -> list[float]:
    tensor = file.tensors[name]
    if tensor.type != _F32:
        raise ConfigError(f"{file.path}: {name} must be float32")
    values = array("f")
    with file.path.open("rb") as data:
        data.seek(tensor.offset)
        values.fromfile(data, math.prod(tensor.shape))
    return values.tolist()
