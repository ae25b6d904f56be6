"""OLMo 2: https://arxiv.org/abs/2501.00656."""

from __future__ import annotations

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.models.causal_lm import CausalLM


class Olmo2(CausalLM):
    """OLMo 2: norms after the blocks only, and one over all heads of q, and of k."""

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer; biases where config.json asks for them."""
        bias = bool(self.config.get("attention_bias"))
        return DecoderLayer(
            self.attention(f"{name}.self_attn", self.rope, qkv_bias=bias, out_bias=bias, qk_norm="all"),
            self.gated_mlp(f"{name}.mlp"),
            after_attention=self.rms_norm(f"{name}.post_attention_layernorm"),
            after_mlp=self.rms_norm(f"{name}.post_feedforward_layernorm"),
        )
