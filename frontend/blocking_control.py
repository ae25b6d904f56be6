"""What `LLM` and `LLMEngine` can have their engine do beside answering: `AsyncLLM`'s verbs, waited for."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.frontend.async_llm import AsyncLLM


class BlockingControl(abc.ABC):
    """Verbs of an engine whose event loop runs in another thread."""

    @property
    @abc.abstractmethod
    def _async_llm(self) -> AsyncLLM:
        """The engine."""

    @abc.abstractmethod
    def _call(self, coroutine: Any) -> Any:
        """The result of a coroutine, run where the engine lives."""

    def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
        """Forget cached prefixes; see `AsyncLLM.reset_prefix_cache`."""
        return self._call(self._async_llm.reset_prefix_cache(reset_running_requests, reset_connector))

    def reset_mm_cache(self) -> None:
        """Nothing to do: the model takes text only."""
        self._call(self._async_llm.reset_mm_cache())

    def reset_encoder_cache(self) -> None:
        """Nothing to do: the model takes text only."""
        self._call(self._async_llm.reset_encoder_cache())

    def sleep(self, level: int = 1, mode: str = "abort") -> None:
        """Pause, and give memory back; see `AsyncLLM.sleep`."""
        self._call(self._async_llm.sleep(level, mode))

    def wake_up(self, tags: Sequence[str] | None = None) -> None:
        """Take back what `sleep` gave, and go on; see `AsyncLLM.wake_up`."""
        self._call(self._async_llm.wake_up(tags))

    def is_sleeping(self) -> bool:
        """Whether memory was given back and not taken again."""
        return self._call(self._async_llm.is_sleeping())

    def release_kv_cache_memory(self) -> None:
        """Give the KV cache's memory back; `wake_up` takes it again."""
        self._call(self._async_llm.release_kv_cache_memory())

    def collective_rpc(
        self,
        method: str | Callable[..., Any],
        timeout: float | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Have every worker do something by name; see `AsyncLLM.collective_rpc`."""
        return self._call(self._async_llm.collective_rpc(method, timeout, args, kwargs))

    def start_profile(self, profile_prefix: str | None = None) -> None:
        """Begin a profile of the workers; see `AsyncLLM.start_profile`."""
        self._call(self._async_llm.start_profile(profile_prefix))

    def stop_profile(self) -> list[str]:
        """End the profile; the paths of the traces, one a worker."""
        return self._call(self._async_llm.stop_profile())
