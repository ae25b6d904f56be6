"""Llama 1 to 3, and what is built like it: https://arxiv.org/abs/2302.13971."""

from __future__ import annotations

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.models.causal_lm import CausalLM


class Llama(CausalLM):
    """Llama 1 to 3: a norm before attention and one before the feed-forward block, rotary positions in every layer."""

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer; biases where config.json asks for them."""
        bias = bool(self.config.get("attention_bias"))
        return DecoderLayer(
            self.attention(f"{name}.self_attn", self.rope, qkv_bias=bias, out_bias=bias),
            self.gated_mlp(f"{name}.mlp", bias=bool(self.config.get("mlp_bias"))),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            before_mlp=self.rms_norm(f"{name}.post_attention_layernorm"),
        )
