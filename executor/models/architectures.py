"""The architectures that come with Octavo: config.json -> DecoderOptions, a few lines each."""

from __future__ import annotations

from dataclasses import replace

from octavo.executor.models.options import DecoderOptions, HfConfig, base_options, given
from octavo.sources.hf_config import DEFAULT_HEAD_DIM
from octavo.sources.layer_windows import layer_windows, rotated_layers
from octavo.sources.rope import rope_parameters, unified


def llama(config: HfConfig) -> DecoderOptions:
    """Llama 1 to 3, and what is built like it."""
    bias = bool(config.get("attention_bias"))
    return base_options(config, qkv_bias=bias, out_bias=bias, mlp_bias=bool(config.get("mlp_bias")))


def mistral(config: HfConfig) -> DecoderOptions:
    """Mistral: a sliding window in every layer, if any."""
    return base_options(config, windows=layer_windows(config, "MistralForCausalLM"))


def qwen2(config: HfConfig) -> DecoderOptions:
    """Qwen 2 and 2.5: biases on q, k and v."""
    return base_options(config, qkv_bias=True, windows=layer_windows(config, "Qwen2ForCausalLM"))


def qwen3(config: HfConfig) -> DecoderOptions:
    """Qwen 3: a norm on each head of q and k."""
    bias = bool(config.get("attention_bias"))
    size = DEFAULT_HEAD_DIM["Qwen3ForCausalLM"]
    local = layer_windows(config, "Qwen3ForCausalLM")
    return base_options(config, head_dim=size, qkv_bias=bias, out_bias=bias, qk_norm="head", windows=local)


def phi3(config: HfConfig) -> DecoderOptions:
    """Phi 3 and 4: fused weights, partial rotation, longrope."""
    return base_options(config, fused_weights=True, windows=layer_windows(config, "Phi3ForCausalLM"))


def gemma(config: HfConfig) -> DecoderOptions:
    """Gemma 1: scaled embeddings, norms around one."""
    activation = config.get("hidden_activation") or config.get("hidden_act") or "gelu"
    bias = bool(config.get("attention_bias"))
    return base_options(
        config,
        tied=True,
        head_dim=DEFAULT_HEAD_DIM["GemmaForCausalLM"],
        qkv_bias=bias,
        out_bias=bias,
        # The first releases say "gelu" and were trained with its tanh approximation.
        activation="gelu_pytorch_tanh" if activation == "gelu" else activation,
        norm_offset=1.0,
        embedding_scale=config["hidden_size"] ** 0.5,
    )


def gemma2(config: HfConfig) -> DecoderOptions:
    """Gemma 2: norms around each block, soft caps, a sliding window in every other layer."""
    bias = bool(config.get("attention_bias"))
    return base_options(
        config,
        tied=True,
        head_dim=DEFAULT_HEAD_DIM["Gemma2ForCausalLM"],
        qkv_bias=bias,
        out_bias=bias,
        activation=config.get("hidden_activation") or "gelu_pytorch_tanh",
        norm_places="sandwich",
        norm_offset=1.0,
        embedding_scale=config["hidden_size"] ** 0.5,
        attention_scale=given(config, "query_pre_attn_scalar", 256) ** -0.5,
        attention_soft_cap=config.get("attn_logit_softcapping", 50.0) or 0.0,
        logit_soft_cap=config.get("final_logit_softcapping", 30.0) or 0.0,
        windows=layer_windows(config, "Gemma2ForCausalLM"),
    )


def gemma3(config: HfConfig) -> DecoderOptions:
    """Gemma 3 (text): five local layers to each global one, a RoPE for either, QK norm."""
    defaults: HfConfig = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    config = defaults | config
    local = layer_windows(config, "Gemma3ForCausalLM")
    ropes = {True: _gemma3_local_rope(config), False: rope_parameters(config, "full_attention", 1_000_000.0)}
    options = gemma2(config)
    return replace(options, qk_norm="head", windows=local, ropes=tuple(ropes[w > 0] for w in local))


def _gemma3_local_rope(config: HfConfig) -> dict[str, object]:
    rope = unified(config).get("rope_parameters") or {}
    if any(isinstance(value, dict) for value in rope.values()):
        return rope_parameters(config, "sliding_attention")
    # What is not said by layer type, as transformers did before version 5, is the global layers' alone.
    base = config.get("rope_local_base_freq") or 10000.0
    return rope_parameters(config | {"rope_scaling": None, "rope_parameters": None, "rope_theta": base})


def granite(config: HfConfig) -> DecoderOptions:
    """Granite 3: Llama with multipliers."""
    return replace(
        llama(config),
        embedding_scale=given(config, "embedding_multiplier", 1.0),
        attention_scale=given(config, "attention_multiplier", 1.0),
        residual_scale=given(config, "residual_multiplier", 1.0),
        logit_scale=1.0 / given(config, "logits_scaling", 1.0),
    )


def smollm3(config: HfConfig) -> DecoderOptions:
    """SmolLM 3: no position embedding in every fourth layer."""
    rope = rope_parameters(config)
    bias = bool(config.get("attention_bias"))
    return base_options(
        config,
        tied=True,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bool(config.get("mlp_bias")),
        ropes=tuple(rope if uses else None for uses in rotated_layers(config)),
        windows=layer_windows(config, "SmolLM3ForCausalLM"),
    )


def olmo2(config: HfConfig) -> DecoderOptions:
    """OLMo 2: norms after the blocks only, QK norm over all heads at once."""
    bias = bool(config.get("attention_bias"))
    return base_options(config, qkv_bias=bias, out_bias=bias, norm_places="post", qk_norm="all")
