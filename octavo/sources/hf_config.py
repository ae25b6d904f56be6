"""What config.json may say: every value that the engine reads is checked here, before anything is made from it.

The limits are far beyond any model there is; they keep a damaged or hostile file from costing more than an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from octavo.cache_groups import CacheSpec, specs_of_windows
from octavo.checked import LARGEST_LENGTH, Fields, shown
from octavo.errors import ConfigError, ValidationError
from octavo.params import SamplingParams
from octavo.sources.decoders import decoder_of
from octavo.sources.encoders import ENCODERS
from octavo.sources.generation_config import SAMPLING_KEYS
from octavo.sources.layer_windows import layer_windows
from octavo.sources.rope import overridden, rope_parameters

BUILT_IN = (
    "Gemma2ForCausalLM", "Gemma3ForCausalLM", "GemmaForCausalLM", "GraniteForCausalLM", "LlamaForCausalLM",
    "MistralForCausalLM", "MixtralForCausalLM", "Olmo2ForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM",
)  # fmt: skip
"""Architectures that come with Octavo."""

DEFAULT_HEAD_DIM = {"Qwen3ForCausalLM": 128, "GemmaForCausalLM": 256, "Gemma2ForCausalLM": 256, "Gemma3ForCausalLM": 256}
"""Of architectures whose head size is not hidden_size / num_attention_heads where config.json says none."""

_registered: set[str] = set()

ARCHITECTURE_PLUGINS = "octavo.models"
"""Group of the entry points that add architectures."""

LARGEST_VOCABULARY = 1 << 24
LARGEST_WIDTH = 1 << 20
MOST_LAYERS = 4096
MOST_HEADS = 4096
LARGEST_HEAD = 4096
MOST_EXPERTS = 4096
MOST_POSITIONS = 1 << 25

_SIZES = {
    "vocab_size": LARGEST_VOCABULARY,
    "hidden_size": LARGEST_WIDTH,
    "intermediate_size": LARGEST_WIDTH * 8,
    "num_hidden_layers": MOST_LAYERS,
    "num_attention_heads": MOST_HEADS,
}
"""Sizes that every architecture needs, and the largest of each."""

_OPTIONAL_SIZES = {
    "num_key_value_heads": (1, MOST_HEADS),
    "head_dim": (2, LARGEST_HEAD),
    "max_position_embeddings": (1, MOST_POSITIONS),
    "n_positions": (1, MOST_POSITIONS),
    "seq_length": (1, MOST_POSITIONS),
    "max_seq_len": (1, MOST_POSITIONS),
    "original_max_position_embeddings": (1, MOST_POSITIONS),
    "sliding_window": (0, LARGEST_LENGTH),
    "max_window_layers": (0, MOST_LAYERS),
    "no_rope_layer_interval": (1, MOST_LAYERS),
    "sliding_window_pattern": (1, MOST_LAYERS),
}
_LARGEST = 1e18
_POSITIVE = (
    "rope_theta", "rope_local_base_freq", "query_pre_attn_scalar", "embedding_multiplier", "attention_multiplier",
    "residual_multiplier", "logits_scaling",
)  # fmt: skip
_NOT_NEGATIVE = ("attn_logit_softcapping", "final_logit_softcapping")
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window")
_TEXTS = ("model_type", "hidden_act", "hidden_activation", "dtype", "torch_dtype")
_LAYER_LISTS = ("layer_types", "no_rope_layers")


def known_architectures() -> list[str]:
    """Names of all architectures, plugins' included. `decoders.decoder_of` says what else decoders are called."""
    return sorted({*BUILT_IN, *ENCODERS, *_registered, *(e.name for e in entry_points(group=ARCHITECTURE_PLUGINS))})


def add_architecture(name: str) -> None:
    """Accept an architecture that a program has registered in this process."""
    _registered.add(name)


def architecture_of(config: Mapping[str, Any], where: str) -> str:
    """The architecture that a configuration names first.

    Raises:
        ConfigError: it names none, or one that is not known; lists those that are.

    """
    names = config.get("architectures")
    if not names:
        raise ConfigError(f"{where} names no architecture; set one with --hf-overrides")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Fields(where, config).refuse("architectures", "a list of names")
    here = decoder_of(names[0]) in BUILT_IN or names[0] in ENCODERS
    # Plugins are looked for only then: that reads every installed distribution.
    if not here and names[0] not in (known := known_architectures()):
        raise ConfigError(f"{where}: architecture {shown(names[0])} is not supported; known are {', '.join(known)}")
    return str(names[0])


