"""Mistral 7B and its successors: https://arxiv.org/abs/2310.06825."""

from __future__ import annotations

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.models.causal_lm import CausalLM


class Mistral(CausalLM):
    """Mistral: Llama with a sliding window in every layer, if any."""

    architecture = "MistralForCausalLM"

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer."""
        return DecoderLayer(
            self.attention(f"{name}.self_attn", self.rope, window=self.windows[index]),
            self.gated_mlp(f"{name}.mlp"),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            before_mlp=self.rms_norm(f"{name}.post_attention_layernorm"),
        )
