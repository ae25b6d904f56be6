"""SmolLM 3: https://huggingface.co/blog/smollm3."""

from __future__ import annotations

from octavo.executor.layers.decoder_layer import DecoderLayer
from octavo.executor.models.causal_lm import CausalLM
from octavo.sources.layer_windows import rotated_layers


class SmolLM3(CausalLM):
    """SmolLM 3: Llama without position embedding in every fourth layer; the others may have a sliding window."""

    architecture = "SmolLM3ForCausalLM"
    tied = True

    def layer(self, name: str, index: int) -> DecoderLayer:
        """One layer; biases where config.json asks for them."""
        bias = bool(self.config.get("attention_bias"))
        rope = self.rope if rotated_layers(self.config)[index] else None
        return DecoderLayer(
            self.attention(f"{name}.self_attn", rope, qkv_bias=bias, out_bias=bias, window=self.windows[index]),
            self.gated_mlp(f"{name}.mlp", bias=bool(self.config.get("mlp_bias"))),
            before_attention=self.rms_norm(f"{name}.input_layernorm"),
            before_mlp=self.rms_norm(f"{name}.post_attention_layernorm"),
        )