def text_config(config: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The part that describes the language model. Raises: ConfigError: `text_config` is not an object."""
    return Fields(where, config).mapping("text_config") or config


def check_config(config: Mapping[str, Any], where: str, architecture: str) -> None:
    """Check every value that architectures of this version read, and that they fit together.

    Args:
        config: config.json, or its text_config; overrides included.
        where: the file, for errors.
        architecture: whose defaults count.

    Raises:
        ConfigError: names the key and what is allowed.

    """
    fields = Fields(where, config)
    for key, most in _SIZES.items():
        fields.integer(key, 1, most)
    for key, (low, high) in _OPTIONAL_SIZES.items():
        fields.integer(key, low, high, None)
    fields.number("rms_norm_eps", 0.0, 1.0, None, above=True)
    fields.number("partial_rotary_factor", 0.0, 1.0, None, above=True)
    for key in _POSITIVE:
        fields.number(key, 0.0, _LARGEST, None, above=True)
    for key in _NOT_NEGATIVE:
        fields.number(key, 0.0, _LARGEST, None)
    for key in _FLAGS:
        fields.flag(key, None)
    for key in _TEXTS:
        fields.text(key, None)
    _check_heads(fields, architecture)
    _check_layers(fields)
    if architecture == "MixtralForCausalLM":
        _check_experts(fields)
    token_ids(fields, "eos_token_id")
    if architecture in BUILT_IN or config.get("max_position_embeddings") is not None:
        _check_rope(fields, head_dim(config, architecture))


def cache_specs(config: Mapping[str, Any], architecture: str) -> list[CacheSpec]:
    """What each layer's cache keeps, of a checked configuration of an architecture that comes with Octavo."""
    if architecture in ENCODERS:
        return []
    kv_heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    return specs_of_windows(kv_heads, head_dim(config, architecture), layer_windows(config, architecture))


def token_ids(fields: Fields, key: str) -> list[int]:
    """A token id or a list of them, as a list; [] where there is none. Raises: ConfigError: it is something else."""
    value = fields.values.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int and -1 <= token < LARGEST_VOCABULARY for token in ids):
        raise fields.refuse(key, "a token id, or a list of them")
    return [token for token in ids if token >= 0]


def _check_heads(fields: Fields, architecture: str) -> None:
    """That heads share keys and width evenly."""
    heads = fields.integer("num_attention_heads", 1, MOST_HEADS)
    kv_heads = fields.integer("num_key_value_heads", 1, MOST_HEADS, heads)
    if heads % kv_heads:
        raise fields.refuse("num_key_value_heads", f"a divisor of num_attention_heads, {heads}")
    own = fields.values.get("head_dim") or DEFAULT_HEAD_DIM.get(architecture)
    if own is None and fields.values["hidden_size"] % heads:
        raise fields.refuse("hidden_size", f"a multiple of num_attention_heads, {heads}, where there is no head_dim")


