"""What sets one decoder architecture apart from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from octavo.errors import ConfigError
from octavo.executor.layers.attention import QKNorm
from octavo.sources.rope import Rope, rope_parameters

HfConfig = dict[str, Any]
"""config.json."""

NormPlaces = Literal["pre", "sandwich", "post"]


@dataclass(frozen=True)
class DecoderOptions:
    """Sizes of a decoder, and every point where the supported architectures differ. Defaults are Llama's."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    tie_embeddings: bool
    attention_scale: float
    """Factor of the attention scores."""
    ropes: tuple[Rope | None, ...]
    """RoPE parameters of each layer; None = no position embedding there."""
    windows: tuple[int, ...]
    """Sliding window of each layer; 0 = none."""
    activation: str = "silu"
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    fused_weights: bool = False
    """The checkpoint has qkv_proj and gate_up_proj instead of their parts."""
    norm_places: NormPlaces = "pre"
    """Norms before each block (Llama), before and after (Gemma 2), or after only (OLMo 2)."""
    norm_offset: float = 0.0
    """Norms multiply by this plus their weight."""
    qk_norm: QKNorm = "none"
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    """Factor of what a block adds to the residual stream."""
    logit_scale: float = 1.0
    attention_soft_cap: float = 0.0
    logit_soft_cap: float = 0.0


def base_options(config: HfConfig, *, tied: bool = False, head_dim: int | None = None, **changes: Any) -> DecoderOptions:
    """Options from the keys that all architectures share.

    Args:
        config: config.json.
        tied, head_dim: the architecture's defaults for tie_word_embeddings and head_dim.
        **changes: further fields of DecoderOptions.

    Raises:
        ConfigError: a key is missing.

    """
    try:
        heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
        size = config.get("head_dim") or head_dim or config["hidden_size"] // heads
        common = {
            "vocab_size": config["vocab_size"],
            "hidden_size": config["hidden_size"],
            "intermediate_size": config["intermediate_size"],
            "num_layers": layers,
            "num_heads": heads,
            "num_kv_heads": config.get("num_key_value_heads") or heads,
            "head_dim": size,
            "norm_eps": given(config, "rms_norm_eps", 1e-6),
            "tie_embeddings": given(config, "tie_word_embeddings", tied),
            "attention_scale": size**-0.5,
            "activation": config.get("hidden_act") or "silu",
            "ropes": (rope_parameters(config),) * layers,
            "windows": (0,) * layers,
        }
    except KeyError as error:
        raise ConfigError(f"config.json lacks {error}") from None
    return DecoderOptions(**(common | changes))


def given(config: HfConfig, key: str, default: Any) -> Any:
    """Like dict.get, with null counting as absent."""
    value = config.get(key)
    return default if value is None else value
