"""What a frontend may ask of the core between two steps, by name: pause, sleep, caches, calls of the workers.

Every operation here is rare. Those that change what the workers hold first wait for the steps in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from octavo.errors import ValidationError

if TYPE_CHECKING:
    from octavo.core.engine_core import EngineCore

WAKE_UP_TAGS = ("weights", "kv_cache", "scheduling")


class RestState:
    """Whether the core schedules, and what of its memory it has given back.

    Attributes:
        paused: nothing is scheduled; requests wait.
        has_weights, has_kv_cache: the workers hold them.
    """

    def __init__(self) -> None:
        self.paused = False
        self.has_weights = True
        self.has_kv_cache = True

    @property
    def asleep(self) -> bool:
        return not (self.has_weights and self.has_kv_cache)


def reset_prefix_cache(core: EngineCore, reset_running: bool = False) -> bool:
    """Forget cached prefixes; running requests keep what they have, or with `reset_running` are computed again."""
    if reset_running:
        core.settle()
        core.scheduler.preempt_all()
    core.scheduler.kv.forget_all()
    return True


def pause(core: EngineCore) -> None:
    """Schedule nothing from now on; requests that run keep their tokens and blocks."""
    core.settle()
    core.rest.paused = True


def resume(core: EngineCore) -> None:
    """Go on where `pause` stopped.

    Raises:
        ValidationError: memory was given back; `wake_up` brings it back.
    """
    if core.rest.asleep:
        raise ValidationError("the engine is asleep; wake_up() brings it back")
    core.rest.paused = False


def is_paused(core: EngineCore) -> bool:
    return core.rest.paused


def sleep(core: EngineCore, level: int) -> None:
    """Pause, and give memory back: level 0 none, 1 the KV cache (on a GPU the weights, too), 2 both.

    Requests that run wait then, and are computed again from their tokens.
    """
    if level not in (0, 1, 2):
        raise ValidationError(f"level must be 0, 1 or 2, got {level!r}", parameter="level", value=level)
    pause(core)
    if level:
        _release(core, weights=level == 2 or core.config.device.type != "cpu")


def release_kv_cache(core: EngineCore) -> None:
    """Pause, and give the memory of the KV cache back."""
    pause(core)
    _release(core, weights=False)


def wake_up(core: EngineCore, tags: Sequence[str] | None = None) -> None:
    """Bring back what `sleep` gave back, and schedule again; `tags` names parts of that.

    Raises:
        ValidationError: an unknown tag, or a part that needs another one first.
    """
    wanted = WAKE_UP_TAGS if tags is None else tags
    for tag in wanted:
        if tag not in WAKE_UP_TAGS:
            raise ValidationError(f"tags may hold {', '.join(WAKE_UP_TAGS)}, got {tag!r}", parameter="tags", value=tag)
    rest = core.rest
    if "weights" in wanted and not rest.has_weights:
        core.executor.restore_weights()
        rest.has_weights = True
    if "kv_cache" in wanted and not rest.has_kv_cache:
        if not rest.has_weights:
            raise ValidationError("the KV cache needs the weights first; wake up 'weights', too", parameter="tags")
        core.executor.restore_kv_cache()
        rest.has_kv_cache = True
    if "scheduling" in wanted:
        resume(core)


def is_sleeping(core: EngineCore) -> bool:
    return core.rest.asleep


def collective_rpc(core: EngineCore, method: str, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """Have every worker do something by name (`executor/worker_calls.py`); its answers, one a worker.

    Raises:
        ValidationError: there is no such call, or it refuses.
    """
    core.settle()
    return core.executor.call_workers(method, args, kwargs)


def _release(core: EngineCore, weights: bool) -> None:
    core.scheduler.preempt_all()
    core.scheduler.kv.forget_all()
    rest = core.rest
    weights = weights and rest.has_weights
    if weights or rest.has_kv_cache:
        core.executor.release(weights)
    rest.has_kv_cache = False
    rest.has_weights = rest.has_weights and not weights


CONTROL: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        reset_prefix_cache, pause, resume, is_paused, sleep, release_kv_cache, wake_up, is_sleeping, collective_rpc,
    )
}  # fmt: skip