def head_dim(config: Mapping[str, Any], architecture: str) -> int:
    """Values a head, of a checked configuration."""
    own = config.get("head_dim") or DEFAULT_HEAD_DIM.get(architecture)
    return int(own or config["hidden_size"] // config["num_attention_heads"])


def _check_layers(fields: Fields) -> None:
    layers = fields.integer("num_hidden_layers", 1, MOST_LAYERS)
    for key in _LAYER_LISTS:
        value = fields.values.get(key)
        allowed: type | tuple[type, ...] = str if key == "layer_types" else (int, bool)
        if value and not (isinstance(value, list) and len(value) == layers and all(isinstance(v, allowed) for v in value)):
            raise fields.refuse(key, f"a list of one value for each of the {layers} layers (num_hidden_layers)")


def _check_experts(fields: Fields) -> None:
    """A Mixtral's numbers of experts; a token cannot ask more than there are."""
    for key in ("num_local_experts", "num_experts_per_tok"):
        fields.integer(key, 1, MOST_EXPERTS, None)
    asked, there = expert_counts(fields.values)
    if asked > there:
        raise fields.refuse("num_experts_per_tok", f"at most num_local_experts, {there}")


def expert_counts(config: Mapping[str, Any]) -> tuple[int, int]:
    """Experts that each token asks, and how many there are, of a checked configuration of a Mixtral."""
    return config.get("num_experts_per_tok") or 2, config.get("num_local_experts") or 8


def _check_rope(fields: Fields, size: int) -> None:
    """Every layer type's parameters, and that what they rotate of a head is whole pairs."""
    given = fields.mapping("rope_parameters") or {}
    kinds: list[str | None] = [kind for kind, value in given.items() if isinstance(value, Mapping)]
    for kind in kinds or [None]:
        rope = rope_parameters(fields.values, kind)
        rotated = int(size * rope["partial_rotary_factor"])
        if rotated % 2 or rotated < (4 if rope["rope_type"] == "dynamic" else 2):
            raise ConfigError(f"{fields.where}: partial_rotary_factor must leave an even number of a head's {size} values")
        for key in ("short_factor", "long_factor") if rope["rope_type"] == "longrope" else ():
            if len(rope[key]) != rotated // 2:
                raise ConfigError(f"{fields.where}: {key} must hold {rotated // 2} numbers, half of what is rotated of a head")


def check_sizes(where: str, text: Mapping[str, Any], architecture: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check the sizes that decide how large a layer is, before shapes are compared one by one.

    Args:
        where: what names the sizes, for errors.
        text: config.json or its text_config, checked.
        architecture: whose defaults count.
        shapes: of the tensors, under transformers' names.

    Raises:
        ConfigError: names the sizes and the tensor that they do not fit.

    """
    for name, (keys, wanted) in _wanted_shapes(text, architecture).items():
        shape = shapes.get(name)
        if shape is not None and shape != wanted:
            raise ConfigError(f"{where}: {keys} make {name} {list(wanted)}, the weights have {list(shape)}")


def _wanted_shapes(text: Mapping[str, Any], architecture: str) -> dict[str, tuple[str, tuple[int, int]]]:
    """Tensor -> the keys that decide its shape, the shape; for the embedding and the first layer."""
    hidden, inner, heads = text["hidden_size"], text["intermediate_size"], text["num_attention_heads"]
    kv_heads = text.get("num_key_value_heads") or heads
    dim = head_dim(text, architecture)
    wanted = {
        "embed_tokens": ("vocab_size and hidden_size", (text["vocab_size"], hidden)),
        "layers.0.mlp.up_proj": ("intermediate_size and hidden_size", (inner, hidden)),
        "layers.0.mlp.gate_up_proj": ("intermediate_size and hidden_size", (2 * inner, hidden)),
        "layers.0.self_attn.q_proj": ("num_attention_heads, head_dim and hidden_size", (heads * dim, hidden)),
        "layers.0.self_attn.k_proj": ("num_key_value_heads, head_dim and hidden_size", (kv_heads * dim, hidden)),
    }
    _, experts = expert_counts(text)
    for block in ("mlp", "block_sparse_moe") if architecture == "MixtralForCausalLM" else ():
        wanted[f"layers.0.{block}.gate"] = "num_local_experts and hidden_size", (experts, hidden)
        wanted[f"layers.0.{block}.experts.0.w1"] = "intermediate_size and hidden_size", (inner, hidden)
    return {f"model.{name}.weight": entry for name, entry in wanted.items()}


def with_overrides(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with --hf-overrides laid over it; what concerns RoPE ends in `rope_parameters`, however it was spelled.

    Raises:
        ConfigError: rope_scaling, rope_parameters or text_config is not an object.
    """
    base, rest = overridden(config, changes)
    inner = Fields("config.json", config).mapping("text_config")
    if inner is not None:
        base["text_config"] = with_overrides(dict(inner), Fields("--hf-overrides", rest).mapping("text_config") or {})
        rest = {key: value for key, value in rest.items() if key != "text_config"}
    return merge(base, rest)


def merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, nested dicts merged."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = merge(result[key], value) if isinstance(value, dict) and isinstance(result.get(key), dict) else value
    return result


def check_generation_config(config: Mapping[str, Any], where: str) -> None:
    """Check the keys of a generation config that this version reads. Raises: ConfigError."""
    token_ids(Fields(where, config), "eos_token_id")
    for key, name in SAMPLING_KEYS.items():
        if config.get(key) is not None:
            try:
                SamplingParams(**{name: config[key]})
            except ValidationError as error:
                raise ConfigError(f"{where}: {key}: {error}") from error
