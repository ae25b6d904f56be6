"""How to pool: what a caller says (`PoolingParams`). What the engine needs of it is `octavo.wire.pooling_spec`."""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from octavo.errors import ValidationError
from octavo.params import MAX_INT

PoolingTask = Literal["embed", "classify", "token_embed", "token_classify", "plugin"]
"""One vector or one list of probabilities per prompt, or per token of it; "plugin": whatever the served plugin's model gives."""

TASKS: tuple[str, ...] = get_args(PoolingTask)
_OLD_NAMES = ("normalize", "activation", "softmax")
_SIDES = ("left", "right")


class PoolingParams(msgspec.Struct, kw_only=True):
    """Pooling parameters, with vLLM's names and defaults; checked when made.

    Raises:
        ValidationError: naming the field, its value and what is allowed.
    """

    task: PoolingTask | None = None
    """None = the one that the model is for."""
    dimensions: int | None = None
    """Numbers of an embedding to keep, of a model that was trained to be cut."""
    use_activation: bool | None = None
    """Normalize an embedding, turn a classifier's logits into probabilities; None = as the model's files say."""
    truncate_prompt_tokens: int | None = None
    """Tokens of a longer prompt to keep, at least 1; -1 = the model's longest."""
    truncation_side: Literal["left", "right"] | None = None
    """Where a longer prompt is cut; None = at its right end."""
    skip_reading_prefix_cache: bool | None = None
    extra_kwargs: dict[str, Any] | None = None
    """For plugins; the engine does not read it."""

    def __post_init__(self) -> None:
        _one_of("task", self.task, TASKS)
        _one_of("truncation_side", self.truncation_side, _SIDES)
        _integer("dimensions", self.dimensions, 1)
        _integer("truncate_prompt_tokens", self.truncate_prompt_tokens, -1)
        if self.truncate_prompt_tokens == 0:
            raise _bad("truncate_prompt_tokens", 0, "must be at least 1, or -1 for the model's longest")
        for name in ("use_activation", "skip_reading_prefix_cache"):
            if not isinstance(getattr(self, name), bool | None):
                raise _bad(name, getattr(self, name), "must be true or false")
        if not isinstance(self.extra_kwargs, dict | None):
            raise _bad("extra_kwargs", self.extra_kwargs, "must be a dict")

    def clone(self) -> PoolingParams:
        """A copy that may be changed without touching this one."""
        return msgspec.structs.replace(self)


def renamed(name: str) -> ValidationError | None:
    """What a caller is told who gives a parameter under a name that older engines had; None for every other name."""
    if name not in _OLD_NAMES:
        return None
    return ValidationError(f"Parameter `{name}` was removed; use `use_activation` instead.", parameter=name)


def _bad(name: str, value: Any, rule: str) -> ValidationError:
    return ValidationError(f"{name} {rule}, got {value!r:.80}.", parameter=name, value=value)


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value is not None and (not isinstance(value, str) or value not in allowed):
        raise _bad(name, value, f"must be one of {', '.join(allowed)}")


def _integer(name: str, value: Any, low: int) -> None:
    if value is not None and (type(value) is not int or not low <= value <= MAX_INT):
        raise _bad(name, value, f"must be an integer from {low} to {MAX_INT}")
