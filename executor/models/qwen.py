"""Qwen 2 and 2.5 (https://arxiv.org/abs/2407.10671) and Qwen 3 (https://arxiv.org/abs/2505.09388)."""

from __future__ import annotations

from octavo.executor.layers.attention import Attention
from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.models.causal_lm import CausalLM
from octavo.sources.hf_config import DEFAULT_HEAD_DIM


class Qwen2(CausalLM):
    """Qwen 2 and 2.5: Llama with biases on q, k and v; a sliding window in the upper layers, if any."""

    architecture = "Qwen2ForCausalLM"

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer."""
        return DecoderLayer(
            self.self_attention(f"{name}.self_attn", self.windows[index]),
            self.gated_mlp(f"{name}.mlp"),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            before_mlp=self.rms_norm(f"{name}.post_attention_layernorm"),
        )

    def self_attention(self, name: str, window: int) -> Attention:
        """Attention of one layer."""
        return self.attention(name, self.rope, qkv_bias=True, window=window)


class Qwen3(Qwen2):
    """Qwen 3: Qwen 2 with a norm on each head of q and k, and no biases unless config.json asks for them."""

    architecture = "Qwen3ForCausalLM"
    default_head_dim = DEFAULT_HEAD_DIM["Qwen3ForCausalLM"]

    def self_attention(self, name: str, window: int) -> Attention:
        """Attention of one layer."""
        bias = bool(self.config.get("attention_bias"))
        return self.attention(name, self.rope, qkv_bias=bias, out_bias=bias, qk_norm="head", window=window)
