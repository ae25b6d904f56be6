"""Rotary position embeddings as config.json describes them: one reader for every spelling, and what its values may be.

transformers 5 writes `rope_parameters`, perhaps one for each layer type; older versions `rope_scaling` beside `rope_theta`.
Configurations that were saved by one and edited for the other have both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.checked import LARGEST_LENGTH, Fields, shown
from octavo.errors import ConfigError

Rope = dict[str, Any]
"""Parameters with transformers 5's names, as `rope_parameters` returns them."""

_NEEDED = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("short_factor", "long_factor"),
    "yarn": (),
}
"""rope_type -> parameters without which it means nothing."""

_LONGER = ("linear", "dynamic", "yarn")
"""Types whose factor makes sequences longer than max_position_embeddings, which others count in."""

_GLOBAL = "full_attention"
_NOT_SCALING = ("rope_theta", "partial_rotary_factor")
"""Parameters that older versions kept beside rope_scaling: another scaling leaves them as they are."""
_MOST_FACTORS = 4096
_LARGEST = 1e18


def rope_parameters(config: Mapping[str, Any], layer_type: str | None = None, default_theta: float = 10000.0) -> Rope:
    """RoPE parameters from config.json, whichever way it spells them.

    Args:
        config: config.json; `rope_scaling` is laid over `rope_parameters` where there are both.
        layer_type: whose, where layer types have their own.
        default_theta: base where config.json says none.

    Raises:
        ConfigError: a parameter is missing or not what it should be.

    """
    given = unified(config).get("rope_parameters") or {}
    rope = dict(given.get(layer_type or "") or {}) if _is_nested(given) else dict(given)
    kind = _kind(rope) or "default"
    rope["rope_type"] = "longrope" if kind in ("su", "longrope") or "short_factor" in rope else kind
    for key, default in (("rope_theta", default_theta), ("partial_rotary_factor", 1.0)):
        if rope.get(key) is None:
            rope[key] = config.get(key) or default
    length = Fields("config.json", config).integer("max_position_embeddings", 1, LARGEST_LENGTH)
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    rope["max_position_embeddings"], rope["original_max_position_embeddings"] = length, original or length
    _check(Fields("config.json", rope, "rope_parameters."))
    return rope


def context_length(config: Mapping[str, Any], length: int) -> int:
    """Longest sequence of a model with `max_position_embeddings` = length, scaling included."""
    # Gemma 3 scales its global layers only, and its max_position_embeddings already counts that in.
    if str(config.get("model_type", "")).startswith("gemma3"):
        return length
    given = unified(config).get("rope_parameters") or {}
    if _is_nested(given):
        return length
    rope = rope_parameters({**config, "max_position_embeddings": length})
    if rope["rope_type"] not in _LONGER:
        return length
    base = int(rope["original_max_position_embeddings"])
    return min(max(length, int(base * float(rope.get("factor") or 1.0))), LARGEST_LENGTH)


def unified(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with `rope_parameters` alone, `rope_scaling` laid over it.

    Raises:
        ConfigError: one of them is not an object.

    """
    fields = Fields("config.json", config)
    scaling, parameters = fields.mapping("rope_scaling"), fields.mapping("rope_parameters")
    rest = {key: value for key, value in config.items() if key != "rope_scaling"}
    if scaling:
        rest["rope_parameters"] = _laid_over(parameters or {}, scaling)
    return rest


def overridden(config: Mapping[str, Any], changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lay what a user says about RoPE over what the file says, however either spells it.

    A null for `rope_scaling` or `rope_parameters` switches scaling off. Another type replaces the file's scaling, the same
    type or none changes single parameters of it.

    Returns:
        The configuration with them in its `rope_parameters`, and the changes that are left.

    Raises:
        ConfigError: one of them is not an object.

    """
    fields, result = Fields("--hf-overrides", changes), unified(config)
    rope: Mapping[str, Any] = result.get("rope_parameters") or {}
    for key in ("rope_parameters", "rope_scaling"):
        if key in changes:
            rope = _laid_over(rope, fields.mapping(key) or {"rope_type": "default"})
    single = {key: changes[key] for key in _NOT_SCALING if changes.get(key) is not None}
    if rope and single:
        rope = _laid_over(rope, single)
    if rope:
        result["rope_parameters"] = dict(rope)
    return result, {key: value for key, value in changes.items() if key not in ("rope_parameters", "rope_scaling")}


def _laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with changes, either of which may be nested by layer type; flat changes are the global layers'."""
    if _is_nested(changes):
        own = base if _is_nested(base) else dict.fromkeys(changes, base)
        return {**own, **{kind: _replaced(own.get(kind) or {}, part) for kind, part in changes.items()}}
    if _is_nested(base):
        kinds = [_GLOBAL] if _GLOBAL in base else list(base)
        return {**base, **{kind: _replaced(base[kind] or {}, changes) for kind in kinds}}
    return _replaced(base, changes)


def _replaced(base: Mapping[str, Any], changes: Any) -> dict[str, Any]:
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        raise ConfigError("config.json: rope_parameters must be an object, or an object of objects by layer type")
    kind, old = _kind(changes), _kind(base)
    if kind is not None and kind != (old or "default"):
        base = {key: value for key, value in base.items() if key in _NOT_SCALING}
    merged = {**base, **changes}
    merged.pop("type", None)
    if kind or old:
        merged["rope_type"] = kind or old
    return merged


def _kind(rope: Mapping[str, Any]) -> Any:
    """`rope_type`, or `type` as it was called once."""
    return rope.get("rope_type") or rope.get("type")


def _is_nested(rope: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in rope.values())


def _check(rope: Fields) -> None:
    kind = rope.values["rope_type"]
    if not isinstance(kind, str) or kind not in _NEEDED:
        raise ConfigError(f"config.json: rope_type {shown(kind)} is not one of {', '.join(_NEEDED)}")
    for key in _NEEDED[kind]:
        if rope.values.get(key) is None:
            raise ConfigError(f"config.json: rope_type {kind!r} needs the parameter {key!r}")
    rope.number("rope_theta", 1.0 if kind == "yarn" else 0.0, _LARGEST, above=True)
    rope.number("partial_rotary_factor", 0.0, 1.0, above=True)
    rope.integer("original_max_position_embeddings", 1, LARGEST_LENGTH)
    rope.flag("truncate", None)
    for key in ("factor", "attention_factor", "beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor"):
        rope.number(key, 0.0, _LARGEST, None, above=True)
    for key in ("mscale", "mscale_all_dim"):
        rope.number(key, 0.0, _LARGEST, None)
    if kind == "llama3" and rope.values["high_freq_factor"] <= rope.values["low_freq_factor"]:
        raise rope.refuse("high_freq_factor", "above low_freq_factor")
    if kind == "longrope":
        for key in ("short_factor", "long_factor"):
            rope.numbers(key, _MOST_FACTORS)
