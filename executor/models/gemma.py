"""Gemma 1 (https://arxiv.org/abs/2403.08295), 2 (https://arxiv.org/abs/2408.00118) and 3 (https://arxiv.org/abs/2503.19786)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.models.causal_lm import CausalLM, given
from octavo.sources.hf_config import DEFAULT_HEAD_DIM
from octavo.sources.rope import Rope, rope_parameters, unified


class Gemma(CausalLM):
    """Gemma 1: scaled embeddings, norms whose weights lie around zero, a gated GELU."""

    tied = True
    norm_offset = 1.0
    default_head_dim = DEFAULT_HEAD_DIM["GemmaForCausalLM"]

    @property
    def embedding_scale(self) -> float:
        """Factor of embeddings."""
        return float(self.hidden_size**0.5)

    @property
    def activation(self) -> str:
        """The first releases say "gelu" and were trained with its tanh approximation."""
        name = self.config.get("hidden_activation") or self.config.get("hidden_act") or "gelu"
        return "gelu_pytorch_tanh" if name == "gelu" else name

    @property
    def bias(self) -> bool:
        """Whether attention's products have biases."""
        return bool(self.config.get("attention_bias"))

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer."""
        return DecoderLayer(
            self.attention(f"{name}.self_attn", self.rope, qkv_bias=self.bias, out_bias=self.bias),
            self.gated_mlp(f"{name}.mlp"),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            before_mlp=self.rms_norm(f"{name}.post_attention_layernorm"),
        )


class Gemma2(Gemma):
    """Gemma 2: norms around each block, soft caps, a sliding window in every other layer."""

    architecture = "Gemma2ForCausalLM"
    default_head_dim = DEFAULT_HEAD_DIM["Gemma2ForCausalLM"]
    soft_caps: tuple[float, float] = (50.0, 30.0)
    """Of scores and of logits, where config.json does not say."""

    @property
    def activation(self) -> str:
        """Name of the feed-forward block's activation."""
        return self.config.get("hidden_activation") or "gelu_pytorch_tanh"

    @property
    def attention_scale(self) -> float:
        """Factor of attention's scores."""
        return float(given(self.config, "query_pre_attn_scalar", 256) ** -0.5)

    @property
    def logit_soft_cap(self) -> float:
        """Bound of logits; 0 = none."""
        return self.config.get("final_logit_softcapping", self.soft_caps[1]) or 0.0

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer."""
        return DecoderLayer(
            self.attention(f"{name}.self_attn", **self.kind(index), qkv_bias=self.bias, out_bias=self.bias),
            self.gated_mlp(f"{name}.mlp"),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            after_attention=self.rms_norm(f"{name}.post_attention_layernorm"),
            before_mlp=self.rms_norm(f"{name}.pre_feedforward_layernorm"),
            after_mlp=self.rms_norm(f"{name}.post_feedforward_layernorm"),
        )

    def kind(self, index: int) -> dict[str, Any]:
        """What sets a layer's attention apart from others."""
        soft_cap = self.config.get("attn_logit_softcapping", self.soft_caps[0]) or 0.0
        return {"rope": self.rope, "window": self.windows[index], "soft_cap": soft_cap}


class Gemma3(Gemma2):
    """Gemma 3 (text): five local layers to each global one, a RoPE for either, a norm on each head of q and k, no caps."""

    architecture = "Gemma3ForCausalLM"
    default_head_dim = DEFAULT_HEAD_DIM["Gemma3ForCausalLM"]
    soft_caps = (0.0, 0.0)

    def kind(self, index: int) -> dict[str, Any]:
        """What sets a layer's attention apart from others."""
        rope = self.local_rope if self.windows[index] else self.global_rope
        return super().kind(index) | {"rope": rope, "qk_norm": "head"}

    @cached_property
    def rope(self) -> Rope | None:
        """Layers differ: see `kind`."""
        return None

    @cached_property
    def global_rope(self) -> Rope:
        """Of layers that see everything."""
        return rope_parameters(self.config, "full_attention", 1_000_000.0)

    @cached_property
    def local_rope(self) -> Rope:
        """Of layers with a window: what config.json does not say by layer type is the global layers' alone."""
        rope = unified(self.config).get("rope_parameters") or {}
        if any(isinstance(value, dict) for value in rope.values()):
            return rope_parameters(self.config, "sliding_attention")
        base = self.config.get("rope_local_base_freq") or 10000.0
        return rope_parameters(self.config | {"rope_scaling": None, "rope_parameters": None, "rope_theta": base})
